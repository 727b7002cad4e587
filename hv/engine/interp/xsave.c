/* FXSAVE, FXRSTOR and the XSAVE family. They run at every context switch of a guest, so the work
 * (hv/x86/native.h) is on guest memory itself where the image lies in one piece, else on a copy. */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include <string.h>

#define FX_BYTES 512u

static unsigned piece_of(uint64_t va, unsigned bytes)
{
    unsigned room = HV_PAGE_SIZE - (unsigned)(va & HV_PAGE_MASK);

    return bytes < room ? bytes : room;
}

/* Host address of the image if its pages are RAM and follow each other, else NULL; faults as an
 * access would. */
static uint8_t *host_image(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes,
                           bool write)
{
    unsigned done = piece_of(va, bytes);
    uint8_t *host = interp_host(x, op, va, done, write);

    while (host && done < bytes) {
        unsigned n = piece_of(va + done, bytes - done);

        if (!interp_is_64(x) || interp_host(x, op, va + done, n, write) != host + done)
            return NULL;
        done += n;
    }
    return host;
}

static void image_stored(struct interp *x, struct interp_op *op, uint64_t va, const uint8_t *host,
                         unsigned bytes)
{
    while (bytes) {
        unsigned n = piece_of(va, bytes);

        interp_stored(x, op, host, n);
        va += n;
        host += n;
        bytes -= n;
    }
}

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
    uint8_t image[FX_BYTES], *host;
    uint64_t va;

    check_fx(cpu, op, x, &va);
    host = host_image(x, op, va, FX_BYTES, true);
    if (host) {
        hv_fxsave(cpu, host, op->extra);
        image_stored(x, op, va, host, FX_BYTES);
    } else {
        /* Parts of the image are not written. */
        interp_check_write(x, op, va, FX_BYTES);
        interp_read_bytes(x, op, va, image, FX_BYTES);
        hv_fxsave(cpu, image, op->extra);
        interp_write_bytes(x, op, va, image, FX_BYTES);
    }
    INTERP_NEXT();
}

static INTERP_HANDLER(fxrstor)
{
    uint8_t image[FX_BYTES];
    const uint8_t *host;
    uint64_t va;

    check_fx(cpu, op, x, &va);
    host = host_image(x, op, va, FX_BYTES, false);
    if (!host)
        interp_read_bytes(x, op, va, image, FX_BYTES);
    if (hv_fxrstor(cpu, host ? host : image, op->extra))
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

/* op->extra: enum hv_xsave_kind. */
static INTERP_HANDLER(xsave)
{
    enum hv_xsave_kind kind = (enum hv_xsave_kind)op->extra;
    uint64_t rfbm, va = check_xsave(cpu, op, x, &rfbm);
    unsigned bytes = hv_xstate_bytes(rfbm);
    uint8_t *host = host_image(x, op, va, bytes, true);

    if (host) {
        hv_xsave(cpu, host, rfbm, kind);
        image_stored(x, op, va, host, bytes);
    } else {
        uint8_t image[HV_XSAVE_BYTES] __attribute__((aligned(64)));

        interp_check_write(x, op, va, bytes);
        interp_read_bytes(x, op, va, image, bytes);
        hv_xsave(cpu, image, rfbm, kind);
        interp_write_bytes(x, op, va, image, bytes);
    }
    INTERP_NEXT();
}

static INTERP_HANDLER(xrstor)
{
    uint8_t image[HV_XSAVE_BYTES] __attribute__((aligned(64)));
    uint64_t rfbm, va = check_xsave(cpu, op, x, &rfbm);
    unsigned bytes = hv_xstate_bytes(rfbm);
    const uint8_t *host = host_image(x, op, va, bytes, false);

    if (!host)
        interp_read_bytes(x, op, va, image, bytes);
    if (hv_xrstor(cpu, host ? host : image, rfbm))
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
    ROW(XSAVE, xsave, HV_XSAVE, INTERP_FEATURE_XSAVE),
    ROW(XSAVE64, xsave, HV_XSAVE, INTERP_FEATURE_XSAVE),
    ROW(XSAVEOPT, xsave, HV_XSAVEOPT, INTERP_FEATURE_XSAVEOPT),
    ROW(XSAVEOPT64, xsave, HV_XSAVEOPT, INTERP_FEATURE_XSAVEOPT),
    ROW(XSAVEC, xsave, HV_XSAVEC, INTERP_FEATURE_XSAVEC),
    ROW(XSAVEC64, xsave, HV_XSAVEC, INTERP_FEATURE_XSAVEC),
    ROW(XRSTOR, xrstor, 0, INTERP_FEATURE_XSAVE),
    ROW(XRSTOR64, xrstor, 0, INTERP_FEATURE_XSAVE),
};

const struct interp_insn_table interp_xsave_insns = {insns, HV_ARRAY_LEN(insns)};
