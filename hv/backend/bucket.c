/* Limits by buckets. */
#include "config.h"

#include "hv/backend/bucket.h"

#define SECOND_NS        1000000000ull
#define DEFAULT_BURST_NS (SECOND_NS / 10)
/* Where nothing has to wait for ever: the longest cost, and the longest burst. */
#define COST_MAX_NS  (3600 * SECOND_NS)
#define BURST_MAX_NS (3600 * SECOND_NS)

/* @units at @per_second, in ns; at most @max. */
static uint64_t time_of(uint64_t units, uint64_t per_second, uint64_t max)
{
    unsigned __int128 ns = (unsigned __int128)units * SECOND_NS / per_second;

    return ns > max ? max : (uint64_t)ns;
}

void hv_bucket_set(struct hv_bucket *b, uint64_t per_second, uint64_t burst)
{
    *b = (struct hv_bucket){.per_second = per_second};
    if (per_second)
        b->burst_ns = burst ? time_of(burst, per_second, BURST_MAX_NS) : DEFAULT_BURST_NS;
}

uint64_t hv_bucket_due_ns(const struct hv_bucket *b)
{
    return b->per_second && b->empty_ns > b->burst_ns ? b->empty_ns - b->burst_ns : 0;
}

void hv_bucket_pass(struct hv_bucket *b, uint64_t units, uint64_t now_ns)
{
    if (!b->per_second)
        return;
    if (b->empty_ns < now_ns)
        b->empty_ns = now_ns;
    b->empty_ns += time_of(units, b->per_second, COST_MAX_NS);
}
