/* What a translator can get wrong where an interpreter cannot: accesses that share one look into
 * the TLB, loops, the ways back that must see a kick, code that is written while it runs, address
 * spaces. The interpreter's own tests run on the translator too.
 */
#include "config.h"

#include <pthread.h>
#include <unistd.h>

#define TEST_ENGINE hv_engine_bt
#include "hv/engine/bt/bt.h"
#include "hv/engine/interp/test-machine.h"
#include "hv/tap.h"

#define P 1u
#define W 2u

#define DATA      0x200000u /* pages of TEST_VA from 16 on, in reverse order */
#define DATA_PAGE 16u
#define DATA_VA   (TEST_VA + DATA_PAGE * HV_PAGE_SIZE)
#define PAGES     4u

/* ---- groups of accesses */

TEST_ASM(code_stores, ".code64",
         "mov %rax, (%rbx); mov %rax, 0x18(%rbx); mov %rax, 0x10(%rbx); mov %rax, 8(%rbx); hlt");
TEST_ASM(code_checked, ".code64",
         "test %rbx, %rbx; jz 1f; mov (%rbx), %rax; add 8(%rbx), %rax; 1: inc %rcx; hlt");
TEST_ASM(code_frame, ".code64",
         "push %rax; push %rbx; push %rcx; pushq $7; call 1f; 2: pop %rdx; pop %rcx; pop %rbx;"
         "pop %rax; hlt; 1: push %rdi; mov %rsp, %rsi; pop %rdi; ret");

static uint64_t data_gpa(unsigned page)
{
    return DATA + (PAGES - 1 - page) * (uint64_t)HV_PAGE_SIZE;
}

static void map_data(struct test_machine *m, unsigned pages)
{
    for (unsigned i = 0; i < PAGES; i++)
        test_map(m, DATA_PAGE + i, data_gpa(i), i < pages ? P | W : 0);
}

/* Which of the four words from @offset of the data have been stored to, as bits. */
static unsigned stored(const struct test_machine *m, unsigned offset)
{
    unsigned mask = 0;

    for (unsigned i = 0; i < 4; i++) {
        unsigned at = offset + 8 * i;

        if (test_get64(m, data_gpa(at / HV_PAGE_SIZE) + at % HV_PAGE_SIZE) == 0x5a5a)
            mask |= 1u << i;
    }
    return mask;
}

static int run_stores(struct test_machine *m, unsigned offset, unsigned pages)
{
    test_reset(m);
    map_data(m, pages);
    TEST_LOAD(m, code_stores);
    m->cpu->gpr[HV_RAX] = 0x5a5a;
    m->cpu->gpr[HV_RBX] = DATA_VA + offset;
    return test_run(m);
}

static void test_groups(struct test_machine *m)
{
    TAP_OK(run_stores(m, 0x100, 2) == -1 && stored(m, 0x100) == 15, "stores in one page");
    TAP_OK(run_stores(m, HV_PAGE_SIZE - 16, 2) == -1 && stored(m, HV_PAGE_SIZE - 16) == 15,
           "stores in two pages");
    TAP_OK(run_stores(m, HV_PAGE_SIZE - 16, 1) == 14, "the second of which is not there");
    TAP_OK(stored(m, HV_PAGE_SIZE - 16) == 1 && m->cpu->cr2 == DATA_VA + HV_PAGE_SIZE + 8,
           "only what precedes the fault is stored");
    test_reset(m);
    TEST_LOAD(m, code_checked);
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RCX] == 1, "a null pointer that is checked first");
}

static void test_frames_over_pages(struct test_machine *m)
{
    bool good = true;

    for (unsigned at = 0; at <= 64; at += 8) {
        test_reset(m);
        map_data(m, 2);
        TEST_LOAD(m, code_frame);
        m->cpu->gpr[HV_RSP] = DATA_VA + HV_PAGE_SIZE + at;
        for (unsigned i = 0; i < 3; i++)
            m->cpu->gpr[(uint8_t[]){HV_RAX, HV_RBX, HV_RCX}[i]] = 100 + i;
        good = good && test_run(m) == -1 && m->cpu->gpr[HV_RSP] == DATA_VA + HV_PAGE_SIZE + at &&
               m->cpu->gpr[HV_RAX] == 100 && m->cpu->gpr[HV_RBX] == 101 &&
               m->cpu->gpr[HV_RCX] == 102 && m->cpu->gpr[HV_RDX] == 7 &&
               m->cpu->gpr[HV_RSI] == DATA_VA + HV_PAGE_SIZE + at - 48;
    }
    TAP_OK(good, "a stack frame in two pages, cut at each place");
}

/* ---- loops */

TEST_ASM(code_up, ".code64", "1: add (%rbx), %rax; add $8, %rbx; dec %rcx; jnz 1b; hlt");
TEST_ASM(code_down, ".code64", "1: add (%rbx), %rax; sub $8, %rbx; dec %rcx; jnz 1b; hlt");
TEST_ASM(code_two, ".code64",
         "1: mov (%rbx), %rdx; add %rdx, 8(%rbx); mov 8(%rbx), %rax; add $16, %rbx; dec %rcx; jnz "
         "1b; hlt");
TEST_ASM(code_index, ".code64",
         "1: add (%rbx,%rdx,8), %rax; add 8(%rbx,%rdx,8), %rax; inc %rdx; dec %rcx; jnz 1b; hlt");

static const struct loop_row {
    const char *what;
    const uint8_t *code, *end;
    int first, step; /* words */
    unsigned reads;  /* words each time round */
} loop_rows[] = {
    {"a loop up", code_up, code_up_end, 0, 1, 1},
    {"a loop down", code_down, code_down_end, 1023, -1, 1},
    {"a loop with two words at a time and an index", code_index, code_index_end, 0, 1, 2},
};

static void prepare_loop(struct test_machine *m, const struct loop_row *r, unsigned pages)
{
    test_reset(m);
    map_data(m, pages);
    test_load(m, TEST_CODE, r->code, r->end);
    for (unsigned i = 0; i < PAGES * 512; i++)
        test_put64(m, data_gpa(i / 512) + 8 * (i % 512), i * i + 1);
    m->cpu->gpr[HV_RBX] = DATA_VA + 8 * (uint64_t)r->first;
}

static uint64_t expected_sum(const struct loop_row *r, unsigned count)
{
    uint64_t sum = 0;

    for (unsigned n = 0; n < count; n++)
        for (unsigned k = 0; k < r->reads; k++) {
            uint64_t i = (uint64_t)((int64_t)r->first + (int64_t)n * r->step) + k;

            sum += i * i + 1;
        }
    return sum;
}

static void test_loops(struct test_machine *m)
{
    for (unsigned i = 0; i < HV_ARRAY_LEN(loop_rows); i++) {
        const struct loop_row *r = &loop_rows[i];

        prepare_loop(m, r, PAGES);
        m->cpu->gpr[HV_RCX] = 1000;
        TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RAX] == expected_sum(r, 1000),
               "%s through pages that are nowhere near each other", r->what);
    }
    prepare_loop(m, &loop_rows[0], 1);
    m->cpu->gpr[HV_RCX] = 1000;
    TAP_OK(test_run(m) == 14 && m->cpu->cr2 == DATA_VA + HV_PAGE_SIZE &&
               m->cpu->gpr[HV_RCX] == 1000 - 512 &&
               m->cpu->gpr[HV_RAX] == expected_sum(&loop_rows[0], 512),
           "a loop that comes to a page that is not there stops at it");
    prepare_loop(m, &(struct loop_row){.code = code_two, .end = code_two_end}, 2);
    m->cpu->gpr[HV_RCX] = 512;
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_RAX] == 1022 * 1022 + 1 + 1023 * 1023 + 1,
           "a loop that loads and stores");
}

/* ---- kicks */

TEST_ASM(code_spin, ".code64", "1: jmp 1b");
TEST_ASM(code_spin_flags, ".code64", "1: jc 1b; jnc 1b");
TEST_ASM(code_spin_indirect, ".code64", "lea 1f(%rip), %rax; 1: jmp *%rax");
TEST_ASM(code_spin_return, ".code64", "lea 1f(%rip), %rax; 1: push %rax; ret");
TEST_ASM(code_spin_call, ".code64", "lea 1f(%rip), %rax; 1: call *%rax; 1: pop %rdx; jmp *%rax");
TEST_ASM(code_spin_pages, ".code64", "1: jmp 2f; .fill 4096, 1, 0x90; 2: jmp 1b");
TEST_ASM(code_spin_string, ".code64", "1: mov $4, %ecx; mov %rbx, %rdi; rep stosb; jmp 1b");

static const struct kick_row {
    const char *what;
    const uint8_t *code, *end;
} kick_rows[] = {
    {"jumps", code_spin, code_spin_end},
    {"jumps on flags", code_spin_flags, code_spin_flags_end},
    {"indirect jumps", code_spin_indirect, code_spin_indirect_end},
    {"returns alone", code_spin_return, code_spin_return_end},
    {"calls", code_spin_call, code_spin_call_end},
    {"jumps between pages", code_spin_pages, code_spin_pages_end},
    {"strings", code_spin_string, code_spin_string_end},
};

static void *kick_later(void *opaque)
{
    struct hv_vcpu *v = opaque;

    usleep(20000);
    atomic_fetch_or(&v->attention, HV_ATTN_EVENT);
    TEST_ENGINE.kick(v);
    return NULL;
}

static void test_kicks(struct test_machine *m)
{
    alarm(60); /* one that is not seen hangs */
    for (unsigned i = 0; i < HV_ARRAY_LEN(kick_rows); i++) {
        pthread_t thread;
        enum hv_run reason;

        test_reset(m);
        map_data(m, PAGES);
        test_load(m, TEST_CODE, kick_rows[i].code, kick_rows[i].end);
        m->cpu->gpr[HV_RBX] = DATA_VA;
        if (pthread_create(&thread, NULL, kick_later, m->v)) {
            TAP_OK(false, "a thread");
            continue;
        }
        reason = TEST_ENGINE.run(m->v);
        pthread_join(thread, NULL);
        TAP_OK(reason == HV_RUN_ATTENTION, "a kick ends an endless loop of %s", kick_rows[i].what);
        atomic_store(&m->v->attention, 0);
    }
    alarm(0);
}

/* Calls a function and, with the flags alive, what is one byte before it and one more instruction, which has the same place in
 * the jump cache. */
TEST_ASM(code_neighbours, ".code64",
         "jmp 1f; .fill 256, 1, 0x90; 3: cmc; 4: adc $0, %r8; ret; .fill 4096, 1, 0x90;"
         "1: lea 4b(%rip), %rbx; 2: clc; call *%rbx; clc; call 3b; dec %rcx; jnz 2b; hlt");

struct kicker {
    struct hv_vcpu *v;
    _Atomic bool enough;
};

static void *kick_on(void *opaque)
{
    struct kicker *k = opaque;

    while (!atomic_load(&k->enough))
        TEST_ENGINE.kick(k->v);
    return NULL;
}

static void test_neighbours(struct test_machine *m)
{
    struct kicker k = {.v = m->v};
    pthread_t thread;
    int error;

    test_reset(m);
    TEST_LOAD(m, code_neighbours);
    m->cpu->gpr[HV_RCX] = 1000000;
    m->cpu->gpr[HV_R8] = 0;
    if (pthread_create(&thread, NULL, kick_on, &k)) {
        TAP_OK(false, "a thread");
        return;
    }
    error = test_run(m);
    atomic_store(&k.enough, true);
    pthread_join(thread, NULL);
    TAP_OK(error == -1 && m->cpu->gpr[HV_R8] == 1000000, "calls lead where they should, whenever a kick comes: %llu",
           (unsigned long long)m->cpu->gpr[HV_R8]);
}

/* ---- code that is written */

/* Writes RCX functions "mov $n, %eax; ret", 8 bytes apart, with n from RDX on, and adds up what
 * they return. */
TEST_ASM(code_writer, ".code64",
         "1: mov %rbx, %rdi; mov %ecx, %esi;"
         "2: movb $0xb8, (%rdi); mov %edx, 1(%rdi); movb $0xc3, 5(%rdi); inc %edx; add $8, %rdi;"
         "dec %esi; jnz 2b;"
         "mov %rbx, %rdi; mov %ecx, %esi;"
         "3: call *%rdi; add %rax, %r8; add $8, %rdi; dec %esi; jnz 3b;"
         "dec %r9; jnz 1b; hlt");

static void test_written_code(struct test_machine *m)
{
    uint64_t sum = 0;

    test_reset(m);
    TEST_LOAD(m, code_writer);
    m->cpu->gpr[HV_RBX] = TEST_CODE + 0x400; /* in the writer's own page */
    m->cpu->gpr[HV_RCX] = 100;
    m->cpu->gpr[HV_R9] = 50;
    for (unsigned i = 0; i < 100 * 50; i++)
        sum += i;
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_R8] == sum, "code that is written over and over");
    m->cpu->rip = TEST_CODE;
    m->cpu->gpr[HV_RBX] = 0x300000; /* in a page of its own */
    m->cpu->gpr[HV_R8] = m->cpu->gpr[HV_RDX] = 0;
    m->cpu->gpr[HV_R9] = 50;
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_R8] == sum, "the same in a page of its own");
}

/* ---- address spaces */

/* Calls the function at RBX and reads the word at RBP in two address spaces in turn. */
TEST_ASM(code_spaces, ".code64",
         "1: mov %rsi, %cr3; call *%rbx; add (%rbp), %r8; add %rax, %r8;"
         "mov %rdi, %cr3; call *%rbx; add (%rbp), %r9; add %rax, %r9; dec %ecx; jnz 1b; hlt");
TEST_ASM(code_one, ".code64", "mov $1, %eax; ret");
TEST_ASM(code_thousand, ".code64", "mov $1000, %eax; ret");

#define SECOND_PML4 0xb000u
#define SECOND_PDPT 0xc000u
#define SECOND_PD   0xd000u
#define SECOND_PT   0xe000u
#define KEEP        (1ull << 63)

static void make_second_space(struct test_machine *m)
{
    memcpy(m->ram + SECOND_PDPT, m->ram + 0x2000, HV_PAGE_SIZE);
    test_put64(m, SECOND_PML4, SECOND_PDPT | 7);
    test_put64(m, SECOND_PDPT + 8, SECOND_PD | 7);
    test_put64(m, SECOND_PD, SECOND_PT | 7);
    test_put64(m, SECOND_PT, 0x41000 | P | W);
    test_put64(m, SECOND_PT + 8, 0x43000 | P | W);
    test_map(m, 0, 0x40000, P | W);
    test_map(m, 1, 0x42000, P | W);
    test_load(m, 0x40000, code_one, code_one_end);
    test_load(m, 0x41000, code_thousand, code_thousand_end);
    test_put64(m, 0x42000, 10);
    test_put64(m, 0x43000, 20);
}

static void test_spaces(struct test_machine *m)
{
    static const struct {
        const char *what;
        uint64_t cr4, first, second;
    } rows[] = {
        {"address spaces that are forgotten at a switch", 0, 0, 0},
        {"address spaces that are kept", HV_CR4_PCIDE, 1 | KEEP, 2 | KEEP},
    };

    for (unsigned i = 0; i < HV_ARRAY_LEN(rows); i++) {
        test_reset(m);
        make_second_space(m);
        TEST_LOAD(m, code_spaces);
        m->cpu->cr4 |= rows[i].cr4;
        m->cpu->gpr[HV_RBX] = TEST_VA;
        m->cpu->gpr[HV_RBP] = TEST_VA + HV_PAGE_SIZE;
        m->cpu->gpr[HV_RSI] = TEST_PML4 | rows[i].first;
        m->cpu->gpr[HV_RDI] = SECOND_PML4 | rows[i].second;
        m->cpu->gpr[HV_RCX] = 100;
        TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_R8] == 1100 && m->cpu->gpr[HV_R9] == 102000,
               "%s have code and data of their own", rows[i].what);
    }
}

/* ---- code that is ready before it runs */

/* Calls two functions in the next page over and over, the second by an address; adds up what they return in R8. */
TEST_ASM(code_caller, ".code64",
         "1: mov $0x11000, %eax; call *%rax; add %rax, %r8; mov $0x11100, %eax; call *%rax; add %rax, %r8; dec %ecx; jnz 1b; hlt");
TEST_ASM(code_returner, ".code64", "mov $7, %eax; ret");

#define CALLED TEST_CODE + HV_PAGE_SIZE
#define PLACES 64u

static void load_caller(struct test_machine *m)
{
    test_reset(m);
    TEST_LOAD(m, code_caller);
    memcpy(m->ram + CALLED, code_returner, (size_t)(code_returner_end - code_returner));
    memcpy(m->ram + CALLED + 0x100, code_returner, (size_t)(code_returner_end - code_returner));
    m->cpu->gpr[HV_RCX] = 10;
}

static bool has_place(const struct hv_code_place *list, size_t count, uint64_t rip)
{
    for (size_t i = 0; i < count; i++)
        if (list[i].rip == rip && list[i].gpa == rip)
            return true;
    return false;
}

static const struct bt *translator(const struct test_machine *m)
{
    return bt_of(m->v->engine_state);
}

static void test_bad_places(struct test_machine *m)
{
    const struct hv_code_place bad[] = {
        {TEST_CODE, TEST_CODE, 0xff},         {TEST_CODE, TEST_CODE + 1, 0}, {~0ull, ~0ull, 0},
        {TEST_RAM, TEST_RAM, 0},              {TEST_CODE + 0xfff, TEST_CODE + 0xfff, 0},
    };

    TEST_ENGINE.flush(m->v);
    TEST_ENGINE.prepare_code(m->v, bad, HV_ARRAY_LEN(bad), ~0ull);
    TAP_OK(translator(m)->nr_blocks == 0, "places that make no sense are left out");
}

/* The same machine plays both: what it had translated is forgotten in between. */
static void test_ready(struct test_machine *m)
{
    struct hv_code_place list[PLACES];
    uint32_t blocks;
    size_t count;

    load_caller(m);
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_R8] == 140, "a guest runs");
    count = TEST_ENGINE.list_code(m->v, list, PLACES);
    TAP_OK(count < PLACES && has_place(list, count, CALLED) && has_place(list, count, CALLED + 0x100),
           "what it ran is listed (%zu)", count);
    TAP_OK(TEST_ENGINE.list_code(m->v, list, 1) == 1, "no more than there is room for");
    count = TEST_ENGINE.list_code(m->v, list, PLACES);
    load_caller(m);
    TEST_ENGINE.flush(m->v);
    TEST_ENGINE.prepare_code(m->v, list, count, 0);
    TAP_OK(translator(m)->nr_blocks == 0, "nothing is made ready when there is no time");
    TEST_ENGINE.prepare_code(m->v, list, count, ~0ull);
    blocks = translator(m)->nr_blocks;
    TAP_OK(blocks == count, "all of it is");
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_R8] == 140, "it runs the same");
    TAP_OK(translator(m)->nr_blocks <= blocks + 1, "with what is ready (%u and %u blocks)", blocks, translator(m)->nr_blocks);
    load_caller(m);
    TEST_ENGINE.flush(m->v);
    TEST_ENGINE.prepare_code(m->v, list, count, ~0ull);
    m->ram[CALLED + 1] = 9;
    hv_memory_written(&m->domain.mem, hv_gpa_of(CALLED), HV_PAGE_SIZE);
    TAP_OK(test_run(m) == -1 && m->cpu->gpr[HV_R8] == 160, "but not what was overwritten since");
    test_bad_places(m);
}

int main(void)
{
    static struct test_machine m;

    if (!TEST_ENGINE.available()) {
        printf("1..0 # SKIP this host has no BMI2\n");
        return 0;
    }
    if (!test_new(&m)) {
        printf("Bail out! no machine\n");
        return 1;
    }
    test_groups(&m);
    test_frames_over_pages(&m);
    test_loops(&m);
    test_kicks(&m);
    test_neighbours(&m);
    test_written_code(&m);
    test_spaces(&m);
    test_ready(&m);
    test_free(&m);
    return tap_done();
}
