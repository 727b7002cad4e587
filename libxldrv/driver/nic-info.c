/* Procedures about network interfaces: statistics, addresses. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/guest.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/network.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/net.h"

XmlconfInterface *xldrv_find_interface(XmlconfDomain *config, const char *name, GError **error)
{
    const XmlconfDomainConfig *typed = xmlconf_domain_config(config);

    for (guint i = 0; typed->interfaces && i < typed->interfaces->len; i++) {
        XmlconfInterface *interface = typed->interfaces->pdata[i];
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
    interface = xldrv_find_interface(config, xldrv_args_string(args, 1), error);
    if (!interface || !xldrv_nic_stats(instance, interface, &stats, error))
        return NULL;
    return g_variant_new("(xxxxxxxx)", stats.rx_bytes, stats.rx_packets, stats.rx_errors, stats.rx_dropped,
                         stats.tx_bytes, stats.tx_packets, stats.tx_errors, stats.tx_dropped);
}

/* ------------------------------------------------------------------ addresses */

static void add_address(int type, const char *address, guint prefix, gpointer addresses)
{
    g_variant_builder_add(addresses, "(isu)", type, address, prefix);
}

static gboolean add_neighbours(XldrvDriver *driver G_GNUC_UNUSED, const XmlconfInterface *interface,
                               GVariantBuilder *addresses, GError **error)
{
    g_autoptr(GPtrArray) found = xldrv_neighbour_addresses(interface->mac, error);

    for (guint i = 0; found && i < found->len; i++) {
        const char *ip = found->pdata[i];

        /* A neighbour does not tell its prefix. */
        add_address(strchr(ip, ':') ? VIR_IP_ADDR_TYPE_IPV6 : VIR_IP_ADDR_TYPE_IPV4, ip, 0, addresses);
    }
    return found != NULL;
}

/* Leases are of libvirt's own networks. */
static gboolean add_leases(XldrvDriver *driver, const XmlconfInterface *interface, GVariantBuilder *addresses,
                           GError **error)
{
    return interface->type != XMLCONF_INTERFACE_NETWORK ||
           xldrv_network_leases(driver, interface, add_address, addresses, error);
}

typedef gboolean (*AddFn)(XldrvDriver *driver, const XmlconfInterface *interface, GVariantBuilder *addresses,
                          GError **error);

static const AddFn sources[] = {
    [VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE] = add_leases,
    [VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP] = add_neighbours,
};

/* Adds what @add knows of one interface to @answer; interfaces without addresses are left out, as libvirt does. */
static gboolean add_interface(GVariantBuilder *answer, const XmlconfInterface *interface, AddFn add, GError **error)
{
    g_auto(GVariantBuilder) addresses = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(isu)"));
    g_autoptr(GVariant) found = NULL;

    if (!add(xldrv_driver_get(), interface, &addresses, error))
        return FALSE;
    found = g_variant_ref_sink(g_variant_builder_end(&addresses));
    if (g_variant_n_children(found) > 0)
        g_variant_builder_add(answer, "(sms@a(isu))", interface->target, interface->mac, found);
    return TRUE;
}

/* All that the guest has, also what it made itself. */
static GVariant *ask_agent(XldrvCall *call, XldrvDomain *domain, GError **error)
{
    g_autoptr(XldrvAgentSession) session = NULL;
    g_autoptr(GVariant) interfaces = NULL;

    if (xldrv_client_is_readonly(xldrv_call_client(call))) {
        xldrv_set_error(error, VIR_ERR_OPERATION_DENIED, "virDomainInterfaceAddresses of the agent");
        return NULL;
    }
    session = xldrv_agent_begin(call, domain, error);
    interfaces = session ? xldrv_guest_interfaces(session, error) : NULL;
    return interfaces ? g_variant_new("(@a(smsa(isu)))", interfaces) : NULL;
}

GVariant *xldrv_handle_domain_interface_addresses(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XldrvInstance) instance = domain ? xldrv_domain_get_instance(domain, error) : NULL;
    g_auto(GVariantBuilder) answer = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(smsa(isu))"));
    g_autoptr(XmlconfDomain) config = NULL;
    const GPtrArray *interfaces;
    guint source = xldrv_args_u32(args, 1);

    if (!instance || !xldrv_check_flags(xldrv_args_u32(args, 2), 0, "virDomainInterfaceAddresses", error))
        return NULL;
    if (source == VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT)
        return ask_agent(call, domain, error);
    if (source >= G_N_ELEMENTS(sources) || !sources[source]) {
        xldrv_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "addresses are known from leases of networks, the "
                        "host's 'arp' table and the guest's agent, not from source %u", source);
        return NULL;
    }
    config = xldrv_domain_get_config(domain, FALSE);
    interfaces = xmlconf_domain_config(config)->interfaces;
    for (guint i = 0; interfaces && i < interfaces->len; i++) {
        if (!add_interface(&answer, interfaces->pdata[i], sources[source], error))
            return NULL;
    }
    return g_variant_new("(@a(smsa(isu)))", g_variant_builder_end(&answer));
}
