/* What the guest transmits: from its ring to the port.
 *
 * A packet is one request, optional extra slots, and further requests of a fragment each; the first tells the size
 * of all. Requests are answered when the port has the packet, so one that the port does not take stays in the ring.
 * Fragments are not copied for a tap, the head of the frame is: what was checked in it is what is sent.
 */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "hv/backend/net/queue.h"
#include "hv/backend/net/ring.h"
#include "hv/hypercall/grant.h"

#define BATCH       64u /* packets before others have their turn */
#define SLOTS_MAX   XEN_NETIF_NR_SLOTS_MIN /* requests of a packet that is sent */
#define SLOTS_FATAL 20u /* longer chains end the connection; between the two a packet is dropped */
#define EXTRAS_MAX  (XEN_NETIF_EXTRA_TYPE_MAX - 1u)

/* One packet, copied out of the ring. */
struct packet {
    struct netif_tx_request request[SLOTS_FATAL];
    unsigned nr_requests, nr_extras;
    size_t bytes;
    bool malformed; /* it ends somewhere, but cannot be sent */
    struct netif_extra_info gso;
    bool has_gso;
};

/* Its memory while it is sent: iov[0] is the port's, iov[1] the copied head. */
struct mapped {
    struct hv_grant grants[SLOTS_MAX];
    unsigned nr_grants;
    struct iovec iov[SLOTS_MAX + 2];
    unsigned nr_iov;
    uint8_t head[HV_NET_HEAD_MAX];
    size_t head_bytes;
};

/* ------------------------------------------------------------------ requests */

static void read_slot(struct hv_net_queue *q, uint32_t index, void *out, size_t bytes)
{
    memcpy(out, (const void *)&q->config.tx->ring[index & (HV_NET_RING_SLOTS - 1)], bytes);
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* the copy is what is looked at */
}

/* The extra slots after a first request. False when the chain is broken. */
static bool read_extras(struct hv_net_queue *q, uint32_t *at, uint32_t prod, struct packet *p)
{
    struct netif_extra_info extra;

    do {
        if (*at == prod || p->nr_extras == EXTRAS_MAX)
            return false;
        read_slot(q, (*at)++, &extra, sizeof(extra));
        p->nr_extras++;
        if (extra.type == XEN_NETIF_EXTRA_TYPE_GSO && !p->has_gso) {
            p->gso = extra;
            p->has_gso = true;
        } else if (extra.type != XEN_NETIF_EXTRA_TYPE_HASH) {
            p->malformed = true; /* multicast control and what comes later were not offered */
        }
    } while (extra.flags & XEN_NETIF_EXTRA_FLAG_MORE);
    return true;
}

/* The further requests of a packet. False when the chain is broken. */
static bool read_fragments(struct hv_net_queue *q, uint32_t at, uint32_t prod, struct packet *p)
{
    size_t others = 0;

    while (p->request[p->nr_requests - 1].flags & NETTXF_more_data) {
        if (at == prod || p->nr_requests == SLOTS_FATAL)
            return false;
        read_slot(q, at++, &p->request[p->nr_requests], sizeof(p->request[0]));
        others += p->request[p->nr_requests++].size;
    }
    if (others > p->bytes || p->nr_requests > SLOTS_MAX)
        p->malformed = true;
    else
        p->request[0].size = (uint16_t)(p->bytes - others);
    return true;
}

static bool read_packet(struct hv_net_queue *q, uint32_t prod, struct packet *p)
{
    uint32_t at = q->tx_cons;

    p->nr_requests = 1;
    p->nr_extras = 0;
    p->has_gso = p->malformed = false;
    read_slot(q, at++, &p->request[0], sizeof(p->request[0]));
    p->bytes = p->request[0].size;
    if ((p->request[0].flags & NETTXF_extra_info) && !read_extras(q, &at, prod, p))
        return false;
    if (!read_fragments(q, at, prod, p))
        return false;
    if (p->bytes < HV_NET_FRAME_MIN)
        p->malformed = true;
    return true;
}

/* Answers all slots of a packet, which are free for the guest with this. */
static void respond(struct hv_net_queue *q, const struct packet *p, int16_t status)
{
    struct netif_tx_sring *ring = q->config.tx;

    for (unsigned i = 0; i < p->nr_requests; i++) {
        struct netif_tx_response *rsp = &ring->ring[q->tx_cons++ & (HV_NET_RING_SLOTS - 1)].rsp;

        rsp->id = p->request[i].id;
        rsp->status = status;
        for (unsigned extra = 0; i == 0 && extra < p->nr_extras; extra++)
            ring->ring[q->tx_cons++ & (HV_NET_RING_SLOTS - 1)].rsp.status = NETIF_RSP_NULL;
    }
}

/* ------------------------------------------------------------------ memory */

static bool map_fragment(struct hv_net_queue *q, const struct netif_tx_request *request, struct mapped *m)
{
    struct hv_domain *d = q->config.domain;
    struct hv_grant *grant = &m->grants[m->nr_grants];
    hv_gpa gpa;
    void *memory;

    if (request->offset > HV_PAGE_SIZE || request->size > HV_PAGE_SIZE - request->offset)
        return false;
    if (request->size == 0)
        return true;
    if (hv_gnttab_get(d, HV_NET_BACKEND, request->gref, false, grant))
        return false;
    m->nr_grants++;
    if (request->offset < grant->offset || request->offset - grant->offset > grant->length ||
        request->size > grant->length - (request->offset - grant->offset))
        return false;
    gpa = hv_gfn_to_gpa(grant->gfn);
    gpa.v += request->offset;
    memory = hv_memory_at(&d->mem, gpa, request->size, false);
    if (memory)
        m->iov[m->nr_iov++] = (struct iovec){memory, request->size};
    return memory;
}

static void unmap(struct hv_net_queue *q, struct mapped *m)
{
    while (m->nr_grants)
        hv_gnttab_put(q->config.domain, &m->grants[--m->nr_grants]);
}

/* Moves the first bytes of the frame from the guest's memory to m->head. */
static void copy_head(struct mapped *m)
{
    for (unsigned i = 2; i < m->nr_iov && m->head_bytes < HV_NET_HEAD_MAX; i++) {
        struct iovec *part = &m->iov[i];
        size_t room = HV_NET_HEAD_MAX - m->head_bytes, bytes = part->iov_len < room ? part->iov_len : room;

        memcpy(m->head + m->head_bytes, part->iov_base, bytes);
        m->head_bytes += bytes;
        part->iov_base = (uint8_t *)part->iov_base + bytes;
        part->iov_len -= bytes;
    }
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    m->iov[1] = (struct iovec){m->head, m->head_bytes};
}

static bool map(struct hv_net_queue *q, const struct packet *p, struct mapped *m)
{
    m->nr_grants = 0;
    m->nr_iov = 2;
    m->head_bytes = 0;
    for (unsigned i = 0; i < p->nr_requests; i++)
        if (!map_fragment(q, &p->request[i], m))
            return false;
    copy_head(m);
    return true;
}

/* ------------------------------------------------------------------ offloads */

static bool describe_gso(const struct packet *p, const struct hv_net_headers *headers, struct mapped *m,
                         struct virtio_net_hdr *out)
{
    bool ipv6 = p->gso.u.gso.type == XEN_NETIF_GSO_TYPE_TCPV6;

    if (!ipv6 && p->gso.u.gso.type != XEN_NETIF_GSO_TYPE_TCPV4)
        return false;
    if (!headers->tcp || headers->ipv6 != ipv6 || p->gso.u.gso.size == 0)
        return false;
    out->gso_type = ipv6 ? VIRTIO_NET_HDR_GSO_TCPV6 : VIRTIO_NET_HDR_GSO_TCPV4;
    if (m->head[headers->l4 + 13] & 0x80) /* CWR */
        out->gso_type |= VIRTIO_NET_HDR_GSO_ECN;
    out->gso_size = p->gso.u.gso.size;
    out->hdr_len = headers->payload;
    if (!(p->request[0].flags & NETTXF_csum_blank)) /* a segment's sum cannot be made from a finished one */
        hv_net_put_pseudo_sum(m->head, headers, (uint32_t)(p->bytes - headers->l4));
    return true;
}

/* False when the flags ask for what the headers do not allow. */
static bool describe(const struct hv_net_queue *q, const struct packet *p, struct mapped *m,
                     struct virtio_net_hdr *out)
{
    struct hv_net_headers headers;

    memset(out, 0, sizeof(*out));
    if (!(p->request[0].flags & NETTXF_csum_blank) && !p->has_gso)
        return true;
    if (!hv_net_parse(m->head, m->head_bytes, &headers))
        return false;
    out->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    out->csum_start = headers.l4;
    out->csum_offset = headers.checksum;
    if (!p->has_gso)
        return true;
    return hv_net_port_has_segmentation(q->config.port) && describe_gso(p, &headers, m, out);
}

/* ------------------------------------------------------------------ rate */

/* Whether a packet may go now; else the timer is armed for when it may. */
static bool may_go(struct hv_net_queue *q)
{
    uint64_t due = hv_net_limit_due_ns(q->config.tx_limit);

    if (!due || due <= hv_loop_now())
        return true;
    hv_loop_arm(q->tx_timer, due);
    return false;
}

/* ------------------------------------------------------------------ sending */

/* 1: sent, 0: not now, or negative: why it is not sent. */
static int send_packet(struct hv_net_queue *q, const struct packet *p)
{
    struct virtio_net_hdr header;
    struct mapped m;
    int result = -EINVAL;

    if (p->malformed)
        return -EINVAL;
    if (!atomic_load_explicit(q->config.link_up, memory_order_relaxed))
        return -ENETDOWN;
    if (map(q, p, &m) && describe(q, p, &m, &header))
        result = hv_net_port_send(q->config.port, &header, m.iov, m.nr_iov, p->bytes);
    unmap(q, &m);
    return result;
}

/* Disposes of the packet at the head of the ring; false when it has to wait there. */
static bool dispose(struct hv_net_queue *q, const struct packet *p)
{
    struct hv_net_counters *c = q->config.tx_counters;
    int result;

    if (!may_go(q))
        return false;
    result = send_packet(q, p);
    if (result == 0) {
        q->tx_blocked = true;
        return false;
    }
    if (result > 0)
        hv_net_limit_pass(q->config.tx_limit, p->bytes);
    if (result > 0) {
        hv_net_count(&c->packets, 1);
        hv_net_count(&c->bytes, p->bytes);
        respond(q, p, NETIF_RSP_OKAY);
    } else {
        hv_net_count(result == -EINVAL ? &c->errors : &c->dropped, 1);
        respond(q, p, result == -EINVAL ? NETIF_RSP_ERROR : NETIF_RSP_DROPPED);
    }
    return true;
}

/* Up to a batch of packets below @prod. True when one had to wait. */
static bool take_requests(struct hv_net_queue *q, uint32_t prod, unsigned *budget)
{
    struct packet p;

    while (q->tx_cons != prod && *budget) {
        if (!read_packet(q, prod, &p)) {
            hv_net_queue_break(q, "a transmit request without end");
            return true;
        }
        if (!dispose(q, &p))
            return true;
        --*budget;
    }
    return false;
}

bool hv_net_tx_run(struct hv_net_queue *q)
{
    struct netif_tx_sring *ring = q->config.tx;
    uint32_t from = q->tx_cons, prod;
    unsigned budget = BATCH;
    bool waits = false;

    q->tx_blocked = false;
    for (;;) {
        prod = HV_RING_REQUESTS(ring);
        if (prod - q->tx_cons > HV_NET_RING_SLOTS) {
            hv_net_queue_break(q, "more transmit requests than the ring holds");
            break;
        }
        waits = take_requests(q, prod, &budget);
        if (waits || !budget)
            break;
        HV_RING_WANT_EVENT(ring, q->tx_cons + 1);
        if (HV_RING_REQUESTS(ring) == q->tx_cons)
            break;
    }
    if (q->tx_cons != from && HV_RING_PUBLISH(ring, from, q->tx_cons))
        q->config.notify(q->config.opaque);
    return !waits && !budget;
}
