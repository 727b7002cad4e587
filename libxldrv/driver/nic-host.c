/* The host's side of network interfaces, by type. */
#include "config.h"

#include "libxldrv/driver/nic.h"

#include "libxldrv/driver/filter.h"
#include "libxldrv/driver/network.h"
#include "libxldrv/driver/passt.h"
#include "libxldrv/host/macvtap.h"

typedef gboolean (*OpenFn)(const XldrvDeviceHost *host, const XmlconfInterface *interface, const guint8 mac[6],
                           XldrvNicPort *port, GError **error);

static guint queues_of(const XmlconfInterface *interface)
{
    return MAX(interface->queues, 1);
}

/* ---- taps */

/* An interface of type ethernet may name a tap that somebody else made, and keeps. */
static gboolean open_tap(const XldrvDeviceHost *host G_GNUC_UNUSED, const XmlconfInterface *interface,
                         const guint8 mac[6], XldrvNicPort *port, GError **error)
{
    g_autofree char *name = NULL;
    const XldrvTap tap = {
        .name = interface->target,
        .existing = interface->type == XMLCONF_INTERFACE_ETHERNET && xldrv_link_exists(interface->target),
        .queues = queues_of(interface),
        .mac = mac,
        .mtu = interface->mtu,
        .bridge = interface->bridge,
        .isolated = interface->isolated,
        .up = TRUE,
    };

    port->n_fds = tap.queues;
    return xldrv_tap_create(&tap, port->fds, &name, error);
}

/* ---- macvtaps */

static gboolean open_macvtap(const XldrvDeviceHost *host G_GNUC_UNUSED, const XmlconfInterface *interface,
                             const guint8 mac[6], XldrvNicPort *port, GError **error)
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

static void close_macvtap(XldrvDriver *driver G_GNUC_UNUSED, const char *uuid G_GNUC_UNUSED,
                          const XmlconfInterface *interface)
{
    if (interface->target && interface->dev)
        xldrv_macvtap_delete(interface->target, interface->dev);
}

/* ---- passt */

static gboolean open_user(const XldrvDeviceHost *host, const XmlconfInterface *interface,
                          const guint8 mac[6] G_GNUC_UNUSED, XldrvNicPort *port, GError **error)
{
    port->kind = DOMUS_VIF_STREAM;
    port->n_fds = 1;
    return xldrv_passt_start(host, interface, port->fds, error);
}

/* ---- by type: a tap goes with its descriptors */

static const struct {
    OpenFn open;
    void (*close)(XldrvDriver *driver, const char *uuid, const XmlconfInterface *interface);
} kinds[] = {
    [XMLCONF_INTERFACE_BRIDGE] = {open_tap, NULL},
    [XMLCONF_INTERFACE_ETHERNET] = {open_tap, NULL},
    [XMLCONF_INTERFACE_NETWORK] = {open_tap, NULL},
    [XMLCONF_INTERFACE_DIRECT] = {open_macvtap, close_macvtap},
    [XMLCONF_INTERFACE_USER] = {open_user, xldrv_passt_stop},
};

gboolean xldrv_nic_plug(const XldrvDeviceHost *host, XmlconfInterface *interface, GError **error)
{
    return interface->type != XMLCONF_INTERFACE_NETWORK || xldrv_network_plug(host, interface, error);
}

gboolean xldrv_nic_can_wait(const XmlconfInterface *interface)
{
    return kinds[interface->actual].open == open_tap;
}

void xldrv_nic_port_free(gpointer data)
{
    XldrvNicPort *port = data;

    xldrv_tap_close(port->fds, port->n_fds);
    g_free(port);
}

gboolean xldrv_nic_open(const XldrvDeviceHost *host, XmlconfInterface *interface, const guint8 mac[6],
                        XldrvNicPort *port, GError **error)
{
    *port = (XldrvNicPort){.kind = DOMUS_VIF_TAP};
    if (!kinds[interface->actual].open(host, interface, mac, port, error)) {
        xldrv_network_unplug(host->driver, interface);
        g_clear_pointer(&interface->target, g_free); /* what has that name may be another's */
        return FALSE;
    }
    if (xldrv_filter_bind(host, interface, error))
        return TRUE;
    xldrv_tap_close(port->fds, port->n_fds);
    xldrv_nic_close(host->driver, host->uuid, interface);
    return FALSE;
}

void xldrv_nic_close(XldrvDriver *driver, const char *uuid, const XmlconfInterface *interface)
{
    xldrv_filter_unbind(driver, interface);
    if (kinds[interface->actual].close)
        kinds[interface->actual].close(driver, uuid, interface);
    xldrv_network_unplug(driver, interface);
}
