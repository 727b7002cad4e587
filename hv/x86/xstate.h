/* Offsets in the FXSAVE/XSAVE image and the bits of the control registers it holds.
 * Source: Intel SDM volume 1, 10.5.1 "FXSAVE Area" and 13.4 "XSAVE Area".
 *
 * hv_cpu.xsave always holds the live state: its legacy region is what FXSAVE64 would write, and its
 * header means nothing (what is in its initial state is found by looking).
 */
#pragma once

#include <string.h>

#include "hv/x86/cpu.h"

#define HV_FX_FCW        0
#define HV_FX_FSW        2
#define HV_FX_FTW        4 /* abridged: one bit per physical register, 1 is in use */
#define HV_FX_FOP        6
#define HV_FX_FIP        8
#define HV_FX_FDP        16
#define HV_FX_MXCSR      24
#define HV_FX_MXCSR_MASK 28
#define HV_FX_ST(i)      (32 + 16 * (i)) /* by stack position */
#define HV_FX_XMM(i)     (160 + 16 * (i))
#define HV_FX_BYTES      512
#define HV_FX_USED_BYTES 416 /* the rest is left alone by FXSAVE */

#define HV_XS_XSTATE_BV    512
#define HV_XS_XCOMP_BV     520
#define HV_XS_HEADER_BYTES 64
#define HV_XS_YMM_HIGH(i)  (576 + 16 * (i)) /* upper halves; the standard layout of component 2 */
#define HV_XS_YMM_BYTES    256

#define HV_XSTATE_X87      (1u << 0)
#define HV_XSTATE_SSE      (1u << 1)
#define HV_XSTATE_AVX      (1u << 2)
#define HV_XCOMP_COMPACTED (1ull << 63)

#define HV_FCW_INIT     0x37f
#define HV_FCW_MASKS    0x3f   /* of the six exceptions */
#define HV_FCW_FIXED    0x40   /* reads as one */
#define HV_FCW_BITS     0x1f3f /* what software can change */
#define HV_FSW_FLAGS    0x3f
#define HV_FSW_PE       0x20 /* precision */
#define HV_FSW_SF       0x40
#define HV_FSW_ES       0x80   /* an exception is pending */
#define HV_FSW_B        0x8000 /* mirrors ES */
#define HV_FSW_TOP(fsw) (((fsw) >> 11) & 7)

#define HV_MXCSR_INIT  0x1f80
#define HV_MXCSR_MASK  0xffff /* bits that may be set; DAZ is there on every x86-64 processor */
#define HV_MXCSR_FLAGS 0x3f
#define HV_MXCSR_MASKS 0x1f80
#define HV_MXCSR_OE    (1u << 3)
#define HV_MXCSR_PE    (1u << 5)
#define HV_MXCSR_UE    (1u << 4)
#define HV_MXCSR_UM    (1u << 11)
#define HV_MXCSR_FTZ   (1u << 15)

static inline uint16_t hv_fx_get16(const uint8_t *image, unsigned offset)
{
    uint16_t value;

    memcpy(&value, image + offset, sizeof(value));
    return value;
}

static inline uint32_t hv_fx_get32(const uint8_t *image, unsigned offset)
{
    uint32_t value;

    memcpy(&value, image + offset, sizeof(value));
    return value;
}

static inline uint64_t hv_fx_get64(const uint8_t *image, unsigned offset)
{
    uint64_t value;

    memcpy(&value, image + offset, sizeof(value));
    return value;
}

static inline void hv_fx_put16(uint8_t *image, unsigned offset, uint16_t value)
{
    memcpy(image + offset, &value, sizeof(value));
}

static inline void hv_fx_put32(uint8_t *image, unsigned offset, uint32_t value)
{
    memcpy(image + offset, &value, sizeof(value));
}

static inline void hv_fx_put64(uint8_t *image, unsigned offset, uint64_t value)
{
    memcpy(image + offset, &value, sizeof(value));
}

/* Offset in the image of byte @at of the 32 bytes of vector register @i. */
static inline unsigned hv_xs_vector(unsigned i, unsigned at)
{
    return at < 16 ? HV_FX_XMM(i) + at : HV_XS_YMM_HIGH(i) + at - 16;
}

/* Sets the x87 control word, and the status word with ES and B as the two together say. */
static inline void hv_fx_put_control(uint8_t *image, uint16_t fcw, uint16_t fsw)
{
    fcw = (fcw & HV_FCW_BITS) | HV_FCW_FIXED;
    fsw &= (uint16_t) ~(HV_FSW_ES | HV_FSW_B);
    if (fsw & ~fcw & HV_FSW_FLAGS)
        fsw |= HV_FSW_ES | HV_FSW_B;
    hv_fx_put16(image, HV_FX_FCW, fcw);
    hv_fx_put16(image, HV_FX_FSW, fsw);
}
