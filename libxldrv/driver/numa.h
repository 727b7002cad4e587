/* NUMA: the nodes that a guest sees. */
#pragma once

#include "libxldrv/driver/instance.h"

/* Tells the hypervisor of them, if there are any: before the domain is built, or comes from elsewhere. */
gboolean xldrv_numa_apply(XldrvInstance *instance, const XmlconfDomainConfig *config, GError **error);
