/* Instructions that fault, are helped by a signal handler and go on; and loops whose accesses fault
 * now and then, or must not because a check is before them.
 */
#include "check.h"

#include <stdio.h>
#include <sys/mman.h>

static unsigned char *base;
static unsigned nr_pages;
static volatile unsigned helped, strangers;

/* Gives the page that was asked for all rights and lets the instruction try again. */
static void help(int signal, siginfo_t *info, void *context)
{
    uintptr_t page = (uintptr_t)info->si_addr & ~(PAGE - 1);

    (void)signal, (void)context;
    if (page < (uintptr_t)base || page >= (uintptr_t)base + nr_pages * PAGE) {
        strangers++;
        _exit(9);
    }
    mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE);
    helped++;
}

static void with_help(unsigned char *memory, unsigned count)
{
    static char stack[65536];
    struct sigaction action = {.sa_sigaction = help, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};

    base = memory;
    nr_pages = count;
    helped = 0;
    sigaltstack(&alternate, NULL);
    sigaction(SIGSEGV, &action, NULL);
}

/* ------------------------------------------------------------------ string instructions */

enum { PAGES = 6 };

struct string_case {
    const char *what;
    void (*fn)(unsigned char *to, unsigned char *from, unsigned long count);
    unsigned size;
    bool reads;    /* the source */
    bool compares; /* the target is read, and equal to the source */
};

#define STRING(name, text)                                                                         \
    static void name(unsigned char *to, unsigned char *from, unsigned long count)                  \
    {                                                                                              \
        __asm__ volatile(text                                                                      \
                         : "+D"(to), "+S"(from), "+c"(count)                                       \
                         : "a"(0x5a5a5a5a5a5a5a5aul)                                               \
                         : "memory", "cc");                                                        \
    }

STRING(rep_movsb, "rep movsb")
STRING(rep_movsl, "rep movsl")
STRING(rep_movsq, "rep movsq")
STRING(rep_stosb, "rep stosb")
STRING(rep_stosw, "rep stosw")
STRING(rep_stosq, "rep stosq")
STRING(rep_cmpsb, "repe cmpsb")
STRING(rep_cmpsl, "repe cmpsl")
STRING(rep_lodsb, "rep lodsb")
STRING(backward_movsb, "lea -1(%0,%2), %0; lea -1(%1,%2), %1; std; rep movsb; cld")
STRING(backward_stosw, "lea -2(%0,%2,2), %0; std; rep stosw; cld")

static const struct string_case strings[] = {
    {"rep movsb", rep_movsb, 1, true, false},
    {"rep movsl", rep_movsl, 4, true, false},
    {"rep movsq", rep_movsq, 8, true, false},
    {"rep stosb", rep_stosb, 1, false, false},
    {"rep stosw", rep_stosw, 2, false, false},
    {"rep stosq", rep_stosq, 8, false, false},
    {"repe cmpsb", rep_cmpsb, 1, true, true},
    {"repe cmpsl", rep_cmpsl, 4, true, true},
    {"rep lodsb", rep_lodsb, 1, true, false},
    {"backward rep movsb", backward_movsb, 1, true, false},
    {"backward rep stosw", backward_stosw, 2, false, false},
};

/* Target and source lie at @shift in regions of three pages each, none of which is there. */
static unsigned try_string(const struct string_case *c, unsigned shift)
{
    unsigned char *p = pages(PAGES, PROT_READ | PROT_WRITE), *to = p + shift;
    unsigned char *from = p + 3 * PAGE + shift / 2;
    unsigned long bytes = 2 * PAGE - 64;
    unsigned bad = 0;
    bool stores = c->fn != rep_lodsb && !c->compares;

    for (unsigned i = 0; i < 3 * PAGE; i++) {
        p[3 * PAGE + i] = (unsigned char)(i * 13 + (i >> 7));
        p[i] = 0x11;
    }
    if (c->compares)
        memcpy(to, from, bytes);
    mprotect(p, PAGES * PAGE, PROT_NONE);
    with_help(p, PAGES);
    c->fn(to, from, bytes / c->size);
    bad += helped < 2 + (c->reads && c->fn != rep_lodsb ? 2 : 0) || helped > PAGES;
    mprotect(p, PAGES * PAGE, PROT_READ | PROT_WRITE);
    for (unsigned long i = 0; stores && i < bytes; i++)
        bad += to[i] != (c->reads ? from[i] : 0x5a);
    for (unsigned i = 0; !c->compares && i < shift; i++)
        bad += p[i] != 0x11;
    for (unsigned i = 0; !c->compares && i < 32; i++)
        bad += to[bytes + i] != 0x11;
    munmap(p, PAGES * PAGE);
    return bad;
}

static void check_strings_helped(void)
{
    static const unsigned shifts[] = {0, 8, 4, 2, 1, 63, 4032, 4088, 4095};

    for (size_t i = 0; i < ARRAY_LEN(strings); i++) {
        unsigned bad = 0;

        for (size_t s = 0; s < ARRAY_LEN(shifts); s++)
            bad += try_string(&strings[i], shifts[s]);
        equal(bad, 0, "%s whose pages come by a handler", strings[i].what);
    }
}

/* ------------------------------------------------------------------ loops */

struct walk {
    const char *what;
    uint64_t (*fn)(unsigned char *p, unsigned long count);
};

/* Loops over @count steps of 20 bytes: RDI is where it is, RAX adds up. */
#define WALK(name, text)                                                                           \
    static uint64_t name(unsigned char *p, unsigned long count)                                    \
    {                                                                                              \
        uint64_t sum = 0;                                                                          \
                                                                                                   \
        __asm__ volatile("1: " text "; add $20, %1; dec %2; jnz 1b"                                \
                         : "+a"(sum), "+D"(p), "+c"(count)                                         \
                         :                                                                         \
                         : "rdx", "rbx", "r8", "xmm0", "xmm1", "memory", "cc");                    \
        return sum;                                                                                \
    }

WALK(walk_load, "add (%1), %0; rol $3, %0")
WALK(walk_group, "add (%1), %0; add 8(%1), %0; rol $5, %0; movzbl 19(%1), %%edx; add %%rdx, %0")
WALK(walk_store, "mov %0, 4(%1); add $7, %0; mov %k0, (%1); add 12(%1), %0")
WALK(walk_modify, "addl $3, (%1); incb 7(%1); add (%1), %0; xor %0, 10(%1)")
WALK(walk_locked, "lock addl $3, (%1); mov $1, %%edx; lock xadd %%rdx, 9(%1); add %%rdx, %0")
WALK(walk_branch, "testb $1, (%1); jz 2f; add 16(%1), %k0; 2: rol %0; mov %b0, 18(%1)")
WALK(walk_vector, "movups (%1), %%xmm0; paddb %%xmm0, %%xmm0; movups %%xmm0, 4(%1);"
                  "movq 8(%1), %%rdx; add %%rdx, %0")
WALK(walk_stack, "mov %%rsp, %%r8; lea 20(%1), %%rsp; push %0; push 2(%1); pop %%rdx; pop %%rbx;"
                 "add %%rdx, %0; mov %%r8, %%rsp")
WALK(walk_flags, "add $0x7f, %b0; mov (%1), %%dl; adc %%dl, %b0; setc %%dl; adc 9(%1), %%dx;"
                 "lea (%0,%%rdx,2), %0")

static const struct walk walks[] = {
    {"loads", walk_load},
    {"loads by one register", walk_group},
    {"stores", walk_store},
    {"additions to memory", walk_modify},
    {"locked instructions", walk_locked},
    {"an access behind a branch", walk_branch},
    {"vectors", walk_vector},
    {"pushes and pops", walk_stack},
    {"flags that live over an access", walk_flags},
};

static void fill(unsigned char *p, unsigned bytes, unsigned seed)
{
    for (unsigned i = 0; i < bytes; i++)
        p[i] = (unsigned char)((i * 2654435761u + seed) >> 11);
}

/* With all pages there, then with none of them but the handler: the same has to come out. */
static void check_walk(const struct walk *w)
{
    enum { WALK_PAGES = 16, STEPS = (WALK_PAGES * PAGE - 64) / 20 };
    unsigned char *p = pages(WALK_PAGES, PROT_READ | PROT_WRITE);
    unsigned char *model = pages(WALK_PAGES, PROT_READ | PROT_WRITE);
    unsigned bad = 0;

    for (unsigned round = 0; round < 6; round++) {
        uint64_t want, got;

        fill(model, WALK_PAGES * PAGE, round);
        fill(p, WALK_PAGES * PAGE, round);
        want = w->fn(model + round, STEPS);
        mprotect(p, WALK_PAGES * PAGE, round & 1 ? PROT_READ : PROT_NONE);
        with_help(p, WALK_PAGES);
        got = w->fn(p + round, STEPS);
        bad += got != want;
        mprotect(p, WALK_PAGES * PAGE, PROT_READ | PROT_WRITE);
        bad += memcmp(p, model, WALK_PAGES * PAGE) != 0;
    }
    equal(bad, 0, "a loop of %s whose pages come by a handler", w->what);
    munmap(p, WALK_PAGES * PAGE);
    munmap(model, WALK_PAGES * PAGE);
}

/* ------------------------------------------------------------------ checks before accesses */

struct node {
    struct node *next;
    uint64_t value, more;
};

static uint64_t __attribute__((noinline)) sum_checked(struct node *const *nodes, unsigned count)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < count; i++) {
        const struct node *n = nodes[i];

        if (n) {
            sum += n->value;
            if (n->next)
                sum += n->next->more;
        }
    }
    return sum;
}

/* Of each pair, the second word may be read only if the first one is odd. */
uint64_t sum_guarded(const uint64_t *const *pairs, unsigned long count);
__asm__(".text\n"
        "sum_guarded: xor %eax, %eax\n"
        "1: mov (%rdi), %rdx; add $8, %rdi\n"
        "test %rdx, %rdx; jz 2f\n"
        "mov (%rdx), %rcx; add %rcx, %rax; test $1, %cl; jz 2f\n"
        "add 8(%rdx), %rax; add 16(%rdx), %rax\n"
        "2: dec %rsi; jnz 1b; ret\n");

static void check_null(void)
{
    enum { COUNT = 600 };
    static struct node nodes[COUNT], *list[COUNT];
    const uint64_t *pairs[COUNT];
    unsigned char *p = pages(2, PROT_READ | PROT_WRITE);
    uint64_t want = 0, *last = (uint64_t *)(void *)(p + PAGE - 8);
    uint64_t *inside = (uint64_t *)(void *)p;
    unsigned bad = 0;

    for (unsigned i = 0; i < COUNT; i++) {
        nodes[i] = (struct node){i % 3 ? &nodes[i / 2] : NULL, i, i * 5};
        list[i] = i % 7 < 3 ? NULL : &nodes[i];
    }
    for (unsigned i = 0; i < COUNT; i++)
        if (i % 7 >= 3)
            want += i + (i % 3 ? i / 2 * 5 : 0);
    for (unsigned round = 0; round < 50; round++)
        bad += sum_checked(list, COUNT) != want;
    equal(bad, 0, "null pointers that are checked are not followed");

    inside[0] = 3, inside[1] = 100, inside[2] = 1000;
    *last = 2;
    mprotect(p + PAGE, PAGE, PROT_NONE);
    want = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        pairs[i] = i % 5 == 1 ? NULL : i % 5 == 3 ? last : inside;
        want += i % 5 == 1 ? 0 : i % 5 == 3 ? 2 : 1103;
    }
    for (unsigned round = bad = 0; round < 50; round++)
        bad += sum_guarded(pairs, COUNT) != want;
    equal(bad, 0, "nor is a page's end passed by an access that a branch skips");
    munmap(p, 2 * PAGE);
}

/* ------------------------------------------------------------------ where it faults */

/* Accesses by one register of which the third is the first to fault. */
extern const char blame_fault[];
void blame(const void *p, unsigned long spins);
__asm__(".text\n"
        "blame: xor %eax, %eax; xor %ecx, %ecx\n"
        "1: add (%rdi), %rax; inc %rcx; add 8(%rdi), %rax; inc %rcx\n"
        "mov %rax, -8(%rdi)\n"
        "blame_fault: mov %rcx, 16(%rdi)\n"
        "inc %rcx; dec %rsi; jnz 1b; ret\n");

static void call_blame(void *arg)
{
    blame(arg, 1);
}

static void check_blame(void)
{
    unsigned char *p = pages(2, PROT_READ | PROT_WRITE);
    unsigned bad = 0;

    blame(p + 64, 5000); /* by now it is translated, if that is what the processor does */
    memset(p, 0, PAGE);
    mprotect(p + PAGE, PAGE, PROT_READ);
    for (unsigned i = 0; i < 20; i++) {
        unsigned char *at = p + PAGE - 16;
        struct trap trap;
        uint64_t before;

        ((uint64_t *)(void *)at)[0] = i;
        ((uint64_t *)(void *)at)[1] = 5;
        bad += !trapped(call_blame, at, &trap) || trap.addr != (uintptr_t)p + PAGE;
        bad += trap.regs[REG_RIP] != (uint64_t)blame_fault;
        bad += trap.regs[REG_RCX] != 2 || trap.regs[REG_RAX] != i + 5;
        memcpy(&before, at - 8, 8);
        bad += before != i + 5;
    }
    equal(bad, 0, "of several accesses the one that faults is blamed, those before are done");
    munmap(p, 2 * PAGE);
}

/* ------------------------------------------------------------------ stack frames */

/* Calls itself with frames of @bytes, writes both ends of each and adds up what it finds. */
uint64_t deep(unsigned long depth, unsigned long bytes);
__asm__(".text\n"
        "deep: push %rbp; mov %rsp, %rbp; push %rbx; sub %rsi, %rsp\n"
        "mov %rdi, %rbx; mov %rdi, (%rsp); mov %rdi, -16(%rbp)\n"
        "xor %eax, %eax; dec %rdi; jz 1f; call deep\n"
        "1: add (%rsp), %rax; add -16(%rbp), %rax; add %rbx, %rax\n"
        "lea -8(%rbp), %rsp; pop %rbx; pop %rbp; ret\n");

uint64_t entered(unsigned long depth);
__asm__(".text\n"
        "entered: enter $1000, $0; mov %rdi, -1000(%rbp); mov %rdi, -8(%rbp)\n"
        "xor %eax, %eax; dec %rdi; jz 1f; call entered\n"
        "1: add -1000(%rbp), %rax; add -8(%rbp), %rax; leave; ret\n");

struct stack_run {
    unsigned long depth, bytes;
    uint64_t sum;
};

/* On a stack none of whose pages is there but by the handler. */
static uint64_t on_stack(unsigned char *top, uint64_t (*fn)(unsigned long, unsigned long),
                         unsigned long depth, unsigned long bytes)
{
    uint64_t sum;

    __asm__ volatile("mov %%rsp, %%r12; mov %[top], %%rsp; call *%[fn]; mov %%r12, %%rsp"
                     : "=a"(sum), "+D"(depth), "+S"(bytes)
                     : [top] "r"(top), [fn] "r"(fn)
                     : "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "memory", "cc");
    return sum;
}

static uint64_t entered_2(unsigned long depth, unsigned long bytes)
{
    (void)bytes;
    return entered(depth);
}

static void check_stacks(void)
{
    enum { STACK_PAGES = 64 };
    unsigned char *p = pages(STACK_PAGES, PROT_READ | PROT_WRITE);
    unsigned bad = 0;

    for (unsigned shift = 0; shift < 4096; shift += 512 - 8)
        for (unsigned long bytes = 16; bytes < 9000; bytes = bytes * 3 + 8) {
            unsigned long depth = (STACK_PAGES - 3) * PAGE / (bytes + 64);

            mprotect(p, STACK_PAGES * PAGE, PROT_NONE);
            with_help(p, STACK_PAGES);
            bad += on_stack(p + STACK_PAGES * PAGE - shift - 8, deep, depth, bytes) !=
                   depth * (depth + 1) / 2 * 3;
        }
    equal(bad, 0, "frames over page ends");
    for (unsigned shift = bad = 0; shift < 1100; shift += 24) {
        unsigned long depth = 200;

        mprotect(p, STACK_PAGES * PAGE, PROT_NONE);
        with_help(p, STACK_PAGES);
        bad += on_stack(p + STACK_PAGES * PAGE - shift - 8, entered_2, depth, 0) !=
               depth * (depth + 1);
    }
    equal(bad, 0, "and those of ENTER and LEAVE");
    munmap(p, STACK_PAGES * PAGE);
}

void check_help(void)
{
    check_strings_helped();
    for (size_t i = 0; i < ARRAY_LEN(walks); i++)
        check_walk(&walks[i]);
    signal(SIGSEGV, SIG_DFL);
    check_null();
    check_blame();
    check_stacks();
    equal(strangers, 0, "no fault outside of what was taken away");
}
