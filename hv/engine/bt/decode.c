/* Decoding, with a cache by what is in front of an instruction's constants: code repeats itself, and
 * to decode is half the work of a translation. */
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

/* Opcodes of one byte that have no ModRM, or seldom occur. */
static bool lacks_modrm(uint8_t opcode)
{
    return opcode < 0x40 ? (opcode & 7) >= 4
                         : stands_alone(opcode) || opcode == 0x68 || opcode == 0x6a ||
                               (opcode >= 0x70 && opcode <= 0x7f) ||
                               (opcode >= 0x90 && opcode <= 0xbf) || (opcode & 0xf0) == 0xe0;
}

/* How many bytes most likely make up the instruction but for its constants. Only the place in the
 * cache depends on it. */
static unsigned key_bytes(const uint8_t *bytes, unsigned room)
{
    unsigned n = 0;

    while (n + 2 < room && is_prefix(bytes[n]))
        n++;
    if (n + 5 >= room)
        return n + 1;
    if (bytes[n] == 0xc4 || bytes[n] == 0xc5) /* VEX */
        n += bytes[n] == 0xc4 ? 3 : 2;
    else if (bytes[n] == 0x0f && (bytes[n + 1] & 0xf0) == 0x80) /* Jcc */
        return n + 2;
    else if (bytes[n] == 0x0f)
        n++;
    else if (lacks_modrm(bytes[n]))
        return n + 1;
    n += 2;
    return bytes[n - 1] < 0xc0 && (bytes[n - 1] & 7) == 4 ? n + 1 : n;
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
    struct bt_source s;

    *d = (struct bt_decoded){.code32 = t->code32, .used = t->number};
    if (!ZYAN_SUCCESS(
            ZydisDecoderDecodeFull(&t->decoders[t->code32], bytes, room, &s.zi, s.ops)))
        return false;
    memcpy(d->bytes, bytes, s.zi.length);
    bt_describe(t->bt, &s, d);
    return true;
}

const struct bt_decoded *bt_decode(struct bt_translation *t, struct bt_decoded *own,
                                   const uint8_t *bytes, unsigned room)
{
    struct bt_decoded *d = &t->decoded[slot_of(bytes, room)];

    if (d->length && d->code32 == t->code32 && d->length <= room &&
        memcmp(d->bytes, bytes, d->fixed) == 0) {
        d->used = t->number;
        return d;
    }
    if (d->used == t->number) /* it stands in this block */
        return decode(t, own, bytes, room) ? own : NULL;
    return decode(t, d, bytes, room) ? d : NULL;
}

/* ---- constants */

static int64_t constant_at(const uint8_t *p, unsigned bytes, bool sign)
{
    uint64_t value = 0;

    memcpy(&value, p, bytes);
    if (sign && bytes && bytes < 8)
        value |= -(value & 1ull << (8 * bytes - 1));
    return (int64_t)value;
}

int64_t bt_imm_of(const struct bt_translation *t, const struct bt_insn *in)
{
    return constant_at(t->bytes + in->at + in->d->imm_at[0], in->d->imm_bytes[0],
                       in->d->imm_signed);
}

int64_t bt_disp_of(const struct bt_translation *t, const struct bt_insn *in)
{
    return constant_at(t->bytes + in->at + in->d->disp_at, in->d->disp_bytes, true);
}
