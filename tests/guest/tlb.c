/* Changes of the address space while another CPU uses it: once the call has returned, no CPU has
 * the old view. */
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

static struct {
    uint64_t *page;
    uint64_t generation; /* atomic: what the page holds at least */
    uint64_t faults;     /* atomic */
    uint64_t stale, reads;
    bool stop; /* atomic */
} s;

static pthread_t start(void *(*fn)(void *))
{
    pthread_t thread;

    s.stop = false;
    s.generation = s.stale = s.reads = s.faults = 0;
    pin(0);
    pthread_create(&thread, NULL, fn, NULL);
    return thread;
}

/* Two threads that wait for each other need two CPUs, or patience. */
static void give_way(void)
{
    if (cpus() == 1)
        sched_yield();
    else
        __builtin_ia32_pause();
}

static void stop(pthread_t thread)
{
    __atomic_store_n(&s.stop, true, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);
}

/* ------------------------------------------------------------------ other pages at one address */

static void *read_page(void *arg)
{
    (void)arg;
    pin(1);
    while (!__atomic_load_n(&s.stop, __ATOMIC_SEQ_CST)) {
        uint64_t least = __atomic_load_n(&s.generation, __ATOMIC_SEQ_CST);

        s.stale += *(volatile uint64_t *)s.page < least;
        __atomic_add_fetch(&s.reads, 1, __ATOMIC_SEQ_CST);
        give_way();
    }
    return NULL;
}

static void wait_for_reads(void)
{
    uint64_t now = __atomic_load_n(&s.reads, __ATOMIC_SEQ_CST);

    while (__atomic_load_n(&s.reads, __ATOMIC_SEQ_CST) < now + 2)
        give_way();
}

static void check_remap(void)
{
    pthread_t thread;

    s.page = pages(1, PROT_READ | PROT_WRITE);
    thread = start(read_page);
    for (uint64_t i = 1; i <= 100; i++) {
        uint64_t *fresh = pages(1, PROT_READ | PROT_WRITE);

        *fresh = i;
        wait_for_reads();
        mremap(fresh, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, s.page);
        __atomic_store_n(&s.generation, i, __ATOMIC_SEQ_CST);
    }
    wait_for_reads();
    stop(thread);
    equal(s.stale, 0, "another CPU sees a page that was moved in");
}

/* ------------------------------------------------------------------ rights that are taken away */

/* Skips the write; it is 3 bytes long. */
static void on_fault(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    (void)signal;
    if ((uint64_t *)info->si_addr != s.page)
        _exit(9);
    __atomic_add_fetch(&s.faults, 1, __ATOMIC_SEQ_CST);
    uc->uc_mcontext.gregs[REG_RIP] += 3;
}

static void *write_page(void *arg)
{
    (void)arg;
    pin(1);
    while (!__atomic_load_n(&s.stop, __ATOMIC_SEQ_CST)) {
        __asm__ volatile(".byte 0x48, 0xff, 0x07"
                         :
                         : "D"(s.page)
                         : "memory", "cc"); /* incq (%rdi) */
        __asm__ volatile("incq %0" : "+m"(s.reads));
        give_way();
    }
    return NULL;
}

static void check_protect(void)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    pthread_t thread;
    unsigned bad = 0;

    sigaction(SIGSEGV, &action, NULL);
    s.page = pages(1, PROT_READ | PROT_WRITE);
    thread = start(write_page);
    for (unsigned i = 0; i < 60; i++) {
        uint64_t before, faults;

        wait_for_reads();
        mprotect(s.page, PAGE, PROT_READ);
        before = *(volatile uint64_t *)s.page;
        faults = __atomic_load_n(&s.faults, __ATOMIC_SEQ_CST);
        while (__atomic_load_n(&s.faults, __ATOMIC_SEQ_CST) == faults)
            give_way();
        bad += *(volatile uint64_t *)s.page != before;
        mprotect(s.page, PAGE, PROT_READ | PROT_WRITE);
    }
    stop(thread);
    equal(bad, 0, "another CPU loses the right to write at once");
    signal(SIGSEGV, SIG_DFL);
}

/* ------------------------------------------------------------------ a fork while another CPU
 * writes */

static void *count_up(void *arg)
{
    (void)arg;
    pin(1);
    while (!__atomic_load_n(&s.stop, __ATOMIC_SEQ_CST)) {
        for (unsigned i = 0; i < PAGE / 8; i += 64)
            ((volatile uint64_t *)s.page)[i]++;
        __atomic_add_fetch(&s.reads, 1, __ATOMIC_SEQ_CST);
        give_way();
    }
    return NULL;
}

/* The child's copy must stand still. */
static void look_twice(void *arg)
{
    uint64_t first[PAGE / 8];

    (void)arg;
    memcpy(first, s.page, PAGE);
    for (volatile unsigned i = 0; i < 20000; i++)
        ;
    _exit(memcmp(first, s.page, PAGE) != 0);
}

static void check_fork_copy(void)
{
    pthread_t thread;
    unsigned bad = 0;

    s.page = pages(1, PROT_READ | PROT_WRITE);
    thread = start(count_up);
    for (unsigned i = 0; i < 15; i++) {
        wait_for_reads();
        bad += in_child(look_twice, NULL) != 0;
    }
    stop(thread);
    equal(bad, 0, "a fork freezes what another CPU writes");
}

/* ------------------------------------------------------------------ pages given back */

static void check_discard(void)
{
    unsigned char *p = pages(64, PROT_READ | PROT_WRITE);
    unsigned bad = 0;

    for (unsigned round = 0; round < 50; round++) {
        memset(p, 0xa5, 64 * PAGE);
        pin(round);
        madvise(p, 64 * PAGE, MADV_DONTNEED);
        for (unsigned i = 0; i < 64; i++)
            bad += *(volatile uint64_t *)(p + i * PAGE + round * 8) != 0;
    }
    equal(bad, 0, "pages given back are zero, on whatever CPU");
    munmap(p, 64 * PAGE);
}

/* The same addresses in many address spaces, one after the other on one CPU. */
static void own_value(void *arg)
{
    volatile uint64_t *p = arg;
    unsigned bad = 0;

    *p = (uint64_t)getpid();
    for (unsigned i = 0; i < 100; i++) {
        sched_yield();
        bad += *p != (uint64_t)getpid();
    }
    _exit(bad != 0);
}

static void check_spaces(void)
{
    enum { SPACES = 12 };
    uint64_t *p = pages(1, PROT_READ | PROT_WRITE);
    pid_t children[SPACES];
    unsigned bad = 0;
    int status;

    pin(0);
    for (unsigned i = 0; i < SPACES; i++) {
        children[i] = fork();
        if (children[i] == 0)
            own_value(p);
    }
    for (unsigned i = 0; i < SPACES; i++) {
        waitpid(children[i], &status, 0);
        bad += status != 0;
    }
    equal(bad, 0, "%d address spaces on one CPU", SPACES);
}

void check_tlb(void)
{
    check_remap();
    check_protect();
    check_fork_copy();
    check_discard();
    check_spaces();
}
