/* For tests of the block backend: a frontend without a guest, on a store and an image of its own. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "hv/backend/blk/blk.h"
#include "hv/backend/xenbus.h"
#include "hv/hypercall/evtchn.h"
#include "hv/hypercall/physmap.h"
#include "hv/hypercall/test-domain.h"
#include "hv/store/client.h"
#include "hv/store/domain-nodes.h"
#include "hv/store/server.h"
#include "hv/uring.h"

#define FRONT_DEVID   51712u
#define FRONT_TABLE   0x80u  /* gfn of the grant table */
#define FRONT_RING    0x90u  /* gfns of ring pages, queue by queue */
#define FRONT_DATA    0x200u /* gfns of data pages */
#define FRONT_PAGES   160u   /* data pages */
#define RING_REF      8u     /* their references */
#define DATA_REF      64u
#define FRONT_RINGS   4u     /* ring pages that are granted */
#define IMAGE_BYTES   (1u << 20)

struct front {
    struct hv_loop *loop;
    struct hv_loop_source *timer;
    struct hv_xs xs;
    struct hv_xs_server *server;
    struct hv_store_client *store; /* as the guest */
    struct hv_domain *d;
    uint32_t ports[2];
    int image;
    struct domus_vbd vbd;
    uint64_t id; /* of the last request */
    uint32_t prod[2], cons[2];
};

static struct front front;

__attribute__((unused)) static void front_timer(void *opaque)
{
    (void)opaque;
    hv_loop_quit(front.loop);
}

__attribute__((unused)) static void front_run_ms(unsigned ms)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    hv_loop_arm(front.timer, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + ms * 1000000ull);
    hv_loop_run(front.loop);
}

/* The backend's state: 0 when the device is gone. */
__attribute__((unused)) static unsigned front_state(void)
{
    struct domus_vbd_stats stats = {.devid = FRONT_DEVID};

    return hv_blk_stats(front.d, &stats) ? 0 : stats.state;
}

__attribute__((unused)) static struct domus_vbd_stats front_stats(void)
{
    struct domus_vbd_stats stats = {.devid = FRONT_DEVID};

    if (hv_blk_stats(front.d, &stats))
        memset(&stats, 0, sizeof(stats));
    return stats;
}

__attribute__((unused)) static bool front_wait_state(unsigned state)
{
    for (int i = 0; i < 2000 && front_state() != state; i++)
        front_run_ms(1);
    return front_state() == state;
}

__attribute__((unused)) static void front_write(const char *key, const char *value)
{
    char path[128];

    snprintf(path, sizeof(path), "/local/domain/7/device/vbd/%u/%s", FRONT_DEVID, key);
    if (hv_store_client_write(front.store, path, value, NULL, NULL))
        abort();
}

__attribute__((unused)) static void front_number(const char *key, unsigned value)
{
    char text[16];

    snprintf(text, sizeof(text), "%u", value);
    front_write(key, text);
}

static int front_connect_store(void)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) ||
        hv_xs_server_add(front.server, ends[1], 7, false))
        abort();
    return ends[0];
}

static void front_grant(uint32_t ref, uint64_t gfn, uint16_t flags)
{
    struct grant_entry_v1 *entry = (struct grant_entry_v1 *)test_at(front.d, FRONT_TABLE << 12) + ref;

    entry->domid = 0;
    entry->frame = (uint32_t)gfn;
    __atomic_store_n(&entry->flags, flags, __ATOMIC_SEQ_CST);
}

static void front_grant_all(void)
{
    for (unsigned i = 0; i < FRONT_RINGS; i++)
        front_grant(RING_REF + i, FRONT_RING + i, GTF_permit_access);
    for (unsigned i = 0; i < FRONT_PAGES; i++)
        front_grant(DATA_REF + i, FRONT_DATA + i, GTF_permit_access);
}

/* A domain, its store with the nodes of a disk, and an image of random bytes. Nothing is attached. */
__attribute__((unused)) static void front_new(void)
{
    static const struct hv_store_disk disk = {.devid = FRONT_DEVID};
    const struct hv_store_domain nodes = {.domid = 7, .name = "front", .nr_vcpus = 1, .disks = &disk, .nr_disks = 1};
    uint32_t *bytes;

    memset(&front, 0, sizeof(front));
    if (hv_loop_new(&front.loop) || hv_xs_init(&front.xs) || hv_xs_write_domain_nodes(&front.xs, &nodes) ||
        hv_xs_server_new(front.loop, &front.xs, &front.server) || hv_store_client_new(front.loop, &front.store) ||
        hv_store_client_attach(front.store, front_connect_store()))
        abort();
    front.timer = hv_loop_add_timer(front.loop, front_timer, NULL);
    front.d = test_domain_new(front.loop, 1);
    if (!front.timer || !front.d || hv_uring_new(front.loop, &front.d->uring) ||
        hv_xenbus_attach_store(front.d, front_connect_store()) ||
        hv_physmap_add(front.d, XENMAPSPACE_grant_table, 0, hv_gfn_of(FRONT_TABLE)))
        abort();
    front_grant_all();
    front.image = memfd_create("image", 0);
    if (front.image < 0 || ftruncate(front.image, IMAGE_BYTES))
        abort();
    bytes = malloc(IMAGE_BYTES);
    for (unsigned i = 0; i < IMAGE_BYTES / 4; i++)
        bytes[i] = i * 2654435761u;
    if (pwrite(front.image, bytes, IMAGE_BYTES, 0) != IMAGE_BYTES)
        abort();
    free(bytes);
}

__attribute__((unused)) static void front_free(void)
{
    struct hv_uring *uring = front.d->uring;

    hv_domain_free(front.d);
    hv_uring_free(uring);
    hv_store_client_free(front.store);
    hv_xs_server_free(front.server);
    hv_xs_fini(&front.xs);
    hv_loop_remove(front.timer);
    hv_loop_free(front.loop);
    close(front.image);
}

__attribute__((unused)) static long front_attach(uint32_t flags)
{
    int fd = dup(front.image);
    long error;

    front.vbd = (struct domus_vbd){.devid = FRONT_DEVID, .flags = flags, .max_queues = 2};
    error = hv_blk_attach(front.d, &front.vbd, fd);
    if (error)
        close(fd);
    return error;
}

static struct blkif_sring *front_sring(unsigned queue, unsigned pages)
{
    return test_at(front.d, (uint64_t)(FRONT_RING + queue * pages) << 12);
}

/* Sets up one queue with one page and becomes Initialised. */
__attribute__((unused)) static void front_offer(void)
{
    struct blkif_sring *ring = front_sring(0, 1);

    memset(ring, 0, HV_PAGE_SIZE);
    ring->req_event = ring->rsp_event = 1;
    front.prod[0] = front.cons[0] = 0;
    front_grant_all();
    if (hv_evtchn_alloc_unbound(front.d, &front.ports[0]))
        abort();
    front_number("ring-ref", RING_REF);
    front_number("event-channel", front.ports[0]);
    front_write("protocol", XEN_IO_PROTO_ABI_X86_64);
    front_write("state", "3");
}

__attribute__((unused)) static bool front_connect(void)
{
    if (!front_wait_state(XenbusStateInitWait))
        return false;
    front_offer();
    return front_wait_state(XenbusStateConnected);
}

__attribute__((unused)) static void front_kick(unsigned queue)
{
    struct evtchn_send send = {.port = front.ports[queue]};

    (void)test_op(front.d->vcpus[0], __HYPERVISOR_event_channel_op, EVTCHNOP_send, &send, sizeof(send));
}

/* Puts a request in the ring without telling. */
__attribute__((unused)) static void front_put(const struct blkif_request *request)
{
    struct blkif_sring *ring = front_sring(0, 1);

    ring->ring[front.prod[0] % 32].req = *request;
    __atomic_store_n(&ring->req_prod, ++front.prod[0], __ATOMIC_SEQ_CST);
}

/* The next answer: its status, or 99 when none comes or it is not an answer to the last request. */
__attribute__((unused)) static int front_answer(void)
{
    struct blkif_sring *ring = front_sring(0, 1);
    struct blkif_response response;

    for (int i = 0; i < 2000 && __atomic_load_n(&ring->rsp_prod, __ATOMIC_SEQ_CST) == front.cons[0]; i++)
        front_run_ms(1);
    if (ring->rsp_prod == front.cons[0])
        return 99;
    response = ring->ring[front.cons[0]++ % 32].rsp;
    ring->rsp_event = front.cons[0] + 1;
    return response.id == front.id ? response.status : 99;
}

/* One request and its answer. */
__attribute__((unused)) static int front_ask(struct blkif_request *request)
{
    request->id = ++front.id;
    front_put(request);
    front_kick(0);
    return front_answer();
}

__attribute__((unused)) static uint8_t *front_data(unsigned page)
{
    return test_at(front.d, (uint64_t)(FRONT_DATA + page) << 12);
}
