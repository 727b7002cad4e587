/* Procedures about disks: statistics, sizes. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/volume.h"
#include "libxldrv/driver/wire.h"

XmlconfDisk *xldrv_find_disk(XmlconfDomain *config, const char *name, GError **error)
{
    const XmlconfDomainConfig *typed = xmlconf_domain_config(config);

    for (guint i = 0; typed->disks && i < typed->disks->len; i++) {
        XmlconfDisk *disk = typed->disks->pdata[i];
        if (strcmp(disk->target, name) == 0 || g_strcmp0(xmlconf_disk_source(disk), name) == 0)
            return disk;
    }
    xldrv_set_error(error, VIR_ERR_INVALID_ARG, "domain '%s' has no disk '%s'", typed->name, name);
    return NULL;
}

static void add_up(XldrvDiskStats *sum, const XldrvDiskStats *stats)
{
    sum->read_requests += stats->read_requests;
    sum->read_bytes += stats->read_bytes;
    sum->read_ns += stats->read_ns;
    sum->write_requests += stats->write_requests;
    sum->write_bytes += stats->write_bytes;
    sum->write_ns += stats->write_ns;
    sum->flush_requests += stats->flush_requests;
    sum->flush_ns += stats->flush_ns;
    sum->errors += stats->errors;
}

static gboolean sum_of_disks(XldrvInstance *instance, const GPtrArray *disks, XldrvDiskStats *sum, GError **error)
{
    for (guint i = 0; disks && i < disks->len; i++) {
        XldrvDiskStats stats;
        if (!xldrv_disk_stats(instance, disks->pdata[i], &stats, error))
            return FALSE;
        add_up(sum, &stats);
    }
    return TRUE;
}

/* Of the disk that argument 1 names; an empty name is all disks together. */
static gboolean get_stats(GVariant *args, XldrvDiskStats *stats, GError **error)
{
    const char *name = xldrv_args_string(args, 1);
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XldrvInstance) instance = domain ? xldrv_domain_get_instance(domain, error) : NULL;
    g_autoptr(XmlconfDomain) config = NULL;
    const XmlconfDisk *disk;

    if (!instance)
        return FALSE;
    config = xldrv_domain_get_config(domain, FALSE);
    if (!*name) {
        *stats = (XldrvDiskStats){0};
        return sum_of_disks(instance, xmlconf_domain_config(config)->disks, stats, error);
    }
    disk = xldrv_find_disk(config, name, error);
    return disk && xldrv_disk_stats(instance, disk, stats, error);
}

GVariant *xldrv_handle_domain_block_stats(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    XldrvDiskStats stats;

    if (!get_stats(args, &stats, error))
        return NULL;
    return g_variant_new("(xxxxx)", stats.read_requests, stats.read_bytes, stats.write_requests, stats.write_bytes,
                         stats.errors);
}

/* Parameters of virDomainBlockStatsFlags, and where they come from. */
static const struct {
    const char *name;
    gsize offset;
} stats_params[] = {
    {VIR_DOMAIN_BLOCK_STATS_READ_BYTES, G_STRUCT_OFFSET(XldrvDiskStats, read_bytes)},
    {VIR_DOMAIN_BLOCK_STATS_READ_REQ, G_STRUCT_OFFSET(XldrvDiskStats, read_requests)},
    {VIR_DOMAIN_BLOCK_STATS_READ_TOTAL_TIMES, G_STRUCT_OFFSET(XldrvDiskStats, read_ns)},
    {VIR_DOMAIN_BLOCK_STATS_WRITE_BYTES, G_STRUCT_OFFSET(XldrvDiskStats, write_bytes)},
    {VIR_DOMAIN_BLOCK_STATS_WRITE_REQ, G_STRUCT_OFFSET(XldrvDiskStats, write_requests)},
    {VIR_DOMAIN_BLOCK_STATS_WRITE_TOTAL_TIMES, G_STRUCT_OFFSET(XldrvDiskStats, write_ns)},
    {VIR_DOMAIN_BLOCK_STATS_FLUSH_REQ, G_STRUCT_OFFSET(XldrvDiskStats, flush_requests)},
    {VIR_DOMAIN_BLOCK_STATS_FLUSH_TOTAL_TIMES, G_STRUCT_OFFSET(XldrvDiskStats, flush_ns)},
    {VIR_DOMAIN_BLOCK_STATS_ERRS, G_STRUCT_OFFSET(XldrvDiskStats, errors)},
};

GVariant *xldrv_handle_domain_block_stats_flags(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    int room = xldrv_args_i32(args, 2);
    int n = G_N_ELEMENTS(stats_params);
    GVariantBuilder params;
    XldrvDiskStats stats;

    if (!xldrv_check_flags(xldrv_args_u32(args, 3), VIR_TYPED_PARAM_STRING_OKAY, G_STRFUNC, error) ||
        !get_stats(args, &stats, error))
        return NULL;
    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    for (int i = 0; i < MIN(room, n); i++)
        xldrv_params_add(&params, stats_params[i].name,
                         g_variant_new_int64(G_STRUCT_MEMBER(gint64, &stats, stats_params[i].offset)));
    return g_variant_new("(a(sv)i)", &params, room > 0 ? MIN(room, n) : n);
}

/* One's own, in which a volume can be looked up that no running domain has found. */
static XmlconfDomain *copy_config(XldrvDomain *domain)
{
    g_autoptr(XmlconfDomain) config = xldrv_domain_get_config(domain, FALSE);

    return xmlconf_domain_copy(config);
}

GVariant *xldrv_handle_domain_get_block_info(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfDomain) config = NULL;
    g_autoptr(XldrvInstance) instance = NULL;
    XmlconfDisk *disk;
    XldrvImageInfo info;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    config = domain ? copy_config(domain) : NULL;
    disk = config ? xldrv_find_disk(config, xldrv_args_string(args, 1), error) : NULL;
    instance = disk ? xldrv_domain_get_instance(domain, NULL) : NULL;
    if (!disk || !(instance || xldrv_volume_find(xldrv_driver_get(), disk, error)) ||
        !xldrv_disk_measure(instance, disk, &info, error))
        return NULL;
    return g_variant_new("(ttt)", info.allocation, info.capacity, info.physical);
}

/* As many as a reply may have. */
#define PEEK_MAX 4194304

GVariant *xldrv_handle_domain_block_peek(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint64 offset = xldrv_args_u64(args, 2);
    guint32 bytes = xldrv_args_u32(args, 3);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfDomain) config = NULL;
    g_autofree guint8 *buffer = NULL;
    XmlconfDisk *disk;

    if (!xldrv_check_flags(xldrv_args_u32(args, 4), 0, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    config = domain ? copy_config(domain) : NULL;
    disk = config ? xldrv_find_disk(config, xldrv_args_string(args, 1), error) : NULL;
    if (!disk || !xldrv_volume_find(xldrv_driver_get(), disk, error))
        return NULL;
    if (xmlconf_disk_is_served(disk) || xmlconf_disk_actual_type(disk) == XMLCONF_DISK_NETWORK ||
        !xmlconf_disk_source(disk)) {
        xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "disk '%s' has no raw image that could be looked into",
                        disk->target);
        return NULL;
    }
    if (bytes > PEEK_MAX) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%u bytes are more than the %d of one call", bytes, PEEK_MAX);
        return NULL;
    }
    buffer = g_malloc(bytes);
    if (!xldrv_image_read(disk, offset, buffer, bytes, error))
        return NULL;
    return g_variant_new("(@ay)", g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, buffer, bytes, 1));
}

static gboolean resize(XldrvJob *job, const char *name, guint64 bytes, GError **error)
{
    const XldrvDeviceHost host = {xldrv_driver_get(), job->instance, job->uuid_text, job->name};
    const XmlconfDisk *disk;

    if (!job->instance)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    disk = xldrv_find_disk(job->live, name, error);
    return disk && xldrv_blockjob_check_disk(disk, error) && xldrv_disk_grow(&host, disk, bytes, error);
}

GVariant *xldrv_handle_domain_block_resize(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 3);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    guint64 bytes;

    if (!xldrv_check_flags(flags, VIR_DOMAIN_BLOCK_RESIZE_BYTES, G_STRFUNC, error))
        return NULL;
    g_variant_get_child(args, 2, "t", &bytes);
    if (!(flags & VIR_DOMAIN_BLOCK_RESIZE_BYTES) && !g_uint64_checked_mul(&bytes, bytes, 1024)) {
        xldrv_set_error(error, VIR_ERR_OVERFLOW, "size of disk '%s' is too large", xldrv_args_string(args, 1));
        return NULL;
    }
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "resize disk", error) : NULL;
    if (!job || !resize(job, xldrv_args_string(args, 1), bytes, error))
        return NULL;
    return xldrv_reply_void();
}

/* ---- errors */

static int code_of(guint held_error)
{
    return held_error == ENOSPC ? VIR_DOMAIN_DISK_ERROR_NO_SPACE : VIR_DOMAIN_DISK_ERROR_UNSPEC;
}

/* Those that wait after an error. */
GVariant *xldrv_handle_domain_get_disk_errors(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint room = xldrv_args_u32(args, 1), n = 0;
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvInstance) instance = NULL;
    g_autoptr(XmlconfDomain) config = NULL;
    const GPtrArray *disks;
    GVariantBuilder errors;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    instance = domain ? xldrv_domain_get_instance(domain, error) : NULL;
    if (!instance)
        return NULL;
    config = xldrv_domain_get_config(domain, FALSE);
    disks = xmlconf_domain_config(config)->disks;
    g_variant_builder_init(&errors, G_VARIANT_TYPE("a(si)"));
    for (guint i = 0; room && disks && i < disks->len && n < room; i++) {
        const XmlconfDisk *disk = disks->pdata[i];
        XldrvDiskStats stats;

        if (!xldrv_disk_stats(instance, disk, &stats, NULL) || !stats.held)
            continue;
        g_variant_builder_add(&errors, "(si)", disk->target, code_of(stats.held_error));
        n++;
    }
    return g_variant_new("(a(si)i)", &errors, room ? n : disks ? disks->len : 0); /* without room, how much is needed */
}
