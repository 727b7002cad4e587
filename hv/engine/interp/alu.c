/* ADD to TEST, INC, DEC, NEG, NOT: executed by the host's own instruction, so that all flags are
 * the hardware's. */
#include "config.h"

#include "hv/engine/interp/mem.h"

enum alu {
    ALU_ADD,
    ALU_OR,
    ALU_ADC,
    ALU_SBB,
    ALU_AND,
    ALU_SUB,
    ALU_XOR,
    ALU_CMP,
    ALU_TEST,
    ALU_COUNT
};
enum form { FORM_RR, FORM_RI, FORM_RM, FORM_MR, FORM_MI, FORM_COUNT };
enum unary { UNARY_INC, UNARY_DEC, UNARY_NEG, UNARY_NOT, UNARY_COUNT };

/* One host instruction of one size; %k[f] is EFLAGS before. */
#define BINARY_ASM(before, insn, suffix, m)                                                        \
    __asm__(before insn suffix " %" m "[b], %" m "[a]" INTERP_SAVE_FLAGS                           \
            : [a] "+r"(a), "=&a"(ax)                                                               \
            : [b] "r"(b), [f] "r"(rflags)                                                          \
            : "cc")

#define BINARY_CASE(id, before, insn)                                                              \
    case id:                                                                                       \
        if (bytes == 1)                                                                            \
            BINARY_ASM(before, insn, "b", "b");                                                    \
        else if (bytes == 2)                                                                       \
            BINARY_ASM(before, insn, "w", "w");                                                    \
        else if (bytes == 4)                                                                       \
            BINARY_ASM(before, insn, "l", "k");                                                    \
        else                                                                                       \
            BINARY_ASM(before, insn, "q", "q");                                                    \
        break

#define WITH_CARRY "btl $0, %k[f]\n\t"

INTERP_INLINE uint64_t compute(struct hv_cpu *cpu, enum alu what, unsigned bytes, uint64_t a,
                               uint64_t b)
{
    uint64_t rflags = cpu->rflags;
    uint16_t ax;

    switch (what) {
        BINARY_CASE(ALU_ADD, "", "add");
        BINARY_CASE(ALU_OR, "", "or");
        BINARY_CASE(ALU_ADC, WITH_CARRY, "adc");
        BINARY_CASE(ALU_SBB, WITH_CARRY, "sbb");
        BINARY_CASE(ALU_AND, "", "and");
        BINARY_CASE(ALU_SUB, "", "sub");
        BINARY_CASE(ALU_XOR, "", "xor");
        BINARY_CASE(ALU_CMP, "", "cmp");
    default:
        BINARY_CASE(ALU_TEST, "", "test");
    }
    interp_set_flags(cpu, INTERP_ARITH, interp_ax_flags(ax));
    return a;
}

INTERP_INLINE bool has_result(enum alu what)
{
    return what != ALU_CMP && what != ALU_TEST;
}

INTERP_INLINE void binary_memory(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                 enum alu what, unsigned bytes, uint64_t b)
{
    uint64_t va = interp_address(cpu, op, x);
    void *host;

    if (!has_result(what)) {
        compute(cpu, what, bytes, interp_read(x, op, va, bytes), b);
        return;
    }
    host = interp_modify(x, op, va, bytes);
    interp_store_host(host, bytes, compute(cpu, what, bytes, interp_load_host(host, bytes), b));
    interp_modified(x, op, va, host, bytes);
}

INTERP_INLINE void binary(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, enum alu what,
                          unsigned bytes, enum form form)
{
    uint64_t b, result;

    if (form == FORM_RM)
        b = interp_read(x, op, interp_address(cpu, op, x), bytes);
    else if (form == FORM_RI || form == FORM_MI)
        b = (uint64_t)op->imm;
    else
        b = interp_get(cpu, op->r[1], bytes);
    if (form == FORM_MR || form == FORM_MI) {
        binary_memory(cpu, op, x, what, bytes, b);
        return;
    }
    result = compute(cpu, what, bytes, interp_get(cpu, op->r[0], bytes), b);
    if (has_result(what))
        interp_set(cpu, op->r[0], bytes, result);
}

#define BINARY_HANDLER(what, form, bytes)                                                          \
    static INTERP_HANDLER(what##_##form##_##bytes)                                                 \
    {                                                                                              \
        binary(cpu, op, x, what, bytes, form);                                                     \
        INTERP_NEXT();                                                                             \
    }
#define BINARY_SIZES(what, form)                                                                   \
    BINARY_HANDLER(what, form, 1)                                                                  \
    BINARY_HANDLER(what, form, 2) BINARY_HANDLER(what, form, 4) BINARY_HANDLER(what, form, 8)
#define BINARY_FORMS(what)                                                                         \
    BINARY_SIZES(what, FORM_RR)                                                                    \
    BINARY_SIZES(what, FORM_RI)                                                                    \
    BINARY_SIZES(what, FORM_RM) BINARY_SIZES(what, FORM_MR) BINARY_SIZES(what, FORM_MI)
#define BINARY_ROW(what, form)                                                                     \
    [form] = {what##_##form##_1, what##_##form##_2, what##_##form##_4, what##_##form##_8}
#define BINARY_ROWS(what)                                                                          \
    [what] = {BINARY_ROW(what, FORM_RR), BINARY_ROW(what, FORM_RI), BINARY_ROW(what, FORM_RM),     \
              BINARY_ROW(what, FORM_MR), BINARY_ROW(what, FORM_MI)}

BINARY_FORMS(ALU_ADD)
BINARY_FORMS(ALU_OR)
BINARY_FORMS(ALU_ADC)
BINARY_FORMS(ALU_SBB)
BINARY_FORMS(ALU_AND)
BINARY_FORMS(ALU_SUB)
BINARY_FORMS(ALU_XOR)
BINARY_FORMS(ALU_CMP)
BINARY_FORMS(ALU_TEST)

static interp_fn *const binary_fns[ALU_COUNT][FORM_COUNT][4] = {
    BINARY_ROWS(ALU_ADD), BINARY_ROWS(ALU_OR),  BINARY_ROWS(ALU_ADC),
    BINARY_ROWS(ALU_SBB), BINARY_ROWS(ALU_AND), BINARY_ROWS(ALU_SUB),
    BINARY_ROWS(ALU_XOR), BINARY_ROWS(ALU_CMP), BINARY_ROWS(ALU_TEST),
};

static void pick_binary(struct interp_decoding *d, const struct interp_insn *insn)
{
    struct interp_op *op = d->op;
    enum form form;

    if (op->flags & INTERP_OP_LOCK) {
        interp_pick_locked(d);
        return;
    }
    if (op->mem == 0)
        form = op->flags & INTERP_OP_SRC_IMM ? FORM_MI : FORM_MR;
    else if (op->mem == 1)
        form = FORM_RM;
    else
        form = op->flags & INTERP_OP_SRC_IMM ? FORM_RI : FORM_RR;
    op->fn = binary_fns[insn->extra][form][interp_log2(op->size)];
}

/* ---- one operand */

#define UNARY_ASM(insn, suffix, m)                                                                 \
    __asm__(INTERP_LOAD_FLAGS insn suffix " %" m "[a]" INTERP_SAVE_FLAGS                           \
            : [a] "+r"(a), "+&a"(ax)                                                               \
            :                                                                                      \
            : "cc")

#define UNARY_CASE(id, insn)                                                                       \
    case id:                                                                                       \
        if (bytes == 1)                                                                            \
            UNARY_ASM(insn, "b", "b");                                                             \
        else if (bytes == 2)                                                                       \
            UNARY_ASM(insn, "w", "w");                                                             \
        else if (bytes == 4)                                                                       \
            UNARY_ASM(insn, "l", "k");                                                             \
        else                                                                                       \
            UNARY_ASM(insn, "q", "q");                                                             \
        break

/* The flags go in too: INC and DEC leave CF, NOT leaves all. */
INTERP_INLINE uint64_t compute_unary(struct hv_cpu *cpu, enum unary what, unsigned bytes,
                                     uint64_t a)
{
    uint16_t ax = interp_flags_ax(cpu->rflags);

    switch (what) {
        UNARY_CASE(UNARY_INC, "inc");
        UNARY_CASE(UNARY_DEC, "dec");
        UNARY_CASE(UNARY_NEG, "neg");
    default:
        UNARY_CASE(UNARY_NOT, "not");
    }
    interp_set_flags(cpu, INTERP_ARITH, interp_ax_flags(ax));
    return a;
}

INTERP_INLINE void unary(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                         enum unary what, unsigned bytes, bool memory)
{
    uint64_t va;
    void *host;

    if (!memory) {
        interp_set(cpu, op->r[0], bytes,
                   compute_unary(cpu, what, bytes, interp_get(cpu, op->r[0], bytes)));
        return;
    }
    va = interp_address(cpu, op, x);
    host = interp_modify(x, op, va, bytes);
    interp_store_host(host, bytes, compute_unary(cpu, what, bytes, interp_load_host(host, bytes)));
    interp_modified(x, op, va, host, bytes);
}

#define UNARY_HANDLER(what, memory, bytes)                                                         \
    static INTERP_HANDLER(what##_##memory##_##bytes)                                               \
    {                                                                                              \
        unary(cpu, op, x, what, bytes, memory);                                                    \
        INTERP_NEXT();                                                                             \
    }
#define UNARY_SIZES(what, memory)                                                                  \
    UNARY_HANDLER(what, memory, 1)                                                                 \
    UNARY_HANDLER(what, memory, 2) UNARY_HANDLER(what, memory, 4) UNARY_HANDLER(what, memory, 8)
#define UNARY_ROW(what)                                                                            \
    [what] = {{what##_0_1, what##_0_2, what##_0_4, what##_0_8},                                    \
              {what##_1_1, what##_1_2, what##_1_4, what##_1_8}}

UNARY_SIZES(UNARY_INC, 0)
UNARY_SIZES(UNARY_INC, 1)
UNARY_SIZES(UNARY_DEC, 0)
UNARY_SIZES(UNARY_DEC, 1)
UNARY_SIZES(UNARY_NEG, 0)
UNARY_SIZES(UNARY_NEG, 1)
UNARY_SIZES(UNARY_NOT, 0)
UNARY_SIZES(UNARY_NOT, 1)

static interp_fn *const unary_fns[UNARY_COUNT][2][4] = {
    UNARY_ROW(UNARY_INC),
    UNARY_ROW(UNARY_DEC),
    UNARY_ROW(UNARY_NEG),
    UNARY_ROW(UNARY_NOT),
};

static void pick_unary(struct interp_decoding *d, const struct interp_insn *insn)
{
    struct interp_op *op = d->op;

    if (op->flags & INTERP_OP_LOCK)
        interp_pick_locked(d);
    else
        op->fn = unary_fns[insn->extra][op->mem == 0][interp_log2(op->size)];
}

static const struct interp_insn insns[] = {
    {ZYDIS_MNEMONIC_ADD, pick_binary, .extra = ALU_ADD},
    {ZYDIS_MNEMONIC_OR, pick_binary, .extra = ALU_OR},
    {ZYDIS_MNEMONIC_ADC, pick_binary, .extra = ALU_ADC},
    {ZYDIS_MNEMONIC_SBB, pick_binary, .extra = ALU_SBB},
    {ZYDIS_MNEMONIC_AND, pick_binary, .extra = ALU_AND},
    {ZYDIS_MNEMONIC_SUB, pick_binary, .extra = ALU_SUB},
    {ZYDIS_MNEMONIC_XOR, pick_binary, .extra = ALU_XOR},
    {ZYDIS_MNEMONIC_CMP, pick_binary, .extra = ALU_CMP},
    {ZYDIS_MNEMONIC_TEST, pick_binary, .extra = ALU_TEST},
    {ZYDIS_MNEMONIC_INC, pick_unary, .extra = UNARY_INC},
    {ZYDIS_MNEMONIC_DEC, pick_unary, .extra = UNARY_DEC},
    {ZYDIS_MNEMONIC_NEG, pick_unary, .extra = UNARY_NEG},
    {ZYDIS_MNEMONIC_NOT, pick_unary, .extra = UNARY_NOT},
};

const struct interp_insn_table interp_alu_insns = {insns, HV_ARRAY_LEN(insns)};
