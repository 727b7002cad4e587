/* Saving to a file while the domain runs: passes, as in sending (send.c), and a file as in saving (save.c).
 *
 * The first pass writes all pages to their places, each further one those that the guest changed during the one before,
 * by the log of writes, over what they were. A page is copied, its checksum taken of the copy, and a thread writes that
 * (writer.c). A pass is over when the disk has it: else what waits in the host's cache would be a part of the time that
 * the guest is stopped. When what is left takes but a moment the guest is stopped, and the rest and the state follow. A
 * guest that changes memory faster than the file takes it is slowed down, and stopped after some passes whatever is left:
 * the file gets done.
 *
 * The place of a page is how many pages of RAM lie below it. A balloon moves all those above, which are written again.
 */
#include "config.h"

#include "hv/stream/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hv/hypercall/physmap.h"
#include "hv/machine/dirty-rate.h"
#include "hv/machine/dirty.h"
#include "hv/machine/vcpu.h"
#include "hv/stream/file.h"
#include "hv/stream/throttle.h"
#include "hv/stream/touched.h"
#include "hv/stream/writer.h"

#define STOP_SOON_NS  20000000ull
#define DOWNTIME_NS   300000000ull /* where passes do not get shorter */
#define FEW_PAGES     64u          /* are written in no time */
#define LOOK_MAX      512u         /* in a step */
#define PASSES_MAX    16u
#define MEASURE_BYTES (1u << 20)

enum stage { PASS, SYNC, WAIT, FREEZING, REST, REST_WAIT, END };

#define ROOMS 7u

struct room {
    void *at;
    size_t bytes;
};

struct saving {
    enum stage stage;
    off_t base; /* of the header in the file */
    struct hv_writer *writer;
    struct hv_stream_throttle *throttle;
    struct hv_touched touched;
    bool unsure; /* pass: not all of its pages were ever touched */

    struct room rooms[ROOMS]; /* of what follows, for all pages that there can be */
    unsigned nr_rooms;
    uint64_t *todo;    /* a bit for each page that this pass writes */
    uint64_t *ram;     /* a bit for each page that has a place */
    uint64_t *now;     /* (the next such bits, while they are made) */
    uint64_t *below;   /* for each word of these: how many there are before it */
    uint64_t *present; /* a bit for each place: its page is not zero */
    uint64_t *written; /* a bit for each place: there may be something else than zeroes */
    uint32_t *sums;    /* for each place */
    uint64_t words, gfn;
    uint64_t total;             /* places */
    uint64_t left, left_before; /* pages: of this pass, at the start of the one before */
    uint64_t pass_ns, pass_bytes; /* when the pass began, what had been written then */
};

/* Zeroes; what is not touched takes no memory. NULL: out of memory. */
static void *make_room(struct saving *w, size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (at == MAP_FAILED)
        return NULL;
    w->rooms[w->nr_rooms++] = (struct room){at, bytes};
    return at;
}

static bool make_rooms(struct saving *w, const struct hv_domain *d)
{
    uint64_t **const bits[] = {&w->todo, &w->ram, &w->now, &w->below, &w->present, &w->written};

    for (unsigned i = 0; i < HV_ARRAY_LEN(bits); i++)
        if (!(*bits[i] = make_room(w, (d->mem.nr_gfns + 63) / 64 * sizeof(uint64_t))))
            return false;
    w->sums = make_room(w, d->mem.nr_gfns * sizeof(*w->sums));
    return w->sums;
}

static void free_saving(struct saving *w)
{
    hv_writer_free(w->writer);
    hv_stream_throttle_free(w->throttle);
    while (w->nr_rooms--)
        munmap(w->rooms[w->nr_rooms].at, w->rooms[w->nr_rooms].bytes);
    free(w);
}

static void fini(struct hv_stream *s)
{
    hv_memory_log_stop(&s->domain->mem);
    free_saving(s->own);
}

/* ------------------------------------------------------------------ bits */

static bool has_bit(const uint64_t *bits, uint64_t i)
{
    return bits[i / 64] >> (i % 64) & 1;
}

static void set_bit(uint64_t *bits, uint64_t i, bool value)
{
    bits[i / 64] = (bits[i / 64] & ~(1ull << (i % 64))) | (uint64_t)value << (i % 64);
}

static void set_bits(uint64_t *bits, uint64_t i, uint64_t count)
{
    for (; count && i % 64; i++, count--)
        set_bit(bits, i, true);
    for (; count >= 64; i += 64, count -= 64)
        bits[i / 64] = ~0ull;
    for (; count; i++, count--)
        set_bit(bits, i, true);
}

static unsigned count_bits(uint64_t bits)
{
    return (unsigned)__builtin_popcountll(bits);
}

/* ------------------------------------------------------------------ places */

static uint64_t place_of(const struct saving *w, uint64_t gfn)
{
    return w->below[gfn / 64] + count_bits(w->ram[gfn / 64] & ((1ull << (gfn % 64)) - 1));
}

/* What has another place than it had is to be written there. */
static void find_places(struct hv_stream *s)
{
    struct saving *w = s->own;
    uint64_t gfn = 0, count, below = 0;

    memset(w->now, 0, w->words * sizeof(uint64_t));
    for (; (count = hv_physmap_next_run(s->domain, &gfn)); gfn += count)
        set_bits(w->now, gfn, count);
    for (uint64_t word = 0; word < w->words; word++) {
        if (w->now[word] != w->ram[word] || w->below[word] != below) {
            w->ram[word] = w->now[word];
            w->below[word] = below;
            w->todo[word] = w->ram[word];
            w->unsure = true;
        }
        below += count_bits(w->ram[word]);
    }
    w->total = below;
}

/* ------------------------------------------------------------------ pages */

/* The next page of the pass, which is taken off it; false at the end. */
static bool next_page(struct saving *w, uint64_t *gfn)
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
    w->gfn = w->words * 64;
    return false;
}

/* The guest may change a page while it is copied: then it is in the log, and comes again. False: it is zero. */
static bool copy_page(struct hv_stream *s, uint64_t gfn, uint8_t *to)
{
    struct saving *w = s->own;

    if (w->unsure && !hv_touched_page(&w->touched, gfn)) {
        memset(to, 0, HV_PAGE_SIZE);
        return false;
    }
    memcpy(to, s->domain->mem.base + (gfn << HV_PAGE_SHIFT), HV_PAGE_SIZE);
    return !hv_stream_page_is_zero(to);
}

static void take_page(struct hv_stream *s, uint64_t gfn, struct hv_writer_chunk *chunk)
{
    struct saving *w = s->own;
    uint64_t place = place_of(w, gfn);
    uint8_t *copy = chunk->pages + (size_t)chunk->count * HV_PAGE_SIZE;
    bool full;

    /* what was given back meanwhile is found when places are */
    if (!has_bit(w->ram, gfn) || hv_memory_type(&s->domain->mem, hv_gfn_of(gfn)) != HV_PAGE_RAM)
        return;
    full = copy_page(s, gfn, copy);
    s->status.zero_pages += !full;
    s->status.pages += full;
    set_bit(w->present, place, full);
    if (!full && !has_bit(w->written, place))
        return; /* a hole */
    w->sums[place] = hv_crc32c(0, copy, HV_PAGE_SIZE);
    set_bit(w->written, place, true);
    chunk->places[chunk->count++] = hv_stream_file_place(w->base, place);
}

/* Some pages go to the writer. False: there are none left. */
static bool write_some(struct hv_stream *s, struct hv_writer_chunk *chunk)
{
    struct saving *w = s->own;
    unsigned looked = 0;
    uint64_t gfn;

    chunk->count = 0;
    for (; looked < LOOK_MAX && chunk->count < HV_WRITER_PAGES && next_page(w, &gfn); looked++)
        take_page(s, gfn, chunk);
    s->status.transferred_bytes += (uint64_t)chunk->count * HV_PAGE_SIZE;
    s->status.remaining_bytes = w->left * HV_PAGE_SIZE;
    if (chunk->count)
        hv_writer_put(w->writer);
    return looked;
}

/* When the writer has nothing free, it wakes us. */
static void write_pass(struct hv_stream *s, enum stage next)
{
    struct saving *w = s->own;
    struct hv_writer_chunk *chunk = hv_writer_get(w->writer);

    if (!chunk)
        return;
    if (!write_some(s, chunk))
        w->stage = next;
    hv_stream_again(s);
}

/* ------------------------------------------------------------------ passes */

static void begin_pass(struct hv_stream *s)
{
    struct saving *w = s->own;

    w->gfn = w->left = 0;
    for (uint64_t word = 0; word < w->words; word++)
        w->left += count_bits(w->todo[word]);
    hv_touched_init(&w->touched, s->domain); /* what was untouched may be so no more */
    w->pass_ns = hv_loop_now();
    w->pass_bytes = s->status.transferred_bytes;
    s->status.passes++;
    s->status.remaining_bytes = w->left * HV_PAGE_SIZE;
}

/* It may get memory where it had none. */
static void find_words(struct hv_stream *s)
{
    struct saving *w = s->own;

    w->words = (hv_physmap_max_gfn(s->domain) + 64) / 64;
}

/* What the guest has changed is to be written, too. vCPUs may go on to store unseen to what was in the log. */
static void take_log(struct hv_stream *s)
{
    struct saving *w = s->own;

    w->unsure = false;
    find_words(s);
    for (uint64_t word = 0; word < w->words; word++)
        w->todo[word] |= hv_memory_log_take(&s->domain->mem, word);
}

static uint64_t per_second(uint64_t count, uint64_t ns)
{
    return (uint64_t)((unsigned __int128)count * 1000000000u / (ns ? ns : 1));
}

/* Of the pass that is over; what is less tells nothing of the speed. */
static void measure(struct hv_stream *s)
{
    struct saving *w = s->own;
    uint64_t bytes = s->status.transferred_bytes - w->pass_bytes;

    if (bytes >= MEASURE_BYTES || s->status.passes == 1)
        s->status.bytes_per_second = per_second(bytes, hv_loop_now() - w->pass_ns);
}

/* How long the guest would be stopped. */
static uint64_t expected_ns(const struct hv_stream *s)
{
    const struct saving *w = s->own;
    uint64_t speed = s->status.bytes_per_second;

    if (w->left <= FEW_PAGES || !speed)
        return w->left <= FEW_PAGES ? 0 : UINT64_MAX;
    return (uint64_t)((unsigned __int128)w->left * HV_PAGE_SIZE * 1000000000u / speed);
}

static bool should_stop(struct hv_stream *s)
{
    struct saving *w = s->own;
    uint64_t expected = expected_ns(s);
    bool shrinks = w->left < w->left_before - w->left_before / 4;

    if (expected <= STOP_SOON_NS || (expected <= DOWNTIME_NS && !shrinks) || s->status.passes > PASSES_MAX)
        return true;
    if (!shrinks)
        hv_stream_throttle_more(w->throttle);
    s->status.throttle_percent = hv_stream_throttle_percent(w->throttle);
    return false;
}

static void stop(struct hv_stream *s)
{
    struct saving *w = s->own;

    w->stage = FREEZING;
    hv_stream_throttle_off(w->throttle);
    hv_stream_freeze(s);
}

/* The log is taken, and then vCPUs forget where they may store unseen: what they stored in between is in the pages when
 * these are copied. */
static void end_pass(struct hv_stream *s)
{
    struct saving *w = s->own;
    uint64_t pass_ns = w->pass_ns;

    measure(s);
    take_log(s);
    hv_domain_flush_tlb(s->domain);
    find_places(s);
    begin_pass(s);
    s->status.dirty_pages_per_second = per_second(w->left, w->pass_ns - pass_ns);
    if (should_stop(s)) {
        stop(s);
        return;
    }
    w->left_before = w->left;
    w->stage = PASS;
}

/* Nothing changes any more. */
static void begin_rest(struct hv_stream *s)
{
    struct saving *w = s->own;

    hv_physmap_mark_own(s->domain);
    take_log(s);
    find_places(s);
    begin_pass(s);
    w->stage = REST;
}

/* ------------------------------------------------------------------ the end */

static int write_end(struct hv_stream *s)
{
    struct saving *w = s->own;
    struct hv_encoder checksums = {0};
    off_t end;
    int error;

    hv_encode(&checksums, w->present, (w->total + 7) / 8);
    for (uint64_t place = 0; place < w->total; place++)
        if (has_bit(w->present, place))
            hv_encode_u32(&checksums, w->sums[place]);
    if (w->total % 8 && !checksums.failed) /* of places that there were before */
        checksums.data[w->total / 8] &= (uint8_t)((1u << (w->total % 8)) - 1);
    /* nor are their pages to be read as anything */
    end = hv_stream_file_place(w->base, w->total);
    error = ftruncate(s->fd, end) < 0 ? -errno : hv_stream_file_end(s, w->base, w->total, &checksums);
    hv_encoder_fini(&checksums);
    return error;
}

static void end(struct hv_stream *s)
{
    int error = write_end(s);

    if (error)
        hv_stream_cannot_write(s, error);
    else
        hv_stream_done(s);
}

/* ------------------------------------------------------------------ steps */

/* What was written is to be on the disk. */
static void sync_pass(struct hv_stream *s)
{
    struct saving *w = s->own;
    struct hv_writer_chunk *chunk = hv_writer_get(w->writer);

    if (!chunk)
        return;
    chunk->count = 0;
    hv_writer_put(w->writer);
    w->stage = WAIT;
}

/* What is in the log already stays there: vCPUs do not tell of it again before they are flushed. */
static void begin(struct hv_stream *s)
{
    struct saving *w = s->own;

    w->left_before = UINT64_MAX;
    find_words(s);
    find_places(s);
    begin_pass(s);
}

static void step(struct hv_stream *s)
{
    struct saving *w = s->own;
    int error = hv_writer_error(w->writer);
    enum stage stage = w->stage;

    if (error) {
        hv_stream_cannot_write(s, error);
        return;
    }
    if (!s->status.passes)
        begin(s);
    switch (stage) {
    case PASS:
        write_pass(s, SYNC);
        return;
    case SYNC:
        sync_pass(s);
        return;
    case WAIT:
        if (hv_writer_is_idle(w->writer))
            end_pass(s);
        break;
    case FREEZING:
        if (hv_stream_stands_still(s))
            begin_rest(s);
        break;
    case REST:
        write_pass(s, REST_WAIT);
        return;
    case REST_WAIT:
        if (hv_writer_is_idle(w->writer))
            w->stage = END;
        break;
    case END:
        end(s);
        return;
    }
    if (s->own && w->stage != stage)
        hv_stream_again(s);
}

static const struct hv_stream_ops ops = {.step = step, .fini = fini};

/* The log is there before the first page is read. */
static int start(struct hv_domain *d, struct saving *w)
{
    int error = hv_writer_new(d->stream->fd, d->stream->wakeup, &w->writer);

    if (error)
        return error;
    hv_dirty_rate_stop(d);
    error = hv_memory_log_start(&d->mem);
    if (!error)
        hv_domain_flush_tlb(d);
    return error;
}

int hv_stream_save_live(struct hv_domain *d, int fd)
{
    struct saving *w = calloc(1, sizeof(*w));
    int error = w ? hv_stream_check(d) : -ENOMEM;

    if (!error)
        error = hv_stream_file_begin(fd, &w->base);
    if (!error && (!make_rooms(w, d) || !(w->throttle = hv_stream_throttle_new(d))))
        error = -ENOMEM;
    if (!error)
        error = hv_stream_begin(d, &ops, fd, w);
    if (error) {
        if (w)
            free_saving(w);
        return error;
    }
    error = start(d, w);
    if (error) {
        d->stream->fd = -1; /* the caller's still */
        hv_stream_free(d);
    }
    return error;
}
