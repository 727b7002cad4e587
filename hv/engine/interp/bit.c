/* Bit instructions: BT to BTC, scans and counts, BMI, ADX, CRC32; by the host's own instruction
 * where flags are concerned. A guest sees them only if the host has them (CPUID policy).
 */
#include "config.h"

#include "hv/engine/interp/mem.h"

/* ---- BT, BTS, BTR, BTC */

enum bit { BIT_BT, BIT_BTS, BIT_BTR, BIT_BTC };

#define BIT_ASM(insn, suffix, m)                                                                   \
    __asm__(INTERP_LOAD_FLAGS insn suffix " %" m "[b], %" m "[a]" INTERP_SAVE_FLAGS                \
            : [a] "+r"(a), "+&a"(ax)                                                               \
            : [b] "r"(b)                                                                           \
            : "cc")
#define BIT_CASE(id, insn)                                                                         \
    case id:                                                                                       \
        if (bytes == 2)                                                                            \
            BIT_ASM(insn, "w", "w");                                                               \
        else if (bytes == 4)                                                                       \
            BIT_ASM(insn, "l", "k");                                                               \
        else                                                                                       \
            BIT_ASM(insn, "q", "q");                                                               \
        break

INTERP_INLINE uint64_t compute_bit(struct hv_cpu *cpu, unsigned what, unsigned bytes, uint64_t a,
                                   uint64_t b)
{
    uint16_t ax = interp_flags_ax(cpu->rflags);

    switch (what) {
        BIT_CASE(BIT_BT, "bt");
        BIT_CASE(BIT_BTS, "bts");
        BIT_CASE(BIT_BTR, "btr");
    default:
        BIT_CASE(BIT_BTC, "btc");
    }
    interp_set_flags(cpu, INTERP_ARITH, interp_ax_flags(ax));
    return a;
}

INTERP_INLINE void bit_test(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                            unsigned what, unsigned bytes)
{
    uint64_t b =
        op->flags & INTERP_OP_SRC_IMM ? (uint64_t)op->imm : interp_get(cpu, op->r[1], bytes);
    uint64_t va;
    void *host;

    if (op->r[0] != INTERP_NO_REG) {
        uint64_t a = compute_bit(cpu, what, bytes, interp_get(cpu, op->r[0], bytes), b);

        if (what != BIT_BT)
            interp_set(cpu, op->r[0], bytes, a);
        return;
    }
    va = interp_bit_address(cpu, op, x, bytes);
    if (what == BIT_BT) {
        compute_bit(cpu, what, bytes, interp_read(x, op, va, bytes), b);
        return;
    }
    host = interp_modify(x, op, va, bytes);
    interp_store_host(host, bytes, compute_bit(cpu, what, bytes, interp_load_host(host, bytes), b));
    interp_modified(x, op, va, host, bytes);
}

/* ---- one source */

#define UNARY_ASM(insn, suffix, m)                                                                 \
    __asm__(INTERP_LOAD_FLAGS insn suffix " %" m "[b], %" m "[a]" INTERP_SAVE_FLAGS                \
            : [a] "+r"(a), "+&a"(ax)                                                               \
            : [b] "r"(b)                                                                           \
            : "cc")

/* The whole destination goes in and out, since some leave it alone (BSF of 0) and 16-bit forms keep
 * the rest. */
#define UNARY_SIZE(name, insn, bytes, suffix, m)                                                   \
    static INTERP_HANDLER(name##_##bytes)                                                          \
    {                                                                                              \
        uint64_t b = interp_operand(cpu, op, x, 1, bytes);                                         \
        uint64_t a = interp_get(cpu, op->r[0], 8);                                                 \
        uint16_t ax = interp_flags_ax(cpu->rflags);                                                \
                                                                                                   \
        UNARY_ASM(insn, suffix, m);                                                                \
        interp_set_flags(cpu, INTERP_ARITH, interp_ax_flags(ax));                                  \
        interp_set(cpu, op->r[0], 8, a);                                                           \
        INTERP_NEXT();                                                                             \
    }
#define UNARY_LARGE(name, insn)                                                                    \
    UNARY_SIZE(name, insn, 4, "l", "k") UNARY_SIZE(name, insn, 8, "q", "q")
#define UNARY_ALL(name, insn) UNARY_SIZE(name, insn, 2, "w", "w") UNARY_LARGE(name, insn)

UNARY_ALL(bsf, "bsf")
UNARY_ALL(bsr, "bsr")
UNARY_ALL(tzcnt, "tzcnt")
UNARY_ALL(lzcnt, "lzcnt")
UNARY_ALL(popcnt, "popcnt")
UNARY_LARGE(blsi, "blsi")
UNARY_LARGE(blsr, "blsr")
UNARY_LARGE(blsmsk, "blsmsk")
UNARY_LARGE(adcx, "adcx")
UNARY_LARGE(adox, "adox")

/* ---- two sources */

#define THREE_SIZE(name, insn, bytes, suffix, m)                                                   \
    static INTERP_HANDLER(name##_##bytes)                                                          \
    {                                                                                              \
        uint64_t b = interp_operand(cpu, op, x, 1, bytes);                                         \
        uint64_t c = interp_operand(cpu, op, x, 2, bytes), a;                                      \
        uint16_t ax = interp_flags_ax(cpu->rflags);                                                \
                                                                                                   \
        __asm__(INTERP_LOAD_FLAGS insn suffix " %" m "[c], %" m "[b], %" m "[a]" INTERP_SAVE_FLAGS \
                : [a] "=&r"(a), "+&a"(ax)                                                          \
                : [b] "r"(b), [c] "r"(c)                                                           \
                : "cc");                                                                           \
        interp_set_flags(cpu, INTERP_ARITH, interp_ax_flags(ax));                                  \
        interp_set(cpu, op->r[0], bytes, a);                                                       \
        INTERP_NEXT();                                                                             \
    }
#define THREE(name, insn) THREE_SIZE(name, insn, 4, "l", "k") THREE_SIZE(name, insn, 8, "q", "q")

THREE(andn, "andn")
THREE(bextr, "bextr")
THREE(bzhi, "bzhi")
THREE(pdep, "pdep")
THREE(pext, "pext")
THREE(sarx, "sarx")
THREE(shlx, "shlx")
THREE(shrx, "shrx")

#define RORX(bytes)                                                                                \
    static INTERP_HANDLER(rorx_##bytes)                                                            \
    {                                                                                              \
        uint64_t a = interp_operand(cpu, op, x, 1, bytes);                                         \
        unsigned bits = (bytes)*8, count = (unsigned)op->imm & (bits - 1);                         \
                                                                                                   \
        interp_set(cpu, op->r[0], bytes, a >> count | a << ((bits - count) & (bits - 1)));         \
        INTERP_NEXT();                                                                             \
    }
RORX(4)
RORX(8)

/* ---- CRC32: the source's size is the instruction's, the destination is 32 bits of a sum */

#define CRC_SIZE(bytes, suffix, m)                                                                 \
    static INTERP_HANDLER(crc32_##bytes)                                                           \
    {                                                                                              \
        uint64_t b = interp_operand(cpu, op, x, 1, bytes), a = interp_get(cpu, op->r[0], 4);       \
                                                                                                   \
        __asm__("crc32" suffix " %" m "[b], %q[a]" : [a] "+r"(a) : [b] "r"(b));                    \
        interp_set(cpu, op->r[0], 8, a);                                                           \
        INTERP_NEXT();                                                                             \
    }
CRC_SIZE(1, "b", "b")
CRC_SIZE(8, "q", "q")

#define CRC_SHORT(bytes, suffix, m)                                                                \
    static INTERP_HANDLER(crc32_##bytes)                                                           \
    {                                                                                              \
        uint64_t b = interp_operand(cpu, op, x, 1, bytes), a = interp_get(cpu, op->r[0], 4);       \
                                                                                                   \
        __asm__("crc32" suffix " %" m "[b], %k[a]" : [a] "+r"(a) : [b] "r"(b));                    \
        interp_set(cpu, op->r[0], 8, a);                                                           \
        INTERP_NEXT();                                                                             \
    }
CRC_SHORT(2, "w", "w")
CRC_SHORT(4, "l", "k")

static void pick_crc32(struct interp_decoding *d, const struct interp_insn *insn)
{
    d->op->fn = insn->fn[interp_log2(d->operands[1].size / 8)];
}

#define BIT_HANDLER(what, bytes)                                                                   \
    static INTERP_HANDLER(what##_##bytes)                                                          \
    {                                                                                              \
        bit_test(cpu, op, x, what, bytes);                                                         \
        INTERP_NEXT();                                                                             \
    }
#define BIT_SIZES(what) BIT_HANDLER(what, 2) BIT_HANDLER(what, 4) BIT_HANDLER(what, 8)
BIT_SIZES(BIT_BT)
BIT_SIZES(BIT_BTS)
BIT_SIZES(BIT_BTR)
BIT_SIZES(BIT_BTC)

static void pick_bit(struct interp_decoding *d, const struct interp_insn *insn)
{
    if (d->op->flags & INTERP_OP_LOCK)
        interp_pick_locked(d);
    else
        d->op->fn = insn->fn[interp_log2(d->op->size)];
}

#define BIT_ROW(name)                                                                              \
    {                                                                                              \
        ZYDIS_MNEMONIC_##name, pick_bit, .fn = {                                                   \
            NULL,                                                                                  \
            BIT_##name##_2,                                                                        \
            BIT_##name##_4,                                                                        \
            BIT_##name##_8                                                                         \
        }                                                                                          \
    }
#define UNARY_ROW(name, fn2, fn4, fn8, bit, other)                                                 \
    {                                                                                              \
        ZYDIS_MNEMONIC_##name, .fn = {NULL, fn2, fn4, fn8}, .feature = bit, .without = other       \
    }
#define BMI_ROW(name, f, bit)                                                                      \
    {                                                                                              \
        ZYDIS_MNEMONIC_##name, .fn = {NULL, NULL, f##_4, f##_8}, .feature = bit                    \
    }

static const struct interp_insn insns[] = {
    BIT_ROW(BT),
    BIT_ROW(BTS),
    BIT_ROW(BTR),
    BIT_ROW(BTC),
    UNARY_ROW(BSF, bsf_2, bsf_4, bsf_8, INTERP_FEATURE_NONE, 0),
    UNARY_ROW(BSR, bsr_2, bsr_4, bsr_8, INTERP_FEATURE_NONE, 0),
    UNARY_ROW(TZCNT, tzcnt_2, tzcnt_4, tzcnt_8, INTERP_FEATURE_BMI1, ZYDIS_MNEMONIC_BSF),
    UNARY_ROW(LZCNT, lzcnt_2, lzcnt_4, lzcnt_8, INTERP_FEATURE_LZCNT, ZYDIS_MNEMONIC_BSR),
    UNARY_ROW(POPCNT, popcnt_2, popcnt_4, popcnt_8, INTERP_FEATURE_POPCNT, 0),
    BMI_ROW(BLSI, blsi, INTERP_FEATURE_BMI1),
    BMI_ROW(BLSR, blsr, INTERP_FEATURE_BMI1),
    BMI_ROW(BLSMSK, blsmsk, INTERP_FEATURE_BMI1),
    BMI_ROW(ANDN, andn, INTERP_FEATURE_BMI1),
    BMI_ROW(BEXTR, bextr, INTERP_FEATURE_BMI1),
    BMI_ROW(BZHI, bzhi, INTERP_FEATURE_BMI2),
    BMI_ROW(PDEP, pdep, INTERP_FEATURE_BMI2),
    BMI_ROW(PEXT, pext, INTERP_FEATURE_BMI2),
    BMI_ROW(SARX, sarx, INTERP_FEATURE_BMI2),
    BMI_ROW(SHLX, shlx, INTERP_FEATURE_BMI2),
    BMI_ROW(SHRX, shrx, INTERP_FEATURE_BMI2),
    BMI_ROW(RORX, rorx, INTERP_FEATURE_BMI2),
    BMI_ROW(ADCX, adcx, INTERP_FEATURE_ADX),
    BMI_ROW(ADOX, adox, INTERP_FEATURE_ADX),
    {ZYDIS_MNEMONIC_CRC32, pick_crc32, .fn = {crc32_1, crc32_2, crc32_4, crc32_8},
     .feature = INTERP_FEATURE_SSE42},
};

const struct interp_insn_table interp_bit_insns = {insns, HV_ARRAY_LEN(insns)};
