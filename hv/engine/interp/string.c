/* MOVS, STOS, LODS, CMPS, SCAS, with REP. Registers are committed element by element (or page by
 * page where the host's memcpy does it), so that a fault or an interrupt restarts the instruction
 * where it was.
 */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include <string.h>

enum string { STRING_MOVS, STRING_STOS, STRING_LODS, STRING_CMPS, STRING_SCAS };

INTERP_INLINE uint64_t pointer(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                               unsigned r, unsigned bytes, bool write)
{
    return interp_linear(cpu, op, x, r == HV_RDI ? HV_ES : op->seg,
                         interp_get(cpu, r * 8, op->address_bytes), bytes, write);
}

INTERP_INLINE void advance(struct hv_cpu *cpu, struct interp_op *op, unsigned r, uint64_t bytes)
{
    uint64_t delta = cpu->rflags & HV_EFLAGS_DF ? -bytes : bytes;

    interp_set(cpu, r * 8, op->address_bytes, interp_get(cpu, r * 8, op->address_bytes) + delta);
}

/* CMP for its flags. */
static void compare(struct hv_cpu *cpu, unsigned bytes, uint64_t a, uint64_t b)
{
    unsigned shift = 64 - bytes * 8;
    uint16_t ax;
    uint64_t flags;

    /* At the top of 64 bits, all flags but AF and PF are those of the smaller size. */
    __asm__("cmpq %[b], %[a]" INTERP_SAVE_FLAGS
            : "=&a"(ax)
            : [a] "r"(a << shift), [b] "r"(b << shift)
            : "cc");
    flags = interp_ax_flags(ax) & ~(uint64_t)(HV_EFLAGS_AF | HV_EFLAGS_PF);
    __asm__("cmpb %b[b], %b[a]" INTERP_SAVE_FLAGS : "=&a"(ax) : [a] "r"(a), [b] "r"(b) : "cc");
    flags |= interp_ax_flags(ax) & (HV_EFLAGS_AF | HV_EFLAGS_PF);
    interp_set_flags(cpu, INTERP_ARITH, flags);
}

INTERP_INLINE void one(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, enum string what,
                       unsigned bytes)
{
    uint64_t a = cpu->gpr[HV_RAX], b = 0;
    bool uses_si = what == STRING_MOVS || what == STRING_LODS || what == STRING_CMPS;
    bool uses_di = what != STRING_LODS;

    if (what == STRING_CMPS ||
        what == STRING_SCAS) /* first, as processors do: it shows if both fault */
        b = interp_read(x, op, pointer(cpu, op, x, HV_RDI, bytes, false), bytes);
    if (uses_si)
        a = interp_read(x, op, pointer(cpu, op, x, HV_RSI, bytes, false), bytes);
    if (what == STRING_MOVS || what == STRING_STOS)
        interp_write(x, op, pointer(cpu, op, x, HV_RDI, bytes, true), bytes, a);
    else if (what == STRING_LODS)
        interp_set(cpu, HV_RAX * 8, bytes, a);
    else
        compare(cpu, bytes, a, b);
    if (uses_si)
        advance(cpu, op, HV_RSI, bytes);
    if (uses_di)
        advance(cpu, op, HV_RDI, bytes);
}

/* How many whole elements from @va stay in its page. */
static uint64_t elements_in_page(uint64_t va, unsigned bytes)
{
    return (HV_PAGE_SIZE - (va & HV_PAGE_MASK)) / bytes;
}

static void fill(void *to, uint64_t value, unsigned bytes, uint64_t count)
{
    if (bytes == 1) {
        memset(to, (int)(value & 0xff), count);
        return;
    }
    for (uint64_t i = 0; i < count; i++)
        interp_store_host((uint8_t *)to + i * bytes, bytes, value);
}

/* Does up to a page of REP MOVS or REP STOS at once; the number of elements done, 0 if it has to be
 * one by one. */
INTERP_INLINE uint64_t chunk(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                             enum string what, unsigned bytes, uint64_t count)
{
    uint64_t to_va, n = count;
    const void *from = NULL;
    void *to;

    if ((what != STRING_MOVS && what != STRING_STOS) || count < 4 || !interp_is_64(x) ||
        op->address_bytes != 8 || (cpu->rflags & HV_EFLAGS_DF))
        return 0;
    to_va = pointer(cpu, op, x, HV_RDI, bytes, true);
    if (n > elements_in_page(to_va, bytes))
        n = elements_in_page(to_va, bytes);
    if (what == STRING_MOVS) {
        uint64_t from_va = pointer(cpu, op, x, HV_RSI, bytes, false);

        if (n > elements_in_page(from_va, bytes))
            n = elements_in_page(from_va, bytes);
        /* Read first, as the instruction would. */
        from = n ? interp_host(x, op, from_va, bytes, false) : NULL;
        if (!from)
            return 0;
    }
    to = n ? interp_host(x, op, to_va, bytes, true) : NULL;
    if (!to)
        return 0;
    if (what == STRING_STOS) {
        fill(to, cpu->gpr[HV_RAX], bytes, n);
    } else {
        /* A destination just behind the source repeats what was copied: not a job for memcpy. */
        if ((uint64_t)((uint8_t *)to - (const uint8_t *)from) < n * bytes)
            return 0;
        memmove(to, from, n * bytes);
        advance(cpu, op, HV_RSI, n * bytes);
    }
    interp_stored(x, op, to, (unsigned)(n * bytes));
    advance(cpu, op, HV_RDI, n * bytes);
    return n;
}

static bool repeat_ends(const struct hv_cpu *cpu, const struct interp_op *op, enum string what)
{
    if (what != STRING_CMPS && what != STRING_SCAS)
        return false;
    return !!(cpu->rflags & HV_EFLAGS_ZF) != !(op->flags & INTERP_OP_REPNE);
}

/* Until the count is 0 or the comparison ends it. False: leave with RIP at the instruction itself,
 * since something wants attention or each element is to be seen (single step). */
INTERP_INLINE bool repeat(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                          enum string what, unsigned bytes)
{
    uint64_t flags = cpu->rflags;

    for (;;) {
        uint64_t count = interp_get(cpu, HV_RCX * 8, op->address_bytes), n;

        if (count == 0)
            return true;
        n = x->stepping ? 0 : chunk(cpu, op, x, what, bytes, count);
        if (n == 0) {
            cpu->rflags = flags; /* so that a comparison which faults leaves those from before the
                                    first one */
            one(cpu, op, x, what, bytes);
            n = 1;
        }
        interp_set(cpu, HV_RCX * 8, op->address_bytes, count - n);
        if (repeat_ends(cpu, op, what) || count == n)
            return true;
        if (x->stepping || atomic_load_explicit(&x->v->attention, memory_order_relaxed) ||
            op[1].fn == interp_op_stop)
            return false;
    }
}

INTERP_INLINE bool string(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                          enum string what, unsigned bytes)
{
    if (!(op->flags & (INTERP_OP_REP | INTERP_OP_REPNE))) {
        one(cpu, op, x, what, bytes);
        return true;
    }
    if (repeat(cpu, op, x, what, bytes))
        return true;
    interp_rewind(x, op);
    return false;
}

#define STRING_HANDLER(what, bytes)                                                                \
    static INTERP_HANDLER(what##_##bytes)                                                          \
    {                                                                                              \
        if (string(cpu, op, x, what, bytes))                                                       \
            INTERP_NEXT();                                                                         \
    }
#define STRING_SIZES(what)                                                                         \
    STRING_HANDLER(what, 1) STRING_HANDLER(what, 2) STRING_HANDLER(what, 4) STRING_HANDLER(what, 8)
STRING_SIZES(STRING_MOVS)
STRING_SIZES(STRING_STOS)
STRING_SIZES(STRING_LODS)
STRING_SIZES(STRING_CMPS)
STRING_SIZES(STRING_SCAS)

void interp_set_string_segment(struct interp_decoding *d)
{
    d->op->seg = HV_DS;
    for (unsigned i = 0; i < d->insn.operand_count; i++) {
        const ZydisDecodedOperand *o = &d->operands[i];

        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY && ZydisRegisterGetId(o->mem.base) == HV_RSI)
            d->op->seg = (uint8_t)(o->mem.segment - ZYDIS_REGISTER_ES);
    }
}

/* MOVSD and CMPSD are also vector instructions; those have visible operands. */
static void pick_string(struct interp_decoding *d, const struct interp_insn *insn)
{
    if (d->insn.operand_count_visible)
        return;
    interp_set_string_segment(d);
    d->op->fn = insn->fn[0];
}

#define ROW(name, suffix, bytes)                                                                   \
    {                                                                                              \
        ZYDIS_MNEMONIC_##name##suffix, pick_string, .fn = { STRING_##name##_##bytes }              \
    }
#define ROWS(name) ROW(name, B, 1), ROW(name, W, 2), ROW(name, D, 4), ROW(name, Q, 8)

static const struct interp_insn insns[] = {ROWS(MOVS), ROWS(STOS), ROWS(LODS), ROWS(CMPS),
                                           ROWS(SCAS)};

const struct interp_insn_table interp_string_insns = {insns, HV_ARRAY_LEN(insns)};
