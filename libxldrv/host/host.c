/* Numbers about CPUs and memory, from /proc and /sys. */
#include "config.h"

#include "libxldrv/host/host.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "libxldrv/host/sysfs.h"
#include "libxldrv/host/topology.h"

/* The value of the first line "@key : value" of /proc/cpuinfo. */
static char *cpuinfo(const char *key)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents("/proc/cpuinfo", &text, NULL, NULL))
        return NULL;
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        char *colon = strchr(*line, ':');
        if (!colon || !g_str_has_prefix(*line, key))
            continue;
        *colon = '\0';
        if (strcmp(g_strchomp(*line), key) == 0)
            return g_strstrip(g_strdup(colon + 1));
    }
    return NULL;
}

static char *host_uuid(void)
{
    g_autofree char *machine = xldrv_sysfs_line("/sys/class/dmi/id/product_uuid");
    g_autofree char *id = NULL;

    if (machine && g_uuid_string_is_valid(machine))
        return g_ascii_strdown(machine, -1);
    id = xldrv_sysfs_line("/etc/machine-id");
    if (!id || strlen(id) != 32)
        return g_uuid_string_random();
    return g_strdup_printf("%.8s-%.4s-%.4s-%.4s-%.12s", id, id + 8, id + 12, id + 16, id + 20);
}

/* The vendor as libvirt's CPU map calls it; NULL: it does not know it. */
static char *cpu_vendor(void)
{
    static const char *const names[][2] = {
        {"GenuineIntel", "Intel"}, {"AuthenticAMD", "AMD"}, {"HygonGenuine", "Hygon"}};
    g_autofree char *id = cpuinfo("vendor_id");

    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        if (g_strcmp0(id, names[i][0]) == 0)
            return g_strdup(names[i][1]);
    }
    return NULL;
}

void xldrv_host_fill(XmlconfHost *host)
{
    host->host_uuid = host_uuid();
    host->cpu_model = cpuinfo("model name");
    host->cpu_vendor = cpu_vendor();
    host->page_kib = sysconf(_SC_PAGESIZE) / 1024;
    xldrv_host_meminfo(-1, "MemTotal", &host->memory_kib);
    if (!xldrv_host_meminfo(-1, "Hugepagesize", &host->hugepages_kib))
        host->hugepages_kib = 0;
    xldrv_topology_fill(host);
}

void xldrv_host_clear(XmlconfHost *host)
{
    g_clear_pointer(&host->host_uuid, g_free);
    g_clear_pointer(&host->cpu_model, g_free);
    g_clear_pointer(&host->cpu_vendor, g_free);
    xldrv_topology_clear(host);
}

char *xldrv_host_name(void)
{
    struct utsname names;

    return g_strdup(uname(&names) == 0 && *names.nodename ? names.nodename : "localhost");
}

guint xldrv_host_cpu_mhz(void)
{
    g_autofree char *text = cpuinfo("cpu MHz");

    return text ? (guint)g_ascii_strtod(text, NULL) : 0;
}

GByteArray *xldrv_host_cpu_map(guint *present, guint *online)
{
    g_autoptr(GArray) all = xldrv_sysfs_list(XLDRV_SYSFS_CPU "/present");
    g_autoptr(GArray) on = xldrv_sysfs_list(XLDRV_SYSFS_CPU "/online");
    GByteArray *map = g_byte_array_new();

    *present = all->len ? g_array_index(all, guint, all->len - 1) + 1 : 1;
    *online = on->len;
    g_byte_array_set_size(map, (*present + 7) / 8);
    memset(map->data, 0, map->len);
    for (guint i = 0; i < on->len; i++) {
        guint cpu = g_array_index(on, guint, i);
        if (cpu < *present)
            map->data[cpu / 8] |= 1 << cpu % 8;
    }
    return map;
}

gboolean xldrv_host_cpu_times(int cpu, XldrvCpuTimes *times)
{
    g_autofree char *name = cpu < 0 ? g_strdup("cpu ") : g_strdup_printf("cpu%d ", cpu);
    guint64 user, nice, system, idle, iowait, irq, softirq;
    const guint64 tick_ns = G_GUINT64_CONSTANT(1000000000) / sysconf(_SC_CLK_TCK);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents("/proc/stat", &text, NULL, NULL))
        return FALSE;
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (!g_str_has_prefix(*line, name) ||
            sscanf(*line + strlen(name),
                   "%" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT
                   " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT,
                   &user, &nice, &system, &idle, &iowait, &irq, &softirq) != 7)
            continue;
        times->user = (user + nice) * tick_ns;
        times->kernel = (system + irq + softirq) * tick_ns;
        times->idle = idle * tick_ns;
        times->iowait = iowait * tick_ns;
        times->intr = (irq + softirq) * tick_ns;
        return TRUE;
    }
    return FALSE;
}

gboolean xldrv_host_process_times(int pid, guint64 *user, guint64 *kernel)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);
    g_autofree char *text = NULL;
    const guint64 tick_ns = G_GUINT64_CONSTANT(1000000000) / sysconf(_SC_CLK_TCK);
    const char *end;

    if (!g_file_get_contents(path, &text, NULL, NULL) || !(end = strrchr(text, ')')))
        return FALSE;
    /* Fields 14 and 15; the first after the name is 3. */
    if (sscanf(end + 1,
               " %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT,
               user, kernel) != 2)
        return FALSE;
    *user *= tick_ns;
    *kernel *= tick_ns;
    return TRUE;
}

gboolean xldrv_host_process_rss(int pid, guint64 *kib)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/statm", pid);
    g_autofree char *text = NULL;
    guint64 pages;

    if (!g_file_get_contents(path, &text, NULL, NULL) ||
        sscanf(text, "%*s %" G_GUINT64_FORMAT, &pages) != 1)
        return FALSE;
    *kib = pages * (sysconf(_SC_PAGESIZE) / 1024);
    return TRUE;
}

guint xldrv_host_cells(void)
{
    g_autoptr(GArray) nodes = xldrv_sysfs_list(XLDRV_SYSFS_NODE "/online");

    return MAX(nodes->len, 1);
}

gboolean xldrv_host_meminfo(int cell, const char *name, guint64 *kib)
{
    g_autofree char *path = cell < 0 ? g_strdup("/proc/meminfo")
                                     : g_strdup_printf(XLDRV_SYSFS_NODE "/node%d/meminfo", cell);
    g_autofree char *pattern = g_strdup_printf(" %s:", name);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    /* Where the kernel knows no cells the host is cell 0. */
    if (cell == 0 && !g_file_test(path, G_FILE_TEST_EXISTS))
        return xldrv_host_meminfo(-1, name, kib);
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return FALSE;
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        /* "MemTotal: 1 kB", or of a cell "Node 0 MemTotal: 1 kB". */
        const char *at = cell < 0 ? (g_str_has_prefix(*line, pattern + 1) ? *line : NULL)
                                  : strstr(*line, pattern);
        if (at)
            return sscanf(strchr(at, ':') + 1, "%" G_GUINT64_FORMAT, kib) == 1;
    }
    return FALSE;
}

gboolean xldrv_host_free_pages(int cell, guint page_kib, guint64 *pages)
{
    g_autofree char *of_cell =
        g_strdup_printf(XLDRV_SYSFS_NODE "/node%d/hugepages/hugepages-%ukB/free_hugepages", cell, page_kib);
    g_autofree char *of_host =
        g_strdup_printf("/sys/kernel/mm/hugepages/hugepages-%ukB/free_hugepages", page_kib);
    const guint own_kib = sysconf(_SC_PAGESIZE) / 1024;

    if (page_kib == own_kib) {
        if (!xldrv_host_meminfo(cell, "MemFree", pages))
            return FALSE;
        *pages /= own_kib;
        return TRUE;
    }
    return xldrv_sysfs_number(of_cell, pages) || (cell == 0 && xldrv_sysfs_number(of_host, pages));
}

static void read_pool(guint page_kib, const char *what, guint64 *pages)
{
    g_autofree char *path = g_strdup_printf("/sys/kernel/mm/hugepages/hugepages-%ukB/%s_hugepages", page_kib, what);

    if (!xldrv_sysfs_number(path, pages))
        *pages = 0;
}

void xldrv_host_hugepages(guint page_kib, guint64 *there, guint64 *reserved)
{
    read_pool(page_kib, "free", there);
    read_pool(page_kib, "resv", reserved);
}
