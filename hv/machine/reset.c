/* The state of a processor after power-up and INIT, and how it looks in the log.
 * Source: Intel SDM volume 3, table 9-1 "IA-32 and Intel 64 Processor States Following Power-up,
 * Reset, or INIT".
 */
#include "config.h"

#include "hv/machine/vcpu.h"

#include <inttypes.h>
#include <string.h>

#include "hv/log.h"
#include "hv/machine/lapic.h"
#include "hv/machine/machine.h"
#include "hv/machine/msr.h"
#include "hv/machine/time.h"
#include "hv/x86/native.h"

#define PAT_RESET 0x0007040600070406ull

/* Fast strings on; no branch trace store, no precise event sampling. */
#define MISC_ENABLE_RESET 0x1801ull

#define ATTR_CODE 0x9bu /* present, execute/read, accessed */
#define ATTR_DATA 0x93u /* present, read/write, accessed */
#define ATTR_LDT  0x82u
#define ATTR_TSS  0x8bu /* busy */

static void reset_segments(struct hv_cpu *cpu)
{
    for (unsigned i = 0; i < HV_NR_SEG; i++)
        cpu->seg[i] = (struct hv_segment){.attr = ATTR_DATA, .limit = 0xffff};
    cpu->seg[HV_CS] = (struct hv_segment){
        .selector = 0xf000, .attr = ATTR_CODE, .limit = 0xffff, .base = 0xffff0000};
    cpu->ldtr = (struct hv_segment){.attr = ATTR_LDT, .limit = 0xffff};
    cpu->tr = (struct hv_segment){.attr = ATTR_TSS, .limit = 0xffff};
    cpu->gdtr = (struct hv_table_register){.limit = 0xffff};
    cpu->idtr = (struct hv_table_register){.limit = 0xffff};
}

/* What INIT leaves alone. */
static void reset_kept(struct hv_vcpu *v)
{
    struct hv_cpu *cpu = &v->cpu;

    memset(cpu, 0, sizeof(*cpu));
    cpu->xcr0 = 1;
    cpu->pat = PAT_RESET;
    cpu->misc_enable = MISC_ENABLE_RESET;
    cpu->tsc_offset = hv_time_initial_tsc_offset(v->domain);
    hv_xstate_reset(cpu);
    hv_msrs_reset(v);
}

void hv_vcpu_reset_state(struct hv_vcpu *v, bool init)
{
    struct hv_cpu *cpu = &v->cpu;
    uint32_t caching = cpu->cr0 & (HV_CR0_CD | HV_CR0_NW);
    uint32_t leaf1[4];

    if (!init) {
        reset_kept(v);
        caching = HV_CR0_CD | HV_CR0_NW;
    }
    memset(cpu->gpr, 0, sizeof(cpu->gpr));
    reset_segments(cpu);
    cpu->rip = 0xfff0;
    cpu->rflags = HV_EFLAGS_FIXED;
    cpu->cr0 = HV_CR0_ET | caching;
    cpu->cr2 = cpu->cr3 = cpu->cr4 = 0;
    cpu->efer = 0;
    memset(cpu->dr, 0, sizeof(cpu->dr));
    cpu->dr6 = HV_DR6_INIT;
    cpu->dr7 = HV_DR7_INIT;
    cpu->int_shadow = cpu->nmi_blocked = false;
    v->irq_window = false;
    hv_cpuid(v, 1, 0, leaf1);
    cpu->gpr[HV_RDX] = leaf1[0];
    hv_lapic_reset(v);
}

static void dump_segment(const struct hv_vcpu *v, const char *name, const struct hv_segment *s)
{
    hv_log_guest(v->domain, HV_LOG_ERROR,
                 "v%u: %-4s %04x attr %04x limit %08" PRIx32 " base %016" PRIx64, v->id, name,
                 s->selector, s->attr, s->limit, s->base);
}

void hv_vcpu_dump(const struct hv_vcpu *v)
{
    static const char *const gpr[HV_NR_GPR] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp",
                                               "rsi", "rdi", "r8",  "r9",  "r10", "r11",
                                               "r12", "r13", "r14", "r15"};
    const struct hv_cpu *cpu = &v->cpu;
    struct hv_domain *d = v->domain;

    for (unsigned i = 0; i < HV_NR_GPR; i += 4)
        hv_log_guest(d, HV_LOG_ERROR,
                     "v%u: %-3s %016" PRIx64 " %-3s %016" PRIx64 " %-3s %016" PRIx64
                     " %-3s %016" PRIx64,
                     v->id, gpr[i], cpu->gpr[i], gpr[i + 1], cpu->gpr[i + 1], gpr[i + 2],
                     cpu->gpr[i + 2], gpr[i + 3], cpu->gpr[i + 3]);
    hv_log_guest(d, HV_LOG_ERROR, "v%u: rip %016" PRIx64 " rflags %08" PRIx64 " efer %" PRIx64,
                 v->id, cpu->rip, cpu->rflags, cpu->efer);
    hv_log_guest(d, HV_LOG_ERROR,
                 "v%u: cr0 %08" PRIx64 " cr2 %016" PRIx64 " cr3 %016" PRIx64 " cr4 %08" PRIx64,
                 v->id, cpu->cr0, cpu->cr2, cpu->cr3, cpu->cr4);
    dump_segment(v, "cs", &cpu->seg[HV_CS]);
    dump_segment(v, "ss", &cpu->seg[HV_SS]);
    dump_segment(v, "gs", &cpu->seg[HV_GS]);
    dump_segment(v, "tr", &cpu->tr);
}
