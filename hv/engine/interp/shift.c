/* Shifts and rotates, by the host's own instructions with the guest's flags in and out: a count of
 * 0 then leaves the flags, and what the manual calls undefined is as the hardware has it.
 */
#include "config.h"

#include "hv/engine/interp/mem.h"

enum shift {
    SHIFT_ROL,
    SHIFT_ROR,
    SHIFT_RCL,
    SHIFT_RCR,
    SHIFT_SHL,
    SHIFT_SHR,
    SHIFT_SAR,
    SHIFT_COUNT
};

#define SHIFT_ASM(insn, suffix, m)                                                                 \
    __asm__(INTERP_LOAD_FLAGS insn suffix " %%cl, %" m "[a]" INTERP_SAVE_FLAGS                     \
            : [a] "+r"(a), "+&a"(ax)                                                               \
            : "c"(count)                                                                           \
            : "cc")

#define SHIFT_CASE(id, insn)                                                                       \
    case id:                                                                                       \
        if (bytes == 1)                                                                            \
            SHIFT_ASM(insn, "b", "b");                                                             \
        else if (bytes == 2)                                                                       \
            SHIFT_ASM(insn, "w", "w");                                                             \
        else if (bytes == 4)                                                                       \
            SHIFT_ASM(insn, "l", "k");                                                             \
        else                                                                                       \
            SHIFT_ASM(insn, "q", "q");                                                             \
        break

INTERP_INLINE uint64_t compute(struct hv_cpu *cpu, enum shift what, unsigned bytes, uint64_t a,
                               uint8_t count)
{
    uint16_t ax = interp_flags_ax(cpu->rflags);

    switch (what) {
        SHIFT_CASE(SHIFT_ROL, "rol");
        SHIFT_CASE(SHIFT_ROR, "ror");
        SHIFT_CASE(SHIFT_RCL, "rcl");
        SHIFT_CASE(SHIFT_RCR, "rcr");
        SHIFT_CASE(SHIFT_SHL, "shl");
        SHIFT_CASE(SHIFT_SHR, "shr");
    default:
        SHIFT_CASE(SHIFT_SAR, "sar");
    }
    interp_set_flags(cpu, INTERP_ARITH, interp_ax_flags(ax));
    return a;
}

INTERP_INLINE void shift(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                         enum shift what, unsigned bytes, bool by_cl, bool memory)
{
    uint8_t count = by_cl ? (uint8_t)cpu->gpr[HV_RCX] : (uint8_t)op->imm;
    uint64_t va;
    void *host;

    if (!memory) {
        interp_set(cpu, op->r[0], bytes,
                   compute(cpu, what, bytes, interp_get(cpu, op->r[0], bytes), count));
        return;
    }
    va = interp_address(cpu, op, x);
    host = interp_modify(x, op, va, bytes);
    interp_store_host(host, bytes, compute(cpu, what, bytes, interp_load_host(host, bytes), count));
    interp_modified(x, op, va, host, bytes);
}

#define SHIFT_HANDLER(what, bytes, by_cl, memory)                                                  \
    static INTERP_HANDLER(what##_##bytes##_##by_cl##_##memory)                                     \
    {                                                                                              \
        shift(cpu, op, x, what, bytes, by_cl, memory);                                             \
        INTERP_NEXT();                                                                             \
    }
#define SHIFT_SIZES(what, by_cl, memory)                                                           \
    SHIFT_HANDLER(what, 1, by_cl, memory)                                                          \
    SHIFT_HANDLER(what, 2, by_cl, memory)                                                          \
    SHIFT_HANDLER(what, 4, by_cl, memory) SHIFT_HANDLER(what, 8, by_cl, memory)
#define SHIFT_FORMS(what)                                                                          \
    SHIFT_SIZES(what, 0, 0) SHIFT_SIZES(what, 0, 1) SHIFT_SIZES(what, 1, 0) SHIFT_SIZES(what, 1, 1)
#define SHIFT_ROW(what, by_cl, memory)                                                             \
    {                                                                                              \
        what##_1_##by_cl##_##memory, what##_2_##by_cl##_##memory, what##_4_##by_cl##_##memory,     \
            what##_8_##by_cl##_##memory                                                            \
    }
#define SHIFT_ROWS(what)                                                                           \
    [what] = {{SHIFT_ROW(what, 0, 0), SHIFT_ROW(what, 0, 1)},                                      \
              {SHIFT_ROW(what, 1, 0), SHIFT_ROW(what, 1, 1)}}

SHIFT_FORMS(SHIFT_ROL)
SHIFT_FORMS(SHIFT_ROR)
SHIFT_FORMS(SHIFT_RCL)
SHIFT_FORMS(SHIFT_RCR)
SHIFT_FORMS(SHIFT_SHL)
SHIFT_FORMS(SHIFT_SHR)
SHIFT_FORMS(SHIFT_SAR)

static void pick_shift(struct interp_decoding *d, const struct interp_insn *insn)
{
    static interp_fn *const fns[SHIFT_COUNT][2][2][4] = {
        SHIFT_ROWS(SHIFT_ROL), SHIFT_ROWS(SHIFT_ROR), SHIFT_ROWS(SHIFT_RCL), SHIFT_ROWS(SHIFT_RCR),
        SHIFT_ROWS(SHIFT_SHL), SHIFT_ROWS(SHIFT_SHR), SHIFT_ROWS(SHIFT_SAR),
    };
    struct interp_op *op = d->op;
    bool by_cl = !(op->flags & INTERP_OP_SRC_IMM);

    op->fn = fns[insn->extra][by_cl][op->mem == 0][interp_log2(op->size)];
}

/* ---- SHLD, SHRD */

#define DOUBLE_ASM(insn, suffix, m)                                                                \
    __asm__(INTERP_LOAD_FLAGS insn suffix " %%cl, %" m "[b], %" m "[a]" INTERP_SAVE_FLAGS          \
            : [a] "+r"(a), "+&a"(ax)                                                               \
            : [b] "r"(b), "c"(count)                                                               \
            : "cc")

INTERP_INLINE uint64_t compute_double(struct hv_cpu *cpu, bool left, unsigned bytes, uint64_t a,
                                      uint64_t b, uint8_t count)
{
    uint16_t ax = interp_flags_ax(cpu->rflags);

    if (bytes == 2 && left)
        DOUBLE_ASM("shld", "w", "w");
    else if (bytes == 2)
        DOUBLE_ASM("shrd", "w", "w");
    else if (bytes == 4 && left)
        DOUBLE_ASM("shld", "l", "k");
    else if (bytes == 4)
        DOUBLE_ASM("shrd", "l", "k");
    else if (left)
        DOUBLE_ASM("shld", "q", "q");
    else
        DOUBLE_ASM("shrd", "q", "q");
    interp_set_flags(cpu, INTERP_ARITH, interp_ax_flags(ax));
    return a;
}

INTERP_INLINE void shift_double(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                unsigned bytes)
{
    uint8_t count = op->flags & INTERP_OP_SRC_IMM ? (uint8_t)op->imm : (uint8_t)cpu->gpr[HV_RCX];
    uint64_t b = interp_get(cpu, op->r[1], bytes);
    bool left = op->extra;
    uint64_t va;
    void *host;

    if (op->r[0] != INTERP_NO_REG) {
        interp_set(cpu, op->r[0], bytes,
                   compute_double(cpu, left, bytes, interp_get(cpu, op->r[0], bytes), b, count));
        return;
    }
    va = interp_address(cpu, op, x);
    host = interp_modify(x, op, va, bytes);
    interp_store_host(host, bytes,
                      compute_double(cpu, left, bytes, interp_load_host(host, bytes), b, count));
    interp_modified(x, op, va, host, bytes);
}

#define DOUBLE_HANDLER(bytes)                                                                      \
    static INTERP_HANDLER(double_##bytes)                                                          \
    {                                                                                              \
        shift_double(cpu, op, x, bytes);                                                           \
        INTERP_NEXT();                                                                             \
    }
DOUBLE_HANDLER(2)
DOUBLE_HANDLER(4)
DOUBLE_HANDLER(8)

static const struct interp_insn insns[] = {
    {ZYDIS_MNEMONIC_ROL, pick_shift, .extra = SHIFT_ROL},
    {ZYDIS_MNEMONIC_ROR, pick_shift, .extra = SHIFT_ROR},
    {ZYDIS_MNEMONIC_RCL, pick_shift, .extra = SHIFT_RCL},
    {ZYDIS_MNEMONIC_RCR, pick_shift, .extra = SHIFT_RCR},
    {ZYDIS_MNEMONIC_SHL, pick_shift, .extra = SHIFT_SHL},
    {ZYDIS_MNEMONIC_SHR, pick_shift, .extra = SHIFT_SHR},
    {ZYDIS_MNEMONIC_SAR, pick_shift, .extra = SHIFT_SAR},
    {ZYDIS_MNEMONIC_SHLD, .fn = {NULL, double_2, double_4, double_8}, .extra = 1},
    {ZYDIS_MNEMONIC_SHRD, .fn = {NULL, double_2, double_4, double_8}, .extra = 0},
};

const struct interp_insn_table interp_shift_insns = {insns, HV_ARRAY_LEN(insns)};
