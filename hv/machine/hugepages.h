/* Guest memory on huge pages of the host's pool. Private to machine/memory.c; under the same rules. */
#pragma once

#include "hv/machine/memory.h"

#define HV_HUGE_SHIFT 21
#define HV_HUGE_PAGES (1ull << (HV_HUGE_SHIFT - HV_PAGE_SHIFT)) /* in one of them */

/* From now on what becomes RAM does so on huge pages where it can. 0 or -ENOMEM. */
int hv_hugepages_enable(struct hv_memory *mem) HV_MUST_CHECK;
void hv_hugepages_fini(struct hv_memory *mem);
/* Whether a page is in a huge one: its part of the map cannot be changed by itself. */
bool hv_hugepages_has(const struct hv_memory *mem, hv_gfn gfn);
/* Maps huge pages at those places of the range that are all holes, save the first, where guests have pages of the
 * hypervisor. The host keeps them for the domain. -ENOMEM: its pool is short of them; nothing is mapped then. */
int hv_hugepages_map(struct hv_memory *mem, hv_gfn gfn, uint64_t count) HV_MUST_CHECK;
/* Pages of the range have become holes: gives huge pages back that have nothing else, and clears the rest of what is in
 * one. True: the page at @gfn is taken care of, and *@done pages from it. */
bool hv_hugepages_release(struct hv_memory *mem, hv_gfn gfn, uint64_t count, uint64_t *done);
/* How many pages from @gfn, at most @count, are all in huge pages, or all not. */
uint64_t hv_hugepages_run(const struct hv_memory *mem, hv_gfn gfn, uint64_t count);
