/* The NUMA nodes that a guest sees: how its vCPUs and memory are divided among them, and how far they are apart.
 * What the host does with the memory is no part of it.
 */
#pragma once

#include "hv/domain.h"

#define HV_VNUMA_NODES_MAX 64u
#define HV_VNUMA_RANGES_MAX (HV_VNUMA_NODES_MAX + 1) /* one node may have memory on both sides of the hole */

/* ACPI 6.4, 5.2.17: what is nearer than 10 means nothing, and 10 is a node's distance from itself. */
#define HV_VNUMA_LOCAL     10u
#define HV_VNUMA_FAR_MAX   255u

struct hv_vnuma_range {
    uint64_t start, end; /* gpa; pages, in ascending order, none twice */
    uint32_t node;
};

struct hv_vnuma {
    unsigned nr_nodes, nr_ranges, nr_vcpus;
    uint8_t vcpu_node[HV_MAX_VCPUS];
    uint8_t distance[HV_VNUMA_NODES_MAX][HV_VNUMA_NODES_MAX];
    struct hv_vnuma_range range[HV_VNUMA_RANGES_MAX];
};

/* Makes a copy of @vnuma what the guest of @d sees. -EINVAL, and nothing done, when a number in it is not of a node that
 * there is, a distance or range makes no sense, or its vCPUs are not those of @d; -ENOMEM. Before a vCPU runs. */
int hv_vnuma_set(struct hv_domain *d, const struct hv_vnuma *vnuma) HV_MUST_CHECK;

/* hv_domain_free calls it. */
void hv_vnuma_fini(struct hv_domain *d);
