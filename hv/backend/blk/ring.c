/* The shared ring of a block queue. */
#include "config.h"

#include "hv/backend/blk/ring.h"

#include <errno.h>
#include <string.h>

#define HEADER_BYTES offsetof(struct blkif_sring, ring)
#define ENTRY_BYTES  sizeof(union blkif_sring_entry)

_Static_assert(HEADER_BYTES == 64, "header of a ring");

static struct blkif_sring *header(const struct hv_blk_ring *ring)
{
    return (struct blkif_sring *)ring->pages[0].page;
}

/* The number of entries is a power of two, as many as fit. */
static uint32_t entries_in(unsigned nr_pages)
{
    uint32_t fit = (uint32_t)((nr_pages * HV_PAGE_SIZE - HEADER_BYTES) / ENTRY_BYTES);

    return 1u << (31 - __builtin_clz(fit));
}

void hv_blk_ring_fini(struct hv_domain *d, struct hv_blk_ring *ring)
{
    for (unsigned i = 0; i < ring->nr_pages; i++)
        hv_grant_unmap(d, &ring->pages[i]);
    ring->nr_pages = 0;
}

/* A ring that was in use goes on where its last answer is. */
static int take_indexes(struct hv_blk_ring *ring)
{
    uint32_t answered = __atomic_load_n(&header(ring)->rsp_prod, __ATOMIC_RELAXED);

    if (__atomic_load_n(&header(ring)->req_prod, __ATOMIC_ACQUIRE) - answered > ring->nr_entries)
        return -EPROTO;
    ring->req_cons = ring->rsp_prod = answered;
    return 0;
}

int hv_blk_ring_init(struct hv_domain *d, struct hv_blk_ring *ring, const uint32_t *refs, unsigned nr_pages)
{
    int error = 0;

    memset(ring, 0, sizeof(*ring));
    if (nr_pages == 0 || nr_pages > HV_BLK_RING_PAGES_MAX)
        return -EINVAL;
    while (!error && ring->nr_pages < nr_pages) {
        error = hv_grant_map(d, refs[ring->nr_pages], true, &ring->pages[ring->nr_pages]);
        if (!error)
            ring->nr_pages++;
    }
    if (!error) {
        ring->nr_entries = entries_in(nr_pages);
        error = take_indexes(ring);
    }
    if (error)
        hv_blk_ring_fini(d, ring);
    return error;
}

/* Copies the first @bytes of an entry, which may lie in two pages. */
static void copy_entry(const struct hv_blk_ring *ring, uint32_t index, void *buffer, size_t bytes, bool out)
{
    size_t at = HEADER_BYTES + (index & (ring->nr_entries - 1)) * ENTRY_BYTES;

    while (bytes) {
        uint8_t *place = ring->pages[at / HV_PAGE_SIZE].page + at % HV_PAGE_SIZE;
        size_t room = HV_PAGE_SIZE - at % HV_PAGE_SIZE, n = bytes < room ? bytes : room;

        if (out)
            memcpy(place, buffer, n);
        else
            memcpy(buffer, place, n);
        buffer = (uint8_t *)buffer + n;
        at += n;
        bytes -= n;
    }
}

int hv_blk_ring_take(struct hv_blk_ring *ring, struct blkif_request *request)
{
    uint32_t made = __atomic_load_n(&header(ring)->req_prod, __ATOMIC_ACQUIRE) - ring->req_cons;

    if (made > ring->nr_entries)
        return -EPROTO;
    /* Entries hold requests or answers: what is not answered bounds what can be asked. */
    if (!made || ring->req_cons - ring->rsp_prod >= ring->nr_entries)
        return 0;
    copy_entry(ring, ring->req_cons++, request, sizeof(*request), false);
    return 1;
}

bool hv_blk_ring_ask(struct hv_blk_ring *ring)
{
    __atomic_store_n(&header(ring)->req_event, ring->req_cons + 1, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* event before the look at what was made */
    return __atomic_load_n(&header(ring)->req_prod, __ATOMIC_ACQUIRE) != ring->req_cons;
}

bool hv_blk_ring_answer(struct hv_blk_ring *ring, const struct blkif_response *response)
{
    uint32_t old = ring->rsp_prod;
    struct blkif_response copy = *response;

    copy_entry(ring, ring->rsp_prod++, &copy, sizeof(copy), true);
    __atomic_store_n(&header(ring)->rsp_prod, ring->rsp_prod, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the answer before the look at who wants to know */
    return ring->rsp_prod - __atomic_load_n(&header(ring)->rsp_event, __ATOMIC_RELAXED) < ring->rsp_prod - old;
}
