/* The grant table: frames, entries of both versions, and taking a grant into use.
 *
 * Pages of the table are the hypervisor's own and are mapped where the guest asks. Whoever uses a grant marks
 * it (GTF_reading, GTF_writing) with the atomic protocol of xen/grant_table.h, so that the guest can tell.
 */
#include "config.h"

#include "hv/hypercall/grant-table.h"
#include "hv/machine/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define DEFAULT_MAX_FRAMES 64u
#define NOWHERE            (~0ull)

/* How often an entry is looked at again that the guest changes at that moment. */
#define PIN_TRIES 4

/* Both arrays are large and hardly touched: memory comes with use. */
static int make_uses(struct hv_domain *d, struct hv_gnttab *g)
{
    void *pins;

    g->uses = calloc(HV_GRANT_REFS_MAX, sizeof(*g->uses));
    if (!g->uses)
        return -ENOMEM;
    g->nr_pins = d->mem.nr_gfns;
    pins = mmap(NULL, g->nr_pins * sizeof(*g->pins), PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pins == MAP_FAILED)
        return -ENOMEM;
    g->pins = pins;
    return 0;
}

int hv_gnttab_init(struct hv_domain *d)
{
    struct hv_gnttab *g = calloc(1, sizeof(*g));
    int error;

    if (!g)
        return -ENOMEM;
    pthread_mutex_init(&g->lock, NULL);
    g->version = 1;
    g->max_frames = DEFAULT_MAX_FRAMES;
    d->gnttab = g;
    error = make_uses(d, g);
    if (error)
        hv_gnttab_fini(d);
    return error;
}

void hv_gnttab_fini(struct hv_domain *d)
{
    struct hv_gnttab *g = d->gnttab;

    if (!g)
        return;
    if (g->pins)
        munmap(g->pins, g->nr_pins * sizeof(*g->pins));
    free(g->uses);
    pthread_mutex_destroy(&g->lock);
    free(g);
    d->gnttab = NULL;
}

int hv_gnttab_set_max_frames(struct hv_domain *d, uint32_t frames)
{
    if (frames == 0 || frames > HV_GRANT_FRAMES_MAX)
        return -EINVAL;
    d->gnttab->max_frames = frames;
    return 0;
}

static int make_frame(struct hv_domain *d, struct hv_grant_frame *frame)
{
    frame->gfn = hv_gfn_of(NOWHERE);
    return hv_memory_alloc_shared(&d->mem, &frame->index, &frame->page) ? -XEN_ENOMEM : 0;
}

static uint32_t status_frames_for(uint32_t frames)
{
    return (uint32_t)((frames * HV_V2_PER_FRAME + HV_STATUS_PER_FRAME - 1) / HV_STATUS_PER_FRAME);
}

static int grow_status(struct hv_domain *d)
{
    struct hv_gnttab *g = d->gnttab;
    uint32_t wanted = status_frames_for(g->nr_frames);

    for (; g->status_made < wanted; g->status_made++)
        if (make_frame(d, &g->status[g->status_made]))
            return -XEN_ENOMEM;
    g->nr_status = wanted;
    return 0;
}

int hv_gnttab_grow_locked(struct hv_domain *d, uint32_t frames)
{
    struct hv_gnttab *g = d->gnttab;

    if (frames > g->max_frames)
        return -XEN_EINVAL;
    for (; g->nr_frames < frames; g->nr_frames++)
        if (make_frame(d, &g->frame[g->nr_frames]))
            return -XEN_ENOMEM;
    return g->version == 2 ? grow_status(d) : 0;
}

/* Grows to have frame @frame, if that may be. */
static int find_frame_locked(struct hv_domain *d, uint32_t frame, bool status, uint64_t *index)
{
    struct hv_gnttab *g = d->gnttab;
    uint32_t wanted = frame;
    int error;

    if (status && g->version != 2)
        return -XEN_EINVAL;
    if (frame >= HV_GRANT_FRAMES_MAX)
        return -XEN_EINVAL;
    if (status) /* the first table frame whose entries have their status there */
        wanted = (uint32_t)(frame * HV_STATUS_PER_FRAME / HV_V2_PER_FRAME);
    if (wanted >= g->nr_frames || (status && frame >= g->nr_status)) {
        error = hv_gnttab_grow_locked(d, wanted + 1);
        if (error)
            return error;
    }
    *index = status ? g->status[frame].index : g->frame[frame].index;
    return 0;
}

int hv_gnttab_frame(struct hv_domain *d, uint32_t frame, bool status, uint64_t *index)
{
    int error;

    pthread_mutex_lock(&d->gnttab->lock);
    error = find_frame_locked(d, frame, status, index);
    pthread_mutex_unlock(&d->gnttab->lock);
    return error;
}

void hv_gnttab_frame_mapped(struct hv_domain *d, uint32_t frame, bool status, hv_gfn gfn, hv_gfn *old)
{
    struct hv_grant_frame *f = status ? &d->gnttab->status[frame] : &d->gnttab->frame[frame];

    *old = f->gfn;
    f->gfn = gfn;
}

void hv_gnttab_frame_unmapped(struct hv_domain *d, hv_gfn gfn)
{
    struct hv_gnttab *g = d->gnttab;

    for (uint32_t i = 0; i < g->nr_frames; i++)
        if (g->frame[i].gfn.v == gfn.v)
            g->frame[i].gfn.v = NOWHERE;
    for (uint32_t i = 0; i < g->status_made; i++)
        if (g->status[i].gfn.v == gfn.v)
            g->status[i].gfn.v = NOWHERE;
}

/* ------------------------------------------------------------------ entries */

static uint32_t nr_entries(const struct hv_gnttab *g)
{
    return g->nr_frames * (uint32_t)(g->version == 1 ? HV_V1_PER_FRAME : HV_V2_PER_FRAME);
}

static struct grant_entry_v1 *entry_v1(const struct hv_gnttab *g, uint32_t ref)
{
    return (struct grant_entry_v1 *)g->frame[ref / HV_V1_PER_FRAME].page + ref % HV_V1_PER_FRAME;
}

static union grant_entry_v2 *entry_v2(const struct hv_gnttab *g, uint32_t ref)
{
    return (union grant_entry_v2 *)g->frame[ref / HV_V2_PER_FRAME].page + ref % HV_V2_PER_FRAME;
}

static grant_status_t *status_of(const struct hv_gnttab *g, uint32_t ref)
{
    return (grant_status_t *)g->status[ref / HV_STATUS_PER_FRAME].page + ref % HV_STATUS_PER_FRAME;
}

/* Flags in the low half, domain in the high half: both versions start with these, and they are looked at and
 * changed together. */
static uint32_t *header_of(const struct hv_gnttab *g, uint32_t ref)
{
    return g->version == 1 ? (uint32_t *)entry_v1(g, ref) : (uint32_t *)entry_v2(g, ref);
}

static int check_header(uint32_t header, uint16_t domid, bool write)
{
    uint16_t flags = (uint16_t)header;

    if ((flags & GTF_type_mask) != GTF_permit_access)
        return GNTST_bad_gntref; /* transitive grants name third domains, of which there are none here */
    if (header >> 16 != domid)
        return GNTST_bad_gntref;
    if (write && (flags & GTF_readonly))
        return GNTST_general_error;
    return GNTST_okay;
}

static uint16_t use_flags(bool write)
{
    return write ? GTF_reading | GTF_writing : GTF_reading;
}

/* Version 1: the mark is in the header itself. */
static int pin_v1(const struct hv_gnttab *g, uint16_t domid, uint32_t ref, bool write, uint32_t *header)
{
    uint32_t *word = header_of(g, ref);

    *header = __atomic_load_n(word, __ATOMIC_SEQ_CST);
    for (int i = 0; i < PIN_TRIES; i++) {
        int error = check_header(*header, domid, write);

        if (error)
            return error;
        if (__atomic_compare_exchange_n(word, header, *header | use_flags(write), false, __ATOMIC_SEQ_CST,
                                        __ATOMIC_SEQ_CST))
            return GNTST_okay;
    }
    return GNTST_general_error;
}

/* Version 2: mark in the status word first, then see that the header still says the same. */
static int pin_v2(const struct hv_gnttab *g, uint16_t domid, uint32_t ref, bool write, uint32_t *header)
{
    uint32_t *word = header_of(g, ref);
    int error;

    *header = __atomic_load_n(word, __ATOMIC_SEQ_CST);
    error = check_header(*header, domid, write);
    if (error)
        return error;
    __atomic_fetch_or(status_of(g, ref), use_flags(write), __ATOMIC_SEQ_CST);
    *header = __atomic_load_n(word, __ATOMIC_SEQ_CST);
    error = check_header(*header, domid, write);
    if (error)
        __atomic_fetch_and(status_of(g, ref), (grant_status_t)~use_flags(write), __ATOMIC_SEQ_CST);
    return error;
}

static void describe(const struct hv_gnttab *g, uint32_t ref, uint32_t header, struct hv_grant *out)
{
    out->offset = 0;
    out->length = HV_PAGE_SIZE;
    if (g->version == 1) {
        out->gfn = hv_gfn_of(__atomic_load_n(&entry_v1(g, ref)->frame, __ATOMIC_RELAXED));
        return;
    }
    if (!(header & GTF_sub_page)) {
        out->gfn = hv_gfn_of(__atomic_load_n(&entry_v2(g, ref)->full_page.frame, __ATOMIC_RELAXED));
        return;
    }
    out->gfn = hv_gfn_of(__atomic_load_n(&entry_v2(g, ref)->sub_page.frame, __ATOMIC_RELAXED));
    out->offset = __atomic_load_n(&entry_v2(g, ref)->sub_page.page_off, __ATOMIC_RELAXED);
    out->length = __atomic_load_n(&entry_v2(g, ref)->sub_page.length, __ATOMIC_RELAXED);
}

void hv_gnttab_describe_locked(const struct hv_gnttab *g, uint32_t ref, struct hv_grant *out)
{
    describe(g, ref, __atomic_load_n(header_of(g, ref), __ATOMIC_SEQ_CST), out);
}

uint32_t hv_gnttab_entries_locked(const struct hv_gnttab *g)
{
    return nr_entries(g);
}

static void count_use(struct hv_gnttab *g, const struct hv_grant *grant, int32_t by)
{
    g->active += (uint32_t)by;
    g->uses[grant->ref].all += (uint32_t)by;
    if (grant->write)
        g->uses[grant->ref].writing += (uint32_t)by;
    g->pins[grant->gfn.v] += (uint32_t)by; /* it is RAM */
}

/* Takes the marks off an entry that nobody uses any more so. */
static void unmark(const struct hv_gnttab *g, uint32_t ref)
{
    const struct hv_grant_uses *uses = &g->uses[ref];
    uint16_t flags = 0;

    if (!uses->writing)
        flags |= GTF_writing;
    if (!uses->all)
        flags |= GTF_reading;
    if (g->version == 1)
        __atomic_fetch_and(&entry_v1(g, ref)->flags, (uint16_t)~flags, __ATOMIC_SEQ_CST);
    else
        __atomic_fetch_and(status_of(g, ref), (grant_status_t)~flags, __ATOMIC_SEQ_CST);
}

void hv_gnttab_unmark_all_locked(struct hv_gnttab *g)
{
    for (uint32_t ref = 0; ref < nr_entries(g); ref++)
        if ((*header_of(g, ref) & GTF_type_mask) == GTF_permit_access)
            unmark(g, ref);
}

static bool names_memory(struct hv_domain *d, const struct hv_grant *grant)
{
    return grant->offset <= HV_PAGE_SIZE && grant->length <= HV_PAGE_SIZE - grant->offset &&
           hv_memory_type(&d->mem, grant->gfn) == HV_PAGE_RAM;
}

int hv_gnttab_get_locked(struct hv_domain *d, uint16_t domid, uint32_t ref, bool write, struct hv_grant *out)
{
    struct hv_gnttab *g = d->gnttab;
    uint32_t header;
    int status;

    if (ref >= nr_entries(g))
        return GNTST_bad_gntref;
    status = g->version == 1 ? pin_v1(g, domid, ref, write, &header) : pin_v2(g, domid, ref, write, &header);
    if (status)
        return status;
    out->ref = ref;
    out->write = write;
    describe(g, ref, header, out);
    /* Before it is counted: by naming any frame there could be a guest would make all of pins resident. */
    if (!names_memory(d, out)) {
        unmark(g, ref);
        return GNTST_bad_page;
    }
    count_use(g, out, 1);
    return GNTST_okay;
}

/* Whatever was written through it has been by now. */
void hv_gnttab_put_locked(struct hv_domain *d, const struct hv_grant *grant)
{
    struct hv_gnttab *g = d->gnttab;

    if (grant->write)
        hv_memory_mark_dirty(&d->mem, grant->gfn);
    count_use(g, grant, -1);
    unmark(g, grant->ref);
}

bool hv_gnttab_uses_gfn(struct hv_domain *d, hv_gfn gfn)
{
    struct hv_gnttab *g = d->gnttab;
    bool uses;

    pthread_mutex_lock(&g->lock);
    uses = gfn.v < g->nr_pins && g->pins[gfn.v];
    pthread_mutex_unlock(&g->lock);
    return uses;
}

void hv_gnttab_lock(struct hv_domain *d)
{
    pthread_mutex_lock(&d->gnttab->lock);
}

void hv_gnttab_unlock(struct hv_domain *d)
{
    pthread_mutex_unlock(&d->gnttab->lock);
}

int hv_gnttab_get(struct hv_domain *d, uint16_t domid, uint32_t ref, bool write, struct hv_grant *out)
{
    int status;

    hv_gnttab_lock(d);
    status = hv_gnttab_get_locked(d, domid, ref, write, out);
    hv_gnttab_unlock(d);
    return status;
}

void hv_gnttab_put(struct hv_domain *d, const struct hv_grant *grant)
{
    hv_gnttab_lock(d);
    hv_gnttab_put_locked(d, grant);
    hv_gnttab_unlock(d);
}

/* ------------------------------------------------------------------ changing the whole table */

static int unmap_status(struct hv_domain *d)
{
    struct hv_gnttab *g = d->gnttab;

    for (uint32_t i = 0; i < g->nr_status; i++) {
        if (g->status[i].gfn.v == NOWHERE)
            continue;
        if (hv_memory_unmap_shared(&d->mem, g->status[i].gfn))
            return -XEN_EBUSY;
        g->status[i].gfn.v = NOWHERE;
    }
    g->nr_status = 0;
    return 0;
}

/* The reserved entries (console, store) live on in the other form; all others start anew. */
static void convert(struct hv_gnttab *g, unsigned version)
{
    union {
        struct grant_entry_v1 v1[GNTTAB_NR_RESERVED_ENTRIES];
        union grant_entry_v2 v2[GNTTAB_NR_RESERVED_ENTRIES];
    } kept;

    memset(&kept, 0, sizeof(kept));
    for (uint32_t i = 0; i < GNTTAB_NR_RESERVED_ENTRIES && g->nr_frames; i++) {
        if (version == 2) {
            kept.v2[i].hdr.flags = entry_v1(g, i)->flags;
            kept.v2[i].hdr.domid = entry_v1(g, i)->domid;
            kept.v2[i].full_page.frame = entry_v1(g, i)->frame;
        } else {
            kept.v1[i].flags = entry_v2(g, i)->hdr.flags;
            kept.v1[i].domid = entry_v2(g, i)->hdr.domid;
            kept.v1[i].frame = (uint32_t)entry_v2(g, i)->full_page.frame;
        }
    }
    for (uint32_t i = 0; i < g->nr_frames; i++)
        memset(g->frame[i].page, 0, HV_PAGE_SIZE);
    for (uint32_t i = 0; i < g->status_made; i++)
        memset(g->status[i].page, 0, HV_PAGE_SIZE);
    g->version = version;
    if (g->nr_frames)
        memcpy(g->frame[0].page, &kept, version == 1 ? sizeof(kept.v1) : sizeof(kept.v2));
}

int hv_gnttab_set_version_locked(struct hv_domain *d, unsigned version)
{
    struct hv_gnttab *g = d->gnttab;
    int error;

    if (version != 1 && version != 2)
        return -XEN_EINVAL;
    if (version == g->version)
        return 0;
    if (g->active)
        return -XEN_EBUSY;
    error = version == 2 ? grow_status(d) : unmap_status(d);
    if (!error)
        convert(g, version);
    return error;
}

int hv_gnttab_swap_locked(struct hv_gnttab *g, uint32_t a, uint32_t b)
{
    size_t bytes = g->version == 1 ? sizeof(struct grant_entry_v1) : sizeof(union grant_entry_v2);
    uint8_t kept[sizeof(union grant_entry_v2)];

    if (a >= nr_entries(g) || b >= nr_entries(g))
        return GNTST_bad_gntref;
    if (g->active) /* which entries those are is not kept; a guest that asks has just stopped its drivers */
        return GNTST_eagain;
    memcpy(kept, header_of(g, a), bytes);
    memcpy(header_of(g, a), header_of(g, b), bytes);
    memcpy(header_of(g, b), kept, bytes);
    return GNTST_okay;
}
