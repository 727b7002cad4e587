/* From bytes to struct interp_op, by way of Zydis and the instruction tables. */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include <errno.h>
#include <string.h>

#include "hv/machine/machine.h"

static const struct interp_insn_table *const tables[] = {
    &interp_alu_insns,    &interp_move_insns,    &interp_shift_insns,  &interp_branch_insns,
    &interp_stack_insns,  &interp_muldiv_insns,  &interp_bit_insns,    &interp_lock_insns,
    &interp_string_insns, &interp_special_insns, &interp_system_insns, &interp_far_insns,
    &interp_io_insns,     &interp_bcd_insns,     &interp_xsave_insns,  &interp_gather_insns,
    &interp_masked_insns,
};

/* Where CPUID tells of a feature: leaf, subleaf, register, bit. */
static const struct feature_bit {
    uint32_t leaf;
    uint8_t subleaf, reg, bit;
} feature_bits[] = {
    [INTERP_FEATURE_MOVBE] = {1, 0, 2, 22},
    [INTERP_FEATURE_POPCNT] = {1, 0, 2, 23},
    [INTERP_FEATURE_SSE42] = {1, 0, 2, 20},
    [INTERP_FEATURE_RDRAND] = {1, 0, 2, 30},
    [INTERP_FEATURE_RDSEED] = {7, 0, 1, 18},
    [INTERP_FEATURE_BMI1] = {7, 0, 1, 3},
    [INTERP_FEATURE_BMI2] = {7, 0, 1, 8},
    [INTERP_FEATURE_ADX] = {7, 0, 1, 19},
    [INTERP_FEATURE_LZCNT] = {0x80000001, 0, 2, 5},
    [INTERP_FEATURE_FSGSBASE] = {7, 0, 1, 0},
    [INTERP_FEATURE_INVPCID] = {7, 0, 1, 10},
    [INTERP_FEATURE_SMAP] = {7, 0, 1, 20},
    [INTERP_FEATURE_RDTSCP] = {0x80000001, 0, 3, 27},
    [INTERP_FEATURE_RDPID] = {7, 0, 2, 22},
    [INTERP_FEATURE_XSAVE] = {1, 0, 2, 26},
    [INTERP_FEATURE_XSAVEOPT] = {0xd, 1, 0, 0},
    [INTERP_FEATURE_XSAVEC] = {0xd, 1, 0, 1},
    [INTERP_FEATURE_XSAVES] = {0xd, 1, 0, 3},
    [INTERP_FEATURE_CX16] = {1, 0, 2, 13},
    [INTERP_FEATURE_CLFLUSHOPT] = {7, 0, 1, 23},
    [INTERP_FEATURE_CLWB] = {7, 0, 1, 24},
    [INTERP_FEATURE_CLFSH] = {1, 0, 3, 19},
    [INTERP_FEATURE_SERIALIZE] = {7, 0, 3, 14},
    [INTERP_FEATURE_FXSR] = {1, 0, 3, 24},
    [INTERP_FEATURE_SSE2] = {1, 0, 3, 26},
    [INTERP_FEATURE_SYSCALL] = {0x80000001, 0, 3, 11},
    [INTERP_FEATURE_AVX] = {1, 0, 2, 28},
    [INTERP_FEATURE_AVX2] = {7, 0, 1, 5},
};

int interp_decode_init(struct interp *x)
{
    static const struct {
        ZydisMachineMode mode;
        ZydisStackWidth stack;
    } modes[] = {
        [INTERP_MODE_16] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
        [INTERP_MODE_32] = {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
        [INTERP_MODE_64] = {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
    };

    for (unsigned i = 0; i < HV_ARRAY_LEN(modes); i++)
        if (!ZYAN_SUCCESS(ZydisDecoderInit(&x->decoders[i], modes[i].mode, modes[i].stack)))
            return -EINVAL;
    for (unsigned t = 0; t < HV_ARRAY_LEN(tables); t++)
        for (unsigned i = 0; i < tables[t]->count; i++)
            x->insns[tables[t]->insns[i].mnemonic] = &tables[t]->insns[i];
    return 0;
}

static bool has_feature(struct interp *x, unsigned feature)
{
    const struct feature_bit *f = &feature_bits[feature];
    uint32_t out[4];

    if (feature == INTERP_FEATURE_NONE)
        return true;
    hv_cpuid(x->v, f->leaf, f->subleaf, out);
    return out[f->reg] & (1u << f->bit);
}

/* ---- operands */

/* Byte offset of a general register in cpu->gpr; INTERP_NO_REG for any other. */
static uint8_t register_offset(ZydisRegister r)
{
    if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH)
        return (uint8_t)((r - ZYDIS_REGISTER_AH) * 8 + 1);
    switch (ZydisRegisterGetClass(r)) {
    case ZYDIS_REGCLASS_GPR8:
        /* AL CL DL BL, AH..BH, SPL BPL SIL DIL, R8B... */
        return (uint8_t)((r >= ZYDIS_REGISTER_SPL ? r - ZYDIS_REGISTER_SPL + 4
                                                  : r - ZYDIS_REGISTER_AL) *
                         8);
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
        return (uint8_t)(ZydisRegisterGetId(r) * 8);
    default:
        return INTERP_NO_REG;
    }
}

static uint8_t register_index(ZydisRegister r)
{
    uint8_t offset = register_offset(r);

    return offset == INTERP_NO_REG ? INTERP_NO_REG : offset / 8;
}

static void set_memory(struct interp_decoding *d, const ZydisDecodedOperand *o)
{
    struct interp_op *op = d->op;
    bool rip = o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP;

    op->mem_bytes = o->size / 8 > 64 ? 64 : (uint8_t)(o->size / 8);
    op->base = rip ? INTERP_NO_REG : register_index(o->mem.base);
    op->index = register_index(o->mem.index);
    op->scale = o->mem.scale ? (uint8_t)__builtin_ctz(o->mem.scale) : 0;
    op->disp = o->mem.disp.value;
    op->seg = (uint8_t)(o->mem.segment - ZYDIS_REGISTER_ES);
    if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
        op->flags |= INTERP_OP_MEM_WRITE;
    if (rip) {
        op->flags |= INTERP_OP_RIP_BASE;
        op->disp += op->end;
    }
    op->ea = INTERP_EA_SLOW;
    if (op->address_bytes != 8 || op->seg >= HV_FS || o->mem.type == ZYDIS_MEMOP_TYPE_MIB)
        return;
    if (rip)
        op->ea = INTERP_EA_RIP;
    else if (op->base != INTERP_NO_REG)
        op->ea = op->index == INTERP_NO_REG ? INTERP_EA_BASE : INTERP_EA_INDEX;
}

/* It may be a hidden one, or not among the first three. */
void interp_set_memory(struct interp_decoding *d)
{
    for (unsigned i = 0; i < d->insn.operand_count && d->op->ea == INTERP_EA_NONE; i++)
        if (d->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            set_memory(d, &d->operands[i]);
}

static void set_operands(struct interp_decoding *d)
{
    struct interp_op *op = d->op;
    unsigned count = d->insn.operand_count_visible;

    memset(op->r, INTERP_NO_REG, sizeof(op->r));
    op->mem = INTERP_NO_REG;
    for (unsigned i = 0; i < count && i < HV_ARRAY_LEN(op->r); i++) {
        const ZydisDecodedOperand *o = &d->operands[i];

        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
            op->r[i] = register_offset(o->reg.value);
        } else if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && op->ea == INTERP_EA_NONE) {
            op->mem = (uint8_t)i;
            set_memory(d, o);
        } else if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
            op->imm = o->imm.value.s;
            if (i + 1 == count)
                op->flags |= INTERP_OP_SRC_IMM;
        }
    }
}

/* The size that chooses among an instruction's handlers: its first operand's. */
static uint8_t operand_bytes(const struct interp_decoding *d)
{
    unsigned bits = d->insn.operand_width;

    if (d->insn.operand_count_visible && (d->operands[0].type == ZYDIS_OPERAND_TYPE_REGISTER ||
                                          d->operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY))
        bits = d->operands[0].size;
    return bits >= 64 ? 8 : (uint8_t)(bits / 8);
}

static void set_common(struct interp_decoding *d)
{
    struct interp_op *op = d->op;
    ZydisInstructionAttributes a = d->insn.attributes;

    op->len = d->insn.length;
    op->end = (uint16_t)(op->end + d->insn.length);
    op->address_bytes = d->insn.address_width / 8;
    op->size = operand_bytes(d);
    if (a & ZYDIS_ATTRIB_HAS_LOCK)
        op->flags |= INTERP_OP_LOCK;
    if (a & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
        op->flags |= INTERP_OP_REP;
    if (a & ZYDIS_ATTRIB_HAS_REPNE)
        op->flags |= INTERP_OP_REPNE;
    set_operands(d);
}

/* ---- handlers */

static void undefined(struct interp_decoding *d)
{
    d->op->fn = interp_op_undefined;
    d->flags = INTERP_ENDS;
}

static const struct interp_insn *find_insn(struct interp *x, ZydisMnemonic mnemonic)
{
    const struct interp_insn *insn = x->insns[mnemonic];

    while (insn && !has_feature(x, insn->feature))
        insn = insn->without ? x->insns[insn->without] : NULL;
    return insn;
}

bool interp_knows(struct interp *x, ZydisMnemonic mnemonic)
{
    const struct interp_insn *insn = find_insn(x, mnemonic);

    return insn && insn->mnemonic == mnemonic;
}

static void choose_handler(struct interp_decoding *d, const struct interp_insn *insn)
{
    struct interp_op *op = d->op;

    op->extra = insn->extra;
    if (insn->pick)
        insn->pick(d, insn);
    else if (insn->fn[1] || insn->fn[2] || insn->fn[3])
        op->fn = insn->fn[interp_log2(op->size)];
    else
        op->fn = insn->fn[0];
}

/* An instruction for a stub that runs it on the host; leaves op->fn if it is none. */
static void choose_native(struct interp_decoding *d)
{
    const struct hv_native_insn *stub;
    int err = hv_native_compile(d->x->native, &d->insn, d->operands, &stub);

    if (err == -ENOMEM) {
        d->op->fn = interp_op_no_room;
        d->flags = INTERP_ENDS;
    }
    if (err)
        return;
    interp_set_memory(d);
    d->op->aux = stub;
    d->op->fn = interp_op_native;
}

/* What is no instruction; @room is how many bytes were looked at. */
static void bad_bytes(struct interp_decoding *d, ZyanStatus status, unsigned room)
{
    d->op->len = 1; /* only for where RIP goes back to */
    d->op->end++;
    undefined(d);
    if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG ||
        (status == ZYDIS_STATUS_NO_MORE_DATA && room == ZYDIS_MAX_INSTRUCTION_LENGTH))
        d->op->fn = interp_op_too_long;
}

static void find_handler(struct interp_decoding *d)
{
    const struct interp_insn *insn = find_insn(d->x, d->insn.mnemonic);

    if (insn) {
        d->flags = insn->flags;
        choose_handler(d, insn);
    }
    /* Also where a mnemonic means two things: MOVSD, CMPSD. */
    if (!d->op->fn && (insn || !d->x->insns[d->insn.mnemonic]))
        choose_native(d);
    if (!d->op->fn)
        undefined(d);
}

unsigned interp_decode(struct interp *x, const uint8_t *bytes, unsigned room, struct interp_op *op,
                       unsigned *flags)
{
    struct interp_decoding d = {.x = x, .op = op};
    uint8_t copy[ZYDIS_MAX_INSTRUCTION_LENGTH];
    ZyanStatus status;

    /* The guest may change it meanwhile; what is decoded is what was copied. */
    if (room > sizeof(copy))
        room = sizeof(copy);
    memcpy(copy, bytes, room);
    *op = (struct interp_op){.end = op->end};
    status = ZydisDecoderDecodeFull(&x->decoders[x->mode & INTERP_MODE_SIZE], copy, room, &d.insn,
                                    d.operands);
    if (status == ZYDIS_STATUS_NO_MORE_DATA && room < sizeof(copy))
        return 0;
    if (ZYAN_SUCCESS(status)) {
        set_common(&d);
        find_handler(&d);
    } else {
        bad_bytes(&d, status, room);
    }
    *flags = d.flags;
    return op->len;
}
