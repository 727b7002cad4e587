/* Procedures about vCPUs. */
#include "config.h"

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/guest.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/pin.h"
#include "libxldrv/driver/vcpus.h"
#include "libxldrv/driver/wire.h"

#define VCPU_FLAGS                                                                                 \
    (VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG | VIR_DOMAIN_VCPU_MAXIMUM |   \
     VIR_DOMAIN_VCPU_GUEST)

typedef struct {
    guint vcpu;
    struct domctl_vcpu_info *info;
} Query;

static int get_vcpu_info(struct domctl *ctl, gpointer data)
{
    Query *query = data;

    return domctl_get_vcpu_info(ctl, query->vcpu, query->info);
}

gboolean xldrv_vcpu_info(XldrvInstance *instance, guint vcpu, struct domctl_vcpu_info *info, GError **error)
{
    Query query = {vcpu, info};

    return xldrv_instance_control(instance, "get vCPU information about", get_vcpu_info, &query, error);
}

int xldrv_vcpu_state(const struct domctl_vcpu_info *info)
{
    if (!info->online)
        return VIR_VCPU_OFFLINE;
    return info->running || !info->blocked ? VIR_VCPU_RUNNING : VIR_VCPU_BLOCKED;
}

/* ---- counts */

static GVariant *vcpus_flags(GVariant *args, guint flags, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfDomain) config = NULL;
    const XmlconfDomainConfig *typed;
    XldrvImpact impact;

    if (!xldrv_check_exclusive(flags, VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG,
                               "live and config", error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    if (!domain || !xldrv_impact(domain, flags, &impact, error))
        return NULL;
    config = xldrv_domain_get_config(domain, impact.config);
    typed = xmlconf_domain_config(config);
    return xldrv_reply_int(flags & VIR_DOMAIN_VCPU_MAXIMUM ? typed->max_vcpus : typed->current_vcpus);
}

static GVariant *guest_vcpus(XldrvCall *call, GVariant *args, guint flags, GError **error)
{
    g_autoptr(XldrvAgentSession) session = NULL;
    int n;

    if (flags & (VIR_DOMAIN_VCPU_MAXIMUM | VIR_DOMAIN_AFFECT_CONFIG)) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "the guest's agent knows neither a definition nor a maximum");
        return NULL;
    }
    session = xldrv_agent_begin_args(call, args, error);
    n = session ? xldrv_guest_vcpus_online(session, error) : -1;
    return n < 0 ? NULL : xldrv_reply_int(n);
}

GVariant *xldrv_handle_domain_get_vcpus_flags(XldrvCall *call, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 1);

    if (flags & VIR_DOMAIN_VCPU_GUEST && xldrv_client_is_readonly(xldrv_call_client(call))) {
        xldrv_set_error(error, VIR_ERR_OPERATION_DENIED, "virDomainGetVcpusFlags with guest flag");
        return NULL;
    }
    if (!xldrv_check_flags(flags, VCPU_FLAGS, G_STRFUNC, error))
        return NULL;
    return flags & VIR_DOMAIN_VCPU_GUEST ? guest_vcpus(call, args, flags, error) : vcpus_flags(args, flags, error);
}

GVariant *xldrv_handle_domain_get_max_vcpus(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return vcpus_flags(args, VIR_DOMAIN_VCPU_MAXIMUM, error);
}

GVariant *xldrv_handle_domain_get_vcpus(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    int count = xldrv_args_i32(args, 1), map_bytes = xldrv_args_i32(args, 2);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvInstance) instance = NULL;
    g_autoptr(XmlconfDomain) config = NULL;
    g_autoptr(GByteArray) maps = g_byte_array_new();
    struct domctl_info info;
    GVariantBuilder list;

    if (!xldrv_check_cpu_maps(count, map_bytes, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    instance = domain ? xldrv_domain_get_instance(domain, error) : NULL;
    if (!instance || !xldrv_instance_get_info(instance, &info, error))
        return NULL;
    config = xldrv_domain_get_config(domain, FALSE);
    g_variant_builder_init(&list, G_VARIANT_TYPE("a(uiti)"));
    for (guint i = 0; i < MIN((guint)count, info.max_vcpus); i++) {
        struct domctl_vcpu_info vcpu;
        if (!xldrv_vcpu_info(instance, i, &vcpu, error)) {
            g_variant_builder_clear(&list);
            return NULL;
        }
        g_variant_builder_add(&list, "(uiti)", i, xldrv_vcpu_state(&vcpu), vcpu.cpu_time_ns, (int)vcpu.cpu);
        xldrv_add_cpu_map(maps, xmlconf_vcpu_cpuset(xmlconf_domain_config(config), i), map_bytes);
    }
    return g_variant_new("(a(uiti)@ay)", &list, xldrv_cpu_maps_to_variant(maps));
}
