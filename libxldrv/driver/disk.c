/* Disks of running domains: an image, nodes in the store, a back end in the hypervisor. */
#include "config.h"

#include "libxldrv/driver/devices.h"

#include <unistd.h>

#include "libxldrv/driver/image.h"

#define KIND "vbd"

/* By the target, which was checked when the configuration was read. */
static guint devid_of(const XmlconfDisk *disk)
{
    guint vdev = 0;

    return xmlconf_disk_vdev(disk->target, &vdev) ? vdev : 0;
}

static const char *device_type(const XmlconfDisk *disk)
{
    return disk->device == XMLCONF_DISK_CDROM ? "cdrom" : "disk";
}

static void remove_nodes(const XldrvDeviceHost *host, const XmlconfDisk *disk)
{
    xldrv_store_remove_device(host->driver->store, xldrv_instance_id(host->instance), KIND, devid_of(disk));
}

/* As libxl writes them. The serial has no place in Xen's protocol; a guest that wants it finds it. */
static gboolean add_nodes(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error)
{
    g_autofree char *number = g_strdup_printf("%u", devid_of(disk));
    const XldrvStoreKey backend[] = {
        {"removable", "0"},
        {"bootable", "1"},
        {"dev", disk->target},
        {"type", disk->type == XMLCONF_DISK_BLOCK ? "phy" : "file"},
        {"mode", disk->readonly ? "r" : "w"},
        {"device-type", device_type(disk)},
        {"discard-enable", disk->discard == XMLCONF_DISCARD_IGNORE ? "0" : "1"},
        {NULL, NULL},
    };
    const XldrvStoreKey frontend[] = {
        {"virtual-device", number},
        {"device-type", device_type(disk)},
        {disk->serial ? "serial" : NULL, disk->serial},
        {NULL, NULL},
    };
    const XldrvStoreKey hidden[] = {{"params", xmlconf_disk_source(disk)}, {NULL, NULL}};
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
    guint32 flags = 0;

    if (disk->readonly)
        flags |= DOMUS_VBD_READ_ONLY;
    if (disk->device == XMLCONF_DISK_CDROM)
        flags |= DOMUS_VBD_CDROM;
    if (disk->discard != XMLCONF_DISCARD_IGNORE && !disk->readonly)
        flags |= DOMUS_VBD_DISCARD;
    return flags;
}

static gboolean attach_back_end(const XldrvDeviceHost *host, const XmlconfDisk *disk, int fd, GError **error)
{
    Attach attach = {.vbd = {.devid = devid_of(disk), .flags = flags_of(disk)}, .fd = fd};
    g_autofree char *what = g_strdup_printf("attach disk '%s' to", disk->target);
    g_autoptr(GError) why = NULL;

    if (xldrv_instance_control(host->instance, what, attach_vbd, &attach, &why))
        return TRUE;
    attach.vbd.error[sizeof(attach.vbd.error) - 1] = '\0';
    if (!attach.vbd.error[0]) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot attach disk '%s' on '%s': %s", disk->target,
                           xmlconf_disk_source(disk), attach.vbd.error);
}

gboolean xldrv_disk_attach(const XldrvDeviceHost *host, XmlconfDisk *disk, GError **error)
{
    int fd = xldrv_image_open(disk, error);
    gboolean ok;

    if (fd < 0)
        return FALSE;
    g_free(disk->alias);
    disk->alias = g_strdup(disk->target);
    ok = add_nodes(host, disk, error);
    if (ok && !attach_back_end(host, disk, fd, error)) {
        remove_nodes(host, disk);
        ok = FALSE;
    }
    close(fd);
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
    };
    return TRUE;
}
