/* Which guest pages hold code that an engine has decoded or translated, so that writes to them are
 * noticed: by guest physical address, since a kernel patches its text through another mapping.
 *
 * Two arrays by gfn, one set for the domain, both reserved and filled as touched: `lines` has one
 * bit for each 64 bytes that hold cached code (the last 128 share one), `generation` counts how often cached code of the
 * page became stale. An engine remembers the generation with what it caches and compares before
 * use; every write to guest memory, by a vCPU or by the hypervisor, looks at `lines` after the
 * store.
 */
#pragma once

#include "hv/types.h"

struct hv_memory;

#define HV_CODEMAP_LOG 4096u

/* Entries of the log: their number from bit 32 up, so that one not written yet is told from an old
 * one; the gfn in bits 0-27. */
#define HV_CODEMAP_PROTECT (1ull << 31) /* not stale: who can store unseen must give that up */

/* In `lines`: the page's code is being made stale, so that who finds none of it there knows the new generation and the
 * log's entry. */
#define HV_CODEMAP_RETIRING (1ull << 63)
#define HV_CODEMAP_LINES    63u

struct hv_codemap {
    uint64_t *lines;      /* atomic */
    uint32_t *generation; /* atomic */
    /* For engines that store to guest memory without a look at `lines`: the vCPUs that may do so to
     * a page; such an engine sets its bit, then looks at `lines` once. Who marks code looks at the
     * bits afterwards. */
    uint64_t *writers;            /* atomic */
    uint64_t log[HV_CODEMAP_LOG]; /* atomic: ring of pages whose code became stale */
    uint64_t log_head;            /* atomic: entries ever made */
    uint64_t flush_epoch;         /* atomic: an engine lost requests, all code is to be dropped */
    /* Whoever stores has a fence before the look at `lines`; else who marks makes all processors
     * have one. Set by engines whose stores rarely come here, before the vCPUs run. */
    bool fenced;
    unsigned users;               /* engines attached; vCPU creation is single-threaded */
};

/* Attaches one user to the map of @mem, making it for the first; mem->code is set. 0 or -ENOMEM. */
int hv_codemap_get(struct hv_memory *mem) HV_MUST_CHECK;
/* Drops a user; the last one frees the map. */
void hv_codemap_put(struct hv_memory *mem);

/* Says that code from [@gpa, @gpa + @bytes), within one page, is about to be read and cached. The
 * caller has read the generation before, and compares it before use. When this returns, a store of
 * any vCPU is either seen by that read or will bump the generation. Any thread. */
void hv_codemap_mark(struct hv_codemap *map, hv_gpa gpa, unsigned bytes);

/* Makes cached code in the touched lines stale: called after a store to [@gpa, @gpa + @bytes),
 * within one page. True if there was any. Any thread. */
bool hv_codemap_written_slow(struct hv_codemap *map, hv_gpa gpa, unsigned bytes);

/* Adds @gfn to the log, with HV_CODEMAP_PROTECT or 0. Any thread. */
void hv_codemap_add_log(struct hv_codemap *map, uint64_t gfn, uint64_t kind);

/* Makes all code of the page stale. Any thread. */
void hv_codemap_retire(struct hv_codemap *map, uint64_t gfn);

/* The number in `lines` of what is at @gpa. */
static inline unsigned hv_codemap_line(uint64_t gpa)
{
    unsigned line = (unsigned)(gpa & HV_PAGE_MASK) >> 6;

    return line < HV_CODEMAP_LINES ? line : HV_CODEMAP_LINES - 1;
}

static inline bool hv_codemap_written(struct hv_codemap *map, hv_gpa gpa, unsigned bytes)
{
    if (!map)
        return false;
    if (map->fenced)
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!__atomic_load_n(&map->lines[gpa.v >> HV_PAGE_SHIFT], __ATOMIC_RELAXED))
        return false;
    return hv_codemap_written_slow(map, gpa, bytes);
}
