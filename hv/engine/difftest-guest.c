/* The engine's side: a vCPU in 64-bit mode whose kernel is a table of HLTs.
 *
 * Every interrupt gate leads to a HLT of its own in ring 0, so an exception goes the whole way
 * through the engine's delivery, and the harness reads the frame from the ring 0 stack. The exit
 * page holds INT3.
 */
#include "config.h"

#include "hv/engine/difftest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/domain.h"
#include "hv/engine/engine.h"
#include "hv/machine/cpuid.h"
#include "hv/x86/native.h"

/* Guest physical and linear addresses are the same. The kernel's pages: */
#define PML4     0x1000u
#define PDPT     0x2000u
#define PD       0x3000u
#define PT_LOW   0x4000u /* linear 0 to 2 MiB: the kernel */
#define PT_BOX   0x5000u /* linear DT_CODE and the 2 MiB around: the sandbox */
#define IDT      0x6000u
#define GDT      0x7000u
#define TSS      0x8000u
#define HANDLERS 0x9000u
#define RING0    0xb000u /* stack, growing down from here */
#define LOW_END  0xc000u

#define HANDLER_BYTES 16u
#define NR_VECTORS    32u

#define PTE_P  1u
#define PTE_W  2u
#define PTE_U  4u
#define PTE_AD 0x60u

struct dt_guest {
    struct hv_domain domain;
    struct hv_vcpu *vcpu;
    const struct hv_engine_ops *engine;
    uint8_t data[DT_DATA_PAGES * HV_PAGE_SIZE], stack[DT_STACK_PAGES * HV_PAGE_SIZE];
};

static uint8_t *at(struct dt_guest *g, uint64_t gpa)
{
    return g->domain.mem.base + gpa;
}

static void put_entry(struct dt_guest *g, uint64_t table, uint64_t index, uint64_t value)
{
    memcpy(at(g, table + 8 * index), &value, 8);
}

static void map(struct dt_guest *g, uint64_t table, uint64_t address, unsigned pages,
                uint64_t flags)
{
    for (unsigned i = 0; i < pages; i++, address += HV_PAGE_SIZE)
        put_entry(g, table, (address >> 12) & 511, address | flags | PTE_P | PTE_AD);
}

static void make_page_tables(struct dt_guest *g)
{
    const uint64_t table = PTE_P | PTE_W | PTE_U;

    put_entry(g, PML4, 0, PDPT | table);
    put_entry(g, PDPT, 0, PD | table);
    put_entry(g, PD, 0, PT_LOW | table);
    put_entry(g, PD, DT_CODE >> 21, PT_BOX | table);
    map(g, PT_LOW, 0x1000, LOW_END / HV_PAGE_SIZE - 1, PTE_W);
    map(g, PT_BOX, DT_CODE, DT_BATCH, PTE_W | PTE_U);
    map(g, PT_BOX, DT_EXIT, 1, PTE_W | PTE_U);
    map(g, PT_BOX, DT_DATA, DT_DATA_RW_PAGES, PTE_W | PTE_U);
    map(g, PT_BOX, DT_DATA + DT_DATA_RW_PAGES * HV_PAGE_SIZE, DT_DATA_PAGES - DT_DATA_RW_PAGES,
        PTE_U);
    map(g, PT_BOX, DT_STACK, DT_STACK_PAGES, PTE_W | PTE_U);
}

/* Descriptors: code and data of ring 0 at 0x10 and 0x18; of ring 3, 32-bit code at 0x20, data at
 * 0x28 and 64-bit code at 0x30; the TSS at 0x40. */
static void make_tables(struct dt_guest *g)
{
    put_entry(g, GDT, 2, 0x00af9b000000ffff);
    put_entry(g, GDT, 3, 0x00cf93000000ffff);
    put_entry(g, GDT, 4, 0x00cffb000000ffff);
    put_entry(g, GDT, 5, 0x00cff3000000ffff);
    put_entry(g, GDT, 6, 0x00affb000000ffff);
    put_entry(g, GDT, 8, 0x00008b0000000067 | (uint64_t)TSS << 16);
    put_entry(g, GDT, 9, 0);
    hv_fx_put64(at(g, TSS), 4, RING0);          /* RSP0 */
    hv_fx_put16(at(g, TSS), 102, 104);          /* no I/O permission map */
    *at(g, DT_EXIT) = *at(g, DT_EXIT32) = 0xcc; /* int3 */
    for (uint64_t v = 0; v < NR_VECTORS; v++) {
        uint64_t handler = HANDLERS + v * HANDLER_BYTES;
        uint64_t dpl = v == HV_VEC_BP ? 3 : 0;

        put_entry(g, IDT, 2 * v, handler | 0x10ull << 16 | (0x8e00ull | dpl << 13) << 32);
        put_entry(g, IDT, 2 * v + 1, 0);
        *at(g, handler) = 0xf4; /* hlt */
    }
}

static int populate(struct dt_guest *g, uint64_t address, unsigned pages)
{
    return hv_memory_populate(&g->domain.mem, hv_gfn_of(address >> HV_PAGE_SHIFT), pages);
}

static int make_memory(struct dt_guest *g)
{
    int ret = hv_memory_init(&g->domain.mem);

    if (ret < 0)
        return ret;
    g->domain.mem.max_pages = 1024;
    if ((ret = populate(g, 0, LOW_END / HV_PAGE_SIZE)) < 0 ||
        (ret = populate(g, DT_CODE, DT_BATCH)) < 0 || (ret = populate(g, DT_EXIT, 1)) < 0 ||
        (ret = populate(g, DT_DATA, DT_DATA_PAGES)) < 0 ||
        (ret = populate(g, DT_STACK, DT_STACK_PAGES)) < 0)
        return ret;
    make_page_tables(g);
    make_tables(g);
    dt_fill_memory(g->data, g->stack);
    memcpy(at(g, DT_DATA), g->data, sizeof(g->data));
    return 0;
}

static struct hv_segment segment(uint16_t selector, unsigned attr, uint64_t base)
{
    return (struct hv_segment){
        .selector = selector, .attr = (uint16_t)attr, .limit = 0xffffffff, .base = base};
}

/* Ring 3 of a 64-bit kernel, with everything on that such a kernel turns on for user programs. */
static void reset_cpu(struct hv_cpu *cpu, bool code32)
{
    const unsigned user = HV_SEG_S | 3 << 5 | HV_SEG_P | HV_SEG_G;

    memset(cpu, 0, sizeof(*cpu));
    cpu->cr0 = HV_CR0_PE | HV_CR0_MP | HV_CR0_ET | HV_CR0_NE | HV_CR0_WP | HV_CR0_AM | HV_CR0_PG;
    cpu->cr3 = PML4;
    cpu->cr4 = HV_CR4_PAE | HV_CR4_PGE | HV_CR4_OSFXSR | HV_CR4_OSXMMEXCPT | HV_CR4_OSXSAVE;
    cpu->efer = HV_EFER_SCE | HV_EFER_LME | HV_EFER_LMA | HV_EFER_NXE;
    cpu->xcr0 = hv_xstate_supported();
    cpu->dr6 = HV_DR6_INIT;
    cpu->dr7 = HV_DR7_INIT;
    cpu->seg[HV_CS] = code32 ? segment(DT_USER_CS32, 0xb | user | HV_SEG_DB, 0)
                             : segment(DT_USER_CS, 0xb | user | HV_SEG_L, 0);
    cpu->seg[HV_SS] = cpu->seg[HV_DS] = cpu->seg[HV_ES] =
        segment(DT_USER_SS, 3 | user | HV_SEG_DB, 0);
    cpu->seg[HV_GS].base = DT_GS;
    cpu->tr = segment(0x40, 0xb | HV_SEG_P, TSS);
    cpu->tr.limit = 0x67;
    cpu->gdtr = (struct hv_table_register){.base = GDT, .limit = 0x4f};
    cpu->idtr = (struct hv_table_register){.base = IDT, .limit = NR_VECTORS * 16 - 1};
    hv_xstate_reset(cpu);
}

int dt_guest_new(const char *engine, struct dt_guest **out)
{
    struct dt_guest *g = calloc(1, sizeof(*g));
    size_t vcpu_bytes = (sizeof(struct hv_vcpu) + 63) & ~(size_t)63;
    int ret;

    if (!g)
        return -ENOMEM;
    pthread_mutex_init(&g->domain.lock, NULL);
    g->domain.mem.shared_fd = -1;
    g->vcpu = aligned_alloc(64, vcpu_bytes);
    g->engine = hv_engine_find(engine);
    ret = !g->vcpu ? -ENOMEM : !g->engine ? -ENOENT : hv_cpuid_init(&g->domain);
    if (ret == 0)
        ret = make_memory(g);
    if (ret < 0) {
        dt_guest_free(g);
        return ret;
    }
    memset(g->vcpu, 0, vcpu_bytes);
    g->vcpu->domain = &g->domain;
    g->domain.kind = HV_DOMAIN_PVH;
    g->domain.nr_vcpus = 1;
    g->domain.vcpus[0] = g->vcpu;
    g->domain.engine = g->engine;
    reset_cpu(&g->vcpu->cpu, false);
    ret = g->engine->vcpu_init(g->vcpu);
    if (ret < 0) {
        g->engine = NULL;
        dt_guest_free(g);
        return ret;
    }
    *out = g;
    return 0;
}

void dt_guest_free(struct dt_guest *g)
{
    if (!g)
        return;
    if (g->engine && g->vcpu && g->vcpu->engine_state)
        g->engine->vcpu_fini(g->vcpu);
    hv_memory_fini(&g->domain.mem);
    hv_cpuid_fini(&g->domain);
    pthread_mutex_destroy(&g->domain.lock);
    free(g->vcpu);
    free(g);
}

void dt_guest_flush(struct dt_guest *g)
{
    g->engine->flush(g->vcpu);
}

static bool has_error_code(unsigned vector)
{
    return vector == HV_VEC_DF || (vector >= HV_VEC_TS && vector <= HV_VEC_PF) ||
           vector == HV_VEC_AC;
}

/* From the frame that the handler found. */
static void take_result(struct dt_guest *g, const struct dt_test *test, struct dt_result *result)
{
    const uint64_t exit_address = test->code32 ? DT_EXIT32 : DT_EXIT;
    const struct hv_cpu *cpu = &g->vcpu->cpu;
    struct dt_regs *regs = &result->regs;
    uint64_t frame[6], *iret = frame;

    regs->vector = (uint32_t)((cpu->rip - HANDLERS) / HANDLER_BYTES);
    memcpy(frame, at(g, RING0 - sizeof(frame)),
           sizeof(frame)); /* [error code] RIP CS RFLAGS RSP SS */
    if (has_error_code(regs->vector))
        regs->error_code = (uint32_t)frame[0];
    iret++;
    memcpy(regs->gpr, cpu->gpr, sizeof(regs->gpr));
    regs->rip = iret[0];
    regs->rflags = iret[2];
    regs->gpr[HV_RSP] = iret[3];
    regs->cr2 = regs->vector == HV_VEC_PF ? cpu->cr2 : 0;
    if (regs->vector == HV_VEC_BP && regs->rip == exit_address + 1) {
        regs->vector = DT_VECTOR_NONE;
        regs->rip = DT_EXIT;
    }
    if (iret[1] != (test->code32 ? DT_USER_CS32 : DT_USER_CS) || iret[4] != DT_USER_SS) {
        result->failed = true;
        snprintf(result->error, sizeof(result->error), "frame has CS %#lx, SS %#lx",
                 (unsigned long)iret[1], (unsigned long)iret[4]);
    }
}

static const char *const run_names[] = {
    [HV_RUN_ATTENTION] = "attention",
    [HV_RUN_IRQ_WINDOW] = "irq window",
    [HV_RUN_HLT] = "halt",
    [HV_RUN_TRIPLE_FAULT] = "triple fault",
    [HV_RUN_UNSUPPORTED] = "unsupported",
};

void dt_guest_run(struct dt_guest *g, const struct dt_test *test, struct dt_result *result)
{
    struct hv_cpu *cpu = &g->vcpu->cpu;
    enum hv_run why;

    memset(&result->regs, 0, sizeof(result->regs));
    result->failed = false;
    memcpy(at(g, DT_DATA), g->data, sizeof(result->memory.data));
    memcpy(at(g, DT_STACK), g->stack, sizeof(result->memory.stack));
    memcpy(at(g, test->code_address), test->code, test->code_bytes);
    reset_cpu(cpu, test->code32);
    memcpy(cpu->gpr, test->start.gpr, sizeof(cpu->gpr));
    memcpy(cpu->xsave, test->start.fx, HV_FX_BYTES);
    memcpy(cpu->xsave + HV_XS_YMM_HIGH(0), test->start.ymm_high, sizeof(test->start.ymm_high));
    cpu->rip = test->code_address;
    cpu->rflags = test->start.rflags;
    why = g->engine->run(g->vcpu);
    if (why == HV_RUN_HLT) {
        take_result(g, test, result);
    } else {
        result->failed = true;
        snprintf(result->error, sizeof(result->error), "%s: %.120s", run_names[why],
                 g->vcpu->error);
    }
    memcpy(result->regs.fx, cpu->xsave, HV_FX_USED_BYTES);
    memcpy(result->regs.ymm_high, cpu->xsave + HV_XS_YMM_HIGH(0), sizeof(result->regs.ymm_high));
    memcpy(result->memory.data, at(g, DT_DATA), sizeof(result->memory.data));
    memcpy(result->memory.stack, at(g, DT_STACK), sizeof(result->memory.stack));
}
