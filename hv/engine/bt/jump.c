/* Jumps, calls and returns, and the ways out of a block. */
#include "config.h"

#include "hv/engine/bt/translate.h"

#include <string.h>

/* ---- leaving */

void bt_emit_leave(struct bt_translation *t, enum bt_reason reason, uint64_t rip)
{
    bt_emit_mov_imm(t->bt, BT_R10, rip);
    bt_emit_jmp(t->bt, t->bt->leave[reason]);
}

static uint32_t jump_table(unsigned kind, size_t field)
{
    return (uint32_t)(BT_SLOT(jumps) + kind * sizeof(struct bt_jumps) + field);
}

static uint32_t far_table(unsigned kind, size_t field)
{
    return (uint32_t)(BT_SLOT(fars) + kind * sizeof(struct bt_far) + field);
}

/* jmp gs:[slot] */
static void emit_jmp_slot(struct bt *bt, uint32_t slot)
{
    BT_EMIT(bt, 0x65, 0xff, 0x24, 0x25);
    bt_emit32(bt, slot);
}

/* ---- the second jump cache: R10 is the target */

static void emit_far_restore(struct bt *bt)
{
    bt_emit_load_slot(bt, HV_RAX, BT_SLOT(ax_flags));
    BT_EMIT(bt, 0x04, 0x7f, 0x9e); /* add al, 127; sahf */
    bt_emit_load_slot(bt, HV_RAX, BT_SLOT(far_rax));
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
}

/* Takes the entry over to the first jump cache. */
static void emit_far_hit(struct bt *bt, unsigned kind)
{
    uint32_t first;

    bt_emit_load_table(bt, HV_RCX, BT_R11, far_table(kind, offsetof(struct bt_far, code)));
    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(code));
    bt_emit_pext(bt, BT_R11, BT_R10, BT_SLOT(near_mask));
    BT_EMIT(bt, 0x4d, 0x85, 0xdb); /* test r11, r11 */
    first = bt_emit_jcc_open(bt, 4);
    bt_emit_store_table(bt, HV_RCX, BT_R11, jump_table(kind, offsetof(struct bt_jumps, code)));
    BT_EMIT(bt, 0x49, 0xf7, 0xda); /* neg r10 */
    bt_emit_store_table(bt, BT_R10, BT_R11, jump_table(kind, offsetof(struct bt_jumps, rip)));
    bt_close(bt, first);
    emit_far_restore(bt);
    emit_jmp_slot(bt, BT_SLOT(far_hit));
}

/* A kick may have come when the one before had just been taken back, and left the mask 0. Who kicks
 * sets the flag before the mask; here the flag is looked at after the mask. */
static void emit_heal_mask(struct bt *bt)
{
    uint32_t good;

    bt_emit_cmp_slot_imm(bt, true, BT_SLOT(jump_mask), 0);
    good = bt_emit_jcc_open(bt, 5);
    bt_emit_mov32_imm(bt, HV_RAX, (uint32_t)BT_JUMP_MASK);
    bt_emit_store_slot(bt, HV_RAX, BT_SLOT(jump_mask));
    BT_EMIT(bt, 0x0f, 0xae, 0xf0); /* mfence */
    bt_close(bt, good);
}

static void emit_far_probe(struct bt *bt, unsigned kind)
{
    uint32_t miss[2];

    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_store_slot(bt, HV_RAX, BT_SLOT(far_rax));
    BT_EMIT(bt, 0x9f, 0x0f, 0x90, 0xc0); /* lahf; seto al */
    bt_emit_store_slot(bt, HV_RAX, BT_SLOT(ax_flags));
    emit_heal_mask(bt);
    bt_emit_cmp_slot_imm(bt, false, BT_SLOT(kick), 0);
    miss[0] = bt_emit_jcc_open(bt, 5);
    bt_emit_rorx(bt, BT_R11, BT_R10, BT_FAR_ROTATE);
    bt_emit_lea(bt, BT_R11, BT_R11, BT_R10, 0, 0);
    bt_emit_pext(bt, BT_R11, BT_R11, BT_SLOT(far_mask));
    bt_emit_load_table(bt, HV_RCX, BT_R11, far_table(kind, offsetof(struct bt_far, rip)));
    BT_EMIT(bt, 0x4c, 0x01, 0xd1); /* add rcx, r10 */
    bt_emit_alu_slot(bt, BT_CMP, HV_RCX, (uint32_t)(BT_SLOT(salt) + 8 * kind));
    miss[1] = bt_emit_jcc_open(bt, 5);
    emit_far_hit(bt, kind);
    for (unsigned i = 0; i < 2; i++)
        bt_close(bt, miss[i]);
    emit_far_restore(bt);
    emit_jmp_slot(bt, BT_SLOT(far_miss));
}

void bt_emit_far_probes(struct bt *bt)
{
    for (unsigned kind = 0; kind < BT_CODE_KINDS; kind++) {
        bt->far_probe[kind] = bt->code_used;
        emit_far_probe(bt, kind);
    }
}

static void emit_store_code_address(struct bt *bt, uint32_t offset, uint32_t slot)
{
    bt_emit_mov_imm(bt, BT_R11, (uint64_t)(uintptr_t)(bt->code + offset));
    bt_emit_store_slot(bt, BT_R11, slot);
}

/* A look into the first jump cache failed, for the target in R10 or a constant. Goes on with the
 * code's address in its slot: at the stub's @back, or there after @release bytes are taken from the
 * stack. Or leaves for the stub's reason. */
static void emit_far_stub(struct bt_translation *t, const struct bt_stub *s)
{
    struct bt *bt = t->bt;
    uint32_t again = s->resume, miss, hit = s->back;

    if (s->reason == BT_EXIT_TARGET && s->group != BT_NO_GROUP) {
        again = bt->code_used;
        bt_emit_load_addend(t, s->group);
        bt_emit_jmp(bt, s->resume);
    }
    miss = bt->code_used;
    if (s->reason == BT_EXIT_TARGET) {
        bt_emit_store_slot(bt, BT_R10, BT_SLOT(target));
        bt_emit_mov32_imm(bt, BT_R11, again);
    }
    if (s->rip)
        bt_emit_leave(t, s->reason, s->rip);
    else
        bt_emit_jmp(bt, bt->leave[s->reason]);
    if (!hit) {
        hit = bt->code_used;
        if (s->release)
            bt_emit_move_rsp(t, s->release);
        emit_jmp_slot(bt, BT_SLOT(code));
    }
    bt_close(bt, s->from);
    if (s->release)
        bt_emit_count(bt, BT_COUNT_RETURN_MISS, 1, BT_R11);
    if (s->rcx_saved)
        bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    if (s->target)
        bt_emit_mov_imm(bt, BT_R10, s->target);
    emit_store_code_address(bt, hit, BT_SLOT(far_hit));
    emit_store_code_address(bt, miss, BT_SLOT(far_miss));
    bt_emit_jmp(bt, bt->far_probe[s->code_kind]);
}

static struct bt_stub *add_far(struct bt_translation *t, uint32_t from, enum bt_reason reason,
                               uint64_t rip)
{
    struct bt_stub *s = bt_add_stub(t, from);

    s->kind = BT_STUB_FAR;
    s->code_kind = t->kind;
    s->reason = reason;
    s->rip = rip;
    return s;
}

/* R11 = the code's address for the linear address in R10. The stub that is given is for those that
 * are not in the first jump cache; what is in neither is the interpreter's, unless it becomes
 * another reason's. */
static struct bt_stub *emit_probe(struct bt_translation *t, unsigned kind, uint64_t rip)
{
    struct bt *bt = t->bt;
    struct bt_stub *s;
    uint32_t hit;

    t->r11_group = BT_NO_GROUP;
    bt_emit_pext(bt, BT_R11, BT_R10, BT_SLOT(jump_mask));
    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_load_table(bt, HV_RCX, BT_R11, jump_table(kind, offsetof(struct bt_jumps, rip)));
    bt_emit_load_table(bt, BT_R11, BT_R11, jump_table(kind, offsetof(struct bt_jumps, code)));
    bt_emit_lea(bt, HV_RCX, HV_RCX, BT_R10, 0, 0);
    hit = bt_emit_jrcxz_open(bt);
    s = add_far(t, bt_emit_jmp_open(bt), BT_EXIT_INTERP, rip);
    s->code_kind = kind;
    s->rcx_saved = true;
    bt_close8(bt, hit);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    return s;
}

static void emit_jmp_r11(struct bt *bt)
{
    BT_EMIT(bt, 0x41, 0xff, 0xe3); /* jmp r11 */
}

static void emit_look_at_kick(struct bt_translation *t, uint64_t rip)
{
    struct bt_stub *s;

    bt_emit_cmp_slot_imm(t->bt, false, BT_SLOT(kick), 0);
    s = bt_add_stub(t, bt_emit_jcc_open(t->bt, 5)); /* jnz */
    s->kind = BT_STUB_LEAVE;
    s->reason = BT_EXIT_LOOKUP;
    s->rip = rip;
}

/* To a constant address in another page: so is its place in the jump cache. */
static void emit_cross_goto(struct bt_translation *t, unsigned kind, uint64_t rip, bool flags_dead)
{
    struct bt *bt = t->bt;
    uint32_t tag = jump_table(kind, offsetof(struct bt_jumps, rip)) + 8 * bt_jump_index(rip);
    uint32_t code = jump_table(kind, offsetof(struct bt_jumps, code)) + 8 * bt_jump_index(rip);
    bool back = rip <= t->block->rip;
    struct bt_stub *s;
    uint32_t hit;

    if (flags_dead && back)
        emit_look_at_kick(t, rip);
    if (flags_dead && -rip == (uint64_t)(int32_t)-rip) {
        bt_emit_cmp_slot_imm(bt, true, tag, (int32_t)-rip);
        s = add_far(t, bt_emit_jcc_open(bt, 5), BT_EXIT_LOOKUP, rip);
    } else if (flags_dead) {
        bt_emit_mov_imm(bt, BT_R10, -rip);
        bt_emit_alu_slot(bt, BT_CMP, BT_R10, tag);
        s = add_far(t, bt_emit_jcc_open(bt, 5), BT_EXIT_LOOKUP, rip);
    } else {
        bt_emit_store_slot(bt, HV_RCX, BT_SLOT(rcx));
        bt_emit_load_slot(bt, HV_RCX, tag);
        bt_emit_mov_imm(bt, BT_R10, rip);
        bt_emit_lea(bt, HV_RCX, HV_RCX, BT_R10, 0, 0);
        if (back) { /* which does not hit either if there is a kick: no two addresses differ by 2 to the 63rd */
            BT_EMIT(bt, 0x65, 0x44, 0x8b, 0x1c, 0x25); /* mov r11d, gs:[kick] */
            bt_emit32(bt, BT_SLOT(kick));
            bt_emit_rorx(bt, BT_R11, BT_R11, 1);
            bt_emit_lea(bt, HV_RCX, HV_RCX, BT_R11, 0, 0);
        }
        hit = bt_emit_jrcxz_open(bt);
        s = add_far(t, bt_emit_jmp_open(bt), BT_EXIT_LOOKUP, rip);
        s->rcx_saved = true;
        bt_close8(bt, hit);
        bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    }
    emit_jmp_slot(bt, code);
    s->code_kind = kind;
    s->target = rip;
}

void bt_emit_jump_to_r10(struct bt_translation *t, unsigned kind)
{
    struct bt_stub *s = emit_probe(t, kind, 0);

    s->reason = BT_EXIT_LOOKUP; /* at R10, which is RIP now */
    emit_jmp_r11(t->bt);
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
        emit_cross_goto(t, t->kind, rip, !in->live_after);
}

void bt_emit_goto_kind(struct bt_translation *t, const struct bt_insn *in, uint64_t rip,
                       unsigned kind)
{
    emit_cross_goto(t, kind, rip, !in->live_after);
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
        bt_emit_cmp_imm(bt, BT_R10, HV_PAGE_SIZE - 1);
        site.crosses = bt_emit_jcc_open(bt, 6); /* jbe */
        bt_close(bt, site.crosses);
    }
    bt_emit_store_slot(bt, BT_R10, BT_SLOT(scratch10));
    bt_emit_mov_imm(bt, BT_R10, (uint64_t)(uintptr_t)(bt->code + at));
    bt_emit_jmp(bt, bt->leave[group ? BT_EXIT_GROUP : BT_EXIT_MISS]);
    memcpy(bt->code_rw + at, &site, sizeof(site));
}

static void emit_leave_stub(struct bt_translation *t, const struct bt_stub *s)
{
    bt_close(t->bt, s->from);
    if (s->reason == BT_EXIT_LINK)
        bt_emit_mov32_imm(t->bt, BT_R11, s->from);
    bt_emit_leave(t, s->reason, s->rip);
}

static void emit_fpu_stub(struct bt_translation *t, const struct bt_stub *s)
{
    bt_close(t->bt, s->from);
    if (s->rcx_saved)
        bt_emit_load_slot(t->bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_mov32_imm(t->bt, BT_R11, s->back);
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
        case BT_STUB_FAR:
            emit_far_stub(t, s);
            break;
        case BT_STUB_CROSS: /* adds one more */
            bt_close(t->bt, s->from);
            emit_cross_goto(t, t->kind, s->rip, s->flags_dead);
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

/* R10 = where an indirect jump or call goes. */
static void emit_indirect_target(struct bt_translation *t, const struct bt_insn *in)
{
    unsigned reg;

    if (in->d->mem) {
        struct bt_place p = bt_emit_access(t, in, &in->refs[0]);

        bt_emit_load_place(t->bt, t->word, BT_R10, &p);
        return;
    }
    reg = in->d->reg0;
    if (bt_in_slot(reg))
        bt_emit_load_guest(t, reg, BT_R10);
    else if (t->code32)
        bt_emit_mov32(t->bt, BT_R10, reg);
    else
        bt_emit_mov(t->bt, BT_R10, reg);
}

static unsigned held_group(unsigned r11_group)
{
    return r11_group == BT_GUEST_R11 ? BT_NO_GROUP : r11_group;
}

/* The target is translated, and the instruction tried again from @resume, where R11 has the
 * addend of @group: for those that store nothing, since what they would store to may be found to be
 * code. */
static void try_again(struct bt_stub *s, uint32_t resume, unsigned group)
{
    s->reason = BT_EXIT_TARGET;
    s->resume = resume;
    s->group = group;
}

void bt_emit_jmp_insn(struct bt_translation *t, const struct bt_insn *in)
{
    uint32_t resume;
    unsigned group = t->r11_group;

    if (bt_is_direct(in)) {
        bt_emit_goto(t, in, bt_target_of(t, in));
        return;
    }
    resume = t->bt->code_used;
    emit_indirect_target(t, in);
    try_again(emit_probe(t, t->kind, bt_rip_of(t, in)), resume, held_group(group));
    emit_jmp_r11(t->bt);
}

static void emit_push_return(struct bt_translation *t, const struct bt_insn *in,
                             const struct bt_ref *ref)
{
    struct bt_place p = bt_emit_access(t, in, ref);

    bt_emit_store_constant(t, &p, bt_next_rip(t, in));
    bt_emit_move_rsp(t, -(int32_t)t->word);
    t->r11_group = BT_NO_GROUP;
}

void bt_emit_call(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    struct bt_stub *s;

    if (bt_is_direct(in)) {
        emit_push_return(t, in, &in->refs[0]);
        bt_emit_goto(t, in, bt_target_of(t, in));
        return;
    }
    emit_indirect_target(t, in);
    s = emit_probe(t, t->kind, bt_rip_of(t, in));
    bt_emit_store_slot(bt, BT_R11, BT_SLOT(code));
    s->back = bt->code_used;
    emit_push_return(t, in, &in->refs[in->nr_refs - 1]);
    emit_jmp_slot(bt, BT_SLOT(code));
}

void bt_emit_ret(struct bt_translation *t, const struct bt_insn *in)
{
    int32_t release =
        in->d->imm_bytes[0] ? (int32_t)(uint16_t)bt_imm_of(t, in) : 0;
    uint32_t resume = t->bt->code_used;
    unsigned group = t->r11_group;
    struct bt_place p = bt_emit_access(t, in, &in->refs[0]);
    struct bt_stub *s;

    bt_emit_load_place(t->bt, t->word, BT_R10, &p);
    release += (int32_t)t->word;
    bt_emit_count(t->bt, BT_COUNT_RETURN, 1, BT_R11);
    s = emit_probe(t, t->kind, bt_rip_of(t, in));
    s->release = release;
    try_again(s, resume, held_group(group));
    bt_emit_move_rsp(t, release);
    emit_jmp_r11(t->bt);
}

/* The block may go on behind it. */
void bt_emit_jcc(struct bt_translation *t, const struct bt_insn *in)
{
    finish_jump(t, bt_emit_jcc_open(t->bt, in->d->opcode & 15), in, bt_target_of(t, in));
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
