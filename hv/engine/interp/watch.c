/* Accesses that someone wants to know of: data breakpoints, and alignment checks of user code.
 *
 * While either is on, the TLB in use is one that is never filled, so that all accesses come through
 * memory.c, which asks here. Code runs at full speed otherwise.
 */
#include "config.h"

#include "hv/engine/interp/mem.h"

enum { BREAK_WRITE = 1, BREAK_ACCESS = 3 };

/* DR7: two enable bits per breakpoint from bit 0, two of type and two of length from bit 16. */
static bool enabled(const struct hv_cpu *cpu, unsigned i)
{
    return cpu->dr7 & (3u << (2 * i));
}

static unsigned type_of(const struct hv_cpu *cpu, unsigned i)
{
    return (cpu->dr7 >> (16 + 4 * i)) & 3;
}

static unsigned bytes_of(const struct hv_cpu *cpu, unsigned i)
{
    static const uint8_t bytes[] = {1, 2, 8, 4};

    return bytes[(cpu->dr7 >> (18 + 4 * i)) & 3];
}

static bool is_data(const struct hv_cpu *cpu, unsigned i)
{
    return enabled(cpu, i) && (type_of(cpu, i) == BREAK_WRITE || type_of(cpu, i) == BREAK_ACCESS);
}

bool interp_watch_refresh(struct interp *x)
{
    const struct hv_cpu *cpu = &x->v->cpu;

    x->watching = is_data(cpu, 0) || is_data(cpu, 1) || is_data(cpu, 2) || is_data(cpu, 3);
    x->aligning = (cpu->cr0 & HV_CR0_AM) && (cpu->rflags & HV_EFLAGS_AC) && hv_cpu_cpl(cpu) == 3;
    return x->watching || x->aligning;
}

/* A breakpoint covers its length, from an address with the low bits ignored. */
static bool overlaps(const struct hv_cpu *cpu, unsigned i, uint64_t va, unsigned bytes)
{
    unsigned length = bytes_of(cpu, i);
    uint64_t start = cpu->dr[i] & ~(uint64_t)(length - 1);

    return start - va < bytes || va - start < length;
}

void interp_watch(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes, bool write)
{
    const struct hv_cpu *cpu = &x->v->cpu;

    /* Wider ones have rules of their own: those that must be aligned raise #GP. */
    if (x->aligning && bytes <= 8 && !(bytes & (bytes - 1)) && (va & (bytes - 1)))
        interp_raise_code(x, op, HV_VEC_AC, 0);
    if (x->watching)
        for (unsigned i = 0; i < 4; i++)
            if (is_data(cpu, i) && (write || type_of(cpu, i) == BREAK_ACCESS) &&
                overlaps(cpu, i, va, bytes))
                x->watch_hits |= (uint8_t)(1u << i);
}
