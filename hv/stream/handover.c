/* After a domain was sent, or its state was: whose it is.
 *
 * Both sides have all of it, and only one may ever run it, whoever of the toolstacks and hosts dies meanwhile. It is the
 * sender's until it says otherwise. The receiver asks when it is to run the domain; the sender answers that it is the
 * receiver's, and from then on does not run it any more; the receiver runs it when it has heard that, and says so. A socket that
 * breaks before the answer leaves the domain to the sender, who may also decide to keep it and does so by closing the socket. If
 * the answer is lost on the way neither runs it, and the sender knows that this is so or may be so: then a person decides
 * (hv_stream_keep's recall).
 */
#include "config.h"

#include "hv/stream/handover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct handing {
    struct hv_stream_word word; /* that comes in */
    size_t got;
};

static void fini(struct hv_stream *s)
{
    free(s->own);
}

static void set_owner(struct hv_stream *s, enum domus_stream_owner owner)
{
    s->status.owner = owner;
}

bool hv_stream_say(int fd, enum hv_stream_word_type type, uint32_t value)
{
    const struct hv_stream_word word = {.magic = HV_STREAM_MAGIC, .type = type, .value = value};

    /* It is small, and so is what may be in the socket's buffer: what is taken is taken whole, or is lost with the connection. */
    return send(fd, &word, sizeof(word), MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof(word);
}

bool hv_stream_is_word(const struct hv_stream_word *word)
{
    return !memcmp(word->magic, HV_STREAM_MAGIC, sizeof(word->magic));
}

static bool say(struct hv_stream *s, enum hv_stream_word_type type)
{
    return hv_stream_say(s->fd, type, 0);
}

/* The word that came; 0: not yet, -1: none will come. */
static int listen_to(struct hv_stream *s)
{
    struct handing *h = s->own;
    ssize_t n;

    do
        n = recv(s->fd, (uint8_t *)&h->word + h->got, sizeof(h->word) - h->got, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    if (n <= 0)
        return -1;
    h->got += (size_t)n;
    if (h->got < sizeof(h->word))
        return 0;
    h->got = 0;
    return hv_stream_is_word(&h->word) ? (int)h->word.type : -1;
}

static void step_sender(struct hv_stream *s)
{
    int word = listen_to(s);

    if (!word)
        return;
    if (word == HV_WORD_ASK && s->status.owner == DOMUS_OWNER_SENDER && say(s, HV_WORD_YOURS)) {
        set_owner(s, DOMUS_OWNER_GIVEN);
        return;
    }
    if (word == HV_WORD_MINE && s->status.owner == DOMUS_OWNER_GIVEN)
        set_owner(s, DOMUS_OWNER_RECEIVER);
    hv_stream_hang_up(s);
}

static void step_receiver(struct hv_stream *s)
{
    int word = listen_to(s);

    if (!word)
        return;
    if (word == HV_WORD_YOURS && s->status.owner == DOMUS_OWNER_ASKED) {
        set_owner(s, DOMUS_OWNER_RECEIVER);
        (void)!say(s, HV_WORD_MINE);
    } else {
        set_owner(s, DOMUS_OWNER_SENDER);
    }
    hv_stream_hang_up(s);
}

static const struct hv_stream_ops sender = {.step = step_sender, .fini = fini};
static const struct hv_stream_ops receiver = {.step = step_receiver, .fini = fini};

static void begin(struct hv_stream *s, const struct hv_stream_ops *ops)
{
    struct handing *h = calloc(1, sizeof(*h));

    hv_stream_go_over(s, ops, h);
    if (!h || hv_stream_wait(s, EPOLLIN))
        hv_stream_hang_up(s); /* the domain stays the sender's */
    else
        hv_stream_again(s);
}

void hv_stream_done_sending(struct hv_stream *s)
{
    s->side = HV_SIDE_SENT;
    begin(s, &sender);
}

void hv_stream_done_receiving(struct hv_stream *s)
{
    s->side = HV_SIDE_RECEIVED;
    begin(s, &receiver);
}

int hv_stream_claim(struct hv_domain *d)
{
    struct hv_stream *s = d->stream;

    if (!s || s->side != HV_SIDE_RECEIVED)
        return -ENOENT;
    if (s->status.owner != DOMUS_OWNER_SENDER)
        return 0;
    if (s->fd < 0 || !say(s, HV_WORD_ASK))
        return -EPIPE;
    set_owner(s, DOMUS_OWNER_ASKED);
    return 0;
}

int hv_stream_keep(struct hv_domain *d, bool recall)
{
    struct hv_stream *s = d->stream;

    if (!s || s->side != HV_SIDE_SENT)
        return 0;
    if (s->status.owner == DOMUS_OWNER_RECEIVER)
        return -EPERM;
    if (s->status.owner == DOMUS_OWNER_GIVEN && !recall)
        return -EBUSY;
    set_owner(s, DOMUS_OWNER_SENDER);
    if (s->status.phase == DOMUS_STREAM_POSTCOPY)
        hv_stream_lose(s, ECANCELED, "it stays here");
    else
        hv_stream_hang_up(s);
    return 0;
}

bool hv_stream_is_foreign(const struct hv_domain *d)
{
    const struct hv_stream *s = d->stream;

    if (!s)
        return false;
    return (s->side == HV_SIDE_RECEIVED && s->status.owner != DOMUS_OWNER_RECEIVER) ||
           (s->side == HV_SIDE_SENT && s->status.owner != DOMUS_OWNER_SENDER);
}

bool hv_stream_is_torn(const struct hv_domain *d)
{
    const struct hv_stream *s = d->stream;

    return s && s->side == HV_SIDE_RECEIVED && s->status.phase != DOMUS_STREAM_DONE;
}
