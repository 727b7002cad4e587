/* For unit tests: a domain with an engine that only halts, and a guest kernel's view of it: page tables that map
 * the first 8 MiB one to one, hypercalls through the registers.
 */
#pragma once

#include <string.h>

#include "hv/engine/engine.h"
#include "hv/hypercall/hypercall.h"
#include "hv/loop.h"
#include "hv/machine/machine.h"
#include "hv/machine/vcpu.h"

#define TEST_PAGES   2048u
#define TEST_PML4    0x1000u
#define TEST_PDPT    0x2000u
#define TEST_PD      0x3000u
#define TEST_ARG     0x10000u /* where argument structures are put */
#define TEST_SCRATCH 0x20000u

static int test_vcpu_init(struct hv_vcpu *v)
{
    v->engine_state = v;
    return 0;
}

static void test_vcpu_fini(struct hv_vcpu *v)
{
    v->engine_state = NULL;
}

static enum hv_run test_run(struct hv_vcpu *v)
{
    v->cpu.rflags |= HV_EFLAGS_IF; /* without, the domain would power off */
    return HV_RUN_HLT;
}

static void test_inject(struct hv_vcpu *v, uint8_t vector)
{
    (void)v, (void)vector;
}

static void test_flush(struct hv_vcpu *v)
{
    (void)v;
}

static const struct hv_engine_ops test_engine = {
    .name = "none",
    .vcpu_init = test_vcpu_init,
    .vcpu_fini = test_vcpu_fini,
    .run = test_run,
    .inject = test_inject,
    .flush = test_flush,
};

__attribute__((unused)) static void *test_at(struct hv_domain *d, uint64_t gpa)
{
    return d->mem.base + gpa;
}

/* A 64-bit kernel at privilege level 0. */
__attribute__((unused)) static void test_long_mode(struct hv_vcpu *v)
{
    v->cpu.cr0 = HV_CR0_PE | HV_CR0_PG | HV_CR0_WP;
    v->cpu.cr3 = TEST_PML4;
    v->cpu.cr4 = HV_CR4_PAE;
    v->cpu.efer = HV_EFER_LME | HV_EFER_LMA | HV_EFER_NXE;
    v->cpu.rflags = HV_EFLAGS_FIXED;
    v->cpu.seg[HV_CS].attr = 0xa9b;
    v->cpu.seg[HV_SS].attr = 0xc93;
}

__attribute__((unused)) static void test_page_tables(struct hv_domain *d)
{
    uint64_t *pml4 = test_at(d, TEST_PML4), *pdpt = test_at(d, TEST_PDPT), *pd = test_at(d, TEST_PD);

    pml4[0] = TEST_PDPT | 3; /* present, writable */
    pdpt[0] = TEST_PD | 3;
    for (unsigned i = 0; i < TEST_PAGES / 512; i++)
        pd[i] = (uint64_t)i << 21 | 0x83; /* 2 MiB page */
}

/* NULL when the machine cannot give it. */
__attribute__((unused)) static struct hv_domain *test_domain_new(struct hv_loop *loop, unsigned vcpus)
{
    struct hv_domain *d;

    if (hv_domain_new(&test_engine, loop, &d))
        return NULL;
    d->domid = 7;
    d->mem.max_pages = TEST_PAGES + 256;
    if (hv_memory_populate(&d->mem, hv_gfn_of(0), TEST_PAGES))
        return NULL;
    test_page_tables(d);
    for (unsigned i = 0; i < vcpus; i++) {
        if (hv_vcpu_new(d, NULL))
            return NULL;
        test_long_mode(d->vcpus[i]);
    }
    return d;
}

/* A hypercall from the guest's kernel. */
__attribute__((unused)) static long test_hypercall(struct hv_vcpu *v, uint64_t number, uint64_t a, uint64_t b,
                                                   uint64_t c)
{
    v->cpu.gpr[HV_RAX] = number;
    v->cpu.gpr[HV_RDI] = a;
    v->cpu.gpr[HV_RSI] = b;
    v->cpu.gpr[HV_RDX] = c;
    hv_hypercall(v);
    return (long)v->cpu.gpr[HV_RAX];
}

/* The same with operation @op on a structure, in and out. */
__attribute__((unused)) static long test_op(struct hv_vcpu *v, uint64_t number, uint64_t op, void *arg,
                                            size_t bytes)
{
    long result;

    memcpy(test_at(v->domain, TEST_ARG), arg, bytes);
    result = test_hypercall(v, number, op, TEST_ARG, 1);
    memcpy(arg, test_at(v->domain, TEST_ARG), bytes);
    return result;
}
