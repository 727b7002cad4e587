/* Registers beyond the general ones: MOV to and from segment, control and debug registers,
 * descriptor tables, LDTR and TR, questions about segments.
 */
#include "config.h"

#include <string.h>

#include "hv/engine/interp/system.h"
#include "hv/x86/control.h"
#include "hv/x86/linear.h"
#include "hv/x86/segment.h"

/* ---- MOV to and from special registers; op->extra is the register's number */

static INTERP_HANDLER(mov_to_cr)
{
    uint64_t value = interp_get(cpu, op->r[1], interp_system_bytes(x));
    bool keep = false;
    struct hv_fault fault;

    interp_need_kernel(cpu, op, x);
    if (op->extra == 3 && (cpu->cr4 & HV_CR4_PCIDE)) {
        keep = value >> 63;
        value &= ~0ull >> 1;
    }
    interp_must(x, op, hv_x86_write_cr(x->v, op->extra, value, &fault), &fault);
    if (op->extra == 3)
        interp_tlb_switch(x, keep);
    interp_end_system(cpu, op, x);
}

static INTERP_HANDLER(mov_from_cr)
{
    struct hv_fault fault;
    uint64_t value;

    interp_need_kernel(cpu, op, x);
    interp_must(x, op, hv_x86_read_cr(x->v, op->extra, &value, &fault), &fault);
    interp_set(cpu, op->r[0], interp_system_bytes(x), value);
    interp_end_plain(cpu, op, x);
}

static INTERP_HANDLER(mov_to_dr)
{
    struct hv_fault fault;

    interp_need_kernel(cpu, op, x);
    interp_must(
        x, op,
        hv_x86_write_dr(x->v, op->extra, interp_get(cpu, op->r[1], interp_system_bytes(x)), &fault),
        &fault);
    interp_end_system(cpu, op, x);
}

static INTERP_HANDLER(mov_from_dr)
{
    struct hv_fault fault;
    uint64_t value;

    interp_need_kernel(cpu, op, x);
    interp_must(x, op, hv_x86_read_dr(x->v, op->extra, &value, &fault), &fault);
    interp_set(cpu, op->r[0], interp_system_bytes(x), value);
    interp_end_plain(cpu, op, x);
}

/* A load of SS holds off interrupts for one instruction. */
static void finish_segment_load(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    if (op->extra == HV_SS)
        cpu->int_shadow = true;
    interp_end_system(cpu, op, x);
}

static void load_segment(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                         uint16_t selector)
{
    struct hv_fault fault;

    (void)cpu;
    interp_must(x, op,
                hv_x86_load_segment(x->v, (enum hv_segment_index)op->extra, selector, &fault),
                &fault);
}

static INTERP_HANDLER(mov_to_segment)
{
    load_segment(cpu, op, x, (uint16_t)interp_operand(cpu, op, x, 1, 2));
    finish_segment_load(cpu, op, x);
}

/* Memory gets 16 bits, a register the zero-extended selector. */
static INTERP_HANDLER(mov_from_segment)
{
    interp_set_operand(cpu, op, x, 0, op->r[0] == INTERP_NO_REG ? 2 : op->size,
                       cpu->seg[op->extra].selector);
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
        if (o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
            in_range(o->reg.value, rows[i].first, rows[i].last, index))
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
    interp_need_kernel(cpu, op, x);
    cpu->cr0 &= ~(uint64_t)HV_CR0_TS;
    x->cr0 = cpu->cr0; /* translations do not depend on TS */
    interp_end_system(cpu, op, x);
}

static INTERP_HANDLER(lmsw)
{
    struct hv_fault fault;
    uint64_t value;

    interp_need_kernel(cpu, op, x); /* before it reads memory */
    value = interp_operand(cpu, op, x, 0, 2);
    /* PE can be set, not cleared. */
    value = (cpu->cr0 & ~0xeull) | (value & 0xf);
    interp_must(x, op, hv_x86_write_cr(x->v, 0, value, &fault), &fault);
    interp_end_system(cpu, op, x);
}

static void store_word(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, uint64_t value)
{
    interp_set_operand(cpu, op, x, 0, op->r[0] == INTERP_NO_REG ? 2 : op->size, value);
}

static INTERP_HANDLER(smsw)
{
    interp_check_umip(cpu, op, x);
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

    interp_need_kernel(cpu, op, x);
    limit = (uint16_t)interp_read(x, op, va, 2);
    base = interp_read(x, op, va + 2, interp_system_bytes(x));
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

    interp_check_umip(cpu, op, x);
    memcpy(image, &table->limit, 2);
    memcpy(image + 2, &table->base, 8);
    interp_write_bytes(x, op, va, image, 2 + interp_system_bytes(x));
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

    interp_need_protected(cpu, op, x);
    interp_need_kernel(cpu, op, x);
    interp_must(x, op, hv_x86_load_ldt(x->v, (uint16_t)interp_operand(cpu, op, x, 0, 2), &fault),
                &fault);
    INTERP_NEXT();
}

static INTERP_HANDLER(ltr)
{
    struct hv_fault fault;

    interp_need_protected(cpu, op, x);
    interp_need_kernel(cpu, op, x);
    interp_must(x, op, hv_x86_load_task(x->v, (uint16_t)interp_operand(cpu, op, x, 0, 2), &fault),
                &fault);
    INTERP_NEXT();
}

static INTERP_HANDLER(sldt)
{
    interp_need_protected(cpu, op, x);
    interp_check_umip(cpu, op, x);
    store_word(cpu, op, x, cpu->ldtr.selector);
    INTERP_NEXT();
}

static INTERP_HANDLER(str)
{
    interp_need_protected(cpu, op, x);
    interp_check_umip(cpu, op, x);
    store_word(cpu, op, x, cpu->tr.selector);
    INTERP_NEXT();
}

static bool ask(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, unsigned operand,
                uint32_t *answer)
{
    uint16_t selector = (uint16_t)interp_operand(cpu, op, x, operand, 2);
    struct hv_fault fault;
    bool yes;

    interp_need_protected(cpu, op, x);
    interp_must(x, op,
                hv_x86_ask_segment(x->v, (enum hv_segment_question)op->extra, selector, answer,
                                   &yes, &fault),
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

#define ENDS .flags = INTERP_ENDS
#define FAR_POINTER(name, segment)                                                                 \
    {                                                                                              \
        ZYDIS_MNEMONIC_##name, pick_far_pointer, .fn = {load_far_pointer}, .extra = segment, ENDS  \
    }

static const struct interp_insn insns[] = {
    FAR_POINTER(LES, HV_ES),
    FAR_POINTER(LSS, HV_SS),
    FAR_POINTER(LDS, HV_DS),
    FAR_POINTER(LFS, HV_FS),
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
};

const struct interp_insn_table interp_special_insns = {insns, HV_ARRAY_LEN(insns)};
