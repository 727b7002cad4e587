/* What the guest receives: from the port into pages that it granted.
 *
 * A frame is read first, so that its size is known, and takes as many requests as it needs: a page each, and one
 * more for the extra slot of a segmented packet. While the guest has not posted enough, the frame is parked and the
 * port is not read, so the host's queue holds what comes next. A guest that posts nothing for long is stalled:
 * its frames are dropped, since somebody's socket buffers are tied up in them.
 */
#include "config.h"

#include <string.h>

#include "hv/backend/net/queue.h"
#include "hv/backend/net/ring.h"
#include "hv/hypercall/grant.h"

#define BATCH    64u
#define STALL_NS 10000000000u /* as long as Linux's backend waits */

/* ------------------------------------------------------------------ offloads */

/* The guest finds the checksum field by itself: that must be the one that is meant. */
static bool guest_finds_checksum(const struct hv_net_frame *frame)
{
    struct hv_net_headers headers;

    return hv_net_parse(frame->data, frame->bytes, &headers) && headers.l4 == frame->header.csum_start &&
           headers.checksum == frame->header.csum_offset;
}

static bool describe_checksum(const struct hv_net_queue *q, const struct hv_net_frame *frame,
                              struct hv_net_description *out)
{
    const struct virtio_net_hdr *header = &frame->header;

    if (header->flags & VIRTIO_NET_HDR_F_DATA_VALID)
        out->flags |= NETRXF_data_validated;
    if (!(header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
        return true;
    if (q->config.offloads.checksum && guest_finds_checksum(frame)) {
        out->flags |= NETRXF_csum_blank | NETRXF_data_validated;
        return true;
    }
    return header->gso_type == VIRTIO_NET_HDR_GSO_NONE &&
           hv_net_finish_checksum(frame->data, frame->bytes, header->csum_start, header->csum_offset);
}

static bool describe_gso(const struct hv_net_queue *q, const struct hv_net_frame *frame, struct hv_net_description *out)
{
    uint8_t type = frame->header.gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;

    if (type == VIRTIO_NET_HDR_GSO_NONE)
        return true;
    if (type == VIRTIO_NET_HDR_GSO_TCPV4 && q->config.offloads.tcp4)
        out->gso.u.gso.type = XEN_NETIF_GSO_TYPE_TCPV4;
    else if (type == VIRTIO_NET_HDR_GSO_TCPV6 && q->config.offloads.tcp6)
        out->gso.u.gso.type = XEN_NETIF_GSO_TYPE_TCPV6;
    else
        return false;
    out->has_gso = true;
    out->flags |= NETRXF_extra_info;
    out->gso.type = XEN_NETIF_EXTRA_TYPE_GSO;
    out->gso.u.gso.size = frame->header.gso_size;
    return frame->header.gso_size != 0;
}

/* False when the frame is not one that this guest can take. */
static bool describe(const struct hv_net_queue *q, const struct hv_net_frame *frame, struct hv_net_description *out)
{
    memset(out, 0, sizeof(*out));
    if (frame->bytes < HV_NET_FRAME_MIN || (!q->config.scatter_gather && frame->bytes > HV_PAGE_SIZE))
        return false;
    return describe_checksum(q, frame, out) && describe_gso(q, frame, out);
}

/* ------------------------------------------------------------------ giving */

static unsigned slots_for(const struct hv_net_queue *q)
{
    unsigned pages = (unsigned)((q->frame.bytes + HV_PAGE_SIZE - 1) / HV_PAGE_SIZE);

    return pages + (q->description.has_gso ? 1 : 0);
}

/* Copies to the start of a granted page. A NETIF_RSP_*, or @bytes. */
static int16_t fill_page(struct hv_net_queue *q, grant_ref_t gref, const uint8_t *data, size_t bytes)
{
    struct hv_domain *d = q->config.domain;
    struct hv_grant grant;
    int error;

    if (hv_gnttab_get(d, HV_NET_BACKEND, gref, true, &grant))
        return NETIF_RSP_ERROR;
    error = grant.offset != 0 || grant.length < bytes;
    if (!error)
        error = hv_memory_write(&d->mem, hv_gfn_to_gpa(grant.gfn), data, bytes);
    hv_gnttab_put(d, &grant);
    return error ? NETIF_RSP_ERROR : (int16_t)bytes;
}

/* Answers the next request, whose page gets @bytes. Its response has to be in the request's own slot. */
static bool give_part(struct hv_net_queue *q, const uint8_t *data, size_t bytes, uint16_t flags)
{
    union netif_rx_sring_entry *slot = &q->config.rx->ring[q->rx_cons++ & (HV_NET_RING_SLOTS - 1)];
    struct netif_rx_request request;
    struct netif_rx_response response = {.flags = flags};

    memcpy(&request, (const void *)&slot->req, sizeof(request));
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    response.id = request.id;
    response.status = fill_page(q, request.gref, data, bytes);
    slot->rsp = response;
    return response.status >= 0;
}

static void give_extra(struct hv_net_queue *q, const struct netif_extra_info *extra)
{
    void *slot = &q->config.rx->ring[q->rx_cons++ & (HV_NET_RING_SLOTS - 1)];

    memcpy(slot, extra, sizeof(*extra));
}

/* There are as many requests as the frame needs. */
static bool give(struct hv_net_queue *q, const struct hv_net_frame *frame, const struct hv_net_description *what)
{
    bool ok = true;

    for (size_t at = 0; at < frame->bytes; at += HV_PAGE_SIZE) {
        size_t left = frame->bytes - at, bytes = left < HV_PAGE_SIZE ? left : HV_PAGE_SIZE;
        uint16_t flags = at == 0 ? what->flags : 0;

        if (bytes < left)
            flags |= NETRXF_more_data;
        ok &= give_part(q, frame->data + at, bytes, flags);
        if (at == 0 && what->has_gso)
            give_extra(q, &what->gso);
    }
    return ok;
}

static void deliver(struct hv_net_queue *q)
{
    struct hv_net_counters *c = q->config.rx_counters;

    if (!give(q, &q->frame, &q->description)) {
        hv_net_count(&c->errors, 1);
        return;
    }
    hv_net_count(&c->packets, 1);
    hv_net_count(&c->bytes, q->frame.bytes);
}

/* ------------------------------------------------------------------ room */

/* Whether there are @slots requests; if not, the guest is asked to tell when there are more. */
static bool has_room(struct hv_net_queue *q, unsigned slots)
{
    struct netif_rx_sring *ring = q->config.rx;

    for (unsigned tries = 0; tries < 2; tries++) {
        uint32_t prod = HV_RING_REQUESTS(ring);

        if (prod - q->rx_cons > HV_NET_RING_SLOTS) {
            hv_net_queue_break(q, "more receive requests than the ring holds");
            return false;
        }
        if (prod - q->rx_cons >= slots)
            return true;
        HV_RING_WANT_EVENT(ring, prod + 1);
    }
    return false;
}

static void park(struct hv_net_queue *q)
{
    if (q->parked || q->stalled)
        return;
    q->parked = true;
    hv_loop_arm(q->stall_timer, hv_loop_now() + STALL_NS);
}

/* The frame in hand has room, or nobody waits for it any more. False: it stays in hand. */
static bool place(struct hv_net_queue *q)
{
    if (!atomic_load_explicit(q->config.link_up, memory_order_relaxed)) {
        hv_net_count(&q->config.rx_counters->dropped, 1);
        return true;
    }
    if (has_room(q, slots_for(q))) {
        if (q->parked)
            hv_loop_arm(q->stall_timer, 0);
        q->parked = q->stalled = false;
        deliver(q);
        return true;
    }
    if (q->stalled)
        hv_net_count(&q->config.rx_counters->dropped, 1);
    else
        park(q);
    return q->stalled;
}

/* Whether the next frame has to wait for its limit; the host's queue holds it, and in the end drops what is too much. */
static bool is_held(struct hv_net_queue *q)
{
    uint64_t due = hv_net_limit_due_ns(q->config.rx_limit);

    q->rx_held = due && due > hv_loop_now();
    if (q->rx_held)
        hv_loop_arm(q->rx_timer, due);
    return q->rx_held;
}

/* Up to a batch of frames. True when there may be more. */
static bool take_frames(struct hv_net_queue *q)
{
    for (unsigned i = 0; i < BATCH && !q->broken; i++) {
        int result;

        if (q->parked) {
            if (!place(q))
                return false;
            q->parked = false;
            continue;
        }
        if (is_held(q))
            return false;
        result = hv_net_port_receive(q->config.port, &q->frame);
        if (result < 0) {
            q->port_lost = true;
            hv_log(HV_LOG_WARNING, "%s: a network interface lost its connection to the host: %s",
                   q->config.domain->name, strerror(-result));
            q->config.lost(q->config.opaque);
        }
        if (result <= 0)
            return false;
        hv_net_limit_pass(q->config.rx_limit, q->frame.bytes);
        if (!describe(q, &q->frame, &q->description))
            hv_net_count(&q->config.rx_counters->dropped, 1);
        else if (!place(q))
            return false;
    }
    return !q->broken;
}

bool hv_net_rx_run(struct hv_net_queue *q)
{
    uint32_t from = q->rx_cons;
    bool more = !q->port_lost && take_frames(q);

    if (q->rx_cons != from && HV_RING_PUBLISH(q->config.rx, from, q->rx_cons))
        q->config.notify(q->config.opaque);
    return more;
}
