/* Images of virtual disks: raw files and block devices through io_uring. */
#include "config.h"

#include "hv/backend/blk/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR    512u
#define BLOCK_MAX 4096u

/* With O_DIRECT, whether a block of @bytes can be read: at a place, and into memory, that is a multiple of no more. */
static bool can_read(int fd, unsigned bytes)
{
    uint8_t *buffer;
    ssize_t got;

    if (posix_memalign((void **)&buffer, 2 * BLOCK_MAX, 2 * BLOCK_MAX))
        return false;
    got = pread(fd, buffer + bytes, bytes, (off_t)bytes);
    free(buffer);
    return got >= 0;
}

static unsigned find_block(int fd, int flags)
{
    unsigned bytes = SECTOR;

    if (flags & O_DIRECT)
        while (bytes < BLOCK_MAX && !can_read(fd, bytes))
            bytes *= 2;
    return bytes;
}

/* ------------------------------------------------------------------ the driver */

static void file_wait(struct hv_blk_image *image)
{
    hv_blk_merge_flush(image);
    hv_uring_wait(image->uring);
}

static int file_size(const struct hv_blk_image *image, uint64_t *bytes)
{
    off_t end = lseek(image->fd, 0, SEEK_END);

    if (end < 0)
        return -errno;
    *bytes = (uint64_t)end;
    return 0;
}

/* By way of the host's page cache where the image cannot do it directly. */
static int file_allow_small(struct hv_blk_image *image)
{
    int flags = fcntl(image->fd, F_GETFL);

    if (image->block_bytes == SECTOR)
        return 0;
    if (flags < 0 || fcntl(image->fd, F_SETFL, flags & ~O_DIRECT) < 0)
        return -errno;
    image->block_bytes = SECTOR;
    return 0;
}

static void file_release(struct hv_blk_image *image)
{
    (void)image;
}

static const struct hv_blk_driver file_driver = {
    .start = hv_blk_merge_start,
    .flush = hv_blk_merge_flush,
    .wait = file_wait,
    .size = file_size,
    .allow_small = file_allow_small,
    .release = file_release,
};

/* ------------------------------------------------------------------ opening */

static bool is_regular(int fd)
{
    struct stat about;

    return fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
}

static const char *find_fault(int fd, int flags)
{
    struct stat about;

    if (flags < 0 || fstat(fd, &about) < 0)
        return "the image's descriptor is not valid";
    if (!S_ISREG(about.st_mode) && !S_ISBLK(about.st_mode))
        return "the image is neither a file nor a block device";
    if ((flags & O_ACCMODE) == O_WRONLY || flags & (O_APPEND | O_PATH))
        return "the image is not open for reading at any place";
    return NULL;
}

static int open_file(struct hv_blk_image *image, const struct hv_blk_host *host, int fd, char *error, size_t error_bytes)
{
    int flags = fcntl(fd, F_GETFL);
    const char *fault = host->uring ? find_fault(fd, flags) : "the host does not let this process use io_uring";

    if (fault) {
        snprintf(error, error_bytes, "%s", fault);
        return host->uring ? -EINVAL : -EOPNOTSUPP;
    }
    *image = (struct hv_blk_image){
        .driver = &file_driver,
        .fd = fd,
        .uring = host->uring,
        .writable = (flags & O_ACCMODE) == O_RDWR,
        .can_discard = true,
        .block_bytes = find_block(fd, flags),
        .writes_in_turn = is_regular(fd) && !(flags & O_DIRECT),
    };
    return 0;
}

int hv_blk_image_open(struct hv_blk_image *image, const struct hv_blk_host *host, const struct domus_vbd_source *source,
                      int fd, char *error, size_t error_bytes)
{
    switch (source->kind) {
    case DOMUS_VBD_FILE:
        return open_file(image, host, fd, error, error_bytes);
    case DOMUS_VBD_NBD:
    case DOMUS_VBD_EMPTY:
    case DOMUS_VBD_PARKED:
        return hv_blk_nbd_open(image, host, source, fd, error, error_bytes);
    }
    snprintf(error, error_bytes, "a source of an unknown kind");
    return -EINVAL;
}

void hv_blk_image_fini(struct hv_blk_image *image)
{
    int fd = image->driver ? image->fd : -1;

    hv_blk_image_give_back(image);
    if (fd >= 0)
        close(fd);
}

void hv_blk_image_give_back(struct hv_blk_image *image)
{
    if (image->driver)
        image->driver->release(image);
    image->driver = NULL;
}
