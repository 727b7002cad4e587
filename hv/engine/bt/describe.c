/* What an instruction is, once and for all, from what the decoder says; and what it is in its
 * place. */
#include "config.h"

#include "hv/engine/bt/translate.h"

#include "hv/engine/interp/mem.h"

/* ---- constants */

static void find_constants(const struct bt_source *s, struct bt_decoded *d)
{
    const ZydisDecodedInstruction *zi = &s->zi;

    d->disp_at = zi->raw.disp.offset;
    d->disp_bytes = zi->raw.disp.size / 8;
    for (unsigned i = 0; i < 2; i++) {
        d->imm_at[i] = zi->raw.imm[i].offset;
        d->imm_bytes[i] = zi->raw.imm[i].size / 8;
    }
    d->imm_signed = zi->raw.imm[0].is_signed;
    d->imm0 = s->ops[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    if (d->disp_bytes)
        d->fixed = d->disp_at;
    else if (d->imm_bytes[0])
        d->fixed = d->imm_at[0];
    if (d->class == BT_FALLBACK || (d->vector && d->imm_bytes[0]))
        d->fixed = d->length; /* the constant may say what it is */
}

/* ---- the encoding */

static void find_encoding(const struct bt_source *s, struct bt_decoded *d)
{
    const ZydisDecodedInstruction *zi = &s->zi;
    bool rex = zi->attributes & ZYDIS_ATTRIB_HAS_REX;

    d->opcode = zi->opcode;
    d->map = (uint8_t)zi->opcode_map;
    d->prefixes = zi->raw.prefix_count;
    d->rex_w = rex && zi->raw.rex.W;
    d->modrm_reg = (uint8_t)(zi->raw.modrm.reg | (rex && zi->raw.rex.R ? 8 : 0));
    if (zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
        d->vex = zi->raw.vex.offset + 1;
        d->modrm_reg |= d->bytes[d->vex] & 0x80 ? 0 : 8;
    }
}

/* ---- registers */

static unsigned register_of(const ZydisDecodedOperand *o)
{
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER ? bt_gpr_of(o->reg.value) : 16;
}

static uint16_t set_of(unsigned reg)
{
    return (uint16_t)(reg < 16 ? 1u << reg : 0);
}

static bool moves_stack(enum bt_class class)
{
    return class == BT_PUSH || class == BT_PUSHF || class == BT_CALL || class == BT_POP;
}

static void find_registers(const struct bt_source *s, struct bt_decoded *d)
{
    for (unsigned i = 0; i < s->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &s->ops[i];
        uint16_t set = set_of(register_of(o));

        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && !s->mem) /* LEA */
            set = set_of(bt_gpr_of(o->mem.base)) | set_of(bt_gpr_of(o->mem.index));
        d->uses |= set;
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER ||
            !(o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        d->writes |= set;
        if (!(moves_stack((enum bt_class)d->class) && set == set_of(HV_RSP) &&
              o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN))
            d->follows |= set;
    }
}

/* Whether all of the register is written and nothing of it read. */
static bool is_overwritten(const struct bt_source *s, unsigned reg)
{
    bool written = false;

    if (s->zi.mnemonic == ZYDIS_MNEMONIC_BSF || s->zi.mnemonic == ZYDIS_MNEMONIC_BSR)
        return false; /* nothing is written if the source is zero */
    for (unsigned i = 0; i < s->zi.operand_count; i++) {
        const ZydisDecodedOperand *o = &s->ops[i];

        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY &&
            (bt_gpr_of(o->mem.base) == reg || bt_gpr_of(o->mem.index) == reg))
            return false;
        if (register_of(o) != reg)
            continue;
        if (o->actions != ZYDIS_OPERAND_ACTION_WRITE || o->size < 32)
            return false;
        written = true;
    }
    return written;
}

/* The fields of the encoding that have the register. */
static uint8_t fields_with(const struct bt_source *s, unsigned reg)
{
    uint8_t fields = 0;

    for (unsigned i = 0; i < s->zi.operand_count; i++)
        if (register_of(&s->ops[i]) == reg)
            fields |= s->ops[i].encoding == ZYDIS_OPERAND_ENCODING_NDSNDD ? BT_FIELD_VVVV
                                                                         : BT_FIELD_REG;
    return fields;
}

static void find_slot_registers(const struct bt_source *s, struct bt_decoded *d)
{
    d->slot_reg = fields_with(s, BT_R10) ? BT_R10 : BT_R11;
    d->slot_fields = fields_with(s, d->slot_reg);
    for (unsigned reg = BT_R10; reg <= BT_R11; reg++)
        if (is_overwritten(s, reg))
            d->overwrites |= set_of(reg);
}

/* ---- operands */

static void find_operands(const struct bt_source *s, struct bt_decoded *d)
{
    const ZydisDecodedOperand *mem = s->mem;

    d->operand_width = s->zi.operand_width;
    d->reg0 = (uint8_t)register_of(&s->ops[0]);
    d->reg1 = (uint8_t)register_of(&s->ops[1]);
    d->size0 = s->ops[0].size;
    d->size1 = s->ops[1].size;
    d->mem1 = s->ops[1].type == ZYDIS_OPERAND_TYPE_MEMORY;
    d->mem = mem;
    if (!mem && s->zi.mnemonic == ZYDIS_MNEMONIC_LEA)
        mem = &s->ops[1];
    if (!mem)
        return;
    d->writes_mem = mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    d->base = (uint8_t)bt_gpr_of(mem->mem.base);
    d->index = (uint8_t)bt_gpr_of(mem->mem.index);
    d->scale = mem->mem.scale ? (uint8_t)__builtin_ctz(mem->mem.scale) : 0;
    d->segment = mem->mem.segment == ZYDIS_REGISTER_FS   ? HV_FS
                 : mem->mem.segment == ZYDIS_REGISTER_GS ? HV_GS
                                                         : 0;
    d->near_rip = mem->mem.base == ZYDIS_REGISTER_RIP;
    d->mem_bytes = (uint8_t)(mem->size / 8);
}

/* What becomes of an address in the first operand. */
static void find_value(const struct bt_source *s, struct bt_decoded *d)
{
    bool constant = s->ops[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;

    d->copies_from = 16;
    if (d->class != BT_NATIVE || d->operand_width != (d->code32 ? 32 : 64) || d->reg0 == 16)
        return;
    switch (s->zi.mnemonic) {
    case ZYDIS_MNEMONIC_INC:
        d->adds = 1;
        break;
    case ZYDIS_MNEMONIC_DEC:
        d->adds = -1;
        break;
    case ZYDIS_MNEMONIC_ADD:
        d->adds = constant ? 1 : 0;
        break;
    case ZYDIS_MNEMONIC_SUB:
        d->adds = constant ? -1 : 0;
        break;
    case ZYDIS_MNEMONIC_MOV:
        d->copies_from = d->reg1;
        break;
    case ZYDIS_MNEMONIC_LEA:
        d->copies_from = s->ops[1].mem.index == ZYDIS_REGISTER_NONE ? d->base : 16;
        break;
    default:
        break;
    }
}

/* ---- flags */

/* Whether a count of zero leaves the flags alone, and may occur. */
static bool may_keep_flags(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
        return true;
    default:
        return false;
    }
}

static bool has_rep(const ZydisDecodedInstruction *zi)
{
    return zi->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
}

/* What saves the flags, or goes where they can be seen. */
static bool leaves(const ZydisDecodedInstruction *zi)
{
    switch (zi->meta.category) {
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_SYSTEM:
        return true;
    default:
        return false;
    }
}

static void find_flags(const struct bt_source *s, struct bt_decoded *d)
{
    const ZydisAccessedFlags *f = s->zi.cpu_flags;

    d->leaves = leaves(&s->zi);
    d->flags_tested = f ? (uint16_t)(f->tested & INTERP_ARITH) : 0;
    if (f && !may_keep_flags(s->zi.mnemonic) && !has_rep(&s->zi))
        d->flags_written =
            (uint16_t)((f->modified | f->set_0 | f->set_1 | f->undefined) & INTERP_ARITH);
}

void bt_describe(struct bt *bt, struct bt_source *s, struct bt_decoded *d)
{
    d->length = d->fixed = s->zi.length;
    d->mnemonic = (uint16_t)s->zi.mnemonic;
    d->class = (uint8_t)bt_class_of(bt, s, d);
    find_constants(s, d);
    find_encoding(s, d);
    find_registers(s, d);
    find_slot_registers(s, d);
    find_operands(s, d);
    find_value(s, d);
    find_flags(s, d);
}

/* ---- memory accesses */

static void add_stack_ref(const struct bt_translation *t, struct bt_insn *in, unsigned base,
                          bool write)
{
    in->refs[in->nr_refs++] = (struct bt_ref){.base = (uint8_t)base,
                                              .index = 16,
                                              .align = 1,
                                              .bytes = (uint16_t)t->word,
                                              .disp = write ? -(int64_t)t->word : 0,
                                              .write = write};
}

static void add_operand_ref(struct bt_translation *t, struct bt_insn *in)
{
    const struct bt_decoded *d = in->d;
    struct bt_ref *ref = &in->refs[in->nr_refs++];

    *ref = (struct bt_ref){
        .base = d->base,
        .index = d->index,
        .scale = d->scale,
        .segment = d->segment,
        .computed = in->class == BT_BITS,
        .write = d->writes_mem,
        .align = d->align,
        .bytes = d->mem_bytes,
        .disp = bt_disp_of(t, in),
    };
    if (d->near_rip) {
        ref->va = bt_next_rip(t, in) + (uint64_t)ref->disp;
        ref->absolute = true;
    } else if (ref->base == 16 && ref->index == 16) {
        ref->va = bt_wrap(t, (uint64_t)ref->disp);
        ref->absolute = true;
    }
    if (ref->absolute && ref->segment && (int64_t)ref->va == (int32_t)ref->va) {
        ref->absolute = false;
        ref->disp = (int64_t)ref->va;
    }
}

static void find_refs(struct bt_translation *t, struct bt_insn *in)
{
    in->nr_refs = 0;
    if (in->d->mem)
        add_operand_ref(t, in);
    switch (in->class) {
    case BT_PUSH:
    case BT_PUSHF:
    case BT_CALL:
        add_stack_ref(t, in, HV_RSP, true);
        break;
    case BT_POP:
    case BT_RET:
        add_stack_ref(t, in, HV_RSP, false);
        break;
    case BT_LEAVE:
        add_stack_ref(t, in, HV_RBP, false);
        break;
    default:
        break;
    }
}

/* Whether the class is translated in code of this kind. */
static bool has_rights(const struct bt_translation *t, enum bt_class class)
{
    switch (class) {
    case BT_CLI:
    case BT_STI:
    case BT_SWAPGS:
    case BT_SYSRET:
    case BT_STAC:
    case BT_CLAC:
        return t->kind < BT_USER;
    case BT_SYSCALL:
        return t->kind == BT_USER;
    default:
        return true;
    }
}

void bt_classify(struct bt_translation *t, struct bt_insn *in)
{
    in->class = (enum bt_class)in->d->class;
    if (in->class == BT_RDTSC && t->bt->tsd)
        in->class = BT_FALLBACK;
    if (!has_rights(t, in->class))
        in->class = BT_FALLBACK;
    find_refs(t, in);
    for (unsigned i = 0; i < in->nr_refs; i++)
        if (t->code32 && in->refs[i].segment &&
            !(t->kind == BT_USER32_GS && in->refs[i].segment == HV_GS))
            in->class = BT_FALLBACK; /* the segment has limits, or is none */
}
