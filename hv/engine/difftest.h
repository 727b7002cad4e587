/* Differential test: random instruction sequences, executed by the host CPU and by an engine.
 *
 * A test is a start state, 64-bit or 32-bit code, and a sandbox of a few pages at fixed linear
 * addresses, all made from one seed (difftest-gen.c, with difftest-encode.c for operands and
 * difftest-prepare.c for what single instructions need). A forked child executes it natively
 * (difftest-host.c), 32-bit code in compatibility mode; the engine executes it on a vCPU in long
 * mode at CPL 3 whose page tables map the same linear addresses (difftest-guest.c). Both end in the
 * same kind of result: registers and the exception that stopped them, or none. difftest.c compares
 * and reports.
 */
#pragma once

#include "hv/x86/cpu.h"
#include "hv/x86/xstate.h"

/* The sandbox. All addresses are below 2 GiB, so that 32-bit addressing and absolute displacements
 * reach it. Plain numbers, for they are also used in assembler. Pages between the regions are
 * unmapped. */
#define DT_CODE   0x10000000 /* one page per test of a batch */
#define DT_EXIT   0x10050000 /* 64-bit code jumps here when it is through */
#define DT_EXIT32 0x10050040 /* and 32-bit code here */
#define DT_DATA   0x10060000 /* two writable pages, one read-only, then nothing */
#define DT_STACK  0x10070000 /* two writable pages */
#define DT_CTL    0x10080000 /* host only: registers of the code under test and of the harness */
#define DT_GS     0x08000000 /* base of GS */

#define DT_DATA_RW_PAGES 2
#define DT_DATA_PAGES    3
#define DT_STACK_PAGES   2

/* Offsets in the control page. */
#define DT_CTL_RIP       128
#define DT_CTL_RFLAGS    136
#define DT_CTL_HOST_RSP  144
#define DT_CTL_EXIT      152
#define DT_CTL_MXCSR     160
#define DT_CTL_FAR       168 /* offset and selector, to enter 32-bit code */
#define DT_CTL_HAS_XSAVE 176
#define DT_CTL_FX        256 /* FXSAVE or XSAVE image */

#define DT_BATCH      64
#define DT_CODE_BYTES 512
#define DT_MAX_INSNS  48 /* with those that prepare for others */

/* Selectors as Linux has them, since code can read them. */
#define DT_USER_CS32 0x23
#define DT_USER_CS   0x33
#define DT_USER_SS   0x2b

#define DT_VECTOR_NONE 256

struct dt_regs {
    _Alignas(16) uint8_t fx[HV_FX_BYTES];
    uint8_t ymm_high[HV_XS_YMM_BYTES]; /* zero where the host has no AVX */
    uint64_t gpr[HV_NR_GPR];
    uint64_t rip, rflags;
    uint64_t cr2;    /* of a page fault */
    uint32_t vector; /* DT_VECTOR_NONE: went through */
    uint32_t error_code;
};

struct dt_memory {
    uint8_t data[DT_DATA_RW_PAGES * HV_PAGE_SIZE];
    uint8_t stack[DT_STACK_PAGES * HV_PAGE_SIZE];
};

struct dt_result {
    struct dt_regs regs;
    struct dt_memory memory;
    bool failed; /* the engine gave up; error says why */
    char error[160];
};

struct dt_test {
    uint64_t seed;
    uint64_t code_address;
    bool code32; /* 32-bit code, in compatibility mode */
    struct dt_regs start;
    uint8_t code[DT_CODE_BYTES];
    uint32_t code_bytes;
    uint32_t nr_insns;
    uint16_t offset[DT_MAX_INSNS + 1];          /* of each instruction */
    uint32_t undefined_flags[DT_MAX_INSNS + 1]; /* before each instruction, and at the end */
    struct dt_result host;
};

/* Makes test @seed, of at most @limit chosen instructions. The same arguments make the same test.
 */
void dt_generate(struct dt_test *test, uint64_t seed, unsigned limit);

/* Sets up @decoder (a ZydisDecoder) for the code of @test. */
void dt_decoder_init(void *decoder, const struct dt_test *test);

/* What the data pages and the stack hold before each test: integers, floating-point values, noise.
 */
void dt_fill_memory(uint8_t data[DT_DATA_PAGES * HV_PAGE_SIZE],
                    uint8_t stack[DT_STACK_PAGES * HV_PAGE_SIZE]);

/* The child. It runs the tests of the shared batch when told, and ends with its parent. */
struct dt_host;
/* Whether the kernel lets processes run 32-bit code: it may be booted without. */
bool dt_host_has_code32(void);
int dt_host_new(struct dt_host **out) HV_MUST_CHECK;
void dt_host_free(struct dt_host *host);
struct dt_test *dt_host_batch(struct dt_host *host); /* DT_BATCH tests, shared with the child */
/* 0, or a negative errno: the child died or hung, and *@test says in which test. */
int dt_host_run(struct dt_host *host, unsigned count, unsigned *test) HV_MUST_CHECK;

/* The vCPU. */
struct dt_guest;
int dt_guest_new(const char *engine, struct dt_guest **out) HV_MUST_CHECK;
void dt_guest_free(struct dt_guest *guest);
/* Forgets all code: the addresses of a batch are used again. */
void dt_guest_flush(struct dt_guest *guest);
void dt_guest_run(struct dt_guest *guest, const struct dt_test *test, struct dt_result *result);
