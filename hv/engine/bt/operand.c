/* Memory operands through the software TLB, and the re-encoding of instructions. */
#include "config.h"

#include "hv/engine/bt/translate.h"

struct bt_stub *bt_add_stub(struct bt_translation *t, uint32_t from)
{
    struct bt_stub *s = &t->stubs[t->nr_stubs];

    hv_assert(t->nr_stubs < BT_MAX_STUBS);
    t->nr_stubs++;
    *s = (struct bt_stub){.from = from};
    return s;
}

/* ---- the TLB */

static void add_miss(struct bt_translation *t, const struct bt_insn *in, uint32_t from,
                     const struct bt_site *site, bool rcx_saved)
{
    struct bt_stub *s = bt_add_stub(t, from);

    s->kind = BT_STUB_MISS;
    s->rip = bt_rip_of(t, in);
    s->jrcxz_saved = rcx_saved;
    s->site = *site;
    s->site.rip = s->rip;
}

static uint32_t tags_of(const struct bt_site *site)
{
    uint32_t table = (uint32_t)(BT_SLOT(tlb) + site->kind * sizeof(struct bt_tlb));

    return table +
           (uint32_t)(site->write ? offsetof(struct bt_tlb, write) : offsetof(struct bt_tlb, read));
}

static uint32_t hosts_of(const struct bt_site *site)
{
    return (uint32_t)(BT_SLOT(tlb) + site->kind * sizeof(struct bt_tlb) +
                      offsetof(struct bt_tlb, host));
}

/* add r14, gs:[r15 * 8 + table] */
static void emit_add_table(struct bt *bt, uint32_t table)
{
    BT_EMIT(bt, 0x65, 0x4e, 0x03, 0x34, 0xfd);
    bt_emit32(bt, table);
}

/* R14: linear address; becomes the offset in the page if the tag fits. */
static void emit_lookup_destroying(struct bt_translation *t, const struct bt_insn *in,
                                   const struct bt_site *site)
{
    struct bt *bt = t->bt;
    unsigned cc;

    bt_emit_pext(bt, BT_R15, BT_R14, BT_SLOT(tlb_mask));
    emit_add_table(bt, tags_of(site));
    if (site->aligned) {
        BT_EMIT(bt, 0x49, 0xf7, 0xc6); /* test r14, ~0xfff | 15 */
        bt_emit32(bt, 0xfffff00f);
        cc = 5; /* jnz */
    } else {
        BT_EMIT(bt, 0x49, 0x81, 0xfe); /* cmp r14, 4096 - bytes */
        bt_emit32(bt, HV_PAGE_SIZE - site->bytes);
        cc = 7; /* ja */
    }
    add_miss(t, in, bt_emit_jcc_open(bt, cc), site, false);
    emit_add_table(bt, hosts_of(site));
}

/* The same with instructions that leave flags alone: RCX is parked in its slot for JRCXZ. */
static void emit_lookup(struct bt_translation *t, const struct bt_insn *in,
                        const struct bt_site *site)
{
    struct bt *bt = t->bt;
    uint32_t hit;

    bt_emit_pext(bt, BT_R15, BT_R14, BT_SLOT(tlb_mask));
    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_load_table(bt, HV_RCX, BT_R15, tags_of(site));
    bt_emit_lea(bt, BT_R14, BT_R14, HV_RCX, 0, 0);
    if (site->aligned) {
        bt_emit_pext(bt, HV_RCX, BT_R14, BT_SLOT(page16_mask));
    } else {
        bt_emit_lea(bt, HV_RCX, BT_R14, 4, 0, site->bytes - 1);
        bt_emit_pext(bt, HV_RCX, HV_RCX, BT_SLOT(page_mask));
    }
    hit = bt_emit_jrcxz_open(bt);
    add_miss(t, in, bt_emit_jmp_open(bt), site, true);
    bt_close8(bt, hit);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_load_table(bt, BT_R15, BT_R15, hosts_of(site));
    bt_emit_lea(bt, BT_R14, BT_R14, BT_R15, 0, 0);
}

static void emit_host_address(struct bt_translation *t, const struct bt_insn *in, uint32_t resume,
                              unsigned bytes, bool write)
{
    struct bt_site site = {.resume = resume,
                           .bytes = (uint8_t)bytes,
                           .write = write,
                           .aligned = in->aligned,
                           .kind = (uint8_t)t->kind};

    if (in->flags_dead)
        emit_lookup_destroying(t, in, &site);
    else
        emit_lookup(t, in, &site);
}

/* ---- addresses */

static void load_scratch(struct bt *bt, unsigned guest, unsigned host)
{
    bt_emit_load_slot(bt, host, guest == 14 ? BT_SLOT(r14) : BT_SLOT(r15));
}

static void load_if_scratch(struct bt *bt, unsigned reg)
{
    if (reg == 14 || reg == 15)
        load_scratch(bt, reg, reg);
}

static void emit_segment_base(struct bt *bt, ZydisRegister segment)
{
    if (segment != ZYDIS_REGISTER_FS && segment != ZYDIS_REGISTER_GS)
        return;
    bt_emit_load_slot(bt, BT_R15,
                      segment == ZYDIS_REGISTER_FS ? BT_SLOT(fs_base) : BT_SLOT(gs_base));
    bt_emit_lea(bt, BT_R14, BT_R14, BT_R15, 0, 0);
}

/* R14 = linear address of the operand. */
static void emit_address(struct bt_translation *t, const struct bt_insn *in,
                         const ZydisDecodedOperand *mem)
{
    struct bt *bt = t->bt;
    unsigned base = bt_gpr_of(mem->mem.base), index = bt_gpr_of(mem->mem.index);
    unsigned scale = mem->mem.scale ? (unsigned)__builtin_ctz(mem->mem.scale) : 0;
    int64_t disp = mem->mem.disp.value;

    load_if_scratch(bt, base);
    if (index != base)
        load_if_scratch(bt, index);
    if (mem->mem.base == ZYDIS_REGISTER_RIP)
        bt_emit_mov_imm(bt, BT_R14, bt_next_rip(t, in) + (uint64_t)disp);
    else
        bt_emit_lea(bt, BT_R14, base, index < 16 ? index : 4, scale, (int32_t)disp);
    emit_segment_base(bt, mem->mem.segment);
}

void bt_emit_access(struct bt_translation *t, const struct bt_insn *in,
                    const ZydisDecodedOperand *mem, unsigned bytes, bool write)
{
    uint32_t resume = t->bt->code_used;

    emit_address(t, in, mem);
    emit_host_address(t, in, resume, bytes, write);
}

void bt_emit_access_base(struct bt_translation *t, const struct bt_insn *in, unsigned base,
                         int32_t disp, unsigned bytes, bool write)
{
    uint32_t resume = t->bt->code_used;

    bt_emit_lea(t->bt, BT_R14, base, 4, 0, disp);
    emit_host_address(t, in, resume, bytes, write);
}

/* ---- re-encoding */

#define FIELD_REG  1u /* ModRM.reg */
#define FIELD_VVVV 2u /* VEX.vvvv */

/* The fields of the encoding that have the guest's register @reg, R14 or R15. */
static unsigned fields_with(const struct bt_insn *in, unsigned reg)
{
    unsigned fields = 0;

    for (unsigned i = 0; i < in->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &in->ops[i];

        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER || bt_gpr_of(o->reg.value) != reg)
            continue;
        fields |= o->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD ? FIELD_VVVV : FIELD_REG;
    }
    return fields;
}

static bool writes_scratch(const struct bt_insn *in, unsigned reg)
{
    for (unsigned i = 0; i < in->zi.operand_count; i++)
        if (in->ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            bt_gpr_of(in->ops[i].reg.value) == reg &&
            (in->ops[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            return true;
    return false;
}

static const uint8_t *bytes_of(const struct bt_translation *t, const struct bt_insn *in)
{
    return t->bytes + in->at;
}

static void emit_immediates(struct bt_translation *t, const struct bt_insn *in)
{
    for (unsigned i = 0; i < 2; i++)
        if (in->zi.raw.imm[i].size)
            bt_emit_bytes(t->bt, bytes_of(t, in) + in->zi.raw.imm[i].offset,
                          in->zi.raw.imm[i].size / 8u);
}

/* The encoding with the memory operand at [R14], and 15 in @fields. */
static void emit_legacy(struct bt_translation *t, const struct bt_insn *in, unsigned fields)
{
    const ZydisDecodedInstruction *zi = &in->zi;
    struct bt *bt = t->bt;
    bool r15 = fields & FIELD_REG;
    bool rex = zi->attributes & ZYDIS_ATTRIB_HAS_REX;
    unsigned w = rex ? zi->raw.rex.W : 0, r = rex ? zi->raw.rex.R : 0;

    for (unsigned i = 0; i < zi->raw.prefix_count; i++) {
        uint8_t p = zi->raw.prefixes[i].value;

        if (p == 0x66 || p == 0xf2 || p == 0xf3 || p == 0xf0)
            bt_emit8(bt, p);
    }
    bt_emit8(bt, (uint8_t)(0x41 | w << 3 | (r15 ? 1u : r) << 2));
    if (zi->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT)
        bt_emit8(bt, 0x0f);
    if (zi->opcode_map == ZYDIS_OPCODE_MAP_0F38)
        bt_emit8(bt, 0x38);
    if (zi->opcode_map == ZYDIS_OPCODE_MAP_0F3A)
        bt_emit8(bt, 0x3a);
    bt_emit8(bt, zi->opcode);
    bt_emit8(bt, (uint8_t)((r15 ? 7u : zi->raw.modrm.reg) << 3 | 6));
    emit_immediates(t, in);
}

static void emit_vex(struct bt_translation *t, const struct bt_insn *in, unsigned fields)
{
    const uint8_t *vex = bytes_of(t, in) + in->zi.raw.vex.offset;
    uint8_t b1, b2, reg = in->zi.raw.modrm.reg;

    if (in->zi.raw.vex.size == 3) {
        b1 = (uint8_t)((vex[1] & 0x9f) | 0x40); /* no index, base R14 */
        b2 = vex[2];
    } else {
        b1 = (uint8_t)((vex[1] & 0x80) | 0x41);
        b2 = vex[1] & 0x7f;
    }
    if (fields & FIELD_REG) {
        b1 &= 0x7f;
        reg = 7;
    }
    if (fields & FIELD_VVVV)
        b2 &= (uint8_t)~0x78;
    BT_EMIT(t->bt, 0xc4, b1, b2, in->zi.opcode, (uint8_t)(reg << 3 | 6));
    emit_immediates(t, in);
}

static void emit_with_memory(struct bt_translation *t, const struct bt_insn *in)
{
    unsigned guest = fields_with(in, 14) ? 14 : 15;
    unsigned fields = fields_with(in, guest);

    bt_emit_access(t, in, in->mem, in->mem->size / 8u, in->writes);
    if (fields)
        load_scratch(t->bt, guest, BT_R15);
    if (in->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
        emit_vex(t, in, fields);
    else
        emit_legacy(t, in, fields);
    if (fields && writes_scratch(in, guest))
        bt_emit_store_slot(t->bt, BT_R15, guest == 14 ? BT_SLOT(r14) : BT_SLOT(r15));
}

/* Without memory R14 and R15 are the guest's for the time of the instruction. */
static void emit_registers_only(struct bt_translation *t, const struct bt_insn *in)
{
    unsigned used = 0;

    for (unsigned i = 0; i < in->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &in->ops[i];

        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && bt_gpr_of(o->reg.value) < 16) {
            used |= 1u << bt_gpr_of(o->reg.value);
        } else if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) { /* LEA */
            used |= bt_gpr_of(o->mem.base) < 16 ? 1u << bt_gpr_of(o->mem.base) : 0;
            used |= bt_gpr_of(o->mem.index) < 16 ? 1u << bt_gpr_of(o->mem.index) : 0;
        }
    }
    for (unsigned reg = 14; reg < 16; reg++)
        if (used & 1u << reg)
            load_scratch(t->bt, reg, reg);
    bt_emit_bytes(t->bt, bytes_of(t, in), in->zi.length);
    for (unsigned reg = 14; reg < 16; reg++)
        if (writes_scratch(in, reg))
            bt_emit_store_slot(t->bt, reg, reg == 14 ? BT_SLOT(r14) : BT_SLOT(r15));
}

/* LEA of an address near RIP, a constant here. */
static bool emit_lea_rip(struct bt_translation *t, const struct bt_insn *in)
{
    const ZydisDecodedOperand *o = &in->ops[1];
    unsigned reg = bt_gpr_of(in->ops[0].reg.value);
    uint64_t value;

    if (in->zi.mnemonic != ZYDIS_MNEMONIC_LEA || o->mem.base != ZYDIS_REGISTER_RIP)
        return false;
    value = bt_next_rip(t, in) + (uint64_t)o->mem.disp.value;
    if (in->zi.operand_width == 32)
        value &= 0xffffffff;
    bt_emit_mov_imm(t->bt, reg, value);
    if (reg >= 14)
        bt_emit_store_slot(t->bt, reg, reg == 14 ? BT_SLOT(r14) : BT_SLOT(r15));
    return true;
}

void bt_emit_native(struct bt_translation *t, const struct bt_insn *in)
{
    if (in->mem)
        emit_with_memory(t, in);
    else if (!emit_lea_rip(t, in))
        emit_registers_only(t, in);
}
