/* Decimal arithmetic, BOUND, ARPL: 32- and 16-bit code only. Source: Intel SDM volume 2. */
#include "config.h"

#include "hv/engine/interp/mem.h"

static uint8_t get_al(struct hv_cpu *cpu)
{
    return (uint8_t)cpu->gpr[HV_RAX];
}

static uint8_t get_ah(struct hv_cpu *cpu)
{
    return (uint8_t)(cpu->gpr[HV_RAX] >> 8);
}

static void set_ax(struct hv_cpu *cpu, uint8_t ah, uint8_t al)
{
    interp_set(cpu, HV_RAX * 8, 2, (uint64_t)ah << 8 | al);
}

/* SF, ZF and PF of a byte. */
static uint64_t result_flags(uint8_t value)
{
    return (value & 0x80 ? HV_EFLAGS_SF : 0) | (value ? 0 : HV_EFLAGS_ZF) |
           (__builtin_parity(value) ? 0 : HV_EFLAGS_PF);
}

/* DAA (@sign 1) and DAS (@sign -1). */
static void adjust_packed(struct hv_cpu *cpu, int sign)
{
    uint8_t al = get_al(cpu), old = al;
    bool cf = cpu->rflags & HV_EFLAGS_CF, af = cpu->rflags & HV_EFLAGS_AF, carry = false;

    if ((old & 15) > 9 || af) {
        af = true;
        carry = cf || (sign > 0 ? old > 0xf9 : old < 6);
        al = (uint8_t)(al + sign * 6);
    } else {
        af = false;
    }
    if (old > 0x99 || cf) {
        al = (uint8_t)(al + sign * 0x60);
        carry = true;
    }
    interp_set(cpu, HV_RAX * 8, 1, al);
    interp_set_flags(cpu, INTERP_ARITH & ~HV_EFLAGS_OF,
                     result_flags(al) | (carry ? HV_EFLAGS_CF : 0) | (af ? HV_EFLAGS_AF : 0));
}

static INTERP_HANDLER(daa)
{
    adjust_packed(cpu, 1);
    INTERP_NEXT();
}

static INTERP_HANDLER(das)
{
    adjust_packed(cpu, -1);
    INTERP_NEXT();
}

/* AAA and AAS work on AX as a whole: 106 is 6 and a carry to AH. */
static void adjust_unpacked(struct hv_cpu *cpu, int sign)
{
    uint16_t ax = (uint16_t)cpu->gpr[HV_RAX];
    bool adjust = (ax & 15) > 9 || (cpu->rflags & HV_EFLAGS_AF);

    if (adjust)
        ax = (uint16_t)(ax + sign * 0x106);
    ax &= 0xff0f;
    interp_set(cpu, HV_RAX * 8, 2, ax);
    interp_set_flags(cpu, HV_EFLAGS_CF | HV_EFLAGS_AF, adjust ? HV_EFLAGS_CF | HV_EFLAGS_AF : 0);
}

static INTERP_HANDLER(aaa)
{
    adjust_unpacked(cpu, 1);
    INTERP_NEXT();
}

static INTERP_HANDLER(aas)
{
    adjust_unpacked(cpu, -1);
    INTERP_NEXT();
}

static INTERP_HANDLER(aam)
{
    uint8_t base = (uint8_t)op->imm, al = get_al(cpu);

    if (!base)
        interp_raise_vector(x, op, HV_VEC_DE);
    set_ax(cpu, al / base, al % base);
    interp_set_flags(cpu, HV_EFLAGS_SF | HV_EFLAGS_ZF | HV_EFLAGS_PF, result_flags(al % base));
    INTERP_NEXT();
}

static INTERP_HANDLER(aad)
{
    uint8_t al = (uint8_t)(get_al(cpu) + get_ah(cpu) * (uint8_t)op->imm);

    set_ax(cpu, 0, al);
    interp_set_flags(cpu, HV_EFLAGS_SF | HV_EFLAGS_ZF | HV_EFLAGS_PF, result_flags(al));
    INTERP_NEXT();
}

/* AL from CF, which no manual lists and all processors do. */
static INTERP_HANDLER(salc)
{
    interp_set(cpu, HV_RAX * 8, 1, cpu->rflags & HV_EFLAGS_CF ? 0xff : 0);
    INTERP_NEXT();
}

static INTERP_HANDLER(bound)
{
    uint64_t va = interp_address(cpu, op, x);
    int64_t index = interp_sign(interp_get(cpu, op->r[0], op->size), op->size);
    int64_t low = interp_sign(interp_read(x, op, va, op->size), op->size);
    int64_t high = interp_sign(interp_read(x, op, va + op->size, op->size), op->size);

    if (index < low || index > high)
        interp_raise_vector(x, op, HV_VEC_BR);
    INTERP_NEXT();
}

/* Raises the RPL of a selector to that of another. */
static INTERP_HANDLER(arpl)
{
    uint64_t to = interp_operand(cpu, op, x, 0, 2), from = interp_get(cpu, op->r[1], 2);
    bool raise = (to & 3) < (from & 3);

    if (!(cpu->cr0 & HV_CR0_PE))
        interp_raise_vector(x, op, HV_VEC_UD);
    if (raise)
        interp_set_operand(cpu, op, x, 0, 2, (to & ~3ull) | (from & 3));
    interp_set_flags(cpu, HV_EFLAGS_ZF, raise ? HV_EFLAGS_ZF : 0);
    INTERP_NEXT();
}

static const struct interp_insn insns[] = {
    {ZYDIS_MNEMONIC_DAA, .fn = {daa}},   {ZYDIS_MNEMONIC_DAS, .fn = {das}},
    {ZYDIS_MNEMONIC_AAA, .fn = {aaa}},   {ZYDIS_MNEMONIC_AAS, .fn = {aas}},
    {ZYDIS_MNEMONIC_AAM, .fn = {aam}},   {ZYDIS_MNEMONIC_AAD, .fn = {aad}},
    {ZYDIS_MNEMONIC_SALC, .fn = {salc}}, {ZYDIS_MNEMONIC_BOUND, .fn = {bound}},
    {ZYDIS_MNEMONIC_ARPL, .fn = {arpl}},
};

const struct interp_insn_table interp_bcd_insns = {insns, HV_ARRAY_LEN(insns)};
