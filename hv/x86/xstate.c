/* The XSAVE family on images in host memory.
 * Source: Intel SDM volume 1, chapter 13; volume 2, FXSAVE, FXRSTOR, XSAVE, XSAVEC, XRSTOR.
 */
#include "config.h"

#include "hv/x86/native.h"

#include "hv/x86/xstate.h"

#include <cpuid.h>
#include <errno.h>

/* State components beyond the legacy region, as CPUID leaf 0xd describes them to the guest. */
static const struct component {
    uint8_t bit;
    uint16_t offset, bytes;
} components[] = {
    {2, 576, 256},   /* AVX: upper halves of YMM0-15 */
    {5, 1088, 64},   /* opmask */
    {6, 1152, 512},  /* ZMM_Hi256 */
    {7, 1664, 1024}, /* Hi16_ZMM */
    {9, 2688, 8},    /* PKRU */
};

_Static_assert(2688 + 8 <= HV_XSAVE_BYTES, "room for every component");

/* Whether the host has AVX and its kernel keeps that state: SDM volume 1, 14.3. */
static bool host_has_avx(void)
{
    const uint64_t state = HV_XSTATE_SSE | HV_XSTATE_AVX;
    uint32_t eax, ebx, ecx, edx, low, high;

    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx & bit_OSXSAVE) || !(ecx & bit_AVX))
        return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & state) == state;
}

uint64_t hv_xstate_supported(void)
{
    return HV_XSTATE_X87 | HV_XSTATE_SSE | (host_has_avx() ? HV_XSTATE_AVX : 0);
}

unsigned hv_xstate_bytes(uint64_t xcr0)
{
    unsigned end = HV_FX_BYTES + HV_XS_HEADER_BYTES;

    for (size_t i = 0; i < HV_ARRAY_LEN(components); i++)
        if (xcr0 & (1ull << components[i].bit))
            end = components[i].offset + components[i].bytes;
    return end;
}

/* Outside 64-bit mode registers 8 to 15 are neither saved nor loaded: of XMM, and of the upper
 * halves of YMM. */
static unsigned xmm_bytes(const struct hv_cpu *cpu)
{
    return hv_cpu_64bit(cpu) ? 256 : 128;
}

static unsigned component_bytes(const struct hv_cpu *cpu, size_t i)
{
    return components[i].bit == 2 ? xmm_bytes(cpu) : components[i].bytes;
}

/* XSAVE's x87 component: bytes 0 to 23 and the registers. */
static void copy_x87(uint8_t *to, const uint8_t *from)
{
    memcpy(to, from, HV_FX_MXCSR);
    memcpy(to + HV_FX_ST(0), from + HV_FX_ST(0), HV_FX_XMM(0) - HV_FX_ST(0));
}

/* Brings x87 state that software wrote into the form the processor keeps it in. */
static void settle_x87(uint8_t *image)
{
    hv_fx_put_control(image, hv_fx_get16(image, HV_FX_FCW), hv_fx_get16(image, HV_FX_FSW));
    image[HV_FX_FTW + 1] = 0;
    hv_fx_put16(image, HV_FX_FOP, hv_fx_get16(image, HV_FX_FOP) & 0x7ff);
    for (unsigned i = 0; i < 8; i++)
        memset(image + HV_FX_ST(i) + 10, 0, 6);
}

static void reset_x87(uint8_t *image)
{
    memset(image, 0, HV_FX_MXCSR);
    memset(image + HV_FX_ST(0), 0, HV_FX_XMM(0) - HV_FX_ST(0));
    hv_fx_put16(image, HV_FX_FCW, HV_FCW_INIT);
}

void hv_xstate_reset(struct hv_cpu *cpu)
{
    memset(cpu->xsave, 0, sizeof(cpu->xsave));
    reset_x87(cpu->xsave);
    hv_fx_put32(cpu->xsave, HV_FX_MXCSR, HV_MXCSR_INIT);
    hv_fx_put32(cpu->xsave, HV_FX_MXCSR_MASK, HV_MXCSR_MASK);
}

void hv_fxsave(const struct hv_cpu *cpu, uint8_t out[512], bool rex_w)
{
    copy_x87(out, cpu->xsave);
    if (!rex_w) { /* 32-bit offsets; the selectors beside them are deprecated and read as 0 */
        hv_fx_put32(out, HV_FX_FIP + 4, 0);
        hv_fx_put32(out, HV_FX_FDP + 4, 0);
    }
    hv_fx_put32(out, HV_FX_MXCSR, hv_fx_get32(cpu->xsave, HV_FX_MXCSR));
    hv_fx_put32(out, HV_FX_MXCSR_MASK, HV_MXCSR_MASK);
    memcpy(out + HV_FX_XMM(0), cpu->xsave + HV_FX_XMM(0), xmm_bytes(cpu));
}

int hv_fxrstor(struct hv_cpu *cpu, const uint8_t in[512], bool rex_w)
{
    uint32_t mxcsr = hv_fx_get32(in, HV_FX_MXCSR);

    __asm__ volatile("" ::: "memory"); /* not read again */
    if (mxcsr & ~(uint32_t)HV_MXCSR_MASK)
        return -EINVAL;
    copy_x87(cpu->xsave, in);
    if (!rex_w) {
        hv_fx_put32(cpu->xsave, HV_FX_FIP + 4, 0);
        hv_fx_put32(cpu->xsave, HV_FX_FDP + 4, 0);
    }
    settle_x87(cpu->xsave);
    hv_fx_put32(cpu->xsave, HV_FX_MXCSR, mxcsr);
    memcpy(cpu->xsave + HV_FX_XMM(0), in + HV_FX_XMM(0), xmm_bytes(cpu));
    return 0;
}

/* @count is a multiple of 8. */
static bool all_zero(const uint8_t *bytes, unsigned count)
{
    for (unsigned i = 0; i < count; i += 8)
        if (hv_fx_get64(bytes, i))
            return false;
    return true;
}

static bool x87_in_use(const uint8_t *image)
{
    _Static_assert(HV_FX_FCW == 0 && HV_FX_MXCSR == 24, "three words before MXCSR");

    return hv_fx_get64(image, 0) != HV_FCW_INIT || hv_fx_get64(image, 8) ||
           hv_fx_get64(image, 16) || !all_zero(image + HV_FX_ST(0), HV_FX_XMM(0) - HV_FX_ST(0));
}

/* XINUSE: which components of @rfbm are not in their initial state. MXCSR does not count, except
 * for the compacted format (13.10 "Operation of XSAVEC"). */
static uint64_t in_use(const struct hv_cpu *cpu, uint64_t rfbm, bool compacted)
{
    const uint8_t *image = cpu->xsave;
    uint64_t used = 0;

    if ((rfbm & HV_XSTATE_X87) && x87_in_use(image))
        used |= HV_XSTATE_X87;
    if ((rfbm & HV_XSTATE_SSE) && (!all_zero(image + HV_FX_XMM(0), xmm_bytes(cpu)) ||
                                   (compacted && hv_fx_get32(image, HV_FX_MXCSR) != HV_MXCSR_INIT)))
        used |= HV_XSTATE_SSE;
    for (size_t i = 0; i < HV_ARRAY_LEN(components); i++)
        if ((rfbm >> components[i].bit & 1) &&
            !all_zero(image + components[i].offset, component_bytes(cpu, i)))
            used |= 1ull << components[i].bit;
    return used;
}

/* Where component @i lies in a compacted image that holds the components @held. */
static unsigned compacted_offset(uint64_t held, size_t i)
{
    unsigned offset = HV_FX_BYTES + HV_XS_HEADER_BYTES;

    for (size_t k = 0; k < i; k++)
        if (held & (1ull << components[k].bit))
            offset += components[k].bytes;
    return offset;
}

static unsigned image_offset(uint64_t held, size_t i, bool compacted)
{
    return compacted ? compacted_offset(held, i) : components[i].offset;
}

static void save_mxcsr(const struct hv_cpu *cpu, uint8_t *image)
{
    hv_fx_put32(image, HV_FX_MXCSR, hv_fx_get32(cpu->xsave, HV_FX_MXCSR));
    hv_fx_put32(image, HV_FX_MXCSR_MASK, HV_MXCSR_MASK);
}

void hv_xsave(const struct hv_cpu *cpu, uint8_t *image, uint64_t rfbm, enum hv_xsave_kind kind)
{
    bool compacted = kind == HV_XSAVEC;
    uint64_t used = in_use(cpu, rfbm, compacted);
    uint64_t write = kind == HV_XSAVE ? rfbm : used;

    if (write & HV_XSTATE_X87)
        copy_x87(image, cpu->xsave);
    if (compacted ? write & HV_XSTATE_SSE : rfbm & (HV_XSTATE_SSE | HV_XSTATE_AVX))
        save_mxcsr(cpu, image);
    if (write & HV_XSTATE_SSE)
        memcpy(image + HV_FX_XMM(0), cpu->xsave + HV_FX_XMM(0), xmm_bytes(cpu));
    for (size_t i = 0; i < HV_ARRAY_LEN(components); i++)
        if (write & (1ull << components[i].bit))
            memcpy(image + image_offset(rfbm, i, compacted), cpu->xsave + components[i].offset,
                   component_bytes(cpu, i));

    if (compacted) {
        hv_fx_put64(image, HV_XS_XSTATE_BV, used);
        hv_fx_put64(image, HV_XS_XCOMP_BV, rfbm | HV_XCOMP_COMPACTED);
    } else {
        uint64_t old = hv_fx_get64(image, HV_XS_XSTATE_BV);

        hv_fx_put64(image, HV_XS_XSTATE_BV, (old & ~rfbm) | used);
    }
}

/* What XRSTOR has to check: taken from the image once, which another processor may be writing. */
struct restore {
    uint64_t rfbm, xstate_bv, held; /* held: components of a compacted image */
    bool compacted;
    uint32_t mxcsr;
    uint8_t header[HV_XS_HEADER_BYTES];
};

static void read_header(struct restore *r, const uint8_t *image, uint64_t rfbm)
{
    uint64_t xcomp_bv;

    memcpy(r->header, image + HV_XS_XSTATE_BV, sizeof(r->header));
    r->mxcsr = hv_fx_get32(image, HV_FX_MXCSR);
    __asm__ volatile("" ::: "memory"); /* not read again */
    xcomp_bv = hv_fx_get64(r->header, HV_XS_XCOMP_BV - HV_XS_XSTATE_BV);
    r->rfbm = rfbm;
    r->xstate_bv = hv_fx_get64(r->header, 0);
    r->compacted = xcomp_bv & HV_XCOMP_COMPACTED;
    r->held = xcomp_bv & ~HV_XCOMP_COMPACTED;
}

static bool loads_mxcsr(const struct restore *r)
{
    if (r->compacted)
        return r->rfbm & r->xstate_bv & HV_XSTATE_SSE;
    return r->rfbm & (HV_XSTATE_SSE | HV_XSTATE_AVX);
}

/* The #GP conditions of XRSTOR on the header and MXCSR. */
static int check_header(const struct hv_cpu *cpu, const struct restore *r)
{
    if (r->compacted) {
        if ((r->held & ~cpu->xcr0) || (r->xstate_bv & ~r->held) ||
            !all_zero(r->header + 16, HV_XS_HEADER_BYTES - 16))
            return -EINVAL;
    } else if ((r->xstate_bv & ~cpu->xcr0) || !all_zero(r->header + 8, 16)) {
        return -EINVAL;
    }
    return loads_mxcsr(r) && (r->mxcsr & ~(uint32_t)HV_MXCSR_MASK) ? -EINVAL : 0;
}

static void restore_x87(struct hv_cpu *cpu, const uint8_t *image, const struct restore *r)
{
    if (!(r->xstate_bv & HV_XSTATE_X87)) {
        reset_x87(cpu->xsave);
        return;
    }
    copy_x87(cpu->xsave, image);
    settle_x87(cpu->xsave);
}

static void restore_mxcsr(struct hv_cpu *cpu, const struct restore *r)
{
    if (loads_mxcsr(r))
        hv_fx_put32(cpu->xsave, HV_FX_MXCSR, r->mxcsr);
    else if (r->compacted && (r->rfbm & HV_XSTATE_SSE))
        hv_fx_put32(cpu->xsave, HV_FX_MXCSR, HV_MXCSR_INIT);
}

/* A component from @from, or its initial state. */
static void restore_bytes(uint8_t *to, const uint8_t *from, unsigned bytes, bool load)
{
    if (load)
        memcpy(to, from, bytes);
    else
        memset(to, 0, bytes);
}

int hv_xrstor(struct hv_cpu *cpu, const uint8_t *image, uint64_t rfbm)
{
    struct restore r;
    int ret;

    read_header(&r, image, rfbm);
    ret = check_header(cpu, &r);
    if (ret < 0)
        return ret;
    if (rfbm & HV_XSTATE_X87)
        restore_x87(cpu, image, &r);
    restore_mxcsr(cpu, &r);
    if (rfbm & HV_XSTATE_SSE)
        restore_bytes(cpu->xsave + HV_FX_XMM(0), image + HV_FX_XMM(0), xmm_bytes(cpu),
                      r.xstate_bv & HV_XSTATE_SSE);
    for (size_t i = 0; i < HV_ARRAY_LEN(components); i++)
        if (rfbm & (1ull << components[i].bit))
            restore_bytes(cpu->xsave + components[i].offset,
                          image + image_offset(r.held, i, r.compacted), component_bytes(cpu, i),
                          r.xstate_bv & (1ull << components[i].bit));
    return 0;
}
