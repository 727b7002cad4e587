/* Saving to a file: freeze, memory, state, and the header last. The domain stays frozen when it is done. */
#include "config.h"

#include "hv/stream/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/hypercall/physmap.h"
#include "hv/stream/file.h"
#include "hv/stream/touched.h"

#define CHUNK_PAGES 1024u     /* looked at in a step */

enum stage { FREEZING, MEMORY, STATE };

struct saving {
    enum stage stage;
    off_t base;            /* of the header in the file */
    uint64_t gfn;          /* of the next page, */
    uint64_t index;        /* which is so many pages into the file's memory */
    uint64_t total;
    struct hv_touched touched;
    struct hv_encoder present; /* a bit for each page, set when it is not zero */
    struct hv_encoder sums;    /* of those */
};

static void fini(struct hv_stream *s)
{
    struct saving *w = s->own;

    hv_encoder_fini(&w->present);
    hv_encoder_fini(&w->sums);
    free(w);
}

/* ------------------------------------------------------------------ memory */

static const uint8_t *page_at(const struct hv_stream *s, uint64_t gfn)
{
    return s->domain->mem.base + (gfn << HV_PAGE_SHIFT);
}

static bool note_page(struct hv_stream *s, const uint8_t *page)
{
    struct saving *w = s->own;
    bool zero = !hv_touched_page(&w->touched, w->gfn) || hv_stream_page_is_zero(page);

    if (w->index % 8 == 0)
        hv_encode(&w->present, NULL, 1);
    if (!zero && !w->present.failed) {
        w->present.data[w->present.used - 1] |= (uint8_t)(1u << (w->index % 8));
        hv_encode_u32(&w->sums, hv_crc32c(0, page, HV_PAGE_SIZE));
    }
    s->status.zero_pages += zero;
    s->status.pages += !zero;
    w->index++;
    return !zero;
}

/* Writes @count pages that lie together and are not zero. */
static int write_run(struct hv_stream *s, uint64_t gfn, uint64_t index, uint64_t count)
{
    struct saving *w = s->own;

    s->status.transferred_bytes += count * HV_PAGE_SIZE;
    return count ? hv_stream_write(s, page_at(s, gfn), count * HV_PAGE_SIZE, hv_stream_file_place(w->base, index)) : 0;
}

/* A part of one run of RAM. */
static int write_pages(struct hv_stream *s, uint64_t count)
{
    struct saving *w = s->own;
    uint64_t full = 0;
    int error = 0;

    for (uint64_t i = 0; !error && i < count; i++, w->gfn++) {
        if (note_page(s, page_at(s, w->gfn))) {
            full++;
            continue;
        }
        error = write_run(s, w->gfn - full, w->index - 1 - full, full);
        full = 0;
    }
    if (!error)
        error = write_run(s, w->gfn - full, w->index - full, full);
    s->status.remaining_bytes = (w->total - w->index) * HV_PAGE_SIZE;
    return error;
}

static void save_memory(struct hv_stream *s)
{
    struct saving *w = s->own;
    uint64_t count = hv_physmap_next_run(s->domain, &w->gfn);
    int error;

    if (!count) {
        w->stage = STATE;
        hv_stream_again(s);
        return;
    }
    error = write_pages(s, count < CHUNK_PAGES ? count : CHUNK_PAGES);
    if (error)
        hv_stream_cannot_write(s, error);
    else
        hv_stream_again(s);
}

/* ------------------------------------------------------------------ the rest */

static int save_state(struct hv_stream *s)
{
    struct saving *w = s->own;

    hv_encode(&w->present, w->sums.data, w->sums.used);
    return w->sums.failed ? -ENOMEM : hv_stream_file_end(s, w->base, w->index, &w->present);
}

static void step(struct hv_stream *s)
{
    struct saving *w = s->own;
    int error;

    switch (w->stage) {
    case FREEZING:
        if (!hv_stream_stands_still(s))
            return;
        w->total = s->domain->mem.ram_pages;
        hv_touched_init(&w->touched, s->domain);
        w->stage = MEMORY;
        s->status.passes = 1;
        hv_stream_again(s);
        return;
    case MEMORY:
        save_memory(s);
        return;
    case STATE:
        error = save_state(s);
        if (error)
            hv_stream_cannot_write(s, error);
        else
            hv_stream_done(s);
    }
}

static const struct hv_stream_ops ops = {.step = step, .fini = fini};

int hv_stream_save(struct hv_domain *d, int fd)
{
    struct saving *w = calloc(1, sizeof(*w));
    int error = w ? hv_stream_check(d) : -ENOMEM;

    if (!error)
        error = hv_stream_file_begin(fd, &w->base);
    if (!error)
        error = hv_stream_begin(d, &ops, fd, w);
    if (error)
        free(w);
    else
        hv_stream_freeze(d->stream);
    return error;
}
