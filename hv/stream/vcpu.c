/* vCPUs in a stream: registers, MSRs, vector state, local APIC, timers, and what Xen adds.
 *
 * What is read must be a processor that a guest could have brought about: an engine relies on that for its own safety.
 */
#include "config.h"

#include "hv/stream/parts.h"

#include <errno.h>
#include <string.h>

#include "hv/hypercall/vcpu-xen.h"
#include "hv/machine/lapic.h"
#include "hv/machine/msr.h"
#include "hv/machine/time.h"
#include "hv/machine/vcpu.h"
#include "hv/x86/control.h"
#include "hv/x86/linear.h"
#include "hv/x86/xstate.h"

#define CPU(number, member) HV_FIELD(number, struct hv_cpu, member)

/* The TSC's offset is relative to this host: it goes as TSC at system time 0. */
static const struct hv_field cpu_fields[] = {
    CPU(1, gpr),
    CPU(2, rip),
    CPU(3, rflags),
    CPU(10, seg[HV_ES].selector), CPU(11, seg[HV_ES].attr), CPU(12, seg[HV_ES].limit), CPU(13, seg[HV_ES].base),
    CPU(14, seg[HV_CS].selector), CPU(15, seg[HV_CS].attr), CPU(16, seg[HV_CS].limit), CPU(17, seg[HV_CS].base),
    CPU(18, seg[HV_SS].selector), CPU(19, seg[HV_SS].attr), CPU(20, seg[HV_SS].limit), CPU(21, seg[HV_SS].base),
    CPU(22, seg[HV_DS].selector), CPU(23, seg[HV_DS].attr), CPU(24, seg[HV_DS].limit), CPU(25, seg[HV_DS].base),
    CPU(26, seg[HV_FS].selector), CPU(27, seg[HV_FS].attr), CPU(28, seg[HV_FS].limit), CPU(29, seg[HV_FS].base),
    CPU(30, seg[HV_GS].selector), CPU(31, seg[HV_GS].attr), CPU(32, seg[HV_GS].limit), CPU(33, seg[HV_GS].base),
    CPU(34, ldtr.selector), CPU(35, ldtr.attr), CPU(36, ldtr.limit), CPU(37, ldtr.base),
    CPU(38, tr.selector), CPU(39, tr.attr), CPU(40, tr.limit), CPU(41, tr.base),
    CPU(42, gdtr.base), CPU(43, gdtr.limit), CPU(44, idtr.base), CPU(45, idtr.limit),
    CPU(50, cr0), CPU(51, cr2), CPU(52, cr3), CPU(53, cr4), CPU(54, xcr0),
    CPU(55, dr), CPU(56, dr6), CPU(57, dr7),
    HV_FIELD_BOOL(80, struct hv_cpu, int_shadow),
    HV_FIELD_BOOL(81, struct hv_cpu, nmi_blocked),
};

/* A table has HV_FIELDS_MAX rows at most. */
static const struct hv_field msr_fields[] = {
    CPU(60, efer), CPU(61, star), CPU(62, lstar), CPU(63, cstar), CPU(64, sfmask), CPU(65, kernel_gs_base),
    CPU(66, sysenter_cs), CPU(67, sysenter_esp), CPU(68, sysenter_eip), CPU(69, pat), CPU(70, tsc_aux),
    CPU(71, misc_enable), CPU(72, xss), CPU(90, xsave),
};

void hv_stream_encode_vcpu(const struct hv_vcpu *v, struct hv_encoder *e)
{
    hv_encode_fields(e, cpu_fields, HV_ARRAY_LEN(cpu_fields), &v->cpu);
    hv_encode_fields(e, msr_fields, HV_ARRAY_LEN(msr_fields), &v->cpu);
    hv_encode_u64(e, hv_time_tsc_at_zero(v));
    hv_msrs_encode(v, e);
    hv_lapic_encode(v, e);
    hv_vcpu_run_encode(v, e);
    hv_vcpu_xen_encode(v, e);
}

/* ------------------------------------------------------------------ checks */

#define ATTR_VALID   0xfffu
#define RFLAGS_VALID (0x3f7fd7u & ~HV_EFLAGS_VM) /* engines have no virtual-8086 mode */
#define DR7_VALID    0xffffffffull

static bool segments_valid(const struct hv_cpu *cpu)
{
    for (unsigned i = 0; i < HV_NR_SEG; i++)
        if ((cpu->seg[i].attr & ~ATTR_VALID) || !hv_x86_canonical(cpu->seg[i].base))
            return false;
    return !(cpu->ldtr.attr & ~ATTR_VALID) && !(cpu->tr.attr & ~ATTR_VALID) && hv_x86_canonical(cpu->ldtr.base) &&
           hv_x86_canonical(cpu->tr.base) && hv_x86_canonical(cpu->gdtr.base) && hv_x86_canonical(cpu->idtr.base);
}

/* Long mode has 64-bit or compatibility code, and rings from the stack segment. */
static bool mode_valid(struct hv_vcpu *v)
{
    const struct hv_cpu *cpu = &v->cpu;

    if ((cpu->seg[HV_CS].attr & HV_SEG_L) && (cpu->seg[HV_CS].attr & HV_SEG_DB) && hv_cpu_long_mode(cpu))
        return false;
    if (hv_cpu_64bit(cpu) && !hv_x86_canonical(cpu->rip))
        return false;
    return hv_x86_control_valid(v, cpu->cr0, cpu->cr3, cpu->cr4, cpu->efer);
}

static bool xcr0_valid(struct hv_vcpu *v)
{
    struct hv_fault fault;

    return !hv_x86_write_xcr(v, 0, v->cpu.xcr0, &fault);
}

static const char *find_mistake(struct hv_vcpu *v)
{
    const struct hv_cpu *cpu = &v->cpu;

    if ((cpu->rflags & ~(uint64_t)RFLAGS_VALID) || !(cpu->rflags & HV_EFLAGS_FIXED))
        return "flags";
    if (!segments_valid(cpu))
        return "segments";
    if (!mode_valid(v))
        return "control registers";
    if (!xcr0_valid(v) || cpu->xss)
        return "extended state";
    if ((hv_fx_get32(cpu->xsave, HV_FX_MXCSR) & ~(uint32_t)HV_MXCSR_MASK))
        return "MXCSR";
    if (cpu->dr6 >> 32 || cpu->dr7 & ~DR7_VALID)
        return "debug registers";
    return NULL;
}

int hv_stream_decode_vcpu(struct hv_vcpu *v, struct hv_decoder *d)
{
    uint64_t tsc = 0;
    const char *mistake;
    int error = hv_decode_fields(d, cpu_fields, HV_ARRAY_LEN(cpu_fields), &v->cpu);

    if (!error)
        error = hv_decode_fields(d, msr_fields, HV_ARRAY_LEN(msr_fields), &v->cpu);
    if (!error)
        error = hv_decode_u64(d, &tsc);
    if (error)
        return error;
    hv_time_set_tsc_at_zero(v, tsc);
    mistake = find_mistake(v);
    if (mistake)
        return hv_decode_fail(d, "its %s cannot be so", mistake);
    error = hv_msrs_decode(v, d);
    if (!error)
        error = hv_lapic_decode(v, d);
    if (!error)
        error = hv_vcpu_run_decode(v, d);
    return error ? error : hv_vcpu_xen_decode(v, d);
}
