/* MUL, IMUL, DIV, IDIV, MULX. */
#include "config.h"

#include "hv/engine/interp/mem.h"

/* One operand: AL, or DX:AX by size, times operand 0. */
#define MUL_ASM(insn, suffix, m)                                                                   \
    __asm__(insn suffix " %" m "[b]\n\tmov %%rax, %[low]" INTERP_SAVE_FLAGS                        \
            : "+a"(a), [low] "=&r"(low), "=&d"(high)                                               \
            : [b] "r"(b)                                                                           \
            : "cc")

INTERP_INLINE void multiply_wide(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                 bool is_signed, unsigned bytes)
{
    uint64_t b = interp_operand(cpu, op, x, 0, bytes);
    uint64_t a = cpu->gpr[HV_RAX], low, high;

    if (bytes == 1 && is_signed)
        MUL_ASM("imul", "b", "b");
    else if (bytes == 1)
        MUL_ASM("mul", "b", "b");
    else if (bytes == 2 && is_signed)
        MUL_ASM("imul", "w", "w");
    else if (bytes == 2)
        MUL_ASM("mul", "w", "w");
    else if (bytes == 4 && is_signed)
        MUL_ASM("imul", "l", "k");
    else if (bytes == 4)
        MUL_ASM("mul", "l", "k");
    else if (is_signed)
        MUL_ASM("imul", "q", "q");
    else
        MUL_ASM("mul", "q", "q");
    interp_set_flags(cpu, INTERP_ARITH, interp_ax_flags((uint16_t)a));
    if (bytes == 1) {
        interp_set(cpu, HV_RAX * 8, 2, low);
        return;
    }
    interp_set(cpu, HV_RAX * 8, bytes, low);
    interp_set(cpu, HV_RDX * 8, bytes, high);
}

/* Two or three operands: the low half of a signed product. */
#define IMUL_ASM(suffix, m)                                                                        \
    __asm__("imul" suffix " %" m "[b], %" m "[a]" INTERP_SAVE_FLAGS                                \
            : [a] "+r"(a), "=&a"(ax)                                                               \
            : [b] "r"(b)                                                                           \
            : "cc")

INTERP_INLINE void multiply_low(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                unsigned bytes)
{
    uint64_t a, b;
    uint16_t ax;

    if (op->flags & INTERP_OP_SRC_IMM) {
        a = interp_operand(cpu, op, x, 1, bytes);
        b = (uint64_t)op->imm;
    } else {
        a = interp_get(cpu, op->r[0], bytes);
        b = interp_operand(cpu, op, x, 1, bytes);
    }
    if (bytes == 2)
        IMUL_ASM("w", "w");
    else if (bytes == 4)
        IMUL_ASM("l", "k");
    else
        IMUL_ASM("q", "q");
    interp_set_flags(cpu, INTERP_ARITH, interp_ax_flags(ax));
    interp_set(cpu, op->r[0], bytes, a);
}

typedef unsigned __int128 u128;
typedef __int128 s128;

/* The dividend: AX, or DX:AX by size. */
INTERP_INLINE u128 dividend(struct hv_cpu *cpu, unsigned bytes)
{
    if (bytes == 1)
        return (uint16_t)cpu->gpr[HV_RAX];
    return (u128)interp_get(cpu, HV_RDX * 8, bytes) << (bytes * 8) |
           interp_get(cpu, HV_RAX * 8, bytes);
}

INTERP_INLINE void set_quotient(struct hv_cpu *cpu, unsigned bytes, uint64_t quotient,
                                uint64_t remainder)
{
    interp_set(cpu, HV_RAX * 8, bytes, quotient);
    interp_set(cpu, bytes == 1 ? HV_RAX * 8 + 1 : HV_RDX * 8, bytes, remainder);
}

INTERP_INLINE void divide_unsigned(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                   unsigned bytes)
{
    uint64_t divisor = interp_operand(cpu, op, x, 0, bytes);
    u128 n = dividend(cpu, bytes);

    if ((uint64_t)(n >> (bytes * 8)) >= divisor)
        interp_raise_vector(x, op, HV_VEC_DE);
    set_quotient(cpu, bytes, (uint64_t)(n / divisor), (uint64_t)(n % divisor));
}

INTERP_INLINE void divide_signed(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                 unsigned bytes)
{
    int64_t divisor = interp_sign(interp_operand(cpu, op, x, 0, bytes), bytes);
    unsigned shift = 128 - bytes * 16;
    s128 n = (s128)(dividend(cpu, bytes) << shift) >> shift;
    s128 quotient;

    /* The host cannot divide the smallest number by -1 either. */
    if (divisor == 0 || (divisor == -1 && (u128)n == (u128)1 << 127))
        interp_raise_vector(x, op, HV_VEC_DE);
    quotient = n / divisor;
    if (quotient != interp_sign((uint64_t)quotient, bytes))
        interp_raise_vector(x, op, HV_VEC_DE);
    set_quotient(cpu, bytes, (uint64_t)quotient, (uint64_t)(n % divisor));
}

INTERP_INLINE void mulx(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, unsigned bytes)
{
    u128 product = (u128)interp_get(cpu, HV_RDX * 8, bytes) * interp_operand(cpu, op, x, 2, bytes);

    /* If both are one register, the high half stays. */
    interp_set(cpu, op->r[1], bytes, (uint64_t)product);
    interp_set(cpu, op->r[0], bytes, (uint64_t)(product >> (bytes * 8)));
}

#define SIZED(name, call)                                                                          \
    static INTERP_HANDLER(name)                                                                    \
    {                                                                                              \
        call;                                                                                      \
        INTERP_NEXT();                                                                             \
    }
#define ALL_SIZES(bytes)                                                                           \
    SIZED(mul_##bytes, multiply_wide(cpu, op, x, false, bytes))                                    \
    SIZED(imul_##bytes, multiply_wide(cpu, op, x, true, bytes))                                    \
    SIZED(div_##bytes, divide_unsigned(cpu, op, x, bytes))                                         \
    SIZED(idiv_##bytes, divide_signed(cpu, op, x, bytes))

ALL_SIZES(1)
ALL_SIZES(2)
ALL_SIZES(4)
ALL_SIZES(8)
SIZED(imul_low_2, multiply_low(cpu, op, x, 2))
SIZED(imul_low_4, multiply_low(cpu, op, x, 4))
SIZED(imul_low_8, multiply_low(cpu, op, x, 8))
SIZED(mulx_4, mulx(cpu, op, x, 4))
SIZED(mulx_8, mulx(cpu, op, x, 8))

static void pick_imul(struct interp_decoding *d, const struct interp_insn *insn)
{
    static interp_fn *const low[4] = {NULL, imul_low_2, imul_low_4, imul_low_8};
    unsigned size = interp_log2(d->op->size);

    d->op->fn = d->insn.operand_count_visible == 1 ? insn->fn[size] : low[size];
}

static const struct interp_insn insns[] = {
    {ZYDIS_MNEMONIC_MUL, .fn = {mul_1, mul_2, mul_4, mul_8}},
    {ZYDIS_MNEMONIC_IMUL, pick_imul, .fn = {imul_1, imul_2, imul_4, imul_8}},
    {ZYDIS_MNEMONIC_DIV, .fn = {div_1, div_2, div_4, div_8}},
    {ZYDIS_MNEMONIC_IDIV, .fn = {idiv_1, idiv_2, idiv_4, idiv_8}},
    {ZYDIS_MNEMONIC_MULX, .fn = {NULL, NULL, mulx_4, mulx_8}, .feature = INTERP_FEATURE_BMI2},
};

const struct interp_insn_table interp_muldiv_insns = {insns, HV_ARRAY_LEN(insns)};
