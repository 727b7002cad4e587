/* Life of a queue: what wakes it, and what it waits for. */
#include "config.h"

#include "hv/backend/net/queue.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#define HOLDS_SLOTS(ring_type, entry_type)                                                        \
    _Static_assert((HV_PAGE_SIZE - offsetof(ring_type, ring)) / sizeof(entry_type) >= HV_NET_RING_SLOTS && \
                       (HV_PAGE_SIZE - offsetof(ring_type, ring)) / sizeof(entry_type) < 2 * HV_NET_RING_SLOTS, \
                   "slots of a ring page")
HOLDS_SLOTS(struct netif_tx_sring, union netif_tx_sring_entry);

void hv_net_queue_break(struct hv_net_queue *q, const char *why)
{
    if (!q->broken)
        hv_log_guest(q->config.domain, HV_LOG_WARNING, "network interface: %s: the queue stops", why);
    q->broken = true;
}

bool hv_net_queue_is_broken(const struct hv_net_queue *q)
{
    return q->broken;
}

bool hv_net_queue_has_lost_port(const struct hv_net_queue *q)
{
    return q->port_lost;
}

static void on_port(void *opaque, int fd, uint32_t events);

/* The port is read unless a frame of it waits for the guest, and written to when something waits for it. */
static uint32_t wanted_events(struct hv_net_queue *q)
{
    uint32_t events = 0;

    if (q->broken || q->port_lost || q->config.domain->frozen)
        return 0;
    if (!q->parked && !q->rx_held)
        events |= EPOLLIN;
    if (q->tx_blocked || !hv_net_port_flush(q->config.port))
        events |= EPOLLOUT;
    return events;
}

/* A port that nothing is wanted of is not watched at all: its hang-up would be told for ever. */
static void set_events(struct hv_net_queue *q)
{
    uint32_t events = wanted_events(q);

    if (events == q->events)
        return;
    if (!events) {
        hv_loop_remove(q->source);
        q->source = NULL;
    } else if (!q->source) {
        q->source = hv_loop_add_fd(q->config.loop, q->config.port->fd, events, on_port, q);
    } else if (hv_loop_set_events(q->source, events)) {
        return;
    }
    q->events = q->source ? events : 0;
}

static void run(struct hv_net_queue *q, bool tx, bool rx)
{
    bool more = false;

    bool frozen = q->config.domain->frozen; /* what comes waits at the host */

    if (tx && !q->broken && !frozen)
        more |= hv_net_tx_run(q);
    if (rx && !q->broken && !frozen)
        more |= hv_net_rx_run(q);
    set_events(q);
    if (more)
        hv_loop_wake(q->wakeup);
}

static void on_wakeup(void *opaque)
{
    run(opaque, true, true);
}

static void on_port(void *opaque, int fd, uint32_t events)
{
    struct hv_net_queue *q = opaque;

    (void)fd;
    run(q, q->tx_blocked && (events & EPOLLOUT), events & (EPOLLIN | EPOLLHUP | EPOLLERR));
}

static void on_tx_due(void *opaque)
{
    run(opaque, true, false);
}

static void on_rx_due(void *opaque)
{
    run(opaque, false, true);
}

static void on_stall(void *opaque)
{
    struct hv_net_queue *q = opaque;

    if (!q->parked)
        return;
    hv_log_guest(q->config.domain, HV_LOG_INFO, "network interface: the guest takes no frames: dropping them");
    q->stalled = true;
    run(q, false, true);
}

void hv_net_queue_set_port(struct hv_net_queue *q, const struct hv_net_port *port)
{
    if (q->source)
        hv_loop_remove(q->source);
    q->source = NULL;
    q->events = 0;
    hv_net_port_fini(q->config.port);
    *q->config.port = *port;
    q->port_lost = q->parked = q->tx_blocked = false;
    hv_loop_wake(q->wakeup);
}

void hv_net_queue_kick(struct hv_net_queue *q)
{
    hv_loop_wake(q->wakeup);
}

int hv_net_queue_new(const struct hv_net_queue_config *config, struct hv_net_queue **out)
{
    struct hv_net_queue *q = calloc(1, sizeof(*q));

    if (!q)
        return -ENOMEM;
    q->config = *config;
    q->tx_cons = __atomic_load_n(&config->tx->rsp_prod, __ATOMIC_RELAXED);
    q->rx_cons = __atomic_load_n(&config->rx->rsp_prod, __ATOMIC_RELAXED);
    q->events = EPOLLIN;
    q->wakeup = hv_loop_add_wakeup(config->loop, on_wakeup, q);
    q->tx_timer = hv_loop_add_timer(config->loop, on_tx_due, q);
    q->rx_timer = hv_loop_add_timer(config->loop, on_rx_due, q);
    q->stall_timer = hv_loop_add_timer(config->loop, on_stall, q);
    q->source = hv_loop_add_fd(config->loop, config->port->fd, EPOLLIN, on_port, q);
    if (!q->wakeup || !q->tx_timer || !q->rx_timer || !q->stall_timer || !q->source) {
        hv_net_queue_free(q);
        return -ENOMEM;
    }
    hv_loop_wake(q->wakeup); /* the guest may have filled its rings before */
    *out = q;
    return 0;
}

void hv_net_queue_free(struct hv_net_queue *q)
{
    struct hv_loop_source *sources[] = {q ? q->wakeup : NULL, q ? q->tx_timer : NULL, q ? q->rx_timer : NULL,
                                        q ? q->stall_timer : NULL, q ? q->source : NULL};

    for (size_t i = 0; i < HV_ARRAY_LEN(sources); i++)
        if (sources[i])
            hv_loop_remove(sources[i]);
    free(q);
}
