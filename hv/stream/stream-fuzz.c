/* What a peer or a file may say: state and channels with bytes changed, checksums made right again, so that what is behind them
 * is reached. Nothing may crash or hang; what is accepted must be a domain that can be written again.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zstd.h>

#include "hv/control/control.h"
#include "hv/fuzz.h"
#include "hv/machine/missing.h"
#include "hv/stream/handover.h"
#include "hv/stream/sample.h"
#include "hv/stream/sparse.h"

#define ROUNDS 3000u

static int no_memory(struct hv_domain *d, struct hv_decoder *dec, void *opaque)
{
    (void)d, (void)opaque;
    return hv_decode_end(dec);
}

/* Changes a few bytes of some record, and its checksum. */
static void spoil(uint8_t *state, size_t bytes)
{
    struct hv_stream_record record;
    size_t at = 0, wanted = fuzz_random((uint32_t)bytes);

    for (;;) {
        memcpy(&record, state + at, sizeof(record));
        if (wanted < at + sizeof(record) + record.bytes)
            break;
        at += sizeof(record) + record.bytes;
    }
    for (unsigned n = 1 + fuzz_random(3); n && record.bytes; n--) {
        size_t place = fuzz_random((uint32_t)record.bytes);
        uint64_t value = fuzz_random(2) ? fuzz_edge() : fuzz_random64();
        size_t count = 1u << fuzz_random(4);

        memcpy(state + at + sizeof(record) + place, &value, count < record.bytes - place ? count : record.bytes - place);
    }
    if (fuzz_random(16) == 0)
        record.type = (uint16_t)fuzz_random(64);
    record.crc = hv_stream_record_crc(&record, state + at + sizeof(record));
    memcpy(state + at, &record, sizeof(record));
}

/* True if it was accepted. */
static bool try_state(const uint8_t *state, size_t bytes)
{
    char error[HV_STREAM_ERROR_BYTES];
    struct hv_domain *d = empty_domain();
    struct hv_encoder again = {0};
    bool accepted;

    /* As much memory as it has, so that decoding is not about that. */
    accepted = d && !hv_physmap_populate(d, hv_gfn_of(0), TEST_PAGES) &&
               !hv_stream_decode_state(d, state, bytes, no_memory, NULL, error);
    if (accepted && hv_stream_encode_state(d, NULL, &again))
        abort();
    hv_encoder_fini(&again);
    if (d)
        hv_domain_free(d);
    return accepted;
}

static void fuzz_states(const struct hv_encoder *good)
{
    unsigned accepted = 0;
    uint8_t *state = malloc(good->used);

    for (unsigned round = 0; round < ROUNDS / 10; round++) {
        fuzz_seed(round + 1);
        memcpy(state, good->data, good->used);
        for (unsigned n = fuzz_random(3); n != ~0u; n--)
            spoil(state, good->used);
        accepted += try_state(state, fuzz_random(8) ? good->used : fuzz_random((uint32_t)good->used));
    }
    free(state);
    TAP_OK(try_state(good->data, good->used), "what was not changed is accepted");
    TAP_OK(accepted > 0 && accepted < ROUNDS / 10, "of what was changed, some is (%u)", accepted);
}

/* Lets what was sent be read, as far as it goes. */
static void feed(struct hv_domain *d, int fd, const uint8_t *bytes, size_t count)
{
    struct domus_stream_status status;

    for (unsigned i = 0; i < 64; i++) {
        ssize_t n = count ? send(fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

        if (n > 0) {
            bytes += n;
            count -= (size_t)n;
        }
        if (!count)
            shutdown(fd, SHUT_WR);
        hv_stream_get_status(d, &status);
        if (status.phase != DOMUS_STREAM_ACTIVE)
            return;
        d->stream->ops->step(d->stream);
    }
}

/* Some pages, made smaller; a byte of it may be another one. */
static size_t pack(uint16_t type, uint8_t *out, uint64_t pages)
{
    static uint8_t from[10 * HV_PAGE_SIZE];
    size_t n;

    memset(from, 0, sizeof(from));
    for (uint64_t page = 0; page < pages; page++)
        memset(from + page * HV_PAGE_SIZE + fuzz_random(2048), 0x5a, fuzz_random(1500));
    n = type == HV_RECORD_SPARSE ? hv_sparse_pack(from, (unsigned)pages, out)
                                 : ZSTD_compress(out, 65536, from, pages * HV_PAGE_SIZE, 1);
    if (!n)
        return 0;
    if (fuzz_random(2))
        out[fuzz_random((uint32_t)n)] ^= 1u << fuzz_random(8);
    return n;
}

static size_t make_channel(uint8_t *out)
{
    struct hv_stream_header header;
    struct hv_stream_record record = {.type = HV_RECORD_PAGES};
    size_t used = sizeof(header);
    uint64_t count = 1 + fuzz_random(8);

    hv_stream_header_init(&header, HV_STREAM_CHANNEL);
    hv_stream_header_seal(&header);
    memcpy(out, &header, sizeof(header));
    for (unsigned n = 1 + fuzz_random(3); n; n--) {
        uint8_t *payload = out + used + sizeof(record);
        uint64_t said = fuzz_random(4) ? count : fuzz_edge();

        record.bytes = 8 + 8 * count + HV_PAGE_SIZE * fuzz_random((uint32_t)count + 2);
        memset(payload, 0x5a, record.bytes);
        memcpy(payload, &said, 8);
        for (uint64_t i = 0; i < count; i++) {
            uint64_t entry = fuzz_random(4) ? (uint64_t)fuzz_random(TEST_PAGES) << 12 | fuzz_random(2) : fuzz_edge();

            memcpy(payload + 8 + 8 * i, &entry, 8);
        }
        record.type = (const uint16_t[]){HV_RECORD_PAGES, HV_RECORD_PAGES, HV_RECORD_PACKED, HV_RECORD_SPARSE}[fuzz_random(4)];
        if (record.type != HV_RECORD_PAGES)
            record.bytes = 8 + 8 * count + pack(record.type, payload + 8 + 8 * count, fuzz_random((uint32_t)count + 2));
        if (fuzz_random(8) == 0)
            record.type = (uint16_t)fuzz_random(11);
        record.crc = fuzz_random(8) ? hv_stream_record_crc(&record, payload) : 0;
        if (fuzz_random(16) == 0)
            record.bytes = fuzz_edge();
        memcpy(out + used, &record, sizeof(record));
        used += sizeof(record) + (record.bytes < 65536 ? record.bytes : 64);
    }
    return used;
}

/* ------------------------------------------------------------------ channels that were switched */

static struct hv_control control = {.pagemap_fd = -1, .userfault_fd = -1};

struct channel {
    uint8_t *bytes;
    size_t used;
};

/* Appends a record of which now and then something is wrong. */
static void add(struct channel *c, uint16_t type, const void *payload, size_t bytes)
{
    struct hv_stream_record record = {.type = type, .bytes = bytes};
    uint8_t *to = c->bytes + c->used + sizeof(record);

    memcpy(to, payload, bytes);
    if (bytes && fuzz_random(12) == 0)
        to[fuzz_random((uint32_t)bytes)] ^= (uint8_t)(1u << fuzz_random(8));
    if (fuzz_random(24) == 0)
        record.type = (uint16_t)fuzz_random(11);
    record.crc = fuzz_random(24) ? hv_stream_record_crc(&record, to) : 0;
    if (fuzz_random(32) == 0)
        record.bytes = fuzz_edge();
    memcpy(c->bytes + c->used, &record, sizeof(record));
    c->used += sizeof(record) + bytes;
}

/* Mostly pages that there are, and that the state has nothing to do with. */
static void add_missing(struct channel *c)
{
    uint64_t list[5] = {fuzz_random(8) ? 4 + fuzz_random(10) : fuzz_edge()};

    for (unsigned i = 1; i < 5; i++)
        list[i] = fuzz_random(8) ? 1ull << fuzz_random(64) : fuzz_random64();
    add(c, HV_RECORD_MISSING, list, 8 * (1 + fuzz_random(5)));
}

static void add_late_pages(struct channel *c)
{
    static uint8_t payload[8 + 8 + HV_PAGE_SIZE];
    uint64_t count = fuzz_random(8) ? 1 : fuzz_edge(), entry = (uint64_t)fuzz_random(TEST_PAGES) << 12 | fuzz_random(2);

    memcpy(payload, &count, 8);
    memcpy(payload + 8, &entry, 8);
    add(c, HV_RECORD_PAGES, payload, 16 + (entry & HV_STREAM_PAGE_ZERO ? 0 : HV_PAGE_SIZE));
}

static void add_word(struct channel *c)
{
    const struct hv_stream_word word = {HV_STREAM_MAGIC, fuzz_random(4) ? HV_WORD_YOURS : fuzz_random(9), 0};

    memcpy(c->bytes + c->used, &word, sizeof(word));
    c->used += sizeof(word);
}

static void make_switched(struct channel *c, const struct hv_encoder *map, const struct hv_encoder *good)
{
    struct hv_stream_header header;

    hv_stream_header_init(&header, HV_STREAM_CHANNEL);
    hv_stream_header_seal(&header);
    memcpy(c->bytes, &header, sizeof(header));
    c->used = sizeof(header);
    add(c, HV_RECORD_RAM, map->data, map->used);
    for (unsigned n = 1 + fuzz_random(3); n; n--)
        add_missing(c);
    add(c, HV_RECORD_STATE, good->data, good->used);
    for (unsigned n = fuzz_random(6); n; n--)
        add_late_pages(c);
    if (fuzz_random(2))
        add_word(c);
    if (fuzz_random(4))
        add(c, HV_RECORD_END, "", 0);
}

/* Whether the state was taken. Pages that never came may be lost, but nothing waits for them for ever before anything runs. */
static bool try_switched(const struct channel *c)
{
    struct hv_domain *d = empty_domain();
    struct domus_stream_status status;
    int fds[2], room = 1 << 20;
    bool taken;

    control.userfault_fd = hv_userfault_open();
    control.built = false;
    d->control = &control;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        abort();
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    if (hv_stream_receive(d, fds[1]))
        abort();
    feed(d, fds[0], c->bytes, c->used);
    hv_stream_get_status(d, &status);
    taken = status.phase == DOMUS_STREAM_POSTCOPY;
    if (control.built && hv_stream_start(d) == 0) /* nobody asked for it */
        abort();
    close(fds[0]);
    d->control = NULL;
    hv_domain_free(d);
    if (control.userfault_fd >= 0)
        close(control.userfault_fd);
    return taken;
}

static void fuzz_switched(const struct hv_encoder *map, const struct hv_encoder *good)
{
    struct channel c = {malloc(1 << 20), 0};
    unsigned taken = 0;

    for (unsigned round = 0; round < ROUNDS / 10; round++) {
        fuzz_seed(round + 200000);
        make_switched(&c, map, good);
        taken += try_switched(&c);
    }
    free(c.bytes);
    TAP_OK(taken > 0 && taken < ROUNDS / 10, "of channels that were switched, some are taken (%u)", taken);
}

static void fuzz_channels(void)
{
    uint8_t *bytes = malloc(1 << 20);

    for (unsigned round = 0; round < ROUNDS / 10; round++) {
        struct hv_domain *d = empty_domain();
        int fds[2];

        fuzz_seed(round + 100000);
        if (!d || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) || hv_stream_receive(d, fds[1]))
            break;
        feed(d, fds[0], bytes, make_channel(bytes));
        close(fds[0]);
        hv_domain_free(d);
    }
    free(bytes);
    TAP_OK(true, "channels");
}

/* Who is not root may not wait for pages, and then refuses all of this. */
static bool has_userfault(void)
{
    int fd = hv_userfault_open();

    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

int main(void)
{
    struct hv_encoder good = {0}, map = {0};
    struct hv_domain *d;
    uint64_t gfn = 0;

    hv_log_set_level(HV_LOG_ERROR);
    if (hv_loop_new(&loop))
        return 1;
    d = make_domain();
    TAP_OK(d && !hv_stream_encode_state(d, NULL, &good), "a domain");
    TAP_OK(d && hv_physmap_encode_ram(d, &gfn, HV_STREAM_RAM_RUNS_MAX, &map), "and where its memory is");
    hv_domain_free(d);
    fuzz_states(&good);
    fuzz_channels();
    if (has_userfault())
        fuzz_switched(&map, &good);
    else
        printf("# no userfaultfd for us: channels that are switched are not tried\n");
    hv_encoder_fini(&good);
    hv_encoder_fini(&map);
    hv_loop_free(loop);
    return tap_done();
}
