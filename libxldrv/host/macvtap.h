/* Macvtaps: interfaces of their own on top of one of the host's, with a device file for each. */
#pragma once

#include <glib.h>

#include "libxldrv/host/net.h"

typedef struct {
    const char *name;  /* "vif3.0" */
    const char *dev;   /* on top of which interface of the host */
    const char *mode;  /* "vepa", "bridge", "private" or "passthrough": how those on top of it reach each other */
    guint queues;      /* 1 to XLDRV_TAP_QUEUES_MAX */
    const guint8 *mac; /* 6 bytes: the guest's. A passthrough one has that of its device, which takes all frames */
    guint mtu;         /* 0: that of the device */
} XldrvMacvtap;

/* Makes a macvtap, with virtio-net headers, and opens @macvtap->queues of @fds. It stays until it is deleted. On failure
 * nothing is left of it. */
gboolean xldrv_macvtap_create(const XldrvMacvtap *macvtap, int *fds, GError **error);
/* Deletes it, if there is one of that name on top of @dev. */
void xldrv_macvtap_delete(const char *name, const char *dev);
