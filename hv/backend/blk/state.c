/* Disks in a stream.
 *
 * A frozen disk takes nothing from its rings, and begins nothing; what is with the image ends and is answered. What was taken
 * and waits (for the disk's limits, after an error, behind a barrier) goes along as the guest wrote it, and begins anew
 * where the domain goes on. The image is the toolstack's to give.
 */
#include "config.h"

#include <errno.h>
#include <stddef.h>

#include "hv/backend/blk/device.h"
#include "hv/loop.h"
#include "hv/stream/codec.h"

struct disk_state {
    uint32_t sector_bytes, physical_sector_bytes, nr_queues, flags;
    uint64_t size_bytes;
    bool read_only, persistent;
    struct domus_vbd_stats stats;
};

static const struct hv_field disk_fields[] = {
    HV_FIELD(1, struct disk_state, sector_bytes),
    HV_FIELD(2, struct disk_state, physical_sector_bytes),
    HV_FIELD_MAX(3, struct disk_state, nr_queues, HV_BLK_QUEUES_MAX),
    HV_FIELD(4, struct disk_state, flags),
    HV_FIELD(5, struct disk_state, size_bytes),
    HV_FIELD_BOOL(6, struct disk_state, read_only),
    HV_FIELD_BOOL(7, struct disk_state, persistent),
    HV_FIELD(8, struct disk_state, stats),
};

struct queue_state {
    uint32_t nr_pages, port, nr_waiting;
    uint32_t refs[HV_BLK_RING_PAGES_MAX];
};

static const struct hv_field queue_fields[] = {
    HV_FIELD_MAX(1, struct queue_state, nr_pages, HV_BLK_RING_PAGES_MAX),
    HV_FIELD(2, struct queue_state, port),
    HV_FIELD_MAX(3, struct queue_state, nr_waiting, HV_BLK_DEPTH),
    HV_FIELD(4, struct queue_state, refs),
};

static struct hv_blk_device *blk_of(struct hv_xenbus_device *dev)
{
    return HV_CONTAINER_OF(dev, struct hv_blk_device, xenbus);
}

bool hv_blk_is_idle(struct hv_xenbus_device *dev)
{
    const struct hv_blk_device *blk = blk_of(dev);

    return blk->in_flight == blk->waiting;
}

void hv_blk_thaw(struct hv_xenbus_device *dev)
{
    struct hv_blk_device *blk = blk_of(dev);

    hv_blk_throttle_timer(blk);
    hv_blk_run_all(blk);
}

/* ------------------------------------------------------------------ writing */

typedef void waiting_fn(const struct hv_blk_request *r, void *opaque);

static bool is_in(const struct hv_blk_list *list, const struct hv_blk_request *wanted)
{
    const struct hv_blk_request *r = list->first;

    while (r && r != wanted)
        r = r->next;
    return r;
}

static bool is_listed(const struct hv_blk_device *blk, const struct hv_blk_request *r)
{
    return is_in(&blk->held, r) || is_in(&blk->stranded, r) || is_in(&blk->throttled[0], r) || is_in(&blk->throttled[1], r);
}

static void each_in(const struct hv_blk_list *list, const struct hv_blk_queue *q, waiting_fn *fn, void *opaque)
{
    for (const struct hv_blk_request *r = list->first; r; r = r->next)
        if (r->queue == q)
            fn(r, opaque);
}

/* Oldest first, as far as it matters: what failed came before what waits for its turn, and a barrier comes last. */
static void each_waiting(const struct hv_blk_queue *q, waiting_fn *fn, void *opaque)
{
    const struct hv_blk_device *blk = q->blk;

    each_in(&blk->held, q, fn, opaque);
    each_in(&blk->stranded, q, fn, opaque);
    each_in(&blk->throttled[0], q, fn, opaque);
    each_in(&blk->throttled[1], q, fn, opaque);
    if (blk->barrier && blk->barrier->queue == q && !is_listed(blk, blk->barrier))
        fn(blk->barrier, opaque);
}

static void count_one(const struct hv_blk_request *r, void *count)
{
    (void)r;
    ++*(uint32_t *)count;
}

static void encode_one(const struct hv_blk_request *r, void *e)
{
    hv_encode(e, &r->guest, sizeof(r->guest));
}

static void encode_queue(const struct hv_blk_queue *q, struct hv_encoder *e)
{
    struct queue_state state = {.nr_pages = q->ring.nr_pages, .port = q->port};

    for (unsigned i = 0; i < q->ring.nr_pages; i++)
        state.refs[i] = q->ring.pages[i].grant.ref;
    each_waiting(q, count_one, &state.nr_waiting);
    hv_encode_fields(e, queue_fields, HV_ARRAY_LEN(queue_fields), &state);
    each_waiting(q, encode_one, e);
}

void hv_blk_encode(struct hv_xenbus_device *dev, struct hv_encoder *e)
{
    const struct hv_blk_device *blk = blk_of(dev);
    const struct disk_state state = {
        .sector_bytes = blk->sector_bytes,
        .physical_sector_bytes = blk->physical_sector_bytes,
        .nr_queues = blk->nr_queues,
        .flags = blk->flags,
        .size_bytes = blk->size_bytes,
        .read_only = blk->read_only,
        .persistent = blk->persistent,
        .stats = blk->stats,
    };

    hv_encode_fields(e, disk_fields, HV_ARRAY_LEN(disk_fields), &state);
    for (unsigned i = 0; i < blk->nr_queues; i++)
        encode_queue(&blk->queues[i], e);
}

/* ------------------------------------------------------------------ reading */

static int decode_queue(struct hv_blk_device *blk, struct hv_blk_queue *q, struct hv_decoder *d)
{
    struct queue_state state;
    int error = hv_decode_fields(d, queue_fields, HV_ARRAY_LEN(queue_fields), &state);

    q->blk = blk;
    if (error)
        return error;
    if (hv_blk_queue_init(blk, q, state.refs, state.nr_pages, state.port))
        return hv_decode_fail(d, "the ring or event channel %u of a queue cannot be had", state.port);
    while (!error && state.nr_waiting--) {
        struct blkif_request guest;

        error = hv_decode(d, &guest, sizeof(guest));
        if (!error && hv_blk_queue_resume(q, &guest))
            error = hv_decode_fail(d, "a queue has more requests than fit into its ring");
    }
    return error;
}

/* What the guest was told of the disk is still true, or told anew. */
static int check_disk(struct hv_blk_device *blk, const struct disk_state *state, struct hv_decoder *d)
{
    if (blk->size_bytes < state->size_bytes && !blk->changing)
        return hv_decode_fail(d, "its image has %llu bytes, and had %llu", (unsigned long long)blk->size_bytes,
                              (unsigned long long)state->size_bytes);
    if ((state->sector_bytes != HV_BLK_SECTOR && state->sector_bytes != 4096) || blk->image.block_bytes > state->sector_bytes)
        return hv_decode_fail(d, "its sectors had %u bytes, which its image cannot have", state->sector_bytes);
    if (!state->read_only && blk->read_only)
        return hv_decode_fail(d, "it could be written, and its image cannot");
    return 0;
}

int hv_blk_decode(struct hv_xenbus_device *dev, struct hv_decoder *d)
{
    struct hv_blk_device *blk = blk_of(dev);
    struct disk_state state;
    int error = hv_decode_fields(d, disk_fields, HV_ARRAY_LEN(disk_fields), &state);

    if (!error)
        error = check_disk(blk, &state, d);
    if (error)
        return error;
    blk->sector_bytes = state.sector_bytes;
    blk->physical_sector_bytes = state.physical_sector_bytes;
    blk->size_bytes = state.size_bytes;
    blk->read_only = state.read_only;
    blk->persistent = state.persistent;
    blk->stats = state.stats;
    blk->stats.held = blk->stats.held_error = 0; /* what was held is tried again */
    if (!hv_xenbus_resumes_connected(dev))
        return 0;
    while (!error && blk->nr_queues < state.nr_queues)
        error = decode_queue(blk, &blk->queues[blk->nr_queues++], d);
    if (error)
        hv_blk_drop_queues(blk);
    return error;
}
