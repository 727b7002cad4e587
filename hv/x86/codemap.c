/* Writes to guest pages that hold cached code. */
#include "config.h"

#include "hv/x86/codemap.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hv/machine/memory.h"

#define GFNS (1ull << (HV_GPA_BITS - HV_PAGE_SHIFT))

static void *reserve(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void codemap_free(struct hv_codemap *map)
{
    if (map->lines)
        munmap(map->lines, GFNS * sizeof(*map->lines));
    if (map->generation)
        munmap(map->generation, GFNS * sizeof(*map->generation));
    if (map->writers)
        munmap(map->writers, GFNS * sizeof(*map->writers));
    free(map);
}

int hv_codemap_get(struct hv_memory *mem)
{
    struct hv_codemap *map = mem->code;

    if (!map) {
        map = calloc(1, sizeof(*map));
        if (!map)
            return -ENOMEM;
        map->lines = reserve(GFNS * sizeof(*map->lines));
        map->generation = reserve(GFNS * sizeof(*map->generation));
        map->writers = reserve(GFNS * sizeof(*map->writers));
        if (!map->lines || !map->generation || !map->writers) {
            codemap_free(map);
            return -ENOMEM;
        }
        /* Where the kernel lacks it, the window described in hv_codemap_mark is a store buffer
         * wide. */
        (void)syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
        map->log_head = 1; /* an entry of 0 is none */
        mem->code = map;
    }
    map->users++;
    return 0;
}

void hv_codemap_put(struct hv_memory *mem)
{
    if (mem->code && --mem->code->users == 0) {
        codemap_free(mem->code);
        mem->code = NULL;
    }
}

static uint64_t lines_of(hv_gpa gpa, unsigned bytes)
{
    unsigned first = hv_codemap_line(gpa.v), last = HV_CODEMAP_LINES - 1;

    if ((gpa.v & HV_PAGE_MASK) + bytes <= HV_PAGE_SIZE)
        last = hv_codemap_line(gpa.v + bytes - 1);
    return (~0ull >> (63 - (last - first))) << first;
}

void hv_codemap_mark(struct hv_codemap *map, hv_gpa gpa, unsigned bytes)
{
    uint64_t *word = &map->lines[gpa.v >> HV_PAGE_SHIFT];
    uint64_t want = lines_of(gpa, bytes);

    if ((__atomic_load_n(word, __ATOMIC_RELAXED) & want) == want)
        return;
    __atomic_fetch_or(word, want, __ATOMIC_SEQ_CST);
    if (map->fenced)
        return;
    /* Another vCPU may have stored, and looked at the word, just before: the barrier on its
     * processor makes that store visible to the read that follows here. */
    (void)syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

void hv_codemap_add_log(struct hv_codemap *map, uint64_t gfn, uint64_t kind)
{
    uint64_t n = __atomic_fetch_add(&map->log_head, 1, __ATOMIC_SEQ_CST);

    __atomic_store_n(&map->log[n % HV_CODEMAP_LOG], n << 32 | kind | gfn, __ATOMIC_RELEASE);
}

/* Only one thread at a time makes the code of a page stale: another one's store may be to code that was marked behind
 * the first one's back. */
static void begin_retiring(uint64_t *lines)
{
    uint64_t old = __atomic_load_n(lines, __ATOMIC_RELAXED);

    for (;;) {
        while (old & HV_CODEMAP_RETIRING) {
            sched_yield();
            old = __atomic_load_n(lines, __ATOMIC_RELAXED);
        }
        if (__atomic_compare_exchange_n(lines, &old, HV_CODEMAP_RETIRING, false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED))
            return;
    }
}

void hv_codemap_retire(struct hv_codemap *map, uint64_t gfn)
{
    /* Engines read the generation before they mark, so lines first: who still found its bit set has
     * the old generation. */
    begin_retiring(&map->lines[gfn]);
    __atomic_fetch_add(&map->generation[gfn], 1, __ATOMIC_SEQ_CST);
    hv_codemap_add_log(map, gfn, 0);
    __atomic_fetch_and(&map->lines[gfn], ~HV_CODEMAP_RETIRING, __ATOMIC_SEQ_CST);
}

bool hv_codemap_written_slow(struct hv_codemap *map, hv_gpa gpa, unsigned bytes)
{
    uint64_t gfn = gpa.v >> HV_PAGE_SHIFT, touched = lines_of(gpa, bytes) | HV_CODEMAP_RETIRING;

    if (!(__atomic_load_n(&map->lines[gfn], __ATOMIC_RELAXED) & touched))
        return false;
    hv_codemap_retire(map, gfn);
    return true;
}
