/* Which host CPUs the threads of a domain run on. */
#pragma once

#include "libxldrv/driver/instance.h"
#include "xmlconf/xmlconf.h"

/* Binds the process before it has other threads, and the vCPUs when they have been made, as @config says. */
gboolean xldrv_pin_process(XldrvInstance *instance, const XmlconfDomainConfig *config, GError **error);
gboolean xldrv_pin_vcpus(XldrvInstance *instance, const XmlconfDomainConfig *config, GError **error);

/* CPU maps on the wire: one after the other, @map_bytes each. */
gboolean xldrv_check_cpu_maps(int count, int map_bytes, GError **error);
/* Appends that of @cpuset, or with NULL of all CPUs, as far as they are online. */
void xldrv_add_cpu_map(GByteArray *maps, const char *cpuset, guint map_bytes);
GVariant *xldrv_cpu_maps_to_variant(GByteArray *maps);
