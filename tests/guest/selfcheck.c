/* selfcheck: a guest checks the machine that it runs on.
 *
 * A static program that needs nothing but Linux: it does what programs do that lean hard on the
 * processor and on the kernel's use of it (signals, debugging, threads, code that changes, copy on
 * write, time), and prints TAP. Each group runs in a process of its own, with a time limit, so that
 * a crash or a hang is one failed group. It passes on real hardware; where it fails in a guest, the
 * engine or what is around it is wrong.
 *
 * `selfcheck` runs all groups, `selfcheck NAME...` only these. `selfcheck --nothing` is what a
 * group starts to see that programs start.
 */
#include "check.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

/* Many times what any of them takes on the slowest engine under sanitizers. */
#define GROUP_SECONDS 240

static const struct group {
    const char *name;
    void (*run)(void);
} groups[] = {
    {"signals", check_signals}, {"trace", check_trace},     {"faults", check_faults},
    {"strings", check_strings}, {"fpu", check_fpu},         {"jit", check_jit},
    {"compat", check_compat},   {"threads", check_threads}, {"tlb", check_tlb},
    {"fork", check_fork},       {"time", check_time},       {"avx", check_avx},
    {"help", check_help},       {"patch", check_patching},
};

static const char *group_name = "selfcheck";
static struct shared {
    unsigned points, failures;
} * shared; /* with the groups' processes; atomic */

/* ------------------------------------------------------------------ output */

/* One write, so that lines of several processes do not mix. */
static void print(const char *head, const char *format, va_list args, const char *tail)
{
    char line[512];
    int used = snprintf(line, sizeof(line), "%s", head);

    used += vsnprintf(line + used, sizeof(line) - (size_t)used, format, args);
    if (used > (int)sizeof(line) - 120)
        used = (int)sizeof(line) - 120;
    used += snprintf(line + used, sizeof(line) - (size_t)used, "%s\n", tail);
    if (write(1, line, (size_t)used) < 0)
        _exit(3);
}

static bool point(bool condition, const char *format, va_list args, const char *tail)
{
    unsigned number = __atomic_add_fetch(&shared->points, 1, __ATOMIC_SEQ_CST);
    char head[64];

    if (!condition)
        __atomic_add_fetch(&shared->failures, 1, __ATOMIC_SEQ_CST);
    snprintf(head, sizeof(head), "%s %u - %s: ", condition ? "ok" : "not ok", number, group_name);
    print(head, format, args, tail);
    return condition;
}

bool ok(bool condition, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    point(condition, format, args, "");
    va_end(args);
    return condition;
}

bool equal(uint64_t got, uint64_t want, const char *format, ...)
{
    char tail[100] = "";
    va_list args;

    if (got != want)
        snprintf(tail, sizeof(tail), " (got %#lx, want %#lx)", got, want);
    va_start(args, format);
    point(got == want, format, args, tail);
    va_end(args);
    return got == want;
}

void note(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print("# ", format, args, "");
    va_end(args);
}

void skip(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    point(true, format, args, " # SKIP");
    va_end(args);
}

/* ------------------------------------------------------------------ what groups use */

static __thread sigjmp_buf trap_return;
static __thread struct trap *trap_found;

static void on_trap(int signal, siginfo_t *info, void *context)
{
    const ucontext_t *uc = context;

    /* The kernel leaves EFLAGS.AC as the program had it: what follows would trap, too. */
    __asm__ volatile("lea -128(%%rsp), %%rsp; pushf; andq $~0x40000, (%%rsp); popf; "
                     "lea 128(%%rsp), %%rsp"
                     :
                     :
                     : "memory", "cc");
    trap_found->signal = signal;
    trap_found->code = info->si_code;
    trap_found->addr = (uintptr_t)info->si_addr;
    memcpy(trap_found->regs, uc->uc_mcontext.gregs, sizeof(trap_found->regs));
    siglongjmp(trap_return, 1);
}

bool trapped(void (*fn)(void *), void *arg, struct trap *trap)
{
    static const int caught[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    static __thread char stack[65536];
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction before[ARRAY_LEN(caught)];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)}, old;
    uint32_t mxcsr = __builtin_ia32_stmxcsr();
    uint16_t control;
    volatile bool found = false;

    memset(trap, 0, sizeof(*trap));
    trap_found = trap;
    __asm__ volatile("fnstcw %0" : "=m"(control));
    sigaltstack(&alternate, &old);
    for (unsigned i = 0; i < ARRAY_LEN(caught); i++)
        sigaction(caught[i], &action, &before[i]);
    if (sigsetjmp(trap_return, 1) == 0)
        fn(arg);
    else
        found = true;
    __asm__ volatile("cld; fninit; fldcw %0" : : "m"(control));
    __builtin_ia32_ldmxcsr(mxcsr);
    for (unsigned i = 0; i < ARRAY_LEN(caught); i++)
        sigaction(caught[i], &before[i], NULL);
    sigaltstack(&old, NULL);
    return found;
}

void *pages(unsigned count, int prot)
{
    void *p = mmap(NULL, count * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED) {
        ok(false, "%u pages of memory", count);
        exit(1);
    }
    return p;
}

unsigned cpus(void)
{
    static unsigned count; /* every thread would write the same */

    if (!count)
        count = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    return count;
}

unsigned pin(unsigned cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu % cpus(), &set);
    sched_setaffinity(0, sizeof(set), &set);
    return cpus();
}

int in_child(void (*fn)(void *), void *arg)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        fn(arg);
        _exit(0);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

unsigned in_children(unsigned count, void (*fn)(void *))
{
    pid_t children[count];
    unsigned bad = 0;
    int status;

    for (unsigned number = 1; number <= count; number++) {
        children[number - 1] = fork();
        if (children[number - 1] == 0) {
            fn(&number);
            _exit(0);
        }
    }
    for (unsigned i = 0; i < count; i++)
        bad += children[i] < 0 || waitpid(children[i], &status, 0) != children[i] || status != 0;
    return bad;
}

uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* ------------------------------------------------------------------ groups */

static void run_group(void *arg)
{
    const struct group *group = arg;

    setpgid(0, 0);
    alarm(GROUP_SECONDS);
    group->run();
}

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc == 1;
}

static void say_done(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    print("", format, args, "");
    va_end(args);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--nothing") == 0)
        return 0;
    shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 3;
    for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
        uint64_t start = now_ns();
        int status;

        if (!wanted(groups[i].name, argc, argv))
            continue;
        group_name = groups[i].name;
        status = in_child(run_group, (void *)&groups[i]);
        ok(status == 0, "ends well (%s %d)", status < 0 ? "signal" : "status", abs(status));
        note("%s took %lu ms", group_name, (now_ns() - start) / 1000000);
    }
    say_done("1..%u", shared->points);
    return shared->failures != 0;
}
