/* Inside the grant table: its frames and entries (grant.c), the hypercalls (grant-op.c, grant-copy.c). */
#pragma once

#include "hv/hypercall/grant.h"

#define HV_GRANT_FRAMES_MAX 512u /* what createdomain may ask for */

#define HV_V1_PER_FRAME     (HV_PAGE_SIZE / sizeof(struct grant_entry_v1))
#define HV_V2_PER_FRAME     (HV_PAGE_SIZE / sizeof(union grant_entry_v2))
#define HV_STATUS_PER_FRAME (HV_PAGE_SIZE / sizeof(grant_status_t))
#define HV_STATUS_FRAMES_MAX (HV_GRANT_FRAMES_MAX * HV_V2_PER_FRAME / HV_STATUS_PER_FRAME)

/* A page of the table: shared with the guest where it maps it. */
struct hv_grant_frame {
    void *page;     /* lasting host address */
    uint64_t index; /* for hv_memory_map_shared */
    hv_gfn gfn;     /* where the guest has it now, ~0 for nowhere; domain->lock */
};

#define HV_GRANT_REFS_MAX (HV_GRANT_FRAMES_MAX * HV_V1_PER_FRAME) /* version 2 has fewer in as many frames */

/* How often an entry is in use: its marks go with the last use. */
struct hv_grant_uses {
    uint32_t all, writing;
};

/* Entries are guest-writable memory: read once, then used. */
struct hv_gnttab {
    pthread_mutex_t lock; /* after domain->lock */
    unsigned version;     /* 1 or 2 */
    uint32_t nr_frames, max_frames;
    uint32_t nr_status;      /* status frames in use; version 2 only */
    uint32_t status_made;    /* status frames that exist: pages are kept for the next switch to version 2 */
    uint32_t active;         /* grants in use by backends and copies */
    struct hv_grant_uses *uses; /* by reference */
    uint32_t *pins;             /* by gfn: grants in use that name it; lazily backed */
    uint64_t nr_pins;
    struct hv_grant_frame frame[HV_GRANT_FRAMES_MAX];
    struct hv_grant_frame status[HV_STATUS_FRAMES_MAX];
};

/* Has at least @frames frames, and the status frames that go with them. domain->lock and lock held. */
int hv_gnttab_grow_locked(struct hv_domain *d, uint32_t frames) HV_MUST_CHECK;
/* GNTTABOP_set_version: 0 or negative XEN_E*. domain->lock and lock held. */
int hv_gnttab_set_version_locked(struct hv_domain *d, unsigned version) HV_MUST_CHECK;
/* Exchanges two entries that nobody uses. GNTST_*. Lock held. */
int hv_gnttab_swap_locked(struct hv_gnttab *g, uint32_t a, uint32_t b) HV_MUST_CHECK;

/* One GNTTABOP_copy within the domain: GNTST_*. */
int hv_gnttab_copy(struct hv_domain *d, const struct gnttab_copy *op) HV_MUST_CHECK;
/* The page that a grant names. Lock held. */
void hv_gnttab_describe_locked(const struct hv_gnttab *g, uint32_t ref, struct hv_grant *out);
/* How many entries there are. Lock held. */
uint32_t hv_gnttab_entries_locked(const struct hv_gnttab *g);
/* Nobody uses any of them: takes off all marks. Lock held. */
void hv_gnttab_unmark_all_locked(struct hv_gnttab *g);
