/* For tests: the frontend's side of a queue, on a domain without a kernel, with a socket in place of a tap. */
#pragma once

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/backend/net/queue.h"
#include "hv/hypercall/grant-table.h"
#include "hv/hypercall/test-domain.h"

#define FRONT_TX_RING 0x100000u
#define FRONT_RX_RING 0x101000u
#define FRONT_PAGES   0x200000u /* page i is granted by reference FRONT_REF + i */
#define FRONT_REF     8u
#define FRONT_NR      400u
#define FRONT_BAD_REF 1u /* grants nothing */

struct front {
    struct hv_loop *loop;
    struct hv_domain *d;
    struct hv_loop_source *quit;
    struct hv_net_port port;
    struct hv_net_queue *q;
    struct hv_net_queue_config config;
    _Atomic bool link_up;
    struct hv_net_counters tx_counters, rx_counters;
    struct hv_net_limit tx_limit, rx_limit;
    int host; /* the other end of the port */
    unsigned events, lost; /* how often it was told of them */
    struct netif_tx_sring *tx;
    struct netif_rx_sring *rx;
    uint32_t tx_prod, tx_rsp, rx_prod, rx_rsp;
};

static void front_quit(void *opaque)
{
    struct front *f = opaque;

    hv_loop_quit(f->loop);
}

/* Lets everything happen that can. */
__attribute__((unused)) static void front_pump(struct front *f)
{
    for (unsigned i = 0; i < 12; i++) {
        hv_loop_wake(f->quit);
        hv_loop_run(f->loop);
    }
}

static void front_notified(void *opaque)
{
    struct front *f = opaque;

    f->events++;
}

static uint8_t *front_page(struct front *f, unsigned i)
{
    return test_at(f->d, FRONT_PAGES + i * HV_PAGE_SIZE);
}

static struct grant_entry_v1 *front_grant(struct front *f, uint32_t ref)
{
    return (struct grant_entry_v1 *)f->d->gnttab->frame[ref / HV_V1_PER_FRAME].page + ref % HV_V1_PER_FRAME;
}

static void front_make_grants(struct front *f)
{
    uint64_t index;

    pthread_mutex_lock(&f->d->lock);
    hv_assert(hv_gnttab_frame(f->d, 0, false, &index) == 0);
    pthread_mutex_unlock(&f->d->lock);
    for (unsigned i = 0; i < FRONT_NR; i++)
        *front_grant(f, FRONT_REF + i) =
            (struct grant_entry_v1){GTF_permit_access, 0, FRONT_PAGES / HV_PAGE_SIZE + i};
}

static void front_lost(void *opaque)
{
    struct front *f = opaque;

    f->lost++;
}

static bool front_start(struct front *f, enum domus_vif_port kind)
{
    int ends[2];

    memset(f, 0, sizeof(*f));
    if (hv_loop_new(&f->loop))
        return false;
    f->d = test_domain_new(f->loop, 1);
    f->quit = hv_loop_add_wakeup(f->loop, front_quit, f);
    if (!f->d || !f->quit)
        return false;
    front_make_grants(f);
    f->tx = test_at(f->d, FRONT_TX_RING);
    f->rx = test_at(f->d, FRONT_RX_RING);
    f->tx->req_event = f->tx->rsp_event = f->rx->req_event = f->rx->rsp_event = 1;
    if (socketpair(AF_UNIX, (kind == DOMUS_VIF_TAP ? SOCK_SEQPACKET : SOCK_STREAM) | SOCK_NONBLOCK, 0, ends) ||
        hv_net_port_init(&f->port, ends[0], kind))
        return false;
    f->host = ends[1];
    atomic_store(&f->link_up, true);
    f->config = (struct hv_net_queue_config){
        .domain = f->d, .loop = f->loop, .port = &f->port, .tx = f->tx, .rx = f->rx,
        .notify = front_notified, .lost = front_lost, .opaque = f,
        .tx_limit = &f->tx_limit, .rx_limit = &f->rx_limit,
        .offloads = {true, true, true}, .scatter_gather = true, .link_up = &f->link_up,
        .tx_counters = &f->tx_counters, .rx_counters = &f->rx_counters,
    };
    return true;
}

__attribute__((unused)) static bool front_connect(struct front *f)
{
    return hv_net_queue_new(&f->config, &f->q) == 0;
}

static void front_end(struct front *f)
{
    hv_net_queue_free(f->q);
    hv_net_port_fini(&f->port);
    close(f->host);
    hv_domain_free(f->d);
    hv_loop_free(f->loop);
}

/* ------------------------------------------------------------------ transmitting */

__attribute__((unused)) static void front_tx(struct front *f, uint32_t gref, unsigned offset, unsigned size,
                                             unsigned flags)
{
    f->tx->ring[f->tx_prod & (HV_NET_RING_SLOTS - 1)].req = (struct netif_tx_request){
        gref, (uint16_t)offset, (uint16_t)flags, (uint16_t)(f->tx_prod + 1000), (uint16_t)size};
    f->tx_prod++;
}

__attribute__((unused)) static void front_tx_extra(struct front *f, struct netif_extra_info extra)
{
    memcpy(&f->tx->ring[f->tx_prod++ & (HV_NET_RING_SLOTS - 1)], &extra, sizeof(extra));
}

__attribute__((unused)) static void front_push(struct front *f)
{
    __atomic_store_n(&f->tx->req_prod, f->tx_prod, __ATOMIC_RELEASE);
    hv_net_queue_kick(f->q);
    front_pump(f);
}

/* The status of the next response; 99 when there is none. */
__attribute__((unused)) static int front_tx_status(struct front *f)
{
    if (f->tx_rsp == __atomic_load_n(&f->tx->rsp_prod, __ATOMIC_ACQUIRE))
        return 99;
    return f->tx->ring[f->tx_rsp++ & (HV_NET_RING_SLOTS - 1)].rsp.status;
}

/* What arrived at the host's end: its length without the header, or -1. */
__attribute__((unused)) static ssize_t front_host_read(struct front *f, struct virtio_net_hdr *header, void *data,
                                                       size_t bytes)
{
    struct iovec iov[2] = {{header, sizeof(*header)}, {data, bytes}};
    ssize_t got = readv(f->host, iov, 2);

    return got < (ssize_t)sizeof(*header) ? -1 : got - (ssize_t)sizeof(*header);
}

/* ------------------------------------------------------------------ receiving */

/* Posts @count pages, from page @first on. */
__attribute__((unused)) static void front_post(struct front *f, unsigned first, unsigned count)
{
    for (unsigned i = 0; i < count; i++, f->rx_prod++)
        f->rx->ring[f->rx_prod & (HV_NET_RING_SLOTS - 1)].req =
            (struct netif_rx_request){(uint16_t)f->rx_prod, 0, FRONT_REF + first + i};
    __atomic_store_n(&f->rx->req_prod, f->rx_prod, __ATOMIC_RELEASE);
    hv_net_queue_kick(f->q);
    front_pump(f);
}

__attribute__((unused)) static void front_host_write(struct front *f, const struct virtio_net_hdr *header,
                                                     const void *data, size_t bytes)
{
    struct iovec iov[2] = {{(void *)(uintptr_t)header, sizeof(*header)}, {(void *)(uintptr_t)data, bytes}};

    hv_assert(writev(f->host, iov, 2) == (ssize_t)(sizeof(*header) + bytes));
    front_pump(f);
}

/* The next response, or NULL. */
__attribute__((unused)) static struct netif_rx_response *front_rx(struct front *f)
{
    if (f->rx_rsp == __atomic_load_n(&f->rx->rsp_prod, __ATOMIC_ACQUIRE))
        return NULL;
    return &f->rx->ring[f->rx_rsp++ & (HV_NET_RING_SLOTS - 1)].rsp;
}
