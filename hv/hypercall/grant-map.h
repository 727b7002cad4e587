/* Pages that the guest grants to domain 0, mapped for a backend.
 *
 * While a grant is mapped the guest sees it in use (GTF_reading, GTF_writing) and cannot give the page away: the host
 * pointer stays good until hv_grant_unmap, whatever the guest does to the entry. The contents may change at any
 * moment: copy, check the copy, use the copy.
 */
#pragma once

#include "hv/hypercall/grant.h"

struct hv_grant_map {
    struct hv_grant grant;
    uint8_t *page; /* NULL: nothing is mapped */
};

/* Maps grant @ref of a whole page for reading, or for writing too. 0, or with nothing mapped: -EINVAL (no such grant, of
 * a part of a page, or for somebody else), -EACCES (read-only), -EFAULT (its page is not memory). Any thread, with
 * neither domain->lock nor the grant table's held. */
int hv_grant_map(struct hv_domain *d, uint32_t ref, bool write, struct hv_grant_map *out) HV_MUST_CHECK;
/* Does nothing when nothing is mapped. */
void hv_grant_unmap(struct hv_domain *d, struct hv_grant_map *map);

/* The same for many at once, between these two, which hold both locks. */
void hv_grant_lock(struct hv_domain *d);
void hv_grant_unlock(struct hv_domain *d);
int hv_grant_map_locked(struct hv_domain *d, uint32_t ref, bool write, struct hv_grant_map *out) HV_MUST_CHECK;
void hv_grant_unmap_locked(struct hv_domain *d, struct hv_grant_map *map);

/* Says that [@offset, @offset + @bytes) of a page mapped for writing has been written to: to be called after the
 * store, each time. */
void hv_grant_written(struct hv_domain *d, const struct hv_grant_map *map, unsigned offset, unsigned bytes);
