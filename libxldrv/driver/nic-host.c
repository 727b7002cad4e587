/* The host's side of network interfaces, by type. */
#include "config.h"

#include "libxldrv/driver/nic.h"

#include <stdio.h>

#include "libxldrv/driver/network.h"

#define QUEUES 1

gboolean xldrv_nic_mac(const XmlconfInterface *interface, guint8 mac[6], GError **error)
{
    guint bytes[6];

    if (sscanf(interface->mac, "%2x:%2x:%2x:%2x:%2x:%2x", &bytes[0], &bytes[1], &bytes[2], &bytes[3], &bytes[4],
               &bytes[5]) != 6)
        return xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "interface has MAC address '%s'", interface->mac);
    for (gsize i = 0; i < 6; i++)
        mac[i] = (guint8)bytes[i];
    return TRUE;
}

/* An interface of type ethernet may name a tap that somebody else made, and keeps. */
static gboolean open_tap(const XmlconfInterface *interface, XldrvNicPort *port, GError **error)
{
    guint8 mac[6];
    g_autofree char *name = NULL;
    const XldrvTap tap = {
        .name = interface->target,
        .existing = interface->type == XMLCONF_INTERFACE_ETHERNET && xldrv_link_exists(interface->target),
        .queues = QUEUES,
        .mac = mac,
        .mtu = interface->mtu,
        .bridge = interface->bridge,
        .up = TRUE,
    };

    if (!xldrv_nic_mac(interface, mac, error) || !xldrv_tap_create(&tap, port->fds, &name, error))
        return FALSE;
    port->kind = DOMUS_VIF_TAP;
    port->n_fds = QUEUES;
    return TRUE;
}

gboolean xldrv_nic_open(const XldrvDeviceHost *host, XmlconfInterface *interface, XldrvNicPort *port, GError **error)
{
    *port = (XldrvNicPort){0};
    if (interface->type == XMLCONF_INTERFACE_NETWORK && !xldrv_network_plug(host, interface, error))
        return FALSE;
    if (open_tap(interface, port, error))
        return TRUE;
    xldrv_nic_close(host->driver, interface);
    return FALSE;
}

void xldrv_nic_close(XldrvDriver *driver, const XmlconfInterface *interface)
{
    xldrv_network_unplug(driver, interface);
}
