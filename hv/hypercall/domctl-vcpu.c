/* domctl: a vCPU's state, and the host CPUs it may run on. Source: xen/domctl.h. */
#include "config.h"

#include "hv/hypercall/domctl-vcpu.h"

#include <string.h>

#include "hv/machine/vcpu.h"

long hv_domctl_get_vcpu_info(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct xen_domctl_getvcpuinfo *op = &((struct xen_domctl *)arg)->u.getvcpuinfo;
    struct hv_vcpu *v;

    (void)args;
    if (op->vcpu >= c->domain->nr_vcpus)
        return -XEN_ESRCH;
    v = c->domain->vcpus[op->vcpu];
    op->online = hv_vcpu_is_online(v);
    op->blocked = hv_vcpu_is_blocked(v);
    op->running = hv_vcpu_is_running(v);
    op->cpu_time = hv_vcpu_cpu_time_ns(v);
    op->cpu = hv_vcpu_last_cpu(v);
    return 0;
}

/* ------------------------------------------------------------------ affinity */

#define MAP_BYTES (HV_HOST_CPUS / 8)

static uint64_t bitmap_at(const struct xenctl_bitmap *map)
{
    return (uint64_t)(uintptr_t)map->bitmap.p;
}

/* CPUs beyond what can be told are none that this host has. */
static long read_map(struct hv_caller *c, const struct xenctl_bitmap *map, cpu_set_t *cpus)
{
    uint8_t bytes[MAP_BYTES] = {0};
    uint32_t bits = map->nr_bits < HV_HOST_CPUS ? map->nr_bits : HV_HOST_CPUS;

    if (hv_caller_read(c, bitmap_at(map), bytes, (bits + 7) / 8))
        return -XEN_EFAULT;
    CPU_ZERO(cpus);
    for (unsigned i = 0; i < bits; i++)
        if (bytes[i / 8] >> i % 8 & 1)
            CPU_SET(i, cpus);
    return 0;
}

static long write_map(struct hv_caller *c, const struct xenctl_bitmap *map, const cpu_set_t *cpus)
{
    uint8_t bytes[MAP_BYTES] = {0};
    uint32_t bits = map->nr_bits < HV_HOST_CPUS ? map->nr_bits : HV_HOST_CPUS;

    for (unsigned i = 0; i < bits; i++)
        if (CPU_ISSET(i, cpus))
            bytes[i / 8] |= (uint8_t)(1u << i % 8);
    return hv_caller_write(c, bitmap_at(map), bytes, (bits + 7) / 8);
}

/* Hard affinity only: the host's scheduler knows no other. */
static long find_vcpu(struct hv_caller *c, const struct xen_domctl_vcpuaffinity *op, struct hv_vcpu **out)
{
    if (op->vcpu >= c->domain->nr_vcpus)
        return -XEN_ESRCH;
    if (op->flags != XEN_VCPUAFFINITY_HARD)
        return op->flags & XEN_VCPUAFFINITY_HARD ? -XEN_EOPNOTSUPP : -XEN_EINVAL;
    *out = c->domain->vcpus[op->vcpu];
    return 0;
}

long hv_domctl_set_vcpu_affinity(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_domctl_vcpuaffinity *op = &((struct xen_domctl *)arg)->u.vcpuaffinity;
    struct hv_vcpu *v;
    cpu_set_t cpus;
    long error = find_vcpu(c, op, &v);

    (void)args;
    if (!error)
        error = read_map(c, &op->cpumap_hard, &cpus);
    if (!error)
        error = hv_vcpu_set_affinity(v, &cpus);
    return error;
}

long hv_domctl_get_vcpu_affinity(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_domctl_vcpuaffinity *op = &((struct xen_domctl *)arg)->u.vcpuaffinity;
    struct hv_vcpu *v;
    cpu_set_t cpus;
    long error = find_vcpu(c, op, &v);

    (void)args;
    if (!error)
        error = hv_vcpu_get_affinity(v, &cpus);
    return error ? error : write_map(c, &op->cpumap_hard, &cpus);
}
