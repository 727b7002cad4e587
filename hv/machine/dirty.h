/* The log of writes to guest memory: which pages changed since they were last asked for. A bit for each page.
 *
 * Exact for what the guest does: while there is a log, an engine may only store to a page that it has marked, and who takes
 * marks makes all vCPUs forget where they may store before the pages are read (hv_domain_flush_tlb). The hypervisor's own
 * writes are marked by hv_memory_at, hv_memory_written and hv_gnttab_put; what it writes to by lasting pointers (rings, event
 * words) is marked once more, at the end, by hv_physmap_mark_own.
 */
#pragma once

#include "hv/machine/memory.h"

/* Starts a log, in which nothing is marked. The caller then calls hv_domain_flush_tlb. 0 or -ENOMEM. Loop thread. */
int hv_memory_log_start(struct hv_memory *mem) HV_MUST_CHECK;
void hv_memory_log_stop(struct hv_memory *mem);
void hv_memory_log_free(struct hv_memory *mem);

/* The marks of pages 64 * @word to 64 * @word + 63, which are taken off. */
static inline uint64_t hv_memory_log_take(struct hv_memory *mem, uint64_t word)
{
    uint64_t *log = __atomic_load_n(&mem->dirty, __ATOMIC_ACQUIRE);

    if (!log || !__atomic_load_n(&log[word], __ATOMIC_RELAXED))
        return 0;
    return __atomic_exchange_n(&log[word], 0, __ATOMIC_SEQ_CST);
}

/* The page is, or is going to be, written to. Any thread. */
static inline void hv_memory_mark_dirty(struct hv_memory *mem, hv_gfn gfn)
{
    uint64_t *log = __atomic_load_n(&mem->dirty, __ATOMIC_ACQUIRE), bit = 1ull << (gfn.v & 63);

    if (log && gfn.v < mem->nr_gfns && !(__atomic_load_n(&log[gfn.v >> 6], __ATOMIC_RELAXED) & bit))
        __atomic_fetch_or(&log[gfn.v >> 6], bit, __ATOMIC_SEQ_CST);
}

/* Whether an engine may remember that a page can be written to without being marked: it is, or there is no log. */
static inline bool hv_memory_may_store(const struct hv_memory *mem, hv_gfn gfn)
{
    uint64_t *log = __atomic_load_n(&mem->dirty, __ATOMIC_ACQUIRE);

    return !log || (gfn.v < mem->nr_gfns && (__atomic_load_n(&log[gfn.v >> 6], __ATOMIC_SEQ_CST) >> (gfn.v & 63) & 1));
}
