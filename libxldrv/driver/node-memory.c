/* Procedures that change the host's memory: its pools of huge pages, and the kernel's merging of equal pages (KSM). */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/host.h"
#include "libxldrv/host/sysfs.h"

#define KSM          "/sys/kernel/mm/ksm/"
#define MAX_ADJUSTED 1024

static gboolean write_number(const char *path, guint64 value, const char *what, GError **error)
{
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT "\n", value);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    gboolean ok = fd >= 0 && write(fd, text, strlen(text)) == (gssize)strlen(text);

    if (!ok)
        xldrv_set_system_error(error, errno, "cannot set %s to %" G_GUINT64_FORMAT, what, value);
    if (fd >= 0)
        close(fd);
    return ok;
}

/* ---- KSM. Source: libvirt-host.h, VIR_NODE_MEMORY_SHARED_*; the kernel's admin-guide/mm/ksm.rst */

static const struct {
    const char *name, *file;
    gboolean writable; /* and of 32 bits */
} parameters[] = {
    {VIR_NODE_MEMORY_SHARED_PAGES_TO_SCAN, KSM "pages_to_scan", TRUE},
    {VIR_NODE_MEMORY_SHARED_SLEEP_MILLISECS, KSM "sleep_millisecs", TRUE},
    {VIR_NODE_MEMORY_SHARED_MERGE_ACROSS_NODES, KSM "merge_across_nodes", TRUE},
    {VIR_NODE_MEMORY_SHARED_PAGES_SHARED, KSM "pages_shared", FALSE},
    {VIR_NODE_MEMORY_SHARED_PAGES_SHARING, KSM "pages_sharing", FALSE},
    {VIR_NODE_MEMORY_SHARED_PAGES_UNSHARED, KSM "pages_unshared", FALSE},
    {VIR_NODE_MEMORY_SHARED_PAGES_VOLATILE, KSM "pages_volatile", FALSE},
    {VIR_NODE_MEMORY_SHARED_FULL_SCANS, KSM "full_scans", FALSE},
};

/* A kernel without one of them has one less. */
GVariant *xldrv_handle_node_get_memory_parameters(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_auto(GVariantBuilder) list = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(sv)"));
    int room = xldrv_args_i32(args, 0), n = 0;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), VIR_TYPED_PARAM_STRING_OKAY, G_STRFUNC, error))
        return NULL;
    for (gsize i = 0; i < G_N_ELEMENTS(parameters); i++) {
        guint64 value;
        if (!xldrv_sysfs_number(parameters[i].file, &value))
            continue;
        if (n++ < room)
            xldrv_params_add(&list, parameters[i].name,
                             parameters[i].writable ? g_variant_new_uint32((guint32)value) : g_variant_new_uint64(value));
    }
    return g_variant_new("(a(sv)i)", &list, room ? MIN(room, n) : n);
}

static int find_parameter(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(parameters); i++) {
        if (parameters[i].writable && strcmp(parameters[i].name, name) == 0)
            return (int)i;
    }
    return -1;
}

GVariant *xldrv_handle_node_set_memory_parameters(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(GVariant) params = g_variant_get_child_value(args, 0);

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error))
        return NULL;
    for (int pass = 0; pass < 2; pass++) { /* all are looked at before one is set */
        for (gsize i = 0; i < g_variant_n_children(params); i++) {
            g_autoptr(GVariant) value = NULL;
            const char *name;
            int at;

            g_variant_get_child(params, i, "(&sv)", &name, &value);
            at = find_parameter(name);
            if (at < 0 || !g_variant_is_of_type(value, G_VARIANT_TYPE_UINT32)) {
                xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' cannot be set%s", name,
                                at < 0 ? "" : ": it is an unsigned number");
                return NULL;
            }
            if (pass && !write_number(parameters[at].file, g_variant_get_uint32(value), name, error))
                return NULL;
        }
    }
    return xldrv_reply_void();
}

/* ---- huge pages */

static char *pool_path(guint cell, guint kib)
{
    char *of_cell = g_strdup_printf(XLDRV_SYSFS_NODE "/node%u/hugepages/hugepages-%ukB/nr_hugepages", cell, kib);

    if (cell > 0 || g_file_test(of_cell, G_FILE_TEST_EXISTS))
        return of_cell;
    g_free(of_cell);
    return g_strdup_printf("/sys/kernel/mm/hugepages/hugepages-%ukB/nr_hugepages", kib);
}

static gboolean adjust_pool(guint cell, guint kib, guint64 count, gboolean add, GError **error)
{
    g_autofree char *path = pool_path(cell, kib);
    g_autofree char *what = g_strdup_printf("the pages of %u KiB of cell %u", kib, cell);
    guint64 before, after = 0;

    if (!xldrv_sysfs_number(path, &before))
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "page size %u KiB is not available in cell %u", kib, cell);
    if (add && count > G_MAXUINT64 - before)
        return xldrv_set_error(error, VIR_ERR_OVERFLOW, "%s cannot be so many more", what);
    count += add ? before : 0;
    if (!write_number(path, count, what, error))
        return FALSE;
    /* The kernel gives what it has. */
    if (!xldrv_sysfs_number(path, &after) || after < count)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                               "of %s there are %" G_GUINT64_FORMAT " and not %" G_GUINT64_FORMAT, what, after, count);
    return TRUE;
}

GVariant *xldrv_handle_node_alloc_pages(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(GVariant) sizes = g_variant_get_child_value(args, 0), counts = g_variant_get_child_value(args, 1);
    int first = xldrv_args_i32(args, 2), cells = (int)xldrv_host_cells(), adjusted = 0;
    guint n_cells = xldrv_args_u32(args, 3), flags = xldrv_args_u32(args, 4);
    gsize n, n_counts;
    const guint32 *kib = g_variant_get_fixed_array(sizes, &n, sizeof(*kib));
    const guint64 *count = g_variant_get_fixed_array(counts, &n_counts, sizeof(*count));

    if (!xldrv_check_flags(flags, VIR_NODE_ALLOC_PAGES_SET, G_STRFUNC, error))
        return NULL;
    if (first < -1 || first >= cells || n != n_counts || n * n_cells > MAX_ADJUSTED ||
        (first >= 0 && n_cells > (guint)(cells - first))) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%u cells from %d on are not all there (0-%d)", n_cells, first, cells - 1);
        return NULL;
    }
    if (first == -1) {
        first = 0;
        n_cells = cells;
    }
    for (guint cell = first; cell < first + n_cells; cell++) {
        for (gsize i = 0; i < n; i++, adjusted++) {
            if (!adjust_pool(cell, kib[i], count[i], !(flags & VIR_NODE_ALLOC_PAGES_SET), error))
                return NULL;
        }
    }
    return xldrv_reply_int(adjusted);
}

/* A host is not put to sleep below its domains' feet by a daemon that cannot wake it. */
GVariant *xldrv_handle_node_suspend_for_duration(XldrvCall *call G_GNUC_UNUSED, GVariant *args G_GNUC_UNUSED,
                                                 GError **error)
{
    xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "the host cannot be suspended from here: use its service manager");
    return NULL;
}
