/* The architectural state of one x86 processor: what every engine executes on, what save and
 * migration carry. Nothing here belongs to one engine.
 */
#pragma once

#include "hv/types.h"

/* In the order of the machine encoding, so that a ModRM or opcode field is the index. */
enum hv_gpr {
    HV_RAX, HV_RCX, HV_RDX, HV_RBX, HV_RSP, HV_RBP, HV_RSI, HV_RDI,
    HV_R8, HV_R9, HV_R10, HV_R11, HV_R12, HV_R13, HV_R14, HV_R15,
    HV_NR_GPR
};

enum hv_segment_index { HV_ES, HV_CS, HV_SS, HV_DS, HV_FS, HV_GS, HV_NR_SEG };

/* Segment attributes: bits 40-47 and 52-55 of a descriptor, packed as Xen's and VMX's tools pack
 * them: type 0-3, S 4, DPL 5-6, P 7, AVL 8, L 9, D/B 10, G 11. A null segment has attr 0.
 */
#define HV_SEG_TYPE(attr) ((attr)&0xf)
#define HV_SEG_S          (1u << 4)
#define HV_SEG_DPL(attr)  (((attr) >> 5) & 3)
#define HV_SEG_P          (1u << 7)
#define HV_SEG_AVL        (1u << 8)
#define HV_SEG_L          (1u << 9)
#define HV_SEG_DB         (1u << 10)
#define HV_SEG_G          (1u << 11)

struct hv_segment {
    uint16_t selector;
    uint16_t attr;
    uint32_t limit; /* in bytes, after the granularity bit */
    uint64_t base;
};

struct hv_table_register {
    uint64_t base;
    uint16_t limit;
};

#define HV_EFLAGS_CF   (1u << 0)
#define HV_EFLAGS_FIXED (1u << 1)
#define HV_EFLAGS_PF   (1u << 2)
#define HV_EFLAGS_AF   (1u << 4)
#define HV_EFLAGS_ZF   (1u << 6)
#define HV_EFLAGS_SF   (1u << 7)
#define HV_EFLAGS_TF   (1u << 8)
#define HV_EFLAGS_IF   (1u << 9)
#define HV_EFLAGS_DF   (1u << 10)
#define HV_EFLAGS_OF   (1u << 11)
#define HV_EFLAGS_IOPL (3u << 12)
#define HV_EFLAGS_NT   (1u << 14)
#define HV_EFLAGS_RF   (1u << 16)
#define HV_EFLAGS_VM   (1u << 17)
#define HV_EFLAGS_AC   (1u << 18)
#define HV_EFLAGS_VIF  (1u << 19)
#define HV_EFLAGS_VIP  (1u << 20)
#define HV_EFLAGS_ID   (1u << 21)

#define HV_CR0_PE (1u << 0)
#define HV_CR0_MP (1u << 1)
#define HV_CR0_EM (1u << 2)
#define HV_CR0_TS (1u << 3)
#define HV_CR0_ET (1u << 4)
#define HV_CR0_NE (1u << 5)
#define HV_CR0_WP (1u << 16)
#define HV_CR0_AM (1u << 18)
#define HV_CR0_NW (1u << 29)
#define HV_CR0_CD (1u << 30)
#define HV_CR0_PG (1u << 31)

#define HV_CR4_VME        (1u << 0)
#define HV_CR4_PVI        (1u << 1)
#define HV_CR4_TSD        (1u << 2)
#define HV_CR4_DE         (1u << 3)
#define HV_CR4_PSE        (1u << 4)
#define HV_CR4_PAE        (1u << 5)
#define HV_CR4_MCE        (1u << 6)
#define HV_CR4_PGE        (1u << 7)
#define HV_CR4_PCE        (1u << 8)
#define HV_CR4_OSFXSR     (1u << 9)
#define HV_CR4_OSXMMEXCPT (1u << 10)
#define HV_CR4_UMIP       (1u << 11)
#define HV_CR4_FSGSBASE   (1u << 16)
#define HV_CR4_PCIDE      (1u << 17)
#define HV_CR4_OSXSAVE    (1u << 18)
#define HV_CR4_SMEP       (1u << 20)
#define HV_CR4_SMAP       (1u << 21)

#define HV_EFER_SCE (1u << 0)
#define HV_EFER_LME (1u << 8)
#define HV_EFER_LMA (1u << 10)
#define HV_EFER_NXE (1u << 11)

#define HV_DR6_INIT 0xffff0ff0u
#define HV_DR7_INIT 0x400u

/* Standard (not compacted) XSAVE layout as CPUID leaf 0xd describes it to the guest: legacy region
 * 512, header 64, AVX 256 at 576, and room for AVX-512 (opmask, ZMM_Hi256, Hi16_ZMM) up to 2688 and
 * PKRU up to 2696; rounded up to a cache line.
 */
#define HV_XSAVE_BYTES 2752

struct hv_cpu {
    uint64_t gpr[HV_NR_GPR];
    uint64_t rip;
    uint64_t rflags; /* complete and architectural whenever the engine is not inside run() */

    struct hv_segment seg[HV_NR_SEG];
    struct hv_segment ldtr;
    struct hv_segment tr;
    struct hv_table_register gdtr;
    struct hv_table_register idtr;

    uint64_t cr0, cr2, cr3, cr4; /* CR8 is the local APIC's TPR: hv_lapic_get_cr8 */
    uint64_t xcr0;
    uint64_t dr[4], dr6, dr7;

    uint64_t efer;
    uint64_t star, lstar, cstar, sfmask;
    uint64_t kernel_gs_base; /* FS and GS base live in seg[] */
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t pat;
    uint64_t tsc_aux;
    uint64_t tsc_offset; /* guest TSC = host TSC + tsc_offset */
    uint64_t misc_enable;
    uint64_t xss;

    bool int_shadow;  /* the instruction before was STI or a load of SS: no interrupt now */
    bool nmi_blocked; /* between delivery of an NMI and the next IRET */

    /* FXSAVE/XSAVE image of the guest's x87, SSE and extended state. */
    uint8_t xsave[HV_XSAVE_BYTES] __attribute__((aligned(64)));
};

/* An exception (or software interrupt) on its way to the guest. */
struct hv_fault {
    uint8_t vector;
    bool has_error_code;
    uint32_t error_code;
    uint64_t cr2; /* only for vector 14 */
};

enum hv_vector {
    HV_VEC_DE = 0, HV_VEC_DB = 1, HV_VEC_NMI = 2, HV_VEC_BP = 3, HV_VEC_OF = 4, HV_VEC_BR = 5,
    HV_VEC_UD = 6, HV_VEC_NM = 7, HV_VEC_DF = 8, HV_VEC_TS = 10, HV_VEC_NP = 11, HV_VEC_SS = 12,
    HV_VEC_GP = 13, HV_VEC_PF = 14, HV_VEC_MF = 16, HV_VEC_AC = 17, HV_VEC_MC = 18, HV_VEC_XM = 19,
};

#define HV_PF_PRESENT (1u << 0)
#define HV_PF_WRITE   (1u << 1)
#define HV_PF_USER    (1u << 2)
#define HV_PF_RSVD    (1u << 3)
#define HV_PF_FETCH   (1u << 4)

static inline bool hv_cpu_long_mode(const struct hv_cpu *cpu)
{
    return cpu->efer & HV_EFER_LMA;
}

static inline bool hv_cpu_64bit(const struct hv_cpu *cpu)
{
    return hv_cpu_long_mode(cpu) && (cpu->seg[HV_CS].attr & HV_SEG_L);
}

/* The current privilege level is the DPL of SS, as in VMX and SVM. */
static inline unsigned hv_cpu_cpl(const struct hv_cpu *cpu)
{
    return (cpu->cr0 & HV_CR0_PE) ? HV_SEG_DPL(cpu->seg[HV_SS].attr) : 0;
}
