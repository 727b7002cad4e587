/* Far jumps, calls and returns, INT, SYSCALL and SYSENTER. What they mean is in hv/x86/. */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include <errno.h>

#include "hv/x86/control.h"
#include "hv/x86/exception.h"
#include "hv/x86/far.h"

/* For hv/x86 functions, RIP is the instruction's own while they run. */
static void set_rip(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    cpu->rip = (x->block_rip + op->end - op->len) & interp_rip_mask(x);
    x->stale = true;
}

static void finish(struct interp *x, struct interp_op *op, int err, const struct hv_fault *fault)
{
    if (err == -EFAULT)
        interp_raise(x, op, fault);
    if (err)
        interp_stop(x, HV_RUN_UNSUPPORTED);
}

/* The far pointer: from memory, or two immediates. */
static void far_pointer(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                        uint16_t *selector, uint64_t *offset)
{
    uint64_t va;

    if (op->ea == INTERP_EA_NONE) {
        *selector = (uint16_t)((uint64_t)op->imm >> 32);
        *offset = (uint32_t)op->imm;
        return;
    }
    va = interp_address(cpu, op, x);
    *offset = interp_read(x, op, va, op->size);
    *selector = (uint16_t)interp_read(x, op, va + op->size, 2);
}

static INTERP_HANDLER(far_jmp)
{
    struct hv_fault fault;
    uint16_t selector;
    uint64_t offset;

    far_pointer(cpu, op, x, &selector, &offset);
    set_rip(cpu, op, x);
    finish(x, op, hv_x86_far_jump(x->v, selector, offset, &fault), &fault);
}

static INTERP_HANDLER(far_call)
{
    uint64_t next = interp_next_rip(x, op), offset;
    struct hv_fault fault;
    uint16_t selector;

    far_pointer(cpu, op, x, &selector, &offset);
    set_rip(cpu, op, x);
    finish(x, op, hv_x86_far_call(x->v, selector, offset, op->size, next, &fault), &fault);
}

static INTERP_HANDLER(far_ret)
{
    struct hv_fault fault;

    set_rip(cpu, op, x);
    finish(x, op, hv_x86_far_return(x->v, op->size, (uint16_t)op->imm, &fault), &fault);
}

void interp_pick_far(struct interp_decoding *d)
{
    struct interp_op *op = d->op;
    const ZydisDecodedOperand *o = &d->operands[0];

    op->size = d->insn.operand_width / 8;
    if (d->insn.mnemonic == ZYDIS_MNEMONIC_RET) {
        op->fn = far_ret;
        return;
    }
    if (o->type == ZYDIS_OPERAND_TYPE_POINTER)
        op->imm = (int64_t)((uint64_t)o->ptr.segment << 32 | o->ptr.offset);
    op->fn = d->insn.mnemonic == ZYDIS_MNEMONIC_JMP ? far_jmp : far_call;
}

static INTERP_HANDLER(iret)
{
    struct hv_fault fault;

    set_rip(cpu, op, x);
    finish(x, op, hv_x86_iret(x->v, op->extra, &fault), &fault);
}

/* ---- software interrupts */

static void interrupt(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                      enum hv_delivery kind, uint8_t vector)
{
    struct hv_fault what = {.vector = vector};
    uint64_t next = interp_next_rip(x, op);
    int err;

    set_rip(cpu, op, x);
    x->step_trap = false; /* the gate has cleared TF before the trap could come */
    err = hv_x86_deliver(x->v, kind, &what, next);
    if (err)
        interp_stop(x, err == -ENOTSUP ? HV_RUN_UNSUPPORTED : HV_RUN_TRIPLE_FAULT);
}

static INTERP_HANDLER(int_n)
{
    interrupt(cpu, op, x, HV_DELIVER_SOFTWARE, (uint8_t)op->imm);
}

static INTERP_HANDLER(int3)
{
    interrupt(cpu, op, x, HV_DELIVER_SOFTWARE, HV_VEC_BP);
}

static INTERP_HANDLER(int1)
{
    interrupt(cpu, op, x, HV_DELIVER_PRIVILEGED, HV_VEC_DB);
}

static INTERP_HANDLER(into)
{
    if (cpu->rflags & HV_EFLAGS_OF)
        interrupt(cpu, op, x, HV_DELIVER_SOFTWARE, HV_VEC_OF);
    else
        interp_end_system(cpu, op, x);
}

/* ---- fast system calls */

static INTERP_HANDLER(syscall_insn)
{
    uint64_t next = interp_next_rip(x, op);
    struct hv_fault fault;

    set_rip(cpu, op, x);
    finish(x, op, hv_x86_syscall(x->v, next, &fault), &fault);
    x->step_trap =
        x->step_trap && (cpu->rflags & HV_EFLAGS_TF); /* a TF that SFMASK clears does not trap */
}

static INTERP_HANDLER(sysret)
{
    struct hv_fault fault;

    set_rip(cpu, op, x);
    finish(x, op, hv_x86_sysret(x->v, op->size, &fault), &fault);
}

static INTERP_HANDLER(sysenter)
{
    struct hv_fault fault;

    set_rip(cpu, op, x);
    finish(x, op, hv_x86_sysenter(x->v, &fault), &fault);
}

static INTERP_HANDLER(sysexit)
{
    struct hv_fault fault;

    set_rip(cpu, op, x);
    finish(x, op, hv_x86_sysexit(x->v, op->size, &fault), &fault);
}

/* REX.W alone makes the 64-bit form. */
static void pick_sysret(struct interp_decoding *d, const struct interp_insn *insn)
{
    d->op->size = d->insn.raw.rex.W ? 8 : 4;
    d->op->fn = insn->fn[0];
}

#define ENDS .flags = INTERP_ENDS

static const struct interp_insn insns[] = {
    {ZYDIS_MNEMONIC_IRET, .fn = {iret}, .extra = 2, ENDS},
    {ZYDIS_MNEMONIC_IRETD, .fn = {iret}, .extra = 4, ENDS},
    {ZYDIS_MNEMONIC_IRETQ, .fn = {iret}, .extra = 8, ENDS},
    {ZYDIS_MNEMONIC_INT, .fn = {int_n}, ENDS},
    {ZYDIS_MNEMONIC_INT3, .fn = {int3}, ENDS},
    {ZYDIS_MNEMONIC_INT1, .fn = {int1}, ENDS},
    {ZYDIS_MNEMONIC_INTO, .fn = {into}, ENDS},
    {ZYDIS_MNEMONIC_SYSCALL, .fn = {syscall_insn}, ENDS, .feature = INTERP_FEATURE_SYSCALL},
    {ZYDIS_MNEMONIC_SYSRET, pick_sysret, .fn = {sysret}, ENDS, .feature = INTERP_FEATURE_SYSCALL},
    {ZYDIS_MNEMONIC_SYSENTER, .fn = {sysenter}, ENDS},
    {ZYDIS_MNEMONIC_SYSEXIT, pick_sysret, .fn = {sysexit}, ENDS},
};

const struct interp_insn_table interp_far_insns = {insns, HV_ARRAY_LEN(insns)};
