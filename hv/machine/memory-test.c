/* Guest physical memory: which pages are there, who may touch them, what limits hold. */
#include "config.h"

#include "hv/machine/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "hv/machine/hugepages.h"
#include "hv/tap.h"

#define TOP (1ull << HV_GPA_BITS)

static void test_populate(struct hv_memory *mem)
{
    uint32_t word = 0x12345678;

    mem->max_pages = 10;
    TAP_OK(hv_memory_populate(mem, hv_gfn_of(4), 2) == 0, "two pages become RAM");
    TAP_OK(mem->ram_pages == 2 && hv_memory_type(mem, hv_gfn_of(5)) == HV_PAGE_RAM,
           "and are counted");
    TAP_OK(hv_memory_write(mem, hv_gpa_of(0x5000), &word, 4) == 0, "RAM is written");
    TAP_OK(hv_memory_populate(mem, hv_gfn_of(2), 8) == 0 && mem->ram_pages == 8,
           "a range around them becomes RAM");
    word = 0;
    TAP_OK(hv_memory_read(mem, hv_gpa_of(0x5000), &word, 4) == 0 && word == 0x12345678,
           "what was RAM keeps its contents");
    TAP_OK(hv_memory_populate(mem, hv_gfn_of(100), 3) == -ENOMEM && mem->ram_pages == 8,
           "not past max_pages");
    TAP_OK(hv_memory_type(mem, hv_gfn_of(100)) == HV_PAGE_HOLE, "and then nothing changes");
    TAP_OK(hv_memory_populate(mem, hv_gfn_of(mem->nr_gfns - 1), 2) == -EINVAL &&
               hv_memory_populate(mem, hv_gfn_of(UINT64_MAX), 2) == -EINVAL &&
               hv_memory_populate(mem, hv_gfn_of(1), UINT64_MAX) == -EINVAL,
           "not outside the address space");
}

static void test_release(struct hv_memory *mem)
{
    uint32_t word = 1;

    TAP_OK(hv_memory_release(mem, hv_gfn_of(5), 1) == 0 && mem->ram_pages == 7,
           "a page is given back");
    TAP_OK(hv_memory_read(mem, hv_gpa_of(0x5000), &word, 4) == -EFAULT && word == 1,
           "and is not readable, the buffer unchanged");
    TAP_OK(hv_memory_release(mem, hv_gfn_of(4), 2) == -EINVAL && mem->ram_pages == 7,
           "a range with a hole in it is refused as a whole");
    TAP_OK(hv_memory_populate(mem, hv_gfn_of(5), 1) == 0 &&
               hv_memory_read(mem, hv_gpa_of(0x5000), &word, 4) == 0 && word == 0,
           "populated again it is zero");
}

/* How much of a range the host has pages for. */
static unsigned resident(const struct hv_memory *mem, uint64_t gfn, unsigned count)
{
    unsigned char there[64];
    unsigned n = 0;

    if (mincore(mem->base + (gfn << HV_PAGE_SHIFT), (size_t)count << HV_PAGE_SHIFT, there) < 0)
        return ~0u;
    for (unsigned i = 0; i < count; i++)
        n += there[i] & 1;
    return n;
}

static void test_hold(struct hv_memory *mem)
{
    uint64_t max = mem->max_pages;

    mem->max_pages = mem->ram_pages + 64;
    mem->immediate = true;
    TAP_OK(hv_memory_populate(mem, hv_gfn_of(0x1000), 16) == 0 && resident(mem, 0x1000, 16) == 16, "pages are there at once");
    TAP_OK(hv_memory_release(mem, hv_gfn_of(0x1000), 16) == 0 && resident(mem, 0x1000, 16) == 0, "and gone when given back");
    mem->immediate = false;
#ifdef __SANITIZE_ADDRESS__
    TAP_OK(true, "locked pages # SKIP AddressSanitizer's mlock does nothing");
#else
    mem->locked = true;
    TAP_OK(hv_memory_populate(mem, hv_gfn_of(0x1000), 16) == 0 && resident(mem, 0x1000, 16) == 16, "locked pages, too");
    TAP_OK(hv_memory_release(mem, hv_gfn_of(0x1003), 4) == 0 && resident(mem, 0x1000, 16) == 12, "even some of them");
    TAP_OK(hv_memory_release(mem, hv_gfn_of(0x1000), 3) == 0 && hv_memory_release(mem, hv_gfn_of(0x1007), 9) == 0 &&
               resident(mem, 0x1000, 16) == 0,
           "and the rest");
    mem->locked = false;
#endif
    mem->max_pages = max;
}

/* One row: an access to RAM in pages 2 to 9, a read-only shared page 10 and a shared page 11. */
static void test_at(struct hv_memory *mem)
{
    static const struct {
        uint64_t gpa;
        size_t bytes;
        bool write, ok;
        const char *what;
    } rows[] = {
        {0x2000, 0x8000, true, true, "all of the RAM"},
        {0x1fff, 2, false, false, "from the hole before it"},
        {0x2000, 0xa000, false, true, "RAM and both shared pages, reading"},
        {0x2000, 0xa000, true, false, "the same, writing"},
        {0x2000, 0xa001, false, false, "one byte further"},
        {0xafff, 1, true, false, "writing the read-only page"},
        {0xb000, 1, true, true, "writing the shared page"},
        {0x2000, 0, false, false, "nothing"},
        {0x2000, SIZE_MAX, false, false, "a length that wraps"},
        {UINT64_MAX, 2, false, false, "an address that wraps"},
        {TOP, 1, false, false, "past the address space"},
        {TOP - 1, 2, false, false, "across its end"},
    };

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++) {
        void *p = hv_memory_at(mem, hv_gpa_of(rows[i].gpa), rows[i].bytes, rows[i].write);

        TAP_OK(rows[i].ok ? p == mem->base + rows[i].gpa : !p, "access: %s", rows[i].what);
    }
}

static void test_shared(struct hv_memory *mem)
{
    uint64_t first, second;
    char *page, *other;
    char byte = 0;

    TAP_OK(hv_memory_alloc_shared(mem, &first, (void **)&page) == 0 &&
               hv_memory_alloc_shared(mem, &second, (void **)&other) == 0 && first != second,
           "shared pages");
    TAP_OK(hv_memory_map_shared(mem, hv_gfn_of(10), first, false) == 0 &&
               hv_memory_map_shared(mem, hv_gfn_of(11), second, true) == 0,
           "are mapped");
    page[17] = 'x';
    TAP_OK(hv_memory_read(mem, hv_gpa_of(0xa011), &byte, 1) == 0 && byte == 'x',
           "the guest sees ours");
    byte = 'y';
    TAP_OK(hv_memory_write(mem, hv_gpa_of(0xb003), &byte, 1) == 0 && other[3] == 'y',
           "we see the guest's");
    TAP_OK(hv_memory_populate(mem, hv_gfn_of(10), 1) == -EINVAL,
           "RAM does not replace a shared page");
    TAP_OK(hv_memory_map_shared(mem, hv_gfn_of(20), 99, true) == -EINVAL, "no such shared page");
    test_at(mem);
    TAP_OK(hv_memory_map_shared(mem, hv_gfn_of(9), first, true) == 0 && mem->ram_pages == 7,
           "a shared page replaces RAM");
    TAP_OK(hv_memory_unmap_shared(mem, hv_gfn_of(9)) == 0 &&
               hv_memory_type(mem, hv_gfn_of(9)) == HV_PAGE_HOLE,
           "unmapped, a hole stays");
    TAP_OK(hv_memory_unmap_shared(mem, hv_gfn_of(9)) == -EINVAL &&
               hv_memory_unmap_shared(mem, hv_gfn_of(2)) == -EINVAL,
           "only shared pages are unmapped");
    TAP_OK(page[17] == 'x' && other[3] == 'y', "shared pages last");
}

static void test_shared_limit(struct hv_memory *mem)
{
    uint64_t index;
    void *page;
    unsigned count = 0;

    while (count <= HV_MEMORY_MAX_SHARED && hv_memory_alloc_shared(mem, &index, &page) == 0)
        count++;
    TAP_OK(count == HV_MEMORY_MAX_SHARED - 2, "there is a last shared page");
    memset(page, 1, HV_PAGE_SIZE);
}

/* Under a limit on address space (which AddressSanitizer cannot live with) the reservation shrinks.
 */
#ifndef __SANITIZE_ADDRESS__
/* Whether the process could still map as much. */
static bool can_map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p != MAP_FAILED && munmap(p, bytes) == 0;
}
#endif

static void test_limited(void)
{
#ifdef __SANITIZE_ADDRESS__
    TAP_OK(true, "limited address space # SKIP under AddressSanitizer");
#else
    struct rlimit old, limit;
    struct hv_memory mem;

    getrlimit(RLIMIT_AS, &old);
    limit = (struct rlimit){.rlim_cur = 17ull << 30, .rlim_max = old.rlim_max};
    setrlimit(RLIMIT_AS, &limit);
    if (TAP_OK(hv_memory_init(&mem) == 0 && mem.nr_gfns < TOP >> HV_PAGE_SHIFT,
               "a small reservation")) {
        mem.max_pages = 1;
        TAP_OK(hv_memory_populate(&mem, hv_gfn_of(mem.nr_gfns), 1) == -EINVAL &&
                   hv_memory_populate(&mem, hv_gfn_of(mem.nr_gfns - 1), 1) == 0,
               "has its own end");
        TAP_OK(can_map(4ull << 30), "and leaves room for other things");
        hv_memory_fini(&mem);
    }
    limit.rlim_cur = 5ull << 30;
    setrlimit(RLIMIT_AS, &limit);
    TAP_OK(hv_memory_init(&mem) == 0 && mem.nr_gfns == 1u << 20 &&
               hv_memory_type(&mem, hv_gfn_of(mem.nr_gfns)) == HV_PAGE_HOLE,
           "the smallest one");
    hv_memory_fini(&mem);
    limit.rlim_cur = 1ull << 30;
    setrlimit(RLIMIT_AS, &limit);
    TAP_OK(hv_memory_init(&mem) == -ENOMEM, "too small a limit is an error");
    setrlimit(RLIMIT_AS, &old);
#endif
}

/* Where the host's pool has none, nothing becomes RAM. */
static void test_huge(void)
{
    const uint64_t first = HV_HUGE_PAGES, count = 2 * HV_HUGE_PAGES;
    struct hv_memory mem;
    uint32_t word = 7;

    if (hv_memory_init(&mem) || hv_hugepages_enable(&mem))
        abort();
    mem.max_pages = 4 * HV_HUGE_PAGES;
    TAP_OK(hv_memory_populate(&mem, hv_gfn_of(0), 10) == 0 && !hv_hugepages_has(&mem, hv_gfn_of(0)),
           "the first 2 MiB are ordinary memory");
    if (hv_memory_populate(&mem, hv_gfn_of(first - 10), count + 20)) {
        TAP_OK(mem.ram_pages == 10 && !hv_hugepages_has(&mem, hv_gfn_of(first)), "no huge pages: nothing has changed");
        hv_memory_fini(&mem);
        return;
    }
    TAP_OK(mem.ram_pages == count + 30 && hv_hugepages_has(&mem, hv_gfn_of(first)) &&
               hv_hugepages_has(&mem, hv_gfn_of(first + count - 1)) && !hv_hugepages_has(&mem, hv_gfn_of(first - 1)) &&
               !hv_hugepages_has(&mem, hv_gfn_of(first + count)),
           "whole ones inside a range are huge");
    if (hv_memory_write(&mem, hv_gpa_of(first << HV_PAGE_SHIFT), &word, 4))
        abort();
    TAP_OK(hv_memory_map_shared(&mem, hv_gfn_of(first), 0, true) < 0, "no page of the hypervisor is mapped into one");
    TAP_OK(hv_memory_release(&mem, hv_gfn_of(first), 5) == 0 && hv_hugepages_has(&mem, hv_gfn_of(first)) &&
               hv_memory_populate(&mem, hv_gfn_of(first), 5) == 0 &&
               hv_memory_read(&mem, hv_gpa_of(first << HV_PAGE_SHIFT), &word, 4) == 0 && word == 0,
           "a part that is given back is cleared, and comes again");
    TAP_OK(hv_memory_release(&mem, hv_gfn_of(first - 3), HV_HUGE_PAGES + 5) == 0 &&
               !hv_hugepages_has(&mem, hv_gfn_of(first)) && hv_hugepages_has(&mem, hv_gfn_of(first + HV_HUGE_PAGES)),
           "one that is given back as a whole is not huge any more");
    TAP_OK(hv_memory_populate(&mem, hv_gfn_of(first), 100) == 0 && !hv_hugepages_has(&mem, hv_gfn_of(first)),
           "a part of it comes again as ordinary memory");
    hv_memory_fini(&mem);
}

int main(void)
{
    struct hv_memory mem;

    TAP_OK(hv_memory_init(&mem) == 0, "the address space is reserved");
    test_populate(&mem);
    test_release(&mem);
    test_hold(&mem);
    test_shared(&mem);
    test_shared_limit(&mem);
    hv_memory_fini(&mem);
    hv_memory_fini(&mem);
    test_huge();
    test_limited();
    return tap_done();
}
