/* Limits of memory and block I/O: from a configuration to the files of control groups. Sources of the files: Linux
 * Documentation/admin-guide/cgroup-v1/memory.rst and blkio-controller.rst, cgroup-v2.rst, block/bfq-iosched.rst. */
#include "config.h"

#include "libxldrv/driver/limits.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "libxldrv/driver/tune.h"
#include "libxldrv/host/cgroup.h"
#include "libxldrv/rpc/rpc.h"

static gboolean apply(XldrvDriver *driver, XldrvDomain *domain, XldrvInstance *instance, const XldrvCgroups *groups,
                      GArray *values, GError **error)
{
    g_autofree char *name = xldrv_tune_group(driver, domain->uuid_text);

    return xldrv_cgroups_set(groups, name, xldrv_instance_process(instance)->pid, (const XldrvCgroupValue *)values->data,
                             values->len, error);
}

static void clear_value(gpointer value)
{
    g_free(((XldrvCgroupValue *)value)->text);
}

static GArray *new_values(void)
{
    GArray *values = g_array_new(FALSE, TRUE, sizeof(XldrvCgroupValue));

    g_array_set_clear_func(values, clear_value);
    return values;
}

/* @text is taken. @other: where the kernel may have it instead, or NULL. */
static void add(GArray *values, const char *file, const char *other, char *text)
{
    const XldrvCgroupValue value = {{file, other}, text};

    g_array_append_val(values, value);
}

/* ---- memory */

static void add_amount(GArray *values, gboolean unified, const char *v1, const char *v2, guint64 kib)
{
    if (!kib)
        return;
    add(values, unified ? v2 : v1, NULL,
        kib >= XMLCONF_MAX_LIMIT_KIB ? g_strdup(unified ? "max" : "-1")
                                     : g_strdup_printf("%" G_GUINT64_FORMAT, kib * 1024));
}

/* cgroup v2 counts swap apart. */
static guint64 swap_kib(const XmlconfMemtune *tune, gboolean unified)
{
    guint64 kib = tune->swap_hard_limit_kib;

    if (!unified || kib >= XMLCONF_MAX_LIMIT_KIB || tune->hard_limit_kib >= kib)
        return kib;
    return kib - tune->hard_limit_kib;
}

gboolean xldrv_limit_memory_use(XldrvDriver *driver, XldrvDomain *domain, XldrvInstance *instance,
                                const XmlconfMemtune *tune, GError **error)
{
    g_autoptr(XldrvCgroups) groups = NULL;
    g_autoptr(GArray) values = new_values();
    gboolean unified;

    if (!tune->hard_limit_kib && !tune->soft_limit_kib && !tune->swap_hard_limit_kib)
        return TRUE;
    groups = xldrv_cgroups_find(XLDRV_CGROUP_MEMORY, error);
    if (!groups)
        return FALSE;
    unified = xldrv_cgroups_is_unified(groups);
    add_amount(values, unified, "memory.limit_in_bytes", "memory.max", tune->hard_limit_kib);
    add_amount(values, unified, "memory.memsw.limit_in_bytes", "memory.swap.max", swap_kib(tune, unified));
    add_amount(values, unified, "memory.soft_limit_in_bytes", "memory.high", tune->soft_limit_kib);
    return apply(driver, domain, instance, groups, values, error);
}

/* ---- block I/O */

#define LIMIT(member) G_STRUCT_OFFSET(XmlconfBlkioDevice, member)

static const struct {
    gsize offset;
    const char *v1;  /* its file */
    const char *key; /* in io.max of cgroup v2 */
} throttles[] = {
    {LIMIT(read_bytes_sec), "blkio.throttle.read_bps_device", "rbps"},
    {LIMIT(write_bytes_sec), "blkio.throttle.write_bps_device", "wbps"},
    {LIMIT(read_iops_sec), "blkio.throttle.read_iops_device", "riops"},
    {LIMIT(write_iops_sec), "blkio.throttle.write_iops_device", "wiops"},
};

static guint64 limit_of(const XmlconfBlkioDevice *device, gsize throttle)
{
    return *(const guint64 *)((const char *)device + throttles[throttle].offset);
}

/* "MAJOR:MINOR", new. */
static char *number_of(const char *path, GError **error)
{
    struct stat about;
    gboolean there = stat(path, &about) == 0;

    if (there && S_ISBLK(about.st_mode))
        return g_strdup_printf("%u:%u", major(about.st_rdev), minor(about.st_rdev));
    xldrv_set_error(error, VIR_ERR_INVALID_ARG, "cannot limit I/O of '%s': %s", path,
                    there ? "it is not a block device" : g_strerror(errno));
    return NULL;
}

static void add_throttles(GArray *values, gboolean unified, const XmlconfBlkioDevice *device, const char *number)
{
    for (gsize i = 0; i < G_N_ELEMENTS(throttles); i++) {
        guint64 limit = limit_of(device, i);

        if (!unified)
            add(values, throttles[i].v1, NULL, g_strdup_printf("%s %" G_GUINT64_FORMAT, number, limit));
        else if (limit)
            add(values, "io.max", NULL, g_strdup_printf("%s %s=%" G_GUINT64_FORMAT, number, throttles[i].key, limit));
        else
            add(values, "io.max", NULL, g_strdup_printf("%s %s=max", number, throttles[i].key));
    }
}

static gboolean add_device(GArray *values, gboolean unified, const XmlconfBlkioDevice *device, GError **error)
{
    g_autofree char *number = number_of(device->path, error);

    if (!number)
        return FALSE;
    if (device->weight)
        add(values, unified ? "io.bfq.weight" : "blkio.bfq.weight_device", unified ? "io.weight" : "blkio.weight_device",
            g_strdup_printf("%s %" G_GUINT64_FORMAT, number, device->weight));
    add_throttles(values, unified, device, number);
    return TRUE;
}

gboolean xldrv_limit_block_io(XldrvDriver *driver, XldrvDomain *domain, XldrvInstance *instance,
                              const XmlconfBlkiotune *tune, GError **error)
{
    g_autoptr(XldrvCgroups) groups = NULL;
    g_autoptr(GArray) values = new_values();
    gboolean unified;

    if (!tune->weight && (!tune->devices || tune->devices->len == 0))
        return TRUE;
    groups = xldrv_cgroups_find(XLDRV_CGROUP_BLOCK_IO, error);
    if (!groups)
        return FALSE;
    unified = xldrv_cgroups_is_unified(groups);
    if (tune->weight)
        add(values, unified ? "io.bfq.weight" : "blkio.bfq.weight", unified ? "io.weight" : "blkio.weight",
            g_strdup_printf("%" G_GUINT64_FORMAT, tune->weight));
    for (guint i = 0; tune->devices && i < tune->devices->len; i++) {
        if (!add_device(values, unified, tune->devices->pdata[i], error))
            return FALSE;
    }
    return apply(driver, domain, instance, groups, values, error);
}
