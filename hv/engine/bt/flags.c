/* Which arithmetic flags matter where: those that are overwritten before they are read may be
 * destroyed. At the ends of a block the code that follows is looked at, if it is in the same page:
 * a change of it makes this block stale too. */
#include "config.h"

#include "hv/engine/bt/translate.h"

#include <string.h>

#include "hv/engine/interp/mem.h"

#define PEEK_INSNS 8

/* Whether a count of zero leaves the flags alone, and may occur. */
static bool may_keep_flags(ZydisMnemonic mnemonic)
{
    switch (mnemonic) {
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

static bool has_rep(const ZydisDecodedInstruction *zi)
{
    return zi->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
}

static uint32_t written_flags(const ZydisDecodedInstruction *zi)
{
    const ZydisAccessedFlags *f = zi->cpu_flags;

    if (!f || may_keep_flags(zi->mnemonic) || has_rep(zi))
        return 0;
    return (f->modified | f->set_0 | f->set_1 | f->undefined) & INTERP_ARITH;
}

static uint32_t tested_flags(const ZydisDecodedInstruction *zi)
{
    return zi->cpu_flags ? zi->cpu_flags->tested & INTERP_ARITH : 0;
}

/* What saves the flags, or goes where they can be seen. */
static bool leaves(const ZydisDecodedInstruction *zi)
{
    switch (zi->meta.category) {
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_COND_BR:
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_SYSTEM:
        return true;
    default:
        return false;
    }
}

static uint32_t peek(struct bt_translation *t, uint64_t rip);

/* The flags that matter at a jump's target. */
static uint32_t live_at_target(struct bt_translation *t, uint64_t rip)
{
    return bt_same_page(t, rip) ? peek(t, rip) : INTERP_ARITH;
}

/* Reads code ahead at @rip, in the block's page. */
static uint32_t peek(struct bt_translation *t, uint64_t rip)
{
    unsigned at = (unsigned)(rip & HV_PAGE_MASK);
    uint32_t live = 0, killed = 0;

    for (unsigned i = 0; i < PEEK_INSNS; i++) {
        unsigned room = HV_PAGE_SIZE - at;
        ZydisDecodedInstruction zi;
        uint8_t bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
        unsigned n = room < sizeof(bytes) ? room : sizeof(bytes);

        bt_mark_code(t, at, n);
        memcpy(bytes, t->page + at, n);
        if (!ZYAN_SUCCESS(
                ZydisDecoderDecodeInstruction(&t->decoders[t->code32], NULL, bytes, n, &zi)))
            break;
        live |= tested_flags(&zi) & ~killed;
        killed |= written_flags(&zi);
        if (killed == INTERP_ARITH)
            return live;
        if (leaves(&zi) || live == INTERP_ARITH)
            break;
        at += zi.length;
    }
    return live | (INTERP_ARITH & ~killed);
}

static uint32_t live_after(struct bt_translation *t, const struct bt_insn *in)
{
    switch (in->class) {
    case BT_JCC:
    case BT_JRCXZ:
        return live_at_target(t, bt_target_of(t, in)) | live_at_target(t, bt_next_rip(t, in));
    case BT_JMP:
    case BT_CALL:
        return bt_is_direct(in) ? live_at_target(t, bt_target_of(t, in)) : INTERP_ARITH;
    default:
        return t->open ? live_at_target(t, bt_next_rip(t, in)) : INTERP_ARITH;
    }
}

void bt_find_dead_flags(struct bt_translation *t)
{
    uint32_t live = INTERP_ARITH;

    if (t->nr_insns)
        live = live_after(t, &t->insns[t->nr_insns - 1]);
    t->live_out = live;
    for (unsigned i = t->nr_insns; i-- > 0;) {
        struct bt_insn *in = &t->insns[i];

        if (in->class == BT_DIV || in->class == BT_IDIV) /* may leave for the interpreter */
            live = INTERP_ARITH;
        if (in->class == BT_JCC && i + 1 < t->nr_insns)
            live |= live_at_target(t, bt_target_of(t, in));
        in->live_after = live;
        live &= ~written_flags(&in->d->zi);
        live |= tested_flags(&in->d->zi);
        if (in->class == BT_SYSCALL) /* R11 gets them */
            live = INTERP_ARITH;
        in->flags_dead = !live;
    }
}
