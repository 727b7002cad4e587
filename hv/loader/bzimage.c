/* Linux bzImage: finds the packed kernel through the setup header and unpacks it.
 * Source: Linux Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header".
 */
#include "config.h"

#include "hv/loader/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/loader/unpack.h"

#define SECTOR_BYTES        512u
#define DEFAULT_SETUP_SECTS 4
#define PROTOCOL_PAYLOAD    0x208 /* first version with payload_offset and payload_length */

/* The fields of interest, by their distance from the start of the file. */
#define AT_SETUP_SECTS    0x1f1
#define AT_BOOT_FLAG      0x1fe
#define AT_HEADER         0x202
#define AT_VERSION        0x206
#define AT_PAYLOAD_OFFSET 0x248
#define AT_PAYLOAD_LENGTH 0x24c
#define HEADER_END        0x250

static uint16_t load16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t load32(const uint8_t *p)
{
    return load16(p) | (uint32_t)load16(p + 2) << 16;
}

/* Takes over what was unpacked as the image's new contents. */
static void replace(struct hv_image *image, const struct hv_unpacked *out)
{
    free(image->bytes);
    image->bytes = out->bytes;
    image->size = out->used;
    image->fd = -1;
}

static int unpack_payload(struct hv_image *image, const uint8_t *payload, size_t bytes, uint64_t cap)
{
    struct hv_unpacked out = {.cap = cap};
    const char *format;
    int err = hv_unpack(payload, bytes, &out, &format);

    if (!err) {
        replace(image, &out);
        return 0;
    }
    free(out.bytes);
    if (err == -ENOTSUP && format)
        return hv_image_fail(image, err, "the kernel is packed with %s, which is not supported", format);
    if (err == -ENOTSUP)
        return hv_image_fail(image, err, "the kernel is packed in an unknown format (%02x %02x %02x %02x)",
                             payload[0], payload[1], payload[2], payload[3]);
    if (err == -ENOSPC)
        return hv_image_fail(image, -ENOMEM, "the kernel unpacks to more than the domain's %llu MiB of low memory",
                             (unsigned long long)(cap >> 20));
    if (err == -ENOMEM)
        return hv_image_fail(image, err, "out of memory while unpacking %s", format);
    return hv_image_fail(image, err, "truncated or damaged: the %s data cannot be unpacked", format);
}

int hv_image_unpack(struct hv_image *image, uint64_t cap)
{
    uint8_t header[HEADER_END];
    uint64_t offset;
    uint32_t length;
    unsigned sects;
    uint8_t *payload;
    int err;

    if (image->size < HEADER_END)
        return 0;
    if ((err = hv_image_read(image, 0, header, sizeof(header), "the setup header")) < 0)
        return err;
    if (load16(header + AT_BOOT_FLAG) != 0xaa55 || memcmp(header + AT_HEADER, "HdrS", 4) != 0)
        return 0;
    if (load16(header + AT_VERSION) < PROTOCOL_PAYLOAD)
        return hv_image_fail(image, -ENOTSUP, "boot protocol %#x is too old: 0x208 is needed to find the kernel in it",
                             load16(header + AT_VERSION));
    sects = header[AT_SETUP_SECTS] ? header[AT_SETUP_SECTS] : DEFAULT_SETUP_SECTS;
    offset = (uint64_t)(sects + 1) * SECTOR_BYTES + load32(header + AT_PAYLOAD_OFFSET);
    length = load32(header + AT_PAYLOAD_LENGTH);
    if (length < 8)
        return hv_image_fail(image, -EINVAL, "damaged: the packed kernel has a length of %u bytes", length);
    if (offset > image->size || length > image->size - offset)
        return hv_image_fail(image, -EINVAL,
                             "truncated: the packed kernel (%u bytes at offset %#llx) is past the end of the "
                             "file (%llu bytes)",
                             length, (unsigned long long)offset, (unsigned long long)image->size);
    if (!(payload = malloc(length)))
        return hv_image_fail(image, -ENOMEM, "out of memory for a packed kernel of %u bytes", length);
    err = hv_image_read(image, offset, payload, length, "the packed kernel");
    if (!err)
        err = unpack_payload(image, payload, length, cap);
    free(payload);
    return err;
}
