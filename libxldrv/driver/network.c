/* Ports of networks, by libvirt's public interface. Source: libvirt formatnetworkport.html. */
#include "config.h"

#include "libxldrv/driver/network.h"

#include <stdlib.h>

#include "libxldrv/driver/peer.h"

void xldrv_network_name(XmlconfInterface *interface)
{
    if (interface->type == XMLCONF_INTERFACE_NETWORK && !interface->port_id)
        interface->port_id = g_uuid_string_random();
}

static virConnectPtr reach(XldrvDriver *driver, GError **error)
{
    return xldrv_peer_open(driver->network_uri, "network", error);
}

static virNetworkPtr find_network(virConnectPtr connection, const XmlconfInterface *interface, GError **error)
{
    virNetworkPtr network = virNetworkLookupByName(connection, interface->network);

    if (!network)
        xldrv_peer_error(error, "interface '%s'", interface->mac);
    return network;
}

/* ---- plug */

static char *describe(const XldrvDeviceHost *host, const XmlconfInterface *interface)
{
    const XmlconfNetworkPort port = {
        .uuid = interface->port_id,
        .owner_name = (char *)host->name,
        .owner_uuid = (char *)host->uuid,
        .group = interface->portgroup,
        .mac = interface->mac,
        .isolated = interface->isolated,
        .bandwidth = interface->bandwidth,
    };

    return xmlconf_network_port_format(&port);
}

static const XmlconfInterfaceType actual_types[] = {
    [XMLCONF_PLUG_NETWORK] = XMLCONF_INTERFACE_NETWORK,
    [XMLCONF_PLUG_BRIDGE] = XMLCONF_INTERFACE_BRIDGE,
    [XMLCONF_PLUG_DIRECT] = XMLCONF_INTERFACE_DIRECT,
};

static void move_text(char **to, char **from)
{
    g_free(*to);
    *to = g_steal_pointer(from);
}

/* What the network has made of the port becomes the interface's. */
static gboolean take(XmlconfInterface *interface, const char *xml, GError **error)
{
    g_auto(XmlconfNetworkPort) port = {0};
    g_autoptr(GError) why = NULL;

    if (!xmlconf_network_port_parse(&port, xml, &why))
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "interface '%s' cannot be in network '%s': %s",
                               interface->mac, interface->network, why->message);
    if (!port.plug || !(port.plug == XMLCONF_PLUG_DIRECT ? port.dev && port.mode : port.bridge != NULL))
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "network '%s' has no place for interface '%s'",
                               interface->network, interface->mac);
    interface->actual = actual_types[port.plug];
    interface->isolated = port.isolated;
    interface->bandwidth = port.bandwidth;
    move_text(&interface->bridge, &port.bridge);
    move_text(&interface->dev, &port.dev);
    move_text(&interface->mode, &port.mode);
    return TRUE;
}

gboolean xldrv_network_plug(const XldrvDeviceHost *host, XmlconfInterface *interface, GError **error)
{
    g_autofree char *xml = describe(host, interface);
    g_autoptr(virConnect) connection = reach(host->driver, error);
    g_autoptr(virNetwork) network = connection ? find_network(connection, interface, error) : NULL;
    g_autoptr(virNetworkPort) port = network ? virNetworkPortCreateXML(network, xml, 0) : NULL;
    g_autofree char *made = port ? virNetworkPortGetXMLDesc(port, 0) : NULL;

    if (!network)
        return FALSE;
    if (!made)
        xldrv_peer_error(error, "interface '%s' of network '%s'", interface->mac, interface->network);
    if (made && take(interface, made, error))
        return TRUE;
    if (port)
        virNetworkPortDelete(port, 0);
    return FALSE;
}

/* ---- unplug */

static gboolean delete_port(XldrvDriver *driver, const XmlconfInterface *interface, GError **error)
{
    g_autoptr(virConnect) connection = reach(driver, error);
    g_autoptr(virNetwork) network = connection ? virNetworkLookupByName(connection, interface->network) : NULL;
    g_autoptr(virNetworkPort) port = network ? virNetworkPortLookupByUUIDString(network, interface->port_id) : NULL;

    if (!connection)
        return FALSE;
    return !port || virNetworkPortDelete(port, 0) == 0 || /* else it is gone, or the network is */
           xldrv_peer_error(error, "port '%s' of network '%s'", interface->port_id, interface->network);
}

void xldrv_network_unplug(XldrvDriver *driver, const XmlconfInterface *interface)
{
    g_autoptr(GError) why = NULL;

    if (interface->type == XMLCONF_INTERFACE_NETWORK && interface->port_id && !delete_port(driver, interface, &why))
        g_warning("interface '%s' stays in network '%s': %s", interface->mac, interface->network, why->message);
}

/* ---- leases */

static void free_leases(virNetworkDHCPLeasePtr *leases, int n)
{
    for (int i = 0; i < n; i++)
        virNetworkDHCPLeaseFree(leases[i]);
    free(leases);
}

gboolean xldrv_network_leases(XldrvDriver *driver, const XmlconfInterface *interface, XldrvLeaseFn fn, gpointer data,
                              GError **error)
{
    g_autoptr(virConnect) connection = reach(driver, error);
    g_autoptr(virNetwork) network = connection ? find_network(connection, interface, error) : NULL;
    virNetworkDHCPLeasePtr *leases = NULL;
    int n = network ? virNetworkGetDHCPLeases(network, interface->mac, &leases, 0) : -1;

    if (!network)
        return FALSE;
    if (n < 0)
        return xldrv_peer_error(error, "leases of interface '%s' of network '%s'", interface->mac, interface->network);
    for (int i = 0; i < n; i++)
        fn(leases[i]->type, leases[i]->ipaddr, leases[i]->prefix, data);
    free_leases(leases, n);
    return TRUE;
}
