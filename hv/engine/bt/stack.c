/* The stack. */
#include "config.h"

#include "hv/engine/bt/translate.h"

void bt_emit_store_constant(struct bt_translation *t, const struct bt_place *p, uint64_t value)
{
    struct bt *bt = t->bt;
    unsigned scratch = p->base == BT_R10 ? BT_R11 : BT_R10;
    struct bt_place place = *p;

    if (t->code32 || (int64_t)value == (int32_t)value) {
        BT_EMIT(bt, bt_rex(!t->code32, 0, p), 0xc7); /* mov [p], imm32 */
        bt_emit_modrm(bt, 0, p);
        bt_emit32(bt, (uint32_t)value);
        return;
    }
    if (p->base == BT_R10 && p->index == BT_R11) {
        bt_emit_lea(bt, BT_R10, BT_R10, BT_R11, 0, p->disp);
        place = (struct bt_place){.base = BT_R10, .index = 4};
    }
    bt_emit_mov_imm(bt, scratch, value);
    bt_emit_store_place(bt, 8, scratch, &place);
}

void bt_emit_move_rsp(struct bt_translation *t, int32_t by)
{
    if (t->code32)
        bt_emit_lea32(t->bt, HV_RSP, HV_RSP, 4, 0, by);
    else
        bt_emit_lea(t->bt, HV_RSP, HV_RSP, 4, 0, by);
}

/* The value goes through a slot, for both accesses need the scratch registers. */
static void emit_push_memory(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    struct bt_place p = bt_emit_access(t, in, &in->refs[0]);

    bt_emit_load_place(bt, t->word, BT_R10, &p);
    bt_emit_store_slot(bt, BT_R10, BT_SLOT(target));
    p = bt_emit_access_free11(t, in, &in->refs[1]);
    bt_emit_load_slot(bt, BT_R11, BT_SLOT(target));
    bt_emit_store_place(bt, t->word, BT_R11, &p);
    bt_emit_move_rsp(t, -(int32_t)t->word);
}

void bt_emit_push(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt_place p;
    unsigned reg;

    if (in->d->mem) {
        emit_push_memory(t, in);
        return;
    }
    /* In 64-bit code it is at [rsp - 8], and R10 is free. */
    p = bt_emit_access(t, in, &in->refs[0]);
    if (in->d->imm0) {
        bt_emit_store_constant(t, &p, (uint64_t)bt_imm_of(t, in));
    } else {
        reg = in->d->reg0;
        if (bt_in_slot(reg)) {
            bt_emit_load_guest(t, reg, BT_R10);
            reg = BT_R10;
        }
        bt_emit_store_place(t->bt, t->word, reg, &p);
    }
    bt_emit_move_rsp(t, -(int32_t)t->word);
}

void bt_emit_pop(struct bt_translation *t, const struct bt_insn *in)
{
    unsigned reg = in->d->reg0;
    struct bt_place p = bt_emit_access(t, in, &in->refs[0]);

    if (bt_in_slot(reg)) {
        bt_emit_load_place(t->bt, t->word, BT_R10, &p);
        bt_emit_store_guest(t, reg, BT_R10);
    } else {
        bt_emit_load_place(t->bt, t->word, reg, &p);
    }
    if (reg != HV_RSP)
        bt_emit_move_rsp(t, (int32_t)t->word);
}

void bt_emit_leave_insn(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt_place p = bt_emit_access(t, in, &in->refs[0]);

    if (t->code32)
        bt_emit_lea32(t->bt, HV_RSP, HV_RBP, 4, 0, 4);
    else
        bt_emit_lea(t->bt, HV_RSP, HV_RBP, 4, 0, 8);
    bt_emit_load_place(t->bt, t->word, HV_RBP, &p);
}
