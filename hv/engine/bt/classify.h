/* What an instruction needs from the translator. */
#pragma once

#include "hv/engine/bt/bt.h"

enum bt_class {
    BT_FALLBACK, /* the interpreter executes it */
    BT_NATIVE,   /* emitted again, with other registers and the host's address where it has to be */
    BT_NOTHING,  /* no effect: hints */
    BT_PUSH,
    BT_POP,
    BT_CALL,
    BT_RET,
    BT_JMP,
    BT_JCC,
    BT_JRCXZ,
    BT_LEAVE,
    BT_DIV,
    BT_IDIV,
    BT_RDTSC,
    BT_PUSHF,
    BT_PAUSE,
    BT_CLI,
    BT_STI,
    BT_SWAPGS,
    BT_SYSCALL,
    BT_SYSRET, /* to 64-bit code */
    BT_STAC,
    BT_CLAC,
    BT_STRING, /* REP MOVS, REP STOS */
    BT_BITS,   /* BT and its kin of memory, with a register */
};

/* A memory access: the explicit operand or one to the stack. */
struct bt_ref {
    uint8_t base, index; /* registers of the guest, 16 for none */
    uint8_t scale;       /* as a shift */
    uint8_t segment;     /* HV_FS, HV_GS or 0: the others have no base */
    bool absolute;       /* at @va, segment aside */
    bool computed;       /* not here: the class knows more */
    bool write;          /* too */
    uint8_t align;       /* #GP unless the address is a multiple of this */
    uint8_t group;       /* of the block, or BT_NO_GROUP */
    uint16_t bytes;
    int64_t disp;
    uint64_t va;
};

/* What the decoder says. */
struct bt_source {
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
    const ZydisDecodedOperand *mem; /* the explicit memory operand that is accessed, or NULL */
};

/* Of the two registers in slots. */
enum { BT_FIELD_REG = 1, BT_FIELD_VVVV = 2 };

/* What an instruction is, wherever it stands and whatever its constants are. Registers are numbers,
 * 16 for none, or sets by number. */
struct bt_decoded {
    uint8_t bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
    uint8_t length; /* 0: of none */
    uint8_t fixed;  /* so many bytes make it what it is; constants follow */
    uint8_t class;  /* enum bt_class */
    uint16_t mnemonic;
    uint16_t uses, writes, follows; /* follows: written but for a stack pointer that is moved */
    uint16_t overwrites;            /* of R10 and R11: wholly written, and not read */
    uint16_t flags_written, flags_tested;
    uint16_t size0, size1;        /* of the first operands, in bits */
    uint8_t reg0, reg1;           /* the first operands, if they are registers */
    uint8_t slot_reg, slot_fields; /* the register in a slot, and where it stands */
    uint8_t operand_width;
    uint8_t opcode, map, modrm_reg, prefixes;
    uint8_t vex; /* offset of what follows VEX's first byte; 0: none */
    uint8_t imm_at[2], imm_bytes[2];
    uint8_t disp_at, disp_bytes;
    uint8_t base, index, scale, segment; /* of the memory operand, or LEA's */
    uint8_t mem_bytes;
    uint8_t align; /* of the memory operand */
    int8_t adds;   /* 1, -1: its constant to the first operand, all of an address; 0: no */
    uint8_t copies_from; /* to the first operand; LEA: and adds its displacement */
    bool imm_signed, rex_w;
    bool mem;        /* there is a memory operand that is accessed */
    bool writes_mem; /* and written */
    bool near_rip;   /* its base is RIP */
    bool imm0, mem1; /* the first operand is a constant, the second one in memory */
    bool leaves;     /* saves the flags, or goes where they can be seen */
    bool vector;     /* needs x87 or vector state */
    bool avx;        /* and AVX enabled */
    bool code32;
    uint64_t used; /* the translation that used it last */
};

struct bt_insn {
    const struct bt_decoded *d;
    struct bt_ref refs[2]; /* that of the memory operand first */
    unsigned nr_refs;
    uint16_t at; /* offset in the block */
    enum bt_class class;
    bool flags_dead;     /* nobody looks at the flags that are there before it */
    uint32_t live_after; /* the flags that somebody looks at behind it */
};

struct bt_translation;
/* The class of an instruction, wherever it stands; fills in what of @d depends on it. */
enum bt_class bt_class_of(struct bt *bt, struct bt_source *s, struct bt_decoded *d);
/* Fills in what @d is; its bytes and code32 are there, the rest is 0. */
void bt_describe(struct bt *bt, struct bt_source *s, struct bt_decoded *d);
/* Fills in class and accesses of an instruction in its place. */
void bt_classify(struct bt_translation *t, struct bt_insn *in);

/* Whether the guest's register is in the region: the host's of that number is scratch. */
bool bt_in_slot(unsigned reg);

/* Host register number of a general register, or 16. */
static inline unsigned bt_gpr_of(ZydisRegister reg)
{
    if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15)
        return (unsigned)(reg - ZYDIS_REGISTER_RAX);
    if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D)
        return (unsigned)(reg - ZYDIS_REGISTER_EAX);
    if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W)
        return (unsigned)(reg - ZYDIS_REGISTER_AX);
    if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
        return (unsigned)(reg - ZYDIS_REGISTER_AH);
    if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
        return (unsigned)(reg - ZYDIS_REGISTER_SPL) + 4;
    if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL)
        return (unsigned)(reg - ZYDIS_REGISTER_AL);
    return 16;
}
