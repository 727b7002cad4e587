/* The console backend.
 *
 * Output goes: guest's ring -> backlog -> terminal, and to the log on its way. The backlog forgets its oldest
 * bytes, so neither ring nor guest ever waits for a terminal. Input goes terminal -> ring, and is read from the
 * terminal only when the ring has room.
 *
 * A terminal is a socket, which ends when its peer hangs up, or the master of a pty, which hangs up whenever its
 * last slave is closed and comes back: it is then taken out of the loop (epoll would report the hang-up for
 * ever) and looked at a few times a second. A listening socket gives one terminal after the other.
 * Source: xen/io/console.h.
 */
#include "config.h"

#include "hv/backend/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "hv/control/server.h"
#include "hv/hypercall/evtchn.h"
#include "hv/hypercall/grant-map.h"
#include "hv/log.h"
#include "hv/loop.h"
#include "hv/stream/codec.h"
#include "hv/xen-abi.h"

#define HANGUP_RETRY_NS 200000000ull
#define WRITES_AT_ONCE  4u /* the backlog lies in two pieces at most */

struct hv_console {
    struct hv_domain *domain;
    struct xencons_interface *ring; /* guest memory, pinned; NULL: the guest has none */
    const struct hv_grant_map *map; /* what it is mapped by; NULL: nothing */
    uint32_t port;
    struct hv_loop_source *wakeup; /* the guest notified, or there is output */
    struct hv_loop_source *retry;  /* timer: looks whether a hung-up pty is back */

    /* Loop thread. */
    unsigned number;
    int tty_fd, log_fd;
    struct hv_log_meter log_meter;
    int listen_fd; /* where a terminal's peer comes from; -1: nowhere */
    bool is_pty;
    struct hv_loop_source *tty; /* NULL while there is no terminal or it is hung up */
    uint32_t tty_events;

    pthread_mutex_t lock; /* of all below */
    char backlog[HV_CONSOLE_BACKLOG_BYTES];
    size_t first, used;   /* the backlog's oldest byte, its length */
    char pending_log[4096]; /* emergency output of other threads on its way to the log */
    size_t log_used;
};

/* ------------------------------------------------------------------ backlog */

static void append_byte_locked(struct hv_console *con, char byte)
{
    con->backlog[(con->first + con->used) % sizeof(con->backlog)] = byte;
    if (con->used < sizeof(con->backlog))
        con->used++;
    else
        con->first = (con->first + 1) % sizeof(con->backlog);
}

static void append_locked(struct hv_console *con, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        append_byte_locked(con, bytes[i]);
}

/* The oldest bytes that lie together. */
static size_t oldest_run_locked(const struct hv_console *con)
{
    size_t to_end = sizeof(con->backlog) - con->first;

    return con->used < to_end ? con->used : to_end;
}

static void drop_oldest_locked(struct hv_console *con, size_t count)
{
    con->first = (con->first + count) % sizeof(con->backlog);
    con->used -= count;
}

/* A full disk loses log, not console. A full log is told of, and goes on. */
static void write_log(struct hv_console *con, const char *bytes, size_t count)
{
    if (con->log_fd >= 0 && hv_log_meter_add(&con->log_meter, count))
        hv_control_notify(con->domain, HV_EVENT_LOG_FULL, con->number);
    while (con->log_fd >= 0 && count) {
        ssize_t done = write(con->log_fd, bytes, count);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return;
        bytes += done;
        count -= (size_t)done;
    }
}

/* ------------------------------------------------------------------ ring */

static void ring_written(struct hv_console *con)
{
    if (con->map)
        hv_grant_written(con->domain, con->map, 0, sizeof(*con->ring));
}

/* Moves what the guest wrote into the backlog. True if there was something. */
static bool take_output(struct hv_console *con)
{
    struct xencons_interface *ring = con->ring;
    uint32_t cons = ring ? __atomic_load_n(&ring->out_cons, __ATOMIC_RELAXED) : 0;
    uint32_t prod = ring ? __atomic_load_n(&ring->out_prod, __ATOMIC_ACQUIRE) : 0;
    char bytes[sizeof(ring->out)];
    uint32_t count = prod - cons;

    if (count == 0 || count > sizeof(ring->out))
        return false; /* empty, or indexes that make no sense: the guest's own loss */
    for (uint32_t i = 0; i < count; i++)
        bytes[i] = ring->out[MASK_XENCONS_IDX(cons + i, ring->out)];
    __atomic_store_n(&ring->out_cons, prod, __ATOMIC_RELEASE);
    ring_written(con);

    pthread_mutex_lock(&con->lock);
    append_locked(con, bytes, count);
    pthread_mutex_unlock(&con->lock);
    write_log(con, bytes, count);
    return true;
}

static uint32_t input_room(const struct hv_console *con)
{
    uint32_t used;

    if (!con->ring || con->domain->frozen)
        return 0;
    used = __atomic_load_n(&con->ring->in_prod, __ATOMIC_RELAXED) -
           __atomic_load_n(&con->ring->in_cons, __ATOMIC_ACQUIRE);
    return used > sizeof(con->ring->in) ? 0 : (uint32_t)sizeof(con->ring->in) - used;
}

static void put_input(struct hv_console *con, const char *bytes, size_t count)
{
    struct xencons_interface *ring = con->ring;
    uint32_t prod = __atomic_load_n(&ring->in_prod, __ATOMIC_RELAXED);

    for (size_t i = 0; i < count; i++)
        ring->in[MASK_XENCONS_IDX(prod + i, ring->in)] = bytes[i];
    __atomic_store_n(&ring->in_prod, prod + (uint32_t)count, __ATOMIC_RELEASE);
    ring_written(con);
    hv_evtchn_backend_notify(con->domain, con->port);
}

/* ------------------------------------------------------------------ terminal */

static void tty_ready(void *opaque, int fd, uint32_t events);

static void stop_watching(struct hv_console *con)
{
    if (con->tty)
        hv_loop_remove(con->tty);
    con->tty = NULL;
}

static void detach(struct hv_console *con)
{
    stop_watching(con);
    hv_loop_arm(con->retry, 0);
    if (con->tty_fd >= 0)
        close(con->tty_fd);
    con->tty_fd = -1;
}

static void listen_for_peer(struct hv_console *con);

/* Nobody is at the other end: a socket is done with, unless another may come; a pty may get somebody again. */
static void hung_up(struct hv_console *con)
{
    if (!con->is_pty) {
        detach(con);
        listen_for_peer(con);
        return;
    }
    stop_watching(con);
    hv_loop_arm(con->retry, hv_loop_now() + HANGUP_RETRY_NS);
}

static void watch(struct hv_console *con)
{
    con->tty_events = EPOLLIN;
    con->tty = hv_loop_add_fd(con->domain->loop, con->tty_fd, con->tty_events, tty_ready, con);
    if (!con->tty)
        hung_up(con);
}

static int set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

/* While there is a peer the next one waits. */
static void peer_came(void *opaque, int fd, uint32_t events)
{
    struct hv_console *con = opaque;
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (peer < 0 && (errno == EAGAIN || errno == ECONNABORTED || errno == EINTR))
        return;
    stop_watching(con);
    if (peer < 0) { /* out of descriptors: epoll would report it for ever */
        hv_loop_arm(con->retry, hv_loop_now() + HANGUP_RETRY_NS);
        return;
    }
    con->tty_fd = peer;
    watch(con);
    hv_loop_wake(con->wakeup);
}

static void listen_for_peer(struct hv_console *con)
{
    if (con->listen_fd < 0)
        return;
    con->tty = hv_loop_add_fd(con->domain->loop, con->listen_fd, EPOLLIN, peer_came, con);
    if (!con->tty)
        hv_loop_arm(con->retry, hv_loop_now() + HANGUP_RETRY_NS);
}

static void look_again(void *opaque)
{
    struct hv_console *con = opaque;
    struct pollfd state = {.fd = con->tty_fd, .events = POLLOUT};

    if (con->tty)
        return;
    if (con->tty_fd < 0) {
        listen_for_peer(con);
        return;
    }
    if (poll(&state, 1, 0) < 0 || (state.revents & (POLLHUP | POLLERR))) {
        hv_loop_arm(con->retry, hv_loop_now() + HANGUP_RETRY_NS);
        return;
    }
    watch(con);
    hv_loop_wake(con->wakeup);
}

/* True when it may go on, false when the terminal takes no more now or is gone. */
static bool write_some(struct hv_console *con)
{
    ssize_t done;
    int error;

    pthread_mutex_lock(&con->lock);
    done = write(con->tty_fd, con->backlog + con->first, oldest_run_locked(con));
    error = errno;
    if (done > 0)
        drop_oldest_locked(con, (size_t)done);
    pthread_mutex_unlock(&con->lock);
    if (done < 0 && error != EAGAIN && error != EINTR)
        hung_up(con);
    return done > 0 || (done < 0 && error == EINTR);
}

static bool has_output(struct hv_console *con)
{
    bool has;

    pthread_mutex_lock(&con->lock);
    has = con->used != 0;
    pthread_mutex_unlock(&con->lock);
    return has;
}

/* No more than the backlog holds: a guest that writes as fast as its terminal reads would keep the loop here.
 * For the rest the loop is told to come back (choose_events). */
static void write_out(struct hv_console *con)
{
    for (unsigned i = 0; i < WRITES_AT_ONCE; i++)
        if (!con->tty || con->tty_fd < 0 || !has_output(con) || !write_some(con))
            return;
}

static void read_in(struct hv_console *con)
{
    char bytes[sizeof(con->ring->in)];
    uint32_t room = input_room(con);
    ssize_t count;

    if (!room)
        return;
    count = read(con->tty_fd, bytes, room);
    if (count > 0)
        put_input(con, bytes, (size_t)count);
    else if (count == 0 || (errno != EAGAIN && errno != EINTR))
        hung_up(con);
}

/* Watches the terminal for what can be done with it now: else epoll would report it all the time. */
static void choose_events(struct hv_console *con)
{
    uint32_t events = (input_room(con) ? EPOLLIN : 0) | (has_output(con) ? EPOLLOUT : 0);

    if (!con->tty || con->tty_fd < 0 || events == con->tty_events)
        return;
    con->tty_events = events;
    if (hv_loop_set_events(con->tty, events))
        hung_up(con);
}

static void tty_ready(void *opaque, int fd, uint32_t events)
{
    struct hv_console *con = opaque;

    (void)fd;
    if (events & EPOLLOUT)
        write_out(con);
    if (con->tty && (events & EPOLLIN))
        read_in(con);
    else if (con->tty && (events & (EPOLLHUP | EPOLLERR)))
        hung_up(con);
    choose_events(con);
}

static void flush_pending_log(struct hv_console *con)
{
    char bytes[sizeof(con->pending_log)];
    size_t count;

    pthread_mutex_lock(&con->lock);
    count = con->log_used;
    memcpy(bytes, con->pending_log, count);
    con->log_used = 0;
    pthread_mutex_unlock(&con->lock);
    write_log(con, bytes, count);
}

static void serve(void *opaque)
{
    struct hv_console *con = opaque;

    flush_pending_log(con);
    if (con->ring && !con->domain->frozen && take_output(con))
        hv_evtchn_backend_notify(con->domain, con->port);
    write_out(con);
    choose_events(con);
}

void hv_console_thaw(struct hv_console *con)
{
    hv_loop_wake(con->wakeup);
}

static void guest_notified(void *opaque)
{
    struct hv_console *con = opaque;

    hv_loop_wake(con->wakeup);
}

/* ------------------------------------------------------------------ from outside */

struct hv_console *hv_console_make(struct hv_domain *d, unsigned number)
{
    struct hv_console *con = calloc(1, sizeof(*con));

    if (!con)
        return NULL;
    con->domain = d;
    con->number = number;
    con->tty_fd = con->log_fd = con->listen_fd = -1;
    pthread_mutex_init(&con->lock, NULL);
    con->wakeup = hv_loop_add_wakeup(d->loop, serve, con);
    con->retry = hv_loop_add_timer(d->loop, look_again, con);
    if (con->wakeup && con->retry)
        return con;
    hv_console_destroy(con);
    return NULL;
}

int hv_console_connect(struct hv_console *con, void *ring, const struct hv_grant_map *map, uint32_t port)
{
    int error;

    con->ring = ring;
    con->map = map;
    con->port = port;
    error = hv_evtchn_backend_bind(con->domain, port, guest_notified, con);
    if (error)
        con->ring = NULL;
    else
        hv_loop_wake(con->wakeup);
    return error;
}

void hv_console_disconnect(struct hv_console *con)
{
    if (!con->ring)
        return;
    hv_evtchn_backend_unbind(con->domain, con->port);
    serve(con); /* the last words */
    con->ring = NULL;
    con->map = NULL;
    choose_events(con);
}

uint32_t hv_console_port(const struct hv_console *con)
{
    return con->port;
}

void hv_console_destroy(struct hv_console *con)
{
    hv_console_disconnect(con);
    if (con->wakeup && con->retry)
        detach(con);
    if (con->listen_fd >= 0)
        close(con->listen_fd);
    if (con->wakeup)
        hv_loop_remove(con->wakeup);
    if (con->retry)
        hv_loop_remove(con->retry);
    if (con->log_fd >= 0)
        close(con->log_fd);
    pthread_mutex_destroy(&con->lock);
    free(con);
}

int hv_console_new(struct hv_domain *d, hv_gfn gfn, uint32_t port)
{
    void *ring = hv_memory_at(&d->mem, hv_gfn_to_gpa(gfn), HV_PAGE_SIZE, true);
    struct hv_console *con = ring ? hv_console_make(d, 0) : NULL;
    int error;

    if (!con)
        return ring ? -ENOMEM : -EFAULT;
    error = hv_console_connect(con, ring, NULL, port);
    if (error)
        hv_console_destroy(con);
    else
        d->console = con;
    return error;
}

void hv_console_free(struct hv_domain *d)
{
    if (d->console)
        hv_console_destroy(d->console);
    d->console = NULL;
}

/* The line discipline of a pty must not touch what goes through, least of all echo output back as input. */
static void make_raw(int fd)
{
    struct termios mode;

    if (tcgetattr(fd, &mode))
        return;
    cfmakeraw(&mode);
    (void)tcsetattr(fd, TCSANOW, &mode);
}

static bool is_listening(int fd)
{
    int listening = 0;
    socklen_t bytes = sizeof(listening);

    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &bytes) == 0 && listening;
}

bool hv_console_can_use(int tty_fd)
{
    return tty_fd < 0 || !set_nonblocking(tty_fd);
}

int hv_console_set_terminal(struct hv_console *con, int tty_fd, int log_fd)
{
    if (!hv_console_can_use(tty_fd))
        return -EINVAL;
    detach(con);
    if (con->log_fd >= 0)
        close(con->log_fd);
    if (con->listen_fd >= 0)
        close(con->listen_fd);
    con->listen_fd = tty_fd >= 0 && is_listening(tty_fd) ? tty_fd : -1;
    con->tty_fd = con->listen_fd >= 0 ? -1 : tty_fd;
    con->log_fd = log_fd;
    hv_log_meter_start(&con->log_meter, log_fd, 0);
    con->is_pty = con->tty_fd >= 0 && isatty(con->tty_fd);
    if (con->is_pty)
        make_raw(tty_fd);
    if (con->tty_fd >= 0)
        watch(con);
    listen_for_peer(con);
    hv_loop_wake(con->wakeup);
    return 0;
}

void hv_console_set_log(struct hv_console *con, int log_fd, uint64_t limit_bytes)
{
    flush_pending_log(con);
    if (con->log_fd >= 0)
        close(con->log_fd);
    con->log_fd = log_fd;
    hv_log_meter_start(&con->log_meter, log_fd, limit_bytes);
}

int hv_console_attach(struct hv_domain *d, int tty_fd, int log_fd)
{
    return d->console ? hv_console_set_terminal(d->console, tty_fd, log_fd) : -ENODEV;
}

void hv_console_write(struct hv_domain *d, const void *bytes, size_t count)
{
    struct hv_console *con = d->console;
    size_t room;

    if (!con)
        return;
    pthread_mutex_lock(&con->lock);
    append_locked(con, bytes, count);
    room = sizeof(con->pending_log) - con->log_used;
    room = count < room ? count : room;
    memcpy(con->pending_log + con->log_used, bytes, room);
    con->log_used += room;
    pthread_mutex_unlock(&con->lock);
    hv_loop_wake(con->wakeup);
}

/* ------------------------------------------------------------------ streams */

void hv_console_encode(struct hv_console *con, struct hv_encoder *e)
{
    pthread_mutex_lock(&con->lock);
    hv_encode_u32(e, (uint32_t)con->used);
    hv_encode(e, con->backlog + con->first, oldest_run_locked(con));
    hv_encode(e, con->backlog, con->used - oldest_run_locked(con));
    pthread_mutex_unlock(&con->lock);
}

int hv_console_decode(struct hv_console *con, struct hv_decoder *d)
{
    uint32_t used;
    int error = hv_decode_count(d, "the length of a console's output", HV_CONSOLE_BACKLOG_BYTES, &used);

    if (error)
        return error;
    pthread_mutex_lock(&con->lock);
    error = hv_decode(d, con->backlog, used);
    con->first = 0;
    con->used = error ? 0 : used;
    pthread_mutex_unlock(&con->lock);
    hv_loop_wake(con->wakeup);
    return error;
}
