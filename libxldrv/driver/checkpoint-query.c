/* Looking at checkpoints, and deleting them. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/bitmaps.h"
#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/checkpoint.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/snapshot.h"
#include "libxldrv/driver/wire.h"

#define KIND XLDRV_CHECKPOINTS

/* ---- lists */

#define LIST_FLAGS                                                                                 \
    (VIR_DOMAIN_CHECKPOINT_LIST_DESCENDANTS | VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL |             \
     VIR_DOMAIN_CHECKPOINT_LIST_LEAVES | VIR_DOMAIN_CHECKPOINT_LIST_NO_LEAVES)

/* By the names that snapshots have for the same. */
static guint translate(guint flags)
{
    static const struct {
        guint from, to;
    } rows[] = {
        {VIR_DOMAIN_CHECKPOINT_LIST_DESCENDANTS, VIR_DOMAIN_SNAPSHOT_LIST_DESCENDANTS},
        {VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL, VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL},
        {VIR_DOMAIN_CHECKPOINT_LIST_LEAVES, VIR_DOMAIN_SNAPSHOT_LIST_LEAVES},
        {VIR_DOMAIN_CHECKPOINT_LIST_NO_LEAVES, VIR_DOMAIN_SNAPSHOT_LIST_NO_LEAVES},
    };
    guint translated = 0;

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        translated |= flags & rows[i].from ? rows[i].to : 0;
    return translated;
}

static GVariant *list(GVariant *args, gboolean below, const char *function, GError **error)
{
    guint flags = xldrv_args_u32(args, 2);
    const XldrvMomentQuery query = {.kind = KIND, .below = below, .flags = translate(flags)};

    return xldrv_check_flags(flags, LIST_FLAGS, function, error) ? xldrv_reply_moments(&query, args, error) : NULL;
}

GVariant *xldrv_handle_domain_list_all_checkpoints(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return list(args, FALSE, G_STRFUNC, error);
}

GVariant *xldrv_handle_domain_checkpoint_list_all_children(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return list(args, TRUE, G_STRFUNC, error);
}

GVariant *xldrv_handle_domain_checkpoint_lookup_by_name(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error) ? xldrv_reply_moment_named(KIND, args, error) : NULL;
}

GVariant *xldrv_handle_domain_checkpoint_get_parent(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error) ? xldrv_reply_moment_parent(KIND, args, error) : NULL;
}

/* ---- documents */

/* What a backup from there on would have now. Of a disk that it is not known of nothing is said. */
static void measure(const XldrvDeviceHost *host, XmlconfDomain *live, XmlconfSnapshotDisk *of, const char *name)
{
    const XmlconfDisk *disk = xldrv_find_disk(live, of->name, NULL);
    guint64 bytes = 0;

    if (!disk || !xldrv_bitmap_merge(host, disk, of->bitmap ? of->bitmap : name, XLDRV_BITMAP_SIZE, NULL))
        return;
    if (xldrv_bitmap_count(host, disk, XLDRV_BITMAP_SIZE, &bytes, NULL))
        of->size = g_strdup_printf("%" G_GUINT64_FORMAT, bytes);
    xldrv_bitmap_remove(host, disk, XLDRV_BITMAP_SIZE, NULL);
}

/* A copy that tells the sizes. */
static XmlconfSnapshot *measure_all(XldrvDomain *domain, const XmlconfSnapshot *checkpoint, GError **error)
{
    g_autoptr(XldrvJobGuard) job = xldrv_job_begin(domain, "measure a checkpoint of", error);
    const XldrvDeviceHost host = {xldrv_driver_get(), job ? job->instance : NULL, domain->uuid_text, job ? job->name : NULL};
    XmlconfSnapshot *copy;

    if (!job)
        return NULL;
    if (!job->instance) {
        xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot compute checkpoint size for inactive domain");
        return NULL;
    }
    copy = xmlconf_snapshot_copy(checkpoint);
    for (guint i = 0; copy->disks && i < copy->disks->len; i++) {
        XmlconfSnapshotDisk *disk = copy->disks->pdata[i];

        if (disk->location == XMLCONF_SNAPSHOT_BITMAP)
            measure(&host, job->live, disk, copy->name);
    }
    return copy;
}

GVariant *xldrv_handle_domain_checkpoint_get_xml_desc(XldrvCall *call, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 1);
    gboolean secure = (flags & VIR_DOMAIN_CHECKPOINT_XML_SECURE) != 0;
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfSnapshot) checkpoint = NULL, measured = NULL;
    g_autoptr(GError) why = NULL;
    g_autofree char *xml = NULL;

    if (!xldrv_check_flags(flags,
                           VIR_DOMAIN_CHECKPOINT_XML_SECURE | VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN | VIR_DOMAIN_CHECKPOINT_XML_SIZE,
                           G_STRFUNC, error))
        return NULL;
    if (secure && xldrv_client_is_readonly(xldrv_call_client(call))) {
        xldrv_set_error(error, VIR_ERR_OPERATION_DENIED, "virDomainCheckpointGetXMLDesc with secure flag");
        return NULL;
    }
    checkpoint = xldrv_args_moment(KIND, args, &domain, error);
    if (!checkpoint || (flags & VIR_DOMAIN_CHECKPOINT_XML_SIZE && !(measured = measure_all(domain, checkpoint, error))))
        return NULL;
    xml = xmlconf_snapshot_format(measured ? measured : checkpoint,
                                  (secure ? XMLCONF_FORMAT_SECURE : 0) |
                                      (flags & VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN ? XMLCONF_FORMAT_NO_DOMAIN : 0),
                                  &why);
    if (!xml)
        xldrv_set_xml_error(error, g_steal_pointer(&why));
    return xml ? xldrv_reply_string(xml) : NULL;
}

/* ---- deleting */

/* A disk that is gone, or on an image that cannot have bitmaps, has nothing to be removed. */
gboolean xldrv_checkpoint_remove_bitmaps(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *checkpoint, GError **error)
{
    const XldrvDeviceHost host = {driver, job->instance, job->uuid_text, job->name};
    g_autoptr(XmlconfDomain) config = xldrv_snapshot_config(driver, job, error);
    const char *target, *bitmap;

    for (guint at = 0; config && (target = xldrv_checkpoint_next(checkpoint, &at, &bitmap));) {
        const XmlconfDisk *disk = xldrv_find_disk(config, target, NULL);

        if (disk && xmlconf_disk_source(disk) && disk->type != XMLCONF_DISK_NETWORK && strcmp(disk->format, "qcow2") == 0 &&
            !xldrv_bitmap_remove_all(&host, disk, bitmap, error))
            return FALSE;
    }
    return config != NULL;
}

/* A job that takes images out of a chain has bitmaps in its hands; a backup has copies. */
static gboolean check_jobs(const XldrvJob *job, const XmlconfSnapshot *checkpoint, GError **error)
{
    const char *target;

    for (guint at = 0; job->instance && (target = xldrv_checkpoint_next(checkpoint, &at, NULL));) {
        const XmlconfDisk *disk = xldrv_find_disk(job->live, target, NULL);

        if (disk && xldrv_blockjob_type(disk) != VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP && !xldrv_blockjob_check_disk(disk, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean delete_one(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *checkpoint, gboolean metadata_only,
                           GError **error)
{
    return metadata_only ||
           (check_jobs(job, checkpoint, error) && xldrv_checkpoint_remove_bitmaps(driver, job, checkpoint, error));
}

GVariant *xldrv_handle_domain_checkpoint_delete(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return xldrv_moments_delete(KIND, args, delete_one, G_STRFUNC, error);
}
