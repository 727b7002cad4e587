/* The guest's physical memory map as hypercalls change it: where shared_info and grant frames appear, which
 * RAM is there, which pages must stay, and the map that the builder announced.
 */
#pragma once

#include "hv/domain.h"
#include "hv/xen-abi.h"

#define HV_MEMORY_MAP_MAX 128

/* An entry as INT 0x15, EAX 0xe820 gives it, which is the format of XENMEM_memory_map. */
struct hv_bios_e820 {
    uint64_t start, bytes;
    uint32_t type;
} __attribute__((packed));

/* hv_domain_new and hv_domain_free call these. */
int hv_physmap_init(struct hv_domain *d) HV_MUST_CHECK;
void hv_physmap_fini(struct hv_domain *d);

/* What XENMEM_memory_map tells the guest. -EINVAL for more than HV_MEMORY_MAP_MAX entries. */
int hv_physmap_set_e820(struct hv_domain *d, const struct hv_bios_e820 *entries, size_t count) HV_MUST_CHECK;
/* Copies at most @room entries; how many it copied. */
size_t hv_physmap_get_e820(struct hv_domain *d, struct hv_bios_e820 *entries, size_t room);

/* True when @gfn must stay what it is: a ring page, or memory that the guest registered with us. Caller
 * holds domain->lock. */
bool hv_physmap_pinned(struct hv_domain *d, hv_gfn gfn);

/* Each of these changes the map whole or not at all: 0 or negative XEN_E*. The caller calls hv_domain_flush
 * after the last change that takes something away. */
long hv_physmap_populate(struct hv_domain *d, hv_gfn gfn, uint64_t count) HV_MUST_CHECK;
long hv_physmap_release(struct hv_domain *d, hv_gfn gfn, uint64_t count) HV_MUST_CHECK;
/* Makes element @idx of XENMAPSPACE_* @space appear at @gfn, and nowhere else. */
long hv_physmap_add(struct hv_domain *d, unsigned space, uint64_t idx, hv_gfn gfn) HV_MUST_CHECK;
long hv_physmap_remove(struct hv_domain *d, hv_gfn gfn) HV_MUST_CHECK;

/* The guest gave or took memory by itself: the control channel is told how much it has, soon and not for each page.
 * Any thread, no lock held. */
void hv_physmap_note_change(struct hv_domain *d);

/* What a toolstack calls the domain's memory: its RAM but for what it has beside, and the shared_info page, which
 * Linux puts in the place of a page of RAM. Caller holds domain->lock. */
uint64_t hv_physmap_given_pages(const struct hv_domain *d);

/* The highest gfn that was RAM. */
uint64_t hv_physmap_max_gfn(struct hv_domain *d);

struct hv_decoder;
struct hv_encoder;
/* State for a stream: which pages are RAM, and the map that the guest was told. Decoding changes which pages are RAM,
 * keeping the contents of those that stay. */
void hv_physmap_encode(struct hv_domain *d, struct hv_encoder *e);
int hv_physmap_decode(struct hv_domain *d, struct hv_decoder *dec) HV_MUST_CHECK;
/* The shared_info page: contents and place. */
void hv_shared_info_encode(struct hv_domain *d, struct hv_encoder *e);
int hv_shared_info_decode(struct hv_domain *d, struct hv_decoder *dec) HV_MUST_CHECK;
/* The same for a first look, at a domain that may run: which pages are RAM from *@gfn on, at most @max_runs of them, each the
 * first page and how many. *@gfn becomes where it ended; how many runs, 0 when there are none left. */
uint64_t hv_physmap_encode_ram(struct hv_domain *d, uint64_t *gfn, uint64_t max_runs, struct hv_encoder *e);
/* Makes them, in a new domain. */
int hv_physmap_decode_ram(struct hv_domain *d, struct hv_decoder *dec) HV_MUST_CHECK;
/* The next run of RAM from *@gfn on, which becomes its start; its length, 0 when there is none. Paused, or for a look that
 * may be out of date at once. */
uint64_t hv_physmap_next_run(const struct hv_domain *d, uint64_t *gfn);
/* Notes in the log of writes all pages that the hypervisor writes to by itself: rings, vcpu_info, event words. Paused. */
void hv_physmap_mark_own(struct hv_domain *d);
