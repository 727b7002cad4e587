/* Queues: from the ring to the image and back. */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/backend/blk/device.h"
#include "hv/hypercall/evtchn.h"
#include "hv/loop.h"

/* ------------------------------------------------------------------ answers */

static void count(struct hv_blk_request *r)
{
    struct domus_vbd_stats *stats = &r->queue->blk->stats;
    uint64_t ns = hv_loop_now() - r->start_ns;

    switch (r->kind) {
    case BLKIF_OP_READ:
        stats->rd_req++;
        stats->rd_bytes += r->bytes;
        stats->rd_ns += ns;
        break;
    case BLKIF_OP_WRITE:
        stats->wr_req++;
        stats->wr_bytes += r->bytes;
        stats->wr_ns += ns;
        break;
    case BLKIF_OP_FLUSH_DISKCACHE:
        stats->flush_req++;
        stats->flush_ns += ns;
        break;
    case BLKIF_OP_DISCARD:
        stats->discard_req++;
        stats->discard_bytes += r->bytes;
        break;
    }
}

/* What an answer names: for an indirect request, what it does. Frontends check it. */
static uint8_t answered_operation(const struct hv_blk_request *r)
{
    struct blkif_request_indirect indirect;

    if (r->guest.operation != BLKIF_OP_INDIRECT)
        return r->guest.operation;
    memcpy(&indirect, &r->guest, sizeof(indirect));
    return indirect.indirect_op;
}

static void answer(struct hv_blk_request *r, int error)
{
    struct hv_blk_queue *q = r->queue;
    struct blkif_response response = {
        .id = r->guest.id,
        .operation = answered_operation(r),
        .status = (int16_t)(error == -EOPNOTSUPP ? BLKIF_RSP_EOPNOTSUPP
                            : error             ? BLKIF_RSP_ERROR
                                                : BLKIF_RSP_OKAY),
    };

    if (hv_blk_ring_answer(&q->ring, &response) && !q->blk->waited_for) /* else the vCPUs are gone */
        hv_evtchn_backend_notify(q->blk->xenbus.domain, q->port);
    r->next = q->free;
    q->free = r;
}

static const char *name_of(uint8_t kind)
{
    static const char *const names[] = {
        [BLKIF_OP_READ] = "reading",
        [BLKIF_OP_WRITE] = "writing",
        [BLKIF_OP_FLUSH_DISKCACHE] = "flushing",
        [BLKIF_OP_DISCARD] = "discarding",
    };

    return kind < HV_ARRAY_LEN(names) && names[kind] ? names[kind] : "serving";
}

static void image_failed(struct hv_blk_request *r, int error)
{
    struct hv_blk_device *blk = r->queue->blk;

    blk->stats.errors++;
    hv_log_guest(blk->xenbus.domain, HV_LOG_WARNING, "vbd %u: %s %llu bytes at %llu: %s", blk->xenbus.devid,
                 name_of(r->kind), (unsigned long long)r->bytes, (unsigned long long)r->offset, strerror(-error));
}

/* ------------------------------------------------------------------ the image */

static void on_done(struct hv_blk_io *io, int result);

static void begin(struct hv_blk_request *r, enum hv_blk_io_kind kind)
{
    struct hv_blk_image *image = &r->queue->blk->image;

    r->io = (struct hv_blk_io){
        .kind = kind,
        .fua = kind == HV_BLK_WRITE && r->flush && image->can_fua,
        .iov = r->iov + r->first_iov,
        .nr_iov = r->nr_iov - r->first_iov,
        .offset = r->offset + r->done_bytes,
        .bytes = r->bytes - r->done_bytes,
        .done = on_done,
    };
    image->driver->start(image, &r->io);
}

static bool is_sync(const struct hv_blk_request *r)
{
    return r->stage != HV_BLK_MAIN || r->kind == BLKIF_OP_FLUSH_DISKCACHE;
}

static bool moves_data(const struct hv_blk_request *r)
{
    return r->stage == HV_BLK_MAIN && (r->kind == BLKIF_OP_READ || r->kind == BLKIF_OP_WRITE);
}

/* Begins what the request's stage says, or goes on with it. */
void hv_blk_request_begin(struct hv_blk_request *r)
{
    if (is_sync(r)) {
        r->queue->blk->unsynced = false; /* what is written from here on may miss it */
        begin(r, HV_BLK_SYNC);
    } else if (r->kind == BLKIF_OP_DISCARD) {
        begin(r, HV_BLK_DISCARD);
    } else {
        begin(r, r->kind == BLKIF_OP_READ ? HV_BLK_READ : HV_BLK_WRITE);
    }
}

/* Leaves out the first @bytes of what is still to be moved. */
static void advance(struct hv_blk_request *r, size_t bytes)
{
    r->done_bytes += bytes;
    while (bytes) {
        struct iovec *first = &r->iov[r->first_iov];
        size_t n = bytes < first->iov_len ? bytes : first->iov_len;

        first->iov_base = (uint8_t *)first->iov_base + n;
        first->iov_len -= n;
        bytes -= n;
        if (!first->iov_len)
            r->first_iov++;
    }
}

/* What the image said about the stage. True when the request goes on: it has to try again, moved a part only, or has
 * another stage; else *@result is its end. */
static bool goes_on(struct hv_blk_request *r, int *result)
{
    bool again = *result == -EINTR || *result == -EAGAIN;

    if (*result < 0 && is_sync(r))
        r->queue->blk->unsynced = true;
    if (*result < 0 && !again)
        return false;
    if (!again && moves_data(r)) {
        if (*result == 0) { /* the image is shorter than it was */
            *result = -EIO;
            return false;
        }
        advance(r, (size_t)*result);
        again = r->done_bytes < r->bytes;
    }
    if (!again && r->stage == HV_BLK_MAIN && (r->kind == BLKIF_OP_WRITE || r->kind == BLKIF_OP_DISCARD))
        r->queue->blk->unsynced = true;
    if (!again && (!r->flush || r->stage == HV_BLK_AFTER || r->io.fua))
        return false;
    if (!again)
        r->stage++;
    hv_blk_request_begin(r);
    return true;
}

/* What a request that has ended lets others do. The device may be freed when it returns. */
static void after(struct hv_blk_device *blk, struct hv_blk_queue *q, bool was_barrier)
{
    if (blk->stopping) {
        if (!blk->in_flight && !blk->waited_for)
            hv_blk_stopped(blk);
        return;
    }
    if (blk->next_image.driver && blk->in_flight == blk->waiting)
        hv_blk_change_image(blk);
    else if (was_barrier || (blk->barrier && !blk->in_flight))
        hv_blk_run_all(blk);
    else if (q)
        hv_blk_queue_run(q);
}

void hv_blk_request_finish(struct hv_blk_request *r, int result)
{
    struct hv_blk_queue *q = r->queue;
    struct hv_blk_device *blk = q->blk;
    bool was_barrier = blk->barrier == r;

    if (result >= 0)
        count(r);
    hv_blk_request_release(r);
    answer(r, result < 0 ? result : 0);
    q->in_flight--;
    blk->in_flight--;
    if (was_barrier)
        blk->barrier = NULL;
    after(blk, q, was_barrier);
}

/* A server that ended took with it what it had not made safe, and the next one flushes without a word what it never had:
 * the first flush must fail, as that of a file does after the kernel could not write it back. */
static bool tells_of_loss(const struct hv_blk_request *r, int *result)
{
    struct hv_blk_device *blk = r->queue->blk;

    if (*result < 0 || !is_sync(r) || !blk->forgot)
        return false;
    blk->forgot = false;
    *result = -EIO;
    return true;
}

void hv_blk_request_fail(struct hv_blk_request *r, int error)
{
    image_failed(r, error);
    if (hv_blk_hold(r, &error))
        after(r->queue->blk, NULL, false);
    else
        hv_blk_request_finish(r, error);
}

static void on_done(struct hv_blk_io *io, int result)
{
    struct hv_blk_request *r = HV_CONTAINER_OF(io, struct hv_blk_request, io);
    struct hv_blk_device *blk = r->queue->blk;

    if (!tells_of_loss(r, &result) && goes_on(r, &result)) {
        blk->image.driver->flush(&blk->image);
        return;
    }
    if (hv_blk_strand(r, result))
        after(blk, NULL, false);
    else if (result < 0 && result != -EOPNOTSUPP)
        hv_blk_request_fail(r, result);
    else
        hv_blk_request_finish(r, result);
}

/* ------------------------------------------------------------------ the ring */

static struct hv_blk_request *get_request(struct hv_blk_queue *q)
{
    struct hv_blk_request *r = q->free;

    if (r)
        q->free = r->next;
    else if (q->in_flight < HV_BLK_DEPTH)
        r = malloc(sizeof(*r));
    if (r)
        r->queue = q;
    return r;
}

/* A disk that promises nothing is not flushed; a barrier, with nothing else going on, need not flush what is safe. */
static void skip_flushes(struct hv_blk_request *r)
{
    const struct hv_blk_device *blk = r->queue->blk;

    if (blk->flags & DOMUS_VBD_NO_FLUSH)
        r->flush = false;
    if (r->stage == HV_BLK_BEFORE && (!r->flush || (r->barrier && !blk->unsynced)))
        r->stage = HV_BLK_MAIN;
}

static void launch(struct hv_blk_request *r)
{
    r->queue->in_flight++;
    r->queue->blk->in_flight++;
    skip_flushes(r);
    hv_blk_admit(r);
}

/* A flush of a disk that promises nothing is done at once. */
static bool is_nothing(const struct hv_blk_request *r)
{
    return r->kind == BLKIF_OP_FLUSH_DISKCACHE &&
           (r->queue->blk->flags & DOMUS_VBD_NO_FLUSH || r->queue->blk->read_only);
}

static void handle(struct hv_blk_request *r)
{
    struct hv_blk_device *blk = r->queue->blk;
    int error = hv_blk_request_prepare(r);

    r->start_ns = hv_loop_now();
    if (error) {
        blk->stats.refused++;
        answer(r, error);
    } else if (is_nothing(r)) {
        count(r);
        answer(r, 0);
    } else if (r->barrier) {
        blk->barrier = r;
        if (!blk->in_flight)
            launch(r);
    } else {
        launch(r);
    }
}

int hv_blk_queue_resume(struct hv_blk_queue *q, const struct blkif_request *guest)
{
    struct hv_blk_request *r = get_request(q);

    if (!r || q->ring.req_cons - q->ring.rsp_prod >= q->ring.nr_entries)
        return r ? -EINVAL : -ENOMEM;
    q->ring.req_cons++; /* taken, and not answered */
    r->guest = *guest;
    handle(r);
    return 0;
}

/* True when there may be more to take. */
static bool take(struct hv_blk_queue *q, bool *broken)
{
    struct hv_blk_request *r;
    int taken;

    if (q->in_flight >= HV_BLK_DEPTH)
        return false;
    r = get_request(q);
    if (!r)
        return false; /* short of memory: what is in flight comes back */
    taken = hv_blk_ring_take(&q->ring, &r->guest);
    if (taken > 0) {
        handle(r);
        return true;
    }
    r->next = q->free;
    q->free = r;
    *broken = taken < 0;
    return taken == 0 && hv_blk_ring_ask(&q->ring);
}

void hv_blk_queue_run(struct hv_blk_queue *q)
{
    struct hv_blk_device *blk = q->blk;
    bool broken = false;
    uint32_t budget = q->ring.nr_entries; /* a guest must not keep the loop here */

    while (!blk->barrier && !blk->stopping && !blk->changing && !blk->xenbus.domain->frozen && take(q, &broken))
        if (--budget == 0) {
            hv_loop_wake(q->wakeup);
            break;
        }
    blk->image.driver->flush(&blk->image);
    if (broken)
        hv_xenbus_fail(&blk->xenbus, "the frontend's ring claims more requests than it has room for");
}

/* A barrier that waits is launched when nothing is in flight, and queues run when there is none. */
void hv_blk_run_all(struct hv_blk_device *blk)
{
    if (blk->barrier) {
        if (!blk->in_flight && !blk->xenbus.domain->frozen)
            launch(blk->barrier);
        blk->image.driver->flush(&blk->image);
        return;
    }
    for (unsigned i = 0; i < blk->nr_queues; i++)
        hv_loop_wake(blk->queues[i].wakeup);
}

void hv_blk_queue_drop_barrier(struct hv_blk_device *blk)
{
    struct hv_blk_request *r = blk->barrier;

    if (!r)
        return;
    hv_blk_request_release(r);
    free(r);
    blk->barrier = NULL;
}

static void on_wakeup(void *opaque)
{
    hv_blk_queue_run(opaque);
}

/* On the notifying vCPU's thread. */
static void on_guest(void *opaque)
{
    struct hv_blk_queue *q = opaque;

    hv_loop_wake(q->wakeup);
}

int hv_blk_queue_init(struct hv_blk_device *blk, struct hv_blk_queue *q, const uint32_t *refs, unsigned nr_pages,
                      uint32_t port)
{
    struct hv_domain *d = blk->xenbus.domain;
    int error;

    error = hv_blk_ring_init(d, &q->ring, refs, nr_pages);
    if (error)
        return error;
    q->wakeup = hv_loop_add_wakeup(d->loop, on_wakeup, q);
    q->free = calloc(1, sizeof(*q->free)); /* one at least, however short memory gets */
    if (!q->wakeup || !q->free)
        return -ENOMEM;
    error = hv_evtchn_backend_bind(d, port, on_guest, q);
    if (!error)
        q->port = port;
    return error;
}

void hv_blk_queue_fini(struct hv_blk_queue *q)
{
    struct hv_domain *d = q->blk->xenbus.domain;

    if (q->port)
        hv_evtchn_backend_unbind(d, q->port);
    if (q->wakeup)
        hv_loop_remove(q->wakeup);
    while (q->free) {
        struct hv_blk_request *r = q->free;

        q->free = r->next;
        free(r);
    }
    hv_blk_ring_fini(d, &q->ring);
    memset(q, 0, sizeof(*q));
}
