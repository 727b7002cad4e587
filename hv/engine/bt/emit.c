/* The assembler. */
#include "config.h"

#include "hv/engine/bt/emit.h"

#include <string.h>

void bt_emit_bytes(struct bt *bt, const void *bytes, unsigned count)
{
    hv_assert(count <= bt->code_bytes - bt->code_used);
    memcpy(bt_at(bt), bytes, count);
    bt->code_used += count;
}

void bt_emit8(struct bt *bt, uint8_t byte)
{
    bt_emit_bytes(bt, &byte, 1);
}

void bt_emit32(struct bt *bt, uint32_t value)
{
    bt_emit_bytes(bt, &value, 4);
}

void bt_emit64(struct bt *bt, uint64_t value)
{
    bt_emit_bytes(bt, &value, 8);
}

static uint8_t rex_w(unsigned reg, unsigned index, unsigned base)
{
    return (uint8_t)(0x48 | (reg >> 3) << 2 | (index >> 3) << 1 | (base >> 3));
}

static uint8_t modrm(unsigned mod, unsigned reg, unsigned rm)
{
    return (uint8_t)(mod << 6 | (reg & 7) << 3 | (rm & 7));
}

/* ModRM and SIB of gs:[slot] without base and index. */
static void emit_slot(struct bt *bt, unsigned reg, uint32_t slot)
{
    BT_EMIT(bt, modrm(0, reg, 4), 0x25);
    bt_emit32(bt, slot);
}

void bt_emit_alu_slot(struct bt *bt, enum bt_alu op, unsigned reg, uint32_t slot)
{
    BT_EMIT(bt, 0x65, rex_w(reg, 0, 0), (uint8_t)op);
    emit_slot(bt, reg, slot);
}

void bt_emit_store_slot_imm(struct bt *bt, uint32_t slot, int32_t value)
{
    BT_EMIT(bt, 0x65, 0x48, 0xc7);
    emit_slot(bt, 0, slot);
    bt_emit32(bt, (uint32_t)value);
}

void bt_emit_load_slot(struct bt *bt, unsigned reg, uint32_t slot)
{
    BT_EMIT(bt, 0x65, rex_w(reg, 0, 0), 0x8b);
    emit_slot(bt, reg, slot);
}

void bt_emit_store_slot(struct bt *bt, unsigned reg, uint32_t slot)
{
    BT_EMIT(bt, 0x65, rex_w(reg, 0, 0), 0x89);
    emit_slot(bt, reg, slot);
}

/* opcode reg, gs:[index * 8 + table] */
static void emit_table(struct bt *bt, uint8_t opcode, unsigned reg, unsigned index, uint32_t table)
{
    BT_EMIT(bt, 0x65, rex_w(reg, index, 0), opcode, modrm(0, reg, 4),
            (uint8_t)(3 << 6 | (index & 7) << 3 | 5));
    bt_emit32(bt, table);
}

void bt_emit_load_table(struct bt *bt, unsigned reg, unsigned index, uint32_t table)
{
    emit_table(bt, 0x8b, reg, index, table);
}

void bt_emit_store_table(struct bt *bt, unsigned reg, unsigned index, uint32_t table)
{
    emit_table(bt, 0x89, reg, index, table);
}

void bt_emit_alu_table(struct bt *bt, enum bt_alu op, unsigned reg, unsigned index, uint32_t table)
{
    emit_table(bt, (uint8_t)op, reg, index, table);
}

void bt_emit_jmp_table(struct bt *bt, unsigned index, uint32_t table)
{
    emit_table(bt, 0xff, 4, index, table);
}

void bt_emit_cmp_imm(struct bt *bt, unsigned reg, int32_t value)
{
    BT_EMIT(bt, rex_w(0, 0, reg), 0x81, modrm(3, 7, reg));
    bt_emit32(bt, (uint32_t)value);
}

void bt_emit_cmp_slot_imm(struct bt *bt, bool wide, uint32_t slot, int32_t value)
{
    BT_EMIT(bt, 0x65, wide ? 0x48 : 0x40, 0x81);
    emit_slot(bt, 7, slot);
    bt_emit32(bt, (uint32_t)value);
}

void bt_emit_pext(struct bt *bt, unsigned to, unsigned from, uint32_t slot)
{
    uint8_t r = to < 8 ? 0x80 : 0;

    /* VEX: not R, not X, not B, map 0F38; W, not vvvv, L 0, pp F3 */
    BT_EMIT(bt, 0x65, 0xc4, (uint8_t)(r | 0x62), (uint8_t)(0x82 | (~from & 15) << 3), 0xf5);
    emit_slot(bt, to, slot);
}

void bt_emit_rorx(struct bt *bt, unsigned to, unsigned from, uint8_t by)
{
    uint8_t r = to < 8 ? 0x80 : 0, b = from < 8 ? 0x20 : 0;

    /* VEX: not R, not X, not B, map 0F3A; W, L 0, pp F2 */
    BT_EMIT(bt, 0xc4, (uint8_t)(r | 0x40 | b | 3), 0xfb, 0xf0, modrm(3, to, from), by);
}

void bt_emit_mov(struct bt *bt, unsigned to, unsigned from)
{
    BT_EMIT(bt, rex_w(from, 0, to), 0x89, modrm(3, from, to));
}

void bt_emit_mov32(struct bt *bt, unsigned to, unsigned from)
{
    BT_EMIT(bt, rex_w(from, 0, to) & ~0x08, 0x89, modrm(3, from, to));
}

void bt_emit_mov32_imm(struct bt *bt, unsigned reg, uint32_t value)
{
    if (reg >= 8)
        bt_emit8(bt, 0x41);
    bt_emit8(bt, (uint8_t)(0xb8 | (reg & 7)));
    bt_emit32(bt, value);
}

void bt_emit_mov_imm(struct bt *bt, unsigned reg, uint64_t value)
{
    if (value <= 0xffffffff) {
        bt_emit_mov32_imm(bt, reg, (uint32_t)value);
    } else if ((int64_t)value == (int32_t)value) {
        BT_EMIT(bt, rex_w(0, 0, reg), 0xc7, modrm(3, 0, reg));
        bt_emit32(bt, (uint32_t)value);
    } else {
        BT_EMIT(bt, rex_w(0, 0, reg), (uint8_t)(0xb8 | (reg & 7)));
        bt_emit64(bt, value);
    }
}

/* [base + disp32], for a base that needs no SIB. */
void bt_emit_load(struct bt *bt, unsigned reg, unsigned base, int32_t disp)
{
    BT_EMIT(bt, rex_w(reg, 0, base), 0x8b, modrm(2, reg, base));
    bt_emit32(bt, (uint32_t)disp);
}

void bt_emit_store(struct bt *bt, unsigned reg, unsigned base, int32_t disp)
{
    BT_EMIT(bt, rex_w(reg, 0, base), 0x89, modrm(2, reg, base));
    bt_emit32(bt, (uint32_t)disp);
}

static void emit_lea(struct bt *bt, uint8_t rex_mask, unsigned reg, unsigned base, unsigned index,
                     unsigned scale, int32_t disp)
{
    bool none = base == 16, sib = none || index != 4 || (base & 7) == 4;
    unsigned mod = none ? 0 : disp == 0 && (base & 7) != HV_RBP ? 0 : disp == (int8_t)disp ? 1 : 2;
    unsigned b = none ? 5 : base;

    BT_EMIT(bt, rex_w(reg, index, b) & rex_mask, 0x8d, modrm(mod, reg, sib ? 4 : b));
    if (sib)
        bt_emit8(bt, (uint8_t)(scale << 6 | (index & 7) << 3 | (b & 7)));
    if (mod == 1)
        bt_emit8(bt, (uint8_t)disp);
    else if (mod == 2 || none)
        bt_emit32(bt, (uint32_t)disp);
}

void bt_emit_lea(struct bt *bt, unsigned reg, unsigned base, unsigned index, unsigned scale,
                 int32_t disp)
{
    emit_lea(bt, 0xff, reg, base, index, scale, disp);
}

void bt_emit_lea32(struct bt *bt, unsigned reg, unsigned base, unsigned index, unsigned scale,
                   int32_t disp)
{
    emit_lea(bt, (uint8_t)~0x08, reg, base, index, scale, disp);
}

uint8_t bt_rex(unsigned w, unsigned reg, const struct bt_place *p)
{
    unsigned base = p->base == 16 ? 0 : p->base;

    return (uint8_t)(0x40 | w << 3 | (reg >> 3) << 2 | (p->index >> 3 & 1) << 1 | (base >> 3));
}

void bt_emit_modrm(struct bt *bt, unsigned reg, const struct bt_place *p)
{
    bool none = p->base == 16, sib = none || p->index != 4 || (p->base & 7) == 4;
    unsigned mod = none                                      ? 0
                   : p->disp == 0 && (p->base & 7) != HV_RBP ? 0
                   : p->disp == (int8_t)p->disp              ? 1
                                                             : 2;
    unsigned base = none ? 5 : p->base;

    bt_emit8(bt, modrm(mod, reg, sib ? 4 : base));
    if (sib)
        bt_emit8(bt, (uint8_t)((p->index & 7) << 3 | (base & 7)));
    if (mod == 1)
        bt_emit8(bt, (uint8_t)p->disp);
    else if (mod == 2 || none)
        bt_emit32(bt, (uint32_t)p->disp);
}

void bt_emit_load_place(struct bt *bt, unsigned bytes, unsigned reg, const struct bt_place *p)
{
    BT_EMIT(bt, bt_rex(bytes == 8, reg, p), 0x8b);
    bt_emit_modrm(bt, reg, p);
}

void bt_emit_store_place(struct bt *bt, unsigned bytes, unsigned reg, const struct bt_place *p)
{
    BT_EMIT(bt, bt_rex(bytes == 8, reg, p), 0x89);
    bt_emit_modrm(bt, reg, p);
}

void bt_emit_jmp(struct bt *bt, uint32_t target)
{
    uint32_t at = bt_emit_jmp_open(bt);

    bt_patch_jump(bt, at, target);
}

uint32_t bt_emit_jmp_open(struct bt *bt)
{
    bt_emit8(bt, 0xe9);
    bt_emit32(bt, 0);
    return bt->code_used - 4;
}

uint32_t bt_emit_jcc_open(struct bt *bt, unsigned cc)
{
    BT_EMIT(bt, 0x0f, (uint8_t)(0x80 | cc));
    bt_emit32(bt, 0);
    return bt->code_used - 4;
}

void bt_close(struct bt *bt, uint32_t at)
{
    bt_patch_jump(bt, at, bt->code_used);
}

uint32_t bt_emit_jrcxz_open(struct bt *bt)
{
    BT_EMIT(bt, 0xe3, 0);
    return bt->code_used - 1;
}

void bt_close8(struct bt *bt, uint32_t at)
{
    unsigned distance = bt->code_used - (at + 1);

    hv_assert(distance < 128);
    bt->code_rw[at] = (uint8_t)distance;
}
