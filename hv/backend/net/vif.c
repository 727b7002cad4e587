/* A network interface: the xenbus handshake of xen-netfront, and the queues that result from it.
 *
 * What the guest is offered depends on the ports, what the host may send on what the guest takes. Queues share nothing
 * but the link's state and the limits. Not offered, so refused: page flipping, the control ring (hashes), multicast control, split
 * event channels. Source: xen/io/netif.h.
 */
#include "config.h"

#include "hv/backend/net/vif.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/backend/net/queue.h"
#include "hv/backend/xenbus.h"
#include "hv/control/server.h"
#include "hv/hypercall/evtchn.h"
#include "hv/loop.h"
#include "hv/stream/codec.h"

#define MTU_DEFAULT 1500u
#define MTU_MIN     68u
#define MTU_MAX     65521u /* 64 KiB less Ethernet's header */
#define STALE_MAX   4096u  /* frames that the host queued before the guest was there */

/* What the frontend says about all of its queues. */
struct wishes {
    unsigned nr_queues;
    bool scatter_gather;
    struct hv_net_offloads offloads;
};

struct vif_queue {
    struct hv_vif *vif;
    struct hv_net_queue *queue; /* NULL: not connected */
    struct hv_grant_map tx, rx;
    hv_evtchn_port port;
    struct hv_net_counters tx_counters, rx_counters;
};

struct hv_vif {
    struct hv_xenbus_device dev;
    struct domus_vif config;
    struct hv_net_port ports[DOMUS_VIF_QUEUES_MAX]; /* config.queues of them */
    struct vif_queue queues[DOMUS_VIF_QUEUES_MAX];
    unsigned nr_queues; /* in use: 0 while not connected */
    struct wishes wishes; /* of the frontend that is connected */
    struct hv_loop_source *announce_timer; /* after a move to this host: says where the guest is now */
    unsigned announcements; /* that were made */
    _Atomic bool link_up;
    struct hv_net_limit tx_limit, rx_limit;
};

static struct hv_vif *vif_of(struct hv_xenbus_device *dev)
{
    return HV_CONTAINER_OF(dev, struct hv_vif, dev);
}

/* ------------------------------------------------------------------ what is offered */

static void publish(struct hv_xenbus_device *dev)
{
    struct hv_vif *vif = vif_of(dev);
    bool segments = hv_net_port_has_segmentation(&vif->ports[0]);
    const struct {
        const char *key;
        unsigned value;
    } rows[] = {
        {"feature-rx-copy", 1},
        {"feature-rx-flip", 0},
        {"feature-sg", 1},
        {"feature-gso-tcpv4", segments},
        {"feature-gso-tcpv6", segments},
        {"feature-ipv6-csum-offload", 1},
        {"feature-split-event-channels", 0},
        {"feature-multicast-control", 0},
        {"feature-ctrl-ring", 0},
        {"multi-queue-max-queues", vif->config.queues},
        {"mtu", vif->config.mtu},
        {"carrier", atomic_load(&vif->link_up)},
    };
    const uint8_t *mac = vif->config.mac;

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++)
        hv_xenbus_write(dev, rows[i].key, "%u", rows[i].value);
    hv_xenbus_write(dev, "mac", "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

/* ------------------------------------------------------------------ ports */

/* Host side on or off: only while a guest listens and the link is up does the host have a carrier. */
static void set_carrier(struct hv_vif *vif)
{
    for (unsigned i = 0; i < vif->config.queues; i++)
        hv_net_port_set_carrier(&vif->ports[i], vif->nr_queues && atomic_load(&vif->link_up));
}

/* What the host sent to whom was there before is not for this guest's driver. */
static void drop_stale(struct hv_net_port *port)
{
    struct hv_net_frame frame;

    for (unsigned i = 0; i < STALE_MAX; i++)
        if (hv_net_port_receive(port, &frame) <= 0)
            return;
}

/* The host spreads frames over the queues of a tap by itself: those without a ring must not take part. */
static int activate_ports(struct hv_vif *vif, unsigned nr_queues)
{
    for (unsigned i = 0; i < vif->config.queues && vif->config.queues > 1; i++) {
        int error = hv_net_port_set_active(&vif->ports[i], i < nr_queues);

        if (error && error != -EINVAL) /* EINVAL: it is so already */
            return error;
    }
    for (unsigned i = 0; i < nr_queues; i++)
        drop_stale(&vif->ports[i]);
    return 0;
}

/* ------------------------------------------------------------------ connecting */


static int refuse(struct hv_xenbus_device *dev, const char *why)
{
    hv_xenbus_fail(dev, "%s", why);
    return -EINVAL;
}

static int read_wishes(struct hv_vif *vif, struct wishes *out)
{
    struct hv_xenbus_device *dev = &vif->dev;
    uint64_t queues = 1;
    int error = hv_xenbus_number(dev, "multi-queue-num-queues", vif->config.queues, &queues);

    if ((error && error != -ENOENT) || queues == 0)
        return refuse(dev, "the frontend asks for a number of queues that it cannot have");
    if (!hv_xenbus_is_set(dev, "request-rx-copy"))
        return refuse(dev, "the frontend wants its pages flipped: only copying is supported");
    if (!hv_xenbus_is_set(dev, "feature-rx-notify"))
        return refuse(dev, "the frontend does not tell when it has posted pages: that is not supported");
    out->nr_queues = (unsigned)queues;
    out->scatter_gather = hv_xenbus_is_set(dev, "feature-sg");
    /* A tap leaves checksums open for both kinds of IP or for none. */
    out->offloads.checksum = !hv_xenbus_is_set(dev, "feature-no-csum-offload") && hv_xenbus_is_set(dev, "feature-ipv6-csum-offload");
    out->offloads.tcp4 = out->offloads.checksum && out->scatter_gather && hv_xenbus_is_set(dev, "feature-gso-tcpv4");
    out->offloads.tcp6 = out->offloads.checksum && out->scatter_gather && hv_xenbus_is_set(dev, "feature-gso-tcpv6");
    return 0;
}

static int queue_number(struct hv_vif *vif, unsigned nr_queues, unsigned i, const char *key, uint32_t *out)
{
    char name[48];
    uint64_t value;
    int error;

    if (nr_queues == 1)
        snprintf(name, sizeof(name), "%s", key);
    else
        snprintf(name, sizeof(name), "queue-%u/%s", i, key);
    error = hv_xenbus_number(&vif->dev, name, UINT32_MAX, &value);
    if (error)
        hv_xenbus_fail(&vif->dev, "the frontend's %s is %s", name, error == -ENOENT ? "missing" : "not a number");
    *out = (uint32_t)value;
    return error;
}

static void notify_guest(void *opaque)
{
    struct vif_queue *q = opaque;

    hv_evtchn_backend_notify(q->vif->dev.domain, q->port);
}

static void tell_port_lost(void *opaque)
{
    const struct vif_queue *q = opaque;
    const struct hv_xenbus_device *dev = &q->vif->dev;

    hv_control_notify(dev->domain, HV_EVENT_PORT_LOST, (uint64_t)DOMUS_DEVICE_VIF << 32 | dev->devid);
}

/* On the notifying vCPU's thread. */
static void guest_notified(void *opaque)
{
    struct vif_queue *q = opaque;

    hv_net_queue_kick(q->queue);
}

static void disconnect_queue(struct vif_queue *q)
{
    struct hv_domain *d = q->vif->dev.domain;

    if (q->port)
        hv_evtchn_backend_unbind(d, q->port);
    q->port = 0;
    hv_net_queue_free(q->queue);
    q->queue = NULL;
    hv_grant_unmap(d, &q->tx);
    hv_grant_unmap(d, &q->rx);
}

static int map_ring(struct hv_vif *vif, uint32_t ref, const char *what, struct hv_grant_map *out)
{
    int error = hv_grant_map(vif->dev.domain, ref, true, out);

    if (error)
        hv_xenbus_fail(&vif->dev, "the %s ring, grant %u: %s", what, ref, strerror(-error));
    return error;
}

static int start_queue(struct hv_vif *vif, const struct wishes *wishes, unsigned i)
{
    struct vif_queue *q = &vif->queues[i];
    struct hv_net_queue_config config = {
        .domain = vif->dev.domain,
        .loop = vif->dev.domain->loop,
        .port = &vif->ports[i],
        .tx = (struct netif_tx_sring *)q->tx.page,
        .rx = (struct netif_rx_sring *)q->rx.page,
        .notify = notify_guest,
        .lost = tell_port_lost,
        .opaque = q,
        .offloads = wishes->offloads,
        .scatter_gather = wishes->scatter_gather,
        .tx_limit = &vif->tx_limit,
        .rx_limit = &vif->rx_limit,
        .link_up = &vif->link_up,
        .tx_counters = &q->tx_counters,
        .rx_counters = &q->rx_counters,
    };
    int error = hv_net_port_set_offloads(&vif->ports[i], &wishes->offloads);

    if (!error)
        error = hv_net_queue_new(&config, &q->queue);
    if (error)
        hv_xenbus_fail(&vif->dev, "queue %u: %s", i, strerror(-error));
    return error;
}

static int connect_rings(struct hv_vif *vif, const struct wishes *wishes, unsigned i, uint32_t tx, uint32_t rx,
                         uint32_t port)
{
    struct vif_queue *q = &vif->queues[i];
    int error = map_ring(vif, tx, "transmit", &q->tx);

    if (!error)
        error = map_ring(vif, rx, "receive", &q->rx);
    if (!error)
        error = start_queue(vif, wishes, i);
    if (error)
        return error;
    error = hv_evtchn_backend_bind(vif->dev.domain, port, guest_notified, q);
    if (error)
        hv_xenbus_fail(&vif->dev, "event channel %u: %s", port, strerror(-error));
    else
        q->port = port;
    return error;
}

static int connect_queue(struct hv_vif *vif, const struct wishes *wishes, unsigned i)
{
    uint32_t tx, rx, port;
    int error = queue_number(vif, wishes->nr_queues, i, "tx-ring-ref", &tx);

    if (!error)
        error = queue_number(vif, wishes->nr_queues, i, "rx-ring-ref", &rx);
    if (!error)
        error = queue_number(vif, wishes->nr_queues, i, "event-channel", &port);
    return error ? error : connect_rings(vif, wishes, i, tx, rx, port);
}

static void disconnect_queues(struct hv_vif *vif)
{
    vif->nr_queues = 0;
    set_carrier(vif);
    for (unsigned i = 0; i < vif->config.queues; i++)
        disconnect_queue(&vif->queues[i]);
}

static int connect_vif(struct hv_xenbus_device *dev)
{
    struct hv_vif *vif = vif_of(dev);
    struct wishes wishes;
    int error = read_wishes(vif, &wishes);

    if (error)
        return error;
    error = activate_ports(vif, wishes.nr_queues);
    if (error)
        hv_xenbus_fail(dev, "queues of the tap: %s", strerror(-error));
    for (unsigned i = 0; !error && i < wishes.nr_queues; i++)
        error = connect_queue(vif, &wishes, i);
    if (error) {
        disconnect_queues(vif);
        return error;
    }
    vif->nr_queues = wishes.nr_queues;
    vif->wishes = wishes;
    set_carrier(vif);
    return 0;
}

/* ------------------------------------------------------------------ announcing */

#define ANNOUNCEMENTS   5u
#define ANNOUNCE_NS     50000000ull /* to the first one; each further one comes later by so much more */
#define ANNOUNCE_BYTES  60u

/* A RARP request for itself, in the guest's name: switches between here and where it was learn the new way, and nobody
 * answers. Source: RFC 903. */
static void make_announcement(const uint8_t mac[6], uint8_t frame[ANNOUNCE_BYTES])
{
    static const uint8_t rarp[] = {0x80, 0x35, 0, 1, 0x08, 0, 6, 4, 0, 3}; /* Ethernet, IPv4, request reverse */

    memset(frame, 0, ANNOUNCE_BYTES);
    memset(frame, 0xff, 6);
    memcpy(frame + 6, mac, 6);
    memcpy(frame + 12, rarp, sizeof(rarp));
    memcpy(frame + 22, mac, 6); /* sender */
    memcpy(frame + 32, mac, 6); /* target */
}

static void on_announce(void *opaque)
{
    struct hv_vif *vif = opaque;
    const struct virtio_net_hdr header = {.gso_type = VIRTIO_NET_HDR_GSO_NONE};
    uint8_t frame[ANNOUNCE_BYTES];
    struct iovec iov[2] = {{NULL, 0}, {frame, sizeof(frame)}};

    make_announcement(vif->config.mac, frame);
    if (atomic_load(&vif->link_up) && !vif->dev.domain->frozen)
        (void)!hv_net_port_send(&vif->ports[0], &header, iov, 2, sizeof(frame));
    if (++vif->announcements < ANNOUNCEMENTS)
        hv_loop_arm(vif->announce_timer, hv_loop_now() + (vif->announcements + 1) * ANNOUNCE_NS);
}

static void announce(struct hv_vif *vif)
{
    vif->announcements = 0;
    hv_loop_arm(vif->announce_timer, hv_loop_now() + ANNOUNCE_NS);
}

/* Nothing is ever in flight: a frame is copied or it is in its ring. */
static void disconnect_vif(struct hv_xenbus_device *dev)
{
    disconnect_queues(vif_of(dev));
    hv_xenbus_disconnected(dev);
}

static void free_vif(struct hv_xenbus_device *dev)
{
    struct hv_vif *vif = vif_of(dev);

    for (unsigned i = 0; i < vif->config.queues; i++)
        hv_net_port_fini(&vif->ports[i]);
    hv_loop_remove(vif->announce_timer);
    free(vif);
}

/* ------------------------------------------------------------------ streams */

struct vif_state {
    uint32_t nr_queues;
    bool link_up, scatter_gather, checksum, tcp4, tcp6;
};

static const struct hv_field vif_fields[] = {
    HV_FIELD_MAX(1, struct vif_state, nr_queues, DOMUS_VIF_QUEUES_MAX),
    HV_FIELD_BOOL(2, struct vif_state, link_up),
    HV_FIELD_BOOL(3, struct vif_state, scatter_gather),
    HV_FIELD_BOOL(4, struct vif_state, checksum),
    HV_FIELD_BOOL(5, struct vif_state, tcp4),
    HV_FIELD_BOOL(6, struct vif_state, tcp6),
};

struct queue_state {
    uint32_t tx_ref, rx_ref, port;
    struct hv_net_counters tx, rx;
};

static const struct hv_field queue_fields[] = {
    HV_FIELD(1, struct queue_state, tx_ref), HV_FIELD(2, struct queue_state, rx_ref),
    HV_FIELD(3, struct queue_state, port),   HV_FIELD(4, struct queue_state, tx),
    HV_FIELD(5, struct queue_state, rx),
};

/* Positions in the rings are in the rings: what was taken has been answered. */
static void encode_vif(struct hv_xenbus_device *dev, struct hv_encoder *e)
{
    struct hv_vif *vif = vif_of(dev);
    const struct vif_state state = {
        .nr_queues = vif->nr_queues,
        .link_up = atomic_load(&vif->link_up),
        .scatter_gather = vif->wishes.scatter_gather,
        .checksum = vif->wishes.offloads.checksum,
        .tcp4 = vif->wishes.offloads.tcp4,
        .tcp6 = vif->wishes.offloads.tcp6,
    };

    hv_encode_fields(e, vif_fields, HV_ARRAY_LEN(vif_fields), &state);
    for (unsigned i = 0; i < vif->nr_queues; i++) {
        const struct vif_queue *q = &vif->queues[i];
        const struct queue_state queue = {q->tx.grant.ref, q->rx.grant.ref, q->port, q->tx_counters, q->rx_counters};

        hv_encode_fields(e, queue_fields, HV_ARRAY_LEN(queue_fields), &queue);
    }
}

static int decode_queue(struct hv_vif *vif, unsigned i, struct hv_decoder *d)
{
    struct queue_state queue;
    int error = hv_decode_fields(d, queue_fields, HV_ARRAY_LEN(queue_fields), &queue);

    if (error)
        return error;
    vif->queues[i].tx_counters = queue.tx;
    vif->queues[i].rx_counters = queue.rx;
    if (connect_rings(vif, &vif->wishes, i, queue.tx_ref, queue.rx_ref, queue.port))
        return hv_decode_fail(d, "queue %u cannot be connected", i);
    return 0;
}

static int decode_queues(struct hv_vif *vif, const struct vif_state *state, struct hv_decoder *d)
{
    int error = 0;

    if (!state->nr_queues || state->nr_queues > vif->config.queues)
        return hv_decode_fail(d, "it has %u queues, and here %u", state->nr_queues, vif->config.queues);
    if (activate_ports(vif, state->nr_queues))
        return hv_decode_fail(d, "the queues of the tap cannot be used");
    for (unsigned i = 0; !error && i < state->nr_queues; i++)
        error = decode_queue(vif, i, d);
    if (error) {
        disconnect_queues(vif);
        return error;
    }
    vif->nr_queues = state->nr_queues;
    set_carrier(vif);
    announce(vif);
    return 0;
}

static int decode_vif(struct hv_xenbus_device *dev, struct hv_decoder *d)
{
    struct hv_vif *vif = vif_of(dev);
    struct vif_state state;
    int error = hv_decode_fields(d, vif_fields, HV_ARRAY_LEN(vif_fields), &state);

    if (error)
        return error;
    atomic_store(&vif->link_up, state.link_up);
    vif->wishes = (struct wishes){
        .nr_queues = state.nr_queues,
        .scatter_gather = state.scatter_gather,
        .offloads = {.checksum = state.checksum, .tcp4 = state.tcp4, .tcp6 = state.tcp6},
    };
    return hv_xenbus_resumes_connected(dev) ? decode_queues(vif, &state, d) : 0;
}

/* They look at the rings again, or at nothing any more. */
static void kick_queues(struct hv_xenbus_device *dev)
{
    struct hv_vif *vif = vif_of(dev);

    for (unsigned i = 0; i < vif->nr_queues; i++)
        hv_net_queue_kick(vif->queues[i].queue);
}

static const struct hv_xenbus_class vif_class = {
    .name = "vif",
    .number = DOMUS_DEVICE_VIF,
    .publish = publish,
    .connect = connect_vif,
    .disconnect = disconnect_vif,
    .free = free_vif,
    .stop = disconnect_vif,
    .freeze = kick_queues,
    .thaw = kick_queues,
    .encode = encode_vif,
    .decode = decode_vif,
};

/* ------------------------------------------------------------------ control */

static struct hv_vif *find_vif(struct hv_domain *d, uint32_t devid)
{
    struct hv_xenbus_device *dev = hv_xenbus_find(d, &vif_class, devid);

    return dev ? vif_of(dev) : NULL;
}

static int check_ports(struct domus_vif *config, const int *fds)
{
    for (unsigned i = 0; i < config->queues; i++) {
        const char *why;
        int error = hv_net_port_check(fds[i], config->port, &why);

        if (error) {
            snprintf(config->error, sizeof(config->error), "queue %u: its descriptor is %s", i, why);
            return error;
        }
    }
    return 0;
}

static int check_config(struct domus_vif *config)
{
    const char *wrong = NULL;

    if (config->port != DOMUS_VIF_TAP && config->port != DOMUS_VIF_STREAM)
        wrong = "there is no such kind of port";
    else if (config->queues == 0 || config->queues > DOMUS_VIF_QUEUES_MAX ||
             (config->port == DOMUS_VIF_STREAM && config->queues != 1))
        wrong = "it cannot have so many queues";
    else if (config->mtu < MTU_MIN || config->mtu > MTU_MAX)
        wrong = "its MTU is not from 68 to 65521";
    else if (config->mac[0] & 1)
        wrong = "its MAC address is a group's";
    if (wrong)
        snprintf(config->error, sizeof(config->error), "%s", wrong);
    return wrong ? -EINVAL : 0;
}

/* The descriptors are the caller's until all is done. */
static int make_ports(struct hv_vif *vif, const int *fds)
{
    int error = 0;
    unsigned i;

    for (i = 0; i < vif->config.queues && !error; i++) {
        vif->queues[i].vif = vif;
        error = hv_net_port_init(&vif->ports[i], fds[i], vif->config.port);
    }
    for (; error && i > 0; i--) {
        vif->ports[i - 1].fd = -1;
        hv_net_port_fini(&vif->ports[i - 1]);
    }
    return error;
}

static void unmake_ports(struct hv_vif *vif)
{
    for (unsigned i = 0; i < vif->config.queues; i++) {
        vif->ports[i].fd = -1;
        hv_net_port_fini(&vif->ports[i]);
    }
}

/* Both, or none when one of them is wrong. */
static int set_limits(struct hv_vif *vif, const struct domus_vif_rate *from_guest, const struct domus_vif_rate *to_guest)
{
    struct hv_net_limit tx, rx;
    int error = hv_net_limit_set(&tx, from_guest);

    if (!error)
        error = hv_net_limit_set(&rx, to_guest);
    if (error)
        return error;
    vif->tx_limit = tx;
    vif->rx_limit = rx;
    return 0;
}

static int add(struct hv_domain *d, struct domus_vif *config, const int *fds)
{
    struct hv_vif *vif = calloc(1, sizeof(*vif));
    int error;

    if (!vif)
        return -ENOMEM;
    vif->config = *config;
    atomic_store(&vif->link_up, !config->link_down);
    vif->announce_timer = hv_loop_add_timer(d->loop, on_announce, vif);
    error = vif->announce_timer ? set_limits(vif, &config->from_guest, &config->to_guest) : -ENOMEM;
    if (!error)
        error = make_ports(vif, fds);
    if (!error) {
        set_carrier(vif);
        error = hv_xenbus_add(d, &vif_class, config->devid, &vif->dev);
        if (error)
            unmake_ports(vif);
    }
    if (!error)
        return 0;
    if (vif->announce_timer)
        hv_loop_remove(vif->announce_timer);
    free(vif);
    return error;
}

int hv_vif_attach(struct hv_domain *d, struct domus_vif *config, const int *fds)
{
    int error;

    if (config->mtu == 0)
        config->mtu = MTU_DEFAULT;
    error = check_config(config);
    if (!error && find_vif(d, config->devid)) {
        snprintf(config->error, sizeof(config->error), "there is an interface %u already", config->devid);
        return -EEXIST;
    }
    if (!error)
        error = check_ports(config, fds);
    if (error)
        return error;
    error = add(d, config, fds);
    if (error)
        snprintf(config->error, sizeof(config->error), "%s", strerror(-error));
    return error;
}

int hv_vif_detach(struct hv_domain *d, uint32_t devid, bool force)
{
    struct hv_vif *vif = find_vif(d, devid);

    return vif ? hv_xenbus_detach(&vif->dev, force) : -ENODEV;
}

int hv_vif_set_link(struct hv_domain *d, uint32_t devid, bool up)
{
    struct hv_vif *vif = find_vif(d, devid);

    if (!vif)
        return -ENODEV;
    if (atomic_exchange(&vif->link_up, up) == up)
        return 0;
    set_carrier(vif);
    hv_xenbus_write(&vif->dev, "carrier", "%u", up);
    return 0;
}

int hv_vif_set_port(struct hv_domain *d, uint32_t devid, int fd)
{
    struct hv_vif *vif = find_vif(d, devid);
    struct hv_net_port port;
    const char *why;
    int error;

    if (!vif)
        return -ENODEV;
    if (vif->config.port != DOMUS_VIF_STREAM || hv_net_port_check(fd, DOMUS_VIF_STREAM, &why))
        return -EINVAL;
    error = hv_net_port_init(&port, fd, DOMUS_VIF_STREAM);
    if (error)
        return error;
    if (vif->queues[0].queue) {
        hv_net_queue_set_port(vif->queues[0].queue, &port);
    } else {
        hv_net_port_fini(&vif->ports[0]);
        vif->ports[0] = port;
    }
    return 0;
}

int hv_vif_set_limits(struct hv_domain *d, const struct domus_vif_limits *limits)
{
    struct hv_vif *vif = find_vif(d, limits->devid);
    int error;

    if (!vif)
        return -ENODEV;
    error = limits->zero ? -EINVAL : set_limits(vif, &limits->from_guest, &limits->to_guest);
    if (!error)
        kick_queues(&vif->dev);
    return error;
}

int hv_vif_stats(struct hv_domain *d, struct domus_vif_stats *stats)
{
    struct hv_vif *vif = find_vif(d, stats->devid);

    if (!vif)
        return -ENODEV;
    *stats = (struct domus_vif_stats){.devid = stats->devid, .connected = vif->nr_queues != 0};
    stats->port_lost = vif->queues[0].queue && hv_net_queue_has_lost_port(vif->queues[0].queue);
    for (unsigned i = 0; i < vif->config.queues; i++) {
        struct hv_net_counters *tx = &vif->queues[i].tx_counters, *rx = &vif->queues[i].rx_counters;

        stats->rx_bytes += atomic_load(&tx->bytes);
        stats->rx_packets += atomic_load(&tx->packets);
        stats->rx_errors += atomic_load(&tx->errors);
        stats->rx_dropped += atomic_load(&tx->dropped);
        stats->tx_bytes += atomic_load(&rx->bytes);
        stats->tx_packets += atomic_load(&rx->packets);
        stats->tx_errors += atomic_load(&rx->errors);
        stats->tx_dropped += atomic_load(&rx->dropped);
    }
    return 0;
}
