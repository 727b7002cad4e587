/* Filters of interfaces: libvirt's filter daemon binds them to taps. */
#pragma once

#include "libxldrv/driver/devices.h"

/* Has the interface's filter, if it has one, applied to its tap, which is there. */
gboolean xldrv_filter_bind(const XldrvDeviceHost *host, const XmlconfInterface *interface, GError **error);
void xldrv_filter_unbind(XldrvDriver *driver, const XmlconfInterface *interface);
