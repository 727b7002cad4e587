/* Sending a domain, after it was switched (post-copy): the guest stands still here and has, or may soon have, gone on at the
 * receiver, which got its state and a list of the pages that are still to come. What the receiver asks for goes first and at
 * once, the rest behind it, from there on, as fast as the toolstack lets it.
 *
 * Until the receiver has asked for the domain (handover.h) nothing is lost when the connection breaks: it stays frozen, and goes
 * on here when the toolstack says so. From then on the only whole copy of what it did since is there, and of its memory here: then
 * neither can go on.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "hv/hypercall/physmap.h"
#include "hv/loop.h"
#include "hv/machine/dirty.h"
#include "hv/stream/sending.h"

#define SLICE_NS     1000000ull     /* of the loop's time, then others have their turn */
#define STALL_NS     60000000000ull /* without progress: the other side is not there any more */
#define PUSHED_PAGES 32u /* in one record: whoever waits for a page waits for the record before it, too */
#define WANTED_PAGES 4u  /* with the one that is asked for: those behind it are often wanted next */

/* ------------------------------------------------------------------ before the state */

/* What is not RAM any more has no contents. */
static uint64_t only_ram(const struct hv_domain *d, uint64_t word, uint64_t bits)
{
    uint64_t ram = 0;

    for (; bits; bits &= bits - 1) {
        unsigned bit = (unsigned)__builtin_ctzll(bits);

        if (hv_memory_type(&d->mem, hv_gfn_of(word * 64 + bit)) == HV_PAGE_RAM)
            ram |= 1ull << bit;
    }
    return ram;
}

/* What is left is put off, but for what the hypervisor itself looks at when it takes the state. */
static void put_off(struct hv_stream *s, uint64_t *todo)
{
    struct sending *w = s->own;

    hv_sending_take_log(s);
    w->later = w->todo;
    w->todo = todo;
    w->left = 0;
    hv_physmap_mark_own(s->domain);
    hv_sending_take_log(s);
    for (uint64_t word = 0; word < w->words; word++)
        if (w->later[word])
            w->later[word] = only_ram(s->domain, word, w->later[word] & ~w->todo[word]);
}

int hv_push_split(struct hv_stream *s)
{
    struct sending *w = s->own;
    void *todo = mmap(NULL, hv_sending_todo_bytes(s->domain), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (todo == MAP_FAILED)
        return -ENOMEM;
    put_off(s, todo);
    w->first = false; /* what is zero may not be so at the other side */
    w->missing_word = 0;
    return 0;
}

bool hv_push_put_missing(struct hv_stream *s)
{
    struct sending *w = s->own;
    uint64_t word = w->missing_word, count;
    struct hv_encoder list = {0};

    while (word < w->words && !w->later[word])
        word++;
    if (word == w->words && w->missing_word) /* one there is in any case */
        return false;
    count = w->words - word < HV_STREAM_MISSING_MAX ? w->words - word : HV_STREAM_MISSING_MAX;
    hv_encode_u64(&list, word);
    hv_encode(&list, w->later + word, count * sizeof(uint64_t));
    hv_encoder_fini(&w->state);
    hv_stream_encode_record(&w->state, HV_RECORD_MISSING, list.data, list.used);
    w->state.failed |= list.failed;
    hv_encoder_fini(&list);
    w->out[0] = (struct iovec){w->state.data, w->state.used};
    w->missing_word = word + count;
    return true;
}

/* ------------------------------------------------------------------ what the receiver says */

static void want(struct sending *w, uint64_t gfn)
{
    if (w->nr_wanted < HV_WANTED_MAX && gfn / 64 < w->words)
        w->wanted[w->nr_wanted++] = gfn;
}

static bool is_given(const struct hv_stream *s)
{
    return s->status.owner != DOMUS_OWNER_SENDER;
}

/* What the receiver never had goes on here; what it may have waits for the toolstack. */
static void broken(struct hv_stream *s, int error, const char *why)
{
    struct sending *w = s->own;

    if (w->ready)
        hv_stream_lose(s, error, "%s", why);
    else
        hv_stream_fail(s, error, "%s", why);
}

static void answer(struct sending *w, enum hv_stream_word_type type)
{
    w->answer = (struct hv_stream_word){.magic = HV_STREAM_MAGIC, .type = type};
    w->to_answer = true;
}

static void ready(struct hv_stream *s)
{
    struct sending *w = s->own;

    w->ready = true;
    s->side = HV_SIDE_SENT;
    s->status.phase = DOMUS_STREAM_POSTCOPY;
}

/* False: that makes no sense now. */
static bool heard(struct hv_stream *s, const struct hv_stream_word *word)
{
    struct sending *w = s->own;

    switch (word->type) {
    case HV_WORD_WANTED:
        s->status.requests++;
        want(w, word->value);
        return true;
    case HV_WORD_READY:
        if (!w->ready)
            ready(s);
        return true;
    case HV_WORD_ASK:
        if (!w->ready || is_given(s))
            return false;
        s->status.owner = DOMUS_OWNER_GIVEN; /* from here on it does not run here */
        answer(w, HV_WORD_YOURS);
        return true;
    case HV_WORD_MINE:
        if (s->status.owner != DOMUS_OWNER_GIVEN)
            return false;
        s->status.owner = DOMUS_OWNER_RECEIVER;
        return true;
    case HV_WORD_ALL:
        w->has_all = true;
        return w->ended;
    default:
        return false;
    }
}

static void take_word(struct hv_stream *s)
{
    struct sending *w = s->own;

    w->got = 0;
    if (!hv_stream_is_word(&w->word))
        broken(s, EPROTO, "the other side speaks another language");
    else if ((int32_t)w->word.type < 0 && !w->ready) /* the beginning of a struct hv_stream_reply */
        hv_stream_fail(s, (int32_t)w->word.type, "the other side cannot take it: %s", strerror(-(int32_t)w->word.type));
    else if (!heard(s, &w->word))
        broken(s, EPROTO, "the other side says what makes no sense");
}

/* Then the other side has hung up. */
static bool is_complete(const struct hv_stream *s)
{
    const struct sending *w = s->own;

    return w && w->has_all && s->status.owner == DOMUS_OWNER_RECEIVER;
}

/* All words that are there. */
static void take_words(struct hv_stream *s)
{
    while (s->own && !is_complete(s)) {
        struct sending *w = s->own;
        ssize_t n = recv(s->fd, (uint8_t *)&w->word + w->got, sizeof(w->word) - w->got, MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            broken(s, n < 0 ? errno : EPIPE, "the other side broke the connection");
            return;
        }
        w->got += (size_t)n;
        if (w->got == sizeof(w->word))
            take_word(s);
    }
}

/* ------------------------------------------------------------------ what goes out */

static void put_answer(struct sending *w)
{
    w->out[0] = (struct iovec){&w->answer, sizeof(w->answer)};
    w->to_answer = false;
}

/* From page @gfn on: those before it in its word are not in its way. */
static void put_from(struct hv_stream *s, uint64_t gfn)
{
    struct sending *w = s->own;
    uint64_t word = gfn / 64, before = w->todo[word] & ((1ull << (gfn % 64)) - 1);

    w->todo[word] &= ~before;
    w->gfn = gfn;
    (void)hv_sending_put_pages(s, WANTED_PAGES);
    w->todo[word] |= before;
}

static bool put_wanted(struct hv_stream *s)
{
    struct sending *w = s->own;

    while (w->nr_wanted) {
        uint64_t gfn = w->wanted[0];

        memmove(w->wanted, w->wanted + 1, --w->nr_wanted * sizeof(w->wanted[0]));
        if (w->todo[gfn / 64] >> (gfn % 64) & 1) { /* else it is on its way */
            put_from(s, gfn);
            return true;
        }
    }
    return false;
}

static void put_end(struct sending *w)
{
    hv_encoder_fini(&w->state);
    hv_stream_encode_record(&w->state, HV_RECORD_END, NULL, 0);
    w->out[0] = (struct iovec){w->state.data, w->state.used};
    w->ended = true;
}

static uint64_t paced_until(struct hv_stream *s)
{
    struct sending *w = s->own;
    uint64_t now = hv_loop_now(), sent = s->status.transferred_bytes - w->paced_bytes, due;

    if (!w->limits.postcopy_bytes_per_second)
        return 0;
    due = w->paced_ns + (uint64_t)((unsigned __int128)sent * 1000000000u / w->limits.postcopy_bytes_per_second);
    if (due > now)
        return due;
    w->paced_ns = now;
    w->paced_bytes = s->status.transferred_bytes;
    return 0;
}

static void push_pages(struct hv_stream *s)
{
    struct sending *w = s->own;

    if (!hv_sending_put_pages(s, PUSHED_PAGES) && w->left)
        w->gfn = 0; /* those before what was asked for */
    if (!w->left && !hv_sending_left(w))
        put_end(w);
}

/* Makes the next thing to be sent. False: nothing for now. */
static bool produce(struct hv_stream *s)
{
    struct sending *w = s->own;
    uint64_t until;

    if (w->to_answer) {
        put_answer(w);
        return true;
    }
    if (put_wanted(s))
        return true;
    if (w->ended)
        return false;
    until = paced_until(s);
    if (until) {
        hv_stream_at(s, until);
        return false;
    }
    push_pages(s);
    return true;
}

static void push_some(struct hv_stream *s)
{
    struct sending *w = s->own;
    uint64_t end = hv_loop_now() + SLICE_NS;
    int flushed;

    do {
        flushed = hv_sending_flush(s);
        if (flushed < 0) {
            broken(s, flushed, "the connection to the other side broke");
            return;
        }
        if (!flushed || !produce(s))
            break;
        if (hv_loop_now() > end) {
            hv_stream_again(s);
            break;
        }
    } while (true);
    if (hv_stream_wait(s, EPOLLIN | (hv_sending_left(w) ? EPOLLOUT : 0)))
        broken(s, ENOMEM, "out of memory");
}

static void check_progress(struct hv_stream *s)
{
    struct sending *w = s->own;
    uint64_t due = w->progress_ns + STALL_NS;

    if (!hv_sending_left(w) && w->ready)
        return;
    if (hv_loop_now() > due)
        broken(s, ETIMEDOUT, "the other side takes nothing");
    else
        hv_stream_at(s, due);
}

static void step(struct hv_stream *s)
{
    take_words(s);
    if (is_complete(s)) {
        hv_stream_done(s);
        return;
    }
    if (s->own)
        push_some(s);
    if (s->own)
        check_progress(s);
}

static const struct hv_stream_ops ops = {.step = step, .fini = hv_sending_fini, .set_limits = hv_sending_set_limits};

void hv_push_begin(struct hv_stream *s)
{
    struct sending *w = s->own;

    munmap(w->todo, hv_sending_todo_bytes(s->domain));
    w->todo = w->later;
    w->later = NULL;
    w->left = 0;
    for (uint64_t word = 0; word < w->words; word++)
        w->left += (uint64_t)__builtin_popcountll(w->todo[word]);
    hv_sending_begin_pass(s);
    w->paced_ns = hv_loop_now();
    w->paced_bytes = s->status.transferred_bytes + hv_sending_left(w);
    s->ops = &ops;
    hv_stream_again(s);
}
