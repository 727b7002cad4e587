/* The local APIC as a guest sees it. Source of every fact: Intel SDM volume 3, chapter 10. */
#include "config.h"

#include "hv/machine/lapic.h"

#include <errno.h>
#include <time.h>

#include "hv/machine/fake-engine.h"
#include "hv/machine/machine.h"
#include "hv/machine/time.h"
#include "hv/tap.h"

#define BASE_X2APIC 0xfee00c00u

static struct hv_domain *d;
static struct hv_vcpu *v0, *v1;

static uint32_t rd(unsigned offset)
{
    return hv_lapic_mmio_read(v0, offset);
}

static void wr(unsigned offset, uint32_t value)
{
    hv_lapic_mmio_write(v0, offset, value);
}

static void reset(void)
{
    for (unsigned i = 0; i < d->nr_vcpus; i++) {
        hv_lapic_reset(d->vcpus[i]);
        hv_lapic_mmio_write(d->vcpus[i], 0xf0, 0x1ff);
        atomic_store(&d->vcpus[i]->attention, 0);
    }
}

static void test_reset_state(void)
{
    hv_lapic_reset(v0);
    TAP_OK(rd(0x20) == 0 && hv_lapic_mmio_read(v1, 0x20) == 2u << 24, "ids count by two");
    TAP_OK(rd(0x30) == 0x00050014, "version 0x14 with six LVT entries");
    TAP_OK(rd(0xf0) == 0xff && rd(0xe0) == 0xffffffff, "spurious vector and destination format");
    TAP_OK(rd(0x320) == 0x10000 && rd(0x350) == 0x10000, "LVT entries are masked");
    hv_lapic_set_irq(v0, 0x41);
    TAP_OK(hv_lapic_pending(v0) == -1 && rd(0x220) == 0, "software-disabled, nothing is accepted");
    wr(0x320, 0x41);
    TAP_OK(rd(0x320) == 0x10041, "and LVT entries stay masked");
}

static void test_priorities(void)
{
    reset();
    hv_lapic_set_irq(v0, 0x31);
    hv_lapic_set_irq(v0, 0x52);
    TAP_OK(atomic_load(&v0->attention) & HV_ATTN_EVENT, "an interrupt asks for attention");
    TAP_OK(hv_lapic_pending(v0) == 0x52, "the highest vector is first");
    hv_lapic_accept(v0, 0x52);
    TAP_OK(rd(0x120) == 1u << 0x12 && rd(0x220) == 0 && rd(0xa0) == 0x50, "it is in service");
    TAP_OK(hv_lapic_pending(v0) == -1, "a lower class waits");
    hv_lapic_set_irq(v0, 0x5f);
    TAP_OK(hv_lapic_pending(v0) == -1, "so does the same class");
    hv_lapic_set_irq(v0, 0x61);
    TAP_OK(hv_lapic_pending(v0) == 0x61, "a higher class does not");
    hv_lapic_accept(v0, 0x61);
    wr(0xb0, 0);
    TAP_OK(rd(0x130) == 0 && hv_lapic_pending(v0) == -1, "EOI ends the highest");
    atomic_store(&v0->attention, 0);
    wr(0xb0, 0);
    TAP_OK(hv_lapic_pending(v0) == 0x5f && (atomic_load(&v0->attention) & HV_ATTN_EVENT),
           "then the next is pending and asks for attention");
    hv_lapic_set_cr8(v0, 5);
    TAP_OK(rd(0x80) == 0x50 && hv_lapic_get_cr8(v0) == 5 && hv_lapic_pending(v0) == -1,
           "CR8 is the task priority");
    wr(0x80, 0x4f);
    TAP_OK(rd(0xa0) == 0x4f && hv_lapic_pending(v0) == 0x5f, "TPR below it lets it in");
    hv_lapic_set_irq(v0, 15);
    TAP_OK(rd(0x200) == 0, "vectors below 16 are not accepted");
}

/* ICR writes: which of two vCPUs gets vector 0x44. */
static void test_ipis(void)
{
    static const struct {
        uint32_t high, low;
        bool first, second;
        const char *what;
    } rows[] = {
        {2u << 24, 0x44, false, true, "physical, vCPU 1"},
        {0, 0x44, true, false, "physical, vCPU 0"},
        {1u << 24, 0x44, false, false, "physical, nobody"},
        {0xffu << 24, 0x44, true, true, "physical broadcast"},
        {1u << 24, 0x844, true, false, "logical flat, vCPU 0"},
        {3u << 24, 0x844, true, true, "logical flat, both"},
        {3u << 24, 0x944, true, false, "lowest priority, one of both"},
        {0, 0x40044, true, false, "self"},
        {0, 0x80044, true, true, "all"},
        {0, 0xc0044, false, true, "all but self"},
        {2u << 24, 0x244, false, false, "SMI does nothing"},
    };

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++) {
        reset();
        wr(0xd0, 1u << 24);
        hv_lapic_mmio_write(v1, 0xd0, 2u << 24);
        wr(0x310, rows[i].high);
        wr(0x300, rows[i].low);
        TAP_OK((hv_lapic_pending(v0) == 0x44) == rows[i].first &&
                   (hv_lapic_pending(v1) == 0x44) == rows[i].second,
               "IPI: %s", rows[i].what);
    }
    reset();
    wr(0x310, 2u << 24);
    wr(0x300, 0x400);
    TAP_OK(atomic_load(&v1->attention) == HV_ATTN_NMI, "IPI: NMI");
    wr(0x300, 0x4500);
    TAP_OK(atomic_load(&v1->attention) & HV_ATTN_INIT, "IPI: INIT");
    reset();
    wr(0x300, 0x8500);
    TAP_OK(atomic_load(&v1->attention) == 0, "IPI: INIT level de-assert does nothing");
    wr(0x370, 0x55);
    wr(0x300, 0x0f);
    wr(0x280, 0);
    TAP_OK(rd(0x280) == 1u << 5 && hv_lapic_pending(v0) == 0x55, "a bad vector is an error");
}

static void wait_ns(uint64_t ns)
{
    struct timespec ts = {.tv_nsec = (long)ns};

    nanosleep(&ts, NULL);
}

static void test_timer(void)
{
    uint32_t count;

    reset();
    wr(0x3e0, 0xb);
    wr(0x320, 0x40);
    wr(0x380, 100000); /* 1 ms of the 100 MHz bus */
    count = rd(0x390);
    TAP_OK(count > 0 && count <= 100000 && rd(0x380) == 100000, "the count runs down");
    TAP_OK(hv_lapic_deadline_ns(v0) != 0 && (atomic_load(&v0->attention) & HV_ATTN_TIMER),
           "there is a deadline and the vCPU looks at it");
    hv_lapic_run_timer(v0);
    wait_ns(1200000);
    hv_lapic_run_timer(v0);
    TAP_OK(hv_lapic_pending(v0) == 0x40 && rd(0x390) == 0 && hv_lapic_deadline_ns(v0) == 0,
           "one-shot: it fires once");
    hv_lapic_accept(v0, 0x40);
    wr(0xb0, 0);
    wr(0x320, 0x20040);
    wr(0x380, 1000);
    wait_ns(100000);
    hv_lapic_run_timer(v0);
    TAP_OK(hv_lapic_pending(v0) == 0x40 && hv_lapic_deadline_ns(v0) != 0, "periodic: it goes on");
    wr(0x380, 0);
    TAP_OK(hv_lapic_deadline_ns(v0) == 0, "a count of 0 stops it");
    wr(0x320, 0x40);
    wr(0x3e0, 0xa); /* by 128 */
    wr(0x380, 1000);
    wr(0x3e0, 0xb);
    TAP_OK(rd(0x390) > 900 && rd(0x390) <= 1000, "a new divisor keeps the count");
}

static void test_deadline_mode(void)
{
    uint64_t value;

    reset();
    wr(0x320, 0x40040);
    TAP_OK(hv_lapic_msr_write(v0, 0x6e0, hv_tsc_read(v0) + 1000) == 0 && hv_lapic_deadline_ns(v0),
           "TSC deadline arms");
    wr(0x380, 1000);
    TAP_OK(rd(0x380) == 0 && rd(0x390) == 0, "the count is ignored in this mode");
    wait_ns(100000);
    hv_lapic_run_timer(v0);
    TAP_OK(hv_lapic_pending(v0) == 0x40 && hv_lapic_msr_read(v0, 0x6e0, &value) == 0 && value == 0,
           "it fires and reads 0");
    TAP_OK(hv_lapic_msr_write(v0, 0x6e0, UINT64_MAX) == 0, "an absurd deadline");
    hv_lapic_run_timer(v0);
    TAP_OK(hv_lapic_msr_write(v0, 0x6e0, 0) == 0 && !hv_lapic_deadline_ns(v0), "0 disarms");
    TAP_OK(hv_lapic_msr_write(v0, 0x6e0, hv_tsc_read(v0) + 1000000000) == 0, "armed again");
    wr(0x320, 0x40);
    TAP_OK(!hv_lapic_deadline_ns(v0), "leaving the mode disarms");
}

static void test_x2apic(void)
{
    uint64_t value = 0;

    reset();
    TAP_OK(hv_lapic_msr_read(v0, 0x802, &value) == -EPERM, "no x2APIC MSR in xAPIC mode");
    TAP_OK(hv_lapic_msr_write(v1, 0x1b, BASE_X2APIC) == 0, "x2APIC is enabled");
    TAP_OK(hv_lapic_mmio_read(v1, 0x20) == 0xffffffff, "the page is gone");
    TAP_OK(hv_lapic_msr_read(v1, 0x802, &value) == 0 && value == 2, "32-bit id");
    TAP_OK(hv_lapic_msr_read(v1, 0x80d, &value) == 0 && value == 1u << 2, "logical id from the id");
    TAP_OK(hv_lapic_msr_write(v1, 0x80d, 1) == -EPERM, "which is read-only");
    TAP_OK(hv_lapic_msr_write(v1, 0x80b, 1) == -EPERM && hv_lapic_msr_write(v1, 0x80b, 0) == 0,
           "EOI takes 0 only");
    TAP_OK(hv_lapic_msr_write(v1, 0x83f, 0x77) == 0 && hv_lapic_pending(v1) == 0x77, "self IPI");
    TAP_OK(hv_lapic_msr_write(v1, 0x830, 0x44) == 0 && hv_lapic_pending(v0) == 0x44, "64-bit ICR");
    TAP_OK(hv_lapic_msr_write(v1, 0x831, 0) == -EPERM &&
               hv_lapic_msr_read(v1, 0x831, &value) == -EPERM,
           "there is no ICR2");
    TAP_OK(hv_lapic_msr_write(v1, 0x80f, 1u << 12) == -EPERM, "reserved bits");
    TAP_OK(hv_lapic_msr_write(v1, 0x1b, 0xfee00800) == -EPERM, "no way back to xAPIC directly");
    TAP_OK(hv_lapic_msr_write(v1, 0x1b, 0xfee00000) == 0 &&
               hv_lapic_msr_write(v1, 0x1b, BASE_X2APIC) == -EPERM &&
               hv_lapic_msr_write(v1, 0x1b, 0xfee00800) == 0,
           "but through disabled");
    TAP_OK(hv_lapic_msr_write(v1, 0x1b, 0xfed00800) == -EPERM, "the page does not move");
    TAP_OK(hv_lapic_msr_read(v0, 0x1b, &value) == 0 && value == 0xfee00900, "vCPU 0 is the BSP");
}

static void test_bad_offsets(void)
{
    reset();
    TAP_OK(rd(0x21) == 0 && rd(0x10) == 0 && rd(0x3f0) == 0 && rd(0xff0) == 0,
           "holes in the page read 0");
    for (unsigned offset = 0; offset < HV_PAGE_SIZE; offset++)
        wr(offset, 0xffffffff);
    TAP_OK(true, "any write of any offset is survived");
}

int main(void)
{
    struct hv_loop *loop;

    TAP_OK(hv_loop_new(&loop) == 0 && (d = fake_domain_new(loop, 2)), "a domain of two vCPUs");
    if (!d)
        return tap_done();
    hv_time_settle(d);
    v0 = d->vcpus[0];
    v1 = d->vcpus[1];
    test_reset_state();
    test_priorities();
    test_ipis();
    test_timer();
    test_deadline_mode();
    test_x2apic();
    test_bad_offsets();
    hv_domain_free(d);
    hv_loop_free(loop);
    return tap_done();
}
