/* Deleting snapshots. */
#include "config.h"

#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/snapshot.h"

/* The images are those that the domain has now, as far as they are those that it had. */
static gboolean delete_internal(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *snapshot, GError **error)
{
    const XldrvDeviceHost host = {driver, job->instance, job->uuid_text, job->name};
    g_autoptr(XmlconfDomain) config = xldrv_snapshot_config(driver, job, error);

    return config && xldrv_snapshot_images_drop(&host, config, snapshot, error);
}

static gboolean delete_one(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *snapshot, gboolean metadata_only,
                           GError **error)
{
    if (metadata_only)
        return TRUE;
    return xmlconf_snapshot_is_external(snapshot) ? xldrv_snapshot_merge(driver, job, snapshot, error)
                                                  : delete_internal(driver, job, snapshot, error);
}

GVariant *xldrv_handle_domain_snapshot_delete(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return xldrv_moments_delete(XLDRV_SNAPSHOTS, args, delete_one, G_STRFUNC, error);
}
