/* Disks behind an NBD server: a server in this process, which does what it is told, well or badly; and what happens to
 * requests when an image fails, is changed, or has limits. Facts: doc/proto.md of nbd, linux/nbd.h. */
#include "config.h"

#include <endian.h>
#include <errno.h>
#include <linux/nbd.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/backend/blk/front.h"
#include "hv/backend/blk/throttle.h"
#include "hv/tap.h"

#define FLAGS (NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM)

enum mode {
    SERVE,
    BACKWARDS, /* answers pairs of requests in the other order */
    NO_SPACE,  /* refuses writes */
    FAIL,      /* refuses everything */
    GARBAGE,   /* answers with bad magic */
    STRANGER,  /* answers a request that was not made */
    HANG_UP,
    SILENT,
    STALL,     /* answers when it is told to do something else */
    DRIP,      /* a few bytes at a time */
    NOISE,     /* now and then anything at all */
};

static struct server {
    pthread_t thread;
    int fd, peer; /* ours, and the one for the backend */
    _Atomic enum mode mode;
    _Atomic unsigned flushes, fuas, trims, writes;
    uint8_t bytes[IMAGE_BYTES];
} server;

static bool read_all(void *to, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = read(server.fd, (uint8_t *)to + done, bytes - done);

        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static void write_all(const void *from, size_t bytes)
{
    size_t piece = server.mode == DRIP ? 7 : bytes;

    for (size_t done = 0; done < bytes;) {
        size_t left = bytes - done;
        ssize_t n = send(server.fd, (const uint8_t *)from + done, left < piece ? left : piece, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        done += (size_t)n;
    }
}

struct asked {
    struct nbd_request request;
    uint32_t error;
};

static bool take(struct asked *a)
{
    uint64_t from;
    uint32_t type, bytes;

    if (!read_all(&a->request, sizeof(a->request)))
        return false;
    type = be32toh(a->request.type);
    from = be64toh(a->request.from);
    bytes = be32toh(a->request.len);
    a->error = server.mode == FAIL || (server.mode == NO_SPACE && (type & 0xffff) == NBD_CMD_WRITE)
                   ? (server.mode == FAIL ? EIO : ENOSPC)
                   : 0;
    if (be32toh(a->request.magic) != NBD_REQUEST_MAGIC)
        abort();
    if ((type & 0xffff) != NBD_CMD_FLUSH && (from > IMAGE_BYTES || bytes > IMAGE_BYTES - from))
        abort();
    switch (type & 0xffff) {
    case NBD_CMD_WRITE: {
        static uint8_t buffer[IMAGE_BYTES];

        if (!read_all(buffer, bytes))
            return false;
        if (!a->error)
            memcpy(server.bytes + from, buffer, bytes);
        server.writes++;
        server.fuas += !!(type & NBD_CMD_FLAG_FUA);
        break;
    }
    case NBD_CMD_FLUSH:
        server.flushes++;
        break;
    case NBD_CMD_TRIM:
        memset(server.bytes + from, 0, bytes);
        server.trims++;
        break;
    }
    return true;
}

static uint64_t noise_state = 88172645463325252ull;

static uint32_t noise(uint32_t limit)
{
    noise_state ^= noise_state << 13;
    noise_state ^= noise_state >> 7;
    noise_state ^= noise_state << 17;
    return (uint32_t)(noise_state >> 11) % limit;
}

/* One of the ways in which an answer can be wrong. */
static void answer_wrongly(struct nbd_reply *reply)
{
    uint8_t junk[64];

    for (size_t i = 0; i < sizeof(junk); i++)
        junk[i] = (uint8_t)noise(256);
    switch (noise(6)) {
    case 0:
        ((uint8_t *)reply)[noise(sizeof(*reply))] ^= (uint8_t)(1 + noise(255));
        break;
    case 1:
        write_all(junk, noise(sizeof(junk)));
        break;
    case 2:
        memset(reply->handle, 0, sizeof(reply->handle));
        reply->handle[0] = (char)noise(64);
        break;
    case 3:
        reply->error = htobe32(noise(200));
        break;
    case 4:
        write_all(reply, noise(sizeof(*reply)));
        shutdown(server.fd, SHUT_RDWR);
        break;
    case 5:
        write_all(reply, sizeof(*reply)); /* twice */
        break;
    }
}

static void answer(const struct asked *a)
{
    struct nbd_reply reply = {
        .magic = htobe32(server.mode == GARBAGE ? 0x12345678 : NBD_REPLY_MAGIC),
        .error = htobe32(a->error),
    };

    memcpy(reply.handle, a->request.handle, sizeof(reply.handle));
    if (server.mode == STRANGER)
        reply.handle[0] ^= 0x55;
    if (server.mode == NOISE && !noise(30))
        answer_wrongly(&reply);
    write_all(&reply, sizeof(reply));
    if (be32toh(a->request.type) == NBD_CMD_READ && !a->error)
        write_all(server.bytes + be64toh(a->request.from), be32toh(a->request.len));
}

static void *serve(void *opaque)
{
    struct asked a, b;

    while (take(&a)) {
        if (server.mode == HANG_UP)
            break;
        if (server.mode == SILENT)
            continue;
        while (server.mode == STALL)
            usleep(1000);
        if (server.mode == BACKWARDS && take(&b))
            answer(&b);
        answer(&a);
    }
    shutdown(server.fd, SHUT_RDWR);
    return opaque;
}

static void server_start(enum mode mode)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        abort();
    server.fd = ends[0];
    server.peer = ends[1];
    server.mode = mode;
    if (pthread_create(&server.thread, NULL, serve, NULL))
        abort();
}

static void server_stop(void)
{
    shutdown(server.fd, SHUT_RDWR);
    pthread_join(server.thread, NULL);
    close(server.fd);
}

static struct domus_vbd_source source(void)
{
    return (struct domus_vbd_source){
        .kind = DOMUS_VBD_NBD, .nbd_flags = FLAGS, .block_bytes = 1, .size_bytes = IMAGE_BYTES};
}

static struct domus_vbd vbd_of(uint32_t flags, uint8_t write_policy, uint8_t read_policy)
{
    return (struct domus_vbd){.devid = FRONT_DEVID,
                              .flags = flags,
                              .max_queues = 2,
                              .write_policy = write_policy,
                              .read_policy = read_policy,
                              .source = source()};
}

/* A disk on a new server, connected. */
static bool attach(enum mode mode, uint8_t write_policy, uint8_t read_policy)
{
    struct domus_vbd vbd = vbd_of(DOMUS_VBD_DISCARD, write_policy, read_policy);

    server_start(mode);
    if (hv_blk_attach(front.d, &vbd, server.peer))
        return false;
    front_write("state", "1");
    return front_connect();
}

static bool detach(void)
{
    bool gone = !hv_blk_detach(front.d, FRONT_DEVID, true) && front_wait_state(0);

    server_stop();
    front_write("state", "6");
    return gone;
}

static struct blkif_request request(uint8_t operation, uint64_t sector, unsigned segs)
{
    struct blkif_request r = {.operation = operation, .nr_segments = (uint8_t)segs, .sector_number = sector};

    for (unsigned i = 0; i < segs; i++)
        r.seg[i] = (struct blkif_request_segment){.gref = DATA_REF + i, .first_sect = 0, .last_sect = 7};
    return r;
}

static int ask(uint8_t operation, uint64_t sector, unsigned segs)
{
    struct blkif_request r = request(operation, sector, segs);

    return front_ask(&r);
}

/* Puts @count requests of one page each; answers come later. */
static void put_many(uint8_t operation, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct blkif_request r = request(operation, i * 8, 1);

        r.seg[0].gref = DATA_REF + i;
        r.id = front.id = 5000;
        front_put(&r);
    }
    front_kick(0);
}

/* How many of the next @count answers have @status. */
static unsigned answers(unsigned count, int status)
{
    unsigned good = 0;

    for (unsigned i = 0; i < count; i++)
        good += front_answer() == status;
    return good;
}

static void test_data(void)
{
    struct blkif_request_discard discard = {.operation = BLKIF_OP_DISCARD, .sector_number = 8, .nr_sectors = 16};
    struct blkif_request r;

    TAP_OK(attach(SERVE, 0, 0), "a disk on a server");
    memset(front_data(0), 0x5a, 4096);
    memset(front_data(1), 0xa5, 4096);
    TAP_OK(ask(BLKIF_OP_WRITE, 8, 2) == BLKIF_RSP_OKAY && server.bytes[4096] == 0x5a && server.bytes[12287] == 0xa5,
           "a write reaches the server");
    memset(front_data(0), 0, 8192);
    TAP_OK(ask(BLKIF_OP_READ, 8, 2) == BLKIF_RSP_OKAY && front_data(0)[4095] == 0x5a && front_data(1)[0] == 0xa5,
           "a read comes back");
    TAP_OK(ask(BLKIF_OP_FLUSH_DISKCACHE, 0, 0) == BLKIF_RSP_OKAY && server.flushes == 1, "a flush is one");
    TAP_OK(ask(BLKIF_OP_WRITE_BARRIER, 64, 1) == BLKIF_RSP_OKAY && server.fuas == 1 && server.flushes == 1,
           "a barrier with nothing before it is a write that forces its way: %u flushes", server.flushes);
    memset(&r, 0, sizeof(r));
    memcpy(&r, &discard, sizeof(discard));
    TAP_OK(front_ask(&r) == BLKIF_RSP_OKAY && server.trims == 1 && server.bytes[4096] == 0, "a discard is a trim");
    server.mode = DRIP;
    memset(server.bytes + 4096, 0x33, 8192);
    TAP_OK(ask(BLKIF_OP_READ, 8, 2) == BLKIF_RSP_OKAY && front_data(0)[0] == 0x33 && front_data(1)[4095] == 0x33,
           "answers may come in pieces");
    server.mode = BACKWARDS;
    for (unsigned i = 0; i < 20; i++)
        memset(server.bytes + i * 4096, (int)(i + 1), 4096);
    put_many(BLKIF_OP_READ, 20);
    TAP_OK(answers(20, BLKIF_RSP_OKAY) == 20, "20 at once, answered in another order");
    for (unsigned i = 0; i < 20; i++)
        if (front_data(i)[100] != i + 1)
            abort();
    server.mode = FAIL;
    TAP_OK(ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_ERROR && ask(BLKIF_OP_WRITE, 0, 1) == BLKIF_RSP_ERROR &&
               front_stats().errors == 2 && !front_stats().lost,
           "what the server refuses is an error, and no more");
    server.mode = SERVE;
    TAP_OK(ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_OKAY, "which passes");
    TAP_OK(detach(), "detached");
}

static void test_broken(void)
{
    static const struct {
        enum mode mode;
        const char *what;
    } rows[] = {{GARBAGE, "bad magic"}, {STRANGER, "an answer to nothing"}, {HANG_UP, "a hang-up"}};

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++) {
        if (!attach(rows[i].mode, 0, 0))
            abort();
        put_many(BLKIF_OP_READ, 20);
        TAP_OK(answers(20, BLKIF_RSP_ERROR) == 20 && front_stats().lost && ask(BLKIF_OP_WRITE, 0, 1) == BLKIF_RSP_ERROR,
               "%s: all that goes on fails, and all that comes", rows[i].what);
        TAP_OK(detach(), "and the disk can be detached");
    }
    if (!attach(SILENT, 0, 0))
        abort();
    put_many(BLKIF_OP_WRITE, 30);
    front_run_ms(20);
    TAP_OK(!hv_blk_detach(front.d, FRONT_DEVID, true), "a server that says nothing");
    for (int i = 0; i < 7000 && front_state(); i++)
        front_run_ms(1);
    TAP_OK(!front_state(), "is not waited for for ever");
    server_stop();
    front_write("state", "6");
}

static void test_stop_policy(void)
{
    TAP_OK(attach(NO_SPACE, DOMUS_VBD_ENOSPC, DOMUS_VBD_REPORT), "a disk that waits for space");
    memset(front_data(0), 0x77, 4096);
    put_many(BLKIF_OP_WRITE, 3);
    front_run_ms(50);
    TAP_OK(front_stats().held == 3 && front_stats().held_error == ENOSPC && front_sring(0, 1)->rsp_prod == 0,
           "writes are held");
    TAP_OK(ask(BLKIF_OP_READ, 0, 1) == 99 || front.cons[0] == 1, "while reads are answered");
    hv_blk_retry(front.d);
    front_run_ms(50);
    TAP_OK(front_stats().held == 3, "still no space");
    server.mode = SERVE;
    hv_blk_retry(front.d);
    front.id = 5000;
    TAP_OK(answers(3, BLKIF_RSP_OKAY) == 3 && !front_stats().held && !front_stats().held_error, "then all goes on");
    server.mode = FAIL;
    TAP_OK(ask(BLKIF_OP_WRITE, 0, 1) == BLKIF_RSP_ERROR, "another error is told");
    server.mode = NO_SPACE;
    put_many(BLKIF_OP_WRITE, 2);
    front_run_ms(20);
    TAP_OK(front_stats().held == 2 && detach(), "a disk with held requests can be taken away");
    TAP_OK(attach(FAIL, DOMUS_VBD_IGNORE, DOMUS_VBD_IGNORE) && ask(BLKIF_OP_WRITE, 0, 1) == BLKIF_RSP_OKAY &&
               ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_OKAY && front_stats().errors == 2,
           "errors can be ignored");
    TAP_OK(detach(), "detached");
}

static void test_another_server(void)
{
    struct domus_vbd_image image = {.devid = FRONT_DEVID, .source = source()};
    int old;

    TAP_OK(attach(HANG_UP, DOMUS_VBD_STOP, DOMUS_VBD_STOP), "a disk that waits for its server");
    put_many(BLKIF_OP_READ, 10);
    for (int i = 0; i < 1000 && front_stats().held < 10; i++)
        front_run_ms(1);
    TAP_OK(front_stats().held == 10 && front_stats().lost, "the server goes: all is held");
    server_stop();
    old = server.peer;
    server_start(SERVE);
    TAP_OK(old >= 0 && !hv_blk_set_image(front.d, &image, server.peer) && image.size_bytes == IMAGE_BYTES,
           "another one comes");
    front_run_ms(10);
    TAP_OK(!front_stats().lost && front_stats().held == 10, "nothing happens by itself");
    hv_blk_retry(front.d);
    TAP_OK(answers(10, BLKIF_RSP_OKAY) == 10, "and all goes on when asked to");
    image.source.nbd_flags |= NBD_FLAG_READ_ONLY;
    TAP_OK(hv_blk_set_image(front.d, &image, front.image) == -XEN_EINVAL && strstr(image.error, "stream socket"),
           "a file is no server");
    old = dup(server.peer);
    TAP_OK(hv_blk_set_image(front.d, &image, old) == -XEN_EINVAL && strstr(image.error, "cannot be written") &&
               close(old) == 0,
           "what cannot be written does not replace what can");
    image.source = (struct domus_vbd_source){.kind = DOMUS_VBD_EMPTY};
    TAP_OK(hv_blk_set_image(front.d, &image, -1) == -XEN_EINVAL, "a fixed disk has no tray");
    TAP_OK(ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_OKAY, "it was not harmed");
    put_many(BLKIF_OP_READ, 10);
    image.source.kind = DOMUS_VBD_PARKED;
    TAP_OK(!hv_blk_set_image(front.d, &image, -1), "a disk is parked");
    (void)answers(10, BLKIF_RSP_OKAY);
    put_many(BLKIF_OP_WRITE, 10);
    front_run_ms(30);
    TAP_OK(front_stats().parked && front_sring(0, 1)->rsp_prod == front.cons[0] && front_stats().size_bytes == IMAGE_BYTES,
           "requests wait");
    hv_blk_retry(front.d);
    server_stop();
    server_start(SERVE);
    image.source = source();
    image.source.size_bytes = IMAGE_BYTES / 2;
    TAP_OK(!hv_blk_set_image(front.d, &image, server.peer) && answers(10, BLKIF_RSP_OKAY) == 10 &&
               !front_stats().parked && front_stats().size_bytes == IMAGE_BYTES / 2,
           "until there is an image again, of another size perhaps");
    image.source = (struct domus_vbd_source){.kind = DOMUS_VBD_PARKED};
    TAP_OK(!hv_blk_set_image(front.d, &image, -1) && detach(), "one that is parked can be detached");
}

static void attach_patient(unsigned seconds)
{
    struct domus_vbd vbd = vbd_of(0, DOMUS_VBD_REPORT, DOMUS_VBD_REPORT);

    vbd.source.reconnect_seconds = seconds;
    server_start(HANG_UP);
    if (hv_blk_attach(front.d, &vbd, server.peer))
        abort();
    front_write("state", "1");
    if (!front_connect())
        abort();
}

/* The server is gone, and the toolstack was given time to bring another. */
static void test_reconnect(void)
{
    struct domus_vbd_image image = {.devid = FRONT_DEVID, .source = source()};

    attach_patient(60);
    put_many(BLKIF_OP_READ, 10);
    for (int i = 0; i < 1000 && !front_stats().lost; i++)
        front_run_ms(1);
    put_many(BLKIF_OP_WRITE, 10);
    front_run_ms(30);
    TAP_OK(front_stats().lost && !front_stats().held && !front_stats().errors && front_sring(0, 1)->rsp_prod == front.cons[0],
           "the server goes: all waits, and the domain runs");
    server_stop();
    server_start(SERVE);
    TAP_OK(!hv_blk_set_image(front.d, &image, server.peer) && answers(20, BLKIF_RSP_OKAY) == 20,
           "another one comes: all goes on by itself");
    server.mode = HANG_UP;
    TAP_OK(ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_ERROR, "which is not waited for when it goes");
    TAP_OK(detach(), "detached");

    attach_patient(1);
    put_many(BLKIF_OP_READ, 10);
    TAP_OK(answers(10, BLKIF_RSP_ERROR) == 10 && front_stats().errors == 10, "there is no other in time: all fails");
    TAP_OK(ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_ERROR, "and so does what comes, at once");
    TAP_OK(detach(), "detached");

    attach_patient(60);
    put_many(BLKIF_OP_WRITE, 10);
    for (int i = 0; i < 1000 && !front_stats().lost; i++)
        front_run_ms(1);
    TAP_OK(detach(), "a disk can be detached while it waits");
}

/* A server that takes longer than a disk that goes away would wait. */
static void test_stalled(void)
{
    struct domus_vbd_image park = {.devid = FRONT_DEVID, .source = {.kind = DOMUS_VBD_PARKED}};
    struct domus_vbd_image keep = {.devid = FRONT_DEVID, .source = {.kind = DOMUS_VBD_STAY}};

    if (!attach(STALL, DOMUS_VBD_REPORT, DOMUS_VBD_REPORT))
        abort();
    TAP_OK(hv_blk_set_image(front.d, &keep, -1) == -XEN_ENOENT, "nothing to take back");
    put_many(BLKIF_OP_READ, 5);
    front_run_ms(30);
    TAP_OK(!hv_blk_set_image(front.d, &park, -1), "a disk is to be parked");
    put_many(BLKIF_OP_READ, 5);
    front_run_ms(5500);
    TAP_OK(front_stats().parked == 2 && !front_stats().lost, "what its server has is not given up for that");
    TAP_OK(!hv_blk_set_image(front.d, &keep, -1) && !front_stats().parked, "it is taken back");
    server.mode = SERVE;
    TAP_OK(answers(10, BLKIF_RSP_OKAY) == 10 && !front_stats().errors, "all goes on");
    TAP_OK(!hv_blk_set_image(front.d, &park, -1), "parked again");
    front_run_ms(30);
    TAP_OK(front_stats().parked == 1 && hv_blk_set_image(front.d, &keep, -1) == -XEN_ENOENT, "and this time for good");
    TAP_OK(detach(), "detached");
}

static void change_server(void)
{
    struct domus_vbd_image image = {.devid = FRONT_DEVID, .source = source()};

    server.mode = HANG_UP;
    put_many(BLKIF_OP_READ, 1);
    for (int i = 0; i < 1000 && !front_stats().held; i++)
        front_run_ms(1);
    server_stop();
    server_start(SERVE);
    if (hv_blk_set_image(front.d, &image, server.peer))
        abort();
    hv_blk_retry(front.d);
    TAP_OK(answers(1, BLKIF_RSP_OKAY) == 1, "a server goes and another one comes");
}

/* What a server had not made safe when it went may be lost, and a flush may not say otherwise. */
static void test_forgotten(void)
{
    struct blkif_request flush = request(BLKIF_OP_FLUSH_DISKCACHE, 0, 0);

    if (!attach(SERVE, DOMUS_VBD_REPORT, DOMUS_VBD_STOP))
        abort();
    ask(BLKIF_OP_WRITE, 0, 1);
    ask(BLKIF_OP_FLUSH_DISKCACHE, 0, 0);
    change_server();
    TAP_OK(ask(BLKIF_OP_FLUSH_DISKCACHE, 0, 0) == BLKIF_RSP_OKAY, "nothing was unsafe: a flush is one");
    ask(BLKIF_OP_WRITE, 0, 1);
    change_server();
    TAP_OK(ask(BLKIF_OP_WRITE, 8, 1) == BLKIF_RSP_OKAY, "something was");
    flush.id = front.id = 5000;
    front_put(&flush);
    front_kick(0);
    for (int i = 0; i < 1000 && !front_stats().held; i++)
        front_run_ms(1);
    TAP_OK(front_stats().held == 1 && front_stats().held_error == EIO,
           "the next flush fails, and is held, as guests take an error for no flushes at all");
    hv_blk_retry(front.d);
    TAP_OK(answers(1, BLKIF_RSP_OKAY) == 1, "until somebody says to go on");
    ask(BLKIF_OP_WRITE, 0, 1);
    change_server();
    TAP_OK(ask(BLKIF_OP_WRITE_BARRIER, 8, 1) == BLKIF_RSP_ERROR && ask(BLKIF_OP_WRITE_BARRIER, 8, 1) == BLKIF_RSP_OKAY,
           "a barrier with data fails by itself");
    TAP_OK(detach(), "detached");
}

/* A drive: no medium, a file, none again. */
static void test_media(void)
{
    struct domus_vbd_image image = {.devid = FRONT_DEVID, .source = {.kind = DOMUS_VBD_EMPTY}};
    struct domus_vbd vbd = vbd_of(DOMUS_VBD_CDROM | DOMUS_VBD_READ_ONLY, 0, 0);
    int fd;

    vbd.source = (struct domus_vbd_source){.kind = DOMUS_VBD_EMPTY};
    TAP_OK(!hv_blk_attach(front.d, &vbd, -1) && vbd.size_bytes == 0, "an empty drive");
    front_write("state", "1");
    TAP_OK(front_connect() && ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_ERROR, "has nothing to read");
    image.source.kind = DOMUS_VBD_FILE;
    fd = dup(front.image);
    TAP_OK(!hv_blk_set_image(front.d, &image, fd) && image.size_bytes == IMAGE_BYTES &&
               front_stats().size_bytes == IMAGE_BYTES && ask(BLKIF_OP_READ, 8, 1) == BLKIF_RSP_OKAY,
           "a medium is put in");
    put_many(BLKIF_OP_READ, 20);
    image.source.kind = DOMUS_VBD_EMPTY;
    front_run_ms(0);
    TAP_OK(!hv_blk_set_image(front.d, &image, -1), "and taken out of a busy drive");
    for (int i = 0; i < 1000 && front_stats().size_bytes; i++)
        front_run_ms(1);
    for (unsigned i = 0; i < 20; i++)
        (void)front_answer();
    TAP_OK(!front_stats().size_bytes && ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_ERROR, "which is empty then");
    TAP_OK(!hv_blk_detach(front.d, FRONT_DEVID, true) && front_wait_state(0), "detached");
    front_write("state", "6");
}

/* A server that does anything at any time; the guest has many requests going, and the disk comes and goes. */
static void test_noise(void)
{
    bool ok = true;

    for (unsigned round = 0; ok && round < 60; round++) {
        static const uint8_t kinds[] = {BLKIF_OP_READ, BLKIF_OP_WRITE, BLKIF_OP_WRITE_BARRIER};

        ok = attach(NOISE, round % 4 == 3 ? DOMUS_VBD_STOP : DOMUS_VBD_REPORT, DOMUS_VBD_REPORT);
        for (unsigned i = 0; ok && i < 4 && front_state() == XenbusStateConnected; i++) {
            put_many(kinds[(round + i) % HV_ARRAY_LEN(kinds)], 30);
            front_run_ms(2);
            while (front_sring(0, 1)->rsp_prod != front.cons[0])
                (void)front_answer();
            if (front.prod[0] != front.cons[0]) /* held or hanging */
                break;
        }
        server.mode = SERVE;
        ok = ok && detach();
    }
    TAP_OK(ok && attach(SERVE, 0, 0) && ask(BLKIF_OP_READ, 0, 1) == BLKIF_RSP_OKAY && detach(),
           "whatever a server did, the disk goes and another one works");
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void test_limits(void)
{
    struct domus_vbd_limits limits = {.devid = FRONT_DEVID, .read_iops = 50};
    uint64_t start, took;
    unsigned good;

    TAP_OK(attach(SERVE, 0, 0) && !hv_blk_set_limits(front.d, &limits), "a disk with a limit");
    start = now_ms();
    put_many(BLKIF_OP_READ, 30);
    good = answers(30, BLKIF_RSP_OKAY);
    took = now_ms() - start;
    TAP_OK(good == 30 && took >= 400 && took < 3000,
           "30 reads at 50 a second, a tenth of which pass at once, took %llu ms", (unsigned long long)took);
    start = now_ms();
    put_many(BLKIF_OP_WRITE, 30);
    TAP_OK(answers(30, BLKIF_RSP_OKAY) == 30 && now_ms() - start < 300, "writes are not slowed");
    limits = (struct domus_vbd_limits){.devid = FRONT_DEVID, .total_bytes = 10 * 4096, .total_bytes_burst = 10 * 4096};
    TAP_OK(!hv_blk_set_limits(front.d, &limits), "a limit of bytes, with a burst");
    start = now_ms();
    put_many(BLKIF_OP_WRITE, 10);
    TAP_OK(answers(10, BLKIF_RSP_OKAY) == 10 && now_ms() - start < 300, "the burst passes at once");
    put_many(BLKIF_OP_WRITE_BARRIER, 6);
    good = answers(6, BLKIF_RSP_OKAY);
    took = now_ms() - start;
    TAP_OK(good == 6 && took >= 400, "barriers do not get round it: %llu ms", (unsigned long long)took);
    limits = (struct domus_vbd_limits){.devid = FRONT_DEVID, .write_iops = 1};
    if (hv_blk_set_limits(front.d, &limits))
        abort();
    put_many(BLKIF_OP_WRITE, 20);
    front_run_ms(10);
    limits.write_iops = 0;
    start = now_ms();
    TAP_OK(!hv_blk_set_limits(front.d, &limits) && answers(20, BLKIF_RSP_OKAY) == 20 && now_ms() - start < 500,
           "who waits is let go when the limit is lifted");
    limits.write_iops = 1;
    if (hv_blk_set_limits(front.d, &limits))
        abort();
    put_many(BLKIF_OP_WRITE, 20);
    front_run_ms(10);
    start = now_ms();
    TAP_OK(detach() && now_ms() - start < 1000, "and when the disk goes");
    limits = (struct domus_vbd_limits){.devid = 99};
    TAP_OK(hv_blk_set_limits(front.d, &limits) == -XEN_ENODEV, "a disk that is not there");
}

static void test_bad_limits(void)
{
    static const struct domus_vbd_limits rows[] = {
        {.total_bytes = 1, .read_bytes = 1}, {.total_iops = 5, .write_iops = 5}, {.read_bytes_burst = 7},
        {.read_iops = 10, .read_iops_burst = 9},
    };
    struct hv_blk_throttle t = {0};

    for (size_t i = 0; i < HV_ARRAY_LEN(rows); i++)
        TAP_OK(hv_blk_throttle_set(&t, &rows[i]) == -EINVAL, "limits that contradict each other: row %zu", i);
    TAP_OK(!hv_blk_throttle_set(&t, &(struct domus_vbd_limits){.total_bytes = 1}), "one byte a second");
    hv_blk_throttle_pass(&t, true, 524288, 1000);
    TAP_OK(hv_blk_throttle_due_ns(&t, false) <= 3600000000000ull, "does not stop a disk for ever");
}

int main(void)
{
    hv_log_set_level(HV_LOG_ERROR);
    front_new();
    test_data();
    test_broken();
    test_stop_policy();
    test_another_server();
    test_reconnect();
    test_stalled();
    test_forgotten();
    test_noise();
    test_media();
    test_limits();
    test_bad_limits();
    if (!attach(SILENT, DOMUS_VBD_STOP, DOMUS_VBD_STOP))
        abort();
    put_many(BLKIF_OP_WRITE, 10);
    front_run_ms(10);
    front_free();
    TAP_OK(true, "a domain goes whose server says nothing");
    server_stop();
    return tap_done();
}
