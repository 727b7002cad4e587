/* What the differential test cannot check natively: paging, exceptions and their frames, modes,
 * privilege changes, self-modifying code, restart of instructions. Source: Intel SDM volume 3,
 * chapters 4 to 6; volume 2 for SYSCALL, SYSRET, IRET; AMD64 Architecture Programmer's Manual
 * volume 3 for what AMD's SYSCALL, SYSRET, SYSENTER and SYSEXIT do.
 */
#include "config.h"

#include "hv/engine/interp/interp.h"

#include "hv/engine/interp/test-machine.h"
#include "hv/tap.h"
#include "hv/x86/xstate.h"

#define P  1u
#define W  2u
#define U  4u
#define A  0x20u
#define D  0x40u
#define NX (1ull << 63)

TEST_ASM(code_loop, ".code64",
         "xor %eax, %eax; mov $1000, %ecx; 1: add %rcx, %rax; dec %ecx; jnz 1b; hlt");
TEST_ASM(code_read, ".code64", "mov (%rbx), %rax; hlt");
TEST_ASM(code_write, ".code64", "mov %rax, (%rbx); hlt");
TEST_ASM(code_jump, ".code64", "jmp *%rbx");
TEST_ASM(code_ud2, ".code64", "nop; ud2");
TEST_ASM(code_div, ".code64", "xor %ecx, %ecx; div %ecx");
TEST_ASM(code_int, ".code64", "int $32; hlt");
TEST_ASM(code_syscall, ".code64", "mov $0xbb8, %eax; syscall; hlt");
TEST_ASM(code_sysret, ".code64", "sysretq");
TEST_ASM(code_iretq, ".code64", "iretq");
TEST_ASM(code_stosb, ".code64", "rep stosb; hlt");
TEST_ASM(code_movsb, ".code64", "rep movsb; hlt");

static void test_arithmetic(struct test_machine *m)
{
    test_reset(m);
    TEST_LOAD(m, code_loop);
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RAX] == 500500, "a loop adds up");
    TAP_OK(m->cpu->rflags & HV_EFLAGS_ZF, "and leaves ZF");
    TAP_OK(m->cpu->rip == TEST_CODE + (uint64_t)(code_loop_end - code_loop), "RIP is past HLT");
}

/* ---- paging */

static const struct paging_row {
    const char *what;
    uint64_t pte;
    bool user, write, fetch;
    uint64_t cr0_clear, cr4_set, rflags_set;
    int vector; /* -1: allowed */
    unsigned error;
} paging_rows[] = {
    {"a read of a present page", P, 0, 0, 0, 0, 0, 0, -1, 0},
    {"a read of a page that is not present", 0, 0, 0, 0, 0, 0, 0, 14, 0},
    {"a write to a read-only page, CR0.WP", P, 0, 1, 0, 0, 0, 0, 14, 3},
    {"a write to a read-only page, no CR0.WP", P, 0, 1, 0, HV_CR0_WP, 0, 0, -1, 0},
    {"a write to a writable page", P | W, 0, 1, 0, 0, 0, 0, -1, 0},
    {"a user's read of a supervisor page", P | W, 1, 0, 0, 0, 0, 0, 14, 5},
    {"a user's write to a read-only page", P | U, 1, 1, 0, HV_CR0_WP, 0, 0, 14, 7},
    {"a user's read of a user page", P | U, 1, 0, 0, 0, 0, 0, -1, 0},
    {"reserved bits", P | 1ull << 45, 0, 0, 0, 0, 0, 0, 14, 9},
    {"a fetch from an NX page", P | NX, 0, 0, 1, 0, 0, 0, 14, 0x11},
    {"a fetch", P, 0, 0, 1, 0, 0, 0, -1, 0},
    {"a supervisor's fetch of a user page without SMEP", P | U, 0, 0, 1, 0, 0, 0, -1, 0},
    {"a supervisor's fetch of a user page with SMEP", P | U, 0, 0, 1, 0, HV_CR4_SMEP, 0, 14, 0x11},
    {"a supervisor's read of a user page with SMAP", P | U, 0, 0, 0, 0, HV_CR4_SMAP, 0, 14, 1},
    {"the same with EFLAGS.AC", P | U, 0, 0, 0, 0, HV_CR4_SMAP, HV_EFLAGS_AC, -1, 0},
};

static void prepare_paging(struct test_machine *m, const struct paging_row *r)
{
    if (r->user)
        test_reset_user(m);
    else
        test_reset(m);
    m->cpu->cr0 &= ~r->cr0_clear;
    m->cpu->cr4 |= r->cr4_set;
    m->cpu->rflags |= r->rflags_set;
    test_map(m, 8, 0x40000, r->pte);
    m->ram[0x40000] = 0xf4;
    m->cpu->gpr[HV_RBX] = TEST_VA + 0x8000;
    if (r->fetch)
        TEST_LOAD(m, code_jump);
    else if (r->write)
        TEST_LOAD(m, code_write);
    else
        TEST_LOAD(m, code_read);
}

static void test_paging(struct test_machine *m)
{
    for (unsigned i = 0; i < HV_ARRAY_LEN(paging_rows); i++) {
        const struct paging_row *r = &paging_rows[i];
        /* HLT in user mode is #GP: that is how an allowed access ends there. */
        int allowed = r->user ? 13 : -1, vector;

        prepare_paging(m, r);
        vector = test_run(m);
        if (r->vector < 0)
            TAP_OK(vector == allowed, "%s is allowed", r->what);
        else
            TAP_OK(vector == r->vector && test_get64(m, m->cpu->gpr[HV_RSP]) == r->error &&
                       m->cpu->cr2 == TEST_VA + 0x8000,
                   "%s faults with error code %#x", r->what, r->error);
    }
}

static void test_accessed_dirty(struct test_machine *m)
{
    test_reset(m);
    test_map(m, 8, 0x40000, P | W);
    m->cpu->gpr[HV_RBX] = TEST_VA + 0x8000;
    TEST_LOAD(m, code_read);
    (void)test_run(m);
    TAP_OK((test_get64(m, TEST_PT + 64) & (A | D)) == A, "a read sets A");
    m->cpu->rip = TEST_CODE + 0x100;
    test_load(m, TEST_CODE + 0x100, code_write, code_write_end);
    (void)test_run(m);
    TAP_OK((test_get64(m, TEST_PT + 64) & (A | D)) == (A | D),
           "a write through the same TLB entry sets D");
}

TEST_ASM(code_cross, ".code64", "mov %rax, (%rbx); mov (%rbx), %rcx; hlt");

static void test_page_crossing(struct test_machine *m)
{
    test_reset(m);
    test_map(m, 8, 0x40000, P | W);
    test_map(m, 9, 0x50000, P | W);
    m->cpu->gpr[HV_RBX] = TEST_VA + 0x8ffd;
    m->cpu->gpr[HV_RAX] = 0x1122334455667788;
    TEST_LOAD(m, code_cross);
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RCX] == 0x1122334455667788,
           "an access over two pages");
    TAP_OK(m->ram[0x40ffd] == 0x88 && m->ram[0x50000] == 0x55, "lands in both");

    test_reset(m);
    test_map(m, 8, 0x40000, P | W);
    m->cpu->gpr[HV_RBX] = TEST_VA + 0x8ffd;
    m->cpu->gpr[HV_RAX] = ~0ull;
    TEST_LOAD(m, code_cross);
    TAP_OK(test_run(m) == 14 && m->cpu->cr2 == TEST_VA + 0x9000 && m->ram[0x40ffd] == 0,
           "a fault in the second page leaves the first as it was");
}

static void test_crossing_code(struct test_machine *m)
{
    test_reset(m);
    test_map(m, 8, 0x40000, P);
    test_map(m, 9, 0x50000, P);
    memcpy(m->ram + 0x40ffe, "\xb8\x78", 2); /* mov $0x12345678, %eax; hlt */
    memcpy(m->ram + 0x50000, "\x56\x34\x12\xf4", 4);
    m->cpu->rip = TEST_VA + 0x8ffe;
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RAX] == 0x12345678, "an instruction over two pages");
    m->ram[0x60000] = 0xaa;
    memcpy(m->ram + 0x60001, "\x34\x12\xf4", 3);
    test_map(m, 9, 0x60000, P);
    TEST_ENGINE.flush(m->v);
    m->cpu->rip = TEST_VA + 0x8ffe;
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RAX] == 0x1234aa78,
           "whose second page is another now");
}

TEST_ASM(code_invlpg, ".code64",
         "mov (%rbx), %rax; mov %rdx, (%rsi); invlpg (%rbx); mov (%rbx), %rcx; hlt");
TEST_ASM(
    code_cr3, ".code64",
    "mov (%rbx), %rax; mov %rdx, (%rsi); mov %cr3, %rdi; mov %rdi, %cr3; mov (%rbx), %rcx; hlt");

static void test_invalidation(struct test_machine *m)
{
    const uint8_t *const codes[][2] = {{code_invlpg, code_invlpg_end}, {code_cr3, code_cr3_end}};

    for (unsigned i = 0; i < 2; i++) {
        test_reset(m);
        test_map(m, 8, 0x40000, P | W);
        m->ram[0x40000] = 1;
        m->ram[0x41000] = 2;
        m->cpu->gpr[HV_RBX] = TEST_VA + 0x8000;
        m->cpu->gpr[HV_RSI] = TEST_PT + 64;
        m->cpu->gpr[HV_RDX] = 0x41000 | P;
        test_load(m, TEST_CODE, codes[i][0], codes[i][1]);
        TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RAX] == 1 && m->cpu->gpr[HV_RCX] == 2,
               "%s forgets a translation", i ? "a write of CR3" : "INVLPG");
    }
}

/* ---- exceptions */

static void test_frames(struct test_machine *m)
{
    uint64_t rsp;

    test_reset(m);
    TEST_LOAD(m, code_ud2);
    TAP_OK(test_run(m) == 6, "UD2 is #UD");
    rsp = m->cpu->gpr[HV_RSP];
    TAP_OK(rsp == TEST_STACK - 40, "64-bit mode pushes five words");
    TAP_OK(test_get64(m, rsp) == TEST_CODE + 1 && test_get64(m, rsp + 8) == TEST_CODE64 &&
               test_get64(m, rsp + 24) == TEST_STACK && test_get64(m, rsp + 32) == TEST_DATA,
           "RIP of the instruction, CS, RSP, SS");
    TAP_OK(test_get64(m, rsp + 16) & HV_EFLAGS_RF, "RF in the image of a fault");

    test_reset(m);
    TEST_LOAD(m, code_div);
    TAP_OK(test_run(m) == 0, "division by zero is #DE");

    test_reset(m);
    test_gate(m, 6, 14, 0, 1);
    m->cpu->gpr[HV_RSP] -= 5;
    TEST_LOAD(m, code_ud2);
    TAP_OK(test_run(m) == 6 && m->cpu->gpr[HV_RSP] == TEST_IST1 - 40,
           "an IST gate switches stacks");

    test_reset_user(m);
    TEST_LOAD(m, code_ud2);
    TAP_OK(test_run(m) == 6 && m->cpu->gpr[HV_RSP] == TEST_RSP0 - 40 && hv_cpu_cpl(m->cpu) == 0,
           "from user mode the stack is RSP0's");
    TAP_OK(test_get64(m, TEST_RSP0 - 8) == (TEST_USER_DATA | 3) && m->cpu->seg[HV_SS].selector == 0,
           "SS is saved and null");
}

static void test_software_interrupts(struct test_machine *m)
{
    test_reset_user(m);
    TEST_LOAD(m, code_int);
    TAP_OK(test_run(m) == 13 && test_get64(m, m->cpu->gpr[HV_RSP]) == 32 * 8 + 2,
           "INT n through a gate of DPL 0 is #GP from user mode");
    TAP_OK(test_get64(m, m->cpu->gpr[HV_RSP] + 8) == TEST_VA, "at the INT");
    test_reset_user(m);
    test_gate(m, 32, 15, 3, 0);
    m->cpu->rflags |= HV_EFLAGS_IF;
    TEST_LOAD(m, code_int);
    TAP_OK(test_run(m) == 32 && test_get64(m, m->cpu->gpr[HV_RSP]) == TEST_VA + 2,
           "through one of DPL 3 it returns after the INT");
    TAP_OK(m->cpu->rflags & HV_EFLAGS_IF, "a trap gate leaves IF");
}

static void test_nested_faults(struct test_machine *m)
{
    test_reset(m);
    m->ram[TEST_IDT + 14 * 16 + 5] &= 0x7f;
    m->cpu->gpr[HV_RBX] = TEST_VA;
    TEST_LOAD(m, code_read);
    TAP_OK(test_run(m) == 8 && test_get64(m, m->cpu->gpr[HV_RSP]) == 0,
           "#NP while delivering #PF is #DF");

    test_reset(m);
    m->ram[TEST_IDT + 6 * 16 + 5] &= 0x7f;
    TEST_LOAD(m, code_ud2);
    TAP_OK(test_run(m) == 11 && test_get64(m, m->cpu->gpr[HV_RSP]) == 6 * 8 + 3,
           "after a benign exception it is #NP with the vector and EXT");

    test_reset(m);
    m->cpu->idtr.limit = 0;
    TEST_LOAD(m, code_ud2);
    TAP_OK(TEST_ENGINE.run(m->v) == HV_RUN_TRIPLE_FAULT, "without an IDT it is a triple fault");
}

static void test_canonical(struct test_machine *m)
{
    test_reset(m);
    m->cpu->gpr[HV_RBX] = 0x8000000000000000;
    TEST_LOAD(m, code_read);
    TAP_OK(test_run(m) == 13, "an address that is not canonical is #GP");
    test_reset(m);
    m->cpu->gpr[HV_RBX] = 0x800000000000;
    TEST_LOAD(m, code_jump);
    TAP_OK(test_run(m) == 13 && test_get64(m, m->cpu->gpr[HV_RSP] + 8) == TEST_CODE,
           "so is such a target, at the jump");
}

/* ---- interrupts */

TEST_ASM(code_sti, ".code64", "sti; nop; nop; nop; hlt");

static void test_interrupts(struct test_machine *m)
{
    test_reset(m);
    TEST_LOAD(m, code_sti);
    m->v->irq_window = true;
    TAP_OK(TEST_ENGINE.run(m->v) == HV_RUN_IRQ_WINDOW && m->cpu->rip == TEST_CODE + 2,
           "STI opens the window one instruction later");
    m->v->irq_window = false;
    TEST_ENGINE.inject(m->v, 40);
    TAP_OK(test_run(m) == 40 && !(m->cpu->rflags & HV_EFLAGS_IF) &&
               test_get64(m, m->cpu->gpr[HV_RSP]) == TEST_CODE + 2,
           "an interrupt is delivered there");
    test_reset(m);
    TEST_LOAD(m, code_loop);
    atomic_store(&m->v->attention, HV_ATTN_EVENT);
    TAP_OK(TEST_ENGINE.run(m->v) == HV_RUN_ATTENTION && m->cpu->rip == TEST_CODE,
           "attention ends a run at a boundary");
    atomic_store(&m->v->attention, 0);
}

TEST_ASM(code_tf, ".code64", "pushfq; orl $0x100, (%rsp); popfq; nop; nop; hlt");

/* ---- AVX: SDM volume 2, 2.4 */

TEST_ASM(code_vaddps, ".code64", "vaddps %ymm1, %ymm2, %ymm3; hlt");
TEST_ASM(code_vgather, ".code64", "vpgatherdd %xmm3, (%rbx,%xmm2,4), %xmm1; hlt");
TEST_ASM(code_vmaskmov, ".code64", "vmaskmovps %ymm1, %ymm2, (%rbx); hlt");
TEST_ASM(code_zmm, ".code64", "vaddps %zmm1, %zmm2, %zmm3; hlt");
TEST_ASM(code_fma4, ".code64", "vfmaddps %xmm1, %xmm2, %xmm3, %xmm4; hlt");
TEST_ASM(code_xop, ".code64", "vpcmov %xmm1, %xmm2, %xmm3, %xmm4; hlt");

#define AVX_ROW(code) code, code##_end

static const struct avx_row {
    const char *what;
    const uint8_t *from, *to;
    uint64_t cr0, cr4, xcr0;
    int vector; /* -1: runs */
} avx_rows[] = {
    {"VADDPS", AVX_ROW(code_vaddps), 0, HV_CR4_OSXSAVE, 7, -1},
    {"VADDPS with CR0.EM", AVX_ROW(code_vaddps), HV_CR0_EM, HV_CR4_OSXSAVE, 7, -1},
    {"VADDPS without CR4.OSXSAVE", AVX_ROW(code_vaddps), 0, 0, 7, 6},
    {"VADDPS without AVX in XCR0", AVX_ROW(code_vaddps), 0, HV_CR4_OSXSAVE, 3, 6},
    {"VADDPS with CR0.TS", AVX_ROW(code_vaddps), HV_CR0_TS, HV_CR4_OSXSAVE, 7, 7},
    {"VPGATHERDD", AVX_ROW(code_vgather), 0, HV_CR4_OSXSAVE, 7, -1},
    {"VPGATHERDD without AVX in XCR0", AVX_ROW(code_vgather), 0, HV_CR4_OSXSAVE, 3, 6},
    {"VMASKMOVPS with CR0.TS", AVX_ROW(code_vmaskmov), HV_CR0_TS, HV_CR4_OSXSAVE, 7, 7},
    {"AVX-512", AVX_ROW(code_zmm), 0, HV_CR4_OSXSAVE, 7, 6},
    {"FMA4", AVX_ROW(code_fma4), 0, HV_CR4_OSXSAVE, 7, 6},
    {"XOP", AVX_ROW(code_xop), 0, HV_CR4_OSXSAVE, 7, 6},
};

static void test_avx_conditions(struct test_machine *m)
{
    for (unsigned i = 0; i < HV_ARRAY_LEN(avx_rows); i++) {
        const struct avx_row *r = &avx_rows[i];

        test_reset(m);
        m->cpu->cr0 |= r->cr0;
        m->cpu->cr4 |= r->cr4;
        m->cpu->xcr0 = r->xcr0;
        test_load(m, TEST_CODE, r->from, r->to);
        TAP_OK(test_run(m) == r->vector, "%s %s", r->what,
               r->vector == 6   ? "is #UD"
               : r->vector == 7 ? "is #NM"
                                : "runs");
    }
}

static void set_avx(struct test_machine *m)
{
    test_reset(m);
    m->cpu->cr4 |= HV_CR4_OSXSAVE;
    m->cpu->xcr0 = 7;
    test_map(m, 8, 0x40000, P | W);
    m->cpu->gpr[HV_RBX] = TEST_VA + 0x8ff8;
}

/* Two elements before the end of the page, then one beyond. */
static void test_partial_accesses(struct test_machine *m)
{
    uint8_t *xsave = m->cpu->xsave;

    set_avx(m);
    memset(m->ram + 0x40ff8, 0x44, 8);
    for (unsigned i = 0; i < 4; i++) {
        hv_fx_put32(xsave, HV_FX_XMM(2) + 4 * i, i);
        hv_fx_put32(xsave, HV_FX_XMM(3) + 4 * i, i == 1 ? 5 : 1u << 31);
    }
    TEST_LOAD(m, code_vgather);
    TAP_OK(test_run(m) == 14 && m->cpu->cr2 == TEST_VA + 0x9000, "a gather faults at its element");
    TAP_OK(hv_fx_get64(xsave, HV_FX_XMM(1)) == 0x44444444 && !hv_fx_get64(xsave, HV_FX_XMM(3)) &&
               hv_fx_get64(xsave, HV_FX_XMM(3) + 8) == 0x8000000080000000,
           "those before are loaded and off the mask");

    set_avx(m);
    memset(xsave + HV_FX_XMM(1), 0x55, 16);
    hv_fx_put64(xsave, HV_FX_XMM(2), 0x8000000080000000);
    TEST_LOAD(m, code_vmaskmov);
    TAP_OK(test_run(m) == -1 && m->ram[0x40fff] == 0x55, "a masked store up to the end of a page");
    set_avx(m);
    memset(xsave + HV_FX_XMM(1), 0x55, 16);
    hv_fx_put64(xsave, HV_FX_XMM(2), 1ull << 63);
    hv_fx_put64(xsave, HV_FX_XMM(2) + 8, 1ull << 31);
    TEST_LOAD(m, code_vmaskmov);
    TAP_OK(test_run(m) == 14 && m->cpu->cr2 == TEST_VA + 0x9000 && m->ram[0x40fff] == 0,
           "one that faults beyond it has stored nothing");
}

/* Images over two pages, which follow each other in memory or do not. */
TEST_ASM(code_xsave, ".code64", "xsave64 (%rbx); vzeroall; xrstor64 (%rbx); hlt");

static void test_xsave_pages(struct test_machine *m)
{
    for (unsigned apart = 0; apart < 2; apart++) {
        set_avx(m);
        test_map(m, 9, apart ? 0x50000 : 0x41000, P | W);
        m->cpu->gpr[HV_RBX] = TEST_VA + 0x8e00;
        m->cpu->gpr[HV_RAX] = 7;
        memset(m->cpu->xsave + HV_XS_YMM_HIGH(5), 0x66, 16);
        TEST_LOAD(m, code_xsave);
        TAP_OK(test_run(m) == -1 && m->cpu->xsave[HV_XS_YMM_HIGH(5)] == 0x66 &&
                   m->ram[(apart ? 0x50000 : 0x41000) + HV_XS_YMM_HIGH(5) - 0x200] == 0x66,
               "XSAVE and XRSTOR over two pages that %s",
               apart ? "lie apart" : "follow each other");
    }
    set_avx(m);
    m->cpu->gpr[HV_RBX] = TEST_VA + 0x8e00;
    m->cpu->gpr[HV_RAX] = 7;
    TEST_LOAD(m, code_xsave);
    TAP_OK(test_run(m) == 14 && m->cpu->cr2 == TEST_VA + 0x9000 && m->ram[0x40e18] == 0,
           "XSAVE that faults in the second page has stored nothing");
}

static void test_avx(struct test_machine *m)
{
    if (!(hv_xstate_supported() & HV_XSTATE_AVX)) {
        TAP_OK(true, "AVX # SKIP the host has none");
        return;
    }
    test_avx_conditions(m);
    test_partial_accesses(m);
    test_xsave_pages(m);
}

TEST_ASM(code_watch, ".code64",
         "movb $1, 0x11003; mov 0x11004, %eax; movl $2, 0x11002; mov 0x11000, %rax; nop; hlt");

/* #DB comes after the access, and DR6 tells which breakpoint: SDM, Debug Registers. */
static void test_watch(struct test_machine *m)
{
    static const struct {
        const char *what;
        uint64_t address;
        unsigned type_and_length; /* of DR7 */
        unsigned after;           /* offset of the instruction before which #DB comes; 0: none */
    } rows[] = {
        {"a write of the watched byte", 0x11003, 1, 8},
        {"a wider write over it", 0x11005, 1, 26},
        {"a read, where reads are watched", 0x11004, 3 | 3 << 2, 15},
        {"a wider read over it", 0x11001, 3, 34},
        {"an access beside it", 0x11008, 3 | 3 << 2, 0},
    };

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++) {
        int vector;

        test_reset(m);
        TEST_LOAD(m, code_watch);
        m->cpu->dr[1] = rows[i].address;
        m->cpu->dr7 = HV_DR7_INIT | 1 << 2 | (uint64_t)rows[i].type_and_length << 20;
        vector = test_run(m);
        if (rows[i].after)
            TAP_OK(vector == 1 && (m->cpu->dr6 & 15) == 2 &&
                       test_get64(m, m->cpu->gpr[HV_RSP]) == TEST_CODE + rows[i].after,
                   rows[i].what);
        else
            TAP_OK(vector == -1, rows[i].what);
    }
}

TEST_ASM(code_unaligned, ".code64", "mov 0x40001001, %eax; ud2");

static void test_alignment(struct test_machine *m)
{
    for (unsigned on = 0; on < 2; on++) {
        test_reset_user(m);
        TEST_LOAD(m, code_unaligned);
        m->cpu->cr0 |= HV_CR0_AM;
        m->cpu->rflags |= on ? HV_EFLAGS_AC : 0;
        TAP_OK(test_run(m) == (on ? HV_VEC_AC : HV_VEC_UD),
               on ? "a user's unaligned access with EFLAGS.AC gives #AC" : "and none without");
    }
}

static void test_single_step(struct test_machine *m)
{
    test_reset(m);
    TEST_LOAD(m, code_tf);
    TAP_OK(test_run(m) == 1 && (m->cpu->dr6 & (1 << 14)), "TF gives #DB with DR6.BS");
    TAP_OK(test_get64(m, m->cpu->gpr[HV_RSP]) == TEST_CODE + (uint64_t)(code_tf_end - code_tf) - 2,
           "after the instruction that follows POPF");
    test_reset(m);
    TEST_LOAD(m, code_sti);
    m->cpu->dr[2] = TEST_CODE + 2;
    m->cpu->dr7 = HV_DR7_INIT | 1 << 4;
    TAP_OK(test_run(m) == 1 && (m->cpu->dr6 & 15) == 4 &&
               test_get64(m, m->cpu->gpr[HV_RSP]) == TEST_CODE + 2,
           "an instruction breakpoint gives #DB before it");
}

/* ---- privilege */

static void test_fast_calls(struct test_machine *m)
{
    test_reset_user(m);
    m->cpu->lstar = TEST_CODE + 0x200;
    m->cpu->sfmask = HV_EFLAGS_DF;
    m->cpu->rflags |= HV_EFLAGS_DF | HV_EFLAGS_CF;
    m->ram[TEST_CODE + 0x200] = 0xf4;
    TEST_LOAD(m, code_syscall);
    TAP_OK(test_run(m) == -1 && hv_cpu_cpl(m->cpu) == 0 && m->cpu->gpr[HV_RCX] == TEST_VA + 7,
           "SYSCALL goes to LSTAR with the return address in RCX");
    TAP_OK(!(m->cpu->rflags & HV_EFLAGS_DF) && (m->cpu->gpr[HV_R11] & HV_EFLAGS_DF) &&
               m->cpu->seg[HV_CS].selector == TEST_CODE64 &&
               m->cpu->seg[HV_SS].selector == TEST_DATA,
           "masks flags and loads segments");
    m->cpu->rip = TEST_CODE + 0x300;
    test_load(m, TEST_CODE + 0x300, code_sysret, code_sysret_end);
    TAP_OK(test_run(m) == 13 && test_get64(m, m->cpu->gpr[HV_RSP] + 8) == TEST_VA + 7 &&
               test_get64(m, m->cpu->gpr[HV_RSP] + 16) == (TEST_USER_CODE64 | 3),
           "SYSRET comes back to user mode (whose HLT is #GP)");
}

TEST_ASM(code_syscall32, ".code32", "mov $0xbb8, %eax; syscall; hlt");
TEST_ASM(code_sysret32, ".code32", "sysret");
TEST_ASM(code_sysretl, ".code64", "sysretl");
TEST_ASM(code_sysenter, ".code32", "sysenter; hlt");
TEST_ASM(code_sysexit, ".code64", "sysexitl");

/* A user's compatibility mode; what it calls is at TEST_CODE + 0x200 and 0x240, both HLT. */
static void prepare_compat(struct test_machine *m, enum hv_cpu_vendor vendor)
{
    test_reset_user(m);
    m->vendor = vendor;
    m->cpu->seg[HV_CS] = test_segment(TEST_USER_CODE32 | 3, 0xcfb);
    m->cpu->lstar = TEST_CODE + 0x200;
    m->cpu->cstar = m->cpu->sysenter_eip = TEST_CODE + 0x240;
    m->cpu->sysenter_cs = TEST_CODE64;
    m->cpu->sysenter_esp = TEST_STACK;
    m->cpu->sfmask = HV_EFLAGS_DF;
    m->cpu->rflags |= HV_EFLAGS_DF | HV_EFLAGS_CF;
    m->ram[TEST_CODE + 0x200] = m->ram[TEST_CODE + 0x240] = 0xf4;
}

static void test_compat_syscall(struct test_machine *m)
{
    prepare_compat(m, HV_VENDOR_AMD);
    TEST_LOAD(m, code_syscall32);
    TAP_OK(test_run(m) == -1 && m->cpu->rip == TEST_CODE + 0x241 && hv_cpu_64bit(m->cpu) &&
               hv_cpu_cpl(m->cpu) == 0 && m->cpu->gpr[HV_RCX] == TEST_VA + 7,
           "AMD: SYSCALL of compatibility mode goes to CSTAR in 64-bit mode");
    TAP_OK(!(m->cpu->rflags & HV_EFLAGS_DF) && (m->cpu->rflags & HV_EFLAGS_CF) &&
               (m->cpu->gpr[HV_R11] & HV_EFLAGS_DF) && m->cpu->seg[HV_CS].selector == TEST_CODE64 &&
               m->cpu->seg[HV_SS].selector == TEST_DATA && m->cpu->gpr[HV_RSP] == TEST_VA + 0x2000,
           "AMD: masks flags, loads segments, leaves RSP alone");
    m->cpu->rip = TEST_CODE + 0x300;
    m->cpu->gpr[HV_RCX] |= 0x1234ull << 32;
    test_load(m, TEST_CODE + 0x300, code_sysretl, code_sysretl_end);
    TAP_OK(test_run(m) == 13 && test_get64(m, m->cpu->gpr[HV_RSP] + 8) == TEST_VA + 7 &&
               test_get64(m, m->cpu->gpr[HV_RSP] + 16) == (TEST_USER_CODE32 | 3) &&
               (test_get64(m, m->cpu->gpr[HV_RSP] + 24) & HV_EFLAGS_DF) &&
               test_get64(m, m->cpu->gpr[HV_RSP] + 40) == (TEST_USER_DATA | 3),
           "AMD: SYSRET comes back to compatibility mode (whose HLT is #GP)");

    prepare_compat(m, HV_VENDOR_AMD);
    TEST_LOAD(m, code_syscall32);
    m->cpu->efer &= ~(uint64_t)HV_EFER_SCE;
    TAP_OK(test_run(m) == 6, "AMD: without EFER.SCE it is #UD");
    prepare_compat(m, HV_VENDOR_AMD);
    TEST_LOAD(m, code_syscall32);
    m->cpu->rflags |= HV_EFLAGS_TF;
    m->cpu->sfmask |= HV_EFLAGS_TF;
    m->cpu->rip = TEST_VA + 5; /* of SYSCALL */
    TAP_OK(test_run(m) == -1 && (m->cpu->gpr[HV_R11] & HV_EFLAGS_TF),
           "AMD: a TF that SFMASK clears does not trap");
    prepare_compat(m, HV_VENDOR_INTEL);
    TEST_LOAD(m, code_syscall32);
    TAP_OK(test_run(m) == 6 && test_get64(m, m->cpu->gpr[HV_RSP]) == TEST_VA + 5,
           "Intel: SYSCALL of compatibility mode is #UD");
}

static void test_compat_sysenter(struct test_machine *m)
{
    prepare_compat(m, HV_VENDOR_INTEL);
    TEST_LOAD(m, code_sysenter);
    TAP_OK(test_run(m) == -1 && m->cpu->rip == TEST_CODE + 0x241 &&
               m->cpu->gpr[HV_RSP] == TEST_STACK && hv_cpu_cpl(m->cpu) == 0,
           "Intel: SYSENTER of compatibility mode goes to SYSENTER_EIP");
    prepare_compat(m, HV_VENDOR_AMD);
    TEST_LOAD(m, code_sysenter);
    TAP_OK(test_run(m) == 6 && test_get64(m, m->cpu->gpr[HV_RSP]) == TEST_VA,
           "AMD: it is #UD in long mode");
    test_reset(m);
    m->cpu->sysenter_cs = TEST_CODE64;
    TEST_LOAD(m, code_sysexit);
    TAP_OK(test_run(m) == 6, "AMD: and SYSEXIT");
    m->vendor = HV_VENDOR_INTEL;
}

static void test_legacy_syscall(struct test_machine *m)
{
    test_reset_32(m);
    TEST_LOAD(m, code_syscall32);
    m->cpu->efer = HV_EFER_SCE;
    TAP_OK(test_run(m) == 6, "Intel: SYSCALL outside long mode is #UD");
    m->vendor = HV_VENDOR_AMD;
    test_reset_32(m);
    TEST_LOAD(m, code_syscall32);
    test_load(m, TEST_CODE + 0x240, code_sysret32, code_sysret32_end);
    m->cpu->efer = HV_EFER_SCE;
    m->cpu->star =
        (uint64_t)TEST_USER_CODE32 << 48 | (uint64_t)TEST_CODE32 << 32 | (TEST_CODE + 0x240);
    m->cpu->tr = (struct hv_segment){
        .selector = TEST_TSS_SEL, .attr = 0x8b, .limit = 0x67, .base = TEST_TSS};
    test_put64(m, TEST_TSS + 4, (uint64_t)TEST_DATA << 32 | TEST_RSP0);
    TAP_OK(test_run(m) == 13 && m->cpu->gpr[HV_RSP] == TEST_RSP0 - 24 &&
               (uint32_t)test_get64(m, TEST_RSP0 - 20) == TEST_CODE + 7 &&
               (uint32_t)test_get64(m, TEST_RSP0 - 16) == (TEST_USER_CODE32 | 3),
           "AMD: it goes to STAR's EIP, and SYSRET to user mode (whose HLT is #GP)");
    m->vendor = HV_VENDOR_INTEL;
}

static void push_frame(struct test_machine *m, uint64_t rip, uint64_t cs, uint64_t flags,
                       uint64_t rsp, uint64_t ss)
{
    const uint64_t frame[] = {rip, cs, flags, rsp, ss};

    m->cpu->gpr[HV_RSP] = TEST_STACK - sizeof(frame);
    memcpy(m->ram + m->cpu->gpr[HV_RSP], frame, sizeof(frame));
}

TEST_ASM(code_user32, ".code32", "mov $0x11223344, %eax; pushl %eax; int $33");

static void test_iret(struct test_machine *m)
{
    test_reset_user(m);
    test_reset(m);
    test_map(m, 0, TEST_CODE + 0x1000, 7);
    test_map(m, 1, 0x30000, 7);
    test_gate(m, 33, 14, 3, 0);
    TEST_LOAD(m, code_iretq);
    test_load(m, TEST_CODE + 0x1000, code_user32, code_user32_end);
    push_frame(m, TEST_VA, TEST_USER_CODE32 | 3, HV_EFLAGS_IF | 2, TEST_VA + 0x2000,
               TEST_USER_DATA | 3);
    TAP_OK(test_run(m) == 33, "IRETQ to 32-bit user code, which calls back");
    TAP_OK(test_get64(m, m->cpu->gpr[HV_RSP] + 24) == TEST_VA + 0x1ffc &&
               m->cpu->gpr[HV_RAX] == 0x11223344 && m->ram[0x30ffc] == 0x44,
           "it pushed four bytes on its stack");
    TAP_OK(test_get64(m, m->cpu->gpr[HV_RSP] + 16) & HV_EFLAGS_IF, "with the flags of the frame");

    test_reset(m);
    TEST_LOAD(m, code_iretq);
    push_frame(m, TEST_CODE, TEST_DATA, 2, TEST_STACK, TEST_DATA);
    TAP_OK(test_run(m) == 13 && test_get64(m, m->cpu->gpr[HV_RSP]) == TEST_DATA,
           "IRET to a data segment is #GP with the selector");
}

TEST_ASM(code_invlpg_iretq, ".code64", "invlpg (%rsp); iretq");
TEST_ASM(code_int_there, ".code64", "int $34");

/* Descriptors, gates and stacks are reached through the TLB too. */
static void test_frame_pages(struct test_machine *m)
{
    const uint64_t frame = TEST_VA + 0x9000 - 16; /* the last three words are in the next page */

    test_reset(m);
    test_map(m, 8, 0x40000, P | W);
    TEST_LOAD(m, code_iretq);
    push_frame(m, TEST_CODE + 0x100, TEST_CODE64, 2, TEST_STACK, TEST_DATA);
    memcpy(m->ram + 0x41000 - 16, m->ram + m->cpu->gpr[HV_RSP], 16);
    memcpy(m->ram + 0x50000, m->ram + m->cpu->gpr[HV_RSP] + 16, 24);
    m->ram[TEST_CODE + 0x100] = 0xf4;
    m->cpu->gpr[HV_RSP] = frame;
    test_gate(m, 14, 14, 0, 1); /* has a stack of its own, this one going nowhere */
    TAP_OK(test_run(m) == 14 && m->cpu->cr2 == TEST_VA + 0x9000 &&
               test_get64(m, m->cpu->gpr[HV_RSP] + 32) == frame,
           "IRET with its frame's second page missing faults there, RSP as before");
    test_map(m, 9, 0x50000, P);
    m->cpu->rip = TEST_CODE;
    m->cpu->gpr[HV_RSP] = frame;
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RSP] == TEST_STACK, "and returns when it is there");

    test_reset(m);
    test_map(m, 8, 0x40000, P | W);
    TEST_LOAD(m, code_iretq);
    test_load(m, TEST_CODE + 0x200, code_invlpg_iretq, code_invlpg_iretq_end);
    m->ram[TEST_CODE + 0x100] = m->ram[TEST_CODE + 0x180] = 0xf4;
    push_frame(m, TEST_CODE + 0x100, TEST_CODE64, 2, TEST_STACK, TEST_DATA);
    memcpy(m->ram + 0x40000, m->ram + m->cpu->gpr[HV_RSP], 40);
    memcpy(m->ram + 0x50000, m->ram + m->cpu->gpr[HV_RSP], 40);
    test_put64(m, 0x50000, TEST_CODE + 0x180);
    m->cpu->gpr[HV_RSP] = TEST_VA + 0x8000;
    (void)test_run(m);
    test_map(m, 8, 0x50000, P | W);
    m->cpu->rip = TEST_CODE + 0x200;
    m->cpu->gpr[HV_RSP] = TEST_VA + 0x8000;
    TAP_OK(test_run(m) == -1 && m->cpu->rip == TEST_CODE + 0x181,
           "after INVLPG it reads its frame from where the page is now");
}

static void test_gate_pages(struct test_machine *m)
{
    test_reset_user(m);
    test_gate(m, 34, 14, 3, 0);
    test_map(m, 8, TEST_TSS & ~0xfffu, P | W);
    m->cpu->tr.base = TEST_VA + 0x8000 + (TEST_TSS & 0xfff);
    test_map(m, 9, 0x50000, P | W);
    test_put64(m, TEST_TSS + 4, TEST_VA + 0xa000);
    TEST_LOAD(m, code_int_there);
    TAP_OK(test_run(m) == 34 && m->cpu->gpr[HV_RSP] == TEST_VA + 0xa000 - 40 &&
               (test_get64(m, TEST_PT + 9 * 8) & (A | D)) == (A | D) &&
               (test_get64(m, TEST_PT + 8 * 8) & (A | D)) == A,
           "an interrupt's stack page becomes dirty, the TSS's only accessed");
    test_map(m, 9, 0x50000, P);
    m->v->domain->engine->flush(m->v);
    m->cpu->rip = TEST_VA;
    m->cpu->gpr[HV_RSP] = TEST_VA + 0x2000;
    m->cpu->seg[HV_CS] = test_segment(TEST_USER_CODE64 | 3, 0xafb);
    m->cpu->seg[HV_SS] = test_segment(TEST_USER_DATA | 3, 0xcf3);
    test_gate(m, 8, 14, 0, 1);
    TAP_OK(test_run(m) == 8, "and when it can no longer be written, that is a double fault");
}

TEST_ASM(code_call_there, ".code64",
         "1: mov -8(%rsp), %rbx; mov -4104(%rsp), %rbx; lea 3f(%rip), %rax; cmp $1, %ecx; je 2f;"
         "mov %rbp, %rsp; 2: call *%rax; hlt; 3: dec %ecx; jnz 4f; hlt; 4: mov %rdx, %rsp; jmp 1b");

/* The store of a call's return address sets the dirty bit without a fault. */
static void test_call_clean(struct test_machine *m)
{
    test_reset(m);
    test_map(m, 8, 0x40000, P | W);
    test_map(m, 7, 0x50000, P | W);
    TEST_LOAD(m, code_call_there);
    m->cpu->gpr[HV_RBP] = TEST_STACK;
    m->cpu->gpr[HV_RDX] = m->cpu->gpr[HV_RSP] = TEST_VA + 0x9000;
    m->cpu->gpr[HV_RCX] = 2;
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RSP] == TEST_VA + 0x9000 - 8 &&
               !test_get64(m, 0x40ff0) && test_get64(m, 0x40ff8),
           "an indirect call pushes once on a page that is clean");
}

TEST_ASM(code_spaces, ".code64",
         "1: mov (%rsi), %eax; add $4096, %rsi; dec %ecx; jnz 1b; mov %rbx, %cr3; mov %rdx, %cr3;"
         "mov (%rdi), %eax; hlt");

/* What an address space has in the TLB may be kept while another is current. */
static void test_spaces(struct test_machine *m)
{
    test_reset(m);
    TEST_LOAD(m, code_spaces);
    m->cpu->cr4 |= HV_CR4_PCIDE;
    m->cpu->gpr[HV_RSI] = m->cpu->gpr[HV_RDI] = 0x100000;
    m->cpu->gpr[HV_RCX] = 2048;
    m->cpu->gpr[HV_RBX] = TEST_PML4 | 1;
    m->cpu->gpr[HV_RDX] = TEST_PML4 | 1ull << 63;
    TAP_OK(test_run(m) == -1, "an address space of many pages is left and comes back");
}

/* ---- modes */

TEST_ASM(code_enter_long, ".code32",
         "mov $0x1000, %eax; mov %eax, %cr3; mov $0x20, %eax; mov %eax, %cr4;"
         "mov $0xc0000080, %ecx; rdmsr; or $0x100, %eax; wrmsr;"
         "mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0;"
         "ljmp $0x08, $(0x10000 + code_enter_long_64 - code_enter_long);"
         "code_enter_long_64: .code64; movabs $0x1122334455667788, %rax; mov %cs, %ebx; hlt");
TEST_ASM(
    code_flat, ".code32",
    "mov $0x30000, %ebx; movl $0x12345678, (%ebx); pusha; popa; mov 2(%ebx), %ax; call 1f; hlt;"
    "1: das; lea 1(%ebx,%ebx,2), %edx; ret");
TEST_ASM(code_limit, ".code32", "mov $0x10, %ax; mov %ax, %ds; mov %fs:0x100, %eax; hlt");
TEST_ASM(
    code_real, ".code16",
    "mov $0x3000, %ax; mov %ax, %ds; movw $0x1234, 4; mov $0xffff, %sp; mov 4, %bx; add %bx, %bx;"
    "int $0x21; hlt");

static void test_modes(struct test_machine *m)
{
    test_reset_32(m);
    TEST_LOAD(m, code_enter_long);
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RAX] == 0x1122334455667788 &&
               m->cpu->gpr[HV_RBX] == TEST_CODE64,
           "32-bit code enters long mode");
    TAP_OK(hv_cpu_64bit(m->cpu) && (m->cpu->efer & HV_EFER_LMA), "and LMA is set");

    test_reset_32(m);
    TEST_LOAD(m, code_flat);
    TAP_OK(test_run(m) == -1 && (uint16_t)m->cpu->gpr[HV_RDX] == 1 && m->ram[0x30002] == 0x34,
           "32-bit code without paging");

    test_reset_32(m);
    TEST_LOAD(m, code_limit);
    m->cpu->seg[HV_FS] =
        (struct hv_segment){.selector = 0x10, .attr = 0x493, .limit = 0xff, .base = 0x30000};
    TAP_OK(test_run(m) == 13, "an offset beyond a segment's limit is #GP");
    m->cpu->seg[HV_FS].limit = 0x103;
    m->cpu->rip = TEST_CODE;
    test_put64(m, 0x30100, 0x55667788);
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RAX] == 0x55667788, "one just within is not");

    test_reset_32(m);
    m->cpu->cr0 = HV_CR0_ET;
    for (unsigned i = 0; i < HV_NR_SEG; i++)
        m->cpu->seg[i] = (struct hv_segment){.attr = 0x93, .limit = 0xffff};
    m->cpu->seg[HV_CS] =
        (struct hv_segment){.selector = 0x1000, .attr = 0x9b, .limit = 0xffff, .base = 0x10000};
    m->cpu->rip = 0;
    m->cpu->idtr = (struct hv_table_register){.base = 0, .limit = 0x3ff};
    test_put64(m, 0x21 * 4, 0x10000800); /* 1000:0800 */
    m->ram[0x10800] = 0xf4;
    TEST_LOAD(m, code_real);
    TAP_OK(TEST_ENGINE.run(m->v) == HV_RUN_HLT && m->cpu->rip == 0x801 &&
               (uint16_t)m->cpu->gpr[HV_RBX] == 0x2468,
           "real mode reaches its interrupt handler");
    TAP_OK((uint16_t)m->cpu->gpr[HV_RSP] == 0xfff9, "with six bytes on the stack");
}

static void test_pae(struct test_machine *m)
{
    test_reset_32(m);
    TEST_LOAD(m, code_flat);
    test_put64(m, 0x2000, 0x3000 | 1); /* PDPT entry: present only */
    m->cpu->cr3 = 0x2000;
    m->cpu->cr4 = HV_CR4_PAE;
    m->cpu->cr0 |= HV_CR0_PG;
    TAP_OK(test_run(m) == -1 && m->ram[0x30002] == 0x34, "PAE paging");

    test_reset_32(m);
    TEST_LOAD(m, code_flat);
    memset(m->ram + 0x3000, 0, 4096);
    memcpy(m->ram + 0x3000, &(uint32_t){0x83}, 4); /* 4 MiB at 0 */
    m->cpu->cr3 = 0x3000;
    m->cpu->cr4 = HV_CR4_PSE;
    m->cpu->cr0 |= HV_CR0_PG;
    TAP_OK(test_run(m) == -1 && m->ram[0x30002] == 0x34, "32-bit paging with a 4 MiB page");
}

/* ---- code that changes */

TEST_ASM(code_patch_next, ".code64", "movb $0x2a, 1f+1(%rip); 1: mov $1, %al; hlt");
TEST_ASM(code_patched, ".code64", "mov $1, %eax; hlt");
TEST_ASM(code_patcher, ".code64", "movb $7, (%rbx); jmp *%rdx");

static void test_self_modifying(struct test_machine *m)
{
    test_reset(m);
    TEST_LOAD(m, code_patch_next);
    TAP_OK(test_run(m) == -1 && (uint8_t)m->cpu->gpr[HV_RAX] == 0x2a,
           "code overwrites its next instruction");

    test_reset(m);
    TEST_LOAD(m, code_patched);
    test_load(m, TEST_CODE + 0x1000, code_patcher, code_patcher_end);
    (void)test_run(m);
    TAP_OK(m->cpu->gpr[HV_RAX] == 1, "code that was executed");
    test_map(m, 8, TEST_CODE, P | W);
    m->cpu->rip = TEST_CODE + 0x1000;
    m->cpu->gpr[HV_RBX] = TEST_VA + 0x8001;
    m->cpu->gpr[HV_RDX] = TEST_CODE;
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RAX] == 7,
           "is seen changed through another mapping");

    TAP_OK(hv_memory_write(&m->domain.mem, hv_gpa_of(TEST_CODE + 1), "\x09", 1) == 0,
           "the hypervisor writes there");
    m->cpu->rip = TEST_CODE;
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RAX] == 9, "and that is seen too");
}

/* ---- strings */

static void test_rep_restart(struct test_machine *m)
{
    test_reset(m);
    test_map(m, 8, 0x40000, P | W);
    TEST_LOAD(m, code_stosb);
    m->cpu->gpr[HV_RDI] = TEST_VA + 0x8f00;
    m->cpu->gpr[HV_RCX] = 0x200;
    m->cpu->gpr[HV_RAX] = 0x5a;
    TAP_OK(test_run(m) == 14 && m->cpu->gpr[HV_RCX] == 0x100 &&
               m->cpu->gpr[HV_RDI] == TEST_VA + 0x9000,
           "REP STOS faults with its registers where it was");
    TAP_OK(test_get64(m, m->cpu->gpr[HV_RSP] + 8) == TEST_CODE && m->ram[0x40fff] == 0x5a,
           "at its own RIP");
    test_map(m, 9, 0x50000, P | W);
    m->cpu->rip = TEST_CODE;
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RCX] == 0 && m->ram[0x500ff] == 0x5a &&
               !m->ram[0x50100],
           "and goes on when it is restarted");

    test_reset(m);
    TEST_LOAD(m, code_movsb);
    memcpy(m->ram + 0x30000, "ab", 2);
    m->cpu->gpr[HV_RSI] = 0x30000;
    m->cpu->gpr[HV_RDI] = 0x30002;
    m->cpu->gpr[HV_RCX] = 4094;
    TAP_OK(test_run(m) == -1 && memcmp(m->ram + 0x30ff0, "abababababababab", 16) == 0,
           "REP MOVS into its own source repeats it");
}

/* ---- the machine around */

TEST_ASM(code_machine, ".code64",
         "mov $0x5a, %al; out %al, $0x60; xor %eax, %eax; in $0x60, %al; mov %eax, %esi;"
         "vmcall; mov %rax, %rdi; mov $0x77, %eax; mov %eax, (%rbx); mov (%rbx), %edx; hlt");
TEST_ASM(code_rdmsr, ".code64", "mov $0xbad, %ecx; rdmsr; hlt");
TEST_ASM(code_sse, ".code64",
         "movdqu (%rbx), %xmm1; paddd %xmm1, %xmm1; movdqu %xmm1, (%rbx); hlt");

static void test_around(struct test_machine *m)
{
    test_reset(m);
    TEST_LOAD(m, code_machine);
    m->cpu->gpr[HV_RBX] = TEST_DEVICE;
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RSI] == 0x5a, "ports");
    TAP_OK(m->hypercalls == 1 && m->cpu->gpr[HV_RDI] == 0x600d, "a hypercall");
    TAP_OK(m->device_value == 0x77 && m->cpu->gpr[HV_RDX] == 0x77, "a device register");
    test_reset(m);
    TEST_LOAD(m, code_rdmsr);
    TAP_OK(test_run(m) == 13, "an unknown MSR is #GP");

    for (unsigned crossing = 0; crossing < 2; crossing++) {
        uint64_t at = crossing ? 0x8ff8 : 0x8000;

        test_reset(m);
        test_map(m, 8, 0x40000, P | W);
        test_map(m, 9, 0x41000, P | W);
        TEST_LOAD(m, code_sse);
        m->cpu->gpr[HV_RBX] = TEST_VA + at;
        test_put64(m, 0x40000 + at - 0x8000 + 8, 0x0000000400000003);
        TAP_OK(test_run(m) == -1 && test_get64(m, 0x40000 + at - 0x8000 + 8) == 0x0000000800000006,
               "a vector instruction with memory %s", crossing ? "over two pages" : "in a page");
    }
    test_reset(m);
    TEST_LOAD(m, code_sse);
    m->cpu->cr0 |= HV_CR0_TS;
    TAP_OK(test_run(m) == 7, "CR0.TS makes it #NM");
}

/* 81920 different instructions: more stubs than there is room for at once. */
static void test_many_stubs(struct test_machine *m)
{
    static const uint8_t prefixes[] = {0, 0x66, 0xf2, 0xf3}; /* of 0F 70: PSHUFW and PSHUF* */
    uint64_t to = 0x100000;

    test_reset(m);
    for (unsigned form = 0; form < 5; form++)
        for (unsigned modrm = 0xc0; modrm < 0x100; modrm++)
            for (unsigned imm = 0; imm < 256; imm++) {
                if (form < 4 && prefixes[form])
                    m->ram[to++] = prefixes[form];
                m->ram[to++] = 0x0f;
                m->ram[to++] = form < 4 ? 0x70 : 0xc6; /* SHUFPS */
                m->ram[to++] = (uint8_t)modrm;
                m->ram[to++] = (uint8_t)imm;
            }
    memcpy(m->ram + to, "\xb3\x5a\xf4", 3); /* mov $0x5a, %bl; hlt */
    m->cpu->rip = 0x100000;
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RBX] == 0x5a && m->cpu->rip == to + 3,
           "more vector instructions than fit into the cache of host code");
    m->cpu->rip = 0x100000;
    m->cpu->gpr[HV_RBX] = 0;
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RBX] == 0x5a, "and again");
}

int main(void)
{
    static struct test_machine m;

    if (!test_new(&m)) {
        printf("Bail out! no machine\n");
        return 1;
    }
    test_arithmetic(&m);
    test_paging(&m);
    test_accessed_dirty(&m);
    test_page_crossing(&m);
    test_crossing_code(&m);
    test_invalidation(&m);
    test_frames(&m);
    test_software_interrupts(&m);
    test_nested_faults(&m);
    test_canonical(&m);
    test_avx(&m);
    test_interrupts(&m);
    test_single_step(&m);
    test_watch(&m);
    test_alignment(&m);
    test_fast_calls(&m);
    test_compat_syscall(&m);
    test_compat_sysenter(&m);
    test_legacy_syscall(&m);
    test_iret(&m);
    test_frame_pages(&m);
    test_gate_pages(&m);
    test_call_clean(&m);
    test_spaces(&m);
    test_modes(&m);
    test_pae(&m);
    test_self_modifying(&m);
    test_rep_restart(&m);
    test_around(&m);
    test_many_stubs(&m);
    test_free(&m);
    return tap_done();
}
