/* Procedures about limits of disks. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/change.h"
#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/handlers.h"

/* Those of one class replace each other: who sets one of them means all. */
typedef enum { BYTES, IOPS, BYTES_MAX, IOPS_MAX, N_CLASSES } Class;

static const struct {
    const char *name;
    gsize offset;
    Class class;
} params[] = {
#define ROW(name, member, class) {name, G_STRUCT_OFFSET(XmlconfIotune, member), class}
    ROW(VIR_DOMAIN_BLOCK_IOTUNE_TOTAL_BYTES_SEC, total_bytes_sec, BYTES),
    ROW(VIR_DOMAIN_BLOCK_IOTUNE_READ_BYTES_SEC, read_bytes_sec, BYTES),
    ROW(VIR_DOMAIN_BLOCK_IOTUNE_WRITE_BYTES_SEC, write_bytes_sec, BYTES),
    ROW(VIR_DOMAIN_BLOCK_IOTUNE_TOTAL_IOPS_SEC, total_iops_sec, IOPS),
    ROW(VIR_DOMAIN_BLOCK_IOTUNE_READ_IOPS_SEC, read_iops_sec, IOPS),
    ROW(VIR_DOMAIN_BLOCK_IOTUNE_WRITE_IOPS_SEC, write_iops_sec, IOPS),
    ROW(VIR_DOMAIN_BLOCK_IOTUNE_TOTAL_BYTES_SEC_MAX, total_bytes_sec_max, BYTES_MAX),
    ROW(VIR_DOMAIN_BLOCK_IOTUNE_READ_BYTES_SEC_MAX, read_bytes_sec_max, BYTES_MAX),
    ROW(VIR_DOMAIN_BLOCK_IOTUNE_WRITE_BYTES_SEC_MAX, write_bytes_sec_max, BYTES_MAX),
    ROW(VIR_DOMAIN_BLOCK_IOTUNE_TOTAL_IOPS_SEC_MAX, total_iops_sec_max, IOPS_MAX),
    ROW(VIR_DOMAIN_BLOCK_IOTUNE_READ_IOPS_SEC_MAX, read_iops_sec_max, IOPS_MAX),
    ROW(VIR_DOMAIN_BLOCK_IOTUNE_WRITE_IOPS_SEC_MAX, write_iops_sec_max, IOPS_MAX),
#undef ROW
};

static guint64 *at(XmlconfIotune *tune, gsize row)
{
    return G_STRUCT_MEMBER_P(tune, params[row].offset);
}

/* ---- set */

typedef struct {
    const char *disk;
    GVariant *list; /* a(sv) */
} Set;

static gsize find_row(const char *name)
{
    gsize row = 0;

    while (row < G_N_ELEMENTS(params) && strcmp(params[row].name, name) != 0)
        row++;
    return row;
}

static gboolean take_value(XmlconfIotune *tune, gsize row, GVariant *value, GError **error)
{
    if (!g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "invalid type for parameter '%s', expected 'ullong'",
                               params[row].name);
    *at(tune, row) = g_variant_get_uint64(value);
    return *at(tune, row) <= XMLCONF_IOTUNE_MAX ||
           xldrv_set_error(error, VIR_ERR_OVERFLOW, "parameter '%s' is above %" G_GINT64_FORMAT, params[row].name,
                           (gint64)XMLCONF_IOTUNE_MAX);
}

typedef struct {
    XmlconfIotune tune;
    gboolean seen[N_CLASSES];
} Wanted;

static gboolean take(gpointer data, const char *name, GVariant *value, GError **error)
{
    Wanted *wanted = data;
    gsize row = find_row(name);

    if (row == G_N_ELEMENTS(params))
        return xldrv_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "parameter '%s' not supported", name);
    wanted->seen[params[row].class] = TRUE;
    return take_value(&wanted->tune, row, value, error);
}

/* The limits of @disk with those of @list in the place of theirs. */
static gboolean merge(XmlconfDisk *disk, GVariant *list, GError **error)
{
    g_autoptr(GError) why = NULL;
    Wanted wanted = {0};

    if (!xldrv_params_read(list, take, &wanted, error))
        return FALSE;
    /* A burst cannot outlive the limit that it goes beyond. */
    for (gsize row = 0; row < G_N_ELEMENTS(params); row++) {
        Class class = params[row].class;

        if (wanted.seen[class] ||
            (class >= BYTES_MAX && wanted.seen[class - BYTES_MAX] && !*at(&wanted.tune, row - 6)))
            *at(&disk->iotune, row) = *at(&wanted.tune, row);
    }
    return xmlconf_disk_check_iotune(disk, &why) ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%s", why->message);
}

/* On a copy of the document that is the caller's. */
static gboolean change_document(XmlconfDomain *domain, gconstpointer data, GError **error)
{
    const Set *set = data;
    XmlconfDisk *disk = xldrv_find_disk(domain, set->disk, error);

    return disk && merge(disk, set->list, error);
}

static gboolean set_live(XldrvJob *job, const Set *set, GError **error)
{
    g_autoptr(XmlconfDomain) copy = xmlconf_domain_copy(job->live);
    XmlconfDisk *disk;

    if (!change_document(copy, set, error))
        return FALSE;
    disk = xldrv_find_disk(copy, set->disk, error);
    return xldrv_disk_set_limits(job->instance, disk, error);
}

static void tell(XldrvJob *job, const XmlconfDisk *disk)
{
    GVariantBuilder list;

    if (!disk)
        return;
    g_variant_builder_init(&list, G_VARIANT_TYPE("a(sv)"));
    xldrv_params_add(&list, VIR_DOMAIN_TUNABLE_BLKDEV_DISK, g_variant_new_string(disk->alias ? disk->alias : disk->target));
    for (gsize row = 0; row < G_N_ELEMENTS(params); row++) {
        g_autofree char *name = g_strconcat("blkdeviotune.", params[row].name, NULL);

        xldrv_params_add(&list, name, g_variant_new_uint64(*at((XmlconfIotune *)&disk->iotune, row)));
    }
    xldrv_event_tunable(xldrv_driver_get()->events, job, g_variant_builder_end(&list));
}

GVariant *xldrv_handle_domain_set_block_io_tune(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    const guint known = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG;
    guint flags = xldrv_args_u32(args, 3);
    g_autoptr(GVariant) list = g_variant_get_child_value(args, 2);
    const Set set = {.disk = xldrv_args_string(args, 1), .list = list};
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    XldrvImpact impact;

    if (!xldrv_check_flags(flags, known, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "limit disk", error) : NULL;
    if (!job || !xldrv_impact(job, flags, &impact, error))
        return NULL;
    if (impact.config) { /* refused before anything is done */
        g_autoptr(XmlconfDomain) copy = xmlconf_domain_copy(job->config);

        if (!change_document(copy, &set, error))
            return NULL;
    }
    if (impact.live && !set_live(job, &set, error))
        return NULL;
    if (!xldrv_change(xldrv_driver_get(), job, &impact, change_document, &set, error)) {
        if (impact.live)
            xldrv_disk_set_limits(job->instance, xldrv_find_disk(job->live, set.disk, NULL), NULL);
        return NULL;
    }
    if (impact.live)
        tell(job, xldrv_find_disk(job->live, set.disk, NULL));
    return xldrv_reply_void();
}

/* ---- get */

GVariant *xldrv_handle_domain_get_block_io_tune(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    const guint known = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG | VIR_TYPED_PARAM_STRING_OKAY;
    const char *name = xldrv_args_optional_string(args, 1);
    int room = xldrv_args_i32(args, 2), n = G_N_ELEMENTS(params);
    guint flags = xldrv_args_u32(args, 3);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfDomain) config = NULL;
    const XmlconfDisk *disk = NULL;
    GVariantBuilder list;
    XldrvImpact impact;

    if (!xldrv_check_flags(flags, known, G_STRFUNC, error) ||
        !xldrv_check_exclusive(flags, VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG, "live and config", error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    if (!domain || !xldrv_impact(domain, flags, &impact, error))
        return NULL;
    config = xldrv_domain_get_config(domain, impact.config);
    /* Without a disk it is asked how many parameters there are. */
    if (name && !(disk = xldrv_find_disk(config, name, error)))
        return NULL;
    g_variant_builder_init(&list, G_VARIANT_TYPE("a(sv)"));
    for (int i = 0; disk && i < MIN(room, n); i++)
        xldrv_params_add(&list, params[i].name,
                         g_variant_new_uint64(*at((XmlconfIotune *)&disk->iotune, (gsize)i)));
    return g_variant_new("(a(sv)i)", &list, room > 0 ? MIN(room, n) : n);
}
