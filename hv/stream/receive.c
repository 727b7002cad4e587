/* Receiving a domain from a socket: pages as they come, then its state, and an answer.
 *
 * Of a record of pages its list is looked at first; then the pages are read to where they belong, and what was read is compared
 * with the record's checksum. A domain whose checksum is wrong never runs.
 */
#include "config.h"

#include "hv/stream/job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "hv/control/control.h"
#include "hv/hypercall/physmap.h"
#include "hv/loop.h"
#include "hv/machine/time.h"
#include "hv/stream/code.h"
#include "hv/stream/fetch.h"
#include "hv/stream/handover.h"
#include "hv/stream/pack.h"
#include "hv/stream/sparse.h"

#define SLICE_BYTES (8u << 20) /* taken at a time, then others have their turn */

enum stage { HEADER, RECORD, COUNT, ENTRIES, PAGES, PACKED, PAYLOAD };

struct receiving {
    enum stage stage;
    struct hv_stream_header header;
    struct hv_stream_record record;
    struct iovec parts[HV_STREAM_PAGES_MAX]; /* where what the stage collects goes to: */
    unsigned nr_parts, part;                 /* so many, from this on */
    uint64_t count, entries[HV_STREAM_PAGES_MAX];
    uint8_t *payload;
    size_t room;
    struct hv_packer *unpacker; /* NULL: nothing was packed so far */
    bool switched; /* a part of memory comes after the state */
};

static void fini(struct hv_stream *s)
{
    struct receiving *r = s->own;

    free(r->payload);
    hv_packer_free(r->unpacker);
    free(r);
}

/* It is small, and the other side waits for the one before: it fits into the socket's buffer, or is lost with the connection. */
static void reply(struct hv_stream *s, int error, uint32_t mark, const char *why)
{
    struct hv_stream_reply reply = {.magic = HV_STREAM_MAGIC, .error = error, .mark = mark};

    snprintf(reply.text, sizeof(reply.text), "%s", why);
    (void)!send(s->fd, &reply, sizeof(reply), MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Tells the other side, and ends. */
static void finish(struct hv_stream *s, int error, const char *why)
{
    reply(s, error, 0, why);
    if (error)
        hv_stream_fail(s, error, "%s", why);
    else
        hv_stream_done_receiving(s);
}

/* ------------------------------------------------------------------ pages */

static void begin(struct receiving *r, enum stage stage, void *to, size_t bytes)
{
    r->stage = stage;
    r->parts[0] = (struct iovec){to, bytes};
    r->nr_parts = 1;
    r->part = 0;
}

static hv_gfn gfn_of(uint64_t entry)
{
    return hv_gfn_of(entry >> HV_PAGE_SHIFT);
}

static uint8_t *place_of(const struct hv_domain *d, uint64_t entry)
{
    return d->mem.base + (entry & ~(uint64_t)HV_PAGE_MASK);
}

static bool is_zero_entry(uint64_t entry)
{
    return entry & HV_STREAM_PAGE_ZERO;
}

/* How many of the record's entries from @i on are of pages that follow each other. */
static uint64_t run_length(const struct receiving *r, uint64_t i)
{
    uint64_t n = 1;

    while (i + n < r->count && gfn_of(r->entries[i + n]).v == gfn_of(r->entries[i]).v + n)
        n++;
    return n;
}

static int make_ram(struct hv_domain *d, hv_gfn gfn, uint64_t count)
{
    int error;

    pthread_mutex_lock(&d->lock);
    error = hv_memory_populate(&d->mem, gfn, count);
    pthread_mutex_unlock(&d->lock);
    return error;
}

/* Most of it was told before. Each change of what is RAM is some work for the host: pages that follow each other are made at
 * once. */
static int make_pages(struct hv_stream *s, char *why, size_t why_bytes)
{
    const struct receiving *r = s->own;
    int error = 0;

    for (uint64_t i = 0; !error && i < r->count; i++) {
        hv_gfn gfn = gfn_of(r->entries[i]);

        if (hv_memory_type(&s->domain->mem, gfn) != HV_PAGE_RAM)
            error = make_ram(s->domain, gfn, run_length(r, i));
        if (error)
            snprintf(why, why_bytes, "page 0x%llx cannot be had: %s", (unsigned long long)gfn.v, strerror(-error));
    }
    return error;
}

static bool is_packed(const struct receiving *r)
{
    return r->record.type == HV_RECORD_PACKED || r->record.type == HV_RECORD_SPARSE;
}

static size_t list_bytes(const struct receiving *r)
{
    return 8 + 8 * r->count;
}

/* Of those that are not zero. */
static size_t page_bytes(const struct receiving *r)
{
    size_t full = 0;

    for (uint64_t i = 0; i < r->count; i++)
        full += !is_zero_entry(r->entries[i]);
    return full * HV_PAGE_SIZE;
}

/* Whether the record has what its entries say. */
static bool is_sound(const struct receiving *r)
{
    for (uint64_t i = 0; i < r->count; i++)
        if (r->entries[i] & HV_PAGE_MASK & ~(uint64_t)HV_STREAM_PAGE_ZERO)
            return false;
    return is_packed(r) ? page_bytes(r) && r->record.bytes > list_bytes(r) : r->record.bytes == list_bytes(r) + page_bytes(r);
}

/* Where pages that are not zero go, those that follow each other as one. */
static void find_places(struct hv_stream *s)
{
    struct receiving *r = s->own;
    struct iovec *last = NULL;

    begin(r, PAGES, NULL, 0);
    r->nr_parts = 0;
    for (uint64_t i = 0; i < r->count; i++) {
        uint8_t *to = place_of(s->domain, r->entries[i]);

        if (is_zero_entry(r->entries[i]))
            continue;
        if (last && (uint8_t *)last->iov_base + last->iov_len == to) {
            last->iov_len += HV_PAGE_SIZE;
            continue;
        }
        last = &r->parts[r->nr_parts++];
        *last = (struct iovec){to, HV_PAGE_SIZE};
    }
}

static uint32_t crc_of_pages(const struct hv_stream *s)
{
    const struct receiving *r = s->own;
    uint32_t crc = hv_crc32c(hv_stream_record_crc_begin(&r->record), &r->count, 8);

    crc = hv_crc32c(crc, r->entries, 8 * r->count);
    for (uint64_t i = 0; i < r->count; i++)
        if (!is_zero_entry(r->entries[i]))
            crc = hv_crc32c(crc, place_of(s->domain, r->entries[i]), HV_PAGE_SIZE);
    return crc;
}

static bool make_room(struct receiving *r)
{
    if (r->record.bytes > r->room) {
        free(r->payload);
        r->payload = malloc(r->record.bytes);
        r->room = r->payload ? r->record.bytes : 0;
    }
    return r->payload;
}

/* The list of pages is there. */
static void take_entries(struct hv_stream *s)
{
    struct receiving *r = s->own;
    char why[HV_STREAM_ERROR_BYTES];
    int error;

    if (!is_sound(r)) {
        finish(s, -EBADMSG, "a record of pages makes no sense");
        return;
    }
    error = make_pages(s, why, sizeof(why));
    if (error)
        finish(s, error, why);
    else if (!is_packed(r))
        find_places(s);
    else if (make_room(r))
        begin(r, PACKED, r->payload, r->record.bytes - list_bytes(r));
    else
        finish(s, -ENOMEM, "out of memory");
}

/* So are the pages themselves. */
static void take_pages(struct hv_stream *s)
{
    struct receiving *r = s->own;

    if (r->record.type == HV_RECORD_PAGES && crc_of_pages(s) != r->record.crc) {
        finish(s, -EBADMSG, "a record is damaged");
        return;
    }
    for (uint64_t i = 0; i < r->count; i++) {
        uint8_t *page = place_of(s->domain, r->entries[i]);
        bool zero = is_zero_entry(r->entries[i]);

        if (zero && !hv_stream_page_is_zero(page))
            memset(page, 0, HV_PAGE_SIZE);
        hv_memory_written(&s->domain->mem, hv_gpa_of(r->entries[i] & ~(uint64_t)HV_PAGE_MASK), HV_PAGE_SIZE); /* of code */
        s->status.zero_pages += zero;
        s->status.pages += !zero;
    }
    begin(r, RECORD, &r->record, sizeof(r->record));
}

static uint32_t crc_of_packed(const struct receiving *r)
{
    uint32_t crc = hv_crc32c(hv_stream_record_crc_begin(&r->record), &r->count, 8);

    crc = hv_crc32c(crc, r->entries, 8 * r->count);
    return hv_crc32c(crc, r->payload, r->record.bytes - list_bytes(r));
}

static bool unpack(struct hv_stream *s)
{
    struct receiving *r = s->own;
    const uint8_t *page = NULL;

    if (!r->unpacker)
        r->unpacker = hv_packer_new(false);
    if (r->unpacker)
        page = hv_packer_unpack(r->unpacker, r->payload, r->record.bytes - list_bytes(r), page_bytes(r));
    for (uint64_t i = 0; page && i < r->count; i++) {
        if (is_zero_entry(r->entries[i]))
            continue;
        memcpy(place_of(s->domain, r->entries[i]), page, HV_PAGE_SIZE);
        page += HV_PAGE_SIZE;
    }
    return page;
}

static bool unpack_sparse(struct hv_stream *s)
{
    struct receiving *r = s->own;
    uint64_t pages = page_bytes(r) / HV_PAGE_SIZE, mask;
    const uint8_t *masks = r->payload, *pieces = masks + 8 * pages;

    if (!hv_sparse_is_sound(r->payload, r->record.bytes - list_bytes(r), pages))
        return false;
    for (uint64_t i = 0; i < r->count; i++) {
        if (is_zero_entry(r->entries[i]))
            continue;
        memcpy(&mask, masks, sizeof(mask));
        masks += sizeof(mask);
        pieces = hv_sparse_unpack(mask, pieces, place_of(s->domain, r->entries[i]));
    }
    return true;
}

/* The pages are there, but in a smaller form. */
static void take_packed(struct hv_stream *s)
{
    const struct receiving *r = s->own;

    if (crc_of_packed(r) == r->record.crc && (r->record.type == HV_RECORD_SPARSE ? unpack_sparse(s) : unpack(s)))
        take_pages(s);
    else
        finish(s, -EBADMSG, "a record is damaged");
}

/* Where there is RAM. */
static void take_map(struct hv_stream *s)
{
    struct receiving *r = s->own;
    char why[HV_STREAM_ERROR_BYTES] = "";
    struct hv_decoder dec = {r->payload, r->record.bytes, "RAM", why, sizeof(why)};

    if (hv_physmap_decode_ram(s->domain, &dec))
        finish(s, -EBADMSG, why);
}

/* ------------------------------------------------------------------ state */

/* It came before. */
static int no_memory(struct hv_domain *d, struct hv_decoder *dec, void *opaque)
{
    (void)d, (void)opaque;
    return hv_decode_end(dec);
}

static int decode(struct hv_stream *s, char why[HV_STREAM_ERROR_BYTES])
{
    struct receiving *r = s->own;
    int error = hv_stream_decode_state(s->domain, r->payload, r->record.bytes, no_memory, NULL, why);

    if (!error) {
        hv_time_let_pass(s->domain);
        s->domain->control->built = true;
    }
    return error;
}

static void take_state(struct hv_stream *s)
{
    char why[HV_STREAM_ERROR_BYTES];
    int error = decode(s, why);

    finish(s, error, error ? why : "");
}

/* The state may be about a page that is missing: what is missing is fetched already. */
static void take_state_first(struct hv_stream *s)
{
    struct fetch *f = hv_fetch_start(s);
    char why[HV_STREAM_ERROR_BYTES] = "out of memory";
    int error = f ? decode(s, why) : -ENOMEM;

    if (!error && hv_fetch_go_on(s, f, why))
        return;
    if (f)
        hv_fetch_stop(f);
    s->side = HV_SIDE_RECEIVED; /* nobody's to run, though its state was taken, perhaps */
    finish(s, error ? error : -EPIPE, why);
}

static void take_missing(struct hv_stream *s)
{
    struct receiving *r = s->own;
    char why[HV_STREAM_ERROR_BYTES] = "";
    int error = r->switched ? 0 : hv_fetch_prepare(s->domain, why);

    r->switched = true;
    if (error)
        finish(s, error, why);
    else if (hv_fetch_take_list(s->domain, r->payload, r->record.bytes))
        finish(s, -EBADMSG, "a list of pages makes no sense");
}

static void take_code(struct hv_stream *s)
{
    struct receiving *r = s->own;
    char why[HV_STREAM_ERROR_BYTES] = "";
    struct hv_decoder dec = {r->payload, r->record.bytes, "code", why, sizeof(why)};

    if (hv_stream_decode_code(s->domain, &dec))
        finish(s, -EBADMSG, why);
}

static void take_mark(struct hv_stream *s)
{
    const struct receiving *r = s->own;
    uint64_t mark = 0;

    memcpy(&mark, r->payload, sizeof(mark));
    if (mark && mark <= UINT32_MAX)
        reply(s, 0, (uint32_t)mark, "");
    else
        finish(s, -EBADMSG, "a mark makes no sense");
}

static void take_payload(struct hv_stream *s)
{
    struct receiving *r = s->own;

    begin(r, RECORD, &r->record, sizeof(r->record));
    if (r->record.crc != hv_stream_record_crc(&r->record, r->payload))
        finish(s, -EBADMSG, "a record is damaged");
    else if (r->record.type == HV_RECORD_STATE && r->switched)
        take_state_first(s);
    else if (r->record.type == HV_RECORD_STATE)
        take_state(s);
    else if (r->record.type == HV_RECORD_MISSING)
        take_missing(s);
    else if (r->record.type == HV_RECORD_RAM)
        take_map(s);
    else if (r->record.type == HV_RECORD_CODE)
        take_code(s);
    else
        take_mark(s);
}

/* ------------------------------------------------------------------ what comes in */

static size_t limit_of(uint16_t type)
{
    switch (type) {
    case HV_RECORD_PAGES:
    case HV_RECORD_PACKED:
    case HV_RECORD_SPARSE:
        return HV_STREAM_PAGES_BYTES_MAX;
    case HV_RECORD_RAM:
        return 8 + 16 * HV_STREAM_RAM_RUNS_MAX;
    case HV_RECORD_STATE:
        return HV_STREAM_STATE_MAX;
    case HV_RECORD_CODE:
        return HV_STREAM_CODE_BYTES_MAX;
    case HV_RECORD_MISSING:
        return 8 + 8 * HV_STREAM_MISSING_MAX;
    case HV_RECORD_MARK:
        return sizeof(uint64_t);
    default:
        return 0;
    }
}

/* What is wrong with the record that is announced, or NULL. */
static const char *check_record(const struct hv_stream_record *record)
{
    size_t limit = limit_of(record->type);

    if (!limit || record->instance)
        return "a record is of a kind that is not known here: it comes from a newer version";
    if (record->bytes < 8 || record->bytes > limit)
        return "a record is longer or shorter than it can be";
    return NULL;
}

static void take_record(struct hv_stream *s)
{
    struct receiving *r = s->own;
    const char *wrong = check_record(&r->record);

    if (!wrong && r->switched && r->record.type != HV_RECORD_MISSING && r->record.type != HV_RECORD_STATE)
        wrong = "a record is of a kind that cannot come any more";
    if (wrong)
        finish(s, -EBADMSG, wrong);
    else if (r->record.type == HV_RECORD_PAGES || is_packed(r))
        begin(r, COUNT, &r->count, sizeof(r->count));
    else if (make_room(r))
        begin(r, PAYLOAD, r->payload, r->record.bytes);
    else
        finish(s, -ENOMEM, "out of memory");
}

static void collected(struct hv_stream *s)
{
    struct receiving *r = s->own;
    char why[HV_STREAM_ERROR_BYTES];

    switch (r->stage) {
    case HEADER:
        if (hv_stream_header_check(&r->header, HV_STREAM_CHANNEL, why))
            finish(s, -EBADMSG, why);
        else
            begin(r, RECORD, &r->record, sizeof(r->record));
        return;
    case RECORD:
        take_record(s);
        return;
    case COUNT:
        if (!r->count || r->count > HV_STREAM_PAGES_MAX)
            finish(s, -EBADMSG, "a record of pages makes no sense");
        else
            begin(r, ENTRIES, r->entries, r->count * sizeof(r->entries[0]));
        return;
    case ENTRIES:
        take_entries(s);
        return;
    case PAGES:
        take_pages(s);
        return;
    case PACKED:
        take_packed(s);
        return;
    case PAYLOAD:
        take_payload(s);
    }
}

static bool is_active(const struct hv_stream *s)
{
    return s->status.phase == DOMUS_STREAM_ACTIVE;
}

static void advance(struct receiving *r, size_t bytes)
{
    while (r->part < r->nr_parts) {
        struct iovec *part = &r->parts[r->part];
        size_t n = bytes < part->iov_len ? bytes : part->iov_len;

        part->iov_base = (uint8_t *)part->iov_base + n;
        part->iov_len -= n;
        bytes -= n;
        if (part->iov_len)
            return;
        r->part++;
    }
}

/* What came, 0 for nothing now; ends the stream when it is cut. */
static size_t receive(struct hv_stream *s)
{
    struct receiving *r = s->own;
    struct msghdr message = {.msg_iov = r->parts + r->part, .msg_iovlen = r->nr_parts - r->part};
    ssize_t n;

    do
        n = recvmsg(s->fd, &message, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return 0;
    if (n <= 0) {
        hv_stream_fail(s, n < 0 ? errno : EPIPE, "the other side broke the connection%s%s", n < 0 ? ": " : "",
                       n < 0 ? strerror(errno) : "");
        return 0;
    }
    s->status.transferred_bytes += (uint64_t)n;
    advance(r, (size_t)n);
    while (is_active(s) && r->part == r->nr_parts) /* some have no pages */
        collected(s);
    return (size_t)n;
}

static void step(struct hv_stream *s)
{
    size_t taken = 0, n = 1;

    while (n && taken < SLICE_BYTES && is_active(s)) {
        n = receive(s);
        taken += n;
    }
    if (!is_active(s))
        return;
    if (hv_stream_wait(s, EPOLLIN))
        finish(s, -ENOMEM, "out of memory");
}

static const struct hv_stream_ops ops = {.step = step, .fini = fini};

int hv_stream_receive(struct hv_domain *d, int fd)
{
    struct receiving *r = calloc(1, sizeof(*r));
    int error = r ? hv_stream_begin(d, &ops, fd, r) : -ENOMEM;

    if (error) {
        free(r);
        return error;
    }
    begin(r, HEADER, &r->header, sizeof(r->header));
    d->frozen = true;
    return error;
}
