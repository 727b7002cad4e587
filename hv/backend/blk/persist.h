/* Persistent grants: pages that stay mapped between requests, because the frontend promised to use the same ones again.
 * Private to the block backend. */
#pragma once

#include "hv/hypercall/grant-map.h"

/* As many as a full ring of direct requests uses and more; a frontend with more pages has the rest mapped each time. */
#define HV_BLK_PERSIST_MAX 1024u

struct hv_blk_persist {
    struct hv_grant_map *slots; /* open addressing by reference; NULL until the first */
    unsigned used;
};

/* Finds or makes the lasting mapping of @ref. False: there is none for that use; map it for the request alone.
 * Within hv_grant_lock. */
bool hv_blk_persist_map(struct hv_domain *d, struct hv_blk_persist *p, uint32_t ref, bool write,
                        struct hv_grant_map *out) HV_MUST_CHECK;
void hv_blk_persist_fini(struct hv_domain *d, struct hv_blk_persist *p);
