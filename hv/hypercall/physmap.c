/* Changes of the guest's physical memory map: pages of the hypervisor come and go, RAM is given and taken.
 *
 * Pages that the hypervisor itself uses through the guest's address (rings, vcpu_info, event words) are
 * pinned: they stay RAM until their user lets go. Source: xen/memory.h.
 */
#include "config.h"

#include "hv/hypercall/physmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/control/server.h"
#include "hv/hypercall/evtchn.h"
#include "hv/hypercall/grant.h"
#include "hv/hypercall/params.h"
#include "hv/hypercall/vcpu-xen.h"
#include "hv/loop.h"

#define NOWHERE (~0ull)
#define TELL_NS 500000000ull /* a balloon moves in many small steps */

struct hv_physmap {
    hv_gfn shared_info; /* where it is mapped, or NOWHERE; domain->lock */
    uint64_t max_gfn;   /* the highest that ever was RAM; domain->lock */
    struct hv_loop_source *change; /* timer: time to tell how much memory there is */
    bool change_due;               /* domain->lock: it is set */
    uint64_t told_pages;           /* domain->lock: last told */
    size_t nr_e820;     /* domain->lock */
    struct hv_bios_e820 e820[HV_MEMORY_MAP_MAX];
};

uint64_t hv_physmap_given_pages(const struct hv_domain *d)
{
    uint64_t extra = d->mem.extra_pages < d->mem.ram_pages ? d->mem.extra_pages : d->mem.ram_pages;

    return d->mem.ram_pages - extra + (d->physmap->shared_info.v != NOWHERE);
}

static void tell_change(void *opaque)
{
    struct hv_domain *d = opaque;
    uint64_t pages;
    bool changed;

    pthread_mutex_lock(&d->lock);
    pages = hv_physmap_given_pages(d);
    changed = pages != d->physmap->told_pages;
    d->physmap->told_pages = pages;
    d->physmap->change_due = false;
    pthread_mutex_unlock(&d->lock);
    if (changed)
        hv_control_notify(d, HV_EVENT_MEMORY, pages);
}

void hv_physmap_note_change(struct hv_domain *d)
{
    pthread_mutex_lock(&d->lock);
    if (!d->physmap->change_due) {
        d->physmap->change_due = true;
        hv_loop_arm(d->physmap->change, hv_loop_now() + TELL_NS);
    }
    pthread_mutex_unlock(&d->lock);
}

int hv_physmap_init(struct hv_domain *d)
{
    d->physmap = calloc(1, sizeof(*d->physmap));
    if (!d->physmap)
        return -ENOMEM;
    d->physmap->shared_info = hv_gfn_of(NOWHERE);
    d->physmap->change = hv_loop_add_timer(d->loop, tell_change, d);
    if (!d->physmap->change) {
        free(d->physmap);
        d->physmap = NULL;
        return -ENOMEM;
    }
    return 0;
}

void hv_physmap_fini(struct hv_domain *d)
{
    hv_loop_remove(d->physmap->change);
    free(d->physmap);
    d->physmap = NULL;
}

int hv_physmap_set_e820(struct hv_domain *d, const struct hv_bios_e820 *entries, size_t count)
{
    if (count > HV_MEMORY_MAP_MAX)
        return -EINVAL;
    pthread_mutex_lock(&d->lock);
    memcpy(d->physmap->e820, entries, count * sizeof(*entries));
    d->physmap->nr_e820 = count;
    pthread_mutex_unlock(&d->lock);
    return 0;
}

size_t hv_physmap_get_e820(struct hv_domain *d, struct hv_bios_e820 *entries, size_t room)
{
    size_t count;

    pthread_mutex_lock(&d->lock);
    count = d->physmap->nr_e820 < room ? d->physmap->nr_e820 : room;
    memcpy(entries, d->physmap->e820, count * sizeof(*entries));
    pthread_mutex_unlock(&d->lock);
    return count;
}

static bool is_ring(struct hv_domain *d, hv_gfn gfn)
{
    return (d->console && gfn.v == hv_param_get(d, HVM_PARAM_CONSOLE_PFN)) ||
           (d->store && gfn.v == hv_param_get(d, HVM_PARAM_STORE_PFN));
}

bool hv_physmap_pinned(struct hv_domain *d, hv_gfn gfn)
{
    return is_ring(d, gfn) || hv_vcpu_xen_uses_gfn(d, gfn) || hv_evtchn_uses_gfn(d, gfn) ||
           hv_gnttab_uses_gfn(d, gfn);
}

static bool any_pinned(struct hv_domain *d, hv_gfn gfn, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (hv_physmap_pinned(d, hv_gfn_of(gfn.v + i)))
            return true;
    return false;
}

long hv_physmap_populate(struct hv_domain *d, hv_gfn gfn, uint64_t count)
{
    int error;

    pthread_mutex_lock(&d->lock);
    error = hv_memory_populate(&d->mem, gfn, count);
    if (!error && gfn.v + count - 1 > d->physmap->max_gfn)
        d->physmap->max_gfn = gfn.v + count - 1;
    pthread_mutex_unlock(&d->lock);
    return error;
}

long hv_physmap_release(struct hv_domain *d, hv_gfn gfn, uint64_t count)
{
    int error = -XEN_EBUSY;

    pthread_mutex_lock(&d->lock);
    if (!any_pinned(d, gfn, count))
        error = hv_memory_release(&d->mem, gfn, count);
    pthread_mutex_unlock(&d->lock);
    return error;
}

uint64_t hv_physmap_max_gfn(struct hv_domain *d)
{
    uint64_t max;

    pthread_mutex_lock(&d->lock);
    max = d->physmap->max_gfn;
    pthread_mutex_unlock(&d->lock);
    return max;
}

/* A page of the hypervisor that is taken from @gfn is nowhere from then on. */
static void forget_shared(struct hv_domain *d, hv_gfn gfn)
{
    if (d->physmap->shared_info.v == gfn.v)
        d->physmap->shared_info.v = NOWHERE;
    hv_gnttab_frame_unmapped(d, gfn);
}

static bool is_shared(struct hv_domain *d, hv_gfn gfn)
{
    enum hv_page_type type = hv_memory_type(&d->mem, gfn);

    return type == HV_PAGE_SHARED || type == HV_PAGE_SHARED_RO;
}

/* Where a page of the hypervisor is known to be, so that it can be noted anew when it moves. */
struct place {
    bool grant, status;
    uint32_t frame;
    uint64_t index;
    bool writable;
};

static int find_source(struct hv_domain *d, unsigned space, uint64_t idx, struct place *out)
{
    *out = (struct place){.writable = true};
    switch (space) {
    case XENMAPSPACE_shared_info:
        out->index = d->shared_info_index;
        return idx == 0 ? 0 : -XEN_EINVAL;
    case XENMAPSPACE_grant_table:
        if (idx > UINT32_MAX)
            return -XEN_EINVAL;
        out->grant = true;
        out->status = idx & XENMAPIDX_grant_table_status;
        out->frame = (uint32_t)idx & ~XENMAPIDX_grant_table_status;
        out->writable = true;
        return hv_gnttab_frame(d, out->frame, out->status, &out->index);
    case XENMAPSPACE_gmfn_foreign:
        return -XEN_EPERM;
    default: /* pages have no machine address here that could be given another gfn */
        return -XEN_EOPNOTSUPP;
    }
}

static hv_gfn note_place(struct hv_domain *d, const struct place *place, hv_gfn gfn)
{
    hv_gfn old = d->physmap->shared_info;

    if (place->grant)
        hv_gnttab_frame_mapped(d, place->frame, place->status, gfn, &old);
    else
        d->physmap->shared_info = gfn;
    return old;
}

static long map_locked(struct hv_domain *d, unsigned space, uint64_t idx, hv_gfn gfn)
{
    struct place place;
    hv_gfn old;
    int error = find_source(d, space, idx, &place);

    if (error)
        return error;
    if (gfn.v >> (HV_GPA_BITS - HV_PAGE_SHIFT))
        return -XEN_EINVAL;
    if (hv_physmap_pinned(d, gfn))
        return -XEN_EBUSY;
    error = hv_memory_map_shared(&d->mem, gfn, place.index, place.writable);
    if (error)
        return error;
    forget_shared(d, gfn); /* what was mapped there before */
    old = note_place(d, &place, gfn);
    /* A page appears in one place only, as in Xen. */
    if (old.v != NOWHERE && old.v != gfn.v && hv_memory_unmap_shared(&d->mem, old))
        return -XEN_EINVAL;
    return 0;
}

long hv_physmap_add(struct hv_domain *d, unsigned space, uint64_t idx, hv_gfn gfn)
{
    long error;

    pthread_mutex_lock(&d->lock);
    error = map_locked(d, space, idx, gfn);
    pthread_mutex_unlock(&d->lock);
    return error;
}

long hv_physmap_remove(struct hv_domain *d, hv_gfn gfn)
{
    long error;

    pthread_mutex_lock(&d->lock);
    if (hv_memory_type(&d->mem, gfn) == HV_PAGE_HOLE) {
        error = -XEN_ENOENT;
    } else if (hv_physmap_pinned(d, gfn)) {
        error = -XEN_EBUSY;
    } else if (is_shared(d, gfn)) {
        error = hv_memory_unmap_shared(&d->mem, gfn);
        forget_shared(d, gfn);
    } else {
        error = hv_memory_release(&d->mem, gfn, 1);
    }
    pthread_mutex_unlock(&d->lock);
    return error;
}
