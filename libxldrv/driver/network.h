/* Ports of libvirt's virtual networks: an interface of type network is plugged into one. */
#pragma once

#include "libxldrv/driver/devices.h"

/* Gives a running domain's interface the UUID that its port will have: kept before there is a port, so that none is
 * left behind. */
void xldrv_network_name(XmlconfInterface *interface);
/* Makes its port and fills in what that says of bridge and actual type. On failure there is no port. */
gboolean xldrv_network_plug(const XldrvDeviceHost *host, XmlconfInterface *interface, GError **error);
/* Removes its port, if it has one. */
void xldrv_network_unplug(XldrvDriver *driver, const XmlconfInterface *interface);

/* Calls @fn for each address that the network's DHCP server has given to the interface. */
typedef void (*XldrvLeaseFn)(int type, const char *address, guint prefix, gpointer data);
gboolean xldrv_network_leases(XldrvDriver *driver, const XmlconfInterface *interface, XldrvLeaseFn fn, gpointer data,
                              GError **error);
