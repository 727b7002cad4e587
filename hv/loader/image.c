/* Images of the loader: bounded reads from a file or from memory. */
#include "config.h"

#include "hv/loader/image.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int hv_image_fail(struct hv_image *image, int err, const char *format, ...)
{
    va_list args;
    int used = snprintf(image->error, HV_LOADER_ERROR_BYTES, "%s: ", image->what);

    va_start(args, format);
    vsnprintf(image->error + used, HV_LOADER_ERROR_BYTES - (size_t)used, format, args);
    va_end(args);
    return err;
}

int hv_image_init(struct hv_image *image, const char *what, int fd, char *error)
{
    struct stat st;

    *image = (struct hv_image){.what = what, .fd = fd, .error = error};
    if (fstat(fd, &st) < 0) {
        int err = errno;

        return hv_image_fail(image, -err, "%s", strerror(err));
    }
    if (!S_ISREG(st.st_mode))
        return hv_image_fail(image, -EINVAL, "not a regular file");
    if (st.st_size <= 0)
        return hv_image_fail(image, -EINVAL, "the file is empty");
    image->size = (uint64_t)st.st_size;
    return 0;
}

void hv_image_fini(struct hv_image *image)
{
    free(image->bytes);
    image->bytes = NULL;
}

/* The file may have become shorter since its size was asked for. */
static int read_file(struct hv_image *image, uint64_t offset, uint8_t *buf, uint64_t bytes)
{
    while (bytes > 0) {
        ssize_t n = pread(image->fd, buf, bytes, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int err = errno;

            return hv_image_fail(image, -err, "reading failed: %s", strerror(err));
        }
        if (n == 0)
            return hv_image_fail(image, -EINVAL, "the file became shorter while it was read");
        buf += n;
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

int hv_image_read(struct hv_image *image, uint64_t offset, void *buf, uint64_t bytes, const char *part)
{
    if (offset > image->size || bytes > image->size - offset)
        return hv_image_fail(image, -EINVAL,
                             "truncated or damaged: %s (%" PRIu64 " bytes at offset %#" PRIx64
                             ") is past the end (%" PRIu64 " bytes)",
                             part, bytes, offset, image->size);
    if (image->fd >= 0)
        return read_file(image, offset, buf, bytes);
    memcpy(buf, image->bytes + offset, bytes);
    return 0;
}
