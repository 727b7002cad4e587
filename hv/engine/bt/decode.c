/* Decoding, with a cache by bytes: code repeats itself, and to decode is half the work of a
 * translation. */
#include "config.h"

#include "hv/engine/bt/translate.h"

#include <string.h>

/* Opcodes of one byte, that say all. */
static bool stands_alone(uint8_t opcode)
{
    return (opcode >= 0x50 && opcode <= 0x5f) || (opcode >= 0x90 && opcode <= 0x99) ||
           opcode == 0xc3 || opcode == 0xc9;
}

static bool is_prefix(uint8_t byte)
{
    return byte == 0x66 || byte == 0xf2 || byte == 0xf3 || byte == 0xf0 || byte == 0x64 ||
           byte == 0x65 || (byte & 0xf0) == 0x40;
}

/* How many bytes most likely make up the instruction but for its longer constants. Only the place
 * in the cache depends on it. */
static unsigned key_bytes(const uint8_t *bytes, unsigned room)
{
    unsigned n = 0;
    uint8_t modrm;

    while (n + 2 < room && is_prefix(bytes[n]))
        n++;
    if (bytes[n] == 0x0f)
        n++;
    else if (stands_alone(bytes[n]))
        return n + 1;
    if (n + 4 >= room)
        return room;
    modrm = bytes[n + 1];
    n += 2;
    if (modrm < 0xc0 && (modrm & 7) == 4)
        n++;
    if (modrm >> 6 == 1 || bytes[n - 2] == 0x83)
        n++;
    return n;
}

static unsigned slot_of(const uint8_t *bytes, unsigned room)
{
    unsigned n = key_bytes(bytes, room);
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (unsigned i = 0; i < n; i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return (hash ^ hash >> 15) % BT_DECODED;
}

static bool decode(struct bt_translation *t, struct bt_decoded *d, const uint8_t *bytes,
                   unsigned room)
{
    d->zi.length = 0;
    if (!ZYAN_SUCCESS(
            ZydisDecoderDecodeFull(&t->decoders[t->code32], bytes, room, &d->zi, d->ops))) {
        d->zi.length = 0;
        return false;
    }
    memcpy(d->bytes, bytes, d->zi.length);
    d->code32 = t->code32;
    bt_describe(t->bt, d);
    return true;
}

const struct bt_decoded *bt_decode(struct bt_translation *t, struct bt_decoded *own,
                                   const uint8_t *bytes, unsigned room)
{
    struct bt_decoded *d = &t->decoded[slot_of(bytes, room)];

    if (d->zi.length && d->code32 == t->code32 && d->zi.length <= room &&
        memcmp(d->bytes, bytes, d->zi.length) == 0) {
        d->used = t->number;
        return d;
    }
    if (d->used == t->number) /* it stands in this block */
        return decode(t, own, bytes, room) ? own : NULL;
    d->used = t->number;
    return decode(t, d, bytes, room) ? d : NULL;
}
