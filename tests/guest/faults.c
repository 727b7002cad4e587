/* Page faults of all kinds: what a faulting instruction leaves behind, and what address it blames.
 */
#include "check.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/* ------------------------------------------------------------------ accesses across two pages */

struct access {
    const char *what;
    void (*fn)(void *);
    unsigned bytes;
    bool torn; /* processors store it in two parts, of which the first may be seen */
};

#define ACCESS(name, text)                                                                         \
    static void name(void *arg)                                                                    \
    {                                                                                              \
        __asm__ volatile(text : : "D"(arg) : "rax", "rcx", "rdx", "rbx", "xmm0", "memory", "cc");  \
    }

ACCESS(load_2, "movzwl (%%rdi), %%eax")
ACCESS(load_4, "mov (%%rdi), %%eax")
ACCESS(load_8, "mov (%%rdi), %%rax")
ACCESS(load_16, "movups (%%rdi), %%xmm0")
ACCESS(load_tbyte, "fldt (%%rdi)")
ACCESS(store_2, "movw $-1, (%%rdi)")
ACCESS(store_4, "movl $-1, (%%rdi)")
ACCESS(store_8, "movq $-1, (%%rdi)")
ACCESS(store_16, "pcmpeqd %%xmm0, %%xmm0; movups %%xmm0, (%%rdi)")
ACCESS(store_tbyte, "fld1; fstpt (%%rdi)")
ACCESS(add_4, "addl $0x01010101, (%%rdi)")
ACCESS(lock_add_8, "lock addq $-1, (%%rdi)")
ACCESS(xchg_8, "mov $-1, %%rax; xchg %%rax, (%%rdi)")
ACCESS(cmpxchg_4, "mov (%%rdi), %%al; lock cmpxchg %%ecx, (%%rdi)")
ACCESS(push_8, "mov %%rsp, %%rdx; lea 8(%%rdi), %%rsp; push %%rdx; mov %%rdx, %%rsp")
ACCESS(call_8, "mov %%rsp, %%rdx; lea 8(%%rdi), %%rsp; call 1f; 1: mov %%rdx, %%rsp")
ACCESS(bts_4, "btsl $0, (%%rdi)")
ACCESS(movs_4, "mov %%rdi, %%rcx; push %%rsi; lea -64(%%rsp), %%rsi; movsl; pop %%rsi")
ACCESS(fxsave_512, "and $-16, %%rdi; fxsave (%%rdi)")

static const struct access reads[] = {
    {"2-byte load", load_2, 2},   {"4-byte load", load_4, 4}, {"8-byte load", load_8, 8},
    {"movups load", load_16, 16}, {"fldt", load_tbyte, 10},
};
static const struct access writes[] = {
    {"2-byte store", store_2, 2},
    {"4-byte store", store_4, 4},
    {"8-byte store", store_8, 8},
    {"movups store", store_16, 16},
    {"fstpt", store_tbyte, 10, true},
    {"add", add_4, 4},
    {"lock add", lock_add_8, 8},
    {"xchg", xchg_8, 8},
    {"lock cmpxchg", cmpxchg_4, 4},
    {"push", push_8, 8},
    {"call", call_8, 8},
    {"bts", bts_4, 4},
    {"movs", movs_4, 4},
};

/* The second page refuses: the fault must name its first byte, and the first page must be
 * untouched. */
static void check_crossing(const struct access *a, int first, int second, const char *how)
{
    unsigned char *p = pages(2, PROT_READ | PROT_WRITE);
    unsigned bad_fault = 0, bad_address = 0, bad_memory = 0;

    memset(p, 0x5a, 2 * PAGE);
    mprotect(p, PAGE, first);
    mprotect(p + PAGE, PAGE, second);
    for (unsigned before = 1; before < a->bytes; before++) {
        struct trap trap;

        bad_fault += !trapped(a->fn, p + PAGE - before, &trap) || trap.signal != SIGSEGV;
        bad_address += trap.addr != (uintptr_t)p + PAGE;
        for (unsigned i = 1; i <= 32; i++)
            bad_memory += !a->torn && p[PAGE - i] != 0x5a;
    }
    ok(!bad_fault && !bad_address && !bad_memory,
       "%s into %s (%u without fault, %u of a wrong address, %u changed)", a->what, how, bad_fault,
       bad_address, bad_memory);
    munmap(p, 2 * PAGE);
}

/* The first page refuses: the fault must name the operand's first byte. */
static void check_crossing_from(const struct access *a, int first)
{
    unsigned char *p = pages(2, PROT_READ | PROT_WRITE);
    unsigned bad = 0;

    memset(p, 0x5a, 2 * PAGE);
    mprotect(p, PAGE, first);
    for (unsigned before = 1; before < a->bytes; before++) {
        struct trap trap;

        bad +=
            !trapped(a->fn, p + PAGE - before, &trap) || trap.addr != (uintptr_t)p + PAGE - before;
        bad += p[PAGE] != 0x5a || p[PAGE + 1] != 0x5a;
    }
    equal(bad, 0, "%s out of a page that refuses", a->what);
    munmap(p, 2 * PAGE);
}

/* Both pages come when they are asked for. */
static void check_demand(const struct access *a)
{
    struct trap trap;
    unsigned bad = 0;

    for (unsigned before = 1; before < a->bytes; before++) {
        unsigned char *p = pages(2, PROT_READ | PROT_WRITE);

        bad += trapped(a->fn, p + PAGE - before, &trap);
        munmap(p, 2 * PAGE);
    }
    equal(bad, 0, "%s across two fresh pages", a->what);
}

/* ------------------------------------------------------------------ string instructions that fault
 * midway */

struct string_regs {
    uint64_t rcx, rsi, rdi;
    bool backward;
};

static void rep_movsb(void *arg)
{
    struct string_regs *r = arg;

    __asm__ volatile("test %%al, %%al; jz 1f; std; 1: rep movsb; cld"
                     :
                     : "a"(r->backward), "c"(r->rcx), "S"(r->rsi), "D"(r->rdi)
                     : "memory", "cc");
}

static void rep_movsq(void *arg)
{
    struct string_regs *r = arg;

    __asm__ volatile("rep movsq" : : "c"(r->rcx), "S"(r->rsi), "D"(r->rdi) : "memory", "cc");
}

static void rep_stosq(void *arg)
{
    struct string_regs *r = arg;

    __asm__ volatile("rep stosq" : : "a"(-1l), "c"(r->rcx), "D"(r->rdi) : "memory", "cc");
}

static void check_midway(void)
{
    unsigned char *p = pages(4, PROT_READ | PROT_WRITE);
    struct string_regs r = {.rcx = 1000, .rsi = (uint64_t)p, .rdi = (uint64_t)p + 2 * PAGE - 400};
    struct trap trap;

    for (unsigned i = 0; i < PAGE; i++)
        p[i] = (unsigned char)(i * 7);
    mprotect(p + 2 * PAGE, PAGE, PROT_READ);
    ok(trapped(rep_movsb, &r, &trap) && trap.addr == (uintptr_t)p + 2 * PAGE,
       "rep movsb faults at the second page");
    equal(trap.regs[REG_RCX], 600, "RCX tells what is left");
    equal(trap.regs[REG_RSI], r.rsi + 400, "RSI what was read");
    equal(trap.regs[REG_RDI], r.rdi + 400, "RDI what was written");
    ok(memcmp(p, p + 2 * PAGE - 400, 400) == 0, "the first part was copied");
    r = (struct string_regs){.rcx = 1000,
                             .rsi = (uint64_t)p + PAGE - 1,
                             .rdi = (uint64_t)p + 3 * PAGE + 99,
                             .backward = true};
    ok(trapped(rep_movsb, &r, &trap) && trap.addr == (uintptr_t)p + 3 * PAGE - 1,
       "backward rep movsb faults");
    equal(trap.regs[REG_RCX], 900, "RCX tells what is left");
    ok(trap.regs[REG_EFL] & 0x400, "DF is set");
    ok(memcmp(p + PAGE - 100, p + 3 * PAGE, 100) == 0, "the first part was copied");
    r = (struct string_regs){.rcx = 100, .rdi = (uint64_t)p + 2 * PAGE - 44};
    ok(trapped(rep_stosq, &r, &trap) && trap.addr == (uintptr_t)p + 2 * PAGE,
       "rep stosq faults within an element");
    equal(trap.regs[REG_RCX], 95, "RCX tells what is left");
    equal(trap.regs[REG_RDI], r.rdi + 40, "RDI is at the element");
    mprotect(p + PAGE, PAGE, PROT_NONE);
    r = (struct string_regs){
        .rcx = 100, .rsi = (uint64_t)p + PAGE - 20, .rdi = (uint64_t)p + 3 * PAGE};
    ok(trapped(rep_movsq, &r, &trap) && trap.addr == (uintptr_t)p + PAGE,
       "rep movsq faults in its source");
    equal(trap.regs[REG_RCX], 98, "RCX tells what is left");
    munmap(p, 4 * PAGE);
}

/* ------------------------------------------------------------------ code across pages */

static void jump(void *arg)
{
    __asm__ volatile("call *%%rdi" : : "D"(arg) : "rax", "memory");
}

/* An instruction whose second half cannot be fetched. */
static void check_code(void)
{
    static const unsigned char mov_ret[] = {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8, 0xc3};
    unsigned char *p = pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);
    unsigned bad = 0;

    for (unsigned before = 1; before < 10; before++) {
        unsigned char *code = p + PAGE - before;
        struct trap trap;

        memcpy(code, mov_ret, sizeof(mov_ret));
        bad += trapped(jump, code, &trap);
        mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE);
        bad += !trapped(jump, code, &trap) || trap.addr != (uintptr_t)p + PAGE ||
               trap.regs[REG_RIP] != (uint64_t)code;
        mprotect(p + PAGE, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
        bad += trapped(jump, code, &trap);
    }
    equal(bad, 0, "instructions across a page that cannot be executed");
    munmap(p, 2 * PAGE);
}

/* ------------------------------------------------------------------ pages that change */

static void check_pages(void)
{
    unsigned char *p = pages(1, PROT_READ | PROT_WRITE), *zero = pages(1, PROT_READ | PROT_WRITE);
    struct trap trap;

    equal(*(volatile unsigned char *)zero, 0, "a fresh page reads as zero");
    *(volatile unsigned char *)zero = 7; /* was mapped to the zero page */
    equal(*(volatile unsigned char *)zero, 7, "and takes a write afterwards");
    *p = 1;
    madvise(p, PAGE, MADV_DONTNEED);
    equal(*(volatile unsigned char *)p, 0, "a page given back reads as zero");
    mprotect(p, PAGE, PROT_READ);
    ok(trapped(store_4, p, &trap), "a page made read-only refuses writes");
    mprotect(p, PAGE, PROT_READ | PROT_WRITE);
    ok(!trapped(store_4, p, &trap), "and takes them again");
    munmap(p, PAGE);
    ok(trapped(load_4, p, &trap) && trap.code == SEGV_MAPERR, "a page that is gone refuses reads");
    equal((uint64_t)syscall(SYS_write, 1, p, 1), (uint64_t)-1, "also those of the kernel");
    ok(!trapped(fxsave_512, zero + 1024, &trap), "fxsave");
    munmap(zero, PAGE);
}

/* The page of old at a fixed address: execution there is emulated by the kernel, by its faults. */
static void check_vsyscall(void)
{
    long (*vtime)(long *) = (long (*)(long *))0xffffffffff600400ul;
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[256];
    bool there = false;
    long got = 0;

    while (maps && fgets(line, sizeof(line), maps))
        there |= strstr(line, "[vsyscall]") != NULL;
    if (maps)
        fclose(maps);
    if (!there) {
        skip("vsyscall: the kernel has none");
        return;
    }
    ok(labs(vtime(&got) - syscall(SYS_time, NULL)) <= 1 && got, "vsyscall time");
}

void check_faults(void)
{
    for (size_t i = 0; i < ARRAY_LEN(reads); i++) {
        check_crossing(&reads[i], PROT_READ | PROT_WRITE, PROT_NONE, "PROT_NONE");
        check_crossing_from(&reads[i], PROT_NONE);
        check_demand(&reads[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(writes); i++) {
        check_crossing(&writes[i], PROT_READ | PROT_WRITE, PROT_NONE, "PROT_NONE");
        check_crossing(&writes[i], PROT_READ | PROT_WRITE, PROT_READ, "a read-only page");
        check_crossing_from(&writes[i], PROT_READ);
        check_demand(&writes[i]);
    }
    check_midway();
    check_code();
    check_pages();
    check_vsyscall();
}
