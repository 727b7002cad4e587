/* io_uring on the event loop. */
#include "config.h"

#include "hv/uring.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hv/log.h"

#define SUBMISSIONS 256u
#define IN_FLIGHT   1024u /* completions that the ring has room for */

struct hv_uring {
    struct io_uring ring;
    struct hv_loop_source *source;
    struct hv_loop_source *retry; /* wake-up: the kernel did not take what was submitted */
    unsigned in_flight;           /* given to the ring, and not completed */
    struct hv_uring_op *waiting, **end; /* for room in the ring */
};

/* ------------------------------------------------------------------ in */

static void prepare(struct io_uring_sqe *sqe, struct hv_uring_op *op)
{
    switch (op->kind) {
    case HV_URING_READ:
        io_uring_prep_readv(sqe, op->fd, op->iov, op->nr_iov, op->offset);
        break;
    case HV_URING_WRITE:
        io_uring_prep_writev(sqe, op->fd, op->iov, op->nr_iov, op->offset);
        break;
    case HV_URING_SYNC:
        io_uring_prep_fsync(sqe, op->fd, IORING_FSYNC_DATASYNC);
        break;
    case HV_URING_DISCARD:
        io_uring_prep_fallocate(sqe, op->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)op->offset,
                                (off_t)op->bytes);
        break;
    }
    io_uring_sqe_set_data(sqe, op);
}

static void submit(struct hv_uring *u)
{
    if (io_uring_sq_ready(&u->ring) && io_uring_submit(&u->ring) < 0)
        hv_loop_wake(u->retry); /* short of memory, or interrupted: the entries are still there */
}

/* False when there is no room now. */
static bool give(struct hv_uring *u, struct hv_uring_op *op)
{
    struct io_uring_sqe *sqe;

    if (u->in_flight >= IN_FLIGHT)
        return false;
    sqe = io_uring_get_sqe(&u->ring);
    if (!sqe) {
        submit(u);
        sqe = io_uring_get_sqe(&u->ring);
    }
    if (!sqe)
        return false;
    prepare(sqe, op);
    u->in_flight++;
    return true;
}

void hv_uring_start(struct hv_uring *u, struct hv_uring_op *op)
{
    op->next = NULL;
    if (!u->waiting && give(u, op))
        return;
    *u->end = op;
    u->end = &op->next;
}

static void give_waiting(struct hv_uring *u)
{
    while (u->waiting && give(u, u->waiting)) {
        u->waiting = u->waiting->next;
        if (!u->waiting)
            u->end = &u->waiting;
    }
}

void hv_uring_flush(struct hv_uring *u)
{
    give_waiting(u);
    submit(u);
}

/* ------------------------------------------------------------------ out */

static void complete(struct hv_uring *u)
{
    struct io_uring_cqe *cqe;

    while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        struct hv_uring_op *op = io_uring_cqe_get_data(cqe);
        int result = cqe->res;

        io_uring_cqe_seen(&u->ring, cqe);
        u->in_flight--;
        op->done(op, result); /* may start more, and may free the operation */
    }
    hv_uring_flush(u);
}

static void on_ready(void *opaque, int fd, uint32_t events)
{
    (void)fd, (void)events;
    complete(opaque);
}

static void on_retry(void *opaque)
{
    complete(opaque);
}

void hv_uring_wait(struct hv_uring *u)
{
    struct io_uring_cqe *cqe;

    hv_uring_flush(u);
    if (u->in_flight)
        (void)io_uring_wait_cqe(&u->ring, &cqe); /* interrupted: the caller calls again */
    complete(u);
}

/* ------------------------------------------------------------------ making it */

/* For the life of the ring; cannot be undone by anybody. */
static int restrict_to_backends(struct io_uring *ring)
{
    static const uint8_t operations[] = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE};
    struct io_uring_restriction rules[HV_ARRAY_LEN(operations)] = {0};

    for (size_t i = 0; i < HV_ARRAY_LEN(operations); i++) {
        rules[i].opcode = IORING_RESTRICTION_SQE_OP;
        rules[i].sqe_op = operations[i];
    }
    /* liburing 2.3 declares functions for these two and does not have them. */
    if (syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_RESTRICTIONS, rules, HV_ARRAY_LEN(rules)) < 0 ||
        syscall(SYS_io_uring_register, ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
        return -errno;
    return 0;
}

static int init_ring(struct io_uring *ring)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE,
        .cq_entries = IN_FLIGHT,
    };
    int error = io_uring_queue_init_params(SUBMISSIONS, ring, &params);

    if (error)
        return error;
    error = restrict_to_backends(ring);
    if (error)
        io_uring_queue_exit(ring);
    return error;
}

int hv_uring_new(struct hv_loop *loop, struct hv_uring **out)
{
    struct hv_uring *u = calloc(1, sizeof(*u));
    int error;

    if (!u)
        return -ENOMEM;
    u->end = &u->waiting;
    error = init_ring(&u->ring);
    if (error) {
        free(u);
        return error;
    }
    u->source = hv_loop_add_fd(loop, u->ring.ring_fd, EPOLLIN, on_ready, u);
    u->retry = hv_loop_add_wakeup(loop, on_retry, u);
    if (!u->source || !u->retry) {
        hv_uring_free(u);
        return -ENOMEM;
    }
    *out = u;
    return 0;
}

void hv_uring_free(struct hv_uring *u)
{
    if (!u)
        return;
    hv_assert(!u->in_flight && !u->waiting);
    if (u->source)
        hv_loop_remove(u->source);
    if (u->retry)
        hv_loop_remove(u->retry);
    io_uring_queue_exit(&u->ring);
    free(u);
}
