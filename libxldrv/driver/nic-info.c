/* Procedures about network interfaces: statistics, addresses. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/net.h"

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

/* ------------------------------------------------------------------ addresses */

/* Adds what the host knows of one interface to @answer; interfaces without addresses are left out, as libvirt does. */
static gboolean add_neighbour(GVariantBuilder *answer, const XmlconfInterface *interface, GError **error)
{
    g_autoptr(GPtrArray) found = xldrv_neighbour_addresses(interface->mac, error);

    if (!found)
        return FALSE;
    if (found->len == 0)
        return TRUE;
    g_variant_builder_open(answer, G_VARIANT_TYPE("(smsa(isu))"));
    g_variant_builder_add(answer, "s", interface->target);
    g_variant_builder_add(answer, "ms", interface->mac);
    g_variant_builder_open(answer, G_VARIANT_TYPE("a(isu)"));
    for (guint i = 0; i < found->len; i++) {
        const char *ip = found->pdata[i];
        int type = strchr(ip, ':') ? VIR_IP_ADDR_TYPE_IPV6 : VIR_IP_ADDR_TYPE_IPV4;

        g_variant_builder_add(answer, "(isu)", type, ip, 0); /* a neighbour does not tell its prefix */
    }
    g_variant_builder_close(answer);
    g_variant_builder_close(answer);
    return TRUE;
}

GVariant *xldrv_handle_domain_interface_addresses(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XldrvInstance) instance = domain ? xldrv_domain_get_instance(domain, error) : NULL;
    g_auto(GVariantBuilder) answer = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(smsa(isu))"));
    g_autoptr(XmlconfDomain) config = NULL;
    const GPtrArray *interfaces;
    guint source = xldrv_args_u32(args, 1);

    if (!instance || !xldrv_check_flags(xldrv_args_u32(args, 2), 0, "virDomainInterfaceAddresses", error))
        return NULL;
    if (source != VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE && source != VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP) {
        xldrv_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "addresses are known from the host's 'arp' table only, "
                        "not from source %u", source);
        return NULL;
    }
    config = xldrv_domain_get_config(domain, FALSE);
    interfaces = xmlconf_domain_config(config)->interfaces;
    /* Leases are of libvirt's own networks, in which no interface is. */
    for (guint i = 0; source == VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP && interfaces && i < interfaces->len; i++)
        if (!add_neighbour(&answer, interfaces->pdata[i], error))
            return NULL;
    return g_variant_new("(@a(smsa(isu)))", g_variant_builder_end(&answer));
}
