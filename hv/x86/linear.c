/* Guest memory by linear address. */
#include "config.h"

#include "hv/x86/linear.h"

#include <errno.h>
#include <string.h>

#include "hv/domain.h"
#include "hv/engine/engine.h"
#include "hv/machine/machine.h"
#include "hv/x86/codemap.h"

_Static_assert(EFAULT == 14, "hv_x86_fault returns it without <errno.h>");

/* The part of an access that lies in one page. */
static size_t piece_of(uint64_t va, size_t bytes)
{
    size_t room = HV_PAGE_SIZE - (va & HV_PAGE_MASK);

    return bytes < room ? bytes : room;
}

static int translate(struct hv_vcpu *v, uint64_t *va, unsigned flags, hv_gpa *gpa,
                     struct hv_fault *fault)
{
    const struct hv_engine_ops *engine = v->domain->engine;
    struct hv_translation t;
    int err;

    if (!hv_cpu_long_mode(&v->cpu))
        *va &= 0xffffffff;
    else if (!hv_x86_canonical(*va))
        return hv_x86_fault_code(fault, HV_VEC_GP, 0);
    if (engine && engine->tlb_lookup && engine->tlb_lookup(v, *va, flags, gpa))
        return 0;
    err = hv_x86_translate(v, hv_gva_of(*va), flags, &t, fault);
    if (err)
        return err;
    *gpa = t.gpa;
    if (engine && engine->tlb_enter)
        engine->tlb_enter(v, *va, flags, &t);
    return 0;
}

/* One load or store where the size allows, since other vCPUs may use the same memory. */
static void copy_once(void *to, const void *from, size_t bytes)
{
    if (bytes == 8)
        __builtin_memcpy(to, from, 8);
    else if (bytes == 4)
        __builtin_memcpy(to, from, 4);
    else if (bytes == 2)
        __builtin_memcpy(to, from, 2);
    else
        memcpy(to, from, bytes);
}

/* Device memory in pieces that hv_mmio_read takes. */
static size_t mmio_piece(uint64_t gpa, size_t bytes)
{
    size_t n = 8;

    while (n > bytes || (gpa & (n - 1)))
        n >>= 1;
    return n;
}

static void mmio_copy(struct hv_vcpu *v, hv_gpa gpa, uint8_t *buf, size_t bytes, bool write)
{
    while (bytes) {
        size_t n = mmio_piece(gpa.v, bytes);
        uint64_t value = 0;

        if (write) {
            memcpy(&value, buf, n);
            hv_mmio_write(v, gpa, (unsigned)n, value);
        } else {
            value = hv_mmio_read(v, gpa, (unsigned)n);
            memcpy(buf, &value, n);
        }
        gpa.v += n;
        buf += n;
        bytes -= n;
    }
}

int hv_x86_read_linear(struct hv_vcpu *v, uint64_t va, void *buf, size_t bytes, unsigned flags,
                       struct hv_fault *fault)
{
    uint8_t *out = buf;

    while (bytes) {
        size_t n = piece_of(va, bytes);
        hv_gpa gpa;
        void *p;
        int err = translate(v, &va, flags, &gpa, fault);

        if (err)
            return err;
        p = hv_memory_at(&v->domain->mem, gpa, n, false);
        if (p)
            copy_once(out, p, n);
        else
            mmio_copy(v, gpa, out, n, false);
        va += n;
        out += n;
        bytes -= n;
    }
    return 0;
}

int hv_x86_write_linear(struct hv_vcpu *v, uint64_t va, const void *buf, size_t bytes,
                        unsigned flags, struct hv_fault *fault)
{
    const uint8_t *in = buf;
    hv_gpa gpa;
    int err;

    for (size_t done = piece_of(va, bytes) < bytes ? 0 : bytes; done < bytes;
         done += piece_of(va + done, bytes - done)) {
        uint64_t at = va + done;

        err = translate(v, &at, flags | HV_ACCESS_WRITE, &gpa, fault);
        if (err)
            return err;
    }
    while (bytes) {
        size_t n = piece_of(va, bytes);
        void *p;

        err = translate(v, &va, flags | HV_ACCESS_WRITE, &gpa, fault);
        if (err)
            return err;
        p = hv_memory_at(&v->domain->mem, gpa, n, true);
        if (p) {
            copy_once(p, in, n);
            hv_codemap_written(v->domain->mem.code, gpa, (unsigned)n);
        } else {
            uint8_t piece[HV_PAGE_SIZE];

            memcpy(piece, in, n);
            mmio_copy(v, gpa, piece, n, true);
        }
        va += n;
        in += n;
        bytes -= n;
    }
    return 0;
}
