/* Deleting snapshots. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/snapshot.h"
#include "libxldrv/driver/wire.h"

#define CHILDREN      VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN
#define METADATA_ONLY VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY
#define CHILDREN_ONLY VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN_ONLY

/* The images are those that the domain has now, as far as they are those that it had. */
static gboolean delete_internal(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *snapshot, GError **error)
{
    const XldrvDeviceHost host = {driver, job->instance, job->uuid_text, job->name};
    g_autoptr(XmlconfDomain) config = xldrv_snapshot_config(driver, job, error);

    return config && xldrv_snapshot_images_drop(&host, config, snapshot, error);
}

static gboolean delete_one(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *snapshot, guint flags, GError **error)
{
    if (!(flags & METADATA_ONLY) &&
        !(xmlconf_snapshot_is_external(snapshot) ? xldrv_snapshot_merge(driver, job, snapshot, error)
                                                 : delete_internal(driver, job, snapshot, error)))
        return FALSE;
    return xldrv_snapshots_remove(driver, job, snapshot->name, error);
}

static guint depth_of(const GPtrArray *all, const XmlconfSnapshot *snapshot)
{
    guint n = 0;

    for (guint i = 0; i < all->len; i++)
        n += xldrv_snapshots_descends(all, snapshot, ((const XmlconfSnapshot *)all->pdata[i])->name);
    return n;
}

static gint compare_depths(gconstpointer a, gconstpointer b, gpointer all)
{
    guint left = depth_of(all, *(XmlconfSnapshot *const *)a), right = depth_of(all, *(XmlconfSnapshot *const *)b);

    return left > right ? -1 : left < right;
}

/* Those below it, the lowest first. */
static gboolean delete_children(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *snapshot, guint flags, GError **error)
{
    g_autoptr(GPtrArray) all = xldrv_snapshots_list(job);

    g_ptr_array_sort_with_data(all, compare_depths, all);
    for (guint i = 0; i < all->len; i++) {
        if (xldrv_snapshots_descends(all, all->pdata[i], snapshot->name) &&
            !delete_one(driver, job, all->pdata[i], flags, error))
            return FALSE;
    }
    return TRUE;
}

GVariant *xldrv_handle_domain_snapshot_delete(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    guint flags = xldrv_args_u32(args, 1);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfSnapshot) asked = NULL, snapshot = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;

    if (!xldrv_check_flags(flags, CHILDREN | METADATA_ONLY | CHILDREN_ONLY, G_STRFUNC, error) ||
        !xldrv_check_exclusive(flags, CHILDREN | CHILDREN_ONLY,
                               "VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN and VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN_ONLY", error))
        return NULL;
    asked = xldrv_args_snapshot(args, &domain, error);
    job = asked ? xldrv_job_begin(domain, "delete a snapshot of", error) : NULL;
    snapshot = job ? xldrv_snapshots_find(job, asked->name, error) : NULL; /* it may have changed while we waited */
    if (!snapshot || (flags & (CHILDREN | CHILDREN_ONLY) && !delete_children(driver, job, snapshot, flags, error)) ||
        (!(flags & CHILDREN_ONLY) && !delete_one(driver, job, snapshot, flags, error)))
        return NULL;
    return xldrv_reply_void();
}
