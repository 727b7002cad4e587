/* Limits of a network interface. */
#include "config.h"

#include "hv/backend/net/limit.h"

#include <errno.h>

#include "hv/loop.h"

#define PEAK_BURSTS 100u /* a peak holds over a hundredth of a second */

int hv_net_limit_set(struct hv_net_limit *limit, const struct domus_vif_rate *rate)
{
    if (!rate->average && (rate->peak || rate->burst))
        return -EINVAL;
    if (rate->peak && rate->peak < rate->average)
        return -EINVAL;
    hv_bucket_set(&limit->average, rate->average, rate->burst);
    hv_bucket_set(&limit->peak, rate->peak, rate->peak / PEAK_BURSTS);
    return 0;
}

uint64_t hv_net_limit_due_ns(const struct hv_net_limit *limit)
{
    uint64_t average = hv_bucket_due_ns(&limit->average), peak = hv_bucket_due_ns(&limit->peak);

    return average > peak ? average : peak;
}

void hv_net_limit_pass(struct hv_net_limit *limit, size_t bytes)
{
    uint64_t now;

    if (!limit->average.per_second)
        return;
    now = hv_loop_now();
    hv_bucket_pass(&limit->average, bytes, now);
    hv_bucket_pass(&limit->peak, bytes, now);
}
