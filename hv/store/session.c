/* Requests in flight, watches and transactions of a guest. */
#include "config.h"

#include <errno.h>

#include "hv/store/session.h"

#include <stdlib.h>
#include <string.h>

#include "hv/log.h"
#include "hv/stream/codec.h"

/* The daemon's quota for watches, and more than its quota for transactions. */
#define MAX_WATCHES      128u
#define MAX_TRANSACTIONS 32u

struct watch {
    struct watch *next;
    size_t bytes;
    char names[]; /* path and token, as in the request */
};

/* A request that the daemon has not answered. It answers in order. */
struct in_flight {
    struct xsd_sockmsg header;
    struct watch *watch; /* XS_WATCH, XS_UNWATCH: its payload */
    struct hv_store_message *again; /* outside of a transaction: to be sent once more if the daemon is lost */
    bool own;            /* not the guest's, or the guest has forgotten it */
    bool is_reset;       /* our own XS_RESET_WATCHES */
};

struct tx_set {
    uint32_t ids[MAX_TRANSACTIONS];
    unsigned count;
};

struct answer {
    struct xsd_sockmsg header; /* of the request */
    int err;                   /* 0: "OK" */
};

struct hv_store_session {
    struct in_flight fifo[HV_STORE_IN_FLIGHT];
    unsigned first, count;
    struct hv_store_message *again[HV_STORE_IN_FLIGHT]; /* to be sent once more, in order */
    unsigned nr_again;

    struct watch *watches;
    unsigned nr_watches;
    struct watch *replay; /* the next to be set again */
    bool reset_watches;   /* XS_RESET_WATCHES is to be sent */
    bool resetting;       /* it is to be sent or not answered yet: events are of old watches */

    struct tx_set open, dead; /* on this connection; on ones before */

    struct answer answers[HV_STORE_IN_FLIGHT + 1];
    unsigned nr_answers;
};

int hv_store_session_new(struct hv_store_session **out)
{
    *out = calloc(1, sizeof(**out));
    return *out ? 0 : -ENOMEM;
}

static void free_watches(struct hv_store_session *s)
{
    for (struct watch *w = s->watches, *next; w; w = next) {
        next = w->next;
        free(w);
    }
    s->watches = s->replay = NULL;
    s->nr_watches = 0;
}

static void forget_again(struct hv_store_session *s)
{
    while (s->nr_again)
        free(s->again[--s->nr_again]);
}

static void free_in_flight(struct in_flight *f)
{
    free(f->watch);
    free(f->again);
    f->watch = NULL;
    f->again = NULL;
}

void hv_store_session_free(struct hv_store_session *s)
{
    if (!s)
        return;
    free_watches(s);
    forget_again(s);
    for (unsigned i = 0; i < HV_STORE_IN_FLIGHT; i++)
        free_in_flight(&s->fifo[i]);
    free(s);
}

/* ---- transactions */

static bool tx_remove(struct tx_set *set, uint32_t id)
{
    for (unsigned i = 0; i < set->count; i++) {
        if (set->ids[i] != id)
            continue;
        set->ids[i] = set->ids[--set->count];
        return true;
    }
    return false;
}

/* A full set forgets its oldest, whose owner then gets ENOENT. */
static void tx_add(struct tx_set *set, uint32_t id)
{
    tx_remove(set, id);
    if (set->count == MAX_TRANSACTIONS)
        memmove(set->ids, set->ids + 1, --set->count * sizeof(set->ids[0]));
    set->ids[set->count++] = id;
}

static bool tx_has(const struct tx_set *set, uint32_t id)
{
    for (unsigned i = 0; i < set->count; i++)
        if (set->ids[i] == id)
            return true;
    return false;
}

/* ---- requests */

static void answer(struct hv_store_session *s, const struct xsd_sockmsg *request, int err)
{
    if (s->nr_answers < HV_ARRAY_LEN(s->answers))
        s->answers[s->nr_answers++] = (struct answer){.header = *request, .err = err};
}

bool hv_store_session_has_room(const struct hv_store_session *s)
{
    return s->count < HV_STORE_IN_FLIGHT && s->nr_answers == 0 && s->nr_again == 0;
}

static struct in_flight *push(struct hv_store_session *s)
{
    struct in_flight *f = &s->fifo[(s->first + s->count++) % HV_STORE_IN_FLIGHT];

    *f = (struct in_flight){0};
    return f;
}

static void pop_first(struct hv_store_session *s)
{
    free_in_flight(&s->fifo[s->first]);
    s->first = (s->first + 1) % HV_STORE_IN_FLIGHT;
    s->count--;
}

static void pop_last(struct hv_store_session *s)
{
    free_in_flight(&s->fifo[(s->first + --s->count) % HV_STORE_IN_FLIGHT]);
}

static struct watch *copy_names(const struct hv_store_message *m)
{
    struct watch *w = malloc(sizeof(*w) + m->header.len);

    if (!w)
        return NULL;
    *w = (struct watch){.bytes = m->header.len};
    memcpy(w->names, m->bytes + sizeof(m->header), m->header.len);
    return w;
}

static struct hv_store_message *copy_message(const struct hv_store_message *m)
{
    size_t bytes = sizeof(m->header) + m->header.len;
    struct hv_store_message *copy = malloc(bytes);

    if (copy)
        memcpy(copy->bytes, m->bytes, bytes);
    return copy;
}

/* Puts a request of the guest in flight. Takes @again, which may be NULL. */
static void push_request(struct hv_store_session *s, const struct hv_store_message *m,
                         struct hv_store_message *again)
{
    struct in_flight *f = push(s);

    f->header = m->header;
    f->again = again;
    if ((m->header.type == XS_WATCH || m->header.type == XS_UNWATCH) && !(f->watch = copy_names(m)))
        hv_log(HV_LOG_WARNING, "store: out of memory: a watch of the guest may not outlive the connection");
}

bool hv_store_session_request(struct hv_store_session *s, const struct hv_store_message *m)
{
    if (m->header.tx_id && tx_has(&s->dead, m->header.tx_id)) {
        bool end = m->header.type == XS_TRANSACTION_END;
        bool abort = end && m->header.len && m->bytes[sizeof(m->header)] == 'F';

        if (end)
            tx_remove(&s->dead, m->header.tx_id);
        answer(s, &m->header, abort ? 0 : -EAGAIN);
        return false;
    }
    push_request(s, m, m->header.tx_id ? NULL : copy_message(m));
    return true;
}

/* ---- replies */

static struct watch **find_watch(struct hv_store_session *s, const struct watch *like)
{
    struct watch **at = &s->watches;

    while (*at && ((*at)->bytes != like->bytes || memcmp((*at)->names, like->names, like->bytes) != 0))
        at = &(*at)->next;
    return at;
}

static void add_watch(struct hv_store_session *s, struct watch *w)
{
    if (s->nr_watches >= MAX_WATCHES || *find_watch(s, w)) {
        free(w);
        return;
    }
    w->next = s->watches;
    s->watches = w;
    s->nr_watches++;
}

static void remove_watch(struct hv_store_session *s, const struct watch *like)
{
    struct watch **at = find_watch(s, like), *w = *at;

    if (!w)
        return;
    if (s->replay == w)
        s->replay = w->next;
    *at = w->next;
    s->nr_watches--;
    free(w);
}

/* The number that a transaction got. */
static uint32_t started_id(const struct hv_store_message *m)
{
    char text[16] = "";
    size_t bytes = m->header.len < sizeof(text) ? m->header.len : sizeof(text) - 1;

    memcpy(text, m->bytes + sizeof(m->header), bytes);
    return (uint32_t)strtoul(text, NULL, 10);
}

/* The guest's request @f was done. Takes f->watch. */
static void note_done(struct hv_store_session *s, struct in_flight *f, const struct hv_store_message *reply)
{
    switch (f->header.type) {
    case XS_WATCH:
        if (f->watch)
            add_watch(s, f->watch);
        f->watch = NULL;
        break;
    case XS_UNWATCH:
        if (f->watch)
            remove_watch(s, f->watch);
        break;
    case XS_RESET_WATCHES:
        free_watches(s);
        s->open.count = s->dead.count = 0;
        break;
    case XS_TRANSACTION_START:
        tx_remove(&s->dead, started_id(reply));
        tx_add(&s->open, started_id(reply));
        break;
    }
}

enum hv_store_verdict hv_store_session_reply(struct hv_store_session *s, const struct hv_store_message *m)
{
    struct in_flight *f = &s->fifo[s->first];
    bool own;

    if (m->header.type == XS_WATCH_EVENT)
        return s->resetting ? HV_STORE_SWALLOW : HV_STORE_DELIVER;
    if (s->count == 0)
        return HV_STORE_BROKEN;
    own = f->own;
    if (!own && f->header.type == XS_TRANSACTION_END)
        tx_remove(&s->open, f->header.tx_id);
    if (!own && m->header.type != XS_ERROR)
        note_done(s, f, m);
    if (own && f->is_reset)
        s->resetting = s->reset_watches;
    pop_first(s);
    return own ? HV_STORE_SWALLOW : HV_STORE_DELIVER;
}

/* ---- messages from here */

/* The oldest request that is to be sent once more. */
static void send_again(struct hv_store_session *s, struct hv_store_message *m)
{
    struct hv_store_message *again = s->again[0];

    memmove(s->again, s->again + 1, --s->nr_again * sizeof(s->again[0]));
    memcpy(m->bytes, again->bytes, sizeof(again->header) + again->header.len);
    push_request(s, m, again);
}

bool hv_store_session_own(struct hv_store_session *s, struct hv_store_message *m)
{
    struct in_flight *f;

    if (s->count == HV_STORE_IN_FLIGHT || (!s->reset_watches && !s->replay && !s->nr_again))
        return false;
    if (!s->reset_watches && !s->replay) {
        send_again(s, m);
        return true;
    }
    if (s->reset_watches) {
        s->reset_watches = false;
        m->header = (struct xsd_sockmsg){.type = XS_RESET_WATCHES};
    } else {
        m->header = (struct xsd_sockmsg){.type = XS_WATCH, .len = (uint32_t)s->replay->bytes};
        memcpy(m->bytes + sizeof(m->header), s->replay->names, s->replay->bytes);
        s->replay = s->replay->next;
    }
    f = push(s);
    f->header = m->header;
    f->own = true;
    f->is_reset = m->header.type == XS_RESET_WATCHES;
    return true;
}

bool hv_store_session_answer(struct hv_store_session *s, struct hv_store_message *m)
{
    const struct answer *a = &s->answers[0];
    const char *text;

    if (s->nr_answers == 0)
        return false;
    text = a->err == 0 ? "OK" : a->err == -EAGAIN ? "EAGAIN" : "EIO";
    m->header = a->header;
    if (a->err)
        m->header.type = XS_ERROR;
    m->header.len = (uint32_t)strlen(text) + 1;
    memcpy(m->bytes + sizeof(m->header), text, m->header.len);
    s->nr_answers--;
    memmove(s->answers, s->answers + 1, s->nr_answers * sizeof(s->answers[0]));
    return true;
}

/* ---- a new start */

/* Whether a request in flight was done nobody knows. What is outside of a transaction can be done twice; what is
 * inside went with the transaction. */
static void lose_request(struct hv_store_session *s, struct in_flight *f)
{
    if (f->again && s->nr_again < HV_STORE_IN_FLIGHT) {
        s->again[s->nr_again++] = f->again;
        f->again = NULL;
    } else {
        answer(s, &f->header, f->header.tx_id ? -EAGAIN : -EIO);
    }
}

void hv_store_session_lost(struct hv_store_session *s, bool last_not_sent)
{
    struct hv_store_message *waiting[HV_STORE_IN_FLIGHT];
    unsigned nr_waiting = s->nr_again;

    /* What was sent comes before what was still waiting to be. */
    memcpy(waiting, s->again, nr_waiting * sizeof(waiting[0]));
    s->nr_again = 0;
    if (last_not_sent && s->count)
        pop_last(s);
    while (s->count) {
        struct in_flight *f = &s->fifo[s->first];

        if (!f->own)
            lose_request(s, f);
        if (!f->own && f->header.type == XS_TRANSACTION_END)
            tx_remove(&s->open, f->header.tx_id);
        pop_first(s);
    }
    while (s->open.count)
        tx_add(&s->dead, s->open.ids[--s->open.count]);
    for (unsigned i = 0; i < nr_waiting; i++) {
        hv_assert(s->nr_again < HV_STORE_IN_FLIGHT); /* has_room: no new ones while some wait */
        s->again[s->nr_again++] = waiting[i];
    }
    s->replay = s->watches;
    s->reset_watches = s->resetting = false;
}

void hv_store_session_reset(struct hv_store_session *s)
{
    for (unsigned i = 0; i < s->count; i++)
        s->fifo[(s->first + i) % HV_STORE_IN_FLIGHT].own = true;
    forget_again(s);
    free_watches(s);
    s->open.count = s->dead.count = 0;
    s->nr_answers = 0;
    s->reset_watches = s->resetting = true;
}

/* ---- streams */

struct session_state {
    uint32_t nr_watches, nr_again, nr_answers, nr_dead;
    bool reset_watches;
    struct answer answers[HV_STORE_IN_FLIGHT + 1];
    uint32_t dead[MAX_TRANSACTIONS];
};

static const struct hv_field state_fields[] = {
    HV_FIELD_MAX(1, struct session_state, nr_watches, MAX_WATCHES),
    HV_FIELD_MAX(2, struct session_state, nr_again, HV_STORE_IN_FLIGHT),
    HV_FIELD_MAX(3, struct session_state, nr_answers, HV_STORE_IN_FLIGHT + 1),
    HV_FIELD_MAX(4, struct session_state, nr_dead, MAX_TRANSACTIONS),
    HV_FIELD_BOOL(5, struct session_state, reset_watches),
    HV_FIELD(6, struct session_state, answers),
    HV_FIELD(7, struct session_state, dead),
};

void hv_store_session_encode(const struct hv_store_session *s, struct hv_encoder *e)
{
    struct session_state state = {.nr_watches = s->nr_watches,
                                  .nr_again = s->nr_again,
                                  .nr_answers = s->nr_answers,
                                  .nr_dead = s->dead.count,
                                  .reset_watches = s->reset_watches};

    memcpy(state.answers, s->answers, sizeof(state.answers));
    memcpy(state.dead, s->dead.ids, sizeof(state.dead));
    hv_encode_fields(e, state_fields, HV_ARRAY_LEN(state_fields), &state);
    for (const struct watch *w = s->watches; w; w = w->next) {
        hv_encode_u32(e, (uint32_t)w->bytes);
        hv_encode(e, w->names, w->bytes);
    }
    for (unsigned i = 0; i < s->nr_again; i++) {
        hv_encode_u32(e, (uint32_t)sizeof(s->again[i]->header) + s->again[i]->header.len);
        hv_encode(e, s->again[i]->bytes, sizeof(s->again[i]->header) + s->again[i]->header.len);
    }
}

static int decode_watch(struct hv_store_session *s, struct hv_decoder *d)
{
    struct watch *w;
    uint32_t bytes;
    int error = hv_decode_count(d, "the length of a watch", XENSTORE_PAYLOAD_MAX, &bytes);

    if (error)
        return error;
    w = malloc(sizeof(*w) + bytes);
    if (!w)
        return hv_decode_fail(d, "out of memory");
    *w = (struct watch){.bytes = bytes};
    error = hv_decode(d, w->names, bytes);
    if (error)
        free(w);
    else
        add_watch(s, w);
    return error;
}

static int decode_again(struct hv_store_session *s, struct hv_decoder *d)
{
    const struct hv_store_message *from;
    struct xsd_sockmsg header;
    uint32_t bytes;
    int error = hv_decode_count(d, "the length of a request", sizeof(*from), &bytes);

    from = error ? NULL : hv_decode_bytes(d, bytes);
    if (!from)
        return -EBADMSG;
    if (bytes >= sizeof(header))
        memcpy(&header, from, sizeof(header));
    if (bytes < sizeof(header) || header.len > XENSTORE_PAYLOAD_MAX || header.len != bytes - sizeof(header))
        return hv_decode_fail(d, "a request of %u bytes says that it has another length", bytes);
    s->again[s->nr_again] = malloc(bytes);
    if (!s->again[s->nr_again])
        return hv_decode_fail(d, "out of memory");
    memcpy(s->again[s->nr_again++], from, bytes);
    return 0;
}

int hv_store_session_decode(struct hv_store_session *s, struct hv_decoder *d)
{
    struct session_state state;
    int error = hv_decode_fields(d, state_fields, HV_ARRAY_LEN(state_fields), &state);

    if (error)
        return error;
    for (uint32_t i = 0; !error && i < state.nr_watches; i++)
        error = decode_watch(s, d);
    for (uint32_t i = 0; !error && i < state.nr_again; i++)
        error = decode_again(s, d);
    s->reset_watches = s->resetting = state.reset_watches;
    memcpy(s->answers, state.answers, sizeof(s->answers));
    s->nr_answers = state.nr_answers;
    memcpy(s->dead.ids, state.dead, sizeof(s->dead.ids));
    s->dead.count = state.nr_dead;
    s->replay = s->watches;
    return error;
}
