/* Instructions run from stubs give what the manual says, and the XSAVE family keeps its rules.
 * Source: Intel SDM volume 2 for each instruction; expected values are worked out by hand.
 */
#include "config.h"

#include "hv/x86/native.h"

#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>

#include "hv/tap.h"
#include "hv/x86/xstate.h"

struct machine {
    struct hv_native *native;
    struct hv_cpu *cpu;
    _Alignas(64) uint8_t memory[128];
    struct hv_fault fault;
};

static void reset(struct machine *m)
{
    memset(m->cpu, 0, sizeof(*m->cpu));
    m->cpu->cr4 = HV_CR4_OSFXSR | HV_CR4_OSXMMEXCPT;
    m->cpu->efer = HV_EFER_LMA;
    m->cpu->seg[HV_CS].attr = HV_SEG_L;
    m->cpu->rflags = HV_EFLAGS_FIXED | HV_EFLAGS_IF;
    m->cpu->xcr0 = hv_xstate_supported();
    hv_xstate_reset(m->cpu);
    memset(m->memory, 0, sizeof(m->memory));
}

static int compile(struct machine *m, const uint8_t *code, size_t bytes,
                   const struct hv_native_insn **out)
{
    ZydisDecoder decoder;
    ZydisDecodedInstruction insn;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];

    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    if (ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, code, bytes, &insn, operands)))
        return -EINVAL;
    return hv_native_compile(m->native, &insn, operands, out);
}

static int run_bytes(struct machine *m, const uint8_t *code, size_t bytes)
{
    const struct hv_native_insn *insn;
    int ret = compile(m, code, bytes, &insn);

    m->fault = (struct hv_fault){0};
    return ret < 0 ? ret : hv_native_execute(insn, m->cpu, m->memory, &m->fault);
}

#define RUN(m, ...)                                                                                \
    run_bytes(m, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void set_xmm(struct machine *m, unsigned i, uint64_t low, uint64_t high)
{
    hv_fx_put64(m->cpu->xsave, HV_FX_XMM(i), low);
    hv_fx_put64(m->cpu->xsave, HV_FX_XMM(i) + 8, high);
}

static bool xmm_is(const struct machine *m, unsigned i, uint64_t low, uint64_t high)
{
    return hv_fx_get64(m->cpu->xsave, HV_FX_XMM(i)) == low &&
           hv_fx_get64(m->cpu->xsave, HV_FX_XMM(i) + 8) == high;
}

static uint32_t mxcsr(const struct machine *m)
{
    return hv_fx_get32(m->cpu->xsave, HV_FX_MXCSR);
}

static uint16_t fsw(const struct machine *m)
{
    return hv_fx_get16(m->cpu->xsave, HV_FX_FSW);
}

/* XMM1, and XMM2 or memory or RCX, give XMM1. */
static const struct {
    const char *name;
    uint8_t code[12];
    uint8_t bytes;
    uint64_t xmm1[2], source[2], result[2];
} vector_cases[] = {
    {"addps xmm1, xmm2",
     {0x0f, 0x58, 0xca},
     3,
     {0x3f8000003f800000, 0x40000000},
     {0x4000000040000000, 0},
     {0x4040000040400000, 0x40000000}},
    {"addps xmm1, [rax+rcx*8+0x100]",
     {0x0f, 0x58, 0x8c, 0xc8, 0, 1, 0, 0},
     8,
     {0x3f800000, 0},
     {0x40000000, 0},
     {0x40400000, 0}},
    {"paddb xmm1, [rip+1]",
     {0x66, 0x0f, 0xfc, 0x0d, 1, 0, 0, 0},
     8,
     {0x01ff, 5},
     {0x0101, 6},
     {0x0200, 11}},
    {"pxor xmm1, fs:[r13]",
     {0x64, 0x66, 0x41, 0x0f, 0xef, 0x4d, 0},
     7,
     {0xff, 0xf0},
     {0x0f, 0xff},
     {0xf0, 0x0f}},
    {"movss xmm1, xmm2", {0xf3, 0x0f, 0x10, 0xca}, 4, {1, 2}, {0xffffffff00000003, 4}, {3, 2}},
    {"movss xmm1, [rsi]",
     {0xf3, 0x0f, 0x10, 0x0e},
     4,
     {1ull << 40, 2},
     {0xffffffff00000003, 4},
     {3, 0}},
    {"movq xmm1, rcx",
     {0x66, 0x48, 0x0f, 0x6e, 0xc9},
     5,
     {9, 9},
     {0x123456789abcdef0, 0},
     {0x123456789abcdef0, 0}},
    {"movd xmm1, ecx",
     {0x66, 0x0f, 0x6e, 0xc9},
     4,
     {9, 9},
     {0x123456789abcdef0, 0},
     {0x9abcdef0, 0}},
    {"pinsrw xmm1, ecx, 1", {0x66, 0x0f, 0xc4, 0xc9, 1}, 5, {1, 7}, {0xfffff, 0}, {0xffff0001, 7}},
    {"pshufd xmm1, xmm2, 0x1b",
     {0x66, 0x0f, 0x70, 0xca, 0x1b},
     5,
     {0, 0},
     {0x0000000200000001, 0x0000000400000003},
     {0x0000000300000004, 0x0000000100000002}},
    {"pblendvb xmm1, xmm2, <xmm0>",
     {0x66, 0x0f, 0x38, 0x10, 0xca},
     5,
     {0x1111, 1},
     {0x2222, 2},
     {0x2211, 1}},
    {"pshufb xmm1, xmm2",
     {0x66, 0x0f, 0x38, 0x00, 0xca},
     5,
     {0x0706050403020100, 0},
     {0x8003, 0},
     {0x03, 0}},
    {"pclmulqdq xmm1, xmm2, 0", {0x66, 0x0f, 0x3a, 0x44, 0xca, 0}, 6, {3, 0}, {3, 0}, {5, 0}},
    {"aesimc xmm1, xmm2", {0x66, 0x0f, 0x38, 0xdb, 0xca}, 5, {7, 7}, {0, 0}, {0, 0}},
    {"cvtsi2sd xmm1, rcx",
     {0xf2, 0x48, 0x0f, 0x2a, 0xc9},
     5,
     {0, 5},
     {(uint64_t)-2, 0},
     {0xc000000000000000, 5}},
    {"roundsd xmm1, xmm2, 1",
     {0x66, 0x0f, 0x3a, 0x0b, 0xca, 1},
     6,
     {0, 5},
     {0xbfe0000000000000, 0},
     {0xbff0000000000000, 5}},
    {"movhlps xmm1, xmm2", {0x0f, 0x12, 0xca}, 3, {1, 2}, {3, 4}, {4, 2}},
};

/* RCX is 2 * memory-form offset; XMM0 selects byte 1. */
static void test_vectors(struct machine *m)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(vector_cases); i++) {
        reset(m);
        set_xmm(m, 0, 0x8000, 0);
        set_xmm(m, 1, vector_cases[i].xmm1[0], vector_cases[i].xmm1[1]);
        set_xmm(m, 2, vector_cases[i].source[0], vector_cases[i].source[1]);
        m->cpu->gpr[HV_RCX] = vector_cases[i].source[0];
        memcpy(m->memory, vector_cases[i].source, 16);
        TAP_OK(run_bytes(m, vector_cases[i].code, vector_cases[i].bytes) == 0 &&
                   xmm_is(m, 1, vector_cases[i].result[0], vector_cases[i].result[1]),
               "%s", vector_cases[i].name);
    }
}

static void test_general_registers(struct machine *m)
{
    reset(m);
    set_xmm(m, 9, 0x8000000000000000, 0xffffffff12345678);
    m->cpu->gpr[HV_R14] = ~0ull;
    TAP_OK(RUN(m, 0x66, 0x45, 0x0f, 0xd7, 0xf1) == 0 && m->cpu->gpr[HV_R14] == 0xf080,
           "pmovmskb r14d, xmm9 writes and extends R14");
    TAP_OK(RUN(m, 0x66, 0x4d, 0x0f, 0x3a, 0x16, 0xcd, 0x01) == 0 &&
               m->cpu->gpr[HV_R13] == 0xffffffff12345678,
           "pextrq r13, xmm9, 1");
    hv_fx_put64(m->memory, 0, 0x4008000000000000); /* 3.0 */
    TAP_OK(RUN(m, 0xf2, 0x4c, 0x0f, 0x2d, 0x3e) == 0 && m->cpu->gpr[HV_R15] == 3,
           "cvtsd2si r15, [rsi] names no XMM register");
    m->cpu->gpr[HV_RAX] = 0;
    m->cpu->gpr[HV_RBX] = 0x6100;
    TAP_OK(RUN(m, 0xf2, 0x0f, 0x38, 0xf0, 0xc7) == 0 && m->cpu->gpr[HV_RAX] == 0x93ad1061,
           "crc32 eax, bh takes the high byte");
    set_xmm(m, 1, 0x64636261, 0); /* "abcd" */
    set_xmm(m, 2, 0x7a7a6379, 0);
    m->cpu->gpr[HV_RAX] = m->cpu->gpr[HV_RDX] = 4;
    TAP_OK(RUN(m, 0x66, 0x0f, 0x3a, 0x61, 0xca, 0) == 0 && m->cpu->gpr[HV_RCX] == 1 &&
               (m->cpu->rflags & HV_EFLAGS_CF),
           "pcmpestri xmm1, xmm2, 0 takes its lengths from RAX and RDX, index to RCX");
}

static void test_flags(struct machine *m)
{
    const uint64_t arithmetic = 0x8d5;

    reset(m);
    m->cpu->rflags |= arithmetic;
    set_xmm(m, 1, 0x3f800000, 0);
    set_xmm(m, 2, 0x40000000, 0);
    TAP_OK(RUN(m, 0x0f, 0x2f, 0xca) == 0 &&
               m->cpu->rflags == (HV_EFLAGS_FIXED | HV_EFLAGS_IF | HV_EFLAGS_CF),
           "comiss: below sets CF, clears the rest, IF stays");
    TAP_OK(RUN(m, 0x66, 0x0f, 0x38, 0x17, 0xca) == 0 &&
               (m->cpu->rflags & arithmetic) == HV_EFLAGS_ZF,
           "ptest: disjoint sets ZF");
    m->cpu->rflags |= arithmetic;
    TAP_OK(RUN(m, 0x0f, 0x58, 0xca) == 0 && (m->cpu->rflags & arithmetic) == arithmetic,
           "addps leaves flags alone");
}

static void test_simd_exceptions(struct machine *m)
{
    reset(m);
    set_xmm(m, 1, 0x3f800000, 0);
    TAP_OK(RUN(m, 0xf3, 0x0f, 0x5e, 0xca) == 0 && xmm_is(m, 1, 0x7f800000, 0) && mxcsr(m) == 0x1f84,
           "divss by zero, masked: infinity and ZE");
    hv_fx_put32(m->cpu->xsave, HV_FX_MXCSR, 0x1d82);
    set_xmm(m, 1, 0x3f800000, 0);
    TAP_OK(RUN(m, 0xf3, 0x0f, 0x5e, 0xca) == -EFAULT && m->fault.vector == HV_VEC_XM &&
               !m->fault.has_error_code && xmm_is(m, 1, 0x3f800000, 0) && mxcsr(m) == 0x1d86,
           "divss by zero, unmasked: #XM, destination kept, flags sticky");
    m->cpu->cr4 &= ~(uint64_t)HV_CR4_OSXMMEXCPT;
    TAP_OK(RUN(m, 0xf3, 0x0f, 0x5e, 0xca) == -EFAULT && m->fault.vector == HV_VEC_UD,
           "... #UD without CR4.OSXMMEXCPT");
    m->cpu->cr4 |= HV_CR4_OSXMMEXCPT;
    hv_fx_put32(m->cpu->xsave, HV_FX_MXCSR, 0x1f80 & ~HV_MXCSR_UM);
    set_xmm(m, 1, 1, 0); /* the least denormal plus zero is exact */
    TAP_OK(RUN(m, 0xf3, 0x0f, 0x58, 0xca) == -EFAULT && m->fault.vector == HV_VEC_XM &&
               (mxcsr(m) & HV_MXCSR_UE),
           "addss, exact tiny result: underflow when unmasked");
    hv_fx_put32(m->cpu->xsave, HV_FX_MXCSR, 0x1f80);
    TAP_OK(RUN(m, 0xf3, 0x0f, 0x58, 0xca) == 0 && mxcsr(m) == 0x1f82, "... none when masked");
    hv_fx_put32(m->cpu->xsave, HV_FX_MXCSR, 0x1f00);
    m->cpu->gpr[HV_RAX] = 77;
    set_xmm(m, 1, 0x7fc00000, 0);
    TAP_OK(RUN(m, 0xf3, 0x0f, 0x2d, 0xc1) == -EFAULT && m->cpu->gpr[HV_RAX] == 77,
           "cvtss2si of NaN, invalid unmasked: RAX kept");
}

static void test_alignment(struct machine *m)
{
    const struct hv_native_insn *insn;

    reset(m);
    TAP_OK(compile(m, (const uint8_t[]){0x0f, 0x58, 0x08}, 3, &insn) == 0 &&
               hv_native_info(insn)->aligned && hv_native_info(insn)->reads_memory &&
               !hv_native_info(insn)->writes_memory && hv_native_info(insn)->memory_bytes == 16,
           "addps xmm1, [rax] wants alignment");
    TAP_OK(hv_native_execute(insn, m->cpu, m->memory + 1, &m->fault) == -EFAULT &&
               m->fault.vector == HV_VEC_GP && m->fault.has_error_code,
           "... and gives #GP(0) without");
    TAP_OK(compile(m, (const uint8_t[]){0x0f, 0x11, 0x08}, 3, &insn) == 0 &&
               !hv_native_info(insn)->aligned && hv_native_info(insn)->writes_memory &&
               !hv_native_info(insn)->reads_memory,
           "movups [rax], xmm1 does not");
}

static void test_not_ours(struct machine *m)
{
    static const struct {
        const char *name;
        uint8_t code[6], bytes;
    } rows[] = {
        {"add eax, ecx", {0x01, 0xc8}, 2},
        {"vgatherdps xmm1, [rax+xmm3], xmm2", {0xc4, 0xe2, 0x69, 0x92, 0x0c, 0x18}, 6},
        {"vmaskmovps xmm1, xmm2, [rax]", {0xc4, 0xe2, 0x69, 0x2c, 0x08}, 5},
        {"vaddps zmm1, zmm2, zmm3", {0x62, 0xf1, 0x6c, 0x48, 0x58, 0xcb}, 6},
        {"vfmaddps xmm1, xmm2, xmm3, xmm4", {0xc4, 0xe3, 0xe9, 0x68, 0xcc, 0x30}, 6},
        {"vpcmov xmm1, xmm2, xmm3, xmm4", {0x8f, 0xe8, 0x68, 0xa2, 0xcb, 0x40}, 6},
        {"andn eax, ecx, edx", {0xc4, 0xe2, 0x70, 0xf2, 0xc2}, 5},
        {"fxsave [rax]", {0x0f, 0xae, 0x00}, 3},
        {"mfence", {0x0f, 0xae, 0xf0}, 3},
        {"prefetcht0 [rax]", {0x0f, 0x18, 0x08}, 3},
        {"movnti [rax], ecx", {0x0f, 0xc3, 0x08}, 3},
        {"popcnt eax, ecx", {0xf3, 0x0f, 0xb8, 0xc1}, 4},
        {"pfadd mm0, mm1", {0x0f, 0x0f, 0xc1, 0x9e}, 4},
    };
    const struct hv_native_insn *insn;

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++)
        TAP_OK(compile(m, rows[i].code, rows[i].bytes, &insn) == -ENOTSUP, "%s is not of this kind",
               rows[i].name);
}

/* ---- VEX */

static void set_ymm(struct machine *m, unsigned i, const uint64_t value[4])
{
    set_xmm(m, i, value[0], value[1]);
    hv_fx_put64(m->cpu->xsave, HV_XS_YMM_HIGH(i), value[2]);
    hv_fx_put64(m->cpu->xsave, HV_XS_YMM_HIGH(i) + 8, value[3]);
}

static bool ymm_is(const struct machine *m, unsigned i, const uint64_t value[4])
{
    return xmm_is(m, i, value[0], value[1]) &&
           hv_fx_get64(m->cpu->xsave, HV_XS_YMM_HIGH(i)) == value[2] &&
           hv_fx_get64(m->cpu->xsave, HV_XS_YMM_HIGH(i) + 8) == value[3];
}

/* YMM9, YMM2 and YMM3 or memory give YMM9. The start value of YMM9 is 1.0f everywhere. */
static const struct {
    const char *name, *needs;
    uint8_t code[12];
    uint8_t bytes;
    uint64_t ymm2[4], source[4], result[4];
} vex_cases[] = {
    {"vpaddq ymm9, ymm2, ymm3",
     "avx2",
     {0xc5, 0x6d, 0xd4, 0xcb},
     4,
     {1, 2, 3, 4},
     {10, 20, 30, 40},
     {11, 22, 33, 44}},
    {"vpaddq xmm9, xmm2, xmm3 zeroes the upper half",
     "avx",
     {0xc5, 0x69, 0xd4, 0xcb},
     4,
     {1, 2, 3, 4},
     {10, 20, 30, 40},
     {11, 22, 0, 0}},
    {"vpaddq ymm9, ymm2, [r13+rax*2+0x10], unaligned",
     "avx2",
     {0xc4, 0x41, 0x6d, 0xd4, 0x4c, 0x45, 0x10},
     7,
     {1, 2, 3, 4},
     {10, 20, 30, 40},
     {11, 22, 33, 44}},
    {"vfmadd231ps ymm9, ymm2, ymm3: 1 + 2 * 3",
     "fma",
     {0xc4, 0x62, 0x6d, 0xb8, 0xcb},
     5,
     {0x4000000040000000, 0x4000000040000000, 0x4000000040000000, 0x4000000040000000},
     {0x4040000040400000, 0x4040000040400000, 0x4040000040400000, 0x4040000040400000},
     {0x40e0000040e00000, 0x40e0000040e00000, 0x40e0000040e00000, 0x40e0000040e00000}},
    {"vblendvpd ymm9, ymm2, ymm3, ymm2",
     "avx",
     {0xc4, 0x63, 0x6d, 0x4b, 0xcb, 0x20},
     6,
     {1, 1ull << 63, 3, 1ull << 63},
     {10, 20, 30, 40},
     {1, 20, 3, 40}},
    {"vpermq ymm9, ymm3, 0x1b",
     "avx2",
     {0xc4, 0x63, 0xfd, 0x00, 0xcb, 0x1b},
     6,
     {0},
     {1, 2, 3, 4},
     {4, 3, 2, 1}},
    {"vcvtph2ps ymm9, xmm3",
     "f16c",
     {0xc4, 0x62, 0x7d, 0x13, 0xcb},
     5,
     {0},
     {0x3c003c003c003c00, 0x4000400040004000, 0, 0},
     {0x3f8000003f800000, 0x3f8000003f800000, 0x4000000040000000, 0x4000000040000000}},
    {"vpclmulqdq ymm9, ymm2, ymm3, 0",
     "vpclmulqdq",
     {0xc4, 0x63, 0x6d, 0x44, 0xcb, 0x00},
     6,
     {3, 0, 5, 0},
     {3, 0, 5, 0},
     {5, 0, 0x11, 0}},
    {"vgf2p8mulb ymm9, ymm2, ymm3",
     "gfni",
     {0xc4, 0x62, 0x6d, 0xcf, 0xcb},
     5,
     {2, 0, 0, 0x80},
     {3, 0, 0, 2},
     {6, 0, 0, 0x1b}},
    {"vpdpwssd ymm9, ymm2, ymm3: adds 1 * 2 + 3 * 4",
     "avxvnni",
     {0xc4, 0x62, 0x6d, 0x52, 0xcb},
     5,
     {0x30001, 0, 0, 0},
     {0x40002, 0, 0, 0},
     {0x3f8000003f80000e, 0x3f8000003f800000, 0x3f8000003f800000, 0x3f8000003f800000}},
};

static bool host_has(const char *name)
{
    static const struct {
        const char *name;
        uint32_t leaf, subleaf;
        uint8_t reg, bit;
    } rows[] = {
        {"avx", 1, 0, 2, 28},    {"avx2", 7, 0, 1, 5}, {"fma", 1, 0, 2, 12},
        {"f16c", 1, 0, 2, 29},   {"gfni", 7, 0, 2, 8}, {"vpclmulqdq", 7, 0, 2, 10},
        {"avxvnni", 7, 1, 0, 4},
    };
    uint32_t r[4];

    if (!(hv_xstate_supported() & HV_XSTATE_AVX))
        return false;
    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++)
        if (strcmp(name, rows[i].name) == 0)
            return __get_cpuid_count(rows[i].leaf, rows[i].subleaf, &r[0], &r[1], &r[2], &r[3]) &&
                   (r[rows[i].reg] >> rows[i].bit & 1);
    return false;
}

static void test_vex(struct machine *m)
{
    static const uint64_t ones[4] = {0x3f8000003f800000, 0x3f8000003f800000, 0x3f8000003f800000,
                                     0x3f8000003f800000};

    for (size_t i = 0; i < HV_ARRAY_LEN(vex_cases); i++) {
        if (!host_has(vex_cases[i].needs)) {
            TAP_OK(true, "%s # SKIP the host has no %s", vex_cases[i].name, vex_cases[i].needs);
            continue;
        }
        reset(m);
        set_ymm(m, 9, ones);
        set_ymm(m, 2, vex_cases[i].ymm2);
        set_ymm(m, 3, vex_cases[i].source);
        memcpy(m->memory, vex_cases[i].source, 32);
        TAP_OK(run_bytes(m, vex_cases[i].code, vex_cases[i].bytes) == 0 &&
                   ymm_is(m, 9, vex_cases[i].result) && ymm_is(m, 2, vex_cases[i].ymm2),
               "%s", vex_cases[i].name);
    }
}

static void test_vex_state(struct machine *m)
{
    static const uint64_t value[4] = {1, 2, 3, 4}, legacy[4] = {1, 0, 3, 4}, low[4] = {1, 2, 0, 0};
    const struct hv_native_insn *insn = NULL;

    reset(m);
    set_ymm(m, 1, value);
    set_ymm(m, 9, value);
    TAP_OK(RUN(m, 0xf3, 0x0f, 0x7e, 0xc9) == 0 && ymm_is(m, 1, legacy),
           "movq xmm1, xmm1 without VEX keeps the upper half");
    TAP_OK(RUN(m, 0xc5, 0xf8, 0x77) == 0 && ymm_is(m, 9, low), "vzeroupper");
    set_ymm(m, 9, value);
    m->cpu->seg[HV_CS].attr = HV_SEG_DB;
    TAP_OK(RUN(m, 0xc5, 0xfc, 0x77) == 0 && ymm_is(m, 9, value) &&
               ymm_is(m, 1, (const uint64_t[4]){0}),
           "vzeroall outside 64-bit mode leaves YMM9");
    TAP_OK(compile(m, (const uint8_t[]){0xc5, 0xfc, 0x28, 0x08}, 4, &insn) == 0 &&
               hv_native_info(insn)->aligned && hv_native_info(insn)->avx &&
               !hv_native_info(insn)->sse && hv_native_info(insn)->memory_bytes == 32 &&
               hv_native_execute(insn, m->cpu, m->memory + 16, &m->fault) == -EFAULT &&
               m->fault.vector == HV_VEC_GP,
           "vmovaps ymm1, [rax] wants alignment to 32 bytes");
    TAP_OK(compile(m, (const uint8_t[]){0xc5, 0xfc, 0x58, 0x08}, 4, &insn) == 0 &&
               !hv_native_info(insn)->aligned,
           "vaddps ymm1, ymm0, [rax] wants none");
    hv_fx_put32(m->memory, 0, 0x9fc0);
    TAP_OK(RUN(m, 0xc5, 0xf8, 0xae, 0x10) == 0 && mxcsr(m) == 0x9fc0, "vldmxcsr");
}

static void test_vex_exceptions(struct machine *m)
{
    static const uint64_t ones[4] = {0x3ff0000000000000, 0x3ff0000000000000, 0x3ff0000000000000,
                                     0x3ff0000000000000},
                          divisor[4] = {0x3ff0000000000000, 0x3ff0000000000000, 0x3ff0000000000000,
                                        0},
                          tiny[4] = {0, 0, 0, 1};

    reset(m);
    set_ymm(m, 1, ones);
    set_ymm(m, 2, divisor);
    hv_fx_put32(m->cpu->xsave, HV_FX_MXCSR, 0x1d80);
    TAP_OK(RUN(m, 0xc5, 0xf5, 0x5e, 0xca) == -EFAULT && m->fault.vector == HV_VEC_XM &&
               ymm_is(m, 1, ones) && mxcsr(m) == 0x1d84,
           "vdivpd by zero in the last element, unmasked: #XM, YMM1 kept");
    hv_fx_put32(m->cpu->xsave, HV_FX_MXCSR, 0x1f80 & ~HV_MXCSR_UM);
    set_ymm(m, 1, tiny);
    set_ymm(m, 2, (const uint64_t[4]){0});
    TAP_OK(RUN(m, 0xc5, 0xf5, 0x58, 0xca) == -EFAULT && m->fault.vector == HV_VEC_XM &&
               (mxcsr(m) & HV_MXCSR_UE) && ymm_is(m, 1, tiny),
           "vaddpd, exact tiny result in the upper half: underflow when unmasked");
    if (!host_has("f16c"))
        return;
    hv_fx_put32(m->cpu->xsave, HV_FX_MXCSR, 0x1f00);
    set_ymm(m, 1, (const uint64_t[4]){0x7fa00000, 0, 0, 0});
    memset(m->memory, 0x55, 16);
    TAP_OK(RUN(m, 0xc4, 0xe3, 0x79, 0x1d, 0x08, 0x00) == -EFAULT && m->memory[0] == 0x55,
           "vcvtps2ph [rax], xmm1 of a signalling NaN, unmasked: nothing is stored");
}

static void test_mxcsr(struct machine *m)
{
    reset(m);
    hv_fx_put32(m->memory, 0, 0x10000);
    TAP_OK(RUN(m, 0x0f, 0xae, 0x10) == -EFAULT && m->fault.vector == HV_VEC_GP &&
               mxcsr(m) == HV_MXCSR_INIT,
           "ldmxcsr with a reserved bit: #GP(0)");
    hv_fx_put32(m->memory, 0, 0x9fc0);
    TAP_OK(RUN(m, 0x0f, 0xae, 0x10) == 0 && mxcsr(m) == 0x9fc0, "ldmxcsr");
    hv_fx_put32(m->memory, 0, 0);
    TAP_OK(RUN(m, 0x0f, 0xae, 0x18) == 0 && hv_fx_get32(m->memory, 0) == 0x9fc0, "stmxcsr");
}

static void test_x87(struct machine *m)
{
    uint16_t host_before, host_after;

    __asm__("fnstcw %0" : "=m"(host_before));
    reset(m);
    TAP_OK(RUN(m, 0xd9, 0xe8) == 0 && RUN(m, 0xd9, 0xe8) == 0 && RUN(m, 0xde, 0xc1) == 0,
           "fld1; fld1; faddp");
    TAP_OK(RUN(m, 0xdd, 0x18) == 0 && hv_fx_get64(m->memory, 0) == 0x4000000000000000,
           "fstp qword: 2.0");
    TAP_OK(hv_fx_get64(m->cpu->xsave, HV_FX_FIP) == 0 && hv_fx_get64(m->cpu->xsave, HV_FX_FDP) == 0,
           "no host address in the instruction pointers");
    TAP_OK(RUN(m, 0xd9, 0xc0) == 0 && (fsw(m) & 0x41) == 0x41,
           "fld of an empty register, masked: IE and SF");

    reset(m);
    hv_fx_put16(m->cpu->xsave, HV_FX_FCW, 0x37b); /* divide by zero unmasked */
    TAP_OK(RUN(m, 0xd9, 0xe8) == 0 && RUN(m, 0xd9, 0xee) == 0 && RUN(m, 0xde, 0xf9) == 0 &&
               (fsw(m) & 0x8084) == 0x8084,
           "fdivp by zero, unmasked: pending, no fault yet");
    TAP_OK(RUN(m, 0xd9, 0xe8) == -EFAULT && m->fault.vector == HV_VEC_MF, "the next fld1: #MF");
    TAP_OK(RUN(m, 0x0f, 0x6f, 0xc1) == -EFAULT && m->fault.vector == HV_VEC_MF,
           "an MMX instruction: #MF");
    TAP_OK(RUN(m, 0x9b) == -EFAULT && m->fault.vector == HV_VEC_MF, "fwait: #MF");
    TAP_OK(RUN(m, 0xdf, 0xe0) == 0 && (m->cpu->gpr[HV_RAX] & 0x84) == 0x84,
           "fnstsw ax does not wait");
    TAP_OK(RUN(m, 0xdb, 0xe2) == 0 && RUN(m, 0x9b) == 0, "fnclex clears it");
    __asm__("fnstcw %0" : "=m"(host_after));
    TAP_OK(host_before == host_after, "the host's control word is as it was");
}

static void test_x87_stores(struct machine *m)
{
    const struct hv_native_insn *insn = NULL;

    reset(m);
    RUN(m, 0xd9, 0xeb); /* fldpi */
    TAP_OK(RUN(m, 0xdb, 0x08) == 0 && hv_fx_get32(m->memory, 0) == 3, "fisttp dword, of SSE3");
    hv_fx_put16(m->cpu->xsave, HV_FX_FCW, 0x37e); /* invalid unmasked */
    m->memory[0] = 0x55;
    TAP_OK(compile(m, (const uint8_t[]){0xd9, 0x18}, 2, &insn) == 0 && hv_native_info(insn)->x87 &&
               hv_native_execute(insn, m->cpu, m->memory, &m->fault) == 0 && m->memory[0] == 0x55 &&
               !hv_native_stored(insn, m->cpu),
           "fstp of an empty register, invalid unmasked: nothing is stored");
    TAP_OK(compile(m, (const uint8_t[]){0xd9, 0x38}, 2, &insn) == 0 &&
               hv_native_execute(insn, m->cpu, m->memory, &m->fault) == 0 &&
               hv_native_stored(insn, m->cpu),
           "fnstcw does not wait for that and stores");
}

static void test_x87_images(struct machine *m)
{
    reset(m);
    RUN(m, 0xd9, 0xeb); /* fldpi */
    RUN(m, 0xd9, 0xee); /* fldz */
    TAP_OK(RUN(m, 0xd9, 0x30) == 0 && hv_fx_get32(m->memory, 0) == 0xffff037f &&
               hv_fx_get32(m->memory, 4) == 0xffff3000 && hv_fx_get32(m->memory, 8) == 0xffff1fff,
           "fnstenv: control, status, tags (zero, valid, empty)");
    TAP_OK(RUN(m, 0xdd, 0x30) == 0 && hv_fx_get16(m->cpu->xsave, HV_FX_FCW) == 0x37f && fsw(m) == 0,
           "fnsave resets the unit");
    TAP_OK(RUN(m, 0xdd, 0x20) == 0 && fsw(m) == 0x3000 && m->cpu->xsave[HV_FX_FTW] == 0xc0 &&
               hv_fx_get64(m->cpu->xsave, HV_FX_ST(1)) == 0xc90fdaa22168c235,
           "frstor brings it back");
    TAP_OK(RUN(m, 0x66, 0xdd, 0x30) == 0 && hv_fx_get16(m->memory, 4) == 0x1fff &&
               hv_fx_get64(m->memory, 24) == 0xc90fdaa22168c235,
           "fnsave with 16-bit operand size has the short form");
}

static void test_mmx(struct machine *m)
{
    reset(m);
    hv_fx_put64(m->memory, 0, 0x0102030405060708);
    TAP_OK(RUN(m, 0x0f, 0x6f, 0x08) == 0 && m->cpu->xsave[HV_FX_FTW] == 0xff &&
               hv_fx_get64(m->cpu->xsave, HV_FX_ST(1)) == 0x0102030405060708,
           "movq mm1, [rax] marks all registers in use");
    TAP_OK(RUN(m, 0x0f, 0xfc, 0xc9) == 0 &&
               hv_fx_get64(m->cpu->xsave, HV_FX_ST(1)) == 0x020406080a0c0e10,
           "paddb mm1, mm1");
    TAP_OK(RUN(m, 0x0f, 0x77) == 0 && m->cpu->xsave[HV_FX_FTW] == 0, "emms");
    set_xmm(m, 1, 0x00000000000000aa, 0x1100);
    set_xmm(m, 2, 0x80, 0x8000);
    memset(m->memory, 0x55, sizeof(m->memory));
    TAP_OK(RUN(m, 0x66, 0x0f, 0xf7, 0xca) == 0 && m->memory[0] == 0xaa && m->memory[1] == 0x55 &&
               m->memory[9] == 0x11 && m->memory[8] == 0x55,
           "maskmovdqu writes the selected bytes");
}

static void test_fxsave(struct machine *m)
{
    _Alignas(16) uint8_t area[HV_FX_BYTES], again[HV_FX_BYTES];

    reset(m);
    for (unsigned i = HV_FX_ST(0); i < HV_FX_USED_BYTES; i++)
        m->cpu->xsave[i] = (uint8_t)i;
    memset(area, 0xee, sizeof(area));
    hv_fxsave(m->cpu, area, true);
    TAP_OK(area[HV_FX_USED_BYTES] == 0xee && memcmp(area, m->cpu->xsave, HV_FX_USED_BYTES) == 0,
           "fxsave64 writes 416 bytes");
    hv_xstate_reset(m->cpu);
    TAP_OK(hv_fxrstor(m->cpu, area, true) == 0, "fxrstor64");
    memset(again, 0xee, sizeof(again));
    hv_fxsave(m->cpu, again, true);
    TAP_OK(memcmp(again + HV_FX_XMM(0), area + HV_FX_XMM(0), 256) == 0, "XMM registers come back");
    hv_fx_put32(area, HV_FX_MXCSR, 0x10000);
    TAP_OK(hv_fxrstor(m->cpu, area, true) == -EINVAL, "fxrstor with reserved MXCSR bits: -EINVAL");
    m->cpu->seg[HV_CS].attr = 0;
    memset(again, 0xee, sizeof(again));
    hv_fxsave(m->cpu, again, false);
    TAP_OK(again[HV_FX_XMM(8)] == 0xee && again[HV_FX_XMM(7)] != 0xee,
           "outside 64-bit mode XMM8 and up stay out");
}

/* FXRSTOR normalises what software wrote; the host says how. */
static void test_fxrstor_as_host(struct machine *m)
{
    static const uint16_t words[][2] = {{0xffff, 0}, {0, 0xffff}, {0x37f, 0xb8ff}, {0x340, 0x003f}};
    _Alignas(16) uint8_t area[HV_FX_BYTES] = {0}, host[HV_FX_BYTES] = {0}, ours[HV_FX_BYTES] = {0};

    for (size_t i = 0; i < HV_ARRAY_LEN(words); i++) {
        reset(m);
        memcpy(area, m->cpu->xsave, sizeof(area));
        hv_fx_put16(area, HV_FX_FCW, words[i][0]);
        hv_fx_put16(area, HV_FX_FSW, words[i][1]);
        memset(area + HV_FX_ST(0), 0xff, 128);
        __asm__ volatile("fxrstor64 %1\n\tfxsave64 %0\n\tfninit" : "=m"(host) : "m"(area));
        TAP_OK(hv_fxrstor(m->cpu, area, true) == 0, "fxrstor of control %x", words[i][0]);
        hv_fxsave(m->cpu, ours, true);
        TAP_OK(memcmp(host, ours, HV_FX_FOP) == 0 && memcmp(host + 32, ours + 32, 128) == 0,
               "... as the host does it (FCW %x FSW %x)", hv_fx_get16(host, 0),
               hv_fx_get16(host, 2));
    }
}

/* Upper halves, in both formats and from 32-bit code. */
static void test_xsave_avx(struct machine *m)
{
    static const uint64_t value[4] = {1, 2, 3, 4}, low[4] = {1, 2, 0, 0};
    uint8_t image[HV_XSAVE_BYTES];

    for (unsigned kind = HV_XSAVE; kind <= HV_XSAVEC; kind++) {
        reset(m);
        memset(image, 0, sizeof(image));
        set_ymm(m, 3, value);
        set_ymm(m, 9, value);
        hv_xsave(m->cpu, image, 7, (enum hv_xsave_kind)kind);
        hv_xstate_reset(m->cpu);
        TAP_OK(hv_fx_get64(image, HV_XS_XSTATE_BV) == 6 && hv_xrstor(m->cpu, image, 7) == 0 &&
                   ymm_is(m, 3, value) && ymm_is(m, 9, value),
               "AVX state through %s and xrstor",
               (const char *const[]){"xsave", "xsaveopt", "xsavec"}[kind]);
    }
    TAP_OK(hv_xrstor(m->cpu, image, 4) == 0 && ymm_is(m, 3, value), "xrstor of AVX alone");
    hv_fx_put64(image, HV_XS_XSTATE_BV, 2);
    m->cpu->seg[HV_CS].attr = HV_SEG_DB;
    TAP_OK(hv_xrstor(m->cpu, image, 7) == 0 && ymm_is(m, 3, low) && ymm_is(m, 9, value),
           "xrstor of its initial state, which outside 64-bit mode leaves YMM9");
    m->cpu->xcr0 = 3;
    hv_fx_put64(image, HV_XS_XSTATE_BV, 6);
    TAP_OK(hv_xrstor(m->cpu, image, 3) == -EINVAL, "AVX state where XCR0 has none: -EINVAL");
}

static void test_xsave(struct machine *m)
{
    uint8_t image[HV_XSAVE_BYTES];

    reset(m);
    memset(image, 0, sizeof(image));
    hv_fx_put64(image, HV_XS_XSTATE_BV, 1ull << 2);
    set_xmm(m, 3, 5, 6);
    hv_xsave(m->cpu, image, 3, HV_XSAVE);
    TAP_OK(hv_fx_get64(image, HV_XS_XSTATE_BV) == 6 && hv_fx_get64(image, HV_FX_XMM(3)) == 5,
           "xsave: x87 initial, SSE in use, bits outside RFBM kept");
    hv_fx_put64(image, HV_XS_XSTATE_BV, 2);
    set_xmm(m, 3, 0, 0);
    hv_fx_put16(m->cpu->xsave, HV_FX_FCW, 0x27f);
    TAP_OK(hv_xrstor(m->cpu, image, 3) == 0 && xmm_is(m, 3, 5, 6) &&
               hv_fx_get16(m->cpu->xsave, HV_FX_FCW) == HV_FCW_INIT,
           "xrstor: SSE loaded, x87 initialised");
    hv_fx_put64(image, HV_XS_XSTATE_BV, 8);
    TAP_OK(hv_xrstor(m->cpu, image, 3) == -EINVAL, "XSTATE_BV bit outside XCR0: -EINVAL");
    hv_fx_put64(image, HV_XS_XSTATE_BV, 2);
    image[HV_XS_XCOMP_BV + 8] = 1;
    TAP_OK(hv_xrstor(m->cpu, image, 3) == -EINVAL, "reserved header byte: -EINVAL");
    image[HV_XS_XCOMP_BV + 8] = 0;
    hv_fx_put32(image, HV_FX_MXCSR, 0x80000000);
    TAP_OK(hv_xrstor(m->cpu, image, 1) == 0 && hv_xrstor(m->cpu, image, 2) == -EINVAL,
           "reserved MXCSR bits count only if SSE is asked for");

    memset(image, 0xff, sizeof(image));
    hv_fx_put32(m->cpu->xsave, HV_FX_MXCSR, 0x1f81);
    set_xmm(m, 3, 0, 0);
    hv_xsave(m->cpu, image, 3, HV_XSAVEC);
    TAP_OK(hv_fx_get64(image, HV_XS_XSTATE_BV) == 2 &&
               hv_fx_get64(image, HV_XS_XCOMP_BV) == (HV_XCOMP_COMPACTED | 3) && image[0] == 0xff,
           "xsavec: MXCSR alone makes SSE in use, x87 not written");
    memset(image + HV_XS_XCOMP_BV + 8, 0, 48);
    hv_fx_put64(image, HV_XS_XSTATE_BV, 0);
    TAP_OK(hv_xrstor(m->cpu, image, 3) == 0 && mxcsr(m) == HV_MXCSR_INIT,
           "compacted: MXCSR is initialised too");
    hv_fx_put32(m->cpu->xsave, HV_FX_MXCSR, 0x1f81);
    memset(image, 0xff, sizeof(image));
    hv_xsave(m->cpu, image, 3, HV_XSAVEOPT);
    TAP_OK(!(hv_fx_get64(image, HV_XS_XSTATE_BV) & 3) && image[HV_FX_XMM(3)] == 0xff &&
               hv_fx_get32(image, HV_FX_MXCSR) == 0x1f81,
           "xsaveopt: initial state is not written, MXCSR is");
    TAP_OK(hv_xstate_bytes(3) == 576 && hv_xstate_bytes(7) == 832, "sizes of the standard layout");
}

static void test_cache(struct machine *m)
{
    const struct hv_native_insn *first, *second;

    TAP_OK(compile(m, (const uint8_t[]){0x0f, 0x58, 0x08}, 3, &first) == 0 &&
               compile(m, (const uint8_t[]){0x67, 0x41, 0x0f, 0x58, 0x4c, 0x24, 9}, 7, &second) ==
                   0 &&
               first == second,
           "one stub for all addressing forms");
    TAP_OK(compile(m, (const uint8_t[]){0x0f, 0x58, 0x10}, 3, &second) == 0 && first != second,
           "another for another register");
}

/* PSHUFD, PSHUFHW and PSHUFLW of all registers with all immediates. */
static void test_full(struct machine *m)
{
    static const uint8_t prefixes[] = {0x66, 0xf2, 0xf3};
    const struct hv_native_insn *insn;
    uint8_t code[] = {0, 0x0f, 0x70, 0, 0};
    int ret = 0;

    for (unsigned i = 0; !ret && i < 3u << 14; i++) {
        code[0] = prefixes[i >> 14];
        code[3] = (uint8_t)(0xc0 | (i >> 8 & 63));
        code[4] = (uint8_t)i;
        ret = compile(m, code, sizeof(code), &insn);
    }
    TAP_OK(ret == -ENOMEM, "a full cache is -ENOMEM");
    TAP_OK(hv_native_flush(m->native) && !hv_native_flush(m->native), "it is emptied");
    TAP_OK(compile(m, code, sizeof(code), &insn) == 0, "and has room again");
}

int main(void)
{
    struct machine m = {.cpu = aligned_alloc(64, (sizeof(struct hv_cpu) + 63) & ~(size_t)63)};

    if (!m.cpu || hv_native_new(&m.native) < 0) {
        TAP_OK(false, "set up");
        return tap_done();
    }
    test_vectors(&m);
    test_general_registers(&m);
    test_flags(&m);
    test_simd_exceptions(&m);
    test_alignment(&m);
    test_not_ours(&m);
    test_vex(&m);
    if (host_has("avx")) {
        test_vex_state(&m);
        test_vex_exceptions(&m);
        test_xsave_avx(&m);
    }
    test_mxcsr(&m);
    test_x87(&m);
    test_x87_stores(&m);
    test_x87_images(&m);
    test_mmx(&m);
    test_fxsave(&m);
    test_fxrstor_as_host(&m);
    test_xsave(&m);
    test_cache(&m);
    test_full(&m);
    hv_native_free(m.native);
    free(m.cpu);
    return tap_done();
}
