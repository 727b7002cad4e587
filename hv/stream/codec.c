/* Encoding and decoding of state. */
#include "config.h"

#include "hv/stream/codec.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ encoding */

void hv_encoder_fini(struct hv_encoder *e)
{
    free(e->data);
    *e = (struct hv_encoder){0};
}

static bool make_room(struct hv_encoder *e, size_t count)
{
    size_t room = e->room ? e->room : 4096;
    uint8_t *data;

    if (e->failed || count > SIZE_MAX / 4 - e->used)
        e->failed = true;
    if (e->failed || e->used + count <= e->room)
        return !e->failed;
    while (room < e->used + count)
        room *= 2;
    data = realloc(e->data, room);
    if (!data) {
        e->failed = true;
        return false;
    }
    e->data = data;
    e->room = room;
    return true;
}

void *hv_encode(struct hv_encoder *e, const void *bytes, size_t count)
{
    uint8_t *at;

    if (!make_room(e, count))
        return NULL;
    at = e->data + e->used;
    e->used += count;
    if (!count)
        return at;
    return bytes ? memcpy(at, bytes, count) : memset(at, 0, count);
}

void hv_encode_u32(struct hv_encoder *e, uint32_t value)
{
    hv_encode(e, &value, sizeof(value));
}

void hv_encode_u64(struct hv_encoder *e, uint64_t value)
{
    hv_encode(e, &value, sizeof(value));
}

/* ------------------------------------------------------------------ decoding */

int hv_decode_fail(struct hv_decoder *d, const char *format, ...)
{
    char why[160];
    va_list args;

    if (d->error[0])
        return -EBADMSG;
    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    snprintf(d->error, d->error_bytes, "%s: %s", d->what, why);
    return -EBADMSG;
}

const void *hv_decode_bytes(struct hv_decoder *d, size_t count)
{
    const void *at = d->at;

    if (count > d->left) {
        hv_decode_fail(d, "it ends too early");
        return NULL;
    }
    d->at += count;
    d->left -= count;
    return at;
}

int hv_decode(struct hv_decoder *d, void *out, size_t count)
{
    const void *at = hv_decode_bytes(d, count);

    if (!at)
        return -EBADMSG;
    if (count)
        memcpy(out, at, count);
    return 0;
}

int hv_decode_u32(struct hv_decoder *d, uint32_t *out)
{
    return hv_decode(d, out, sizeof(*out));
}

int hv_decode_count(struct hv_decoder *d, const char *name, uint32_t max, uint32_t *out)
{
    int error = hv_decode_u32(d, out);

    if (!error && *out > max)
        error = hv_decode_fail(d, "%s is %u, which is more than %u", name, *out, max);
    return error;
}

int hv_decode_u64(struct hv_decoder *d, uint64_t *out)
{
    return hv_decode(d, out, sizeof(*out));
}

int hv_decode_part(struct hv_decoder *d, size_t count, struct hv_decoder *out)
{
    const void *at = hv_decode_bytes(d, count);

    if (!at)
        return -EBADMSG;
    *out = *d;
    out->at = at;
    out->left = count;
    return 0;
}

int hv_decode_end(struct hv_decoder *d)
{
    return d->left ? hv_decode_fail(d, "there are %zu bytes too many", d->left) : 0;
}

/* ------------------------------------------------------------------ structures */

void hv_encode_fields(struct hv_encoder *e, const struct hv_field *fields, unsigned count, const void *structure)
{
    hv_encode_u32(e, count);
    for (unsigned i = 0; i < count; i++) {
        hv_encode_u32(e, fields[i].id);
        hv_encode_u32(e, fields[i].bytes);
        hv_encode(e, (const uint8_t *)structure + fields[i].offset, fields[i].bytes);
    }
}

static int check_value(struct hv_decoder *d, const struct hv_field *field, const void *bytes)
{
    uint64_t value = 0;

    if (!field->max)
        return 0;
    memcpy(&value, bytes, field->bytes);
    if (value <= field->max)
        return 0;
    return hv_decode_fail(d, "%s is %llu, which cannot be", field->name, (unsigned long long)value);
}

/* Decodes the next field, whichever it is; adds it to the set @seen. */
static int decode_field(struct hv_decoder *d, const struct hv_field *fields, unsigned count, void *structure,
                        uint64_t *seen)
{
    uint32_t id, bytes;
    unsigned i = 0;

    if (hv_decode_u32(d, &id) || hv_decode_u32(d, &bytes))
        return -EBADMSG;
    while (i < count && fields[i].id != id)
        i++;
    if (i == count)
        return hv_decode_fail(d, "field %u is not known here: it was made by a newer version", id);
    if (*seen >> i & 1)
        return hv_decode_fail(d, "%s comes twice", fields[i].name);
    if (bytes != fields[i].bytes)
        return hv_decode_fail(d, "%s has %u bytes, not %u", fields[i].name, bytes, fields[i].bytes);
    if (d->left >= bytes && check_value(d, &fields[i], d->at))
        return -EBADMSG;
    *seen |= 1ull << i;
    return hv_decode(d, (uint8_t *)structure + fields[i].offset, bytes);
}

int hv_decode_fields(struct hv_decoder *d, const struct hv_field *fields, unsigned count, void *structure)
{
    uint64_t seen = 0;
    uint32_t there;
    int error = hv_decode_count(d, "the number of fields", HV_FIELDS_MAX, &there);

    for (uint32_t i = 0; !error && i < there; i++)
        error = decode_field(d, fields, count, structure, &seen);
    for (unsigned i = 0; !error && i < count; i++)
        if (!(seen >> i & 1))
            error = hv_decode_fail(d, "%s is missing", fields[i].name);
    return error;
}
