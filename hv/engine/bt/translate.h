/* What the parts of the translation of one block share. */
#pragma once

#include "hv/engine/bt/classify.h"
#include "hv/engine/bt/emit.h"

/* Something that is emitted behind the block's code: jumped to from @from. */
struct bt_stub {
    enum { BT_STUB_LEAVE, BT_STUB_MISS, BT_STUB_CROSS } kind;
    enum bt_reason reason; /* LEAVE */
    bool jrcxz_saved;      /* MISS: RCX is in its slot */
    uint32_t from;         /* the distance of the jump to it */
    uint64_t rip;
    struct bt_site site; /* MISS */
};

#define BT_MAX_STUBS (4 * BT_BLOCK_INSNS + 8)

struct bt_translation {
    struct bt *bt;
    struct bt_block *block;
    unsigned kind, nr_insns, nr_stubs;
    bool open;         /* the last instruction does not end the block */
    uint64_t next_rip; /* behind the last instruction */
    uint8_t
        bytes[BT_BLOCK_INSNS * ZYDIS_MAX_INSTRUCTION_LENGTH]; /* a copy: the guest's may change */
    struct bt_insn insns[BT_BLOCK_INSNS];
    struct bt_stub stubs[BT_MAX_STUBS];
    ZydisDecoder decoder;
};

/* ---- operand.c */
/* R14 becomes the host address of @bytes at the guest's linear address of @mem; R15 is destroyed,
 * flags are kept unless they are dead. Leaves for the interpreter or the TLB's filler if not. */
void bt_emit_access(struct bt_translation *t, const struct bt_insn *in,
                    const ZydisDecodedOperand *mem, unsigned bytes, bool write);
/* The same for [base + disp]. */
void bt_emit_access_base(struct bt_translation *t, const struct bt_insn *in, unsigned base,
                         int32_t disp, unsigned bytes, bool write);
/* The instruction itself, with registers and memory operand in their places. */
void bt_emit_native(struct bt_translation *t, const struct bt_insn *in);

static inline uint64_t bt_rip_of(const struct bt_translation *t, const struct bt_insn *in)
{
    return t->block->rip + in->at;
}

static inline uint64_t bt_next_rip(const struct bt_translation *t, const struct bt_insn *in)
{
    return bt_rip_of(t, in) + in->zi.length;
}

struct bt_stub *bt_add_stub(struct bt_translation *t, uint32_t from);

/* ---- special.c: instructions with an expansion of their own */
void bt_emit_special(struct bt_translation *t, const struct bt_insn *in);
/* Goes on at @rip, a constant; @from is the instruction that jumps. */
void bt_emit_goto(struct bt_translation *t, uint64_t from, uint64_t rip);
/* Leaves for @reason with RIP @rip. */
void bt_emit_leave(struct bt_translation *t, enum bt_reason reason, uint64_t rip);
void bt_emit_stubs(struct bt_translation *t);
