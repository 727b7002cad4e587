/* Making checkpoints, and redefining what is known of them. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/bitmaps.h"
#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/checkpoint.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/quiesce.h"
#include "libxldrv/driver/standstill.h"
#include "libxldrv/driver/wire.h"

#define REDEFINE VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE
#define QUIESCE  VIR_DOMAIN_CHECKPOINT_CREATE_QUIESCE
#define VALIDATE VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE

#define KIND XLDRV_CHECKPOINTS

/* As long as QEMU's are. */
#define BITMAP_NAME_MAX 1023

/* ---- what is asked for */

static XmlconfSnapshot *parse(const char *xml, gboolean redefine, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(XmlconfSnapshot) checkpoint = xmlconf_checkpoint_parse(xml, 0, &why);

    if (!checkpoint) {
        xldrv_set_xml_error(error, g_steal_pointer(&why));
        return NULL;
    }
    if (!checkpoint->name && redefine) {
        xldrv_set_error(error, VIR_ERR_XML_ERROR, "a redefined checkpoint must have a name");
        return NULL;
    }
    if (!checkpoint->name)
        checkpoint->name = g_strdup_printf("%" G_GINT64_FORMAT, g_get_real_time() / G_USEC_PER_SEC);
    return xldrv_moments_check_name(KIND, checkpoint->name, error) ? g_steal_pointer(&checkpoint) : NULL;
}

XmlconfSnapshot *xldrv_checkpoint_parse(const char *xml, GError **error)
{
    return parse(xml, FALSE, error);
}

/* ---- which disks */

static gboolean is_writable(const XmlconfDisk *disk)
{
    return xmlconf_disk_source(disk) && !disk->readonly;
}

/* What was asked of each disk of @config, by its target. NULL with an error. */
static GHashTable *index_asked(const GPtrArray *asked, XmlconfDomain *config, GError **error)
{
    g_autoptr(GHashTable) by_target = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; asked && i < asked->len; i++) {
        XmlconfSnapshotDisk *one = asked->pdata[i];
        const XmlconfDisk *disk = xldrv_find_disk(config, one->name, NULL);

        if (!disk)
            xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "no disk named '%s'", one->name);
        else if (one->location == XMLCONF_SNAPSHOT_BITMAP && !is_writable(disk))
            xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "disk '%s' is empty or readonly", one->name);
        else if (!g_hash_table_insert(by_target, disk->target, one))
            xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "disk '%s' specified twice", disk->target);
        else
            continue;
        return NULL;
    }
    return g_steal_pointer(&by_target);
}

/* Without disks all that can be written have bitmaps; with some, those alone. */
static gboolean align(XmlconfSnapshot *checkpoint, XmlconfDomain *config, GError **error)
{
    const GPtrArray *disks = xmlconf_domain_config(config)->disks;
    g_autoptr(GPtrArray) asked = g_steal_pointer(&checkpoint->disks);
    g_autoptr(GHashTable) by_target = index_asked(asked, config, error);

    if (!by_target)
        return FALSE;
    for (guint i = 0; disks && i < disks->len; i++) {
        const XmlconfDisk *disk = disks->pdata[i];
        const XmlconfSnapshotDisk *one = g_hash_table_lookup(by_target, disk->target);
        XmlconfSnapshotDisk *to = xmlconf_snapshot_add_disk(checkpoint, disk->target);

        to->location = one ? one->location : !asked && is_writable(disk) ? XMLCONF_SNAPSHOT_BITMAP : XMLCONF_SNAPSHOT_NO;
        if (to->location == XMLCONF_SNAPSHOT_BITMAP)
            to->bitmap = g_strdup(one && one->bitmap ? one->bitmap : checkpoint->name);
    }
    return TRUE;
}

const char *xldrv_checkpoint_next(const XmlconfSnapshot *checkpoint, guint *at, const char **bitmap)
{
    while (checkpoint->disks && *at < checkpoint->disks->len) {
        const XmlconfSnapshotDisk *disk = checkpoint->disks->pdata[(*at)++];

        if (disk->location != XMLCONF_SNAPSHOT_BITMAP)
            continue;
        if (bitmap)
            *bitmap = disk->bitmap ? disk->bitmap : checkpoint->name;
        return disk->name;
    }
    return NULL;
}

static gboolean check_disk(const XmlconfDisk *disk, const char *bitmap, GError **error)
{
    if (disk->type == XMLCONF_DISK_NETWORK || disk->shareable)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "checkpoint for disk '%s' is not supported: it is %s",
                               disk->target, disk->shareable ? "shared with other domains" : "on the network");
    if (strcmp(disk->format, "qcow2") != 0)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "checkpoint for disk '%s' unsupported for storage type %s (qcow2 images have bitmaps)",
                               disk->target, disk->format);
    if (!*bitmap || strlen(bitmap) > BITMAP_NAME_MAX || g_str_has_prefix(bitmap, XLDRV_BITMAP_OWN))
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "bitmap of disk '%s' cannot be called '%.100s'", disk->target,
                               bitmap);
    return xldrv_blockjob_check_disk(disk, error);
}

gboolean xldrv_checkpoint_plan(XldrvJob *job, XmlconfSnapshot *checkpoint, GError **error)
{
    const char *target, *bitmap;
    guint n = 0;

    if (!job->instance || (job->state != VIR_DOMAIN_RUNNING && job->state != VIR_DOMAIN_PAUSED))
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot create checkpoint for inactive domain");
    if (!xldrv_moments_check_free(KIND, job, checkpoint->name, error) || !align(checkpoint, job->live, error))
        return FALSE;
    for (guint at = 0; (target = xldrv_checkpoint_next(checkpoint, &at, &bitmap)); n++) {
        const XmlconfDisk *disk = xldrv_find_disk(job->live, target, error);

        if (!disk || !check_disk(disk, bitmap, error))
            return FALSE;
    }
    if (!n)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "domain must have at least one disk to perform checkpoints");
    checkpoint->creation_time = (guint64)(g_get_real_time() / G_USEC_PER_SEC);
    g_free(checkpoint->parent);
    checkpoint->parent = xldrv_moments_current(KIND, job);
    g_clear_pointer(&checkpoint->domain, xmlconf_domain_unref);
    checkpoint->domain = xmlconf_domain_ref(job->live);
    return TRUE;
}

/* ---- making it */

/* In the images of the first @max of its disks. How many it was done with. */
typedef gboolean (*BitmapFn)(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error);
static guint for_each(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *checkpoint, guint max, BitmapFn fn,
                      GError **error)
{
    const XldrvDeviceHost host = {driver, job->instance, job->uuid_text, job->name};
    g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(job->live);
    const char *target, *bitmap;
    guint done = 0;

    for (guint at = 0; done < max && (target = xldrv_checkpoint_next(checkpoint, &at, &bitmap)); done++) {
        const XmlconfDisk *disk = xldrv_find_disk(live, target, error);

        if (!disk || !fn(&host, disk, bitmap, error))
            return done;
    }
    return done;
}

static guint count(const XmlconfSnapshot *checkpoint)
{
    guint n = 0;

    for (guint at = 0; xldrv_checkpoint_next(checkpoint, &at, NULL);)
        n++;
    return n;
}

gboolean xldrv_checkpoint_take(XldrvDriver *driver, XldrvJob *job, XmlconfSnapshot *checkpoint, GError **error)
{
    guint n = count(checkpoint), made;

    if (!xldrv_moments_set_pending(KIND, driver, job, checkpoint->name, error) ||
        !xldrv_moments_put(KIND, driver, job, checkpoint, error))
        return FALSE;
    made = for_each(driver, job, checkpoint, n, xldrv_bitmap_add, error);
    if (made == n)
        return TRUE;
    for_each(driver, job, checkpoint, made, xldrv_bitmap_remove, NULL);
    xldrv_moments_remove(KIND, driver, job, checkpoint->name, NULL);
    xldrv_moments_set_pending(KIND, driver, job, NULL, NULL);
    return FALSE;
}

gboolean xldrv_checkpoint_keep(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *checkpoint, GError **error)
{
    return xldrv_moments_set_current(KIND, driver, job, checkpoint->name, error) &&
           xldrv_moments_set_pending(KIND, driver, job, NULL, error);
}

void xldrv_checkpoint_drop(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *checkpoint)
{
    g_autoptr(GError) why = NULL;

    if (!xldrv_checkpoint_remove_bitmaps(driver, job, checkpoint, &why) ||
        !xldrv_moments_remove(KIND, driver, job, checkpoint->name, &why) ||
        !xldrv_moments_set_pending(KIND, driver, job, NULL, &why))
        g_warning("checkpoint '%s' of domain '%s', which was not completed, is not removed: %s", checkpoint->name, job->name,
                  why->message);
}

void xldrv_checkpoint_recover(XldrvDriver *driver, XldrvJob *job)
{
    g_autofree char *name = xldrv_moments_pending(KIND, driver, job);
    g_autoptr(XmlconfSnapshot) checkpoint = name ? xldrv_moments_find(KIND, job, name, NULL) : NULL;

    if (checkpoint)
        xldrv_checkpoint_drop(driver, job, checkpoint);
    else if (name)
        xldrv_moments_set_pending(KIND, driver, job, NULL, NULL);
}

static gboolean make(XldrvDriver *driver, XldrvJob *job, XmlconfSnapshot *checkpoint, GError **error)
{
    g_auto(XldrvStandstill) standstill = {0};
    const char *target;
    gboolean ok;

    xldrv_standstill_init(&standstill, driver, job);
    for (guint at = 0; (target = xldrv_checkpoint_next(checkpoint, &at, NULL));)
        xldrv_standstill_add(&standstill, target);
    if (!xldrv_standstill_begin(&standstill, error))
        return FALSE;
    ok = xldrv_checkpoint_take(driver, job, checkpoint, error);
    /* A disk that does not go on at once does so later: what it has is there. */
    if (!xldrv_standstill_end(&standstill, ok ? error : NULL) && ok) {
        xldrv_checkpoint_drop(driver, job, checkpoint);
        return FALSE;
    }
    return ok && xldrv_checkpoint_keep(driver, job, checkpoint, error);
}

/* ---- redefining */

/* One that is known keeps what its document does not say. */
static gboolean complete(XldrvJob *job, XmlconfSnapshot *checkpoint, GError **error)
{
    g_autoptr(XmlconfSnapshot) known = xldrv_moments_find(KIND, job, checkpoint->name, NULL);

    if (!checkpoint->creation_time)
        return xldrv_set_error(error, VIR_ERR_XML_ERROR, "missing creationTime from existing checkpoint");
    if (known && known->domain && !checkpoint->domain)
        checkpoint->domain = xmlconf_domain_ref(known->domain);
    for (guint i = 0; checkpoint->disks && i < checkpoint->disks->len; i++)
        g_clear_pointer(&((XmlconfSnapshotDisk *)checkpoint->disks->pdata[i])->size, g_free);
    return !checkpoint->domain || align(checkpoint, checkpoint->domain, error);
}

static gboolean validate(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *checkpoint, GError **error)
{
    guint n = count(checkpoint);

    if (!job->instance)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot validate checkpoint of inactive domain");
    return for_each(driver, job, checkpoint, n, xldrv_bitmap_check, error) == n;
}

/* One that comes after the current one, or is the first, becomes that: so a tree is redefined from its root on. */
static gboolean is_next(XldrvJob *job, const XmlconfSnapshot *checkpoint)
{
    g_autofree char *current = xldrv_moments_current(KIND, job);

    return !current || g_strcmp0(current, checkpoint->parent) == 0;
}

static GVariant *redefine(XldrvDriver *driver, GVariant *args, guint flags, GError **error)
{
    g_autoptr(XmlconfSnapshot) checkpoint = parse(xldrv_args_string(args, 1), TRUE, error);
    g_autoptr(XldrvDomain) domain = checkpoint ? xldrv_args_domain(args, error) : NULL;
    g_autoptr(XldrvJobGuard) job = domain ? xldrv_job_begin(domain, "redefine a checkpoint of", error) : NULL;

    if (!job || !xldrv_moments_check_domain(KIND, job, checkpoint->domain, error) ||
        !xldrv_moments_check_parent(KIND, job, checkpoint, error) || !complete(job, checkpoint, error) ||
        (flags & VALIDATE && !validate(driver, job, checkpoint, error)) ||
        !xldrv_moments_put(KIND, driver, job, checkpoint, error) ||
        (is_next(job, checkpoint) && !xldrv_moments_set_current(KIND, driver, job, checkpoint->name, error)))
        return NULL;
    return xldrv_reply_moment(job, checkpoint->name);
}

/* ---- the procedure */

static gboolean check_flags(guint flags, const char *function, GError **error)
{
    if (!xldrv_check_flags(flags, REDEFINE | QUIESCE | VALIDATE, function, error) ||
        !xldrv_check_exclusive(flags, REDEFINE | QUIESCE,
                               "VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE and VIR_DOMAIN_CHECKPOINT_CREATE_QUIESCE", error))
        return FALSE;
    return !(flags & VALIDATE) || flags & REDEFINE ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                           "flag VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE requires VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE");
}

GVariant *xldrv_handle_domain_checkpoint_create_xml(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    guint flags = xldrv_args_u32(args, 2);
    g_autoptr(XmlconfSnapshot) checkpoint = NULL;
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvQuiesce) quiesce = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;

    if (!check_flags(flags, G_STRFUNC, error))
        return NULL;
    if (flags & REDEFINE)
        return redefine(driver, args, flags, error);
    checkpoint = parse(xldrv_args_string(args, 1), FALSE, error);
    domain = checkpoint ? xldrv_args_domain(args, error) : NULL;
    if (!domain || (flags & QUIESCE && !(quiesce = xldrv_quiesce_begin(call, domain, error))))
        return NULL;
    job = xldrv_job_begin(domain, "make a checkpoint of", error);
    return job && xldrv_checkpoint_plan(job, checkpoint, error) && make(driver, job, checkpoint, error)
               ? xldrv_reply_moment(job, checkpoint->name)
               : NULL;
}
