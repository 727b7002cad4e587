/* The state of x87 and SSE: kept across task switches, signals and forks, and never another
 * task's. */
#include "check.h"

#include <cpuid.h>
#include <sched.h>
#include <sys/mman.h>

/* ------------------------------------------------------------------ many tasks */

struct fp_state {
    uint32_t mxcsr;
    uint16_t control;
    uint64_t vectors[16][2];
    long double top, below;
};

static void load_state(unsigned seed)
{
    uint32_t mxcsr = 0x1f80 | (seed & 3) << 13;
    uint16_t control = (uint16_t)(0x37f | (seed & 3) << 10);
    uint64_t value = 0x0101010101010101ull * (seed & 0xff);

    __asm__ volatile("ldmxcsr %0; fninit; fldcw %1; fild%z2 %2; fldpi"
                     :
                     : "m"(mxcsr), "m"(control), "m"(seed));
    __asm__ volatile(
        "movq %0, %%xmm0; movlhps %%xmm0, %%xmm0; movaps %%xmm0, %%xmm1; paddq %%xmm1, %%xmm1\n"
        "movaps %%xmm0, %%xmm2; movaps %%xmm0, %%xmm3; movaps %%xmm0, %%xmm4; movaps %%xmm0, "
        "%%xmm5\n"
        "movaps %%xmm0, %%xmm6; movaps %%xmm0, %%xmm7; movaps %%xmm0, %%xmm8; movaps %%xmm0, "
        "%%xmm9\n"
        "movaps %%xmm0, %%xmm10; movaps %%xmm0, %%xmm11; movaps %%xmm0, %%xmm12; movaps %%xmm0, "
        "%%xmm13\n"
        "movaps %%xmm0, %%xmm14; movaps %%xmm1, %%xmm15"
        :
        : "r"(value)
        : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
          "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

/* How many pieces of the state are not as load_state() left them. Unloads the x87 stack. */
static unsigned wrong_state(unsigned seed)
{
    struct {
        unsigned char bytes[512];
    } __attribute__((aligned(16))) area;
    uint64_t want = 0x0101010101010101ull * (seed & 0xff), v[16][2];
    uint32_t mxcsr;
    uint16_t control;
    long double pi, number;
    unsigned bad = 0;

    __asm__ volatile("fxsave %0" : "=m"(area));
    __asm__ volatile("fstpt %0; fstpt %1" : "=m"(pi), "=m"(number));
    memcpy(&control, area.bytes, 2);
    memcpy(&mxcsr, area.bytes + 24, 4);
    memcpy(v, area.bytes + 160, sizeof(v));
    bad += control != (0x37f | (seed & 3) << 10);
    bad += mxcsr != (0x1f80 | (seed & 3) << 13);
    bad += number != (long double)(int)seed || pi < 3.14L || pi > 3.15L;
    for (unsigned i = 0; i < 16; i++)
        for (unsigned k = 0; k < 2; k++)
            bad += v[i][k] != (i == 1 || i == 15 ? want * 2 : want);
    return bad;
}

static void system_call(long number)
{
    __asm__ volatile("syscall" : "+a"(number) : : "rcx", "r11", "memory");
}

static void switch_often(void *arg)
{
    unsigned seed = *(unsigned *)arg * 7, bad = 0;
    volatile unsigned spin;

    pin(seed / 2);
    for (unsigned i = 0; i < 300; i++) {
        load_state(seed);
        if (i % 3)
            system_call(24 /* sched_yield */);
        else
            for (spin = 0; spin < 2000; spin++)
                ;
        bad += wrong_state(seed);
    }
    _exit(bad != 0);
}

static void check_tasks(void)
{
    enum { TASKS = 8 };

    equal(in_children(TASKS, switch_often), 0, "state of %d tasks that switch often", TASKS);
}

/* ------------------------------------------------------------------ signals */

static volatile sig_atomic_t handled;
static volatile uint32_t mxcsr_in_handler;
static volatile uint16_t control_in_handler;

static void clobber(int signal)
{
    uint16_t control;

    (void)signal;
    __asm__ volatile("fnstcw %0" : "=m"(control));
    control_in_handler = control;
    mxcsr_in_handler = __builtin_ia32_stmxcsr();
    load_state(0xee);
    handled++;
}

static void check_signal(void)
{
    long pid = getpid(), number = 62, signal_number = SIGUSR1;

    signal(SIGUSR1, clobber);
    load_state(0x35);
    __asm__ volatile("syscall"
                     : "+a"(number)
                     : "D"(pid), "S"(signal_number)
                     : "rcx", "r11", "memory");
    equal(wrong_state(0x35), 0, "a signal handler that uses everything changes nothing");
    equal((uint64_t)handled, 1, "it ran");
    equal(control_in_handler, 0x37f, "it starts with the default x87 control word");
    equal(mxcsr_in_handler, 0x1f80, "and the default MXCSR");
}

/* A handler changes the saved state: the program goes on with that. */
static void patch(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    (void)signal, (void)info;
    uc->uc_mcontext.fpregs->_xmm[5].element[0] = 0xabcdef01;
    uc->uc_mcontext.fpregs->mxcsr = 0x9f80;
}

static void check_patch(void)
{
    struct sigaction action = {.sa_sigaction = patch, .sa_flags = SA_SIGINFO};
    long pid = getpid(), number = 62, signal_number = SIGUSR2;
    uint32_t mxcsr, element;

    sigaction(SIGUSR2, &action, NULL);
    __asm__ volatile("pxor %%xmm5, %%xmm5; syscall; movd %%xmm5, %1; stmxcsr %2"
                     : "+a"(number), "=r"(element), "=m"(mxcsr)
                     : "D"(pid), "S"(signal_number)
                     : "rcx", "r11", "memory", "xmm5");
    __builtin_ia32_ldmxcsr(0x1f80);
    equal(element, 0xabcdef01, "a handler can change XMM5");
    equal(mxcsr, 0x9f80, "and MXCSR");
}

/* ------------------------------------------------------------------ arithmetic and its flags */

static uint32_t flags_of_sse(double a, double b)
{
    volatile double x = a, y = b, z;

    __builtin_ia32_ldmxcsr(0x1f80);
    z = x / y;
    (void)z;
    return __builtin_ia32_stmxcsr() & 0x3f;
}

static uint16_t flags_of_x87(long double a, long double b)
{
    volatile long double x = a, y = b, z;
    uint16_t status;

    __asm__ volatile("fninit");
    z = x / y;
    (void)z;
    __asm__ volatile("fnstsw %0" : "=am"(status));
    return status & 0x3f;
}

static void check_flags(void)
{
    volatile double tiny = 4.9e-324, huge = 1.7e308;

    equal(flags_of_sse(1, 2), 0, "SSE: exact");
    equal(flags_of_sse(1, 3), 0x20, "SSE: inexact");
    equal(flags_of_sse(1, 0), 0x04, "SSE: division by zero");
    equal(flags_of_sse(0, 0), 0x01, "SSE: invalid");
    equal(flags_of_sse(huge, 0.25), 0x28, "SSE: overflow");
    equal(flags_of_sse(tiny, 3), 0x32, "SSE: underflow of a denormal");
    equal(flags_of_x87(1, 3), 0x20, "x87: inexact");
    equal(flags_of_x87(1, 0), 0x04, "x87: division by zero");
    equal(flags_of_x87(0, 0), 0x01, "x87: invalid");
}

static void check_rounding(void)
{
    static const int64_t want[] = {2, 2, 3, 2}; /* 2.5 to nearest even, down, up, towards zero */
    unsigned bad = 0;

    for (unsigned mode = 0; mode < 4; mode++) {
        uint16_t control = (uint16_t)(0x37f | mode << 10);
        double value = 2.5;
        int64_t sse, x87;

        __builtin_ia32_ldmxcsr(0x1f80 | mode << 13);
        __asm__ volatile("cvtsd2si %1, %0" : "=r"(sse) : "m"(value));
        __asm__ volatile("fninit; fldcw %1; fldl %2; fistpll %0; fninit"
                         : "=m"(x87)
                         : "m"(control), "m"(value));
        bad += sse != want[mode] || x87 != want[mode];
    }
    __builtin_ia32_ldmxcsr(0x1f80);
    equal(bad, 0, "rounding modes");
}

static void check_fxsave(void)
{
    unsigned char area[512] __attribute__((aligned(16))), again[512] __attribute__((aligned(16)));
    unsigned bad;

    memset(area, 0, sizeof(area));
    memset(again, 0, sizeof(again));
    load_state(0x21);
    __asm__ volatile("fxsave %0" : "=m"(area));
    load_state(0x42);
    __asm__ volatile("fxrstor %0" : : "m"(area));
    bad = wrong_state(0x21); /* before anything else uses vectors */
    __asm__ volatile("fxrstor %1; fxsave %0" : "=m"(again) : "m"(area));
    /* All but the pointers to the last x87 instruction, which some processors keep and some do not.
     */
    ok(memcmp(area, again, 6) == 0 && memcmp(area + 24, again + 24, 392) == 0, "fxrstor undoes");
    equal(bad, 0, "all of it");
}

void check_fpu(void)
{
    check_flags();
    check_rounding();
    check_fxsave();
    check_tasks();
    check_signal();
    check_patch();
}
