/* String instructions against plain loops: sizes, directions, overlaps and page boundaries. */
#include "check.h"

#include <sys/mman.h>

#define SPAN (3 * PAGE)

static unsigned char *source, *target, *model;

static void fill(void)
{
    for (unsigned i = 0; i < SPAN; i++) {
        source[i] = (unsigned char)(i * 31 + (i >> 8));
        target[i] = model[i] = (unsigned char)(i * 17 + 3);
    }
}

/* One element each of @size bytes, as the manual's pseudo code has it. */
static void model_movs(unsigned char *to, const unsigned char *from, unsigned long count, int size,
                       bool backward)
{
    for (; count; count--) {
        unsigned char element[8];

        memcpy(element, from, (size_t)size);
        memcpy(to, element, (size_t)size);
        to += backward ? -size : size;
        from += backward ? -size : size;
    }
}

#define MOVS(name, text)                                                                           \
    static void name(unsigned char *to, const unsigned char *from, unsigned long count,            \
                     bool backward)                                                                \
    {                                                                                              \
        if (backward)                                                                              \
            __asm__ volatile("std; rep " text "; cld"                                              \
                             : "+D"(to), "+S"(from), "+c"(count)                                   \
                             :                                                                     \
                             : "memory", "cc");                                                    \
        else                                                                                       \
            __asm__ volatile("rep " text : "+D"(to), "+S"(from), "+c"(count) : : "memory", "cc");  \
    }

MOVS(movs_1, "movsb")
MOVS(movs_2, "movsw")
MOVS(movs_4, "movsl")
MOVS(movs_8, "movsq")

static void check_movs(void)
{
    static void (*const fns[])(unsigned char *, const unsigned char *, unsigned long,
                               bool) = {movs_1, movs_2, movs_4, movs_8};
    static const unsigned counts[] = {0, 1, 2, 3, 7, 8, 63, 64, 65, 300, 511};

    for (unsigned k = 0; k < ARRAY_LEN(fns); k++)
        for (int backward = 0; backward < 2; backward++) {
            int size = 1 << k;
            unsigned bad = 0;

            for (unsigned c = 0; c < ARRAY_LEN(counts); c++)
                for (int shift = -9; shift <= 9; shift += 3) {
                    unsigned to = (unsigned)((int)PAGE + shift),
                             from = (unsigned)((int)PAGE + 2 * shift);

                    to += backward ? PAGE : 0;
                    from += backward ? PAGE : 0;
                    fill();
                    fns[k](target + to, source + from, counts[c], backward);
                    model_movs(model + to, source + from, counts[c], size, backward);
                    bad += memcmp(target, model, SPAN) != 0;
                    /* The same within one buffer: overlaps that smear. */
                    fns[k](target + to, target + to + shift, counts[c], backward);
                    model_movs(model + to, model + to + shift, counts[c], size, backward);
                    bad += memcmp(target, model, SPAN) != 0;
                }
            equal(bad, 0, "movs of %d bytes %s", size, backward ? "backward" : "forward");
        }
}

static void check_stos(void)
{
    unsigned bad = 0;

    for (unsigned start = PAGE - 16; start < PAGE + 2; start++)
        for (unsigned long count = 0; count < 700; count += 99) {
            unsigned char *to = target + start;
            unsigned long left = count;

            fill();
            __asm__ volatile("rep stosl" : "+D"(to), "+c"(left) : "a"(0x11223344) : "memory");
            for (unsigned i = 0; i < count; i++)
                memcpy(model + start + 4 * i, &(uint32_t){0x11223344}, 4);
            bad += memcmp(target, model, SPAN) != 0 || to != target + start + 4 * count || left;
        }
    equal(bad, 0, "stos");
}

static void check_compare(void)
{
    unsigned bad = 0;

    memset(source, 'a', SPAN);
    memset(target, 'a', SPAN);
    for (unsigned end = PAGE - 20; end < PAGE + 20; end++) {
        const unsigned char *s = source + 100, *t = target + 100;
        unsigned long count = SPAN - 100;
        bool equal_;

        target[end] = 'b';
        __asm__ volatile("repe cmpsb"
                         : "+S"(s), "+D"(t), "+c"(count), "=@ccz"(equal_)
                         :
                         : "memory");
        bad += equal_ || s != source + end + 1 || t != target + end + 1 || count != SPAN - end - 1;
        t = target;
        count = SPAN;
        __asm__ volatile("repne scasb"
                         : "+D"(t), "+c"(count), "=@ccz"(equal_)
                         : "a"('b')
                         : "memory");
        bad += !equal_ || t != target + end + 1 || count != SPAN - end - 1;
        target[end] = 'a';
    }
    equal(bad, 0, "cmps and scas");
}

static void check_lods(void)
{
    const unsigned char *s = source + PAGE - 3;
    uint64_t value, want;
    unsigned long count = 0;

    fill();
    memcpy(&want, s, 8);
    __asm__ volatile("lodsq" : "=a"(value), "+S"(s) : : "memory");
    ok(value == want && s == source + PAGE + 5, "lods across pages");
    value = 0x1234;
    __asm__ volatile("rep lodsb" : "+a"(value), "+S"(s), "+c"(count) : : "memory");
    ok(value == 0x1234 && s == source + PAGE + 5, "rep lods of nothing");
}

/* The kernel's own copies, to and from odd places of user memory. */
static void check_kernel_copy(void)
{
    int fds[2];
    unsigned bad = 0;

    if (pipe(fds) < 0)
        return;
    fill();
    for (unsigned start = PAGE - 9; start < PAGE + 9; start++)
        for (unsigned size = 1; size < 3000; size = size * 3 + 1) {
            bad += write(fds[1], source + start, size) != (long)size;
            bad += read(fds[0], target + PAGE - start % 64, size) != (long)size;
            bad += memcmp(source + start, target + PAGE - start % 64, size) != 0;
        }
    equal(bad, 0, "write and read of a pipe");
    close(fds[0]);
    close(fds[1]);
}

void check_strings(void)
{
    source = pages(3, PROT_READ | PROT_WRITE);
    target = pages(3, PROT_READ | PROT_WRITE);
    model = pages(3, PROT_READ | PROT_WRITE);
    check_movs();
    check_stos();
    check_compare();
    check_lods();
    check_kernel_copy();
}
