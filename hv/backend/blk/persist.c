/* Persistent grants. */
#include "config.h"

#include "hv/backend/blk/persist.h"

#include <stdlib.h>

#define SLOTS (HV_BLK_PERSIST_MAX * 2) /* half empty, so that looking ends soon */

static struct hv_grant_map *find(struct hv_blk_persist *p, uint32_t ref)
{
    uint32_t i = ref * 0x9e3779b1u % SLOTS;

    while (p->slots[i].page && p->slots[i].grant.ref != ref)
        i = (i + 1) % SLOTS;
    return &p->slots[i];
}

bool hv_blk_persist_map(struct hv_domain *d, struct hv_blk_persist *p, uint32_t ref, bool write,
                        struct hv_grant_map *out)
{
    struct hv_grant_map *slot;

    if (!p->slots)
        p->slots = calloc(SLOTS, sizeof(*p->slots));
    if (!p->slots)
        return false;
    slot = find(p, ref);
    if (!slot->page) {
        /* For writing, if that may be: the next request with it may be a read. */
        if (p->used >= HV_BLK_PERSIST_MAX ||
            (hv_grant_map_locked(d, ref, true, slot) && hv_grant_map_locked(d, ref, false, slot)))
            return false;
        p->used++;
    }
    *out = *slot;
    return slot->grant.write || !write;
}

void hv_blk_persist_fini(struct hv_domain *d, struct hv_blk_persist *p)
{
    for (unsigned i = 0; p->slots && i < SLOTS; i++)
        hv_grant_unmap(d, &p->slots[i]);
    free(p->slots);
    *p = (struct hv_blk_persist){0};
}
