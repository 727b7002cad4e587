/* Through the gate: what the processor does on an exception or interrupt. */
#include "config.h"

#include "hv/x86/exception.h"

#include <errno.h>
#include <stdio.h>

#include "hv/domain.h"
#include "hv/x86/linear.h"
#include "hv/x86/segment.h"

enum gate_type { GATE_TASK = 5, GATE_INT16 = 6, GATE_TRAP16 = 7, GATE_INT = 14, GATE_TRAP = 15 };

struct gate {
    uint64_t offset;
    uint16_t selector;
    unsigned type, dpl, ist;
    bool present;
};

/* One delivery in the making. */
struct delivery {
    struct hv_vcpu *v;
    enum hv_delivery kind;
    const struct hv_fault *what;
    uint64_t return_rip;
    unsigned ext; /* bit 0 of error codes: not caused by the program itself */
    struct gate gate;
    struct hv_descriptor code;
    unsigned cpl; /* new */
    struct hv_segment ss;
    uint64_t sp;
};

static int gate_fault(const struct delivery *d, uint8_t vector, struct hv_fault *fault)
{
    return hv_x86_fault_code(fault, vector, d->what->vector * 8u + 2 + d->ext);
}

static int read_gate(struct delivery *d, struct hv_fault *fault)
{
    struct hv_vcpu *v = d->v;
    bool long_mode = hv_cpu_long_mode(&v->cpu);
    unsigned bytes = long_mode ? 16 : 8;
    uint64_t raw[2] = {0, 0};
    int err;

    if (d->what->vector * bytes + bytes - 1 > v->cpu.idtr.limit)
        return gate_fault(d, HV_VEC_GP, fault);
    err = hv_x86_read_linear(v, v->cpu.idtr.base + d->what->vector * bytes, raw, bytes,
                             HV_ACCESS_IMPLICIT, fault);
    if (err)
        return err;
    d->gate = (struct gate){
        .offset = (raw[0] & 0xffff) | ((raw[0] >> 48) << 16) | raw[1] << 32,
        .selector = (uint16_t)(raw[0] >> 16),
        .type = (raw[0] >> 40) & 0x1f,
        .dpl = (raw[0] >> 45) & 3,
        .ist = long_mode ? (raw[0] >> 32) & 7 : 0,
        .present = (raw[0] >> 47) & 1,
    };
    return 0;
}

static int check_gate(struct delivery *d, struct hv_fault *fault)
{
    bool long_mode = hv_cpu_long_mode(&d->v->cpu);
    unsigned type = d->gate.type;

    if (type != GATE_INT && type != GATE_TRAP &&
        (long_mode || (type != GATE_INT16 && type != GATE_TRAP16 && type != GATE_TASK)))
        return gate_fault(d, HV_VEC_GP, fault);
    if (d->kind == HV_DELIVER_SOFTWARE && d->gate.dpl < hv_cpu_cpl(&d->v->cpu))
        return gate_fault(d, HV_VEC_GP, fault);
    if (!d->gate.present)
        return gate_fault(d, HV_VEC_NP, fault);
    if (type == GATE_TASK) {
        snprintf(d->v->error, sizeof(d->v->error), "interrupt %u through a task gate",
                 d->what->vector);
        return -ENOTSUP;
    }
    return 0;
}

static int check_code(struct delivery *d, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &d->v->cpu;
    uint16_t selector = d->gate.selector;
    const struct hv_segment *s = &d->code.segment;
    int err;

    if (hv_selector_is_null(selector))
        return hv_x86_fault_code(fault, HV_VEC_GP, d->ext);
    err = hv_x86_read_descriptor(d->v, selector, HV_VEC_GP, d->ext, &d->code, fault);
    if (err)
        return err;
    if (!hv_segment_is_code(s) || HV_SEG_DPL(s->attr) > hv_cpu_cpl(cpu) ||
        (hv_cpu_long_mode(cpu) && (s->attr & (HV_SEG_L | HV_SEG_DB)) != HV_SEG_L))
        return hv_x86_fault_code(fault, HV_VEC_GP, (selector & 0xfffcu) | d->ext);
    if (!(s->attr & HV_SEG_P))
        return hv_x86_fault_code(fault, HV_VEC_NP, (selector & 0xfffcu) | d->ext);
    d->cpl = hv_segment_is_conforming(s) ? hv_cpu_cpl(cpu) : HV_SEG_DPL(s->attr);
    return hv_x86_mark_descriptor(d->v, &d->code, 1, fault);
}

static int read_tss(const struct delivery *d, unsigned offset, void *buf, unsigned bytes,
                    struct hv_fault *fault)
{
    const struct hv_segment *tr = &d->v->cpu.tr;

    if (offset + bytes - 1 > tr->limit)
        return hv_x86_fault_code(fault, HV_VEC_TS, (tr->selector & 0xfffcu) | d->ext);
    return hv_x86_read_linear(d->v, tr->base + offset, buf, bytes, HV_ACCESS_IMPLICIT, fault);
}

/* 64-bit mode: a stack of the interrupt stack table, or the one of the new level, or the current
 * one. */
static int choose_stack_64(struct delivery *d, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &d->v->cpu;
    bool inward = d->cpl < hv_cpu_cpl(cpu);
    int err = 0;

    d->sp = cpu->gpr[HV_RSP];
    d->ss = inward ? hv_x86_null_stack(d->cpl) : cpu->seg[HV_SS];
    if (d->gate.ist)
        err = read_tss(d, 36 + (d->gate.ist - 1) * 8, &d->sp, 8, fault);
    else if (inward)
        err = read_tss(d, 4 + d->cpl * 8, &d->sp, 8, fault);
    if (err)
        return err;
    if (!hv_x86_canonical(d->sp))
        return hv_x86_fault_code(fault, HV_VEC_SS, d->ext);
    d->sp &= ~15ull;
    return 0;
}

static int choose_stack_32(struct delivery *d, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &d->v->cpu;
    bool wide = (HV_SEG_TYPE(cpu->tr.attr) & 8u) != 0;
    uint32_t sp = 0;
    uint16_t selector = 0;
    int err;

    d->sp = cpu->gpr[HV_RSP];
    d->ss = cpu->seg[HV_SS];
    if (d->cpl >= hv_cpu_cpl(cpu))
        return 0;
    err = read_tss(d, wide ? 4 + d->cpl * 8 : 2 + d->cpl * 4, &sp, wide ? 4 : 2, fault);
    if (!err)
        err = read_tss(d, wide ? 8 + d->cpl * 8 : 4 + d->cpl * 4, &selector, 2, fault);
    if (err)
        return err;
    if (hv_selector_is_null(selector))
        return hv_x86_fault_code(fault, HV_VEC_TS, d->ext);
    d->sp = sp;
    return hv_x86_check_stack(d->v, selector, d->cpl, HV_VEC_TS, d->ext, &d->ss, fault);
}

/* RFLAGS as pushed: RF is set so that a fault's instruction is not stopped by its own breakpoint
 * again. */
static uint64_t pushed_flags(const struct delivery *d)
{
    uint64_t flags = d->v->cpu.rflags;

    if (d->kind == HV_DELIVER_EXCEPTION && d->what->vector != HV_VEC_DB &&
        d->what->vector != HV_VEC_DF)
        flags |= HV_EFLAGS_RF;
    return flags;
}

/* The frame, from the return address up. */
static unsigned make_frame(const struct delivery *d, bool with_stack, uint64_t frame[6])
{
    const struct hv_cpu *cpu = &d->v->cpu;
    unsigned n = 0;

    if (d->what->has_error_code)
        frame[n++] = d->what->error_code;
    frame[n++] = d->return_rip;
    frame[n++] = cpu->seg[HV_CS].selector;
    frame[n++] = pushed_flags(d);
    if (with_stack) {
        frame[n++] = cpu->gpr[HV_RSP];
        frame[n++] = cpu->seg[HV_SS].selector;
    }
    return n;
}

static int push_frame_64(struct delivery *d, struct hv_fault *fault)
{
    uint64_t frame[6];
    unsigned n = make_frame(d, true, frame);

    d->sp -= n * 8;
    return hv_x86_write_linear(d->v, d->sp, frame, n * 8,
                               d->cpl == 3 ? HV_ACCESS_USER : HV_ACCESS_IMPLICIT, fault);
}

/* 32- and 16-bit gates: the stack segment's base, limit and width count. */
static int push_frame_32(struct delivery *d, struct hv_fault *fault)
{
    uint64_t frame[6];
    unsigned n = make_frame(d, d->cpl < hv_cpu_cpl(&d->v->cpu), frame);
    unsigned bytes = d->gate.type >= GATE_INT ? 4 : 2;
    uint64_t mask = d->ss.attr & HV_SEG_DB ? 0xffffffff : 0xffff;
    bool down = HV_SEG_TYPE(d->ss.attr) & HV_SEG_TYPE_DOWN;
    uint8_t image[24];

    for (unsigned i = 0; i < n; i++)
        for (unsigned b = 0; b < bytes; b++)
            image[i * bytes + b] = (uint8_t)(frame[i] >> (8 * b));
    d->sp = (d->sp - n * bytes) & mask;
    if (down ? d->sp <= d->ss.limit : d->sp + n * bytes - 1 > d->ss.limit)
        return hv_x86_fault_code(fault, HV_VEC_SS, d->ext);
    return hv_x86_write_linear(d->v, d->ss.base + d->sp, image, n * bytes,
                               d->cpl == 3 ? HV_ACCESS_USER : HV_ACCESS_IMPLICIT, fault);
}

static void enter_handler(struct delivery *d)
{
    struct hv_cpu *cpu = &d->v->cpu;
    bool long_mode = hv_cpu_long_mode(cpu);
    uint64_t clear = HV_EFLAGS_TF | HV_EFLAGS_NT | HV_EFLAGS_RF | HV_EFLAGS_VM;

    if (d->gate.type == GATE_INT || d->gate.type == GATE_INT16)
        clear |= HV_EFLAGS_IF;
    cpu->rflags &= ~clear;
    cpu->seg[HV_CS] = d->code.segment;
    cpu->seg[HV_CS].selector = (uint16_t)((d->gate.selector & ~3u) | d->cpl);
    cpu->seg[HV_SS] = d->ss;
    cpu->rip = long_mode ? d->gate.offset
                         : d->gate.offset & (d->gate.type >= GATE_INT ? 0xffffffff : 0xffff);
    if (long_mode || (d->ss.attr & HV_SEG_DB))
        cpu->gpr[HV_RSP] = d->sp;
    else
        cpu->gpr[HV_RSP] = (cpu->gpr[HV_RSP] & ~0xffffull) | d->sp;
}

static int deliver_protected(struct delivery *d, struct hv_fault *fault)
{
    bool long_mode = hv_cpu_long_mode(&d->v->cpu);
    int err = read_gate(d, fault);

    if (!err)
        err = check_gate(d, fault);
    if (!err)
        err = check_code(d, fault);
    if (!err)
        err = long_mode ? choose_stack_64(d, fault) : choose_stack_32(d, fault);
    if (!err && (long_mode ? !hv_x86_canonical(d->gate.offset)
                           : (uint32_t)d->gate.offset > d->code.segment.limit))
        err = hv_x86_fault_code(fault, HV_VEC_GP, d->ext);
    if (!err)
        err = long_mode ? push_frame_64(d, fault) : push_frame_32(d, fault);
    if (!err)
        enter_handler(d);
    return err;
}

/* Real mode: a far pointer per vector at the start of memory (IDTR.base). */
static int deliver_real(struct delivery *d, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &d->v->cpu;
    uint16_t frame[3] = {(uint16_t)d->return_rip, cpu->seg[HV_CS].selector, (uint16_t)cpu->rflags};
    uint64_t sp = (cpu->gpr[HV_RSP] - sizeof(frame)) & 0xffff;
    uint32_t pointer;
    int err;

    if (d->what->vector * 4u + 3 > cpu->idtr.limit)
        return hv_x86_fault(fault, HV_VEC_GP);
    err = hv_x86_read_linear(d->v, cpu->idtr.base + d->what->vector * 4u, &pointer, 4, 0, fault);
    if (!err)
        err = hv_x86_write_linear(d->v, cpu->seg[HV_SS].base + sp, frame, sizeof(frame), 0, fault);
    if (err)
        return err;
    cpu->gpr[HV_RSP] = (cpu->gpr[HV_RSP] & ~0xffffull) | sp;
    cpu->rflags &= ~(uint64_t)(HV_EFLAGS_IF | HV_EFLAGS_TF | HV_EFLAGS_AC | HV_EFLAGS_RF);
    cpu->seg[HV_CS].selector = (uint16_t)(pointer >> 16);
    cpu->seg[HV_CS].base = (uint64_t)(pointer >> 16) << 4;
    cpu->rip = pointer & 0xffff;
    return 0;
}

static int deliver_one(struct hv_vcpu *v, enum hv_delivery kind, const struct hv_fault *what,
                       uint64_t return_rip, struct hv_fault *fault)
{
    struct delivery d = {.v = v,
                         .kind = kind,
                         .what = what,
                         .return_rip = return_rip,
                         .ext = kind != HV_DELIVER_SOFTWARE};
    int err;

    if (what->vector == HV_VEC_PF && kind == HV_DELIVER_EXCEPTION)
        v->cpu.cr2 = what->cr2;
    err = v->cpu.cr0 & HV_CR0_PE ? deliver_protected(&d, fault) : deliver_real(&d, fault);
    if (!err) {
        v->cpu.int_shadow = false;
        if (kind == HV_DELIVER_NMI)
            v->cpu.nmi_blocked = true;
        if (what->vector == HV_VEC_DB)
            v->cpu.dr7 &= ~(1ull << 13); /* GD */
    }
    return err;
}

/* Classes of SDM table 6-4. */
static bool is_contributory(uint8_t vector)
{
    return vector == HV_VEC_DE || (vector >= HV_VEC_TS && vector <= HV_VEC_GP);
}

int hv_x86_deliver(struct hv_vcpu *v, enum hv_delivery kind, const struct hv_fault *what,
                   uint64_t return_rip)
{
    struct hv_fault current = *what, next;

    for (;;) {
        int err = deliver_one(v, kind, &current, return_rip, &next);
        bool exception = kind == HV_DELIVER_EXCEPTION;

        if (err != -EFAULT)
            return err;
        if (exception && current.vector == HV_VEC_DF)
            return -ESHUTDOWN;
        if (exception && ((is_contributory(current.vector) && is_contributory(next.vector)) ||
                          (current.vector == HV_VEC_PF &&
                           (next.vector == HV_VEC_PF || is_contributory(next.vector)))))
            next = (struct hv_fault){.vector = HV_VEC_DF, .has_error_code = true};
        current = next;
        kind = HV_DELIVER_EXCEPTION;
        return_rip = v->cpu.rip;
    }
}
