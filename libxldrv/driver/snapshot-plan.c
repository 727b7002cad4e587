/* What a snapshot does with each disk. */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "libxldrv/driver/chain.h"
#include "libxldrv/driver/snapshot.h"
#include "libxldrv/driver/volume.h"

/* ---- what can be done */

static gboolean refuse(const XmlconfDisk *disk, const char *kind, const char *why, GError **error)
{
    return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "%s snapshot of disk '%s' is not supported: %s", kind,
                           disk->target, why);
}

static gboolean check_any(const XmlconfDisk *disk, const char *kind, GError **error)
{
    if (!xmlconf_disk_source(disk))
        return refuse(disk, kind, "it has no medium", error);
    if (disk->type == XMLCONF_DISK_NETWORK)
        return refuse(disk, kind, "it is on the network", error);
    if (disk->encryption)
        return refuse(disk, kind, "it is encrypted", error);
    if (disk->readonly)
        return refuse(disk, kind, "it is read-only", error);
    if (disk->shareable)
        return refuse(disk, kind, "it is shared with other domains", error);
    if (disk->job)
        return xldrv_set_error(error, VIR_ERR_BLOCK_COPY_ACTIVE, "disk '%s' has an active block job", disk->target);
    return TRUE;
}

static gboolean check_internal(const XmlconfDisk *disk, GError **error)
{
    g_autofree char *why = NULL;

    if (!check_any(disk, "internal", error))
        return FALSE;
    if (strcmp(disk->format, "qcow2") == 0)
        return TRUE;
    why = g_strdup_printf("format %s has none, qcow2 has", disk->format);
    return refuse(disk, "internal", why, error);
}

static gboolean is_there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && !S_ISBLK(st.st_mode);
}

static gboolean check_external(const XmlconfDisk *disk, const XmlconfSnapshotDisk *plan, gboolean reuse, GError **error)
{
    const char *overlay = plan->file ? plan->file : plan->dev;

    if (!check_any(disk, "external", error))
        return FALSE;
    if (strcmp(plan->format, "qcow2") != 0)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "external snapshot format for disk '%s' is unsupported: %s (qcow2 is supported)", disk->target,
                               plan->format);
    if (reuse ? is_there(overlay) || plan->dev : !is_there(overlay))
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                           reuse ? "missing existing file for disk '%s': %s"
                                 : "external snapshot file for disk '%s' already exists and is not a block device: %s",
                           disk->target, overlay);
}

/* ---- what is to be done */

/* As libvirt names it: in the place of the name's last suffix. */
static gboolean name_overlay(const XmlconfDisk *disk, XmlconfSnapshotDisk *plan, const char *name, GError **error)
{
    const char *path = xmlconf_disk_source(disk);
    const char *slash = path ? strrchr(path, '/') : NULL, *dot = slash ? strrchr(slash, '.') : NULL;

    if (!path || xmlconf_disk_actual_type(disk) != XMLCONF_DISK_FILE)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "cannot generate external snapshot name for disk '%s': it is not on a file", disk->target);
    plan->file = g_strdup_printf("%.*s.%s", (int)(dot ? dot - path : (gssize)strlen(path)), path, name);
    return TRUE;
}

static XmlconfSnapshotLocation default_location(const XmlconfDisk *disk, XmlconfSnapshotLocation fallback)
{
    if (disk->snapshot != XMLCONF_SNAPSHOT_DEFAULT)
        return disk->snapshot;
    return disk->readonly || !xmlconf_disk_source(disk) ? XMLCONF_SNAPSHOT_NO : fallback;
}

static void take_source(XmlconfSnapshotDisk *to, XmlconfSnapshotDisk *from)
{
    to->location = from->location;
    to->type = g_steal_pointer(&from->type);
    to->format = g_steal_pointer(&from->format);
    to->file = g_steal_pointer(&from->file);
    to->dev = g_steal_pointer(&from->dev);
}

static gboolean plan_disk(XmlconfSnapshot *snapshot, const XmlconfDisk *disk, XmlconfSnapshotDisk *asked,
                          XmlconfSnapshotLocation fallback, gboolean reuse, GError **error)
{
    XmlconfSnapshotDisk *plan = xmlconf_snapshot_add_disk(snapshot, disk->target);

    if (asked)
        take_source(plan, asked);
    if (plan->location == XMLCONF_SNAPSHOT_DEFAULT)
        plan->location = default_location(disk, fallback);
    if (plan->location == XMLCONF_SNAPSHOT_INTERNAL)
        return check_internal(disk, error);
    if (plan->location != XMLCONF_SNAPSHOT_EXTERNAL)
        return TRUE;
    if (!plan->type)
        plan->type = g_strdup("file");
    if (!plan->format)
        plan->format = g_strdup("qcow2");
    return (plan->file || plan->dev || name_overlay(disk, plan, snapshot->name, error)) &&
           check_external(disk, plan, reuse, error);
}

/* Each of them is of a disk, and no two of one. */
static GHashTable *index_asked(const GPtrArray *asked, XmlconfDomain *config, GError **error)
{
    g_autoptr(GHashTable) by_target = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = 0; asked && i < asked->len; i++) {
        XmlconfSnapshotDisk *one = asked->pdata[i];
        const XmlconfDisk *disk = xldrv_find_disk(config, one->name, NULL);

        if (!disk) {
            xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "no disk named '%s'", one->name);
            return NULL;
        }
        if (!g_hash_table_insert(by_target, disk->target, one)) {
            xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "disk '%s' specified twice", disk->target);
            return NULL;
        }
    }
    return g_steal_pointer(&by_target);
}

static gboolean check_mix(const XmlconfSnapshot *snapshot, GError **error)
{
    gboolean internal = xldrv_snapshot_has_disk(snapshot, XMLCONF_SNAPSHOT_INTERNAL);
    gboolean external = xldrv_snapshot_has_disk(snapshot, XMLCONF_SNAPSHOT_EXTERNAL);

    if ((internal || snapshot->memory == XMLCONF_SNAPSHOT_INTERNAL) &&
        (external || snapshot->memory == XMLCONF_SNAPSHOT_EXTERNAL))
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "mixing internal and external targets for a snapshot is not supported");
    return TRUE;
}

/* Memory knows what was on the disks: both have to come back. */
static gboolean check_left_out(const XmlconfSnapshot *snapshot, XmlconfDomain *config, GError **error)
{
    if (snapshot->memory != XMLCONF_SNAPSHOT_INTERNAL && snapshot->memory != XMLCONF_SNAPSHOT_EXTERNAL)
        return TRUE;
    for (guint i = 0; snapshot->disks && i < snapshot->disks->len; i++) {
        const XmlconfSnapshotDisk *plan = snapshot->disks->pdata[i];
        const XmlconfDisk *disk = xldrv_find_disk(config, plan->name, NULL);

        if (plan->location == XMLCONF_SNAPSHOT_NO && disk && xmlconf_disk_source(disk) && !disk->readonly)
            return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                                   "snapshots with memory require all disks to be selected for snapshot, and '%s' is not",
                                   disk->target);
    }
    return TRUE;
}

/* Each overlay, and memory, is in a file of its own. */
static gboolean check_distinct(const XmlconfSnapshot *snapshot, GError **error)
{
    g_autoptr(GHashTable) paths = g_hash_table_new(g_str_hash, g_str_equal);

    if (snapshot->memory_file)
        g_hash_table_add(paths, snapshot->memory_file);
    for (guint i = 0; snapshot->disks && i < snapshot->disks->len; i++) {
        const XmlconfSnapshotDisk *plan = snapshot->disks->pdata[i];
        char *path = plan->file ? plan->file : plan->dev;

        if (plan->location == XMLCONF_SNAPSHOT_EXTERNAL && !g_hash_table_add(paths, path))
            return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                                   "'%s' would be both the overlay of disk '%s' and something else of the snapshot", path,
                                   plan->name);
    }
    return TRUE;
}

gboolean xldrv_snapshot_plan(XmlconfSnapshot *snapshot, XmlconfDomain *config, XmlconfSnapshotLocation fallback, gboolean reuse,
                             GError **error)
{
    const GPtrArray *disks = xmlconf_domain_config(config)->disks;
    g_autoptr(GPtrArray) asked = g_steal_pointer(&snapshot->disks);
    g_autoptr(GHashTable) by_target = index_asked(asked, config, error);

    if (!by_target)
        return FALSE;
    for (guint i = 0; disks && i < disks->len; i++) {
        const XmlconfDisk *disk = disks->pdata[i];

        if (!plan_disk(snapshot, disk, g_hash_table_lookup(by_target, disk->target), fallback, reuse, error))
            return FALSE;
    }
    return check_mix(snapshot, error) && check_distinct(snapshot, error) && check_left_out(snapshot, config, error);
}

gboolean xldrv_snapshot_has_disk(const XmlconfSnapshot *snapshot, XmlconfSnapshotLocation location)
{
    for (guint i = 0; snapshot->disks && i < snapshot->disks->len; i++) {
        if (((const XmlconfSnapshotDisk *)snapshot->disks->pdata[i])->location == location)
            return TRUE;
    }
    return FALSE;
}

XmlconfDomain *xldrv_snapshot_config(XldrvDriver *driver, XldrvJob *job, GError **error)
{
    g_autoptr(XmlconfDomain) config = xmlconf_domain_copy(job->instance ? job->live : job->config);
    const GPtrArray *disks = xmlconf_domain_config(config)->disks;

    for (guint i = 0; !job->instance && disks && i < disks->len; i++) {
        if (!xldrv_volume_find(driver, disks->pdata[i], error))
            return NULL;
    }
    return g_steal_pointer(&config);
}
