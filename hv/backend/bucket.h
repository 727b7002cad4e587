/* A limit of how much passes in a second: of a disk's or a network interface's.
 *
 * A bucket says when it is empty again; something passes when it is, or nearly so (the burst), and puts its cost in. So a
 * limit holds on average, a burst is bounded, and nothing has to be counted while nothing happens.
 */
#pragma once

#include "hv/types.h"

struct hv_bucket {
    uint64_t per_second; /* 0: no limit */
    uint64_t burst_ns;   /* how long before it is empty something passes */
    uint64_t empty_ns;   /* CLOCK_MONOTONIC */
};

/* A new limit, from now on: @per_second units, of which @burst at once; a burst of 0 is what passes in a tenth of a second. */
void hv_bucket_set(struct hv_bucket *b, uint64_t per_second, uint64_t burst);
/* When something may pass: 0 or a time that is past means now. */
uint64_t hv_bucket_due_ns(const struct hv_bucket *b);
/* @units pass. */
void hv_bucket_pass(struct hv_bucket *b, uint64_t units, uint64_t now_ns);
