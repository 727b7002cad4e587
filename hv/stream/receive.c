/* Receiving a domain from a socket: pages as they come, then its state, and an answer. */
#include "config.h"

#include "hv/stream/job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "hv/control/control.h"
#include "hv/loop.h"
#include "hv/machine/time.h"
#include "hv/stream/handover.h"

#define SLICE_BYTES (8u << 20) /* taken at a time, then others have their turn */

enum stage { HEADER, RECORD, PAYLOAD };

struct receiving {
    enum stage stage;
    struct hv_stream_header header;
    struct hv_stream_record record;
    uint8_t *payload;
    size_t room;
    size_t have; /* of what the stage collects */
};

static void fini(struct hv_stream *s)
{
    struct receiving *r = s->own;

    free(r->payload);
    free(r);
}

/* Tells the other side, and ends. The reply is small, and nothing was sent before: it fits into the socket's buffer. */
static void finish(struct hv_stream *s, int error, const char *why)
{
    struct hv_stream_reply reply = {.magic = HV_STREAM_MAGIC, .error = error};

    snprintf(reply.text, sizeof(reply.text), "%s", why);
    (void)!send(s->fd, &reply, sizeof(reply), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (error)
        hv_stream_fail(s, error, "%s", why);
    else
        hv_stream_done_receiving(s);
}

/* ------------------------------------------------------------------ pages */

/* How many of the record's entries from @entries on are of pages that follow each other. */
static uint64_t run_length(const uint8_t *entries, uint64_t count)
{
    uint64_t first, next, n = 1;

    memcpy(&first, entries, 8);
    for (; n < count; n++) {
        memcpy(&next, entries + 8 * n, 8);
        if (next >> HV_PAGE_SHIFT != (first >> HV_PAGE_SHIFT) + n)
            break;
    }
    return n;
}

/* Each change of what is RAM is some work for the host: pages that follow each other are made at once. */
static int make_pages(struct hv_domain *d, hv_gfn gfn, const uint8_t *entries, uint64_t count)
{
    int error;

    pthread_mutex_lock(&d->lock);
    error = hv_memory_populate(&d->mem, gfn, run_length(entries, count));
    pthread_mutex_unlock(&d->lock);
    return error;
}

/* The first of @count entries; @page is NULL for a page of zeroes. */
static int store_page(struct hv_domain *d, const uint8_t *entries, uint64_t count, const uint8_t *page, char *why,
                      size_t why_bytes)
{
    uint64_t entry;
    hv_gfn gfn;
    uint8_t *to;
    int error = 0;

    memcpy(&entry, entries, 8);
    gfn = hv_gfn_of(entry >> HV_PAGE_SHIFT);
    to = d->mem.base + (gfn.v << HV_PAGE_SHIFT);
    if (hv_memory_type(&d->mem, gfn) != HV_PAGE_RAM)
        error = make_pages(d, gfn, entries, count);
    if (error)
        snprintf(why, why_bytes, "page 0x%llx cannot be had: %s", (unsigned long long)gfn.v, strerror(-error));
    else if (page)
        memcpy(to, page, HV_PAGE_SIZE);
    else if (!hv_stream_page_is_zero(to))
        memset(to, 0, HV_PAGE_SIZE);
    return error;
}

static int take_pages(struct hv_stream *s, char *why, size_t why_bytes)
{
    struct receiving *r = s->own;
    const uint8_t *entries = r->payload + 8, *page;
    uint64_t count, full = 0;
    int error = 0;

    memcpy(&count, r->payload, 8);
    snprintf(why, why_bytes, "a record of pages makes no sense");
    if (!count || count > HV_STREAM_PAGES_MAX || r->record.bytes < 8 + 8 * count)
        return -EBADMSG;
    page = entries + 8 * count;
    for (uint64_t i = 0; !error && i < count; i++) {
        uint64_t entry;
        bool zero;

        memcpy(&entry, entries + 8 * i, 8);
        zero = entry & HV_STREAM_PAGE_ZERO;
        if ((entry & HV_PAGE_MASK & ~HV_STREAM_PAGE_ZERO) ||
            (!zero && r->record.bytes < 8 + 8 * count + (full + 1) * HV_PAGE_SIZE))
            return -EBADMSG;
        error = store_page(s->domain, entries + 8 * i, count - i, zero ? NULL : page + full * HV_PAGE_SIZE, why, why_bytes);
        full += !zero;
    }
    s->status.pages += full;
    s->status.zero_pages += count - full;
    return !error && r->record.bytes != 8 + 8 * count + full * HV_PAGE_SIZE ? -EBADMSG : error;
}

/* ------------------------------------------------------------------ state */

/* It came before. */
static int no_memory(struct hv_domain *d, struct hv_decoder *dec, void *opaque)
{
    (void)d, (void)opaque;
    return hv_decode_end(dec);
}

static void take_state(struct hv_stream *s)
{
    struct receiving *r = s->own;
    char why[HV_STREAM_ERROR_BYTES];
    int error = hv_stream_decode_state(s->domain, r->payload, r->record.bytes, no_memory, NULL, why);

    if (!error) {
        hv_time_let_pass(s->domain);
        s->domain->control->built = true;
    }
    finish(s, error, error ? why : "");
}

static void take_record(struct hv_stream *s)
{
    struct receiving *r = s->own;
    char why[HV_STREAM_ERROR_BYTES];
    int error = 0;

    if (r->record.crc != hv_stream_record_crc(&r->record, r->payload)) {
        finish(s, -EBADMSG, "a record is damaged");
        return;
    }
    if (r->record.type == HV_RECORD_STATE) {
        take_state(s);
        return;
    }
    error = take_pages(s, why, sizeof(why));
    if (error)
        finish(s, error, why);
}

/* ------------------------------------------------------------------ what comes in */

static void begin(struct receiving *r, enum stage stage)
{
    r->stage = stage;
    r->have = 0;
}

static size_t limit_of(uint16_t type)
{
    switch (type) {
    case HV_RECORD_PAGES:
        return HV_STREAM_PAGES_BYTES_MAX;
    case HV_RECORD_STATE:
        return HV_STREAM_STATE_MAX;
    default:
        return 0;
    }
}

/* Room for the payload that is announced. */
static const char *prepare(struct receiving *r)
{
    size_t limit = limit_of(r->record.type);
    uint8_t *payload;

    if (!limit || r->record.instance)
        return "a record is of a kind that is not known here: it comes from a newer version";
    if (r->record.bytes < 8 || r->record.bytes > limit)
        return "a record is longer or shorter than it can be";
    if (r->record.bytes <= r->room)
        return NULL;
    payload = realloc(r->payload, r->record.bytes);
    if (!payload)
        return "out of memory";
    r->payload = payload;
    r->room = r->record.bytes;
    return NULL;
}

static void collected(struct hv_stream *s)
{
    struct receiving *r = s->own;
    char why[HV_STREAM_ERROR_BYTES];
    const char *wrong;

    switch (r->stage) {
    case HEADER:
        if (hv_stream_header_check(&r->header, HV_STREAM_CHANNEL, why))
            finish(s, -EBADMSG, why);
        else
            begin(r, RECORD);
        return;
    case RECORD:
        wrong = prepare(r);
        if (wrong)
            finish(s, -EBADMSG, wrong);
        else
            begin(r, PAYLOAD);
        return;
    case PAYLOAD:
        begin(r, RECORD);
        take_record(s);
    }
}

static uint8_t *wanted(struct receiving *r, size_t *bytes)
{
    switch (r->stage) {
    case HEADER:
        *bytes = sizeof(r->header);
        return (uint8_t *)&r->header;
    case RECORD:
        *bytes = sizeof(r->record);
        return (uint8_t *)&r->record;
    default:
        *bytes = r->record.bytes;
        return r->payload;
    }
}

/* What came, 0 for nothing now; ends the stream when it is cut. */
static size_t receive(struct hv_stream *s)
{
    struct receiving *r = s->own;
    size_t bytes;
    uint8_t *to = wanted(r, &bytes);
    ssize_t n;

    do
        n = recv(s->fd, to + r->have, bytes - r->have, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    if (n <= 0) {
        hv_stream_fail(s, n < 0 ? errno : EPIPE, "the other side broke the connection%s%s", n < 0 ? ": " : "",
                       n < 0 ? strerror(errno) : "");
        return 0;
    }
    r->have += (size_t)n;
    s->status.transferred_bytes += (uint64_t)n;
    if (r->have == bytes)
        collected(s);
    return (size_t)n;
}

static void step(struct hv_stream *s)
{
    size_t taken = 0, n = 1;

    while (n && taken < SLICE_BYTES && s->status.phase == DOMUS_STREAM_ACTIVE) {
        n = receive(s);
        taken += n;
    }
    if (s->status.phase != DOMUS_STREAM_ACTIVE)
        return;
    if (hv_stream_wait(s, EPOLLIN))
        finish(s, -ENOMEM, "out of memory");
}

static const struct hv_stream_ops ops = {.step = step, .fini = fini};

int hv_stream_receive(struct hv_domain *d, int fd)
{
    struct receiving *r = calloc(1, sizeof(*r));
    int error = r ? hv_stream_begin(d, &ops, fd, r) : -ENOMEM;

    if (error)
        free(r);
    else
        d->frozen = true;
    return error;
}
