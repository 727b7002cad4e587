/* Procedures about CPU models: comparing, baselines, names. */
#include "config.h"

#include "libxldrv/driver/cpus.h"
#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

#define COMPARE_FLAGS                                                                                                  \
    (VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE | VIR_CONNECT_COMPARE_CPU_VALIDATE_XML)
#define BASELINE_FLAGS (VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES | VIR_CONNECT_BASELINE_CPU_MIGRATABLE)
#define ARCH           "x86_64"

static XldrvCpus *cpus(void)
{
    return xldrv_driver_get()->cpus;
}

static GVariant *compare(const XmlconfCpuHave *have, const char *xml, guint flags, GError **error)
{
    g_autofree char *why = NULL;
    g_autoptr(GError) wrong = NULL;
    XmlconfCpuComparison found;

    found = xmlconf_cpu_compare(have, xml, (flags & VIR_CONNECT_COMPARE_CPU_VALIDATE_XML) != 0, &why, &wrong);
    if (found == XMLCONF_CPU_ERROR) {
        xldrv_set_xml_error(error, g_steal_pointer(&wrong));
        return NULL;
    }
    if (found == XMLCONF_CPU_INCOMPATIBLE && flags & VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE) {
        xldrv_set_error(error, VIR_ERR_CPU_INCOMPATIBLE, "%s", why);
        return NULL;
    }
    return xldrv_reply_int((int)found);
}

static GVariant *baseline(GVariant *args, guint at, const XmlconfCpuHave *limit, guint flags, GError **error)
{
    g_autoptr(GVariant) list = g_variant_get_child_value(args, at);
    g_autofree const char **xmls = g_variant_get_strv(list, NULL);
    const XmlconfCpuMap *map = xldrv_cpus_map(cpus(), error);
    g_autofree char *xml = NULL;
    g_autoptr(GError) why = NULL;
    guint n = g_strv_length((char **)xmls);

    if (!map)
        return NULL;
    if (n == 0) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "a baseline needs at least one CPU");
        return NULL;
    }
    xml = xmlconf_cpu_baseline(map, limit, xmls, n, (flags & VIR_CONNECT_BASELINE_CPU_EXPAND_FEATURES) != 0,
                               (flags & VIR_CONNECT_BASELINE_CPU_MIGRATABLE) != 0, &why);
    if (!xml)
        xldrv_set_xml_error(error, g_steal_pointer(&why));
    return xml ? xldrv_reply_string(xml) : NULL;
}

GVariant *xldrv_handle_connect_compare_cpu(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 1);
    const XmlconfCpuHave *host;

    if (!xldrv_check_flags(flags, COMPARE_FLAGS, G_STRFUNC, error))
        return NULL;
    host = xldrv_cpus_host(cpus(), error);
    return host ? compare(host, xldrv_args_string(args, 0), flags, error) : NULL;
}

GVariant *xldrv_handle_connect_baseline_cpu(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 1);

    return xldrv_check_flags(flags, BASELINE_FLAGS, G_STRFUNC, error) ? baseline(args, 0, NULL, flags, error) : NULL;
}

static gboolean check_arch(const char *arch, GError **error)
{
    return !arch || g_strcmp0(arch, ARCH) == 0 ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG, "architecture '%s' is not that of guests here, " ARCH, arch);
}

/* The four that say which guests are meant: emulator, architecture, machine, type. */
static gboolean check_guests(GVariant *args, GError **error)
{
    g_autofree char *xml = NULL;
    g_autoptr(GError) why = NULL;

    xml = xmlconf_domain_capabilities_format(&xldrv_driver_get()->host, NULL, xldrv_args_optional_string(args, 0),
                                             xldrv_args_optional_string(args, 1), xldrv_args_optional_string(args, 2),
                                             xldrv_args_optional_string(args, 3), &why);
    return xml || xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%s", why->message);
}

GVariant *xldrv_handle_connect_compare_hypervisor_cpu(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 5);
    const XmlconfCpuHave *guest;

    if (!xldrv_check_flags(flags, COMPARE_FLAGS, G_STRFUNC, error) || !check_guests(args, error))
        return NULL;
    guest = xldrv_cpus_guest(cpus(), error);
    return guest ? compare(guest, xldrv_args_string(args, 4), flags, error) : NULL;
}

GVariant *xldrv_handle_connect_baseline_hypervisor_cpu(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 5);
    const XmlconfCpuHave *guest;

    if (!xldrv_check_flags(flags, BASELINE_FLAGS, G_STRFUNC, error) || !check_guests(args, error))
        return NULL;
    guest = xldrv_cpus_guest(cpus(), error);
    return guest ? baseline(args, 4, guest, flags, error) : NULL;
}

GVariant *xldrv_handle_connect_get_cpu_model_names(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    gboolean wanted = xldrv_args_i32(args, 1) != 0;
    const XmlconfCpuMap *map;
    g_autoptr(GPtrArray) names = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error) ||
        !check_arch(xldrv_args_string(args, 0), error))
        return NULL;
    map = xldrv_cpus_map(cpus(), error);
    if (!map)
        return NULL;
    names = xmlconf_cpu_map_models(map);
    return g_variant_new("(@asi)",
                         g_variant_new_strv((const char *const *)names->pdata, wanted ? (gssize)names->len : 0),
                         (int)names->len);
}
