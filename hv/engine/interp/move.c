/* Data movement: MOV and its kin, LEA, CMOVcc, SETcc, conversions, flag bits. */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include <sched.h>

/* ---- MOV */

#define MOV_HANDLERS(bytes)                                                                        \
    static INTERP_HANDLER(mov_rr_##bytes)                                                          \
    {                                                                                              \
        interp_set(cpu, op->r[0], bytes, interp_get(cpu, op->r[1], bytes));                        \
        INTERP_NEXT();                                                                             \
    }                                                                                              \
    static INTERP_HANDLER(mov_ri_##bytes)                                                          \
    {                                                                                              \
        interp_set(cpu, op->r[0], bytes, (uint64_t)op->imm);                                       \
        INTERP_NEXT();                                                                             \
    }                                                                                              \
    static INTERP_HANDLER(mov_rm_##bytes)                                                          \
    {                                                                                              \
        interp_set(cpu, op->r[0], bytes, interp_read(x, op, interp_address(cpu, op, x), bytes));   \
        INTERP_NEXT();                                                                             \
    }                                                                                              \
    static INTERP_HANDLER(mov_mr_##bytes)                                                          \
    {                                                                                              \
        interp_write(x, op, interp_address(cpu, op, x), bytes, interp_get(cpu, op->r[1], bytes));  \
        INTERP_NEXT();                                                                             \
    }                                                                                              \
    static INTERP_HANDLER(mov_mi_##bytes)                                                          \
    {                                                                                              \
        interp_write(x, op, interp_address(cpu, op, x), bytes, (uint64_t)op->imm);                 \
        INTERP_NEXT();                                                                             \
    }

MOV_HANDLERS(1)
MOV_HANDLERS(2)
MOV_HANDLERS(4)
MOV_HANDLERS(8)

#define MOV_ROW(form)                                                                              \
    {                                                                                              \
        mov_##form##_1, mov_##form##_2, mov_##form##_4, mov_##form##_8                             \
    }

static bool is_special(const ZydisDecodedOperand *o)
{
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->reg.value >= ZYDIS_REGISTER_ES;
}

static void pick_mov(struct interp_decoding *d, const struct interp_insn *insn)
{
    static interp_fn *const fns[5][4] = {MOV_ROW(rr), MOV_ROW(ri), MOV_ROW(rm), MOV_ROW(mr),
                                         MOV_ROW(mi)};
    struct interp_op *op = d->op;
    bool imm = op->flags & INTERP_OP_SRC_IMM;
    unsigned form = op->mem == 0 ? (imm ? 4 : 3) : op->mem == 1 ? 2 : imm ? 1 : 0;

    (void)insn;
    if (is_special(&d->operands[0]) || is_special(&d->operands[1]))
        interp_pick_mov_special(d);
    else
        op->fn = fns[form][interp_log2(op->size)];
}

/* ---- MOVZX, MOVSX, MOVSXD */

#define EXTEND_HANDLERS(name, bytes, from, value)                                                  \
    static INTERP_HANDLER(name##_r_##from##_##bytes)                                               \
    {                                                                                              \
        uint64_t v = interp_get(cpu, op->r[1], from);                                              \
                                                                                                   \
        interp_set(cpu, op->r[0], bytes, value);                                                   \
        INTERP_NEXT();                                                                             \
    }                                                                                              \
    static INTERP_HANDLER(name##_m_##from##_##bytes)                                               \
    {                                                                                              \
        uint64_t v = interp_read(x, op, interp_address(cpu, op, x), from);                         \
                                                                                                   \
        interp_set(cpu, op->r[0], bytes, value);                                                   \
        INTERP_NEXT();                                                                             \
    }
#define EXTEND_SIZES(name, from, value)                                                            \
    EXTEND_HANDLERS(name, 2, from, value)                                                          \
    EXTEND_HANDLERS(name, 4, from, value)                                                          \
    EXTEND_HANDLERS(name, 8, from, value)
#define EXTEND_ROW(name, mem, from)                                                                \
    {                                                                                              \
        NULL, name##_##mem##_##from##_2, name##_##mem##_##from##_4, name##_##mem##_##from##_8      \
    }

EXTEND_SIZES(zx, 1, v)
EXTEND_SIZES(zx, 2, v)
EXTEND_SIZES(sx, 1, (uint64_t)interp_sign(v, 1))
EXTEND_SIZES(sx, 2, (uint64_t)interp_sign(v, 2))
EXTEND_SIZES(sx, 4, (uint64_t)interp_sign(v, 4))

static void pick_extend(struct interp_decoding *d, const struct interp_insn *insn)
{
    static interp_fn *const fns[2][3][2][4] = {
        {{EXTEND_ROW(zx, r, 1), EXTEND_ROW(zx, m, 1)},
         {EXTEND_ROW(zx, r, 2), EXTEND_ROW(zx, m, 2)}},
        {{EXTEND_ROW(sx, r, 1), EXTEND_ROW(sx, m, 1)},
         {EXTEND_ROW(sx, r, 2), EXTEND_ROW(sx, m, 2)},
         {EXTEND_ROW(sx, r, 4), EXTEND_ROW(sx, m, 4)}},
    };
    unsigned from = interp_log2(d->operands[1].size / 8);

    if (from >
        interp_log2(
            d->op->size)) { /* MOVSXD to 16 bits reads no more than that, whatever Zydis says */
        from = interp_log2(d->op->size);
        d->op->mem_bytes = d->op->size;
    }
    d->op->fn = fns[insn->extra][from][d->op->mem == 1][interp_log2(d->op->size)];
}

/* ---- LEA */

#define LEA_HANDLER(bytes)                                                                         \
    static INTERP_HANDLER(lea_##bytes)                                                             \
    {                                                                                              \
        interp_set(cpu, op->r[0], bytes, interp_address(cpu, op, x));                              \
        INTERP_NEXT();                                                                             \
    }
LEA_HANDLER(2)
LEA_HANDLER(4)
LEA_HANDLER(8)

static void pick_lea(struct interp_decoding *d, const struct interp_insn *insn)
{
    static interp_fn *const fns[4] = {NULL, lea_2, lea_4, lea_8};
    struct interp_op *op = d->op;

    (void)insn;
    /* No segment takes part, so the fast recipes are good even where a prefix names one. */
    if (op->ea == INTERP_EA_SLOW) {
        bool plain = op->address_bytes == 8 && op->base != INTERP_NO_REG;

        op->seg = INTERP_NO_REG;
        if (plain)
            op->ea = op->index == INTERP_NO_REG ? INTERP_EA_BASE : INTERP_EA_INDEX;
    }
    op->fn = fns[interp_log2(op->size)];
}

/* ---- CMOVcc, SETcc: the condition is op->extra. A CMOV reads its operand in any case. */

#define CMOV_HANDLER(bytes)                                                                        \
    static INTERP_HANDLER(cmov_##bytes)                                                            \
    {                                                                                              \
        uint64_t value = interp_operand(cpu, op, x, 1, bytes);                                     \
                                                                                                   \
        if (!interp_condition(cpu->rflags, op->extra))                                             \
            value = interp_get(cpu, op->r[0], bytes);                                              \
        interp_set(cpu, op->r[0], bytes, value);                                                   \
        INTERP_NEXT();                                                                             \
    }
CMOV_HANDLER(2)
CMOV_HANDLER(4)
CMOV_HANDLER(8)

static INTERP_HANDLER(setcc)
{
    interp_set_operand(cpu, op, x, 0, 1, interp_condition(cpu->rflags, op->extra));
    INTERP_NEXT();
}

/* ---- byte order */

static uint64_t swap(uint64_t value, unsigned bytes)
{
    return __builtin_bswap64(value) >> (64 - 8 * bytes);
}

static INTERP_HANDLER(bswap_4)
{
    interp_set(cpu, op->r[0], 4, __builtin_bswap32((uint32_t)interp_get(cpu, op->r[0], 4)));
    INTERP_NEXT();
}

static INTERP_HANDLER(bswap_8)
{
    interp_set(cpu, op->r[0], 8, __builtin_bswap64(interp_get(cpu, op->r[0], 8)));
    INTERP_NEXT();
}

/* Undefined by the manual; processors clear the register. */
static INTERP_HANDLER(bswap_2)
{
    interp_set(cpu, op->r[0], 2, 0);
    INTERP_NEXT();
}

#define MOVBE_HANDLER(bytes)                                                                       \
    static INTERP_HANDLER(movbe_##bytes)                                                           \
    {                                                                                              \
        interp_set_operand(cpu, op, x, 0, bytes,                                                   \
                           swap(interp_operand(cpu, op, x, 1, bytes), bytes));                     \
        INTERP_NEXT();                                                                             \
    }
MOVBE_HANDLER(2)
MOVBE_HANDLER(4)
MOVBE_HANDLER(8)

/* ---- CBW to CQO: extra is the size of what is extended */

#define WIDEN_HANDLER(name, bytes)                                                                 \
    static INTERP_HANDLER(name)                                                                    \
    {                                                                                              \
        uint64_t a = interp_get(cpu, HV_RAX * 8, (bytes) / 2);                                     \
                                                                                                   \
        interp_set(cpu, HV_RAX * 8, bytes, (uint64_t)interp_sign(a, (bytes) / 2));                 \
        INTERP_NEXT();                                                                             \
    }
WIDEN_HANDLER(cbw, 2)
WIDEN_HANDLER(cwde, 4)
WIDEN_HANDLER(cdqe, 8)

#define SPLIT_HANDLER(name, bytes)                                                                 \
    static INTERP_HANDLER(name)                                                                    \
    {                                                                                              \
        int64_t a = interp_sign(interp_get(cpu, HV_RAX * 8, bytes), bytes);                        \
                                                                                                   \
        interp_set(cpu, HV_RDX * 8, bytes, (uint64_t)(a >> 63));                                   \
        INTERP_NEXT();                                                                             \
    }
SPLIT_HANDLER(cwd, 2)
SPLIT_HANDLER(cdq, 4)
SPLIT_HANDLER(cqo, 8)

/* ---- the rest */

static INTERP_HANDLER(xchg)
{
    unsigned bytes = op->size;
    uint64_t a = interp_get(cpu, op->r[0], bytes);

    interp_set(cpu, op->r[0], bytes, interp_get(cpu, op->r[1], bytes));
    interp_set(cpu, op->r[1], bytes, a);
    INTERP_NEXT();
}

static void pick_xchg(struct interp_decoding *d, const struct interp_insn *insn)
{
    (void)insn;
    if (d->op->ea != INTERP_EA_NONE)
        interp_pick_locked(d);
    else
        d->op->fn = xchg;
}

/* The address is (E/R)BX + AL, which only this instruction has. */
static INTERP_HANDLER(xlat)
{
    uint64_t offset =
        (cpu->gpr[HV_RBX] + (uint8_t)cpu->gpr[HV_RAX]) & interp_mask(op->address_bytes);
    uint64_t va = interp_linear(cpu, op, x, op->seg, offset, 1, false);

    interp_set(cpu, HV_RAX * 8, 1, interp_read(x, op, va, 1));
    INTERP_NEXT();
}

static void pick_xlat(struct interp_decoding *d, const struct interp_insn *insn)
{
    d->op->seg = (uint8_t)(d->operands[0].mem.segment - ZYDIS_REGISTER_ES);
    d->op->fn = insn->fn[0];
}

#define LAHF_FLAGS (INTERP_ARITH & 0xff)

static INTERP_HANDLER(lahf)
{
    interp_set(cpu, HV_RAX * 8 + 1, 1, (cpu->rflags & LAHF_FLAGS) | HV_EFLAGS_FIXED);
    INTERP_NEXT();
}

static INTERP_HANDLER(sahf)
{
    interp_set_flags(cpu, LAHF_FLAGS, interp_get(cpu, HV_RAX * 8 + 1, 1));
    INTERP_NEXT();
}

#define FLAG_HANDLER(name, expression)                                                             \
    static INTERP_HANDLER(name)                                                                    \
    {                                                                                              \
        cpu->rflags expression;                                                                    \
        INTERP_NEXT();                                                                             \
    }
FLAG_HANDLER(clc, &= ~(uint64_t)HV_EFLAGS_CF)
FLAG_HANDLER(stc, |= HV_EFLAGS_CF)
FLAG_HANDLER(cmc, ^= HV_EFLAGS_CF)
FLAG_HANDLER(cld, &= ~(uint64_t)HV_EFLAGS_DF)
FLAG_HANDLER(std, |= HV_EFLAGS_DF)

static INTERP_HANDLER(nop)
{
    INTERP_NEXT();
}

/* A guest also keeps its RDTSC behind loads with LFENCE, which a locked instruction would not do. */
static INTERP_HANDLER(fence)
{
    __asm__ volatile("mfence\n\tlfence" ::: "memory");
    INTERP_NEXT();
}

/* A vCPU that spins waits for another one, which may not run because this one does. */
static INTERP_HANDLER(pause_hint)
{
    __builtin_ia32_pause();
    if (--x->pauses == 0) {
        x->pauses = x->pauses_per_yield;
        sched_yield();
    }
    INTERP_NEXT();
}

#define CONDITION(cc, suffix)                                                                      \
    {ZYDIS_MNEMONIC_CMOV##suffix, .fn = {NULL, cmov_2, cmov_4, cmov_8}, .extra = cc},              \
    {                                                                                              \
        ZYDIS_MNEMONIC_SET##suffix, .fn = {setcc}, .extra = cc                                     \
    }
#define NOP(name)                                                                                  \
    {                                                                                              \
        ZYDIS_MNEMONIC_##name, .fn = { nop }                                                       \
    }

static const struct interp_insn insns[] = {
    {ZYDIS_MNEMONIC_MOV, .pick = pick_mov},
    {ZYDIS_MNEMONIC_MOVNTI, pick_mov, .feature = INTERP_FEATURE_SSE2},
    {ZYDIS_MNEMONIC_MOVZX, pick_extend, .extra = 0},
    {ZYDIS_MNEMONIC_MOVSX, pick_extend, .extra = 1},
    {ZYDIS_MNEMONIC_MOVSXD, pick_extend, .extra = 1},
    {ZYDIS_MNEMONIC_LEA, .pick = pick_lea},
    {ZYDIS_MNEMONIC_BSWAP, .fn = {NULL, bswap_2, bswap_4, bswap_8}},
    {ZYDIS_MNEMONIC_MOVBE, .fn = {NULL, movbe_2, movbe_4, movbe_8},
     .feature = INTERP_FEATURE_MOVBE},
    {ZYDIS_MNEMONIC_CBW, .fn = {cbw}},
    {ZYDIS_MNEMONIC_CWDE, .fn = {cwde}},
    {ZYDIS_MNEMONIC_CDQE, .fn = {cdqe}},
    {ZYDIS_MNEMONIC_CWD, .fn = {cwd}},
    {ZYDIS_MNEMONIC_CDQ, .fn = {cdq}},
    {ZYDIS_MNEMONIC_CQO, .fn = {cqo}},
    {ZYDIS_MNEMONIC_XCHG, .pick = pick_xchg},
    {ZYDIS_MNEMONIC_XLAT, pick_xlat, .fn = {xlat}},
    {ZYDIS_MNEMONIC_LAHF, .fn = {lahf}},
    {ZYDIS_MNEMONIC_SAHF, .fn = {sahf}},
    {ZYDIS_MNEMONIC_CLC, .fn = {clc}},
    {ZYDIS_MNEMONIC_STC, .fn = {stc}},
    {ZYDIS_MNEMONIC_CMC, .fn = {cmc}},
    {ZYDIS_MNEMONIC_CLD, .fn = {cld}},
    {ZYDIS_MNEMONIC_STD, .fn = {std}},
    CONDITION(0, O),
    CONDITION(1, NO),
    CONDITION(2, B),
    CONDITION(3, NB),
    CONDITION(4, Z),
    CONDITION(5, NZ),
    CONDITION(6, BE),
    CONDITION(7, NBE),
    CONDITION(8, S),
    CONDITION(9, NS),
    CONDITION(10, P),
    CONDITION(11, NP),
    CONDITION(12, L),
    CONDITION(13, NL),
    CONDITION(14, LE),
    CONDITION(15, NLE),
    NOP(NOP),
    NOP(ENDBR32),
    NOP(ENDBR64),
    NOP(PREFETCH),
    NOP(PREFETCHNTA),
    NOP(PREFETCHT0),
    NOP(PREFETCHT1),
    NOP(PREFETCHT2),
    NOP(PREFETCHW),
    NOP(PREFETCHWT1),
    NOP(CLDEMOTE),
    {ZYDIS_MNEMONIC_PAUSE, .fn = {pause_hint}},
    {ZYDIS_MNEMONIC_MFENCE, .fn = {fence}, .feature = INTERP_FEATURE_SSE2},
    {ZYDIS_MNEMONIC_LFENCE, .fn = {fence}, .feature = INTERP_FEATURE_SSE2},
    {ZYDIS_MNEMONIC_SFENCE, .fn = {fence}, .feature = INTERP_FEATURE_SSE2},
};

const struct interp_insn_table interp_move_insns = {insns, HV_ARRAY_LEN(insns)};
