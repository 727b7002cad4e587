/* What handlers are made of: registers, addresses, memory through the TLB, flags, jumps. */
#pragma once

#include "hv/engine/interp/interp.h"

#define INTERP_ARITH                                                                               \
    (HV_EFLAGS_CF | HV_EFLAGS_PF | HV_EFLAGS_AF | HV_EFLAGS_ZF | HV_EFLAGS_SF | HV_EFLAGS_OF)

#define INTERP_LIKELY(c)   __builtin_expect(!!(c), 1)
#define INTERP_UNLIKELY(c) __builtin_expect(!!(c), 0)

/* ---- registers, by byte offset: 1 for AH, 8 for RCX ... */

INTERP_INLINE void *interp_reg(struct hv_cpu *cpu, unsigned offset)
{
    return (uint8_t *)cpu->gpr + offset;
}

INTERP_INLINE uint64_t interp_get(struct hv_cpu *cpu, unsigned offset, unsigned bytes)
{
    const void *p = interp_reg(cpu, offset);

    switch (bytes) {
    case 1:
        return *(const uint8_t *)p;
    case 2:
        return *(const interp_u16 *)p;
    case 4:
        return *(const interp_u32 *)p;
    default:
        return *(const interp_u64 *)p;
    }
}

/* 32-bit results clear the upper half, smaller ones leave the rest. */
INTERP_INLINE void interp_set(struct hv_cpu *cpu, unsigned offset, unsigned bytes, uint64_t value)
{
    void *p = interp_reg(cpu, offset);

    switch (bytes) {
    case 1:
        *(uint8_t *)p = (uint8_t)value;
        break;
    case 2:
        *(interp_u16 *)p = (uint16_t)value;
        break;
    case 4:
        *(interp_u64 *)p = (uint32_t)value;
        break;
    default:
        *(interp_u64 *)p = value;
        break;
    }
}

INTERP_INLINE uint64_t interp_mask(unsigned bytes)
{
    return bytes == 8 ? ~0ull : (1ull << (bytes * 8)) - 1;
}

INTERP_INLINE int64_t interp_sign(uint64_t value, unsigned bytes)
{
    unsigned shift = 64 - bytes * 8;

    return (int64_t)(value << shift) >> shift;
}

/* ---- addresses */

INTERP_INLINE uint64_t interp_address(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    uint64_t disp = (uint64_t)op->disp;

    if (INTERP_LIKELY(op->ea == INTERP_EA_BASE))
        return cpu->gpr[op->base] + disp;
    if (op->ea == INTERP_EA_INDEX)
        return cpu->gpr[op->base] + (cpu->gpr[op->index] << op->scale) + disp;
    if (op->ea == INTERP_EA_RIP)
        return x->block_rip + disp;
    return interp_ea_slow(cpu, op, x);
}

/* RIP of this instruction and of the next one. */
INTERP_INLINE uint64_t interp_rip_mask(const struct interp *x)
{
    switch (x->mode & INTERP_MODE_SIZE) {
    case INTERP_MODE_64:
        return ~0ull;
    default:
        return 0xffffffff;
    }
}

INTERP_INLINE uint64_t interp_next_rip(const struct interp *x, const struct interp_op *op)
{
    return (x->block_rip + op->end) & interp_rip_mask(x);
}

/* ---- memory */

INTERP_INLINE struct interp_tlb_entry *interp_tlb_at(struct interp *x, uint64_t va)
{
    return &x->tlb[(va >> HV_PAGE_SHIFT) & (INTERP_TLB_ENTRIES - 1)];
}

/* The tag is made of the last byte's page: an access that crosses never matches the first page's
 * entry. */
INTERP_INLINE uint64_t interp_tag(struct interp *x, uint64_t va, unsigned bytes)
{
    return ((va + bytes - 1) & ~(uint64_t)HV_PAGE_MASK) | x->asid;
}

INTERP_INLINE uint64_t interp_load_host(const void *p, unsigned bytes)
{
    switch (bytes) {
    case 1:
        return *(const volatile uint8_t *)p;
    case 2:
        return *(const volatile interp_u16 *)p;
    case 4:
        return *(const volatile interp_u32 *)p;
    default:
        return *(const volatile interp_u64 *)p;
    }
}

INTERP_INLINE void interp_store_host(void *p, unsigned bytes, uint64_t value)
{
    switch (bytes) {
    case 1:
        *(volatile uint8_t *)p = (uint8_t)value;
        break;
    case 2:
        *(volatile interp_u16 *)p = (uint16_t)value;
        break;
    case 4:
        *(volatile interp_u32 *)p = (uint32_t)value;
        break;
    default:
        *(volatile interp_u64 *)p = value;
        break;
    }
}

INTERP_INLINE uint64_t interp_read(struct interp *x, struct interp_op *op, uint64_t va,
                                   unsigned bytes)
{
    struct interp_tlb_entry *e = interp_tlb_at(x, va);

    if (INTERP_LIKELY(e->read == interp_tag(x, va, bytes)))
        return interp_load_host((const void *)(va + e->addend), bytes);
    return interp_read_slow(x, op, va, bytes);
}

/* To be called after each store to guest memory through a host pointer. */
INTERP_INLINE void interp_stored(struct interp *x, struct interp_op *op, const void *host,
                                 unsigned bytes)
{
    uint64_t gpa = (uint64_t)((const uint8_t *)host - x->mem_base);

    if (x->fenced)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (INTERP_UNLIKELY(__atomic_load_n(&x->code_lines[gpa >> HV_PAGE_SHIFT], __ATOMIC_RELAXED)))
        interp_code_written(x, op, gpa, bytes);
}

INTERP_INLINE void interp_write(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes,
                                uint64_t value)
{
    struct interp_tlb_entry *e = interp_tlb_at(x, va);

    if (INTERP_LIKELY(e->write == interp_tag(x, va, bytes))) {
        void *host = (void *)(va + e->addend);

        interp_store_host(host, bytes, value);
        interp_stored(x, op, host, bytes);
    } else {
        interp_write_slow(x, op, va, bytes, value);
    }
}

/* A memory operand that is read and then written: a host pointer, either to guest memory or to
 * x->bounce, in which case the value has been read into it and the page is known to be writable. */
INTERP_INLINE void *interp_modify(struct interp *x, struct interp_op *op, uint64_t va,
                                  unsigned bytes)
{
    struct interp_tlb_entry *e = interp_tlb_at(x, va);

    if (INTERP_LIKELY(e->write == interp_tag(x, va, bytes)))
        return (void *)(va + e->addend);
    return interp_modify_slow(x, op, va, bytes);
}

/* Ends what interp_modify began: the new value is at @host. */
INTERP_INLINE void interp_modified(struct interp *x, struct interp_op *op, uint64_t va, void *host,
                                   unsigned bytes)
{
    if (INTERP_LIKELY(host != x->bounce))
        interp_stored(x, op, host, bytes);
    else
        interp_modified_slow(x, op, va, bytes);
}

/* ---- operands by number, for handlers that are not specialised by form */

INTERP_INLINE uint64_t interp_operand(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                      unsigned i, unsigned bytes)
{
    if (op->r[i] != INTERP_NO_REG)
        return interp_get(cpu, op->r[i], bytes);
    if (op->ea != INTERP_EA_NONE && op->mem == i)
        return interp_read(x, op, interp_address(cpu, op, x), bytes);
    return (uint64_t)op->imm & interp_mask(bytes);
}

INTERP_INLINE void interp_set_operand(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                      unsigned i, unsigned bytes, uint64_t value)
{
    if (op->r[i] != INTERP_NO_REG)
        interp_set(cpu, op->r[i], bytes, value);
    else
        interp_write(x, op, interp_address(cpu, op, x), bytes, value);
}

/* ---- flags: what LAHF and SETO leave in AX, as EFLAGS bits */

INTERP_INLINE uint64_t interp_ax_flags(uint16_t ax)
{
    return ((ax >> 8) & (INTERP_ARITH & 0xff)) | ((uint64_t)(ax & 1) << 11);
}

INTERP_INLINE void interp_set_flags(struct hv_cpu *cpu, uint64_t mask, uint64_t flags)
{
    cpu->rflags = (cpu->rflags & ~mask) | (flags & mask);
}

/* Host flags from and to AX around an instruction: SAHF sets all but OF, which the addition sets
 * first. */
#define INTERP_LOAD_FLAGS "addb $127, %%al\n\tsahf\n\t"
#define INTERP_SAVE_FLAGS "\n\tlahf\n\tseto %%al"

INTERP_INLINE uint16_t interp_flags_ax(uint64_t rflags)
{
    return (uint16_t)(((rflags & (INTERP_ARITH & 0xff)) << 8) | ((rflags >> 11) & 1));
}

/* Condition codes in the order of the opcodes. */
INTERP_INLINE bool interp_condition(uint64_t f, unsigned cc)
{
    bool r;

    switch (cc >> 1) {
    case 0:
        r = f & HV_EFLAGS_OF;
        break;
    case 1:
        r = f & HV_EFLAGS_CF;
        break;
    case 2:
        r = f & HV_EFLAGS_ZF;
        break;
    case 3:
        r = f & (HV_EFLAGS_CF | HV_EFLAGS_ZF);
        break;
    case 4:
        r = f & HV_EFLAGS_SF;
        break;
    case 5:
        r = f & HV_EFLAGS_PF;
        break;
    case 6:
        r = ((f >> 7) ^ (f >> 11)) & 1;
        break;
    default:
        r = (f & HV_EFLAGS_ZF) || (((f >> 7) ^ (f >> 11)) & 1);
        break;
    }
    return r ^ (cc & 1);
}

/* ---- ends of blocks */

/* Goes on at @rip, which is not in this page for sure, or is computed. */
INTERP_INLINE void interp_go(struct hv_cpu *cpu, uint64_t rip)
{
    cpu->rip = rip;
}

/* Goes on at @rip, a constant of this block: by chain @slot once that is known. */
INTERP_INLINE void interp_go_chained(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                     unsigned slot, uint64_t rip)
{
    struct interp_block *b = op->chain[slot];

    if (INTERP_LIKELY(b && b->generation == __atomic_load_n(b->generation_now, __ATOMIC_RELAXED))) {
        x->block_rip = rip;
        x->next = b;
    } else {
        cpu->rip = rip;
        x->link = &op->chain[slot];
    }
}

/* The rest of a handler that ends its block but changed nothing. */
INTERP_INLINE void interp_end_plain(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    cpu->rip = interp_next_rip(x, op);
}

/* The rest of a handler that may have changed the mode, the page tables or the flags that matter
 * for interrupts: RIP is set, and everything is looked at anew. */
INTERP_INLINE void interp_end_system(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    cpu->rip = interp_next_rip(x, op);
    x->stale = true;
}

/* ---- the stack, with the width of the mode */

INTERP_INLINE bool interp_is_64(const struct interp *x)
{
    return (x->mode & INTERP_MODE_SIZE) == INTERP_MODE_64;
}

/* Bytes of the stack pointer that pushes and pops change. */
INTERP_INLINE unsigned interp_stack_bytes(const struct hv_cpu *cpu, const struct interp *x)
{
    if (interp_is_64(x))
        return 8;
    return cpu->seg[HV_SS].attr & HV_SEG_DB ? 4 : 2;
}

INTERP_INLINE void interp_set_sp(struct hv_cpu *cpu, struct interp *x, uint64_t sp)
{
    unsigned bytes = interp_stack_bytes(cpu, x);

    interp_set(cpu, HV_RSP * 8, bytes, sp);
}

/* Writes at @sp, a stack pointer that is not committed; gives it back wrapped. */
INTERP_INLINE uint64_t interp_push_at(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                      uint64_t sp, unsigned bytes, uint64_t value)
{
    sp -= bytes;
    if (INTERP_LIKELY(interp_is_64(x))) {
        interp_write(x, op, sp, bytes, value);
        return sp;
    }
    sp &= interp_mask(interp_stack_bytes(cpu, x));
    interp_write(x, op, interp_linear(cpu, op, x, HV_SS, sp, bytes, true), bytes, value);
    return sp;
}

INTERP_INLINE void interp_push(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                               unsigned bytes, uint64_t value)
{
    interp_set_sp(cpu, x, interp_push_at(cpu, op, x, cpu->gpr[HV_RSP], bytes, value));
}

/* Reads at stack pointer @sp. */
INTERP_INLINE uint64_t interp_peek_at(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                      uint64_t sp, unsigned bytes)
{
    if (INTERP_LIKELY(interp_is_64(x)))
        return interp_read(x, op, sp, bytes);
    sp &= interp_mask(interp_stack_bytes(cpu, x));
    return interp_read(x, op, interp_linear(cpu, op, x, HV_SS, sp, bytes, false), bytes);
}

INTERP_INLINE uint64_t interp_pop(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                  unsigned bytes)
{
    uint64_t value = interp_peek_at(cpu, op, x, cpu->gpr[HV_RSP], bytes);

    interp_set_sp(cpu, x, cpu->gpr[HV_RSP] + bytes);
    return value;
}

/* Where a bit instruction's memory operand is: a register's bit number counts beyond the operand.
 */
INTERP_INLINE uint64_t interp_bit_address(struct hv_cpu *cpu, struct interp_op *op,
                                          struct interp *x, unsigned bytes)
{
    uint64_t va = interp_address(cpu, op, x);
    int64_t bit;

    if (op->flags & INTERP_OP_SRC_IMM)
        return va;
    bit = interp_sign(interp_get(cpu, op->r[1], bytes), bytes);
    va += (uint64_t)(bit >> (interp_log2(bytes) + 3)) * bytes;
    return interp_is_64(x) && op->address_bytes == 8 ? va : va & 0xffffffff;
}
