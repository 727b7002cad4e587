/* Jumps, calls and returns, and the ways out of a block. */
#include "config.h"

#include "hv/engine/bt/translate.h"

#include <string.h>

/* ---- leaving */

void bt_emit_leave(struct bt_translation *t, enum bt_reason reason, uint64_t rip)
{
    bt_emit_mov_imm(t->bt, BT_R14, rip);
    bt_emit_jmp(t->bt, t->bt->leave[reason]);
}

static uint32_t jump_table(const struct bt_translation *t, size_t field)
{
    return (uint32_t)(BT_SLOT(jumps) + t->kind * sizeof(struct bt_jumps) + field);
}

static bool has_salt(const struct bt_translation *t)
{
    return t->kind == INTERP_TLB_USER;
}

static uint32_t salt_slot(const struct bt_translation *t)
{
    return (uint32_t)(BT_SLOT(salt) + 8 * t->kind);
}

/* R15 = index for the linear address in R14, which is in the jump cache; out with @reason and RIP
 * @rip if it is not. R14 and flags are lost. */
static void emit_probe_destroying(struct bt_translation *t, enum bt_reason reason, uint64_t rip)
{
    struct bt *bt = t->bt;
    struct bt_stub *s;

    bt_emit_pext(bt, BT_R15, BT_R14, BT_SLOT(jump_mask));
    bt_emit_alu_table(bt, BT_ADD, BT_R14, BT_R15, jump_table(t, offsetof(struct bt_jumps, rip)));
    if (has_salt(t))
        bt_emit_alu_slot(bt, BT_CMP, BT_R14, salt_slot(t));
    s = bt_add_stub(t, bt_emit_jcc_open(bt, 5)); /* jnz */
    s->kind = BT_STUB_LEAVE;
    s->reason = reason;
    s->rip = rip;
}

static void emit_probe_neutral(struct bt_translation *t, enum bt_reason reason, uint64_t rip)
{
    struct bt *bt = t->bt;
    uint32_t hit;

    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_pext(bt, BT_R15, BT_R14, BT_SLOT(jump_mask));
    bt_emit_load_table(bt, HV_RCX, BT_R15, jump_table(t, offsetof(struct bt_jumps, rip)));
    bt_emit_lea(bt, HV_RCX, HV_RCX, BT_R14, 0, 0);
    if (has_salt(t)) { /* the salt is in the upper bits, which the negated one takes to 0 */
        bt_emit_load_slot(bt, BT_R14, (uint32_t)(BT_SLOT(unsalt)));
        bt_emit_lea(bt, HV_RCX, HV_RCX, BT_R14, 0, 0);
    }
    hit = bt_emit_jrcxz_open(bt);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_leave(t, reason, rip);
    bt_close8(bt, hit);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
}

static void emit_probe(struct bt_translation *t, enum bt_reason reason, uint64_t rip,
                       bool flags_dead)
{
    t->r15_group = BT_NO_GROUP;
    if (flags_dead)
        emit_probe_destroying(t, reason, rip);
    else
        emit_probe_neutral(t, reason, rip);
}

/* jmp gs:[r15 * 8 + code] */
static void emit_go(struct bt_translation *t)
{
    bt_emit_jmp_table(t->bt, BT_R15, jump_table(t, offsetof(struct bt_jumps, code)));
}

static void emit_cross_goto(struct bt_translation *t, uint64_t rip, bool flags_dead)
{
    bt_emit_mov_imm(t->bt, BT_R14, rip);
    emit_probe(t, BT_EXIT_LOOKUP, rip, flags_dead);
    emit_go(t);
}

/* ---- direct jumps */

/* Completes a direct jump (its distance is at @at): within the page to the block if it is there, or
 * to a request to link it. A jump back meets the look at attention, so that every loop does. */
static void finish_jump(struct bt_translation *t, uint32_t at, const struct bt_insn *in,
                        uint64_t rip)
{
    uint64_t gpa = (t->block->gpa & ~(uint64_t)HV_PAGE_MASK) | (rip & HV_PAGE_MASK);
    struct bt_block *b =
        bt_same_page(t, rip) ? bt_cached_block(t->bt, gpa, rip, t->kind, false) : NULL;
    struct bt_stub *s;

    if (rip == t->block->rip && t->again) {
        bt_patch_jump(t->bt, at, t->again);
        return;
    }
    if (rip == t->block->rip && !t->block->ungrouped)
        b = t->block;
    if (b && b->generation == t->block->generation) {
        bt_patch_jump(t->bt, at, rip < bt_next_rip(t, in) ? b->head : b->body);
        return;
    }
    s = bt_add_stub(t, at);
    s->kind = bt_same_page(t, rip) ? BT_STUB_LEAVE : BT_STUB_CROSS;
    s->reason = BT_EXIT_LINK;
    s->rip = rip;
    s->flags_dead = !in->live_after;
}

void bt_emit_goto(struct bt_translation *t, const struct bt_insn *in, uint64_t rip)
{
    if (bt_same_page(t, rip))
        finish_jump(t, bt_emit_jmp_open(t->bt), in, rip);
    else
        emit_cross_goto(t, rip, !in->live_after);
}

/* ---- stubs */

static void emit_site_stub(struct bt_translation *t, const struct bt_stub *s)
{
    struct bt *bt = t->bt;
    bool group = s->kind == BT_STUB_GROUP;
    uint32_t at = (bt->code_used + 7) & ~7u;
    struct bt_site site = s->site;

    bt->code_used = at + (uint32_t)sizeof(site);
    bt_close(bt, s->from);
    if (s->rcx_saved) {
        bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    } else if (group) { /* the tag fits but two pages do not: there may be code for that */
        bt_emit_cmp_imm(bt, BT_R14, HV_PAGE_SIZE - 1);
        site.crosses = bt_emit_jcc_open(bt, 6); /* jbe */
        bt_close(bt, site.crosses);
    }
    bt_emit_store_slot(bt, BT_R14, BT_SLOT(scratch14));
    bt_emit_mov_imm(bt, BT_R14, (uint64_t)(uintptr_t)(bt->code + at));
    bt_emit_jmp(bt, bt->leave[group ? BT_EXIT_GROUP : BT_EXIT_MISS]);
    memcpy(bt->code_rw + at, &site, sizeof(site));
}

static void emit_leave_stub(struct bt_translation *t, const struct bt_stub *s)
{
    bt_close(t->bt, s->from);
    if (s->reason == BT_EXIT_LINK)
        bt_emit_mov32_imm(t->bt, BT_R15, s->from);
    bt_emit_leave(t, s->reason, s->rip);
}

static void emit_fpu_stub(struct bt_translation *t, const struct bt_stub *s)
{
    bt_close(t->bt, s->from);
    if (s->rcx_saved)
        bt_emit_load_slot(t->bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_mov32_imm(t->bt, BT_R15, s->back);
    bt_emit_leave(t, s->avx ? BT_EXIT_AVX : BT_EXIT_FPU, s->rip);
}

void bt_emit_stubs(struct bt_translation *t)
{
    for (unsigned i = 0; i < t->nr_stubs; i++) {
        const struct bt_stub *s = &t->stubs[i];

        switch (s->kind) {
        case BT_STUB_MISS:
        case BT_STUB_GROUP:
            emit_site_stub(t, s);
            break;
        case BT_STUB_LEAVE:
            emit_leave_stub(t, s);
            break;
        case BT_STUB_CROSS: /* may add one more */
            bt_close(t->bt, s->from);
            emit_cross_goto(t, s->rip, s->flags_dead);
            break;
        case BT_STUB_STRING:
            bt_emit_string_stub(t->bt, s);
            break;
        case BT_STUB_FPU:
            emit_fpu_stub(t, s);
            break;
        }
    }
}

/* ---- jumps */

/* R14 = where an indirect jump or call goes. */
static void emit_indirect_target(struct bt_translation *t, const struct bt_insn *in)
{
    unsigned reg;

    if (in->mem) {
        struct bt_place p = bt_emit_access(t, in, &in->refs[0]);

        bt_emit_load_place(t->bt, BT_R14, &p);
        return;
    }
    reg = bt_gpr_of(in->ops[0].reg.value);
    if (reg >= 14)
        bt_emit_load_guest(t, reg, BT_R14);
    else
        bt_emit_mov(t->bt, BT_R14, reg);
}

/* What does not hit the jump cache is executed by the interpreter, which also checks the target;
 * then it is looked up. */
void bt_emit_jmp_insn(struct bt_translation *t, const struct bt_insn *in)
{
    if (bt_is_direct(in)) {
        bt_emit_goto(t, in, bt_target_of(t, in));
        return;
    }
    emit_indirect_target(t, in);
    emit_probe(t, BT_EXIT_INTERP, bt_rip_of(t, in), false);
    emit_go(t);
}

static void emit_push_return(struct bt_translation *t, const struct bt_insn *in,
                             const struct bt_ref *ref)
{
    struct bt_place p = bt_emit_access(t, in, ref);

    bt_emit_store_constant(t->bt, &p, bt_next_rip(t, in));
    bt_emit_lea(t->bt, HV_RSP, HV_RSP, 4, 0, -8);
    t->r15_group = BT_NO_GROUP;
}

void bt_emit_call(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;

    if (bt_is_direct(in)) {
        emit_push_return(t, in, &in->refs[0]);
        bt_emit_goto(t, in, bt_target_of(t, in));
        return;
    }
    emit_indirect_target(t, in);
    emit_probe(t, BT_EXIT_INTERP, bt_rip_of(t, in), false);
    bt_emit_load_table(bt, BT_R15, BT_R15, jump_table(t, offsetof(struct bt_jumps, code)));
    bt_emit_store_slot(bt, BT_R15, BT_SLOT(target));
    emit_push_return(t, in, &in->refs[in->nr_refs - 1]);
    BT_EMIT(bt, 0x65, 0xff, 0x24, 0x25); /* jmp gs:[target] */
    bt_emit32(bt, BT_SLOT(target));
}

void bt_emit_ret(struct bt_translation *t, const struct bt_insn *in)
{
    int32_t release = in->zi.raw.imm[0].size ? (int32_t)(uint16_t)in->zi.raw.imm[0].value.u : 0;
    struct bt_place p = bt_emit_access(t, in, &in->refs[0]);

    bt_emit_load_place(t->bt, BT_R14, &p);
    emit_probe(t, BT_EXIT_INTERP, bt_rip_of(t, in), false);
    bt_emit_lea(t->bt, HV_RSP, HV_RSP, 4, 0, 8 + release);
    emit_go(t);
}

/* The block may go on behind it. */
void bt_emit_jcc(struct bt_translation *t, const struct bt_insn *in)
{
    finish_jump(t, bt_emit_jcc_open(t->bt, in->zi.opcode & 15), in, bt_target_of(t, in));
    if (in == &t->insns[t->nr_insns - 1])
        bt_emit_goto(t, in, bt_next_rip(t, in));
}

void bt_emit_jrcxz(struct bt_translation *t, const struct bt_insn *in)
{
    uint32_t taken = bt_emit_jrcxz_open(t->bt), not_taken;

    not_taken = bt_emit_jmp_open(t->bt);
    bt_close8(t->bt, taken);
    finish_jump(t, bt_emit_jmp_open(t->bt), in, bt_target_of(t, in));
    bt_close(t->bt, not_taken);
    bt_emit_goto(t, in, bt_next_rip(t, in));
}
