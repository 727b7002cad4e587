/* The translation of one block: decode, find out which flags matter, emit. */
#include "config.h"

#include "hv/engine/bt/translate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/engine/interp/mem.h"
#include "hv/x86/linear.h"

#define MARK_BYTES 128 /* code is marked in the code map by so much at a time */

int bt_translate_init(struct bt *bt)
{
    bt->translation = calloc(1, sizeof(*bt->translation));
    if (!bt->translation)
        return -ENOMEM;
    bt->translation->bt = bt;
    if (!ZYAN_SUCCESS(ZydisDecoderInit(&bt->translation->decoder, ZYDIS_MACHINE_MODE_LONG_64,
                                       ZYDIS_STACK_WIDTH_64)))
        return -EINVAL;
    return 0;
}

void bt_translate_fini(struct bt *bt)
{
    free(bt->translation);
}

/* ---- decoding */

static bool ends_block(const struct bt_insn *in)
{
    switch (in->class) {
    case BT_FALLBACK:
    case BT_CALL:
    case BT_RET:
    case BT_JMP:
    case BT_JCC:
    case BT_JRCXZ:
        return true;
    default:
        return false;
    }
}

static void mark(struct bt_translation *t, unsigned at, unsigned room, unsigned *marked)
{
    while (*marked < room && at + ZYDIS_MAX_INSTRUCTION_LENGTH > *marked) {
        unsigned more = room - *marked < MARK_BYTES ? room - *marked : MARK_BYTES;

        hv_codemap_mark(t->bt->x->v->domain->mem.code, hv_gpa_of(t->block->gpa + *marked), more);
        *marked += more;
    }
}

/* Decodes the instruction at offset @at into @in; false if it is not whole, or none. */
static bool decode_one(struct bt_translation *t, struct bt_insn *in, const uint8_t *bytes,
                       unsigned at, unsigned room)
{
    unsigned n =
        room - at < ZYDIS_MAX_INSTRUCTION_LENGTH ? room - at : ZYDIS_MAX_INSTRUCTION_LENGTH;

    memcpy(t->bytes + at, bytes + at, n);
    in->at = (uint16_t)at;
    return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&t->decoder, t->bytes + at, n, &in->zi, in->ops));
}

/* No look at attention may come between STI and the next instruction, which may be HLT: if none
 * follows in the block, STI is the interpreter's. */
static void leave_sti_to_next(struct bt_translation *t)
{
    const struct bt_insn *last = t->nr_insns ? &t->insns[t->nr_insns - 1] : NULL;

    if (!last || !t->open || last->class != BT_STI)
        return;
    t->nr_insns--;
    t->open = false;
    t->next_rip = bt_rip_of(t, last);
}

/* Ends at the first instruction that is not for us; t->open says whether there is none. */
static void decode(struct bt_translation *t, const uint8_t *bytes, unsigned room)
{
    unsigned at = 0, marked = 0;

    t->nr_insns = 0;
    t->open = true;
    while (t->nr_insns < BT_BLOCK_INSNS && at < room) {
        struct bt_insn *in = &t->insns[t->nr_insns];

        mark(t, at, room, &marked);
        if (decode_one(t, in, bytes, at, room))
            bt_classify(t->bt, in);
        else
            in->class = BT_FALLBACK;
        if (in->class == BT_FALLBACK) {
            t->open = false;
            break;
        }
        t->nr_insns++;
        at += in->zi.length;
        t->block->bytes = (uint16_t)at;
        if (ends_block(in))
            return;
    }
    t->next_rip = t->block->rip + at;
    leave_sti_to_next(t);
}

/* ---- flags */

/* Whether a count of zero leaves the flags alone, and may occur. */
static bool may_keep_flags(const struct bt_insn *in)
{
    switch (in->zi.mnemonic) {
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
    case ZYDIS_MNEMONIC_ROL:
    case ZYDIS_MNEMONIC_ROR:
    case ZYDIS_MNEMONIC_RCL:
    case ZYDIS_MNEMONIC_RCR:
    case ZYDIS_MNEMONIC_SHLD:
    case ZYDIS_MNEMONIC_SHRD:
        return true;
    default:
        return false;
    }
}

static uint32_t written_flags(const struct bt_insn *in)
{
    const ZydisAccessedFlags *f = in->zi.cpu_flags;

    return !f || may_keep_flags(in) ? 0 : f->modified | f->set_0 | f->set_1 | f->undefined;
}

static void find_dead_flags(struct bt_translation *t)
{
    uint32_t live = INTERP_ARITH;

    for (unsigned i = t->nr_insns; i-- > 0;) {
        struct bt_insn *in = &t->insns[i];

        if (in->class == BT_DIV || in->class == BT_IDIV) /* may leave for the interpreter */
            live = INTERP_ARITH;
        live &= ~written_flags(in);
        if (in->zi.cpu_flags)
            live |= in->zi.cpu_flags->tested & INTERP_ARITH;
        in->flags_dead = !live;
    }
}

/* ---- emission */

static bool uses_vector(const struct bt_translation *t)
{
    for (unsigned i = 0; i < t->nr_insns; i++)
        if (t->insns[i].vector)
            return true;
    return false;
}

static void emit_look_at_attention(struct bt_translation *t)
{
    struct bt *bt = t->bt;
    uint32_t none;

    bt_emit_load_slot(bt, BT_R15, BT_SLOT(attention));
    bt_emit_mov(bt, BT_R14, HV_RCX);
    BT_EMIT(bt, 0x41, 0x8b, 0x0f); /* mov ecx, [r15] */
    none = bt_emit_jrcxz_open(bt);
    bt_emit_mov(bt, HV_RCX, BT_R14);
    bt_emit_leave(t, BT_EXIT_LOOKUP, t->block->rip);
    bt_close8(bt, none);
    bt_emit_mov(bt, HV_RCX, BT_R14);
}

/* The x87 and SSE state is in the host's units, or C puts it there and goes on behind this. */
static void emit_need_fpu(struct bt_translation *t)
{
    struct bt *bt = t->bt;
    uint32_t need, have, at;

    bt_emit_mov(bt, BT_R14, HV_RCX);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(fpu));
    need = bt_emit_jrcxz_open(bt);
    bt_emit_mov(bt, HV_RCX, BT_R14);
    have = bt_emit_jmp_open(bt);
    bt_close8(bt, need);
    bt_emit_mov(bt, HV_RCX, BT_R14);
    BT_EMIT(bt, 0x41, 0xbf); /* mov r15d, offset of what follows */
    at = bt->code_used;
    bt_emit32(bt, 0);
    bt_emit_leave(t, BT_EXIT_FPU, t->block->rip);
    bt_close(bt, have);
    memcpy(bt->code_rw + at, &bt->code_used, 4);
}

void bt_translate(struct bt *bt, struct bt_block *b, const uint8_t *bytes, unsigned room)
{
    struct bt_translation *t = bt->translation;
    uint32_t start = bt->code_used;

    t->block = b;
    t->kind = b->kind;
    t->nr_stubs = 0;
    decode(t, bytes, room);
    find_dead_flags(t);
    b->head = bt->code_used;
    emit_look_at_attention(t);
    b->body = bt->code_used;
    if (uses_vector(t))
        emit_need_fpu(t);
    for (unsigned i = 0; i < t->nr_insns; i++)
        bt_emit_special(t, &t->insns[i]);
    if (!t->nr_insns || !ends_block(&t->insns[t->nr_insns - 1])) {
        if (t->open)
            bt_emit_goto(t, t->next_rip - 1, t->next_rip);
        else
            bt_emit_leave(t, BT_EXIT_INTERP, t->next_rip);
    }
    bt_emit_stubs(t);
    b->stale = bt->code_used;
    bt_emit_leave(t, BT_EXIT_LOOKUP, b->rip);
    bt->translated += t->nr_insns;
    bt->translated_bytes += bt->code_used - start;
}
