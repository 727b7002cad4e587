/* AVX where the processor tells of it: that its parts agree with each other, that all 32 bytes of
 * the registers are kept, and what some instructions give. Values are worked out by hand.
 */
#include "check.h"

#include <cpuid.h>
#include <sched.h>
#include <sys/mman.h>

typedef uint64_t vector[4] __attribute__((aligned(32)));

#define ALL_XMM                                                                                    \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",       \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define EACH(m)                                                                                    \
    m(0) m(1) m(2) m(3) m(4) m(5) m(6) m(7) m(8) m(9) m(10) m(11) m(12) m(13) m(14) m(15)
#define LOAD(i)  "vmovdqa 32*" #i "(%1), %%ymm" #i "\n"
#define STORE(i) "vmovdqa %%ymm" #i ", 32*" #i "(%2)\n"

static uint32_t leaf(uint32_t number, uint32_t subleaf, unsigned reg)
{
    uint32_t r[4] = {0};

    (void)__get_cpuid_count(number, subleaf, &r[0], &r[1], &r[2], &r[3]);
    return r[reg];
}

/* ------------------------------------------------------------------ CPUID and XCR0 */

static uint64_t xcr0(void)
{
    uint32_t low, high;

    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static bool has_avx(void)
{
    const uint32_t bits = 1u << 27 | 1u << 28; /* OSXSAVE, AVX */

    return (leaf(1, 0, 2) & bits) == bits && (xcr0() & 6) == 6;
}

static void check_cpuid(void)
{
    bool avx = leaf(1, 0, 2) >> 28 & 1, state = leaf(0xd, 0, 0) >> 2 & 1;
    uint32_t also =
        (leaf(1, 0, 2) & (1u << 12 | 1u << 29)) | (leaf(7, 0, 1) & (1u << 5 | 1u << 16));

    equal(state, avx, "AVX state goes with AVX");
    ok(avx || !also, "what needs AVX is not there without");
    if (!avx)
        return;
    equal(xcr0() & 7, 7, "the kernel enables it");
    equal(leaf(0xd, 2, 0), 256, "its size");
    equal(leaf(0xd, 2, 1), 576, "its place");
    ok(leaf(0xd, 0, 1) >= 832 && leaf(0xd, 0, 1) <= leaf(0xd, 0, 2), "room for it");
    if (!(leaf(7, 0, 1) >> 16 & 1))
        equal(xcr0() & 0xe0, 0, "no AVX-512 state without AVX-512");
}

/* ------------------------------------------------------------------ registers */

static void fill(vector *set, unsigned seed)
{
    for (unsigned i = 0; i < 16; i++)
        for (unsigned k = 0; k < 4; k++)
            set[i][k] = 0x0101010101010101ull * (seed & 0xff) + 256 * i + k;
}

/* Loads all registers, makes system call @number, and tells how many have changed then. */
static unsigned changed_over(long number, long a, long b, unsigned seed)
{
    vector before[16], after[16];
    unsigned bad = 0;

    fill(before, seed);
    __asm__ volatile(EACH(LOAD) "syscall\n" EACH(STORE)
                     : "+a"(number)
                     : "r"(before), "r"(after), "D"(a), "S"(b)
                     : "rcx", "r11", "memory", ALL_XMM);
    for (unsigned i = 0; i < 16; i++)
        bad += memcmp(before[i], after[i], sizeof(vector)) != 0;
    return bad;
}

/* The same while time passes. */
static unsigned changed_while(unsigned seed)
{
    vector before[16], after[16];
    long count = 3000;
    unsigned bad = 0;

    fill(before, seed);
    __asm__ volatile(EACH(LOAD) "1: dec %0; jnz 1b\n" EACH(STORE)
                     : "+r"(count)
                     : "r"(before), "r"(after)
                     : "memory", ALL_XMM);
    for (unsigned i = 0; i < 16; i++)
        bad += memcmp(before[i], after[i], sizeof(vector)) != 0;
    return bad;
}

static void switch_often(void *arg)
{
    unsigned seed = *(unsigned *)arg * 7, bad = 0;

    pin(seed / 2);
    for (unsigned i = 0; i < 300; i++) {
        if (i % 5 == 4) /* initial state, which is not saved */
            __asm__ volatile("vzeroall" : : : ALL_XMM);
        if (i % 3)
            bad += changed_over(24 /* sched_yield */, 0, 0, seed + i);
        else
            bad += changed_while(seed + i);
    }
    _exit(bad != 0);
}

static void check_tasks(void)
{
    equal(in_children(6, switch_often), 0, "tasks keep all 32 bytes of their registers");
}

static void clobber(int signal)
{
    (void)signal;
    __asm__ volatile("vpxor %%xmm0, %%xmm0, %%xmm0\n"
                     "vpcmpeqd %%xmm1, %%xmm1, %%xmm1\n"
                     "vinsertf128 $1, %%xmm1, %%ymm1, %%ymm7\n"
                     "vzeroupper"
                     :
                     :
                     : ALL_XMM);
}

static void check_signal(void)
{
    struct sigaction action = {.sa_handler = clobber};
    unsigned bad = 0;

    sigaction(SIGUSR1, &action, NULL);
    for (unsigned i = 0; i < 100; i++)
        bad += changed_over(62 /* kill */, getpid(), SIGUSR1, i);
    equal(bad, 0, "a handler that uses them changes none");
}

static void check_halves(void)
{
    vector ones = {~0ull, ~0ull, ~0ull, ~0ull}, legacy, vex, upper;

    __asm__ volatile("vmovdqa %3, %%ymm3; vmovdqa %%ymm3, %%ymm4; vmovdqa %%ymm3, %%ymm5\n"
                     "movaps %%xmm3, %%xmm3; pxor %%xmm3, %%xmm3; vmovdqa %%ymm3, %0\n"
                     "vpaddq %%xmm4, %%xmm4, %%xmm4; vmovdqa %%ymm4, %1\n"
                     "vzeroupper; vmovdqa %%ymm5, %2"
                     : "=m"(legacy), "=m"(vex), "=m"(upper)
                     : "m"(ones)
                     : "xmm3", "xmm4", "xmm5");
    ok(legacy[1] == 0 && legacy[2] == ~0ull && legacy[3] == ~0ull, "SSE keeps upper halves");
    ok(vex[0] == ~1ull && vex[2] == 0 && vex[3] == 0, "VEX of 128 bits zeroes them");
    ok(upper[1] == ~0ull && upper[2] == 0, "and so does VZEROUPPER");
}

/* ------------------------------------------------------------------ results */

static void check_fma(void)
{
    vector x = {0x3ff0000000400000, 0x3ff0000000400000, 0x3ff0000000400000, 0x3ff0000000400000},
           y = {0xbff0000000000000, 0xbff0000000000000, 0xbff0000000000000, 0xbff0000000000000};
    unsigned bad = 0;

    /* (1 + 2^-30)^2 - 1 with the 2^-60 that a rounded product has lost */
    __asm__ volatile("vmovapd %1, %%ymm1; vmovapd %0, %%ymm2; vfmadd231pd %%ymm1, %%ymm1, %%ymm2\n"
                     "vmovapd %%ymm2, %0"
                     : "+m"(y)
                     : "m"(x)
                     : "xmm1", "xmm2");
    for (unsigned k = 0; k < 4; k++)
        bad += y[k] != 0x3e20000000200000;
    equal(bad, 0, "FMA rounds once");
}

static void check_half_floats(void)
{
    float in[8] __attribute__((aligned(32))) = {1.5f, -2, 65504, 1e6f, 0, 6e-8f, 0.1f, 1}, out[8];
    static const uint16_t want[8] = {0x3e00, 0xc000, 0x7bff, 0x7c00, 0, 1, 0x2e66, 0x3c00};
    uint16_t halves[8];

    __asm__ volatile("vmovaps %2, %%ymm1; vcvtps2ph $0, %%ymm1, %0; vcvtph2ps %0, %%ymm2\n"
                     "vmovups %%ymm2, %1"
                     : "=m"(halves), "=m"(out)
                     : "m"(in)
                     : "xmm1", "xmm2");
    ok(memcmp(halves, want, sizeof(want)) == 0, "F16C rounds to half floats");
    ok(out[0] == 1.5f && out[1] == -2 && out[2] == 65504, "and back");
}

/* ------------------------------------------------------------------ partial memory */

static unsigned char *hole;
static unsigned faults;

static void fill_hole(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)info;
    (void)context;
    faults++;
    mprotect(hole, PAGE, PROT_READ | PROT_WRITE);
    memset(hole, 0x33, PAGE);
}

/* The third element faults, its handler makes the page, and the instruction goes on. */
static void check_gather(void)
{
    struct sigaction action = {.sa_sigaction = fill_hole, .sa_flags = SA_SIGINFO}, old;
    unsigned char *base = pages(2, PROT_READ | PROT_WRITE);
    int32_t index[8] __attribute__((aligned(32))) = {0, 4, 4096, 8, 4100, 12, 1 << 30, 16};
    uint32_t mask[8] __attribute__((aligned(32))) = {~0u, ~0u, 1u << 31, ~0u, ~0u, ~0u, 1, ~0u};
    uint32_t out[8] __attribute__((aligned(32))) = {7, 7, 7, 7, 7, 7, 7, 7};
    static const uint32_t want[8] = {0x11111111, 0x11111111, 0x33333333, 0x11111111,
                                     0x33333333, 0x11111111, 7,          0x11111111};

    memset(base, 0x11, PAGE);
    hole = base + PAGE;
    mprotect(hole, PAGE, PROT_NONE);
    faults = 0;
    sigaction(SIGSEGV, &action, &old);
    __asm__ volatile("vmovdqa %0, %%ymm1; vmovdqa %1, %%ymm2; vmovdqa %2, %%ymm3\n"
                     "vpgatherdd %%ymm3, (%3,%%ymm2), %%ymm1\n"
                     "vmovdqa %%ymm1, %0; vmovdqa %%ymm3, %2"
                     : "+m"(out), "+m"(index), "+m"(mask)
                     : "r"(base)
                     : "xmm1", "xmm2", "xmm3", "memory");
    sigaction(SIGSEGV, &old, NULL);
    ok(memcmp(out, want, sizeof(want)) == 0, "a gather loads what its mask selects");
    equal(faults, 1, "faults where it has to, and goes on");
    ok(!(mask[0] | mask[1] | mask[2] | mask[3] | mask[4] | mask[5] | mask[6] | mask[7]),
       "and its mask is zero then");
    munmap(base, 2 * PAGE);
}

static void masked_store(void *to)
{
    vector value = {1, 2, 3, 4}, mask = {~0ull, 1ull << 63, 0, 0};

    __asm__ volatile("vmovdqa %0, %%ymm1; vmovdqa %1, %%ymm2\n"
                     "vmaskmovpd %%ymm1, %%ymm2, (%2)"
                     :
                     : "m"(value), "m"(mask), "r"(to)
                     : "xmm1", "xmm2", "memory");
}

static void masked_load(void *from)
{
    vector mask = {~0ull, 1ull << 63, 0, 0}, *at = from, value;

    __asm__ volatile("vmovdqa %1, %%ymm2; vmaskmovpd (%2), %%ymm2, %%ymm1; vmovdqa %%ymm1, %0"
                     : "=m"(value)
                     : "m"(mask), "r"(at)
                     : "xmm1", "xmm2", "memory");
    ok(value[0] == 1 && value[1] == 2 && value[2] == 0 && value[3] == 0,
       "a masked load gives zeros for the rest");
}

static void check_masked(void)
{
    unsigned char *base = pages(2, PROT_READ | PROT_WRITE);
    struct trap trap;
    uint64_t value;

    munmap(base + PAGE, PAGE);
    ok(!trapped(masked_store, base + PAGE - 16, &trap), "a masked store ends before a hole");
    memcpy(&value, base + PAGE - 8, 8);
    equal(value, 2, "and stores what its mask selects");
    ok(!trapped(masked_load, base + PAGE - 16, &trap), "so does a masked load");
    ok(trapped(masked_store, base + PAGE - 8, &trap) && trap.signal == SIGSEGV,
       "an element in the hole faults");
    memcpy(&value, base + PAGE - 8, 8);
    equal(value, 2, "and nothing is stored");
    munmap(base, PAGE);
}

static void divide(void *arg)
{
    vector one = {0x3ff0000000000000, 0x3ff0000000000000, 0x3ff0000000000000, 0x3ff0000000000000},
           zero = {0x3ff0000000000000, 0x3ff0000000000000, 0x3ff0000000000000, 0};
    uint32_t mxcsr = 0x1d80;

    (void)arg;
    __asm__ volatile("vldmxcsr %2; vmovapd %0, %%ymm1; vdivpd %1, %%ymm1, %%ymm1"
                     :
                     : "m"(one), "m"(zero), "m"(mxcsr)
                     : "xmm1");
}

static void check_exceptions(void)
{
    struct trap trap;

    ok(trapped(divide, NULL, &trap) && trap.signal == SIGFPE && trap.code == FPE_FLTDIV,
       "division by zero in the upper half, unmasked, is SIGFPE");
}

void check_avx(void)
{
    check_cpuid();
    if (!has_avx()) {
        skip("no AVX");
        return;
    }
    check_tasks();
    check_signal();
    check_halves();
    check_exceptions();
    check_masked();
    if (leaf(7, 0, 1) >> 5 & 1)
        check_gather();
    else
        skip("no AVX2");
    if (leaf(1, 0, 2) >> 12 & 1)
        check_fma();
    else
        skip("no FMA");
    if (leaf(1, 0, 2) >> 29 & 1)
        check_half_floats();
    else
        skip("no F16C");
}
