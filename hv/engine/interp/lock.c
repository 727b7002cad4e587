/* Read-modify-write of memory that is atomic: LOCK forms, XCHG, XADD, CMPXCHG. Guest vCPUs are
 * threads, so these are the host's own locked instructions on guest memory. An operand that is not
 * in one page of memory is modified in a buffer: in two pages it is atomic all the same, for all
 * stores over two pages wait for each other; a device register is not.
 */
#include "config.h"

#include "hv/engine/interp/mem.h"

/* An operand of memory or, where there is no LOCK, a register: its host address. */
struct place {
    void *host;
    uint64_t va;
    bool memory;
};

INTERP_INLINE struct place place_at(struct interp *x, struct interp_op *op, uint64_t va,
                                    unsigned bytes)
{
    return (struct place){.host = interp_modify(x, op, va, bytes), .va = va, .memory = true};
}

INTERP_INLINE struct place place_of(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                    unsigned bytes)
{
    if (op->r[0] != INTERP_NO_REG) {
        x->bounce[0] = interp_get(cpu, op->r[0], bytes);
        return (struct place){.host = x->bounce};
    }
    return place_at(x, op, interp_address(cpu, op, x), bytes);
}

INTERP_INLINE void place_done(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                              const struct place *p, unsigned bytes)
{
    if (p->memory)
        interp_modified(x, op, p->va, p->host, bytes);
    else
        interp_set(cpu, op->r[0], bytes, interp_load_host(p->host, bytes));
}

/* ---- LOCK with one or two operands */

#define LOCKED2(insn, suffix, m)                                                                   \
    __asm__ volatile(INTERP_LOAD_FLAGS "lock; " insn suffix " %" m "[b], (%[p])" INTERP_SAVE_FLAGS \
                     : "+&a"(ax)                                                                   \
                     : [p] "r"(p.host), [b] "r"(b)                                                 \
                     : "cc", "memory")
#define LOCKED1(insn, suffix, m)                                                                   \
    __asm__ volatile(INTERP_LOAD_FLAGS "lock; " insn suffix " (%[p])" INTERP_SAVE_FLAGS            \
                     : "+&a"(ax)                                                                   \
                     : [p] "r"(p.host)                                                             \
                     : "cc", "memory")

#define LOCKED_HANDLER(name, insn, count, bytes, suffix, m)                                        \
    static INTERP_HANDLER(name##_##bytes)                                                          \
    {                                                                                              \
        struct place p = place_at(x, op, interp_address(cpu, op, x), bytes);                       \
        uint64_t b = op->flags & INTERP_OP_SRC_IMM ? (uint64_t)op->imm                             \
                     : (count) == 2                ? interp_get(cpu, op->r[1], bytes)              \
                                                   : 0;                                                           \
        uint16_t ax = interp_flags_ax(cpu->rflags);                                                \
                                                                                                   \
        (void)b;                                                                                   \
        LOCKED##count(insn, suffix, m);                                                            \
        interp_set_flags(cpu, INTERP_ARITH, interp_ax_flags(ax));                                  \
        place_done(cpu, op, x, &p, bytes);                                                         \
        INTERP_NEXT();                                                                             \
    }
#define LOCKED_SIZES(name, insn, count)                                                            \
    LOCKED_HANDLER(name, insn, count, 1, "b", "b")                                                 \
    LOCKED_HANDLER(name, insn, count, 2, "w", "w")                                                 \
    LOCKED_HANDLER(name, insn, count, 4, "l", "k") LOCKED_HANDLER(name, insn, count, 8, "q", "q")

LOCKED_SIZES(add, "add", 2)
LOCKED_SIZES(or, "or", 2)
LOCKED_SIZES(adc, "adc", 2)
LOCKED_SIZES(sbb, "sbb", 2)
LOCKED_SIZES(and, "and", 2)
LOCKED_SIZES(sub, "sub", 2)
LOCKED_SIZES(xor, "xor", 2)
LOCKED_SIZES(inc, "inc", 1)
LOCKED_SIZES(dec, "dec", 1)
LOCKED_SIZES(neg, "neg", 1)
LOCKED_SIZES(not, "not", 1)

/* The bit number is reduced to the operand; interp_bit_address has taken the rest. */
#define LOCKED_BIT(name, insn, bytes, suffix, m)                                                   \
    static INTERP_HANDLER(name##_##bytes)                                                          \
    {                                                                                              \
        struct place p = place_at(x, op, interp_bit_address(cpu, op, x, bytes), bytes);            \
        uint64_t b =                                                                               \
            op->flags & INTERP_OP_SRC_IMM ? (uint64_t)op->imm : interp_get(cpu, op->r[1], bytes);  \
        uint16_t ax = interp_flags_ax(cpu->rflags);                                                \
                                                                                                   \
        b &= (bytes)*8 - 1;                                                                        \
        LOCKED2(insn, suffix, m);                                                                  \
        interp_set_flags(cpu, INTERP_ARITH, interp_ax_flags(ax));                                  \
        place_done(cpu, op, x, &p, bytes);                                                         \
        INTERP_NEXT();                                                                             \
    }
#define LOCKED_BITS(name, insn)                                                                    \
    LOCKED_BIT(name, insn, 2, "w", "w")                                                            \
    LOCKED_BIT(name, insn, 4, "l", "k") LOCKED_BIT(name, insn, 8, "q", "q")

LOCKED_BITS(bts, "bts")
LOCKED_BITS(btr, "btr")
LOCKED_BITS(btc, "btc")

/* ---- XCHG with memory, XADD */

INTERP_INLINE void exchange(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                            unsigned bytes)
{
    unsigned r = op->r[op->mem == 0 ? 1 : 0];
    struct place p = place_at(x, op, interp_address(cpu, op, x), bytes);
    uint64_t b = interp_get(cpu, r, bytes);

    if (bytes == 1)
        __asm__ volatile("xchgb %b0, (%1)" : "+r"(b) : "r"(p.host) : "memory");
    else if (bytes == 2)
        __asm__ volatile("xchgw %w0, (%1)" : "+r"(b) : "r"(p.host) : "memory");
    else if (bytes == 4)
        __asm__ volatile("xchgl %k0, (%1)" : "+r"(b) : "r"(p.host) : "memory");
    else
        __asm__ volatile("xchgq %q0, (%1)" : "+r"(b) : "r"(p.host) : "memory");
    place_done(cpu, op, x, &p, bytes);
    interp_set(cpu, r, bytes, b);
}

#define XADD_ASM(suffix, m)                                                                        \
    __asm__ volatile(INTERP_LOAD_FLAGS "lock; xadd" suffix " %" m "[b], (%[p])" INTERP_SAVE_FLAGS  \
                     : "+&a"(ax), [b] "+r"(b)                                                      \
                     : [p] "r"(p.host)                                                             \
                     : "cc", "memory")

INTERP_INLINE void exchange_add(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                unsigned bytes)
{
    struct place p = place_of(cpu, op, x, bytes);
    uint64_t b = interp_get(cpu, op->r[1], bytes);
    uint16_t ax = interp_flags_ax(cpu->rflags);

    if (bytes == 1)
        XADD_ASM("b", "b");
    else if (bytes == 2)
        XADD_ASM("w", "w");
    else if (bytes == 4)
        XADD_ASM("l", "k");
    else
        XADD_ASM("q", "q");
    interp_set_flags(cpu, INTERP_ARITH, interp_ax_flags(ax));
    /* With one register as both operands the sum is what stays. */
    interp_set(cpu, op->r[1], bytes, b);
    place_done(cpu, op, x, &p, bytes);
}

/* ---- CMPXCHG */

#define CMPXCHG_ASM(suffix, m)                                                                     \
    __asm__ volatile("lock; cmpxchg" suffix " %" m                                                 \
                     "[b], (%[p])\n\tmov %%rax, %[old]" INTERP_SAVE_FLAGS                          \
                     : "+&a"(a), [old] "=&r"(old)                                                  \
                     : [p] "r"(p.host), [b] "r"(b)                                                 \
                     : "cc", "memory")

INTERP_INLINE void compare_exchange(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                    unsigned bytes)
{
    struct place p = place_of(cpu, op, x, bytes);
    uint64_t a = cpu->gpr[HV_RAX], b = interp_get(cpu, op->r[1], bytes), old;

    if (bytes == 1)
        CMPXCHG_ASM("b", "b");
    else if (bytes == 2)
        CMPXCHG_ASM("w", "w");
    else if (bytes == 4)
        CMPXCHG_ASM("l", "k");
    else
        CMPXCHG_ASM("q", "q");
    interp_set_flags(cpu, INTERP_ARITH, interp_ax_flags((uint16_t)a));
    /* Memory is written in any case; a register only if it was equal, and else keeps its upper
     * half. */
    if (p.memory || (cpu->rflags & HV_EFLAGS_ZF))
        place_done(cpu, op, x, &p, bytes);
    if (!(cpu->rflags & HV_EFLAGS_ZF))
        interp_set(cpu, HV_RAX * 8, bytes, old);
}

/* ---- CMPXCHG8B, CMPXCHG16B */

static void set_zf(struct hv_cpu *cpu, bool zf)
{
    interp_set_flags(cpu, HV_EFLAGS_ZF, zf ? HV_EFLAGS_ZF : 0);
}

static INTERP_HANDLER(cmpxchg8b)
{
    struct place p = place_at(x, op, interp_address(cpu, op, x), 8);
    uint64_t old = cpu->gpr[HV_RDX] << 32 | (uint32_t)cpu->gpr[HV_RAX];
    uint64_t new = cpu->gpr[HV_RCX] << 32 | (uint32_t)cpu->gpr[HV_RBX];
    bool zf;

    __asm__ volatile("lock; cmpxchgq %[n], (%[p])"
                     : "+a"(old), "=@ccz"(zf)
                     : [n] "r"(new), [p] "r"(p.host)
                     : "memory");
    place_done(cpu, op, x, &p, 8);
    if (!zf) {
        interp_set(cpu, HV_RAX * 8, 4, old);
        interp_set(cpu, HV_RDX * 8, 4, old >> 32);
    }
    set_zf(cpu, zf);
    INTERP_NEXT();
}

static INTERP_HANDLER(cmpxchg16b)
{
    uint64_t va = interp_address(cpu, op, x);
    uint64_t a = cpu->gpr[HV_RAX], d = cpu->gpr[HV_RDX];
    struct place p;
    bool zf;

    if (va & 15)
        interp_raise_code(x, op, HV_VEC_GP, 0);
    p = place_at(x, op, va, 16);
    if (p.host == x->bounce) /* aligned and yet not in one page of memory: a device */
        interp_unsupported(x, op, "CMPXCHG16B outside of memory");
    __asm__ volatile("lock; cmpxchg16b (%[p])"
                     : "+a"(a), "+d"(d), "=@ccz"(zf)
                     : "b"(cpu->gpr[HV_RBX]), "c"(cpu->gpr[HV_RCX]), [p] "r"(p.host)
                     : "memory");
    place_done(cpu, op, x, &p, 16);
    cpu->gpr[HV_RAX] = a;
    cpu->gpr[HV_RDX] = d;
    set_zf(cpu, zf);
    INTERP_NEXT();
}

#define SIZED(name, function, bytes)                                                               \
    static INTERP_HANDLER(name##_##bytes)                                                          \
    {                                                                                              \
        function(cpu, op, x, bytes);                                                               \
        INTERP_NEXT();                                                                             \
    }
#define ALL_SIZES(name, function)                                                                  \
    SIZED(name, function, 1)                                                                       \
    SIZED(name, function, 2) SIZED(name, function, 4) SIZED(name, function, 8)

ALL_SIZES(xchg, exchange)
ALL_SIZES(xadd, exchange_add)
ALL_SIZES(cmpxchg, compare_exchange)

#define ROW(name, f)                                                                               \
    {                                                                                              \
        ZYDIS_MNEMONIC_##name,                                                                     \
        {                                                                                          \
            f##_1, f##_2, f##_4, f##_8                                                             \
        }                                                                                          \
    }
#define BIT_ROW(name, f)                                                                           \
    {                                                                                              \
        ZYDIS_MNEMONIC_##name,                                                                     \
        {                                                                                          \
            NULL, f##_2, f##_4, f##_8                                                              \
        }                                                                                          \
    }

void interp_pick_locked(struct interp_decoding *d)
{
    static const struct {
        ZydisMnemonic mnemonic;
        interp_fn *fn[4];
    } rows[] = {
        ROW(ADD, add),  ROW(OR, or),     ROW(ADC, adc),     ROW(SBB, sbb),     ROW(AND, and),
        ROW(SUB, sub),  ROW(XOR, xor),   ROW(INC, inc),     ROW(DEC, dec),     ROW(NEG, neg),
        ROW(NOT, not ), ROW(XCHG, xchg), BIT_ROW(BTS, bts), BIT_ROW(BTR, btr), BIT_ROW(BTC, btc),
    };

    for (unsigned i = 0; i < HV_ARRAY_LEN(rows); i++)
        if (rows[i].mnemonic == d->insn.mnemonic)
            d->op->fn = rows[i].fn[interp_log2(d->op->size)];
}

static const struct interp_insn insns[] = {
    {ZYDIS_MNEMONIC_XADD, .fn = {xadd_1, xadd_2, xadd_4, xadd_8}},
    {ZYDIS_MNEMONIC_CMPXCHG, .fn = {cmpxchg_1, cmpxchg_2, cmpxchg_4, cmpxchg_8}},
    {ZYDIS_MNEMONIC_CMPXCHG8B, .fn = {cmpxchg8b}},
    {ZYDIS_MNEMONIC_CMPXCHG16B, .fn = {cmpxchg16b}, .feature = INTERP_FEATURE_CX16},
};

const struct interp_insn_table interp_lock_insns = {insns, HV_ARRAY_LEN(insns)};
