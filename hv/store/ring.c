/* The guest's xenstore ring.
 *
 * Bytes go four ways: guest to request (take_from_guest), request to daemon (send_to_daemon), daemon to reply
 * (take_from_daemon), reply to guest (give_to_guest). Each step has room for one message and stops when the next
 * step does, so a guest that does not read, or a daemon that does not, only stops itself. What survives a new
 * connection is session.c's.
 *
 * The page is the guest's to write at any time: every index is read once and its distance checked.
 * Source: Xen docs/misc/xenstore-ring.txt, public/io/xs_wire.h.
 */
#include "config.h"

#include <errno.h>

#include "hv/store/ring.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/hypercall/evtchn.h"
#include "hv/log.h"
#include "hv/loop.h"
#include "hv/store/session.h"
#include "hv/stream/codec.h"

/* Rounds of one wake-up; then others on the loop have their turn. */
#define MAX_ROUNDS 64u

/* A message that is being collected, then passed on. */
struct half {
    struct hv_store_message m;
    size_t have;  /* bytes collected */
    size_t given; /* bytes passed on */
};

struct hv_store_ring {
    struct hv_domain *domain;
    hv_gfn gfn;
    uint32_t port;
    struct hv_loop_source *wakeup;
    struct hv_store_session *session;
    void (*lost)(struct hv_domain *d);

    int fd; /* -1: no connection */
    struct hv_loop_source *source;
    uint32_t events; /* that source has */

    struct half request; /* the guest's */
    bool request_in_flight; /* the session knows it: it is being sent */
    struct half own;     /* this side's, sent before the guest's */
    struct half reply;
    bool broken; /* the guest violated the protocol: nothing is taken until it reconnects */
};

static size_t whole_bytes(const struct half *h)
{
    return sizeof(h->m.header) + h->m.header.len;
}

static bool is_whole(const struct half *h)
{
    return h->have >= sizeof(h->m.header) && h->have == whole_bytes(h);
}

/* How many bytes to collect next: the header, then the payload. */
static size_t missing(const struct half *h)
{
    return h->have < sizeof(h->m.header) ? sizeof(h->m.header) - h->have : whole_bytes(h) - h->have;
}

static bool header_is_bad(const struct half *h)
{
    return h->have >= sizeof(h->m.header) && h->m.header.len > XENSTORE_PAYLOAD_MAX;
}

static void clear(struct half *h)
{
    h->have = h->given = 0;
}

/* ---- the guest's side */

static struct xenstore_domain_interface *ring_page(struct hv_store_ring *ring)
{
    return hv_memory_at(&ring->domain->mem, hv_gfn_to_gpa(ring->gfn), sizeof(struct xenstore_domain_interface), true);
}

static void guest_failed(struct hv_store_ring *ring, struct xenstore_domain_interface *page, uint32_t error)
{
    static const char *const names[] = {"no error", "communication problem", "invalid ring index", "message too long"};

    if (!ring->broken)
        hv_log(HV_LOG_WARNING, "%s: xenstore ring: %s; nothing more is taken from it", ring->domain->name,
               names[error]);
    ring->broken = true;
    clear(&ring->request);
    __atomic_store_n(&page->error, error, __ATOMIC_RELEASE);
    hv_evtchn_backend_notify(ring->domain, ring->port);
}

/* Copies up to @bytes that the guest has put into its ring. */
static size_t read_ring(struct hv_store_ring *ring, struct xenstore_domain_interface *page, uint8_t *to, size_t bytes)
{
    XENSTORE_RING_IDX prod = __atomic_load_n(&page->req_prod, __ATOMIC_ACQUIRE);
    XENSTORE_RING_IDX cons = __atomic_load_n(&page->req_cons, __ATOMIC_RELAXED);

    if (prod - cons > XENSTORE_RING_SIZE) {
        guest_failed(ring, page, XENSTORE_ERROR_RINGIDX);
        return 0;
    }
    if (bytes > prod - cons)
        bytes = prod - cons;
    for (size_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)__atomic_load_n(&page->req[MASK_XENSTORE_IDX(cons + i)], __ATOMIC_RELAXED);
    __atomic_store_n(&page->req_cons, cons + (uint32_t)bytes, __ATOMIC_SEQ_CST);
    return bytes;
}

static size_t write_ring(struct hv_store_ring *ring, struct xenstore_domain_interface *page, const uint8_t *from,
                         size_t bytes)
{
    XENSTORE_RING_IDX cons = __atomic_load_n(&page->rsp_cons, __ATOMIC_ACQUIRE);
    XENSTORE_RING_IDX prod = __atomic_load_n(&page->rsp_prod, __ATOMIC_RELAXED);

    if (prod - cons > XENSTORE_RING_SIZE) {
        guest_failed(ring, page, XENSTORE_ERROR_RINGIDX);
        return 0;
    }
    if (bytes > XENSTORE_RING_SIZE - (prod - cons))
        bytes = XENSTORE_RING_SIZE - (prod - cons);
    for (size_t i = 0; i < bytes; i++)
        __atomic_store_n(&page->rsp[MASK_XENSTORE_IDX(prod + i)], (char)from[i], __ATOMIC_RELAXED);
    __atomic_store_n(&page->rsp_prod, prod + (uint32_t)bytes, __ATOMIC_SEQ_CST);
    return bytes;
}

static bool take_from_guest(struct hv_store_ring *ring, struct xenstore_domain_interface *page)
{
    struct half *h = &ring->request;
    size_t bytes;

    if (ring->broken || is_whole(h))
        return false;
    bytes = read_ring(ring, page, h->m.bytes + h->have, missing(h));
    h->have += bytes;
    if (header_is_bad(h))
        guest_failed(ring, page, XENSTORE_ERROR_PROTO);
    return bytes > 0;
}

static bool give_to_guest(struct hv_store_ring *ring, struct xenstore_domain_interface *page)
{
    struct half *h = &ring->reply;
    size_t bytes;

    if (ring->broken)
        return false;
    /* Answers from here come between those of the daemon. */
    if (h->have == 0 && hv_store_session_answer(ring->session, &h->m))
        h->have = whole_bytes(h);
    if (!is_whole(h))
        return false;
    bytes = write_ring(ring, page, h->m.bytes + h->given, h->have - h->given);
    h->given += bytes;
    if (h->given == h->have)
        clear(h);
    return bytes > 0;
}

/* The guest wants to start anew. What was sent to the daemon is sent to its end. */
static void reconnect(struct hv_store_ring *ring, struct xenstore_domain_interface *page)
{
    if (!ring->request_in_flight)
        clear(&ring->request);
    if (is_whole(&ring->reply))
        clear(&ring->reply);
    hv_store_session_reset(ring->session);
    ring->broken = false;
    __atomic_store_n(&page->req_cons, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&page->req_prod, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&page->rsp_cons, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&page->rsp_prod, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&page->error, XENSTORE_ERROR_NONE, __ATOMIC_RELAXED);
    __atomic_store_n(&page->connection, XENSTORE_CONNECTED, __ATOMIC_SEQ_CST);
    hv_evtchn_backend_notify(ring->domain, ring->port);
}

/* ---- the daemon's side */

static void drop_connection(struct hv_store_ring *ring)
{
    bool not_sent = ring->request_in_flight;

    if (ring->source)
        hv_loop_remove(ring->source);
    close(ring->fd);
    ring->source = NULL;
    ring->fd = -1;
    ring->request_in_flight = false;
    ring->request.given = 0;
    clear(&ring->own);
    if (!is_whole(&ring->reply))
        clear(&ring->reply);
    hv_store_session_lost(ring->session, not_sent);
}

/* Sends what is left of @h. 1: some, 0: none now, -1: the connection is lost. */
static int send_half(struct hv_store_ring *ring, struct half *h)
{
    ssize_t n = send(ring->fd, h->m.bytes + h->given, h->have - h->given, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
    h->given += (size_t)n;
    if (h->given == h->have)
        clear(h);
    return n > 0;
}

static int send_to_daemon(struct hv_store_ring *ring)
{
    int sent;

    if (ring->fd < 0)
        return 0;
    if (!ring->request_in_flight) {
        if (!ring->own.have && hv_store_session_own(ring->session, &ring->own.m))
            ring->own.have = whole_bytes(&ring->own);
        if (ring->own.have)
            return send_half(ring, &ring->own);
        if (!is_whole(&ring->request) || !hv_store_session_has_room(ring->session))
            return 0;
        if (!hv_store_session_request(ring->session, &ring->request.m)) {
            clear(&ring->request);
            return 1;
        }
        ring->request_in_flight = true;
    }
    sent = send_half(ring, &ring->request);
    ring->request_in_flight = ring->request.have > 0;
    return sent;
}

/* 1: some, 0: none now, -1: the connection is lost. */
static int take_from_daemon(struct hv_store_ring *ring)
{
    struct half *h = &ring->reply;
    enum hv_store_verdict verdict;
    ssize_t n;

    if (ring->fd < 0 || is_whole(h))
        return 0;
    n = recv(ring->fd, h->m.bytes + h->have, missing(h), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    if (n <= 0)
        return -1;
    h->have += (size_t)n;
    if (header_is_bad(h))
        return -1;
    if (!is_whole(h))
        return 1;
    verdict = hv_store_session_reply(ring->session, &h->m);
    if (verdict == HV_STORE_SWALLOW)
        clear(h);
    return verdict == HV_STORE_BROKEN ? -1 : 1;
}

/* ---- together */

/* @stop: nothing can be moved, whatever the daemon sends. */
static void set_events(struct hv_store_ring *ring, bool stop)
{
    uint32_t events = 0;

    if (ring->fd < 0)
        return;
    if (!stop && !is_whole(&ring->reply))
        events |= EPOLLIN;
    if (!stop && (ring->request_in_flight || ring->own.have))
        events |= EPOLLOUT;
    if (events != ring->events && hv_loop_set_events(ring->source, events) == 0)
        ring->events = events;
}

/* One go of all four steps. 1: something moved, 0: nothing, -1: the connection is lost. */
static int move(struct hv_store_ring *ring, struct xenstore_domain_interface *page)
{
    bool guest = take_from_guest(ring, page);
    int sent = send_to_daemon(ring), taken = sent < 0 ? 0 : take_from_daemon(ring);

    guest |= give_to_guest(ring, page);
    if (guest)
        hv_evtchn_backend_notify(ring->domain, ring->port);
    if (sent < 0 || taken < 0)
        return -1;
    return guest || sent || taken;
}

static void pump(struct hv_store_ring *ring)
{
    int moved = 1;

    if (ring->domain->frozen) {
        set_events(ring, true);
        return;
    }
    for (unsigned round = 0; moved > 0 && round < MAX_ROUNDS; round++) {
        struct xenstore_domain_interface *page = ring_page(ring);

        if (!page) { /* the guest gave it away: there is nobody to talk to */
            set_events(ring, true);
            return;
        }
        if (__atomic_load_n(&page->connection, __ATOMIC_ACQUIRE) == XENSTORE_RECONNECT)
            reconnect(ring, page);
        moved = move(ring, page);
    }
    if (moved > 0)
        hv_loop_wake(ring->wakeup);
    if (moved >= 0) {
        set_events(ring, false);
        return;
    }
    hv_log(HV_LOG_WARNING, "%s: the connection to the store is lost", ring->domain->name);
    drop_connection(ring);
    hv_loop_wake(ring->wakeup); /* answers to what was in flight */
    if (ring->lost)
        ring->lost(ring->domain);
}

static void on_wakeup(void *opaque)
{
    pump(opaque);
}

static void on_daemon(void *opaque, int fd, uint32_t events)
{
    struct hv_store_ring *ring = opaque;

    (void)fd;
    /* Without a request for input, a connection that has ended would be reported for ever. */
    if (events & (EPOLLHUP | EPOLLERR) && !(ring->events & EPOLLIN)) {
        drop_connection(ring);
        if (ring->lost)
            ring->lost(ring->domain);
    }
    pump(ring);
}

/* On the notifying vCPU's thread. */
static void on_guest(void *opaque)
{
    struct hv_store_ring *ring = opaque;

    hv_loop_wake(ring->wakeup);
}

/* With a page that has been used before, or a new one. */
static int make_ring(struct hv_domain *d, hv_gfn gfn, uint32_t port, bool used)
{
    struct hv_store_ring *ring = calloc(1, sizeof(*ring));
    struct xenstore_domain_interface *page;
    int err = -ENOMEM;

    if (!ring)
        return err;
    ring->domain = d;
    ring->gfn = gfn;
    ring->port = port;
    ring->fd = -1;
    page = ring_page(ring);
    if (!page) {
        free(ring);
        return -EFAULT;
    }
    if (!used) {
        memset(page, 0, sizeof(*page));
        page->server_features = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR;
    }
    d->store = ring;
    ring->wakeup = hv_loop_add_wakeup(d->loop, on_wakeup, ring);
    if (ring->wakeup && !hv_store_session_new(&ring->session))
        err = hv_evtchn_backend_bind(d, port, on_guest, ring);
    if (err) {
        ring->port = 0;
        hv_store_ring_free(d);
    }
    return err;
}

int hv_store_ring_new(struct hv_domain *d, hv_gfn gfn, uint32_t port)
{
    return make_ring(d, gfn, port, false);
}

void hv_store_ring_free(struct hv_domain *d)
{
    struct hv_store_ring *ring = d->store;

    if (!ring)
        return;
    if (ring->port)
        hv_evtchn_backend_unbind(d, ring->port);
    if (ring->fd >= 0)
        drop_connection(ring);
    if (ring->wakeup)
        hv_loop_remove(ring->wakeup);
    hv_store_session_free(ring->session);
    free(ring);
    d->store = NULL;
}

int hv_store_ring_attach(struct hv_domain *d, int fd)
{
    struct hv_store_ring *ring = d->store;

    if (!ring) {
        close(fd);
        return -EINVAL;
    }
    if (ring->fd >= 0)
        drop_connection(ring);
    ring->fd = fd;
    ring->events = EPOLLIN;
    ring->source = hv_loop_add_fd(d->loop, fd, EPOLLIN, on_daemon, ring);
    if (!ring->source) {
        close(fd);
        ring->fd = -1;
        return -ENOMEM;
    }
    hv_loop_wake(ring->wakeup);
    return 0;
}

void hv_store_ring_set_lost(struct hv_domain *d, void (*fn)(struct hv_domain *d))
{
    if (d->store)
        d->store->lost = fn;
}

/* ---- streams */

void hv_store_ring_freeze(struct hv_domain *d)
{
    if (d->store && d->store->fd >= 0)
        drop_connection(d->store);
}

void hv_store_ring_thaw(struct hv_domain *d)
{
    struct hv_store_ring *ring = d->store;

    if (!ring)
        return;
    hv_loop_wake(ring->wakeup);
    if (ring->fd < 0 && ring->lost)
        ring->lost(d);
}

struct half_state {
    uint32_t have, given;
};

static const struct hv_field half_fields[] = {
    HV_FIELD_MAX(1, struct half_state, have, sizeof(struct hv_store_message)),
    HV_FIELD_MAX(2, struct half_state, given, sizeof(struct hv_store_message)),
};

static void encode_half(const struct half *h, struct hv_encoder *e)
{
    const struct half_state state = {(uint32_t)h->have, (uint32_t)h->given};

    hv_encode_fields(e, half_fields, HV_ARRAY_LEN(half_fields), &state);
    hv_encode(e, h->m.bytes, h->have);
}

static int decode_half(struct half *h, struct hv_decoder *dec)
{
    struct half_state state;
    int error = hv_decode_fields(dec, half_fields, HV_ARRAY_LEN(half_fields), &state);

    if (!error)
        error = hv_decode(dec, h->m.bytes, state.have);
    if (error)
        return error;
    h->have = state.have;
    h->given = state.given;
    if (header_is_bad(h) || h->given > h->have ||
        (h->have > sizeof(h->m.header) && h->have > whole_bytes(h)))
        return hv_decode_fail(dec, "a message makes no sense");
    return 0;
}

void hv_store_ring_encode(struct hv_domain *d, struct hv_encoder *e)
{
    const struct hv_store_ring *ring = d->store;

    hv_encode_u64(e, ring->gfn.v);
    hv_encode_u32(e, ring->port);
    hv_encode_u32(e, ring->broken);
    encode_half(&ring->request, e);
    encode_half(&ring->reply, e);
    hv_store_session_encode(ring->session, e);
}

static int decode_ring(struct hv_domain *d, uint64_t gfn, uint32_t port, uint32_t broken, struct hv_decoder *dec)
{
    int error = make_ring(d, hv_gfn_of(gfn), port, true);

    if (error)
        return hv_decode_fail(dec, "its ring cannot be at page 0x%llx with port %u", (unsigned long long)gfn, port);
    d->store->broken = broken;
    error = decode_half(&d->store->request, dec);
    if (!error)
        error = decode_half(&d->store->reply, dec);
    if (!error && d->store->reply.have && !is_whole(&d->store->reply))
        error = hv_decode_fail(dec, "an answer is not complete");
    return error ? error : hv_store_session_decode(d->store->session, dec);
}

int hv_store_ring_decode(struct hv_domain *d, struct hv_decoder *dec)
{
    uint32_t port, broken;
    uint64_t gfn;
    int error = hv_decode_u64(dec, &gfn);

    if (!error)
        error = hv_decode_u32(dec, &port);
    if (!error)
        error = hv_decode_count(dec, "whether it is broken", 1, &broken);
    return error ? error : decode_ring(d, gfn, port, broken, dec);
}
