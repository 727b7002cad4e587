/* REP MOVS and REP STOS: routines that all blocks share. They do what is in one page of each
 * operand at a time by the host's own instruction, and leave for C at a miss of the TLB, where the
 * count and the pointers tell how far they came.
 *
 * A block comes with R10 the address of its struct bt_string. The routine keeps RAX, RDX and the
 * flags in slots.
 */
#include "config.h"

#include "hv/engine/bt/translate.h"

#include <string.h>

/* ---- the pieces */

static void emit_begin(struct bt *bt)
{
    bt_emit_store_slot(bt, BT_R10, BT_SLOT(string));
    bt_emit_store_slot(bt, HV_RAX, BT_SLOT(string_rax));
    bt_emit_store_slot(bt, HV_RDX, BT_SLOT(string_rdx));
    BT_EMIT(bt, 0x9f, 0x0f, 0x90, 0xc0); /* lahf; seto al */
    bt_emit_store_slot(bt, HV_RAX, BT_SLOT(ax_flags));
}

/* R10 = struct bt_string again. */
static void emit_restore(struct bt *bt)
{
    bt_emit_load_slot(bt, HV_RAX, BT_SLOT(ax_flags));
    BT_EMIT(bt, 0x04, 0x7f, 0x9e); /* add al, 127; sahf */
    bt_emit_load_slot(bt, HV_RAX, BT_SLOT(string_rax));
    bt_emit_load_slot(bt, HV_RDX, BT_SLOT(string_rdx));
    bt_emit_load_slot(bt, BT_R10, BT_SLOT(string));
}

/* Jumps to the ends of the routine. */
struct ends {
    uint32_t done, misses[6];
    unsigned nr_misses;
};

static void add_miss(struct bt *bt, struct ends *e, unsigned cc)
{
    e->misses[e->nr_misses++] = bt_emit_jcc_open(bt, cc);
}

/* R11 = how many elements are in the pages that RDI and, with @source, RSI point to; at most RCX.
 */
static void emit_count(struct bt *bt, bool source, unsigned shift, struct ends *e)
{
    BT_EMIT(bt, 0x89, 0xf8, 0x25, 0xff, 0x0f, 0, 0); /* mov eax, edi; and eax, 0xfff */
    if (source) {
        BT_EMIT(bt, 0x89, 0xf2, 0x81, 0xe2, 0xff, 0x0f, 0, 0); /* mov edx, esi; and edx, 0xfff */
        BT_EMIT(bt, 0x39, 0xd0, 0x0f, 0x42, 0xc2);             /* cmp eax, edx; cmovb eax, edx */
    }
    bt_emit_mov32_imm(bt, BT_R11, HV_PAGE_SIZE);
    BT_EMIT(bt, 0x41, 0x29, 0xc3); /* sub r11d, eax */
    if (shift) {
        BT_EMIT(bt, 0x41, 0xc1, 0xeb, (uint8_t)shift); /* shr r11d, shift */
        add_miss(bt, e, 4);                            /* jz: an element is in two pages */
    }
    BT_EMIT(bt, 0x4c, 0x39, 0xd9);       /* cmp rcx, r11 */
    BT_EMIT(bt, 0x4c, 0x0f, 0x42, 0xd9); /* cmovb r11, rcx */
    bt_emit_store_slot(bt, BT_R11, BT_SLOT(string_count));
}

/* @to = addend of the page that @pointer points to. */
static void emit_addend(struct bt *bt, unsigned to, unsigned pointer, unsigned kind, bool write,
                        struct ends *e)
{
    uint32_t tlb = (uint32_t)(BT_SLOT(tlb) + kind * sizeof(struct bt_tlb));

    bt_emit_mov(bt, to, pointer);
    bt_emit_pext(bt, BT_R11, to, BT_SLOT(tlb_mask));
    bt_emit_alu_table(
        bt, BT_ADD, to, BT_R11,
        tlb + (uint32_t)(write ? offsetof(struct bt_tlb, write) : offsetof(struct bt_tlb, read)));
    bt_emit_cmp_imm(bt, to, HV_PAGE_MASK);
    add_miss(bt, e, 7); /* ja */
    bt_emit_count_destroying(bt, BT_COUNT_TLB);
    bt_emit_load_table(bt, to, BT_R11, tlb + (uint32_t)offsetof(struct bt_tlb, addend));
}

static void emit_move_by(struct bt *bt, uint8_t opcode, bool source)
{
    if (source)
        BT_EMIT(bt, 0x48, opcode, 0xc6); /* add or sub rsi, rax */
    BT_EMIT(bt, 0x48, opcode, 0xd7);     /* add or sub rdi, rdx */
}

static void emit_host_string(struct bt *bt, bool source, unsigned shift)
{
    BT_EMIT(bt, 0x49, 0x89, 0xca); /* mov r10, rcx */
    bt_emit_load_slot(bt, HV_RCX, BT_SLOT(string_count));
    BT_EMIT(bt, 0x49, 0x29, 0xca); /* sub r10, rcx */
    emit_move_by(bt, 0x01, source);
    if (!source)
        bt_emit_load_slot(bt, HV_RAX, BT_SLOT(string_rax));
    if (shift == 1)
        bt_emit8(bt, 0x66);
    bt_emit8(bt, 0xf3);
    if (shift == 3)
        bt_emit8(bt, 0x48);
    bt_emit8(bt, (uint8_t)((source ? 0xa4 : 0xaa) | (shift ? 1 : 0))); /* rep movs or rep stos */
    emit_move_by(bt, 0x29, source);
    bt_emit_mov(bt, HV_RCX, BT_R10);
}

/* ---- the routines */

static void emit_ends(struct bt *bt, const struct ends *e)
{
    bt_close(bt, e->done);
    emit_restore(bt);
    BT_EMIT(bt, 0x41, 0xff, 0x62, (uint8_t)offsetof(struct bt_string, after)); /* jmp [r10+after] */
    for (unsigned i = 0; i < e->nr_misses; i++)
        bt_close(bt, e->misses[i]);
    emit_restore(bt);
    bt_emit_jmp(bt, bt->leave[BT_EXIT_STRING]);
}

static void emit_routine(struct bt *bt, bool source, unsigned shift, unsigned kind)
{
    struct ends e = {0};
    uint32_t loop;

    emit_begin(bt);
    BT_EMIT(bt, 0x65, 0xf7, 0x04, 0x25); /* test dword gs:[rflags], DF */
    bt_emit32(bt, BT_SLOT(rflags));
    bt_emit32(bt, HV_EFLAGS_DF);
    add_miss(bt, &e, 5); /* jnz */
    loop = bt->code_used;
    BT_EMIT(bt, 0x48, 0x85, 0xc9); /* test rcx, rcx */
    e.done = bt_emit_jcc_open(bt, 4);
    emit_count(bt, source, shift, &e);
    if (source)
        emit_addend(bt, HV_RAX, HV_RSI, kind, false, &e);
    emit_addend(bt, HV_RDX, HV_RDI, kind, true, &e);
    emit_host_string(bt, source, shift);
    bt_emit_cmp_slot_imm(bt, false, BT_SLOT(kick), 0);
    bt_patch_jump(bt, bt_emit_jcc_open(bt, 4), loop);
    emit_restore(bt);
    BT_EMIT(bt, 0x4d, 0x8b, 0x52, (uint8_t)offsetof(struct bt_string, rip)); /* mov r10,[r10+rip] */
    bt_emit_jmp(bt, bt->leave[BT_EXIT_LOOKUP]);
    emit_ends(bt, &e);
}

void bt_emit_string_routines(struct bt *bt)
{
    for (unsigned source = 0; source < 2; source++)
        for (unsigned shift = 0; shift < 4; shift++)
            for (unsigned kind = 0; kind < BT_KINDS; kind++) {
                bt->strings[source][shift][kind] = bt->code_used;
                emit_routine(bt, source, shift, kind);
            }
}

/* ---- their callers */

static unsigned shift_of(const struct bt_insn *in)
{
    return (unsigned)__builtin_ctz(in->d->size0 / 8u);
}

static bool is_movs(const struct bt_insn *in)
{
    return in->d->mem1;
}

void bt_emit_string(struct bt_translation *t, const struct bt_insn *in)
{
    struct bt *bt = t->bt;
    uint32_t resume = bt->code_used;
    struct bt_stub *s;

    if (t->code32) {
        bt_emit_mov32(bt, HV_RSI, HV_RSI);
        bt_emit_mov32(bt, HV_RDI, HV_RDI);
        bt_emit_mov32(bt, HV_RCX, HV_RCX);
    }
    BT_EMIT(bt, 0x49, 0xba); /* mov r10, the address of what the stub's place will hold */
    bt_emit64(bt, 0);
    s = bt_add_stub(t, bt->code_used - 8);
    bt_emit_jmp(bt, bt->strings[is_movs(in)][shift_of(in)][t->tlb_kind]);
    s->kind = BT_STUB_STRING;
    s->string = (struct bt_string){
        .rip = bt_rip_of(t, in),
        .after = (uint64_t)(uintptr_t)(bt->code + bt->code_used),
        .resume = resume,
        .bytes = (uint8_t)(1u << shift_of(in)),
        .kind = (uint8_t)t->tlb_kind,
        .source = is_movs(in),
    };
}

void bt_emit_string_stub(struct bt *bt, const struct bt_stub *s)
{
    uint32_t at = (bt->code_used + 7) & ~7u;
    uint64_t address = (uint64_t)(uintptr_t)(bt->code + at);

    bt->code_used = at;
    bt_emit_bytes(bt, &s->string, sizeof(s->string));
    memcpy(bt->code_rw + s->from, &address, sizeof(address));
}
