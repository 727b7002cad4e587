/* Disks of running domains: an image, nodes in the store, a back end in the hypervisor. */
#include "config.h"

#include "libxldrv/driver/devices.h"

#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/chain.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/driver/volume.h"

#define KIND "vbd"

/* By the target, which was checked when the configuration was read. */
static guint devid_of(const XmlconfDisk *disk)
{
    guint vdev = 0;

    return xmlconf_disk_vdev(disk->target, &vdev) ? vdev : 0;
}

/* Who serves it, by libxl's names. */
static const char *backend_type(const XmlconfDisk *disk)
{
    if (disk->type == XMLCONF_DISK_NETWORK || xmlconf_disk_is_served(disk))
        return "qdisk";
    return xmlconf_disk_actual_type(disk) == XMLCONF_DISK_BLOCK ? "phy" : "file";
}

static const char *device_type(const XmlconfDisk *disk)
{
    return disk->device == XMLCONF_DISK_CDROM ? "cdrom" : "disk";
}

static void remove_nodes(const XldrvDeviceHost *host, const XmlconfDisk *disk)
{
    xldrv_store_remove_device(host->driver->store, xldrv_instance_id(host->instance), KIND, devid_of(disk));
}

/* As libxl writes them, but the front end of a drive says "disk": a Linux guest of this kind leaves one that says "cdrom"
 * alone, because where there is firmware an emulated drive is beside it. The serial has no place in Xen's protocol; a guest that wants it finds it. */
static gboolean add_nodes(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error)
{
    g_autofree char *number = g_strdup_printf("%u", devid_of(disk));
    const XldrvStoreKey backend[] = {
        {"removable", "0"},
        {"bootable", "1"},
        {"dev", disk->target},
        {"type", backend_type(disk)},
        {"mode", disk->readonly ? "r" : "w"},
        {"device-type", device_type(disk)},
        {"discard-enable", disk->discard == XMLCONF_DISCARD_IGNORE ? "0" : "1"},
        {NULL, NULL},
    };
    const XldrvStoreKey frontend[] = {
        {"virtual-device", number},
        {"device-type", "disk"},
        {disk->serial ? "serial" : NULL, disk->serial},
        {NULL, NULL},
    };
    const char *source = xmlconf_disk_source(disk);
    const XldrvStoreKey hidden[] = {{"params", source ? source : ""}, {NULL, NULL}};
    const XldrvStoreDevice device = {
        .id = xldrv_instance_id(host->instance),
        .kind = KIND,
        .devid = devid_of(disk),
        .backend = backend,
        .frontend = frontend,
        .hidden = hidden,
    };

    return xldrv_store_add_device(host->driver->store, &device, error);
}

/* ---- attach */

typedef struct {
    struct domus_vbd vbd;
    int fd;
} Attach;

static int attach_vbd(struct domctl *ctl, gpointer data)
{
    Attach *attach = data;

    return domctl_vbd_attach(ctl, attach->fd, &attach->vbd);
}

static guint32 flags_of(const XmlconfDisk *disk)
{
    guint32 flags = disk->cache == XMLCONF_CACHE_UNSAFE ? DOMUS_VBD_NO_FLUSH : 0;

    if (disk->readonly)
        flags |= DOMUS_VBD_READ_ONLY;
    if (disk->device == XMLCONF_DISK_CDROM)
        flags |= DOMUS_VBD_CDROM | DOMUS_VBD_REMOVABLE;
    if (disk->discard != XMLCONF_DISCARD_IGNORE && !disk->readonly)
        flags |= DOMUS_VBD_DISCARD;
    return flags;
}

static guint8 policy_of(XmlconfErrorPolicy policy)
{
    switch (policy) {
    case XMLCONF_POLICY_STOP:
        return DOMUS_VBD_STOP;
    case XMLCONF_POLICY_IGNORE:
        return DOMUS_VBD_IGNORE;
    case XMLCONF_POLICY_ENOSPACE:
        return DOMUS_VBD_ENOSPC;
    case XMLCONF_POLICY_REPORT:
    case XMLCONF_POLICY_DEFAULT:
        break;
    }
    return DOMUS_VBD_REPORT;
}

/* As libvirt has it: what is said of writes is said of reads as well, unless something else is said of those. */
static guint8 read_policy_of(const XmlconfDisk *disk)
{
    if (disk->rerror_policy != XMLCONF_POLICY_DEFAULT)
        return policy_of(disk->rerror_policy);
    return disk->error_policy == XMLCONF_POLICY_ENOSPACE ? DOMUS_VBD_REPORT : policy_of(disk->error_policy);
}

static gboolean attach_back_end(const XldrvDeviceHost *host, const XmlconfDisk *disk,
                                const struct domus_vbd_source *image, int fd, GError **error)
{
    Attach attach = {.vbd = {.devid = devid_of(disk),
                             .flags = flags_of(disk),
                             .write_policy = policy_of(disk->error_policy),
                             .read_policy = read_policy_of(disk),
                             .source = *image},
                     .fd = fd};
    g_autofree char *where = xmlconf_disk_describe(disk);
    g_autofree char *what = g_strdup_printf("attach disk '%s' to", disk->target);
    g_autoptr(GError) why = NULL;

    if (xldrv_instance_control(host->instance, what, attach_vbd, &attach, &why))
        return TRUE;
    attach.vbd.error[sizeof(attach.vbd.error) - 1] = '\0';
    if (!attach.vbd.error[0]) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot attach disk '%s' on '%s': %s", disk->target, where,
                           attach.vbd.error);
}

static gboolean has_limits(const XmlconfDisk *disk)
{
    static const XmlconfIotune none;

    return memcmp(&disk->iotune, &none, sizeof(none)) != 0;
}

static gboolean attach_image(const XldrvDeviceHost *host, const XmlconfDisk *disk,
                             const struct domus_vbd_source *image, int fd, GError **error)
{
    if (!attach_back_end(host, disk, image, fd, error))
        return FALSE;
    /* The guest cannot have seen it yet, so nothing has passed without limits but what is not worth counting. */
    if (!has_limits(disk) || xldrv_disk_set_limits(host->instance, disk, error))
        return TRUE;
    xldrv_disk_detach(host, disk, TRUE, NULL);
    return FALSE;
}

/* What the image is based on does not change while it is in use elsewhere. */
gboolean xldrv_disk_make(const XldrvDeviceHost *host, XmlconfDisk *disk, GError **error)
{
    gboolean is_served;

    if (!xldrv_volume_find(host->driver, disk, error) || !add_nodes(host, disk, error))
        return FALSE;
    is_served = xmlconf_disk_source(disk) && xmlconf_disk_is_served(disk);
    if (is_served && !xldrv_storage_make(host, disk, error))
        return FALSE;
    xldrv_chain_learn(disk);
    return TRUE;
}

gboolean xldrv_disk_attach(const XldrvDeviceHost *host, XmlconfDisk *disk, GError **error)
{
    struct domus_vbd_source image;
    gboolean ok;
    int fd;

    xldrv_blockjob_forget(disk);
    if (!xldrv_volume_find(host->driver, disk, error) ||
        !xldrv_disk_open_source(host, disk, XLDRV_STORAGE_CURRENT, &image, &fd, error))
        return FALSE;
    g_free(disk->alias);
    disk->alias = g_strdup(disk->target);
    disk->tray_open = FALSE;
    ok = xldrv_instance_made(host->instance) || add_nodes(host, disk, error);
    if (ok && !attach_image(host, disk, &image, fd, error)) {
        remove_nodes(host, disk);
        ok = FALSE;
    }
    if (fd >= 0)
        close(fd);
    if (ok && !xldrv_instance_made(host->instance))
        xldrv_chain_learn(disk);
    else if (!ok)
        xldrv_disk_close_source(host, disk, XLDRV_STORAGE_CURRENT);
    return ok;
}

/* ---- detach, resize, statistics */

static int ask_vbd(struct domctl *ctl, gpointer data)
{
    const XldrvDetach *detach = data;

    return domctl_vbd_detach(ctl, detach->devid, detach->force);
}

static int look_at_vbd(struct domctl *ctl, gpointer data)
{
    const XldrvDetach *detach = data;
    struct domus_vbd_stats stats;

    return domctl_vbd_stats(ctl, detach->devid, &stats);
}

gboolean xldrv_disk_detach(const XldrvDeviceHost *host, const XmlconfDisk *disk, gboolean force, GError **error)
{
    g_autofree char *what = g_strdup_printf("disk '%s'", disk->target);
    XldrvDetach detach = {.instance = host->instance,
                          .what = what,
                          .devid = devid_of(disk),
                          .ask = ask_vbd,
                          .look = look_at_vbd,
                          .force = force};

    if (!xldrv_device_detach(&detach, error))
        return FALSE;
    remove_nodes(host, disk);
    xldrv_disk_close_source(host, disk, XLDRV_STORAGE_CURRENT);
    return TRUE;
}

static int resize_vbd(struct domctl *ctl, gpointer devid)
{
    return domctl_vbd_resize(ctl, *(guint *)devid, 0, NULL);
}

gboolean xldrv_disk_resize(XldrvInstance *instance, const XmlconfDisk *disk, GError **error)
{
    g_autofree char *what = g_strdup_printf("resize disk '%s' of", disk->target);
    guint devid = devid_of(disk);

    return xldrv_instance_control(instance, what, resize_vbd, &devid, error);
}

static int set_limits(struct domctl *ctl, gpointer limits)
{
    return domctl_vbd_set_limits(ctl, limits);
}

gboolean xldrv_disk_set_limits(XldrvInstance *instance, const XmlconfDisk *disk, GError **error)
{
    g_autofree char *what = g_strdup_printf("limit disk '%s' of", disk->target);
    const XmlconfIotune *t = &disk->iotune;
    struct domus_vbd_limits limits = {
        .devid = devid_of(disk),
        .total_bytes = t->total_bytes_sec,
        .read_bytes = t->read_bytes_sec,
        .write_bytes = t->write_bytes_sec,
        .total_iops = t->total_iops_sec,
        .read_iops = t->read_iops_sec,
        .write_iops = t->write_iops_sec,
        .total_bytes_burst = t->total_bytes_sec_max,
        .read_bytes_burst = t->read_bytes_sec_max,
        .write_bytes_burst = t->write_bytes_sec_max,
        .total_iops_burst = t->total_iops_sec_max,
        .read_iops_burst = t->read_iops_sec_max,
        .write_iops_burst = t->write_iops_sec_max,
    };

    return xldrv_instance_control(instance, what, set_limits, &limits, error);
}

typedef struct {
    guint devid;
    struct domus_vbd_stats stats;
} Query;

static int get_stats(struct domctl *ctl, gpointer data)
{
    Query *query = data;

    return domctl_vbd_stats(ctl, query->devid, &query->stats);
}

gboolean xldrv_disk_stats(XldrvInstance *instance, const XmlconfDisk *disk, XldrvDiskStats *stats, GError **error)
{
    g_autofree char *what = g_strdup_printf("get statistics of disk '%s' of", disk->target);
    Query query = {.devid = devid_of(disk)};

    if (!xldrv_instance_control(instance, what, get_stats, &query, error))
        return FALSE;
    *stats = (XldrvDiskStats){
        .read_requests = query.stats.rd_req,
        .read_bytes = query.stats.rd_bytes,
        .read_ns = query.stats.rd_ns,
        .write_requests = query.stats.wr_req,
        .write_bytes = query.stats.wr_bytes,
        .write_ns = query.stats.wr_ns,
        .flush_requests = query.stats.flush_req,
        .flush_ns = query.stats.flush_ns,
        .errors = query.stats.errors,
        .size_bytes = query.stats.size_bytes,
        .held = query.stats.held,
        .held_error = query.stats.held_error,
        .parked = query.stats.parked == 1,
        .parking = query.stats.parked == 2,
        .lost = query.stats.lost != 0,
    };
    return TRUE;
}
