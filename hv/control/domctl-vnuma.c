/* libdomctl: the NUMA nodes that a guest sees. */
#include "config.h"

#include "hv/hv.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "hv/control/domctl-private.h"
#include "hv/xen-abi.h"

#define KIB         1024u
#define HOLE_START  (UINT64_C(3) << 30) /* as domctl_max_mem lays memory out */
#define HOLE_END    (UINT64_C(4) << 30)
#define NODES_MAX   DOMCTL_VNUMA_NODES_MAX
#define VCPUS_MAX   64u

struct call_data {
    struct xen_domctl u;
    unsigned distance[NODES_MAX * NODES_MAX];
    unsigned vcpu_node[VCPUS_MAX];
    unsigned host_node[NODES_MAX];
    struct xen_vmemrange range[NODES_MAX + 1];
};
_Static_assert(sizeof(struct call_data) <= HV_CONTROL_DATA_MAX, "it fits a call");

static void *address_of(size_t offset)
{
    return (void *)(uintptr_t)(HV_CONTROL_DATA_ADDRESS + offset);
}

static void add_range(struct call_data *data, uint64_t start, uint64_t end, unsigned node)
{
    if (end > start)
        data->range[data->u.u.vnuma.nr_vmemranges++] = (struct xen_vmemrange){.start = start, .end = end, .nid = node};
}

/* The nodes' memory one after the other, with the hole left out. -EINVAL: more than there are addresses for. */
static int lay_out(struct call_data *data, const struct domctl_vnuma *vnuma)
{
    uint64_t at = 0;

    for (unsigned i = 0; i < vnuma->nodes; i++) {
        uint64_t end;

        if (vnuma->memory_kib[i] > (UINT64_MAX >> 2) / KIB || at > UINT64_MAX >> 2)
            return -EINVAL;
        end = at + vnuma->memory_kib[i] * KIB;
        if (at < HOLE_START && end > HOLE_START) {
            add_range(data, at, HOLE_START, i);
            end += HOLE_END - HOLE_START;
            at = HOLE_END;
        } else if (at == HOLE_START) {
            end += HOLE_END - HOLE_START;
            at = HOLE_END;
        }
        add_range(data, at, end, i);
        at = end;
    }
    return 0;
}

static void fill(struct call_data *data, const struct domctl_vnuma *vnuma)
{
    struct xen_domctl_vnuma *op = &data->u.u.vnuma;

    op->nr_vnodes = vnuma->nodes;
    op->nr_vcpus = vnuma->vcpus;
    op->vdistance.p = address_of(offsetof(struct call_data, distance));
    op->vcpu_to_vnode.p = address_of(offsetof(struct call_data, vcpu_node));
    op->vnode_to_pnode.p = address_of(offsetof(struct call_data, host_node));
    op->vmemrange.p = address_of(offsetof(struct call_data, range));
    memcpy(data->distance, vnuma->distances, vnuma->nodes * vnuma->nodes * sizeof(data->distance[0]));
    memcpy(data->vcpu_node, vnuma->vcpu_node, vnuma->vcpus * sizeof(data->vcpu_node[0]));
    for (unsigned i = 0; i < vnuma->nodes; i++)
        data->host_node[i] = XEN_INVALID_NODE_ID;
}

int domctl_set_vnuma(struct domctl *ctl, const struct domctl_vnuma *vnuma)
{
    struct call_data *data;
    int error;

    if (!vnuma->nodes || vnuma->nodes > NODES_MAX || !vnuma->vcpus || vnuma->vcpus > VCPUS_MAX)
        return -EINVAL;
    data = calloc(1, sizeof(*data));
    if (!data)
        return -ENOMEM;
    fill(data, vnuma);
    error = lay_out(data, vnuma);
    if (!error)
        error = domctl_domctl(ctl, XEN_DOMCTL_setvnumainfo, &data->u, sizeof(*data));
    free(data);
    return error;
}
