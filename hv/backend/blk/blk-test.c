/* The block backend and the handshake with a frontend. Facts: xen/io/blkif.h, xen/io/xenbus.h. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>

#include "hv/backend/blk/front.h"
#include "hv/tap.h"

static uint8_t image_byte(unsigned offset)
{
    uint8_t byte = 0;

    return pread(front.image, &byte, 1, offset) == 1 ? byte : 0xee;
}

static bool image_is(unsigned offset, const uint8_t *bytes, unsigned count)
{
    uint8_t buffer[8192];

    return pread(front.image, buffer, count, offset) == (ssize_t)count && !memcmp(buffer, bytes, count);
}

static struct blkif_request request(uint8_t operation, uint64_t sector, unsigned segs)
{
    struct blkif_request r = {.operation = operation, .nr_segments = (uint8_t)segs, .sector_number = sector};

    for (unsigned i = 0; i < segs && i < BLKIF_MAX_SEGMENTS_PER_REQUEST; i++)
        r.seg[i] = (struct blkif_request_segment){.gref = DATA_REF + i, .first_sect = 0, .last_sect = 7};
    return r;
}

static int ask(uint8_t operation, uint64_t sector, unsigned segs)
{
    struct blkif_request r = request(operation, sector, segs);

    return front_ask(&r);
}

static void test_data(void)
{
    struct blkif_request r;
    struct domus_vbd_stats stats;

    TAP_OK(ask(BLKIF_OP_READ, 8, 2) == BLKIF_RSP_OKAY && image_is(4096, front_data(0), 4096) &&
               image_is(8192, front_data(1), 4096),
           "a read fills the pages");
    memset(front_data(0), 0x5a, 4096);
    memset(front_data(1), 0xa5, 4096);
    TAP_OK(ask(BLKIF_OP_WRITE, 0, 2) == BLKIF_RSP_OKAY && image_byte(0) == 0x5a && image_byte(8191) == 0xa5,
           "a write reaches the image");
    r = request(BLKIF_OP_READ, 16, 1);
    r.seg[0].first_sect = 3;
    r.seg[0].last_sect = 4;
    memset(front_data(0), 0x11, 4096);
    TAP_OK(front_ask(&r) == BLKIF_RSP_OKAY && image_is(8192, front_data(0) + 1536, 1024) &&
               front_data(0)[1535] == 0x11 && front_data(0)[2560] == 0x11,
           "part of a page: the rest of it stays");
    TAP_OK(ask(BLKIF_OP_FLUSH_DISKCACHE, 0, 0) == BLKIF_RSP_OKAY, "a flush");
    memset(front_data(0), 0x77, 4096);
    TAP_OK(ask(BLKIF_OP_WRITE_BARRIER, 24, 1) == BLKIF_RSP_OKAY && image_byte(24 * 512) == 0x77, "a barrier with data");
    TAP_OK(ask(BLKIF_OP_WRITE_BARRIER, 0, 0) == BLKIF_RSP_OKAY, "and without");
    stats = front_stats();
    TAP_OK(stats.rd_req == 2 && stats.rd_bytes == 8192 + 1024 && stats.wr_req == 2 && stats.wr_bytes == 12288 &&
               stats.flush_req == 2 && stats.errors == 0 && stats.refused == 0,
           "all is counted");
}

static int ask_indirect(uint8_t operation, unsigned segs, uint8_t last)
{
    struct blkif_request_indirect in = {
        .operation = BLKIF_OP_INDIRECT,
        .indirect_op = operation,
        .nr_segments = (uint16_t)segs,
        .indirect_grefs = {DATA_REF + FRONT_PAGES - 1},
    };
    struct blkif_request_segment *list = (struct blkif_request_segment *)front_data(FRONT_PAGES - 1);
    struct blkif_request r;

    for (unsigned i = 0; i < segs && i < 140; i++)
        list[i] = (struct blkif_request_segment){.gref = DATA_REF + i, .first_sect = 0, .last_sect = last};
    memset(&r, 0, sizeof(r));
    memcpy(&r, &in, sizeof(in));
    return front_ask(&r);
}

static void test_indirect(void)
{
    struct blkif_sring *ring = front_sring(0, 1);

    for (unsigned i = 0; i < 128; i++)
        memset(front_data(i), (int)i, 4096);
    TAP_OK(ask_indirect(BLKIF_OP_WRITE, 128, 7) == BLKIF_RSP_OKAY && image_byte(127 * 4096) == 127 &&
               image_byte(64 * 4096 - 1) == 63,
           "an indirect request of 128 segments");
    TAP_OK(ring->ring[(front.cons[0] - 1) % 32].rsp.operation == BLKIF_OP_WRITE, "is answered as what it does");
    TAP_OK(ask_indirect(BLKIF_OP_READ, 129, 7) == BLKIF_RSP_ERROR && ask_indirect(BLKIF_OP_READ, 0, 7) == BLKIF_RSP_ERROR &&
               ask_indirect(BLKIF_OP_FLUSH_DISKCACHE, 2, 7) == BLKIF_RSP_ERROR &&
               ask_indirect(BLKIF_OP_READ, 2, 8) == BLKIF_RSP_ERROR,
           "those that make no sense are refused");
}

static void test_refused(void)
{
    const uint64_t sectors = IMAGE_BYTES / 512, before = front_stats().refused;
    struct blkif_request r;

    TAP_OK(ask(BLKIF_OP_READ, sectors - 8, 1) == BLKIF_RSP_OKAY && ask(BLKIF_OP_READ, sectors - 7, 1) == BLKIF_RSP_ERROR &&
               ask(BLKIF_OP_WRITE, sectors, 1) == BLKIF_RSP_ERROR && ask(BLKIF_OP_READ, UINT64_MAX - 3, 1) == BLKIF_RSP_ERROR,
           "nothing is read or written beyond the end");
    TAP_OK(ask(BLKIF_OP_READ, 0, 0) == BLKIF_RSP_ERROR && ask(BLKIF_OP_WRITE, 0, 12) == BLKIF_RSP_ERROR &&
               ask(BLKIF_OP_READ, 0, 255) == BLKIF_RSP_ERROR,
           "numbers of segments");
    r = request(BLKIF_OP_READ, 0, 1);
    r.seg[0].last_sect = 8;
    TAP_OK(front_ask(&r) == BLKIF_RSP_ERROR, "a segment beyond its page");
    r = request(BLKIF_OP_READ, 0, 2);
    r.seg[1].first_sect = 5;
    r.seg[1].last_sect = 4;
    TAP_OK(front_ask(&r) == BLKIF_RSP_ERROR, "one that ends before it starts");
    r = request(BLKIF_OP_READ, 0, 2);
    r.seg[1].gref = 400000;
    TAP_OK(front_ask(&r) == BLKIF_RSP_ERROR, "a grant that is not there");
    front_grant(DATA_REF, FRONT_DATA, GTF_permit_access | GTF_readonly);
    TAP_OK(ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_ERROR && ask(BLKIF_OP_WRITE, 0, 1) == BLKIF_RSP_OKAY,
           "read-only memory can be written to disk, not read into");
    front_grant(DATA_REF, FRONT_TABLE, GTF_permit_access);
    TAP_OK(ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_ERROR, "nor can the hypervisor's pages");
    front_grant_all();
    TAP_OK(ask(77, 0, 1) == BLKIF_RSP_EOPNOTSUPP && ask(BLKIF_OP_DISCARD, 0, 0) == BLKIF_RSP_EOPNOTSUPP,
           "operations that are not offered");
    TAP_OK(front_stats().refused == before + 13, "they are counted: %llu",
           (unsigned long long)(front_stats().refused - before));
}

static void test_pinned(void)
{
    TAP_OK(hv_physmap_release(front.d, hv_gfn_of(FRONT_RING), 1) == -XEN_EBUSY,
           "a ring page cannot be given away while it is one");
}

static void test_shrunk(void)
{
    if (ftruncate(front.image, 4096))
        abort();
    TAP_OK(ask(BLKIF_OP_READ, 64, 1) == BLKIF_RSP_ERROR && front_stats().errors == 1,
           "an image that became shorter is an error for who reads there");
    if (ftruncate(front.image, IMAGE_BYTES))
        abort();
    TAP_OK(ask(BLKIF_OP_READ, 64, 1) == BLKIF_RSP_OKAY, "not for ever");
}

static void test_resize(void)
{
    uint64_t bytes = 0;

    if (ftruncate(front.image, 2 * IMAGE_BYTES))
        abort();
    TAP_OK(ask(BLKIF_OP_READ, IMAGE_BYTES / 512, 1) == BLKIF_RSP_ERROR && !hv_blk_resize(front.d, FRONT_DEVID, &bytes) &&
               bytes == 2 * IMAGE_BYTES && ask(BLKIF_OP_READ, IMAGE_BYTES / 512, 1) == BLKIF_RSP_OKAY,
           "a disk grows");
    bytes = 3 * IMAGE_BYTES;
    TAP_OK(hv_blk_resize(front.d, FRONT_DEVID, &bytes) == -XEN_EINVAL, "not beyond its image");
}

static void test_reconnect(void)
{
    front_write("state", "5");
    TAP_OK(front_wait_state(XenbusStateClosing), "a frontend that closes");
    front_write("state", "6");
    TAP_OK(front_wait_state(XenbusStateClosed), "is let go");
    TAP_OK(hv_physmap_release(front.d, hv_gfn_of(FRONT_RING), 1) == 0 &&
               hv_physmap_populate(front.d, hv_gfn_of(FRONT_RING), 1) == 0,
           "and has its ring page back");
    front_write("state", "1");
    TAP_OK(front_connect() && ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_OKAY, "it can come again");
}

static void test_broken_ring(void)
{
    front_sring(0, 1)->req_prod += 1000;
    front_kick(0);
    TAP_OK(front_wait_state(XenbusStateClosed), "a ring with too many requests ends the connection");
    front_write("state", "6");
    front_write("state", "1");
    TAP_OK(front_connect() && ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_OKAY, "which can be made anew");
}

static void test_bad_keys(void)
{
    static const struct {
        const char *key, *value, *good;
    } rows[] = {
        {"protocol", XEN_IO_PROTO_ABI_X86_32, XEN_IO_PROTO_ABI_X86_64},
        {"ring-ref", "123456", "8"},
        {"ring-ref", "8x", "8"},
        {"event-channel", "4000", NULL},
        {"multi-queue-num-queues", "3", "1"},
        {"multi-queue-num-queues", "0", "1"},
        {"ring-page-order", "5", "0"},
    };

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++) {
        front_write("state", "6");
        front_write("state", "1");
        if (!front_wait_state(XenbusStateInitWait))
            abort();
        front_write("state", "2");
        front_offer();
        front_write(rows[i].key, rows[i].value);
        front_run_ms(5);
        /* The first offer may have been taken before the key was wrong: make it again with it. */
        if (front_state() == XenbusStateConnected) {
            front_write("state", "6");
            if (!front_wait_state(XenbusStateClosed))
                abort();
            front_write("state", "1");
            if (!front_wait_state(XenbusStateInitWait))
                abort();
            front_write("state", "3");
        }
        TAP_OK(front_wait_state(XenbusStateClosed), "%s %s is refused", rows[i].key, rows[i].value);
        if (rows[i].good)
            front_write(rows[i].key, rows[i].good);
    }
    front_write("state", "6");
    front_write("state", "1");
    TAP_OK(front_connect(), "and right ones are taken again");
}

static void test_detach(void)
{
    TAP_OK(hv_blk_detach(front.d, FRONT_DEVID, false) == 0 && front_wait_state(XenbusStateClosing) &&
               hv_blk_detach(front.d, FRONT_DEVID, false) == -EALREADY,
           "a guest is asked to let go, once");
    TAP_OK(ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_OKAY, "and can use the disk until it does");
    front_write("state", "6");
    TAP_OK(front_wait_state(0) && hv_blk_detach(front.d, FRONT_DEVID, true) == -XEN_ENODEV, "then it is gone");
    front_write("state", "1");
    TAP_OK(!front_attach(DOMUS_VBD_DISCARD) && front_attach(0) == -XEN_EEXIST && front_connect(), "attached again, once");
}

static void test_discard(void)
{
    struct blkif_request_discard discard = {.operation = BLKIF_OP_DISCARD, .sector_number = 8, .nr_sectors = 16};
    struct blkif_request r;

    memset(&r, 0, sizeof(r));
    memcpy(&r, &discard, sizeof(discard));
    TAP_OK(front_ask(&r) == BLKIF_RSP_OKAY && image_byte(4096 + 100) == 0 && image_byte(12287) == 0 &&
               front_stats().discard_bytes == 8192,
           "what is discarded reads as zeroes");
    discard.nr_sectors = UINT64_MAX - 4;
    memcpy(&r, &discard, sizeof(discard));
    TAP_OK(front_ask(&r) == BLKIF_RSP_ERROR, "nothing beyond the end");
    discard.flag = BLKIF_DISCARD_SECURE;
    memcpy(&r, &discard, sizeof(discard));
    TAP_OK(front_ask(&r) == BLKIF_RSP_EOPNOTSUPP, "and not securely");
}

static void test_forced(void)
{
    struct blkif_request r = request(BLKIF_OP_WRITE, 0, 11);

    for (int i = 0; i < 20; i++)
        front_put(&r);
    front_kick(0);
    TAP_OK(hv_blk_detach(front.d, FRONT_DEVID, true) == 0 && front_wait_state(0), "a disk is taken from a busy guest");
    TAP_OK(!front_attach(DOMUS_VBD_READ_ONLY | DOMUS_VBD_PERSISTENT), "read-only now");
    front_write("state", "1");
    front_write("feature-persistent", "1");
    TAP_OK(front_connect() && ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_OKAY && ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_OKAY &&
               ask(BLKIF_OP_WRITE, 0, 1) == BLKIF_RSP_ERROR && ask(BLKIF_OP_FLUSH_DISKCACHE, 0, 0) == BLKIF_RSP_OKAY,
           "with persistent grants, it reads and does not write");
    TAP_OK(hv_physmap_release(front.d, hv_gfn_of(FRONT_DATA), 1) == -XEN_EBUSY, "and the page stays in use");
}

/* Two queues, two pages each: entry 36 lies in both pages of its ring. */
static bool connect_two_queues(void)
{
    char key[40];

    front_write("state", "6");
    front_write("state", "1");
    if (!front_wait_state(XenbusStateInitWait))
        return false;
    front_number("multi-queue-num-queues", 2);
    front_number("ring-page-order", 1);
    for (unsigned q = 0; q < 2; q++) {
        memset(front_sring(q, 2), 0, 2 * HV_PAGE_SIZE);
        for (unsigned page = 0; page < 2; page++) {
            snprintf(key, sizeof(key), "queue-%u/ring-ref%u", q, page);
            front_number(key, RING_REF + 2 * q + page);
        }
        if (hv_evtchn_alloc_unbound(front.d, &front.ports[q]))
            abort();
        snprintf(key, sizeof(key), "queue-%u/event-channel", q);
        front_number(key, front.ports[q]);
    }
    front_write("state", "3");
    return front_wait_state(XenbusStateConnected);
}

#define MANY    60u
#define ENTRIES 64u /* of a ring of two pages */

/* So many requests in one go on the second queue, of pages that follow each other. How many were answered @status, and are
 * in memory what they are in the image. */
static unsigned ask_many(uint8_t operation, int status)
{
    struct blkif_sring *ring = front_sring(1, 2);
    uint32_t start = ring->req_prod;
    unsigned good = 0;

    for (unsigned i = 0; i < MANY; i++) {
        struct blkif_request *r = &ring->ring[(start + i) % ENTRIES].req;

        *r = request(operation, i * 8, 1);
        r->id = 1000 + i;
        r->seg[0].gref = DATA_REF + i;
    }
    ring->req_prod = start + MANY;
    front_kick(1);
    for (int i = 0; i < 2000 && __atomic_load_n(&ring->rsp_prod, __ATOMIC_SEQ_CST) != start + MANY; i++)
        front_run_ms(1);
    for (unsigned i = 0; i < MANY && ring->rsp_prod == start + MANY; i++) {
        const struct blkif_response *r = &ring->ring[(start + i) % ENTRIES].rsp;
        unsigned number = (unsigned)(r->id - 1000);

        good += r->status == status && number < MANY && (status || image_is(number * 4096, front_data(number), 4096));
    }
    return good;
}

static void test_queues(void)
{
    unsigned good;

    TAP_OK(!hv_blk_detach(front.d, FRONT_DEVID, true) && front_wait_state(0) && !front_attach(0), "one that can be written");
    TAP_OK(connect_two_queues(), "two queues with rings of two pages");
    good = ask_many(BLKIF_OP_READ, BLKIF_RSP_OKAY);
    TAP_OK(good == MANY, "%u requests in one go: %u are right", MANY, good);
    for (unsigned i = 0; i < MANY; i++)
        memset(front_data(i), (int)i + 1, 4096);
    good = ask_many(BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    TAP_OK(good == MANY, "and written: %u", good);
}

/* Writes that go together fail for those of them that cannot be made. */
static void test_cut_short(void)
{
    unsigned good;

    close(front.image);
    front.image = memfd_create("image", MFD_ALLOW_SEALING);
    if (front.image < 0 || ftruncate(front.image, IMAGE_BYTES))
        abort();
    TAP_OK(!hv_blk_detach(front.d, FRONT_DEVID, true) && front_wait_state(0) && !front_attach(0) && connect_two_queues(),
           "a disk on an image that cannot grow");
    if (ftruncate(front.image, 20 * 4096) || fcntl(front.image, F_ADD_SEALS, F_SEAL_GROW))
        abort();
    good = ask_many(BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    TAP_OK(good == 20, "becomes shorter: of many writes those are made that can be: %u", good);
    good = ask_many(BLKIF_OP_WRITE, BLKIF_RSP_ERROR);
    TAP_OK(good == MANY - 20, "and no others: %u", good);
}

/* An image without the page cache, where the file system here can do it. */
static void test_direct(void)
{
    char name[] = "blk-test-XXXXXX";
    int file = mkstemp(name), direct = open(name, O_RDWR | O_DIRECT);

    unlink(name);
    if (file < 0 || direct < 0 || ftruncate(file, IMAGE_BYTES)) {
        TAP_OK(true, "an image with O_DIRECT # SKIP not here");
        return;
    }
    TAP_OK(!hv_blk_detach(front.d, FRONT_DEVID, true) && front_wait_state(0), "the disk is taken away");
    close(front.image);
    front.image = direct;
    TAP_OK(!front_attach(0), "one with O_DIRECT takes its place: sectors of %u bytes", front.vbd.sector_bytes);
    front.image = file;
    close(direct);
    front_number("multi-queue-num-queues", 1);
    front_number("ring-page-order", 0);
    front_write("state", "1");
    memset(front_data(0), 0x3c, 4096);
    TAP_OK(front_connect() && ask(BLKIF_OP_WRITE, 8, 2) == BLKIF_RSP_OKAY && image_byte(4096) == 0x3c, "it is written");
    memset(front_data(0), 0, 4096);
    TAP_OK(ask(BLKIF_OP_READ, 8, 1) == BLKIF_RSP_OKAY && front_data(0)[4095] == 0x3c, "and read");
}

static void test_bad_images(void)
{
    struct domus_vbd vbd = {.devid = 51728};
    int fds[2], fd;

    if (pipe(fds))
        abort();
    TAP_OK(hv_blk_attach(front.d, &vbd, fds[0]) == -XEN_EINVAL && strstr(vbd.error, "neither"), "a pipe is no disk");
    fd = open("/dev/null", O_RDONLY);
    TAP_OK(hv_blk_attach(front.d, &vbd, fd) == -XEN_EINVAL && hv_blk_attach(front.d, &vbd, -1) == -XEN_EINVAL,
           "nor are a terminal and nothing at all");
    vbd.sector_bytes = 1024;
    TAP_OK(hv_blk_attach(front.d, &vbd, front.image) == -XEN_EINVAL && strstr(vbd.error, "512 or 4096"), "sector size");
    vbd = (struct domus_vbd){.devid = 51728, .flags = 1u << 31};
    TAP_OK(hv_blk_attach(front.d, &vbd, front.image) == -XEN_EINVAL, "unknown flags");
    close(fds[0]);
    close(fds[1]);
    close(fd);
}

int main(void)
{
    front_new();
    TAP_OK(!front_attach(0) && front.vbd.size_bytes == IMAGE_BYTES && front.vbd.sector_bytes == 512, "attaching");
    TAP_OK(front_connect(), "a frontend connects");
    test_data();
    test_indirect();
    test_refused();
    test_pinned();
    test_shrunk();
    test_resize();
    test_reconnect();
    test_broken_ring();
    test_bad_keys();
    test_detach();
    test_discard();
    test_forced();
    test_queues();
    test_cut_short();
    test_direct();
    test_bad_images();
    front_free();
    return tap_done();
}
