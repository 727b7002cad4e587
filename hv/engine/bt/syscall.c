/* SYSCALL and SYSRET, STAC and CLAC: to other rights without leaving translated code. Each has its
 * conditions in the region (bt_prepare_syscall); where they do not hold the interpreter does it.
 * The interpreter's copy of the mode is told to be stale; whoever enters C has it refreshed first.
 */
#include "config.h"

#include "hv/engine/bt/translate.h"

#include <string.h>

#include "hv/engine/interp/mem.h"
#include "hv/x86/control.h"
#include "hv/x86/linear.h"

/* What SYSCALL has to clear, so that nothing of it needs to be kept. */
#define CLEARED (INTERP_ARITH | HV_EFLAGS_IF | HV_EFLAGS_AC | HV_EFLAGS_DF)
/* What SYSRET must not set: it is the interpreter's to look at. */
#define UNUSUAL                                                                                    \
    (HV_EFLAGS_TF | HV_EFLAGS_RF | HV_EFLAGS_VM | HV_EFLAGS_NT | HV_EFLAGS_AC | HV_EFLAGS_VIF |    \
     HV_EFLAGS_VIP)

/* ---- the region's part */

/* Selector, attributes and limit as the 8 bytes they are. */
static uint64_t packed(const struct hv_segment *s)
{
    uint64_t value;

    static_assert(offsetof(struct hv_segment, base) == sizeof(value), "the base follows");
    memcpy(&value, s, sizeof(value));
    return value;
}

void bt_prepare_syscall(struct bt *bt)
{
    const struct hv_cpu *cpu = &bt->x->v->cpu;
    struct bt_region *r = bt->region;
    struct hv_segment cs, ss;
    bool usable =
        (cpu->efer & HV_EFER_SCE) && hv_x86_canonical(cpu->lstar) && (~cpu->sfmask & CLEARED) == 0;

    if (bt->star == cpu->star && bt->lstar == cpu->lstar && bt->sfmask == cpu->sfmask &&
        bt->efer == cpu->efer)
        return;
    bt->star = cpu->star;
    bt->lstar = cpu->lstar;
    bt->sfmask = cpu->sfmask;
    bt->efer = cpu->efer;
    r->syscall_rip = usable ? cpu->lstar : 0;
    r->syscall_keeps = (~cpu->sfmask & ~(uint64_t)HV_EFLAGS_RF) | HV_EFLAGS_FIXED;
    hv_x86_syscall_segments(cpu, &cs, &ss);
    r->syscall_cs = packed(&cs);
    r->syscall_ss = packed(&ss);
    hv_x86_sysret_segments(cpu, true, &cs, &ss);
    r->sysret_cs = cpu->efer & HV_EFER_SCE ? packed(&cs) : 0;
    r->sysret_ss = packed(&ss);
}

/* ---- pieces */

static void emit_and_slot(struct bt *bt, unsigned reg, uint32_t slot)
{
    bt_emit_alu_slot(bt, BT_AND, reg, slot);
}

/* The interpreter's mode is not that of the processor any more. */
static void emit_stale(struct bt *bt)
{
    bt_emit_load_slot(bt, BT_R10, BT_SLOT(stale));
    BT_EMIT(bt, 0x41, 0xc6, 0x02, 0x01); /* mov byte [r10], 1 */
}

/* A segment with base 0 from the slot that has the rest. Flags are lost. */
static void emit_segment(struct bt *bt, unsigned segment, uint32_t slot)
{
    int32_t at = (int32_t)(offsetof(struct hv_cpu, seg) + segment * sizeof(struct hv_segment));

    bt_emit_load_slot(bt, BT_R10, BT_SLOT(cpu));
    bt_emit_load_slot(bt, BT_R11, slot);
    bt_emit_store(bt, BT_R11, BT_R10, at);
    BT_EMIT(bt, 0x45, 0x31, 0xdb); /* xor r11d, r11d */
    bt_emit_store(bt, BT_R11, BT_R10, at + (int32_t)offsetof(struct hv_segment, base));
}

static void leave_if(struct bt_translation *t, unsigned cc, const struct bt_insn *in)
{
    struct bt_stub *s = bt_add_stub(t, bt_emit_jcc_open(t->bt, cc));

    s->kind = BT_STUB_LEAVE;
    s->reason = BT_EXIT_INTERP;
    s->rip = bt_rip_of(t, in);
}

/* R11 = and of itself and a constant, with a new value in @slot. */
static void emit_masked(struct bt *bt, uint32_t mask, uint32_t or, uint32_t slot)
{
    BT_EMIT(bt, 0x41, 0x81, 0xe3); /* and r11d, mask */
    bt_emit32(bt, mask);
    if (or) {
        BT_EMIT(bt, 0x41, 0x81, 0xcb); /* or r11d, or */
        bt_emit32(bt, or);
    }
    bt_emit_store_slot(bt, BT_R11, slot);
}

/* ---- SYSCALL */

void bt_emit_syscall(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    uint32_t none, usable;

    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(syscall_rip));
    none = bt_emit_jrcxz_open(bt);
    usable = bt_emit_jmp_open(bt);
    bt_close8(bt, none);
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(rcx));
    bt_emit_leave(t, BT_EXIT_INTERP, bt_rip_of(t, in));
    bt_close(bt, usable);
    bt_emit_flags_to_rcx(t);
    bt_emit_store_slot(bt, HV_RCX, BT_SLOT(r11));
    bt_emit_load_slot(bt, BT_R11, BT_SLOT(rflags));
    emit_and_slot(bt, BT_R11, BT_SLOT(syscall_keeps));
    bt_emit_store_slot(bt, BT_R11, BT_SLOT(rflags));
    bt_emit_store_slot_imm(bt, BT_SLOT(if_flag), 0);
    bt_emit_store_slot_imm(bt, BT_SLOT(ac_flag), 0);
    emit_segment(bt, HV_CS, BT_SLOT(syscall_cs));
    emit_segment(bt, HV_SS, BT_SLOT(syscall_ss));
    emit_stale(bt);
    bt_emit_mov_imm(bt, HV_RCX, bt_next_rip(t, in));
    bt_emit_mov32_imm(bt, BT_R11, 1);
    BT_EMIT(bt, 0x41, 0x83, 0xc3, 0x00); /* add r11d, 0: no arithmetic flag is set */
    bt_emit_load_slot(bt, BT_R10, BT_SLOT(syscall_rip));
    bt_emit_jump_to_r10(t, t->bt->smap ? INTERP_TLB_KERNEL : INTERP_TLB_KERNEL_AC);
}

/* ---- SYSRET */

/* Arithmetic flags from the guest's R11. */
static void emit_flags_from_guest_r11(struct bt *bt)
{
    bt_emit_store_slot(bt, HV_RAX, BT_SLOT(string_rax));
    bt_emit_load_slot(bt, BT_R11, BT_SLOT(r11));
    BT_EMIT(bt, 0x44, 0x89, 0xd8);       /* mov eax, r11d */
    BT_EMIT(bt, 0xc1, 0xe0, 0x08);       /* shl eax, 8: AH is what SAHF takes */
    BT_EMIT(bt, 0x41, 0xc1, 0xeb, 0x0b); /* shr r11d, 11: OF */
    BT_EMIT(bt, 0x41, 0x83, 0xe3, 0x01); /* and r11d, 1 */
    BT_EMIT(bt, 0x44, 0x09, 0xd8);       /* or eax, r11d */
    BT_EMIT(bt, 0x04, 0x7f, 0x9e);       /* add al, 127; sahf */
    bt_emit_load_slot(bt, HV_RAX, BT_SLOT(string_rax));
}

void bt_emit_sysret(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;

    bt_emit_cmp_slot_imm(bt, true, BT_SLOT(irq_window), 0);
    leave_if(t, 5, in);
    bt_emit_cmp_slot_imm(bt, true, BT_SLOT(sysret_cs), 0);
    leave_if(t, 4, in);
    bt_emit_mov(bt, BT_R10, HV_RCX);
    BT_EMIT(bt, 0x49, 0xc1, 0xea, 0x2f); /* shr r10, 47 */
    leave_if(t, 5, in);
    bt_emit_load_slot(bt, BT_R11, BT_SLOT(r11));
    BT_EMIT(bt, 0x41, 0xf7, 0xc3); /* test r11d, UNUSUAL */
    bt_emit32(bt, UNUSUAL);
    leave_if(t, 5, in);
    emit_masked(bt, HV_SYSRET_FLAGS & ~(uint32_t)(INTERP_ARITH | HV_EFLAGS_IF), HV_EFLAGS_FIXED,
                BT_SLOT(rflags));
    bt_emit_load_slot(bt, BT_R11, BT_SLOT(r11));
    emit_masked(bt, HV_EFLAGS_IF, 0, BT_SLOT(if_flag));
    bt_emit_store_slot_imm(bt, BT_SLOT(ac_flag), 0);
    emit_segment(bt, HV_CS, BT_SLOT(sysret_cs));
    emit_segment(bt, HV_SS, BT_SLOT(sysret_ss));
    emit_stale(bt);
    emit_flags_from_guest_r11(bt);
    bt_emit_mov(bt, BT_R10, HV_RCX);
    bt_emit_jump_to_r10(t, BT_USER);
}

/* ---- STAC and CLAC */

/* Without SMAP the flag changes nothing. */
static void emit_ac(struct bt_translation *t, const struct bt_insn *in, uint32_t value,
                    unsigned kind)
{
    struct bt *bt = t->bt;

    bt_emit_store_slot_imm(bt, BT_SLOT(ac_flag), value);
    if (bt->smap && t->kind != kind) {
        emit_stale(bt);
        bt_emit_goto_kind(t, in, bt_next_rip(t, in), kind);
    } else {
        bt_emit_goto(t, in, bt_next_rip(t, in));
    }
}

void bt_emit_stac(struct bt_translation *t, const struct bt_insn *in)
{
    emit_ac(t, in, HV_EFLAGS_AC, INTERP_TLB_KERNEL_AC);
}

void bt_emit_clac(struct bt_translation *t, const struct bt_insn *in)
{
    emit_ac(t, in, 0, INTERP_TLB_KERNEL);
}
