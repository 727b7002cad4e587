/* The way into translated code and out of it. */
#include "config.h"

#include "hv/engine/bt/translate.h"

#include "hv/x86/xstate.h"

#define GPR(i) ((int32_t)(offsetof(struct hv_cpu, gpr) + 8 * (i)))

static const uint8_t callee_saved[] = {HV_RBX, HV_RBP, 12, 13, 14, 15};

static void emit_push_all(struct bt *bt)
{
    for (unsigned i = 0; i < sizeof(callee_saved); i++) {
        unsigned reg = callee_saved[i];

        if (reg >= 8)
            bt_emit8(bt, 0x41);
        bt_emit8(bt, (uint8_t)(0x50 | (reg & 7))); /* push reg */
    }
}

static void emit_pop_all(struct bt *bt)
{
    for (unsigned i = sizeof(callee_saved); i-- > 0;) {
        unsigned reg = callee_saved[i];

        if (reg >= 8)
            bt_emit8(bt, 0x41);
        bt_emit8(bt, (uint8_t)(0x58 | (reg & 7))); /* pop reg */
    }
}

/* Saves or loads the guest's x87 and vector state at R10; RAX and RDX are destroyed. The image's
 * header says that all of it is there. */
static void emit_move_state(struct bt *bt, bool save)
{
    unsigned extension = bt->host_avx ? (save ? 4 : 5) : (save ? 0 : 1);

    if (bt->host_avx) {
        bt_emit_mov32_imm(bt, HV_RAX, HV_XSTATE_X87 | HV_XSTATE_SSE | HV_XSTATE_AVX);
        BT_EMIT(bt, 0x31, 0xd2); /* xor edx, edx */
    }
    /* xsave64, xrstor64, fxsave64 or fxrstor64 [r10 + xsave] */
    BT_EMIT(bt, 0x49, 0x0f, 0xae, (uint8_t)(0x82 | extension << 3));
    bt_emit32(bt, (uint32_t)offsetof(struct hv_cpu, xsave));
    if (bt->host_avx && save)
        BT_EMIT(bt, 0xc5, 0xf8, 0x77); /* vzeroupper */
}

/* void enter(region, code); GS is the region already */
static void *emit_enter(struct bt *bt, bool fpu)
{
    void *entry = bt->code + bt->code_used;

    emit_push_all(bt);
    bt_emit_store_slot(bt, HV_RSP, BT_SLOT(host_rsp));
    bt_emit_store_slot(bt, HV_RSI, BT_SLOT(entry));
    bt_emit_load_slot(bt, BT_R10, BT_SLOT(cpu));
    if (fpu)
        emit_move_state(bt, false);
    bt_emit_load_slot(bt, HV_RAX, BT_SLOT(ax_flags));
    BT_EMIT(bt, 0x04, 0x7f); /* add al, 127: sets OF if al is 1 */
    BT_EMIT(bt, 0x9e);       /* sahf */
    for (unsigned i = BT_R10; i <= BT_R11; i++) {
        bt_emit_load(bt, BT_R11, BT_R10, GPR(i));
        bt_emit_store_slot(bt, BT_R11, bt_guest_slot(i));
    }
    for (unsigned i = 0; i < HV_NR_GPR; i++)
        if (!bt_in_slot(i))
            bt_emit_load(bt, i, BT_R10, GPR(i));
    BT_EMIT(bt, 0x65, 0xff, 0x24, 0x25); /* jmp gs:[entry] */
    bt_emit32(bt, BT_SLOT(entry));
    return entry;
}

static void emit_exit(struct bt *bt)
{
    uint32_t no_fpu;

    bt->exit_code = bt->code_used;
    bt_emit_load_slot(bt, BT_R10, BT_SLOT(cpu));
    for (unsigned i = 0; i < HV_NR_GPR; i++)
        if (!bt_in_slot(i))
            bt_emit_store(bt, i, BT_R10, GPR(i));
    for (unsigned i = BT_R10; i <= BT_R11; i++) {
        bt_emit_load_slot(bt, BT_R11, bt_guest_slot(i));
        bt_emit_store(bt, BT_R11, BT_R10, GPR(i));
    }
    BT_EMIT(bt, 0x9f, 0x0f, 0x90, 0xc0); /* lahf; seto al */
    bt_emit_store_slot(bt, HV_RAX, BT_SLOT(ax_flags));
    bt_emit_load_slot(bt, HV_RSP, BT_SLOT(host_rsp));
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(fpu));
    no_fpu = bt_emit_jrcxz_open(bt);
    emit_move_state(bt, true);
    BT_EMIT(bt, 0xdb, 0xe3);                   /* fninit */
    BT_EMIT(bt, 0x65, 0x0f, 0xae, 0x14, 0x25); /* ldmxcsr gs:[host_mxcsr] */
    bt_emit32(bt, BT_SLOT(host_mxcsr));
    bt_close8(bt, no_fpu);
    emit_pop_all(bt);
    bt_emit8(bt, 0xc3); /* ret */
}

/* What blocks jump to with R10 the guest's RIP and R11 the detail. */
static void emit_ways_out(struct bt *bt)
{
    for (unsigned reason = 0; reason < BT_REASONS; reason++) {
        bt->leave[reason] = bt->code_used;
        if (reason == BT_EXIT_MISS || reason == BT_EXIT_GROUP ||
            reason == BT_EXIT_STRING) { /* R10 is the detail, not RIP */
            bt_emit_store_slot(bt, BT_R11, BT_SLOT(scratch11));
            bt_emit_store_slot(bt, BT_R10, BT_SLOT(detail));
        } else {
            bt_emit_store_slot(bt, BT_R10, BT_SLOT(rip));
            bt_emit_store_slot(bt, BT_R11, BT_SLOT(detail));
        }
        bt_emit_mov32_imm(bt, BT_R10, reason);
        bt_emit_store_slot(bt, BT_R10, BT_SLOT(reason));
        bt_emit_jmp(bt, bt->exit_code);
    }
}

void bt_emit_entry(struct bt *bt)
{
    bt->code_used = 16; /* offset 0 is no place to jump to or patch */
    bt->enter = (void (*)(struct bt_region *, uint64_t))emit_enter(bt, false);
    bt->enter_fpu = (void (*)(struct bt_region *, uint64_t))emit_enter(bt, true);
    emit_exit(bt);
    emit_ways_out(bt);
    bt_emit_string_routines(bt);
    bt_emit_far_probes(bt);
}
