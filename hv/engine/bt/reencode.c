/* Instructions that are emitted again, with other registers and the host's address where it has to
 * be. */
#include "config.h"

#include "hv/engine/bt/translate.h"

static const uint8_t *bytes_of(const struct bt_translation *t, const struct bt_insn *in)
{
    return t->bytes + in->at;
}

static void emit_immediates(struct bt_translation *t, const struct bt_insn *in)
{
    for (unsigned i = 0; i < 2; i++)
        if (in->d->imm_bytes[i])
            bt_emit_bytes(t->bt, bytes_of(t, in) + in->d->imm_at[i], in->d->imm_bytes[i]);
}

/* MOV between the accumulator and a constant address, and the same with ModRM. */
static const uint8_t moffs_opcodes[] = {0x8a, 0x8b, 0x88, 0x89};

static bool is_moffs(const struct bt_decoded *d)
{
    return d->map == ZYDIS_OPCODE_MAP_DEFAULT && d->opcode >= 0xa0 && d->opcode <= 0xa3;
}

/* A program on the only vCPU shares its memory with nobody who would see half of an instruction: back ends copy to and
 * from its pages, and what they change atomically (grants, event channels) is the kernel's. */
static bool is_locked(const struct bt_translation *t)
{
    return t->kind < BT_USER || t->bt->x->v->domain->nr_vcpus > 1;
}

/* The encoding with the memory operand at @p, and @scratch in @fields. */
static void emit_legacy(struct bt_translation *t, const struct bt_insn *in,
                        const struct bt_place *p, unsigned fields, unsigned scratch)
{
    const struct bt_decoded *d = in->d;
    struct bt *bt = t->bt;
    unsigned reg = is_moffs(d) ? HV_RAX : fields & BT_FIELD_REG ? scratch : d->modrm_reg;

    for (unsigned i = 0; i < d->prefixes; i++) {
        uint8_t prefix = d->bytes[i];

        if (prefix == 0x66 || prefix == 0xf2 || prefix == 0xf3 || (prefix == 0xf0 && is_locked(t)))
            bt_emit8(bt, prefix);
    }
    bt_emit8(bt, bt_rex(d->rex_w, reg, p));
    if (d->map != ZYDIS_OPCODE_MAP_DEFAULT)
        bt_emit8(bt, 0x0f);
    if (d->map == ZYDIS_OPCODE_MAP_0F38)
        bt_emit8(bt, 0x38);
    if (d->map == ZYDIS_OPCODE_MAP_0F3A)
        bt_emit8(bt, 0x3a);
    bt_emit8(bt, is_moffs(d) ? moffs_opcodes[d->opcode & 3] : d->opcode);
    bt_emit_modrm(bt, reg, p);
    emit_immediates(t, in);
}

static void emit_vex(struct bt_translation *t, const struct bt_insn *in, const struct bt_place *p,
                     unsigned fields, unsigned scratch)
{
    const uint8_t *vex = in->d->bytes + in->d->vex - 1;
    bool three = vex[0] == 0xc4;
    uint8_t map = three ? vex[1] & 0x1f : 1, b2 = three ? vex[2] : vex[1] & 0x7f;
    unsigned reg = fields & BT_FIELD_REG ? scratch : in->d->modrm_reg;
    uint8_t rex = bt_rex(0, reg, p);

    if (fields & BT_FIELD_VVVV)
        b2 = (uint8_t)((b2 & ~0x78) | (~scratch & 15) << 3);
    BT_EMIT(t->bt, 0xc4, (uint8_t)((~rex & 7) << 5 | map), b2, in->d->opcode);
    bt_emit_modrm(t->bt, reg, p);
    emit_immediates(t, in);
}

static bool has(uint16_t set, unsigned reg)
{
    return set >> reg & 1;
}

static void emit_with_memory(struct bt_translation *t, const struct bt_insn *in)
{
    unsigned guest = in->d->slot_reg, fields = in->d->slot_fields, scratch = BT_R10;
    struct bt_place p = bt_emit_access(t, in, &in->refs[0]);

    if (fields && p.base == BT_R10) {
        if (p.index == BT_R11)
            bt_emit_lea(t->bt, BT_R10, BT_R10, BT_R11, 0, p.disp);
        p = (struct bt_place){.base = BT_R10, .index = 4, .disp = p.index == BT_R11 ? 0 : p.disp};
        scratch = BT_R11;
        t->r11_group = BT_NO_GROUP;
    }
    if (fields && !has(in->d->overwrites, guest))
        bt_emit_load_guest(t, guest, scratch);
    if (in->d->vex)
        emit_vex(t, in, &p, fields, scratch);
    else
        emit_legacy(t, in, &p, fields, scratch);
    if (fields && has(in->d->writes, guest))
        bt_emit_store_guest(t, guest, scratch);
}

/* Whether the guest's register is in the host's of the same number from an instruction before. */
static bool is_held(const struct bt_translation *t, unsigned reg)
{
    return reg == BT_R10 ? t->r10_is_guest : t->r11_group == BT_GUEST_R11;
}

static void hold(struct bt_translation *t, unsigned reg)
{
    if (reg == BT_R10)
        t->r10_is_guest = true;
    else
        t->r11_group = BT_GUEST_R11;
}

/* INC and DEC of one byte, which is REX in 64-bit code. */
static bool is_short_inc(const struct bt_decoded *d)
{
    return d->map == ZYDIS_OPCODE_MAP_DEFAULT && (d->opcode & 0xf0) == 0x40;
}

static void emit_short_inc(struct bt_translation *t, const struct bt_insn *in)
{
    if (in->d->operand_width == 16)
        bt_emit8(t->bt, 0x66);
    BT_EMIT(t->bt, 0xff, (uint8_t)(0xc0 | (in->d->opcode & 15))); /* DEC is in bit 3 */
}

/* Without memory R10 and R11 are the guest's for the time of the instruction. */
static void emit_registers_only(struct bt_translation *t, const struct bt_insn *in)
{
    const struct bt_decoded *d = in->d;

    for (unsigned reg = BT_R10; reg <= BT_R11; reg++)
        if (has(d->uses & ~d->overwrites, reg) && !is_held(t, reg))
            bt_emit_load_guest(t, reg, reg);
    if (t->code32 && is_short_inc(d))
        emit_short_inc(t, in);
    else
        bt_emit_bytes(t->bt, bytes_of(t, in), d->length);
    for (unsigned reg = BT_R10; reg <= BT_R11; reg++) {
        if (has(d->writes, reg))
            bt_emit_store_guest(t, reg, reg);
        if (has(d->uses, reg))
            hold(t, reg);
    }
}

/* LEA of an address near RIP, or of no register at all: a constant here. */
static bool emit_constant_lea(struct bt_translation *t, const struct bt_insn *in)
{
    const struct bt_decoded *d = in->d;
    unsigned reg = d->reg0;
    uint64_t value;

    if (d->mnemonic != ZYDIS_MNEMONIC_LEA ||
        !(d->near_rip || (t->code32 && d->base == 16 && d->index == 16)))
        return false;
    value = (d->near_rip ? bt_next_rip(t, in) : 0) + (uint64_t)bt_disp_of(t, in);
    if (in->d->operand_width == 32)
        value &= 0xffffffff;
    if (reg == BT_R11)
        t->r11_group = BT_NO_GROUP;
    bt_emit_mov_imm(t->bt, reg, value);
    if (bt_in_slot(reg)) {
        bt_emit_store_guest(t, reg, reg);
        hold(t, reg);
    }
    return true;
}

void bt_emit_native(struct bt_translation *t, const struct bt_insn *in)
{
    if (in->d->mem)
        emit_with_memory(t, in);
    else if (!emit_constant_lea(t, in))
        emit_registers_only(t, in);
}

/* R11 = bit number of BT and its kin, sign-extended. */
static void emit_bit_number(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    unsigned reg = in->d->reg1, size = in->d->size1;
    uint8_t rex;

    if (bt_in_slot(reg)) {
        bt_emit_load_guest(t, reg, BT_R11);
        reg = BT_R11;
    }
    rex = (uint8_t)(0x4c | reg >> 3);
    if (size == 64)
        bt_emit_mov(bt, BT_R11, reg);
    else if (size == 32)
        BT_EMIT(bt, rex, 0x63, (uint8_t)(0xd8 | (reg & 7))); /* movsxd r11, reg */
    else
        BT_EMIT(bt, rex, 0x0f, 0xbf, (uint8_t)(0xd8 | (reg & 7))); /* movsx r11, reg16 */
}

/* BT, BTS, BTR and BTC of memory with a register as bit number, which reaches beyond the operand:
 * the element that has the bit is found first. */
void bt_emit_bits(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    uint32_t resume = bt->code_used;
    unsigned shift = (unsigned)__builtin_ctz(in->d->size1);
    struct bt_place p;

    bt_emit_address(t, &in->refs[0]);
    emit_bit_number(t, in);
    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_mov32_imm(bt, HV_RCX, shift);
    BT_EMIT(bt, 0xc4, 0x42, 0xf2, 0xf7, 0xdb); /* sarx r11, r11, rcx */
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    if (t->code32)
        bt_emit_lea32(bt, BT_R10, BT_R10, BT_R11, shift - 3, 0);
    else
        bt_emit_lea(bt, BT_R10, BT_R10, BT_R11, shift - 3, 0);
    p = bt_emit_access_at_r10(t, in, &in->refs[0], resume);
    emit_bit_number(t, in);
    bt_emit_pext(bt, BT_R11, BT_R11, (uint32_t)(BT_SLOT(bit_mask) + 8 * shift));
    emit_legacy(t, in, &p, BT_FIELD_REG, BT_R11);
}
