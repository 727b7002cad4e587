/* The stack. */
#include "config.h"

#include "hv/engine/bt/translate.h"

void bt_emit_store_constant(struct bt *bt, const struct bt_place *p, uint64_t value)
{
    unsigned scratch = p->base == BT_R10 ? BT_R11 : BT_R10;
    struct bt_place place = *p;

    if ((int64_t)value == (int32_t)value) {
        BT_EMIT(bt, bt_rex(1, 0, p), 0xc7); /* mov qword [p], imm32 */
        bt_emit_modrm(bt, 0, p);
        bt_emit32(bt, (uint32_t)value);
        return;
    }
    if (p->base == BT_R10 && p->index == BT_R11) {
        bt_emit_lea(bt, BT_R10, BT_R10, BT_R11, 0, p->disp);
        place = (struct bt_place){.base = BT_R10, .index = 4};
    }
    bt_emit_mov_imm(bt, scratch, value);
    bt_emit_store_place(bt, scratch, &place);
}

static void emit_move_rsp(struct bt *bt, int32_t by)
{
    bt_emit_lea(bt, HV_RSP, HV_RSP, 4, 0, by);
}

/* The value goes through a slot, for both accesses need the scratch registers. */
static void emit_push_memory(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    struct bt_place p = bt_emit_access(t, in, &in->refs[0]);

    bt_emit_load_place(bt, BT_R10, &p);
    bt_emit_store_slot(bt, BT_R10, BT_SLOT(target));
    p = bt_emit_access_free11(t, in, &in->refs[1]);
    bt_emit_load_slot(bt, BT_R11, BT_SLOT(target));
    bt_emit_store_place(bt, BT_R11, &p);
    emit_move_rsp(bt, -8);
}

void bt_emit_push(struct bt_translation *t, const struct bt_insn *in)
{
    const ZydisDecodedOperand *o = &in->d->ops[0];
    struct bt_place p;
    unsigned reg;

    if (in->d->mem) {
        emit_push_memory(t, in);
        return;
    }
    p = bt_emit_access(t, in, &in->refs[0]); /* at [rsp - 8]: R10 is free */
    if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
        bt_emit_store_constant(t->bt, &p, (uint64_t)o->imm.value.s);
    } else {
        reg = bt_gpr_of(o->reg.value);
        if (bt_in_slot(reg)) {
            bt_emit_load_guest(t, reg, BT_R10);
            reg = BT_R10;
        }
        bt_emit_store_place(t->bt, reg, &p);
    }
    emit_move_rsp(t->bt, -8);
}

void bt_emit_pop(struct bt_translation *t, const struct bt_insn *in)
{
    unsigned reg = bt_gpr_of(in->d->ops[0].reg.value);
    struct bt_place p = bt_emit_access(t, in, &in->refs[0]);

    if (bt_in_slot(reg)) {
        bt_emit_load_place(t->bt, BT_R10, &p);
        bt_emit_store_guest(t, reg, BT_R10);
    } else {
        bt_emit_load_place(t->bt, reg, &p);
    }
    if (reg != HV_RSP)
        emit_move_rsp(t->bt, 8);
}

void bt_emit_leave_insn(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt_place p = bt_emit_access(t, in, &in->refs[0]);

    bt_emit_lea(t->bt, HV_RSP, HV_RBP, 4, 0, 8);
    bt_emit_load_place(t->bt, HV_RBP, &p);
}
