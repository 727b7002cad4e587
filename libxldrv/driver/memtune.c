/* Procedures about limits of memory: virsh memtune. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/change.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/limits.h"

#define IMPACT_FLAGS (VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG)
#define MEMTUNE(member) G_STRUCT_OFFSET(XmlconfMemtune, member)

static const struct {
    const char *name;
    gsize offset; /* in XmlconfMemtune */
} parameters[] = {
    {VIR_DOMAIN_MEMORY_HARD_LIMIT, MEMTUNE(hard_limit_kib)},
    {VIR_DOMAIN_MEMORY_SOFT_LIMIT, MEMTUNE(soft_limit_kib)},
    {VIR_DOMAIN_MEMORY_SWAP_HARD_LIMIT, MEMTUNE(swap_hard_limit_kib)},
};

static guint64 *at(const XmlconfMemtune *tune, gsize i)
{
    return (guint64 *)((char *)tune + parameters[i].offset);
}

/* What is not said is no limit, and that is a number for libvirt. */
static guint64 limit_of(const XmlconfMemtune *tune, gsize i)
{
    return *at(tune, i) ? *at(tune, i) : XMLCONF_MAX_LIMIT_KIB;
}

GVariant *xldrv_handle_domain_get_memory_parameters(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    int room = xldrv_args_i32(args, 1);
    g_autoptr(XmlconfDomain) config =
        xldrv_asked_config(args, xldrv_args_u32(args, 2) & ~(guint)VIR_TYPED_PARAM_STRING_OKAY, G_STRFUNC, error);
    GVariantBuilder params;

    if (!config)
        return NULL;
    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    for (gsize i = 0; i < G_N_ELEMENTS(parameters) && (int)i < room; i++)
        xldrv_params_add(&params, parameters[i].name,
                         g_variant_new_uint64(limit_of(&xmlconf_domain_config(config)->memtune, i)));
    return g_variant_new("(a(sv)i)", &params, room ? MIN(room, (int)G_N_ELEMENTS(parameters)) : (int)G_N_ELEMENTS(parameters));
}

/* ---- setting */

static gboolean take(gpointer request, const char *name, GVariant *value, GError **error)
{
    XmlconfMemtune *tune = request;
    gsize i = 0;
    gint64 kib;

    while (i < G_N_ELEMENTS(parameters) && strcmp(parameters[i].name, name) != 0)
        i++;
    if (i == G_N_ELEMENTS(parameters))
        return xldrv_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "parameter '%s' not supported", name);
    if (!xldrv_param_number(value, &kib) || kib <= 0)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' is not a number of KiB above 0", name);
    *at(tune, i) = MIN((guint64)kib, XMLCONF_MAX_LIMIT_KIB);
    return TRUE;
}

/* What @request says over what @now says. */
static XmlconfMemtune merged(const XmlconfMemtune *now, const XmlconfMemtune *request)
{
    XmlconfMemtune tune = *now;

    for (gsize i = 0; i < G_N_ELEMENTS(parameters); i++) {
        if (*at(request, i))
            *at(&tune, i) = *at(request, i);
    }
    return tune;
}

/* A limit that is none is not kept. */
static gboolean change(XmlconfDomain *domain, gconstpointer request, GError **error)
{
    XmlconfMemtune *tune = &xmlconf_domain_config(domain)->memtune;
    g_autoptr(GError) why = NULL;

    *tune = merged(tune, request);
    for (gsize i = 0; i < G_N_ELEMENTS(parameters); i++) {
        if (*at(tune, i) >= XMLCONF_MAX_LIMIT_KIB)
            *at(tune, i) = 0;
    }
    return xmlconf_memtune_check(tune, &why) || xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%s", why->message);
}

/* What was before, with a number for all that the request has changed. */
static void take_back(XldrvJob *job, const XmlconfMemtune *before, const XmlconfMemtune *request)
{
    XmlconfMemtune tune = *before;

    for (gsize i = 0; i < G_N_ELEMENTS(parameters); i++) {
        if (*at(request, i))
            *at(&tune, i) = limit_of(before, i);
    }
    xldrv_limit_memory_use(xldrv_driver_get(), job, job->instance, &tune, NULL);
}

static gboolean set_limits(XldrvJob *job, const XldrvImpact *impact, const XmlconfMemtune *request, GError **error)
{
    XmlconfMemtune before = {0}, tune;
    g_autoptr(GError) why = NULL;

    if (impact->live) {
        before = xmlconf_domain_config(job->live)->memtune;
        tune = merged(&before, request);
        if (!xmlconf_memtune_check(&tune, &why))
            return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%s", why->message);
    }
    if ((!impact->live || xldrv_limit_memory_use(xldrv_driver_get(), job, job->instance, &tune, error)) &&
        xldrv_change(xldrv_driver_get(), job, impact, change, request, error))
        return TRUE;
    if (impact->live)
        take_back(job, &before, request);
    return FALSE;
}

GVariant *xldrv_handle_domain_set_memory_parameters(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(GVariant) list = g_variant_get_child_value(args, 1);
    guint flags = xldrv_args_u32(args, 2);
    XmlconfMemtune request = {0};
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    XldrvImpact impact;

    if (!xldrv_check_flags(flags, IMPACT_FLAGS, G_STRFUNC, error) || !xldrv_params_read(list, take, &request, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "set memory parameters", error) : NULL;
    if (!job || !xldrv_impact(job, flags, &impact, error) || !set_limits(job, &impact, &request, error))
        return NULL;
    return xldrv_reply_void();
}
