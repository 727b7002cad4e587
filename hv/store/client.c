/* The store client: a queue of whole messages, oldest first, that stay until they are answered.
 * Source: xen/io/xs_wire.h.
 */
#include "config.h"

#include "hv/store/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/log.h"
#include "hv/xen-abi.h"

#define TOKEN_BYTES 16

struct request {
    struct request *next;
    hv_store_answer_fn *fn; /* NULL: nobody wants the answer */
    void *opaque;
    size_t bytes;
    union {
        struct xsd_sockmsg header;
        uint8_t message[sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX];
    };
};

struct hv_store_watch {
    struct hv_store_client *client;
    struct hv_store_watch *next;
    hv_store_watch_fn *fn;
    void *opaque;
    char token[TOKEN_BYTES];
    char path[];
};

struct hv_store_client {
    struct hv_loop *loop;
    struct hv_loop_source *source; /* NULL without a connection */
    int fd;
    uint32_t events;
    uint32_t last_id, last_token;

    struct request *oldest, **end; /* all without an answer */
    struct request *unsent;        /* the first that is not sent completely */
    size_t sent_bytes;             /* of it */
    struct hv_store_watch *watches;

    size_t have; /* of the message that is coming in */
    union {
        struct xsd_sockmsg header;
        uint8_t message[sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX + 1];
    } in;
};

/* ------------------------------------------------------------------ connection */

static void disconnect(struct hv_store_client *c)
{
    if (c->source)
        hv_loop_remove(c->source);
    if (c->fd >= 0)
        close(c->fd);
    c->source = NULL;
    c->fd = -1;
    c->have = 0;
    c->unsent = c->oldest;
    c->sent_bytes = 0;
}

/* False when the connection is lost. */
static bool send_some(struct hv_store_client *c)
{
    while (c->unsent) {
        struct request *r = c->unsent;
        ssize_t n = send(c->fd, r->message + c->sent_bytes, r->bytes - c->sent_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
        c->sent_bytes += (size_t)n;
        if (c->sent_bytes < r->bytes)
            continue;
        c->unsent = r->next;
        c->sent_bytes = 0;
    }
    return true;
}

static void flush(struct hv_store_client *c)
{
    uint32_t events;

    if (c->fd < 0)
        return;
    if (!send_some(c)) {
        disconnect(c);
        return;
    }
    events = EPOLLIN | (c->unsent ? EPOLLOUT : 0);
    if (events != c->events && hv_loop_set_events(c->source, events) == 0)
        c->events = events;
}

/* ------------------------------------------------------------------ requests */

static int queue(struct hv_store_client *c, uint32_t type, const void *payload, size_t bytes, hv_store_answer_fn *fn,
                 void *opaque)
{
    struct request *r;

    if (bytes > XENSTORE_PAYLOAD_MAX)
        return -ENAMETOOLONG;
    r = malloc(offsetof(struct request, message) + sizeof(r->header) + bytes);
    if (!r)
        return -ENOMEM;
    r->next = NULL;
    r->fn = fn;
    r->opaque = opaque;
    r->bytes = sizeof(r->header) + bytes;
    r->header = (struct xsd_sockmsg){.type = type, .req_id = ++c->last_id, .len = (uint32_t)bytes};
    memcpy(r->message + sizeof(r->header), payload, bytes);
    *c->end = r;
    c->end = &r->next;
    if (!c->unsent)
        c->unsent = r;
    flush(c);
    return 0;
}

int hv_store_client_read(struct hv_store_client *c, const char *path, hv_store_answer_fn *fn, void *opaque)
{
    return queue(c, XS_READ, path, strlen(path) + 1, fn, opaque);
}

int hv_store_client_directory(struct hv_store_client *c, const char *path, hv_store_answer_fn *fn, void *opaque)
{
    return queue(c, XS_DIRECTORY, path, strlen(path) + 1, fn, opaque);
}

int hv_store_client_remove(struct hv_store_client *c, const char *path, hv_store_answer_fn *fn, void *opaque)
{
    return queue(c, XS_RM, path, strlen(path) + 1, fn, opaque);
}

/* @path, a NUL, and @last with @tail more bytes. */
static int queue_pair(struct hv_store_client *c, uint32_t type, const char *path, const char *last, size_t tail,
                      hv_store_answer_fn *fn, void *opaque)
{
    char payload[XENSTORE_PAYLOAD_MAX];
    size_t path_bytes = strlen(path) + 1, last_bytes = strlen(last) + tail;

    if (path_bytes > sizeof(payload) || last_bytes > sizeof(payload) - path_bytes)
        return -ENAMETOOLONG;
    memcpy(payload, path, path_bytes);
    memcpy(payload + path_bytes, last, last_bytes);
    return queue(c, type, payload, path_bytes + last_bytes, fn, opaque);
}

int hv_store_client_write(struct hv_store_client *c, const char *path, const char *value, hv_store_answer_fn *fn,
                          void *opaque)
{
    return queue_pair(c, XS_WRITE, path, value, 0, fn, opaque);
}

void hv_store_client_forget(struct hv_store_client *c, const void *opaque)
{
    for (struct request *r = c->oldest; r; r = r->next)
        if (r->opaque == opaque)
            r->fn = NULL;
}

static void take_oldest(struct hv_store_client *c)
{
    struct request *r = c->oldest;

    c->oldest = r->next;
    if (!c->oldest)
        c->end = &c->oldest;
    free(r);
}

/* ------------------------------------------------------------------ watches */

static void watch_set(void *opaque, int error, const char *value, size_t bytes)
{
    struct hv_store_watch *w = opaque;

    (void)value, (void)bytes;
    if (error && error != -EEXIST)
        hv_log(HV_LOG_WARNING, "watching '%s' in the store: %s", w->path, strerror(-error));
}

static int set_watch(struct hv_store_watch *w)
{
    return queue_pair(w->client, XS_WATCH, w->path, w->token, 1, watch_set, w);
}

struct hv_store_watch *hv_store_client_watch(struct hv_store_client *c, const char *path, hv_store_watch_fn *fn,
                                             void *opaque)
{
    size_t bytes = strlen(path) + 1;
    struct hv_store_watch *w = malloc(sizeof(*w) + bytes);

    if (!w)
        return NULL;
    w->client = c;
    w->fn = fn;
    w->opaque = opaque;
    memcpy(w->path, path, bytes);
    snprintf(w->token, sizeof(w->token), "%u", ++c->last_token);
    w->next = c->watches;
    c->watches = w;
    if (set_watch(w)) {
        c->watches = w->next;
        free(w);
        return NULL;
    }
    return w;
}

void hv_store_client_unwatch(struct hv_store_watch *w)
{
    struct hv_store_client *c = w->client;
    struct hv_store_watch **link = &c->watches;

    while (*link != w)
        link = &(*link)->next;
    *link = w->next;
    hv_store_client_forget(c, w);
    /* Out of memory, the watch goes on firing, for nobody. */
    (void)queue_pair(c, XS_UNWATCH, w->path, w->token, 1, NULL, NULL);
    free(w);
}

static void fire(struct hv_store_client *c, const char *token)
{
    for (struct hv_store_watch *w = c->watches; w; w = w->next)
        if (!strcmp(w->token, token)) {
            w->fn(w->opaque);
            return;
        }
}

/* ------------------------------------------------------------------ what comes in */

static int error_named(const char *name)
{
    for (size_t i = 0; i < HV_ARRAY_LEN(xsd_errors); i++)
        if (!strcmp(xsd_errors[i].errstring, name))
            return -xsd_errors[i].errnum;
    return -EINVAL;
}

/* An answer may make its owner ask more, so the request leaves the queue first. */
static bool answer(struct hv_store_client *c, const char *value, size_t bytes)
{
    struct request *r = c->oldest;
    uint32_t type = c->in.header.type;
    hv_store_answer_fn *fn;
    void *opaque;

    if (!r || r == c->unsent || c->in.header.req_id != r->header.req_id ||
        (type != r->header.type && type != XS_ERROR))
        return false;
    fn = r->fn;
    opaque = r->opaque;
    take_oldest(c);
    if (!fn)
        return true;
    if (type == XS_ERROR)
        fn(opaque, error_named(value), "", 0);
    else
        fn(opaque, 0, value, bytes);
    return true;
}

/* Handles the whole message in c->in; false when it is not what a store may send. */
static bool handle(struct hv_store_client *c)
{
    size_t bytes = c->in.header.len;
    char *payload = (char *)c->in.message + sizeof(c->in.header);
    const char *token = memchr(payload, '\0', bytes);

    payload[bytes] = '\0';
    c->have = 0;
    if (c->in.header.type != XS_WATCH_EVENT)
        return answer(c, payload, bytes);
    if (!token || token + 1 >= payload + bytes)
        return false;
    fire(c, token + 1);
    return true;
}

static size_t wanted(const struct hv_store_client *c)
{
    return c->have < sizeof(c->in.header) ? sizeof(c->in.header) : sizeof(c->in.header) + c->in.header.len;
}

/* One piece of a message. 1: there may be more, 0: none now, -1: the connection is of no use. */
static int receive(struct hv_store_client *c)
{
    ssize_t n = recv(c->fd, c->in.message + c->have, wanted(c) - c->have, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return 0;
    if (n <= 0)
        return -1;
    c->have += (size_t)n;
    if (c->have < sizeof(c->in.header))
        return 1;
    if (c->in.header.len > XENSTORE_PAYLOAD_MAX)
        return -1;
    if (c->have == wanted(c))
        return handle(c) ? 1 : -1;
    return 1;
}

static void on_ready(void *opaque, int fd, uint32_t events)
{
    struct hv_store_client *c = opaque;
    int more = 1;

    (void)fd, (void)events;
    while (more > 0 && c->fd >= 0) /* a function that is called may find the connection lost */
        more = receive(c);
    if (more < 0)
        disconnect(c); /* who gave the connection sees the same on the guest's, and gives both anew */
    flush(c);
}

/* ------------------------------------------------------------------ from outside */

int hv_store_client_new(struct hv_loop *loop, struct hv_store_client **out)
{
    struct hv_store_client *c = calloc(1, sizeof(*c));

    if (!c)
        return -ENOMEM;
    c->loop = loop;
    c->fd = -1;
    c->end = &c->oldest;
    *out = c;
    return 0;
}

void hv_store_client_free(struct hv_store_client *c)
{
    if (!c)
        return;
    disconnect(c);
    while (c->oldest)
        take_oldest(c);
    while (c->watches) {
        struct hv_store_watch *w = c->watches;

        c->watches = w->next;
        free(w);
    }
    free(c);
}

int hv_store_client_attach(struct hv_store_client *c, int fd)
{
    disconnect(c);
    c->source = hv_loop_add_fd(c->loop, fd, EPOLLIN, on_ready, c);
    if (!c->source) {
        close(fd);
        return -ENOMEM;
    }
    c->fd = fd;
    c->events = EPOLLIN;
    for (struct hv_store_watch *w = c->watches; w; w = w->next)
        if (set_watch(w))
            return -ENOMEM;
    flush(c);
    return 0;
}

bool hv_store_client_is_idle(const struct hv_store_client *c)
{
    return !c->oldest;
}
