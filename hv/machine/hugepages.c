/* Guest memory on huge pages of the host's pool (hugetlb): whole ones, mapped over the reservation.
 *
 * A private mapping of them reserves them in the pool, so a later fault never fails. What a balloon leaves of one stays
 * with the host until all of it has been given back; then ordinary memory takes its place, for whoever still looks. */
#include "config.h"

#include "hv/machine/hugepages.h"

#include <errno.h>
#include <linux/mman.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES ((size_t)1 << HV_HUGE_SHIFT)

static uint64_t chunk_of(hv_gfn gfn)
{
    return gfn.v / HV_HUGE_PAGES;
}

static uint8_t *place_of(const struct hv_memory *mem, uint64_t chunk)
{
    return mem->base + (chunk << HV_HUGE_SHIFT);
}

int hv_hugepages_enable(struct hv_memory *mem)
{
    size_t bytes = mem->nr_gfns / HV_HUGE_PAGES;
    void *map = mem->huge ? mem->huge
                          : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (map == MAP_FAILED)
        return -ENOMEM;
    mem->huge = map;
    return 0;
}

void hv_hugepages_fini(struct hv_memory *mem)
{
    if (mem->huge)
        munmap(mem->huge, mem->nr_gfns / HV_HUGE_PAGES);
}

bool hv_hugepages_has(const struct hv_memory *mem, hv_gfn gfn)
{
    return mem->huge && mem->huge[chunk_of(gfn)];
}

static bool all_holes(const struct hv_memory *mem, uint64_t chunk)
{
    for (uint64_t i = 0; i < HV_HUGE_PAGES; i++)
        if (hv_memory_type(mem, hv_gfn_of(chunk * HV_HUGE_PAGES + i)) != HV_PAGE_HOLE)
            return false;
    return true;
}

/* Ordinary memory again. If the host cannot split its map any more the huge page stays, cleared. */
static void unmap_chunk(struct hv_memory *mem, uint64_t chunk)
{
    void *place = place_of(mem, chunk);

    if (mmap(place, HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) ==
        MAP_FAILED) {
        memset(place, 0, HUGE_BYTES);
        return;
    }
    (void)madvise(place, HUGE_BYTES, MADV_DONTFORK);
    mem->huge[chunk] = 0;
}

static int map_chunk(struct hv_memory *mem, uint64_t chunk)
{
    void *place = place_of(mem, chunk);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB | MAP_HUGE_2MB;

    if (mmap(place, HUGE_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) {
        unmap_chunk(mem, chunk); /* what was there may be gone */
        return -ENOMEM;
    }
    (void)madvise(place, HUGE_BYTES, MADV_DONTFORK);
    mem->huge[chunk] = 1;
    return 0;
}

int hv_hugepages_map(struct hv_memory *mem, hv_gfn gfn, uint64_t count)
{
    uint64_t first = (gfn.v + HV_HUGE_PAGES - 1) / HV_HUGE_PAGES, end = (gfn.v + count) / HV_HUGE_PAGES;
    int error = 0;

    if (!mem->huge)
        return 0;
    if (first == 0)
        first = 1;
    for (uint64_t chunk = first; !error && chunk < end; chunk++) {
        if (!mem->huge[chunk] && all_holes(mem, chunk))
            error = map_chunk(mem, chunk);
    }
    for (uint64_t chunk = first; error && chunk < end; chunk++) {
        if (mem->huge[chunk] && all_holes(mem, chunk))
            unmap_chunk(mem, chunk);
    }
    return error;
}

uint64_t hv_hugepages_run(const struct hv_memory *mem, hv_gfn gfn, uint64_t count)
{
    bool huge = hv_hugepages_has(mem, gfn);
    uint64_t run = HV_HUGE_PAGES - gfn.v % HV_HUGE_PAGES;

    if (!mem->huge)
        return count;
    while (run < count && hv_hugepages_has(mem, hv_gfn_of(gfn.v + run)) == huge)
        run += HV_HUGE_PAGES;
    return run < count ? run : count;
}

bool hv_hugepages_release(struct hv_memory *mem, hv_gfn gfn, uint64_t count, uint64_t *done)
{
    uint64_t chunk = chunk_of(gfn), room = HV_HUGE_PAGES - gfn.v % HV_HUGE_PAGES;

    if (!hv_hugepages_has(mem, gfn))
        return false;
    *done = room < count ? room : count;
    if (all_holes(mem, chunk))
        unmap_chunk(mem, chunk);
    else
        memset(mem->base + (gfn.v << HV_PAGE_SHIFT), 0, *done << HV_PAGE_SHIFT);
    return true;
}
