/* Virtual NUMA: the toolstack says it before the domain is built, the guest asks for it. A PVH guest has it from ACPI
 * tables too, which say the same. Source: xen/domctl.h struct xen_domctl_vnuma, xen/memory.h struct
 * xen_vnuma_topology_info.
 */
#include "config.h"

#include "hv/hypercall/vnuma.h"

#include "hv/control/control.h"
#include "hv/machine/vnuma.h"

/* ------------------------------------------------------------------ set */

#define HANDLE(h) ((uint64_t)(uintptr_t)(h).p)

/* Distances that do not fit a table's byte are none. */
static long read_distances(struct hv_caller *c, uint64_t address, struct hv_vnuma *vnuma)
{
    unsigned row[HV_VNUMA_NODES_MAX];
    size_t bytes = vnuma->nr_nodes * sizeof(row[0]);

    for (unsigned i = 0; i < vnuma->nr_nodes; i++) {
        if (hv_caller_read(c, address + i * bytes, row, bytes))
            return -XEN_EFAULT;
        for (unsigned j = 0; j < vnuma->nr_nodes; j++) {
            if (row[j] > HV_VNUMA_FAR_MAX)
                return -XEN_EINVAL;
            vnuma->distance[i][j] = (uint8_t)row[j];
        }
    }
    return 0;
}

static long read_vcpus(struct hv_caller *c, uint64_t address, struct hv_vnuma *vnuma)
{
    unsigned nodes[HV_MAX_VCPUS];

    if (hv_caller_read(c, address, nodes, vnuma->nr_vcpus * sizeof(nodes[0])))
        return -XEN_EFAULT;
    for (unsigned i = 0; i < vnuma->nr_vcpus; i++) {
        if (nodes[i] >= HV_VNUMA_NODES_MAX)
            return -XEN_EINVAL;
        vnuma->vcpu_node[i] = (uint8_t)nodes[i];
    }
    return 0;
}

/* Where memory is on the host is a matter of the process and its policy, not of single nodes. */
static long check_placement(struct hv_caller *c, uint64_t address, unsigned nr_nodes)
{
    unsigned nodes[HV_VNUMA_NODES_MAX];

    if (hv_caller_read(c, address, nodes, nr_nodes * sizeof(nodes[0])))
        return -XEN_EFAULT;
    for (unsigned i = 0; i < nr_nodes; i++)
        if (nodes[i] != XEN_INVALID_NODE_ID)
            return -XEN_EOPNOTSUPP;
    return 0;
}

static long read_ranges(struct hv_caller *c, uint64_t address, struct hv_vnuma *vnuma)
{
    struct xen_vmemrange ranges[HV_VNUMA_RANGES_MAX];

    if (hv_caller_read(c, address, ranges, vnuma->nr_ranges * sizeof(ranges[0])))
        return -XEN_EFAULT;
    for (unsigned i = 0; i < vnuma->nr_ranges; i++) {
        if (ranges[i].flags)
            return -XEN_EINVAL;
        vnuma->range[i] = (struct hv_vnuma_range){ranges[i].start, ranges[i].end, ranges[i].nid};
    }
    return 0;
}

long hv_domctl_set_vnuma_info(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_domctl_vnuma *op = &((struct xen_domctl *)arg)->u.vnuma;
    struct hv_vnuma vnuma = {.nr_nodes = op->nr_vnodes, .nr_ranges = op->nr_vmemranges, .nr_vcpus = op->nr_vcpus};
    long error;

    (void)args;
    if (c->control->built)
        return -XEN_EBUSY; /* the guest may have been told otherwise */
    if (op->pad || vnuma.nr_nodes > HV_VNUMA_NODES_MAX || vnuma.nr_ranges > HV_VNUMA_RANGES_MAX ||
        vnuma.nr_vcpus > HV_MAX_VCPUS)
        return -XEN_EINVAL;
    error = read_distances(c, HANDLE(op->vdistance), &vnuma);
    if (!error)
        error = read_vcpus(c, HANDLE(op->vcpu_to_vnode), &vnuma);
    if (!error)
        error = check_placement(c, HANDLE(op->vnode_to_pnode), vnuma.nr_nodes);
    if (!error)
        error = read_ranges(c, HANDLE(op->vmemrange), &vnuma);
    return error ? error : hv_vnuma_set(c->domain, &vnuma);
}

/* ------------------------------------------------------------------ get */

static int write_distances(struct hv_caller *c, uint64_t address, const struct hv_vnuma *vnuma)
{
    unsigned row[HV_VNUMA_NODES_MAX];
    size_t bytes = vnuma->nr_nodes * sizeof(row[0]);
    int error = 0;

    for (unsigned i = 0; !error && i < vnuma->nr_nodes; i++) {
        for (unsigned j = 0; j < vnuma->nr_nodes; j++)
            row[j] = vnuma->distance[i][j];
        error = hv_caller_write(c, address + i * bytes, row, bytes);
    }
    return error;
}

static int write_vcpus(struct hv_caller *c, uint64_t address, const struct hv_vnuma *vnuma)
{
    unsigned nodes[HV_MAX_VCPUS];

    for (unsigned i = 0; i < vnuma->nr_vcpus; i++)
        nodes[i] = vnuma->vcpu_node[i];
    return hv_caller_write(c, address, nodes, vnuma->nr_vcpus * sizeof(nodes[0]));
}

static int write_ranges(struct hv_caller *c, uint64_t address, const struct hv_vnuma *vnuma)
{
    struct xen_vmemrange ranges[HV_VNUMA_RANGES_MAX];

    for (unsigned i = 0; i < vnuma->nr_ranges; i++)
        ranges[i] = (struct xen_vmemrange){
            .start = vnuma->range[i].start, .end = vnuma->range[i].end, .nid = vnuma->range[i].node};
    return hv_caller_write(c, address, ranges, vnuma->nr_ranges * sizeof(ranges[0]));
}

long hv_memory_get_vnuma_info(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct xen_vnuma_topology_info *op = arg;
    const struct hv_vnuma *vnuma = c->domain ? c->domain->vnuma : NULL;
    bool room;

    (void)args;
    if (op->pad)
        return -XEN_EINVAL;
    if (!hv_caller_owns(c, op->domid))
        return -XEN_ESRCH;
    if (!vnuma)
        return -XEN_EOPNOTSUPP;
    room = op->nr_vnodes >= vnuma->nr_nodes && op->nr_vcpus >= vnuma->nr_vcpus && op->nr_vmemranges >= vnuma->nr_ranges;
    op->nr_vnodes = vnuma->nr_nodes;
    op->nr_vcpus = vnuma->nr_vcpus;
    op->nr_vmemranges = vnuma->nr_ranges;
    if (!room)
        return -XEN_ENOBUFS;
    if (write_distances(c, HANDLE(op->vdistance.h), vnuma) || write_vcpus(c, HANDLE(op->vcpu_to_vnode.h), vnuma) ||
        write_ranges(c, HANDLE(op->vmemrange.h), vnuma))
        return -XEN_EFAULT;
    return 0;
}
