/* Images behind an NBD server: the transmission phase of the protocol, straight between socket and guest memory.
 *
 * The toolstack connects and negotiates (libxldrv/host/export.c, by libnbd) and passes the socket with what the server
 * said of the export. What is left is a header of 28 bytes for each request and one of 16 for each answer, and it is done
 * here and not by libnbd because libnbd takes one piece of memory a request, so scattered pages would cost a request each
 * or a copy; and because it brings a TLS library and a dozen others into a process whose own memory is to stay small and
 * that runs hostile code.
 *
 * A request is in a slot from start() to its end; its slot is its cookie. Requests are sent whole and in order, answers
 * come in any order. Whatever breaks (the peer hangs up, or says what makes no sense) fails all that is going on and all
 * that comes, at once and for good: the toolstack hears of it and passes another image.
 *
 * Source: the NBD protocol (doc/proto.md of nbd), simple replies; numbers from linux/nbd.h.
 */
#include "config.h"

#include "hv/backend/blk/image.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/nbd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/log.h"
#include "hv/loop.h"

#define SLOTS         1024u       /* in flight; more wait */
#define IOV_MAX_HERE  130u        /* of a request: header and 128 segments, and what is left of one */
#define DISCARD_MAX   (1u << 30)  /* of one request, whose length has 32 bits */
#define BLOCK_MAX     4096u
#define WAIT_MS       5000
/* A server that says nothing for so long is gone. Long enough for a flush of much to something slow. */
#define SILENCE_NS 180000000000ull
#define ANSWERS_MAX   256u /* taken in one go: server and guest together must not keep the loop here */

_Static_assert(sizeof(struct nbd_request) == 28 && sizeof(struct nbd_reply) == 16, "headers of the NBD protocol");

struct list {
    struct hv_blk_io *first, **end;
};

struct hv_blk_nbd {
    struct hv_blk_host host;
    int fd; /* the image's; -1: broken, or there never was one */
    uint64_t size_bytes;
    bool can_flush, lost;
    bool hurried;           /* it was not: it did not answer in time */
    struct hv_loop_source *source, *wakeup, *timer;
    bool writing;           /* EPOLLOUT is waited for */
    unsigned going_on;      /* all that were started */
    uint64_t heard_ns;      /* when it last said something, or was asked after a pause */
    uint64_t hurry_ns;      /* when all has to have ended; 0: nobody is in a hurry */
    bool timed;             /* the timer runs */
    bool inside, abandoned; /* done() of an operation is running; the image was freed in it */

    struct hv_blk_io *slots[SLOTS];
    uint16_t free_slots[SLOTS];
    unsigned nr_free;

    struct list to_send;
    struct hv_blk_io *sending;  /* in its slot, and not sent whole */
    struct nbd_request request; /* of that */
    size_t sent;                /* of the request and its data */

    struct nbd_reply reply;
    size_t received;         /* of the header, and then the data of @answered */
    struct hv_blk_io *answered; /* a read whose data comes now */

    struct list ended; /* with a result, waiting for the loop to say so */
    struct list failed;
};

static void list_init(struct list *list)
{
    list->first = NULL;
    list->end = &list->first;
}

static void list_add(struct list *list, struct hv_blk_io *io)
{
    io->nbd.next = NULL;
    *list->end = io;
    list->end = &io->nbd.next;
}

static struct hv_blk_io *list_take(struct list *list)
{
    struct hv_blk_io *io = list->first;

    if (io) {
        list->first = io->nbd.next;
        if (!list->first)
            list->end = &list->first;
    }
    return io;
}

/* ------------------------------------------------------------------ the end of operations */

static void free_now(struct hv_blk_nbd *nbd)
{
    if (nbd->source)
        hv_loop_remove(nbd->source);
    if (nbd->wakeup)
        hv_loop_remove(nbd->wakeup);
    if (nbd->timer)
        hv_loop_remove(nbd->timer);
    free(nbd);
}

/* False when the image went with it: nothing of it may be touched any more. */
static bool end(struct hv_blk_nbd *nbd, struct hv_blk_io *io, int result)
{
    bool outer = !nbd->inside;

    if (--nbd->going_on == 0)
        nbd->hurry_ns = 0;
    nbd->inside = true;
    io->done(io, result);
    if (!outer)
        return true;
    nbd->inside = false;
    if (nbd->abandoned) {
        free_now(nbd);
        return false;
    }
    return true;
}

static void free_slot(struct hv_blk_nbd *nbd, uint16_t slot)
{
    nbd->slots[slot] = NULL;
    nbd->free_slots[nbd->nr_free++] = slot;
}

/* Nothing more comes from the server or goes to it. What is going on ends from the loop. */
static void break_off(struct hv_blk_nbd *nbd, const char *why)
{
    struct hv_blk_io *io;

    if (nbd->fd < 0)
        return;
    hv_log(HV_LOG_WARNING, "NBD server: %s", why);
    hv_loop_remove(nbd->source);
    nbd->source = NULL;
    (void)shutdown(nbd->fd, SHUT_RDWR); /* the descriptor itself goes with the image */
    nbd->fd = -1;
    nbd->lost = true;
    nbd->answered = nbd->sending = NULL;
    while ((io = list_take(&nbd->to_send)))
        list_add(&nbd->failed, io);
    for (uint16_t slot = 0; slot < SLOTS; slot++) {
        if (nbd->slots[slot]) {
            list_add(&nbd->failed, nbd->slots[slot]);
            free_slot(nbd, slot);
        }
    }
    hv_loop_wake(nbd->wakeup);
    nbd->host.lost(nbd->host.opaque);
}

/* Those that are there now; what is started meanwhile comes with the next wake-up. False as end(). */
static bool end_list(struct hv_blk_nbd *nbd, struct list *list, int result)
{
    struct hv_blk_io *io = list->first, *next;
    bool alive = true;

    list_init(list);
    for (; io; io = next) { /* while one is left the image is not freed */
        next = io->nbd.next;
        alive = end(nbd, io, result);
    }
    return alive;
}

static bool end_failed(struct hv_blk_nbd *nbd)
{
    return end_list(nbd, &nbd->failed, nbd->hurried ? -ETIMEDOUT : -EIO) && end_list(nbd, &nbd->ended, 0);
}

static void on_wakeup(void *opaque)
{
    (void)end_failed(opaque);
}

static uint64_t deadline_of(const struct hv_blk_nbd *nbd)
{
    return nbd->hurry_ns ? nbd->hurry_ns : nbd->heard_ns + SILENCE_NS;
}

static void on_timer(void *opaque)
{
    struct hv_blk_nbd *nbd = opaque;

    nbd->timed = nbd->going_on && nbd->fd >= 0;
    if (!nbd->timed)
        return;
    if (hv_loop_now() >= deadline_of(nbd)) {
        nbd->hurried = nbd->hurry_ns;
        break_off(nbd, "it does not answer");
    } else
        hv_loop_arm(nbd->timer, deadline_of(nbd));
}

/* Once for many operations: it looks for itself whether there is still something to wait for. */
static void start_timer(struct hv_blk_nbd *nbd)
{
    if (nbd->timed)
        return;
    nbd->timed = true;
    hv_loop_arm(nbd->timer, deadline_of(nbd));
}

/* ------------------------------------------------------------------ out */

static uint32_t command_of(const struct hv_blk_io *io)
{
    switch (io->kind) {
    case HV_BLK_READ:
        return NBD_CMD_READ;
    case HV_BLK_WRITE:
        return NBD_CMD_WRITE | (io->fua ? NBD_CMD_FLAG_FUA : 0);
    case HV_BLK_SYNC:
        return NBD_CMD_FLUSH;
    case HV_BLK_DISCARD:
        return NBD_CMD_TRIM;
    }
    return NBD_CMD_FLUSH;
}

/* Gives the next operation a slot and writes its header. False when there is none, or no slot. */
static bool begin_sending(struct hv_blk_nbd *nbd)
{
    struct hv_blk_io *io = nbd->nr_free ? list_take(&nbd->to_send) : NULL;
    uint64_t slot;

    if (!io)
        return false;
    slot = nbd->free_slots[--nbd->nr_free];
    nbd->slots[slot] = nbd->sending = io;
    nbd->sent = 0;
    io->nbd.now_bytes = io->bytes - io->nbd.done_bytes;
    if (io->kind == HV_BLK_DISCARD && io->nbd.now_bytes > DISCARD_MAX)
        io->nbd.now_bytes = DISCARD_MAX;
    nbd->request = (struct nbd_request){
        .magic = htobe32(NBD_REQUEST_MAGIC),
        .type = htobe32(command_of(io)),
        .from = htobe64(io->kind == HV_BLK_SYNC ? 0 : io->offset + io->nbd.done_bytes),
        .len = htobe32(io->kind == HV_BLK_SYNC ? 0 : (uint32_t)io->nbd.now_bytes),
    };
    memcpy(nbd->request.handle, &slot, sizeof(slot));
    return true;
}

/* What of @io's memory is left after the first @skip bytes, behind the @count parts that are in @parts. */
static unsigned add_parts(const struct hv_blk_io *io, size_t skip, struct iovec parts[IOV_MAX_HERE], unsigned count)
{
    for (unsigned i = 0; i < io->nr_iov && count < IOV_MAX_HERE; i++) {
        const struct iovec *from = &io->iov[i];

        if (skip >= from->iov_len) {
            skip -= from->iov_len;
            continue;
        }
        parts[count++] = (struct iovec){(uint8_t *)from->iov_base + skip, from->iov_len - skip};
        skip = 0;
    }
    return count;
}

static size_t bytes_to_send(const struct hv_blk_io *io)
{
    return sizeof(struct nbd_request) + (io->kind == HV_BLK_WRITE ? io->bytes : 0);
}

/* 1 when it is sent whole, 0 when the socket is full, -1 when it broke. */
static int send_more(struct hv_blk_nbd *nbd)
{
    const struct hv_blk_io *io = nbd->sending;
    struct iovec parts[IOV_MAX_HERE];
    struct msghdr message = {.msg_iov = parts};
    unsigned count = 0;
    size_t skip = 0;
    ssize_t n;

    if (nbd->sent < sizeof(nbd->request))
        parts[count++] =
            (struct iovec){(uint8_t *)&nbd->request + nbd->sent, sizeof(nbd->request) - nbd->sent};
    else
        skip = nbd->sent - sizeof(nbd->request);
    if (io->kind == HV_BLK_WRITE)
        count = add_parts(io, skip, parts, count);
    message.msg_iovlen = count;
    n = sendmsg(nbd->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    nbd->sent += (size_t)n;
    return nbd->sent == bytes_to_send(io);
}

static void want_writing(struct hv_blk_nbd *nbd, bool writing)
{
    if (nbd->writing == writing)
        return;
    nbd->writing = writing;
    if (hv_loop_set_events(nbd->source, EPOLLIN | (writing ? EPOLLOUT : 0u)))
        break_off(nbd, "its socket cannot be waited for");
}

static void send_all(struct hv_blk_nbd *nbd)
{
    int sent = 1;

    while (nbd->fd >= 0 && sent > 0 && (nbd->sending || begin_sending(nbd))) {
        sent = send_more(nbd);
        if (sent > 0)
            nbd->sending = NULL;
    }
    if (sent < 0)
        break_off(nbd, "the connection is lost");
    if (nbd->fd >= 0)
        want_writing(nbd, nbd->sending != NULL);
}

/* ------------------------------------------------------------------ in */

static int error_of(uint32_t from_server)
{
    switch (from_server) {
    case 0:
    case EPERM:
    case ENOMEM:
    case EINVAL:
    case ENOSPC:
        return -(int)from_server;
    case EOPNOTSUPP:
        return -EOPNOTSUPP;
    default:
        return -EIO;
    }
}

/* The operation of the answer's cookie, or NULL: there is none, or it was not sent whole yet. */
static struct hv_blk_io *find_answered(struct hv_blk_nbd *nbd, uint64_t *slot)
{
    struct hv_blk_io *io;

    memcpy(slot, nbd->reply.handle, sizeof(*slot));
    io = *slot < SLOTS ? nbd->slots[*slot] : NULL;
    return io != nbd->sending ? io : NULL;
}

/* The answer is complete. False as end(). */
static bool finish_answer(struct hv_blk_nbd *nbd, struct hv_blk_io *io, int result)
{
    nbd->received = 0;
    nbd->answered = NULL;
    if (!result && io->kind == HV_BLK_DISCARD) {
        io->nbd.done_bytes += io->nbd.now_bytes;
        if (io->nbd.done_bytes < io->bytes) {
            list_add(&nbd->to_send, io);
            return true;
        }
    }
    if (!result && (io->kind == HV_BLK_READ || io->kind == HV_BLK_WRITE))
        result = (int)io->bytes;
    return end(nbd, io, result);
}

static bool header_complete(struct hv_blk_nbd *nbd)
{
    uint64_t slot;
    struct hv_blk_io *io = find_answered(nbd, &slot);
    int result = error_of(be32toh(nbd->reply.error));

    if (be32toh(nbd->reply.magic) != NBD_REPLY_MAGIC || !io) {
        break_off(nbd, "its answer makes no sense");
        return true;
    }
    if (io->kind == HV_BLK_READ && !result) {
        nbd->received = 0;
        nbd->answered = io; /* keeps its slot, for break_off */
        return true;
    }
    free_slot(nbd, (uint16_t)slot);
    return finish_answer(nbd, io, result);
}

/* Receives into @parts; adds to nbd->received. False when there is nothing now, or no connection any more. */
static bool receive(struct hv_blk_nbd *nbd, struct iovec *parts, unsigned count)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t n = recvmsg(nbd->fd, &message, MSG_DONTWAIT);

    if (n > 0) {
        nbd->received += (size_t)n;
        nbd->heard_ns = hv_loop_now();
        return true;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        break_off(nbd, n == 0 ? "it has hung up" : "the connection is lost");
    return false;
}

static bool receive_header(struct hv_blk_nbd *nbd)
{
    struct iovec part = {(uint8_t *)&nbd->reply + nbd->received, sizeof(nbd->reply) - nbd->received};

    return receive(nbd, &part, 1);
}

static bool receive_data(struct hv_blk_nbd *nbd)
{
    struct iovec parts[IOV_MAX_HERE];

    return receive(nbd, parts, add_parts(nbd->answered, nbd->received, parts, 0));
}

/* False as end(). */
static bool receive_all(struct hv_blk_nbd *nbd)
{
    unsigned budget = ANSWERS_MAX * 2;
    bool alive = true;

    while (alive && nbd->fd >= 0 && budget--) {
        if (nbd->answered) {
            struct hv_blk_io *io = nbd->answered;
            uint64_t slot;

            if (!receive_data(nbd))
                break;
            if (nbd->received < io->bytes)
                continue;
            memcpy(&slot, nbd->reply.handle, sizeof(slot));
            free_slot(nbd, (uint16_t)slot);
            alive = finish_answer(nbd, io, 0);
        } else {
            if (!receive_header(nbd))
                break;
            if (nbd->received == sizeof(nbd->reply))
                alive = header_complete(nbd);
        }
    }
    return alive;
}

static void on_ready(void *opaque, int fd, uint32_t events)
{
    struct hv_blk_nbd *nbd = opaque;

    (void)fd, (void)events;
    if (receive_all(nbd))
        send_all(nbd);
}

/* ------------------------------------------------------------------ the driver */

static void nbd_start(struct hv_blk_image *image, struct hv_blk_io *io)
{
    struct hv_blk_nbd *nbd = image->nbd;

    if (nbd->going_on++ == 0)
        nbd->heard_ns = hv_loop_now();
    io->nbd.done_bytes = io->nbd.now_bytes = 0;
    if (nbd->fd >= 0 && (io->kind != HV_BLK_SYNC || nbd->can_flush)) {
        list_add(&nbd->to_send, io);
        start_timer(nbd);
        return;
    }
    list_add(nbd->fd < 0 ? &nbd->failed : &nbd->ended, io);
    hv_loop_wake(nbd->wakeup);
}

static void nbd_flush(struct hv_blk_image *image)
{
    send_all(image->nbd);
}

static void nbd_wait(struct hv_blk_image *image)
{
    struct hv_blk_nbd *nbd = image->nbd;
    struct pollfd wait = {.fd = nbd->fd, .events = POLLIN};

    send_all(nbd);
    if (nbd->fd >= 0 && !nbd->ended.first && !nbd->failed.first) {
        if (nbd->sending)
            wait.events |= POLLOUT;
        if (poll(&wait, 1, WAIT_MS) == 0)
            break_off(nbd, "it does not answer, and the domain ends");
        else if (!receive_all(nbd))
            return;
    }
    (void)end_failed(nbd);
}

static void nbd_hurry(struct hv_blk_image *image)
{
    struct hv_blk_nbd *nbd = image->nbd;

    if (nbd->hurry_ns || nbd->fd < 0 || !nbd->going_on)
        return;
    nbd->hurry_ns = hv_loop_now() + HV_BLK_HURRY_NS;
    nbd->timed = true;
    hv_loop_arm(nbd->timer, nbd->hurry_ns);
}

static int nbd_size(const struct hv_blk_image *image, uint64_t *bytes)
{
    *bytes = image->nbd->size_bytes;
    return 0;
}

static void nbd_release(struct hv_blk_image *image)
{
    struct hv_blk_nbd *nbd = image->nbd;

    hv_assert(!nbd->going_on);
    image->nbd = NULL;
    if (nbd->source)
        hv_loop_remove(nbd->source);
    nbd->source = NULL;
    nbd->fd = -1;
    if (nbd->inside)
        nbd->abandoned = true; /* without its socket: it is not waited for any more */
    else
        free_now(nbd);
}

static const struct hv_blk_driver nbd_driver = {
    .start = nbd_start,
    .flush = nbd_flush,
    .wait = nbd_wait,
    .hurry = nbd_hurry,
    .size = nbd_size,
    .release = nbd_release,
};

/* ------------------------------------------------------------------ opening */

static const char *find_fault(const struct domus_vbd_source *source, int fd)
{
    int type = 0;
    socklen_t bytes = sizeof(type);

    if (source->kind != DOMUS_VBD_NBD)
        return fd < 0 ? NULL : "a drive without a medium has no descriptor";
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) < 0 || type != SOCK_STREAM)
        return "the NBD server's descriptor is not a stream socket";
    if (source->block_bytes > BLOCK_MAX)
        return "the NBD server wants blocks of more than 4096 bytes";
    if (source->size_bytes > INT64_MAX)
        return "the NBD server's export is too large";
    return NULL;
}

static struct hv_blk_nbd *make(const struct hv_blk_host *host, const struct domus_vbd_source *source, int fd)
{
    struct hv_blk_nbd *nbd = calloc(1, sizeof(*nbd));

    if (!nbd)
        return NULL;
    nbd->host = *host;
    nbd->fd = -1; /* the caller's until nothing can fail any more */
    nbd->size_bytes = source->kind != DOMUS_VBD_NBD ? 0 : source->size_bytes;
    nbd->can_flush = source->nbd_flags & NBD_FLAG_SEND_FLUSH;
    list_init(&nbd->to_send);
    list_init(&nbd->ended);
    list_init(&nbd->failed);
    while (nbd->nr_free < SLOTS) {
        nbd->free_slots[nbd->nr_free] = (uint16_t)(SLOTS - 1 - nbd->nr_free);
        nbd->nr_free++;
    }
    nbd->wakeup = hv_loop_add_wakeup(host->loop, on_wakeup, nbd);
    nbd->timer = hv_loop_add_timer(host->loop, on_timer, nbd);
    if (fd >= 0)
        nbd->source = hv_loop_add_fd(host->loop, fd, EPOLLIN, on_ready, nbd);
    if (nbd->wakeup && nbd->timer && (nbd->source || fd < 0)) {
        nbd->fd = fd;
        return nbd;
    }
    free_now(nbd);
    return NULL;
}

int hv_blk_nbd_open(struct hv_blk_image *image, const struct hv_blk_host *host, const struct domus_vbd_source *source,
                    int fd, char *error, size_t error_bytes)
{
    const char *fault = find_fault(source, fd);
    struct hv_blk_nbd *nbd;

    if (fault) {
        snprintf(error, error_bytes, "%s", fault);
        return -EINVAL;
    }
    nbd = make(host, source, fd);
    if (!nbd) {
        snprintf(error, error_bytes, "%s", strerror(ENOMEM));
        return -ENOMEM;
    }
    *image = (struct hv_blk_image){
        .driver = &nbd_driver,
        .fd = fd,
        .nbd = nbd,
        .writable = fd >= 0 && !(source->nbd_flags & NBD_FLAG_READ_ONLY),
        .can_fua = source->nbd_flags & NBD_FLAG_SEND_FUA,
        .can_discard = source->nbd_flags & NBD_FLAG_SEND_TRIM,
        .block_bytes = source->block_bytes > 512 ? 4096 : 512,
        .reconnect_seconds = source->reconnect_seconds,
    };
    return 0;
}

bool hv_blk_image_is_lost(const struct hv_blk_image *image)
{
    return image->nbd && image->nbd->lost;
}
