/* Limits of a disk: how many bytes and requests pass in a second. Private to the block backend. */
#pragma once

#include "hv/backend/bucket.h"
#include "hv/hv.h"
#include "hv/types.h"

enum hv_blk_bucket_kind { HV_BLK_TOTAL_BYTES, HV_BLK_READ_BYTES, HV_BLK_WRITE_BYTES,
                          HV_BLK_TOTAL_IOPS, HV_BLK_READ_IOPS, HV_BLK_WRITE_IOPS, HV_BLK_BUCKETS };

struct hv_blk_throttle {
    struct hv_bucket buckets[HV_BLK_BUCKETS];
};

/* New limits, from now on. -EINVAL for those that contradict each other. */
int hv_blk_throttle_set(struct hv_blk_throttle *t, const struct domus_vbd_limits *limits) HV_MUST_CHECK;
/* When a request that reads or writes may pass: 0 or a time that is past means now. */
uint64_t hv_blk_throttle_due_ns(const struct hv_blk_throttle *t, bool write);
/* It passes. */
void hv_blk_throttle_pass(struct hv_blk_throttle *t, bool write, uint64_t bytes, uint64_t now_ns);
