/* What the parts of the translation of one block share. */
#pragma once

#include "hv/engine/bt/classify.h"
#include "hv/engine/bt/emit.h"

/* Something that is emitted behind the block's code: jumped to from @from. */
struct bt_stub {
    enum {
        BT_STUB_LEAVE,
        BT_STUB_MISS,
        BT_STUB_GROUP,
        BT_STUB_CROSS,
        BT_STUB_FPU,
        BT_STUB_STRING,
        BT_STUB_FAR,
    } kind;
    enum bt_reason reason; /* LEAVE, FAR */
    bool rcx_saved;        /* MISS, GROUP: RCX is in its slot */
    bool flags_dead;       /* CROSS */
    bool avx;              /* FPU */
    uint32_t from;         /* the distance of the jump to it */
    uint32_t back;         /* FPU, FAR: offset of the code to go on at; FAR: or 0 */
    uint64_t rip;
    uint32_t resume;         /* FAR: for TARGET */
    unsigned group;          /* whose addend is in R11 there, or BT_NO_GROUP */
    unsigned code_kind;      /* FAR: of the code that is looked for */
    int32_t release;         /* FAR */
    uint64_t target;         /* FAR: a constant, or 0 if it is in R10 */
    struct bt_site site;     /* MISS, GROUP */
    struct bt_string string; /* STRING */
};

#define BT_MAX_STUBS (5 * BT_BLOCK_INSNS + 8)
#define BT_NO_GROUP  0xff
#define BT_DECODED   1024u
#define BT_GUEST_R11 0xfe /* R11 is the guest's */

/* Accesses whose addresses differ by constants. */
struct bt_group {
    uint32_t base_root, index_root; /* the key: what their addresses have in common */
    uint8_t scale, segment, gs_version;
    uint8_t base, index; /* the registers, as the first member has them */
    uint8_t align;
    bool write;
    bool neutral;   /* the look into the TLB has to keep the flags */
    bool wanted;    /* it is worth while */
    unsigned exits; /* conditional jumps before its first member */
    unsigned members, first;
    unsigned at;    /* the instruction before which it is looked up */
    int64_t lo, hi; /* the bytes accessed: distance from the roots */
    int64_t base_offset, index_offset; /* of the registers, from their roots, there */
    int64_t align_offset;
    bool loops;     /* is looked up when a loop is entered, and again at page ends */
    int64_t stride; /* by which its addresses move each time round */
};

struct bt_translation {
    struct bt *bt;
    struct bt_block *block;
    unsigned kind, tlb_kind, nr_insns, nr_stubs, nr_groups;
    bool code32;         /* 32-bit code: addresses and the stack are of 32 bits */
    unsigned word;       /* bytes of the stack's elements */
    bool open;           /* the last instruction does not end the block */
    uint64_t next_rip;   /* behind the last instruction */
    const uint8_t *page; /* the guest's page that the block is in */
    uint64_t marked;     /* its lines of 64 bytes that are marked as code */
    unsigned r11_group;  /* whose addend is in R11, BT_NO_GROUP or BT_GUEST_R11 */
    bool r10_is_guest;   /* R10 is the guest's */
    uint32_t again;      /* of a loop: offset of the code that goes round once more, or 0 */
    uint32_t live_out;   /* arithmetic flags that matter after the block */
    uint8_t
        bytes[BT_BLOCK_INSNS * ZYDIS_MAX_INSTRUCTION_LENGTH]; /* a copy: the guest's may change */
    struct bt_insn insns[BT_BLOCK_INSNS];
    struct bt_group groups[BT_GROUPS];
    struct bt_stub stubs[BT_MAX_STUBS];
    ZydisDecoder decoders[2]; /* of 64-bit and of 32-bit code */
    uint64_t number;          /* of the translation */
    struct bt_decoded decoded[BT_DECODED];
    struct bt_decoded own[BT_BLOCK_INSNS]; /* of instructions whose place in the cache is taken */
};

/* ---- decode.c */
/* Decodes the instruction at @bytes; NULL if there is none or more than @room bytes of it. @own is
 * used if the cache has no place. */
const struct bt_decoded *bt_decode(struct bt_translation *t, struct bt_decoded *own,
                                   const uint8_t *bytes, unsigned room);

/* ---- flags.c */
/* Fills in flags_dead of the instructions. */
void bt_find_dead_flags(struct bt_translation *t);

/* ---- group.c */
void bt_find_groups(struct bt_translation *t);

/* Whether the block is a loop: its last instruction jumps back to its start. */
bool bt_is_loop(const struct bt_translation *t);

/* ---- access.c */
/* Emits the looks into the TLB that belong before the instruction. */
/* False if there are none. */
bool bt_emit_group_checks(struct bt_translation *t, unsigned insn);
/* Emits the looks into the TLB for the groups of a loop. */
void bt_emit_loop_groups(struct bt_translation *t);
/* Emits the comparisons of a loop's groups; those that fail go to @recheck. */
void bt_emit_loop_checks(struct bt_translation *t, uint32_t recheck);
/* Makes the memory of @ref accessible: gives its place on the host, for code that follows at once.
 * R10 and R11 may be part of it; else they are free, whose old contents are lost. Flags are kept
 * unless they are dead. Leaves for the interpreter or the TLB's filler if not. */
struct bt_place bt_emit_access(struct bt_translation *t, const struct bt_insn *in,
                               const struct bt_ref *ref);
/* The same of @ref's size at the linear address in R10, with R11 free; @resume is the offset of the
 * code that makes the address. */
struct bt_place bt_emit_access_at_r10(struct bt_translation *t, const struct bt_insn *in,
                                      const struct bt_ref *ref, uint32_t resume);
/* R11 = the addend of a group. */
void bt_emit_load_addend(struct bt_translation *t, unsigned group);
/* R10 = linear address of @ref. */
void bt_emit_address(struct bt_translation *t, const struct bt_ref *ref);
/* The same, with R11 free. */
struct bt_place bt_emit_access_free11(struct bt_translation *t, const struct bt_insn *in,
                                      const struct bt_ref *ref);
/* Loads the guest's R10 or R11 into a host register. */
void bt_emit_load_guest(struct bt_translation *t, unsigned guest, unsigned host);
void bt_emit_store_guest(struct bt_translation *t, unsigned guest, unsigned host);

/* ---- string.c */
void bt_emit_string_stub(struct bt *bt, const struct bt_stub *s);

/* ---- reencode.c */
/* The instruction itself, with registers and memory operand in their places. */
void bt_emit_native(struct bt_translation *t, const struct bt_insn *in);

/* ---- jump.c: jumps and the ways out of a block */
/* Goes on at @rip, a constant; @from is the instruction that jumps. */
void bt_emit_goto(struct bt_translation *t, const struct bt_insn *in, uint64_t rip);
/* The same, with other rights. */
void bt_emit_goto_kind(struct bt_translation *t, const struct bt_insn *in, uint64_t rip,
                       unsigned kind);
/* Goes on at the linear address in R10 as code of @kind. Flags are kept. */
void bt_emit_jump_to_r10(struct bt_translation *t, unsigned kind);
/* Leaves for @reason with RIP @rip. */
void bt_emit_leave(struct bt_translation *t, enum bt_reason reason, uint64_t rip);
void bt_emit_stubs(struct bt_translation *t);
typedef void bt_emitter(struct bt_translation *t, const struct bt_insn *in);
bt_emitter bt_emit_call, bt_emit_ret, bt_emit_jmp_insn, bt_emit_jcc, bt_emit_jrcxz;

/* ---- stack.c, divide.c, system.c */
/* RSP is moved @by bytes. */
void bt_emit_move_rsp(struct bt_translation *t, int32_t by);
bt_emitter bt_emit_push, bt_emit_pop, bt_emit_leave_insn, bt_emit_division;
bt_emitter bt_emit_string, bt_emit_bits;
bt_emitter bt_emit_syscall, bt_emit_sysret, bt_emit_stac, bt_emit_clac;
void bt_emit_flags_to_rcx(struct bt_translation *t);
bt_emitter bt_emit_rdtsc, bt_emit_pushf, bt_emit_pause, bt_emit_cli, bt_emit_sti, bt_emit_swapgs;
/* The stack's element at @p becomes @value; R11 or R10, whichever @p does not have, is destroyed.
 */
void bt_emit_store_constant(struct bt_translation *t, const struct bt_place *p, uint64_t value);

/* An address as the code has them. */
static inline uint64_t bt_wrap(const struct bt_translation *t, uint64_t address)
{
    return t->code32 ? (uint32_t)address : address;
}

static inline uint64_t bt_rip_of(const struct bt_translation *t, const struct bt_insn *in)
{
    return t->block->rip + in->at;
}

static inline uint64_t bt_next_rip(const struct bt_translation *t, const struct bt_insn *in)
{
    return bt_wrap(t, bt_rip_of(t, in) + in->d->length);
}

/* Whether code at @rip can be jumped to directly: it is in the block's page, whose mapping the
 * block itself vouches for. */
static inline bool bt_same_page(const struct bt_translation *t, uint64_t rip)
{
    return rip >> HV_PAGE_SHIFT == t->block->rip >> HV_PAGE_SHIFT && !bt_may_cross(rip);
}

/* The first constant, as the instruction takes it: sign-extended or not. */
int64_t bt_imm_of(const struct bt_translation *t, const struct bt_insn *in);
/* The displacement. */
int64_t bt_disp_of(const struct bt_translation *t, const struct bt_insn *in);

static inline uint64_t bt_target_of(const struct bt_translation *t, const struct bt_insn *in)
{
    return bt_wrap(t, bt_next_rip(t, in) + (uint64_t)bt_imm_of(t, in));
}

static inline bool bt_is_direct(const struct bt_insn *in)
{
    return in->d->imm0;
}

static inline uint32_t bt_guest_slot(unsigned guest)
{
    return guest == BT_R10 ? BT_SLOT(r10) : BT_SLOT(r11);
}

struct bt_stub *bt_add_stub(struct bt_translation *t, uint32_t from);
/* Marks @bytes of the block's page from offset @at on as code, before they are read. */
void bt_mark_code(struct bt_translation *t, unsigned at, unsigned bytes);
