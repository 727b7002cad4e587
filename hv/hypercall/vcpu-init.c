/* VCPUOP_initialise: from the guest's description to processor state.
 * Source: xen/hvm/hvm_vcpu.h; checks of segments: Intel SDM volume 3, 26.3.1.2 (those that matter in protected
 * mode without virtual-8086).
 */
#include "config.h"

#include "hv/hypercall/vcpu-init.h"

#include "hv/x86/control.h"
#include "hv/x86/linear.h"

/* The bits of the ABI's attribute field: as in a descriptor, packed, which is this program's own form. */
#define AR_VALID 0xfffu

/* Flags that a processor has, without virtual-8086 mode: the engines have none. */
#define RFLAGS_VALID (0x3f7fd7u & ~HV_EFLAGS_VM)

static struct hv_segment segment(uint64_t base, uint32_t limit, uint16_t ar)
{
    return (struct hv_segment){.base = base, .limit = limit, .attr = ar & AR_VALID};
}

/* A segment with P clear is null; one that is there must be code or data, and of DPL 0 here. */
static bool usable(const struct hv_segment *s)
{
    if (!(s->attr & HV_SEG_P))
        return true;
    if (!(s->attr & HV_SEG_S) || HV_SEG_DPL(s->attr))
        return false;
    /* Granularity says in which unit the limit was meant; the limit field is in bytes. */
    return (s->attr & HV_SEG_G) ? (s->limit & 0xfff) == 0xfff : s->limit <= 0xfffff;
}

static bool is_code(const struct hv_segment *s)
{
    return (s->attr & HV_SEG_P) && (HV_SEG_TYPE(s->attr) & 8);
}

static void reset_common(struct hv_cpu *cpu)
{
    static const struct hv_segment no_ldt = {.attr = HV_SEG_P | 2, .limit = 0};

    cpu->ldtr = no_ldt;
    cpu->gdtr = cpu->idtr = (struct hv_table_register){0};
    cpu->seg[HV_FS] = cpu->seg[HV_GS] = (struct hv_segment){0};
    cpu->cr2 = 0;
    cpu->dr6 = HV_DR6_INIT;
    cpu->dr7 = HV_DR7_INIT;
    cpu->int_shadow = cpu->nmi_blocked = false;
    for (unsigned i = HV_R8; i < HV_NR_GPR; i++)
        cpu->gpr[i] = 0;
}

static void set_gprs(struct hv_cpu *cpu, uint64_t ax, uint64_t cx, uint64_t dx, uint64_t bx, uint64_t sp,
                     uint64_t bp, uint64_t si, uint64_t di)
{
    const uint64_t values[8] = {ax, cx, dx, bx, sp, bp, si, di}; /* in the order of enum hv_gpr */

    for (unsigned i = 0; i < 8; i++)
        cpu->gpr[i] = values[i];
}

/* LMA is not the caller's to choose. */
static uint64_t settle_efer(uint64_t efer, uint64_t cr0)
{
    bool long_mode = (efer & HV_EFER_LME) && (cr0 & HV_CR0_PG);

    return (efer & ~(uint64_t)HV_EFER_LMA) | (long_mode ? HV_EFER_LMA : 0);
}

static long init_32(struct hv_vcpu *v, const struct vcpu_hvm_x86_32 *r)
{
    struct hv_cpu *cpu = &v->cpu;
    uint64_t efer = settle_efer(r->efer, r->cr0);
    struct hv_segment cs = segment(r->cs_base, r->cs_limit, r->cs_ar);
    struct hv_segment ds = segment(r->ds_base, r->ds_limit, r->ds_ar);
    struct hv_segment ss = segment(r->ss_base, r->ss_limit, r->ss_ar);
    struct hv_segment es = segment(r->es_base, r->es_limit, r->es_ar);
    struct hv_segment tr = segment(r->tr_base, r->tr_limit, r->tr_ar);

    if (!usable(&cs) || !usable(&ds) || !usable(&ss) || !usable(&es))
        return -XEN_EINVAL;
    if (!(r->cr0 & HV_CR0_PE) || !is_code(&cs) || is_code(&ss) || !(ss.attr & HV_SEG_P))
        return -XEN_EINVAL;
    if (!(tr.attr & HV_SEG_P) || (tr.attr & HV_SEG_S) || (HV_SEG_TYPE(tr.attr) | 8) != 11)
        return -XEN_EINVAL;
    if ((cs.attr & HV_SEG_L) || r->eflags & ~(uint64_t)RFLAGS_VALID ||
        !hv_x86_control_valid(v, r->cr0, r->cr3, r->cr4, efer))
        return -XEN_EINVAL;

    reset_common(cpu);
    set_gprs(cpu, r->eax, r->ecx, r->edx, r->ebx, r->esp, r->ebp, r->esi, r->edi);
    cpu->rip = r->eip;
    cpu->rflags = r->eflags | HV_EFLAGS_FIXED;
    cpu->cr0 = r->cr0 | HV_CR0_ET;
    cpu->cr3 = r->cr3;
    cpu->cr4 = r->cr4;
    cpu->efer = efer;
    cpu->seg[HV_CS] = cs;
    cpu->seg[HV_DS] = ds;
    cpu->seg[HV_SS] = ss;
    cpu->seg[HV_ES] = es;
    cpu->tr = tr;
    cpu->tr.attr |= 2; /* a loaded task segment is busy */
    return 0;
}

static long init_64(struct hv_vcpu *v, const struct vcpu_hvm_x86_64 *r)
{
    struct hv_cpu *cpu = &v->cpu;
    uint64_t efer = settle_efer(r->efer, r->cr0);
    static const struct hv_segment code = {.attr = 0xa9b, .limit = 0xffffffff};
    static const struct hv_segment data = {.attr = 0xc93, .limit = 0xffffffff};
    static const struct hv_segment task = {.attr = 0x08b, .limit = 0x67};

    if (!(efer & HV_EFER_LMA) || !hv_x86_control_valid(v, r->cr0, r->cr3, r->cr4, efer))
        return -XEN_EINVAL;
    if (r->rflags & ~(uint64_t)RFLAGS_VALID || !hv_x86_canonical(r->rip))
        return -XEN_EINVAL;
    reset_common(cpu);
    set_gprs(cpu, r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi);
    cpu->rip = r->rip;
    cpu->rflags = r->rflags | HV_EFLAGS_FIXED;
    cpu->cr0 = r->cr0 | HV_CR0_ET;
    cpu->cr3 = r->cr3;
    cpu->cr4 = r->cr4;
    cpu->efer = efer;
    cpu->seg[HV_CS] = code;
    cpu->seg[HV_DS] = cpu->seg[HV_ES] = cpu->seg[HV_SS] = data;
    cpu->tr = task;
    return 0;
}

long hv_vcpu_init_context(struct hv_vcpu *v, const struct vcpu_hvm_context *context)
{
    const struct vcpu_hvm_x86_32 *narrow = &context->cpu_regs.x86_32;
    const struct vcpu_hvm_x86_64 *wide = &context->cpu_regs.x86_64;

    if (context->pad)
        return -XEN_EINVAL;
    switch (context->mode) {
    case VCPU_HVM_MODE_32B:
        return init_32(v, narrow);
    case VCPU_HVM_MODE_64B:
        return init_64(v, wide);
    default:
        return -XEN_EINVAL;
    }
}
