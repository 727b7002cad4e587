/* What the parts of the generator share. A candidate is made of random bytes with a controlled
 * memory operand (difftest-encode.c), decoded, and thrown away or prepared for: what must run
 * before it so that it does something sensible (difftest-prepare.c). So every instruction that
 * Zydis knows takes part, without a table of them all.
 */
#pragma once

#include <Zydis/Zydis.h>

#include "hv/engine/difftest.h"

#define DT_SETUP_INSNS 6

/* How the memory operand of a candidate is addressed, should it have one. */
enum dt_form {
    DT_FORM_TMP, /* register loaded for it with LEA, displacement of 0, 1 or 4 bytes, perhaps index
                  */
    DT_FORM_PTR, /* register that points to the data for the whole test */
    DT_FORM_RIP,
    DT_FORM_ABS,
    DT_FORM_INDEX, /* index * scale + displacement */
    DT_FORM_STACK, /* [rsp + disp8] */
    DT_NR_FORMS,
};

struct dt_memop {
    enum dt_form form;
    uint8_t base;
    bool indexed;
    uint8_t scale; /* shift */
    uint8_t disp_bytes;
    bool gs, address32;
};

struct dt_candidate {
    uint8_t bytes[32];
    struct dt_memop memop;
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    bool code32;
    const ZydisDecodedOperand *memory; /* operand in bytes that memop describes, or NULL */

    /* Instructions to put before it. */
    struct {
        uint8_t bytes[15];
        uint8_t length;
    } setup[DT_SETUP_INSNS];
    unsigned nr_setup;
    uint8_t return_setup; /* 1 + which of them is given the address after the candidate */
    uint32_t also_undefined, defined_after_all; /* flags, against Zydis */
    bool keeps_flags;
};

/* A forward branch whose target is not known yet. */
struct dt_fixup {
    uint16_t at; /* of the displacement */
    uint8_t bytes;
    uint8_t left; /* candidates that it still skips */
};

struct dt_gen {
    struct dt_test *test;
    ZydisDecoder decoder;
    uint64_t rng;
    bool faults;  /* this test may fault on purpose */
    bool grouped; /* the pointers are near a page's end, and accesses by them near the pointers */
    bool indexed; /* with it: and by the index */
    uint16_t reserved; /* registers that no instruction may write: pointers, index, stack pointer */
    uint8_t pointer[2], index;
    uint32_t undefined; /* flags that are undefined now */
    bool loads_fcw;     /* the x87 control word may be any */
    struct dt_fixup fixup[2];
    unsigned nr_fixups;
};

/* A number below @n, and true in @percent of cases. */
uint64_t dt_random(struct dt_gen *g);
unsigned dt_below(struct dt_gen *g, unsigned n);
bool dt_chance(struct dt_gen *g, unsigned percent);
/* A register that may be written. */
uint8_t dt_free_register(struct dt_gen *g);

/* Fills in bytes, memop, insn, operands, memory. False if that is no instruction. */
bool dt_make_candidate(struct dt_gen *g, struct dt_candidate *c);
/* Whether its memory operand must be aligned to its size. */
bool dt_wants_alignment(const struct dt_candidate *c);
/* Whether the operand's index is a vector. */
bool dt_is_gather(const struct dt_candidate *c);
/* Picks the address of the memory operand and writes it into the displacement; adds the LEA that it
 * takes. False if it does not fit. */
bool dt_place_memory(struct dt_gen *g, struct dt_candidate *c);
/* Fixes a RIP-relative displacement once the address of the instruction is known. */
void dt_fix_rip(struct dt_gen *g, struct dt_candidate *c, uint64_t address);
/* An address for an access of @bytes, perhaps aligned to that, safe for some hundred bytes around
 * unless the test may fault.
 */
uint64_t dt_pick_address(struct dt_gen *g, unsigned bytes, bool aligned);

void dt_setup_lea(struct dt_gen *g, struct dt_candidate *c, unsigned reg, uint64_t address);
/* In 64-bit code; what 32-bit code needs is the same without a REX prefix. */
void dt_setup_bytes(struct dt_candidate *c, const uint8_t *bytes, size_t count);
#define DT_SETUP(c, ...)                                                                           \
    dt_setup_bytes(c, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
void dt_setup_mov32(struct dt_candidate *c, unsigned reg, uint32_t value);

/* Adds an instruction as it is, following the flags. */
void dt_append_insn(struct dt_gen *g, const uint8_t *bytes, unsigned count);
/* Adds a loop; false if there is no room. */
bool dt_append_loop(struct dt_gen *g);

/* Decides whether the candidate takes part, and what it needs before it. */
bool dt_prepare(struct dt_gen *g, struct dt_candidate *c);
