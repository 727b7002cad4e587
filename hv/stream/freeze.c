/* A domain that stands still: no vCPU runs, no backend has anything in flight or touches the guest's memory. */
#include "config.h"

#include "hv/stream/job.h"

#include <errno.h>

#include "hv/backend/console.h"
#include "hv/backend/xenbus.h"
#include "hv/hypercall/sched.h"
#include "hv/log.h"
#include "hv/loop.h"
#include "hv/machine/vcpu.h"
#include "hv/store/ring.h"
#include "hv/stream/handover.h"

#define LOOK_NS 100000ull      /* between looks whether I/O has ended */
#define REST_NS 20000000000ull /* it has to */

int hv_stream_check(const struct hv_domain *d)
{
    const char *device;
    char name[64];

    if (d->frozen || hv_stream_is_torn(d))
        return -EBUSY;
    device = hv_xenbus_unwritable(d, name);
    if (device) {
        hv_log(HV_LOG_WARNING, "%s: stream: device %s cannot be saved or sent", d->name, device);
        return -EOPNOTSUPP;
    }
    return d->nr_vcpus && atomic_load(&d->shutdown_code) < 0 ? 0 : -EINVAL;
}

void hv_stream_freeze(struct hv_stream *s)
{
    struct hv_domain *d = s->domain;

    s->froze = true;
    s->frozen_at_ns = hv_loop_now();
    s->status.phase = DOMUS_STREAM_FROZEN;
    hv_domain_pause(d);
    d->frozen = true;
    hv_store_ring_freeze(d);
    hv_xenbus_freeze(d);
    hv_sched_freeze(d);
}

bool hv_stream_stands_still(struct hv_stream *s)
{
    uint64_t now = hv_loop_now();

    if (hv_xenbus_is_idle(s->domain))
        return true;
    if (now - s->frozen_at_ns < REST_NS)
        hv_stream_at(s, now + LOOK_NS);
    else
        hv_stream_fail(s, ETIMEDOUT, "what the guest's disks are doing does not end");
    return false;
}

static void go_on(struct hv_domain *d)
{
    d->frozen = false;
    hv_sched_thaw(d);
    hv_store_ring_thaw(d); /* asks for a connection, where there is none */
    hv_xenbus_thaw(d);
    if (d->console)
        hv_console_thaw(d->console);
}

void hv_stream_thaw(struct hv_stream *s)
{
    if (!s->froze)
        return;
    s->froze = false;
    go_on(s->domain);
    hv_domain_unpause(s->domain);
}

int hv_stream_start(struct hv_domain *d)
{
    const char *missing;
    char name[64];

    if (!d->frozen)
        return 0;
    if (hv_stream_is_foreign(d))
        return -EACCES;
    if (hv_stream_is_torn(d) && d->stream->status.phase != DOMUS_STREAM_POSTCOPY)
        return -EIO; /* a part of its memory is lost */
    missing = hv_xenbus_missing(d, name);
    if (missing) {
        hv_log_guest(d, HV_LOG_ERROR, "device %s, which the guest had, was not attached", missing);
        return -ENODEV;
    }
    go_on(d);
    return 0;
}
