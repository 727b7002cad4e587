/* State as bytes: a growing buffer to encode to, a bounded one to decode from, and structures by tables of fields.
 *
 * A field has a number that never changes its meaning. Encoded, a structure is the count of its fields, and for each
 * number, length and bytes; decoded, all fields must be there, once, of the expected length, none beside them, and no
 * value above the table's limit. Numbers are little-endian, as in memory.
 */
#pragma once

#include "hv/types.h"

/* ---- encoding: failures (out of memory) are found at the end, in @failed */

struct hv_encoder {
    uint8_t *data;
    size_t used, room;
    bool failed;
};

void hv_encoder_fini(struct hv_encoder *e);
/* Appends @count bytes; NULL: zeroes. Where they are now, good until the next call; NULL after a failure. */
void *hv_encode(struct hv_encoder *e, const void *bytes, size_t count);
void hv_encode_u32(struct hv_encoder *e, uint32_t value);
void hv_encode_u64(struct hv_encoder *e, uint64_t value);

/* ---- decoding */

struct hv_decoder {
    const uint8_t *at;
    size_t left;
    const char *what; /* for messages: "record 'time'" */
    char *error;      /* the first reason why it does not work; "" */
    size_t error_bytes;
};

/* Notes why, unless something was noted before. Returns -EBADMSG. */
int hv_decode_fail(struct hv_decoder *d, const char *format, ...) HV_PRINTF(2, 3);
/* Each gives 0, or -EBADMSG when there is not so much left. */
int hv_decode(struct hv_decoder *d, void *out, size_t count) HV_MUST_CHECK;
int hv_decode_u32(struct hv_decoder *d, uint32_t *out) HV_MUST_CHECK;
/* The same with a limit for the value, which is called @name. */
int hv_decode_count(struct hv_decoder *d, const char *name, uint32_t max, uint32_t *out) HV_MUST_CHECK;
int hv_decode_u64(struct hv_decoder *d, uint64_t *out) HV_MUST_CHECK;
/* The next @count bytes, where they are; NULL when there are not so many. */
const void *hv_decode_bytes(struct hv_decoder *d, size_t count);
/* A decoder of its own for the next @count bytes. */
int hv_decode_part(struct hv_decoder *d, size_t count, struct hv_decoder *out) HV_MUST_CHECK;
/* -EBADMSG when something is left. */
int hv_decode_end(struct hv_decoder *d) HV_MUST_CHECK;

/* ---- structures */

#define HV_FIELDS_MAX 64u

struct hv_field {
    const char *name;
    uint32_t id;
    uint32_t offset, bytes;
    uint64_t max; /* of a number of up to 8 bytes; 0: any value, or not a number */
};

#define HV_FIELD_MAX(number, type, member, limit) \
    {#member, number, (uint32_t)offsetof(type, member), (uint32_t)sizeof(((type *)0)->member), limit}
#define HV_FIELD(number, type, member)      HV_FIELD_MAX(number, type, member, 0)
#define HV_FIELD_BOOL(number, type, member) HV_FIELD_MAX(number, type, member, 1)

void hv_encode_fields(struct hv_encoder *e, const struct hv_field *fields, unsigned count, const void *structure);
/* On failure parts of @structure may have been set. */
int hv_decode_fields(struct hv_decoder *d, const struct hv_field *fields, unsigned count, void *structure) HV_MUST_CHECK;

/* ---- checksums: CRC-32C (Castagnoli, reflected, inverted before and after), as SSE4.2 and RFC 3720 have it */

uint32_t hv_crc32c(uint32_t crc, const void *bytes, size_t count);
