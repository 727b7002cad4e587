/* A debugger and its child: stepping, breakpoints in memory and in debug registers, registers both
 * ways. */
#include "check.h"

#include <stdio.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

static volatile uint64_t watched[2];

/* What the child runs. traced_2 repeats; traced_call calls; all registers are set before
 * traced_regs. */
__asm__(".text\n"
        "traced: nop\n"
        "traced_1: mov $2, %ecx\n"
        "traced_2: loop traced_2\n"
        "traced_call: call traced_sub\n"
        "traced_sys: syscall\n"
        "traced_3: mov $0x1100, %eax\n"
        "mov $0x2200, %ebx; mov $0x3300, %ecx; mov $0x4400, %edx; mov $0x5500, %esi; mov $0x6600, "
        "%edi\n"
        "mov $0x8800, %r8d; mov $0x9900, %r9d; mov $0xaa00, %r10d; mov $0xbb00, %r11d\n"
        "mov $0xcc00, %r12d; mov $0xdd00, %r13d; mov $0xee00, %r14d; mov $0xff00, %r15d\n"
        "movq %r15, %xmm3; stc\n"
        "traced_regs: int3\n"
        "traced_after: nop\n"
        "traced_watch: mov %rax, watched(%rip)\n"
        "traced_watch_end: mov watched+8(%rip), %rax\n"
        /* Elsewhere than where the read stops: a processor may report both at once. */
        "traced_pause: nop\n"
        "traced_break: nop\n"
        "traced_exit: mov $60, %eax\n"
        "syscall\n"
        "ud2\n"
        "traced_sub: mov $39, %eax\n" /* getpid */
        "traced_ret: ret\n");
extern const char traced[], traced_1[], traced_2[], traced_call[], traced_sys[], traced_3[],
    traced_regs[], traced_after[], traced_watch_end[], traced_pause[], traced_break[],
    traced_exit[], traced_sub[], traced_ret[];

static pid_t start(void)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        ((void (*)(void))traced)();
        _exit(99);
    }
    waitpid(child, &status, 0);
    return child;
}

/* Goes on by @request; the signal of the next stop, or -1 at the end. */
static int next_stop(pid_t child, int request)
{
    int status;

    if (ptrace(request, child, 0, 0) < 0 || waitpid(child, &status, 0) != child ||
        !WIFSTOPPED(status))
        return -1;
    return WSTOPSIG(status);
}

static struct user_regs_struct regs_of(pid_t child)
{
    struct user_regs_struct regs = {0};

    ptrace(PTRACE_GETREGS, child, 0, &regs);
    return regs;
}

static long code_at(pid_t child, const void *at)
{
    return ptrace(PTRACE_PEEKTEXT, child, at, 0);
}

/* A breakpoint as debuggers do it; the instruction is put back when it is reached. */
static bool run_to(pid_t child, const char *at)
{
    long original = code_at(child, at);
    struct user_regs_struct regs;
    int stop;

    ptrace(PTRACE_POKETEXT, child, at, (original & ~0xffl) | 0xcc);
    stop = next_stop(child, PTRACE_CONT);
    regs = regs_of(child);
    ptrace(PTRACE_POKETEXT, child, at, original);
    if (stop != SIGTRAP || regs.rip != (uint64_t)at + 1)
        return false;
    regs.rip--;
    return ptrace(PTRACE_SETREGS, child, 0, &regs) == 0;
}

static void check_steps(pid_t child)
{
    const char *want[] = {traced_1,   traced_2,   traced_2,   traced_call,
                          traced_sub, traced_ret, traced_sys, traced_3};

    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        if (!equal((uint64_t)next_stop(child, PTRACE_SINGLESTEP), SIGTRAP, "step %zu stops", i))
            return;
        equal(regs_of(child).rip, (uint64_t)want[i], "step %zu: RIP", i);
    }
    equal(regs_of(child).rax, (uint64_t)child, "the system call that was stepped over worked");
    ok(!(regs_of(child).eflags & 0x100), "TF does not show");
}

static void check_registers(pid_t child)
{
    struct user_fpregs_struct fp = {0};
    struct user_regs_struct regs;

    equal((uint64_t)next_stop(child, PTRACE_CONT), SIGTRAP, "int3 of the child's own stops");
    regs = regs_of(child);
    equal(regs.rip, (uint64_t)traced_after, "RIP is past int3");
    ok(regs.rax == 0x1100 && regs.rbx == 0x2200 && regs.rcx == 0x3300 && regs.rdx == 0x4400 &&
           regs.rsi == 0x5500 && regs.rdi == 0x6600 && regs.r8 == 0x8800 && regs.r9 == 0x9900 &&
           regs.r10 == 0xaa00 && regs.r11 == 0xbb00 && regs.r12 == 0xcc00 && regs.r13 == 0xdd00 &&
           regs.r14 == 0xee00 && regs.r15 == 0xff00,
       "general registers");
    ok(regs.eflags & 1, "the carry flag");
    ptrace(PTRACE_GETFPREGS, child, 0, &fp);
    equal(fp.xmm_space[4 * 3], 0xff00, "XMM3");
    regs.rax = 0x123456789abcdefull;
    equal((uint64_t)ptrace(PTRACE_SETREGS, child, 0, &regs), 0, "registers can be set");
}

static long poke_debug(pid_t child, unsigned index, uint64_t value)
{
    return ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg) + index * 8, value);
}

static uint64_t debug_status(pid_t child)
{
    return (uint64_t)ptrace(PTRACE_PEEKUSER, child, offsetof(struct user, u_debugreg) + 6 * 8, 0);
}

/* DR7: enable bit pairs from 0, type and length in fours from 16. */
static uint64_t control(unsigned index, unsigned type, unsigned bytes)
{
    return 1ull << (2 * index) | (uint64_t)(type | (bytes - 1) << 2) << (16 + 4 * index);
}

static void check_debug_registers(pid_t child)
{
    enum { EXECUTE = 0, WRITE = 1, ACCESS = 3 };
    long error = poke_debug(child, 0, (uint64_t)&watched[0]) |
                 poke_debug(child, 1, (uint64_t)&watched[1] + 4) |
                 poke_debug(child, 2, (uint64_t)traced_break);

    error |=
        poke_debug(child, 7, control(0, WRITE, 4) | control(1, ACCESS, 4) | control(2, EXECUTE, 1));
    if (error) {
        skip("debug registers are not to be had");
        return;
    }
    equal((uint64_t)next_stop(child, PTRACE_CONT), SIGTRAP, "a watched write stops");
    equal(regs_of(child).rip, (uint64_t)traced_watch_end, "after it was done");
    equal(debug_status(child) & 15, 1, "and DR6 tells which");
    equal((uint64_t)ptrace(PTRACE_PEEKDATA, child, &watched[0], 0), 0x123456789abcdefull,
          "with its value");
    equal((uint64_t)next_stop(child, PTRACE_CONT), SIGTRAP, "a watched read stops");
    equal(regs_of(child).rip, (uint64_t)traced_pause, "after it was done");
    equal(debug_status(child) & 2, 2, "and DR6 tells which");
    equal((uint64_t)next_stop(child, PTRACE_CONT), SIGTRAP, "a breakpoint register stops");
    equal(regs_of(child).rip, (uint64_t)traced_break, "before the instruction");
    equal(debug_status(child) & 15, 4, "and DR6 tells which");
}

/* Both stops of every system call. */
static void check_system_calls(void)
{
    pid_t child = start();
    uint64_t numbers[4] = {0};
    unsigned stops = 0;
    int status;

    while (next_stop(child, PTRACE_SYSCALL) == SIGTRAP && stops < 32) {
        struct user_regs_struct regs = regs_of(child);

        if (regs.rip == (uint64_t)traced_after)
            continue; /* int3 */
        numbers[stops++ & 3] = regs.orig_rax;
    }
    waitpid(child, &status, WNOHANG);
    ok(stops >= 3, "system calls stop on entry and exit (%u stops)", stops);
    equal(numbers[(stops - 1) & 3], 60, "the last one is exit");
}

void check_trace(void)
{
    pid_t child = start();

    ok(run_to(child, traced), "a breakpoint in memory is reached");
    check_steps(child);
    check_registers(child);
    check_debug_registers(child);
    ok(run_to(child, traced_exit), "a second breakpoint is reached");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    check_system_calls();
}
