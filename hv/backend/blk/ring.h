/* The shared ring of a block queue: 1 to 16 granted pages. Private to the block backend.
 *
 * The pages are the guest's and lie apart in our address space, so an entry may cross from one to the next: entries are
 * copied, in and out. Source: xen/io/ring.h, xen/io/blkif.h (the layout of 64-bit x86).
 */
#pragma once

#include "hv/hypercall/grant-map.h"
#include "hv/xen-abi.h"

#define HV_BLK_RING_PAGES_MAX 16u

struct hv_blk_ring {
    struct hv_grant_map pages[HV_BLK_RING_PAGES_MAX];
    unsigned nr_pages;
    uint32_t nr_entries;
    uint32_t req_cons, rsp_prod; /* ours; the guest's copies of them are never read again */
};

/* Maps the pages granted as @refs. 0 or negative errno, with nothing mapped: -EPROTO when the indexes in the ring make no
 * sense. */
int hv_blk_ring_init(struct hv_domain *d, struct hv_blk_ring *ring, const uint32_t *refs, unsigned nr_pages)
    HV_MUST_CHECK;
void hv_blk_ring_fini(struct hv_domain *d, struct hv_blk_ring *ring);

/* Copies the next request. 1, 0 when there is none, -EPROTO when the guest claims to have made more than fit. */
int hv_blk_ring_take(struct hv_blk_ring *ring, struct blkif_request *request) HV_MUST_CHECK;
/* Asks the guest to notify for the next request. True: there is one already. */
bool hv_blk_ring_ask(struct hv_blk_ring *ring);
/* Puts an answer to a request that was taken. True: the guest wants to be notified. */
bool hv_blk_ring_answer(struct hv_blk_ring *ring, const struct blkif_response *response);
