/* Input and output on files without waiting: one io_uring of the process, on the event loop.
 *
 * The ring is made before the process confines itself, and can do nothing but what the backends do: read, write, sync,
 * and give back space, on descriptors that were passed. So the sandbox need allow no more than its io_uring_enter.
 *
 * Loop thread only.
 */
#pragma once

#include <sys/uio.h>

#include "hv/loop.h"

struct hv_uring;

enum hv_uring_kind {
    HV_URING_READ,
    HV_URING_WRITE,
    HV_URING_SYNC,    /* data and what is needed to read it back are on stable storage */
    HV_URING_DISCARD, /* @bytes from @offset read as zeroes, their space is free */
};

/* An operation; embedded in what it belongs to, which it must not outlive. */
struct hv_uring_op {
    enum hv_uring_kind kind;
    int fd;
    const struct iovec *iov; /* READ, WRITE: good until the end */
    unsigned nr_iov;         /* at most IOV_MAX */
    uint64_t offset, bytes;  /* bytes: DISCARD only */
    /* Called from the loop (never from hv_uring_start): @result is a number of bytes or 0, or a negative errno. */
    void (*done)(struct hv_uring_op *op, int result);
    struct hv_uring_op *next; /* hv_uring's own */
};

/* -ENOSYS or -EPERM where the host does not let us. */
int hv_uring_new(struct hv_loop *loop, struct hv_uring **out) HV_MUST_CHECK;
/* Nothing may be going on. */
void hv_uring_free(struct hv_uring *uring);

/* Starts @op, at the latest with the next hv_uring_flush. */
void hv_uring_start(struct hv_uring *uring, struct hv_uring_op *op);
void hv_uring_flush(struct hv_uring *uring);
/* Blocks until one operation or more have ended, and calls their functions. Something must be going on. */
void hv_uring_wait(struct hv_uring *uring);
