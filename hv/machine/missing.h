/* Pages of RAM whose contents are still elsewhere: of a domain that runs here while the rest of its memory comes (post-copy).
 *
 * RAM is registered with the host's userfaultfd: whoever touches a page that is not there, a vCPU, the event loop or the host's
 * kernel for one of them, waits in the host until it is. A thread of its own (hv/stream/fetch.c) learns of that and places
 * pages; it takes no lock but the one here, inside of which nobody touches guest memory. So it never waits for those who wait
 * for it.
 *
 * A bit for each page that is to come. What is not marked and not there is a page of zeroes, as it always is. A page that the
 * guest gives back is not missing any more: what comes for it is of no use.
 */
#pragma once

#include <pthread.h>

#include "hv/machine/memory.h"

struct hv_missing {
    struct hv_memory *mem; /* immutable */
    int fd;                /* immutable while there is a thread: the userfaultfd, owned */
    pthread_mutex_t lock;  /* of what follows */
    uint64_t *bits;
    uint64_t count; /* of those that are set */
};

/* A userfaultfd of this process, for all of its pages and for accesses by the kernel, too; made before privileges are given up.
 * -1: this host has none. */
int hv_userfault_open(void);

/* From now on @mem can have missing pages: who touches RAM that is not there waits until it is. Takes @fd on success. Before
 * vCPUs run. 0, -EBUSY: it had some before, -EOPNOTSUPP: it is locked or of huge pages, or another negative errno. */
int hv_missing_new(struct hv_memory *mem, int fd) HV_MUST_CHECK;
/* Nobody waits for a page any more; nothing may be missing that somebody wants. The thread has ended. */
void hv_missing_close(struct hv_missing *m);
void hv_missing_free(struct hv_memory *mem);

/* Marks pages 64 * @word to 64 * @word + 63, those of @bits, all of which must be RAM; what they held is gone. Before there is a
 * thread that places pages. 0, or -EINVAL. */
int hv_missing_add(struct hv_missing *m, uint64_t word, uint64_t bits) HV_MUST_CHECK;

/* Gives a missing page its contents, NULL: zeroes; does nothing for another one. 0 or negative errno. */
int hv_missing_place(struct hv_missing *m, hv_gfn gfn, const void *page) HV_MUST_CHECK;
/* Somebody waits for this page: 1, it has to come; 0: it goes on; or negative errno. */
int hv_missing_wanted(struct hv_missing *m, hv_gfn gfn) HV_MUST_CHECK;
uint64_t hv_missing_count(struct hv_missing *m);

/* Around taking pages away from the guest: they are not missing any more, and none is placed meanwhile. */
struct hv_missing *hv_missing_forget_begin(struct hv_memory *mem, hv_gfn gfn, uint64_t count);
void hv_missing_forget_end(struct hv_missing *m);
