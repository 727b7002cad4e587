/* The vCPU thread: pausing, flushing, HLT, timers, interrupts, INIT and SIPI, shutdown. The guest
 * is a function of this test. */
#include "config.h"

#include "hv/machine/vcpu.h"

#include <errno.h>
#include <time.h>

#include "hv/xen-abi.h"

#include "hv/hypercall/params.h"
#include "hv/machine/fake-engine.h"
#include "hv/machine/lapic.h"
#include "hv/machine/time.h"
#include "hv/tap.h"

#define NR_VCPUS     3
#define TIMER_VECTOR 0x40
#define PATIENCE_MS  5000u

static struct hv_domain *d;
static struct hv_loop *loop;
static pthread_t loop_thread;

static void sleep_ms(unsigned ms)
{
    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

    nanosleep(&ts, NULL);
}

/* Waits until @condition holds; false when patience is at its end. */
#define SOON(condition)                                                                            \
    ({                                                                                             \
        unsigned ms_ = 0;                                                                          \
        while (!(condition) && ms_++ < PATIENCE_MS)                                                \
            sleep_ms(1);                                                                           \
        (condition);                                                                               \
    })

static void *loop_main(void *opaque)
{
    hv_loop_run(opaque);
    return NULL;
}

/* ---------------------------------------------------------------- guests */

static int spin(struct hv_vcpu *v)
{
    (void)v;
    return FAKE_GO_ON;
}

static int halt_open(struct hv_vcpu *v)
{
    v->cpu.rflags |= HV_EFLAGS_IF;
    return FAKE_RETURN(HV_RUN_HLT);
}

static int halt_closed(struct hv_vcpu *v)
{
    v->cpu.rflags &= ~(uint64_t)HV_EFLAGS_IF;
    return FAKE_RETURN(HV_RUN_HLT);
}

/* Ends the interrupt that brought it here, then waits for the next. */
static int serve(struct hv_vcpu *v)
{
    hv_lapic_mmio_write(v, 0xb0, 0);
    return halt_open(v);
}

static int flush_all(struct hv_vcpu *v)
{
    hv_domain_flush(v->domain);
    return FAKE_GO_ON;
}

/* Is in the middle of a hypercall when the domain goes away, and flushes then. */
static int flush_late(struct hv_vcpu *v)
{
    sleep_ms(30);
    return flush_all(v);
}

static int pause_next(struct hv_vcpu *v)
{
    struct hv_vcpu *next = v->domain->vcpus[(v->id + 1) % NR_VCPUS];

    hv_vcpu_pause(next);
    hv_vcpu_unpause(next);
    return FAKE_GO_ON;
}

/* Programs its APIC timer for 1 ms, then spins without HLT. */
static int start_timer(struct hv_vcpu *v)
{
    v->cpu.rflags |= HV_EFLAGS_IF;
    hv_lapic_mmio_write(v, 0xf0, 0x1ff);
    hv_lapic_mmio_write(v, 0x3e0, 0xb);
    hv_lapic_mmio_write(v, 0x320, TIMER_VECTOR);
    hv_lapic_mmio_write(v, 0x380, 100000);
    atomic_store(&fake_of(v)->guest, spin);
    return FAKE_GO_ON;
}

static int start_periodic(struct hv_vcpu *v)
{
    hv_lapic_mmio_write(v, 0xf0, 0x1ff);
    hv_lapic_mmio_write(v, 0x3e0, 0xb);
    hv_lapic_mmio_write(v, 0x320, TIMER_VECTOR | 1u << 17);
    hv_lapic_mmio_write(v, 0x380, 100000);
    atomic_store(&fake_of(v)->guest, serve);
    return FAKE_GO_ON;
}

static int wait_blocked(struct hv_vcpu *v)
{
    v->cpu.rflags &= ~(uint64_t)HV_EFLAGS_IF;
    hv_vcpu_block(v);
    return FAKE_GO_ON;
}

static int triple_fault(struct hv_vcpu *v)
{
    (void)v;
    return FAKE_RETURN(HV_RUN_TRIPLE_FAULT);
}

static int unsupported(struct hv_vcpu *v)
{
    snprintf(v->error, sizeof(v->error), "an instruction of this test");
    return FAKE_RETURN(HV_RUN_UNSUPPORTED);
}

/* Everything that vCPUs can do to each other, in an order that differs between them. */
static int storm(struct hv_vcpu *v)
{
    struct hv_vcpu *next = v->domain->vcpus[(v->id + 1) % NR_VCPUS];
    unsigned step = atomic_load(&fake_of(v)->steps);

    switch ((step * 7 + v->id * 3) % 11) {
    case 0:
    case 1:
    case 2:
        hv_domain_flush(v->domain);
        break;
    case 3:
        hv_vcpu_pause(next);
        hv_vcpu_unpause(next);
        break;
    case 4:
        hv_domain_pause(v->domain);
        hv_domain_unpause(v->domain);
        break;
    case 5:
        hv_vcpu_send_init(next);
        hv_vcpu_send_sipi(next, 0x10);
        break;
    case 6:
        hv_vcpu_send_nmi(next);
        break;
    case 7:
        hv_vcpu_set_online(v, false); /* until another brings it back */
        break;
    case 8:
        hv_vcpu_block(v);
        break;
    case 9:
        hv_vcpu_request(next, HV_ATTN_TIMER | HV_ATTN_EVENT);
        break;
    default:
        break;
    }
    hv_vcpu_set_online(next, true);
    return FAKE_GO_ON;
}

/* ---------------------------------------------------------------- helpers */

static void start(fake_guest_fn *guest, unsigned online)
{
    d = fake_domain_new(loop, NR_VCPUS);
    if (!TAP_OK(d, "a domain"))
        return;
    for (unsigned i = 0; i < NR_VCPUS; i++)
        atomic_store(&fake_of(d->vcpus[i])->guest, guest);
    for (unsigned i = 1; i < online; i++)
        hv_vcpu_set_online(d->vcpus[i], true);
    TAP_OK(pthread_create(&loop_thread, NULL, loop_main, loop) == 0 && hv_vcpus_start(d) == 0,
           "its threads");
    hv_domain_unpause(d);
}

static void set_guest(unsigned vcpu, fake_guest_fn *guest)
{
    hv_vcpu_pause(d->vcpus[vcpu]);
    atomic_store(&fake_of(d->vcpus[vcpu])->guest, guest);
    hv_vcpu_unpause(d->vcpus[vcpu]);
}

static unsigned steps(unsigned vcpu)
{
    return atomic_load(&fake_of(d->vcpus[vcpu])->steps);
}

static bool goes_on(unsigned vcpu)
{
    unsigned before = steps(vcpu);

    return SOON(steps(vcpu) != before);
}

static bool stands(unsigned vcpu)
{
    unsigned before = steps(vcpu);

    sleep_ms(20);
    return steps(vcpu) == before;
}

static unsigned injected(unsigned vcpu, uint8_t vector)
{
    return atomic_load(&fake_of(d->vcpus[vcpu])->injected[vector]);
}

/* Domains come and go on the loop's thread: here, while that one does not run. */
static void finish(void)
{
    hv_loop_quit(loop);
    pthread_join(loop_thread, NULL);
    hv_domain_free(d);
}

/* ---------------------------------------------------------------- tests */

static void test_pause(void)
{
    start(spin, 2);
    TAP_OK(goes_on(0) && goes_on(1) && stands(2), "vCPUs that are online run, others do not");
    TAP_OK(hv_vcpu_cpu_time_ns(d->vcpus[0]) > 0 && hv_vcpu_is_running(d->vcpus[0]),
           "and use CPU time");
    hv_vcpu_pause(d->vcpus[0]);
    hv_vcpu_pause(d->vcpus[0]);
    TAP_OK(stands(0) && goes_on(1), "one is paused");
    hv_vcpu_unpause(d->vcpus[0]);
    TAP_OK(stands(0), "pauses nest");
    hv_vcpu_unpause(d->vcpus[0]);
    TAP_OK(goes_on(0), "and end");
    hv_domain_pause(d);
    TAP_OK(stands(0) && stands(1), "all are paused");
    hv_domain_unpause(d);
    TAP_OK(goes_on(0) && goes_on(1), "and go on");
    set_guest(0, pause_next);
    set_guest(1, pause_next);
    sleep_ms(50);
    TAP_OK(goes_on(0) && goes_on(1), "vCPUs that pause each other do not wait for each other");
    finish();
}

static void test_flush(void)
{
    unsigned before;

    start(spin, 2);
    TAP_OK(goes_on(1), "a vCPU runs");
    before = atomic_load(&fake_of(d->vcpus[1])->flushes);
    hv_domain_flush(d);
    TAP_OK(atomic_load(&fake_of(d->vcpus[1])->flushes) > before, "a flush is done when it returns");
    hv_domain_pause(d);
    hv_domain_flush(d);
    TAP_OK(true, "a flush does not wait for paused vCPUs");
    before = atomic_load(&fake_of(d->vcpus[1])->flushes);
    hv_domain_unpause(d);
    TAP_OK(SOON(atomic_load(&fake_of(d->vcpus[1])->flushes) > before),
           "which flush before they run");
    hv_vcpu_set_online(d->vcpus[2], true);
    for (unsigned i = 0; i < NR_VCPUS; i++)
        set_guest(i, flush_all);
    sleep_ms(100);
    hv_domain_pause(d);
    hv_domain_unpause(d);
    TAP_OK(goes_on(0) && goes_on(1) && goes_on(2),
           "all vCPUs flush at once, and are paused meanwhile");
    finish();
}

static void test_end_during_flush(void)
{
    start(flush_late, 2);
    TAP_OK(goes_on(0) && goes_on(1), "vCPUs flush");
    finish();
    TAP_OK(true, "and the domain goes away in between");
}

/* Nobody waits for ever, and the end comes through. */
static void test_storm(void)
{
    start(storm, NR_VCPUS);
    for (unsigned i = 0; i < 50; i++) {
        hv_domain_pause(d);
        hv_domain_flush(d);
        hv_domain_unpause(d);
        for (unsigned n = 0; n < NR_VCPUS; n++) { /* where all had gone offline or waited */
            hv_vcpu_set_online(d->vcpus[n], true);
            hv_vcpu_request(d->vcpus[n], HV_ATTN_EVENT);
        }
        sleep_ms(2);
    }
    TAP_OK(goes_on(0) || goes_on(1) || goes_on(2), "vCPUs that do everything to each other go on");
    set_guest(0, triple_fault);
    hv_domain_shutdown(d, SHUTDOWN_crash);
    finish();
    TAP_OK(true, "and can be ended");
}

static void test_halt(void)
{
    start(serve, 2);
    TAP_OK(SOON(hv_vcpu_is_blocked(d->vcpus[0])) && stands(0), "HLT waits");
    set_guest(0, serve); /* leaves a request to pause behind, which must not hide the interrupt */
    hv_lapic_mmio_write(d->vcpus[0], 0xf0, 0x1ff);
    hv_lapic_set_irq(d->vcpus[0], 0x50);
    TAP_OK(SOON(injected(0, 0x50) == 1) && SOON(hv_vcpu_is_blocked(d->vcpus[0])),
           "an interrupt ends it");
    hv_vcpu_pause(d->vcpus[0]);
    hv_lapic_set_irq(d->vcpus[0], 0x51);
    hv_vcpu_send_nmi(d->vcpus[0]);
    TAP_OK(stands(0) && injected(0, 0x51) == 0, "but not while paused");
    hv_vcpu_unpause(d->vcpus[0]);
    TAP_OK(SOON(injected(0, 0x51) == 1) && injected(0, 2) == 1, "then interrupt and NMI are taken");
    atomic_store(&fake_of(d->vcpus[0])->guest, halt_closed);
    hv_vcpu_send_nmi(d->vcpus[0]);
    TAP_OK(SOON(!hv_vcpu_is_online(d->vcpus[0])), "with IF clear the vCPU gives up");
    TAP_OK(atomic_load(&d->shutdown_code) == -1, "the other one goes on");
    atomic_store(&fake_of(d->vcpus[1])->guest, halt_closed);
    hv_vcpu_send_nmi(d->vcpus[1]);
    TAP_OK(SOON(atomic_load(&d->shutdown_code) == SHUTDOWN_poweroff),
           "with the last one the domain ends");
    finish();
}

static void test_timer(void)
{
    start(start_timer, 1);
    TAP_OK(SOON(injected(0, TIMER_VECTOR) == 1), "the APIC timer interrupts running code");
    finish();
    start(start_periodic, 1);
    TAP_OK(SOON(injected(0, TIMER_VECTOR) >= 20), "and ends HLT, again and again");
    hv_domain_pause(d);
    TAP_OK(stands(0), "but not while paused");
    finish();
}

static void test_block(void)
{
    unsigned before;

    start(wait_blocked, 1);
    TAP_OK(SOON(hv_vcpu_is_blocked(d->vcpus[0])) && stands(0), "a blocked vCPU waits");
    before = steps(0);
    hv_vcpu_request(d->vcpus[0], HV_ATTN_EVENT);
    TAP_OK(SOON(steps(0) != before), "a request ends that, whatever IF is");
    finish();
}

static void test_irq_window(void)
{
    start(spin, 1);
    hv_vcpu_pause(d->vcpus[0]);
    hv_lapic_mmio_write(d->vcpus[0], 0xf0, 0x1ff);
    hv_vcpu_unpause(d->vcpus[0]);
    hv_lapic_set_irq(d->vcpus[0], 0x60);
    TAP_OK(goes_on(0) && injected(0, 0x60) == 0, "IF clear: the guest goes on");
    set_guest(0, halt_open);
    TAP_OK(SOON(injected(0, 0x60) == 1), "HLT with IF set takes what was pending");
    finish();
}

static void test_startup(void)
{
    struct hv_vcpu *ap;

    start(spin, 1);
    ap = d->vcpus[1];
    hv_vcpu_send_sipi(ap, 0x9a);
    TAP_OK(goes_on(1), "SIPI starts a vCPU");
    hv_vcpu_pause(ap);
    TAP_OK(ap->cpu.seg[HV_CS].base == 0x9a000 && ap->cpu.seg[HV_CS].selector == 0x9a00 &&
               ap->cpu.rip == 0,
           "in real mode at its vector");
    ap->cpu.gpr[HV_RBX] = 5;
    hv_vcpu_unpause(ap);
    hv_vcpu_send_sipi(ap, 0x10);
    sleep_ms(10);
    hv_vcpu_pause(ap);
    TAP_OK(ap->cpu.gpr[HV_RBX] == 5 && ap->cpu.seg[HV_CS].base == 0x9a000,
           "a running one ignores SIPI");
    hv_vcpu_unpause(ap);
    hv_vcpu_send_init(ap);
    TAP_OK(SOON(!hv_vcpu_is_online(ap)) && stands(1) && ap->cpu.gpr[HV_RBX] == 0,
           "INIT stops and resets");
    hv_vcpu_send_sipi(ap, 0x20);
    TAP_OK(goes_on(1), "and it starts again");
    hv_vcpu_set_online(ap, false);
    sleep_ms(5);
    TAP_OK(stands(1), "offline it stands");
    finish();
}

static void test_affinity(void)
{
    cpu_set_t here, none, one, found;
    int cpu = 0;

    CPU_ZERO(&none);
    CPU_ZERO(&one);
    start(spin, 1);
    TAP_OK(hv_vcpu_get_affinity(d->vcpus[0], &here) == 0 && CPU_COUNT(&here) > 0, "a vCPU runs where the process may");
    while (!CPU_ISSET(cpu, &here))
        cpu++;
    CPU_SET(cpu, &one);
    TAP_OK(hv_vcpu_set_affinity(d->vcpus[0], &none) == -EINVAL, "not nowhere");
    TAP_OK(hv_vcpu_set_affinity(d->vcpus[0], &one) == 0 && hv_vcpu_get_affinity(d->vcpus[0], &found) == 0 &&
               CPU_EQUAL(&found, &one) && goes_on(0),
           "on one CPU, if that is wished");
    CPU_ZERO(&one);
    CPU_SET(HV_HOST_CPUS - 1, &one);
    if (!CPU_ISSET(HV_HOST_CPUS - 1, &here))
        TAP_OK(hv_vcpu_set_affinity(d->vcpus[0], &one) == -EINVAL && hv_vcpu_get_affinity(d->vcpus[0], &found) == 0 &&
                   CPU_ISSET(cpu, &found),
               "not on one that is not there, and it stays where it was");
    TAP_OK(hv_vcpu_get_affinity(d->vcpus[1], &found) == 0 && CPU_EQUAL(&found, &here), "the others are as before");
    finish();
}

static void test_shutdown(void)
{
    start(spin, 2);
    hv_param_set(d, HVM_PARAM_TRIPLE_FAULT_REASON, SHUTDOWN_reboot);
    set_guest(0, triple_fault);
    TAP_OK(SOON(atomic_load(&d->shutdown_code) == SHUTDOWN_reboot), "a triple fault reboots");
    sleep_ms(5);
    TAP_OK(stands(0) && stands(1), "and all vCPUs stand");
    hv_domain_shutdown(d, SHUTDOWN_poweroff);
    TAP_OK(atomic_load(&d->shutdown_code) == SHUTDOWN_reboot, "the first reason counts");
    finish();
    start(unsupported, 1);
    TAP_OK(SOON(atomic_load(&d->shutdown_code) == SHUTDOWN_crash),
           "what cannot be executed is a crash");
    finish();
}

int main(void)
{
    TAP_OK(hv_loop_new(&loop) == 0, "a loop");
    test_pause();
    test_flush();
    test_end_during_flush();
    test_storm();
    test_halt();
    test_timer();
    test_block();
    test_irq_window();
    test_startup();
    test_affinity();
    test_shutdown();
    hv_loop_free(loop);
    return tap_done();
}
