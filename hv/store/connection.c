/* A connection of the store. */
#include "config.h"

#include "hv/store/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/log.h"
#include "hv/store/request.h"
#include "hv/store/transaction.h"
#include "hv/store/watch.h"

/* An answer or event on its way out. */
struct message {
    struct message *next;
    bool is_event;
    uint64_t hash; /* events: to find equal ones */
    struct message *next_alike, **link_alike;
    size_t bytes;
    uint8_t data[]; /* struct xsd_sockmsg and payload */
};

/* A domain may make thousands of events wait, each to be compared with those before. */
#define EVENT_BUCKETS 256u

struct open_tx {
    struct open_tx *next;
    uint32_t id;
    struct hv_xs_tx *tx;
};

struct hv_xs_conn {
    struct hv_xs *xs;
    struct hv_xs_conn *next, **link;
    void *opaque;
    struct hv_xs_who who;
    bool closing;

    /* The request being collected. One byte more, for a NUL. */
    union {
        struct xsd_sockmsg header;
        uint8_t bytes[sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX + 1];
    } in;
    size_t in_bytes;

    struct message *out, **out_tail;
    size_t out_sent;  /* of the first message */
    size_t out_bytes; /* of all */
    unsigned out_answers;
    struct message *events[EVENT_BUCKETS]; /* those of out, by hash */

    struct hv_xs_watch *watches;
    struct open_tx *txs;
    unsigned nr_txs;
};

struct hv_xs_conn *hv_xs_conn_new(struct hv_xs *xs, void *opaque)
{
    struct hv_xs_conn *c = calloc(1, sizeof(*c));

    if (!c)
        return NULL;
    c->xs = xs;
    c->opaque = opaque;
    c->who = (struct hv_xs_who){.privileged = true, .target = -1};
    c->out_tail = &c->out;
    c->next = xs->conns;
    c->link = &xs->conns;
    if (c->next)
        c->next->link = &c->next;
    xs->conns = c;
    return c;
}

void hv_xs_conn_free(struct hv_xs_conn *c)
{
    if (!c)
        return;
    hv_xs_watch_remove_all(c);
    hv_xs_conn_tx_drop_all(c);
    for (struct message *m = c->out, *next; m; m = next) {
        next = m->next;
        free(m);
    }
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    free(c);
}

struct hv_xs_conn *hv_xs_conn_next(const struct hv_xs_conn *c)
{
    return c->next;
}

struct hv_xs *hv_xs_conn_store(const struct hv_xs_conn *c)
{
    return c->xs;
}

const struct hv_xs_who *hv_xs_conn_who(struct hv_xs_conn *c)
{
    const struct hv_xs_domain *domain = hv_xs_domain_find(c->xs, c->who.domid);

    c->who.target = domain ? domain->target : -1;
    return &c->who;
}

void *hv_xs_conn_opaque(const struct hv_xs_conn *c)
{
    return c->opaque;
}

struct hv_xs_watch **hv_xs_conn_watches(struct hv_xs_conn *c)
{
    return &c->watches;
}

void hv_xs_conn_become(struct hv_xs_conn *c, uint16_t domid)
{
    hv_xs_watch_remove_all(c);
    hv_xs_conn_tx_drop_all(c);
    c->who.domid = domid;
    c->who.privileged = domid == 0;
}

static void tell_ready(struct hv_xs_conn *c)
{
    if (c->xs->conn_ready)
        c->xs->conn_ready(c->xs->conn_ready_opaque, c);
}

void hv_xs_conn_close(struct hv_xs_conn *c)
{
    c->closing = true;
    tell_ready(c);
}

bool hv_xs_conn_closing(const struct hv_xs_conn *c)
{
    return c->closing;
}

/* ---- in */

bool hv_xs_conn_wants_input(const struct hv_xs_conn *c)
{
    return !c->closing && c->out_answers < c->xs->quota.outstanding;
}

/* How many bytes the message being collected still lacks; more when the header is not complete. */
static size_t missing(const struct hv_xs_conn *c)
{
    if (c->in_bytes < sizeof(c->in.header))
        return sizeof(c->in.header) - c->in_bytes;
    return sizeof(c->in.header) + c->in.header.len - c->in_bytes;
}

size_t hv_xs_conn_input(struct hv_xs_conn *c, const uint8_t *bytes, size_t count)
{
    size_t taken = 0;

    while (hv_xs_conn_wants_input(c)) {
        size_t part = missing(c);

        if (part > count - taken)
            part = count - taken;
        memcpy(c->in.bytes + c->in_bytes, bytes + taken, part);
        c->in_bytes += part;
        taken += part;
        if (c->in_bytes < sizeof(c->in.header))
            break;
        if (c->in.header.len > XENSTORE_PAYLOAD_MAX) {
            hv_log(HV_LOG_WARNING, "store: domain %u sent a message of %u bytes, at most %u are allowed", c->who.domid,
                   c->in.header.len, XENSTORE_PAYLOAD_MAX);
            hv_xs_conn_close(c);
            break;
        }
        if (missing(c) > 0) {
            if (taken == count)
                break;
            continue;
        }
        c->in.bytes[c->in_bytes] = '\0';
        c->in_bytes = 0;
        hv_xs_request(c, &c->in.header, (char *)c->in.bytes + sizeof(c->in.header));
    }
    return taken;
}

/* ---- out */

static struct message *new_message(const struct xsd_sockmsg *header, const void *data)
{
    struct message *m = malloc(sizeof(*m) + sizeof(*header) + header->len);

    if (!m)
        return NULL;
    *m = (struct message){.bytes = sizeof(*header) + header->len};
    memcpy(m->data, header, sizeof(*header));
    if (header->len)
        memcpy(m->data + sizeof(*header), data, header->len);
    return m;
}

static void remember_event(struct hv_xs_conn *c, struct message *m)
{
    struct message **bucket = &c->events[m->hash % EVENT_BUCKETS];

    m->next_alike = *bucket;
    m->link_alike = bucket;
    if (m->next_alike)
        m->next_alike->link_alike = &m->next_alike;
    *bucket = m;
}

static void forget_event(struct message *m)
{
    *m->link_alike = m->next_alike;
    if (m->next_alike)
        m->next_alike->link_alike = m->link_alike;
}

/* A toolstack may watch everything and be busy for a while. */
#define PRIVILEGED_QUEUE_FACTOR 16

static void queue(struct hv_xs_conn *c, struct message *m)
{
    size_t limit = (size_t)c->xs->quota.queue_bytes * (c->who.privileged ? PRIVILEGED_QUEUE_FACTOR : 1);

    if (!m || c->closing || c->out_bytes + m->bytes > limit) {
        if (!c->closing)
            hv_log(HV_LOG_WARNING, "store: connection of domain %u closed: %s", c->who.domid,
                   m ? "it does not read what it is sent" : "out of memory");
        free(m);
        hv_xs_conn_close(c);
        return;
    }
    *c->out_tail = m;
    c->out_tail = &m->next;
    c->out_bytes += m->bytes;
    c->out_answers += !m->is_event;
    if (m->is_event)
        remember_event(c, m);
    tell_ready(c);
}

void hv_xs_conn_answer(struct hv_xs_conn *c, const struct xsd_sockmsg *request, uint32_t type, const void *data,
                       size_t bytes)
{
    struct xsd_sockmsg header = {
        .type = type, .req_id = request->req_id, .tx_id = request->tx_id, .len = (uint32_t)bytes};

    queue(c, new_message(&header, data));
}

/* An event that says the same as one still waiting adds nothing, and dropping it keeps a domain that does not
 * read from filling our memory. */
static bool is_queued(const struct hv_xs_conn *c, const struct message *event)
{
    for (const struct message *m = c->events[event->hash % EVENT_BUCKETS]; m; m = m->next_alike) {
        bool being_sent = m == c->out && c->out_sent > 0;

        if (m->hash == event->hash && m->bytes == event->bytes && !being_sent && !memcmp(m->data, event->data, m->bytes))
            return true;
    }
    return false;
}

void hv_xs_conn_event(struct hv_xs_conn *c, const char *path, const char *token)
{
    char payload[XENSTORE_PAYLOAD_MAX];
    size_t path_bytes = strlen(path) + 1, token_bytes = strlen(token) + 1;
    struct xsd_sockmsg header = {.type = XS_WATCH_EVENT, .len = (uint32_t)(path_bytes + token_bytes)};
    struct message *m;

    /* What does not fit into a message cannot be told. */
    if (c->closing || path_bytes + token_bytes > sizeof(payload))
        return;
    memcpy(payload, path, path_bytes);
    memcpy(payload + path_bytes, token, token_bytes);
    m = new_message(&header, payload);
    if (m) {
        m->is_event = true;
        m->hash = hv_xs_hash(path) ^ hv_xs_hash(token) * 3;
        if (is_queued(c, m)) {
            free(m);
            return;
        }
    }
    queue(c, m);
}

const uint8_t *hv_xs_conn_output(const struct hv_xs_conn *c, size_t *count)
{
    if (!c->out)
        return NULL;
    *count = c->out->bytes - c->out_sent;
    return c->out->data + c->out_sent;
}

void hv_xs_conn_sent(struct hv_xs_conn *c, size_t count)
{
    struct message *m = c->out;

    c->out_sent += count;
    if (c->out_sent < m->bytes)
        return;
    c->out = m->next;
    if (!c->out)
        c->out_tail = &c->out;
    c->out_sent = 0;
    c->out_bytes -= m->bytes;
    c->out_answers -= !m->is_event;
    if (m->is_event)
        forget_event(m);
    free(m);
}

/* ---- transactions */

int hv_xs_conn_tx_start(struct hv_xs_conn *c, uint32_t *id)
{
    struct open_tx *t;
    int err;

    if (!c->who.privileged && c->nr_txs >= c->xs->quota.transactions)
        return -ENOSPC;
    if (!(t = calloc(1, sizeof(*t))))
        return -ENOMEM;
    if ((err = hv_xs_tx_new(c->xs, hv_xs_conn_who(c), &t->tx)) < 0) {
        free(t);
        return err;
    }
    do /* 0 is no transaction */
        t->id = c->xs->next_tx_id++;
    while (t->id == 0 || hv_xs_conn_tx_find(c, t->id));
    t->next = c->txs;
    c->txs = t;
    c->nr_txs++;
    *id = t->id;
    return 0;
}

struct hv_xs_tx *hv_xs_conn_tx_find(struct hv_xs_conn *c, uint32_t id)
{
    for (struct open_tx *t = c->txs; t; t = t->next)
        if (t->id == id)
            return t->tx;
    return NULL;
}

struct hv_xs_tx *hv_xs_conn_tx_take(struct hv_xs_conn *c, uint32_t id)
{
    for (struct open_tx **at = &c->txs; *at; at = &(*at)->next) {
        struct open_tx *t = *at;
        struct hv_xs_tx *tx = t->tx;

        if (t->id != id)
            continue;
        *at = t->next;
        free(t);
        c->nr_txs--;
        return tx;
    }
    return NULL;
}

void hv_xs_conn_tx_drop_all(struct hv_xs_conn *c)
{
    while (c->txs)
        hv_xs_tx_free(hv_xs_conn_tx_take(c, c->txs->id));
}
