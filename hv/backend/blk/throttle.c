/* Limits of a disk. */
#include "config.h"

#include "hv/backend/blk/throttle.h"

#include <errno.h>
#include <string.h>

#define SECOND_NS        1000000000ull
#define DEFAULT_BURST_NS (SECOND_NS / 10)
/* Where no request has to wait for ever: the longest cost, and the longest burst. */
#define COST_MAX_NS  (3600 * SECOND_NS)
#define BURST_MAX_NS (3600 * SECOND_NS)

/* @units at @per_second, in ns; at most @max. */
static uint64_t time_of(uint64_t units, uint64_t per_second, uint64_t max)
{
    unsigned __int128 ns = (unsigned __int128)units * SECOND_NS / per_second;

    return ns > max ? max : (uint64_t)ns;
}

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
        next.buckets[i].per_second = rates[i];
        if (rates[i])
            next.buckets[i].burst_ns =
                bursts[i] ? time_of(bursts[i], rates[i], BURST_MAX_NS) : DEFAULT_BURST_NS;
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
        uint64_t empty = t->buckets[i].empty_ns, burst = t->buckets[i].burst_ns;

        if (t->buckets[i].per_second && applies(i, write) && empty > burst && empty - burst > due)
            due = empty - burst;
    }
    return due;
}

void hv_blk_throttle_pass(struct hv_blk_throttle *t, bool write, uint64_t bytes, uint64_t now_ns)
{
    for (unsigned i = 0; i < HV_BLK_BUCKETS; i++) {
        uint64_t units = i <= HV_BLK_WRITE_BYTES ? bytes : 1;

        if (!t->buckets[i].per_second || !applies(i, write))
            continue;
        if (t->buckets[i].empty_ns < now_ns)
            t->buckets[i].empty_ns = now_ns;
        t->buckets[i].empty_ns += time_of(units, t->buckets[i].per_second, COST_MAX_NS);
    }
}
