/* Event channels: ports and their far ends.
 *
 * A port is a struct hv_channel. What it is connected to says its state; how the guest learns that it is
 * pending says the ABI that the guest chose (struct hv_evtchn_abi). One lock covers all of it, so a
 * notification and the closing of its port do not overlap.
 * Source: xen/event_channel.h.
 */
#include "config.h"

#include "hv/hypercall/evtchn-core.h"

#include <errno.h>
#include <stdlib.h>

#include "hv/hypercall/vcpu-xen.h"

/* What Xen's toolstack gives a domain that asks for nothing special. */
#define DEFAULT_MAX_PORT 1023u

int hv_evtchn_init(struct hv_domain *d)
{
    struct hv_evtchn *e = calloc(1, sizeof(*e));

    if (!e)
        return -ENOMEM;
    pthread_mutex_init(&e->lock, NULL);
    e->abi = &hv_evtchn_2l;
    e->max_port = DEFAULT_MAX_PORT;
    d->evtchn = e;
    return 0;
}

void hv_evtchn_fini(struct hv_domain *d)
{
    struct hv_evtchn *e = d->evtchn;

    if (!e)
        return;
    hv_fifo_free(e);
    for (unsigned i = 0; i < HV_CHANNEL_CHUNKS; i++)
        free(e->chunks[i]);
    pthread_mutex_destroy(&e->lock);
    free(e);
    d->evtchn = NULL;
}

void hv_evtchn_set_max_port(struct hv_domain *d, uint32_t port)
{
    d->evtchn->max_port = port < EVTCHN_FIFO_NR_CHANNELS ? port : EVTCHN_FIFO_NR_CHANNELS - 1;
}

static uint32_t nr_ports(const struct hv_evtchn *e)
{
    return e->max_port < e->abi->nr_ports ? e->max_port + 1 : e->abi->nr_ports;
}

/* The slot of @port, in use or not; NULL where none was allocated yet. */
static struct hv_channel *slot(struct hv_evtchn *e, uint32_t port)
{
    struct hv_channel *chunk;

    if (port == 0 || port >= nr_ports(e))
        return NULL;
    chunk = e->chunks[port / HV_CHANNELS_PER_CHUNK];
    return chunk ? &chunk[port % HV_CHANNELS_PER_CHUNK] : NULL;
}

struct hv_channel *hv_evtchn_find_locked(struct hv_evtchn *e, uint32_t port)
{
    struct hv_channel *channel = slot(e, port);

    return channel && channel->state != HV_CHANNEL_FREE ? channel : NULL;
}

static int make_chunk(struct hv_evtchn *e, uint32_t port)
{
    struct hv_channel **chunk = &e->chunks[port / HV_CHANNELS_PER_CHUNK];

    if (!*chunk)
        *chunk = calloc(HV_CHANNELS_PER_CHUNK, sizeof(**chunk));
    return *chunk ? 0 : -XEN_ENOMEM;
}

struct hv_channel *hv_evtchn_make_slot_locked(struct hv_evtchn *e, uint32_t port)
{
    if (port == 0 || port >= nr_ports(e) || make_chunk(e, port))
        return NULL;
    return slot(e, port);
}

int hv_evtchn_alloc_locked(struct hv_evtchn *e, enum hv_channel_state state, unsigned vcpu, uint32_t *port)
{
    for (uint32_t i = 1; i < nr_ports(e); i++) {
        struct hv_channel *channel;

        if (make_chunk(e, i))
            return -XEN_ENOMEM;
        channel = slot(e, i);
        if (channel->state != HV_CHANNEL_FREE)
            continue;
        channel->state = (uint8_t)state;
        channel->vcpu = (uint16_t)vcpu;
        channel->priority = EVTCHN_FIFO_PRIORITY_DEFAULT;
        *port = i;
        return 0;
    }
    return -XEN_ENOSPC;
}

/* The other end of a loopback channel waits for somebody new, as when a remote domain closes its end. */
static void release_far_end(struct hv_evtchn *e, const struct hv_channel *channel)
{
    struct hv_channel *far = hv_evtchn_find_locked(e, channel->remote_port);

    if (far) {
        far->state = HV_CHANNEL_UNBOUND;
        far->remote_port = 0;
    }
}

void hv_evtchn_close_locked(struct hv_domain *d, struct hv_channel *channel, uint32_t port)
{
    if (channel->state == HV_CHANNEL_VIRQ)
        d->evtchn->virq_port[channel->vcpu][channel->virq] = 0;
    if (channel->state == HV_CHANNEL_LOOPBACK)
        release_far_end(d->evtchn, channel);
    d->evtchn->abi->clear_pending(d, channel, port);
    /* The guest may not have taken the event off its queue: the queue stays known. */
    *channel = (struct hv_channel){
        .last_vcpu = channel->last_vcpu,
        .last_priority = channel->last_priority,
        .priority = EVTCHN_FIFO_PRIORITY_DEFAULT,
    };
}

static void wake_pollers(struct hv_domain *d, uint32_t port)
{
    uint64_t polling = atomic_load(&d->evtchn->polling);

    for (unsigned i = 0; polling; i++, polling >>= 1)
        if (polling & 1)
            hv_vcpu_xen_poll_event(d->vcpus[i], port);
}

void hv_evtchn_raise_locked(struct hv_domain *d, struct hv_channel *channel, uint32_t port)
{
    d->evtchn->abi->set_pending(d, channel, port);
    wake_pollers(d, port);
}

static void raise_far_end(struct hv_domain *d, const struct hv_channel *channel)
{
    struct hv_channel *far = hv_evtchn_find_locked(d->evtchn, channel->remote_port);

    if (far)
        hv_evtchn_raise_locked(d, far, channel->remote_port);
}

int hv_evtchn_send_locked(struct hv_domain *d, uint32_t port)
{
    struct hv_channel *channel = hv_evtchn_find_locked(d->evtchn, port);

    if (!channel)
        return -XEN_EINVAL;
    switch ((enum hv_channel_state)channel->state) {
    case HV_CHANNEL_BACKEND:
        channel->notify(channel->notify_opaque);
        return 0;
    case HV_CHANNEL_LOOPBACK:
        raise_far_end(d, channel);
        return 0;
    case HV_CHANNEL_IPI:
        hv_evtchn_raise_locked(d, channel, port);
        return 0;
    case HV_CHANNEL_UNBOUND: /* nobody is there to hear it */
        return 0;
    case HV_CHANNEL_FREE:
    case HV_CHANNEL_VIRQ:
        break;
    }
    return -XEN_EINVAL;
}

int hv_evtchn_alloc_unbound(struct hv_domain *d, hv_evtchn_port *port)
{
    int error;

    pthread_mutex_lock(&d->evtchn->lock);
    error = hv_evtchn_alloc_locked(d->evtchn, HV_CHANNEL_UNBOUND, 0, port); /* remote_domid is 0 */
    pthread_mutex_unlock(&d->evtchn->lock);
    return error;
}

int hv_evtchn_backend_bind(struct hv_domain *d, hv_evtchn_port port, hv_evtchn_notify_fn *fn, void *opaque)
{
    struct hv_evtchn *e = d->evtchn;
    struct hv_channel *channel;
    int error = -EINVAL;

    pthread_mutex_lock(&e->lock);
    channel = hv_evtchn_find_locked(e, port);
    if (channel && channel->state == HV_CHANNEL_UNBOUND && channel->remote_domid == 0) {
        channel->state = HV_CHANNEL_BACKEND;
        channel->notify = fn;
        channel->notify_opaque = opaque;
        error = 0;
        /* The far end looks at its ring once: what it wrote before the binding was not told. */
        fn(opaque);
    }
    pthread_mutex_unlock(&e->lock);
    return error;
}

void hv_evtchn_backend_unbind(struct hv_domain *d, hv_evtchn_port port)
{
    struct hv_evtchn *e = d->evtchn;
    struct hv_channel *channel;

    pthread_mutex_lock(&e->lock);
    channel = hv_evtchn_find_locked(e, port);
    if (channel && channel->state == HV_CHANNEL_BACKEND) {
        channel->state = HV_CHANNEL_UNBOUND;
        channel->notify = NULL;
    }
    pthread_mutex_unlock(&e->lock);
}

void hv_evtchn_backend_notify(struct hv_domain *d, hv_evtchn_port port)
{
    struct hv_channel *channel;

    pthread_mutex_lock(&d->evtchn->lock);
    channel = hv_evtchn_find_locked(d->evtchn, port);
    if (channel && channel->state == HV_CHANNEL_BACKEND)
        hv_evtchn_raise_locked(d, channel, port);
    pthread_mutex_unlock(&d->evtchn->lock);
}

void hv_evtchn_virq(struct hv_vcpu *v, unsigned virq)
{
    struct hv_domain *d = v->domain;
    struct hv_channel *channel;
    uint32_t port;

    if (virq >= NR_VIRQS)
        return;
    pthread_mutex_lock(&d->evtchn->lock);
    port = d->evtchn->virq_port[v->id][virq];
    channel = hv_evtchn_find_locked(d->evtchn, port);
    if (channel)
        hv_evtchn_raise_locked(d, channel, port);
    pthread_mutex_unlock(&d->evtchn->lock);
}

bool hv_evtchn_uses_gfn(struct hv_domain *d, hv_gfn gfn)
{
    bool uses;

    pthread_mutex_lock(&d->evtchn->lock);
    uses = hv_fifo_uses_gfn(d->evtchn->fifo, gfn);
    pthread_mutex_unlock(&d->evtchn->lock);
    return uses;
}
