/* VGATHER and VPGATHER: each element from an address of its own. A mask element is cleared as soon
 * as its load is done or was not asked for, so an instruction that faults goes on where it was.
 * (The manual has the mask elements filled with their top bits first; processors do not.)
 * Source: Intel SDM volume 2, VGATHERDPS and following; table 2-27 "Type 12".
 */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include <string.h>

#include "hv/x86/xstate.h"

/* op->extra */
#define DATA_8  1u /* elements of 8 bytes, else 4 */
#define INDEX_8 2u
#define WIDE    4u /* 32 bytes of the larger of the two */

/* op->r: numbers of vector registers. */
enum { DATA, INDEX, MASK };

static unsigned data_bytes(const struct interp_op *op)
{
    return op->extra & DATA_8 ? 8 : 4;
}

static unsigned index_bytes(const struct interp_op *op)
{
    return op->extra & INDEX_8 ? 8 : 4;
}

static unsigned element_count(const struct interp_op *op)
{
    return (op->extra & WIDE ? 32u : 16u) / (op->extra & (DATA_8 | INDEX_8) ? 8 : 4);
}

static uint64_t index_of(const struct hv_cpu *cpu, const struct interp_op *op, unsigned i)
{
    unsigned offset = hv_xs_vector(op->r[INDEX], i * index_bytes(op));

    if (op->extra & INDEX_8)
        return hv_fx_get64(cpu->xsave, offset);
    return (uint64_t)(int64_t)(int32_t)hv_fx_get32(cpu->xsave, offset);
}

static void gather_element(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, unsigned i)
{
    unsigned bytes = data_bytes(op);
    uint8_t *mask = cpu->xsave + hv_xs_vector(op->r[MASK], i * bytes);
    uint64_t offset, value;

    if (!(mask[bytes - 1] & 0x80)) {
        memset(mask, 0, bytes);
        return;
    }
    offset = interp_offset(cpu, op, x) + (index_of(cpu, op, i) << op->scale);
    offset &= interp_mask(op->address_bytes);
    value = interp_read(x, op, interp_linear(cpu, op, x, op->seg, offset, bytes, false), bytes);
    memcpy(cpu->xsave + hv_xs_vector(op->r[DATA], i * bytes), &value, bytes);
    memset(mask, 0, bytes);
}

static INTERP_HANDLER(gather)
{
    unsigned count = element_count(op);

    interp_check_avx(cpu, op, x);
    for (unsigned i = 0; i < count; i++)
        gather_element(cpu, op, x, i);
    for (unsigned i = 0; i < 32; i += 4) {
        hv_fx_put32(cpu->xsave, hv_xs_vector(op->r[MASK], i), 0);
        if (i >= count * data_bytes(op))
            hv_fx_put32(cpu->xsave, hv_xs_vector(op->r[DATA], i), 0);
    }
    INTERP_NEXT();
}

/* The EVEX forms are not offered. */
static void pick(struct interp_decoding *d, const struct interp_insn *insn)
{
    const ZydisDecodedOperand *o = d->operands;

    if (d->insn.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
        return;
    d->op->r[DATA] = interp_vector_number(o[0].reg.value);
    d->op->r[INDEX] = interp_vector_number(o[1].mem.index);
    d->op->r[MASK] = interp_vector_number(o[2].reg.value);
    d->op->extra |= d->insn.raw.vex.L ? WIDE : 0;
    d->op->fn = insn->fn[0];
}

#define ROW(name, value)                                                                           \
    {                                                                                              \
        ZYDIS_MNEMONIC_##name, pick, .fn = {gather}, .extra = value,                               \
                                     .feature = INTERP_FEATURE_AVX2                                \
    }

static const struct interp_insn insns[] = {
    ROW(VGATHERDPS, 0),       ROW(VGATHERDPD, DATA_8),
    ROW(VGATHERQPS, INDEX_8), ROW(VGATHERQPD, DATA_8 | INDEX_8),
    ROW(VPGATHERDD, 0),       ROW(VPGATHERDQ, DATA_8),
    ROW(VPGATHERQD, INDEX_8), ROW(VPGATHERQQ, DATA_8 | INDEX_8),
};

const struct interp_insn_table interp_gather_insns = {insns, HV_ARRAY_LEN(insns)};
