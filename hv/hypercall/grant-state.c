/* The grant table in a stream. */
#include "config.h"

#include <errno.h>

#include "hv/hypercall/grant-table.h"
#include "hv/machine/dirty.h"
#include "hv/stream/codec.h"

#define NOWHERE (~0ull)

struct table_state {
    uint32_t version, nr_frames, max_frames, nr_status;
};

static const struct hv_field table_fields[] = {
    HV_FIELD_MAX(1, struct table_state, version, 2),
    HV_FIELD_MAX(2, struct table_state, nr_frames, HV_GRANT_FRAMES_MAX),
    HV_FIELD_MAX(3, struct table_state, max_frames, HV_GRANT_FRAMES_MAX),
    HV_FIELD_MAX(4, struct table_state, nr_status, HV_STATUS_FRAMES_MAX),
};

static void encode_frame(struct hv_encoder *e, const struct hv_grant_frame *frame)
{
    hv_encode_u64(e, frame->gfn.v);
    hv_encode(e, frame->page, HV_PAGE_SIZE);
}

void hv_gnttab_encode(struct hv_domain *d, struct hv_encoder *e)
{
    struct hv_gnttab *g = d->gnttab;
    const struct table_state state = {g->version, g->nr_frames, g->max_frames, g->nr_status};

    pthread_mutex_lock(&d->lock);
    hv_encode_fields(e, table_fields, HV_ARRAY_LEN(table_fields), &state);
    for (uint32_t i = 0; i < g->nr_frames; i++)
        encode_frame(e, &g->frame[i]);
    for (uint32_t i = 0; i < g->nr_status; i++)
        encode_frame(e, &g->status[i]);
    pthread_mutex_unlock(&d->lock);
}

static int decode_frame(struct hv_domain *d, struct hv_decoder *dec, struct hv_grant_frame *frame)
{
    uint64_t gfn;

    if (hv_decode_u64(dec, &gfn) || hv_decode(dec, frame->page, HV_PAGE_SIZE))
        return -EBADMSG;
    if (gfn != NOWHERE && hv_memory_map_shared(&d->mem, hv_gfn_of(gfn), frame->index, true))
        return hv_decode_fail(dec, "a frame cannot be at page 0x%llx", (unsigned long long)gfn);
    frame->gfn = hv_gfn_of(gfn);
    return 0;
}

static int make_table_locked(struct hv_domain *d, const struct table_state *wanted, struct hv_decoder *dec)
{
    struct hv_gnttab *g = d->gnttab;

    if (!wanted->version || !wanted->max_frames || hv_gnttab_entries_locked(g))
        return hv_decode_fail(dec, "its version or size makes no sense");
    g->version = wanted->version;
    g->max_frames = wanted->max_frames;
    if (hv_gnttab_grow_locked(d, wanted->nr_frames) || g->nr_status != wanted->nr_status)
        return hv_decode_fail(dec, "there is no table of %u frames with %u of status", wanted->nr_frames,
                              wanted->nr_status);
    return 0;
}

static int decode_locked(struct hv_domain *d, struct hv_decoder *dec)
{
    struct hv_gnttab *g = d->gnttab;
    struct table_state wanted;
    int error = hv_decode_fields(dec, table_fields, HV_ARRAY_LEN(table_fields), &wanted);
    if (!error)
        error = make_table_locked(d, &wanted, dec);
    for (uint32_t i = 0; !error && i < g->nr_frames; i++)
        error = decode_frame(d, dec, &g->frame[i]);
    for (uint32_t i = 0; !error && i < g->nr_status; i++)
        error = decode_frame(d, dec, &g->status[i]);
    if (!error)
        hv_gnttab_unmark_all_locked(g);
    return error;
}

int hv_gnttab_decode(struct hv_domain *d, struct hv_decoder *dec)
{
    int error;

    pthread_mutex_lock(&d->lock);
    pthread_mutex_lock(&d->gnttab->lock);
    error = decode_locked(d, dec);
    pthread_mutex_unlock(&d->gnttab->lock);
    pthread_mutex_unlock(&d->lock);
    return error;
}

void hv_gnttab_mark_used(struct hv_domain *d)
{
    struct hv_gnttab *g = d->gnttab;
    struct hv_grant grant;

    pthread_mutex_lock(&g->lock);
    for (uint32_t ref = 0; ref < hv_gnttab_entries_locked(g); ref++) {
        if (!g->uses[ref].writing)
            continue;
        hv_gnttab_describe_locked(g, ref, &grant);
        hv_memory_mark_dirty(&d->mem, grant.gfn);
    }
    pthread_mutex_unlock(&g->lock);
}
