/* Following block jobs, and their ends. */
#include "config.h"

#include "libxldrv/driver/blockjob.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/bitmaps.h"
#include "libxldrv/driver/chain.h"
#include "libxldrv/driver/change.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/storage.h"

#define LOOK_MS         200
#define LOOK_SECONDS    1 /* that it waits for the domain's job */
#define COMPLETE_SECONDS 60
#define POLL_US         10000

#define JOB "job" /* its id in the daemon */

/* ---- what a document says */

int xldrv_blockjob_type(const XmlconfDisk *disk)
{
    static const struct {
        const char *kind;
        int type;
    } rows[] = {
        {XLDRV_BLOCKJOB_PULL, VIR_DOMAIN_BLOCK_JOB_TYPE_PULL},
        {XLDRV_BLOCKJOB_COPY, VIR_DOMAIN_BLOCK_JOB_TYPE_COPY},
        {XLDRV_BLOCKJOB_COMMIT, VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT},
        {XLDRV_BLOCKJOB_ACTIVE, VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT},
        {XLDRV_BLOCKJOB_BACKUP, VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP},
        {XLDRV_BLOCKJOB_MIGRATE, VIR_DOMAIN_BLOCK_JOB_TYPE_COPY},
    };

    for (gsize i = 0; disk->job && i < G_N_ELEMENTS(rows); i++) {
        if (g_str_has_prefix(disk->job, rows[i].kind))
            return rows[i].type;
    }
    return 0;
}

static gboolean is_migration(const XmlconfDisk *disk)
{
    return g_strcmp0(disk->job, XLDRV_BLOCKJOB_MIGRATE) == 0;
}

static gboolean is_mirror(const XmlconfDisk *disk)
{
    int type = xldrv_blockjob_type(disk);

    return (type == VIR_DOMAIN_BLOCK_JOB_TYPE_COPY || type == VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT) && !is_migration(disk);
}

static gboolean is_backup(const XmlconfDisk *disk)
{
    return xldrv_blockjob_type(disk) == VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP;
}

gboolean xldrv_blockjob_is_ready(const XmlconfDisk *disk)
{
    return is_mirror(disk) && disk->mirror.ready != NULL;
}

gboolean xldrv_blockjob_check_disk(const XmlconfDisk *disk, GError **error)
{
    return !disk->job ||
           xldrv_set_error(error, VIR_ERR_BLOCK_COPY_ACTIVE, "disk '%s' already in active block job", disk->target);
}

gboolean xldrv_blockjob_check_domain(const XldrvJob *job, GError **error)
{
    const GPtrArray *disks = job->instance ? xmlconf_domain_config(job->live)->disks : NULL;

    for (guint i = 0; disks && i < disks->len; i++) {
        if (((const XmlconfDisk *)disks->pdata[i])->job)
            return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain has active block job");
    }
    return TRUE;
}

static void replace(char **where, const char *with)
{
    char *text = g_strdup(with);

    g_free(*where);
    *where = text;
}

static gboolean apply_mark(XmlconfDomain *domain, gconstpointer data, GError **error)
{
    const XldrvBlockJobMark *mark = data;
    XmlconfDisk *disk = xldrv_find_disk(domain, mark->target, error);

    if (!disk)
        return FALSE;
    replace(&disk->job, mark->kind);
    replace(&disk->mirror.type, mark->mirror.type);
    replace(&disk->mirror.job, mark->mirror.job);
    replace(&disk->mirror.ready, mark->mirror.ready);
    replace(&disk->mirror.format, mark->mirror.format);
    replace(&disk->mirror.file, mark->mirror.file);
    replace(&disk->mirror.dev, mark->mirror.dev);
    disk->routed = mark->routed;
    return TRUE;
}

void xldrv_blockjob_forget(XmlconfDisk *disk)
{
    char **const fields[] = {&disk->job,         &disk->mirror.type, &disk->mirror.job, &disk->mirror.ready,
                             &disk->mirror.format, &disk->mirror.file, &disk->mirror.dev};

    for (gsize i = 0; i < G_N_ELEMENTS(fields); i++)
        g_clear_pointer(fields[i], g_free);
    disk->routed = FALSE;
    disk->threshold = 0;
}

gboolean xldrv_blockjob_mark(XldrvDriver *driver, XldrvJob *job, const XldrvBlockJobMark *mark, GError **error)
{
    const XldrvImpact live = {.live = TRUE};

    return xldrv_change(driver, job, &live, apply_mark, mark, error);
}

static gboolean mark_ready(XldrvDriver *driver, XldrvJob *job, const XmlconfDisk *disk, const char *ready, GError **error)
{
    const XmlconfMirror *m = &disk->mirror;
    const XldrvBlockJobMark mark = {.target = disk->target,
                                    .kind = disk->job,
                                    .mirror = {m->type, m->job, ready, m->format, m->file, m->dev},
                                    .routed = disk->routed};

    return xldrv_blockjob_mark(driver, job, &mark, error);
}

static gboolean unmark(XldrvDriver *driver, XldrvJob *job, const XmlconfDisk *disk, GError **error)
{
    const XldrvBlockJobMark mark = {.target = disk->target, .routed = disk->routed};

    return xldrv_blockjob_mark(driver, job, &mark, error);
}

static XldrvDeviceHost host_of(XldrvDriver *driver, XldrvJob *job)
{
    return (XldrvDeviceHost){driver, job->instance, job->uuid_text, job->name};
}

/* The running disk in a document that stays as it is while others change it. */
static const XmlconfDisk *find(XldrvJob *job, const char *target, XmlconfDomain **live, GError **error)
{
    *live = xmlconf_domain_ref(job->live);
    return xldrv_find_disk(*live, target, error);
}

static void tell(XldrvDriver *driver, XldrvJob *job, const XmlconfDisk *disk, int status)
{
    const char *path = xmlconf_disk_source(disk);

    xldrv_event_block_job(driver->events, job, path ? path : "", disk->target, xldrv_blockjob_type(disk), status);
}

/* ---- the daemon's side */

void xldrv_blockjob_state_clear(XldrvBlockJobState *state)
{
    g_clear_pointer(&state->error, g_free);
}

static void read_state(JsonObject *job, XldrvBlockJobState *state)
{
    g_strlcpy(state->status, json_object_get_string_member_with_default(job, "status", ""), sizeof(state->status));
    state->error = g_strdup(json_object_get_string_member_with_default(job, "error", NULL));
    state->current = (guint64)json_object_get_int_member_with_default(job, "current-progress", 0);
    state->total = (guint64)json_object_get_int_member_with_default(job, "total-progress", 0);
}

static JsonObject *first_of(JsonNode *list)
{
    JsonArray *array = list && JSON_NODE_HOLDS_ARRAY(list) ? json_node_get_array(list) : NULL;
    JsonNode *first = array && json_array_get_length(array) ? json_array_get_element(array, 0) : NULL;

    return first && JSON_NODE_HOLDS_OBJECT(first) ? json_node_get_object(first) : NULL;
}

gboolean xldrv_blockjob_look(const XldrvDeviceHost *host, const XmlconfDisk *disk, XldrvBlockJobState *state, GError **error)
{
    g_autoptr(JsonNode) jobs = xldrv_storage_query(host, disk, "{\"execute\": \"query-jobs\"}", error);
    g_autoptr(JsonNode) block_jobs = NULL;
    JsonObject *job;

    *state = (XldrvBlockJobState){0};
    if (!jobs)
        return FALSE;
    if ((job = first_of(jobs)))
        read_state(job, state);
    block_jobs = job ? xldrv_storage_query(host, disk, "{\"execute\": \"query-block-jobs\"}", NULL) : NULL;
    if (block_jobs && (job = first_of(block_jobs)))
        state->speed = (guint64)json_object_get_int_member_with_default(job, "speed", 0);
    return TRUE;
}

static gboolean command(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *verb, const char *more, GError **error)
{
    g_autofree char *json =
        g_strdup_printf("{\"execute\": \"%s\", \"arguments\": {%s}}", verb, more);

    return xldrv_storage_command(host, disk, json, error);
}

/* What the job used in the daemon beside the disk. */
static void forget(const XldrvDeviceHost *host, const XmlconfDisk *disk)
{
    command(host, disk, "job-dismiss", "\"id\": \"" JOB "\"", NULL);
    command(host, disk, "blockdev-del", "\"node-name\": \"" XLDRV_BLOCKJOB_NODE "\"", NULL);
    if (is_backup(disk))
        xldrv_bitmap_remove(host, disk, XLDRV_BLOCKJOB_BITMAP, NULL);
}

static gboolean is_over(const XldrvBlockJobState *state)
{
    return !*state->status || strcmp(state->status, "concluded") == 0 || strcmp(state->status, "null") == 0;
}

/* What the images of a commit know that are about to go is kept in the one that they were committed into. */
static gboolean carry_committed(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error)
{
    guint top = 0, base = 0;
    const char *path;
    g_autofree char *node = NULL;

    if (!disk->job || sscanf(disk->job, XLDRV_BLOCKJOB_COMMIT_FORMAT, &top, &base) != 2 || !(path = xldrv_chain_path(disk, base)))
        return TRUE;
    node = xldrv_blockjob_node(host, disk, path, error);
    return node && xldrv_bitmaps_carry(host, disk, top, node, error);
}

/* A commit waits before it takes images out of the chain. */
static void finalize(const XldrvDeviceHost *host, const XmlconfDisk *disk, const XldrvBlockJobState *state)
{
    g_autoptr(GError) why = NULL;

    if (strcmp(state->status, "pending") != 0)
        return;
    if (carry_committed(host, disk, &why)) {
        command(host, disk, "job-finalize", "\"id\": \"" JOB "\"", NULL);
        return;
    }
    g_warning("the commit of disk '%s' of domain '%s' is not completed: %s", disk->target, host->name, why->message);
    command(host, disk, "job-cancel", "\"id\": \"" JOB "\"", NULL);
}

/* Until it is over, or (@ready) waits for a decision. */
static gboolean wait_until(const XldrvDeviceHost *host, const XmlconfDisk *disk, gboolean ready, guint seconds,
                           XldrvBlockJobState *state, GError **error)
{
    gint64 end = g_get_monotonic_time() + seconds * G_TIME_SPAN_SECOND;

    for (;;) {
        if (!xldrv_blockjob_look(host, disk, state, error))
            return FALSE;
        if (is_over(state) || (ready && strcmp(state->status, "ready") == 0))
            return TRUE;
        finalize(host, disk, state);
        xldrv_blockjob_state_clear(state);
        if (seconds && g_get_monotonic_time() > end)
            return xldrv_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "block job of disk '%s' does not end", disk->target);
        g_usleep(POLL_US);
    }
}

char *xldrv_blockjob_node(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *path, GError **error)
{
    g_autoptr(JsonNode) nodes = xldrv_storage_nodes(host, disk, error);
    JsonArray *list = nodes && JSON_NODE_HOLDS_ARRAY(nodes) ? json_node_get_array(nodes) : NULL;

    if (!nodes)
        return NULL;
    if (g_strcmp0(path, xmlconf_disk_source(disk)) == 0)
        return g_strdup(XLDRV_STORAGE_NODE);
    for (guint i = 0; list && i < json_array_get_length(list); i++) {
        JsonObject *node = json_array_get_object_element(list, i);
        const char *driver = xldrv_json_string(node, "drv");

        if (g_strcmp0(xldrv_json_string(node, "file"), path) == 0 && g_strcmp0(driver, "file") != 0 &&
            g_strcmp0(driver, "host_device") != 0)
            return g_strdup(xldrv_json_string(node, "node-name"));
    }
    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the storage daemon of disk '%s' does not have image '%s'", disk->target,
                    path);
    return NULL;
}

/* ---- raw images */

static gboolean set_routed(XldrvDriver *driver, XldrvJob *job, const XmlconfDisk *disk, gboolean routed, GError **error)
{
    const XldrvDeviceHost host = host_of(driver, job);
    const XldrvBlockJobMark mark = {.target = disk->target, .routed = routed};
    const XldrvBlockJobMark back = {.target = disk->target, .routed = disk->routed};
    const XmlconfDisk *now;

    if (!xldrv_disk_suspend(&host, disk, error))
        return FALSE;
    if (!xldrv_blockjob_mark(driver, job, &mark, error)) {
        xldrv_disk_continue(&host, disk, NULL);
        return FALSE;
    }
    now = xldrv_find_disk(job->live, disk->target, NULL);
    if (now && xldrv_disk_continue(&host, now, error))
        return TRUE;
    xldrv_blockjob_mark(driver, job, &back, NULL);
    if (!xldrv_disk_continue(&host, disk, NULL))
        xldrv_react_to_instance(job->instance, HV_EVENT_IMAGE_LOST, 0, job);
    return FALSE;
}

gboolean xldrv_blockjob_route(XldrvDriver *driver, XldrvJob *job, const char *target, GError **error)
{
    g_autoptr(XmlconfDomain) live = NULL;
    const XmlconfDisk *disk = find(job, target, &live, error);

    return disk && (xmlconf_disk_is_served(disk) || set_routed(driver, job, disk, TRUE, error));
}

void xldrv_blockjob_unroute(XldrvDriver *driver, XldrvJob *job, const char *target)
{
    g_autoptr(XmlconfDomain) live = NULL;
    const XmlconfDisk *disk = find(job, target, &live, NULL);
    g_autoptr(GError) why = NULL;

    if (disk && disk->routed && !disk->job && !disk->threshold && !set_routed(driver, job, disk, FALSE, &why))
        g_warning("%s", why->message); /* it is served as before */
}

void xldrv_blockjobs_unroute_all(XldrvDriver *driver, XldrvJob *job)
{
    g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(job->live);
    const GPtrArray *disks = xmlconf_domain_config(live)->disks;

    for (guint i = 0; disks && i < disks->len; i++)
        xldrv_blockjob_unroute(driver, job, ((const XmlconfDisk *)disks->pdata[i])->target);
}

/* ---- ends */

static gboolean learn_chain(XmlconfDomain *domain, gconstpointer target, GError **error)
{
    XmlconfDisk *disk = xldrv_find_disk(domain, target, error);

    if (disk)
        xldrv_chain_learn(disk);
    return disk != NULL;
}

/* Files that the disk was on and is not any more. */
static void remove_unused(const XmlconfDisk *before, const XmlconfDisk *now)
{
    const char *path;

    for (guint i = 0; (path = xldrv_chain_path(before, i)); i++) {
        if (xldrv_chain_find(now, path) < 0 && g_file_test(path, G_FILE_TEST_IS_REGULAR) && unlink(path) < 0)
            g_warning("cannot remove '%s', which disk '%s' does not need any more", path, before->target);
    }
}

static gboolean is_to_remove(const XmlconfDisk *disk)
{
    return disk->job && g_str_has_suffix(disk->job, XLDRV_BLOCKJOB_DELETE);
}

/* It ended by itself; @disk is as it was. */
static void conclude(XldrvDriver *driver, XldrvJob *job, const XmlconfDisk *disk, const XldrvBlockJobState *state)
{
    const XldrvDeviceHost host = host_of(driver, job);
    const XldrvImpact live = {.live = TRUE};
    gboolean ok = *state->status && !state->error && !is_mirror(disk) && !is_migration(disk);
    const XmlconfDisk *now;

    if (!ok)
        g_warning("block job '%s' of disk '%s' of domain '%s' failed: %s", disk->job, disk->target, job->name,
                  state->error ? state->error : "its storage daemon ended");
    forget(&host, disk);
    unmark(driver, job, disk, NULL);
    xldrv_change(driver, job, &live, learn_chain, disk->target, NULL);
    now = xldrv_find_disk(job->live, disk->target, NULL);
    if (ok && now && is_to_remove(disk))
        remove_unused(disk, now);
    xldrv_blockjob_unroute(driver, job, disk->target);
    tell(driver, job, disk, ok ? VIR_DOMAIN_BLOCK_JOB_COMPLETED : VIR_DOMAIN_BLOCK_JOB_FAILED);
    if (is_backup(disk))
        xldrv_backup_disk_ended(driver, job, ok, state->total);
}

/* Where the disk is afterwards: in the document of what runs, and where the definition had it on the same image, there. */
typedef struct {
    const XmlconfDisk *before;
    gboolean learn;
} Pivot;

static gboolean take_mirror(XmlconfDomain *domain, gconstpointer data, GError **error G_GNUC_UNUSED)
{
    const XmlconfDisk *before = ((const Pivot *)data)->before;
    XmlconfDisk *disk = xldrv_find_disk(domain, before->target, NULL);
    const XmlconfMirror *mirror = &before->mirror;
    const XldrvBlockJobMark none = {.target = before->target};

    if (!disk || !xldrv_disk_same_source(disk, before))
        return TRUE;
    xldrv_disk_set_source(disk, mirror->dev != NULL, mirror->dev ? mirror->dev : mirror->file, mirror->format);
    return apply_mark(domain, &none, NULL);
}

/* As far as the image can have bitmaps. Without them checkpoints are of no use there, which whoever needs them is told. */
static void carry_to_mirror(const XldrvDeviceHost *host, const XmlconfDisk *disk)
{
    const char *path = disk->mirror.dev ? disk->mirror.dev : disk->mirror.file;
    gboolean copy = xldrv_blockjob_type(disk) == VIR_DOMAIN_BLOCK_JOB_TYPE_COPY;
    g_autoptr(GError) why = NULL;
    g_autofree char *node = copy ? g_strdup(XLDRV_BLOCKJOB_NODE) : xldrv_blockjob_node(host, disk, path, &why);

    if (!node || !xldrv_bitmaps_carry(host, disk, 0, node, &why))
        g_warning("%s", why->message);
}

/* The guest's requests wait. The daemon has finished, so both images have the same in them. */
static gboolean move_over(XldrvDriver *driver, XldrvJob *job, const XmlconfDisk *disk, GError **error)
{
    const XldrvDeviceHost host = host_of(driver, job);
    const XldrvImpact both = {.live = TRUE, .config = job->config != NULL}, live = {.live = TRUE};
    const Pivot pivot = {.before = disk};
    const XmlconfDisk *now;

    carry_to_mirror(&host, disk);
    xldrv_disk_close_source(&host, disk, XLDRV_STORAGE_CURRENT);
    if (!xldrv_change(driver, job, &both, take_mirror, &pivot, error))
        return FALSE;
    now = xldrv_find_disk(job->live, disk->target, error);
    if (!now || !xldrv_disk_continue(&host, now, error))
        return FALSE;
    xldrv_change(driver, job, &live, learn_chain, disk->target, NULL);
    now = xldrv_find_disk(job->live, disk->target, NULL);
    if (now && is_to_remove(disk))
        remove_unused(disk, now);
    return TRUE;
}

/* The daemon's job is brought to its end; the guest's requests wait. */
static gboolean complete(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error)
{
    g_auto(XldrvBlockJobState) state = {0};

    if (!command(host, disk, "job-complete", "\"id\": \"" JOB "\"", error) ||
        !wait_until(host, disk, FALSE, COMPLETE_SECONDS, &state, error))
        return FALSE;
    return !state.error || xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "block job of disk '%s' failed: %s", disk->target,
                                           state.error);
}

/* Nothing came of it: on the image that it was on, whose data are complete in any case. */
static void stay(XldrvDriver *driver, XldrvJob *job, const XmlconfDisk *disk)
{
    const XldrvDeviceHost host = host_of(driver, job);
    const XmlconfDisk *now;

    xldrv_disk_close_source(&host, disk, XLDRV_STORAGE_CURRENT);
    unmark(driver, job, disk, NULL);
    now = xldrv_find_disk(job->live, disk->target, NULL);
    if (!now || !xldrv_disk_continue(&host, now, NULL))
        xldrv_react_to_instance(job->instance, HV_EVENT_IMAGE_LOST, 0, job);
    else
        xldrv_blockjob_unroute(driver, job, disk->target);
    tell(driver, job, disk, VIR_DOMAIN_BLOCK_JOB_FAILED);
}

/* With the requests waiting. */
static gboolean finish_pivot(XldrvDriver *driver, XldrvJob *job, const XmlconfDisk *disk, GError **error)
{
    const XldrvDeviceHost host = host_of(driver, job);

    if (complete(&host, disk, error) && move_over(driver, job, disk, error)) {
        tell(driver, job, disk, VIR_DOMAIN_BLOCK_JOB_COMPLETED);
        return TRUE;
    }
    stay(driver, job, disk);
    return FALSE;
}

gboolean xldrv_blockjob_pivot(XldrvDriver *driver, XldrvJob *job, const char *target, GError **error)
{
    const XldrvDeviceHost host = host_of(driver, job);
    g_autoptr(XmlconfDomain) live = NULL;
    const XmlconfDisk *disk = find(job, target, &live, error);

    if (!disk)
        return FALSE;
    if (!is_mirror(disk))
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "pivot of disk '%s' requires an active copy job", target);
    if (!xldrv_blockjob_is_ready(disk))
        return xldrv_set_error(error, VIR_ERR_BLOCK_COPY_ACTIVE, "disk '%s' not ready for pivot yet", target);
    /* The document says so before anything is done that a daemon that is killed would have to know of. */
    if (!mark_ready(driver, job, disk, "pivot", error))
        return FALSE;
    if (!xldrv_disk_park(&host, disk, error)) {
        mark_ready(driver, job, disk, "yes", NULL);
        return FALSE;
    }
    return finish_pivot(driver, job, disk, error);
}

gboolean xldrv_blockjob_cancel(XldrvDriver *driver, XldrvJob *job, const char *target, GError **error)
{
    const XldrvDeviceHost host = host_of(driver, job);
    g_autoptr(XmlconfDomain) live = NULL;
    const XmlconfDisk *disk = find(job, target, &live, error);
    g_auto(XldrvBlockJobState) state = {0};
    const char *which;

    if (!disk)
        return FALSE;
    /* A copy that is complete stays one, of this moment: without force it is not interrupted. */
    which = xldrv_blockjob_is_ready(disk) ? "\"device\": \"" JOB "\"" : "\"device\": \"" JOB "\", \"force\": true";
    if (!command(&host, disk, "block-job-cancel", which, error) ||
        !wait_until(&host, disk, FALSE, COMPLETE_SECONDS, &state, error))
        return FALSE;
    forget(&host, disk);
    if (!unmark(driver, job, disk, error))
        return FALSE;
    xldrv_blockjob_unroute(driver, job, target);
    tell(driver, job, disk, VIR_DOMAIN_BLOCK_JOB_CANCELED);
    return TRUE;
}

gboolean xldrv_blockjob_wait(XldrvDriver *driver, XldrvJob *job, const char *target, GError **error)
{
    const XldrvDeviceHost host = host_of(driver, job);
    g_autoptr(XmlconfDomain) live = NULL;
    const XmlconfDisk *disk = find(job, target, &live, error);
    g_auto(XldrvBlockJobState) state = {0};

    if (!disk || !wait_until(&host, disk, TRUE, 0, &state, error))
        return FALSE;
    if (is_mirror(disk) && strcmp(state.status, "ready") == 0)
        return mark_ready(driver, job, disk, "yes", error);
    conclude(driver, job, disk, &state);
    return *state.status && !state.error
               ? TRUE
               : xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "block job of disk '%s' failed: %s", target,
                                 state.error ? state.error : "its storage daemon ended");
}

/* ---- a pivot that a daemon had begun and did not end */

static gboolean was_pivoting(const XmlconfDisk *disk)
{
    return disk->job && g_strcmp0(disk->mirror.ready, "pivot") == 0;
}

/* Whether it was completed decides, and of a daemon that ended it is not known: then the old image has all. A disk that does
 * not come to rest is left alone until it does. */
static void settle(XldrvDriver *driver, XldrvJob *job, const XmlconfDisk *disk)
{
    const XldrvDeviceHost host = host_of(driver, job);
    g_auto(XldrvBlockJobState) state = {0};
    g_autoptr(GError) why = NULL;

    if (xldrv_disk_park(&host, disk, &why)) {
        gboolean done = xldrv_blockjob_look(&host, disk, &state, &why) && strcmp(state.status, "concluded") == 0 && !state.error;

        if (!done || !move_over(driver, job, disk, &why))
            stay(driver, job, disk);
    }
    if (why)
        g_warning("%s", why->message);
}

/* ---- looking every now and then */

static void look_at_disk(XldrvDriver *driver, XldrvJob *job, const XmlconfDisk *disk)
{
    const XldrvDeviceHost host = host_of(driver, job);
    g_auto(XldrvBlockJobState) state = {0};

    if (!xldrv_blockjob_look(&host, disk, &state, NULL))
        return; /* it is started again, and then it has no job */
    finalize(&host, disk, &state);
    if (is_over(&state)) {
        conclude(driver, job, disk, &state);
    } else if (is_migration(disk)) { /* whose daemon has ended: nobody else could have the domain's job now */
        xldrv_blockjob_cancel(driver, job, disk->target, NULL);
    } else if (is_mirror(disk) && strcmp(state.status, "ready") == 0 && !disk->mirror.ready) {
        if (mark_ready(driver, job, disk, "yes", NULL))
            tell(driver, job, disk, VIR_DOMAIN_BLOCK_JOB_READY);
    }
}

/* By now: the end of another disk's may have been that of its own. */
static gboolean has_job(XldrvJob *job, const char *target)
{
    const XmlconfDisk *disk = xldrv_find_disk(job->live, target, NULL);

    return disk && disk->job;
}

static gboolean is_to_watch(XldrvJob *job)
{
    return !xldrv_blockjob_check_domain(job, NULL) || xldrv_threshold_is_set(job);
}

/* Whether there is anything that is not over. */
static gboolean look(XldrvDriver *driver, XldrvJob *job)
{
    g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(job->live);
    const GPtrArray *disks = xmlconf_domain_config(live)->disks;

    for (guint i = 0; disks && i < disks->len; i++) {
        const XmlconfDisk *disk = disks->pdata[i];

        if (was_pivoting(disk))
            settle(driver, job, disk);
        else if (disk->job && has_job(job, disk->target))
            look_at_disk(driver, job, disk);
    }
    xldrv_threshold_look(driver, job);
    return is_to_watch(job);
}

static void look_later(XldrvDomain *domain);

static void look_reaction(XldrvDriver *driver, const XldrvReaction *reaction)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(XldrvJobGuard) job = xldrv_job_begin_within(reaction->domain, LOOK_SECONDS, "look at block jobs of", &why);

    if (job ? job->instance && look(driver, job) : !g_error_matches(why, XLDRV_ERROR, VIR_ERR_NO_DOMAIN))
        look_later(reaction->domain);
    else
        g_atomic_int_set(&reaction->domain->block_jobs_watched, FALSE);
}

static gboolean look_now(gpointer domain)
{
    const XldrvReaction reaction = {.fn = look_reaction, .domain = domain};

    xldrv_driver_react(xldrv_driver_get(), &reaction);
    xldrv_domain_unref(domain);
    return G_SOURCE_REMOVE;
}

static void look_later(XldrvDomain *domain)
{
    g_timeout_add(LOOK_MS, look_now, xldrv_domain_ref(domain));
}

void xldrv_blockjobs_watch(XldrvDriver *driver G_GNUC_UNUSED, XldrvDomain *domain)
{
    if (g_atomic_int_compare_and_exchange(&domain->block_jobs_watched, FALSE, TRUE))
        look_later(domain);
}

/* What a daemon that was killed had not come to. */
static gboolean learn_unknown(XmlconfDomain *domain, gconstpointer unused G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    const GPtrArray *disks = xmlconf_domain_config(domain)->disks;

    for (guint i = 0; disks && i < disks->len; i++) {
        XmlconfDisk *disk = disks->pdata[i];

        if (!disk->backing && !disk->job)
            xldrv_chain_learn(disk);
    }
    return TRUE;
}

void xldrv_blockjobs_recover(XldrvDriver *driver, XldrvJob *job)
{
    g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(job->live);
    const GPtrArray *disks = xmlconf_domain_config(live)->disks;
    const XldrvImpact impact = {.live = TRUE};

    for (guint i = 0; disks && i < disks->len; i++) {
        if (was_pivoting(disks->pdata[i]))
            settle(driver, job, disks->pdata[i]);
    }
    if (disks && disks->len)
        xldrv_change(driver, job, &impact, learn_unknown, NULL, NULL);
    if (is_to_watch(job))
        xldrv_blockjobs_watch(driver, job);
}
