/* What the parts of hv/x86/native*.c share: the description of one instruction and its stub. */
#pragma once

#include "hv/x86/native.h"
#include "hv/x86/xstate.h"

/* Host registers that stand for general-register operands. Fixed operands (RAX, RCX, RDX of
 * PCMPxSTRx) stand for themselves; all three are free for a called function to use. */
enum native_gpr_slot { NATIVE_RAX, NATIVE_RCX, NATIVE_RDX, NATIVE_NR_GPR };

struct native_gpr {
    bool read, written;
    uint8_t guest;  /* enum hv_gpr */
    bool high_byte; /* AH, CH, DH or BH of it */
};

/* What makes two instructions the same stub. All bytes count: clear before filling in. */
struct native_key {
    uint8_t code[16]; /* the re-encoded instruction */
    uint8_t code_bytes;
    uint8_t memory_bytes;
    uint8_t mnemonic_low, mnemonic_high;
    struct native_gpr gpr[NATIVE_NR_GPR];
};

/* Passed to a stub and back. */
struct native_run {
    uint32_t mxcsr;      /* in: to run with, all exceptions masked; out: with the flags raised */
    uint32_t host_mxcsr; /* the stub's: to put back */
    uint16_t host_fcw;
    uint64_t rflags; /* arithmetic flags only, in and out */
};

typedef void native_stub_fn(struct hv_cpu *cpu, void *memory, struct native_run *run);
typedef int native_helper_fn(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                             struct hv_fault *fault);

struct hv_native_insn {
    struct hv_native_insn *next; /* in its hash chain; under the cache's lock */
    struct native_key key;       /* this and all below: immutable */
    struct hv_native_info info;

    native_helper_fn *helper; /* in C, for what only touches control registers; else: */
    native_stub_fn *stub;

    uint16_t xmm;         /* set of XMM registers it names; loaded all, since many keep parts */
    uint16_t xmm_written; /* VEX: with the upper half */
    uint16_t ymm;         /* those of xmm that are named by their full width */
    bool waits;           /* reports pending x87 exceptions */
    bool flags;           /* reads or writes arithmetic flags */
    bool mxcsr;           /* rounds or raises as MXCSR says */
    bool memory_in_rdi;   /* MASKMOVQ and MASKMOVDQU */
    uint8_t tiny_element; /* bytes of an element that can underflow, or 0 */
    uint8_t tiny_count;
};

static inline bool native_uses_x87_unit(const struct hv_native_insn *insn)
{
    return insn->info.x87 || insn->info.mmx;
}

/* Re-encodes a decoded instruction into insn->key and fills in everything but stub and next.
 * @host: native_host_extensions(). -ENOTSUP. */
int native_describe(struct hv_native_insn *insn, uint32_t host, const ZydisDecodedInstruction *zi,
                    const ZydisDecodedOperand *operands);
/* Asks the host's CPUID, which is slow where the host is itself a virtual machine. */
uint32_t native_host_extensions(void);

/* Writes the stub of @insn to @code; gives its length, or 0 when @room bytes are too few. */
size_t native_emit_stub(const struct hv_native_insn *insn, uint8_t *code, size_t room);

/* The C function for a control instruction, or NULL. */
native_helper_fn *native_find_helper(ZydisMnemonic mnemonic);
