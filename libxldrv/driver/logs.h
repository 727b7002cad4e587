/* The logs of a running domain, which its hypervisor writes and cannot open: of its consoles, and its own. */
#pragma once

#include "libxldrv/driver/devices.h"

#define XLDRV_LOGS_NONE G_MAXUINT64

/* Has the hypervisor tell when its own log, NAME.log, is full. */
gboolean xldrv_log_watch_own(const XldrvDeviceHost *host, GError **error);
/* Puts logs that are full aside and gives the hypervisor new ones; and the one that it names (HV_EVENT_LOG_FULL), or
 * XLDRV_LOGS_NONE, again if somebody else did so. That it cannot is logged, and the log goes on growing. With the domain's
 * job. */
void xldrv_logs_renew(XldrvDriver *driver, XldrvJob *job, guint64 named);
