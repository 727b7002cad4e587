/* Event channels in a stream. */
#include "config.h"

#include <errno.h>

#include "hv/hypercall/evtchn-core.h"
#include "hv/stream/codec.h"

struct table_state {
    uint32_t max_port, nr_channels;
    bool fifo;
};

static const struct hv_field table_fields[] = {
    HV_FIELD_MAX(1, struct table_state, max_port, EVTCHN_FIFO_NR_CHANNELS - 1),
    HV_FIELD_MAX(2, struct table_state, nr_channels, EVTCHN_FIFO_NR_CHANNELS),
    HV_FIELD_BOOL(3, struct table_state, fifo),
};

static const struct hv_field channel_fields[] = {
    HV_FIELD_MAX(1, struct hv_channel, state, HV_CHANNEL_IPI),
    HV_FIELD_MAX(2, struct hv_channel, priority, EVTCHN_FIFO_MAX_QUEUES - 1),
    HV_FIELD_MAX(3, struct hv_channel, virq, NR_VIRQS - 1),
    HV_FIELD_BOOL(4, struct hv_channel, pending),
    HV_FIELD_MAX(5, struct hv_channel, vcpu, HV_MAX_VCPUS - 1),
    HV_FIELD_MAX(6, struct hv_channel, last_vcpu, HV_MAX_VCPUS - 1),
    HV_FIELD_MAX(7, struct hv_channel, last_priority, EVTCHN_FIFO_MAX_QUEUES - 1),
    HV_FIELD(8, struct hv_channel, remote_domid),
    HV_FIELD(9, struct hv_channel, remote_port),
};

/* One that was in use may still be on a queue. */
static bool matters(const struct hv_channel *channel)
{
    return channel->state != HV_CHANNEL_FREE || channel->last_vcpu || channel->last_priority;
}

/* Calls for each channel that matters: its port, then its fields; without @e, counts only. */
static uint32_t encode_channels(const struct hv_evtchn *table, struct hv_encoder *e)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < HV_CHANNEL_CHUNKS * HV_CHANNELS_PER_CHUNK; i++) {
        const struct hv_channel *chunk = table->chunks[i / HV_CHANNELS_PER_CHUNK];
        const struct hv_channel *channel = chunk ? &chunk[i % HV_CHANNELS_PER_CHUNK] : NULL;

        if (!channel || !matters(channel))
            continue;
        count++;
        if (!e)
            continue;
        hv_encode_u32(e, i);
        hv_encode_fields(e, channel_fields, HV_ARRAY_LEN(channel_fields), channel);
    }
    return count;
}

void hv_evtchn_encode(struct hv_domain *d, struct hv_encoder *e)
{
    struct hv_evtchn *table = d->evtchn;
    struct table_state state;

    pthread_mutex_lock(&table->lock);
    state = (struct table_state){table->max_port, encode_channels(table, NULL), table->fifo != NULL};
    hv_encode_fields(e, table_fields, HV_ARRAY_LEN(table_fields), &state);
    encode_channels(table, e);
    if (table->fifo)
        hv_fifo_encode(table->fifo, e);
    pthread_mutex_unlock(&table->lock);
}

/* Backends bind their ends again. */
static int settle(struct hv_domain *d, struct hv_channel *channel, uint32_t port, struct hv_decoder *dec)
{
    struct hv_evtchn *table = d->evtchn;

    channel->notify = NULL;
    if (channel->vcpu >= d->nr_vcpus || channel->last_vcpu >= d->nr_vcpus)
        return hv_decode_fail(dec, "port %u belongs to vCPU %u, which there is not", port, channel->vcpu);
    if (channel->state == HV_CHANNEL_BACKEND) {
        channel->state = HV_CHANNEL_UNBOUND;
        channel->remote_domid = 0;
    }
    if (channel->state == HV_CHANNEL_VIRQ)
        table->virq_port[channel->vcpu][channel->virq] = port;
    return 0;
}

static int decode_channels(struct hv_domain *d, struct hv_decoder *dec, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct hv_channel *channel;
        uint32_t port;
        int error = hv_decode_u32(dec, &port);

        if (error)
            return error;
        channel = hv_evtchn_make_slot_locked(d->evtchn, port);
        if (!channel)
            return hv_decode_fail(dec, "there is no port %u", port);
        error = hv_decode_fields(dec, channel_fields, HV_ARRAY_LEN(channel_fields), channel);
        if (!error)
            error = settle(d, channel, port, dec);
        if (error)
            return error;
    }
    return 0;
}

static int decode_locked(struct hv_domain *d, struct hv_decoder *dec)
{
    struct table_state state;
    int error = hv_decode_fields(dec, table_fields, HV_ARRAY_LEN(table_fields), &state);

    if (error)
        return error;
    d->evtchn->max_port = state.max_port;
    d->evtchn->abi = state.fifo ? &hv_evtchn_fifo : &hv_evtchn_2l;
    error = decode_channels(d, dec, state.nr_channels);
    return error || !state.fifo ? error : hv_fifo_decode(d, dec);
}

int hv_evtchn_decode(struct hv_domain *d, struct hv_decoder *dec)
{
    int error;

    pthread_mutex_lock(&d->evtchn->lock);
    error = decode_locked(d, dec);
    if (!d->evtchn->fifo)
        d->evtchn->abi = &hv_evtchn_2l;
    pthread_mutex_unlock(&d->evtchn->lock);
    return error;
}

void hv_evtchn_mark_own(struct hv_domain *d)
{
    pthread_mutex_lock(&d->evtchn->lock);
    hv_fifo_mark_own(d);
    pthread_mutex_unlock(&d->evtchn->lock);
}
