/* Procedures about the host. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/host.h"

#define MODEL_CHARS   32
#define MAX_FREE_PAGES 1024

GVariant *xldrv_handle_node_get_info(XldrvCall *call G_GNUC_UNUSED, GVariant *args G_GNUC_UNUSED,
                                     GError **error G_GNUC_UNUSED)
{
    const XmlconfHost *host = &xldrv_driver_get()->host;
    char model[MODEL_CHARS] = "x86_64";

    return g_variant_new("(@aytiiiiii)", g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, model, MODEL_CHARS, 1),
                         host->memory_kib, (int)host->cpus, (int)xldrv_host_cpu_mhz(), (int)host->nodes,
                         (int)host->sockets, (int)host->cores, (int)host->threads);
}

GVariant *xldrv_handle_node_get_cpu_map(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    gboolean need_map = xldrv_args_i32(args, 0) != 0, need_online = xldrv_args_i32(args, 1) != 0;
    g_autoptr(GByteArray) map = NULL;
    guint present, online;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error))
        return NULL;
    map = xldrv_host_cpu_map(&present, &online);
    return g_variant_new("(@ayui)",
                         g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, map->data, need_map ? map->len : 0, 1),
                         need_online ? online : 0, (int)present);
}

/* ---- statistics: name and number, of which a client asks first how many there are */

typedef struct {
    const char *name;
    guint64 value;
} NodeStat;

static GVariant *reply_stats(const NodeStat *stats, int have, int room, GError **error)
{
    GVariantBuilder list;

    if (room != 0 && room < have) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "nparams must be 0 or at least %d, not %d", have, room);
        return NULL;
    }
    g_variant_builder_init(&list, G_VARIANT_TYPE("a(st)"));
    for (int i = 0; room != 0 && i < have; i++)
        g_variant_builder_add(&list, "(st)", stats[i].name, stats[i].value);
    return g_variant_new("(a(st)i)", &list, have);
}

GVariant *xldrv_handle_node_get_cpu_stats(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    int cpu = xldrv_args_i32(args, 0);
    XldrvCpuTimes times;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error))
        return NULL;
    if (cpu < VIR_NODE_CPU_STATS_ALL_CPUS || !xldrv_host_cpu_times(cpu, &times)) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "the host has no online CPU %d", cpu);
        return NULL;
    }
    const NodeStat stats[] = {
        {VIR_NODE_CPU_STATS_KERNEL, times.kernel}, {VIR_NODE_CPU_STATS_USER, times.user},
        {VIR_NODE_CPU_STATS_IDLE, times.idle},     {VIR_NODE_CPU_STATS_IOWAIT, times.iowait},
        {VIR_NODE_CPU_STATS_INTR, times.intr},
    };
    return reply_stats(stats, G_N_ELEMENTS(stats), xldrv_args_i32(args, 1), error);
}

static gboolean check_cell(int cell, GError **error)
{
    if (cell >= -1 && cell < (int)xldrv_host_cells())
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "the host has no NUMA cell %d", cell);
}

GVariant *xldrv_handle_node_get_memory_stats(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    static const struct {
        const char *name, *entry;
        gboolean of_host_only;
    } rows[] = {
        {VIR_NODE_MEMORY_STATS_TOTAL, "MemTotal", FALSE},
        {VIR_NODE_MEMORY_STATS_FREE, "MemFree", FALSE},
        {VIR_NODE_MEMORY_STATS_BUFFERS, "Buffers", TRUE},
        {VIR_NODE_MEMORY_STATS_CACHED, "Cached", TRUE},
    };
    int cell = xldrv_args_i32(args, 1);
    NodeStat stats[G_N_ELEMENTS(rows)];
    int n = 0;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error) || !check_cell(cell, error))
        return NULL;
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        if (cell >= 0 && rows[i].of_host_only)
            continue;
        stats[n].name = rows[i].name;
        if (xldrv_host_meminfo(cell, rows[i].entry, &stats[n].value))
            n++;
    }
    return reply_stats(stats, n, xldrv_args_i32(args, 0), error);
}

/* ---- free memory */

static guint64 free_bytes(int cell)
{
    guint64 kib = 0;

    xldrv_host_meminfo(cell, "MemFree", &kib);
    return kib * 1024;
}

GVariant *xldrv_handle_node_get_free_memory(XldrvCall *call G_GNUC_UNUSED, GVariant *args G_GNUC_UNUSED,
                                            GError **error G_GNUC_UNUSED)
{
    return g_variant_new("(t)", free_bytes(-1));
}

GVariant *xldrv_handle_node_get_cells_free_memory(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                                  GError **error)
{
    int first = xldrv_args_i32(args, 0), max = xldrv_args_i32(args, 1);
    int cells = xldrv_host_cells();
    GVariantBuilder list;

    if (first < 0 || max < 1 || first >= cells) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "start cell %d out of range (0-%d)", first, cells - 1);
        return NULL;
    }
    g_variant_builder_init(&list, G_VARIANT_TYPE("at"));
    for (int cell = first; cell < cells && cell - first < max; cell++)
        g_variant_builder_add(&list, "t", free_bytes(cell));
    return g_variant_new("(at)", &list);
}

GVariant *xldrv_handle_node_get_free_pages(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(GVariant) sizes = g_variant_get_child_value(args, 0);
    int first = xldrv_args_i32(args, 1);
    guint cells = xldrv_args_u32(args, 2);
    gsize n;
    const guint32 *kib = g_variant_get_fixed_array(sizes, &n, sizeof(*kib));
    GVariantBuilder list;

    if (!xldrv_check_flags(xldrv_args_u32(args, 3), 0, G_STRFUNC, error))
        return NULL;
    if (first < 0 || !cells || cells > xldrv_host_cells() - first || first >= (int)xldrv_host_cells() ||
        n * cells > MAX_FREE_PAGES) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "cells %d to %u are not all there (0-%u)", first,
                        first + cells - 1, xldrv_host_cells() - 1);
        return NULL;
    }
    g_variant_builder_init(&list, G_VARIANT_TYPE("at"));
    for (guint cell = first; cell < first + cells; cell++) {
        for (gsize i = 0; i < n; i++) {
            guint64 pages;
            if (!xldrv_host_free_pages(cell, kib[i], &pages)) {
                g_variant_builder_clear(&list);
                xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "page size %u KiB is not available", kib[i]);
                return NULL;
            }
            g_variant_builder_add(&list, "t", pages);
        }
    }
    return g_variant_new("(at)", &list);
}
