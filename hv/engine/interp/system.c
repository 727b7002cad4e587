/* System instructions: MSRs, CPUID, time, FS and GS bases, TLB control, HLT, hypercalls. */
#include "config.h"

#include "hv/engine/interp/system.h"
#include "hv/machine/machine.h"
#include "hv/x86/control.h"
#include "hv/x86/linear.h"

/* ---- MSRs, CPUID, time */

static void set_edx_eax(struct hv_cpu *cpu, uint64_t value)
{
    cpu->gpr[HV_RAX] = (uint32_t)value;
    cpu->gpr[HV_RDX] = value >> 32;
}

static uint64_t edx_eax(const struct hv_cpu *cpu)
{
    return cpu->gpr[HV_RDX] << 32 | (uint32_t)cpu->gpr[HV_RAX];
}

static INTERP_HANDLER(rdmsr)
{
    uint64_t value;

    interp_need_kernel(cpu, op, x);
    if (hv_msr_read(x->v, (uint32_t)cpu->gpr[HV_RCX], &value))
        interp_raise_code(x, op, HV_VEC_GP, 0);
    set_edx_eax(cpu, value);
    INTERP_NEXT();
}

static INTERP_HANDLER(wrmsr)
{
    interp_need_kernel(cpu, op, x);
    if (hv_msr_write(x->v, (uint32_t)cpu->gpr[HV_RCX], edx_eax(cpu)))
        interp_raise_code(x, op, HV_VEC_GP, 0);
    interp_end_system(cpu, op, x);
}

static INTERP_HANDLER(cpuid)
{
    uint32_t out[4];

    hv_cpuid(x->v, (uint32_t)cpu->gpr[HV_RAX], (uint32_t)cpu->gpr[HV_RCX], out);
    cpu->gpr[HV_RAX] = out[0];
    cpu->gpr[HV_RBX] = out[1];
    cpu->gpr[HV_RCX] = out[2];
    cpu->gpr[HV_RDX] = out[3];
    INTERP_NEXT();
}

static void check_tsd(const struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    if ((cpu->cr4 & HV_CR4_TSD) && hv_cpu_cpl(cpu))
        interp_raise_code(x, op, HV_VEC_GP, 0);
}

static INTERP_HANDLER(rdtsc)
{
    check_tsd(cpu, op, x);
    set_edx_eax(cpu, hv_tsc_read(x->v));
    INTERP_NEXT();
}

/* Unlike RDTSC it waits for the loads before it: without that, clocks that two CPUs compare go backwards. */
static INTERP_HANDLER(rdtscp)
{
    check_tsd(cpu, op, x);
    __asm__ volatile("lfence" ::: "memory");
    set_edx_eax(cpu, hv_tsc_read(x->v));
    cpu->gpr[HV_RCX] = (uint32_t)cpu->tsc_aux;
    INTERP_NEXT();
}

static INTERP_HANDLER(rdpid)
{
    interp_set(cpu, op->r[0], 8, (uint32_t)cpu->tsc_aux);
    INTERP_NEXT();
}

/* No performance counters are offered. */
static INTERP_HANDLER(rdpmc)
{
    (void)cpu;
    interp_raise_code(x, op, HV_VEC_GP, 0);
}

/* Random numbers are the host's. */
#define RANDOM_HANDLER(name, insn, bytes, m)                                                       \
    static INTERP_HANDLER(name##_##bytes)                                                          \
    {                                                                                              \
        uint64_t value;                                                                            \
        bool ok;                                                                                   \
                                                                                                   \
        __asm__ volatile(insn " %" m "[v]" : [v] "=r"(value), "=@ccc"(ok));                        \
        interp_set(cpu, op->r[0], bytes, ok ? value : 0);                                          \
        interp_set_flags(cpu, INTERP_ARITH, ok ? HV_EFLAGS_CF : 0);                                \
        INTERP_NEXT();                                                                             \
    }
RANDOM_HANDLER(rdrand, "rdrand", 2, "w")
RANDOM_HANDLER(rdrand, "rdrand", 4, "k")
RANDOM_HANDLER(rdrand, "rdrand", 8, "q")
RANDOM_HANDLER(rdseed, "rdseed", 2, "w")
RANDOM_HANDLER(rdseed, "rdseed", 4, "k")
RANDOM_HANDLER(rdseed, "rdseed", 8, "q")

/* ---- FS and GS */

static void check_fsgsbase(const struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    if (!(cpu->cr4 & HV_CR4_FSGSBASE) || !interp_is_64(x))
        interp_raise_vector(x, op, HV_VEC_UD);
}

static INTERP_HANDLER(rdbase)
{
    check_fsgsbase(cpu, op, x);
    interp_set(cpu, op->r[0], op->size, cpu->seg[op->extra].base);
    INTERP_NEXT();
}

static INTERP_HANDLER(wrbase)
{
    uint64_t value = interp_get(cpu, op->r[0], op->size);

    check_fsgsbase(cpu, op, x);
    if (!hv_x86_canonical(value))
        interp_raise_code(x, op, HV_VEC_GP, 0);
    cpu->seg[op->extra].base = value;
    INTERP_NEXT();
}

static INTERP_HANDLER(swapgs)
{
    uint64_t base = cpu->seg[HV_GS].base;

    if (!interp_is_64(x))
        interp_raise_vector(x, op, HV_VEC_UD);
    interp_need_kernel(cpu, op, x);
    cpu->seg[HV_GS].base = cpu->kernel_gs_base;
    cpu->kernel_gs_base = base;
    INTERP_NEXT();
}

/* ---- flags of the system */

static void check_smap(const struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    if (hv_cpu_cpl(cpu))
        interp_raise_vector(x, op, HV_VEC_UD);
}

/* Only the TLB's table changes, not what is in it. */
static INTERP_HANDLER(stac)
{
    check_smap(cpu, op, x);
    cpu->rflags |= HV_EFLAGS_AC;
    x->tlb = x->tables[INTERP_TLB_KERNEL_AC];
    INTERP_NEXT();
}

static INTERP_HANDLER(clac)
{
    check_smap(cpu, op, x);
    cpu->rflags &= ~(uint64_t)HV_EFLAGS_AC;
    if (cpu->cr4 & HV_CR4_SMAP)
        x->tlb = x->tables[INTERP_TLB_KERNEL];
    INTERP_NEXT();
}

static void check_iopl(const struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    if (hv_cpu_cpl(cpu) > ((cpu->rflags >> 12) & 3))
        interp_raise_code(x, op, HV_VEC_GP, 0);
}

static INTERP_HANDLER(cli)
{
    check_iopl(cpu, op, x);
    cpu->rflags &= ~(uint64_t)HV_EFLAGS_IF;
    INTERP_NEXT();
}

static INTERP_HANDLER(sti)
{
    check_iopl(cpu, op, x);
    if (!(cpu->rflags & HV_EFLAGS_IF))
        cpu->int_shadow = true;
    cpu->rflags |= HV_EFLAGS_IF;
    interp_end_system(cpu, op, x);
}

/* ---- TLB and caches */

static INTERP_HANDLER(invlpg)
{
    interp_need_kernel(cpu, op, x);
    interp_tlb_flush_page(x, interp_address(cpu, op, x));
    interp_end_system(cpu, op, x);
}

enum invpcid { INVPCID_ADDRESS, INVPCID_PCID, INVPCID_ALL_GLOBAL, INVPCID_ALL };

static INTERP_HANDLER(invpcid)
{
    uint64_t type = interp_get(cpu, op->r[0], interp_system_bytes(x)), descriptor[2];

    interp_need_kernel(cpu, op, x);
    interp_read_bytes(x, op, interp_address(cpu, op, x), descriptor, 16);
    if (type > INVPCID_ALL || descriptor[0] >> 12 ||
        (type <= INVPCID_PCID && descriptor[0] && !(cpu->cr4 & HV_CR4_PCIDE)) ||
        (type == INVPCID_ADDRESS && !hv_x86_canonical(descriptor[1])))
        interp_raise_code(x, op, HV_VEC_GP, 0);
    if (type == INVPCID_ADDRESS)
        interp_tlb_flush_page(x, descriptor[1]);
    else if (type == INVPCID_PCID)
        interp_tlb_flush_pcid(x, (unsigned)descriptor[0]);
    else
        interp_tlb_flush_all(x);
    interp_end_system(cpu, op, x);
}

/* Guest memory is coherent: caches have nothing to write back. */
static INTERP_HANDLER(cache_control)
{
    interp_need_kernel(cpu, op, x);
    INTERP_NEXT();
}

/* CLFLUSH and its kin are loads as far as rights go. */
static INTERP_HANDLER(cache_line)
{
    (void)interp_read(x, op, interp_address(cpu, op, x), 1);
    INTERP_NEXT();
}

static INTERP_HANDLER(serialize)
{
    interp_end_system(cpu, op, x);
}

/* ---- leaving the guest */

static INTERP_HANDLER(hlt)
{
    interp_need_kernel(cpu, op, x);
    cpu->rip = interp_next_rip(x, op);
    interp_stop(x, HV_RUN_HLT);
}

/* The hypercall decides about privilege; it may pause or reset the vCPU, hence the full reload. */
static INTERP_HANDLER(hypercall)
{
    cpu->rip = interp_next_rip(x, op);
    x->stale = true;
    hv_hypercall(x->v);
}

static INTERP_HANDLER(xgetbv)
{
    if (!(cpu->cr4 & HV_CR4_OSXSAVE))
        interp_raise_vector(x, op, HV_VEC_UD);
    if ((uint32_t)cpu->gpr[HV_RCX] != 0)
        interp_raise_code(x, op, HV_VEC_GP, 0);
    set_edx_eax(cpu, cpu->xcr0);
    INTERP_NEXT();
}

static INTERP_HANDLER(xsetbv)
{
    struct hv_fault fault;

    if (!(cpu->cr4 & HV_CR4_OSXSAVE))
        interp_raise_vector(x, op, HV_VEC_UD);
    interp_need_kernel(cpu, op, x);
    interp_must(x, op, hv_x86_write_xcr(x->v, (uint32_t)cpu->gpr[HV_RCX], edx_eax(cpu), &fault),
                &fault);
    interp_end_system(cpu, op, x);
}

#define ENDS .flags = INTERP_ENDS
#define BASE(name, function, segment)                                                              \
    {                                                                                              \
        ZYDIS_MNEMONIC_##name, .fn = {function}, .extra = segment,                                 \
                               .feature = INTERP_FEATURE_FSGSBASE                                  \
    }

static const struct interp_insn insns[] = {
    {ZYDIS_MNEMONIC_RDMSR, .fn = {rdmsr}},
    {ZYDIS_MNEMONIC_WRMSR, .fn = {wrmsr}, ENDS},
    {ZYDIS_MNEMONIC_CPUID, .fn = {cpuid}},
    {ZYDIS_MNEMONIC_RDTSC, .fn = {rdtsc}},
    {ZYDIS_MNEMONIC_RDTSCP, .fn = {rdtscp}, .feature = INTERP_FEATURE_RDTSCP},
    {ZYDIS_MNEMONIC_RDPID, .fn = {rdpid}, .feature = INTERP_FEATURE_RDPID},
    {ZYDIS_MNEMONIC_RDPMC, .fn = {rdpmc}},
    {ZYDIS_MNEMONIC_RDRAND, .fn = {NULL, rdrand_2, rdrand_4, rdrand_8},
     .feature = INTERP_FEATURE_RDRAND},
    {ZYDIS_MNEMONIC_RDSEED, .fn = {NULL, rdseed_2, rdseed_4, rdseed_8},
     .feature = INTERP_FEATURE_RDSEED},
    BASE(RDFSBASE, rdbase, HV_FS),
    BASE(RDGSBASE, rdbase, HV_GS),
    BASE(WRFSBASE, wrbase, HV_FS),
    BASE(WRGSBASE, wrbase, HV_GS),
    {ZYDIS_MNEMONIC_SWAPGS, .fn = {swapgs}},
    {ZYDIS_MNEMONIC_STAC, .fn = {stac}, .feature = INTERP_FEATURE_SMAP},
    {ZYDIS_MNEMONIC_CLAC, .fn = {clac}, .feature = INTERP_FEATURE_SMAP},
    {ZYDIS_MNEMONIC_CLI, .fn = {cli}},
    {ZYDIS_MNEMONIC_STI, .fn = {sti}, ENDS},
    {ZYDIS_MNEMONIC_INVLPG, .fn = {invlpg}, ENDS},
    {ZYDIS_MNEMONIC_INVPCID, .fn = {invpcid}, ENDS, .feature = INTERP_FEATURE_INVPCID},
    {ZYDIS_MNEMONIC_INVD, .fn = {cache_control}},
    {ZYDIS_MNEMONIC_WBINVD, .fn = {cache_control}},
    {ZYDIS_MNEMONIC_CLFLUSH, .fn = {cache_line}, .feature = INTERP_FEATURE_CLFSH},
    {ZYDIS_MNEMONIC_CLFLUSHOPT, .fn = {cache_line}, .feature = INTERP_FEATURE_CLFLUSHOPT},
    {ZYDIS_MNEMONIC_CLWB, .fn = {cache_line}, .feature = INTERP_FEATURE_CLWB},
    {ZYDIS_MNEMONIC_SERIALIZE, .fn = {serialize}, ENDS, .feature = INTERP_FEATURE_SERIALIZE},
    {ZYDIS_MNEMONIC_HLT, .fn = {hlt}, ENDS},
    {ZYDIS_MNEMONIC_VMCALL, .fn = {hypercall}, ENDS},
    {ZYDIS_MNEMONIC_VMMCALL, .fn = {hypercall}, ENDS},
    {ZYDIS_MNEMONIC_XGETBV, .fn = {xgetbv}, .feature = INTERP_FEATURE_XSAVE},
    {ZYDIS_MNEMONIC_XSETBV, .fn = {xsetbv}, ENDS, .feature = INTERP_FEATURE_XSAVE},
};

const struct interp_insn_table interp_system_insns = {insns, HV_ARRAY_LEN(insns)};
