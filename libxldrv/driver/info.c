/* Procedures that tell about one domain. */
#include "config.h"

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

#include <string.h>

#define XML_FLAGS                                                                                  \
    (VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_INACTIVE | VIR_DOMAIN_XML_UPDATE_CPU |                 \
     VIR_DOMAIN_XML_MIGRATABLE)

/* The reply, if it is that of the last time. */
static GVariant *describe_again(XldrvDomain *domain, const XmlconfDomain *config, guint format)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);
    gboolean same = domain->described && domain->described_serial == xmlconf_domain_serial(config) &&
                    domain->described_format == format;

    return same ? g_variant_ref(domain->described) : NULL;
}

static GVariant *describe(XldrvDomain *domain, XmlconfDomain *config, guint format, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *xml = xmlconf_domain_format(config, format, &why);
    GVariant *reply;

    if (!xml) {
        xldrv_set_xml_error(error, g_steal_pointer(&why));
        return NULL;
    }
    reply = g_variant_take_ref(xldrv_reply_string(xml));
    g_mutex_lock(&domain->lock);
    g_clear_pointer(&domain->described, g_variant_unref);
    domain->described = g_variant_ref(reply);
    domain->described_serial = xmlconf_domain_serial(config);
    domain->described_format = format;
    g_mutex_unlock(&domain->lock);
    return reply;
}

GVariant *xldrv_handle_domain_get_xml_desc(XldrvCall *call, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 1);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfDomain) config = NULL;
    GVariant *again;
    guint format = 0;

    if (!xldrv_check_flags(flags, XML_FLAGS, G_STRFUNC, error))
        return NULL;
    if (flags & (VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_MIGRATABLE) &&
        xldrv_client_is_readonly(xldrv_call_client(call))) {
        xldrv_set_error(error, VIR_ERR_OPERATION_DENIED,
                        "virDomainGetXMLDesc with secure or migratable flag");
        return NULL;
    }
    domain = xldrv_args_domain(args, error);
    if (!domain)
        return NULL;
    config = xldrv_domain_get_config(domain, flags & VIR_DOMAIN_XML_INACTIVE);
    format |= flags & VIR_DOMAIN_XML_SECURE ? XMLCONF_FORMAT_SECURE : 0;
    format |= flags & VIR_DOMAIN_XML_INACTIVE ? XMLCONF_FORMAT_INACTIVE : 0;
    again = describe_again(domain, config, format);
    return again ? again : describe(domain, config, format, error);
}

/* What getdomaininfo says, or nothing where the domain does not run or its hypervisor does not answer:
 * a query about a domain never fails for that. */
static gboolean running_info(XldrvDomain *domain, struct domctl_info *info)
{
    g_autoptr(XldrvInstance) instance = xldrv_domain_get_instance(domain, NULL);

    memset(info, 0, sizeof(*info));
    return instance && xldrv_instance_get_info(instance, info, NULL);
}

GVariant *xldrv_handle_domain_get_info(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XmlconfDomain) config = NULL;
    const XmlconfDomainConfig *typed;
    struct domctl_info info;
    gboolean running;
    int state;

    if (!domain || (xldrv_domain_is_active(domain) && xldrv_call_put_off(call)))
        return NULL;
    running = running_info(domain, &info);
    config = xldrv_domain_get_config(domain, FALSE);
    typed = xmlconf_domain_config(config);
    g_mutex_lock(&domain->lock);
    state = domain->state;
    g_mutex_unlock(&domain->lock);
    return g_variant_new("(yttqt)", (guint8)state, typed->memory_kib,
                         running ? xldrv_info_memory_kib(&info, typed->memory_kib) : typed->current_memory_kib,
                         (guint16)(running ? info.online_vcpus : typed->current_vcpus),
                         (guint64)(running ? info.cpu_time_ns : 0));
}

GVariant *xldrv_handle_domain_get_state(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;
    int state, reason;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    if (!domain)
        return NULL;
    g_mutex_lock(&domain->lock);
    state = domain->state;
    reason = domain->reason;
    g_mutex_unlock(&domain->lock);
    return g_variant_new("(ii)", state, reason);
}

GVariant *xldrv_handle_domain_get_control_info(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                               GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvInstance) instance = NULL;
    struct domctl_info info;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    instance = domain ? xldrv_domain_get_instance(domain, error) : NULL;
    if (!instance)
        return NULL;
    if (!xldrv_instance_get_info(instance, &info, NULL))
        return g_variant_new("(uut)", VIR_DOMAIN_CONTROL_ERROR, VIR_DOMAIN_CONTROL_ERROR_REASON_UNKNOWN,
                             (guint64)0);
    return g_variant_new("(uut)", VIR_DOMAIN_CONTROL_OK, 0, (guint64)0);
}

GVariant *xldrv_handle_domain_get_os_type(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    static const char *const names[] = {
        [XMLCONF_OS_PVH] = "xenpvh",
        [XMLCONF_OS_PV] = "linux",
        [XMLCONF_OS_HVM] = "hvm",
    };
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XmlconfDomain) config = domain ? xldrv_domain_get_config(domain, FALSE) : NULL;

    return config ? xldrv_reply_string(names[xmlconf_domain_config(config)->os_type]) : NULL;
}

GVariant *xldrv_handle_domain_get_max_memory(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                             GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XmlconfDomain) config = domain ? xldrv_domain_get_config(domain, FALSE) : NULL;

    return config ? g_variant_new("(t)", xmlconf_domain_config(config)->memory_kib) : NULL;
}

/* ---- yes or no */

GVariant *xldrv_handle_domain_is_active(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);

    return domain ? xldrv_reply_int(xldrv_domain_is_active(domain)) : NULL;
}

GVariant *xldrv_handle_domain_is_persistent(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    gboolean persistent;

    if (!domain)
        return NULL;
    g_mutex_lock(&domain->lock);
    persistent = domain->config != NULL;
    g_mutex_unlock(&domain->lock);
    return xldrv_reply_int(persistent);
}

GVariant *xldrv_handle_domain_is_updated(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    gboolean updated;

    if (!domain)
        return NULL;
    g_mutex_lock(&domain->lock);
    updated = domain->updated;
    g_mutex_unlock(&domain->lock);
    return xldrv_reply_int(updated);
}

/* ---- what a domain does not have */

GVariant *xldrv_handle_domain_get_messages(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1),
                           VIR_DOMAIN_MESSAGE_DEPRECATION | VIR_DOMAIN_MESSAGE_TAINTING, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    return domain ? g_variant_new("(@as)", g_variant_new_strv(NULL, 0)) : NULL;
}

static GVariant *empty_c_string(void)
{
    return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, "", 1, 1);
}

GVariant *xldrv_handle_domain_get_security_label(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                                 GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);

    return domain ? g_variant_new("(@ayi)", empty_c_string(), 0) : NULL;
}

GVariant *xldrv_handle_node_get_security_model(XldrvCall *call G_GNUC_UNUSED, GVariant *args G_GNUC_UNUSED,
                                               GError **error G_GNUC_UNUSED)
{
    return g_variant_new("(@ay@ay)", empty_c_string(), empty_c_string());
}
