/* How fast frames pass in one direction of a network interface. Of the loop's thread, and of all queues together. */
#pragma once

#include "hv/backend/bucket.h"
#include "hv/hv.h"

struct hv_net_limit {
    struct hv_bucket average, peak;
};

/* New limits, from now on. -EINVAL for those that contradict each other. */
int hv_net_limit_set(struct hv_net_limit *limit, const struct domus_vif_rate *rate) HV_MUST_CHECK;
/* When the next frame may pass: 0 or a time that is past means now. */
uint64_t hv_net_limit_due_ns(const struct hv_net_limit *limit);
/* One passes. */
void hv_net_limit_pass(struct hv_net_limit *limit, size_t bytes);
