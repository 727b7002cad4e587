/* Procedures about a domain's part of the host's block devices: virsh blkiotune. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/change.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/limits.h"

#define IMPACT_FLAGS (VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG)
#define DEVICE(member) G_STRUCT_OFFSET(XmlconfBlkioDevice, member)

/* One string for all devices: "/dev/a,500,/dev/b,200". */
static const struct {
    const char *name;
    gsize offset; /* in XmlconfBlkioDevice */
    guint64 min, max;
} parameters[] = {
    {VIR_DOMAIN_BLKIO_DEVICE_WEIGHT, DEVICE(weight), XMLCONF_MIN_WEIGHT, XMLCONF_MAX_WEIGHT},
    {VIR_DOMAIN_BLKIO_DEVICE_READ_IOPS, DEVICE(read_iops_sec), 1, G_MAXUINT32},
    {VIR_DOMAIN_BLKIO_DEVICE_WRITE_IOPS, DEVICE(write_iops_sec), 1, G_MAXUINT32},
    {VIR_DOMAIN_BLKIO_DEVICE_READ_BPS, DEVICE(read_bytes_sec), 1, G_MAXINT64},
    {VIR_DOMAIN_BLKIO_DEVICE_WRITE_BPS, DEVICE(write_bytes_sec), 1, G_MAXINT64},
};

#define N_PARAMETERS (1 + (int)G_N_ELEMENTS(parameters)) /* the weight comes first */

static guint64 *at(const XmlconfBlkioDevice *device, gsize i)
{
    return (guint64 *)((char *)device + parameters[i].offset);
}

/* ---- telling */

static GVariant *value_of(const XmlconfBlkiotune *tune, gsize i)
{
    g_autoptr(GString) text = g_string_new(NULL);

    for (guint n = 0; tune->devices && n < tune->devices->len; n++) {
        const XmlconfBlkioDevice *device = tune->devices->pdata[n];
        if (*at(device, i))
            g_string_append_printf(text, "%s%s,%" G_GUINT64_FORMAT, text->len ? "," : "", device->path, *at(device, i));
    }
    return g_variant_new_string(text->str);
}

GVariant *xldrv_handle_domain_get_blkio_parameters(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    int room = xldrv_args_i32(args, 1);
    g_autoptr(XmlconfDomain) config =
        xldrv_asked_config(args, xldrv_args_u32(args, 2) & ~(guint)VIR_TYPED_PARAM_STRING_OKAY, G_STRFUNC, error);
    const XmlconfBlkiotune *tune;
    GVariantBuilder params;

    if (!config)
        return NULL;
    tune = &xmlconf_domain_config(config)->blkiotune;
    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    if (room > 0)
        xldrv_params_add(&params, VIR_DOMAIN_BLKIO_WEIGHT, g_variant_new_uint32((guint32)tune->weight));
    for (gsize i = 0; i < G_N_ELEMENTS(parameters) && (int)i + 1 < room; i++)
        xldrv_params_add(&params, parameters[i].name, value_of(tune, i));
    return g_variant_new("(a(sv)i)", &params, room ? MIN(room, N_PARAMETERS) : N_PARAMETERS);
}

/* ---- setting */

static gboolean take_device(XmlconfBlkiotune *tune, gsize i, const char *path, const char *text, GError **error)
{
    guint64 value;

    if (*path != '/')
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "'%s' in parameter '%s' is not the path of a device", path,
                               parameters[i].name);
    if (!text || !g_ascii_string_to_unsigned(text, 10, 0, parameters[i].max, &value, NULL) ||
        (value && value < parameters[i].min))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                               "value '%s' of '%s' in parameter '%s' is not 0 or from %" G_GUINT64_FORMAT " to %"
                               G_GUINT64_FORMAT, text ? text : "", path, parameters[i].name, parameters[i].min,
                               parameters[i].max);
    *at(xmlconf_blkiotune_get(tune, path), i) = value;
    return TRUE;
}

static gboolean take_devices(XmlconfBlkiotune *tune, gsize i, GVariant *value, GError **error)
{
    g_auto(GStrv) words = NULL;

    if (!g_variant_is_of_type(value, G_VARIANT_TYPE_STRING))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' is not a string", parameters[i].name);
    words = g_strsplit(g_variant_get_string(value, NULL), ",", 2 * XMLCONF_MAX_DISKS + 1);
    if (g_strv_length(words) > 2 * XMLCONF_MAX_DISKS)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' has more than %d devices", parameters[i].name,
                               XMLCONF_MAX_DISKS);
    for (char **word = words; *word; word += word[1] ? 2 : 1) {
        if (!take_device(tune, i, word[0], word[1], error))
            return FALSE;
    }
    return TRUE;
}

static gboolean take_weight(XmlconfBlkiotune *tune, GVariant *value, GError **error)
{
    gint64 weight;

    if (!xldrv_param_number(value, &weight) || weight < XMLCONF_MIN_WEIGHT || weight > XMLCONF_MAX_WEIGHT)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' is not a number from %d to %d",
                               VIR_DOMAIN_BLKIO_WEIGHT, XMLCONF_MIN_WEIGHT, XMLCONF_MAX_WEIGHT);
    tune->weight = (guint64)weight;
    return TRUE;
}

static gboolean take(gpointer request, const char *name, GVariant *value, GError **error)
{
    XmlconfBlkiotune *tune = request;

    if (strcmp(name, VIR_DOMAIN_BLKIO_WEIGHT) == 0)
        return take_weight(tune, value, error);
    for (gsize i = 0; i < G_N_ELEMENTS(parameters); i++) {
        if (strcmp(parameters[i].name, name) == 0)
            return take_devices(tune, i, value, error);
    }
    return xldrv_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "parameter '%s' not supported", name);
}

/* Puts what @list says over @tune; a device of which nothing is left stays in it. */
static gboolean merge(XmlconfBlkiotune *tune, GVariant *list, GError **error)
{
    if (!xldrv_params_read(list, take, tune, error))
        return FALSE;
    return !tune->devices || tune->devices->len <= XMLCONF_MAX_DISKS ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG, "more than %d devices are too many", XMLCONF_MAX_DISKS);
}

static gboolean change(XmlconfDomain *domain, gconstpointer list, GError **error)
{
    XmlconfBlkiotune *tune = &xmlconf_domain_config(domain)->blkiotune;
    gboolean ok = merge(tune, (GVariant *)list, error);

    xmlconf_blkiotune_prune(tune);
    return ok;
}

/* What was before, and nothing for the devices that are new in @tune. */
static void take_back(XldrvJob *job, const XmlconfBlkiotune *tune)
{
    XmlconfBlkiotune before;

    xmlconf_blkiotune_copy(&before, &xmlconf_domain_config(job->live)->blkiotune);
    for (guint i = 0; tune->devices && i < tune->devices->len; i++)
        xmlconf_blkiotune_get(&before, ((const XmlconfBlkioDevice *)tune->devices->pdata[i])->path);
    xldrv_limit_block_io(xldrv_driver_get(), job, job->instance, &before, NULL);
    xmlconf_blkiotune_clear(&before);
}

static gboolean set_parameters(XldrvJob *job, const XldrvImpact *impact, GVariant *list, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    XmlconfBlkiotune tune = {0};
    gboolean ok = TRUE;

    if (impact->live) {
        xmlconf_blkiotune_copy(&tune, &xmlconf_domain_config(job->live)->blkiotune);
        ok = merge(&tune, list, error);
    }
    if (ok) {
        ok = (!impact->live || xldrv_limit_block_io(driver, job, job->instance, &tune, error)) &&
             xldrv_change(driver, job, impact, change, list, error);
        if (!ok && impact->live)
            take_back(job, &tune);
    }
    xmlconf_blkiotune_clear(&tune);
    return ok;
}

GVariant *xldrv_handle_domain_set_blkio_parameters(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(GVariant) list = g_variant_get_child_value(args, 1);
    guint flags = xldrv_args_u32(args, 2);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    XldrvImpact impact;

    if (!xldrv_check_flags(flags, IMPACT_FLAGS, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "set block I/O parameters", error) : NULL;
    if (!job || !xldrv_impact(job, flags, &impact, error) || !set_parameters(job, &impact, list, error))
        return NULL;
    return xldrv_reply_void();
}
