/* Code that is patched while it runs: by breakpoints as a kernel patches its text, under an
 * instruction in two pages, by a debugger that stops a hot loop.
 */
#include "check.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

/* ------------------------------------------------------------------ INT3 first, then the rest */

static struct {
    unsigned char *site;
    uint32_t value; /* atomic: what is being patched in, or has been */
    bool stop;      /* atomic */
    uint64_t calls; /* atomic */
    unsigned bad, stopped;
} patching;

/* The handler does what the new instruction would have done: mov $value, %eax. */
static void on_int3(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    (void)signal, (void)info;
    if (uc->uc_mcontext.gregs[REG_RIP] != (greg_t)(patching.site + 1))
        _exit(8);
    uc->uc_mcontext.gregs[REG_RIP] += 4;
    uc->uc_mcontext.gregs[REG_RAX] = __atomic_load_n(&patching.value, __ATOMIC_ACQUIRE);
    patching.stopped++;
}

static void *call_site(void *arg)
{
    uint32_t last = 0;

    (void)arg;
    pin(1);
    while (!__atomic_load_n(&patching.stop, __ATOMIC_ACQUIRE)) {
        uint32_t got = ((uint32_t(*)(void))(void *)patching.site)();

        /* Values only grow, and all bytes of one are the same. */
        patching.bad += got < last || got != (got & 0xff) * 0x01010101u;
        last = got;
        __atomic_add_fetch(&patching.calls, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

/* All threads of the process have executed a serializing instruction. */
static bool serialize_others(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0) == 0;
}

static void patch_site(uint32_t value)
{
    unsigned char *site = patching.site;
    uint32_t bytes = value * 0x01010101u;

    __atomic_store_n(&patching.value, bytes, __ATOMIC_SEQ_CST);
    __atomic_store_n(&site[0], 0xcc, __ATOMIC_SEQ_CST);
    serialize_others();
    memcpy(site + 1, &bytes, 4);
    serialize_others();
    __atomic_store_n(&site[0], 0xb8, __ATOMIC_SEQ_CST);
    serialize_others();
}

static void check_int3(unsigned offset)
{
    struct sigaction action = {.sa_sigaction = on_int3, .sa_flags = SA_SIGINFO};
    unsigned char *p = pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);
    static const unsigned char text[] = {0xb8, 0, 0, 0, 0, 0xc3}; /* mov $0, %eax; ret */
    pthread_t thread;

    memset(&patching, 0, sizeof(patching));
    patching.site = p + offset;
    memcpy(patching.site, text, sizeof(text));
    sigaction(SIGTRAP, &action, NULL);
    pin(0);
    pthread_create(&thread, NULL, call_site, NULL);
    for (uint32_t value = 1; value < 128; value++) {
        uint64_t calls = __atomic_load_n(&patching.calls, __ATOMIC_ACQUIRE);

        patch_site(value);
        while (__atomic_load_n(&patching.calls, __ATOMIC_ACQUIRE) < calls + 50)
            sched_yield();
    }
    __atomic_store_n(&patching.stop, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    signal(SIGTRAP, SIG_DFL);
    equal(patching.bad, 0, "an instruction patched by way of int3%s",
          offset ? ", in two pages" : "");
    note("%u times the breakpoint itself was met", patching.stopped);
    munmap(p, 2 * PAGE);
}

/* ------------------------------------------------------------------ an instruction in two pages */

static struct {
    unsigned char *code;
    bool stop; /* atomic */
    unsigned bad;
    uint64_t calls; /* atomic */
    uint32_t last;
} split;

static void *run_split(void *arg)
{
    (void)arg;
    pin(1);
    while (!__atomic_load_n(&split.stop, __ATOMIC_ACQUIRE)) {
        uint32_t got = ((uint32_t(*)(void))(void *)split.code)();

        split.bad += got < split.last;
        split.last = got;
        __atomic_add_fetch(&split.calls, 1, __ATOMIC_RELEASE);
    }
    return NULL;
}

/* The end of mov $number, %eax, whose first three bytes are in the page before; and ret. */
static void *second_page(uint32_t number)
{
    unsigned char *p = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);

    memcpy(p, (unsigned char *)&number + 2, 2);
    p[2] = 0xc3;
    return p;
}

/* Another page comes in under the second half, while another CPU runs it. */
static void check_second_page(void)
{
    unsigned char *p = pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);
    pthread_t thread;

    memset(&split, 0, sizeof(split));
    split.code = p + PAGE - 3;
    memcpy(split.code, "\xb8\x34\x12\x00\x00\xc3", 6);
    pin(0);
    pthread_create(&thread, NULL, run_split, NULL);
    for (uint32_t i = 1; i < 200; i++) {
        void *page = second_page(i << 16);
        uint64_t calls;

        /* A fault meanwhile waits until it is done: the address space is locked. */
        if (mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + PAGE) != p + PAGE)
            exit(1);
        calls = __atomic_load_n(&split.calls, __ATOMIC_ACQUIRE);
        while (__atomic_load_n(&split.calls, __ATOMIC_ACQUIRE) < calls + 3)
            sched_yield();
        split.bad += __atomic_load_n(&split.last, __ATOMIC_ACQUIRE) != (i << 16 | 0x1234);
    }
    __atomic_store_n(&split.stop, true, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    equal(split.bad, 0, "other pages under the second half of an instruction");
    munmap(p, 2 * PAGE);
}

static void call_code(void *code)
{
    __asm__ volatile("call *%0" : "+a"(code) : : "memory");
}

/* The second page goes away, refuses execution, or changes, after the code has run often. */
static void check_second_gone(void)
{
    unsigned bad = 0;

    for (unsigned before = 1; before < 5; before++)
        for (unsigned how = 0; how < 3; how++) {
            unsigned char *p = pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);
            unsigned char *code = p + PAGE - before;
            struct trap trap;

            memcpy(code, "\xb8\x34\x12\x01\x00\xc3", 6);
            for (unsigned i = 0; i < 2000; i++)
                call_code(code);
            if (how == 0)
                munmap(p + PAGE, PAGE);
            else if (how == 1)
                mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE);
            else
                mprotect(p + PAGE, PAGE, PROT_NONE);
            for (unsigned i = 0; i < 3; i++)
                bad += !trapped(call_code, code, &trap) || trap.addr != (uintptr_t)p + PAGE ||
                       trap.regs[REG_RIP] != (uint64_t)code ||
                       trap.code != (how == 0 ? SEGV_MAPERR : SEGV_ACCERR);
            munmap(p, 2 * PAGE);
        }
    equal(bad, 0, "the second half of a hot instruction is taken away");
}

/* ------------------------------------------------------------------ a debugger and a hot loop */

static volatile uint64_t watched[8];

__asm__(".text\n"
        "hot_loop: xor %eax, %eax; lea watched(%rip), %rdi\n"
        "hot_again: inc %rax; mov %rax, %rcx; and $0xfff, %ecx; jnz hot_next\n"
        "hot_store: mov %rax, 16(%rdi)\n"
        "hot_stored: add 24(%rdi), %rdx; mov %rax, 32(%rdi)\n"
        "hot_next: mov %rax, 8(%rdi); add 40(%rdi), %rdx; jmp hot_again\n");
extern const char hot_loop[], hot_again[], hot_store[], hot_stored[], hot_next[];

/* The signal that stops the child, or -1: none comes for three seconds, or it ends. */
static int wait_stop(pid_t child)
{
    int status = 0;

    for (unsigned i = 0; i < 3000; i++) {
        pid_t got = waitpid(child, &status, WNOHANG);

        if (got)
            return got == child && WIFSTOPPED(status) ? WSTOPSIG(status) : -1;
        usleep(i < 100 ? 10 : 1000);
    }
    return -1;
}

static int cont(pid_t child)
{
    return ptrace(PTRACE_CONT, child, 0, 0) < 0 ? -1 : wait_stop(child);
}

static struct user_regs_struct regs_of(pid_t child)
{
    struct user_regs_struct regs = {0};

    ptrace(PTRACE_GETREGS, child, 0, &regs);
    return regs;
}

static pid_t start_loop(void)
{
    pid_t child = fork();

    if (child == 0) {
        pin(1);
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        ((void (*)(void))hot_loop)();
    }
    wait_stop(child);
    return child;
}

/* Lets it run at full speed for a moment, then stops it wherever it is. */
static bool run_and_stop(pid_t child)
{
    if (ptrace(PTRACE_CONT, child, 0, 0) < 0)
        return false;
    usleep(3000);
    kill(child, SIGSTOP);
    return wait_stop(child) == SIGSTOP;
}

static void check_loop_breakpoints(pid_t child)
{
    static const char *const places[] = {hot_store, hot_again, hot_next, hot_stored};
    unsigned bad = 0;
    uint64_t before = 0;

    for (unsigned i = 0; i < 60; i++) {
        const char *at = places[i % ARRAY_LEN(places)];
        struct user_regs_struct regs;
        long text;

        bad += !run_and_stop(child);
        text = ptrace(PTRACE_PEEKTEXT, child, at, 0);
        ptrace(PTRACE_POKETEXT, child, at, (text & ~0xffl) | 0xcc);
        bad += cont(child) != SIGTRAP;
        regs = regs_of(child);
        bad += regs.rip != (uint64_t)at + 1 || regs.rax < before;
        if (at == hot_store || at == hot_stored)
            bad += (regs.rax & 0xfff) != 0;
        before = regs.rax;
        ptrace(PTRACE_POKETEXT, child, at, text);
        regs.rip--;
        ptrace(PTRACE_SETREGS, child, 0, &regs);
    }
    equal(bad, 0, "breakpoints in memory, in a loop that runs hot");
}

static long poke_debug(pid_t child, unsigned index, uint64_t value)
{
    return ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg) + index * 8, value);
}

static uint64_t debug_status(pid_t child)
{
    uint64_t status =
        (uint64_t)ptrace(PTRACE_PEEKUSER, child, offsetof(struct user, u_debugreg) + 6 * 8, 0);

    poke_debug(child, 6, 0);
    return status;
}

/* Type and length of a breakpoint and what it should do to the loop. */
static const struct watch {
    const char *what;
    uint64_t type, bytes;
    const volatile void *address;
    const char *stop; /* RIP where it stops */
    bool rare;        /* in the path of every 4096th turn */
} watches[] = {
    {"a watched write", 1, 8, &watched[2], hot_stored, true},
    {"a watched read", 3, 8, &watched[3], NULL, true},
    {"an upper half that is watched", 1, 4, (const volatile char *)&watched[2] + 4, hot_stored,
     true},
    {"a breakpoint register", 0, 1, hot_store, hot_store, true},
    {"a write that each turn does", 1, 8, &watched[1], NULL, false},
};

static void check_loop_watch(pid_t child, const struct watch *w)
{
    unsigned bad = 0;
    uint64_t last = 0, turns = w->rare ? 0x1000 : 1;

    bad += !run_and_stop(child);
    (void)debug_status(child);
    poke_debug(child, 7, 0);
    if (poke_debug(child, 0, (uint64_t)w->address) ||
        poke_debug(child, 7, 1 | (w->type | (w->bytes - 1) << 2) << 16)) {
        skip("%s: debug registers are not to be had", w->what);
        return;
    }
    for (unsigned i = 0; i < 40; i++) {
        struct user_regs_struct regs;

        if (cont(child) != SIGTRAP) {
            ok(false, "%s stops a loop that runs hot", w->what);
            return;
        }
        regs = regs_of(child);
        bad += w->stop && regs.rip != (uint64_t)w->stop;
        bad += (debug_status(child) & 15) != 1;
        bad += last && regs.rax != last + turns;
        last = regs.rax;
    }
    equal(bad, 0, "%s stops a loop that runs hot, turn after turn", w->what);
    poke_debug(child, 7, 0);
    bad = 1;
    for (unsigned i = 0; i < 300 && bad; i++) /* its CPU may have other things to do */
        bad = !run_and_stop(child) || regs_of(child).rax <= last;
    equal(bad, 0, "which goes on without");
}

static void check_debugger(void)
{
    pid_t child = start_loop();

    check_loop_breakpoints(child);
    for (size_t i = 0; i < ARRAY_LEN(watches); i++)
        check_loop_watch(child, &watches[i]);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

void check_patching(void)
{
    check_second_gone();
    check_debugger();
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_SYNC_CORE, 0, 0)) {
        skip("the kernel makes no other threads serialize");
        return;
    }
    check_int3(0);
    check_int3(PAGE - 3);
    if (cpus() > 1)
        check_second_page();
}
