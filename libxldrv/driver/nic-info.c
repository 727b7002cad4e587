/* Procedures about network interfaces: statistics. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

/* An interface's name in libvirt's interface: its tap or its MAC address. */
static const XmlconfInterface *find_interface(XmlconfDomain *config, const char *name, GError **error)
{
    const XmlconfDomainConfig *typed = xmlconf_domain_config(config);

    for (guint i = 0; typed->interfaces && i < typed->interfaces->len; i++) {
        const XmlconfInterface *interface = typed->interfaces->pdata[i];
        if (g_strcmp0(interface->target, name) == 0 || g_ascii_strcasecmp(interface->mac, name) == 0)
            return interface;
    }
    xldrv_set_error(error, VIR_ERR_INVALID_ARG, "domain '%s' has no interface '%s'", typed->name, name);
    return NULL;
}

GVariant *xldrv_handle_domain_interface_stats(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XldrvInstance) instance = domain ? xldrv_domain_get_instance(domain, error) : NULL;
    g_autoptr(XmlconfDomain) config = NULL;
    const XmlconfInterface *interface;
    XldrvNicStats stats;

    if (!instance)
        return NULL;
    config = xldrv_domain_get_config(domain, FALSE);
    interface = find_interface(config, xldrv_args_string(args, 1), error);
    if (!interface || !xldrv_nic_stats(instance, interface, &stats, error))
        return NULL;
    return g_variant_new("(xxxxxxxx)", stats.rx_bytes, stats.rx_packets, stats.rx_errors, stats.rx_dropped,
                         stats.tx_bytes, stats.tx_packets, stats.tx_errors, stats.tx_dropped);
}
