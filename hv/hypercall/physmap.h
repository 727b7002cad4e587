/* What memory_op keeps of a domain: where shared_info is mapped, the memory map that the builder announced,
 * the pages that must not be taken away.
 */
#pragma once

#include "hv/domain.h"
#include "hv/xen-abi.h"

#define HV_E820_MAX 128

struct e820entry;

/* hv_domain_new and hv_domain_free call these. */
int hv_physmap_init(struct hv_domain *d) HV_MUST_CHECK;
void hv_physmap_fini(struct hv_domain *d);

/* What XENMEM_memory_map tells the guest. -EINVAL for more than HV_E820_MAX entries. */
int hv_physmap_set_e820(struct hv_domain *d, const struct e820entry *entries, size_t count) HV_MUST_CHECK;

/* True when @gfn must stay what it is: a ring page, or memory that the guest registered with us. Caller
 * holds domain->lock. */
bool hv_physmap_pinned(struct hv_domain *d, hv_gfn gfn);
