/* The grant table of the domain, versions 1 and 2.
 * Source: xen/grant_table.h.
 */
#pragma once

#include "hv/domain.h"
#include "hv/xen-abi.h"

/* hv_domain_new and hv_domain_free call these. */
int hv_gnttab_init(struct hv_domain *d) HV_MUST_CHECK;
void hv_gnttab_fini(struct hv_domain *d);

/* Limits the table to @frames frames (max_grant_frames of createdomain). Before the guest runs. */
int hv_gnttab_set_max_frames(struct hv_domain *d, uint32_t frames) HV_MUST_CHECK;

/* Shared page @index of hv_memory_map_shared for frame @frame of the table (@status: of the version 2
 * status array). The table grows to have it. 0 or negative XEN_E*. Caller holds domain->lock. */
int hv_gnttab_frame(struct hv_domain *d, uint32_t frame, bool status, uint64_t *index) HV_MUST_CHECK;

/* Notes where a frame is mapped now; *@old is where it was, ~0 for nowhere. Caller holds domain->lock. */
void hv_gnttab_frame_mapped(struct hv_domain *d, uint32_t frame, bool status, hv_gfn gfn, hv_gfn *old);

/* True when a grant in use names @gfn, so that the page cannot be taken away. Caller holds domain->lock. */
bool hv_gnttab_uses_gfn(struct hv_domain *d, hv_gfn gfn);

/* The frame at @gfn, if any, is mapped nowhere now. Caller holds domain->lock. */
void hv_gnttab_frame_unmapped(struct hv_domain *d, hv_gfn gfn);

/* A grant in use: what a backend or a copy may touch while it holds it. */
struct hv_grant {
    uint32_t ref;
    bool write;
    hv_gfn gfn;
    uint16_t offset, length; /* the part of the page that is granted */
};

/* Takes grant @ref for domain @domid to read, or to write too. GNTST_okay, or a negative GNTST_*. */
int hv_gnttab_get(struct hv_domain *d, uint16_t domid, uint32_t ref, bool write,
                  struct hv_grant *out) HV_MUST_CHECK;
void hv_gnttab_put(struct hv_domain *d, const struct hv_grant *grant);

/* The same for many at once, between these two. Nothing in between may wait for a vCPU. */
void hv_gnttab_lock(struct hv_domain *d);
void hv_gnttab_unlock(struct hv_domain *d);
int hv_gnttab_get_locked(struct hv_domain *d, uint16_t domid, uint32_t ref, bool write,
                         struct hv_grant *out) HV_MUST_CHECK;
void hv_gnttab_put_locked(struct hv_domain *d, const struct hv_grant *grant);

struct hv_decoder;
struct hv_encoder;
/* State for a stream (grant-state.c). No grant is in use after decoding: backends take theirs again. */
void hv_gnttab_encode(struct hv_domain *d, struct hv_encoder *e);
int hv_gnttab_decode(struct hv_domain *d, struct hv_decoder *dec) HV_MUST_CHECK;
/* Notes the pages that are granted for writing and in use in the log of writes. */
void hv_gnttab_mark_used(struct hv_domain *d);
