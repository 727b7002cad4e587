/* Divisions: natively where they cannot fault, else the interpreter raises #DE. */
#include "config.h"

#include "hv/engine/bt/translate.h"

/* R11 = divisor, zero- or sign-extended. */
static void emit_divisor(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    bool wide = in->d->size0 == 64, sign = in->class == BT_IDIV && !wide;
    unsigned reg;

    if (in->d->mem) {
        struct bt_place p = bt_emit_access(t, in, &in->refs[0]);

        if (sign) /* movsxd r11, dword [p] */
            BT_EMIT(bt, bt_rex(1, BT_R11, &p), 0x63);
        else /* mov r11, [p]; of 32 bits the upper half becomes 0 */
            BT_EMIT(bt, bt_rex(wide, BT_R11, &p), 0x8b);
        bt_emit_modrm(bt, BT_R11, &p);
        return;
    }
    reg = in->d->reg0;
    if (bt_in_slot(reg)) {
        bt_emit_load_guest(t, reg, BT_R11);
        reg = BT_R11;
    }
    if (wide)
        bt_emit_mov(bt, BT_R11, reg);
    else if (sign) /* movsxd r11, reg32 */
        BT_EMIT(bt, (uint8_t)(0x4c | reg >> 3), 0x63, (uint8_t)(0xd8 | (reg & 7)));
    else /* mov r11d, reg32 */
        BT_EMIT(bt, (uint8_t)(0x44 | reg >> 3), 0x8b, (uint8_t)(0xd8 | (reg & 7)));
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
        bt_emit_mov(bt, HV_RCX, BT_R11);
        emit_need_nonzero(bt, &bad[1]);
        return 2;
    }
    BT_EMIT(bt, 0x89, 0xd1);                       /* mov ecx, edx */
    BT_EMIT(bt, 0x48, 0xf7, 0xd1);                 /* not rcx */
    bt_emit_lea(bt, HV_RCX, HV_RCX, BT_R11, 0, 0); /* divisor - edx - 1 */
    bt_emit_pext(bt, HV_RCX, HV_RCX, BT_SLOT(sign_mask));
    emit_need_zero(bt, &bad[0]);
    return 1;
}

static unsigned emit_check_signed(struct bt *bt, bool wide, uint32_t bad[])
{
    bt_emit_mov32_imm(bt, HV_RCX, 63);
    if (wide)
        bt_emit_mov(bt, BT_R10, HV_RAX);
    else
        BT_EMIT(bt, 0x4c, 0x63, 0xd0);         /* movsxd r10, eax */
    BT_EMIT(bt, 0xc4, 0x42, 0xf2, 0xf7, 0xd2); /* sarx r10, r10, rcx */
    BT_EMIT(bt, 0x49, 0xf7, 0xd2);             /* not r10 */
    if (wide)
        bt_emit_mov(bt, HV_RCX, HV_RDX);
    else
        BT_EMIT(bt, 0x48, 0x63, 0xca); /* movsxd rcx, edx */
    bt_emit_lea(bt, HV_RCX, HV_RCX, BT_R10, 0, 1);
    emit_need_zero(bt, &bad[0]);
    bt_emit_mov(bt, HV_RCX, BT_R11);
    emit_need_nonzero(bt, &bad[1]);
    BT_EMIT(bt, 0x48, 0xf7, 0xd1); /* not rcx: the divisor is not -1 */
    emit_need_nonzero(bt, &bad[2]);
    return 3;
}

void bt_emit_division(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    bool wide = in->d->size0 == 64;
    uint32_t bad[3], over;
    unsigned nr_bad;

    emit_divisor(t, in);
    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(rcx));
    nr_bad =
        in->class == BT_DIV ? emit_check_unsigned(bt, wide, bad) : emit_check_signed(bt, wide, bad);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    /* div or idiv r11 */
    BT_EMIT(bt, wide ? 0x49 : 0x41, 0xf7, in->class == BT_DIV ? 0xf3 : 0xfb);
    over = bt_emit_jmp_open(bt);
    for (unsigned i = 0; i < nr_bad; i++)
        bt_close(bt, bad[i]);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_leave(t, BT_EXIT_INTERP, bt_rip_of(t, in));
    bt_close(bt, over);
}
