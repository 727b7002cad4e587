/* The store daemon of this host and our connection to it. */
#include "config.h"

#include "libxldrv/driver/store.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xenstore.h>

#include "hv/xen-abi.h"
#include "libxldrv/driver/store-nodes.h"
#include "libxldrv/host/process.h"
#include "libxldrv/host/socket.h"
#include "libxldrv/rpc/rpc.h"

#define SOCKET_NAME        "socket"
#define CONNECT_TIMEOUT_MS 5000
#define START_TIMEOUT_MS   15000

struct _XldrvStore {
    char *socket;   /* immutable: full path */
    char *daemon;   /* immutable */
    char *root;     /* immutable: "" on the host itself */
    char *log_path; /* immutable */
    GMutex lock;
    struct xs_handle *handle; /* under lock; NULL: not connected */
    XldrvStoreBatch *batch;   /* under lock: another connection, with it */
    XldrvProcess *process;    /* under lock: the daemon, if we started it */
};

int xldrv_store_connect(XldrvStore *store, GError **error)
{
    return xldrv_socket_connect(store->socket, SOCK_STREAM, CONNECT_TIMEOUT_MS, error);
}

static gboolean answers(XldrvStore *store, GError **error)
{
    int fd = xldrv_store_connect(store, error);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static gboolean wait_until_it_answers(XldrvStore *store, const XldrvProcess *process, GError **error)
{
    gint64 end = g_get_monotonic_time() + START_TIMEOUT_MS * G_TIME_SPAN_MILLISECOND;

    while (!answers(store, NULL)) {
        if (!xldrv_process_is_alive(process))
            return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                                   "the store daemon '%s' ended at its start, see '%s'", store->daemon,
                                   store->log_path);
        if (g_get_monotonic_time() > end)
            return xldrv_set_error(error, VIR_ERR_OPERATION_TIMEOUT,
                                   "the store daemon '%s' does not answer on '%s'", store->daemon,
                                   store->socket);
        g_usleep(10000);
    }
    return TRUE;
}

/* Descriptor 3 of the daemon is the directory of its socket, whose path may be too long for an address. */
static XldrvProcess *spawn_daemon(XldrvStore *store, GError **error)
{
    const char *argv[] = {store->daemon, "--socket", "/proc/self/fd/3/" SOCKET_NAME, NULL, NULL, NULL};
    g_autofree char *dir = g_path_get_dirname(store->socket);
    int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    const XldrvSpawn spawn = {.argv = argv, .fds = &dir_fd, .n_fds = 1, .log_path = store->log_path};
    XldrvProcess *process;

    if (dir_fd < 0) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot open '%s': %s", dir, g_strerror(errno));
        return NULL;
    }
    if (*store->root) {
        argv[3] = "--root";
        argv[4] = store->root;
    }
    process = xldrv_process_spawn(&spawn, error);
    close(dir_fd);
    return process;
}

/* The one before, if it was our child, is reaped here. */
static void forget_process_locked(XldrvStore *store)
{
    if (store->process)
        xldrv_process_wait(store->process, 0);
    g_clear_pointer(&store->process, xldrv_process_free);
}

static gboolean start_daemon_locked(XldrvStore *store, GError **error)
{
    if (answers(store, NULL))
        return TRUE;
    forget_process_locked(store);
    store->process = spawn_daemon(store, error);
    if (!store->process || !wait_until_it_answers(store, store->process, error))
        return FALSE;
    g_info("started the store daemon, process %d", (int)store->process->pid);
    return TRUE;
}

static gboolean connect_locked(XldrvStore *store, GError **error)
{
    int fd;

    if (store->handle)
        return TRUE;
    if (!start_daemon_locked(store, error))
        return FALSE;
    fd = xldrv_store_connect(store, error);
    if (fd < 0)
        return FALSE;
    store->batch = xldrv_store_batch_new(fd);
    store->handle = xs_open(0);
    if (store->handle)
        return TRUE;
    g_clear_pointer(&store->batch, xldrv_store_batch_free);
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot connect to the store at '%s': %s", store->socket,
                           g_strerror(errno));
}

static void disconnect_locked(XldrvStore *store)
{
    g_clear_pointer(&store->handle, xs_close);
    g_clear_pointer(&store->batch, xldrv_store_batch_free);
}

XldrvStore *xldrv_store_new(const XldrvPaths *paths, const char *daemon, GError **error)
{
    g_autoptr(XldrvStore) store = g_new0(XldrvStore, 1);
    g_autofree char *short_path = NULL;

    g_mutex_init(&store->lock);
    store->root = g_strdup(paths->root);
    store->daemon = g_strdup(daemon);
    store->socket = g_build_filename(paths->store_dir, SOCKET_NAME, NULL);
    store->log_path = g_build_filename(paths->log_dir, "xenstored.log", NULL);
    short_path = xldrv_socket_short_path(store->socket, error);
    if (!short_path)
        return NULL;
    g_setenv("XENSTORED_PATH", short_path, TRUE);
    return xldrv_store_ensure(store, error) ? g_steal_pointer(&store) : NULL;
}

void xldrv_store_free(XldrvStore *store)
{
    if (!store)
        return;
    disconnect_locked(store);
    forget_process_locked(store);
    g_mutex_clear(&store->lock);
    g_free(store->socket);
    g_free(store->daemon);
    g_free(store->root);
    g_free(store->log_path);
    g_free(store);
}

/* Whether the connection still works: one cheap question. */
static gboolean works(struct xs_handle *handle)
{
    unsigned n;
    char **entries = xs_directory(handle, XBT_NULL, "/", &n);

    free(entries);
    return entries != NULL;
}

static gboolean ensure_locked(XldrvStore *store, GError **error)
{
    if (store->handle && !works(store->handle))
        disconnect_locked(store);
    return connect_locked(store, error);
}

gboolean xldrv_store_ensure(XldrvStore *store, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);

    return ensure_locked(store, error);
}

/* A connection that broke in the middle of a request is of no use any more. */
static gboolean note_broken_locked(XldrvStore *store)
{
    int why = errno;

    if (why == EPIPE)
        disconnect_locked(store);
    errno = why;
    return FALSE;
}

static gboolean fail(GError **error, const char *what, int id)
{
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot %s domain %d in the store: %s", what,
                           id, g_strerror(errno));
}

static gboolean write_domain_locked(XldrvStore *store, const XldrvStoreDomain *what, GError **error)
{
    if (!ensure_locked(store, error))
        return FALSE;
    return xldrv_store_write_nodes(store->batch, what) || note_broken_locked(store) ||
           fail(error, "write the nodes of", what->id);
}

static gboolean introduce_locked(XldrvStore *store, const XldrvStoreDomain *what, GError **error)
{
    return xs_introduce_domain(store->handle, what->id, what->ring_gfn, what->ring_port) ||
           fail(error, "introduce", what->id);
}

gboolean xldrv_store_add_domain(XldrvStore *store, const XldrvStoreDomain *what, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);

    return write_domain_locked(store, what, error) && introduce_locked(store, what, error);
}

gboolean xldrv_store_write_domain(XldrvStore *store, const XldrvStoreDomain *what, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);

    return write_domain_locked(store, what, error);
}

/* Nodes that are to be removed may have gone with those above them. */
static void note_error(guint number G_GNUC_UNUSED, int error, const char *payload G_GNUC_UNUSED, gsize bytes G_GNUC_UNUSED,
                       gpointer data)
{
    int *first = data;

    if (error && error != ENOENT && !*first)
        *first = error;
}

/* The guest stands still: nobody sees it half done. */
static gboolean write_rest_locked(XldrvStore *store, const XldrvStoreDomain *what, GVariant *was, GVariant *now)
{
    int why = 0;

    xldrv_store_add_rings(store->batch, what);
    if (was && now)
        xldrv_store_tree_add_changes(store->batch, what->id, was, now);
    if (!xldrv_store_batch_run(store->batch, note_error, &why))
        return FALSE;
    errno = why;
    return !why;
}

gboolean xldrv_store_complete_domain(XldrvStore *store, const XldrvStoreDomain *what, GVariant *was, GVariant *now,
                                     GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);

    if (!ensure_locked(store, error))
        return FALSE;
    if (!write_rest_locked(store, what, was, now) && !note_broken_locked(store))
        return fail(error, "write the nodes of", what->id);
    return introduce_locked(store, what, error);
}

void xldrv_store_remove_domain(XldrvStore *store, int id, const char *uuid)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);
    g_autoptr(GError) why = NULL;

    if (!ensure_locked(store, &why)) {
        g_warning("domain %d stays in the store: %s", id, why->message);
        return;
    }
    xs_release_domain(store->handle, id);
    xldrv_store_remove_nodes(store->handle, id, uuid);
}

gboolean xldrv_store_add_device(XldrvStore *store, const XldrvStoreDevice *device, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);

    if (!ensure_locked(store, error))
        return FALSE;
    return xldrv_store_write_device(store->batch, device) || note_broken_locked(store) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                           "cannot write device %s %u of domain %d in the store: %s", device->kind,
                           device->devid, device->id, g_strerror(errno));
}

void xldrv_store_remove_device(XldrvStore *store, int id, const char *kind, guint devid)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);
    g_autoptr(GError) why = NULL;

    if (ensure_locked(store, &why))
        xldrv_store_remove_device_nodes(store->handle, id, kind, devid);
    else
        g_warning("device %s %u of domain %d stays in the store: %s", kind, devid, id, why->message);
}

GVariant *xldrv_store_read_tree(XldrvStore *store, int id, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);
    GVariant *tree;

    if (!ensure_locked(store, error))
        return NULL;
    tree = xldrv_store_tree_read(store->batch, id);
    if (!tree && !note_broken_locked(store))
        fail(error, "read the nodes of", id);
    return tree;
}

gboolean xldrv_store_write_tree(XldrvStore *store, int id, GVariant *tree, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);

    if (!ensure_locked(store, error))
        return FALSE;
    return xldrv_store_tree_write(store->batch, id, tree) || note_broken_locked(store) || fail(error, "restore the nodes of", id);
}

static gboolean read_number(struct xs_handle *handle, int id, const char *node, guint64 *value)
{
    g_autofree char *path = g_strdup_printf("/local/domain/%d/%s", id, node);
    char *text = xs_read(handle, XBT_NULL, path, NULL);
    gboolean ok = text && g_ascii_string_to_unsigned(text, 10, 0, G_MAXUINT64, value, NULL);

    free(text);
    return ok;
}

gboolean xldrv_store_introduce_again(XldrvStore *store, int id, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);
    guint64 gfn, port;

    if (!ensure_locked(store, error))
        return FALSE;
    if (!read_number(store->handle, id, "store/ring-ref", &gfn) ||
        !read_number(store->handle, id, "store/port", &port))
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the store has no nodes of domain %d",
                               id);
    if (xs_is_domain_introduced(store->handle, id) || xs_introduce_domain(store->handle, id, gfn, port))
        return TRUE;
    return fail(error, "introduce", id);
}

/* One request and its reply, for which libxenstore has no call on a connection of one's own. */
static gboolean control_request(int fd, const char *payload, gsize length, GError **error)
{
    struct xsd_sockmsg message = {.type = XS_CONTROL, .req_id = 1, .len = length};
    g_autofree char *text = NULL;

    if (send(fd, &message, sizeof(message), MSG_NOSIGNAL) != sizeof(message) ||
        send(fd, payload, length, MSG_NOSIGNAL) != (ssize_t)length ||
        recv(fd, &message, sizeof(message), MSG_WAITALL) != sizeof(message) ||
        message.len > XENSTORE_PAYLOAD_MAX)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the store daemon closed the connection");
    text = g_malloc0(message.len + 1);
    if (recv(fd, text, message.len, MSG_WAITALL) != (ssize_t)message.len)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the store daemon closed the connection");
    if (message.type == XS_ERROR)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                               "the store daemon refuses a connection for the domain: %s", text);
    return TRUE;
}

static int domain_connection(XldrvStore *store, int id, GError **error)
{
    char payload[64] = "domain-connection";
    gsize length = strlen(payload) + 1;
    struct timeval limit = {CONNECT_TIMEOUT_MS / 1000, 0};
    int fd = xldrv_socket_connect(store->socket, SOCK_STREAM, CONNECT_TIMEOUT_MS, error);

    if (fd < 0)
        return -1;
    length += g_snprintf(payload + length, sizeof(payload) - length, "%d", id) + 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (!control_request(fd, payload, length, error)) {
        close(fd);
        return -1;
    }
    /* Whoever uses it next waits as it likes. */
    limit.tv_sec = 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    return fd;
}

gboolean xldrv_store_domain_connections(XldrvStore *store, int id, int fds[2], GError **error)
{
    fds[1] = -1;
    fds[0] = domain_connection(store, id, error);
    if (fds[0] < 0)
        return FALSE;
    fds[1] = domain_connection(store, id, error);
    if (fds[1] >= 0)
        return TRUE;
    close(fds[0]);
    fds[0] = -1;
    return FALSE;
}

gboolean xldrv_store_write(XldrvStore *store, int id, const char *node, const char *value, GError **error)
{
    g_autofree char *path = g_strdup_printf("/local/domain/%d/%s", id, node);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&store->lock);

    if (!ensure_locked(store, error))
        return FALSE;
    if (!xs_write(store->handle, XBT_NULL, path, value, strlen(value)))
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot write '%s': %s", path,
                               g_strerror(errno));
    return TRUE;
}

gboolean xldrv_store_request_shutdown(XldrvStore *store, int id, const char *what, GError **error)
{
    return xldrv_store_write(store, id, "control/shutdown", what, error);
}
