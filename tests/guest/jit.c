/* Code that changes: in place, through another mapping, by another CPU, by the kernel, under a
 * moved page. */
#include "check.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

typedef uint32_t code_fn(void);

/* mov $value, %eax; ret */
static void emit(unsigned char *p, uint32_t value)
{
    p[0] = 0xb8;
    memcpy(p + 1, &value, 4);
    p[5] = 0xc3;
    __asm__ volatile("" ::: "memory");
}

static uint32_t call(const void *p)
{
    return ((code_fn *)p)();
}

static void *twice_mapped(unsigned char **writable)
{
    int fd = memfd_create("code", 0);
    void *code;

    if (fd < 0 || ftruncate(fd, 2 * PAGE) < 0)
        exit(1);
    *writable = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    code = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    close(fd);
    return code;
}

static void check_in_place(void)
{
    unsigned char *p = pages(2, PROT_READ | PROT_WRITE | PROT_EXEC), *alias, *code;
    unsigned bad = 0;

    for (uint32_t i = 0; i < 3000; i++) {
        emit(p + i % 7 * 64, i);
        bad += call(p + i % 7 * 64) != i;
    }
    equal(bad, 0, "rewritten in place");
    for (uint32_t i = 0, wrong = 0; i < 600; i++) {
        unsigned char *at = p + PAGE - 1 - i % 5; /* the immediate lies across pages */

        emit(at, i * 0x01010101);
        wrong += call(at) != i * 0x01010101;
        if (i == 599)
            equal(wrong, 0, "rewritten across two pages");
    }
    code = twice_mapped(&alias);
    for (uint32_t i = bad = 0; i < 2000; i++) {
        emit(alias + i % 3 * 100, i);
        bad += call(code + i % 3 * 100) != i;
    }
    equal(bad, 0, "rewritten through another mapping");
    for (uint32_t i = bad = 0; i < 500; i++) {
        mprotect(p, PAGE, PROT_READ | PROT_WRITE);
        emit(p + i, i);
        mprotect(p, PAGE, PROT_READ | PROT_EXEC);
        bad += call(p + i) != i;
    }
    equal(bad, 0, "written, then made executable");
    munmap(p, 2 * PAGE);
}

/* An instruction changes the one after it, which the processor has long fetched. */
static void check_next_instruction(void)
{
    static const unsigned char text[] = {
        0x89, 0x3d, 0x01, 0, 0, 0, /* mov %edi, 1(%rip): the immediate below */
        0xb8, 0,    0,    0, 0,    /* mov $0, %eax */
        0xc3,
    };
    static const unsigned char loop[] = {
        0x31, 0xc0,                         /* xor %eax, %eax */
        0xb9, 100,  0,    0,    0,          /* mov $100, %ecx */
        0x05, 0,    0,    0,    0,          /* again: add $0, %eax */
        0xff, 0x05, 0xf6, 0xff, 0xff, 0xff, /* incl -10(%rip): the immediate above */
        0xff, 0xc9,                         /* dec %ecx */
        0x75, 0xf1,                         /* jnz again */
        0xc3,
    };
    unsigned char *p = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    unsigned bad = 0;

    memcpy(p, text, sizeof(text));
    for (uint32_t i = 1; i < 500; i++)
        bad += ((uint32_t(*)(uint32_t))(void *)p)(i) != i;
    equal(bad, 0, "an instruction that changes the next");
    memcpy(p + 64, loop, sizeof(loop));
    equal(call(p + 64), 4950, "a loop that changes itself");
    munmap(p, PAGE);
}

static void check_kernel_writes(void)
{
    unsigned char *p = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC), text[6];
    unsigned bad = 0;
    int fds[2];

    if (pipe(fds) < 0)
        return;
    for (uint32_t i = 0; i < 500; i++) {
        emit(text, i);
        bad += write(fds[1], text, 6) != 6 || read(fds[0], p, 6) != 6 || call(p) != i;
    }
    equal(bad, 0, "written by the kernel");
    close(fds[0]);
    close(fds[1]);
    munmap(p, PAGE);
}

static void check_other_page(void)
{
    unsigned char *one = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    unsigned bad = 0;

    for (uint32_t i = 0; i < 300; i++) {
        unsigned char *fresh = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);

        emit(fresh + 32, i);
        bad += call(fresh + 32) != i;
        if (mremap(fresh, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, one) != one)
            bad++;
        bad += call(one + 32) != i;
    }
    equal(bad, 0, "other pages moved to one address");
    munmap(one, PAGE);
}

static void patch_copy(void *arg)
{
    emit(arg, 222);
    _exit(call(arg) == 222 ? 0 : 1);
}

static void check_copy_on_write(void)
{
    unsigned char *p = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    unsigned bad = 0;

    emit(p, 111);
    bad += call(p) != 111;
    for (unsigned i = 0; i < 10; i++) {
        bad += in_child(patch_copy, p) != 0;
        bad += call(p) != 111;
    }
    equal(bad, 0, "a child's change is the child's alone");
    munmap(p, PAGE);
}

/* ------------------------------------------------------------------ another CPU */

static struct {
    unsigned char *code;
    uint32_t published, seen; /* atomic */
    unsigned bad;
} cross;

/* Calls what was published last, after a serializing instruction, as the manual asks. */
static void *execute(void *arg)
{
    (void)arg;
    pin(1);
    for (uint32_t last = 0; last != 400;) {
        uint32_t now = __atomic_load_n(&cross.published, __ATOMIC_ACQUIRE), a = 0, b, c = 0, d;

        if (now == last) {
            __builtin_ia32_pause();
            continue;
        }
        __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
        cross.bad += call(cross.code) != now;
        __atomic_store_n(&cross.seen, last = now, __ATOMIC_RELEASE);
    }
    return NULL;
}

static void check_cross(bool alias)
{
    unsigned char *writable;
    pthread_t thread;

    memset(&cross, 0, sizeof(cross));
    cross.code = twice_mapped(&writable);
    if (!alias)
        writable = cross.code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    pthread_create(&thread, NULL, execute, NULL);
    pin(0);
    for (uint32_t i = 1; i <= 400; i++) {
        emit(writable, i);
        __atomic_store_n(&cross.published, i, __ATOMIC_RELEASE);
        while (__atomic_load_n(&cross.seen, __ATOMIC_ACQUIRE) != i)
            __builtin_ia32_pause();
    }
    pthread_join(thread, NULL);
    equal(cross.bad, 0, "rewritten by another CPU%s", alias ? " through another mapping" : "");
}

/* One byte that is changed under a running loop must be seen sooner or later, without any
 * serializing. */
static void *spin(void *arg)
{
    pin(1);
    ((code_fn *)arg)();
    return NULL;
}

static void check_running_loop(void)
{
    static const unsigned char forever[] = {0x90, 0xeb, 0xfd, 0xc3}; /* nop; jmp to the nop; ret */
    unsigned char *p = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    pthread_t thread;

    memcpy(p, forever, sizeof(forever));
    pin(0);
    pthread_create(&thread, NULL, spin, p);
    usleep(20000);
    __atomic_store_n(p + 2, 0x00, __ATOMIC_SEQ_CST); /* the jump now goes to the ret */
    pthread_join(thread, NULL);
    ok(true, "a loop that another CPU changes ends");
}

/* Programs that rewrite their code, more than there are CPUs: they move from one to another in between. */
static int rewrite(void)
{
    unsigned char *p = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    unsigned bad = 0;

    for (uint32_t i = 0; i < 150000; i++) {
        emit(p, i);
        bad += call(p) != i;
    }
    return bad != 0;
}

static void check_many(void)
{
    unsigned bad = 0, programs = cpus() + 1;
    cpu_set_t all;
    int status;

    memset(&all, 0xff, sizeof(all));
    sched_setaffinity(0, sizeof(all), &all);
    for (unsigned i = 0; i < programs; i++)
        if (fork() == 0)
            _exit(rewrite());
    for (unsigned i = 0; i < programs; i++)
        bad += wait(&status) < 0 || status != 0;
    equal(bad, 0, "rewritten by %u programs at once", programs);
}

void check_jit(void)
{
    check_many();
    check_in_place();
    check_next_instruction();
    check_kernel_writes();
    check_other_page();
    check_copy_on_write();
    if (cpus() > 1) {
        check_cross(false);
        check_cross(true);
    }
    check_running_loop();
}
