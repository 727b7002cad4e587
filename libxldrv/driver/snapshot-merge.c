/* Deleting external snapshots: an overlay's data comes into the image below it, and whoever was on the overlay is on that. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/bitmaps.h"
#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/chain.h"
#include "libxldrv/driver/change.h"
#include "libxldrv/driver/snapshot.h"
#include "libxldrv/host/qemu-img.h"

/* One disk. */
typedef struct {
    const char *target;
    const XmlconfDisk *disk;
    const char *overlay, *base, *base_format;
    gboolean base_is_block;
    guint depth; /* of the overlay in the disk's images; 0: the disk is on it */
    const char *upper, *upper_format; /* the image on top of the overlay; depth 0: NULL */
} Merge;

static const char *overlay_of(const XmlconfSnapshotDisk *plan)
{
    return plan->file ? plan->file : plan->dev;
}

static gboolean refuse(const XmlconfSnapshot *snapshot, const char *target, const char *why, GError **error)
{
    return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                           "cannot delete external snapshot '%s': disk '%s' %s (its metadata alone can be deleted)",
                           snapshot->name, target, why);
}

static gboolean find(const XmlconfSnapshot *snapshot, XmlconfDomain *now, const XmlconfSnapshotDisk *plan, Merge *m,
                     GError **error)
{
    const XmlconfDisk *disk = xldrv_find_disk(now, plan->name, error);
    const XmlconfDisk *then = disk && snapshot->domain ? xldrv_find_disk(snapshot->domain, plan->name, NULL) : NULL;
    int depth = disk && overlay_of(plan) ? xldrv_chain_find(disk, overlay_of(plan)) : -1;
    const char *base;

    if (!disk)
        return FALSE;
    if (depth < 0)
        return refuse(snapshot, plan->name, "is on other images by now", error);
    base = xldrv_chain_path(disk, (guint)depth + 1);
    if (!base || (then && then->type != XMLCONF_DISK_VOLUME && g_strcmp0(xmlconf_disk_source(then), base) != 0))
        return refuse(snapshot, plan->name, "has an overlay that is on another image by now", error);
    *m = (Merge){
        .target = plan->name,
        .disk = disk,
        .overlay = overlay_of(plan),
        .base = base,
        .base_format = xldrv_chain_format(disk, (guint)depth + 1),
        .base_is_block = g_str_has_prefix(base, "/dev/"),
        .depth = (guint)depth,
        .upper = depth ? xldrv_chain_path(disk, (guint)depth - 1) : NULL,
        .upper_format = depth ? xldrv_chain_format(disk, (guint)depth - 1) : NULL,
    };
    return TRUE;
}

/* ---- what is known of images follows them */

static gboolean follow(XmlconfDomain *domain, gconstpointer data, GError **error G_GNUC_UNUSED)
{
    const Merge *m = data;
    XmlconfDisk *disk = xldrv_find_disk(domain, m->target, NULL);

    if (disk && g_strcmp0(xmlconf_disk_source(disk), m->overlay) == 0)
        xldrv_disk_set_source(disk, m->base_is_block, m->base, m->base_format);
    return TRUE;
}

static void follow_copy(XmlconfDomain **domain, const Merge *m)
{
    XmlconfDomain *copy = *domain ? xmlconf_domain_copy(*domain) : NULL;

    if (!copy)
        return;
    follow(copy, m, NULL);
    xmlconf_domain_unref(*domain);
    *domain = copy;
}

/* Snapshots that were taken while the disk was on the overlay. */
static gboolean follow_in_snapshots(XldrvDriver *driver, XldrvJob *job, const Merge *m, GError **error)
{
    g_autoptr(GPtrArray) all = xldrv_moments_list(XLDRV_SNAPSHOTS, job);

    for (guint i = 0; i < all->len; i++) {
        g_autoptr(XmlconfSnapshot) copy = xmlconf_snapshot_copy(all->pdata[i]);
        const XmlconfDisk *disk = copy->domain ? xldrv_find_disk(copy->domain, m->target, NULL) : NULL;

        if (!disk || g_strcmp0(xmlconf_disk_source(disk), m->overlay) != 0)
            continue;
        follow_copy(&copy->domain, m);
        follow_copy(&copy->inactive, m);
        if (!xldrv_moments_put(XLDRV_SNAPSHOTS, driver, job, copy, error))
            return FALSE;
    }
    return TRUE;
}

/* ---- images that nobody uses */

static gboolean run(const char *const *argv, const Merge *m, GError **error)
{
    g_autoptr(GError) why = NULL;

    return xldrv_qemu_img(argv, NULL, &why) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot merge overlay '%s' of disk '%s' into '%s': %s", m->overlay,
                           m->target, m->base, why->message);
}

static gboolean merge_unused(const Merge *m, GError **error)
{
    const XldrvDeviceHost nobody = {0};
    const char *commit[] = {"commit", "-q", "-f", "qcow2", m->overlay, NULL};
    const char *rebase[] = {"rebase", "-q", "-u", "-f", m->upper_format, "-b", m->base, "-F", m->base_format, m->upper, NULL};

    return xldrv_bitmaps_prune(&nobody, m->disk, error) && run(commit, m, error) &&
           xldrv_bitmaps_carry_stored(m->disk, m->depth, error) && (!m->depth || run(rebase, m, error));
}

/* The definition is on the overlay, too, where it was the top of what runs. */
static gboolean merge_running(XldrvDriver *driver, XldrvJob *job, const Merge *m, GError **error)
{
    return xldrv_blockjob_commit(driver, job, m->target, m->depth, m->depth + 1, FALSE, 0, error) &&
           xldrv_blockjob_wait(driver, job, m->target, error) &&
           (m->depth || xldrv_blockjob_pivot(driver, job, m->target, error));
}

/* ---- all of them */

static gboolean merge_one(XldrvDriver *driver, XldrvJob *job, const Merge *m, GError **error)
{
    const XldrvImpact impact = {.config = job->config != NULL};

    if (!(job->instance ? merge_running(driver, job, m, error) : merge_unused(m, error)) ||
        !xldrv_change(driver, job, &impact, follow, m, error) || !follow_in_snapshots(driver, job, m, error))
        return FALSE;
    unlink(m->overlay);
    return TRUE;
}

/* Those of a domain that does not run are read from the images. */
static void learn_chains(XldrvJob *job, XmlconfDomain *config)
{
    const GPtrArray *disks = xmlconf_domain_config(config)->disks;

    for (guint i = 0; !job->instance && disks && i < disks->len; i++)
        xldrv_chain_learn(disks->pdata[i]);
}

gboolean xldrv_snapshot_merge(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *snapshot, GError **error)
{
    g_autoptr(GPtrArray) all = xldrv_moments_list(XLDRV_SNAPSHOTS, job);
    g_autoptr(XmlconfDomain) now = NULL;
    g_autoptr(GArray) merges = g_array_new(FALSE, FALSE, sizeof(Merge));

    if (!xldrv_blockjob_check_domain(job, error))
        return FALSE;
    if (xldrv_moments_children(all, snapshot->name) > 1)
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                               "cannot delete external snapshot '%s': it has several children, whose disks are on the same "
                               "images (its metadata alone can be deleted)",
                               snapshot->name);
    now = xldrv_snapshot_config(driver, job, error);
    if (!now)
        return FALSE;
    learn_chains(job, now);
    for (guint i = 0; snapshot->disks && i < snapshot->disks->len; i++) {
        const XmlconfSnapshotDisk *plan = snapshot->disks->pdata[i];
        Merge m;

        if (plan->location != XMLCONF_SNAPSHOT_EXTERNAL)
            continue;
        if (!find(snapshot, now, plan, &m, error))
            return FALSE;
        g_array_append_val(merges, m);
    }
    for (guint i = 0; i < merges->len; i++) {
        if (!merge_one(driver, job, &g_array_index(merges, Merge, i), error))
            return FALSE;
    }
    if (snapshot->memory_file)
        unlink(snapshot->memory_file);
    return TRUE;
}
