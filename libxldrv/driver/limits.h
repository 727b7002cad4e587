/* What a domain's process may have of the host's memory and block devices, by control groups. */
#pragma once

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/instance.h"

/* Makes what @tune says true of a domain that runs: all limits with a number, and each limit of a device that is named,
 * of which 0 is none. A domain of which nothing is said has no groups. An error names the file of the group. */
gboolean xldrv_limit_memory_use(XldrvDriver *driver, XldrvDomain *domain, XldrvInstance *instance,
                                const XmlconfMemtune *tune, GError **error);
gboolean xldrv_limit_block_io(XldrvDriver *driver, XldrvDomain *domain, XldrvInstance *instance,
                              const XmlconfBlkiotune *tune, GError **error);
