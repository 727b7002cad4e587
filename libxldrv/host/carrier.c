/* Bytes between two sockets. */
#include "config.h"

#include "libxldrv/host/carrier.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES (256u << 10)

struct _XldrvCarrier {
    int listen_fd; /* -1: both are there from the beginning */
    GMutex lock;
    int fds[2];    /* the first one under lock until it is there; -1: it is not */
    gboolean cut;  /* under lock */
    GThread *thread;
};

/* ---- moving */

typedef struct {
    int from, to;
    guint8 *bytes;
    gsize used, done;
    gboolean ended; /* no more will come */
} Direction;

/* 0: nothing now, -1: the end. */
static ssize_t result_of(ssize_t n)
{
    return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : n <= 0 ? -1 : n;
}

static gboolean waits(const Direction *d)
{
    return d->done < d->used;
}

/* Reads when what was before has gone. FALSE: writing is of no use any more. */
static gboolean move_some(Direction *d)
{
    ssize_t n;

    if (!waits(d) && !d->ended) {
        n = result_of(recv(d->from, d->bytes, BUFFER_BYTES, MSG_DONTWAIT));
        d->ended = n < 0;
        d->done = 0;
        d->used = n > 0 ? (gsize)n : 0;
    }
    if (!waits(d))
        return TRUE;
    n = result_of(send(d->to, d->bytes + d->done, d->used - d->done, MSG_DONTWAIT | MSG_NOSIGNAL));
    d->done += n > 0 ? (gsize)n : 0;
    return n >= 0;
}

/* It has ended, and what it had said has arrived. */
static gboolean is_over(const Direction *d)
{
    return d->ended && !waits(d);
}

/* @out: what comes from that end, @in: what goes to it. Nobody looks at an end that has nothing to do: it would be
 * ready all the time once it has ended. */
static struct pollfd interest_in(const Direction *out, const Direction *in)
{
    short events = (short)((waits(out) || out->ended ? 0 : POLLIN) | (waits(in) ? POLLOUT : 0));

    return (struct pollfd){.fd = events ? out->from : -1, .events = events};
}

static void move(const int fds[2])
{
    g_autofree guint8 *buffer = g_malloc(2 * BUFFER_BYTES);
    Direction there = {.from = fds[0], .to = fds[1], .bytes = buffer};
    Direction back = {.from = fds[1], .to = fds[0], .bytes = buffer + BUFFER_BYTES};

    while (move_some(&there) && move_some(&back) && !is_over(&there) && !is_over(&back)) {
        struct pollfd wait[] = {interest_in(&there, &back), interest_in(&back, &there)};

        poll(wait, G_N_ELEMENTS(wait), -1);
    }
}

/* ---- from the beginning to the end */

static void shut(int fd)
{
    if (fd >= 0)
        shutdown(fd, SHUT_RDWR);
}

static gboolean accept_first(XldrvCarrier *carrier)
{
    int fd;

    if (carrier->listen_fd < 0)
        return TRUE;
    do
        fd = accept4(carrier->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    g_mutex_lock(&carrier->lock);
    carrier->fds[0] = fd;
    if (carrier->cut)
        shut(fd);
    g_mutex_unlock(&carrier->lock);
    return fd >= 0;
}

static gpointer run(gpointer data)
{
    XldrvCarrier *carrier = data;

    if (accept_first(carrier))
        move(carrier->fds);
    shut(carrier->fds[0]);
    shut(carrier->fds[1]);
    return NULL;
}

XldrvCarrier *xldrv_carrier_new(int a, int b, gboolean listening)
{
    XldrvCarrier *carrier = g_new0(XldrvCarrier, 1);

    g_mutex_init(&carrier->lock);
    carrier->listen_fd = listening ? a : -1;
    carrier->fds[0] = listening ? -1 : a;
    carrier->fds[1] = b;
    carrier->thread = g_thread_new("carrier", run, carrier);
    return carrier;
}

void xldrv_carrier_free(XldrvCarrier *carrier)
{
    if (!carrier)
        return;
    g_mutex_lock(&carrier->lock);
    carrier->cut = TRUE;
    shut(carrier->listen_fd);
    shut(carrier->fds[0]);
    shut(carrier->fds[1]);
    g_mutex_unlock(&carrier->lock);
    g_thread_join(carrier->thread);
    for (gsize i = 0; i < G_N_ELEMENTS(carrier->fds); i++) {
        if (carrier->fds[i] >= 0)
            close(carrier->fds[i]);
    }
    if (carrier->listen_fd >= 0)
        close(carrier->listen_fd);
    g_mutex_clear(&carrier->lock);
    g_free(carrier);
}
