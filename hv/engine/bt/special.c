/* Instructions with an expansion of their own: stack, jumps, divisions; and the ways out of a
 * block.
 */
#include "config.h"

#include "hv/engine/bt/translate.h"

#include <string.h>

#include "hv/x86/linear.h"

/* ---- the stack */

/* mov [r14], reg */
static void emit_store_host(struct bt *bt, unsigned reg)
{
    BT_EMIT(bt, (uint8_t)(0x49 | (reg >> 3) << 2), 0x89, (uint8_t)((reg & 7) << 3 | 6));
}

/* mov reg, [r14] */
static void emit_load_host(struct bt *bt, unsigned reg)
{
    BT_EMIT(bt, (uint8_t)(0x49 | (reg >> 3) << 2), 0x8b, (uint8_t)((reg & 7) << 3 | 6));
}

static uint32_t scratch_slot(unsigned reg)
{
    return reg == 14 ? BT_SLOT(r14) : BT_SLOT(r15);
}

static void emit_store_constant(struct bt *bt, uint64_t value)
{
    if ((int64_t)value == (int32_t)value) {
        BT_EMIT(bt, 0x49, 0xc7, 0x06); /* mov qword [r14], imm32 */
        bt_emit32(bt, (uint32_t)value);
    } else {
        bt_emit_mov_imm(bt, BT_R15, value);
        emit_store_host(bt, BT_R15);
    }
}

static void emit_move_rsp(struct bt *bt, int32_t by)
{
    bt_emit_lea(bt, HV_RSP, HV_RSP, 4, 0, by);
}

static void emit_push(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    const ZydisDecodedOperand *o = &in->ops[0];

    if (in->mem) {
        bt_emit_access(t, in, in->mem, 8, false);
        emit_load_host(bt, BT_R15);
        bt_emit_store_slot(bt, BT_R15, BT_SLOT(target));
    }
    bt_emit_access_base(t, in, HV_RSP, -8, 8, true);
    if (in->mem) {
        bt_emit_load_slot(bt, BT_R15, BT_SLOT(target));
        emit_store_host(bt, BT_R15);
    } else if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        emit_store_constant(bt, (uint64_t)o->imm.value.s);
    } else {
        unsigned reg = bt_gpr_of(o->reg.value);

        if (reg >= 14) {
            bt_emit_load_slot(bt, BT_R15, scratch_slot(reg));
            reg = BT_R15;
        }
        emit_store_host(bt, reg);
    }
    emit_move_rsp(bt, -8);
}

static void emit_pop(struct bt_translation *t, const struct bt_insn *in)
{
    unsigned reg = bt_gpr_of(in->ops[0].reg.value);

    bt_emit_access_base(t, in, HV_RSP, 0, 8, false);
    if (reg >= 14) {
        emit_load_host(t->bt, BT_R15);
        bt_emit_store_slot(t->bt, BT_R15, scratch_slot(reg));
    } else {
        emit_load_host(t->bt, reg);
    }
    if (reg != HV_RSP)
        emit_move_rsp(t->bt, 8);
}

static void emit_leave_insn(struct bt_translation *t, const struct bt_insn *in)
{
    bt_emit_access_base(t, in, HV_RBP, 0, 8, false);
    bt_emit_lea(t->bt, HV_RSP, HV_RBP, 4, 0, 8);
    emit_load_host(t->bt, HV_RBP);
}

/* ---- leaving */

void bt_emit_leave(struct bt_translation *t, enum bt_reason reason, uint64_t rip)
{
    bt_emit_mov_imm(t->bt, BT_R14, rip);
    bt_emit_jmp(t->bt, t->bt->leave[reason]);
}

/* R15 = code for linear address R14; out with @reason and RIP @rip if it is not in the cache. */
static void emit_probe(struct bt_translation *t, enum bt_reason reason, uint64_t rip)
{
    struct bt *bt = t->bt;
    uint32_t table = (uint32_t)(BT_SLOT(jumps) + t->kind * sizeof(struct bt_jumps)), hit;

    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_pext(bt, HV_RCX, BT_R14, BT_SLOT(jump_mask));
    bt_emit_load_table(bt, BT_R15, HV_RCX, table + (uint32_t)offsetof(struct bt_jumps, code));
    bt_emit_load_table(bt, HV_RCX, HV_RCX, table + (uint32_t)offsetof(struct bt_jumps, rip));
    bt_emit_lea(bt, HV_RCX, HV_RCX, BT_R14, 0, 0);
    hit = bt_emit_jrcxz_open(bt);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_leave(t, reason, rip);
    bt_close8(bt, hit);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
}

static void emit_cross_goto(struct bt_translation *t, uint64_t rip)
{
    bt_emit_mov_imm(t->bt, BT_R14, rip);
    emit_probe(t, BT_EXIT_LOOKUP, rip);
    BT_EMIT(t->bt, 0x41, 0xff, 0xe7); /* jmp r15 */
}

static bool same_page(const struct bt_translation *t, uint64_t rip)
{
    return rip >> HV_PAGE_SHIFT == t->block->rip >> HV_PAGE_SHIFT;
}

/* Completes a direct jump (its distance is at @at): within the page to the block if it is there, or
 * to a request to link it. A jump back meets the look at attention, so that every loop does. */
static void finish_jump(struct bt_translation *t, uint32_t at, uint64_t from, uint64_t rip)
{
    uint64_t gpa = (t->block->gpa & ~(uint64_t)HV_PAGE_MASK) | (rip & HV_PAGE_MASK);
    struct bt_block *b = same_page(t, rip) ? bt_cached_block(t->bt, gpa, rip, t->kind) : NULL;
    struct bt_stub *s;

    if (rip == t->block->rip)
        b = t->block;
    if (b && b->generation == t->block->generation) {
        bt_patch_jump(t->bt, at, rip <= from ? b->head : b->body);
        return;
    }
    s = bt_add_stub(t, at);
    s->kind = same_page(t, rip) ? BT_STUB_LEAVE : BT_STUB_CROSS;
    s->reason = BT_EXIT_LINK;
    s->rip = rip;
}

void bt_emit_goto(struct bt_translation *t, uint64_t from, uint64_t rip)
{
    if (same_page(t, rip))
        finish_jump(t, bt_emit_jmp_open(t->bt), from, rip);
    else
        emit_cross_goto(t, rip);
}

static void emit_miss_stub(struct bt_translation *t, const struct bt_stub *s)
{
    struct bt *bt = t->bt;
    uint32_t at = (bt->code_used + 7) & ~7u;

    bt->code_used = at;
    bt_emit_bytes(bt, &s->site, sizeof(s->site));
    bt_close(bt, s->from);
    if (s->jrcxz_saved)
        bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_store_slot(bt, BT_R14, BT_SLOT(scratch14));
    bt_emit_mov_imm(bt, BT_R14, (uint64_t)(uintptr_t)(bt->code + at));
    bt_emit_jmp(bt, bt->leave[BT_EXIT_MISS]);
}

void bt_emit_stubs(struct bt_translation *t)
{
    struct bt *bt = t->bt;

    for (unsigned i = 0; i < t->nr_stubs; i++) {
        const struct bt_stub *s = &t->stubs[i];

        if (s->kind == BT_STUB_MISS) {
            emit_miss_stub(t, s);
            continue;
        }
        bt_close(bt, s->from);
        if (s->kind == BT_STUB_CROSS) {
            emit_cross_goto(t, s->rip);
        } else {
            bt_emit_mov32_imm(bt, BT_R15, s->from);
            bt_emit_leave(t, s->reason, s->rip);
        }
    }
}

/* ---- jumps */

static uint64_t target_of(const struct bt_translation *t, const struct bt_insn *in)
{
    return bt_next_rip(t, in) + (uint64_t)in->ops[0].imm.value.s;
}

static bool is_direct(const struct bt_insn *in)
{
    return in->ops[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

/* R14 = where an indirect jump or call goes. */
static void emit_indirect_target(struct bt_translation *t, const struct bt_insn *in)
{
    if (in->mem) {
        bt_emit_access(t, in, in->mem, 8, false);
        emit_load_host(t->bt, BT_R14);
        return;
    }
    unsigned reg = bt_gpr_of(in->ops[0].reg.value);

    if (reg >= 14)
        bt_emit_load_slot(t->bt, BT_R14, scratch_slot(reg));
    else
        bt_emit_mov(t->bt, BT_R14, reg);
}

/* What does not hit the jump cache is executed by the interpreter, which also checks the target;
 * then it is looked up. */
static void emit_jmp_insn(struct bt_translation *t, const struct bt_insn *in)
{
    if (is_direct(in)) {
        bt_emit_goto(t, bt_rip_of(t, in), target_of(t, in));
        return;
    }
    emit_indirect_target(t, in);
    emit_probe(t, BT_EXIT_INTERP, bt_rip_of(t, in));
    BT_EMIT(t->bt, 0x41, 0xff, 0xe7); /* jmp r15 */
}

static void emit_push_return(struct bt_translation *t, const struct bt_insn *in)
{
    bt_emit_access_base(t, in, HV_RSP, -8, 8, true);
    emit_store_constant(t->bt, bt_next_rip(t, in));
    emit_move_rsp(t->bt, -8);
}

static void emit_call(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;

    if (is_direct(in)) {
        emit_push_return(t, in);
        bt_emit_goto(t, bt_rip_of(t, in), target_of(t, in));
        return;
    }
    emit_indirect_target(t, in);
    emit_probe(t, BT_EXIT_INTERP, bt_rip_of(t, in));
    bt_emit_store_slot(bt, BT_R15, BT_SLOT(target));
    emit_push_return(t, in);
    BT_EMIT(bt, 0x65, 0xff, 0x24, 0x25); /* jmp gs:[target] */
    bt_emit32(bt, BT_SLOT(target));
}

static void emit_ret(struct bt_translation *t, const struct bt_insn *in)
{
    int32_t release = in->zi.raw.imm[0].size ? (int32_t)(uint16_t)in->zi.raw.imm[0].value.u : 0;

    bt_emit_access_base(t, in, HV_RSP, 0, 8, false);
    emit_load_host(t->bt, BT_R14);
    emit_probe(t, BT_EXIT_INTERP, bt_rip_of(t, in));
    emit_move_rsp(t->bt, 8 + release);
    BT_EMIT(t->bt, 0x41, 0xff, 0xe7); /* jmp r15 */
}

static void emit_jcc(struct bt_translation *t, const struct bt_insn *in)
{
    uint64_t from = bt_rip_of(t, in);

    finish_jump(t, bt_emit_jcc_open(t->bt, in->zi.opcode & 15), from, target_of(t, in));
    bt_emit_goto(t, from, bt_next_rip(t, in));
}

static void emit_jrcxz(struct bt_translation *t, const struct bt_insn *in)
{
    uint64_t from = bt_rip_of(t, in);
    uint32_t taken = bt_emit_jrcxz_open(t->bt), not_taken;

    not_taken = bt_emit_jmp_open(t->bt);
    bt_close8(t->bt, taken);
    finish_jump(t, bt_emit_jmp_open(t->bt), from, target_of(t, in));
    bt_close(t->bt, not_taken);
    bt_emit_goto(t, from, bt_next_rip(t, in));
}

/* ---- divisions: natively where they cannot fault, else the interpreter raises #DE */

/* R15 = divisor, zero- or sign-extended. */
static void emit_divisor(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    bool wide = in->ops[0].size == 64, sign = in->class == BT_IDIV && !wide;
    unsigned reg = BT_R14;

    if (in->mem) {
        bt_emit_access(t, in, in->mem, wide ? 8 : 4, false);
        if (wide)
            emit_load_host(bt, BT_R15);
        else if (sign)
            BT_EMIT(bt, 0x4d, 0x63, 0x3e); /* movsxd r15, dword [r14] */
        else
            BT_EMIT(bt, 0x45, 0x8b, 0x3e); /* mov r15d, [r14] */
        return;
    }
    reg = bt_gpr_of(in->ops[0].reg.value);
    if (reg >= 14) {
        bt_emit_load_slot(bt, BT_R15, scratch_slot(reg));
        reg = BT_R15;
    }
    if (wide)
        bt_emit_mov(bt, BT_R15, reg);
    else if (sign) /* movsxd r15, reg32 */
        BT_EMIT(bt, (uint8_t)(0x4c | reg >> 3), 0x63, (uint8_t)(0xf8 | (reg & 7)));
    else /* mov r15d, reg32 */
        BT_EMIT(bt, (uint8_t)(0x44 | reg >> 3), 0x8b, (uint8_t)(0xf8 | (reg & 7)));
}

/* Continues where RCX is zero. */
static void emit_need_zero(struct bt *bt, uint32_t *bad)
{
    uint32_t ok = bt_emit_jrcxz_open(bt);

    *bad = bt_emit_jmp_open(bt);
    bt_close8(bt, ok);
}

static void emit_need_nonzero(struct bt *bt, uint32_t *bad)
{
    uint32_t zero = bt_emit_jrcxz_open(bt), over = bt_emit_jmp_open(bt);

    bt_close8(bt, zero);
    *bad = bt_emit_jmp_open(bt);
    bt_close(bt, over);
}

/* The high half must be the extension of the low one; of 32 bits, anything below the divisor. */
static unsigned emit_check_unsigned(struct bt *bt, bool wide, uint32_t bad[])
{
    if (wide) {
        bt_emit_mov(bt, HV_RCX, HV_RDX);
        emit_need_zero(bt, &bad[0]);
        bt_emit_mov(bt, HV_RCX, BT_R15);
        emit_need_nonzero(bt, &bad[1]);
        return 2;
    }
    BT_EMIT(bt, 0x89, 0xd1);                       /* mov ecx, edx */
    BT_EMIT(bt, 0x48, 0xf7, 0xd1);                 /* not rcx */
    bt_emit_lea(bt, HV_RCX, HV_RCX, BT_R15, 0, 0); /* divisor - edx - 1 */
    bt_emit_pext(bt, HV_RCX, HV_RCX, BT_SLOT(sign_mask));
    emit_need_zero(bt, &bad[0]);
    return 1;
}

static unsigned emit_check_signed(struct bt *bt, bool wide, uint32_t bad[])
{
    bt_emit_mov32_imm(bt, HV_RCX, 63);
    if (wide)
        bt_emit_mov(bt, BT_R14, HV_RAX);
    else
        BT_EMIT(bt, 0x4c, 0x63, 0xf0);         /* movsxd r14, eax */
    BT_EMIT(bt, 0xc4, 0x42, 0xf2, 0xf7, 0xf6); /* sarx r14, r14, rcx */
    BT_EMIT(bt, 0x49, 0xf7, 0xd6);             /* not r14 */
    if (wide)
        bt_emit_mov(bt, HV_RCX, HV_RDX);
    else
        BT_EMIT(bt, 0x48, 0x63, 0xca); /* movsxd rcx, edx */
    bt_emit_lea(bt, HV_RCX, HV_RCX, BT_R14, 0, 1);
    emit_need_zero(bt, &bad[0]);
    bt_emit_mov(bt, HV_RCX, BT_R15);
    emit_need_nonzero(bt, &bad[1]);
    BT_EMIT(bt, 0x48, 0xf7, 0xd1); /* not rcx: the divisor is not -1 */
    emit_need_nonzero(bt, &bad[2]);
    return 3;
}

static void emit_division(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    bool wide = in->ops[0].size == 64;
    uint32_t bad[3], over;
    unsigned nr_bad;

    emit_divisor(t, in);
    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(rcx));
    nr_bad =
        in->class == BT_DIV ? emit_check_unsigned(bt, wide, bad) : emit_check_signed(bt, wide, bad);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    /* div or idiv r15 */
    BT_EMIT(bt, wide ? 0x49 : 0x41, 0xf7, in->class == BT_DIV ? 0xf7 : 0xff);
    over = bt_emit_jmp_open(bt);
    for (unsigned i = 0; i < nr_bad; i++)
        bt_close(bt, bad[i]);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_leave(t, BT_EXIT_INTERP, bt_rip_of(t, in));
    bt_close(bt, over);
}

/* The host's counter and an offset, with flags left alone. */
static void emit_rdtsc(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;

    (void)in;
    BT_EMIT(bt, 0x0f, 0x31);                         /* rdtsc */
    BT_EMIT(bt, 0xc4, 0xe3, 0xfb, 0xf0, 0xd2, 0x20); /* rorx rdx, rdx, 32 */
    bt_emit_load_slot(bt, BT_R14, BT_SLOT(tsc_offset));
    bt_emit_lea(bt, HV_RAX, HV_RAX, HV_RDX, 0, 0);
    bt_emit_lea(bt, HV_RAX, HV_RAX, BT_R14, 0, 0);
    BT_EMIT(bt, 0xc4, 0xe3, 0xfb, 0xf0, 0xd0, 0x20); /* rorx rdx, rax, 32 */
    BT_EMIT(bt, 0x89, 0xd2, 0x89, 0xc0);             /* mov edx, edx; mov eax, eax */
}

/* ---- flags */

/* The host's own PUSHFQ on the host's stack, without what is not the guest's, and the rest. */
static void emit_pushf(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;

    bt_emit_access_base(t, in, HV_RSP, -8, 8, true);
    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_mov(bt, BT_R15, HV_RSP);
    bt_emit_load_slot(bt, HV_RSP, BT_SLOT(host_rsp));
    BT_EMIT(bt, 0x9c, 0x59); /* pushfq; pop rcx */
    bt_emit_mov(bt, HV_RSP, BT_R15);
    bt_emit_pext(bt, HV_RCX, HV_RCX, BT_SLOT(arith_mask));
    BT_EMIT(bt, 0x65, 0xc4, 0xe2, 0xf3, 0xf5, 0x0c, 0x25); /* pdep rcx, rcx, gs:[arith_mask] */
    bt_emit32(bt, BT_SLOT(arith_mask));
    bt_emit_load_slot(bt, BT_R15, BT_SLOT(rflags));
    bt_emit_lea(bt, HV_RCX, HV_RCX, BT_R15, 0, 0);
    bt_emit_load_slot(bt, BT_R15, BT_SLOT(if_flag));
    bt_emit_lea(bt, HV_RCX, HV_RCX, BT_R15, 0, 0);
    emit_store_host(bt, HV_RCX);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    emit_move_rsp(bt, -8);
}

static void emit_set_if(struct bt *bt, uint32_t value)
{
    BT_EMIT(bt, 0x65, 0x48, 0xc7, 0x04, 0x25); /* mov qword gs:[if_flag], value */
    bt_emit32(bt, BT_SLOT(if_flag));
    bt_emit32(bt, value);
}

static void emit_cli(struct bt_translation *t, const struct bt_insn *in)
{
    (void)in;
    emit_set_if(t->bt, 0);
}

/* The shadow needs no more: attention is next looked at behind the next instruction or later. */
static void emit_sti(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    uint32_t none;

    bt_emit_mov(bt, BT_R14, HV_RCX);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(irq_window));
    none = bt_emit_jrcxz_open(bt);
    bt_emit_mov(bt, HV_RCX, BT_R14);
    bt_emit_leave(t, BT_EXIT_INTERP, bt_rip_of(t, in));
    bt_close8(bt, none);
    bt_emit_mov(bt, HV_RCX, BT_R14);
    emit_set_if(bt, HV_EFLAGS_IF);
}

static void emit_swapgs(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;

    (void)in;
    bt_emit_load_slot(bt, BT_R14, BT_SLOT(gs_base));
    bt_emit_load_slot(bt, BT_R15, BT_SLOT(cpu));
    BT_EMIT(bt, 0x4d, 0x87, 0xb7); /* xchg [r15 + kernel_gs_base], r14 */
    bt_emit32(bt, (uint32_t)offsetof(struct hv_cpu, kernel_gs_base));
    bt_emit_store(bt, BT_R14, BT_R15,
                  (int32_t)(offsetof(struct hv_cpu, seg) + HV_GS * sizeof(struct hv_segment) +
                            offsetof(struct hv_segment, base)));
    bt_emit_store_slot(bt, BT_R14, BT_SLOT(gs_base));
}

static void emit_nothing(struct bt_translation *t, const struct bt_insn *in)
{
    (void)t;
    (void)in;
}

void bt_emit_special(struct bt_translation *t, const struct bt_insn *in)
{
    static void (*const emitters[])(struct bt_translation *, const struct bt_insn *) = {
        [BT_NATIVE] = bt_emit_native, [BT_NOTHING] = emit_nothing, [BT_PUSH] = emit_push,
        [BT_POP] = emit_pop,          [BT_CALL] = emit_call,       [BT_RET] = emit_ret,
        [BT_JMP] = emit_jmp_insn,     [BT_JCC] = emit_jcc,         [BT_JRCXZ] = emit_jrcxz,
        [BT_LEAVE] = emit_leave_insn, [BT_DIV] = emit_division,    [BT_IDIV] = emit_division,
        [BT_RDTSC] = emit_rdtsc,      [BT_PUSHF] = emit_pushf,     [BT_CLI] = emit_cli,
        [BT_STI] = emit_sti,          [BT_SWAPGS] = emit_swapgs,
    };

    emitters[in->class](t, in);
}
