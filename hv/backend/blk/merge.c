/* Operations on files: writes that follow each other on the disk, and come at once, go to the kernel as one.
 *
 * A guest's driver cuts what it is asked for into requests of what a ring's entry can name, eight for a MiB with Linux. Each write
 * that goes by itself costs the kernel a worker's turn, a lock of the file and a completion. Reads cost less, and the guest can
 * do something with the first of them while the others are copied. What was started since the last flush of the image is looked
 * at; and what comes while the kernel is busy with a write of a file that it writes one at a time, through its page cache, as
 * that would wait there.
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
    struct hv_blk_image *image;
    struct hv_blk_io *first; /* by offset */
    struct iovec iov[];
};

static void send(struct hv_blk_image *image);

/* A write has ended. Those that waited for it go first, as the image may end with what it did. */
static void write_ended(struct hv_blk_image *image)
{
    image->writing--;
    send(image);
}

static void alone_done(struct hv_uring_op *op, int result)
{
    struct hv_blk_io *io = HV_CONTAINER_OF(op, struct hv_blk_io, file.op);

    if (io->kind == HV_BLK_WRITE)
        write_ended(io->file.image);
    io->done(io, result);
}

static void start_alone(struct hv_blk_image *image, struct hv_blk_io *io)
{
    static const enum hv_uring_kind kinds[] = {
        [HV_BLK_READ] = HV_URING_READ,
        [HV_BLK_WRITE] = HV_URING_WRITE,
        [HV_BLK_SYNC] = HV_URING_SYNC,
        [HV_BLK_DISCARD] = HV_URING_DISCARD,
    };

    io->file.image = image;
    io->file.op = (struct hv_uring_op){
        .kind = kinds[io->kind],
        .fd = image->fd,
        .iov = io->iov,
        .nr_iov = io->nr_iov,
        .offset = io->offset,
        .bytes = io->bytes,
        .done = alone_done,
    };
    image->writing += io->kind == HV_BLK_WRITE;
    hv_uring_start(image->uring, &io->file.op);
}

/* Ends those that the kernel wrote @bytes of all together. */
static void end_parts(struct hv_blk_image *image, struct hv_blk_io *io, uint64_t bytes)
{
    struct hv_blk_io *next;

    for (; io; io = next) {
        next = io->file.next;
        if (bytes >= io->bytes) {
            bytes -= io->bytes;
            io->done(io, (int)io->bytes);
        } else {
            start_alone(image, io);
            bytes = 0;
        }
    }
}

/* Each operation but the last is of something that has not ended, so that the image, and what it is on, stays till then. */
static void merged_done(struct hv_uring_op *op, int result)
{
    struct merged *m = HV_CONTAINER_OF(op, struct merged, op);
    struct hv_blk_image *image = m->image;
    struct hv_blk_io *first = m->first;

    free(m);
    write_ended(image);
    end_parts(image, first, result > 0 ? (uint64_t)result : 0);
}

static struct merged *merge(struct hv_blk_image *image, struct hv_blk_io *first, unsigned nr_parts)
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
        .image = image,
        .first = first,
    };
    for (const struct hv_blk_io *io = first; io; io = io->file.next)
        for (unsigned i = 0; i < io->nr_iov; i++)
            m->iov[m->op.nr_iov++] = io->iov[i];
    return m;
}

/* Cuts what goes as one from the start of the list. */
static struct hv_blk_io *take_run(struct hv_blk_image *image, unsigned *nr_parts)
{
    struct hv_blk_io *first = image->first, *last = first, *next;
    uint64_t bytes = first->bytes;

    *nr_parts = first->nr_iov;
    while ((next = last->file.next) && next->offset == last->offset + last->bytes && bytes + next->bytes <= BYTES_MAX &&
           *nr_parts + next->nr_iov <= PARTS_MAX) {
        bytes += next->bytes;
        *nr_parts += next->nr_iov;
        last = next;
    }
    image->first = next;
    last->file.next = NULL;
    return first;
}

static void start_run(struct hv_blk_image *image, struct hv_blk_io *io, unsigned nr_parts)
{
    struct merged *m = io->file.next ? merge(image, io, nr_parts) : NULL;
    struct hv_blk_io *next;

    if (m) {
        image->writing++;
        hv_uring_start(image->uring, &m->op);
        return;
    }
    for (; io; io = next) {
        next = io->file.next;
        start_alone(image, io);
    }
}

/* Gives what was collected to the ring, unless it had better wait. */
static void send(struct hv_blk_image *image)
{
    unsigned nr_parts;

    if (image->writing && image->writes_in_turn)
        return;
    while (image->first) {
        struct hv_blk_io *run = take_run(image, &nr_parts);

        start_run(image, run, nr_parts);
    }
}

void hv_blk_merge_start(struct hv_blk_image *image, struct hv_blk_io *io)
{
    if (io->kind != HV_BLK_WRITE) {
        start_alone(image, io);
        return;
    }
    io->file.next = NULL;
    if (image->first)
        image->last->file.next = io;
    else
        image->first = io;
    image->last = io;
}

void hv_blk_merge_flush(struct hv_blk_image *image)
{
    send(image);
    hv_uring_flush(image->uring);
}
