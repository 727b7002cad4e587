/* Operations on files: writes that follow each other on the disk, and come at once, go to the kernel as one.
 *
 * A guest's driver cuts what it is asked for into requests of what a ring's entry can name, eight for a MiB with Linux. Each write
 * that goes by itself costs the kernel a worker's turn, a lock of the file and a completion. Reads cost less, and the guest can
 * do something with the first of them while the others are copied. Nothing is waited for: what was started since the last flush
 * of the image is looked at, and no more.
 *
 * What goes as one fails as one, or is cut short. Then each part goes again by itself, so that the guest hears of each what is
 * true of it.
 */
#include "config.h"

#include <stdlib.h>

#include "hv/backend/blk/image.h"

#define BYTES_MAX (1u << 20)
#define PARTS_MAX 512u

struct merged {
    struct hv_uring_op op;
    struct hv_uring *uring;
    struct hv_blk_io *first; /* by offset */
    struct iovec iov[];
};

static void alone_done(struct hv_uring_op *op, int result)
{
    struct hv_blk_io *io = HV_CONTAINER_OF(op, struct hv_blk_io, file.op);

    io->done(io, result);
}

static void start_alone(struct hv_uring *uring, int fd, struct hv_blk_io *io)
{
    static const enum hv_uring_kind kinds[] = {
        [HV_BLK_READ] = HV_URING_READ,
        [HV_BLK_WRITE] = HV_URING_WRITE,
        [HV_BLK_SYNC] = HV_URING_SYNC,
        [HV_BLK_DISCARD] = HV_URING_DISCARD,
    };

    io->file.op = (struct hv_uring_op){
        .kind = kinds[io->kind],
        .fd = fd,
        .iov = io->iov,
        .nr_iov = io->nr_iov,
        .offset = io->offset,
        .bytes = io->bytes,
        .done = alone_done,
    };
    hv_uring_start(uring, &io->file.op);
}

/* Each operation but the last is of something that has not ended, so that the image, and what it is on, stays till then. */
static void merged_done(struct hv_uring_op *op, int result)
{
    struct merged *m = HV_CONTAINER_OF(op, struct merged, op);
    uint64_t left = result > 0 ? (uint64_t)result : 0;
    struct hv_uring *uring = m->uring;
    struct hv_blk_io *io = m->first, *next;
    int fd = op->fd;

    free(m);
    for (; io; io = next) {
        next = io->file.next;
        if (left >= io->bytes) {
            left -= io->bytes;
            io->done(io, (int)io->bytes);
        } else {
            start_alone(uring, fd, io);
            left = 0;
        }
    }
}

static struct merged *merge(const struct hv_blk_image *image, struct hv_blk_io *first, unsigned nr_parts)
{
    struct merged *m = malloc(sizeof(*m) + nr_parts * sizeof(m->iov[0]));

    if (!m)
        return NULL;
    *m = (struct merged){
        .op = {.kind = HV_URING_WRITE,
               .fd = image->fd,
               .iov = m->iov,
               .offset = first->offset,
               .done = merged_done},
        .uring = image->uring,
        .first = first,
    };
    for (const struct hv_blk_io *io = first; io; io = io->file.next)
        for (unsigned i = 0; i < io->nr_iov; i++)
            m->iov[m->op.nr_iov++] = io->iov[i];
    return m;
}

/* Gives what was collected to the ring. */
static void send(struct hv_blk_image *image)
{
    struct hv_blk_io *io = image->first, *next;
    struct merged *m = io && io->file.next ? merge(image, io, image->nr_parts) : NULL;

    image->first = image->last = NULL;
    if (m) {
        hv_uring_start(image->uring, &m->op);
        return;
    }
    for (; io; io = next) {
        next = io->file.next;
        start_alone(image->uring, image->fd, io);
    }
}

static bool follows(const struct hv_blk_image *image, const struct hv_blk_io *io)
{
    const struct hv_blk_io *last = image->last;

    return last && io->offset == last->offset + last->bytes &&
           io->offset + io->bytes - image->first->offset <= BYTES_MAX && image->nr_parts + io->nr_iov <= PARTS_MAX;
}

void hv_blk_merge_start(struct hv_blk_image *image, struct hv_blk_io *io)
{
    if (io->kind != HV_BLK_WRITE) {
        start_alone(image->uring, image->fd, io);
        return;
    }
    io->file.next = NULL;
    if (follows(image, io)) {
        image->last->file.next = io;
        image->nr_parts += io->nr_iov;
    } else {
        send(image);
        image->first = io;
        image->nr_parts = io->nr_iov;
    }
    image->last = io;
}

void hv_blk_merge_flush(struct hv_blk_image *image)
{
    send(image);
    hv_uring_flush(image->uring);
}
