/* Telling when the file of a disk's image is written up to some place: for those who have images grow as they need it.
 *
 * The disk's storage daemon watches the writes, and forgets the threshold when one goes beyond it. It is asked every now and then
 * whether it has it still, because it listens to one connection at a time, and that is for commands. One that was started again
 * is told anew. A raw image is given to such a daemon for as long as it has a threshold. */
#include "config.h"

#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/change.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/driver/wire.h"

typedef struct {
    char *node;        /* of the image's file */
    guint64 threshold; /* that it has; 0: none */
    guint64 highest;   /* byte that was written */
} State;

static void state_clear(State *state)
{
    g_free(state->node);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(State, state_clear)

/* ---- the daemon */

static gboolean is_file_node(JsonObject *node, const char *path)
{
    const char *driver = xldrv_json_string(node, "drv");

    return g_strcmp0(xldrv_json_string(node, "file"), path) == 0 &&
           (g_strcmp0(driver, "file") == 0 || g_strcmp0(driver, "host_device") == 0);
}

static gboolean find_node(const XldrvDeviceHost *host, const XmlconfDisk *disk, State *state, GError **error)
{
    g_autoptr(JsonNode) nodes = xldrv_storage_nodes(host, disk, error);
    JsonArray *list = nodes && JSON_NODE_HOLDS_ARRAY(nodes) ? json_node_get_array(nodes) : NULL;

    for (guint i = 0; list && i < json_array_get_length(list) && !state->node; i++) {
        JsonObject *node = json_array_get_object_element(list, i);

        if (!is_file_node(node, xmlconf_disk_source(disk)))
            continue;
        state->node = g_strdup(xldrv_json_string(node, "node-name"));
        state->threshold = (guint64)json_object_get_int_member_with_default(node, "write_threshold", 0);
    }
    return state->node || !nodes ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the storage daemon of disk '%s' does not have image '%s'",
                           disk->target, xmlconf_disk_source(disk));
}

static void find_highest(const XldrvDeviceHost *host, const XmlconfDisk *disk, State *state)
{
    g_autoptr(JsonNode) nodes = xldrv_storage_query(
        host, disk, "{\"execute\": \"query-blockstats\", \"arguments\": {\"query-nodes\": true}}", NULL);
    JsonArray *list = nodes && JSON_NODE_HOLDS_ARRAY(nodes) ? json_node_get_array(nodes) : NULL;

    for (guint i = 0; list && i < json_array_get_length(list); i++) {
        JsonObject *node = json_array_get_object_element(list, i);
        JsonNode *stats = json_object_get_member(node, "stats");

        if (g_strcmp0(xldrv_json_string(node, "node-name"), state->node) == 0 && stats && JSON_NODE_HOLDS_OBJECT(stats))
            state->highest =
                (guint64)json_object_get_int_member_with_default(json_node_get_object(stats), "wr_highest_offset", 0);
    }
}

static gboolean tell_daemon(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *node, guint64 threshold,
                            GError **error)
{
    g_autoptr(GString) json = g_string_new("{\"execute\": \"block-set-write-threshold\", \"arguments\": {\"node-name\": ");

    xldrv_json_append_string(json, node);
    g_string_append_printf(json, ", \"write-threshold\": %" G_GUINT64_FORMAT "}}", threshold);
    return xldrv_storage_command(host, disk, json->str, error);
}

/* ---- the document */

typedef struct {
    const char *target;
    guint64 threshold;
} Change;

static gboolean apply(XmlconfDomain *domain, gconstpointer data, GError **error)
{
    const Change *change = data;
    XmlconfDisk *disk = xldrv_find_disk(domain, change->target, error);

    if (disk)
        disk->threshold = change->threshold;
    return disk != NULL;
}

static gboolean mark(XldrvDriver *driver, XldrvJob *job, const char *target, guint64 threshold, GError **error)
{
    const Change change = {target, threshold};
    const XldrvImpact live = {.live = TRUE};

    return xldrv_change(driver, job, &live, apply, &change, error);
}

/* ---- looking */

gboolean xldrv_threshold_is_set(XldrvJob *job)
{
    const GPtrArray *disks = job->instance ? xmlconf_domain_config(job->live)->disks : NULL;

    for (guint i = 0; disks && i < disks->len; i++) {
        if (((const XmlconfDisk *)disks->pdata[i])->threshold)
            return TRUE;
    }
    return FALSE;
}

static void look_at_disk(XldrvDriver *driver, XldrvJob *job, const XmlconfDisk *disk)
{
    const XldrvDeviceHost host = {driver, job->instance, job->uuid_text, job->name};
    guint64 threshold = disk->threshold;
    g_auto(State) state = {0};

    if (!find_node(&host, disk, &state, NULL) || !state.node || state.threshold)
        return;
    find_highest(&host, disk, &state);
    if (state.highest <= threshold) { /* another daemon */
        tell_daemon(&host, disk, state.node, threshold, NULL);
        return;
    }
    if (!mark(driver, job, disk->target, 0, NULL))
        return;
    xldrv_event_block_threshold(driver->events, job, disk->target, xmlconf_disk_source(disk), threshold,
                                state.highest - threshold);
    xldrv_blockjob_unroute(driver, job, disk->target);
}

void xldrv_threshold_look(XldrvDriver *driver, XldrvJob *job)
{
    g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(job->live);
    const GPtrArray *disks = xmlconf_domain_config(live)->disks;

    for (guint i = 0; disks && i < disks->len; i++) {
        if (((const XmlconfDisk *)disks->pdata[i])->threshold)
            look_at_disk(driver, job, disks->pdata[i]);
    }
}

/* ---- the procedure */

static gboolean check_disk(const XmlconfDisk *disk, GError **error)
{
    const char *why = !xmlconf_disk_source(disk) || disk->type == XMLCONF_DISK_NETWORK ? "it has no image of this host"
                      : disk->readonly                                                 ? "it is read-only"
                      : disk->shareable && !xmlconf_disk_is_served(disk)               ? "it is shared with other domains"
                                                                                       : NULL;

    return !why || xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "threshold of disk '%s' is not supported: %s",
                                   disk->target, why);
}

/* Of one that a daemon serves. */
static gboolean set_served(XldrvDriver *driver, XldrvJob *job, const char *target, guint64 threshold, GError **error)
{
    const XldrvDeviceHost host = {driver, job->instance, job->uuid_text, job->name};
    g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(job->live);
    const XmlconfDisk *disk = xldrv_find_disk(live, target, error);
    g_auto(State) state = {0};

    /* Until the daemon knows it nobody looks. */
    return disk && find_node(&host, disk, &state, error) && tell_daemon(&host, disk, state.node, threshold, error) &&
           mark(driver, job, disk->target, threshold, error);
}

static gboolean set(XldrvDriver *driver, XldrvJob *job, const char *name, guint64 threshold, GError **error)
{
    g_autoptr(XmlconfDomain) live = NULL;
    const XmlconfDisk *disk;
    gboolean ok;

    if (!job->instance)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    live = xmlconf_domain_ref(job->live);
    disk = xldrv_find_disk(live, name, error);
    if (!disk || !check_disk(disk, error))
        return FALSE;
    if (!threshold && !xmlconf_disk_is_served(disk))
        return TRUE;
    ok = (!threshold || xldrv_blockjob_route(driver, job, disk->target, error)) &&
         set_served(driver, job, disk->target, threshold, error);
    xldrv_blockjob_unroute(driver, job, disk->target); /* unless it is set */
    if (ok && threshold)
        xldrv_blockjobs_watch(driver, job);
    return ok;
}

GVariant *xldrv_handle_domain_set_block_threshold(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 3), 0, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "set a threshold of a disk of", error) : NULL;
    return job && set(xldrv_driver_get(), job, xldrv_args_string(args, 1), xldrv_args_u64(args, 2), error) ? xldrv_reply_void()
                                                                                                          : NULL;
}
