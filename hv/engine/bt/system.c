/* Flags, time, and what the kernel does often. */
#include "config.h"

#include "hv/engine/bt/translate.h"

/* The host's counter and an offset, with flags left alone. */
void bt_emit_rdtsc(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;

    if (in->d->mnemonic == ZYDIS_MNEMONIC_RDTSCP)
        BT_EMIT(bt, 0x0f, 0xae, 0xe8);               /* lfence: it waits for the loads before it */
    BT_EMIT(bt, 0x0f, 0x31);                         /* rdtsc */
    BT_EMIT(bt, 0xc4, 0xe3, 0xfb, 0xf0, 0xd2, 0x20); /* rorx rdx, rdx, 32 */
    bt_emit_load_slot(bt, BT_R10, BT_SLOT(tsc_offset));
    bt_emit_lea(bt, HV_RAX, HV_RAX, HV_RDX, 0, 0);
    bt_emit_lea(bt, HV_RAX, HV_RAX, BT_R10, 0, 0);
    BT_EMIT(bt, 0xc4, 0xe3, 0xfb, 0xf0, 0xd0, 0x20); /* rorx rdx, rax, 32 */
    BT_EMIT(bt, 0x89, 0xd2, 0x89, 0xc0);             /* mov edx, edx; mov eax, eax */
    if (in->d->mnemonic == ZYDIS_MNEMONIC_RDTSCP)
        bt_emit_load_slot(bt, HV_RCX, BT_SLOT(tsc_aux));
}

/* RCX = the guest's flags: the host's own PUSHFQ on the host's stack, without what is not the
 * guest's, and the rest. R11 is lost. */
void bt_emit_flags_to_rcx(struct bt_translation *t)
{
    static const uint32_t rest[] = {BT_SLOT(rflags), BT_SLOT(if_flag), BT_SLOT(ac_flag)};
    struct bt *bt = t->bt;

    bt_emit_mov(bt, BT_R11, HV_RSP);
    bt_emit_load_slot(bt, HV_RSP, BT_SLOT(host_rsp));
    BT_EMIT(bt, 0x9c, 0x59); /* pushfq; pop rcx */
    bt_emit_mov(bt, HV_RSP, BT_R11);
    bt_emit_pext(bt, HV_RCX, HV_RCX, BT_SLOT(arith_mask));
    BT_EMIT(bt, 0x65, 0xc4, 0xe2, 0xf3, 0xf5, 0x0c, 0x25); /* pdep rcx, rcx, gs:[arith_mask] */
    bt_emit32(bt, BT_SLOT(arith_mask));
    for (unsigned i = 0; i < HV_ARRAY_LEN(rest); i++) {
        bt_emit_load_slot(bt, BT_R11, rest[i]);
        bt_emit_lea(bt, HV_RCX, HV_RCX, BT_R11, 0, 0);
    }
}

void bt_emit_pushf(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    struct bt_place p = bt_emit_access_free11(t, in, &in->refs[0]);

    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_flags_to_rcx(t);
    bt_emit_store_place(bt, 8, HV_RCX, &p);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_move_rsp(t, -8);
}

/* One of several is the interpreter's, which lets the thread go on later that is waited for. */
void bt_emit_pause(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    uint32_t none, go_on;

    bt_emit_mov(bt, BT_R10, HV_RCX);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(pauses));
    none = bt_emit_jrcxz_open(bt);
    go_on = bt_emit_jmp_open(bt);
    bt_close8(bt, none);
    bt_emit_store_slot_imm(bt, BT_SLOT(pauses), INTERP_PAUSES_PER_YIELD);
    bt_emit_mov(bt, HV_RCX, BT_R10);
    bt_emit_leave(t, BT_EXIT_INTERP, bt_rip_of(t, in));
    bt_close(bt, go_on);
    BT_EMIT(bt, 0x48, 0x8d, 0x49, 0xff); /* lea rcx, [rcx - 1] */
    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(pauses));
    bt_emit_mov(bt, HV_RCX, BT_R10);
    BT_EMIT(bt, 0xf3, 0x90); /* pause */
}

void bt_emit_cli(struct bt_translation *t, const struct bt_insn *in)
{
    (void)in;
    bt_emit_store_slot_imm(t->bt, BT_SLOT(if_flag), 0);
}

/* The shadow needs no more: attention is next looked at behind the next instruction or later. */
void bt_emit_sti(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    uint32_t none;

    bt_emit_mov(bt, BT_R10, HV_RCX);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(irq_window));
    none = bt_emit_jrcxz_open(bt);
    bt_emit_mov(bt, HV_RCX, BT_R10);
    bt_emit_leave(t, BT_EXIT_INTERP, bt_rip_of(t, in));
    bt_close8(bt, none);
    bt_emit_mov(bt, HV_RCX, BT_R10);
    bt_emit_store_slot_imm(bt, BT_SLOT(if_flag), HV_EFLAGS_IF);
}

void bt_emit_swapgs(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;

    (void)in;
    bt_emit_load_slot(bt, BT_R10, BT_SLOT(gs_base));
    bt_emit_load_slot(bt, BT_R11, BT_SLOT(cpu));
    BT_EMIT(bt, 0x4d, 0x87, 0x93); /* xchg [r11 + kernel_gs_base], r10 */
    bt_emit32(bt, (uint32_t)offsetof(struct hv_cpu, kernel_gs_base));
    bt_emit_store(bt, BT_R10, BT_R11,
                  (int32_t)(offsetof(struct hv_cpu, seg) + HV_GS * sizeof(struct hv_segment) +
                            offsetof(struct hv_segment, base)));
    bt_emit_store_slot(bt, BT_R10, BT_SLOT(gs_base));
}
