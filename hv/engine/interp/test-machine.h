/* A processor and 16 MiB of memory for tests of the engine, with stand-ins for the machine around
 * it (the functions of hv/machine/machine.h): one CPUID policy with everything, two ports, one
 * device page.
 *
 * Memory: page tables at 0x1000 (identity map of the first GiB by 2 MiB pages, and one table of 4
 * KiB pages for TEST_VA), GDT at 0x5000, IDT at 0x6000, TSS at 0x7000, handlers at 0x8000 (a HLT
 * for each vector, so that a run ends there), code at 0x10000, stacks below 0x20000.
 */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "hv/domain.h"
#include "hv/engine/engine.h"
#include "hv/machine/cpuid.h"
#include "hv/machine/machine.h"
#include "hv/x86/native.h"

#ifndef TEST_ENGINE /* the translator has the same tests */
#define TEST_ENGINE hv_engine_interp
#endif

#define TEST_RAM      (16u << 20)
#define TEST_PML4     0x1000u
#define TEST_PT       0x4000u /* of TEST_VA */
#define TEST_GDT      0x5000u
#define TEST_IDT      0x6000u
#define TEST_TSS      0x7000u
#define TEST_HANDLERS 0x8000u
#define TEST_CODE     0x10000u
#define TEST_STACK    0x1f000u
#define TEST_RSP0     0x1d000u
#define TEST_IST1     0x1b000u
#define TEST_VA       0x40000000u /* 512 pages of 4 KiB, none present at first */
#define TEST_DEVICE   0xd0000000u

#define TEST_CODE64      0x08
#define TEST_DATA        0x10
#define TEST_USER_CODE32 0x18
#define TEST_USER_DATA   0x20
#define TEST_USER_CODE64 0x28
#define TEST_TSS_SEL     0x30
#define TEST_CODE32      0x40

struct test_machine {
    struct hv_domain domain;
    struct hv_vcpu *v;
    struct hv_cpu *cpu;
    uint8_t *ram;
    uint64_t hypercalls, device_value, msr;
    uint32_t port_value;
    enum hv_cpu_vendor vendor;
};

static struct test_machine *the_machine; /* what the stand-ins work on */

/* Guest code, assembled with the test. @mode is ".code64", ".code32" or ".code16". */
#define TEST_ASM(name, mode, text)                                                                 \
    extern const uint8_t name[], name##_end[];                                                     \
    __asm__(".pushsection .rodata\n" #name ":\n\t" mode "\n\t" text "\n" #name                     \
            "_end:\n\t.byte 0\n\t.code64\n.popsection\n")

/* ---- the machine around the processor */

void hv_cpuid(struct hv_vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    (void)v;
    (void)subleaf;
    memset(out, 0xff, 16);
    if (leaf == 0xd) {
        out[0] = 3;
        out[3] = 0;
    }
}

enum hv_cpu_vendor hv_cpuid_vendor(const struct hv_domain *d)
{
    (void)d;
    return the_machine->vendor;
}

int hv_msr_read(struct hv_vcpu *v, uint32_t msr, uint64_t *value)
{
    *value = msr == 0xc0000080 ? v->cpu.efer : the_machine->msr;
    return msr == 0xbad ? -1 : 0;
}

int hv_msr_write(struct hv_vcpu *v, uint32_t msr, uint64_t value)
{
    if (msr == 0xbad)
        return -1;
    if (msr == 0xc0000080)
        v->cpu.efer = (value & ~(uint64_t)HV_EFER_LMA) | (v->cpu.efer & HV_EFER_LMA);
    else
        the_machine->msr = value;
    return 0;
}

uint64_t hv_tsc_read(struct hv_vcpu *v)
{
    (void)v;
    return 0x123456789ull;
}

uint64_t hv_lapic_get_cr8(struct hv_vcpu *v)
{
    (void)v;
    return 5;
}

void hv_lapic_set_cr8(struct hv_vcpu *v, uint64_t value)
{
    (void)v;
    (void)value;
}

uint32_t hv_pio_read(struct hv_vcpu *v, uint16_t port, unsigned bytes)
{
    (void)v;
    (void)bytes;
    return port == 0x60 ? the_machine->port_value : ~0u;
}

void hv_pio_write(struct hv_vcpu *v, uint16_t port, unsigned bytes, uint32_t value)
{
    (void)v;
    (void)bytes;
    if (port == 0x60)
        the_machine->port_value = value;
}

uint64_t hv_mmio_read(struct hv_vcpu *v, hv_gpa gpa, unsigned bytes)
{
    (void)v;
    (void)bytes;
    return gpa.v == TEST_DEVICE ? the_machine->device_value : ~0ull;
}

void hv_mmio_write(struct hv_vcpu *v, hv_gpa gpa, unsigned bytes, uint64_t value)
{
    (void)v;
    (void)bytes;
    if (gpa.v == TEST_DEVICE)
        the_machine->device_value = value;
}

void hv_hypercall(struct hv_vcpu *v)
{
    the_machine->hypercalls++;
    v->cpu.gpr[HV_RAX] = 0x600d;
}

/* ---- building */

static void test_put64(struct test_machine *m, uint64_t gpa, uint64_t value)
{
    memcpy(m->ram + gpa, &value, 8);
}

static uint64_t test_get64(const struct test_machine *m, uint64_t gpa)
{
    uint64_t value;

    memcpy(&value, m->ram + gpa, 8);
    return value;
}

/* Maps page @index of TEST_VA to @gpa with PTE @bits. */
static void test_map(struct test_machine *m, unsigned index, uint64_t gpa, uint64_t bits)
{
    test_put64(m, TEST_PT + index * 8, gpa | bits);
}

static void test_tables(struct test_machine *m)
{
    test_put64(m, TEST_PML4, 0x2000 | 7);
    test_put64(m, 0x2000, 0x3000 | 7);
    test_put64(m, 0x2008, 0x9000 | 7);  /* the second GiB: one directory, */
    test_put64(m, 0x9000, TEST_PT | 7); /* whose first entry is TEST_VA's table */
    test_put64(m, 0x2018, 0xa000 | 7);
    test_put64(m, 0xa000 + ((TEST_DEVICE >> 21) & 511) * 8, TEST_DEVICE | 0x83);
    for (unsigned i = 0; i < 512; i++)
        test_put64(m, 0x3000 + i * 8, (uint64_t)i << 21 | 0x83);
}

static void test_descriptors(struct test_machine *m)
{
    static const uint64_t gdt[] = {
        0,
        0x00af9b000000ffff, /* TEST_CODE64 */
        0x00cf93000000ffff, /* TEST_DATA */
        0x00cffb000000ffff, /* TEST_USER_CODE32 */
        0x00cff3000000ffff, /* TEST_USER_DATA */
        0x00affb000000ffff, /* TEST_USER_CODE64 */
        0x0000890070000067, /* TEST_TSS_SEL */
        0,
        0x00cf9b000000ffff, /* TEST_CODE32 */
    };

    memcpy(m->ram + TEST_GDT, gdt, sizeof(gdt));
    test_put64(m, TEST_TSS + 4, TEST_RSP0);
    test_put64(m, TEST_TSS + 36, TEST_IST1);
    memset(m->ram + TEST_HANDLERS, 0xf4, 1024); /* HLT */
}

/* Gate @vector: @type 14 or 15, @dpl, @ist. */
static void test_gate(struct test_machine *m, unsigned vector, unsigned type, unsigned dpl,
                      unsigned ist)
{
    uint64_t to = TEST_HANDLERS + vector * 4;

    test_put64(m, TEST_IDT + vector * 16,
               (to & 0xffff) | TEST_CODE64 << 16 | (uint64_t)ist << 32 |
                   (uint64_t)(0x80 | dpl << 5 | type) << 40 | (to >> 16) << 48);
    test_put64(m, TEST_IDT + vector * 16 + 8, 0);
}

static void test_gate_32(struct test_machine *m, unsigned vector)
{
    test_put64(m, TEST_IDT + vector * 8,
               (TEST_HANDLERS + vector * 4) | (uint64_t)TEST_CODE32 << 16 | 0x8eull << 40);
}

static struct hv_segment test_segment(uint16_t selector, uint16_t attr)
{
    return (struct hv_segment){.selector = selector, .attr = attr, .limit = 0xffffffff};
}

/* A processor in 64-bit mode at CPL 0, at TEST_CODE. */
static void test_reset(struct test_machine *m)
{
    struct hv_cpu *cpu = m->cpu;

    memset(m->ram, 0, TEST_RAM);
    memset(cpu, 0, sizeof(*cpu));
    test_tables(m);
    test_descriptors(m);
    for (unsigned i = 0; i < 48; i++)
        test_gate(m, i, 14, 0, 0);
    cpu->cr0 = HV_CR0_PE | HV_CR0_PG | HV_CR0_WP | HV_CR0_NE | HV_CR0_ET;
    cpu->cr3 = TEST_PML4;
    cpu->cr4 = HV_CR4_PAE | HV_CR4_PGE | HV_CR4_OSFXSR | HV_CR4_FSGSBASE;
    cpu->efer = HV_EFER_SCE | HV_EFER_LME | HV_EFER_LMA | HV_EFER_NXE;
    cpu->xcr0 = 1;
    cpu->rflags = HV_EFLAGS_FIXED;
    cpu->rip = TEST_CODE;
    cpu->gpr[HV_RSP] = TEST_STACK;
    cpu->seg[HV_CS] = test_segment(TEST_CODE64, 0xa9b);
    cpu->seg[HV_SS] = cpu->seg[HV_DS] = cpu->seg[HV_ES] = test_segment(TEST_DATA, 0xc93);
    cpu->gdtr = (struct hv_table_register){.base = TEST_GDT, .limit = 0x47};
    cpu->idtr = (struct hv_table_register){.base = TEST_IDT, .limit = 0xfff};
    cpu->tr = (struct hv_segment){
        .selector = TEST_TSS_SEL, .attr = 0x8b, .limit = 0x67, .base = TEST_TSS};
    cpu->star = (uint64_t)(TEST_USER_CODE32 | 3) << 48 | (uint64_t)TEST_CODE64 << 32;
    hv_xstate_reset(cpu);
    m->v->domain->engine->flush(m->v);
}

/* 32-bit protected mode without paging, as the PVH entry has it. */
__attribute__((unused)) static void test_reset_32(struct test_machine *m)
{
    struct hv_cpu *cpu = m->cpu;

    test_reset(m);
    cpu->cr0 = HV_CR0_PE | HV_CR0_ET | HV_CR0_NE;
    cpu->cr4 = 0;
    cpu->efer = 0;
    cpu->seg[HV_CS] = test_segment(TEST_CODE32, 0xc9b);
    for (unsigned i = 0; i < 32; i++)
        test_gate_32(m, i);
}

/* User mode, 64-bit. The guest has only the pages of TEST_VA there: page 0 is the code, page 1 the
 * stack. */
__attribute__((unused)) static void test_reset_user(struct test_machine *m)
{
    struct hv_cpu *cpu = m->cpu;

    test_reset(m);
    test_map(m, 0, TEST_CODE, 7);
    test_map(m, 1, 0x30000, 7);
    cpu->rip = TEST_VA;
    cpu->gpr[HV_RSP] = TEST_VA + 0x2000;
    cpu->seg[HV_CS] = test_segment(TEST_USER_CODE64 | 3, 0xafb);
    cpu->seg[HV_SS] = test_segment(TEST_USER_DATA | 3, 0xcf3);
}

static bool test_new(struct test_machine *m)
{
    memset(m, 0, sizeof(*m));
    the_machine = m;
    m->domain.engine = &TEST_ENGINE;
    if (hv_memory_init(&m->domain.mem))
        return false;
    m->domain.mem.max_pages = TEST_RAM >> HV_PAGE_SHIFT;
    if (hv_memory_populate(&m->domain.mem, hv_gfn_of(0), TEST_RAM >> HV_PAGE_SHIFT))
        return false;
    m->ram = m->domain.mem.base;
    m->v = aligned_alloc(64, (sizeof(*m->v) + 63) & ~(size_t)63);
    if (!m->v)
        return false;
    memset(m->v, 0, sizeof(*m->v));
    m->v->domain = &m->domain;
    m->cpu = &m->v->cpu;
    m->domain.vcpus[m->domain.nr_vcpus++] = m->v;
    return TEST_ENGINE.vcpu_init(m->v) == 0;
}

static void test_free(struct test_machine *m)
{
    TEST_ENGINE.vcpu_fini(m->v);
    free(m->v);
    hv_memory_fini(&m->domain.mem);
}

static void test_load(struct test_machine *m, uint64_t gpa, const uint8_t *from, const uint8_t *to)
{
    memcpy(m->ram + gpa, from, (size_t)(to - from));
}

/* Runs to the next HLT. The vector whose handler that was, or -1 for the program's own, -2 if it
 * ended otherwise. */
static int test_run(struct test_machine *m)
{
    if (TEST_ENGINE.run(m->v) != HV_RUN_HLT)
        return -2;
    if (m->cpu->rip > TEST_HANDLERS && m->cpu->rip < TEST_HANDLERS + 1024)
        return (int)((m->cpu->rip - 1 - TEST_HANDLERS) / 4);
    return -1;
}

#define TEST_LOAD(m, name) test_load(m, TEST_CODE, name, name##_end)
