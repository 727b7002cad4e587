/* Limits of a disk. */
#include "config.h"

#include "hv/backend/blk/throttle.h"

#include <errno.h>
#include <string.h>

static bool is_set(const struct hv_blk_throttle *t, enum hv_blk_bucket_kind kind)
{
    return t->buckets[kind].per_second != 0;
}

/* A total beside one of its parts says nothing that two parts could not say better. */
static bool contradicts(const struct hv_blk_throttle *t)
{
    return (is_set(t, HV_BLK_TOTAL_BYTES) && (is_set(t, HV_BLK_READ_BYTES) || is_set(t, HV_BLK_WRITE_BYTES))) ||
           (is_set(t, HV_BLK_TOTAL_IOPS) && (is_set(t, HV_BLK_READ_IOPS) || is_set(t, HV_BLK_WRITE_IOPS)));
}

int hv_blk_throttle_set(struct hv_blk_throttle *t, const struct domus_vbd_limits *limits)
{
    const uint64_t rates[HV_BLK_BUCKETS] = {limits->total_bytes, limits->read_bytes, limits->write_bytes,
                                            limits->total_iops, limits->read_iops,   limits->write_iops};
    const uint64_t bursts[HV_BLK_BUCKETS] = {limits->total_bytes_burst, limits->read_bytes_burst,
                                             limits->write_bytes_burst, limits->total_iops_burst,
                                             limits->read_iops_burst,   limits->write_iops_burst};
    struct hv_blk_throttle next;

    memset(&next, 0, sizeof(next));
    for (unsigned i = 0; i < HV_BLK_BUCKETS; i++) {
        if (bursts[i] && bursts[i] < rates[i])
            return -EINVAL;
        if (bursts[i] && !rates[i])
            return -EINVAL;
        hv_bucket_set(&next.buckets[i], rates[i], bursts[i]);
    }
    if (contradicts(&next))
        return -EINVAL;
    *t = next;
    return 0;
}

static bool applies(unsigned bucket, bool write)
{
    static const struct {
        bool reads, writes;
    } rows[HV_BLK_BUCKETS] = {
        [HV_BLK_TOTAL_BYTES] = {true, true}, [HV_BLK_READ_BYTES] = {true, false}, [HV_BLK_WRITE_BYTES] = {false, true},
        [HV_BLK_TOTAL_IOPS] = {true, true},  [HV_BLK_READ_IOPS] = {true, false},  [HV_BLK_WRITE_IOPS] = {false, true},
    };

    return write ? rows[bucket].writes : rows[bucket].reads;
}

uint64_t hv_blk_throttle_due_ns(const struct hv_blk_throttle *t, bool write)
{
    uint64_t due = 0;

    for (unsigned i = 0; i < HV_BLK_BUCKETS; i++) {
        uint64_t bucket_due = applies(i, write) ? hv_bucket_due_ns(&t->buckets[i]) : 0;

        if (bucket_due > due)
            due = bucket_due;
    }
    return due;
}

void hv_blk_throttle_pass(struct hv_blk_throttle *t, bool write, uint64_t bytes, uint64_t now_ns)
{
    for (unsigned i = 0; i < HV_BLK_BUCKETS; i++) {
        if (applies(i, write))
            hv_bucket_pass(&t->buckets[i], i <= HV_BLK_WRITE_BYTES ? bytes : 1, now_ns);
    }
}
