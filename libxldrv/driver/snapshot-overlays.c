/* External snapshots of disks: a new image on top of the one that a disk has, and the disk on the new one.
 *
 * An overlay that nothing was written to reads as what it is on. So the documents say first that the disk is on it, on the
 * host's disk too, and then it is: a daemon that is killed in between leaves a domain that writes to the lower image, whose
 * disk is on the overlay from the next time on that it is opened, and nothing is lost. */
#include "config.h"

#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/bitmaps.h"
#include "libxldrv/driver/chain.h"
#include "libxldrv/driver/change.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/snapshot.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/host/qemu-img.h"

static const char *path_of(const XmlconfSnapshotDisk *plan)
{
    return plan->file ? plan->file : plan->dev;
}

/* The external disks of a snapshot, one after the other; NULL: no more. */
static const XmlconfSnapshotDisk *next(const XmlconfSnapshot *snapshot, guint *at)
{
    while (snapshot->disks && *at < snapshot->disks->len) {
        const XmlconfSnapshotDisk *plan = snapshot->disks->pdata[(*at)++];

        if (plan->location == XMLCONF_SNAPSHOT_EXTERNAL)
            return plan;
    }
    return NULL;
}

/* ---- making them */

static gboolean make(XldrvInstance *instance, const XmlconfDisk *disk, const XmlconfSnapshotDisk *plan, GError **error)
{
    XldrvImageInfo info;
    g_autofree char *size = NULL;
    g_autoptr(GError) why = NULL;

    if (!xldrv_disk_measure(instance, disk, &info, error))
        return FALSE;
    size = g_strdup_printf("%" G_GUINT64_FORMAT, info.capacity);
    /* Unchecked, because whoever uses the lower image has locked it. */
    const char *argv[] = {"create", "-q", "-u", "-f", plan->format, "-F", xldrv_storage_format(disk), "-b",
                          xmlconf_disk_source(disk), path_of(plan), size, NULL};
    return xldrv_qemu_img(argv, NULL, &why) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot create overlay '%s' of disk '%s': %s", path_of(plan),
                           disk->target, why->message);
}

/* Up to the one at @end. */
static void remove_until(const XmlconfSnapshot *snapshot, guint end)
{
    const XmlconfSnapshotDisk *plan;

    for (guint at = 0; (plan = next(snapshot, &at)) && at <= end;) {
        if (plan->file)
            unlink(plan->file);
    }
}

gboolean xldrv_overlays_make(XldrvInstance *instance, XmlconfDomain *config, const XmlconfSnapshot *snapshot, gboolean reuse,
                             GError **error)
{
    const XmlconfSnapshotDisk *plan;

    for (guint at = 0; !reuse && (plan = next(snapshot, &at));) {
        const XmlconfDisk *disk = xldrv_find_disk(config, plan->name, error);

        if (disk && make(instance, disk, plan, error))
            continue;
        remove_until(snapshot, at);
        return FALSE;
    }
    return TRUE;
}

void xldrv_overlays_remove(const XmlconfSnapshot *snapshot, gboolean reuse)
{
    if (!reuse)
        remove_until(snapshot, G_MAXUINT);
}

static gboolean has_source(XmlconfDomain *domain, const XmlconfSnapshotDisk *plan)
{
    const XmlconfDisk *disk = domain ? xldrv_find_disk(domain, plan->name, NULL) : NULL;

    return disk && g_strcmp0(xmlconf_disk_source(disk), path_of(plan)) == 0;
}

gboolean xldrv_overlays_are_used(XmlconfDomain *config, const XmlconfSnapshot *snapshot)
{
    const XmlconfSnapshotDisk *plan;

    for (guint at = 0; (plan = next(snapshot, &at));) {
        if (!has_source(config, plan))
            return FALSE;
    }
    return TRUE;
}

static gboolean is_used(const XldrvJob *job, const XmlconfSnapshotDisk *plan)
{
    return (job->instance && has_source(job->live, plan)) || has_source(job->config, plan);
}

void xldrv_overlays_remove_unused(XldrvJob *job, const XmlconfSnapshot *snapshot)
{
    const XmlconfSnapshotDisk *plan;

    for (guint at = 0; (plan = next(snapshot, &at));) {
        if (plan->file && !is_used(job, plan))
            unlink(plan->file);
    }
}

/* ---- their bitmaps */

/* Of the first @n. */
static void take_back(XmlconfDomain *config, const XmlconfSnapshot *snapshot, guint n)
{
    const XmlconfSnapshotDisk *plan;

    for (guint at = 0; n > 0 && (plan = next(snapshot, &at)); n--) {
        const XmlconfDisk *disk = xldrv_find_disk(config, plan->name, NULL);

        if (disk)
            xldrv_bitmaps_take_back(disk, path_of(plan));
    }
}

void xldrv_overlays_take_back(XldrvJob *job, XmlconfDomain *config, const XmlconfSnapshot *snapshot)
{
    const XmlconfSnapshotDisk *plan;

    for (guint at = 0; (plan = next(snapshot, &at));) {
        const XmlconfDisk *disk = is_used(job, plan) ? NULL : xldrv_find_disk(config, plan->name, NULL);

        if (disk)
            xldrv_bitmaps_take_back(disk, path_of(plan));
    }
}

/* What marks writes to the images that they are put on does so to them, too. All or nothing. */
static gboolean begin_bitmaps(XmlconfDomain *config, const XmlconfSnapshot *snapshot, GError **error)
{
    const XmlconfSnapshotDisk *plan;
    guint n = 0;

    for (guint at = 0; (plan = next(snapshot, &at)); n++) {
        const XmlconfDisk *disk = xldrv_find_disk(config, plan->name, error);

        if (disk && xldrv_bitmaps_begin(disk, path_of(plan), error))
            continue;
        take_back(config, snapshot, n);
        return FALSE;
    }
    return TRUE;
}

/* ---- using them */

gboolean xldrv_overlays_put_in(XmlconfDomain *domain, const XmlconfSnapshot *snapshot)
{
    const XmlconfSnapshotDisk *plan;

    for (guint at = 0; (plan = next(snapshot, &at));) {
        XmlconfDisk *disk = xldrv_find_disk(domain, plan->name, NULL);

        if (disk)
            xldrv_disk_set_source(disk, plan->dev != NULL, path_of(plan), plan->format);
    }
    return TRUE;
}

typedef struct {
    const XmlconfSnapshot *snapshot;
    XmlconfDomain *before; /* what the disks were */
} Move;

static gboolean is_ahead(XmlconfDomain *config, XmlconfDomain *live, const XmlconfSnapshotDisk *plan)
{
    return has_source(config, plan) && !has_source(live, plan);
}

typedef struct {
    const XmlconfSnapshot *snapshot;
    XmlconfDomain *live;
} Behind;

static gboolean put_back(XmlconfDomain *domain, gconstpointer data, GError **error G_GNUC_UNUSED)
{
    const Behind *b = data;
    const XmlconfSnapshotDisk *plan;

    for (guint at = 0; (plan = next(b->snapshot, &at));) {
        const XmlconfDisk *now = xldrv_find_disk(b->live, plan->name, NULL);
        XmlconfDisk *disk = xldrv_find_disk(domain, plan->name, NULL);

        if (now && disk && is_ahead(domain, b->live, plan) && xmlconf_disk_source(now))
            xldrv_disk_set_source(disk, now->type == XMLCONF_DISK_BLOCK, xmlconf_disk_source(now), now->format ? now->format : "raw");
    }
    return TRUE;
}

gboolean xldrv_overlays_put_back(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *snapshot, GError **error)
{
    const XldrvImpact impact = {.config = TRUE};
    const Behind behind = {snapshot, job->live};
    const XmlconfSnapshotDisk *plan;
    gboolean any = FALSE;

    for (guint at = 0; job->instance && job->config && (plan = next(snapshot, &at));)
        any |= is_ahead(job->config, job->live, plan);
    return !any || xldrv_change(driver, job, &impact, put_back, &behind, error);
}

/* Of a definition whose disk is on something else by now, only the others. */
static gboolean move(XmlconfDomain *domain, gconstpointer data, GError **error G_GNUC_UNUSED)
{
    const Move *m = data;
    const XmlconfSnapshotDisk *plan;

    for (guint at = 0; (plan = next(m->snapshot, &at));) {
        XmlconfDisk *disk = xldrv_find_disk(domain, plan->name, NULL);
        const XmlconfDisk *before = xldrv_find_disk(m->before, plan->name, NULL);

        if (disk && before && xldrv_disk_same_source(disk, before))
            xldrv_disk_set_source(disk, plan->dev != NULL, path_of(plan), plan->format);
    }
    return TRUE;
}

/* What images are on belongs to what runs. */
static gboolean learn(XmlconfDomain *domain, gconstpointer snapshot, GError **error G_GNUC_UNUSED)
{
    const XmlconfSnapshotDisk *plan;

    for (guint at = 0; (plan = next(snapshot, &at));) {
        XmlconfDisk *disk = xldrv_find_disk(domain, plan->name, NULL);

        if (disk)
            xldrv_chain_learn(disk);
    }
    return TRUE;
}

typedef struct {
    XldrvDriver *driver;
    XldrvJob *job;
    const XmlconfSnapshot *snapshot;
    XldrvDeviceHost host;
    XmlconfDomain *live, *config; /* what they were; or NULL */
} Switch;

/* The snapshot's disks of @domain, the first @n of them, by @fn. How many it was done with. */
typedef gboolean (*DiskFn)(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error);
static guint for_disks(const Switch *s, XmlconfDomain *domain, guint n, DiskFn fn, GError **error)
{
    const XmlconfSnapshotDisk *plan;
    guint done = 0;

    for (guint at = 0; done < n && (plan = next(s->snapshot, &at));) {
        const XmlconfDisk *disk = xldrv_find_disk(domain, plan->name, error);

        if (!disk || !fn(&s->host, disk, error))
            break;
        done++;
    }
    return done;
}

static guint count(const XmlconfSnapshot *snapshot)
{
    guint n = 0;

    for (guint at = 0; next(snapshot, &at);)
        n++;
    return n;
}

/* The guest's requests wait for an image that cannot be had now: it is tried again and again, as after any loss. */
static void continue_all(const Switch *s, XmlconfDomain *domain, guint n)
{
    g_autoptr(GError) why = NULL;

    if (for_disks(s, domain, n, xldrv_disk_continue, &why) < n) {
        g_warning("%s", why->message);
        xldrv_react_to_instance(s->job->instance, HV_EVENT_IMAGE_LOST, 0, s->job);
    }
}

static gboolean use_running(Switch *s, const XldrvImpact *impact, GError **error)
{
    guint n = count(s->snapshot), parked, switched;
    const Move m = {s->snapshot, s->live};
    g_autoptr(GError) why = NULL;

    parked = for_disks(s, s->live, n, xldrv_disk_suspend, error);
    if (parked < n || !begin_bitmaps(s->live, s->snapshot, error)) {
        continue_all(s, s->live, parked);
        return FALSE;
    }
    if (!xldrv_change(s->driver, s->job, impact, move, &m, error)) {
        take_back(s->live, s->snapshot, n);
        continue_all(s, s->live, n);
        return FALSE;
    }
    switched = for_disks(s, s->job->live, n, xldrv_disk_continue, error);
    if (switched == n)
        return TRUE;
    for_disks(s, s->job->live, switched, xldrv_disk_suspend, NULL);
    if (!xldrv_change_back(s->driver, s->job, s->live, s->config, &why))
        g_warning("%s", why->message);
    take_back(s->live, s->snapshot, n);
    continue_all(s, s->live, n);
    return FALSE;
}

static gboolean use_stopped(Switch *s, XmlconfDomain *paths, const XldrvImpact *impact, GError **error)
{
    const Move m = {s->snapshot, s->config};

    if (!begin_bitmaps(paths, s->snapshot, error))
        return FALSE;
    if (xldrv_change(s->driver, s->job, impact, move, &m, error))
        return TRUE;
    take_back(paths, s->snapshot, count(s->snapshot));
    return FALSE;
}

static XmlconfDomain *ref(XmlconfDomain *domain)
{
    return domain ? xmlconf_domain_ref(domain) : NULL;
}

gboolean xldrv_overlays_use(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *paths, const XmlconfSnapshot *snapshot,
                            GError **error)
{
    const XldrvImpact impact = {.live = job->instance != NULL, .config = job->config != NULL}, live = {.live = TRUE};
    g_autoptr(XmlconfDomain) old_live = ref(job->instance ? job->live : NULL), old_config = ref(job->config);
    g_autoptr(GError) why = NULL;
    Switch s = {.driver = driver,
                .job = job,
                .snapshot = snapshot,
                .host = {driver, job->instance, job->uuid_text, job->name},
                .live = old_live,
                .config = old_config};

    if (!count(snapshot))
        return TRUE;
    if (!job->instance)
        return use_stopped(&s, paths, &impact, error);
    if (!use_running(&s, &impact, error))
        return FALSE;
    /* The disks are on them by now: what cannot be noted does not undo that. */
    if (!xldrv_change(driver, job, &live, learn, snapshot, &why))
        g_warning("what the disks of domain '%s' are on now cannot be noted: %s", job->name, why->message);
    return TRUE;
}
