/* memory_op: giving and taking memory, and asking about it. Source: xen/memory.h. */
#include "config.h"

#include "hv/hypercall/families.h"

#include <unistd.h>

#include "hv/hypercall/physmap.h"
#include "hv/hypercall/subop.h"
#include "hv/hypercall/vnuma.h"

/* Extents of one call; a caller that asked for more finds how many were done in the result, as after any
 * shortage. */
#define EXTENTS_MAX   65536u
#define EXTENTS_BATCH 512u /* read at once: what Linux's balloon driver gives in one call */

/* 2 MiB is what Xen lets a guest have in one piece; the toolstack builds with pieces of 1 GiB. */
#define GUEST_ORDER_MAX   9u
#define CONTROL_ORDER_MAX 18u

typedef long extent_fn(struct hv_domain *d, hv_gfn gfn, uint64_t count);

static long check_reservation(const struct hv_caller *c, const struct xen_memory_reservation *r)
{
    if (!hv_caller_owns(c, r->domid))
        return hv_caller_is_guest(c) ? -XEN_EPERM : -XEN_ESRCH;
    if (r->extent_order > (hv_caller_is_guest(c) ? GUEST_ORDER_MAX : CONTROL_ORDER_MAX))
        return -XEN_EPERM;
    if (r->mem_flags & XENMEMF_populate_on_demand)
        return -XEN_EOPNOTSUPP; /* all memory is: pages exist when they are first touched */
    return 0;
}

static bool in_address_space(xen_pfn_t gfn)
{
    return gfn >> (HV_GPA_BITS - HV_PAGE_SHIFT) == 0;
}

/* How many of @gfns, at least one, are neighbours of each other in ascending or, with *@down, descending order. */
static unsigned run_of(const xen_pfn_t *gfns, unsigned count, unsigned order, bool *down)
{
    uint64_t pages = 1ull << order;
    unsigned n = 1;

    *down = count > 1 && gfns[1] == gfns[0] - pages;
    while (n < count && in_address_space(gfns[n]) && gfns[n] == gfns[n - 1] + (*down ? -pages : pages))
        n++;
    return n;
}

/* How many of these extents @fn was done for. Neighbours go together, for which the host is asked once; where that
 * fails, one by one, as the caller wants to know how far it came. */
static unsigned batch_of_extents(struct hv_domain *d, const xen_pfn_t *gfns, unsigned count, unsigned order,
                                 extent_fn *fn)
{
    unsigned done = 0;

    while (done < count && in_address_space(gfns[done])) {
        bool down;
        unsigned run = run_of(gfns + done, count - done, order, &down);
        xen_pfn_t first = gfns[down ? done + run - 1 : done];

        if (run > 1 && fn(d, hv_gfn_of(first), (uint64_t)run << order) == 0) {
            done += run;
            continue;
        }
        if (fn(d, hv_gfn_of(gfns[done]), 1ull << order))
            break;
        done++;
    }
    return done;
}

/* How many extents @fn was done for. */
static uint64_t each_extent(struct hv_caller *c, const struct xen_memory_reservation *r, extent_fn *fn)
{
    uint64_t wanted = r->nr_extents < EXTENTS_MAX ? r->nr_extents : EXTENTS_MAX, done = 0;
    uint64_t address = (uint64_t)(uintptr_t)r->extent_start.p;
    xen_pfn_t gfns[EXTENTS_BATCH];

    while (done < wanted) {
        unsigned count = wanted - done < EXTENTS_BATCH ? (unsigned)(wanted - done) : EXTENTS_BATCH, batch;

        if (hv_caller_read(c, address + done * sizeof(gfns[0]), gfns, count * sizeof(gfns[0]))) {
            count = 1; /* the list may end before it says it does */
            if (hv_caller_read(c, address + done * sizeof(gfns[0]), gfns, sizeof(gfns[0])))
                break;
        }
        batch = batch_of_extents(c->domain, gfns, count, r->extent_order, fn);
        done += batch;
        if (batch < count)
            break;
    }
    return done;
}

/* A guest that gives or takes memory by itself: the toolstack is told. */
static void tell_change(struct hv_caller *c, long extents)
{
    if (hv_caller_is_guest(c) && extents > 0)
        hv_physmap_note_change(c->domain);
}

static long populate_physmap(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_memory_reservation *r = arg;
    long result = check_reservation(c, r);

    (void)args;
    if (result)
        return result;
    result = (long)each_extent(c, r, hv_physmap_populate);
    tell_change(c, result);
    return result;
}

static long decrease_reservation(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_memory_reservation *r = arg;
    long result = check_reservation(c, r);

    (void)args;
    if (result)
        return result;
    result = (long)each_extent(c, r, hv_physmap_release);
    if (result)
        hv_domain_flush(c->domain);
    tell_change(c, result);
    return result;
}

static long reservation(struct hv_caller *c, const struct xen_memory_domain *op, const uint64_t *pages)
{
    uint64_t now;

    if (!hv_caller_owns(c, op->domid))
        return -XEN_ESRCH;
    pthread_mutex_lock(&c->domain->lock);
    now = *pages;
    pthread_mutex_unlock(&c->domain->lock);
    return (long)now;
}

static long current_reservation(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args;
    return reservation(c, arg, &c->domain->mem.ram_pages);
}

static long maximum_reservation(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args;
    return reservation(c, arg, &c->domain->mem.max_pages);
}

static long maximum_gpfn(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_memory_domain *op = arg;

    (void)args;
    return hv_caller_owns(c, op->domid) ? (long)hv_physmap_max_gfn(c->domain) : -XEN_ESRCH;
}

static long maximum_ram_page(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)c, (void)args, (void)arg;
    return sysconf(_SC_PHYS_PAGES);
}

static long add_to_physmap(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_add_to_physmap *op = arg;
    long error;

    (void)args;
    if (!hv_caller_owns(c, op->domid))
        return -XEN_ESRCH;
    error = hv_physmap_add(c->domain, op->space, op->idx, hv_gfn_of(op->gpfn));
    if (!error)
        hv_domain_flush(c->domain);
    return error;
}

/* One element of a batch; its own error goes to errs. */
static long batch_element(struct hv_caller *c, const struct xen_add_to_physmap_batch *op, unsigned i)
{
    uint64_t idx_at = (uint64_t)(uintptr_t)op->idxs.p + i * sizeof(xen_ulong_t);
    uint64_t gpfn_at = (uint64_t)(uintptr_t)op->gpfns.p + i * sizeof(xen_pfn_t);
    uint64_t error_at = (uint64_t)(uintptr_t)op->errs.p + i * sizeof(int);
    xen_ulong_t idx;
    xen_pfn_t gpfn;
    int error;

    if (hv_caller_read(c, idx_at, &idx, sizeof(idx)) || hv_caller_read(c, gpfn_at, &gpfn, sizeof(gpfn)))
        return -XEN_EFAULT;
    error = (int)hv_physmap_add(c->domain, op->space, idx, hv_gfn_of(gpfn));
    return hv_caller_write(c, error_at, &error, sizeof(error));
}

static long add_to_physmap_batch(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_add_to_physmap_batch *op = arg;
    long result = 0;

    (void)args;
    if (!hv_caller_owns(c, op->domid))
        return -XEN_ESRCH;
    for (unsigned i = 0; i < op->size && !result; i++)
        result = batch_element(c, op, i);
    hv_domain_flush(c->domain);
    return result;
}

static long remove_from_physmap(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_remove_from_physmap *op = arg;
    long error;

    (void)args;
    if (!hv_caller_owns(c, op->domid))
        return -XEN_ESRCH;
    error = hv_physmap_remove(c->domain, hv_gfn_of(op->gpfn));
    if (!error)
        hv_domain_flush(c->domain);
    return error;
}

static long memory_map(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct xen_memory_map *map = arg;
    struct hv_bios_e820 entries[HV_MEMORY_MAP_MAX];
    size_t count = hv_physmap_get_e820(c->domain, entries, HV_MEMORY_MAP_MAX);

    (void)args;
    if (!count)
        return -XEN_ENOSYS; /* so says Xen when the builder announced none */
    if (count > map->nr_entries)
        count = map->nr_entries;
    map->nr_entries = (unsigned)count;
    return hv_caller_write(c, (uint64_t)(uintptr_t)map->buffer.p, entries, count * sizeof(entries[0]));
}

static long set_memory_map(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_foreign_memory_map *op = arg;
    struct hv_bios_e820 entries[HV_MEMORY_MAP_MAX];

    (void)args;
    if (!hv_caller_owns(c, op->domid))
        return -XEN_ESRCH;
    if (op->map.nr_entries > HV_MEMORY_MAP_MAX)
        return -XEN_EINVAL;
    if (hv_caller_read(c, (uint64_t)(uintptr_t)op->map.buffer.p, entries,
                       op->map.nr_entries * sizeof(entries[0])))
        return -XEN_EFAULT;
    return hv_physmap_set_e820(c->domain, entries, op->map.nr_entries);
}

#define IN      HV_ARG_IN
#define INOUT   (HV_ARG_IN | HV_ARG_OUT)
#define GUEST   HV_CALLER_GUEST
#define CONTROL HV_CALLER_CONTROL
#define BOTH    (GUEST | CONTROL)

static const struct hv_subop ops[] = {
    [XENMEM_increase_reservation] = {"increase_reservation", NULL, 0, 0, 0}, /* pages without a gfn */
    [XENMEM_decrease_reservation] = {"decrease_reservation", decrease_reservation,
                                     sizeof(struct xen_memory_reservation), IN, BOTH},
    [XENMEM_maximum_ram_page] = {"maximum_ram_page", maximum_ram_page, 0, HV_ARG_NONE, BOTH},
    [XENMEM_current_reservation] = {"current_reservation", current_reservation,
                                    sizeof(struct xen_memory_domain), IN, BOTH},
    [XENMEM_maximum_reservation] = {"maximum_reservation", maximum_reservation,
                                    sizeof(struct xen_memory_domain), IN, BOTH},
    [XENMEM_populate_physmap] = {"populate_physmap", populate_physmap,
                                 sizeof(struct xen_memory_reservation), IN, BOTH},
    [XENMEM_add_to_physmap] = {"add_to_physmap", add_to_physmap, sizeof(struct xen_add_to_physmap), IN,
                               GUEST},
    [XENMEM_memory_map] = {"memory_map", memory_map, sizeof(struct xen_memory_map), INOUT, GUEST},
    [XENMEM_machine_memory_map] = {"machine_memory_map", NULL, 0, 0, 0},
    [XENMEM_exchange] = {"exchange", NULL, 0, 0, 0}, /* PV guests only */
    [XENMEM_set_memory_map] = {"set_memory_map", set_memory_map, sizeof(struct xen_foreign_memory_map), IN,
                               CONTROL},
    [XENMEM_maximum_gpfn] = {"maximum_gpfn", maximum_gpfn, sizeof(struct xen_memory_domain), IN, BOTH},
    [XENMEM_remove_from_physmap] = {"remove_from_physmap", remove_from_physmap,
                                    sizeof(struct xen_remove_from_physmap), IN, GUEST},
    [XENMEM_add_to_physmap_batch] = {"add_to_physmap_batch", add_to_physmap_batch,
                                     sizeof(struct xen_add_to_physmap_batch), IN, GUEST},
    [XENMEM_claim_pages] = {"claim_pages", NULL, 0, 0, 0},
    [XENMEM_get_vnumainfo] = {"get_vnumainfo", hv_memory_get_vnuma_info, sizeof(struct xen_vnuma_topology_info),
                                INOUT | HV_ARG_ALWAYS, BOTH},
    [XENMEM_acquire_resource] = {"acquire_resource", NULL, 0, 0, 0},
};
static const struct hv_subop_family family = HV_SUBOP_FAMILY("memory_op", ops);

/* args: operation, address of its structure. */
long hv_memory_op(struct hv_caller *c, const uint64_t args[5])
{
    return hv_subop_run(&family, c, (uint32_t)args[0], args, args[1]);
}
