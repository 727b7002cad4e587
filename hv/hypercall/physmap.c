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
#include "hv/machine/dirty.h"
#include "hv/stream/codec.h"

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

/* ------------------------------------------------------------------ streams */

#define EXTRA_MAX 4096u
#define RUNS_MAX  (1u << 22) /* a balloon may leave RAM in small pieces */

struct map_state {
    uint64_t max_pages, extra_pages, max_gfn;
    uint32_t nr_e820;
    struct hv_bios_e820 e820[HV_MEMORY_MAP_MAX];
};

static const struct hv_field map_fields[] = {
    HV_FIELD(1, struct map_state, max_pages), HV_FIELD_MAX(2, struct map_state, extra_pages, EXTRA_MAX),
    HV_FIELD(3, struct map_state, max_gfn),   HV_FIELD_MAX(4, struct map_state, nr_e820, HV_MEMORY_MAP_MAX),
    HV_FIELD(5, struct map_state, e820),
};

/* The next run of RAM from *@gfn on, which becomes its start; its length, 0 when there is none. The way to the last pages below
 * 4 GiB is long, and is gone while the guest stands still: as fast as the C library can. */
static uint64_t next_run(const struct hv_memory *mem, uint64_t *gfn, uint64_t end)
{
    const uint8_t *types = mem->types, *start = *gfn < end ? memchr(types + *gfn, HV_PAGE_RAM, end - *gfn) : NULL;
    uint64_t at;

    *gfn = start ? (uint64_t)(start - types) : end;
    for (at = *gfn; at < end && hv_memory_type(mem, hv_gfn_of(at)) == HV_PAGE_RAM; at++)
        ;
    return at - *gfn;
}

uint64_t hv_physmap_next_run(const struct hv_domain *d, uint64_t *gfn)
{
    uint64_t end = d->physmap->max_gfn + 1;

    return next_run(&d->mem, gfn, end < d->mem.nr_gfns ? end : d->mem.nr_gfns);
}

void hv_physmap_encode(struct hv_domain *d, struct hv_encoder *e)
{
    struct hv_physmap *p = d->physmap;
    struct map_state state = {d->mem.max_pages, d->mem.extra_pages, p->max_gfn, (uint32_t)p->nr_e820, {{0}}};
    uint64_t gfn = 0, count;

    memcpy(state.e820, p->e820, p->nr_e820 * sizeof(p->e820[0]));
    hv_encode_fields(e, map_fields, HV_ARRAY_LEN(map_fields), &state);
    for (; (count = hv_physmap_next_run(d, &gfn)); gfn += count) {
        hv_encode_u64(e, gfn);
        hv_encode_u64(e, count);
    }
}

uint64_t hv_physmap_encode_ram(struct hv_domain *d, uint64_t *gfn, uint64_t max_runs, struct hv_encoder *e)
{
    uint64_t count, runs = 0;

    hv_encode_u64(e, d->mem.extra_pages);
    for (; runs < max_runs && (count = hv_physmap_next_run(d, gfn)); *gfn += count, runs++) {
        hv_encode_u64(e, *gfn);
        hv_encode_u64(e, count);
    }
    return runs;
}

/* The builder gave it these on top of the toolstack's limit. */
static void allow_extra(struct hv_domain *d, uint64_t extra)
{
    d->mem.max_pages += extra - d->mem.extra_pages;
    d->mem.extra_pages = extra;
}

static int cannot_make(const struct hv_domain *d, struct hv_decoder *dec, int error, uint64_t limit)
{
    if (error == -ENOMEM && d->mem.ram_pages < limit)
        return hv_decode_fail(dec, "the guest has more memory than it may have here, which is %llu KiB",
                              (unsigned long long)limit * (HV_PAGE_SIZE / 1024));
    return hv_decode_fail(dec, "the guest's memory cannot be made: %s", strerror(-error));
}

/* Who looks at the holes between runs first makes the host map their types, 3 ms of page faults: not when the guest stands
 * still. */
static void look_at_all(const struct hv_domain *d)
{
    uint64_t gfn = 0, count;

    while ((count = next_run(&d->mem, &gfn, d->mem.top_gfn)))
        gfn += count;
}

int hv_physmap_decode_ram(struct hv_domain *d, struct hv_decoder *dec)
{
    uint64_t extra, gfn = 0, count = 0, at = 0;
    int error = hv_decode_u64(dec, &extra);

    if (!error && extra > EXTRA_MAX)
        return hv_decode_fail(dec, "%llu pages are too many for rings and tables", (unsigned long long)extra);
    pthread_mutex_lock(&d->lock);
    if (!error)
        allow_extra(d, extra);
    while (!error && dec->left) {
        error = hv_decode_u64(dec, &gfn);
        if (!error)
            error = hv_decode_u64(dec, &count);
        if (!error && (gfn < at || count > d->mem.max_pages || gfn >= d->mem.nr_gfns))
            error = -ENOMEM;
        if (!error)
            error = hv_memory_populate(&d->mem, hv_gfn_of(gfn), count);
        if (error)
            error = cannot_make(d, dec, error, d->mem.max_pages);
        at = gfn + count;
    }
    if (!error)
        look_at_all(d);
    pthread_mutex_unlock(&d->lock);
    return error;
}

/* Everything from *@at up to @gfn goes. Code of it may be ready already. */
static int release_up_to(struct hv_domain *d, uint64_t *at, uint64_t gfn)
{
    uint64_t count;

    for (; (count = next_run(&d->mem, at, gfn)); *at += count) {
        if (hv_memory_release(&d->mem, hv_gfn_of(*at), count))
            return -EINVAL;
        for (unsigned i = 0; i < d->nr_vcpus; i++)
            atomic_fetch_or(&d->vcpus[i]->attention, HV_ATTN_FLUSH); /* it does not run yet */
    }
    return 0;
}

static int decode_runs(struct hv_domain *d, struct hv_decoder *dec, uint64_t limit)
{
    uint64_t at = 0, gfn, count;
    int error = 0;

    for (uint32_t runs = 0; !error && dec->left; runs++) {
        if (hv_decode_u64(dec, &gfn) || hv_decode_u64(dec, &count))
            return -EBADMSG;
        if (runs >= RUNS_MAX || gfn < at || !count || gfn > d->physmap->max_gfn || count > d->physmap->max_gfn + 1 - gfn)
            return hv_decode_fail(dec, "a run of %llu pages at page 0x%llx makes no sense", (unsigned long long)count,
                                  (unsigned long long)gfn);
        error = release_up_to(d, &at, gfn);
        if (!error)
            error = hv_memory_populate(&d->mem, hv_gfn_of(gfn), count);
        at = gfn + count;
    }
    if (!error)
        error = release_up_to(d, &at, d->mem.top_gfn);
    return error ? cannot_make(d, dec, error, limit) : 0;
}

static int decode_map(struct hv_domain *d, struct hv_decoder *dec)
{
    struct hv_physmap *p = d->physmap;
    uint64_t limit;
    struct map_state state;
    int error = hv_decode_fields(dec, map_fields, HV_ARRAY_LEN(map_fields), &state);

    if (error)
        return error;
    allow_extra(d, state.extra_pages);
    limit = d->mem.max_pages;
    if (state.max_pages > limit || state.max_gfn >= d->mem.nr_gfns)
        return hv_decode_fail(dec, "the guest may have %llu pages up to 0x%llx, and here not more than %llu",
                              (unsigned long long)state.max_pages, (unsigned long long)state.max_gfn,
                              (unsigned long long)limit);
    p->max_gfn = state.max_gfn;
    p->nr_e820 = state.nr_e820;
    memcpy(p->e820, state.e820, sizeof(p->e820));
    error = decode_runs(d, dec, limit);
    d->mem.max_pages = state.max_pages;
    return error;
}

int hv_physmap_decode(struct hv_domain *d, struct hv_decoder *dec)
{
    int error;

    pthread_mutex_lock(&d->lock);
    error = decode_map(d, dec);
    pthread_mutex_unlock(&d->lock);
    return error;
}

void hv_shared_info_encode(struct hv_domain *d, struct hv_encoder *e)
{
    hv_encode_u64(e, d->physmap->shared_info.v);
    hv_encode(e, d->shared_info, HV_PAGE_SIZE);
}

int hv_shared_info_decode(struct hv_domain *d, struct hv_decoder *dec)
{
    uint64_t gfn;
    int error = hv_decode_u64(dec, &gfn);

    if (!error)
        error = hv_decode(dec, d->shared_info, HV_PAGE_SIZE);
    if (error || gfn == NOWHERE)
        return error;
    if (hv_physmap_add(d, XENMAPSPACE_shared_info, 0, hv_gfn_of(gfn)))
        error = hv_decode_fail(dec, "it cannot be at page 0x%llx", (unsigned long long)gfn);
    return error;
}

void hv_physmap_mark_own(struct hv_domain *d)
{
    const unsigned rings[] = {HVM_PARAM_CONSOLE_PFN, HVM_PARAM_STORE_PFN};

    for (size_t i = 0; i < HV_ARRAY_LEN(rings); i++)
        hv_memory_mark_dirty(&d->mem, hv_gfn_of(hv_param_get(d, rings[i])));
    hv_vcpu_xen_mark_own(d);
    hv_evtchn_mark_own(d);
    hv_gnttab_mark_used(d);
}
