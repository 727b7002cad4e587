/* FXSAVE, FXRSTOR and the XSAVE family: guest memory is copied, the work is on the copy
 * (hv/x86/native.h). */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include <string.h>

#define FX_BYTES     512u
#define HEADER_BYTES 64u

static void check_fx(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, uint64_t *va)
{
    if (cpu->cr0 & (HV_CR0_EM | HV_CR0_TS))
        interp_raise_vector(x, op, HV_VEC_NM);
    *va = interp_address(cpu, op, x);
    if (*va & 15)
        interp_raise_code(x, op, HV_VEC_GP, 0);
}

static INTERP_HANDLER(fxsave)
{
    uint8_t image[FX_BYTES];
    uint64_t va;

    check_fx(cpu, op, x, &va);
    /* Parts of the image are not written. */
    interp_check_write(x, op, va, FX_BYTES);
    interp_read_bytes(x, op, va, image, FX_BYTES);
    hv_fxsave(cpu, image, op->extra);
    interp_write_bytes(x, op, va, image, FX_BYTES);
    INTERP_NEXT();
}

static INTERP_HANDLER(fxrstor)
{
    uint8_t image[FX_BYTES];
    uint64_t va;

    check_fx(cpu, op, x, &va);
    interp_read_bytes(x, op, va, image, FX_BYTES);
    if (hv_fxrstor(cpu, image, op->extra))
        interp_raise_code(x, op, HV_VEC_GP, 0);
    INTERP_NEXT();
}

static uint64_t check_xsave(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                            uint64_t *rfbm)
{
    uint64_t va;

    if (!(cpu->cr4 & HV_CR4_OSXSAVE))
        interp_raise_vector(x, op, HV_VEC_UD);
    if (cpu->cr0 & HV_CR0_TS)
        interp_raise_vector(x, op, HV_VEC_NM);
    va = interp_address(cpu, op, x);
    if (va & 63)
        interp_raise_code(x, op, HV_VEC_GP, 0);
    *rfbm = cpu->xcr0 & (cpu->gpr[HV_RDX] << 32 | (uint32_t)cpu->gpr[HV_RAX]);
    return va;
}

/* The most that any component of XCR0 needs, in either format. */
static unsigned image_bytes(const struct hv_cpu *cpu)
{
    unsigned bytes = hv_xstate_bytes(cpu->xcr0);

    return bytes > HV_XSAVE_BYTES ? HV_XSAVE_BYTES : bytes;
}

/* op->extra: compacted. */
static INTERP_HANDLER(xsave)
{
    uint8_t image[HV_XSAVE_BYTES] __attribute__((aligned(64)));
    uint64_t rfbm, va = check_xsave(cpu, op, x, &rfbm);
    unsigned bytes = image_bytes(cpu);

    if (op->extra) /* the compacted form is no longer than what was asked for */
        bytes = hv_xstate_bytes(rfbm);
    if (bytes < FX_BYTES + HEADER_BYTES)
        bytes = FX_BYTES + HEADER_BYTES;
    interp_check_write(x, op, va, bytes);
    interp_read_bytes(x, op, va, image, bytes);
    hv_xsave(cpu, image, rfbm, op->extra);
    interp_write_bytes(x, op, va, image, bytes);
    INTERP_NEXT();
}

static INTERP_HANDLER(xrstor)
{
    uint8_t image[HV_XSAVE_BYTES] __attribute__((aligned(64)));
    uint64_t rfbm, va = check_xsave(cpu, op, x, &rfbm);
    unsigned bytes = image_bytes(cpu);

    memset(image, 0, sizeof(image));
    interp_read_bytes(x, op, va, image, bytes);
    if (hv_xrstor(cpu, image, rfbm))
        interp_raise_code(x, op, HV_VEC_GP, 0);
    INTERP_NEXT();
}

/* These have larger operands than op->mem_bytes holds; outside 64-bit mode the limit check covers
 * its start. */
#define ROW(name, function, value, bit)                                                            \
    {                                                                                              \
        ZYDIS_MNEMONIC_##name, .fn = {function}, .extra = value, .feature = bit                    \
    }

static const struct interp_insn insns[] = {
    ROW(FXSAVE, fxsave, 0, INTERP_FEATURE_FXSR),
    ROW(FXSAVE64, fxsave, 1, INTERP_FEATURE_FXSR),
    ROW(FXRSTOR, fxrstor, 0, INTERP_FEATURE_FXSR),
    ROW(FXRSTOR64, fxrstor, 1, INTERP_FEATURE_FXSR),
    ROW(XSAVE, xsave, 0, INTERP_FEATURE_XSAVE),
    ROW(XSAVE64, xsave, 0, INTERP_FEATURE_XSAVE),
    ROW(XSAVEOPT, xsave, 0, INTERP_FEATURE_XSAVEOPT),
    ROW(XSAVEOPT64, xsave, 0, INTERP_FEATURE_XSAVEOPT),
    ROW(XSAVEC, xsave, 1, INTERP_FEATURE_XSAVEC),
    ROW(XSAVEC64, xsave, 1, INTERP_FEATURE_XSAVEC),
    ROW(XRSTOR, xrstor, 0, INTERP_FEATURE_XSAVE),
    ROW(XRSTOR64, xrstor, 0, INTERP_FEATURE_XSAVE),
};

const struct interp_insn_table interp_xsave_insns = {insns, HV_ARRAY_LEN(insns)};
