/* Synchronous signals: number, code, address and registers, as the processor and Linux define them.
 */
#include "check.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/time.h>

enum { VECTOR_DE = 0, VECTOR_DB = 1, VECTOR_BP = 3, VECTOR_UD = 6, VECTOR_GP = 13, VECTOR_PF = 14 };

/* ------------------------------------------------------------------ one instruction that faults */

#define INSTRUCTION(name, text)                                                                    \
    static void name(void *arg)                                                                    \
    {                                                                                              \
        (void)arg;                                                                                 \
        __asm__ volatile(".globl at_" #name "\nat_" #name ": " text                                \
                         :                                                                         \
                         : "D"(arg)                                                                \
                         : "rax", "rcx", "rdx", "rbx", "memory", "cc");                            \
    }                                                                                              \
    extern const char at_##name[];

INSTRUCTION(read_memory, "mov (%%rdi), %%eax")
INSTRUCTION(write_memory, "movb $1, (%%rdi)")
INSTRUCTION(call_memory, "jmp *%%rdi")
INSTRUCTION(divide_by_zero, "xor %%ecx, %%ecx; cltd; idiv %%ecx")
INSTRUCTION(divide_overflow, "mov $0x80000000, %%eax; cltd; mov $-1, %%ecx; idiv %%ecx")
INSTRUCTION(undefined, "ud2")
INSTRUCTION(undefined_ff, ".byte 0x0f, 0xff, 0xc0")
INSTRUCTION(breakpoint, "int3")
INSTRUCTION(icebp, ".byte 0xf1")
INSTRUCTION(halt, "hlt")
INSTRUCTION(disable_interrupts, "cli")
INSTRUCTION(port_in, "in $0x80, %%al")
INSTRUCTION(read_cr3, "mov %%cr3, %%rax")
INSTRUCTION(read_msr, "xor %%ecx, %%ecx; rdmsr")
INSTRUCTION(load_cr0, "lmsw %%ax")
INSTRUCTION(invalidate, "invlpg (%%rdi)")
INSTRUCTION(soft_interrupt, "int $0x21")
INSTRUCTION(bad_selector, "mov $0x33f, %%eax; mov %%eax, %%ds")
INSTRUCTION(misaligned_vector, "movaps 1(%%rdi), %%xmm0")
INSTRUCTION(
    stack_noncanonical,
    "mov %%rbp, %%rdx; movabs $0x8000000000000000, %%rbp; mov (%%rbp), %%rax; mov %%rdx, %%rbp")
INSTRUCTION(
    alignment,
    "pushf; orq $0x40000, (%%rsp); popf; mov 1(%%rdi), %%eax; pushf; andq $~0x40000, (%%rsp); popf")

/* EFLAGS.AC goes through the kernel and back, by SYSCALL and by interrupts. */
INSTRUCTION(alignment_after_syscall,
            "pushf; orq $0x40000, (%%rsp); popf; mov $39, %%eax; push %%r11; syscall; pop %%r11; "
            "mov 1(%%rdi), %%eax; pushf; andq $~0x40000, (%%rsp); popf")
INSTRUCTION(alignment_after_interrupts,
            "pushf; orq $0x40000, (%%rsp); popf; mov $0x4000000, %%ecx; 1: dec %%ecx; jnz 1b; "
            "mov 1(%%rdi), %%eax; pushf; andq $~0x40000, (%%rsp); popf")

#define NON_CANONICAL ((void *)0x0000900000000000ul)

struct expectation {
    const char *what;
    void (*fn)(void *);
    const char *at; /* where RIP must be; NULL: not checked */
    void *arg;
    int signal, code;
    int vector, error; /* -1: not checked */
    bool addr_is_arg, addr_is_rip;
};

static void expect(const struct expectation *e)
{
    struct trap trap;

    if (!ok(trapped(e->fn, e->arg, &trap), "%s: a signal comes", e->what))
        return;
    equal((uint64_t)trap.signal, (uint64_t)e->signal, "%s: its number", e->what);
    equal((uint64_t)trap.code, (uint64_t)e->code, "%s: its code", e->what);
    if (e->at)
        equal(trap.regs[REG_RIP], (uint64_t)e->at, "%s: RIP", e->what);
    if (e->vector >= 0)
        equal(trap.regs[REG_TRAPNO], (uint64_t)e->vector, "%s: vector", e->what);
    if (e->error >= 0)
        equal(trap.regs[REG_ERR], (uint64_t)e->error, "%s: error code", e->what);
    if (e->addr_is_arg)
        equal(trap.addr, (uintptr_t)e->arg, "%s: address", e->what);
    if (e->addr_is_rip)
        equal(trap.addr, trap.regs[REG_RIP], "%s: address is RIP", e->what);
}

static void check_table(void)
{
    char *hole = pages(1, PROT_NONE), *read_only = pages(1, PROT_READ),
         *data = pages(1, PROT_READ | PROT_WRITE);
    const struct expectation table[] = {
        {"read of nothing", read_memory, at_read_memory, (void *)0x10, SIGSEGV, SEGV_MAPERR,
         VECTOR_PF, 4, 1, 0},
        {"read of PROT_NONE", read_memory, at_read_memory, hole + 8, SIGSEGV, SEGV_ACCERR,
         VECTOR_PF, 4, 1, 0},
        {"write of nothing", write_memory, at_write_memory, (void *)0x20, SIGSEGV, SEGV_MAPERR,
         VECTOR_PF, 6, 1, 0},
        {"write to read-only", write_memory, at_write_memory, read_only + 77, SIGSEGV, SEGV_ACCERR,
         VECTOR_PF, -1, 1, 0},
        {"read of the kernel", read_memory, at_read_memory, (void *)0xffffffff81000000ul, SIGSEGV,
         SEGV_MAPERR, VECTOR_PF, -1, 1, 0},
        {"execution of data", call_memory, data, data, SIGSEGV, SEGV_ACCERR, VECTOR_PF, -1, 1, 1},
        {"execution of nothing", call_memory, (char *)0x30, (void *)0x30, SIGSEGV, SEGV_MAPERR,
         VECTOR_PF, -1, 1, 1},
        {"non-canonical read", read_memory, at_read_memory, NON_CANONICAL, SIGSEGV, SI_KERNEL,
         VECTOR_GP, 0, 0, 0},
        {"non-canonical jump", call_memory, NULL, NON_CANONICAL, SIGSEGV, SI_KERNEL, VECTOR_GP, 0,
         0, 0},
        {"division by zero", divide_by_zero, at_divide_by_zero + 3, NULL, SIGFPE, FPE_INTDIV,
         VECTOR_DE, -1, 0, 1},
        {"division overflow", divide_overflow, at_divide_overflow + 11, NULL, SIGFPE, FPE_INTDIV,
         VECTOR_DE, -1, 0, 1},
        {"ud2", undefined, at_undefined, NULL, SIGILL, ILL_ILLOPN, VECTOR_UD, -1, 0, 1},
        {"ud0", undefined_ff, at_undefined_ff, NULL, SIGILL, ILL_ILLOPN, VECTOR_UD, -1, 0, 1},
        {"int3", breakpoint, at_breakpoint + 1, NULL, SIGTRAP, SI_KERNEL, VECTOR_BP, -1, 0, 0},
        {"icebp", icebp, at_icebp + 1, NULL, SIGTRAP, TRAP_BRKPT, VECTOR_DB, -1, 0, 0},
        {"hlt", halt, at_halt, NULL, SIGSEGV, SI_KERNEL, VECTOR_GP, 0, 0, 0},
        {"cli", disable_interrupts, at_disable_interrupts, NULL, SIGSEGV, SI_KERNEL, VECTOR_GP, 0,
         0, 0},
        {"in", port_in, at_port_in, NULL, SIGSEGV, SI_KERNEL, VECTOR_GP, 0, 0, 0},
        {"mov from CR3", read_cr3, at_read_cr3, NULL, SIGSEGV, SI_KERNEL, VECTOR_GP, 0, 0, 0},
        {"rdmsr", read_msr, at_read_msr + 2, NULL, SIGSEGV, SI_KERNEL, VECTOR_GP, 0, 0, 0},
        {"lmsw", load_cr0, at_load_cr0, NULL, SIGSEGV, SI_KERNEL, VECTOR_GP, 0, 0, 0},
        {"invlpg", invalidate, at_invalidate, data, SIGSEGV, SI_KERNEL, VECTOR_GP, 0, 0, 0},
        {"int of a kernel gate", soft_interrupt, at_soft_interrupt, NULL, SIGSEGV, SI_KERNEL,
         VECTOR_GP, 0x21 * 8 + 2, 0, 0},
        {"selector past the table", bad_selector, at_bad_selector + 5, NULL, SIGSEGV, SI_KERNEL,
         VECTOR_GP, 0x33c, 0, 0},
        {"misaligned movaps", misaligned_vector, at_misaligned_vector, data, SIGSEGV, SI_KERNEL,
         VECTOR_GP, 0, 0, 0},
        {"non-canonical stack", stack_noncanonical, at_stack_noncanonical + 13, NULL, SIGBUS,
         SI_KERNEL, 12, 0, 0, 0},
        {"alignment check", alignment, at_alignment + 10, data, SIGBUS, BUS_ADRALN, 17, 0, 0, 0},
        {"alignment check after a system call", alignment_after_syscall,
         at_alignment_after_syscall + 21, data, SIGBUS, BUS_ADRALN, 17, 0, 0, 0},
        {"alignment check after interrupts", alignment_after_interrupts,
         at_alignment_after_interrupts + 19, data, SIGBUS, BUS_ADRALN, 17, 0, 0, 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        expect(&table[i]);
}

/* ------------------------------------------------------------------ floating point */

static void divide_sse(void *arg)
{
    volatile double zero = 0, one = 1;

    (void)arg;
    __builtin_ia32_ldmxcsr(0x1f80 & ~0x200u); /* unmask division by zero */
    one = one / zero;
}

static void divide_x87(void *arg)
{
    uint16_t control = 0x37f & ~4u;

    (void)arg;
    __asm__ volatile("fninit; fldcw %0; fld1; fldz; fdivrp; fwait" : : "m"(control));
}

static void check_float(void)
{
    struct trap trap;

    ok(trapped(divide_sse, NULL, &trap) && trap.signal == SIGFPE && trap.code == FPE_FLTDIV,
       "SSE division by zero");
    equal(trap.regs[REG_TRAPNO], 19, "SSE: vector");
    ok(trapped(divide_x87, NULL, &trap) && trap.signal == SIGFPE && trap.code == FPE_FLTDIV,
       "x87 division by zero");
    equal(trap.regs[REG_TRAPNO], 16, "x87: vector");
}

/* ------------------------------------------------------------------ single-step by the program
 * itself */

#define STEPS_MAX 64
static uint64_t steps[STEPS_MAX];
static volatile unsigned nr_steps;

static void on_step(int signal, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;

    (void)signal, (void)info;
    if (nr_steps < STEPS_MAX)
        steps[nr_steps++] = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
}

extern const char step_0[], step_1[], step_2[], step_3[], step_4[], step_5[], step_6[], step_end[];

static void check_step(void)
{
    struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO}, before;
    const char *want[] = {step_1, step_2, step_2, step_2, step_3, step_4, step_5, step_6, step_end};
    char from[4] = "abc", to[4] = "";

    sigaction(SIGTRAP, &action, &before);
    __asm__ volatile("pushf; orq $0x100, (%%rsp); popf\n"
                     "step_0: nop\n" /* the trap comes after this one */
                     "step_1: mov $3, %%ecx\n"
                     "step_2: rep movsb\n" /* one trap per iteration */
                     "step_3: jmp 1f\n"
                     "ud2\n"
                     "step_4: 1: push %%rax\n"
                     "step_5: pop %%rax\n"
                     "step_6: pushf; andq $~0x100, (%%rsp)\n"
                     "step_end: popf\n"
                     "nop\n"
                     :
                     : "S"(from), "D"(to)
                     : "rcx", "rax", "memory", "cc");
    sigaction(SIGTRAP, &before, NULL);
    ok(strcmp(to, "abc") == 0, "single-stepped code does its work");
    /* pushf and and are two steps; popf that clears TF still traps, as TF was set when it began. */
    equal(nr_steps, ARRAY_LEN(want) + 2, "number of steps");
    for (size_t i = 0; i < 8; i++)
        equal(steps[i], (uint64_t)want[i], "step %zu", i);
}

/* ------------------------------------------------------------------ stacks, masks, restarts */

static int recurse(volatile char *p, unsigned depth)
{
    char frame[1024];

    frame[0] = *p;
    return depth ? recurse(frame, depth - 1) + frame[0] : 0;
}

static void overflow(void *arg)
{
    char c = 1;

    (void)arg;
    recurse(&c, UINT32_MAX);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int signal)
{
    (void)signal;
    alarms++;
}

/* Registers of a loop that timer signals interrupt over and over. */
static void check_registers(void)
{
    struct itimerval every = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
    uint64_t bad = 0;

    signal(SIGALRM, on_alarm);
    alarms = 0;
    setitimer(ITIMER_REAL, &every, NULL);
    while (alarms < 50) {
        uint64_t difference;

        __asm__ volatile(
            "mov $0x1111, %%r8; mov $0x2222, %%r9; mov $0x3333, %%r10; mov $0x4444, %%r11\n"
            "mov $0x5555, %%r12; mov $0x6666, %%r13; mov $0x7777, %%r14; mov $0x8888, %%r15\n"
            "movq %%r8, %%xmm7; mov $2000, %%ecx; stc\n"
            "1: lea -1(%%rcx), %%rcx; jrcxz 2f; jmp 1b\n"
            "2: sbb %%rax, %%rax; not %%rax\n" /* the carry lived */
            "xor $0x1111, %%r8; xor $0x2222, %%r9; xor $0x3333, %%r10; xor $0x4444, %%r11\n"
            "xor $0x5555, %%r12; xor $0x6666, %%r13; xor $0x7777, %%r14; xor $0x8888, %%r15\n"
            "or %%r8, %%rax; or %%r9, %%rax; or %%r10, %%rax; or %%r11, %%rax; or %%r12, %%rax\n"
            "or %%r13, %%rax; or %%r14, %%rax; or %%r15, %%rax; movq %%xmm7, %%r8; xor $0x1111, "
            "%%r8\n"
            "or %%r8, %%rax\n"
            : "=a"(difference)
            :
            : "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm7", "cc");
        bad |= difference;
    }
    setitimer(ITIMER_REAL, &never, NULL);
    equal(bad, 0, "registers and flags survive timer signals");
}

static void check_restart(void)
{
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval soon = {{0, 0}, {0, 20000}};
    int fds[2];
    char c;

    if (pipe(fds) < 0)
        return;
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    ok(read(fds[0], &c, 1) < 0 && errno == EINTR, "a signal interrupts a read");
    close(fds[0]);
    close(fds[1]);
}

void check_signals(void)
{
    struct trap trap;

    check_table();
    check_float();
    check_step();
    ok(trapped(overflow, NULL, &trap) && trap.signal == SIGSEGV,
       "stack overflow, handled on another stack");
    check_registers();
    check_restart();
}
