/* A kernel or ramdisk while it is being loaded: bytes that come from a file or from memory, and the one
 * message that tells what is wrong with them. Private to the loader.
 */
#pragma once

#include "hv/types.h"

#define HV_LOADER_ERROR_BYTES 256

/* Either a file (fd >= 0) or memory (fd -1, bytes owned by the image). */
struct hv_image {
    const char *what; /* "kernel" or "ramdisk": how messages call it */
    int fd;
    uint8_t *bytes;
    uint64_t size;
    char *error; /* HV_LOADER_ERROR_BYTES, the caller's */
};

/* Begins with file @fd (borrowed), which must be a regular file and not empty. 0 or negative errno with
 * @error set. */
int hv_image_init(struct hv_image *image, const char *what, int fd, char *error) HV_MUST_CHECK;
void hv_image_fini(struct hv_image *image);

/* Sets the message, prefixed with what the image is, and returns @err. */
int hv_image_fail(struct hv_image *image, int err, const char *format, ...) HV_PRINTF(3, 4);

/* Copies @bytes at @offset to @buf. @part names them for the message: -EINVAL when the image is too short for
 * them, or the errno of reading. */
int hv_image_read(struct hv_image *image, uint64_t offset, void *buf, uint64_t bytes, const char *part) HV_MUST_CHECK;

/* Replaces a bzImage by the kernel packed in it, at most @cap bytes of it; leaves anything else as it is.
 * 0, -EINVAL for a damaged one, -ENOTSUP for a kind that cannot be unpacked, -ENOMEM. */
int hv_image_unpack(struct hv_image *image, uint64_t cap) HV_MUST_CHECK;
