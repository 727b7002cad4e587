/* What a network interface of a running domain is on the host. */
#pragma once

#include "libxldrv/driver/devices.h"
#include "libxldrv/host/net.h"

typedef struct {
    enum domus_vif_port kind;
    guint n_fds;
    int fds[XLDRV_TAP_QUEUES_MAX];
} XldrvNicPort;

/* What keeps one. */
void xldrv_nic_port_free(gpointer port);

/* Plugs it into the network that it is of, if it is: what it is on the host is known then. On failure it is not. nic-host.c */
gboolean xldrv_nic_plug(const XldrvDeviceHost *host, XmlconfInterface *interface, GError **error);
/* Whether it may be made while the guest is elsewhere: nobody sees one without a carrier. nic-host.c */
gboolean xldrv_nic_can_wait(const XmlconfInterface *interface);
/* Makes what @interface, which is plugged in and whose alias and target are set, is connected by, and fills in what becomes known of it. On
 * failure nothing is left. nic-host.c */
gboolean xldrv_nic_open(const XldrvDeviceHost *host, XmlconfInterface *interface, const guint8 mac[6],
                        XldrvNicPort *port, GError **error);
/* Removes what stays when the descriptors are closed. Whatever of it is gone already is no error. @uuid is the domain's.
 * nic-host.c */
void xldrv_nic_close(XldrvDriver *driver, const char *uuid, const XmlconfInterface *interface);
