/* Which arithmetic flags matter where: those that are overwritten before they are read may be
 * destroyed. At the ends of a block the code that follows is looked at, if it is in the same page:
 * a change of it makes this block stale too. */
#include "config.h"

#include "hv/engine/bt/translate.h"

#include <string.h>

#include "hv/engine/interp/mem.h"

#define PEEK_INSNS 8

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
        const struct bt_decoded *d;
        struct bt_decoded own;
        uint8_t bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
        unsigned n = room < sizeof(bytes) ? room : sizeof(bytes);

        bt_mark_code(t, at, n);
        memcpy(bytes, t->page + at, n);
        d = bt_decode(t, &own, bytes, n);
        if (!d)
            break;
        live |= d->flags_tested & ~killed;
        killed |= d->flags_written;
        if (killed == INTERP_ARITH)
            return live;
        if (d->leaves || live == INTERP_ARITH)
            break;
        at += d->length;
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
        live &= ~(uint32_t)in->d->flags_written;
        live |= in->d->flags_tested;
        if (in->class == BT_SYSCALL) /* R11 gets them */
            live = INTERP_ARITH;
        in->flags_dead = !live;
    }
}
