/* System instructions: control registers, descriptor tables, MSRs, CPUID, TLB control, HLT, hypercalls. */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include <string.h>

#include "hv/machine/machine.h"
#include "hv/x86/control.h"
#include "hv/x86/linear.h"
#include "hv/x86/segment.h"

static void need_kernel(const struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    if (hv_cpu_cpl(cpu))
        interp_raise_code(x, op, HV_VEC_GP, 0);
}

/* Raises what a shared function reported. */
static void must(struct interp *x, struct interp_op *op, int err, const struct hv_fault *fault)
{
    if (err)
        interp_raise(x, op, fault);
}

/* UMIP keeps SGDT, SIDT, SLDT, SMSW and STR from user code. */
static void check_umip(const struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    if ((cpu->cr4 & HV_CR4_UMIP) && hv_cpu_cpl(cpu))
        interp_raise_code(x, op, HV_VEC_GP, 0);
}

static void need_protected(const struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    if (!(cpu->cr0 & HV_CR0_PE))
        interp_raise_vector(x, op, HV_VEC_UD);
}

/* Operand size of general registers in system instructions: 8 in 64-bit mode, else 4. */
static unsigned wide(const struct interp *x)
{
    return interp_is_64(x) ? 8 : 4;
}

/* ---- MOV to and from special registers; op->extra is the register's number */

static INTERP_HANDLER(mov_to_cr)
{
    uint64_t value = interp_get(cpu, op->r[1], wide(x));
    bool keep = false;
    struct hv_fault fault;

    need_kernel(cpu, op, x);
    if (op->extra == 3 && (cpu->cr4 & HV_CR4_PCIDE)) {
        keep = value >> 63;
        value &= ~0ull >> 1;
    }
    must(x, op, hv_x86_write_cr(x->v, op->extra, value, &fault), &fault);
    if (op->extra == 3)
        interp_tlb_switch(x, keep);
    interp_end_system(cpu, op, x);
}

static INTERP_HANDLER(mov_from_cr)
{
    struct hv_fault fault;
    uint64_t value;

    need_kernel(cpu, op, x);
    must(x, op, hv_x86_read_cr(x->v, op->extra, &value, &fault), &fault);
    interp_set(cpu, op->r[0], wide(x), value);
    interp_end_plain(cpu, op, x);
}

static INTERP_HANDLER(mov_to_dr)
{
    struct hv_fault fault;

    need_kernel(cpu, op, x);
    must(x, op, hv_x86_write_dr(x->v, op->extra, interp_get(cpu, op->r[1], wide(x)), &fault), &fault);
    interp_end_system(cpu, op, x);
}

static INTERP_HANDLER(mov_from_dr)
{
    struct hv_fault fault;
    uint64_t value;

    need_kernel(cpu, op, x);
    must(x, op, hv_x86_read_dr(x->v, op->extra, &value, &fault), &fault);
    interp_set(cpu, op->r[0], wide(x), value);
    interp_end_plain(cpu, op, x);
}

/* A load of SS holds off interrupts for one instruction. */
static void finish_segment_load(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    if (op->extra == HV_SS)
        cpu->int_shadow = true;
    interp_end_system(cpu, op, x);
}

static void load_segment(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, uint16_t selector)
{
    struct hv_fault fault;

    (void)cpu;
    must(x, op, hv_x86_load_segment(x->v, (enum hv_segment_index)op->extra, selector, &fault), &fault);
}

static INTERP_HANDLER(mov_to_segment)
{
    load_segment(cpu, op, x, (uint16_t)interp_operand(cpu, op, x, 1, 2));
    finish_segment_load(cpu, op, x);
}

/* Memory gets 16 bits, a register the zero-extended selector. */
static INTERP_HANDLER(mov_from_segment)
{
    interp_set_operand(cpu, op, x, 0, op->r[0] == INTERP_NO_REG ? 2 : op->size, cpu->seg[op->extra].selector);
    interp_end_plain(cpu, op, x);
}

static INTERP_HANDLER(push_segment)
{
    interp_push(cpu, op, x, op->size, cpu->seg[op->extra].selector);
    interp_end_plain(cpu, op, x);
}

static INTERP_HANDLER(pop_segment)
{
    uint64_t sp = cpu->gpr[HV_RSP];
    unsigned bytes = interp_stack_bytes(cpu, x);

    load_segment(cpu, op, x, (uint16_t)interp_peek_at(cpu, op, x, sp, op->size));
    interp_set(cpu, HV_RSP * 8, bytes, sp + op->size);
    finish_segment_load(cpu, op, x);
}

/* LDS, LES, LSS, LFS, LGS: a far pointer from memory. */
static INTERP_HANDLER(load_far_pointer)
{
    uint64_t va = interp_address(cpu, op, x);
    uint64_t offset = interp_read(x, op, va, op->size);
    uint16_t selector = (uint16_t)interp_read(x, op, va + op->size, 2);

    load_segment(cpu, op, x, selector);
    interp_set(cpu, op->r[0], op->size, offset);
    interp_end_system(cpu, op, x);
}

/* Which special register class a number belongs to. */
static bool in_range(ZydisRegister r, ZydisRegister first, ZydisRegister last, uint8_t *index)
{
    if (r < first || r > last)
        return false;
    *index = (uint8_t)(r - first);
    return true;
}

static interp_fn *special_form(const struct interp_decoding *d, unsigned operand, uint8_t *index)
{
    static const struct {
        ZydisRegister first, last;
        interp_fn *fn[2]; /* destination, source */
    } rows[] = {
        {ZYDIS_REGISTER_ES, ZYDIS_REGISTER_GS, {mov_to_segment, mov_from_segment}},
        {ZYDIS_REGISTER_CR0, ZYDIS_REGISTER_CR15, {mov_to_cr, mov_from_cr}},
        {ZYDIS_REGISTER_DR0, ZYDIS_REGISTER_DR15, {mov_to_dr, mov_from_dr}},
    };
    const ZydisDecodedOperand *o = &d->operands[operand];

    for (unsigned i = 0; i < HV_ARRAY_LEN(rows); i++)
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER && in_range(o->reg.value, rows[i].first, rows[i].last, index))
            return rows[i].fn[operand];
    return NULL;
}

void interp_pick_mov_special(struct interp_decoding *d)
{
    struct interp_op *op = d->op;

    d->flags = INTERP_ENDS;
    if (d->insn.mnemonic == ZYDIS_MNEMONIC_PUSH || d->insn.mnemonic == ZYDIS_MNEMONIC_POP) {
        (void)in_range(d->operands[0].reg.value, ZYDIS_REGISTER_ES, ZYDIS_REGISTER_GS, &op->extra);
        op->fn = d->insn.mnemonic == ZYDIS_MNEMONIC_PUSH ? push_segment : pop_segment;
        return;
    }
    op->fn = special_form(d, 0, &op->extra);
    if (!op->fn)
        op->fn = special_form(d, 1, &op->extra);
    if (op->fn == mov_to_segment && op->extra == HV_CS)
        op->fn = NULL;
    if (op->fn == mov_from_segment)
        op->size = d->insn.operand_width / 8;
}

static void pick_far_pointer(struct interp_decoding *d, const struct interp_insn *insn)
{
    d->op->size = d->insn.operand_width / 8;
    d->op->fn = insn->fn[0];
}

/* ---- CR0 by halves */

static INTERP_HANDLER(clts)
{
    need_kernel(cpu, op, x);
    cpu->cr0 &= ~(uint64_t)HV_CR0_TS;
    x->cr0 = cpu->cr0; /* translations do not depend on TS */
    interp_end_system(cpu, op, x);
}

static INTERP_HANDLER(lmsw)
{
    struct hv_fault fault;
    uint64_t value;

    need_kernel(cpu, op, x); /* before it reads memory */
    value = interp_operand(cpu, op, x, 0, 2);
    /* PE can be set, not cleared. */
    value = (cpu->cr0 & ~0xeull) | (value & 0xf);
    must(x, op, hv_x86_write_cr(x->v, 0, value, &fault), &fault);
    interp_end_system(cpu, op, x);
}

static void store_word(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, uint64_t value)
{
    interp_set_operand(cpu, op, x, 0, op->r[0] == INTERP_NO_REG ? 2 : op->size, value);
}

static INTERP_HANDLER(smsw)
{
    check_umip(cpu, op, x);
    store_word(cpu, op, x, cpu->cr0);
    INTERP_NEXT();
}

/* ---- descriptor tables */

static void load_table(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                       struct hv_table_register *table)
{
    uint64_t va = interp_address(cpu, op, x);
    uint16_t limit;
    uint64_t base;

    need_kernel(cpu, op, x);
    limit = (uint16_t)interp_read(x, op, va, 2);
    base = interp_read(x, op, va + 2, wide(x));
    if (interp_is_64(x) && !hv_x86_canonical(base))
        interp_raise_code(x, op, HV_VEC_GP, 0);
    if (!interp_is_64(x) && op->extra == 2)
        base &= 0xffffff;
    *table = (struct hv_table_register){.base = base, .limit = limit};
}

static void store_table(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                        const struct hv_table_register *table)
{
    uint64_t va = interp_address(cpu, op, x);
    uint8_t image[10];

    check_umip(cpu, op, x);
    memcpy(image, &table->limit, 2);
    memcpy(image + 2, &table->base, 8);
    interp_write_bytes(x, op, va, image, 2 + wide(x));
}

static INTERP_HANDLER(lgdt)
{
    load_table(cpu, op, x, &cpu->gdtr);
    INTERP_NEXT();
}

static INTERP_HANDLER(lidt)
{
    load_table(cpu, op, x, &cpu->idtr);
    INTERP_NEXT();
}

static INTERP_HANDLER(sgdt)
{
    store_table(cpu, op, x, &cpu->gdtr);
    INTERP_NEXT();
}

static INTERP_HANDLER(sidt)
{
    store_table(cpu, op, x, &cpu->idtr);
    INTERP_NEXT();
}

/* A 16-bit operand size outside 64-bit mode loads 24 bits of base. */
static void pick_table(struct interp_decoding *d, const struct interp_insn *insn)
{
    d->op->extra = d->insn.operand_width / 8;
    d->op->mem_bytes = (d->x->mode & INTERP_MODE_SIZE) == INTERP_MODE_64 ? 10 : 6;
    d->op->fn = insn->fn[0];
}

static INTERP_HANDLER(lldt)
{
    struct hv_fault fault;

    need_protected(cpu, op, x);
    need_kernel(cpu, op, x);
    must(x, op, hv_x86_load_ldt(x->v, (uint16_t)interp_operand(cpu, op, x, 0, 2), &fault), &fault);
    INTERP_NEXT();
}

static INTERP_HANDLER(ltr)
{
    struct hv_fault fault;

    need_protected(cpu, op, x);
    need_kernel(cpu, op, x);
    must(x, op, hv_x86_load_task(x->v, (uint16_t)interp_operand(cpu, op, x, 0, 2), &fault), &fault);
    INTERP_NEXT();
}

static INTERP_HANDLER(sldt)
{
    need_protected(cpu, op, x);
    check_umip(cpu, op, x);
    store_word(cpu, op, x, cpu->ldtr.selector);
    INTERP_NEXT();
}

static INTERP_HANDLER(str)
{
    need_protected(cpu, op, x);
    check_umip(cpu, op, x);
    store_word(cpu, op, x, cpu->tr.selector);
    INTERP_NEXT();
}

static bool ask(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, unsigned operand, uint32_t *answer)
{
    uint16_t selector = (uint16_t)interp_operand(cpu, op, x, operand, 2);
    struct hv_fault fault;
    bool yes;

    need_protected(cpu, op, x);
    must(x, op, hv_x86_ask_segment(x->v, (enum hv_segment_question)op->extra, selector, answer, &yes, &fault),
         &fault);
    interp_set_flags(cpu, HV_EFLAGS_ZF, yes ? HV_EFLAGS_ZF : 0);
    return yes;
}

static INTERP_HANDLER(lar_lsl)
{
    uint32_t answer;

    if (ask(cpu, op, x, 1, &answer))
        interp_set(cpu, op->r[0], op->size, answer);
    INTERP_NEXT();
}

static INTERP_HANDLER(verr_verw)
{
    uint32_t answer;

    (void)ask(cpu, op, x, 0, &answer);
    INTERP_NEXT();
}

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

    need_kernel(cpu, op, x);
    if (hv_msr_read(x->v, (uint32_t)cpu->gpr[HV_RCX], &value))
        interp_raise_code(x, op, HV_VEC_GP, 0);
    set_edx_eax(cpu, value);
    INTERP_NEXT();
}

static INTERP_HANDLER(wrmsr)
{
    need_kernel(cpu, op, x);
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

static INTERP_HANDLER(rdtscp)
{
    check_tsd(cpu, op, x);
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
    need_kernel(cpu, op, x);
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
    need_kernel(cpu, op, x);
    interp_tlb_flush_page(x, interp_address(cpu, op, x));
    interp_end_system(cpu, op, x);
}

enum invpcid { INVPCID_ADDRESS, INVPCID_PCID, INVPCID_ALL_GLOBAL, INVPCID_ALL };

static INTERP_HANDLER(invpcid)
{
    uint64_t type = interp_get(cpu, op->r[0], wide(x)), descriptor[2];

    need_kernel(cpu, op, x);
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
    need_kernel(cpu, op, x);
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
    need_kernel(cpu, op, x);
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
    need_kernel(cpu, op, x);
    must(x, op, hv_x86_write_xcr(x->v, (uint32_t)cpu->gpr[HV_RCX], edx_eax(cpu), &fault), &fault);
    interp_end_system(cpu, op, x);
}

#define ENDS .flags = INTERP_ENDS
#define FAR_POINTER(name, segment)                                                                 \
    {ZYDIS_MNEMONIC_##name, pick_far_pointer, .fn = {load_far_pointer}, .extra = segment, ENDS}
#define BASE(name, function, segment)                                                              \
    {ZYDIS_MNEMONIC_##name, .fn = {function}, .extra = segment, .feature = INTERP_FEATURE_FSGSBASE}

static const struct interp_insn insns[] = {
    FAR_POINTER(LES, HV_ES), FAR_POINTER(LSS, HV_SS), FAR_POINTER(LDS, HV_DS), FAR_POINTER(LFS, HV_FS),
    FAR_POINTER(LGS, HV_GS),
    {ZYDIS_MNEMONIC_CLTS, .fn = {clts}, ENDS},
    {ZYDIS_MNEMONIC_LMSW, .fn = {lmsw}, ENDS},
    {ZYDIS_MNEMONIC_SMSW, .fn = {smsw}},
    {ZYDIS_MNEMONIC_LGDT, pick_table, .fn = {lgdt}},
    {ZYDIS_MNEMONIC_LIDT, pick_table, .fn = {lidt}},
    {ZYDIS_MNEMONIC_SGDT, pick_table, .fn = {sgdt}},
    {ZYDIS_MNEMONIC_SIDT, pick_table, .fn = {sidt}},
    {ZYDIS_MNEMONIC_LLDT, .fn = {lldt}},
    {ZYDIS_MNEMONIC_LTR, .fn = {ltr}},
    {ZYDIS_MNEMONIC_SLDT, .fn = {sldt}},
    {ZYDIS_MNEMONIC_STR, .fn = {str}},
    {ZYDIS_MNEMONIC_LAR, .fn = {lar_lsl}, .extra = HV_ASK_RIGHTS},
    {ZYDIS_MNEMONIC_LSL, .fn = {lar_lsl}, .extra = HV_ASK_LIMIT},
    {ZYDIS_MNEMONIC_VERR, .fn = {verr_verw}, .extra = HV_ASK_READ},
    {ZYDIS_MNEMONIC_VERW, .fn = {verr_verw}, .extra = HV_ASK_WRITE},
    {ZYDIS_MNEMONIC_RDMSR, .fn = {rdmsr}},
    {ZYDIS_MNEMONIC_WRMSR, .fn = {wrmsr}, ENDS},
    {ZYDIS_MNEMONIC_CPUID, .fn = {cpuid}},
    {ZYDIS_MNEMONIC_RDTSC, .fn = {rdtsc}},
    {ZYDIS_MNEMONIC_RDTSCP, .fn = {rdtscp}, .feature = INTERP_FEATURE_RDTSCP},
    {ZYDIS_MNEMONIC_RDPID, .fn = {rdpid}, .feature = INTERP_FEATURE_RDPID},
    {ZYDIS_MNEMONIC_RDPMC, .fn = {rdpmc}},
    {ZYDIS_MNEMONIC_RDRAND, .fn = {NULL, rdrand_2, rdrand_4, rdrand_8}, .feature = INTERP_FEATURE_RDRAND},
    {ZYDIS_MNEMONIC_RDSEED, .fn = {NULL, rdseed_2, rdseed_4, rdseed_8}, .feature = INTERP_FEATURE_RDSEED},
    BASE(RDFSBASE, rdbase, HV_FS), BASE(RDGSBASE, rdbase, HV_GS),
    BASE(WRFSBASE, wrbase, HV_FS), BASE(WRGSBASE, wrbase, HV_GS),
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
