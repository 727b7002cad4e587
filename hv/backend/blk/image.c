/* Images of virtual disks. */
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

int hv_blk_image_init(struct hv_blk_image *image, int fd, char *error, size_t error_bytes)
{
    int flags = fcntl(fd, F_GETFL);
    const char *why = NULL;
    struct stat about;

    if (flags < 0 || fstat(fd, &about) < 0)
        why = "the image's descriptor is not valid";
    else if (!S_ISREG(about.st_mode) && !S_ISBLK(about.st_mode))
        why = "the image is neither a file nor a block device";
    else if ((flags & O_ACCMODE) == O_WRONLY || flags & (O_APPEND | O_PATH))
        why = "the image is not open for reading at any place";
    if (why) {
        snprintf(error, error_bytes, "%s", why);
        return -EINVAL;
    }
    *image = (struct hv_blk_image){
        .fd = fd,
        .writable = (flags & O_ACCMODE) == O_RDWR,
        .block_bytes = find_block(fd, flags),
    };
    return 0;
}

void hv_blk_image_fini(struct hv_blk_image *image)
{
    if (image->fd >= 0)
        close(image->fd);
    image->fd = -1;
}

int hv_blk_image_size(const struct hv_blk_image *image, uint64_t *bytes)
{
    off_t end = lseek(image->fd, 0, SEEK_END);

    if (end < 0)
        return -errno;
    *bytes = (uint64_t)end;
    return 0;
}

int hv_blk_image_allow_small(struct hv_blk_image *image)
{
    int flags = fcntl(image->fd, F_GETFL);

    if (image->block_bytes == SECTOR)
        return 0;
    if (flags < 0 || fcntl(image->fd, F_SETFL, flags & ~O_DIRECT) < 0)
        return -errno;
    image->block_bytes = SECTOR;
    return 0;
}
