/* The code of a stub: load what the instruction reads, execute it, store what it writes.
 *
 * A stub is a C function (System V ABI) of RDI: the vCPU, RSI: its memory operand, RDX: struct
 * native_run. It uses no callee-saved register, keeps the run in R8, and touches memory only
 * through those three and the stack. In the listing on the right, cpu is RDI and run is R8.
 */
#include "config.h"

#include "hv/x86/native-priv.h"

struct emitter {
    uint8_t *at, *end;
    bool full;
};

static void emit(struct emitter *e, const uint8_t *bytes, size_t count)
{
    if ((size_t)(e->end - e->at) < count) {
        e->full = true;
        return;
    }
    memcpy(e->at, bytes, count);
    e->at += count;
}

#define EMIT(e, ...) emit(e, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* Opcodes with a memory operand, as the table below names them: REX.W, 0F prefix, opcode, ModRM.reg
 * or -1 where that is a register operand. */
enum op {
    OP_MOV_LOAD,
    OP_MOV_STORE,
    OP_MOVAPS_LOAD,
    OP_MOVAPS_STORE,
    OP_PUSH,
    OP_POP,
    OP_FXSAVE64,
    OP_FXRSTOR64,
    OP_LDMXCSR,
    OP_STMXCSR,
    OP_FLDCW,
    OP_FNSTCW,
};

static const struct {
    bool rex_w, map_0f;
    uint8_t opcode;
    int8_t reg;
} ops[] = {
    [OP_MOV_LOAD] = {true, false, 0x8b, -1},    [OP_MOV_STORE] = {true, false, 0x89, -1},
    [OP_MOVAPS_LOAD] = {false, true, 0x28, -1}, [OP_MOVAPS_STORE] = {false, true, 0x29, -1},
    [OP_PUSH] = {false, false, 0xff, 6},        [OP_POP] = {false, false, 0x8f, 0},
    [OP_FXSAVE64] = {true, true, 0xae, 0},      [OP_FXRSTOR64] = {true, true, 0xae, 1},
    [OP_LDMXCSR] = {false, true, 0xae, 2},      [OP_STMXCSR] = {false, true, 0xae, 3},
    [OP_FLDCW] = {false, false, 0xd9, 5},       [OP_FNSTCW] = {false, false, 0xd9, 7},
};

/* op reg, [base + displacement]. Neither base needs a SIB byte: R8 is not R12. */
static void emit_memory(struct emitter *e, enum op op, unsigned reg, unsigned base,
                        uint32_t displacement)
{
    if (ops[op].reg >= 0)
        reg = (unsigned)ops[op].reg;
    EMIT(e, (uint8_t)(0x40 | ops[op].rex_w << 3 | (reg >> 3) << 2 | base >> 3));
    if (ops[op].map_0f)
        EMIT(e, 0x0f);
    EMIT(e, ops[op].opcode, (uint8_t)(0x80 | (reg & 7) << 3 | (base & 7)));
    EMIT(e, (uint8_t)displacement, (uint8_t)(displacement >> 8), (uint8_t)(displacement >> 16),
         (uint8_t)(displacement >> 24));
}

static void emit_cpu(struct emitter *e, enum op op, unsigned reg, size_t offset)
{
    emit_memory(e, op, reg, HV_RDI, (uint32_t)offset);
}

static void emit_run(struct emitter *e, enum op op, size_t offset)
{
    emit_memory(e, op, 0, HV_R8, (uint32_t)offset);
}

static size_t xmm_offset(unsigned i)
{
    return offsetof(struct hv_cpu, xsave) + HV_FX_XMM(i);
}

/* Both halves: VEX-encoded, so that the host does not pay for mixing. R is inverted, vvvv too. */
static void emit_ymm(struct emitter *e, uint8_t opcode_low, uint8_t opcode_high, unsigned vvvv,
                     unsigned i, bool high)
{
    uint8_t r = (uint8_t)(i < 8 ? 0x80 : 0), modrm = (uint8_t)(0x80 | (i & 7) << 3 | HV_RDI);
    uint32_t low = (uint32_t)xmm_offset(i);
    uint32_t up = (uint32_t)(offsetof(struct hv_cpu, xsave) + HV_XS_YMM_HIGH(i));

    EMIT(e, 0xc5, r | 0x78, opcode_low, modrm, (uint8_t)low, (uint8_t)(low >> 8),
         (uint8_t)(low >> 16), (uint8_t)(low >> 24));
    if (high)
        EMIT(e, 0xc4, r | 0x63, (uint8_t)((vvvv ^ 15) << 3 | 5), opcode_high, modrm, (uint8_t)up,
             (uint8_t)(up >> 8), (uint8_t)(up >> 16), (uint8_t)(up >> 24), 1);
}

static void emit_load_ymm(struct emitter *e, const struct hv_native_insn *insn)
{
    for (unsigned i = 0; i < 16; i++)
        if (insn->xmm & (1u << i)) /* vmovaps xmmI, low; vinsertf128 ymmI, ymmI, high, 1 */
            emit_ymm(e, 0x28, 0x18, i, i, insn->ymm & (1u << i));
}

/* What writes 16 bytes has made the upper half zero. */
static void emit_store_ymm(struct emitter *e, const struct hv_native_insn *insn)
{
    for (unsigned i = 0; i < 16; i++)
        if (insn->xmm_written & (1u << i)) /* vmovaps low, xmmI; vextractf128 high, ymmI, 1 */
            emit_ymm(e, 0x29, 0x19, 0, i, true);
    EMIT(e, 0xc5, 0xf8, 0x77); /* vzeroupper */
}

static void emit_load_xmm(struct emitter *e, const struct hv_native_insn *insn)
{
    for (unsigned i = 0; i < 16; i++)
        if (insn->xmm & (1u << i))
            emit_cpu(e, OP_MOVAPS_LOAD, i, xmm_offset(i)); /* movaps xmmI, cpu->xsave.xmmI */
}

static void emit_store_xmm(struct emitter *e, const struct hv_native_insn *insn)
{
    for (unsigned i = 0; i < 16; i++)
        if (insn->xmm_written & (1u << i))
            emit_cpu(e, OP_MOVAPS_STORE, i, xmm_offset(i)); /* movaps cpu->xsave.xmmI, xmmI */
}

static void emit_load_state(struct emitter *e, const struct hv_native_insn *insn)
{
    bool x87 = native_uses_x87_unit(insn);

    if (x87)
        emit_run(e, OP_FNSTCW, offsetof(struct native_run, host_fcw)); /* fnstcw run->host_fcw */
    if (x87 || insn->mxcsr)
        emit_run(e, OP_STMXCSR,
                 offsetof(struct native_run, host_mxcsr)); /* stmxcsr run->host_mxcsr */
    if (x87)
        emit_cpu(e, OP_FXRSTOR64, 0, offsetof(struct hv_cpu, xsave)); /* fxrstor64 cpu->xsave */
    if (insn->mxcsr)
        emit_run(e, OP_LDMXCSR, offsetof(struct native_run, mxcsr)); /* ldmxcsr run->mxcsr */
    if (insn->info.avx)
        emit_load_ymm(e, insn);
    else if (!x87)
        emit_load_xmm(e, insn);
}

static void emit_store_state(struct emitter *e, const struct hv_native_insn *insn)
{
    bool x87 = native_uses_x87_unit(insn);

    if (insn->info.avx)
        emit_store_ymm(e, insn);
    else if (!x87)
        emit_store_xmm(e, insn);
    if (insn->mxcsr)
        emit_run(e, OP_STMXCSR, offsetof(struct native_run, mxcsr)); /* stmxcsr run->mxcsr */
    if (x87) {
        emit_cpu(e, OP_FXSAVE64, 0, offsetof(struct hv_cpu, xsave)); /* fxsave64 cpu->xsave */
        EMIT(e, 0xdb, 0xe3); /* fninit: drops pending exceptions before fldcw could report them */
        emit_run(e, OP_FLDCW, offsetof(struct native_run, host_fcw)); /* fldcw run->host_fcw */
    }
    if (x87 || insn->mxcsr)
        emit_run(e, OP_LDMXCSR,
                 offsetof(struct native_run, host_mxcsr)); /* ldmxcsr run->host_mxcsr */
}

static const uint8_t slot_register[NATIVE_NR_GPR] = {HV_RAX, HV_RCX, HV_RDX};

static void emit_load_gprs(struct emitter *e, const struct hv_native_insn *insn)
{
    for (unsigned i = 0; i < NATIVE_NR_GPR; i++) {
        const struct native_gpr *g = &insn->key.gpr[i];

        /* A high byte becomes a low one by loading from one byte further on. */
        if (g->read)
            emit_cpu(e, OP_MOV_LOAD, slot_register[i], /* mov slot, cpu->gpr[guest] */
                     offsetof(struct hv_cpu, gpr) + 8u * g->guest + g->high_byte);
    }
}

static void emit_store_gprs(struct emitter *e, const struct hv_native_insn *insn)
{
    for (unsigned i = 0; i < NATIVE_NR_GPR; i++)
        if (insn->key.gpr[i].written)
            emit_cpu(e, OP_MOV_STORE, slot_register[i], /* mov cpu->gpr[guest], slot */
                     offsetof(struct hv_cpu, gpr) + 8u * insn->key.gpr[i].guest);
}

static void emit_instruction(struct emitter *e, const struct hv_native_insn *insn)
{
    if (insn->flags) {
        emit_run(e, OP_PUSH, offsetof(struct native_run, rflags)); /* push run->rflags */
        EMIT(e, 0x9d);                                             /* popfq */
    }
    if (insn->memory_in_rdi) {
        EMIT(e, 0x49, 0x89, 0xf9); /* mov r9, rdi */
        EMIT(e, 0x48, 0x89, 0xf7); /* mov rdi, rsi */
    }
    emit(e, insn->key.code, insn->key.code_bytes);
    if (insn->memory_in_rdi)
        EMIT(e, 0x4c, 0x89, 0xcf); /* mov rdi, r9 */
    if (insn->flags) {
        EMIT(e, 0x9c);                                            /* pushfq */
        emit_run(e, OP_POP, offsetof(struct native_run, rflags)); /* pop run->rflags */
    }
}

size_t native_emit_stub(const struct hv_native_insn *insn, uint8_t *code, size_t room)
{
    struct emitter e = {.at = code, .end = code + room};

    EMIT(&e, 0x49, 0x89, 0xd0); /* mov r8, rdx */
    emit_load_state(&e, insn);
    emit_load_gprs(&e, insn);
    emit_instruction(&e, insn);
    emit_store_gprs(&e, insn);
    emit_store_state(&e, insn);
    EMIT(&e, 0xc3); /* ret */
    return e.full ? 0 : (size_t)(e.at - code);
}
