/* One queue of a network interface: a pair of rings shared with xen-netfront, and a port to the host.
 *
 * Everything here belongs to the thread of the loop that the queue is given; only its wake-up, the link's state and
 * the counters are seen by others, so a queue can live on a loop of its own. tx.c moves what the guest transmits,
 * rx.c what it receives. Ring pages are guest memory: each index and each slot is read once into the
 * process and checked there.
 *
 * Source of the protocol: xen/io/netif.h.
 */
#pragma once

#include "hv/backend/net/limit.h"
#include "hv/backend/net/port.h"
#include "hv/domain.h"
#include "hv/loop.h"
#include "hv/xen-abi.h"

#define HV_NET_RING_SLOTS 256u /* both rings: as many as fit into a page, a power of two */
#define HV_NET_BACKEND    0    /* the domain that the guest's grants are for */

/* Counters, from the guest's side: tx is what it sends. */
struct hv_net_counters {
    _Atomic uint64_t packets, bytes, errors, dropped;
};

struct hv_net_queue_config {
    struct hv_domain *domain;
    struct hv_loop *loop;
    struct hv_net_port *port;          /* borrowed */
    struct netif_tx_sring *tx;         /* the guest's pages, good until the queue is freed */
    struct netif_rx_sring *rx;
    void (*notify)(void *opaque);      /* tells the guest to look at its rings */
    void (*lost)(void *opaque);        /* the other side of the port is gone */
    void *opaque;
    struct hv_net_offloads offloads;   /* what the guest takes unfinished */
    bool scatter_gather;               /* the guest takes a frame in several slots */
    struct hv_net_limit *tx_limit, *rx_limit; /* borrowed; after a change the queue is to be kicked */
    const _Atomic bool *link_up;
    struct hv_net_counters *tx_counters, *rx_counters;
};

struct hv_net_queue;

/* Serves the rings from now on. 0 or negative errno. Loop thread, as all below. */
int hv_net_queue_new(const struct hv_net_queue_config *config, struct hv_net_queue **out) HV_MUST_CHECK;
void hv_net_queue_free(struct hv_net_queue *q);

/* @port takes the place of its port. What was read from the one before and not given to the guest is lost with it. */
void hv_net_queue_set_port(struct hv_net_queue *q, const struct hv_net_port *port);

/* The guest sent an event. Any thread. */
void hv_net_queue_kick(struct hv_net_queue *q);

/* The guest broke the protocol in a way that leaves no way on: nothing more moves. */
bool hv_net_queue_has_lost_port(const struct hv_net_queue *q);
bool hv_net_queue_is_broken(const struct hv_net_queue *q);

/* ------------------------------------------------------------------ inside */

/* What the first response of a received frame says, and its extra slot. */
struct hv_net_description {
    uint16_t flags;
    bool has_gso;
    struct netif_extra_info gso;
};

struct hv_net_queue {
    struct hv_net_queue_config config;
    struct hv_loop_source *wakeup, *source, *tx_timer, *rx_timer, *stall_timer;
    uint32_t events; /* that the source waits for */
    bool broken;     /* by the guest */
    bool port_lost;

    uint32_t tx_cons; /* requests taken; as many responses were made */
    bool tx_blocked;  /* the port takes nothing now */

    uint32_t rx_cons;
    struct hv_net_frame frame; /* read from the port, not given to the guest yet */
    struct hv_net_description description; /* of the frame */
    bool parked;               /* there is one: the guest has no room */
    bool stalled;              /* it had none for so long that frames are dropped */
    bool rx_held;              /* by its limit: the port is not read */
};

/* Each moves a batch. True when there is more to do at once. */
bool hv_net_tx_run(struct hv_net_queue *q);
bool hv_net_rx_run(struct hv_net_queue *q);

/* Stops the queue because of what the guest did. */
void hv_net_queue_break(struct hv_net_queue *q, const char *why);

static inline void hv_net_count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}
