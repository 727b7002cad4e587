/* The translator, inside: x86-64 guest code to x86-64 host code.
 *
 * It sits on the interpreter. 64-bit code, and 32-bit code of programs with flat segments, is
 * translated in blocks that end at a branch or at a page boundary; whatever is not translated
 * (system instructions, string instructions, devices, accesses over two pages, faults) leaves
 * translated code with exact state, and the interpreter executes that one instruction. So faults
 * are precise and there is one definition of everything rare.
 *
 * While translated code runs: guest registers are in the host registers of the same number, RSP
 * included, but R10 and R11, which are in the region (below) and whose host registers are scratch.
 * Arithmetic flags are in EFLAGS. GS has the address of the region. x87 and vector state is in the
 * host's units if region->fpu says so: loaded at the first block that needs it, saved on leaving.
 * Nothing is ever pushed, so the vCPU's thread must have no signal handler run meanwhile.
 *
 * A vCPU has one region: translated code's slots, the software TLB by kind of access rights, and
 * the jump cache from linear address to translated code. GS is set once for the thread, since where
 * user code may not do that itself it is a slow system call. At a switch of address spaces the TLB
 * entries that are not global are put aside and those of the other one put back; jumps of user code
 * are told apart by a salt in their tags. Returns go by the jump cache too, and nearly all hit its
 * first level (count.c): RSP is the guest's, so that the host's own prediction of returns is out of
 * reach, and a stack of return addresses would only replace one look into memory by another, at the
 * price of a store with each call. Tags are negated, and an empty entry of the TLB has a tag that
 * no address of its index matches.
 *
 * A block is found by guest physical address, linear address and kind. An instruction that is in
 * two pages is a block of its own, which is only found through the jump cache, for that is what
 * answers for the second page's mapping. A direct jump within the page is patched to go to the next
 * block; all others look into the jump cache. Stores to pages with cached code never hit the TLB,
 * so the interpreter makes them and finds stale code through hv/x86/codemap.h, whose log of stale
 * pages each vCPU reads before it enters translated code: the first bytes of a stale block become a
 * jump out. The place of stale blocks is used again where nothing follows them, so that code which
 * changes all the time does not fill the cache.
 *
 * Accesses of a block with the same base and index registers form a group (group.c): one look into
 * the TLB for all of them, at a place where it may destroy the flags. If that fails, the block goes
 * on in a variant of itself without groups, which is exact about who faults. A block that jumps
 * back to its own start is a loop: from the second time on a group whose address moves by a
 * constant needs a comparison with the end of its page only.
 *
 * Arithmetic flags that are overwritten before they are read may have any value when an access
 * faults: the look into the TLB is cheaper when it may use them. All else is exact.
 *
 * Start at run_translated in bt.c, then translate.c.
 */
#pragma once

#include "hv/engine/interp/interp.h"

#define BT_TLB_BITS    12
#define BT_TLB_ENTRIES (1u << BT_TLB_BITS)
#define BT_JUMP_BITS   12
#define BT_JUMP_SHIFT  2 /* calls are no closer */
#define BT_JUMPS       (1u << BT_JUMP_BITS)
#define BT_FAR_BITS    15
#define BT_FAR_ROTATE  15 /* what is above is added, for programs are larger than the cache */
#define BT_FARS        (1u << BT_FAR_BITS)
#define BT_PAGES_BITS  12
/* Bits of an address that are its index. */
#define BT_TLB_MASK    ((uint64_t)(BT_TLB_ENTRIES - 1) << HV_PAGE_SHIFT)
#define BT_JUMP_MASK   ((uint64_t)(BT_JUMPS - 1) << BT_JUMP_SHIFT)
#define BT_FAR_MASK    ((uint64_t)(BT_FARS - 1) << BT_JUMP_SHIFT)

#define BT_KINDS INTERP_TLB_NONE /* where each access is looked at, there is no translated code */

/* Kinds of code: those of access rights, and 32-bit programs, whose rights are the user's. A flat
 * GS, apart from its base, is what programs have for their threads' data. */
enum { BT_USER = INTERP_TLB_USER, BT_USER32, BT_USER32_GS, BT_CODE_KINDS };

#define BT_BLOCK_INSNS 64u
#define BT_BLOCK_BYTES 32768u /* of translated code at most */
#define BT_HASH        16384u
#define BT_LOGGED      1024u /* filled entries that are remembered for a cheap flush */
#define BT_NO_GFN      (~0ull)
#define BT_SAVED       512u /* entries that are put aside for an address space */
#define BT_GROUPS      24u  /* groups of accesses in a block */

struct bt_tlb {
    uint64_t read[BT_TLB_ENTRIES];   /* -page */
    uint64_t write[BT_TLB_ENTRIES];  /* -page */
    uint64_t host[BT_TLB_ENTRIES];   /* host address of the page */
    uint64_t addend[BT_TLB_ENTRIES]; /* host address - linear address */
};

/* Two levels of jump cache: what is in the first is of the current address space; the second one is
 * larger, and is looked into by one routine for all. */
struct bt_jumps {
    uint64_t rip[BT_JUMPS]; /* -rip */
    uint64_t code[BT_JUMPS];
};

/* The pages of which there are or were entries, by a hash: what is flushed is mostly data, and what is code has few. */
struct bt_jump_pages {
    uint64_t slots[1u << BT_PAGES_BITS]; /* page << 16 | lines of 256 bytes, of which one has bit 0; 0: none */
    unsigned shared, max_shared;         /* slots of more than one page; made anew when there are too many */
};

struct bt_far {
    uint64_t rip[BT_FARS]; /* salt - rip; 0 for none, so that what is not used is not resident */
    uint64_t code[BT_FARS];
};

/* Whether the guest's x87 and vector state is in the host's units, and AVX enabled. */
enum bt_fpu { BT_FPU_NONE, BT_FPU_LOADED, BT_FPU_AVX };

/* Events in translated code; they are counted in domains that are `counted` only. */
enum bt_counter {
    BT_COUNT_INSNS, /* of the guest; those behind one that left too early are counted too */
    BT_COUNT_BLOCKS,
    BT_COUNT_TLB,         /* looks that hit; those that miss are exits */
    BT_COUNT_RETURN,      /* looks of returns into the first jump cache */
    BT_COUNT_RETURN_MISS, /* those that fail */
    BT_COUNTERS,
};

struct bt_region {
    uint64_t r10, r11, rip, rcx, target, code, scratch10, scratch11;
    uint64_t host_rsp, cpu, fs_base, gs_base, tsc_offset;
    uint64_t ax_flags, reason, detail;
    uint64_t rflags;     /* but for the arithmetic flags, IF and AC */
    uint64_t if_flag;    /* IF, at its place */
    uint64_t ac_flag;    /* AC, at its place */
    uint64_t pauses;     /* PAUSE instructions until one is for the interpreter, which lets others run */
    uint64_t irq_window; /* STI is for the interpreter: an interrupt waits for it */
    uint64_t arith_mask;
    uint64_t fpu;         /* enum bt_fpu */
    uint64_t stale;       /* address of the interpreter's flag */
    uint64_t syscall_rip; /* 0: SYSCALL is for the interpreter */
    uint64_t syscall_keeps, syscall_cs, syscall_ss, sysret_cs, sysret_ss, tsc_aux;
    uint64_t jump_mask; /* atomic: 0 for a kick */
    uint64_t tlb_mask, near_mask, page_mask, far_mask, sign_mask, avx_mask;
    uint64_t bit_mask[7];         /* 2 to that power, less 1 */
    uint64_t align_mask[7];       /* page_mask with that many low bits */
    uint64_t salt[BT_CODE_KINDS]; /* of the jump cache's tags; 0 for the kernel */
    uint64_t limit[BT_GROUPS];  /* of the groups of a loop: up or down to here a register may go */
    uint64_t addend[BT_GROUPS]; /* of the block's groups: host address - linear address */
    uint32_t host_mxcsr;
    uint64_t far_hit, far_miss, far_rax; /* jump.c's */
    uint64_t entry; /* where to go in; code may be in use then, by a call whose push missed */
    uint64_t string, string_rax, string_rdx, string_count; /* string.c's */
    uint64_t counters[BT_COUNTERS];
    uint32_t kick; /* atomic: loops leave translated code, for attention is wanted */

    /* Below: not for translated code but the TLB and the jump cache. */
    struct bt_tlb tlb[BT_KINDS];
    struct bt_jumps jumps[BT_CODE_KINDS];
    struct bt_far fars[BT_CODE_KINDS];
};

enum bt_reason {
    BT_EXIT_LOOKUP, /* go on at RIP */
    BT_EXIT_INTERP, /* the interpreter executes the instruction at RIP */
    BT_EXIT_LINK,   /* as LOOKUP; detail is the offset of the jump to patch */
    BT_EXIT_MISS,   /* detail is a struct bt_site */
    BT_EXIT_GROUP,  /* the same, of a group */
    BT_EXIT_STRING, /* detail is a struct bt_string */
    BT_EXIT_TARGET, /* there is no code for the slot's target; detail is the code to try again */
    BT_EXIT_FPU,    /* detail is the code to go on at with the state loaded */
    BT_EXIT_AVX,    /* the same, with AVX enabled */
    BT_REASONS,
};

/* A look into the TLB of translated code. On a miss the code gives the index in scratch11 and the
 * difference from the tag in scratch10. */
struct bt_site {
    uint64_t rip;
    uint32_t resume;  /* offset of the code that tries again */
    uint32_t crosses; /* group: distance of the jump for one that is in two pages, 0 without */
    uint16_t bytes;
    bool write;
    uint8_t align; /* the address is a multiple of this */
    uint8_t kind;
    uint64_t constant; /* the address, if it is always the same; else 0 */
};

/* A REP MOVS or REP STOS of translated code. */
struct bt_string {
    uint64_t rip;
    uint64_t after;  /* host address of the code behind it */
    uint32_t resume; /* offset of the code that tries again */
    uint8_t bytes;   /* of an element */
    uint8_t kind;
    bool source; /* MOVS */
};

struct bt_block {
    struct bt_block *hash_next, *page_next, *page2_next;
    const uint32_t *generation_now, *generation2_now;
    uint64_t gpa, rip;
    uint64_t gfn2; /* of the page where its one instruction goes on, or BT_NO_GFN */
    uint32_t generation, generation2;
    uint32_t head, body, stale; /* code offsets: with look at attention, without, way out */
    uint32_t cold;              /* of what runs rarely */
    uint16_t bytes;             /* of the guest's code */
    uint8_t kind;
    bool ungrouped; /* the variant without groups of accesses */
    bool dead;
};

/* Where the one TLB entry is through which translated code may store to a page, so that it is found
 * without a search. A cache by gfn. */
struct bt_writable {
    uint64_t gfn;
    bool alone; /* there is no other */
    uint8_t kind;
    uint16_t index;
};

#define BT_WRITABLE 4096u

/* Stores to a page with code that the interpreter had to make: when one follows the other along the
 * page, code is being written there, and the page is better off as data until it runs again. */
struct bt_written {
    uint64_t gfn;
    uint64_t last;  /* gpa of the last one */
    uint64_t lines; /* of 64 bytes, that were stored to */
    uint64_t
        former; /* those that had code when the page was made data, but for the ones stored to */
    unsigned run, wanted; /* so many in a row, so many before that is done */
};

#define BT_WRITTEN 64u

/* What is put aside of an address space that is not current. */
struct bt_space {
    uint64_t serial; /* of its TLB contents, 0 for none */
    unsigned nr_saved;
    struct {
        uint64_t page, addend;
        uint8_t kind;
        bool read, write;
    } saved[BT_SAVED];
};

struct bt {
    struct interp *x;
    struct bt_region *region;
    struct bt_writable writable[BT_WRITABLE];
    struct bt_written written[BT_WRITTEN];

    /* Of the entries in the region that are not global. */
    uint64_t serial; /* of the address space they belong to */
    uint64_t all_flushes_seen;
    unsigned nr_filled, nr_jumps;
    uint32_t filled[BT_LOGGED]; /* index << 2 | kind */
    struct bt_jumped {
        uint64_t rip;
        uint8_t kind;
    } jumped[BT_LOGGED];
    uint64_t global[BT_KINDS][BT_TLB_ENTRIES / 64]; /* which entries are global */
    uint64_t salts;                                 /* ever given out */
    bool jumps_used[BT_CODE_KINDS], fars_used[BT_CODE_KINDS];
    struct bt_jump_pages jump_pages[BT_CODE_KINDS];
    struct bt_space spaces[INTERP_PCIDS];

    int code_fd;
    uint8_t *code, *code_rw; /* two mappings of the cache */
    uint32_t code_bytes;
    uint32_t code_used, code_start;    /* what runs often is in the first half */
    uint32_t cold_used;                /* and what does not, in the second */
    uint32_t populated, cold_populated; /* the host's pages are there, up to here */
    uint32_t exit_code;                /* offset of the way out */
    uint32_t leave[BT_REASONS];        /* of the ways to it */
    uint32_t far_probe[BT_CODE_KINDS]; /* routines: the look into the second jump cache */
    uint32_t strings[2][4][BT_KINDS];  /* routines: STOS and MOVS by log2 of the element's size */
    void (*enter)(struct bt_region *region, uint64_t code);
    void (*enter_fpu)(struct bt_region *region, uint64_t code);

    struct bt_translation *translation; /* of the block at work */
    bool tsd;                           /* RDTSC is for the kernel */
    bool smap;
    uint64_t star, lstar, sfmask, efer; /* that the region's part about SYSCALL was made from */
    bool host_avx;                      /* the state is moved by XSAVE and XRSTOR */

    struct bt_block *blocks;
    uint32_t nr_blocks, max_blocks;
    struct bt_block **hash, **pages, **pages2;
    uint64_t log_seen;
    uint32_t link; /* jump to patch at the next lookup, 0 for none */
    uint64_t epoch_seen;

    uint64_t translated, translated_bytes, flushes, invalidated, tlb_fills;
    uint64_t exits[BT_REASONS], lookups, switches, space_flushes, fallbacks, ungrouped;
};

#define BT_SLOT(field) ((uint32_t)offsetof(struct bt_region, field))

/* ---- space.c: the TLB and address spaces */
int bt_space_init(struct bt *bt) HV_MUST_CHECK;
void bt_space_fini(struct bt *bt);
/* Makes the region that of the interpreter's current address space. */
void bt_switch_space(struct bt *bt);
unsigned bt_kind_now(const struct bt *bt);
/* Fills the TLB after a miss; raises page faults at @site's instruction. False if the interpreter
 * has to execute it. */
bool bt_fill(struct bt *bt, const struct bt_site *site);
/* Fills the TLB for a group, without faults. False if the block has to go on without it. */
bool bt_fill_group(struct bt *bt, const struct bt_site *site);
/* Fills the TLB for both operands of a string instruction, as bt_fill. */
bool bt_fill_string(struct bt *bt, const struct bt_string *s);
void bt_pages_flushed(struct interp *x, uint64_t va, uint64_t pages);

/* ---- protect.c: stores to pages with code */
/* Whether translated code may store through this entry without a look at the code map. */
bool bt_take_writable(struct bt *bt, uint64_t gfn, unsigned kind, unsigned index);
/* The page is about to be translated: no vCPU may store to it unseen. Ours, before it is marked in
 * the code map; the others, after it. */
void bt_protect_own(struct bt *bt, uint64_t gfn);
void bt_protect_others(struct bt *bt, uint64_t gfn);
/* The interpreter is about to store at @gpa; of interest if the page has code. */
void bt_note_store(struct bt *bt, uint64_t gpa);
/* Code at @gpa is about to be translated. */
void bt_note_code(struct bt *bt, uint64_t gpa);
/* Takes notice of stale code and of others' requests. */
void bt_read_log(struct bt *bt);

/* ---- jumps.c: the jump cache */
/* The entries for linear address @rip. */
static inline unsigned bt_jump_index(uint64_t rip)
{
    return (unsigned)(rip >> BT_JUMP_SHIFT) & (BT_JUMPS - 1);
}

static inline unsigned bt_far_index(uint64_t rip)
{
    uint64_t rotated = rip >> BT_FAR_ROTATE | rip << (64 - BT_FAR_ROTATE);

    return (unsigned)((rip + rotated) >> BT_JUMP_SHIFT) & (BT_FARS - 1);
}
void bt_add_jump(struct bt *bt, unsigned kind, uint64_t rip, uint64_t code, bool global);
bool bt_find_jump(const struct bt *bt, unsigned kind, uint64_t rip, uint64_t *code);
void bt_drop_jump(struct bt *bt, const struct bt_block *b); /* in all address spaces */
void bt_drop_jumps_of_page(struct bt *bt, uint64_t page);
/* What another address space does not have: the first level's but for the kernel's global ones. */
void bt_drop_local_jumps(struct bt *bt);
void bt_clear_jumps(struct bt *bt);

/* ---- cache.c */
int bt_cache_init(struct bt *bt) HV_MUST_CHECK;
void bt_cache_fini(struct bt *bt);
void bt_cache_flush(struct bt *bt);
/* The block at linear address @rip, translated if it is not there; raises fetch faults. NULL: the
 * interpreter has to execute what is there. */
struct bt_block *bt_find_block(struct bt *bt, uint64_t rip, bool ungrouped);
/* The block if it has been translated already. */
struct bt_block *bt_cached_block(struct bt *bt, uint64_t gpa, uint64_t rip, unsigned kind,
                                 bool ungrouped);
/* Makes the stale blocks of a page unreachable. No code is to be resumed. */
void bt_drop_stale_page(struct bt *bt, uint64_t gfn);
void bt_patch_jump(struct bt *bt, uint32_t at, uint32_t target);

/* The block at guest physical address @gpa, which is at @bytes, for code of another kind than the current one; not one that is in
 * two pages. */
void bt_prepare_block(struct bt *bt, uint64_t gpa, const uint8_t *bytes, uint64_t rip, unsigned kind, bool ungrouped);
/* The block whose code has offset @at. */
const struct bt_block *bt_block_at(const struct bt *bt, uint32_t at);

/* ---- ready.c: code of a guest that comes from elsewhere */
size_t bt_list_code(struct hv_vcpu *v, struct hv_code_place *list, size_t max);
void bt_prepare_code(struct hv_vcpu *v, const struct hv_code_place *list, size_t count, uint64_t deadline_ns);

/* ---- entry.c: the way in and out */
void bt_emit_entry(struct bt *bt);

/* ---- syscall.c */
/* Brings the region's part about SYSCALL up to date with the MSRs. */
void bt_prepare_syscall(struct bt *bt);

/* ---- string.c */
void bt_emit_string_routines(struct bt *bt);

/* ---- jump.c */
void bt_emit_far_probes(struct bt *bt);

/* ---- translate.c */
int bt_translate_init(struct bt *bt) HV_MUST_CHECK;
void bt_translate_fini(struct bt *bt);
/* Translates from @bytes, up to the page's end at most; or one instruction that goes on at
 * @bytes2, in the next page. */
void bt_translate(struct bt *bt, struct bt_block *b, const uint8_t *bytes, const uint8_t *bytes2);
/* Whether the instruction at linear address @rip may be in two pages, and whether it is. */
static inline bool bt_may_cross(uint64_t rip)
{
    return (rip & HV_PAGE_MASK) > HV_PAGE_SIZE - ZYDIS_MAX_INSTRUCTION_LENGTH;
}
bool bt_crosses(struct bt *bt, const uint8_t *bytes, uint64_t rip);

/* ---- count.c */
void bt_print_stats(struct hv_vcpu *v, int fd);

/* ---- bt.c */
/* Makes the other vCPUs leave translated code soon, if they run it. */
void bt_poke_others(struct bt *bt);
static inline struct bt *bt_of(struct interp *x)
{
    return x->translator_state;
}
