/* The translation of one block: decode, find out which flags matter, emit. */
#include "config.h"

#include "hv/engine/bt/translate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/engine/interp/mem.h"

int bt_translate_init(struct bt *bt)
{
    bt->translation = calloc(1, sizeof(*bt->translation));
    if (!bt->translation)
        return -ENOMEM;
    bt->translation->bt = bt;
    if (!ZYAN_SUCCESS(ZydisDecoderInit(&bt->translation->decoders[0], ZYDIS_MACHINE_MODE_LONG_64,
                                       ZYDIS_STACK_WIDTH_64)) ||
        !ZYAN_SUCCESS(ZydisDecoderInit(&bt->translation->decoders[1],
                                       ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32)))
        return -EINVAL;
    return 0;
}

void bt_translate_fini(struct bt *bt)
{
    free(bt->translation);
}

/* ---- decoding */

/* What follows is not reached, or only by a jump. */
static bool ends_block(const struct bt_translation *t, const struct bt_insn *in)
{
    switch (in->class) {
    case BT_FALLBACK:
    case BT_CALL:
    case BT_RET:
    case BT_JMP:
    case BT_JRCXZ:
    case BT_SYSCALL:
    case BT_SYSRET:
    case BT_STAC:
    case BT_CLAC:
        return true;
    case BT_JCC: /* behind a loop the block ends */
        return bt_target_of(t, in) <= bt_rip_of(t, in);
    default:
        return false;
    }
}

void bt_mark_code(struct bt_translation *t, unsigned at, unsigned bytes)
{
    unsigned last = (at + bytes - 1) / 64;
    uint64_t page = t->block->gpa & ~(uint64_t)HV_PAGE_MASK;

    for (unsigned line = at / 64; line <= last && line < 64; line++) {
        if (t->marked & 1ull << line)
            continue;
        hv_codemap_mark(t->bt->x->v->domain->mem.code, hv_gpa_of(page + 64 * line), 64);
        t->marked |= 1ull << line;
    }
}

/* Decodes the instruction at offset @at into @in; false if it is not whole, or none. */
static bool decode_one(struct bt_translation *t, struct bt_insn *in, const uint8_t *bytes,
                       unsigned at, unsigned room)
{
    unsigned n =
        room - at < ZYDIS_MAX_INSTRUCTION_LENGTH ? room - at : ZYDIS_MAX_INSTRUCTION_LENGTH;

    bt_mark_code(t, (unsigned)(t->block->gpa & HV_PAGE_MASK) + at, n);
    memcpy(t->bytes + at, bytes + at, n);
    in->at = (uint16_t)at;
    in->d = bt_decode(t, &t->own[t->nr_insns], t->bytes + at, n);
    return in->d;
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

bool bt_crosses(struct bt *bt, const uint8_t *bytes, uint64_t rip)
{
    unsigned room = HV_PAGE_SIZE - (unsigned)(rip & HV_PAGE_MASK);
    bool code32 = bt_kind_now(bt) > BT_USER;
    ZydisDecodedInstruction zi;

    return ZydisDecoderDecodeInstruction(&bt->translation->decoders[code32], NULL, bytes, room,
                                         &zi) == ZYDIS_STATUS_NO_MORE_DATA;
}

/* The one instruction of a block that is in two pages. */
static void decode_crossing(struct bt_translation *t, const uint8_t *bytes, const uint8_t *bytes2,
                            unsigned room)
{
    struct bt_insn *in = &t->insns[0];

    bt_mark_code(t, HV_PAGE_SIZE - room, room);
    hv_codemap_mark(t->bt->x->v->domain->mem.code, hv_gpa_of(t->block->gfn2 << HV_PAGE_SHIFT),
                    ZYDIS_MAX_INSTRUCTION_LENGTH);
    memcpy(t->bytes, bytes, room);
    memcpy(t->bytes + room, bytes2, ZYDIS_MAX_INSTRUCTION_LENGTH - room);
    t->nr_insns = 0;
    t->open = false;
    t->next_rip = t->block->rip;
    in->at = 0;
    in->d = bt_decode(t, &t->own[0], t->bytes, ZYDIS_MAX_INSTRUCTION_LENGTH);
    if (!in->d)
        return;
    bt_classify(t, in);
    if (in->class == BT_FALLBACK || in->class == BT_STI)
        return;
    t->nr_insns = 1;
    t->open = !ends_block(t, in);
    t->next_rip = bt_next_rip(t, in);
    t->block->bytes = (uint16_t)room;
}

/* Ends at the first instruction that is not for us; t->open says whether there is none. */
static void decode(struct bt_translation *t, const uint8_t *bytes, unsigned room)
{
    unsigned at = 0;

    t->nr_insns = 0;
    t->open = true;
    while (t->nr_insns < BT_BLOCK_INSNS && at < room) {
        struct bt_insn *in = &t->insns[t->nr_insns];

        if (decode_one(t, in, bytes, at, room))
            bt_classify(t, in);
        else if (at && bt_may_cross(t->block->rip + at))
            break; /* to be looked up */
        else
            in->class = BT_FALLBACK;
        if (in->class == BT_FALLBACK) {
            t->open = false;
            break;
        }
        t->nr_insns++;
        at += in->d->length;
        t->block->bytes = (uint16_t)at;
        if (ends_block(t, in)) {
            t->open = false;
            return;
        }
    }
    t->next_rip = bt_wrap(t, t->block->rip + at);
    leave_sti_to_next(t);
}

/* ---- emission */

static enum bt_fpu needed_fpu(const struct bt_translation *t)
{
    enum bt_fpu need = BT_FPU_NONE;

    for (unsigned i = 0; i < t->nr_insns; i++) {
        if (t->insns[i].d->avx)
            return BT_FPU_AVX;
        if (t->insns[i].d->vector)
            need = BT_FPU_LOADED;
    }
    return need;
}

static bool starts_with_dead_flags(const struct bt_translation *t)
{
    return t->nr_insns ? t->insns[0].flags_dead : !t->live_out;
}

static void add_leave_stub(struct bt_translation *t, uint32_t from)
{
    struct bt_stub *s = bt_add_stub(t, from);

    s->kind = BT_STUB_LEAVE;
    s->reason = BT_EXIT_LOOKUP;
    s->rip = t->block->rip;
}

static void emit_look_at_attention(struct bt_translation *t)
{
    struct bt *bt = t->bt;
    uint32_t none;

    if (starts_with_dead_flags(t)) {
        bt_emit_cmp_slot_imm(bt, false, BT_SLOT(kick), 0);
        add_leave_stub(t, bt_emit_jcc_open(bt, 5));
        return;
    }
    bt_emit_mov(bt, BT_R10, HV_RCX);
    BT_EMIT(bt, 0x65, 0x8b, 0x0c, 0x25); /* mov ecx, gs:[kick] */
    bt_emit32(bt, BT_SLOT(kick));
    none = bt_emit_jrcxz_open(bt);
    bt_emit_mov(bt, HV_RCX, BT_R10);
    bt_emit_leave(t, BT_EXIT_LOOKUP, t->block->rip);
    bt_close8(bt, none);
    bt_emit_mov(bt, HV_RCX, BT_R10);
}

/* The x87 and SSE state is in the host's units, or C puts it there and goes on behind this. */
static void emit_need_fpu(struct bt_translation *t, enum bt_fpu want)
{
    struct bt *bt = t->bt;
    struct bt_stub *s;
    uint32_t need, have, from;
    bool dead = starts_with_dead_flags(t);

    if (dead) {
        bt_emit_cmp_slot_imm(bt, false, BT_SLOT(fpu), (int32_t)want);
        from = bt_emit_jcc_open(bt, 2); /* jb */
    } else {
        bt_emit_store_slot(bt, HV_RCX, BT_SLOT(rcx));
        bt_emit_load_slot(bt, HV_RCX, BT_SLOT(fpu));
        if (want == BT_FPU_AVX) /* 2 becomes 1, the others 0 */
            bt_emit_pext(bt, HV_RCX, HV_RCX, BT_SLOT(avx_mask));
        need = bt_emit_jrcxz_open(bt);
        have = bt_emit_jmp_open(bt);
        bt_close8(bt, need);
        from = bt_emit_jmp_open(bt);
        bt_close(bt, have);
        bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    }
    s = bt_add_stub(t, from);
    s->kind = BT_STUB_FPU;
    s->rcx_saved = !dead;
    s->avx = want == BT_FPU_AVX;
    s->rip = t->block->rip;
    s->back = bt->code_used;
}

static void emit_nothing(struct bt_translation *t, const struct bt_insn *in)
{
    (void)t;
    (void)in;
}

static bt_emitter *const emitters[] = {
    [BT_NATIVE] = bt_emit_native,    [BT_NOTHING] = emit_nothing,    [BT_PUSH] = bt_emit_push,
    [BT_POP] = bt_emit_pop,          [BT_CALL] = bt_emit_call,       [BT_RET] = bt_emit_ret,
    [BT_JMP] = bt_emit_jmp_insn,     [BT_JCC] = bt_emit_jcc,         [BT_JRCXZ] = bt_emit_jrcxz,
    [BT_LEAVE] = bt_emit_leave_insn, [BT_DIV] = bt_emit_division,    [BT_IDIV] = bt_emit_division,
    [BT_RDTSC] = bt_emit_rdtsc,      [BT_PUSHF] = bt_emit_pushf,     [BT_CLI] = bt_emit_cli,
    [BT_STI] = bt_emit_sti,          [BT_SWAPGS] = bt_emit_swapgs,   [BT_STRING] = bt_emit_string,
    [BT_BITS] = bt_emit_bits,        [BT_SYSCALL] = bt_emit_syscall, [BT_SYSRET] = bt_emit_sysret,
    [BT_STAC] = bt_emit_stac,        [BT_CLAC] = bt_emit_clac,       [BT_PAUSE] = bt_emit_pause,
};

/* Whether the emitter keeps account of what is in R11. */
static bool knows_r11(enum bt_class class)
{
    return class == BT_NATIVE || class == BT_NOTHING || class == BT_PUSH || class == BT_POP ||
           class == BT_JCC;
}

/* Whether the instruction leaves the scratch register R10 alone, or uses it as the guest's. */
static bool keeps_r10(const struct bt_insn *in)
{
    return (in->class == BT_NATIVE && !in->d->mem) || in->class == BT_NOTHING ||
           in->class == BT_JCC;
}

/* Counts the instructions from @first up to where the block may be left. */
static void emit_count(struct bt_translation *t, unsigned first)
{
    unsigned end = first;

    if (!t->bt->x->v->domain->counted || (first && t->insns[first - 1].class != BT_JCC))
        return;
    while (end < t->nr_insns && t->insns[end++].class != BT_JCC)
        ;
    if (!first)
        bt_emit_count(t->bt, BT_COUNT_BLOCKS, 1, BT_R11);
    bt_emit_count(t->bt, BT_COUNT_INSNS, end - first, BT_R11);
    t->r11_group = BT_NO_GROUP;
}

static void emit_insns(struct bt_translation *t)
{
    t->r11_group = BT_NO_GROUP;
    t->r10_is_guest = false;
    for (unsigned i = 0; i < t->nr_insns; i++) {
        const struct bt_insn *in = &t->insns[i];

        emit_count(t, i);
        if (!keeps_r10(in))
            t->r10_is_guest = false;
        if (bt_emit_group_checks(t, i))
            t->r10_is_guest = false;
        emitters[in->class](t, in);
        if (!knows_r11(in->class))
            t->r11_group = BT_NO_GROUP;
    }
}

/* What is done when a loop is entered, and each time it goes round. */
static void emit_loop_start(struct bt_translation *t, uint32_t recheck)
{
    struct bt *bt = t->bt;
    uint32_t top;

    t->again = 0;
    if (!bt_is_loop(t) || !starts_with_dead_flags(t))
        return;
    bt_emit_loop_groups(t);
    top = bt_emit_jmp_open(bt);
    t->again = bt->code_used;
    emit_look_at_attention(t);
    bt_emit_loop_checks(t, recheck);
    bt_close(bt, top);
}

static void emit_end(struct bt_translation *t)
{
    const struct bt_insn *last = t->nr_insns ? &t->insns[t->nr_insns - 1] : NULL;

    if (last && ends_block(t, last))
        return;
    if (last && t->open)
        bt_emit_goto(t, last, t->next_rip);
    else
        bt_emit_leave(t, BT_EXIT_INTERP, t->next_rip);
}

void bt_translate(struct bt *bt, struct bt_block *b, const uint8_t *bytes, const uint8_t *bytes2)
{
    unsigned room = HV_PAGE_SIZE - (unsigned)(b->gpa & HV_PAGE_MASK);
    struct bt_translation *t = bt->translation;
    uint32_t start = bt->code_used, hot;

    t->block = b;
    t->kind = b->kind;
    t->code32 = b->kind > BT_USER;
    t->tlb_kind = t->code32 ? BT_USER : b->kind;
    t->word = t->code32 ? 4 : 8;
    t->nr_stubs = 0;
    t->number++;
    t->marked = 0;
    t->page = bytes - (b->gpa & HV_PAGE_MASK);
    if (bytes2)
        decode_crossing(t, bytes, bytes2, room);
    else
        decode(t, bytes, room);
    bt_find_dead_flags(t);
    bt_find_groups(t);
    b->head = bt->code_used;
    emit_look_at_attention(t);
    b->body = bt->code_used;
    if (needed_fpu(t) != BT_FPU_NONE)
        emit_need_fpu(t, needed_fpu(t));
    emit_loop_start(t, bt->code_used);
    emit_insns(t);
    emit_end(t);
    bt->translated += t->nr_insns;
    bt->translated_bytes += bt->code_used - start;
    hot = bt->code_used;
    bt->code_used = start = b->cold = bt->cold_used;
    bt_emit_stubs(t);
    b->stale = bt->code_used;
    bt_emit_leave(t, BT_EXIT_LOOKUP, b->rip);
    bt->translated_bytes += bt->code_used - start;
    bt->cold_used = bt->code_used;
    bt->code_used = hot;
}
