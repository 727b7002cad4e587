/* The network of a user: passt(1) at the other end of an interface, one process for each. */
#pragma once

#include "libxldrv/driver/devices.h"

/* Starts it and waits until it serves. *@fd is our end of its socket; with that it ends. */
gboolean xldrv_passt_start(const XldrvDeviceHost *host, const XmlconfInterface *interface, int *fd, GError **error);
/* Ends it, if it runs. @uuid is the domain's. */
void xldrv_passt_stop(XldrvDriver *driver, const char *uuid, const XmlconfInterface *interface);
