/* A hostile frontend: requests, indexes, grants and store keys that are mostly right, from a fixed seed. Nothing it does
 * may harm the process, keep the disk from being served to a frontend that behaves, or be left when the domain goes.
 * An argument sets the number of rounds, a second one the seed.
 */
#include "config.h"

#include "hv/backend/blk/front.h"
#include "hv/tap.h"

static uint64_t state = 88172645463325252ull;

static uint32_t below(uint32_t n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 11) % n);
}

static bool once_in(uint32_t n)
{
    return below(n) == 0;
}

static uint64_t odd_number(void)
{
    static const uint64_t odd[] = {0, 1, 7, 8, 2047, 2048, 2049, 1ull << 31, 1ull << 32, 1ull << 55, ~0ull, ~0ull - 7};

    return odd[below(HV_ARRAY_LEN(odd))];
}

static struct blkif_request_segment segment(void)
{
    struct blkif_request_segment seg = {
        .gref = DATA_REF + below(FRONT_PAGES),
        .first_sect = (uint8_t)below(8),
        .last_sect = 7,
    };

    if (once_in(30))
        seg.gref = (uint32_t)odd_number();
    if (once_in(30))
        seg.last_sect = (uint8_t)below(256);
    if (once_in(20))
        seg.gref = RING_REF + below(FRONT_RINGS); /* the ring itself as a buffer */
    return seg;
}

static struct blkif_request make_request(void)
{
    struct blkif_request r = {
        .operation = (uint8_t)below(7),
        .nr_segments = (uint8_t)(1 + below(BLKIF_MAX_SEGMENTS_PER_REQUEST)),
        .id = odd_number(),
        .sector_number = once_in(10) ? odd_number() : below(IMAGE_BYTES / 512),
    };

    for (unsigned i = 0; i < BLKIF_MAX_SEGMENTS_PER_REQUEST; i++)
        r.seg[i] = segment();
    if (once_in(20))
        r.operation = (uint8_t)below(256);
    if (once_in(10))
        r.nr_segments = (uint8_t)below(256);
    return r;
}

static struct blkif_request make_indirect(void)
{
    struct blkif_request_indirect in = {
        .operation = BLKIF_OP_INDIRECT,
        .indirect_op = (uint8_t)(once_in(10) ? below(256) : below(2)),
        .nr_segments = (uint16_t)(once_in(10) ? below(65536) : 1 + below(128)),
        .sector_number = once_in(10) ? odd_number() : below(1024),
    };
    struct blkif_request_segment *list;
    struct blkif_request r;

    for (unsigned i = 0; i < BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST; i++)
        in.indirect_grefs[i] = once_in(20) ? (uint32_t)odd_number() : DATA_REF + below(FRONT_PAGES);
    list = (struct blkif_request_segment *)front_data((in.indirect_grefs[0] - DATA_REF) % FRONT_PAGES);
    for (unsigned i = 0; i < 128; i++)
        list[i] = segment();
    memset(&r, 0, sizeof(r));
    memcpy(&r, &in, sizeof(in));
    return r;
}

static void disturb_grants(void)
{
    static const uint16_t flags[] = {GTF_permit_access, GTF_invalid, GTF_permit_access | GTF_readonly, GTF_accept_transfer,
                                     GTF_transitive};
    static const uint64_t gfns[] = {FRONT_TABLE, FRONT_DATA, 0xfffff, 0xffffffff, 0};

    front_grant(DATA_REF + below(FRONT_PAGES), gfns[below(HV_ARRAY_LEN(gfns))], flags[below(HV_ARRAY_LEN(flags))]);
}

static void disturb_store(void)
{
    static const char *const keys[] = {"state", "ring-ref", "event-channel", "protocol", "ring-page-order",
                                       "multi-queue-num-queues", "queue-0/ring-ref", "queue-1/x/y", "queue-"};
    static const char *const values[] = {"", "1", "3", "4", "5", "6", "8", "9999999999999999999999", "-1", "x86_64-abi"};

    front_write(keys[below(HV_ARRAY_LEN(keys))], values[below(HV_ARRAY_LEN(values))]);
}

/* Back to a frontend that behaves. */
static bool behave(void)
{
    front_grant_all();
    front_number("multi-queue-num-queues", 1);
    front_number("ring-page-order", 0);
    front_write("state", "6");
    if (!front_wait_state(XenbusStateClosed))
        return false;
    front_write("state", "1");
    return front_connect();
}

static void round_of_harm(void)
{
    for (unsigned i = below(40); i; i--) {
        struct blkif_request r = once_in(3) ? make_indirect() : make_request();

        if (front.prod[0] - front_sring(0, 1)->rsp_prod < 32 || once_in(10))
            front_put(&r);
    }
    if (once_in(8))
        disturb_grants();
    if (once_in(40))
        front_sring(0, 1)->req_prod += (uint32_t)odd_number();
    if (once_in(40))
        front_sring(0, 1)->rsp_prod = front_sring(0, 1)->rsp_event = (uint32_t)odd_number();
    if (once_in(10))
        disturb_store();
    for (unsigned i = below(4); i; i--)
        front_kick(0);
    front_run_ms(1);
}

static bool served(void)
{
    struct blkif_request r = {.operation = BLKIF_OP_READ, .nr_segments = 1};

    r.seg[0] = (struct blkif_request_segment){.gref = DATA_REF, .first_sect = 0, .last_sect = 7};
    return behave() && front_ask(&r) == BLKIF_RSP_OKAY;
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 1500;
    bool ok = true;

    if (argc > 2)
        state = strtoull(argv[2], NULL, 0) | 1;
    hv_log_set_level(HV_LOG_ERROR);
    front_new();
    TAP_OK(!front_attach(DOMUS_VBD_DISCARD | DOMUS_VBD_PERSISTENT) && front_connect(), "a frontend connects");
    for (unsigned i = 0; ok && i < rounds; i++) {
        round_of_harm();
        if (i % 10 == 9)
            ok = served();
    }
    TAP_OK(ok, "after whatever a frontend did, one that behaves is served");
    for (unsigned i = 0; i < 5; i++)
        round_of_harm();
    printf("# %llu reads, %llu writes, %llu flushes, %llu refused\n", (unsigned long long)front_stats().rd_req,
           (unsigned long long)front_stats().wr_req, (unsigned long long)front_stats().flush_req,
           (unsigned long long)front_stats().refused);
    TAP_OK(front_stats().refused > 0 && front_stats().wr_req > 0, "what made no sense was refused, and the rest done");
    front_free();
    TAP_OK(true, "the domain goes with requests in flight");
    return tap_done();
}
