/* Sending a domain to another process while it runs: pre-copy.
 *
 * The first pass sends all pages, each further one those that the guest changed during the one before, by the log of writes
 * (hv/machine/dirty.h). A pass is over when the receiver has all of it: what is on its way, in the buffers of two sockets, would
 * else be a part of the time that the guest is stopped, and not known. After the first one the receiver is told which code the
 * guest runs: what its engine makes of that is ready when the guest comes. When what is left takes no longer than the guest may
 * be stopped, it is stopped, the rest and the state follow, and who receives says that it has all. Until then the guest goes
 * on here after any failure; from then on it stays frozen until it is decided who runs it (handover.c).
 *
 * When it is switched, it is stopped wherever it is in that, and what is left is push.c's.
 *
 * When to stop: at once if that takes but a moment (STOP_SOON_NS). If it takes longer and passes still get shorter, another
 * pass is worth it; else the limit of the toolstack decides, and where not even that is reached, the guest is slowed down if
 * that was asked for, or passes go on for as long as the toolstack likes.
 */
#include "config.h"

#include "hv/stream/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "hv/hypercall/physmap.h"
#include "hv/loop.h"
#include "hv/machine/dirty.h"
#include "hv/machine/dirty-rate.h"
#include "hv/machine/vcpu.h"
#include "hv/stream/code.h"
#include "hv/stream/handover.h"
#include "hv/stream/pack.h"
#include "hv/stream/sending.h"
#include "hv/stream/sparse.h"
#include "hv/stream/throttle.h"
#include "hv/stream/touched.h"

#define STOP_SOON_NS        5000000ull
#define DOWNTIME_DEFAULT_NS 300000000ull
#define SLICE_NS            1000000ull   /* of the loop's time, then others have their turn */
#define STALL_NS            60000000000ull /* without progress: the other side is not there any more */
#define LOOK_MAX            512u
#define FEW_PAGES           64u          /* are sent in no time */
#define PASSES_MAX          12u          /* that bring something: then the limit decides */
#define MEASURE_BYTES       (1u << 20)   /* what is less tells nothing of the speed */

/* Room for all that there can be; what is not touched takes none. */
size_t hv_sending_todo_bytes(const struct hv_domain *d)
{
    return (size_t)((d->mem.nr_gfns + 63) / 64 * sizeof(uint64_t));
}

void hv_sending_fini(struct hv_stream *s)
{
    struct sending *w = s->own;

    hv_stream_throttle_free(w->throttle);
    hv_memory_log_stop(&s->domain->mem);
    if (w->todo)
        munmap(w->todo, hv_sending_todo_bytes(s->domain));
    if (w->later)
        munmap(w->later, hv_sending_todo_bytes(s->domain));
    hv_encoder_fini(&w->state);
    free(w->data);
    free(w->sparse);
    hv_packer_free(w->packer);
    free(w);
}

/* ------------------------------------------------------------------ the socket */

size_t hv_sending_left(const struct sending *w)
{
    return w->out[0].iov_len + w->out[1].iov_len;
}

static void was_sent(struct iovec out[2], size_t bytes)
{
    for (unsigned i = 0; i < 2; i++) {
        size_t n = bytes < out[i].iov_len ? bytes : out[i].iov_len;

        out[i].iov_base = (uint8_t *)out[i].iov_base + n;
        out[i].iov_len -= n;
        bytes -= n;
    }
}

/* Sends what there is. 1: all of it, 0: not now, or negative errno. */
int hv_sending_flush(struct hv_stream *s)
{
    struct sending *w = s->own;
    const struct msghdr message = {.msg_iov = w->out, .msg_iovlen = 2};

    while (hv_sending_left(w)) {
        ssize_t n = sendmsg(s->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
        was_sent(w->out, (size_t)n);
        w->progress_ns = hv_loop_now();
        s->status.transferred_bytes += (uint64_t)n;
    }
    return 1;
}

static void put_header(struct sending *w)
{
    hv_stream_header_init(&w->header, HV_STREAM_CHANNEL);
    hv_stream_header_seal(&w->header);
    w->out[0] = (struct iovec){&w->header, sizeof(w->header)};
}

/* The guest's RAM from w->gfn on, as much as a record has. False: there is none left. */
static bool put_map(struct hv_stream *s)
{
    struct sending *w = s->own;
    struct hv_encoder runs = {0};
    bool any = hv_physmap_encode_ram(s->domain, &w->gfn, HV_STREAM_RAM_RUNS_MAX, &runs);

    hv_encoder_fini(&w->state);
    hv_stream_encode_record(&w->state, HV_RECORD_RAM, runs.data, runs.used);
    w->state.failed |= runs.failed;
    hv_encoder_fini(&runs);
    if (any)
        w->out[0] = (struct iovec){w->state.data, w->state.used};
    return any;
}

/* ------------------------------------------------------------------ pages */

/* The next page of the pass, which is taken off it; false at the end. */
static bool next_page(struct sending *w, uint64_t *gfn)
{
    for (uint64_t word = w->gfn / 64; word < w->words; word++) {
        if (!w->todo[word])
            continue;
        *gfn = word * 64 + (unsigned)__builtin_ctzll(w->todo[word]);
        w->todo[word] &= w->todo[word] - 1;
        w->gfn = *gfn;
        w->left--;
        return true;
    }
    return false;
}

/* The guest may change a page while it is copied: then it is in the log, and comes again. */
static bool copy_page(struct hv_stream *s, uint64_t gfn, uint8_t *to)
{
    memcpy(to, s->domain->mem.base + (gfn << HV_PAGE_SHIFT), HV_PAGE_SIZE);
    return !hv_stream_page_is_zero(to);
}

/* The pages of a record, as small as they get: *@bytes at the result. What comes after the state is placed as it is (fetch.c). */
static const void *pack_pages(struct sending *w, size_t *bytes, uint16_t *type)
{
    const void *packed = NULL;
    size_t sparse = 0;

    if (w->packer)
        packed = hv_packer_pack(w->packer, w->data, *bytes, bytes);
    else if (w->stage != REPLY)
        sparse = hv_sparse_pack(w->data, (unsigned)(*bytes / HV_PAGE_SIZE), w->sparse);
    *type = packed ? HV_RECORD_PACKED : sparse ? HV_RECORD_SPARSE : HV_RECORD_PAGES;
    *bytes = sparse ? sparse : *bytes;
    return packed ? packed : sparse ? w->sparse : w->data;
}

static void seal_pages(struct sending *w, size_t page_bytes)
{
    struct pages_head *head = &w->head;
    size_t list_bytes = sizeof(head->count) + head->count * sizeof(head->entries[0]), bytes = page_bytes;
    uint16_t type;
    const void *from = pack_pages(w, &bytes, &type);
    uint32_t crc;

    head->record = (struct hv_stream_record){.type = type, .bytes = list_bytes + bytes};
    crc = hv_crc32c(hv_stream_record_crc_begin(&head->record), &head->count, list_bytes);
    head->record.crc = hv_crc32c(crc, from, bytes);
    w->out[0] = (struct iovec){head, sizeof(head->record) + list_bytes};
    w->out[1] = (struct iovec){(void *)(uintptr_t)from, bytes};
    w->page_bytes += page_bytes;
}

/* In a pass while it runs, a page that was written to since the pass began is not looked at: it comes in the next one anyway. */
static bool comes_again(const struct hv_stream *s, hv_gfn gfn)
{
    const struct sending *w = s->own;

    return w->stage == PASS && hv_memory_may_store(&s->domain->mem, gfn);
}

/* Makes a record of pages. False: there are none left. Many that are not sent are some work, too. */
bool hv_sending_put_pages(struct hv_stream *s, unsigned most)
{
    struct sending *w = s->own;
    uint64_t gfn, full = 0;
    unsigned looked = 0;

    w->head.count = 0;
    while (w->head.count < most && looked < LOOK_MAX && next_page(w, &gfn)) {
        bool zero;

        looked++;
        if (comes_again(s, hv_gfn_of(gfn)) || hv_memory_type(&s->domain->mem, hv_gfn_of(gfn)) != HV_PAGE_RAM)
            continue; /* or was given back meanwhile */
        zero = !copy_page(s, gfn, w->data + full * HV_PAGE_SIZE);
        s->status.zero_pages += zero;
        s->status.pages += !zero;
        full += !zero;
        if (!zero || !w->first)
            w->head.entries[w->head.count++] = gfn << HV_PAGE_SHIFT | (zero ? HV_STREAM_PAGE_ZERO : 0);
    }
    s->status.remaining_bytes = w->left * HV_PAGE_SIZE;
    if (w->head.count)
        seal_pages(w, full * HV_PAGE_SIZE);
    return looked;
}

/* ------------------------------------------------------------------ passes */

void hv_sending_begin_pass(struct hv_stream *s)
{
    struct sending *w = s->own;

    w->gfn = 0;
    w->pass_ns = hv_loop_now();
    w->pass_bytes = s->status.transferred_bytes;
    w->pass_page_bytes = w->page_bytes;
    s->status.passes++;
    s->status.remaining_bytes = w->left * HV_PAGE_SIZE;
}

static void add_pages(struct sending *w, uint64_t word, uint64_t bits)
{
    w->left += (uint64_t)__builtin_popcountll(bits & ~w->todo[word]);
    w->todo[word] |= bits;
}

/* All that was touched; what is so from now on is in the log. */
static void begin_first_pass(struct hv_stream *s)
{
    struct sending *w = s->own;
    uint64_t gfn = 0, count;
    struct hv_touched touched;

    hv_touched_init(&touched, s->domain);
    for (; (count = hv_physmap_next_run(s->domain, &gfn)); gfn += count)
        for (uint64_t i = gfn; i < gfn + count; i++) {
            if (hv_touched_page(&touched, i))
                add_pages(w, i / 64, 1ull << (i % 64));
            else
                s->status.zero_pages++;
        }
    w->first = true;
    hv_sending_begin_pass(s);
}

/* The guest may get memory at addresses where it had none. */
static uint64_t words_of(struct hv_domain *d)
{
    return (hv_physmap_max_gfn(d) + 64) / 64;
}

/* What the guest has changed becomes what is to be sent. */
void hv_sending_take_log(struct hv_stream *s)
{
    struct sending *w = s->own;

    w->words = words_of(s->domain);
    for (uint64_t word = 0; word < w->words; word++) {
        uint64_t bits = hv_memory_log_take(&s->domain->mem, word);

        if (bits)
            add_pages(w, word, bits);
    }
}

static uint64_t per_second(uint64_t count, uint64_t ns)
{
    return (uint64_t)((unsigned __int128)count * 1000000000u / ns);
}

static void measure(struct hv_stream *s)
{
    struct sending *w = s->own;
    uint64_t ns = hv_loop_now() - w->pass_ns, pages = w->page_bytes - w->pass_page_bytes;

    if (!ns)
        return;
    if (pages >= MEASURE_BYTES || !w->pages_per_second) {
        s->status.bytes_per_second = per_second(s->status.transferred_bytes - w->pass_bytes, ns);
        w->pages_per_second = per_second(pages, ns);
    }
    s->status.dirty_pages_per_second = per_second(w->left, ns);
}

/* How long the guest would be stopped. */
static uint64_t expected_ns(const struct hv_stream *s)
{
    const struct sending *w = s->own;
    uint64_t speed = w->pages_per_second;

    if (w->left <= FEW_PAGES || !speed)
        return w->left <= FEW_PAGES ? 0 : UINT64_MAX;
    return (uint64_t)((unsigned __int128)w->left * HV_PAGE_SIZE * 1000000000u / speed);
}

static uint64_t max_downtime_ns(const struct sending *w)
{
    return w->limits.max_downtime_ns ? w->limits.max_downtime_ns : DOWNTIME_DEFAULT_NS;
}

static bool should_stop(struct hv_stream *s)
{
    struct sending *w = s->own;
    uint64_t expected = expected_ns(s);
    bool shrinks = w->left < w->left_before - w->left_before / 4 && s->status.passes < PASSES_MAX;

    if (expected <= STOP_SOON_NS || (expected <= max_downtime_ns(w) && !shrinks))
        return true;
    if (!shrinks && (w->limits.flags & DOMUS_STREAM_CONVERGE))
        hv_stream_throttle_more(w->throttle);
    s->status.throttle_percent = hv_stream_throttle_percent(w->throttle);
    return false;
}

/* What it ran lately is in what is forgotten next. */
static void list_code(struct hv_stream *s)
{
    struct sending *w = s->own;
    struct hv_encoder code = {0};

    hv_domain_pause(s->domain);
    hv_stream_encode_code(s->domain, &code);
    hv_domain_unpause(s->domain);
    hv_encoder_fini(&w->state);
    hv_stream_encode_record(&w->state, HV_RECORD_CODE, code.data, code.used);
    w->state.failed |= code.failed;
    hv_encoder_fini(&code);
}

static void stop(struct hv_stream *s)
{
    struct sending *w = s->own;

    w->stage = FREEZING;
    hv_stream_throttle_off(w->throttle);
    hv_stream_freeze(s);
}

/* The pass is over. The log is taken, and then vCPUs forget where they may store unseen: what they stored in between is in
 * the pages when these are copied. */
static void end_pass(struct hv_stream *s)
{
    struct sending *w = s->own;

    w->first = false;
    w->left = 0;
    if (s->status.passes == 1)
        list_code(s);
    hv_sending_take_log(s);
    hv_domain_flush_tlb(s->domain);
    measure(s);
    if (s->status.passes > 1 && should_stop(s)) {
        stop(s);
        return;
    }
    w->left_before = w->left;
    w->stage = s->status.passes == 1 ? CODE : PASS;
    hv_sending_begin_pass(s);
}

/* Nothing changes any more. False: it failed. */
static bool begin_rest(struct hv_stream *s)
{
    struct sending *w = s->own;

    if (w->switched && hv_push_split(s)) {
        hv_stream_fail(s, ENOMEM, "out of memory");
        return false;
    }
    if (!w->switched) {
        hv_physmap_mark_own(s->domain);
        hv_sending_take_log(s);
    }
    w->stage = REST;
    hv_sending_begin_pass(s);
    return true;
}

static bool put_mark(struct hv_stream *s)
{
    struct sending *w = s->own;
    const uint64_t mark = s->status.passes;

    hv_encoder_fini(&w->state);
    hv_stream_encode_record(&w->state, HV_RECORD_MARK, &mark, sizeof(mark));
    w->out[0] = (struct iovec){w->state.data, w->state.used};
    return !w->state.failed;
}

static int put_state(struct hv_stream *s)
{
    struct sending *w = s->own;
    struct hv_stream_record record = {.type = HV_RECORD_STATE};
    int error;

    hv_encoder_fini(&w->state);
    hv_encode(&w->state, NULL, sizeof(record));
    error = hv_stream_encode_state(s->domain, NULL, &w->state);
    if (error)
        return error;
    record.bytes = w->state.used - sizeof(record);
    record.crc = hv_stream_record_crc(&record, w->state.data + sizeof(record));
    memcpy(w->state.data, &record, sizeof(record));
    w->out[0] = (struct iovec){w->state.data, w->state.used};
    w->stage = REPLY;
    if (w->switched)
        hv_push_begin(s);
    return 0;
}

/* ------------------------------------------------------------------ the other side's answer */

static void end_of_pass_heard(struct hv_stream *s, uint32_t mark)
{
    struct sending *w = s->own;

    w->marked = false;
    if (w->switched)
        return; /* nobody waits for it any more */
    if (w->stage != MARKED || mark != s->status.passes || hv_sending_left(w))
        hv_stream_fail(s, EPROTO, "the other side answers what it was not asked");
    else
        end_pass(s);
}

static void take_reply(struct hv_stream *s)
{
    struct sending *w = s->own;
    ssize_t n = recv(s->fd, (uint8_t *)&w->reply + w->got, sizeof(w->reply) - w->got, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (n <= 0) {
        hv_stream_fail(s, n < 0 ? errno : EPIPE, "the other side broke the connection%s%s", n < 0 ? ": " : "",
                       n < 0 ? strerror(errno) : "");
        return;
    }
    w->got += (size_t)n;
    if (w->got < sizeof(w->reply))
        return;
    w->got = 0;
    w->reply.text[sizeof(w->reply.text) - 1] = '\0';
    if (memcmp(w->reply.magic, HV_STREAM_MAGIC, sizeof(w->reply.magic)))
        hv_stream_fail(s, EPROTO, "the other side speaks another language");
    else if (w->reply.error)
        hv_stream_fail(s, w->reply.error, "the other side cannot take it: %s", w->reply.text);
    else if (w->reply.mark)
        end_of_pass_heard(s, w->reply.mark);
    else if (w->stage != REPLY || hv_sending_left(w))
        hv_stream_fail(s, EPROTO, "the other side answers too early");
    else
        hv_stream_done_sending(s);
}

/* ------------------------------------------------------------------ steps */

/* When the limit of speed lets more pass; 0: now. What is left when the guest is stopped goes as fast as it can. */
static uint64_t paced_until(struct hv_stream *s)
{
    struct sending *w = s->own;
    uint64_t now = hv_loop_now(), sent = s->status.transferred_bytes - w->paced_bytes, due;

    if (!w->limits.bytes_per_second || w->stage > PASS)
        return 0;
    due = w->paced_ns + (uint64_t)((unsigned __int128)sent * 1000000000u / w->limits.bytes_per_second);
    if (due > now)
        return due;
    w->paced_ns = now; /* what was not used is not saved up */
    w->paced_bytes = s->status.transferred_bytes;
    return 0;
}

/* Makes the next thing to be sent. False: nothing for now, step() comes back. */
static bool produce(struct hv_stream *s)
{
    struct sending *w = s->own;
    uint64_t until;
    int error;

    if (w->switched && w->stage >= PASS && w->stage < FREEZING)
        stop(s);
    switch (w->stage) {
    case HEADER:
        put_header(w);
        w->stage = MAP;
        return true;
    case MAP:
        if (!put_map(s)) {
            w->stage = PASS;
            begin_first_pass(s);
        } else if (w->state.failed) {
            hv_stream_fail(s, ENOMEM, "out of memory");
            return false;
        }
        return true;
    case PASS:
        until = paced_until(s);
        if (until) {
            hv_stream_at(s, until);
            return false;
        }
        if (!hv_sending_put_pages(s, HV_STREAM_PAGES_MAX))
            w->stage = MARK;
        return true;
    case MARK:
        w->stage = MARKED;
        w->marked = true;
        if (!put_mark(s))
            hv_stream_fail(s, ENOMEM, "out of memory");
        return s->own;
    case MARKED:
        return false;
    case CODE:
        w->stage = PASS;
        if (!w->state.failed) /* it does without */
            w->out[0] = (struct iovec){w->state.data, w->state.used};
        return true;
    case FREEZING:
        if (!hv_stream_stands_still(s))
            return false;
        return begin_rest(s);
    case REST:
        if (!hv_sending_put_pages(s, HV_STREAM_PAGES_MAX))
            w->stage = w->switched ? MISSING : STATE;
        return true;
    case MISSING:
        if (!hv_push_put_missing(s))
            w->stage = STATE;
        else if (w->state.failed)
            hv_stream_fail(s, ENOMEM, "out of memory");
        return s->own;
    case STATE:
        if (w->marked && w->switched) /* behind it, only words come */
            return false;
        error = put_state(s);
        if (error)
            hv_stream_fail(s, error, "the state cannot be written: %s", strerror(-error));
        return !error;
    case REPLY:
        return false;
    }
    return false;
}

static bool is_over(const struct hv_stream *s)
{
    return s->status.phase == DOMUS_STREAM_DONE || s->status.phase == DOMUS_STREAM_FAILED;
}

/* Sends until the socket is full, the slice is over, or there is nothing. */
static void send_some(struct hv_stream *s)
{
    struct sending *w = s->own;
    uint64_t end = hv_loop_now() + SLICE_NS;
    int flushed;

    do {
        flushed = hv_sending_flush(s);
        if (flushed < 0) {
            hv_stream_fail(s, flushed, "the connection to the other side broke: %s", strerror(-flushed));
            return;
        }
        if (!flushed || !produce(s))
            break;
        if (hv_loop_now() > end) {
            hv_stream_again(s);
            break;
        }
    } while (!is_over(s));
    if (!is_over(s) && hv_stream_wait(s, EPOLLIN | (hv_sending_left(w) ? EPOLLOUT : 0)))
        hv_stream_fail(s, ENOMEM, "out of memory");
}

static void check_progress(struct hv_stream *s)
{
    struct sending *w = s->own;
    uint64_t due = w->progress_ns + STALL_NS;

    if (!hv_sending_left(w) && w->stage != REPLY && w->stage != MARKED)
        return;
    if (hv_loop_now() > due)
        hv_stream_fail(s, ETIMEDOUT, "the other side takes nothing");
    else
        hv_stream_at(s, due);
}

static void step(struct hv_stream *s)
{
    struct sending *w = s->own;

    if (!w->progress_ns)
        w->progress_ns = hv_loop_now();
    take_reply(s);
    if (!is_over(s))
        send_some(s);
    if (!is_over(s))
        check_progress(s);
}

int hv_sending_set_limits(struct hv_stream *s, const struct domus_stream_limits *limits)
{
    struct sending *w = s->own;

    w->limits = *limits;
    w->paced_ns = hv_loop_now();
    w->paced_bytes = s->status.transferred_bytes;
    hv_stream_again(s);
    return 0;
}

static const struct hv_stream_ops ops = {.step = step, .fini = hv_sending_fini, .set_limits = hv_sending_set_limits};

int hv_stream_switch(struct hv_domain *d)
{
    struct hv_stream *s = d->stream;
    struct sending *w = s ? s->own : NULL;

    if (!w || s->ops != &ops || s->status.phase != DOMUS_STREAM_ACTIVE)
        return -ENOENT;
    if (!(w->limits.flags & DOMUS_STREAM_SWITCHABLE))
        return -EINVAL;
    w->switched = true;
    hv_stream_again(s);
    return 0;
}

static struct sending *make(struct hv_domain *d, const struct domus_stream_limits *limits)
{
    struct sending *w = calloc(1, sizeof(*w));
    void *todo;

    if (!w)
        return NULL;
    w->words = words_of(d);
    todo = mmap(NULL, hv_sending_todo_bytes(d), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    w->todo = todo == MAP_FAILED ? NULL : todo;
    w->data = malloc((size_t)HV_STREAM_PAGES_MAX * HV_PAGE_SIZE);
    w->sparse = malloc(HV_SPARSE_ROOM_BYTES(HV_STREAM_PAGES_MAX));
    w->throttle = hv_stream_throttle_new(d);
    w->limits = *limits;
    if (limits->flags & DOMUS_STREAM_COMPRESS)
        w->packer = hv_packer_new(true);
    return w;
}

int hv_stream_send(struct hv_domain *d, int fd, const struct domus_stream_limits *limits)
{
    struct sending *w;
    bool ready;
    int error = hv_stream_check(d);

    if (error)
        return error;
    w = make(d, limits);
    if (!w)
        return -ENOMEM;
    ready = w->todo && w->data && w->sparse && w->throttle && (w->packer || !(limits->flags & DOMUS_STREAM_COMPRESS));
    error = ready ? hv_stream_begin(d, &ops, fd, w) : -ENOMEM;
    if (error) {
        struct hv_stream nobody = {.domain = d, .own = w};

        hv_sending_fini(&nobody);
        return error;
    }
    hv_dirty_rate_stop(d);
    error = hv_memory_log_start(&d->mem);
    if (error) {
        d->stream->fd = -1; /* the caller's still */
        hv_stream_free(d);
        return error;
    }
    hv_domain_flush_tlb(d);
    return 0;
}
