/* The NUMA nodes that a guest sees: checked once, then only read. */
#include "config.h"

#include "hv/machine/vnuma.h"

#include <errno.h>
#include <stdlib.h>

static bool distances_make_sense(const struct hv_vnuma *vnuma)
{
    for (unsigned i = 0; i < vnuma->nr_nodes; i++) {
        for (unsigned j = 0; j < vnuma->nr_nodes; j++) {
            bool local = vnuma->distance[i][j] == HV_VNUMA_LOCAL;

            if (i == j ? !local : vnuma->distance[i][j] <= HV_VNUMA_LOCAL)
                return false;
        }
    }
    return true;
}

static bool vcpus_have_nodes(const struct hv_vnuma *vnuma)
{
    for (unsigned i = 0; i < vnuma->nr_vcpus; i++)
        if (vnuma->vcpu_node[i] >= vnuma->nr_nodes)
            return false;
    return true;
}

static bool ranges_make_sense(const struct hv_vnuma *vnuma)
{
    const uint64_t most = UINT64_C(1) << HV_GPA_BITS;
    uint64_t free_from = 0;

    for (unsigned i = 0; i < vnuma->nr_ranges; i++) {
        const struct hv_vnuma_range *range = &vnuma->range[i];

        if (range->node >= vnuma->nr_nodes || range->start < free_from || range->end <= range->start || range->end > most ||
            (range->start | range->end) & HV_PAGE_MASK)
            return false;
        free_from = range->end;
    }
    return true;
}

int hv_vnuma_set(struct hv_domain *d, const struct hv_vnuma *vnuma)
{
    struct hv_vnuma *copy;

    if (vnuma->nr_nodes == 0 || vnuma->nr_nodes > HV_VNUMA_NODES_MAX || vnuma->nr_ranges > HV_VNUMA_RANGES_MAX ||
        vnuma->nr_vcpus == 0 || vnuma->nr_vcpus != d->nr_vcpus)
        return -EINVAL;
    if (!distances_make_sense(vnuma) || !vcpus_have_nodes(vnuma) || !ranges_make_sense(vnuma))
        return -EINVAL;
    copy = malloc(sizeof(*copy));
    if (!copy)
        return -ENOMEM;
    *copy = *vnuma;
    hv_vnuma_fini(d);
    d->vnuma = copy;
    return 0;
}

void hv_vnuma_fini(struct hv_domain *d)
{
    free(d->vnuma);
    d->vnuma = NULL;
}
