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

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/storage.h"

static const char *kind_of(const XmlconfDisk *disk)
{
    return xmlconf_disk_actual_type(disk) == XMLCONF_DISK_BLOCK ? "block device" : "image";
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
    if (xmlconf_disk_actual_type(disk) == XMLCONF_DISK_BLOCK)
        return S_ISBLK(st.st_mode) || fail(disk, VIR_ERR_OPERATION_FAILED, "is not a block device", error);
    return S_ISREG(st.st_mode) || fail(disk, VIR_ERR_OPERATION_FAILED, "is not a regular file", error);
}

/* ---- locks
 *
 * QEMU's own (block/file-posix.c), so that its tools and guests see ours and we see theirs. Each permission has two bytes in
 * the file; a shared lock on the one says "I use this", on the other "nobody else may". Taken first and looked at then,
 * so of two that come at once one at least sees the other. They belong to the open file: whoever has it, has them. */

#define USED_BASE      100 /* RAW_LOCK_PERM_BASE */
#define EXCLUSIVE_BASE 200 /* RAW_LOCK_SHARED_BASE */

/* Bits of BLK_PERM_*, include/block/block-common.h of QEMU. */
enum { READ_CONSISTENTLY = 1 << 0, WRITE = 1 << 1, WRITE_UNCHANGED = 1 << 2, RESIZE = 1 << 3, ALL = 0xf };

static guint uses(const XmlconfDisk *disk)
{
    return disk->readonly ? READ_CONSISTENTLY : READ_CONSISTENTLY | WRITE;
}

/* What others may not do meanwhile. */
static guint excludes(const XmlconfDisk *disk)
{
    return disk->shareable ? 0 : WRITE | RESIZE;
}

/* 0, or the errno of fcntl. */
static int lock_bytes(int fd, off_t base, guint bits)
{
    for (int bit = 0; ALL >> bit; bit++) {
        struct flock range = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = base + bit, .l_len = 1};

        if (bits >> bit & 1 && fcntl(fd, F_OFD_SETLK, &range) < 0)
            return errno;
    }
    return 0;
}

/* EAGAIN when somebody else has one of them. */
static int test_bytes(int fd, off_t base, guint bits)
{
    for (int bit = 0; ALL >> bit; bit++) {
        struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = base + bit, .l_len = 1};

        if (!(bits >> bit & 1))
            continue;
        if (fcntl(fd, F_OFD_GETLK, &range) < 0)
            return errno;
        if (range.l_type != F_UNLCK)
            return EAGAIN;
    }
    return 0;
}

static gboolean is_of_file(const XmlconfDisk *disk, const struct stat *file)
{
    const char *path = disk->type == XMLCONF_DISK_NETWORK ? NULL : xmlconf_disk_source(disk);
    struct stat st;

    if (!path || stat(path, &st) < 0)
        return FALSE;
    if (S_ISBLK(st.st_mode) && S_ISBLK(file->st_mode))
        return st.st_rdev == file->st_rdev;
    return st.st_dev == file->st_dev && st.st_ino == file->st_ino;
}

static gboolean has_file(XldrvDomain *domain, const struct stat *file)
{
    g_autoptr(XmlconfDomain) config = NULL;
    const GPtrArray *disks;

    if (!xldrv_domain_is_active(domain))
        return FALSE;
    config = xldrv_domain_get_config(domain, FALSE);
    disks = xmlconf_domain_config(config)->disks;
    for (guint i = 0; disks && i < disks->len; i++) {
        if (is_of_file(disks->pdata[i], file))
            return TRUE;
    }
    return FALSE;
}

/* The name of a running domain that has the file at @fd, or NULL. */
static char *find_user(int fd)
{
    g_autoptr(GPtrArray) domains = xldrv_domains_all(xldrv_driver_get()->domains);
    struct stat file;

    if (fstat(fd, &file) < 0)
        return NULL;
    for (guint i = 0; i < domains->len; i++) {
        if (has_file(domains->pdata[i], &file))
            return xldrv_domain_get_name(domains->pdata[i]);
    }
    return NULL;
}

static gboolean fail_in_use(const XmlconfDisk *disk, int fd, GError **error)
{
    g_autofree char *user = find_user(fd);
    g_autofree char *problem = user ? g_strdup_printf("is in use by domain '%s'", user)
                                    : g_strdup("is in use by another disk or process");

    return fail(disk, VIR_ERR_RESOURCE_BUSY, problem, error);
}

static gboolean lock(const XmlconfDisk *disk, int fd, GError **error)
{
    int why = lock_bytes(fd, USED_BASE, uses(disk));

    if (!why)
        why = lock_bytes(fd, EXCLUSIVE_BASE, excludes(disk));
    if (!why)
        why = test_bytes(fd, EXCLUSIVE_BASE, uses(disk));
    if (!why)
        why = test_bytes(fd, USED_BASE, excludes(disk));
    if (!why)
        return TRUE;
    if (why == EAGAIN || why == EACCES)
        return fail_in_use(disk, fd, error);
    errno = why;
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

/* What it takes from the file is given back at once. */
gboolean xldrv_image_check(const XmlconfDisk *disk, GError **error)
{
    int fd = xldrv_image_open(disk, error);

    if (fd >= 0)
        close(fd);
    return fd >= 0;
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

gboolean xldrv_image_read(const XmlconfDisk *disk, guint64 offset, gpointer buffer, gsize bytes, GError **error)
{
    int fd = open_to_look(disk, error);
    gsize done = 0;
    ssize_t n = 1;

    if (fd < 0)
        return FALSE;
    while (done < bytes && offset <= G_MAXINT64 - bytes && n > 0) {
        n = pread(fd, (guint8 *)buffer + done, bytes - done, (off_t)(offset + done));
        done += n > 0 ? n : 0;
    }
    if (n < 0)
        fail_errno(disk, "read", error);
    else if (done < bytes)
        xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                        "%s '%s' of disk '%s' has no %" G_GSIZE_FORMAT " bytes at %" G_GUINT64_FORMAT, kind_of(disk),
                        xmlconf_disk_source(disk), disk->target, bytes, offset);
    close(fd);
    return done == bytes;
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
    if (xmlconf_disk_actual_type(disk) == XMLCONF_DISK_BLOCK)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                               "block device '%s' of disk '%s' has only %" G_GUINT64_FORMAT " bytes", xmlconf_disk_source(disk),
                               disk->target, info.capacity);
    if (bytes > G_MAXINT64)
        return fail(disk, VIR_ERR_OVERFLOW, "cannot have that size", error);
    return truncate(xmlconf_disk_source(disk), (off_t)bytes) == 0 || fail_errno(disk, "grow", error);
}
