/* What clients ask about as a matter of routine and a domain here has none of: threads for its disks,
 * security labels, counters of the host's processor. Asked whether there is one they answer no; asked for one they say
 * why not. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

/* ---- threads of disks: each has its own, which is no IOThread */

GVariant *xldrv_handle_domain_get_iothread_info(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XmlconfDomain) config = xldrv_asked_config(args, xldrv_args_u32(args, 1), G_STRFUNC, error);

    return config ? g_variant_new("(@a(uay)u)", g_variant_new_array(G_VARIANT_TYPE("(uay)"), NULL, 0), 0) : NULL;
}

/* ---- security labels */

GVariant *xldrv_handle_domain_get_security_label_list(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);

    return domain ? g_variant_new("(@a(ayi)i)", g_variant_new_array(G_VARIANT_TYPE("(ayi)"), NULL, 0), 0) : NULL;
}

/* ---- counters of the processor. Source: libvirt-domain.h, VIR_PERF_PARAM_*, in the order in which virsh shows them. */

static const char *const counters[] = {
    VIR_PERF_PARAM_CMT,
    VIR_PERF_PARAM_MBMT,
    VIR_PERF_PARAM_MBML,
    VIR_PERF_PARAM_CPU_CYCLES,
    VIR_PERF_PARAM_INSTRUCTIONS,
    VIR_PERF_PARAM_CACHE_REFERENCES,
    VIR_PERF_PARAM_CACHE_MISSES,
    VIR_PERF_PARAM_BRANCH_INSTRUCTIONS,
    VIR_PERF_PARAM_BRANCH_MISSES,
    VIR_PERF_PARAM_BUS_CYCLES,
    VIR_PERF_PARAM_STALLED_CYCLES_FRONTEND,
    VIR_PERF_PARAM_STALLED_CYCLES_BACKEND,
    VIR_PERF_PARAM_REF_CPU_CYCLES,
    VIR_PERF_PARAM_CPU_CLOCK,
    VIR_PERF_PARAM_TASK_CLOCK,
    VIR_PERF_PARAM_PAGE_FAULTS,
    VIR_PERF_PARAM_CONTEXT_SWITCHES,
    VIR_PERF_PARAM_CPU_MIGRATIONS,
    VIR_PERF_PARAM_PAGE_FAULTS_MIN,
    VIR_PERF_PARAM_PAGE_FAULTS_MAJ,
    VIR_PERF_PARAM_ALIGNMENT_FAULTS,
    VIR_PERF_PARAM_EMULATION_FAULTS,
};

GVariant *xldrv_handle_domain_get_perf_events(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 1) & ~(guint)VIR_TYPED_PARAM_STRING_OKAY;
    g_autoptr(XmlconfDomain) config = xldrv_asked_config(args, flags, G_STRFUNC, error);
    GVariantBuilder params;

    if (!config)
        return NULL;
    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    for (gsize i = 0; i < G_N_ELEMENTS(counters); i++)
        xldrv_params_add(&params, counters[i], g_variant_new_boolean(FALSE));
    return g_variant_new("(a(sv))", &params);
}

static gboolean is_counter(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(counters); i++) {
        if (strcmp(counters[i], name) == 0)
            return TRUE;
    }
    return FALSE;
}

GVariant *xldrv_handle_domain_set_perf_events(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XmlconfDomain) config = xldrv_asked_config(args, xldrv_args_u32(args, 2), G_STRFUNC, error);
    g_autoptr(GVariant) params = g_variant_get_child_value(args, 1);

    for (gsize i = 0; config && i < g_variant_n_children(params); i++) {
        g_autoptr(GVariant) value = NULL;
        const char *name;

        g_variant_get_child(params, i, "(&sv)", &name, &value);
        if (is_counter(name) && g_variant_is_of_type(value, G_VARIANT_TYPE_BOOLEAN) && !g_variant_get_boolean(value))
            continue;
        xldrv_set_error(error, is_counter(name) ? VIR_ERR_CONFIG_UNSUPPORTED : VIR_ERR_INVALID_ARG,
                        is_counter(name) ? "perf event '%s' is not counted here" : "perf event '%s' is not known", name);
        return NULL;
    }
    return config ? xldrv_reply_void() : NULL;
}
