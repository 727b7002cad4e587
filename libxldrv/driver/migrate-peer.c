/* Migration, peer to peer: the source moves the domain by itself, without its client.
 *
 * A process of its own, domus-migrate (libxldrv/migrate), is the client that goes from step to step. It comes back to us by a
 * socket of its own, whose server (domusd.c) has workers of its own and asks nobody who he is: so its calls never wait for
 * those that wait for it, and clients' authentication is not its matter. The worker that was asked waits here without the
 * domain's job, which each step takes for itself. Whoever asked may leave: the migration goes on.
 */
#include "config.h"

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/driver/migrate.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/migrate/request.h"

#define PROGRAM     "domus-migrate"
#define END_MS      5000
#define REPLY_BYTES (1u << 20)

/* ---- the process */

static XldrvProcess *spawn(XldrvDriver *driver, const int *fds, gsize n_fds, GError **error)
{
    g_autofree char *program = xldrv_program_find(NULL, PROGRAM, DOMUS_LIBEXECDIR, PROGRAM, error);
    g_autofree char *log = g_build_filename(driver->paths->log_dir, PROGRAM ".log", NULL);
    const char *argv[] = {program, NULL};
    const XldrvSpawn how = {.argv = argv, .fds = fds, .n_fds = n_fds, .log_path = log};

    return program ? xldrv_process_spawn(&how, error) : NULL;
}

static gboolean send_request(int fd, GVariant *request, GError **error)
{
    const guint8 *bytes = g_variant_get_data(request);
    gsize left = g_variant_get_size(request);

    while (left > 0) {
        ssize_t n = send(fd, bytes, left, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return xldrv_set_system_error(error, errno, "cannot tell " PROGRAM " what to do");
        bytes += n;
        left -= (gsize)n;
    }
    shutdown(fd, SHUT_WR);
    return TRUE;
}

/* All of it, until the process ends; NULL: it did not say. */
static GVariant *read_reply(int fd)
{
    GByteArray *bytes = g_byte_array_new();
    g_autoptr(GBytes) all = NULL;
    GVariant *reply;
    guint8 some[1024];
    ssize_t n;

    while ((n = read(fd, some, sizeof(some))) > 0 || (n < 0 && errno == EINTR)) {
        if (n > 0 && bytes->len < REPLY_BYTES)
            g_byte_array_append(bytes, some, (guint)n);
    }
    all = g_byte_array_free_to_bytes(bytes);
    reply = g_variant_ref_sink(g_variant_new_from_bytes(G_VARIANT_TYPE(XLDRV_MIGRATE_REPLY), all, FALSE));
    if (g_bytes_get_size(all) && g_variant_is_normal_form(reply))
        return reply;
    g_variant_unref(reply);
    return NULL;
}

/* ---- whether there is one */

static gboolean note(XldrvDomain *domain, XldrvProcess *process, int *tunnel_fd, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    if (domain->migrator)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is being migrated already", domain->name);
    domain->migrator = process;
    domain->migrator_us = g_get_monotonic_time();
    domain->tunnel_fd = *tunnel_fd;
    *tunnel_fd = -1;
    domain->abort_asked = FALSE;
    return TRUE;
}

/* Whether somebody asked for its end. */
static gboolean forget(XldrvDomain *domain)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    domain->migrator = NULL;
    if (domain->tunnel_fd >= 0)
        close(domain->tunnel_fd);
    domain->tunnel_fd = -1;
    return domain->abort_asked;
}

int xldrv_migrate_peer_tunnel(XldrvDomain *domain, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);
    int fd = domain->tunnel_fd;

    domain->tunnel_fd = -1;
    if (fd < 0)
        xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "tunnelled migration is only possible peer to peer");
    return fd;
}

gboolean xldrv_migrate_peer_abort(XldrvDomain *domain, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    if (!domain->migrator)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "no job is active on the domain");
    if (xldrv_migration_is_sent(domain))
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain '%s' was sent already", domain->name);
    domain->abort_asked = TRUE;
    xldrv_process_kill(domain->migrator, SIGKILL);
    return TRUE;
}

/* ---- one migration */

static gboolean take_reply(XldrvDomain *domain, GVariant *reply, gboolean aborted, GError **error)
{
    g_autofree char *name = xldrv_domain_get_name(domain);
    const char *text;
    gint32 code, from;

    if (reply) {
        g_variant_get(reply, "(ii&s)", &code, &from, &text);
        return code == VIR_ERR_OK || xldrv_set_error_complete(error, (virErrorDomain)from, (virErrorNumber)code, text);
    }
    if (aborted)
        return xldrv_set_error(error, VIR_ERR_OPERATION_ABORTED, "migrate of domain '%s' was canceled by client", name);
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "what migrated domain '%s' has ended", name);
}

static gboolean let_work(XldrvDomain *domain, int fd, int *tunnel_fd, XldrvProcess *process, GVariant *request, GError **error)
{
    g_autoptr(GVariant) reply = NULL;
    gboolean aborted;

    if (!note(domain, process, tunnel_fd, error))
        return FALSE;
    reply = send_request(fd, request, NULL) ? read_reply(fd) : NULL;
    aborted = forget(domain);
    return take_reply(domain, reply, aborted, error);
}

static GVariant *request_of(XldrvDriver *driver, XldrvDomain *domain, const char *destination,
                            const XldrvMigration *migration)
{
    g_autofree char *socket = xldrv_run_path(driver, XLDRV_MIGRATE_SOCKET);
    g_autofree char *escaped = g_uri_escape_string(socket, "/", FALSE);
    g_autofree char *uri = g_strconcat("xen+unix:///system?socket=", escaped, NULL);

    return g_variant_ref_sink(g_variant_new("(sss@a(sv)u)", uri, destination, domain->uuid_text,
                                            xldrv_migration_params(migration),
                                            migration->flags & ~(guint)VIR_MIGRATE_PEER2PEER));
}

static void close_sockets(const int fds[2])
{
    for (gsize i = 0; i < 2; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
}

/* What it is told by, and what a domain in a tunnel goes to. */
static gboolean make_sockets(int ours[2], int theirs[2], gsize n, GError **error)
{
    for (gsize i = 0; i < n; i++) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
            return xldrv_set_system_error(error, errno, "cannot make a socket");
        ours[i] = pair[0];
        theirs[i] = pair[1];
    }
    return TRUE;
}

gboolean xldrv_migrate_peer(XldrvDriver *driver, XldrvDomain *domain, const char *destination,
                            const XldrvMigration *migration, GError **error)
{
    g_autoptr(GVariant) request = NULL;
    g_autoptr(XldrvProcess) process = NULL;
    int ours[2] = {-1, -1}, theirs[2] = {-1, -1};
    gsize n_fds = migration->flags & VIR_MIGRATE_TUNNELLED ? 2 : 1;
    gboolean ok;

    if (!destination)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "the destination of a peer-to-peer migration is missing");
    ok = make_sockets(ours, theirs, n_fds, error);
    request = request_of(driver, domain, destination, migration);
    process = ok ? spawn(driver, theirs, n_fds, error) : NULL;
    close_sockets(theirs);
    ok = process && let_work(domain, ours[0], &ours[1], process, request, error);
    close_sockets(ours);
    if (process && !xldrv_process_wait(process, END_MS)) {
        xldrv_process_kill(process, SIGKILL);
        xldrv_process_wait(process, END_MS);
    }
    return ok;
}
