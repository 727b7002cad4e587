/* Procedures about vCPUs and where they run. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/vcpus.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/host.h"

#define MAX_MAPS_BYTES 8388608 /* libvirt's limit of all maps together */

#define VCPU_FLAGS                                                                                 \
    (VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG | VIR_DOMAIN_VCPU_MAXIMUM)

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

GVariant *xldrv_handle_domain_get_vcpus_flags(XldrvCall *call, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 1);

    if (flags & VIR_DOMAIN_VCPU_GUEST && xldrv_client_is_readonly(xldrv_call_client(call))) {
        xldrv_set_error(error, VIR_ERR_OPERATION_DENIED, "virDomainGetVcpusFlags with guest flag");
        return NULL;
    }
    return xldrv_check_flags(flags, VCPU_FLAGS, G_STRFUNC, error) ? vcpus_flags(args, flags, error) : NULL;
}

GVariant *xldrv_handle_domain_get_max_vcpus(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return vcpus_flags(args, VIR_DOMAIN_VCPU_MAXIMUM, error);
}

/* ---- affinity */

/* The online CPUs of the host, or those among them that the domain is bound to. */
static GByteArray *affinity(const XmlconfDomainConfig *config)
{
    guint present, online;
    GByteArray *map = xldrv_host_cpu_map(&present, &online);
    g_autoptr(GByteArray) bound = config->cpuset ? xmlconf_cpuset_parse(config->cpuset) : NULL;

    for (guint i = 0; bound && i < map->len; i++)
        map->data[i] &= i < bound->len ? bound->data[i] : 0;
    return map;
}

static void add_map(GByteArray *maps, const GByteArray *map, guint map_bytes)
{
    guint at = maps->len;

    g_byte_array_set_size(maps, at + map_bytes);
    memset(maps->data + at, 0, map_bytes);
    memcpy(maps->data + at, map->data, MIN(map_bytes, map->len));
}

static gboolean check_maps(int count, int map_bytes, GError **error)
{
    if (count >= 0 && map_bytes >= 0 && (gint64)count * map_bytes <= MAX_MAPS_BYTES)
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%d CPU maps of %d bytes are too much", count,
                           map_bytes);
}

static GVariant *maps_to_variant(GByteArray *maps)
{
    return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, maps->data, maps->len, 1);
}

GVariant *xldrv_handle_domain_get_vcpu_pin_info(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                                GError **error)
{
    int count = xldrv_args_i32(args, 1), map_bytes = xldrv_args_i32(args, 2);
    guint flags = xldrv_args_u32(args, 3);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfDomain) config = NULL;
    g_autoptr(GByteArray) maps = g_byte_array_new();
    g_autoptr(GByteArray) map = NULL;
    XldrvImpact impact;
    int n;

    if (!xldrv_check_flags(flags, VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG, G_STRFUNC, error) ||
        !check_maps(count, map_bytes, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    if (!domain || !xldrv_impact(domain, flags, &impact, error))
        return NULL;
    config = xldrv_domain_get_config(domain, impact.config);
    n = MIN((guint)count, xmlconf_domain_config(config)->max_vcpus);
    map = affinity(xmlconf_domain_config(config));
    for (int i = 0; i < n; i++)
        add_map(maps, map, map_bytes);
    return g_variant_new("(@ayi)", maps_to_variant(maps), n);
}

GVariant *xldrv_handle_domain_get_vcpus(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    int count = xldrv_args_i32(args, 1), map_bytes = xldrv_args_i32(args, 2);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvInstance) instance = NULL;
    g_autoptr(XmlconfDomain) config = NULL;
    g_autoptr(GByteArray) maps = g_byte_array_new();
    g_autoptr(GByteArray) map = NULL;
    struct domctl_info info;
    GVariantBuilder list;

    if (!check_maps(count, map_bytes, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    instance = domain ? xldrv_domain_get_instance(domain, error) : NULL;
    if (!instance || !xldrv_instance_get_info(instance, &info, error))
        return NULL;
    config = xldrv_domain_get_config(domain, FALSE);
    map = affinity(xmlconf_domain_config(config));
    g_variant_builder_init(&list, G_VARIANT_TYPE("a(uiti)"));
    for (guint i = 0; i < MIN((guint)count, info.max_vcpus); i++) {
        struct domctl_vcpu_info vcpu;
        if (!xldrv_vcpu_info(instance, i, &vcpu, error)) {
            g_variant_builder_clear(&list);
            return NULL;
        }
        g_variant_builder_add(&list, "(uiti)", i, xldrv_vcpu_state(&vcpu), vcpu.cpu_time_ns, (int)vcpu.cpu);
        add_map(maps, map, map_bytes);
    }
    return g_variant_new("(a(uiti)@ay)", &list, maps_to_variant(maps));
}
