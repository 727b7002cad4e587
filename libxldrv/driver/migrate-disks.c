/* Migration that copies disks: the side that has them. */
#include "config.h"

#include "libxldrv/driver/migrate-disks.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/chain.h"
#include "libxldrv/driver/longjob.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/host/carrier.h"
#include "libxldrv/host/socket.h"

#define POLL_US          50000
#define FINAL_POLL_US    2000
#define COMPLETE_SECONDS 10 /* that a guest which stands still waits for its disks */
#define END_SECONDS      30 /* that what was cut off takes to end */
#define ANSWER_SECONDS   10
#define MIB              (G_GUINT64_CONSTANT(1) << 20)

typedef struct {
    char *target;
    XldrvCarrier *carrier;
    gboolean begun;    /* its document may say so, and its storage daemon know of it */
    gboolean complete; /* and of that nothing is left */
    guint64 speed_mib; /* as its job has it */
    guint64 total, done;
} Copy;

struct _XldrvCopies {
    XldrvDriver *driver;
    XldrvJob *job;
    XldrvDeviceHost host;
    const XldrvMigration *migration;
    const XldrvCookie *cookie;
    GPtrArray *list; /* of Copy */
};

static void copy_free(gpointer data)
{
    Copy *copy = data;

    xldrv_carrier_free(copy->carrier);
    g_free(copy->target);
    g_free(copy);
}

XldrvCopies *xldrv_copies_new(XldrvDriver *driver, XldrvJob *job, const XldrvMigration *migration,
                              const XldrvCookie *cookie)
{
    XldrvCopies *c = g_new0(XldrvCopies, 1);
    const GPtrArray *disks = xmlconf_domain_config(job->live)->disks;

    c->driver = driver;
    c->job = job;
    c->host = (XldrvDeviceHost){driver, job->instance, job->uuid_text, job->name};
    c->migration = migration;
    c->cookie = cookie;
    c->list = g_ptr_array_new_with_free_func(copy_free);
    for (guint i = 0; disks && i < disks->len; i++) {
        const XmlconfDisk *disk = disks->pdata[i];
        Copy *copy;

        if (!xldrv_migration_copies(migration, disk))
            continue;
        copy = g_new0(Copy, 1);
        copy->target = g_strdup(disk->target);
        g_ptr_array_add(c->list, copy);
    }
    return c;
}

/* ---- which ones */

static gboolean check_names(const GPtrArray *disks, const XldrvMigration *migration, GError **error)
{
    const char *name;

    for (guint at = 0; (name = xldrv_migration_next_disk(migration, &at));) {
        gboolean there = FALSE;

        for (guint i = 0; disks && i < disks->len && !there; i++)
            there = strcmp(((const XmlconfDisk *)disks->pdata[i])->target, name) == 0;
        if (!there)
            return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "disk target %s not found", name);
    }
    return TRUE;
}

static gboolean add_to_list(GVariantBuilder *list, XldrvInstance *instance, const XmlconfDisk *disk, gboolean inc,
                            GError **error)
{
    const char *base = inc ? xldrv_chain_path(disk, 1) : NULL;
    XldrvDiskStats stats;

    if (strlen(disk->target) > sizeof(((XldrvDiskHello *)NULL)->target))
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "disk '%s' has too long a name to be copied",
                               disk->target);
    if (!xldrv_blockjob_check_possible(disk, error) || !xldrv_disk_stats(instance, disk, &stats, error))
        return FALSE;
    g_variant_builder_add(list, "(stss)", disk->target, stats.size_bytes, base ? base : "",
                          base ? xldrv_chain_format(disk, 1) : "");
    return TRUE;
}

GVariant *xldrv_copies_list(XldrvJob *job, const XldrvMigration *migration, GError **error)
{
    g_autoptr(XmlconfDomain) live = job->live ? xmlconf_domain_ref(job->live) : NULL;
    const GPtrArray *disks = live ? xmlconf_domain_config(live)->disks : NULL;
    gboolean inc = (migration->flags & VIR_MIGRATE_NON_SHARED_INC) != 0;
    GVariantBuilder list;

    if (!check_names(disks, migration, error))
        return NULL;
    g_variant_builder_init(&list, G_VARIANT_TYPE(XLDRV_COOKIE_DISKS));
    for (guint i = 0; disks && i < disks->len; i++) {
        const XmlconfDisk *disk = disks->pdata[i];

        if (xldrv_migration_copies(migration, disk) && !add_to_list(&list, job->instance, disk, inc, error)) {
            g_variant_builder_clear(&list);
            return NULL;
        }
    }
    return g_variant_ref_sink(g_variant_builder_end(&list));
}

/* ---- the document, and the storage daemon */

/* In a document that stays as it is while others change it. */
static const XmlconfDisk *find(XldrvCopies *c, const Copy *copy, XmlconfDomain **live, GError **error)
{
    *live = xmlconf_domain_ref(c->job->live);
    return xldrv_find_disk(*live, copy->target, error);
}

static gboolean mark(XldrvCopies *c, const Copy *copy, const char *kind, GError **error)
{
    g_autoptr(XmlconfDomain) live = NULL;
    const XmlconfDisk *disk = find(c, copy, &live, error);
    const XldrvBlockJobMark how = {.target = copy->target, .kind = kind, .routed = disk && disk->routed};

    return disk && xldrv_blockjob_mark(c->driver, c->job, &how, error);
}

static gboolean command(XldrvCopies *c, const Copy *copy, const char *json, GError **error)
{
    return xldrv_blockjob_command(&c->host, c->job, copy->target, json, error);
}

static gboolean look(XldrvCopies *c, const Copy *copy, XldrvBlockJobState *state, GError **error)
{
    g_autoptr(XmlconfDomain) live = NULL;
    const XmlconfDisk *disk = find(c, copy, &live, error);

    return disk && xldrv_blockjob_look(&c->host, disk, state, error);
}

static gboolean is_over(const XldrvBlockJobState *state)
{
    return !*state->status || strcmp(state->status, "concluded") == 0 || strcmp(state->status, "null") == 0;
}

/* ---- the way to the destination's daemon */

/* The host that was told for disks, or that which memory goes to. */
static char *address_of(const XldrvCopies *c, GError **error)
{
    const char *where = c->migration->disks_uri ? c->migration->disks_uri : c->migration->uri;
    g_autoptr(GUri) uri = where ? g_uri_parse(where, G_URI_FLAGS_NONE, NULL) : NULL;
    const char *host = uri ? g_uri_get_host(uri) : NULL;

    if (!host || !*host) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "'%s' names no host to copy disks to", where ? where : "");
        return NULL;
    }
    return g_strdup_printf(strchr(host, ':') ? "tcp://[%s]:%u" : "tcp://%s:%u", host, c->cookie->port);
}

static gboolean introduce(const XldrvCopies *c, const Copy *copy, int fd)
{
    const struct timeval limit = {.tv_sec = ANSWER_SECONDS};
    XldrvDiskHello hello = {.magic = XLDRV_DISK_HELLO_MAGIC};
    guint8 answer = 0;
    ssize_t n;

    memcpy(hello.word, c->cookie->word, sizeof(hello.word));
    memcpy(hello.target, copy->target, strlen(copy->target));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (send(fd, &hello, sizeof(hello), MSG_NOSIGNAL) != (ssize_t)sizeof(hello))
        return FALSE;
    do
        n = recv(fd, &answer, 1, 0);
    while (n < 0 && errno == EINTR);
    return n == 1 && answer == XLDRV_DISK_HELLO_READY;
}

/* A socket on which the other side's NBD server speaks. */
static int reach(XldrvCopies *c, const Copy *copy, GError **error)
{
    g_autofree char *uri = address_of(c, error);
    int fd = uri ? xldrv_migration_connect(uri, error) : -1;

    if (fd >= 0 && c->migration->flags & VIR_MIGRATE_TLS)
        fd = xldrv_migration_encrypt(c->driver, c->migration, fd, error);
    if (fd < 0 || introduce(c, copy, fd))
        return fd;
    close(fd);
    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the destination does not take disk '%s'", copy->target);
    return -1;
}

static char *socket_path(const XldrvCopies *c, const Copy *copy)
{
    g_autofree char *name = g_strconcat(c->job->uuid_text, ".", copy->target, XLDRV_COPIES_SUFFIX, NULL);

    return xldrv_run_path(c->driver, name);
}

/* ---- one mirror */

/* The storage daemon opens what is at the other end of the carrier. */
static gboolean open_target(XldrvCopies *c, const Copy *copy, const char *path, GError **error)
{
    g_autoptr(GString) json =
        g_string_new("{\"execute\": \"blockdev-add\", \"arguments\": {\"node-name\": \"" XLDRV_BLOCKJOB_NODE
                     "\", \"driver\": \"nbd\", \"export\": \"" XLDRV_STORAGE_EXPORT
                     "\", \"discard\": \"unmap\", \"server\": {\"type\": \"unix\", \"path\": ");

    xldrv_json_append_string(json, path);
    g_string_append(json, "}}}");
    return command(c, copy, json->str, error);
}

static gboolean connect_target(XldrvCopies *c, Copy *copy, GError **error)
{
    g_autofree char *path = socket_path(c, copy);
    int fd = reach(c, copy, error), listen_fd = fd < 0 ? -1 : xldrv_socket_listen(path, SOCK_STREAM, error);
    gboolean ok;

    if (listen_fd < 0) {
        if (fd >= 0)
            close(fd);
        return FALSE;
    }
    copy->carrier = xldrv_carrier_new(listen_fd, fd, TRUE);
    copy->begun = TRUE;
    ok = mark(c, copy, XLDRV_BLOCKJOB_MIGRATE, error) && open_target(c, copy, path, error);
    unlink(path);
    return ok;
}

/* What an image is based on is at the destination, or (full) it is copied as well. */
static const char *sync_of(const XldrvCopies *c, const XmlconfDisk *disk)
{
    return c->migration->flags & VIR_MIGRATE_NON_SHARED_INC && xldrv_chain_length(disk) > 1 ? "top" : "full";
}

/* Limits may be set at any time. */
static guint64 speed_of(XldrvCopies *c)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&c->job->lock);

    return MIN(c->job->max_speed_mib, G_MAXINT64 / MIB);
}

static gboolean mirror(XldrvCopies *c, Copy *copy, GError **error)
{
    gboolean waits = (c->migration->flags & VIR_MIGRATE_NON_SHARED_SYNCHRONOUS_WRITES) != 0;
    g_autoptr(XmlconfDomain) live = NULL;
    const XmlconfDisk *disk = find(c, copy, &live, error);
    g_autofree char *json = NULL;

    if (!disk)
        return FALSE;
    copy->speed_mib = speed_of(c);
    json = g_strdup_printf("{\"execute\": \"blockdev-mirror\", \"arguments\": {\"job-id\": \"job\", \"device\": "
                           "\"" XLDRV_STORAGE_NODE "\", \"target\": \"" XLDRV_BLOCKJOB_NODE "\", \"sync\": \"%s\", "
                           "\"copy-mode\": \"%s\", \"speed\": %" G_GUINT64_FORMAT ", \"auto-dismiss\": false}}",
                           sync_of(c, disk), waits ? "write-blocking" : "background", copy->speed_mib * MIB);
    return command(c, copy, json, error);
}

static gboolean start(XldrvCopies *c, Copy *copy, GError **error)
{
    g_autoptr(XmlconfDomain) live = NULL;
    const XmlconfDisk *disk = find(c, copy, &live, error);

    return disk && xldrv_blockjob_check_possible(disk, error) &&
           xldrv_blockjob_route(c->driver, c->job, copy->target, error) && connect_target(c, copy, error) &&
           mirror(c, copy, error);
}

/* ---- all of them */

static void note_progress(XldrvCopies *c)
{
    guint64 total = 0, done = 0;

    for (guint i = 0; i < c->list->len; i++) {
        total += ((const Copy *)c->list->pdata[i])->total;
        done += ((const Copy *)c->list->pdata[i])->done;
    }
    g_mutex_lock(&c->job->lock);
    c->job->disk_total = total;
    c->job->disk_done = done;
    g_mutex_unlock(&c->job->lock);
}

static gboolean fail(const Copy *copy, const XldrvBlockJobState *state, GError **error)
{
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "copying disk '%s' to the destination failed: %s",
                           copy->target, state->error ? state->error : "its storage daemon ended");
}

static void renew_speed(XldrvCopies *c, Copy *copy)
{
    guint64 now = speed_of(c);
    g_autofree char *json = NULL;

    if (now == copy->speed_mib)
        return;
    json = g_strdup_printf("{\"execute\": \"block-job-set-speed\", \"arguments\": {\"device\": \"job\", \"speed\": "
                           "%" G_GUINT64_FORMAT "}}", now * MIB);
    if (command(c, copy, json, NULL))
        copy->speed_mib = now;
}

/* *@ready: how many are in sync. */
static gboolean look_at_all(XldrvCopies *c, guint *ready, GError **error)
{
    *ready = 0;
    for (guint i = 0; i < c->list->len; i++) {
        Copy *copy = c->list->pdata[i];
        g_auto(XldrvBlockJobState) state = {0};

        if (!look(c, copy, &state, error))
            return FALSE;
        if (is_over(&state))
            return fail(copy, &state, error);
        copy->total = state.total;
        copy->done = MIN(state.current, state.total);
        *ready += strcmp(state.status, "ready") == 0;
        renew_speed(c, copy);
    }
    note_progress(c);
    return TRUE;
}

gboolean xldrv_copies_look(gpointer copies, GError **error)
{
    guint ready;

    return look_at_all(copies, &ready, error);
}

gboolean xldrv_copies_start(XldrvCopies *c, GError **error)
{
    guint ready = 0;

    if (c->list->len && !c->cookie->port)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the destination takes no disks");
    for (guint i = 0; i < c->list->len; i++) {
        if (!start(c, c->list->pdata[i], error))
            return FALSE;
    }
    while (look_at_all(c, &ready, error) && ready < c->list->len) {
        if (xldrv_longjob_is_aborted(c->job))
            return xldrv_set_error(error, VIR_ERR_OPERATION_ABORTED, "migrate of domain '%s' was canceled by client",
                                   c->job->name);
        g_usleep(POLL_US);
    }
    return ready == c->list->len;
}

/* ---- ends */

static gboolean wait_until_over(XldrvCopies *c, const Copy *copy, gint64 end, XldrvBlockJobState *state, GError **error)
{
    for (;;) {
        if (!look(c, copy, state, error))
            return FALSE;
        if (is_over(state))
            return TRUE;
        xldrv_blockjob_state_clear(state);
        if (g_get_monotonic_time() > end)
            return xldrv_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "copying disk '%s' does not end", copy->target);
        g_usleep(FINAL_POLL_US);
    }
}

/* What it used in the daemon beside the disk. */
static void forget(XldrvCopies *c, const Copy *copy)
{
    command(c, copy, "{\"execute\": \"job-dismiss\", \"arguments\": {\"id\": \"job\"}}", NULL);
    command(c, copy, XLDRV_BLOCKJOB_CLOSE_TARGET, NULL);
}

static gboolean park(XldrvCopies *c, Copy *copy, GError **error)
{
    g_autoptr(XmlconfDomain) live = NULL;
    const XmlconfDisk *disk = find(c, copy, &live, error);

    /* Not by force: a job in sync ends when there is nothing left to be written, and has been flushed. */
    return disk && xldrv_disk_park(&c->host, disk, error) &&
           command(c, copy, "{\"execute\": \"block-job-cancel\", \"arguments\": {\"device\": \"job\"}}", error);
}

static gboolean complete(XldrvCopies *c, Copy *copy, gint64 end, GError **error)
{
    g_auto(XldrvBlockJobState) state = {0};

    if (!wait_until_over(c, copy, end, &state, error))
        return FALSE;
    if (!*state.status || state.error)
        return fail(copy, &state, error);
    copy->done = copy->total = state.total;
    forget(c, copy);
    copy->complete = mark(c, copy, NULL, error);
    return copy->complete;
}

gboolean xldrv_copies_complete(XldrvCopies *c, GError **error)
{
    gint64 end = g_get_monotonic_time() + COMPLETE_SECONDS * G_TIME_SPAN_SECOND;

    for (guint i = 0; i < c->list->len; i++) {
        if (!park(c, c->list->pdata[i], error))
            return FALSE;
    }
    for (guint i = 0; i < c->list->len; i++) {
        if (!complete(c, c->list->pdata[i], end, error))
            return FALSE;
    }
    note_progress(c);
    return TRUE;
}

/* Without its connection it does not wait for the other side. One that does not end even so is looked at again
 * later. */
static void take_back(XldrvCopies *c, Copy *copy)
{
    gint64 end = g_get_monotonic_time() + END_SECONDS * G_TIME_SPAN_SECOND;
    g_auto(XldrvBlockJobState) state = {0};
    g_autoptr(GError) why = NULL;

    g_clear_pointer(&copy->carrier, xldrv_carrier_free);
    command(c, copy, "{\"execute\": \"block-job-cancel\", \"arguments\": {\"device\": \"job\", \"force\": true}}",
            NULL);
    if (!wait_until_over(c, copy, end, &state, &why) && g_error_matches(why, XLDRV_ERROR, VIR_ERR_OPERATION_TIMEOUT)) {
        g_warning("domain '%s': %s", c->job->name, why->message);
        xldrv_blockjobs_watch(c->driver, c->job);
        return;
    }
    forget(c, copy);
    mark(c, copy, NULL, NULL);
}

void xldrv_copies_free(XldrvCopies *c)
{
    for (guint i = 0; i < c->list->len; i++) {
        Copy *copy = c->list->pdata[i];

        if (copy->begun && !copy->complete)
            take_back(c, copy);
    }
    g_ptr_array_unref(c->list);
    g_free(c);
}
