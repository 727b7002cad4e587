/* The reference engine, inside.
 *
 * Guest code is decoded by Zydis once, into blocks of struct interp_op: a handler function,
 * operands as byte offsets into the register file, an address recipe, an immediate. A handler does
 * one instruction and tail-calls the next one's; the last one of a block sets RIP or x->next
 * (cache.c chains blocks within a page). Blocks are found by guest physical address and mode
 * (cache.c), guest memory through a software TLB (tlb.c, mem.h). An instruction that faults leaves
 * by longjmp before it changed anything (interp_raise), so handlers do all that can fault first.
 * What instructions mean beyond registers and memory is in hv/x86/.
 *
 * Refused: virtual-8086 mode and hardware task switches (HV_RUN_UNSUPPORTED).
 *
 * Start at run() in interp.c, then decode.c; the handlers are one file per family, each with its
 * table.
 */
#pragma once

#include <setjmp.h>

#include <Zydis/Zydis.h>

#include "hv/domain.h"
#include "hv/engine/engine.h"
#include "hv/x86/codemap.h"
#include "hv/x86/native.h"
#include "hv/x86/paging.h"

#define INTERP_TLB_BITS    10
#define INTERP_TLB_ENTRIES (1u << INTERP_TLB_BITS)
#define INTERP_JUMPS       4096u  /* jump cache, by linear address */
#define INTERP_HASH        16384u /* block hash, by guest physical address */
#define INTERP_CACHE_BYTES (32u << 20)
#define INTERP_BLOCK_OPS   48u /* instructions in a block at most */
#define INTERP_NO_REG      0xff
#define INTERP_PCIDS       8u /* address spaces whose TLB entries are kept */

/* Guest memory is accessed by host instructions of the same size, at any alignment. */
typedef uint16_t __attribute__((may_alias, aligned(1))) interp_u16;
typedef uint32_t __attribute__((may_alias, aligned(1))) interp_u32;
typedef uint64_t __attribute__((may_alias, aligned(1))) interp_u64;

struct interp;
struct interp_op;
struct interp_block;

typedef void interp_fn(struct hv_cpu *cpu, struct interp_op *op, struct interp *x);

/* How an effective address is made; the first three give the linear address itself. */
enum interp_ea {
    INTERP_EA_NONE,  /* no memory operand */
    INTERP_EA_BASE,  /* base + disp */
    INTERP_EA_INDEX, /* base + index * scale + disp */
    INTERP_EA_RIP,   /* address of the block + disp */
    INTERP_EA_SLOW,  /* segment base or limit, 16/32-bit wrap: interp_ea_slow */
};

enum interp_op_flags {
    INTERP_OP_MEM_WRITE = 1u << 0, /* the memory operand is written */
    INTERP_OP_LOCK = 1u << 1,
    INTERP_OP_REP = 1u << 2,
    INTERP_OP_REPNE = 1u << 3,
    INTERP_OP_RIP_BASE = 1u << 4, /* of EA_SLOW */
    INTERP_OP_SRC_IMM = 1u << 5,  /* the last operand is an immediate */
};

struct interp_op {
    interp_fn *fn;
    int64_t imm;
    union {
        struct {
            int64_t disp;
            const void *aux; /* struct hv_native_insn */
        };
        struct interp_block *chain[2]; /* branches: not taken, taken */
    };
    uint8_t r[3]; /* byte offset in cpu->gpr of operand i, INTERP_NO_REG if it is no register */
    uint8_t mem;  /* which operand is in memory */
    uint8_t ea, base, index, scale, seg;
    uint8_t flags; /* enum interp_op_flags */
    uint8_t size;  /* operand size in bytes */
    uint8_t mem_bytes;
    uint8_t address_bytes;
    uint8_t len;
    uint8_t extra; /* the handler's own */
    uint16_t end;  /* offset of the next instruction from the start of the block */
};

struct interp_block {
    struct interp_block *hash_next;
    const uint32_t *generation_now;  /* of the page, in the code map */
    const uint32_t *generation2_now; /* of the second page if the instruction crosses */
    uint64_t gpa;
    uint64_t gfn2; /* second page, or ~0 */
    uint32_t generation, generation2;
    uint32_t mode;
    uint32_t nr_ops;
    struct interp_op ops[];
};

/* What a block depends on besides its bytes. */
enum interp_mode {
    INTERP_MODE_16 = 0,
    INTERP_MODE_32 = 1,
    INTERP_MODE_64 = 2,
    INTERP_MODE_SIZE = 3,
    INTERP_MODE_FLAT =
        1u << 2, /* ES, CS, SS, DS are 0 to 4 GiB, all rights; always in 64-bit mode */
    INTERP_MODE_ONE =
        1u << 3, /* blocks of one instruction: single step, interrupt shadow, breakpoints */
    INTERP_MODE_PROTECTED = 1u << 4,
};

/* One page. Tags are the linear page number shifted up, with the address space's number (x->asid)
 * in the low bits; 0 never matches since asid is not 0. */
struct interp_tlb_entry {
    uint64_t read, write, exec;
    uint64_t addend; /* host address = linear address + addend */
    bool global;     /* of all address spaces; these tags know only the current one */
};

/* Rights differ, so each kind of access has its table. */
enum interp_tlb_kind {
    INTERP_TLB_KERNEL, /* supervisor, user pages barred by SMAP */
    INTERP_TLB_KERNEL_AC,
    INTERP_TLB_USER,
    INTERP_TLB_NONE, /* never filled: each access goes the slow way and is looked at (watch.c) */
    INTERP_TLB_KINDS,
};

struct interp_jump {
    uint64_t rip, key;
    struct interp_block *block;
};

/* So many that a lock which is held for a moment is got before, so few that little time is lost on
 * one whose holder does not run. */
#define INTERP_PAUSES_PER_YIELD 32u

enum interp_leave { INTERP_LEAVE_FAULT = 1, INTERP_LEAVE_STOP };

struct interp {
    struct hv_vcpu *v;
    struct interp_tlb_entry *tlb; /* table for the current rights */
    uint64_t asid;
    uint8_t *mem_base;
    const uint64_t *code_lines;
    bool fenced; /* hv/x86/codemap.h */

    /* The block that runs: RIP of its first instruction. */
    uint64_t block_rip;
    struct interp_block *block;
    struct interp_block *next;  /* set by a handler that found where to go on */
    struct interp_block **link; /* set by a branch: where to note the block that is found next */

    uint32_t mode;
    bool stale;         /* the machine state may have changed: interp_refresh */
    bool stepping;      /* this instruction runs alone */
    bool step_trap;     /* #DB follows it */
    bool watching;      /* data breakpoints are enabled */
    bool aligning;      /* alignment checks apply */
    uint8_t watch_hits; /* data breakpoints that this instruction met, as DR6 tells them */
    bool beyond_help;   /* an injected interrupt ended in a triple fault */

    uint64_t jump_epoch, jump_key;
    struct interp_jump *jumps;
    struct interp_block **hash;
    uint8_t *arena;
    size_t arena_used;

    struct interp_tlb_entry tables[INTERP_TLB_KINDS][INTERP_TLB_ENTRIES];
    /* Bloom filters of 2 MiB regions that have entries from large pages: of the lower half of the
     * linear addresses and of the upper one. */
    uint64_t large_pages[2][4];
    bool giant_pages[2]; /* there are entries from pages above 2 MiB */
    struct {
        uint16_t pcid;
        uint16_t asid;   /* 0: free */
        uint64_t serial; /* as asid, but never used again */
    } pcids[INTERP_PCIDS];
    unsigned next_pcid_slot, pcid_slot;
    uint64_t last_serial;
    uint64_t all_flushes; /* times that every address space was forgotten, global pages included */
    uint16_t next_asid;
    uint64_t cr0, cr3, cr4, efer; /* as the TLB knows them */

    jmp_buf leave;
    struct hv_fault fault;
    struct interp_op *fault_op; /* the instruction that left, NULL between instructions */
    enum hv_run stop_reason;
    uint64_t bounce[8]; /* operands that are not in one RAM page */
    bool split;         /* the domain's split_lock is held */

    /* A translator on top of this engine (bt/): executes @translatable code from cpu until something is
     * for this engine's loop; is told of INVLPG. NULL without. */
    bool translatable; /* 64-bit, or a 32-bit program's with flat segments; not watched */
    bool flat_gs;      /* but for its base */
    void (*translator)(struct interp *x);
    void (*page_flushed)(struct interp *x, uint64_t va, uint64_t pages); /* from @va on */
    void *translator_state;

    struct hv_native *native;
    ZydisDecoder decoders[3];
    const struct interp_insn *insns[ZYDIS_MNEMONIC_MAX_VALUE + 1];

    unsigned pauses, pauses_per_yield; /* PAUSE instructions until others are let run, and then again */
    uint64_t instructions, blocks, decoded, tlb_misses, tlb_flushes, stale_blocks, cache_flushes,
        faults;
};

#define INTERP_HANDLER(name) void name(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
#define INTERP_NEXT()        op[1].fn(cpu, op + 1, x)
#define INTERP_INLINE        static inline __attribute__((always_inline))

/* ---- tlb.c */
void interp_tlb_init(struct interp *x);
/* Forgets everything (also after CR0, CR4 and EFER writes). */
void interp_tlb_flush_all(struct interp *x);
/* Forgets the non-global entries of the current address space, as a write of CR3 does. */
void interp_tlb_flush_current(struct interp *x);
void interp_tlb_flush_page(struct interp *x, uint64_t va);
void interp_tlb_flush_pcid(struct interp *x, unsigned pcid);
/* After CR3 was written: takes the address space of its PCID; @keep is bit 63 of the value written.
 */
void interp_tlb_switch(struct interp *x, bool keep);
/* Takes over cpu's mode after anything that may have changed it. */
void interp_refresh(struct interp *x);

/* One walk for an access (enum hv_access_flags) that does not cross a page: enters the TLB if it is
 * memory, and gives its host address, NULL for a device. */
uint8_t *interp_walk(struct interp *x, struct interp_op *op, uint64_t va, unsigned flags,
                     hv_gpa *gpa);
/* A walk for a read that raises nothing: false if there is no memory to read. */
bool interp_try_walk(struct interp *x, uint64_t va);
/* Translates an instruction fetch at linear address @va: host address in *@host, NULL outside of
 * RAM. */
hv_gpa interp_fetch(struct interp *x, uint64_t va, const uint8_t **host);

/* For struct hv_engine_ops. */
bool interp_tlb_lookup(struct hv_vcpu *v, uint64_t va, unsigned flags, hv_gpa *gpa);
void interp_tlb_enter(struct hv_vcpu *v, uint64_t va, unsigned flags,
                      const struct hv_translation *t);

/* ---- memory.c */
uint64_t interp_read_slow(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes);
void interp_write_slow(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes,
                       uint64_t value);
/* Reads or writes any number of bytes; a write checks all pages first. */
void interp_read_bytes(struct interp *x, struct interp_op *op, uint64_t va, void *buf,
                       unsigned bytes);
void interp_write_bytes(struct interp *x, struct interp_op *op, uint64_t va, const void *buf,
                        unsigned bytes);
/* Other vCPUs' stores over two pages wait from begin to end, so that a read-modify-write of such an
 * operand is atomic. A fault ends it, too. */
void interp_split_begin(struct interp *x);
void interp_split_end(struct interp *x);
/* What is not simple of interp_modify and interp_modified, in mem.h. */
void *interp_modify_slow(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes);
void interp_modified_slow(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes);
/* Faults unless @bytes at @va can be written. */
void interp_check_write(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes);
/* Host address of @va if [@va, @va + @bytes) is RAM in one page, else NULL; faults as the access
 * would. */
void *interp_host(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes, bool write);
/* The offset of the memory operand in its segment, wrapped to the address size. */
uint64_t interp_offset(struct hv_cpu *cpu, struct interp_op *op, struct interp *x);
uint64_t interp_ea_slow(struct hv_cpu *cpu, struct interp_op *op, struct interp *x);
/* The linear address of @offset in segment @seg for an access, checked outside 64-bit mode. */
uint64_t interp_linear(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, unsigned seg,
                       uint64_t offset, unsigned bytes, bool write);
/* A store hit cached code: if it is the running block, that one ends after this instruction. */
void interp_code_written(struct interp *x, struct interp_op *op, uint64_t gpa, unsigned bytes);

/* ---- vector.c */
/* Raise #UD or #NM unless SSE, or AVX, can be used. */
void interp_check_sse(struct hv_cpu *cpu, struct interp_op *op, struct interp *x);
void interp_check_avx(struct hv_cpu *cpu, struct interp_op *op, struct interp *x);

/* ---- watch.c */
/* What asks for a look at each access, from the machine state: sets x->watching and x->aligning,
 * and says whether one of them is set. */
bool interp_watch_refresh(struct interp *x);
/* Looks at an access by the rules of x->watching and x->aligning; may raise #AC. */
void interp_watch(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes, bool write);

/* ---- interp.c */
_Noreturn void interp_raise(struct interp *x, struct interp_op *op, const struct hv_fault *fault);
_Noreturn void interp_raise_vector(struct interp *x, struct interp_op *op, uint8_t vector);
_Noreturn void interp_raise_code(struct interp *x, struct interp_op *op, uint8_t vector,
                                 uint32_t code);
/* Leaves run() with the message in vcpu->error; RIP is at @op. */
_Noreturn void interp_unsupported(struct interp *x, struct interp_op *op, const char *what);
/* Ends run() with @reason after this instruction, whose RIP the handler has set. */
_Noreturn void interp_stop(struct interp *x, enum hv_run reason);

/* RIP back to @op, for a handler that returns without having completed it; it and what follows in
 * the block are not counted. */
void interp_rewind(struct interp *x, struct interp_op *op);

/* What a translator uses: the engine's operations, the execution of one instruction (the state in
 * cpu before and after; an exception ends in run()'s loop, not in the caller), and the end of run()
 * with a fault that is delivered at cpu->rip. */
int interp_vcpu_init(struct hv_vcpu *v) HV_MUST_CHECK;
void interp_vcpu_fini(struct hv_vcpu *v);
enum hv_run interp_run(struct hv_vcpu *v);
void interp_inject(struct hv_vcpu *v, uint8_t vector);
void interp_flush(struct hv_vcpu *v);
void interp_flush_tlb(struct hv_vcpu *v);
void interp_execute_one(struct interp *x);
void interp_print_stats(struct hv_vcpu *v, int fd);

/* ---- cache.c */
int interp_cache_init(struct interp *x) HV_MUST_CHECK;
void interp_cache_fini(struct interp *x);
void interp_cache_flush(struct interp *x);
/* The block at RIP; raises fetch faults. */
struct interp_block *interp_find_block(struct interp *x);

/* ---- decode.c: instruction tables */
struct interp_decoding {
    struct interp *x;
    struct interp_op *op;
    unsigned flags; /* enum interp_insn_flags */
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

enum interp_insn_flags {
    INTERP_ENDS = 1u << 0, /* nothing of the block follows it */
};

/* CPUID bits on which instructions depend. */
enum interp_feature {
    INTERP_FEATURE_NONE,
    INTERP_FEATURE_MOVBE,
    INTERP_FEATURE_POPCNT,
    INTERP_FEATURE_SSE42,
    INTERP_FEATURE_RDRAND,
    INTERP_FEATURE_RDSEED,
    INTERP_FEATURE_BMI1,
    INTERP_FEATURE_BMI2,
    INTERP_FEATURE_ADX,
    INTERP_FEATURE_LZCNT,
    INTERP_FEATURE_FSGSBASE,
    INTERP_FEATURE_INVPCID,
    INTERP_FEATURE_SMAP,
    INTERP_FEATURE_RDTSCP,
    INTERP_FEATURE_RDPID,
    INTERP_FEATURE_XSAVE,
    INTERP_FEATURE_XSAVEOPT,
    INTERP_FEATURE_XSAVEC,
    INTERP_FEATURE_XSAVES,
    INTERP_FEATURE_CX16,
    INTERP_FEATURE_CLFLUSHOPT,
    INTERP_FEATURE_CLWB,
    INTERP_FEATURE_CLFSH,
    INTERP_FEATURE_SERIALIZE,
    INTERP_FEATURE_FXSR,
    INTERP_FEATURE_SSE2,
    INTERP_FEATURE_SYSCALL,
    INTERP_FEATURE_AVX,
    INTERP_FEATURE_AVX2,
};

/* One row per mnemonic. @pick chooses op->fn from the decoded operands; without one, op->fn is by
 * operand size from @fn (8, 16, 32, 64 bits), or fn[0] if that is the only one. */
struct interp_insn {
    ZydisMnemonic mnemonic;
    void (*pick)(struct interp_decoding *d, const struct interp_insn *insn);
    interp_fn *fn[4];
    uint8_t flags;   /* enum interp_insn_flags */
    uint8_t extra;   /* copied to op->extra */
    uint8_t feature; /* enum interp_feature */
    ZydisMnemonic
        without; /* what the bytes mean without that feature, or ZYDIS_MNEMONIC_INVALID: #UD */
};

struct interp_insn_table {
    const struct interp_insn *insns;
    unsigned count;
};

extern const struct interp_insn_table interp_alu_insns, interp_move_insns, interp_shift_insns,
    interp_branch_insns, interp_stack_insns, interp_muldiv_insns, interp_bit_insns,
    interp_lock_insns, interp_string_insns, interp_special_insns, interp_system_insns,
    interp_far_insns, interp_io_insns, interp_bcd_insns, interp_xsave_insns, interp_gather_insns,
    interp_masked_insns;

int interp_decode_init(struct interp *x) HV_MUST_CHECK;
/* Whether @mnemonic means itself with the guest's CPUID. */
bool interp_knows(struct interp *x, ZydisMnemonic mnemonic);
/* Decodes one instruction from @bytes into @op. Returns its length; 0 if more than @room bytes are
 * needed; an undefined one becomes a handler that raises #UD. *@flags is enum interp_insn_flags. */
unsigned interp_decode(struct interp *x, const uint8_t *bytes, unsigned room, struct interp_op *op,
                       unsigned *flags);
interp_fn interp_op_end, interp_op_stop, interp_op_undefined, interp_op_too_long, interp_op_native,
    interp_op_no_room;

/* Choosers that tables of other files use: forms of MOV with segment, control and debug registers,
 * and forms with a LOCK prefix (or XCHG with memory); insn->extra is the row's. */
void interp_pick_mov_special(struct interp_decoding *d);
void interp_pick_locked(struct interp_decoding *d);
/* Takes the memory operand if none was taken yet: a hidden one. */
void interp_set_memory(struct interp_decoding *d);
/* The number of an XMM or YMM register. */
static inline uint8_t interp_vector_number(ZydisRegister r)
{
    return (uint8_t)ZydisRegisterGetId(r);
}
/* The segment of a string instruction's source. */
void interp_set_string_segment(struct interp_decoding *d);
void interp_pick_far(struct interp_decoding *d); /* JMP, CALL, RET */

static inline unsigned interp_log2(unsigned bytes)
{
    return bytes == 8 ? 3 : bytes == 4 ? 2 : bytes == 2 ? 1 : 0;
}
