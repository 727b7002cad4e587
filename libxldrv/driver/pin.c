/* Procedures about where the threads of a domain run: vCPUs, which the hypervisor binds, and the rest of its process,
 * "the emulator" in libvirt's words. */
#include "config.h"

#include "libxldrv/driver/pin.h"

#include <string.h>

#include "libxldrv/driver/change.h"
#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/host.h"

#define IMPACT_FLAGS   (VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG)
#define MAX_MAPS_BYTES 8388608 /* libvirt's limit of all maps together */
#define VCPU_THREADS   "vcpu"  /* what their names begin with */

/* ---- CPU maps */

/* The online CPUs of the host, or those of them in @cpuset. */
static GByteArray *online_among(const char *cpuset)
{
    guint present, online;
    GByteArray *map = xldrv_host_cpu_map(&present, &online);
    g_autoptr(GByteArray) bound = cpuset ? xmlconf_cpuset_parse(cpuset) : NULL;

    for (guint i = 0; bound && i < map->len; i++)
        map->data[i] &= i < bound->len ? bound->data[i] : 0;
    return map;
}

gboolean xldrv_check_cpu_maps(int count, int map_bytes, GError **error)
{
    if (count >= 0 && map_bytes >= 0 && (gint64)count * map_bytes <= MAX_MAPS_BYTES)
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%d CPU maps of %d bytes are too much", count, map_bytes);
}

void xldrv_add_cpu_map(GByteArray *maps, const char *cpuset, guint map_bytes)
{
    g_autoptr(GByteArray) map = online_among(cpuset);
    guint at = maps->len;

    g_byte_array_set_size(maps, at + map_bytes);
    memset(maps->data + at, 0, map_bytes);
    memcpy(maps->data + at, map->data, MIN(map_bytes, map->len));
}

GVariant *xldrv_cpu_maps_to_variant(GByteArray *maps)
{
    return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, maps->data, maps->len, 1);
}

static gboolean is_empty(const GByteArray *map)
{
    for (guint i = 0; i < map->len; i++) {
        if (map->data[i])
            return FALSE;
    }
    return TRUE;
}

/* The CPU list of a client's map. */
static char *cpuset_of_argument(GVariant *args, guint index, GError **error)
{
    g_autoptr(GVariant) value = g_variant_get_child_value(args, index);
    gsize bytes;
    const guint8 *map = g_variant_get_fixed_array(value, &bytes, 1);
    g_autofree char *cpuset = xmlconf_cpuset_format(map, bytes);

    if (*cpuset)
        return g_steal_pointer(&cpuset);
    xldrv_set_error(error, VIR_ERR_INVALID_ARG, "Empty cpu list for pinning");
    return NULL;
}

/* ---- binding what runs */

typedef struct {
    guint vcpu;
    GByteArray *map;
} Binding;

static int bind_vcpu(struct domctl *ctl, gpointer data)
{
    const Binding *binding = data;

    return domctl_set_vcpu_affinity(ctl, binding->vcpu, binding->map->data, binding->map->len);
}

static gboolean none_online(const char *cpuset, GError **error)
{
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot use cpuset '%s': none of its CPUs is online",
                           cpuset ? cpuset : "all");
}

/* @cpuset: NULL for all. */
static gboolean pin_vcpu(XldrvInstance *instance, guint vcpu, const char *cpuset, GError **error)
{
    g_autoptr(GByteArray) map = online_among(cpuset);
    g_autofree char *what = g_strdup_printf("bind vCPU %u to CPUs '%s' of", vcpu, cpuset ? cpuset : "all");
    Binding binding = {vcpu, map};

    return is_empty(map) ? none_online(cpuset, error)
                         : xldrv_instance_control(instance, what, bind_vcpu, &binding, error);
}

static gboolean pin_emulator(XldrvInstance *instance, const char *cpuset, GError **error)
{
    g_autoptr(GByteArray) map = online_among(cpuset);

    return is_empty(map) ? none_online(cpuset, error)
                         : xldrv_process_bind_threads(xldrv_instance_process(instance), VCPU_THREADS, map, error);
}

/* NULL: all. */
static const char *emulator_cpuset(const XmlconfDomainConfig *config)
{
    return config->cputune.emulator_pin ? config->cputune.emulator_pin : config->cpuset;
}

gboolean xldrv_pin_process(XldrvInstance *instance, const XmlconfDomainConfig *config, GError **error)
{
    const char *cpuset = emulator_cpuset(config);

    return !cpuset || pin_emulator(instance, cpuset, error);
}

/* Those of which nothing is said start where the process is. */
gboolean xldrv_pin_vcpus(XldrvInstance *instance, const XmlconfDomainConfig *config, GError **error)
{
    gboolean all = config->cputune.emulator_pin != NULL;

    for (guint i = 0; i < config->max_vcpus; i++) {
        const char *cpuset = xmlconf_vcpu_cpuset(config, i);
        if ((all || cpuset != config->cpuset) && !pin_vcpu(instance, i, cpuset, error))
            return FALSE;
    }
    return TRUE;
}

/* @tunable is a libvirt format for @vcpu, or has none. */
static void tell_clients(XldrvJob *job, const char *tunable, guint vcpu, const char *cpuset)
{
    g_autoptr(GString) name = g_string_new(tunable);
    g_autofree char *number = g_strdup_printf("%u", vcpu);
    GVariantBuilder params;

    g_string_replace(name, "%u", number, 1);
    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    xldrv_params_add(&params, name->str, g_variant_new_string(cpuset));
    xldrv_event_tunable(xldrv_driver_get()->events, job, g_variant_builder_end(&params));
}

/* ---- vCPUs */

static gboolean change_vcpu(XmlconfDomain *domain, gconstpointer data, GError **error G_GNUC_UNUSED)
{
    const XmlconfVcpuPin *pin = data;

    xmlconf_domain_set_vcpu_pin(domain, pin->vcpu, pin->cpuset);
    return TRUE;
}

static gboolean check_vcpu(XmlconfDomain *domain, guint vcpu, const char *which, GError **error)
{
    guint max = xmlconf_domain_config(domain)->max_vcpus;

    return vcpu < max || xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                                         "vcpu %u is out of range of %s cpu count %u", vcpu, which, max);
}

static gboolean set_vcpu_pin(XldrvJob *job, const XldrvImpact *impact, const XmlconfVcpuPin *pin, GError **error)
{
    if ((impact->config && !check_vcpu(job->config, pin->vcpu, "persistent", error)) ||
        (impact->live && !check_vcpu(job->live, pin->vcpu, "live", error)) ||
        (impact->live && !pin_vcpu(job->instance, pin->vcpu, pin->cpuset, error)))
        return FALSE;
    if (xldrv_change(xldrv_driver_get(), job, impact, change_vcpu, pin, error)) {
        if (impact->live)
            tell_clients(job, VIR_DOMAIN_TUNABLE_CPU_VCPUPIN, pin->vcpu, pin->cpuset);
        return TRUE;
    }
    if (impact->live)
        pin_vcpu(job->instance, pin->vcpu, xmlconf_vcpu_cpuset(xmlconf_domain_config(job->live), pin->vcpu), NULL);
    return FALSE;
}

static GVariant *pin_vcpu_call(GVariant *args, guint flags, GError **error)
{
    g_autofree char *cpuset = cpuset_of_argument(args, 2, error);
    const XmlconfVcpuPin pin = {xldrv_args_u32(args, 1), cpuset};
    g_autoptr(XldrvDomain) domain = cpuset ? xldrv_args_domain(args, error) : NULL;
    g_autoptr(XldrvJobGuard) job = domain ? xldrv_job_begin(domain, "pin vCPU", error) : NULL;
    XldrvImpact impact;

    if (!job || !xldrv_impact(job, flags, &impact, error) || !set_vcpu_pin(job, &impact, &pin, error))
        return NULL;
    return xldrv_reply_void();
}

GVariant *xldrv_handle_domain_pin_vcpu(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return pin_vcpu_call(args, VIR_DOMAIN_AFFECT_LIVE, error);
}

GVariant *xldrv_handle_domain_pin_vcpu_flags(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 3);

    return xldrv_check_flags(flags, IMPACT_FLAGS, G_STRFUNC, error) ? pin_vcpu_call(args, flags, error) : NULL;
}

GVariant *xldrv_handle_domain_get_vcpu_pin_info(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    int count = xldrv_args_i32(args, 1), map_bytes = xldrv_args_i32(args, 2);
    g_autoptr(XmlconfDomain) config = NULL;
    g_autoptr(GByteArray) maps = g_byte_array_new();
    const XmlconfDomainConfig *typed;
    guint n;

    if (!xldrv_check_cpu_maps(count, map_bytes, error))
        return NULL;
    config = xldrv_asked_config(args, xldrv_args_u32(args, 3), G_STRFUNC, error);
    if (!config)
        return NULL;
    typed = xmlconf_domain_config(config);
    n = MIN((guint)count, typed->max_vcpus);
    for (guint i = 0; i < n; i++)
        xldrv_add_cpu_map(maps, xmlconf_vcpu_cpuset(typed, i), map_bytes);
    return g_variant_new("(@ayi)", xldrv_cpu_maps_to_variant(maps), n);
}

/* ---- the emulator */

static gboolean change_emulator(XmlconfDomain *domain, gconstpointer cpuset, GError **error G_GNUC_UNUSED)
{
    char **pin = &xmlconf_domain_config(domain)->cputune.emulator_pin;

    g_free(*pin);
    *pin = g_strdup(cpuset);
    return TRUE;
}

static gboolean set_emulator_pin(XldrvJob *job, const XldrvImpact *impact, const char *cpuset, GError **error)
{
    if (impact->live && !pin_emulator(job->instance, cpuset, error))
        return FALSE;
    if (xldrv_change(xldrv_driver_get(), job, impact, change_emulator, cpuset, error)) {
        if (impact->live)
            tell_clients(job, VIR_DOMAIN_TUNABLE_CPU_EMULATORPIN, 0, cpuset);
        return TRUE;
    }
    if (impact->live)
        pin_emulator(job->instance, emulator_cpuset(xmlconf_domain_config(job->live)), NULL);
    return FALSE;
}

GVariant *xldrv_handle_domain_pin_emulator(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 2);
    g_autofree char *cpuset = NULL;
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    XldrvImpact impact;

    if (!xldrv_check_flags(flags, IMPACT_FLAGS, G_STRFUNC, error))
        return NULL;
    cpuset = cpuset_of_argument(args, 1, error);
    domain = cpuset ? xldrv_args_domain(args, error) : NULL;
    job = domain ? xldrv_job_begin(domain, "pin emulator", error) : NULL;
    if (!job || !xldrv_impact(job, flags, &impact, error) || !set_emulator_pin(job, &impact, cpuset, error))
        return NULL;
    return xldrv_reply_void();
}

GVariant *xldrv_handle_domain_get_emulator_pin_info(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    int map_bytes = xldrv_args_i32(args, 1);
    g_autoptr(XmlconfDomain) config = NULL;
    g_autoptr(GByteArray) maps = g_byte_array_new();

    if (!xldrv_check_cpu_maps(1, map_bytes, error))
        return NULL;
    config = xldrv_asked_config(args, xldrv_args_u32(args, 2), G_STRFUNC, error);
    if (!config)
        return NULL;
    xldrv_add_cpu_map(maps, emulator_cpuset(xmlconf_domain_config(config)), map_bytes);
    return g_variant_new("(@ayi)", xldrv_cpu_maps_to_variant(maps), 1);
}
