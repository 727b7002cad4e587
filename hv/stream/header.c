/* The header of a stream, and the checksums of records. */
#include "config.h"

#include "hv/stream/stream.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void hv_stream_header_init(struct hv_stream_header *header, enum hv_stream_layout layout)
{
    *header = (struct hv_stream_header){
        .magic = HV_STREAM_MAGIC,
        .version = HV_STREAM_VERSION,
        .layout = layout,
        .page_bytes = HV_PAGE_SIZE,
        .header_bytes = sizeof(*header),
    };
}

static uint32_t crc_of(const struct hv_stream_header *header)
{
    return hv_crc32c(0, header, offsetof(struct hv_stream_header, crc));
}

void hv_stream_header_seal(struct hv_stream_header *header)
{
    header->crc = crc_of(header);
}

static bool is_all_zero(const struct hv_stream_header *header)
{
    static const struct hv_stream_header nothing;

    return !memcmp(header, &nothing, sizeof(nothing));
}

int hv_stream_header_check(const struct hv_stream_header *header, enum hv_stream_layout layout,
                           char error[HV_STREAM_ERROR_BYTES])
{
    error[0] = '\0';
    if (is_all_zero(header))
        snprintf(error, HV_STREAM_ERROR_BYTES, "it was not written to its end");
    else if (memcmp(header->magic, HV_STREAM_MAGIC, sizeof(header->magic)))
        snprintf(error, HV_STREAM_ERROR_BYTES, "it is not a saved domain of this hypervisor");
    else if (header->version != HV_STREAM_VERSION)
        snprintf(error, HV_STREAM_ERROR_BYTES, "its format has version %u, and only %u is known here", header->version,
                 HV_STREAM_VERSION);
    else if (header->crc != crc_of(header))
        snprintf(error, HV_STREAM_ERROR_BYTES, "its header is damaged");
    else if (header->layout != layout || header->page_bytes != HV_PAGE_SIZE || header->header_bytes != sizeof(*header))
        snprintf(error, HV_STREAM_ERROR_BYTES, "its layout is not the expected one");
    return error[0] ? -EBADMSG : 0;
}

uint32_t hv_stream_record_crc_begin(const struct hv_stream_record *record)
{
    const struct hv_stream_record bare = {record->type, record->instance, 0, record->bytes};

    return hv_crc32c(0, &bare, sizeof(bare));
}

uint32_t hv_stream_record_crc(const struct hv_stream_record *record, const void *payload)
{
    return hv_crc32c(hv_stream_record_crc_begin(record), payload, record->bytes);
}
