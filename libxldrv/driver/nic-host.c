/* The host's side of network interfaces, by type. */
#include "config.h"

#include "libxldrv/driver/nic.h"

#include "libxldrv/driver/network.h"
#include "libxldrv/host/macvtap.h"

static guint queues_of(const XmlconfInterface *interface)
{
    return MAX(interface->queues, 1);
}

/* ---- taps */

/* An interface of type ethernet may name a tap that somebody else made, and keeps. */
static gboolean open_tap(const XmlconfInterface *interface, const guint8 mac[6], XldrvNicPort *port, GError **error)
{
    g_autofree char *name = NULL;
    const XldrvTap tap = {
        .name = interface->target,
        .existing = interface->type == XMLCONF_INTERFACE_ETHERNET && xldrv_link_exists(interface->target),
        .queues = queues_of(interface),
        .mac = mac,
        .mtu = interface->mtu,
        .bridge = interface->bridge,
        .up = TRUE,
    };

    port->n_fds = tap.queues;
    return xldrv_tap_create(&tap, port->fds, &name, error);
}

/* ---- macvtaps */

static gboolean open_macvtap(const XmlconfInterface *interface, const guint8 mac[6], XldrvNicPort *port,
                             GError **error)
{
    const XldrvMacvtap macvtap = {
        .name = interface->target,
        .dev = interface->dev,
        .mode = interface->mode,
        .queues = queues_of(interface),
        .mac = mac,
        .mtu = interface->mtu,
    };

    port->n_fds = macvtap.queues;
    return xldrv_macvtap_create(&macvtap, port->fds, error);
}

static void close_macvtap(const XmlconfInterface *interface)
{
    if (interface->target && interface->dev)
        xldrv_macvtap_delete(interface->target, interface->dev);
}

/* ---- by type: a tap goes with its descriptors */

static const struct {
    gboolean (*open)(const XmlconfInterface *interface, const guint8 mac[6], XldrvNicPort *port, GError **error);
    void (*close)(const XmlconfInterface *interface);
} kinds[] = {
    [XMLCONF_INTERFACE_BRIDGE] = {open_tap, NULL},
    [XMLCONF_INTERFACE_ETHERNET] = {open_tap, NULL},
    [XMLCONF_INTERFACE_NETWORK] = {open_tap, NULL},
    [XMLCONF_INTERFACE_DIRECT] = {open_macvtap, close_macvtap},
};

gboolean xldrv_nic_open(const XldrvDeviceHost *host, XmlconfInterface *interface, const guint8 mac[6],
                        XldrvNicPort *port, GError **error)
{
    *port = (XldrvNicPort){.kind = DOMUS_VIF_TAP};
    if (interface->type == XMLCONF_INTERFACE_NETWORK && !xldrv_network_plug(host, interface, error))
        return FALSE;
    if (kinds[interface->actual].open(interface, mac, port, error))
        return TRUE;
    xldrv_network_unplug(host->driver, interface);
    g_clear_pointer(&interface->target, g_free); /* what has that name may be another's */
    return FALSE;
}

void xldrv_nic_close(XldrvDriver *driver, const XmlconfInterface *interface)
{
    if (kinds[interface->actual].close)
        kinds[interface->actual].close(interface);
    xldrv_network_unplug(driver, interface);
}
