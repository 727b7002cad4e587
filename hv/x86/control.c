/* Control and debug registers, SYSCALL and SYSENTER. */
#include "config.h"

#include "hv/x86/control.h"

#include "hv/domain.h"
#include "hv/machine/cpuid.h"
#include "hv/machine/machine.h"
#include "hv/x86/linear.h"
#include "hv/x86/segment.h"

#define CR0_KNOWN                                                                                  \
    (HV_CR0_PE | HV_CR0_MP | HV_CR0_EM | HV_CR0_TS | HV_CR0_ET | HV_CR0_NE | HV_CR0_WP |           \
     HV_CR0_AM | HV_CR0_NW | HV_CR0_CD | HV_CR0_PG)
#define CR4_ALWAYS                                                                                 \
    (HV_CR4_TSD | HV_CR4_DE | HV_CR4_PSE | HV_CR4_PAE | HV_CR4_MCE | HV_CR4_PGE | HV_CR4_PCE |     \
     HV_CR4_OSFXSR | HV_CR4_OSXMMEXCPT)

static int gp(struct hv_fault *fault)
{
    return hv_x86_fault_code(fault, HV_VEC_GP, 0);
}

/* ---- CR0 */

/* Long mode becomes active or inactive with paging: SDM 4.1.2. */
static int switch_paging(struct hv_cpu *cpu, uint64_t value, uint64_t *efer, struct hv_fault *fault)
{
    *efer = cpu->efer;
    if (!((value ^ cpu->cr0) & HV_CR0_PG))
        return 0;
    if (value & HV_CR0_PG) {
        if (cpu->efer & HV_EFER_LME) {
            if (!(cpu->cr4 & HV_CR4_PAE) || (cpu->seg[HV_CS].attr & HV_SEG_L))
                return gp(fault);
            *efer |= HV_EFER_LMA;
        }
        return 0;
    }
    if (hv_cpu_64bit(cpu) || (cpu->cr4 & HV_CR4_PCIDE))
        return gp(fault);
    *efer &= ~(uint64_t)HV_EFER_LMA;
    return 0;
}

static int write_cr0(struct hv_vcpu *v, uint64_t value, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &v->cpu;
    uint64_t efer;
    int err;

    if (value >> 32 || ((value & HV_CR0_PG) && !(value & HV_CR0_PE)) ||
        ((value & HV_CR0_NW) && !(value & HV_CR0_CD)))
        return gp(fault);
    value = (value & CR0_KNOWN) | HV_CR0_ET;
    err = switch_paging(cpu, value, &efer, fault);
    if (err)
        return err;
    cpu->efer = efer;
    cpu->cr0 = value;
    return 0;
}

/* ---- CR3, CR4 */

static int write_cr3(struct hv_vcpu *v, uint64_t value, struct hv_fault *fault)
{
    if (hv_cpu_long_mode(&v->cpu) && value >> HV_GPA_BITS)
        return gp(fault);
    v->cpu.cr3 = value;
    return 0;
}

/* The bits that depend on CPUID: leaf, subleaf, register, bit. */
static uint64_t allowed_cr4(struct hv_vcpu *v)
{
    static const struct {
        uint64_t cr4;
        uint32_t leaf;
        uint8_t reg, bit;
    } rows[] = {
        {HV_CR4_OSXSAVE, 1, 2, 26},
        {HV_CR4_PCIDE, 1, 2, 17},
        {HV_CR4_FSGSBASE, 7, 1, 0},
        {HV_CR4_SMEP, 7, 1, 7},
        {HV_CR4_SMAP, 7, 1, 20},
        {HV_CR4_UMIP, 7, 2, 2},
        {HV_CR4_VME | HV_CR4_PVI, 1, 3, 1},
    };
    uint64_t allowed = CR4_ALWAYS;

    for (unsigned i = 0; i < HV_ARRAY_LEN(rows); i++) {
        uint32_t out[4];

        hv_cpuid(v, rows[i].leaf, 0, out);
        if (out[rows[i].reg] & (1u << rows[i].bit))
            allowed |= rows[i].cr4;
    }
    return allowed;
}

static int write_cr4(struct hv_vcpu *v, uint64_t value, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &v->cpu;

    if (value & ~allowed_cr4(v))
        return gp(fault);
    if (hv_cpu_long_mode(cpu) && !(value & HV_CR4_PAE))
        return gp(fault);
    if ((value & ~cpu->cr4 & HV_CR4_PCIDE) && (!hv_cpu_long_mode(cpu) || (cpu->cr3 & 0xfff)))
        return gp(fault);
    cpu->cr4 = value;
    return 0;
}

bool hv_x86_control_valid(struct hv_vcpu *v, uint64_t cr0, uint64_t cr3, uint64_t cr4,
                          uint64_t efer)
{
    const uint64_t known_efer = HV_EFER_SCE | HV_EFER_LME | HV_EFER_LMA | HV_EFER_NXE;
    bool long_mode = (cr0 & HV_CR0_PG) && (efer & HV_EFER_LME);

    if (cr0 & ~(uint64_t)CR0_KNOWN || cr4 & ~allowed_cr4(v) || efer & ~known_efer)
        return false;
    if (((cr0 & HV_CR0_PG) && !(cr0 & HV_CR0_PE)) || ((cr0 & HV_CR0_NW) && !(cr0 & HV_CR0_CD)))
        return false;
    if (long_mode != !!(efer & HV_EFER_LMA))
        return false;
    return long_mode ? (cr4 & HV_CR4_PAE) && !(cr3 >> HV_GPA_BITS) : !(cr4 & HV_CR4_PCIDE);
}

int hv_x86_write_cr(struct hv_vcpu *v, unsigned number, uint64_t value, struct hv_fault *fault)
{
    switch (number) {
    case 0:
        return write_cr0(v, value, fault);
    case 2:
        v->cpu.cr2 = value;
        return 0;
    case 3:
        return write_cr3(v, value, fault);
    case 4:
        return write_cr4(v, value, fault);
    case 8:
        if (value >> 4)
            return gp(fault);
        hv_lapic_set_cr8(v, value);
        return 0;
    default:
        return hv_x86_fault(fault, HV_VEC_UD);
    }
}

int hv_x86_read_cr(struct hv_vcpu *v, unsigned number, uint64_t *value, struct hv_fault *fault)
{
    switch (number) {
    case 0:
        *value = v->cpu.cr0;
        return 0;
    case 2:
        *value = v->cpu.cr2;
        return 0;
    case 3:
        *value = v->cpu.cr3;
        return 0;
    case 4:
        *value = v->cpu.cr4;
        return 0;
    case 8:
        *value = hv_lapic_get_cr8(v);
        return 0;
    default:
        return hv_x86_fault(fault, HV_VEC_UD);
    }
}

/* ---- debug registers: SDM volume 3, chapter 18.2 */

#define DR6_ONES 0xffff0ff0u
#define DR6_USED 0x0000e00fu
#define DR7_ONES 0x00000400u
#define DR7_USED 0xffff2bffu
#define DR7_GD   (1u << 13)
#define DR6_BD   (1u << 13)

static int check_dr(struct hv_vcpu *v, unsigned *number, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &v->cpu;

    if (*number > 7)
        return hv_x86_fault(fault, HV_VEC_UD);
    if (*number == 4 || *number == 5) {
        if (cpu->cr4 & HV_CR4_DE)
            return hv_x86_fault(fault, HV_VEC_UD);
        *number += 2;
    }
    if (cpu->dr7 & DR7_GD) {
        cpu->dr6 |= DR6_BD;
        return hv_x86_fault(fault, HV_VEC_DB);
    }
    return 0;
}

int hv_x86_write_dr(struct hv_vcpu *v, unsigned number, uint64_t value, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &v->cpu;
    int err = check_dr(v, &number, fault);

    if (err)
        return err;
    if (number >= 6 && value >> 32)
        return gp(fault);
    if (number == 6)
        cpu->dr6 = (value & DR6_USED) | DR6_ONES;
    else if (number == 7)
        cpu->dr7 = (value & DR7_USED) | DR7_ONES;
    else
        cpu->dr[number] = value;
    return 0;
}

int hv_x86_read_dr(struct hv_vcpu *v, unsigned number, uint64_t *value, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &v->cpu;
    int err = check_dr(v, &number, fault);

    if (!err)
        *value = number == 6 ? cpu->dr6 : number == 7 ? cpu->dr7 : cpu->dr[number];
    return err;
}

/* ---- XCR0 */

#define XCR0_X87    1u
#define XCR0_SSE    2u
#define XCR0_AVX    4u
#define XCR0_AVX512 0xe0u

int hv_x86_write_xcr(struct hv_vcpu *v, uint32_t number, uint64_t value, struct hv_fault *fault)
{
    uint32_t out[4];

    hv_cpuid(v, 0xd, 0, out);
    if (number != 0 || !(value & XCR0_X87) || (value & ~((uint64_t)out[3] << 32 | out[0])))
        return gp(fault);
    if ((value & XCR0_AVX) && !(value & XCR0_SSE))
        return gp(fault);
    if ((value & XCR0_AVX512) && ((value & XCR0_AVX512) != XCR0_AVX512 || !(value & XCR0_AVX)))
        return gp(fault);
    v->cpu.xcr0 = value;
    return 0;
}

/* ---- SYSCALL, SYSENTER: segments are set to fixed contents, no table is read. Makers differ about
 * the modes: AMD has SYSCALL and SYSRET everywhere in protected mode and SYSENTER and SYSEXIT only
 * outside long mode, Intel has SYSCALL and SYSRET only in 64-bit mode and the others everywhere. */

static bool is_amd(const struct hv_vcpu *v)
{
    return hv_cpuid_vendor(v->domain) == HV_VENDOR_AMD;
}

static struct hv_segment flat_code(uint16_t selector, unsigned dpl, bool wide)
{
    return (struct hv_segment){
        .selector = selector,
        .attr = (uint16_t)(0xb | HV_SEG_S | dpl << 5 | HV_SEG_P | HV_SEG_G |
                           (wide ? HV_SEG_L : HV_SEG_DB)),
        .limit = 0xffffffff,
    };
}

static struct hv_segment flat_data(uint16_t selector, unsigned dpl)
{
    return (struct hv_segment){
        .selector = selector,
        .attr = (uint16_t)(0x3 | HV_SEG_S | dpl << 5 | HV_SEG_P | HV_SEG_G | HV_SEG_DB),
        .limit = 0xffffffff,
    };
}

void hv_x86_syscall_segments(const struct hv_cpu *cpu, struct hv_segment *cs, struct hv_segment *ss)
{
    uint16_t selector = (uint16_t)(cpu->star >> 32);

    *cs = flat_code(selector & 0xfffcu, 0, true);
    *ss = flat_data((uint16_t)((selector & 0xfffcu) + 8), 0);
}

void hv_x86_sysret_segments(const struct hv_cpu *cpu, bool wide, struct hv_segment *cs,
                            struct hv_segment *ss)
{
    uint16_t selector = (uint16_t)(cpu->star >> 48);

    *cs = flat_code((uint16_t)((selector + (wide ? 16 : 0)) | 3), 3, wide);
    *ss = flat_data((uint16_t)((selector + 8) | 3), 3);
}

static bool has_syscall(const struct hv_vcpu *v)
{
    const struct hv_cpu *cpu = &v->cpu;

    return (cpu->efer & HV_EFER_SCE) &&
           (hv_cpu_64bit(cpu) || ((cpu->cr0 & HV_CR0_PE) && is_amd(v)));
}

/* Outside long mode, which AMD's processors alone have. */
static void syscall_legacy(struct hv_cpu *cpu, uint64_t next_rip)
{
    cpu->gpr[HV_RCX] = (uint32_t)next_rip;
    cpu->rflags &= ~(uint64_t)(HV_EFLAGS_VM | HV_EFLAGS_IF | HV_EFLAGS_RF);
    hv_x86_syscall_segments(cpu, &cpu->seg[HV_CS], &cpu->seg[HV_SS]);
    cpu->seg[HV_CS] = flat_code(cpu->seg[HV_CS].selector, 0, false);
    cpu->rip = (uint32_t)cpu->star;
}

int hv_x86_syscall(struct hv_vcpu *v, uint64_t next_rip, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &v->cpu;

    if (!has_syscall(v))
        return hv_x86_fault(fault, HV_VEC_UD);
    if (!hv_cpu_long_mode(cpu)) {
        syscall_legacy(cpu, next_rip);
        return 0;
    }
    cpu->rip = hv_cpu_64bit(cpu) ? cpu->lstar : cpu->cstar;
    cpu->gpr[HV_RCX] = next_rip;
    cpu->gpr[HV_R11] = cpu->rflags & ~(uint64_t)HV_EFLAGS_RF;
    cpu->rflags = (cpu->rflags & ~(cpu->sfmask | HV_EFLAGS_RF)) | HV_EFLAGS_FIXED;
    hv_x86_syscall_segments(cpu, &cpu->seg[HV_CS], &cpu->seg[HV_SS]);
    return 0;
}

/* AMD's SYSRET loads only the selector of SS, and leaves what SS was; here it is always loaded
 * whole, as by Intel's: the level is in it. AMD's also leaves it to the first fetch to find that
 * the address is not canonical. */
int hv_x86_sysret(struct hv_vcpu *v, unsigned bytes, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &v->cpu;
    const uint64_t kept = HV_SYSRET_FLAGS;
    bool wide = bytes == 8;

    if (!has_syscall(v))
        return hv_x86_fault(fault, HV_VEC_UD);
    if (hv_cpu_cpl(cpu) || (wide && !hv_x86_canonical(cpu->gpr[HV_RCX]) && !is_amd(v)))
        return gp(fault);
    cpu->rflags = hv_cpu_64bit(cpu) ? (cpu->gpr[HV_R11] & kept) | HV_EFLAGS_FIXED
                                    : cpu->rflags | HV_EFLAGS_IF;
    hv_x86_sysret_segments(cpu, wide, &cpu->seg[HV_CS], &cpu->seg[HV_SS]);
    cpu->rip = wide ? cpu->gpr[HV_RCX] : (uint32_t)cpu->gpr[HV_RCX];
    return 0;
}

static bool has_sysenter(const struct hv_vcpu *v)
{
    return !hv_cpu_long_mode(&v->cpu) || !is_amd(v);
}

int hv_x86_sysenter(struct hv_vcpu *v, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &v->cpu;
    uint16_t selector = (uint16_t)(cpu->sysenter_cs & 0xfffc);
    bool long_mode = hv_cpu_long_mode(cpu);

    if (!has_sysenter(v))
        return hv_x86_fault(fault, HV_VEC_UD);
    if (!(cpu->cr0 & HV_CR0_PE) || !selector)
        return gp(fault);
    cpu->rflags &= ~(uint64_t)(HV_EFLAGS_IF | HV_EFLAGS_VM | HV_EFLAGS_RF);
    cpu->seg[HV_CS] = flat_code(selector, 0, long_mode);
    cpu->seg[HV_SS] = flat_data((uint16_t)(selector + 8), 0);
    cpu->gpr[HV_RSP] = long_mode ? cpu->sysenter_esp : (uint32_t)cpu->sysenter_esp;
    cpu->rip = long_mode ? cpu->sysenter_eip : (uint32_t)cpu->sysenter_eip;
    return 0;
}

int hv_x86_sysexit(struct hv_vcpu *v, unsigned bytes, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &v->cpu;
    uint16_t selector = (uint16_t)(cpu->sysenter_cs & 0xfffc);
    bool wide = bytes == 8;

    if (!has_sysenter(v))
        return hv_x86_fault(fault, HV_VEC_UD);
    if (!selector || !(cpu->cr0 & HV_CR0_PE) || hv_cpu_cpl(cpu))
        return gp(fault);
    if (wide && (!hv_x86_canonical(cpu->gpr[HV_RCX]) || !hv_x86_canonical(cpu->gpr[HV_RDX])))
        return gp(fault);
    cpu->seg[HV_CS] = flat_code((uint16_t)((selector + (wide ? 32 : 16)) | 3), 3, wide);
    cpu->seg[HV_SS] = flat_data((uint16_t)((selector + (wide ? 40 : 24)) | 3), 3);
    cpu->gpr[HV_RSP] = wide ? cpu->gpr[HV_RCX] : (uint32_t)cpu->gpr[HV_RCX];
    cpu->rip = wide ? cpu->gpr[HV_RDX] : (uint32_t)cpu->gpr[HV_RDX];
    return 0;
}
