/* What a disk is on: opening it, and putting something else in its place while the guest has the disk. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/image.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/driver/volume.h"
#include "libxldrv/host/export.h"
#include "libxldrv/host/socket.h"

#define CONNECT_MS   5000
#define PARK_SECONDS 10
#define PARK_POLL_US 5000

/* ---- opening */

static int open_export(const XmlconfDisk *disk, struct domus_vbd_source *source, GError **error)
{
    g_autofree char *where = xmlconf_disk_describe(disk);
    const char *name = xmlconf_disk_source(disk);
    const char *port = disk->port ? disk->port : XMLCONF_NBD_PORT;
    int fd;

    if (!disk->socket) {
        fd = xldrv_export_open_tcp(disk->host, port, name, where, source, error);
    } else {
        fd = xldrv_socket_connect(disk->socket, SOCK_STREAM, CONNECT_MS, error);
        if (fd >= 0)
            fd = xldrv_export_open(fd, name, where, source, error);
    }
    source->reconnect_seconds = (guint32)disk->reconnect_delay;
    return fd;
}

gboolean xldrv_disk_open_source(const XldrvDeviceHost *host, const XmlconfDisk *disk, XldrvStorageSlot slot,
                                struct domus_vbd_source *source, int *fd, GError **error)
{
    *fd = -1;
    *source = (struct domus_vbd_source){.kind = DOMUS_VBD_EMPTY};
    if (!xmlconf_disk_source(disk))
        return TRUE;
    if (xmlconf_disk_is_served(disk)) {
        /* The daemon locks the image itself, and knows less about who has it. */
        if (xldrv_image_check(disk, error))
            *fd = xldrv_storage_open(host, disk, slot, source, error);
    } else if (disk->type == XMLCONF_DISK_NETWORK) {
        *fd = open_export(disk, source, error);
    } else {
        source->kind = DOMUS_VBD_FILE;
        *fd = xldrv_image_open(disk, error);
    }
    return *fd >= 0;
}

void xldrv_disk_close_source(const XldrvDeviceHost *host, const XmlconfDisk *disk, XldrvStorageSlot slot)
{
    if (xmlconf_disk_is_served(disk))
        xldrv_storage_close(host, disk->target, slot);
}

/* ---- putting it in its place */

typedef struct {
    struct domus_vbd_image image;
    int fd;
} Change;

static int set_image(struct domctl *ctl, gpointer data)
{
    Change *change = data;

    return domctl_vbd_set_image(ctl, change->fd, &change->image);
}

static gboolean put_in_place(XldrvInstance *instance, const XmlconfDisk *disk, const struct domus_vbd_source *source,
                             int fd, GError **error)
{
    g_autofree char *what = g_strdup_printf("change the image of disk '%s' of", disk->target);
    g_autofree char *where = xmlconf_disk_describe(disk);
    Change change = {.image = {.source = *source}, .fd = fd};
    g_autoptr(GError) why = NULL;
    guint devid = 0;
    gboolean ok;

    ok = xmlconf_disk_vdev(disk->target, &devid);
    change.image.devid = devid;
    ok = ok && xldrv_instance_control(instance, what, set_image, &change, &why);
    if (fd >= 0)
        close(fd);
    if (ok)
        return TRUE;
    change.image.error[sizeof(change.image.error) - 1] = '\0';
    if (change.image.error[0])
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot put '%s' into disk '%s': %s", where, disk->target,
                               change.image.error);
    if (why)
        g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

/* The other image is opened before anything is given up, so a failure leaves what there was. */
gboolean xldrv_disk_change_medium(const XldrvDeviceHost *host, const XmlconfDisk *now, XmlconfDisk *wanted,
                                  GError **error)
{
    struct domus_vbd_source source;
    int fd;

    if (!xldrv_volume_find(host->driver, wanted, error) ||
        !xldrv_disk_open_source(host, wanted, XLDRV_STORAGE_NEXT, &source, &fd, error))
        return FALSE;
    if (!put_in_place(host->instance, wanted, &source, fd, error)) {
        xldrv_disk_close_source(host, wanted, XLDRV_STORAGE_NEXT);
        return FALSE;
    }
    if (xmlconf_disk_is_served(wanted))
        xldrv_storage_promote(host, now->target);
    else
        xldrv_disk_close_source(host, now, XLDRV_STORAGE_CURRENT);
    return TRUE;
}

gboolean xldrv_disk_reopen(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error)
{
    struct domus_vbd_source source;
    int fd = -1;

    if (xmlconf_disk_is_served(disk))
        fd = xldrv_storage_reconnect(host, disk, &source, error);
    else if (disk->type == XMLCONF_DISK_NETWORK)
        fd = open_export(disk, &source, error);
    else if (!xldrv_disk_open_source(host, disk, XLDRV_STORAGE_CURRENT, &source, &fd, error))
        return FALSE; /* a file does not go away, but it was given up */
    return fd >= 0 && put_in_place(host->instance, disk, &source, fd, error);
}

/* On the image that it has, if that is not given up yet. */
static gboolean stay(const XldrvDeviceHost *host, const XmlconfDisk *disk)
{
    const struct domus_vbd_source source = {.kind = DOMUS_VBD_STAY};

    return put_in_place(host->instance, disk, &source, -1, NULL);
}

gboolean xldrv_disks_reconnect(const XldrvDeviceHost *host, const GPtrArray *disks, GError **error)
{
    for (guint i = 0; disks && i < disks->len; i++) {
        const XmlconfDisk *disk = disks->pdata[i];
        XldrvDiskStats stats;

        if (!xldrv_disk_stats(host->instance, disk, &stats, NULL) || (stats.parking && stay(host, disk)))
            continue;
        if (!stats.lost && !stats.parked && !stats.parking)
            continue;
        if (!xldrv_disk_reopen(host, disk, error))
            return FALSE;
        g_message("disk '%s' of domain '%s' is served again", disk->target, host->name);
    }
    return TRUE;
}

/* ---- sizes */

static gboolean measure_export(const XmlconfDisk *disk, guint64 *bytes, GError **error)
{
    struct domus_vbd_source source;
    int fd = open_export(disk, &source, error);

    if (fd < 0)
        return FALSE;
    close(fd);
    *bytes = source.size_bytes;
    return TRUE;
}

/* What only the program knows that reads the image. */
static gboolean measure_inside(XldrvInstance *instance, const XmlconfDisk *disk, guint64 *bytes, GError **error)
{
    XldrvDiskStats stats;

    if (!instance)
        return disk->type == XMLCONF_DISK_NETWORK ? measure_export(disk, bytes, error)
                                                  : xldrv_storage_measure(disk, bytes, error);
    if (!xldrv_disk_stats(instance, disk, &stats, error))
        return FALSE;
    *bytes = stats.size_bytes;
    return TRUE;
}

gboolean xldrv_disk_measure(XldrvInstance *instance, const XmlconfDisk *disk, XldrvImageInfo *info, GError **error)
{
    if (!xmlconf_disk_source(disk))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "disk '%s' does not currently have a source assigned",
                               disk->target);
    if (disk->type == XMLCONF_DISK_NETWORK) {
        if (!measure_inside(instance, disk, &info->capacity, error))
            return FALSE;
        info->allocation = info->physical = info->capacity;
        return TRUE;
    }
    return xldrv_image_info(disk, info, error) &&
           (!xmlconf_disk_is_served(disk) || measure_inside(instance, disk, &info->capacity, error));
}

gboolean xldrv_disk_park(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error)
{
    const struct domus_vbd_source nothing = {.kind = DOMUS_VBD_PARKED};
    gint64 end = g_get_monotonic_time() + PARK_SECONDS * G_TIME_SPAN_SECOND;
    XldrvDiskStats stats;

    if (!put_in_place(host->instance, disk, &nothing, -1, error))
        return FALSE;
    for (;;) {
        if (!xldrv_disk_stats(host->instance, disk, &stats, error))
            return FALSE;
        if (stats.parked)
            return TRUE;
        if (g_get_monotonic_time() > end && stay(host, disk))
            return xldrv_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "disk '%s' does not come to rest", disk->target);
        g_usleep(PARK_POLL_US);
    }
}

/* What the guest flushes later goes to the next image, so this one is made safe now. */
static gboolean sync_file(const XmlconfDisk *disk, GError **error)
{
    int fd = disk->readonly ? -1 : open(xmlconf_disk_source(disk), O_RDONLY | O_CLOEXEC | O_NOCTTY);
    gboolean ok = disk->readonly || (fd >= 0 && fsync(fd) == 0) ||
                  xldrv_set_system_error(error, errno, "cannot sync '%s'", xmlconf_disk_source(disk));

    if (fd >= 0)
        close(fd);
    return ok;
}

gboolean xldrv_disk_suspend(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error)
{
    if (disk->type == XMLCONF_DISK_NETWORK || !xmlconf_disk_source(disk))
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "disk '%s' has no image of this host", disk->target);
    if (!xldrv_disk_park(host, disk, error))
        return FALSE;
    xldrv_disk_close_source(host, disk, XLDRV_STORAGE_CURRENT);
    if (sync_file(disk, error))
        return TRUE;
    xldrv_disk_continue(host, disk, NULL);
    return FALSE;
}

gboolean xldrv_disk_continue(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error)
{
    struct domus_vbd_source source;
    int fd;

    if (!xldrv_disk_open_source(host, disk, XLDRV_STORAGE_CURRENT, &source, &fd, error))
        return FALSE;
    if (put_in_place(host->instance, disk, &source, fd, error))
        return TRUE;
    xldrv_disk_close_source(host, disk, XLDRV_STORAGE_CURRENT);
    return FALSE;
}

/* A size cannot change under those who are connected. The guest's requests wait meanwhile, and go on in any case. */
static gboolean resize_parked(const XldrvDeviceHost *host, const XmlconfDisk *disk, guint64 bytes, GError **error)
{
    gboolean ok;

    if (!xldrv_disk_park(host, disk, error))
        return FALSE;
    ok = xldrv_storage_resize(host, disk, bytes, error);
    return xldrv_disk_reopen(host, disk, ok ? error : NULL) && ok;
}

static gboolean grow_served(const XldrvDeviceHost *host, const XmlconfDisk *disk, guint64 bytes, GError **error)
{
    guint64 now = 0;

    if (!measure_inside(host->instance, disk, &now, error))
        return FALSE;
    if (bytes < now)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "disk '%s' has %" G_GUINT64_FORMAT " bytes and cannot become smaller", disk->target, now);
    return bytes == now || resize_parked(host, disk, bytes, error);
}

gboolean xldrv_disk_grow(const XldrvDeviceHost *host, const XmlconfDisk *disk, guint64 bytes, GError **error)
{
    if (disk->readonly)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "disk '%s' is read-only", disk->target);
    if (disk->type == XMLCONF_DISK_NETWORK)
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                               "disk '%s' is on the network, and has the size that its server gives it", disk->target);
    if (xmlconf_disk_is_served(disk))
        return grow_served(host, disk, bytes, error);
    return xldrv_image_grow(disk, bytes, error) && xldrv_disk_resize(host->instance, disk, error);
}
