/* What the host is: CPUs, memory, firmware tables, names. All numbers are read anew unless said otherwise. */
#pragma once

#include <glib.h>

#include "xmlconf/xmlconf.h"

/* Fills @host but for what the hypervisor says; the strings are the caller's. */
void xldrv_host_fill(XmlconfHost *host);
void xldrv_host_clear(XmlconfHost *host);

char *xldrv_host_name(void);
guint xldrv_host_cpu_mhz(void);

/* Which CPUs are online: bit n%8 of byte n/8. *present is the number of CPUs, *online that of those online. */
GByteArray *xldrv_host_cpu_map(guint *present, guint *online);

/* Nanoseconds since boot that CPU @cpu (-1: all) spent so. FALSE: there is no such CPU. */
typedef struct {
    guint64 kernel, user, idle, iowait, intr;
} XldrvCpuTimes;
gboolean xldrv_host_cpu_times(int cpu, XldrvCpuTimes *times);

/* Nanoseconds of CPU that the threads of a process used in user mode and in the kernel. */
gboolean xldrv_host_process_times(int pid, guint64 *user, guint64 *kernel);
/* Resident memory of a process. */
gboolean xldrv_host_process_rss(int pid, guint64 *kib);

/* NUMA cells of the host, at least 1; and one value of /proc/meminfo or of a cell's own, by its name there.
 * @cell -1: the whole host. */
guint xldrv_host_cells(void);
gboolean xldrv_host_meminfo(int cell, const char *name, guint64 *kib);

/* What the host's pool of huge pages has free, and how many of those are promised to somebody. */
void xldrv_host_hugepages(guint page_kib, guint64 *there, guint64 *reserved);
/* Free pages of @page_kib in a cell: 4 are ordinary pages. FALSE: there is no such page size. */
gboolean xldrv_host_free_pages(int cell, guint page_kib, guint64 *pages);

/* SMBIOS strings in libvirt's sysinfo XML; NULL: the host's firmware tells none. */
char *xldrv_host_sysinfo(void);
