/* Far jumps, calls and returns. */
#include "config.h"

#include "hv/x86/far.h"

#include <errno.h>
#include <stdio.h>

#include "hv/domain.h"
#include "hv/x86/linear.h"
#include "hv/x86/segment.h"

static uint32_t code_of(uint16_t selector)
{
    return selector & 0xfffcu;
}

static int unsupported(struct hv_vcpu *v, const char *what)
{
    snprintf(v->error, sizeof(v->error), "%s at RIP 0x%llx", what, (unsigned long long)v->cpu.rip);
    return -ENOTSUP;
}

/* Is the target within the segment, or canonical? */
static int check_offset(const struct hv_segment *s, bool long_mode, uint64_t offset,
                        struct hv_fault *fault)
{
    bool ok = long_mode && (s->attr & HV_SEG_L) ? hv_x86_canonical(offset) : offset <= s->limit;

    return ok ? 0 : hv_x86_fault_code(fault, HV_VEC_GP, 0);
}

static void load_real(struct hv_cpu *cpu, uint16_t selector, uint64_t offset)
{
    cpu->seg[HV_CS].selector = selector;
    cpu->seg[HV_CS].base = (uint64_t)selector << 4;
    cpu->rip = offset;
}

/* ---- the stack as the current mode sees it */

struct stack {
    struct hv_vcpu *v;
    uint64_t base, sp, mask;
    unsigned flags; /* enum hv_access_flags */
    /* What pops of 8 bytes take from, as read_ahead left it. */
    unsigned next_ahead, nr_ahead;
    uint64_t ahead[5];
};

static struct stack current_stack(struct hv_vcpu *v)
{
    const struct hv_cpu *cpu = &v->cpu;
    const struct hv_segment *ss = &cpu->seg[HV_SS];
    bool wide = hv_cpu_64bit(cpu);

    return (struct stack){
        .v = v,
        .base = wide ? 0 : ss->base,
        .sp = cpu->gpr[HV_RSP],
        .mask = wide                   ? ~0ull
                : ss->attr & HV_SEG_DB ? 0xffffffff
                                       : 0xffff,
        .flags = hv_cpu_cpl(cpu) == 3 ? HV_ACCESS_USER : 0,
    };
}

/* Segment limits of the stack are checked where it is not in 64-bit mode. */
static int check_stack_limit(const struct stack *s, unsigned bytes, struct hv_fault *fault)
{
    const struct hv_segment *ss = &s->v->cpu.seg[HV_SS];
    uint64_t offset = s->sp & s->mask;
    bool down = !hv_segment_is_code(ss) && (HV_SEG_TYPE(ss->attr) & HV_SEG_TYPE_DOWN);

    if (s->mask == ~0ull)
        return 0;
    if (down ? offset <= ss->limit : offset + bytes - 1 > ss->limit)
        return hv_x86_fault_code(fault, HV_VEC_SS, 0);
    return 0;
}

/* Reads the frame of a 64-bit IRET at once, if it is in one page: all of it faults or none. */
static int read_ahead(struct stack *s, struct hv_fault *fault)
{
    int err;

    if (s->mask != ~0ull || (s->sp & HV_PAGE_MASK) > HV_PAGE_SIZE - sizeof(s->ahead))
        return 0;
    err = hv_x86_read_linear(s->v, s->sp, s->ahead, sizeof(s->ahead), s->flags, fault);
    if (!err)
        s->nr_ahead = HV_ARRAY_LEN(s->ahead);
    return err;
}

static int pop(struct stack *s, unsigned bytes, uint64_t *value, struct hv_fault *fault)
{
    int err;

    if (s->next_ahead < s->nr_ahead) {
        *value = s->ahead[s->next_ahead++];
        s->sp += 8;
        return 0;
    }
    err = check_stack_limit(s, bytes, fault);
    *value = 0;
    if (!err)
        err = hv_x86_read_linear(s->v, s->base + (s->sp & s->mask), value, bytes, s->flags, fault);
    s->sp += bytes;
    return err;
}

static int push(struct stack *s, unsigned bytes, uint64_t value, struct hv_fault *fault)
{
    int err;

    s->sp -= bytes;
    err = check_stack_limit(s, bytes, fault);
    if (err)
        return err;
    return hv_x86_write_linear(s->v, s->base + (s->sp & s->mask), &value, bytes, s->flags, fault);
}

static void commit_stack(struct hv_cpu *cpu, uint64_t sp, uint64_t mask)
{
    if (mask == 0xffff)
        cpu->gpr[HV_RSP] = (cpu->gpr[HV_RSP] & ~mask) | (sp & mask);
    else
        cpu->gpr[HV_RSP] = sp & mask;
}

/* ---- JMP and CALL */

/* Checks a code segment as the target of a direct transfer, which keeps the privilege level. */
static int check_direct(struct hv_vcpu *v, struct hv_descriptor *d, uint16_t selector,
                        uint64_t offset, struct hv_fault *fault)
{
    const struct hv_segment *s = &d->segment;
    unsigned cpl = hv_cpu_cpl(&v->cpu), dpl = HV_SEG_DPL(s->attr);
    bool long_mode = hv_cpu_long_mode(&v->cpu);

    if (!(s->attr & HV_SEG_S) && (s->attr & HV_SEG_P))
        return unsupported(v, "far transfer through a call gate, task gate or TSS");
    if (!hv_segment_is_code(s) ||
        (hv_segment_is_conforming(s) ? dpl > cpl : dpl != cpl || (selector & 3u) > cpl) ||
        (long_mode && (s->attr & HV_SEG_L) && (s->attr & HV_SEG_DB)))
        return hv_x86_fault_code(fault, HV_VEC_GP, code_of(selector));
    if (!(s->attr & HV_SEG_P))
        return hv_x86_fault_code(fault, HV_VEC_NP, code_of(selector));
    return check_offset(s, long_mode, offset, fault);
}

static int find_direct(struct hv_vcpu *v, uint16_t selector, uint64_t offset,
                       struct hv_descriptor *d, struct hv_fault *fault)
{
    int err;

    if (hv_selector_is_null(selector))
        return hv_x86_fault_code(fault, HV_VEC_GP, 0);
    err = hv_x86_read_descriptor(v, selector, HV_VEC_GP, 0, d, fault);
    if (!err)
        err = check_direct(v, d, selector, offset, fault);
    if (!err)
        err = hv_x86_mark_descriptor(v, d, 1, fault);
    d->segment.selector = (uint16_t)((selector & ~3u) | hv_cpu_cpl(&v->cpu));
    return err;
}

int hv_x86_far_jump(struct hv_vcpu *v, uint16_t selector, uint64_t offset, struct hv_fault *fault)
{
    struct hv_descriptor d;
    int err;

    if (!(v->cpu.cr0 & HV_CR0_PE)) {
        load_real(&v->cpu, selector, offset);
        return 0;
    }
    err = find_direct(v, selector, offset, &d, fault);
    if (err)
        return err;
    v->cpu.seg[HV_CS] = d.segment;
    v->cpu.rip = offset;
    return 0;
}

int hv_x86_far_call(struct hv_vcpu *v, uint16_t selector, uint64_t offset, unsigned bytes,
                    uint64_t return_rip, struct hv_fault *fault)
{
    struct stack s = current_stack(v);
    bool protected = v->cpu.cr0 & HV_CR0_PE;
    struct hv_descriptor d;
    int err = protected ? find_direct(v, selector, offset, &d, fault) : 0;

    if (!err)
        err = push(&s, bytes, v->cpu.seg[HV_CS].selector, fault);
    if (!err)
        err = push(&s, bytes, return_rip, fault);
    if (err)
        return err;
    commit_stack(&v->cpu, s.sp, s.mask);
    if (protected) {
        v->cpu.seg[HV_CS] = d.segment;
        v->cpu.rip = offset;
    } else {
        load_real(&v->cpu, selector, offset);
    }
    return 0;
}

/* ---- RET and IRET */

/* Where a return goes: what was popped, and the segments that belong to it. */
struct target {
    uint64_t rip, rsp;
    uint16_t cs_selector, ss_selector;
    bool has_stack;
    unsigned cpl;
    struct hv_descriptor cs;
    struct hv_segment ss;
};

static int check_return_code(struct hv_vcpu *v, struct target *t, struct hv_fault *fault)
{
    const struct hv_segment *s = &t->cs.segment;
    bool long_mode = hv_cpu_long_mode(&v->cpu);
    int err;

    t->cpl = t->cs_selector & 3u;
    if (hv_selector_is_null(t->cs_selector))
        return hv_x86_fault_code(fault, HV_VEC_GP, 0);
    err = hv_x86_read_descriptor(v, t->cs_selector, HV_VEC_GP, 0, &t->cs, fault);
    if (err)
        return err;
    if (!hv_segment_is_code(s) || t->cpl < hv_cpu_cpl(&v->cpu) ||
        (hv_segment_is_conforming(s) ? HV_SEG_DPL(s->attr) > t->cpl
                                     : HV_SEG_DPL(s->attr) != t->cpl) ||
        (long_mode && (s->attr & HV_SEG_L) && (s->attr & HV_SEG_DB)))
        return hv_x86_fault_code(fault, HV_VEC_GP, code_of(t->cs_selector));
    if (!(s->attr & HV_SEG_P))
        return hv_x86_fault_code(fault, HV_VEC_NP, code_of(t->cs_selector));
    err = check_offset(s, long_mode, t->rip, fault);
    if (!err)
        err = hv_x86_mark_descriptor(v, &t->cs, 1, fault);
    return err;
}

static int check_return_stack(struct hv_vcpu *v, struct target *t, struct hv_fault *fault)
{
    bool to_64 = hv_cpu_long_mode(&v->cpu) && (t->cs.segment.attr & HV_SEG_L);

    if (hv_selector_is_null(t->ss_selector)) {
        if (!to_64 || t->cpl == 3 || (t->ss_selector & 3u) != t->cpl)
            return hv_x86_fault_code(fault, HV_VEC_GP, 0);
        t->ss = hv_x86_null_stack(t->cpl);
        return 0;
    }
    return hv_x86_check_stack(v, t->ss_selector, t->cpl, HV_VEC_GP, 0, &t->ss, fault);
}

/* An outward return leaves no segment loaded that the outer level may not use. */
static void drop_privileged_segments(struct hv_cpu *cpu, unsigned cpl)
{
    static const uint8_t data[] = {HV_ES, HV_DS, HV_FS, HV_GS};

    for (unsigned i = 0; i < HV_ARRAY_LEN(data); i++) {
        struct hv_segment *s = &cpu->seg[data[i]];

        if (HV_SEG_DPL(s->attr) < cpl && !hv_segment_is_conforming(s) && (s->attr & HV_SEG_P))
            *s = (struct hv_segment){0};
    }
}

static void commit_return(struct hv_vcpu *v, const struct target *t, const struct stack *s,
                          unsigned bytes)
{
    struct hv_cpu *cpu = &v->cpu;
    unsigned old_cpl = hv_cpu_cpl(cpu);

    cpu->seg[HV_CS] = t->cs.segment;
    cpu->rip = t->rip;
    if (!t->has_stack) {
        commit_stack(cpu, s->sp, s->mask);
        return;
    }
    cpu->seg[HV_SS] = t->ss;
    /* A 64-bit frame gives the whole register, others what the new stack segment uses. */
    commit_stack(cpu, t->rsp,
                 bytes == 8 || hv_cpu_64bit(cpu) ? ~0ull
                 : t->ss.attr & HV_SEG_DB        ? 0xffffffff
                                                 : 0xffff);
    if (t->cpl > old_cpl)
        drop_privileged_segments(cpu, t->cpl);
}

static int pop_target(struct stack *s, unsigned bytes, struct target *t, struct hv_fault *fault)
{
    uint64_t cs;
    int err = pop(s, bytes, &t->rip, fault);

    if (!err)
        err = pop(s, bytes, &cs, fault);
    if (!err)
        t->cs_selector = (uint16_t)cs;
    return err;
}

static int pop_stack(struct stack *s, unsigned bytes, struct target *t, struct hv_fault *fault)
{
    uint64_t ss;
    int err = pop(s, bytes, &t->rsp, fault);

    t->has_stack = true;
    if (!err)
        err = pop(s, bytes, &ss, fault);
    if (!err)
        t->ss_selector = (uint16_t)ss;
    return err;
}

int hv_x86_far_return(struct hv_vcpu *v, unsigned bytes, unsigned release, struct hv_fault *fault)
{
    struct stack s = current_stack(v);
    struct target t = {0};
    int err = pop_target(&s, bytes, &t, fault);

    if (err)
        return err;
    s.sp += release;
    if (!(v->cpu.cr0 & HV_CR0_PE)) {
        commit_stack(&v->cpu, s.sp, s.mask);
        load_real(&v->cpu, t.cs_selector, t.rip);
        return 0;
    }
    err = check_return_code(v, &t, fault);
    if (!err && t.cpl > hv_cpu_cpl(&v->cpu)) {
        err = pop_stack(&s, bytes, &t, fault);
        if (!err)
            err = check_return_stack(v, &t, fault);
        t.rsp += release;
    }
    if (!err)
        commit_return(v, &t, &s, bytes);
    return err;
}

/* The flags that IRET may change at the privilege it leaves. */
static uint64_t iret_flags(const struct hv_cpu *cpu, unsigned bytes)
{
    uint64_t mask = HV_EFLAGS_CF | HV_EFLAGS_PF | HV_EFLAGS_AF | HV_EFLAGS_ZF | HV_EFLAGS_SF |
                    HV_EFLAGS_TF | HV_EFLAGS_DF | HV_EFLAGS_OF | HV_EFLAGS_NT | HV_EFLAGS_RF |
                    HV_EFLAGS_AC | HV_EFLAGS_ID;
    unsigned cpl = hv_cpu_cpl(cpu);

    if (cpl <= ((cpu->rflags >> 12) & 3))
        mask |= HV_EFLAGS_IF;
    if (cpl == 0)
        mask |= HV_EFLAGS_IOPL | HV_EFLAGS_VIF | HV_EFLAGS_VIP;
    return bytes == 2 ? mask & 0xffff : mask;
}

static int iret_refused(struct hv_vcpu *v, uint64_t flags, unsigned bytes, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &v->cpu;

    if (cpu->rflags & HV_EFLAGS_NT) {
        if (hv_cpu_long_mode(cpu))
            return hv_x86_fault_code(fault, HV_VEC_GP, 0);
        return unsupported(v, "IRET to another task");
    }
    if (!hv_cpu_long_mode(cpu) && bytes == 4 && (flags & HV_EFLAGS_VM) && hv_cpu_cpl(cpu) == 0)
        return unsupported(v, "IRET to virtual-8086 mode");
    return 0;
}

int hv_x86_iret(struct hv_vcpu *v, unsigned bytes, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &v->cpu;
    struct stack s = current_stack(v);
    struct target t = {0};
    uint64_t flags, mask = iret_flags(cpu, bytes);
    int err = bytes == 8 ? read_ahead(&s, fault) : 0;

    if (!err)
        err = pop_target(&s, bytes, &t, fault);
    if (!err)
        err = pop(&s, bytes, &flags, fault);
    if (err)
        return err;
    if (!(cpu->cr0 & HV_CR0_PE)) {
        commit_stack(cpu, s.sp, s.mask);
        load_real(cpu, t.cs_selector, t.rip);
    } else {
        err = iret_refused(v, flags, bytes, fault);
        if (!err)
            err = check_return_code(v, &t, fault);
        if (!err && (hv_cpu_64bit(cpu) || t.cpl > hv_cpu_cpl(cpu))) {
            err = pop_stack(&s, bytes, &t, fault);
            if (!err)
                err = check_return_stack(v, &t, fault);
        }
        if (err)
            return err;
        commit_return(v, &t, &s, bytes);
    }
    cpu->rflags = (cpu->rflags & ~mask) | (flags & mask) | HV_EFLAGS_FIXED;
    cpu->nmi_blocked = false;
    return 0;
}
