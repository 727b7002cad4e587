/* Vector loads and stores of the elements that a mask selects: no other element's memory is
 * accessed, or faults. Source: Intel SDM volume 2, VMASKMOV, VPMASKMOV, MASKMOVDQU.
 */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include <string.h>

#include "hv/x86/xstate.h"

#define WIDE 0x80u /* in op->extra, beside the bytes of an element */

/* op->r: numbers of vector registers. */
enum { DATA, MASK };

static unsigned element_bytes(const struct interp_op *op)
{
    return op->extra & ~WIDE;
}

static unsigned vector_bytes(const struct interp_op *op)
{
    return op->extra & WIDE ? 32 : 16;
}

/* Whether the element at byte @at is. */
static bool is_selected(const struct hv_cpu *cpu, const struct interp_op *op, unsigned at)
{
    return cpu->xsave[hv_xs_vector(op->r[MASK], at + element_bytes(op) - 1)] & 0x80;
}

static uint64_t address_of(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, unsigned at,
                           bool write)
{
    uint64_t offset = (interp_offset(cpu, op, x) + at) & interp_mask(op->address_bytes);

    return interp_linear(cpu, op, x, op->seg, offset, element_bytes(op), write);
}

static INTERP_HANDLER(load)
{
    unsigned bytes = element_bytes(op);
    uint8_t result[32] = {0};

    interp_check_avx(cpu, op, x);
    for (unsigned at = 0; at < vector_bytes(op); at += bytes) {
        uint64_t value;

        if (!is_selected(cpu, op, at))
            continue;
        value = interp_read(x, op, address_of(cpu, op, x, at, false), bytes);
        memcpy(result + at, &value, bytes);
    }
    memcpy(cpu->xsave + HV_FX_XMM(op->r[DATA]), result, 16);
    memcpy(cpu->xsave + HV_XS_YMM_HIGH(op->r[DATA]), result + 16, 16);
    INTERP_NEXT();
}

/* All that can fault comes first. */
static void store_selected(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    unsigned bytes = element_bytes(op);

    for (unsigned at = 0; at < vector_bytes(op); at += bytes) {
        uint64_t va;

        if (!is_selected(cpu, op, at))
            continue;
        va = address_of(cpu, op, x, at, true);
        if (!interp_host(x, op, va, bytes, true))
            interp_check_write(x, op, va, bytes);
    }
    for (unsigned at = 0; at < vector_bytes(op); at += bytes) {
        uint64_t value = 0;

        if (!is_selected(cpu, op, at))
            continue;
        memcpy(&value, cpu->xsave + hv_xs_vector(op->r[DATA], at), bytes);
        interp_write(x, op, address_of(cpu, op, x, at, true), bytes, value);
    }
}

static INTERP_HANDLER(store)
{
    interp_check_avx(cpu, op, x);
    store_selected(cpu, op, x);
    INTERP_NEXT();
}

static INTERP_HANDLER(store_legacy)
{
    interp_check_sse(cpu, op, x);
    store_selected(cpu, op, x);
    INTERP_NEXT();
}

/* VMASKMOVPS xmm1, xmm2, m128 and m128, xmm1, xmm2: the mask comes second among the registers of a
 * load, first among those of a store. */
static void pick(struct interp_decoding *d, const struct interp_insn *insn)
{
    const ZydisDecodedOperand *o = d->operands;
    bool stores = o[0].type == ZYDIS_OPERAND_TYPE_MEMORY;

    d->op->r[DATA] = interp_vector_number(o[stores ? 2 : 0].reg.value);
    d->op->r[MASK] = interp_vector_number(o[1].reg.value);
    if (d->insn.raw.vex.L)
        d->op->extra |= WIDE;
    d->op->fn = insn->fn[stores];
}

/* The operand is at RDI, in DS unless a prefix says otherwise. */
static void pick_maskmovdqu(struct interp_decoding *d, const struct interp_insn *insn)
{
    interp_set_memory(d);
    d->op->r[DATA] = interp_vector_number(d->operands[0].reg.value);
    d->op->r[MASK] = interp_vector_number(d->operands[1].reg.value);
    d->op->fn = insn->fn[0];
}

static const struct interp_insn insns[] = {
    {ZYDIS_MNEMONIC_VMASKMOVPS, pick, {load, store}, 0, 4, INTERP_FEATURE_AVX, 0},
    {ZYDIS_MNEMONIC_VMASKMOVPD, pick, {load, store}, 0, 8, INTERP_FEATURE_AVX, 0},
    {ZYDIS_MNEMONIC_VPMASKMOVD, pick, {load, store}, 0, 4, INTERP_FEATURE_AVX2, 0},
    {ZYDIS_MNEMONIC_VPMASKMOVQ, pick, {load, store}, 0, 8, INTERP_FEATURE_AVX2, 0},
    {ZYDIS_MNEMONIC_VMASKMOVDQU, pick_maskmovdqu, {store}, 0, 1, INTERP_FEATURE_AVX, 0},
    {ZYDIS_MNEMONIC_MASKMOVDQU, pick_maskmovdqu, {store_legacy}, 0, 1, INTERP_FEATURE_SSE2, 0},
};

const struct interp_insn_table interp_masked_insns = {insns, HV_ARRAY_LEN(insns)};
