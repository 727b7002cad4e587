/* Near jumps, calls and returns. */
#include "config.h"

#include "hv/engine/interp/mem.h"
#include "hv/x86/linear.h"

/* RIP as an operand of the instruction's size can hold it. */
INTERP_INLINE uint64_t target(struct interp_op *op, struct interp *x)
{
    return (x->block_rip + (uint64_t)op->imm) & interp_mask(op->size);
}

/* Checks an absolute target before anything is committed. */
INTERP_INLINE void check_target(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                uint64_t rip)
{
    if (interp_is_64(x) ? !hv_x86_canonical(rip) : rip > cpu->seg[HV_CS].limit)
        interp_raise_code(x, op, HV_VEC_GP, 0);
}

static INTERP_HANDLER(jmp_rel)
{
    interp_go_chained(cpu, op, x, 1, target(op, x));
}

static INTERP_HANDLER(jmp_indirect)
{
    uint64_t rip = interp_operand(cpu, op, x, 0, op->size);

    check_target(cpu, op, x, rip);
    interp_go(cpu, rip);
}

static INTERP_HANDLER(call_rel)
{
    uint64_t rip = target(op, x);

    check_target(cpu, op, x, rip);
    interp_push(cpu, op, x, op->size, x->block_rip + op->end);
    interp_go_chained(cpu, op, x, 1, rip);
}

static INTERP_HANDLER(call_indirect)
{
    uint64_t rip = interp_operand(cpu, op, x, 0, op->size);

    check_target(cpu, op, x, rip);
    interp_push(cpu, op, x, op->size, x->block_rip + op->end);
    interp_go(cpu, rip);
}

static INTERP_HANDLER(ret)
{
    uint64_t rip = interp_peek_at(cpu, op, x, cpu->gpr[HV_RSP], op->size);

    check_target(cpu, op, x, rip);
    interp_set_sp(cpu, x, cpu->gpr[HV_RSP] + op->size + (uint64_t)op->imm);
    interp_go(cpu, rip);
}

#define JCC_HANDLER(cc)                                                                            \
    static INTERP_HANDLER(jcc_##cc)                                                                \
    {                                                                                              \
        if (interp_condition(cpu->rflags, cc))                                                     \
            interp_go_chained(cpu, op, x, 1, target(op, x));                                       \
        else                                                                                       \
            interp_go_chained(cpu, op, x, 0, interp_next_rip(x, op));                              \
    }
JCC_HANDLER(0)
JCC_HANDLER(1)
JCC_HANDLER(2)
JCC_HANDLER(3)
JCC_HANDLER(4)
JCC_HANDLER(5)
JCC_HANDLER(6)
JCC_HANDLER(7)
JCC_HANDLER(8)
JCC_HANDLER(9)
JCC_HANDLER(10)
JCC_HANDLER(11)
JCC_HANDLER(12)
JCC_HANDLER(13)
JCC_HANDLER(14)
JCC_HANDLER(15)

/* LOOP, LOOPE, LOOPNE and JCXZ count in a register of the address size. */
enum loop { LOOP_ALWAYS, LOOP_IF_ZERO, LOOP_IF_NOT_ZERO, LOOP_JCXZ };

static INTERP_HANDLER(loop)
{
    unsigned bytes = op->address_bytes;
    uint64_t count = interp_get(cpu, HV_RCX * 8, bytes);
    bool zf = cpu->rflags & HV_EFLAGS_ZF;
    bool taken;

    if (op->extra == LOOP_JCXZ) {
        taken = count == 0;
    } else {
        count = (count - 1) & interp_mask(bytes);
        interp_set(cpu, HV_RCX * 8, bytes, count);
        taken = count && (op->extra == LOOP_ALWAYS || zf == (op->extra == LOOP_IF_ZERO));
    }
    if (taken)
        interp_go_chained(cpu, op, x, 1, target(op, x));
    else
        interp_go_chained(cpu, op, x, 0, interp_next_rip(x, op));
}

/* op->imm becomes the distance from the start of the block. */
static void set_target(struct interp_decoding *d)
{
    d->op->size = d->insn.operand_width / 8;
    d->op->imm += d->op->end;
    d->op->chain[0] = d->op->chain[1] = NULL;
}

static void pick_relative(struct interp_decoding *d, const struct interp_insn *insn)
{
    set_target(d);
    d->op->fn = insn->fn[0];
}

/* fn[0] is the relative form, fn[1] the indirect one; far forms have their own file. */
static void pick_jump(struct interp_decoding *d, const struct interp_insn *insn)
{
    struct interp_op *op = d->op;

    if (d->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
        interp_pick_far(d);
    } else if (d->operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        pick_relative(d, insn);
    } else {
        op->size = d->insn.operand_width / 8;
        op->fn = insn->fn[1];
    }
}

static void pick_ret(struct interp_decoding *d, const struct interp_insn *insn)
{
    if (d->insn.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR) {
        interp_pick_far(d);
        return;
    }
    d->op->size = d->insn.operand_width / 8;
    d->op->seg = HV_SS;
    d->op->imm = (uint16_t)d->op->imm;
    d->op->fn = insn->fn[0];
}

#define JCC(cc, suffix)                                                                            \
    {                                                                                              \
        ZYDIS_MNEMONIC_J##suffix, pick_relative, .fn = {jcc_##cc}, .flags = INTERP_ENDS            \
    }
#define LOOP(name, kind)                                                                           \
    {                                                                                              \
        ZYDIS_MNEMONIC_##name, pick_relative, .fn = {loop}, .flags = INTERP_ENDS, .extra = kind    \
    }

static const struct interp_insn insns[] = {
    {ZYDIS_MNEMONIC_JMP, pick_jump, .fn = {jmp_rel, jmp_indirect}, .flags = INTERP_ENDS},
    {ZYDIS_MNEMONIC_CALL, pick_jump, .fn = {call_rel, call_indirect}, .flags = INTERP_ENDS},
    {ZYDIS_MNEMONIC_RET, pick_ret, .fn = {ret}, .flags = INTERP_ENDS},
    JCC(0, O),
    JCC(1, NO),
    JCC(2, B),
    JCC(3, NB),
    JCC(4, Z),
    JCC(5, NZ),
    JCC(6, BE),
    JCC(7, NBE),
    JCC(8, S),
    JCC(9, NS),
    JCC(10, P),
    JCC(11, NP),
    JCC(12, L),
    JCC(13, NL),
    JCC(14, LE),
    JCC(15, NLE),
    LOOP(LOOP, LOOP_ALWAYS),
    LOOP(LOOPE, LOOP_IF_ZERO),
    LOOP(LOOPNE, LOOP_IF_NOT_ZERO),
    LOOP(JCXZ, LOOP_JCXZ),
    LOOP(JECXZ, LOOP_JCXZ),
    LOOP(JRCXZ, LOOP_JCXZ),
};

const struct interp_insn_table interp_branch_insns = {insns, HV_ARRAY_LEN(insns)};
