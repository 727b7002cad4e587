/* A stream of bytes over several connections: moving bytes.
 *
 * Each connection has a thread. A sender's takes the next piece of the stream, and its number, and sends it: a connection that is
 * slow takes fewer. A receiver's has one piece at a time and waits until those before it have gone on; of those that a connection
 * brings each is later than the one before, so the next one is never behind one that waits. One more thread moves what goes back.
 * The last thread that ends closes all.
 */
#include "config.h"

#include "libxldrv/host/stripes.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"

#define BACK_BYTES (64u << 10)

typedef struct {
    gboolean sends;            /* immutable, as what follows */
    int plain_fd, fds[XLDRV_STRIPES_MAX];
    guint count;
    GMutex lock;
    guint64 next;              /* under lock: the piece that is taken or goes on next */
    guint moving, waiting;     /* under lock: threads of connections; those of them with a piece that has to wait */
    guint64 held[XLDRV_STRIPES_MAX]; /* under lock: by those that wait */
    gboolean held_any[XLDRV_STRIPES_MAX];
    GCond turns[XLDRV_STRIPES_MAX]; /* of each, so that nobody wakes in vain */
    gint cut;                  /* atomic: it is over */
    gint threads;              /* atomic */
} Stripes;

typedef struct {
    Stripes *stripes;
    guint number;
} Stripe;

typedef struct {
    XldrvStripeFrame head;
    guint8 bytes[XLDRV_STRIPE_FRAME_BYTES];
} Piece;
G_STATIC_ASSERT(sizeof(XldrvStripeFrame) == 16 && offsetof(Piece, bytes) == 16);

void xldrv_stripes_close(const int *fds, guint count)
{
    for (guint i = 0; i < count; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
}

/* ---- the end */

static void shut_all(Stripes *s, int how)
{
    for (guint i = 0; i < s->count; i++)
        shutdown(s->fds[i], how);
}

/* Without the lock, which who waits for a socket may have. */
static void cut(Stripes *s)
{
    g_atomic_int_set(&s->cut, TRUE);
    shut_all(s, SHUT_RDWR);
    shutdown(s->plain_fd, SHUT_RDWR);
    g_mutex_lock(&s->lock);
    for (guint i = 0; i < s->count; i++)
        g_cond_signal(&s->turns[i]);
    g_mutex_unlock(&s->lock);
}

static void leave(Stripes *s)
{
    if (!g_atomic_int_dec_and_test(&s->threads))
        return;
    xldrv_stripes_close(s->fds, s->count);
    close(s->plain_fd);
    g_mutex_clear(&s->lock);
    for (guint i = 0; i < s->count; i++)
        g_cond_clear(&s->turns[i]);
    g_free(s);
}

/* All that are left have pieces, and none the next one: it will not come. */
static gboolean is_stuck_locked(const Stripes *s)
{
    if (!s->waiting || s->waiting < s->moving)
        return FALSE;
    for (guint i = 0; i < s->count; i++) {
        if (s->held_any[i] && s->held[i] <= s->next)
            return FALSE;
    }
    return TRUE;
}

/* Of a connection that brings no more, or can take no more. */
static void leave_stripe(Stripe *stripe)
{
    Stripes *s = stripe->stripes;
    gboolean last, stuck;

    g_mutex_lock(&s->lock);
    last = --s->moving == 0;
    stuck = is_stuck_locked(s);
    g_mutex_unlock(&s->lock);
    if (stuck)
        cut(s);
    if (last && s->sends)
        shut_all(s, SHUT_WR);
    else if (last)
        shutdown(s->plain_fd, SHUT_RDWR); /* what it was given, it still reads */
    leave(s);
    g_free(stripe);
}

/* ---- sockets */

static ssize_t get_some(int fd, void *bytes, gsize most)
{
    ssize_t n;

    do
        n = recv(fd, bytes, most, 0);
    while (n < 0 && errno == EINTR);
    return n;
}

/* How many there were before the end. */
static gsize get_all(int fd, void *bytes, gsize count)
{
    gsize done = 0;
    ssize_t n;

    while (done < count && (n = get_some(fd, (guint8 *)bytes + done, count - done)) > 0)
        done += (gsize)n;
    return done;
}

static gboolean put_all(int fd, const void *bytes, gsize count)
{
    const guint8 *at = bytes;

    while (count) {
        ssize_t n = send(fd, at, count, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return FALSE;
        at += n;
        count -= (gsize)n;
    }
    return TRUE;
}

/* ---- the sender */

/* FALSE: there is no more. */
static gboolean take_piece(Stripes *s, Piece *piece)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&s->lock);
    ssize_t n = g_atomic_int_get(&s->cut) ? 0 : get_some(s->plain_fd, piece->bytes, sizeof(piece->bytes));

    if (n <= 0)
        return FALSE;
    piece->head = (XldrvStripeFrame){GUINT32_TO_LE(XLDRV_STRIPE_FRAME_MAGIC), GUINT32_TO_LE((guint32)n),
                                     GUINT64_TO_LE(s->next)};
    s->next++;
    return TRUE;
}

static gpointer send_pieces(gpointer data)
{
    Stripe *stripe = data;
    Stripes *s = stripe->stripes;
    g_autofree Piece *piece = g_malloc(sizeof(Piece));

    while (take_piece(s, piece)) {
        if (!put_all(s->fds[stripe->number], piece, sizeof(piece->head) + GUINT32_FROM_LE(piece->head.bytes))) {
            cut(s);
            break;
        }
    }
    leave_stripe(stripe);
    return NULL;
}

/* ---- the receiver */

/* FALSE: there is no more; *@broken: and there should be. */
static gboolean get_piece(int fd, Piece *piece, gboolean *broken)
{
    gsize n = get_all(fd, &piece->head, sizeof(piece->head)), bytes = GUINT32_FROM_LE(piece->head.bytes);

    *broken = n != 0;
    if (n < sizeof(piece->head) || GUINT32_FROM_LE(piece->head.magic) != XLDRV_STRIPE_FRAME_MAGIC || !bytes ||
        bytes > sizeof(piece->bytes))
        return FALSE;
    return get_all(fd, piece->bytes, bytes) == bytes;
}

/* Until it is its turn. FALSE: it never will be. */
static gboolean wait_for_turn_locked(Stripes *s, guint stripe, guint64 number)
{
    gboolean stuck = FALSE;

    s->held[stripe] = number;
    s->held_any[stripe] = TRUE;
    s->waiting++;
    while (number > s->next && !stuck && !g_atomic_int_get(&s->cut)) {
        stuck = is_stuck_locked(s);
        if (!stuck)
            g_cond_wait(&s->turns[stripe], &s->lock);
    }
    s->waiting--;
    s->held_any[stripe] = FALSE;
    return number == s->next && !g_atomic_int_get(&s->cut);
}

static void wake_next_locked(Stripes *s)
{
    for (guint i = 0; i < s->count; i++) {
        if (s->held_any[i] && s->held[i] <= s->next)
            g_cond_signal(&s->turns[i]);
    }
}

static gboolean pass_on(Stripe *stripe, const Piece *piece)
{
    Stripes *s = stripe->stripes;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&s->lock);

    if (!wait_for_turn_locked(s, stripe->number, GUINT64_FROM_LE(piece->head.number)) ||
        !put_all(s->plain_fd, piece->bytes, GUINT32_FROM_LE(piece->head.bytes)))
        return FALSE;
    s->next++;
    wake_next_locked(s);
    return TRUE;
}

static gpointer receive_pieces(gpointer data)
{
    Stripe *stripe = data;
    Stripes *s = stripe->stripes;
    g_autofree Piece *piece = g_malloc(sizeof(Piece));
    gboolean broken;

    while (get_piece(s->fds[stripe->number], piece, &broken)) {
        broken = !pass_on(stripe, piece);
        if (broken)
            break;
    }
    if (broken)
        cut(s);
    leave_stripe(stripe);
    return NULL;
}

/* ---- what goes back */

/* A receiver that ends has said all; what comes to it is of no use. */
static void end_back(Stripes *s)
{
    if (s->sends) {
        cut(s);
        return;
    }
    shutdown(s->fds[0], SHUT_WR);
    shut_all(s, SHUT_RD);
}

static gpointer move_back(gpointer data)
{
    Stripes *s = data;
    int from = s->sends ? s->fds[0] : s->plain_fd, to = s->sends ? s->plain_fd : s->fds[0];
    g_autofree guint8 *bytes = g_malloc(BACK_BYTES);
    ssize_t n;

    while ((n = get_some(from, bytes, BACK_BYTES)) > 0 && put_all(to, bytes, (gsize)n))
        continue;
    end_back(s);
    leave(s);
    return NULL;
}

/* ---- the beginning */

static void start_stripe(Stripes *s, guint number)
{
    Stripe *stripe = g_new(Stripe, 1);

    *stripe = (Stripe){s, number};
    g_thread_unref(g_thread_new("stripe", s->sends ? send_pieces : receive_pieces, stripe));
}

static int carry(const int *fds, guint count, gboolean sends, GError **error)
{
    int pair[2], inside;
    Stripes *s;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        xldrv_set_system_error(error, errno, "cannot make a socket");
        xldrv_stripes_close(fds, count);
        return -1;
    }
    inside = pair[0];
    s = g_new0(Stripes, 1);
    *s = (Stripes){.sends = sends, .plain_fd = pair[1], .count = count, .moving = count, .threads = (gint)count + 1};
    memcpy(s->fds, fds, count * sizeof(*fds));
    g_mutex_init(&s->lock);
    for (guint i = 0; i < count; i++)
        g_cond_init(&s->turns[i]);
    for (guint i = 0; i < count; i++)
        start_stripe(s, i);
    g_thread_unref(g_thread_new("stripes-back", move_back, s));
    return inside;
}

int xldrv_stripes_send(const int *fds, guint count, GError **error)
{
    return carry(fds, count, TRUE, error);
}

int xldrv_stripes_receive(const int *fds, guint count, GError **error)
{
    return carry(fds, count, FALSE, error);
}
