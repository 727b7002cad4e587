/* CPUs: what the host has, what a guest can have, and what a domain asks for. */
#pragma once

#include "libxldrv/driver/instance.h"
#include "xmlconf/xmlconf.h"

typedef struct _XldrvCpus XldrvCpus;

/* What there is is found out when it is first asked for: a guest's part from the hypervisor itself. @hypervisor and
 * @engine (may be NULL) live longer. */
XldrvCpus *xldrv_cpus_new(const char *hypervisor, const char *engine);
void xldrv_cpus_free(XldrvCpus *cpus);

/* Belong to @cpus; NULL with an error. Any thread. */
const XmlconfCpuMap *xldrv_cpus_map(XldrvCpus *cpus, GError **error);
const XmlconfCpuHave *xldrv_cpus_host(XldrvCpus *cpus, GError **error);
const XmlconfCpuHave *xldrv_cpus_guest(XldrvCpus *cpus, GError **error);

/* Keeps from the guest of an instance, which has its vCPUs and does not run, what @cpu does not give it. */
gboolean xldrv_cpus_apply(XldrvCpus *cpus, XldrvInstance *instance, const XmlconfCpu *cpu, GError **error);
