/* The local APIC: registers, interrupt acceptance, interprocessor interrupts, timer.
 *
 * Registers are kept as the page at 0xfee00000 shows them, one 32-bit value per 16 bytes; an x2APIC
 * MSR is the same register by number. IRR is the one thing that other threads write (atomically);
 * all else belongs to the vCPU's thread, or to whoever has it paused. One table says per register
 * who may read and write it, in which mode, and which bits can be set.
 */
#include "config.h"

#include "hv/machine/lapic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hv/machine/cpuid.h"
#include "hv/machine/machine.h"
#include "hv/machine/time.h"
#include "hv/machine/vcpu.h"
#include "hv/stream/codec.h"

#define NS_PER_BUS_CYCLE 10u /* as Xen's: a bus of 100 MHz */

#define BASE_ADDRESS 0xfee00000u
#define BASE_BSP     (1u << 8)
#define BASE_X2APIC  (1u << 10)
#define BASE_ENABLE  (1u << 11)

#define VERSION  0x14u
#define LVT_LAST 5u /* timer, thermal, performance, LINT0, LINT1, error */

/* Registers by number: offset in the page / 16, MSR - 0x800. */
/* clang-format off */
enum {
    REG_ID = 0x02, REG_VERSION = 0x03, REG_TPR = 0x08, REG_APR = 0x09, REG_PPR = 0x0a,
    REG_EOI = 0x0b, REG_RRD = 0x0c, REG_LDR = 0x0d, REG_DFR = 0x0e, REG_SVR = 0x0f,
    REG_ISR = 0x10, REG_TMR = 0x18, REG_IRR = 0x20, REG_ESR = 0x28,
    REG_ICR = 0x30, REG_ICR2 = 0x31, REG_LVT_TIMER = 0x32, REG_LVT_THERMAL = 0x33,
    REG_LVT_PERF = 0x34, REG_LVT_LINT0 = 0x35, REG_LVT_LINT1 = 0x36, REG_LVT_ERROR = 0x37,
    REG_TIMER_INITIAL = 0x38, REG_TIMER_CURRENT = 0x39, REG_TIMER_DIVIDE = 0x3e,
    REG_SELF_IPI = 0x3f, NR_REGS = 0x40
};
/* clang-format on */

#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC       0x800u

#define LVT_MASKED          (1u << 16)
#define TIMER_MODE          (3u << 17)
#define TIMER_ONESHOT       (0u << 17)
#define TIMER_PERIODIC      (1u << 17)
#define TIMER_DEADLINE      (2u << 17)
#define SVR_ENABLE          (1u << 8)
#define ESR_SEND_ILLEGAL    (1u << 5)
#define ESR_RECEIVE_ILLEGAL (1u << 6)
#define ESR_REGISTER        (1u << 7)

#define ICR_MODE(icr)      (((icr) >> 8) & 7)
#define ICR_LOGICAL        (1u << 11)
#define ICR_LEVEL_ASSERT   (1u << 14)
#define ICR_TRIGGER_LEVEL  (1u << 15)
#define ICR_SHORTHAND(icr) (((icr) >> 18) & 3)
#define ICR_WRITABLE       0x000ccfffu

enum delivery_mode {
    MODE_FIXED = 0,
    MODE_LOWEST = 1,
    MODE_SMI = 2,
    MODE_NMI = 4,
    MODE_INIT = 5,
    MODE_SIPI = 6
};
enum shorthand { TO_DESTINATION, TO_SELF, TO_ALL, TO_OTHERS };

struct hv_lapic {
    _Atomic uint32_t irr[8];
    uint32_t isr[8];
    uint32_t regs[NR_REGS];    /* all but ISR, IRR, TMR (always 0: edges only) */
    uint64_t base;             /* IA32_APIC_BASE */
    _Atomic uint32_t ldr, dfr; /* copies that senders read, with what mode this is in */
    _Atomic bool x2apic, enabled, accepts;
    uint32_t pending_errors; /* what the next write of ESR shows */

    _Atomic uint64_t deadline_ns; /* of the timer, in system time; 0 for none */
    uint64_t tsc_deadline;
    uint64_t period_ns;
};

/* ---------------------------------------------------------------- small things */

static int highest_bit(const uint32_t words[8])
{
    for (int i = 7; i >= 0; i--)
        if (words[i])
            return i * 32 + 31 - __builtin_clz(words[i]);
    return -1;
}

static int highest_irr(const struct hv_lapic *apic)
{
    uint32_t words[8];

    for (unsigned i = 0; i < 8; i++)
        words[i] = atomic_load_explicit(&apic->irr[i], memory_order_acquire);
    return highest_bit(words);
}

static uint32_t processor_priority(const struct hv_lapic *apic)
{
    int isr = highest_bit(apic->isr);
    uint32_t class = isr < 0 ? 0 : (uint32_t)isr & 0xf0;
    uint32_t tpr = apic->regs[REG_TPR] & 0xff;

    return (tpr & 0xf0) >= class ? tpr : class;
}

static bool software_enabled(const struct hv_lapic *apic)
{
    return apic->regs[REG_SVR] & SVR_ENABLE;
}

/* What senders look at. */
static void publish(struct hv_lapic *apic)
{
    atomic_store(&apic->x2apic, (apic->base & BASE_X2APIC) != 0);
    atomic_store(&apic->enabled, (apic->base & BASE_ENABLE) != 0);
    atomic_store(&apic->accepts, (apic->base & BASE_ENABLE) && software_enabled(apic));
    atomic_store(&apic->ldr, apic->regs[REG_LDR]);
    atomic_store(&apic->dfr, apic->regs[REG_DFR]);
}

/* Records an error of enum ESR_*, and raises its interrupt. */
static void raise_error(struct hv_vcpu *v, uint32_t error)
{
    struct hv_lapic *apic = v->lapic;
    uint32_t lvt = apic->regs[REG_LVT_ERROR];

    apic->pending_errors |= error;
    if (!(lvt & LVT_MASKED) && (lvt & 0xff) >= 16)
        hv_lapic_set_irq(v, (uint8_t)lvt);
}

/* ---------------------------------------------------------------- accepting interrupts */

void hv_lapic_set_irq(struct hv_vcpu *v, uint8_t vector)
{
    struct hv_lapic *apic = v->lapic;

    if (vector < 16 || !atomic_load(&apic->accepts))
        return;
    atomic_fetch_or(&apic->irr[vector / 32], 1u << (vector % 32));
    hv_vcpu_request(v, HV_ATTN_EVENT);
}

void hv_lapic_set_upcall(struct hv_vcpu *v, uint8_t vector)
{
    if (vector < 16)
        return;
    atomic_fetch_or(&v->lapic->irr[vector / 32], 1u << (vector % 32));
    hv_vcpu_request(v, HV_ATTN_EVENT);
}

int hv_lapic_pending(struct hv_vcpu *v)
{
    int irr = highest_irr(v->lapic);

    if (irr < 0 || !software_enabled(v->lapic))
        return -1;
    return ((uint32_t)irr & 0xf0) > (processor_priority(v->lapic) & 0xf0) ? irr : -1;
}

void hv_lapic_accept(struct hv_vcpu *v, uint8_t vector)
{
    struct hv_lapic *apic = v->lapic;

    atomic_fetch_and(&apic->irr[vector / 32], ~(1u << (vector % 32)));
    apic->isr[vector / 32] |= 1u << (vector % 32);
}

/* What waited for a lower priority may go in now. */
static void priority_lowered(struct hv_vcpu *v)
{
    if (hv_lapic_pending(v) >= 0)
        hv_vcpu_request(v, HV_ATTN_EVENT);
}

static void end_of_interrupt(struct hv_vcpu *v)
{
    int vector = highest_bit(v->lapic->isr);

    if (vector >= 0)
        v->lapic->isr[vector / 32] &= ~(1u << (vector % 32));
    priority_lowered(v);
}

uint64_t hv_lapic_get_cr8(struct hv_vcpu *v)
{
    return (v->lapic->regs[REG_TPR] >> 4) & 0xf;
}

void hv_lapic_set_cr8(struct hv_vcpu *v, uint64_t value)
{
    v->lapic->regs[REG_TPR] = (uint32_t)(value & 0xf) << 4;
    priority_lowered(v);
}

/* ---------------------------------------------------------------- timer */

static uint64_t timer_mode(const struct hv_lapic *apic)
{
    return apic->regs[REG_LVT_TIMER] & TIMER_MODE;
}

/* Divide configuration: bits 0, 1 and 3 are log2 of the divisor, less one; 7 stands for 1. */
static uint64_t ns_per_tick(const struct hv_lapic *apic)
{
    uint32_t divide = apic->regs[REG_TIMER_DIVIDE];
    unsigned code = (divide & 3) | ((divide >> 1) & 4);

    return (uint64_t)NS_PER_BUS_CYCLE << ((code + 1) & 7);
}

static void set_deadline(struct hv_vcpu *v, uint64_t system_ns)
{
    atomic_store(&v->lapic->deadline_ns, system_ns);
    hv_vcpu_request(v, HV_ATTN_TIMER);
}

static uint32_t timer_current(struct hv_vcpu *v)
{
    struct hv_lapic *apic = v->lapic;
    uint64_t deadline = atomic_load(&apic->deadline_ns);
    uint64_t now;

    if (!deadline || timer_mode(apic) == TIMER_DEADLINE)
        return 0;
    now = hv_time_system_ns(v->domain);
    if (now >= deadline)
        return 0;
    return (uint32_t)((deadline - now + ns_per_tick(apic) - 1) / ns_per_tick(apic));
}

/* Starts counting down from @count. */
static void timer_start(struct hv_vcpu *v, uint32_t count)
{
    struct hv_lapic *apic = v->lapic;
    uint64_t ns = count * ns_per_tick(apic);

    if (timer_mode(apic) == TIMER_DEADLINE)
        return;
    apic->period_ns = apic->regs[REG_TIMER_INITIAL] * ns_per_tick(apic);
    set_deadline(v, count ? hv_time_system_ns(v->domain) + ns : 0);
}

static void timer_divide(struct hv_vcpu *v, uint32_t value)
{
    uint32_t left = timer_current(v);

    v->lapic->regs[REG_TIMER_DIVIDE] = value;
    if (left)
        timer_start(v, left);
}

/* A change to or from the deadline mode disarms the timer. */
static void timer_lvt(struct hv_vcpu *v, uint32_t value)
{
    struct hv_lapic *apic = v->lapic;
    bool deadline_before = timer_mode(apic) == TIMER_DEADLINE;

    apic->regs[REG_LVT_TIMER] = value;
    if (deadline_before == (timer_mode(apic) == TIMER_DEADLINE))
        return;
    apic->tsc_deadline = 0;
    apic->regs[REG_TIMER_INITIAL] = 0;
    set_deadline(v, 0);
}

static void timer_tsc_deadline(struct hv_vcpu *v, uint64_t tsc)
{
    if (timer_mode(v->lapic) != TIMER_DEADLINE)
        return;
    v->lapic->tsc_deadline = tsc;
    /* Rounded up, so that RDTSC in the handler is past the deadline; 0 would mean disarmed. */
    set_deadline(v, tsc ? hv_time_tsc_to_system_ns(v, tsc) + 1 : 0);
}

void hv_lapic_tsc_moved(struct hv_vcpu *v)
{
    if (v->lapic->tsc_deadline)
        timer_tsc_deadline(v, v->lapic->tsc_deadline);
}

uint64_t hv_lapic_deadline_ns(struct hv_vcpu *v)
{
    uint64_t deadline = atomic_load(&v->lapic->deadline_ns);

    return deadline ? hv_time_to_monotonic(v->domain, deadline) : 0;
}

void hv_lapic_run_timer(struct hv_vcpu *v)
{
    struct hv_lapic *apic = v->lapic;
    uint64_t deadline = atomic_load(&apic->deadline_ns);
    uint64_t now = hv_time_system_ns(v->domain);
    uint32_t lvt = apic->regs[REG_LVT_TIMER];
    uint64_t next = 0;

    if (!deadline || now < deadline)
        return;
    if (timer_mode(apic) == TIMER_PERIODIC && apic->period_ns)
        next = deadline + ((now - deadline) / apic->period_ns + 1) * apic->period_ns;
    apic->tsc_deadline = 0;
    atomic_store(&apic->deadline_ns, next);
    if (!(lvt & LVT_MASKED))
        hv_lapic_set_irq(v, (uint8_t)lvt);
}

/* ---------------------------------------------------------------- interprocessor interrupts */

static bool matches_logical(const struct hv_vcpu *target, uint32_t dest, bool x2apic)
{
    const struct hv_lapic *apic = target->lapic;
    uint32_t ldr = atomic_load(&apic->ldr);

    if (x2apic)
        return (dest >> 16) == (ldr >> 16) && (dest & ldr & 0xffff);
    ldr >>= 24;
    if (atomic_load(&apic->dfr) >> 28 == 0xf) /* flat model */
        return dest & ldr & 0xff;
    return ((dest >> 4) == (ldr >> 4) || (dest >> 4) == 0xf) && (dest & ldr & 0xf);
}

static bool is_destination(const struct hv_vcpu *target, uint32_t dest, bool logical, bool x2apic)
{
    if (dest == (x2apic ? 0xffffffffu : 0xffu))
        return true;
    if (!logical)
        return hv_apic_id(target->id) == dest;
    return matches_logical(target, dest, x2apic);
}

/* Sends what the low half of the ICR says to @target. */
static void send_to(struct hv_vcpu *from, struct hv_vcpu *target, uint32_t icr)
{
    if (!atomic_load(&target->lapic->enabled))
        return;
    switch (ICR_MODE(icr)) {
    case MODE_FIXED:
    case MODE_LOWEST:
        hv_lapic_set_irq(target, (uint8_t)icr);
        break;
    case MODE_NMI:
        hv_vcpu_send_nmi(target);
        break;
    case MODE_INIT:
        if (target != from)
            hv_vcpu_send_init(target);
        break;
    case MODE_SIPI:
        if (target != from)
            hv_vcpu_send_sipi(target, (uint8_t)icr);
        break;
    default: /* SMI: there is no SMM */
        break;
    }
}

static bool is_init_deassert(uint32_t icr)
{
    return ICR_MODE(icr) == MODE_INIT && (icr & ICR_TRIGGER_LEVEL) && !(icr & ICR_LEVEL_ASSERT);
}

static bool wanted(struct hv_vcpu *v, struct hv_vcpu *target, uint32_t icr, uint32_t dest)
{
    switch ((enum shorthand)ICR_SHORTHAND(icr)) {
    case TO_SELF:
        return target == v;
    case TO_ALL:
        return true;
    case TO_OTHERS:
        return target != v;
    case TO_DESTINATION:
        break;
    }
    return is_destination(target, dest, icr & ICR_LOGICAL, atomic_load(&v->lapic->x2apic));
}

static void send_ipi(struct hv_vcpu *v, uint32_t icr, uint32_t dest)
{
    struct hv_domain *d = v->domain;

    if (is_init_deassert(icr))
        return; /* sets arbitration ids only, which no processor has any more */
    if (ICR_MODE(icr) <= MODE_LOWEST && (icr & 0xff) < 16) {
        raise_error(v, ESR_SEND_ILLEGAL);
        return;
    }
    for (unsigned i = 0; i < d->nr_vcpus; i++) {
        if (!wanted(v, d->vcpus[i], icr, dest))
            continue;
        send_to(v, d->vcpus[i], icr);
        if (ICR_MODE(icr) == MODE_LOWEST)
            break; /* all have the same priority: the first one */
    }
}

/* ---------------------------------------------------------------- registers */

static void write_tpr(struct hv_vcpu *v, uint32_t value)
{
    v->lapic->regs[REG_TPR] = value;
    priority_lowered(v);
}

static void write_eoi(struct hv_vcpu *v, uint32_t value)
{
    (void)value;
    end_of_interrupt(v);
}

static void write_ldr(struct hv_vcpu *v, uint32_t value)
{
    v->lapic->regs[REG_LDR] = value;
    publish(v->lapic);
}

static void write_dfr(struct hv_vcpu *v, uint32_t value)
{
    v->lapic->regs[REG_DFR] = value | 0x0fffffff;
    publish(v->lapic);
}

/* Software disable masks all local sources. */
static void write_svr(struct hv_vcpu *v, uint32_t value)
{
    struct hv_lapic *apic = v->lapic;

    apic->regs[REG_SVR] = value;
    if (!software_enabled(apic))
        for (unsigned reg = REG_LVT_TIMER; reg <= REG_LVT_ERROR; reg++)
            apic->regs[reg] |= LVT_MASKED;
    publish(apic);
    priority_lowered(v);
}

static void write_esr(struct hv_vcpu *v, uint32_t value)
{
    (void)value;
    v->lapic->regs[REG_ESR] = v->lapic->pending_errors;
    v->lapic->pending_errors = 0;
}

static void write_icr(struct hv_vcpu *v, uint32_t value)
{
    v->lapic->regs[REG_ICR] = value;
    send_ipi(v, value, v->lapic->regs[REG_ICR2] >> 24);
}

static void write_self_ipi(struct hv_vcpu *v, uint32_t value)
{
    send_ipi(v, (value & 0xff) | TO_SELF << 18, 0);
}

static void write_initial(struct hv_vcpu *v, uint32_t value)
{
    if (timer_mode(v->lapic) == TIMER_DEADLINE)
        return;
    v->lapic->regs[REG_TIMER_INITIAL] = value;
    timer_start(v, value);
}

enum register_flags {
    R = 1u << 0,    /* readable */
    W = 1u << 1,    /* writable */
    X1 = 1u << 2,   /* exists as xAPIC register */
    X2 = 1u << 3,   /* exists as x2APIC MSR */
    X2R = 1u << 4,  /* read-only there */
    ZERO = 1u << 5, /* as x2APIC MSR, only 0 may be written */
    LVT = 1u << 6,  /* stays masked while the APIC is software-disabled */
};

struct lapic_register {
    uint32_t flags;
    uint32_t writable;                                /* bits; others are reserved */
    void (*write)(struct hv_vcpu *v, uint32_t value); /* NULL: only kept */
};

#define BOTH    (X1 | X2)
#define LVT_PIN 0x0001a7ffu /* vector, mode, polarity, trigger, mask */

/* clang-format off */
static const struct lapic_register registers[NR_REGS] = {
    [REG_ID] = {R | BOTH, 0, NULL},
    [REG_VERSION] = {R | BOTH, 0, NULL},
    [REG_TPR] = {R | W | BOTH, 0xff, write_tpr},
    [REG_APR] = {R | X1, 0, NULL},
    [REG_PPR] = {R | BOTH, 0, NULL},
    [REG_EOI] = {W | BOTH | ZERO, 0xffffffff, write_eoi},
    [REG_RRD] = {R | X1, 0, NULL},
    [REG_LDR] = {R | W | BOTH | X2R, 0xff000000, write_ldr},
    [REG_DFR] = {R | W | X1, 0xf0000000, write_dfr},
    [REG_SVR] = {R | W | BOTH, 0x3ff, write_svr},
    [REG_ISR ... REG_IRR + 7] = {R | BOTH, 0, NULL},
    [REG_ESR] = {R | W | BOTH | ZERO, 0xffffffff, write_esr},
    [REG_ICR] = {R | W | BOTH, ICR_WRITABLE, write_icr},
    [REG_ICR2] = {R | W | X1, 0xff000000, NULL},
    [REG_LVT_TIMER] = {R | W | BOTH | LVT, 0x000700ff, timer_lvt},
    [REG_LVT_THERMAL] = {R | W | BOTH | LVT, 0x000107ff, NULL},
    [REG_LVT_PERF] = {R | W | BOTH | LVT, 0x000107ff, NULL},
    [REG_LVT_LINT0] = {R | W | BOTH | LVT, LVT_PIN, NULL},
    [REG_LVT_LINT1] = {R | W | BOTH | LVT, LVT_PIN, NULL},
    [REG_LVT_ERROR] = {R | W | BOTH | LVT, 0x000100ff, NULL},
    [REG_TIMER_INITIAL] = {R | W | BOTH, 0xffffffff, write_initial},
    [REG_TIMER_CURRENT] = {R | BOTH, 0, NULL},
    [REG_TIMER_DIVIDE] = {R | W | BOTH, 0xb, timer_divide},
    [REG_SELF_IPI] = {W | X2, 0xff, write_self_ipi},
};
/* clang-format on */

static uint32_t read_register(struct hv_vcpu *v, unsigned reg)
{
    struct hv_lapic *apic = v->lapic;
    bool x2apic = apic->base & BASE_X2APIC;

    switch (reg) {
    case REG_ID:
        return x2apic ? hv_apic_id(v->id) : hv_apic_id(v->id) << 24;
    case REG_VERSION:
        return VERSION | LVT_LAST << 16;
    case REG_PPR:
        return processor_priority(apic);
    case REG_TIMER_CURRENT:
        return timer_current(v);
    case REG_ISR ... REG_ISR + 7:
        return apic->isr[reg - REG_ISR];
    case REG_TMR ... REG_TMR + 7:
        return 0;
    case REG_IRR ... REG_IRR + 7:
        return atomic_load(&apic->irr[reg - REG_IRR]);
    default:
        return apic->regs[reg];
    }
}

static void write_register(struct hv_vcpu *v, unsigned reg, uint32_t value)
{
    const struct lapic_register *r = &registers[reg];

    if ((r->flags & LVT) && !software_enabled(v->lapic))
        value |= LVT_MASKED;
    if (r->write)
        r->write(v, value);
    else
        v->lapic->regs[reg] = value;
}

static bool page_visible(const struct hv_lapic *apic)
{
    return (apic->base & BASE_ENABLE) && !(apic->base & BASE_X2APIC);
}

uint32_t hv_lapic_mmio_read(struct hv_vcpu *v, unsigned offset)
{
    unsigned reg = offset >> 4;

    if (!page_visible(v->lapic) || offset >= HV_PAGE_SIZE)
        return 0xffffffff;
    if (reg >= NR_REGS || (offset & 0xf) || !(registers[reg].flags & X1)) {
        raise_error(v, ESR_REGISTER);
        return 0;
    }
    return registers[reg].flags & R ? read_register(v, reg) : 0;
}

void hv_lapic_mmio_write(struct hv_vcpu *v, unsigned offset, uint32_t value)
{
    unsigned reg = offset >> 4;

    if (!page_visible(v->lapic) || offset >= HV_PAGE_SIZE)
        return;
    if (reg >= NR_REGS || (offset & 0xf) || !(registers[reg].flags & X1)) {
        raise_error(v, ESR_REGISTER);
        return;
    }
    if (registers[reg].flags & W)
        write_register(v, reg, value & registers[reg].writable);
}

/* ---------------------------------------------------------------- MSRs */

static void x2apic_entered(struct hv_vcpu *v)
{
    uint32_t id = hv_apic_id(v->id);

    v->lapic->regs[REG_LDR] = (id >> 4) << 16 | 1u << (id & 0xf);
    v->lapic->regs[REG_ICR2] = 0;
}

/* The page does not move; the modes change along the arrows of SDM figure 10-27. */
static int write_base(struct hv_vcpu *v, uint64_t value)
{
    struct hv_lapic *apic = v->lapic;
    uint64_t mode = value & (BASE_ENABLE | BASE_X2APIC);
    uint64_t old = apic->base & (BASE_ENABLE | BASE_X2APIC);

    if ((value & ~(uint64_t)(BASE_ENABLE | BASE_X2APIC | BASE_BSP)) != BASE_ADDRESS)
        return -EPERM;
    if (mode == BASE_X2APIC)
        return -EPERM;
    if (old == (BASE_ENABLE | BASE_X2APIC) && mode == BASE_ENABLE)
        return -EPERM;
    if (old == 0 && mode == (BASE_ENABLE | BASE_X2APIC))
        return -EPERM;
    if (mode == 0 && old != 0)
        hv_lapic_reset(v);
    apic->base = BASE_ADDRESS | mode | (value & BASE_BSP);
    if (mode == (BASE_ENABLE | BASE_X2APIC) && mode != old)
        x2apic_entered(v);
    publish(apic);
    return 0;
}

static bool x2apic_register(const struct hv_lapic *apic, uint32_t msr, unsigned need)
{
    return (apic->base & BASE_X2APIC) && msr - MSR_X2APIC < NR_REGS &&
           (registers[msr - MSR_X2APIC].flags & (need | X2)) == (need | X2);
}

int hv_lapic_msr_read(struct hv_vcpu *v, uint32_t msr, uint64_t *value)
{
    struct hv_lapic *apic = v->lapic;

    if (msr == MSR_APIC_BASE) {
        *value = apic->base;
        return 0;
    }
    if (msr == MSR_TSC_DEADLINE) {
        *value = apic->tsc_deadline;
        return 0;
    }
    if (!x2apic_register(apic, msr, R))
        return -EPERM;
    *value = read_register(v, msr - MSR_X2APIC);
    if (msr - MSR_X2APIC == REG_ICR)
        *value |= (uint64_t)apic->regs[REG_ICR2] << 32;
    return 0;
}

static int write_x2apic_icr(struct hv_vcpu *v, uint64_t value)
{
    if ((uint32_t)value & ~ICR_WRITABLE)
        return -EPERM;
    v->lapic->regs[REG_ICR] = (uint32_t)value;
    v->lapic->regs[REG_ICR2] = (uint32_t)(value >> 32);
    send_ipi(v, (uint32_t)value, (uint32_t)(value >> 32));
    return 0;
}

int hv_lapic_msr_write(struct hv_vcpu *v, uint32_t msr, uint64_t value)
{
    unsigned reg = msr - MSR_X2APIC;

    if (msr == MSR_APIC_BASE)
        return write_base(v, value);
    if (msr == MSR_TSC_DEADLINE) {
        timer_tsc_deadline(v, value);
        return 0;
    }
    if (!x2apic_register(v->lapic, msr, W) || (registers[reg].flags & X2R))
        return -EPERM;
    if (reg == REG_ICR)
        return write_x2apic_icr(v, value);
    if ((value & ~(uint64_t)registers[reg].writable) || (value && (registers[reg].flags & ZERO)))
        return -EPERM;
    write_register(v, reg, (uint32_t)value);
    return 0;
}

/* ---------------------------------------------------------------- creation and reset */

void hv_lapic_reset(struct hv_vcpu *v)
{
    struct hv_lapic *apic = v->lapic;

    for (unsigned i = 0; i < 8; i++)
        atomic_store(&apic->irr[i], 0);
    memset(apic->isr, 0, sizeof(apic->isr));
    memset(apic->regs, 0, sizeof(apic->regs));
    for (unsigned reg = REG_LVT_TIMER; reg <= REG_LVT_ERROR; reg++)
        apic->regs[reg] = LVT_MASKED;
    apic->regs[REG_DFR] = 0xffffffff;
    apic->regs[REG_SVR] = 0xff;
    apic->pending_errors = 0;
    apic->tsc_deadline = apic->period_ns = 0;
    atomic_store(&apic->deadline_ns, 0);
    if (apic->base & BASE_X2APIC)
        x2apic_entered(v);
    publish(apic);
}

int hv_lapic_new(struct hv_vcpu *v)
{
    v->lapic = calloc(1, sizeof(*v->lapic));
    if (!v->lapic)
        return -ENOMEM;
    v->lapic->base = BASE_ADDRESS | BASE_ENABLE | (v->id == 0 ? BASE_BSP : 0);
    hv_lapic_reset(v);
    return 0;
}

void hv_lapic_free(struct hv_vcpu *v)
{
    free(v->lapic);
    v->lapic = NULL;
}

/* ---------------------------------------------------------------- streams */

static const struct hv_field state_fields[] = {
    HV_FIELD(1, struct hv_lapic, irr),         HV_FIELD(2, struct hv_lapic, isr),
    HV_FIELD(3, struct hv_lapic, regs),        HV_FIELD(4, struct hv_lapic, base),
    HV_FIELD(5, struct hv_lapic, pending_errors), HV_FIELD(6, struct hv_lapic, deadline_ns),
    HV_FIELD(7, struct hv_lapic, tsc_deadline), HV_FIELD(8, struct hv_lapic, period_ns),
};

void hv_lapic_encode(const struct hv_vcpu *v, struct hv_encoder *e)
{
    hv_encode_fields(e, state_fields, HV_ARRAY_LEN(state_fields), v->lapic);
}

/* Registers may hold anything: each use takes the bits that it knows. */
int hv_lapic_decode(struct hv_vcpu *v, struct hv_decoder *d)
{
    struct hv_lapic *apic = v->lapic;
    int error = hv_decode_fields(d, state_fields, HV_ARRAY_LEN(state_fields), apic);

    if (error)
        return error;
    if ((apic->base & ~(uint64_t)(BASE_ENABLE | BASE_X2APIC | BASE_BSP)) != BASE_ADDRESS ||
        (apic->base & (BASE_ENABLE | BASE_X2APIC)) == BASE_X2APIC)
        return hv_decode_fail(d, "the local APIC is at 0x%llx", (unsigned long long)apic->base);
    publish(apic);
    return 0;
}
