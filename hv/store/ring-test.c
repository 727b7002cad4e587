/* The ring: a guest that plays by the rules, one that does not, and a daemon that goes away. Source of the facts:
 * Xen docs/misc/xenstore-ring.txt. The guest is this file; the daemon is the far end of a socket pair.
 */
#include "config.h"

#include <errno.h>

#include "hv/store/ring.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/hypercall/evtchn.h"
#include "hv/log.h"
#include "hv/loop.h"
#include "hv/tap.h"
#include "hv/xen-abi.h"

#define RING_GFN 16u
#define PORT     3u

static hv_evtchn_notify_fn *notify;
static void *notify_opaque;
static unsigned notified, lost_count;

int hv_evtchn_backend_bind(struct hv_domain *d, hv_evtchn_port port, hv_evtchn_notify_fn *fn, void *opaque)
{
    (void)d;
    notify = fn;
    notify_opaque = opaque;
    return port == PORT ? 0 : -EINVAL;
}

void hv_evtchn_backend_unbind(struct hv_domain *d, hv_evtchn_port port)
{
    (void)d;
    (void)port;
}

void hv_evtchn_backend_notify(struct hv_domain *d, hv_evtchn_port port)
{
    (void)d;
    notified += port == PORT;
}

static struct hv_domain *d;
static struct xenstore_domain_interface *page;
static int daemon_fd = -1;

static void on_lost(struct hv_domain *domain)
{
    lost_count += domain == d;
}

static void stop_loop(void *opaque)
{
    hv_loop_quit(opaque);
}

/* Lets the loop do all that it has to do now: a wake-up of our own comes after those that are due. */
static void settle(void)
{
    struct hv_loop_source *stop = hv_loop_add_wakeup(d->loop, stop_loop, d->loop);

    for (unsigned i = 0; i < 8; i++) {
        hv_loop_wake(stop);
        hv_loop_run(d->loop);
    }
    hv_loop_remove(stop);
}

static void connect_daemon(void)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 || hv_store_ring_attach(d, ends[0]) < 0)
        abort();
    daemon_fd = ends[1];
    fcntl(daemon_fd, F_SETFL, O_NONBLOCK);
    settle();
}

static void disconnect_daemon(void)
{
    close(daemon_fd);
    daemon_fd = -1;
    settle();
}

static void set_up(void)
{
    d = calloc(1, sizeof(*d));
    if (!d || hv_memory_init(&d->mem) < 0 || hv_loop_new(&d->loop) < 0)
        abort();
    strcpy(d->name, "test");
    d->mem.max_pages = 64;
    if (hv_memory_populate(&d->mem, hv_gfn_of(0), 64) < 0 ||
        hv_store_ring_new(d, hv_gfn_of(RING_GFN), PORT) < 0)
        abort();
    hv_store_ring_set_lost(d, on_lost);
    page = hv_memory_at(&d->mem, hv_gpa_of(RING_GFN << HV_PAGE_SHIFT), sizeof(*page), true);
    notified = lost_count = 0;
    connect_daemon();
}

static void tear_down(void)
{
    hv_store_ring_free(d);
    if (daemon_fd >= 0)
        close(daemon_fd);
    daemon_fd = -1;
    hv_loop_free(d->loop);
    hv_memory_fini(&d->mem);
    free(d);
}

/* ---- the guest */

static void guest_put(const void *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        while (page->req_prod - page->req_cons == XENSTORE_RING_SIZE) {
            notify(notify_opaque);
            settle();
        }
        page->req[MASK_XENSTORE_IDX(page->req_prod)] = ((const char *)bytes)[i];
        __atomic_store_n(&page->req_prod, page->req_prod + 1, __ATOMIC_SEQ_CST);
    }
    notify(notify_opaque);
    settle();
}

static void guest_says(uint32_t type, uint32_t req_id, uint32_t tx_id, const char *payload, size_t bytes)
{
    struct xsd_sockmsg h = {.type = type, .req_id = req_id, .tx_id = tx_id, .len = (uint32_t)bytes};

    guest_put(&h, sizeof(h));
    guest_put(payload, bytes);
}

/* The bytes the guest has not taken yet. */
static size_t guest_get(void *out, size_t count)
{
    size_t n = 0;

    while (n < count && page->rsp_cons != page->rsp_prod) {
        ((char *)out)[n++] = page->rsp[MASK_XENSTORE_IDX(page->rsp_cons)];
        __atomic_store_n(&page->rsp_cons, page->rsp_cons + 1, __ATOMIC_SEQ_CST);
        if (page->rsp_cons == page->rsp_prod) {
            notify(notify_opaque);
            settle();
        }
    }
    return n;
}

/* The next message that the guest is told is of that kind and says that. */
static bool guest_hears(uint32_t type, uint32_t req_id, const char *payload)
{
    struct xsd_sockmsg h;
    char text[XENSTORE_PAYLOAD_MAX + 1] = "";

    if (guest_get(&h, sizeof(h)) != sizeof(h) || h.len > XENSTORE_PAYLOAD_MAX || guest_get(text, h.len) != h.len)
        return false;
    if (h.type != type || h.req_id != req_id || strcmp(text, payload) != 0) {
        printf("# heard type %u req %u \"%s\"\n", h.type, h.req_id, text);
        return false;
    }
    return true;
}

static bool guest_hears_nothing(void)
{
    return page->rsp_cons == page->rsp_prod;
}

/* ---- the daemon */

/* It gets a request of that kind with that payload (up to its first NUL). */
static bool daemon_hears(uint32_t type, const char *payload, struct xsd_sockmsg *header)
{
    struct xsd_sockmsg h = {0};
    char text[XENSTORE_PAYLOAD_MAX + 1] = "";

    if (recv(daemon_fd, &h, sizeof(h), MSG_DONTWAIT) != sizeof(h) || h.len > XENSTORE_PAYLOAD_MAX ||
        (h.len && recv(daemon_fd, text, h.len, MSG_DONTWAIT) != (ssize_t)h.len))
        return false;
    if (header)
        *header = h;
    return h.type == type && !strcmp(text, payload);
}

static void daemon_says(uint32_t type, uint32_t req_id, uint32_t tx_id, const char *payload, size_t bytes)
{
    struct xsd_sockmsg h = {.type = type, .req_id = req_id, .tx_id = tx_id, .len = (uint32_t)bytes};

    if (send(daemon_fd, &h, sizeof(h), MSG_NOSIGNAL) != sizeof(h) ||
        send(daemon_fd, payload, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
        printf("# the daemon could not send\n");
    settle();
}

static bool exchange(uint32_t type, uint32_t req_id, const char *payload, size_t bytes, const char *answer)
{
    guest_says(type, req_id, 0, payload, bytes);
    if (!daemon_hears(type, payload, NULL))
        return false;
    daemon_says(type, req_id, 0, answer, strlen(answer) + 1);
    return guest_hears(type, req_id, answer);
}

/* ---- tests */

static void test_messages(void)
{
    static char big[XENSTORE_PAYLOAD_MAX + 1];

    set_up();
    TAP_OK(page->server_features == (XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR),
           "features are offered");
    TAP_OK(exchange(XS_READ, 1, "name", 5, "g1"), "a request and its answer");
    TAP_OK(notified > 0, "the guest was notified");
    memset(big, 'x', XENSTORE_PAYLOAD_MAX - 1);
    guest_says(XS_READ, 2, 0, big, XENSTORE_PAYLOAD_MAX);
    TAP_OK(daemon_hears(XS_READ, big, NULL), "a request four times as long as the ring");
    daemon_says(XS_READ, 2, 0, big, XENSTORE_PAYLOAD_MAX);
    TAP_OK(guest_hears(XS_READ, 2, big), "and such an answer");
    daemon_says(XS_WATCH_EVENT, 0, 0, "a\0t", 4);
    TAP_OK(guest_hears(XS_WATCH_EVENT, 0, "a"), "an event");
    tear_down();
}

/* 64 requests without a look at the answers: the ring stops taking them, then goes on. */
static void test_back_pressure(void)
{
    unsigned sent = 0, answered = 0;

    set_up();
    while (sent < 64 && page->req_prod - page->req_cons + sizeof(struct xsd_sockmsg) + 2 <= XENSTORE_RING_SIZE)
        guest_says(XS_READ, ++sent, 0, "/", 2);
    TAP_OK(page->req_prod != page->req_cons, "the ring is left full while too much is in flight");
    for (bool more = true; more;) {
        more = false;
        while (daemon_hears(XS_READ, "/", NULL)) {
            more = true;
            daemon_says(XS_READ, ++answered, 0, "", 0);
        }
        for (unsigned i = 0; !guest_hears_nothing() && i < 64; i++) {
            struct xsd_sockmsg h;

            guest_get(&h, sizeof(h));
        }
    }
    TAP_OK(answered == sent, "all are answered in the end (%u of %u)", answered, sent);
    tear_down();
}

static void test_restart(void)
{
    struct xsd_sockmsg h;

    set_up();
    TAP_OK(exchange(XS_WATCH, 1, "control/shutdown\0tok", 21, "OK") && exchange(XS_WATCH, 2, "device\0x", 9, "OK") &&
               exchange(XS_UNWATCH, 3, "device\0x", 9, "OK"),
           "two watches, one taken back");
    guest_says(XS_WATCH, 4, 0, "refused\0x", 10);
    daemon_hears(XS_WATCH, "refused", NULL);
    daemon_says(XS_ERROR, 4, 0, "E2BIG", 6);
    guest_hears(XS_ERROR, 4, "E2BIG");
    TAP_OK(exchange(XS_TRANSACTION_START, 5, "", 1, "41"), "a transaction is open");
    guest_says(XS_READ, 6, 0, "a", 2);
    guest_says(XS_READ, 7, 41, "b", 2);
    disconnect_daemon();
    TAP_OK(lost_count == 1, "the loss is told once");
    TAP_OK(guest_hears(XS_ERROR, 7, "EAGAIN"), "what was in flight in a transaction fails as a conflict");
    guest_says(XS_READ, 8, 0, "later", 6);
    TAP_OK(guest_hears_nothing(), "a request while there is no daemon waits");

    connect_daemon();
    TAP_OK(daemon_hears(XS_WATCH, "control/shutdown", NULL), "the watch that was acknowledged is set again");
    TAP_OK(daemon_hears(XS_READ, "a", &h) && h.req_id == 6, "then what was in flight comes once more");
    disconnect_daemon();
    connect_daemon();
    TAP_OK(daemon_hears(XS_WATCH, "control/shutdown", NULL) && daemon_hears(XS_READ, "a", &h) && h.req_id == 6,
           "so it does if that daemon is lost as well");
    TAP_OK(daemon_hears(XS_READ, "later", &h) && h.req_id == 8, "then the request that waited comes");
    daemon_says(XS_WATCH, 0, 0, "OK", 3);
    daemon_says(XS_READ, 6, 0, "at last", 7);
    TAP_OK(guest_hears(XS_READ, 6, "at last"), "and is answered");
    TAP_OK(guest_hears_nothing(), "the guest does not see the answer to our own request");
    daemon_says(XS_WATCH_EVENT, 0, 0, "control/shutdown\0tok", 21);
    TAP_OK(guest_hears(XS_WATCH_EVENT, 0, "control/shutdown"), "but the event");
    daemon_says(XS_READ, 8, 0, "here", 5);
    TAP_OK(guest_hears(XS_READ, 8, "here"), "and the answer to its own");
    guest_says(XS_WRITE, 9, 41, "c\0v", 3);
    TAP_OK(guest_hears(XS_ERROR, 9, "EAGAIN"), "the old transaction: EAGAIN");
    guest_says(XS_TRANSACTION_END, 10, 41, "T", 2);
    TAP_OK(guest_hears(XS_ERROR, 10, "EAGAIN") && !daemon_hears(XS_TRANSACTION_END, "T", NULL),
           "its end: EAGAIN, and the daemon never hears of it");
    guest_says(XS_TRANSACTION_END, 11, 41, "T", 2);
    TAP_OK(daemon_hears(XS_TRANSACTION_END, "T", NULL), "then its number is forgotten");
    tear_down();
}

static void test_guest_reconnects(void)
{
    set_up();
    exchange(XS_WATCH, 1, "old\0t", 6, "OK");
    guest_says(XS_READ, 2, 0, "x", 2);
    daemon_hears(XS_READ, "x", NULL);
    guest_put("half a header", 9);
    page->req_prod = 12345;
    page->connection = XENSTORE_RECONNECT;
    notify(notify_opaque);
    settle();
    TAP_OK(page->connection == XENSTORE_CONNECTED && page->req_prod == 0 && page->req_cons == 0 &&
               page->rsp_prod == 0 && page->rsp_cons == 0 && page->error == XENSTORE_ERROR_NONE,
           "the ring is empty and connected");
    TAP_OK(daemon_hears(XS_RESET_WATCHES, "", NULL), "the daemon forgets its watches");
    daemon_says(XS_READ, 2, 0, "stale", 6);
    daemon_says(XS_WATCH_EVENT, 0, 0, "old\0t", 6);
    daemon_says(XS_RESET_WATCHES, 0, 0, "OK", 3);
    TAP_OK(guest_hears_nothing(), "nothing of before reaches the guest");
    TAP_OK(exchange(XS_READ, 3, "y", 2, "fresh"), "it goes on");
    disconnect_daemon();
    connect_daemon();
    TAP_OK(!daemon_hears(XS_WATCH, "old", NULL), "the old watch is not set again");
    tear_down();
}

static void test_hostile_guest(void)
{
    struct xsd_sockmsg h = {.type = XS_READ, .len = XENSTORE_PAYLOAD_MAX + 1};

    set_up();
    page->req_prod = page->req_cons + XENSTORE_RING_SIZE + 1;
    notify(notify_opaque);
    settle();
    TAP_OK(page->error == XENSTORE_ERROR_RINGIDX, "indexes too far apart");
    page->req_prod = page->req_cons;
    guest_says(XS_READ, 1, 0, "x", 2);
    TAP_OK(!daemon_hears(XS_READ, "x", NULL), "nothing more is taken");
    page->connection = XENSTORE_RECONNECT;
    notify(notify_opaque);
    settle();
    daemon_hears(XS_RESET_WATCHES, "", NULL);
    daemon_says(XS_RESET_WATCHES, 0, 0, "OK", 3);
    TAP_OK(exchange(XS_READ, 2, "x", 2, "ok"), "until it reconnects");
    guest_put(&h, sizeof(h));
    TAP_OK(page->error == XENSTORE_ERROR_PROTO, "a payload that is too long");
    tear_down();

    set_up();
    page->rsp_cons = page->rsp_prod + 5;
    daemon_says(XS_WATCH_EVENT, 0, 0, "a\0b", 4);
    TAP_OK(page->error == XENSTORE_ERROR_RINGIDX, "answers' indexes too far apart");
    tear_down();

    set_up();
    if (hv_memory_release(&d->mem, hv_gfn_of(RING_GFN), 1) < 0)
        abort();
    daemon_says(XS_WATCH_EVENT, 0, 0, "a\0b", 4);
    notify(notify_opaque);
    settle();
    TAP_OK(true, "a guest that gives its ring page away");
    tear_down();
}

static void test_hostile_daemon(void)
{
    struct xsd_sockmsg h = {.type = XS_READ, .len = 5000};

    set_up();
    daemon_says(XS_READ, 1, 0, "unasked", 8);
    TAP_OK(lost_count == 1, "an answer to nothing ends the connection");
    close(daemon_fd);
    connect_daemon();
    if (send(daemon_fd, &h, sizeof(h), MSG_NOSIGNAL) != sizeof(h))
        abort();
    settle();
    TAP_OK(lost_count == 2, "so does a message that is too long");
    tear_down();
}

/* Random bytes and indexes: no more than not crashing is asked. */
static void test_noise(void)
{
    uint32_t x = 1;

    set_up();
    for (unsigned i = 0; i < 3000; i++) {
        char bytes[64];

        for (size_t n = 0; n < sizeof(bytes); n++)
            bytes[n] = (char)((x = x * 1664525 + 1013904223) >> 24 & (n % 16 < 4 ? 0x1f : n % 16 > 12 ? 0 : 0xff));
        memcpy(&page->req[x >> 20 & (XENSTORE_RING_SIZE - 64)], bytes, sizeof(bytes));
        page->req_prod = i % 7 ? page->req_cons + (x >> 12) % 1024 : x;
        page->rsp_cons = i % 5 ? page->rsp_prod : x >> 3;
        page->connection = i % 11 == 0;
        notify(notify_opaque);
        settle();
        while (recv(daemon_fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
            ;
        if (i % 3 == 0)
            daemon_says(XS_WATCH_EVENT, 0, 0, "a\0b", 4);
    }
    TAP_OK(true, "noise");
    tear_down();
}

int main(void)
{
    hv_log_set_level(HV_LOG_ERROR);
    test_messages();
    test_back_pressure();
    test_restart();
    test_guest_reconnects();
    test_hostile_guest();
    test_hostile_daemon();
    test_noise();
    return tap_done();
}
