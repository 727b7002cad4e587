/* Descriptors and segment registers. */
#include "config.h"

#include "hv/x86/segment.h"

#include <errno.h>

#include "hv/domain.h"
#include "hv/x86/linear.h"

static struct hv_segment unpack(uint64_t low, uint64_t high, uint16_t selector)
{
    struct hv_segment s = {
        .selector = selector,
        .attr = (uint16_t)(((low >> 40) & 0xff) | (((low >> 52) & 0xf) << 8)),
        .limit = (uint32_t)((low & 0xffff) | ((low >> 32) & 0xf0000)),
        .base = ((low >> 16) & 0xffffff) | ((low >> 56) << 24) | (high << 32),
    };

    if (s.attr & HV_SEG_G)
        s.limit = s.limit << 12 | 0xfff;
    return s;
}

static uint32_t code_of(uint16_t selector, unsigned ext)
{
    return (selector & 0xfffcu) | ext;
}

int hv_x86_read_descriptor(struct hv_vcpu *v, uint16_t selector, uint8_t vector, unsigned ext,
                           struct hv_descriptor *out, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &v->cpu;
    bool local = selector & 4;
    uint64_t base = local ? cpu->ldtr.base : cpu->gdtr.base;
    uint32_t limit = local ? cpu->ldtr.limit : cpu->gdtr.limit;
    uint32_t offset = selector & 0xfff8u;
    int err;

    if (offset + 7 > limit || (local && !(cpu->ldtr.attr & HV_SEG_P)))
        return hv_x86_fault_code(fault, vector, code_of(selector, ext));
    *out = (struct hv_descriptor){.address = base + offset};
    err = hv_x86_read_linear(v, out->address, &out->low, 8, HV_ACCESS_IMPLICIT, fault);
    if (!err && hv_cpu_long_mode(cpu) && !((out->low >> 44) & 1)) {
        if (offset + 15 > limit)
            return hv_x86_fault_code(fault, vector, code_of(selector, ext));
        err = hv_x86_read_linear(v, out->address + 8, &out->high, 8, HV_ACCESS_IMPLICIT, fault);
        out->high &= 0xffffffff;
    }
    out->segment = unpack(out->low, out->high, selector);
    return err;
}

int hv_x86_mark_descriptor(struct hv_vcpu *v, struct hv_descriptor *d, unsigned type_bits,
                           struct hv_fault *fault)
{
    uint8_t byte = (uint8_t)(d->low >> 40);

    if ((byte & type_bits) == type_bits)
        return 0;
    byte |= (uint8_t)type_bits;
    d->segment.attr |= (uint16_t)type_bits;
    return hv_x86_write_linear(v, d->address + 5, &byte, 1, HV_ACCESS_IMPLICIT, fault);
}

/* ---- data segments and the stack */

static void load_real(struct hv_cpu *cpu, enum hv_segment_index index, uint16_t selector)
{
    cpu->seg[index].selector = selector;
    cpu->seg[index].base = (uint64_t)selector << 4;
}

struct hv_segment hv_x86_null_stack(unsigned cpl)
{
    return (struct hv_segment){.selector = (uint16_t)cpl, .attr = (uint16_t)(cpl << 5)};
}

int hv_x86_check_stack(struct hv_vcpu *v, uint16_t selector, unsigned cpl, uint8_t vector,
                       unsigned ext, struct hv_segment *out, struct hv_fault *fault)
{
    struct hv_descriptor d;
    int err = hv_x86_read_descriptor(v, selector, vector, ext, &d, fault);
    uint16_t attr;

    if (err)
        return err;
    attr = d.segment.attr;
    if ((selector & 3u) != cpl || !(attr & HV_SEG_S) || hv_segment_is_code(&d.segment) ||
        !(HV_SEG_TYPE(attr) & HV_SEG_TYPE_RW) || HV_SEG_DPL(attr) != cpl)
        return hv_x86_fault_code(fault, vector, code_of(selector, ext));
    if (!(attr & HV_SEG_P))
        return hv_x86_fault_code(fault, HV_VEC_SS, code_of(selector, ext));
    err = hv_x86_mark_descriptor(v, &d, 1, fault);
    *out = d.segment;
    return err;
}

static int load_stack(struct hv_vcpu *v, uint16_t selector, struct hv_fault *fault)
{
    struct hv_cpu *cpu = &v->cpu;
    unsigned cpl = hv_cpu_cpl(cpu);
    struct hv_segment s;
    int err;

    if (hv_selector_is_null(selector)) {
        if (!hv_cpu_64bit(cpu) || cpl == 3 || (selector & 3u) != cpl)
            return hv_x86_fault_code(fault, HV_VEC_GP, 0);
        cpu->seg[HV_SS] = hv_x86_null_stack(cpl);
        return 0;
    }
    err = hv_x86_check_stack(v, selector, cpl, HV_VEC_GP, 0, &s, fault);
    if (!err)
        cpu->seg[HV_SS] = s;
    return err;
}

static int load_data(struct hv_vcpu *v, enum hv_segment_index index, uint16_t selector,
                     struct hv_fault *fault)
{
    struct hv_cpu *cpu = &v->cpu;
    unsigned cpl = hv_cpu_cpl(cpu), rpl = selector & 3u;
    struct hv_descriptor d;
    uint16_t attr;
    int err;

    if (hv_selector_is_null(selector)) {
        cpu->seg[index] = (struct hv_segment){.selector = selector};
        return 0;
    }
    err = hv_x86_read_descriptor(v, selector, HV_VEC_GP, 0, &d, fault);
    if (err)
        return err;
    attr = d.segment.attr;
    if (!(attr & HV_SEG_S) ||
        (hv_segment_is_code(&d.segment) && !(HV_SEG_TYPE(attr) & HV_SEG_TYPE_RW)))
        return hv_x86_fault_code(fault, HV_VEC_GP, code_of(selector, 0));
    if (!hv_segment_is_conforming(&d.segment) && HV_SEG_DPL(attr) < (cpl > rpl ? cpl : rpl))
        return hv_x86_fault_code(fault, HV_VEC_GP, code_of(selector, 0));
    if (!(attr & HV_SEG_P))
        return hv_x86_fault_code(fault, HV_VEC_NP, code_of(selector, 0));
    err = hv_x86_mark_descriptor(v, &d, 1, fault);
    if (!err)
        cpu->seg[index] = d.segment;
    return err;
}

int hv_x86_load_segment(struct hv_vcpu *v, enum hv_segment_index index, uint16_t selector,
                        struct hv_fault *fault)
{
    if (!(v->cpu.cr0 & HV_CR0_PE)) {
        load_real(&v->cpu, index, selector);
        return 0;
    }
    return index == HV_SS ? load_stack(v, selector, fault) : load_data(v, index, selector, fault);
}

/* ---- LDTR and TR */

static int read_system(struct hv_vcpu *v, uint16_t selector, unsigned type, struct hv_descriptor *d,
                       struct hv_fault *fault)
{
    int err;

    if (selector & 4)
        return hv_x86_fault_code(fault, HV_VEC_GP, code_of(selector, 0));
    err = hv_x86_read_descriptor(v, selector, HV_VEC_GP, 0, d, fault);
    if (err)
        return err;
    if ((d->segment.attr & (HV_SEG_S | 0xf)) != type ||
        (hv_cpu_long_mode(&v->cpu) && !hv_x86_canonical(d->segment.base)))
        return hv_x86_fault_code(fault, HV_VEC_GP, code_of(selector, 0));
    if (!(d->segment.attr & HV_SEG_P))
        return hv_x86_fault_code(fault, HV_VEC_NP, code_of(selector, 0));
    return 0;
}

int hv_x86_load_ldt(struct hv_vcpu *v, uint16_t selector, struct hv_fault *fault)
{
    struct hv_descriptor d;
    int err;

    if (hv_selector_is_null(selector)) {
        v->cpu.ldtr = (struct hv_segment){.selector = selector};
        return 0;
    }
    err = read_system(v, selector, HV_SYSTEM_LDT, &d, fault);
    if (!err)
        v->cpu.ldtr = d.segment;
    return err;
}

int hv_x86_load_task(struct hv_vcpu *v, uint16_t selector, struct hv_fault *fault)
{
    struct hv_descriptor d;
    int err;

    if (hv_selector_is_null(selector))
        return hv_x86_fault_code(fault, HV_VEC_GP, 0);
    err = read_system(v, selector, HV_SYSTEM_TSS, &d, fault);
    if (!err)
        err = hv_x86_mark_descriptor(v, &d, 2, fault);
    if (!err)
        v->cpu.tr = d.segment;
    return err;
}

/* ---- LAR, LSL, VERR, VERW */

/* System descriptor types that LAR (bit 0) and LSL (bit 1) know, outside and inside long mode. */
static bool system_type_known(unsigned type, enum hv_segment_question question, bool long_mode)
{
    static const uint16_t legacy[] = {
        [HV_ASK_RIGHTS] =
            1u << 1 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 9 | 1u << 11 | 1u << 12,
        [HV_ASK_LIMIT] = 1u << 1 | 1u << 2 | 1u << 3 | 1u << 9 | 1u << 11,
        [HV_ASK_WRITE] = 0,
    };
    static const uint16_t in_long_mode[] = {
        [HV_ASK_RIGHTS] = 1u << 2 | 1u << 9 | 1u << 11 | 1u << 12,
        [HV_ASK_LIMIT] = 1u << 2 | 1u << 9 | 1u << 11,
        [HV_ASK_WRITE] = 0,
    };

    return (long_mode ? in_long_mode : legacy)[question] & (1u << type);
}

static bool question_holds(const struct hv_cpu *cpu, const struct hv_descriptor *d,
                           enum hv_segment_question question, uint16_t selector)
{
    unsigned cpl = hv_cpu_cpl(cpu), rpl = selector & 3u;
    unsigned type = HV_SEG_TYPE(d->segment.attr);
    bool code = hv_segment_is_code(&d->segment);

    if (!hv_segment_is_conforming(&d->segment) &&
        HV_SEG_DPL(d->segment.attr) < (cpl > rpl ? cpl : rpl))
        return false;
    if (!(d->segment.attr & HV_SEG_S))
        return system_type_known(type, question, hv_cpu_long_mode(cpu));
    if (question == HV_ASK_READ)
        return !code || (type & HV_SEG_TYPE_RW);
    if (question == HV_ASK_WRITE)
        return !code && (type & HV_SEG_TYPE_RW);
    return true;
}

int hv_x86_ask_segment(struct hv_vcpu *v, enum hv_segment_question question, uint16_t selector,
                       uint32_t *answer, bool *yes, struct hv_fault *fault)
{
    struct hv_descriptor d;
    int err;

    *yes = false;
    if (hv_selector_is_null(selector))
        return 0;
    err = hv_x86_read_descriptor(v, selector, HV_VEC_GP, 0, &d, fault);
    if (err) /* beyond the table: the answer is no */
        return fault->vector == HV_VEC_GP ? 0 : err;
    *yes = question_holds(&v->cpu, &d, question, selector);
    *answer = question == HV_ASK_LIMIT ? d.segment.limit : (uint32_t)(d.low >> 32) & 0x00f0ff00;
    return 0;
}
