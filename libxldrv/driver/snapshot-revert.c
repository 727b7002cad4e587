/* Going back to a snapshot. All that can be found wrong is looked for before the running domain is given up. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/chain.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/save.h"
#include "libxldrv/driver/snapshot.h"
#include "libxldrv/driver/volume.h"
#include "libxldrv/driver/wire.h"

#define RUNNING VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING
#define PAUSED  VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED
#define FORCE   VIR_DOMAIN_SNAPSHOT_REVERT_FORCE

typedef struct {
    XldrvDriver *driver;
    XldrvJob *job;
    const XmlconfSnapshot *snapshot;
    guint flags;
    XmlconfDomain *then;  /* as it was, with the paths of its disks */
    XmlconfDomain *definition; /* that it is to have */
    XldrvSaved saved;     /* its memory; fd is -1: none */
    XmlconfDomain *live;  /* of that */
    XmlconfSnapshot *onto; /* overlays on the images of an external snapshot; or NULL */
} Revert;

static void clear(Revert *r)
{
    g_clear_pointer(&r->then, xmlconf_domain_unref);
    g_clear_pointer(&r->definition, xmlconf_domain_unref);
    g_clear_pointer(&r->live, xmlconf_domain_unref);
    g_clear_pointer(&r->onto, xmlconf_snapshot_unref);
    xldrv_saved_clear(&r->saved);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Revert, clear)

/* ---- what it comes to */

static gboolean has_memory(const XmlconfSnapshot *snapshot)
{
    return snapshot->memory == XMLCONF_SNAPSHOT_INTERNAL || snapshot->memory == XMLCONF_SNAPSHOT_EXTERNAL;
}

static gboolean is_to_be_active(const Revert *r)
{
    return r->flags & (RUNNING | PAUSED) || has_memory(r->snapshot);
}

static gboolean is_to_be_paused(const Revert *r)
{
    if (r->flags & (RUNNING | PAUSED))
        return (r->flags & PAUSED) != 0;
    return r->snapshot->state == XMLCONF_SNAPSHOT_PAUSED;
}

static void set_name(XmlconfDomain *domain, const char *name)
{
    XmlconfDomainConfig *config = xmlconf_domain_config(domain);

    if (strcmp(config->name, name) == 0)
        return;
    g_free(config->name);
    config->name = g_strdup(name);
}

/* ---- looking */

static gboolean check_risk(const Revert *r, GError **error)
{
    if (r->flags & FORCE)
        return TRUE;
    if (!r->snapshot->domain)
        return xldrv_set_error(error, VIR_ERR_SNAPSHOT_REVERT_RISKY, "snapshot lacks domain '%s' rollback info", r->job->name);
    if (r->job->instance && !has_memory(r->snapshot) && is_to_be_active(r))
        return xldrv_set_error(error, VIR_ERR_SNAPSHOT_REVERT_RISKY,
                               "must respawn guest to start inactive snapshot");
    return TRUE;
}

static gboolean find_then(Revert *r, GError **error)
{
    XmlconfDomain *then = r->snapshot->domain ? r->snapshot->domain : r->job->config ? r->job->config : r->job->live;
    XmlconfDomain *definition = r->snapshot->inactive ? r->snapshot->inactive : then;
    const GPtrArray *disks;

    r->then = xmlconf_domain_copy(then);
    r->definition = xmlconf_domain_copy(definition);
    set_name(r->then, r->job->name);
    set_name(r->definition, r->job->name);
    disks = xmlconf_domain_config(r->then)->disks;
    for (guint i = 0; disks && i < disks->len; i++) {
        if (!xldrv_volume_find(r->driver, disks->pdata[i], error))
            return FALSE;
    }
    return TRUE;
}

/* An image whose snapshot is applied takes away what others have on top of it. */
static gboolean check_images(const Revert *r, GError **error)
{
    g_autoptr(XmlconfDomain) now = xldrv_snapshot_config(r->driver, r->job, error);
    const GPtrArray *plans = r->snapshot->disks;

    for (guint i = 0; now && plans && i < plans->len; i++) {
        const XmlconfSnapshotDisk *plan = plans->pdata[i];
        const XmlconfDisk *current, *old;

        if (plan->location != XMLCONF_SNAPSHOT_INTERNAL)
            continue;
        old = xldrv_find_disk(r->then, plan->name, error);
        current = old ? xldrv_find_disk(now, plan->name, NULL) : NULL;
        if (!old)
            return FALSE;
        if (current && g_strcmp0(xmlconf_disk_source(current), xmlconf_disk_source(old)) != 0)
            return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                                   "cannot revert to snapshot '%s': disk '%s' was on '%s' then and is on '%s' now",
                                   r->snapshot->name, plan->name, xmlconf_disk_source(old),
                                   xmlconf_disk_source(current) ? xmlconf_disk_source(current) : "nothing");
    }
    return now && xldrv_snapshot_images_check(r->then, r->snapshot, error);
}

/* Each of the snapshot's disks goes on in a new overlay, so that the snapshot stays what it is. */
static gboolean plan_overlays(Revert *r, GError **error)
{
    const GPtrArray *plans = r->snapshot->disks;

    r->onto = xmlconf_snapshot_new();
    r->onto->name = g_strdup_printf("%" G_GINT64_FORMAT, g_get_real_time() / 1000);
    for (guint i = 0; plans && i < plans->len; i++) {
        const XmlconfSnapshotDisk *plan = plans->pdata[i];

        if (plan->location == XMLCONF_SNAPSHOT_EXTERNAL)
            xmlconf_snapshot_add_disk(r->onto, plan->name)->location = XMLCONF_SNAPSHOT_EXTERNAL;
    }
    return xldrv_snapshot_plan(r->onto, r->then, XMLCONF_SNAPSHOT_NO, FALSE, error) &&
           xldrv_overlays_make(NULL, r->then, r->onto, FALSE, error);
}

static gboolean open_memory(Revert *r, GError **error)
{
    g_autofree char *own = xldrv_snapshots_memory_path(r->driver, r->job, r->snapshot->name);
    const char *path = r->snapshot->memory == XMLCONF_SNAPSHOT_EXTERNAL ? r->snapshot->memory_file : own;

    if (!path || !xldrv_saved_open(path, FALSE, &r->saved, error) || !(r->live = xldrv_saved_parse(r->saved.xml, error)))
        return FALSE;
    if (strcmp(xmlconf_domain_config(r->live)->uuid, r->job->uuid_text))
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "saved memory '%s' is of another domain", path);
    set_name(r->live, r->job->name);
    return TRUE;
}

/* Where images were put together since, the snapshot's document says so and that of the memory does not. */
static void follow_images(const Revert *r)
{
    const GPtrArray *disks = r->live ? xmlconf_domain_config(r->live)->disks : NULL;

    for (guint i = 0; disks && i < disks->len; i++) {
        XmlconfDisk *disk = disks->pdata[i];
        const XmlconfDisk *then = xldrv_find_disk(r->then, disk->target, NULL);

        xmlconf_backing_clear(&disk->backing);
        if (then && (then->type == XMLCONF_DISK_FILE || then->type == XMLCONF_DISK_BLOCK) && xmlconf_disk_source(then))
            xldrv_disk_set_source(disk, then->type == XMLCONF_DISK_BLOCK, xmlconf_disk_source(then), then->format);
    }
}

static gboolean prepare(Revert *r, GError **error)
{
    if (!check_risk(r, error) || !xldrv_blockjob_check_domain(r->job, error))
        return FALSE;
    if (!r->job->config && !is_to_be_active(r))
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                               "transient domain needs to request run or pause to revert to inactive snapshot");
    if (!find_then(r, error) || !check_images(r, error) || (has_memory(r->snapshot) && !open_memory(r, error)))
        return FALSE;
    follow_images(r);
    return !xldrv_snapshot_has_disk(r->snapshot, XMLCONF_SNAPSHOT_EXTERNAL) || plan_overlays(r, error);
}

/* ---- doing */

static gboolean start(const Revert *r, guint64 owner, GError **error)
{
    const XldrvIncoming incoming = {
        .fd = r->saved.fd,
        .id = r->saved.id,
        .store = r->saved.store,
        .event_detail = VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT,
        .run_reason = VIR_DOMAIN_RUNNING_FROM_SNAPSHOT,
        .paused_reason = VIR_DOMAIN_PAUSED_FROM_SNAPSHOT,
        .paused_detail = VIR_DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT,
    };
    const XldrvStartOptions options = {
        .paused = is_to_be_paused(r), .owner = owner, .incoming = r->live ? &incoming : NULL};

    return xldrv_start(r->driver, r->job, r->live ? r->live : r->then, &options, error);
}

static gboolean change_definition(const Revert *r, GError **error)
{
    return !r->job->config || (xldrv_managed_remove(r->driver, r->job->name, error) &&
                               xldrv_set_definition(r->driver, r->job, r->definition, error));
}

static gboolean go_back(Revert *r, GError **error)
{
    XldrvJob *job = r->job;
    guint64 owner = job->owner;
    gboolean was_active = job->instance != NULL;

    if (job->instance)
        xldrv_stop(r->driver, job, VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT, VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT, TRUE);
    if (r->onto) {
        xldrv_overlays_put_in(r->then, r->onto);
        xldrv_overlays_put_in(r->definition, r->onto);
        if (r->live)
            xldrv_overlays_put_in(r->live, r->onto);
    }
    if (xldrv_snapshot_images_apply(r->then, r->snapshot, error) && change_definition(r, error) &&
        xldrv_moments_set_current(XLDRV_SNAPSHOTS, r->driver, job, r->snapshot->name, error) &&
        (!is_to_be_active(r) || start(r, owner, error))) {
        if (!job->instance && was_active)
            xldrv_forget_owner(r->driver, job);
        return TRUE;
    }
    xldrv_forget_owner(r->driver, job);
    if (!job->config)
        xldrv_domains_remove(r->driver->domains, job);
    return FALSE;
}

/* Bitmaps do not go back with their images, and would not know what that changed. */
static gboolean check_checkpoints(XldrvJob *job, GError **error)
{
    guint n = xldrv_moments_count(XLDRV_CHECKPOINTS, job);

    return !n || xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                                 "cannot revert domain with %u checkpoints: delete them first", n);
}

static gboolean revert(XldrvJob *job, const char *name, guint flags, GError **error)
{
    g_autoptr(XmlconfSnapshot) snapshot = xldrv_moments_find(XLDRV_SNAPSHOTS, job, name, error);
    g_auto(Revert) r = {.driver = xldrv_driver_get(), .job = job, .snapshot = snapshot, .flags = flags, .saved = {.fd = -1}};

    return snapshot && check_checkpoints(job, error) && prepare(&r, error) && go_back(&r, error);
}

GVariant *xldrv_handle_domain_revert_to_snapshot(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 1);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfSnapshot) snapshot = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;

    if (!xldrv_check_flags(flags, RUNNING | PAUSED | FORCE, G_STRFUNC, error) ||
        !xldrv_check_exclusive(flags, RUNNING | PAUSED,
                               "VIR_DOMAIN_SNAPSHOT_REVERT_RUNNING and VIR_DOMAIN_SNAPSHOT_REVERT_PAUSED", error))
        return NULL;
    snapshot = xldrv_args_moment(XLDRV_SNAPSHOTS, args, &domain, error);
    job = snapshot ? xldrv_job_begin(domain, "revert", error) : NULL;
    return job && revert(job, snapshot->name, flags, error) ? xldrv_reply_void() : NULL;
}
