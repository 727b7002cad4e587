/* x87, MMX, SSE, AVX and other vector instructions, executed by the host CPU itself.
 *
 * An x86-64 host needs no software model of them: the instruction is re-encoded so that its memory
 * operand goes through one fixed host register and its general registers through fixed ones too,
 * and put into a small generated stub which loads the guest's registers it reads, executes, and
 * stores those it writes. Stubs are made once per distinct encoding.
 *
 * Also here: which instructions are of that kind, and the XSAVE family on plain buffers.
 */
#pragma once

#include <Zydis/Zydis.h>

#include "hv/x86/cpu.h"

struct hv_native;      /* a cache of stubs: self-locking, W^X by dual mapping */
struct hv_native_insn; /* one stub; lives until the cache is flushed */

int hv_native_new(struct hv_native **out) HV_MUST_CHECK;
void hv_native_free(struct hv_native *native);
/* Drops all stubs, for a caller that keeps none. False when there were none: then -ENOMEM meant
 * that the host has no memory left. */
bool hv_native_flush(struct hv_native *native) HV_MUST_CHECK;

/* What the interpreter has to know about an instruction it hands over. */
struct hv_native_info {
    bool has_memory; /* a memory operand; its address is the interpreter's business */
    bool reads_memory, writes_memory;
    unsigned memory_bytes; /* 0 to HV_NATIVE_MEMORY_MAX */
    bool aligned; /* #GP(0) unless the operand is aligned to its size: 16 bytes of legacy SSE, 16
                     or 32 of VMOVAPS and its kin */
    bool x87;     /* uses the x87 unit: CR0.TS or EM gives #NM */
    bool mmx;     /* uses MMX registers: CR0.EM gives #UD, CR0.TS #NM */
    bool sse;     /* uses XMM or MXCSR: CR4.OSFXSR clear or CR0.EM set gives #UD, CR0.TS #NM */
    bool avx;     /* VEX-encoded: #UD unless in protected mode, CR4.OSXSAVE set and SSE and AVX
                     state enabled in XCR0; CR0.TS gives #NM. Excludes the three before. */
    bool fwait;   /* WAIT: #NM only if CR0.TS and CR0.MP */
};

/* The largest memory operand: FNSAVE and FRSTOR. */
#define HV_NATIVE_MEMORY_MAX 108

/* Finds or makes the stub for a decoded instruction. -ENOTSUP when it is not of this kind (the
 * interpreter has it, or the host has not: it is #UD then), -ENOMEM when the cache is full
 * (hv_native_flush). Any thread. */
int hv_native_compile(struct hv_native *native, const ZydisDecodedInstruction *insn,
                      const ZydisDecodedOperand *operands,
                      const struct hv_native_insn **out) HV_MUST_CHECK;
const struct hv_native_info *hv_native_info(const struct hv_native_insn *insn);

/* Whether the instruction reports an x87 exception left pending by an earlier one (#MF, error code
 * none). This comes before any access to its memory operand. hv_native_execute looks too. */
bool hv_native_x87_pending(const struct hv_native_insn *insn, const struct hv_cpu *cpu);

/* After hv_native_execute: whether a store has been made, which an unmasked x87 exception keeps
 * from happening. */
bool hv_native_stored(const struct hv_native_insn *insn, const struct hv_cpu *cpu);

/* Executes on @cpu (xsave image, gpr, rflags are read and written; RIP is the caller's). @memory is
 * the operand in host memory, readable and writable as the instruction needs: the guest's page
 * itself, or a bounce buffer (32-byte aligned, filled with the old contents for whoever only writes
 * parts) that the caller writes back; or NULL. Reports an unmasked SIMD or x87 exception by -EFAULT
 * and *@fault, destination registers unchanged. */
int hv_native_execute(const struct hv_native_insn *insn, struct hv_cpu *cpu, void *memory,
                      struct hv_fault *fault) HV_MUST_CHECK;

/* XSAVE family, on copies or on guest memory itself: what has to be checked is read once. @rfbm is
 * XCR0 & EDX:EAX. Outside 64-bit mode registers 8 to 15 are left alone. hv_xstate_bytes gives the
 * size of the standard layout, and the most that saving or restoring these components accesses in
 * either format. */
enum hv_xsave_kind { HV_XSAVE, HV_XSAVEOPT, HV_XSAVEC };

unsigned hv_xstate_bytes(uint64_t xcr0);
void hv_fxsave(const struct hv_cpu *cpu, uint8_t out[512], bool rex_w);
int hv_fxrstor(struct hv_cpu *cpu, const uint8_t in[512],
               bool rex_w) HV_MUST_CHECK; /* -EINVAL: #GP */
/* @image holds the old contents on entry (components outside @rfbm stay). */
void hv_xsave(const struct hv_cpu *cpu, uint8_t *image, uint64_t rfbm, enum hv_xsave_kind kind);
int hv_xrstor(struct hv_cpu *cpu, const uint8_t *image,
              uint64_t rfbm) HV_MUST_CHECK; /* -EINVAL: #GP */
void hv_xstate_reset(struct hv_cpu *cpu);

/* XCR0 bits that this host and these stubs can give the guest. Asks the host's CPUID, which is slow
 * where the host is itself a virtual machine. AVX-512 is not among them: EVEX is not translated. */
uint64_t hv_xstate_supported(void);
