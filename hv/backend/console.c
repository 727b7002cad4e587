/* The console backend.
 *
 * Output goes: guest's ring -> backlog -> terminal, and to the log on its way. The backlog forgets its oldest
 * bytes, so neither ring nor guest ever waits for a terminal. Input goes terminal -> ring, and is read from the
 * terminal only when the ring has room.
 *
 * A terminal is a socket, which ends when its peer hangs up, or the master of a pty, which hangs up whenever its
 * last slave is closed and comes back: it is then taken out of the loop (epoll would report the hang-up for
 * ever) and looked at a few times a second.
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
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "hv/hypercall/evtchn.h"
#include "hv/log.h"
#include "hv/loop.h"
#include "hv/xen-abi.h"

#define HANGUP_RETRY_NS 200000000ull
#define WRITES_AT_ONCE  4u /* the backlog lies in two pieces at most */

struct hv_console {
    struct hv_domain *domain;
    struct xencons_interface *ring; /* guest memory, pinned */
    uint32_t port;
    struct hv_loop_source *wakeup; /* the guest notified, or there is output */
    struct hv_loop_source *retry;  /* timer: looks whether a hung-up pty is back */

    /* Loop thread. */
    int tty_fd, log_fd;
    bool is_pty;
    struct hv_loop_source *tty; /* NULL while there is no terminal or it is hung up */
    uint32_t tty_events;

    pthread_mutex_t lock; /* of all below */
    char backlog[HV_CONSOLE_BACKLOG_BYTES];
    size_t first, used;   /* the backlog's oldest byte, its length */
    char pending_log[4096]; /* emergency output of other threads on its way to the log */
    size_t log_used;
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

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

/* A full disk loses log, not console. */
static void write_log(struct hv_console *con, const char *bytes, size_t count)
{
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

/* Moves what the guest wrote into the backlog. True if there was something. */
static bool take_output(struct hv_console *con)
{
    struct xencons_interface *ring = con->ring;
    uint32_t cons = __atomic_load_n(&ring->out_cons, __ATOMIC_RELAXED);
    uint32_t prod = __atomic_load_n(&ring->out_prod, __ATOMIC_ACQUIRE);
    char bytes[sizeof(ring->out)];
    uint32_t count = prod - cons;

    if (count == 0 || count > sizeof(ring->out))
        return false; /* empty, or indexes that make no sense: the guest's own loss */
    for (uint32_t i = 0; i < count; i++)
        bytes[i] = ring->out[MASK_XENCONS_IDX(cons + i, ring->out)];
    __atomic_store_n(&ring->out_cons, prod, __ATOMIC_RELEASE);

    pthread_mutex_lock(&con->lock);
    append_locked(con, bytes, count);
    pthread_mutex_unlock(&con->lock);
    write_log(con, bytes, count);
    return true;
}

static uint32_t input_room(const struct hv_console *con)
{
    uint32_t used = __atomic_load_n(&con->ring->in_prod, __ATOMIC_RELAXED) -
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

/* Nobody is at the other end: a socket is done with, a pty may get somebody again. */
static void hung_up(struct hv_console *con)
{
    if (!con->is_pty) {
        detach(con);
        return;
    }
    stop_watching(con);
    hv_loop_arm(con->retry, now_ns() + HANGUP_RETRY_NS);
}

static void watch(struct hv_console *con)
{
    con->tty_events = EPOLLIN;
    con->tty = hv_loop_add_fd(con->domain->loop, con->tty_fd, con->tty_events, tty_ready, con);
    if (!con->tty)
        hung_up(con);
}

static void look_again(void *opaque)
{
    struct hv_console *con = opaque;
    struct pollfd state = {.fd = con->tty_fd, .events = POLLOUT};

    if (con->tty_fd < 0 || con->tty)
        return;
    if (poll(&state, 1, 0) < 0 || (state.revents & (POLLHUP | POLLERR))) {
        hv_loop_arm(con->retry, now_ns() + HANGUP_RETRY_NS);
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
        if (!con->tty || !has_output(con) || !write_some(con))
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

    if (!con->tty || events == con->tty_events)
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
    if (take_output(con))
        hv_evtchn_backend_notify(con->domain, con->port);
    write_out(con);
    choose_events(con);
}

static void guest_notified(void *opaque)
{
    struct hv_console *con = opaque;

    hv_loop_wake(con->wakeup);
}

/* ------------------------------------------------------------------ from outside */

static int bind_ring(struct hv_console *con, hv_gfn gfn)
{
    con->ring = hv_memory_at(&con->domain->mem, hv_gfn_to_gpa(gfn), HV_PAGE_SIZE, true);
    if (!con->ring)
        return -EFAULT;
    con->wakeup = hv_loop_add_wakeup(con->domain->loop, serve, con);
    con->retry = hv_loop_add_timer(con->domain->loop, look_again, con);
    if (!con->wakeup || !con->retry)
        return -ENOMEM;
    return hv_evtchn_backend_bind(con->domain, con->port, guest_notified, con);
}

int hv_console_new(struct hv_domain *d, hv_gfn ring, uint32_t port)
{
    struct hv_console *con = calloc(1, sizeof(*con));
    int error;

    if (!con)
        return -ENOMEM;
    con->domain = d;
    con->port = port;
    con->tty_fd = con->log_fd = -1;
    pthread_mutex_init(&con->lock, NULL);
    d->console = con;
    error = bind_ring(con, ring);
    if (error)
        hv_console_free(d);
    return error;
}

void hv_console_free(struct hv_domain *d)
{
    struct hv_console *con = d->console;

    if (!con)
        return;
    hv_evtchn_backend_unbind(d, con->port);
    if (con->ring && con->wakeup && con->retry) {
        serve(con); /* the last words */
        detach(con);
    }
    if (con->wakeup)
        hv_loop_remove(con->wakeup);
    if (con->retry)
        hv_loop_remove(con->retry);
    if (con->log_fd >= 0)
        close(con->log_fd);
    pthread_mutex_destroy(&con->lock);
    free(con);
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

static int set_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int hv_console_attach(struct hv_domain *d, int tty_fd, int log_fd)
{
    struct hv_console *con = d->console;

    if (!con)
        return -ENODEV;
    if (tty_fd >= 0 && set_nonblocking(tty_fd))
        return -EINVAL;
    detach(con);
    if (con->log_fd >= 0)
        close(con->log_fd);
    con->tty_fd = tty_fd;
    con->log_fd = log_fd;
    con->is_pty = tty_fd >= 0 && isatty(tty_fd);
    if (con->is_pty)
        make_raw(tty_fd);
    if (tty_fd >= 0)
        watch(con);
    hv_loop_wake(con->wakeup);
    return 0;
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
