/* PUSH, POP, PUSHA, PUSHF, ENTER, LEAVE. */
#include "config.h"

#include "hv/engine/interp/mem.h"

#define STACK_HANDLERS(bytes)                                                                      \
    static INTERP_HANDLER(push_r_##bytes)                                                          \
    {                                                                                              \
        interp_push(cpu, op, x, bytes, interp_get(cpu, op->r[0], bytes));                          \
        INTERP_NEXT();                                                                             \
    }                                                                                              \
    static INTERP_HANDLER(push_any_##bytes)                                                        \
    {                                                                                              \
        interp_push(cpu, op, x, bytes, interp_operand(cpu, op, x, 0, bytes));                      \
        INTERP_NEXT();                                                                             \
    }                                                                                              \
    static INTERP_HANDLER(pop_r_##bytes)                                                           \
    {                                                                                              \
        uint64_t value = interp_pop(cpu, op, x, bytes);                                            \
                                                                                                   \
        interp_set(cpu, op->r[0], bytes, value);                                                   \
        INTERP_NEXT();                                                                             \
    }                                                                                              \
    /* An address made of RSP counts from its new value; op->disp has the difference. */           \
    static INTERP_HANDLER(pop_m_##bytes)                                                           \
    {                                                                                              \
        uint64_t value = interp_peek_at(cpu, op, x, cpu->gpr[HV_RSP], bytes);                      \
                                                                                                   \
        interp_write(x, op, interp_address(cpu, op, x), bytes, value);                             \
        interp_set_sp(cpu, x, cpu->gpr[HV_RSP] + (bytes));                                         \
        INTERP_NEXT();                                                                             \
    }

STACK_HANDLERS(2)
STACK_HANDLERS(4)
STACK_HANDLERS(8)

#define STACK_ROW(name)                                                                            \
    {                                                                                              \
        NULL, name##_2, name##_4, name##_8                                                         \
    }

static bool is_segment(const ZydisDecodedOperand *o)
{
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->reg.value >= ZYDIS_REGISTER_ES &&
           o->reg.value <= ZYDIS_REGISTER_GS;
}

static void set_width(struct interp_decoding *d)
{
    d->op->size = d->insn.operand_width / 8;
    if (d->op->ea == INTERP_EA_NONE)
        d->op->seg = HV_SS;
}

static void pick_push(struct interp_decoding *d, const struct interp_insn *insn)
{
    static interp_fn *const fns[2][4] = {STACK_ROW(push_any), STACK_ROW(push_r)};

    (void)insn;
    set_width(d);
    if (is_segment(&d->operands[0]))
        interp_pick_mov_special(d);
    else
        d->op->fn = fns[d->op->r[0] != INTERP_NO_REG][interp_log2(d->op->size)];
}

static void pick_pop(struct interp_decoding *d, const struct interp_insn *insn)
{
    static interp_fn *const fns[2][4] = {STACK_ROW(pop_m), STACK_ROW(pop_r)};
    struct interp_op *op = d->op;

    (void)insn;
    set_width(d);
    if (is_segment(&d->operands[0])) {
        interp_pick_mov_special(d);
        return;
    }
    if (op->mem == 0 && op->base == HV_RSP)
        op->disp += op->size;
    op->fn = fns[op->r[0] != INTERP_NO_REG][interp_log2(op->size)];
}

/* ---- all registers: 32- and 16-bit code only */

static INTERP_HANDLER(pusha)
{
    uint64_t sp = cpu->gpr[HV_RSP];

    for (unsigned i = 0; i < 8; i++)
        sp = interp_push_at(cpu, op, x, sp, op->extra, interp_get(cpu, i * 8, op->extra));
    interp_set_sp(cpu, x, sp);
    INTERP_NEXT();
}

static INTERP_HANDLER(popa)
{
    uint64_t values[8];
    unsigned bytes = op->extra;

    for (unsigned i = 0; i < 8; i++)
        values[i] = interp_peek_at(cpu, op, x, cpu->gpr[HV_RSP] + i * bytes, bytes);
    for (unsigned i = 0; i < 8; i++)
        if (7 - i != HV_RSP)
            interp_set(cpu, (7 - i) * 8, bytes, values[i]);
    interp_set_sp(cpu, x, cpu->gpr[HV_RSP] + 8 * bytes);
    INTERP_NEXT();
}

/* ---- flags */

static INTERP_HANDLER(pushf)
{
    interp_push(cpu, op, x, op->extra, cpu->rflags & ~(uint64_t)(HV_EFLAGS_RF | HV_EFLAGS_VM));
    INTERP_NEXT();
}

/* Which flags POPF changes depends on the privilege: SDM, POPF. */
static INTERP_HANDLER(popf)
{
    uint64_t mask =
        INTERP_ARITH | HV_EFLAGS_TF | HV_EFLAGS_DF | HV_EFLAGS_NT | HV_EFLAGS_AC | HV_EFLAGS_ID;
    unsigned cpl = hv_cpu_cpl(cpu);
    uint64_t value;

    if (cpl == 0)
        mask |= HV_EFLAGS_IOPL;
    if (cpl <= ((cpu->rflags >> 12) & 3))
        mask |= HV_EFLAGS_IF;
    if (op->extra == 2)
        mask &= 0xffff;
    value = interp_pop(cpu, op, x, op->extra);
    cpu->rflags = (cpu->rflags & ~(mask | HV_EFLAGS_RF)) | (value & mask);
    interp_end_system(cpu, op, x);
}

/* ---- frames */

static INTERP_HANDLER(leave)
{
    unsigned bytes = op->size;
    uint64_t frame = interp_get(cpu, HV_RBP * 8, interp_stack_bytes(cpu, x));
    uint64_t value = interp_peek_at(cpu, op, x, frame, bytes);

    interp_set_sp(cpu, x, frame + bytes);
    interp_set(cpu, HV_RBP * 8, bytes, value);
    INTERP_NEXT();
}

static INTERP_HANDLER(enter)
{
    unsigned bytes = op->size, level = op->extra;
    uint64_t stack_mask = interp_mask(interp_stack_bytes(cpu, x));
    uint64_t sp = interp_push_at(cpu, op, x, cpu->gpr[HV_RSP], bytes, cpu->gpr[HV_RBP]);
    uint64_t frame = sp;

    for (unsigned i = 1; i < level; i++)
        sp = interp_push_at(
            cpu, op, x, sp, bytes,
            interp_peek_at(cpu, op, x, cpu->gpr[HV_RBP] - (uint64_t)i * bytes, bytes));
    if (level)
        sp = interp_push_at(cpu, op, x, sp, bytes, frame);
    sp = (sp - (uint64_t)op->imm) & stack_mask;
    interp_check_write(x, op, interp_linear(cpu, op, x, HV_SS, sp, bytes, true), bytes);
    interp_set(cpu, HV_RBP * 8, bytes, frame);
    interp_set_sp(cpu, x, sp);
    INTERP_NEXT();
}

static void pick_frame(struct interp_decoding *d, const struct interp_insn *insn)
{
    struct interp_op *op = d->op;

    set_width(d);
    if (d->insn.mnemonic == ZYDIS_MNEMONIC_ENTER) {
        op->imm = (uint16_t)d->operands[0].imm.value.u;
        op->extra = d->operands[1].imm.value.u & 31;
    }
    op->fn = insn->fn[0];
}

#define PUSHF(name, bytes)                                                                         \
    {                                                                                              \
        ZYDIS_MNEMONIC_##name, .fn = {pushf}, .extra = bytes                                       \
    }
#define POPF(name, bytes)                                                                          \
    {                                                                                              \
        ZYDIS_MNEMONIC_##name, .fn = {popf}, .extra = bytes, .flags = INTERP_ENDS                  \
    }

static const struct interp_insn insns[] = {
    {ZYDIS_MNEMONIC_PUSH, .pick = pick_push},
    {ZYDIS_MNEMONIC_POP, .pick = pick_pop},
    {ZYDIS_MNEMONIC_PUSHA, .fn = {pusha}, .extra = 2},
    {ZYDIS_MNEMONIC_PUSHAD, .fn = {pusha}, .extra = 4},
    {ZYDIS_MNEMONIC_POPA, .fn = {popa}, .extra = 2},
    {ZYDIS_MNEMONIC_POPAD, .fn = {popa}, .extra = 4},
    PUSHF(PUSHF, 2),
    PUSHF(PUSHFD, 4),
    PUSHF(PUSHFQ, 8),
    POPF(POPF, 2),
    POPF(POPFD, 4),
    POPF(POPFQ, 8),
    {ZYDIS_MNEMONIC_ENTER, pick_frame, .fn = {enter}},
    {ZYDIS_MNEMONIC_LEAVE, pick_frame, .fn = {leave}},
};

const struct interp_insn_table interp_stack_insns = {insns, HV_ARRAY_LEN(insns)};
