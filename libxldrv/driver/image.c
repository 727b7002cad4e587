/* Images and block devices of disks. */
#include "config.h"

#include "libxldrv/driver/image.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"

static const char *kind_of(const XmlconfDisk *disk)
{
    return disk->type == XMLCONF_DISK_BLOCK ? "block device" : "image";
}

static gboolean fail(const XmlconfDisk *disk, virErrorNumber code, const char *problem, GError **error)
{
    return xldrv_set_error(error, code, "%s '%s' of disk '%s' %s", kind_of(disk), xmlconf_disk_source(disk),
                           disk->target, problem);
}

static gboolean fail_errno(const XmlconfDisk *disk, const char *what, GError **error)
{
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot %s %s '%s' of disk '%s': %s", what,
                           kind_of(disk), xmlconf_disk_source(disk), disk->target, g_strerror(errno));
}

/* What happens at the host's side of a flush is the hypervisor's; here is what goes past the page cache. */
static int open_flags(const XmlconfDisk *disk)
{
    int flags = disk->readonly ? O_RDONLY : O_RDWR;

    if (disk->cache == XMLCONF_CACHE_NONE || disk->cache == XMLCONF_CACHE_DIRECTSYNC)
        flags |= O_DIRECT;
    if (disk->cache == XMLCONF_CACHE_WRITETHROUGH || disk->cache == XMLCONF_CACHE_DIRECTSYNC)
        flags |= O_DSYNC;
    /* A pipe must not make us wait for its other end. */
    return flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
}

static gboolean check_kind(const XmlconfDisk *disk, int fd, GError **error)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return fail_errno(disk, "look at", error);
    if (disk->type == XMLCONF_DISK_BLOCK)
        return S_ISBLK(st.st_mode) || fail(disk, VIR_ERR_OPERATION_FAILED, "is not a block device", error);
    return S_ISREG(st.st_mode) || fail(disk, VIR_ERR_OPERATION_FAILED, "is not a regular file", error);
}

/* Readers and those who share keep sole writers out; the lock of a reader needs a file open for reading, which all
 * are. Of the whole file, so that it meets QEMU's, which are of single bytes. */
static gboolean lock(const XmlconfDisk *disk, int fd, GError **error)
{
    struct flock range = {.l_type = disk->readonly || disk->shareable ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_OFD_SETLK, &range) == 0)
        return TRUE;
    if (errno == EAGAIN || errno == EACCES)
        return fail(disk, VIR_ERR_RESOURCE_BUSY, "is in use by another disk or process", error);
    return fail_errno(disk, "lock", error);
}

static gboolean make_blocking(const XmlconfDisk *disk, int fd, GError **error)
{
    int flags = fcntl(fd, F_GETFL);

    return (flags >= 0 && fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) == 0) || fail_errno(disk, "open", error);
}

int xldrv_image_open(const XmlconfDisk *disk, GError **error)
{
    int fd = open(xmlconf_disk_source(disk), open_flags(disk));

    if (fd < 0) {
        if (errno == EINVAL && open_flags(disk) & O_DIRECT)
            fail(disk, VIR_ERR_OPERATION_FAILED, "is on a file system that always caches: its cache mode is not possible",
                 error);
        else
            fail_errno(disk, "open", error);
        return -1;
    }
    if (check_kind(disk, fd, error) && lock(disk, fd, error) && make_blocking(disk, fd, error))
        return fd;
    close(fd);
    return -1;
}

static int open_to_look(const XmlconfDisk *disk, GError **error)
{
    int fd = open(xmlconf_disk_source(disk), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

    if (fd < 0)
        fail_errno(disk, "open", error);
    else if (check_kind(disk, fd, error))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static gboolean get_capacity(const XmlconfDisk *disk, int fd, const struct stat *st, guint64 *bytes, GError **error)
{
    *bytes = (guint64)st->st_size;
    return !S_ISBLK(st->st_mode) || ioctl(fd, BLKGETSIZE64, bytes) == 0 || fail_errno(disk, "measure", error);
}

gboolean xldrv_image_info(const XmlconfDisk *disk, XldrvImageInfo *info, GError **error)
{
    int fd = open_to_look(disk, error);
    struct stat st = {0};
    gboolean ok;

    if (fd < 0)
        return FALSE;
    ok = (fstat(fd, &st) == 0 || fail_errno(disk, "look at", error)) &&
         get_capacity(disk, fd, &st, &info->capacity, error);
    close(fd);
    info->physical = info->capacity;
    info->allocation = S_ISBLK(st.st_mode) ? info->capacity : (guint64)st.st_blocks * 512;
    return ok;
}

gboolean xldrv_image_grow(const XmlconfDisk *disk, guint64 bytes, GError **error)
{
    XldrvImageInfo info;

    if (!xldrv_image_info(disk, &info, error))
        return FALSE;
    if (bytes < info.capacity)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "disk '%s' has %" G_GUINT64_FORMAT " bytes and cannot become smaller", disk->target,
                               info.capacity);
    if (bytes == info.capacity)
        return TRUE;
    if (disk->type == XMLCONF_DISK_BLOCK)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                               "block device '%s' of disk '%s' has only %" G_GUINT64_FORMAT " bytes", disk->dev,
                               disk->target, info.capacity);
    if (bytes > G_MAXINT64)
        return fail(disk, VIR_ERR_OVERFLOW, "cannot have that size", error);
    return truncate(xmlconf_disk_source(disk), (off_t)bytes) == 0 || fail_errno(disk, "grow", error);
}
