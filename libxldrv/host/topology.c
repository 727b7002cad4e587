/* Sockets, cores, threads and NUMA cells, as the kernel numbers them. */
#include "config.h"

#include "libxldrv/host/topology.h"

#include "libxldrv/host/host.h"
#include "libxldrv/host/sysfs.h"

static guint count_distinct(const char *attribute, GArray *cpus)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; i < cpus->len; i++) {
        g_autofree char *path = g_strdup_printf(XLDRV_SYSFS_CPU "/cpu%u/topology/%s",
                                                g_array_index(cpus, guint, i), attribute);
        char *value = xldrv_sysfs_line(path);
        if (value)
            g_hash_table_add(seen, value);
    }
    return g_hash_table_size(seen);
}

static void fill_counts(XmlconfHost *host)
{
    g_autoptr(GArray) online = xldrv_sysfs_list(XLDRV_SYSFS_CPU "/online");
    guint packages = count_distinct("physical_package_id", online);
    guint cores = count_distinct("core_cpus_list", online);

    host->cpus = MAX(online->len, 1);
    host->nodes = xldrv_host_cells();
    host->sockets = MAX(packages / host->nodes, 1);
    host->cores = MAX(cores / (host->nodes * host->sockets), 1);
    host->threads = MAX(host->cpus / (host->nodes * host->sockets * host->cores), 1);
    /* Where the kernel's numbers do not multiply to what is there, say the plain truth instead. */
    if (host->nodes * host->sockets * host->cores * host->threads != host->cpus) {
        host->nodes = host->sockets = host->threads = 1;
        host->cores = host->cpus;
    }
}

/* ---- cells */

static guint cpu_number(guint cpu, const char *attribute)
{
    g_autofree char *path = g_strdup_printf(XLDRV_SYSFS_CPU "/cpu%u/topology/%s", cpu, attribute);
    guint64 value;

    return xldrv_sysfs_number(path, &value) && value <= G_MAXUINT ? value : 0;
}

static void fill_cpu(XmlconfHostCpu *cpu, guint id)
{
    g_autofree char *siblings = g_strdup_printf(XLDRV_SYSFS_CPU "/cpu%u/topology/core_cpus_list", id);

    cpu->id = id;
    cpu->socket = cpu_number(id, "physical_package_id");
    cpu->die = cpu_number(id, "die_id");
    cpu->core = cpu_number(id, "core_id");
    cpu->siblings = xldrv_sysfs_line(siblings);
}

/* @cpu_list: a file that lists the cell's CPUs. */
static void fill_cell(XmlconfHostCell *cell, guint id, const char *cpu_list)
{
    g_autoptr(GArray) cpus = xldrv_sysfs_list(cpu_list);

    cell->id = id;
    xldrv_host_meminfo(id, "MemTotal", &cell->memory_kib);
    cell->n_cpus = cpus->len;
    cell->cpus = g_new0(XmlconfHostCpu, cpus->len + 1);
    for (guint i = 0; i < cpus->len; i++)
        fill_cpu(&cell->cpus[i], g_array_index(cpus, guint, i));
}

static void fill_cells(XmlconfHost *host)
{
    g_autoptr(GArray) nodes = xldrv_sysfs_list(XLDRV_SYSFS_NODE "/online");

    host->n_cells = MAX(nodes->len, 1);
    host->cells = g_new0(XmlconfHostCell, host->n_cells);
    for (guint i = 0; i < nodes->len; i++) {
        guint id = g_array_index(nodes, guint, i);
        g_autofree char *cpu_list = g_strdup_printf(XLDRV_SYSFS_NODE "/node%u/cpulist", id);
        fill_cell(&host->cells[i], id, cpu_list);
    }
    /* A kernel without NUMA: the host is one cell. */
    if (!nodes->len)
        fill_cell(&host->cells[0], 0, XLDRV_SYSFS_CPU "/online");
}

void xldrv_topology_fill(XmlconfHost *host)
{
    fill_counts(host);
    fill_cells(host);
}

void xldrv_topology_clear(XmlconfHost *host)
{
    for (guint i = 0; i < host->n_cells; i++) {
        for (guint j = 0; j < host->cells[i].n_cpus; j++)
            g_free(host->cells[i].cpus[j].siblings);
        g_free(host->cells[i].cpus);
    }
    g_clear_pointer(&host->cells, g_free);
    host->n_cells = 0;
}
