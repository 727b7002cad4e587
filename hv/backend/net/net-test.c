/* One queue of a network interface between a frontend of our own and a socket. Facts: xen/io/netif.h, virtio_net.h. */
#include "config.h"

#include <arpa/inet.h>
#include <stdlib.h>

#include "hv/backend/net/front.h"
#include "hv/tap.h"

static const struct virtio_net_hdr plain;
static uint8_t data[1 << 17];

static void fill(uint8_t *p, size_t bytes, unsigned seed)
{
    for (size_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)(seed + i * 7 + (i >> 8));
}

/* Ethernet, IP and TCP or UDP headers; gives their length. */
static size_t put_headers(uint8_t *p, bool ipv6, bool udp)
{
    size_t l4 = ipv6 ? 54 : 34;

    memset(p, 0, l4 + 20);
    p[12] = ipv6 ? 0x86 : 0x08;
    p[13] = ipv6 ? 0xdd : 0x00;
    p[14] = ipv6 ? 0x60 : 0x45;
    p[ipv6 ? 20 : 23] = udp ? 17 : 6;
    p[ipv6 ? 22 + 15 : 29] = 1; /* addresses ::1 and ::2, 0.0.0.1 and 0.0.0.2 */
    p[ipv6 ? 38 + 15 : 33] = 2;
    if (!udp)
        p[l4 + 12] = 5 << 4;
    return l4 + (udp ? 8 : 20);
}

static struct netif_extra_info gso(unsigned type, unsigned size)
{
    struct netif_extra_info extra = {.type = XEN_NETIF_EXTRA_TYPE_GSO};

    extra.u.gso.type = (uint8_t)type;
    extra.u.gso.size = (uint16_t)size;
    return extra;
}

/* ------------------------------------------------------------------ transmitting */

static void test_tx_plain(void)
{
    struct front f;
    struct virtio_net_hdr header;

    TAP_OK(front_start(&f, DOMUS_VIF_TAP) && front_connect(&f), "a queue starts");
    fill(front_page(&f, 0), HV_PAGE_SIZE, 1);
    front_tx(&f, FRONT_REF, 100, 60, 0);
    front_push(&f);
    TAP_OK(front_host_read(&f, &header, data, sizeof(data)) == 60 && !memcmp(data, front_page(&f, 0) + 100, 60),
           "a frame arrives as sent");
    TAP_OK(header.flags == 0 && header.gso_type == 0, "nothing is left to do on it");
    TAP_OK(f.tx->ring[0].rsp.id == 1000 && front_tx_status(&f) == NETIF_RSP_OKAY, "its request is answered");
    TAP_OK(f.events == 1, "the guest is told");
    TAP_OK(front_grant(&f, FRONT_REF)->flags == GTF_permit_access, "the grant is free again");
    TAP_OK(f.tx_counters.packets == 1 && f.tx_counters.bytes == 60, "it is counted");
    f.tx->rsp_event = f.tx_rsp + 2;
    front_tx(&f, FRONT_REF, 0, 60, 0);
    front_push(&f);
    TAP_OK(f.events == 1 && front_tx_status(&f) == NETIF_RSP_OKAY, "no event before the guest wants one");
    front_end(&f);
}

static void test_tx_fragments(void)
{
    struct front f;
    struct virtio_net_hdr header;

    front_start(&f, DOMUS_VIF_TAP);
    front_connect(&f);
    for (unsigned i = 0; i < 18; i++)
        fill(front_page(&f, i), HV_PAGE_SIZE, i);
    front_tx(&f, FRONT_REF, 4000, 96 + 4096 + 1, NETTXF_more_data);
    front_tx(&f, FRONT_REF + 1, 0, 4096, NETTXF_more_data);
    front_tx(&f, FRONT_REF + 2, 5, 1, 0);
    front_push(&f);
    TAP_OK(front_host_read(&f, &header, data, sizeof(data)) == 4193, "fragments make one frame");
    TAP_OK(!memcmp(data, front_page(&f, 0) + 4000, 96) && !memcmp(data + 96, front_page(&f, 1), 4096) &&
               data[4192] == front_page(&f, 2)[5],
           "with all bytes in place");
    for (unsigned i = 0; i < 18; i++)
        front_tx(&f, FRONT_REF + i, 0, i ? 3000 : 54000, i < 17 ? NETTXF_more_data : 0);
    front_push(&f);
    TAP_OK(front_host_read(&f, &header, data, sizeof(data)) == 54000 && data[17 * 3000] == front_page(&f, 17)[0],
           "18 fragments do, too");
    front_end(&f);
}

static const struct {
    const char *what;
    bool ipv6, udp;
    unsigned flags, gso_type, gso_size;
    struct virtio_net_hdr expected;
} offloads[] = {
    {"TCPv4 checksum", false, false, NETTXF_csum_blank, 0, 0, {.flags = 1, .csum_start = 34, .csum_offset = 16}},
    {"UDPv4 checksum", false, true, NETTXF_csum_blank, 0, 0, {.flags = 1, .csum_start = 34, .csum_offset = 6}},
    {"TCPv6 checksum", true, false, NETTXF_csum_blank, 0, 0, {.flags = 1, .csum_start = 54, .csum_offset = 16}},
    {"UDPv6 checksum", true, true, NETTXF_csum_blank, 0, 0, {.flags = 1, .csum_start = 54, .csum_offset = 6}},
    {"TCPv4 segments", false, false, NETTXF_csum_blank, XEN_NETIF_GSO_TYPE_TCPV4, 1448,
     {.flags = 1, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4, .hdr_len = 54, .gso_size = 1448, .csum_start = 34, .csum_offset = 16}},
    {"TCPv6 segments", true, false, NETTXF_csum_blank, XEN_NETIF_GSO_TYPE_TCPV6, 1428,
     {.flags = 1, .gso_type = VIRTIO_NET_HDR_GSO_TCPV6, .hdr_len = 74, .gso_size = 1428, .csum_start = 54, .csum_offset = 16}},
};

static void test_tx_offloads(void)
{
    struct front f;
    struct virtio_net_hdr header;

    front_start(&f, DOMUS_VIF_TAP);
    front_connect(&f);
    for (size_t i = 0; i < HV_ARRAY_LEN(offloads); i++) {
        put_headers(front_page(&f, 0), offloads[i].ipv6, offloads[i].udp);
        front_tx(&f, FRONT_REF, 0, 3000, offloads[i].flags | (offloads[i].gso_size ? NETTXF_extra_info : 0));
        if (offloads[i].gso_size)
            front_tx_extra(&f, gso(offloads[i].gso_type, offloads[i].gso_size));
        front_push(&f);
        TAP_OK(front_host_read(&f, &header, data, sizeof(data)) == 3000 &&
                   !memcmp(&header, &offloads[i].expected, sizeof(header)),
               "%s", offloads[i].what);
        TAP_OK(front_tx_status(&f) == NETIF_RSP_OKAY &&
                   (!offloads[i].gso_size || front_tx_status(&f) == NETIF_RSP_NULL),
               "%s: responses", offloads[i].what);
    }
    front_tx(&f, FRONT_REF, 0, 3054, NETTXF_extra_info);
    front_tx_extra(&f, gso(XEN_NETIF_GSO_TYPE_TCPV4, 1000));
    put_headers(front_page(&f, 0), false, false);
    front_push(&f);
    /* 0.0.0.1 + 0.0.0.2 + protocol 6 + length 3020 */
    TAP_OK(front_host_read(&f, &header, data, sizeof(data)) == 3054 && data[50] << 8 != 0 &&
               (data[50] << 8 | data[51]) == 1 + 2 + 6 + 3020,
           "segments of a finished checksum start from the pseudo header's");
    front_end(&f);
}

struct bad {
    const char *what;
    uint32_t gref;
    unsigned offset, size, flags;
    unsigned second_size; /* with NETTXF_more_data */
    unsigned extra_type, gso_type, gso_size; /* with NETTXF_extra_info */
};

static const struct bad bad_packets[] = {
    {"a reference that grants nothing", FRONT_BAD_REF, 0, 60, 0, 0, 0, 0, 0},
    {"a reference beyond the table", 0xffffffff, 0, 60, 0, 0, 0, 0, 0},
    {"across the page's end", FRONT_REF, 4040, 60, 0, 0, 0, 0, 0},
    {"an offset outside the page", FRONT_REF, 65535, 60, 0, 0, 0, 0, 0},
    {"shorter than Ethernet's header", FRONT_REF, 0, 13, 0, 0, 0, 0, 0},
    {"fragments larger than the frame", FRONT_REF, 0, 60, NETTXF_more_data, 61, 0, 0, 0},
    {"a first fragment larger than a page", FRONT_REF, 0, 9000, NETTXF_more_data, 60, 0, 0, 0},
    {"a blank checksum and no TCP", FRONT_REF + 1, 0, 60, NETTXF_csum_blank, 0, 0, 0, 0},
    {"segments of no TCP", FRONT_REF + 1, 0, 60, NETTXF_extra_info, 0, 1, XEN_NETIF_GSO_TYPE_TCPV4, 100},
    {"segments of the other IP", FRONT_REF, 0, 60, NETTXF_extra_info, 0, 1, XEN_NETIF_GSO_TYPE_TCPV6, 100},
    {"segments of an unknown kind", FRONT_REF, 0, 60, NETTXF_extra_info, 0, 1, 3, 100},
    {"segments of no size", FRONT_REF, 0, 60, NETTXF_extra_info, 0, 1, XEN_NETIF_GSO_TYPE_TCPV4, 0},
    {"multicast control", FRONT_REF, 0, 60, NETTXF_extra_info, 0, XEN_NETIF_EXTRA_TYPE_MCAST_ADD, 0, 0},
    {"an extra slot of no type", FRONT_REF, 0, 60, NETTXF_extra_info, 0, 0, 0, 0},
};

static void test_tx_refused(void)
{
    struct front f;
    struct virtio_net_hdr header;

    front_start(&f, DOMUS_VIF_TAP);
    front_connect(&f);
    put_headers(front_page(&f, 0), false, false);
    for (size_t i = 0; i < HV_ARRAY_LEN(bad_packets); i++) {
        const struct bad *b = &bad_packets[i];

        front_tx(&f, b->gref, b->offset, b->size, b->flags);
        if (b->flags & NETTXF_extra_info) {
            struct netif_extra_info extra = gso(b->gso_type, b->gso_size);

            extra.type = (uint8_t)b->extra_type;
            front_tx_extra(&f, extra);
        }
        if (b->flags & NETTXF_more_data)
            front_tx(&f, FRONT_REF, 0, b->second_size, 0);
        front_push(&f);
        TAP_OK(front_tx_status(&f) == NETIF_RSP_ERROR && front_host_read(&f, &header, data, sizeof(data)) < 0,
               "refused: %s", b->what);
        f.tx_rsp = f.tx_prod;
        TAP_OK(f.tx->rsp_prod == f.tx_prod, "and all its slots are given back");
    }
    for (unsigned i = 0; i < 19; i++)
        front_tx(&f, FRONT_REF + i, 0, i ? 10 : 1000, i < 18 ? NETTXF_more_data : 0);
    front_push(&f);
    TAP_OK(front_tx_status(&f) == NETIF_RSP_ERROR, "refused: 19 fragments");
    TAP_OK(f.tx_counters.errors == HV_ARRAY_LEN(bad_packets) + 1, "all are counted");
    front_tx(&f, FRONT_REF, 0, 60, 0);
    front_push(&f);
    TAP_OK(front_host_read(&f, &header, data, sizeof(data)) == 60, "a good frame goes after them");
    TAP_OK(f.d->gnttab->active == 0, "no grant is held");
    front_end(&f);
}

static void break_chain(struct front *f)
{
    front_tx(f, FRONT_REF, 0, 60, NETTXF_more_data);
}

static void break_extras(struct front *f)
{
    front_tx(f, FRONT_REF, 0, 60, NETTXF_extra_info);
}

static void break_many_extras(struct front *f)
{
    struct netif_extra_info extra = gso(1, 1);

    front_tx(f, FRONT_REF, 0, 60, NETTXF_extra_info);
    extra.flags = XEN_NETIF_EXTRA_FLAG_MORE;
    for (unsigned i = 0; i < 100; i++)
        front_tx_extra(f, extra);
}

static void break_many_fragments(struct front *f)
{
    for (unsigned i = 0; i < 200; i++)
        front_tx(f, FRONT_REF, 0, 60, NETTXF_more_data);
}

static void break_index(struct front *f)
{
    f->tx_prod += HV_NET_RING_SLOTS + 1;
}

static void break_rx_index(struct front *f)
{
    f->rx->req_prod = HV_NET_RING_SLOTS + 1;
    front_host_write(f, &plain, data, 60);
}

static void test_broken(void)
{
    static const struct {
        const char *what;
        void (*act)(struct front *f);
    } ways[] = {
        {"a fragment that is not there", break_chain}, {"an extra slot that is not there", break_extras},
        {"extra slots without end", break_many_extras}, {"fragments without end", break_many_fragments},
        {"an index beyond the ring", break_index},      {"a receive index beyond the ring", break_rx_index},
    };
    struct front f;

    for (size_t i = 0; i < HV_ARRAY_LEN(ways); i++) {
        front_start(&f, DOMUS_VIF_TAP);
        front_connect(&f);
        ways[i].act(&f);
        front_push(&f);
        TAP_OK(hv_net_queue_is_broken(f.q) && f.tx->rsp_prod == 0, "stops at %s", ways[i].what);
        front_host_write(&f, &plain, data, 60);
        front_push(&f);
        TAP_OK(hv_net_queue_is_broken(f.q) && f.tx->rsp_prod == 0, "and stays stopped");
        front_end(&f);
    }
}

/* The host takes nothing for a while: frames stay in the ring, in order. */
static void test_tx_pressure(void)
{
    struct front f;
    struct virtio_net_hdr header;
    int small = 4096;
    unsigned got = 0;

    front_start(&f, DOMUS_VIF_TAP);
    setsockopt(f.port.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    front_connect(&f);
    for (unsigned i = 0; i < 200; i++) {
        front_page(&f, i)[20] = (uint8_t)i;
        front_tx(&f, FRONT_REF + i, 0, 1000, 0);
    }
    front_push(&f);
    TAP_OK(f.tx->rsp_prod < 200, "a slow host holds frames back");
    for (unsigned rounds = 0; rounds < 400 && got < 200; rounds++) {
        while (front_host_read(&f, &header, data, sizeof(data)) == 1000 && data[20] == got)
            got++;
        front_pump(&f);
    }
    TAP_OK(got == 200 && f.tx->rsp_prod == 200, "and all arrive in order (%u)", got);
    front_end(&f);
}

/* Lets time pass until @done or for two seconds. */
static void wait_until(struct front *f, bool (*done)(struct front *))
{
    for (unsigned i = 0; i < 200 && !done(f); i++) {
        usleep(10000);
        while (read(f->host, data, sizeof(data)) > 0)
            ;
        front_pump(f);
    }
}

static bool all_sent(struct front *f)
{
    return f->tx->rsp_prod == 60;
}

static bool all_received(struct front *f)
{
    return f->rx->rsp_prod == 40;
}

static void test_limit_of_sending(void)
{
    const struct domus_vif_rate rate = {.average = 400000, .burst = 40000};
    struct front f;

    front_start(&f, DOMUS_VIF_TAP);
    TAP_OK(hv_net_limit_set(&f.tx_limit, &rate) == 0, "a limit of what is sent");
    front_connect(&f);
    for (unsigned i = 0; i < 60; i++)
        front_tx(&f, FRONT_REF, 0, 4000, 0);
    front_push(&f);
    TAP_OK(f.tx->rsp_prod >= 10 && f.tx->rsp_prod < 40, "the burst passes, the rest is held (%u went)", f.tx->rsp_prod);
    wait_until(&f, all_sent);
    TAP_OK(all_sent(&f), "and goes later");
    front_end(&f);
}

static void test_limit_of_receiving(void)
{
    const struct domus_vif_rate rate = {.average = 40000, .burst = 4000}, none = {0};
    struct front f;

    front_start(&f, DOMUS_VIF_TAP);
    TAP_OK(hv_net_limit_set(&f.rx_limit, &rate) == 0, "a limit of what is received");
    front_connect(&f);
    front_post(&f, 0, 60);
    for (unsigned i = 0; i < 20; i++)
        front_host_write(&f, &plain, data, 1000);
    TAP_OK(f.rx->rsp_prod >= 4 && f.rx->rsp_prod < 15, "the burst passes, the rest is held (%u came)", f.rx->rsp_prod);
    for (unsigned i = 0; i < 20; i++)
        front_host_write(&f, &plain, data, 1000);
    TAP_OK(f.rx->rsp_prod < 20, "so is what comes later");
    TAP_OK(hv_net_limit_set(&f.rx_limit, &none) == 0, "none any more");
    hv_net_queue_kick(f.q);
    wait_until(&f, all_received);
    TAP_OK(all_received(&f), "all come then");
    front_end(&f);
}

static void test_limits_that_contradict(void)
{
    static const struct domus_vif_rate bad[] = {{0, 1000, 0}, {0, 0, 1000}, {1000, 999, 0}};
    struct hv_net_limit limit;

    for (size_t i = 0; i < HV_ARRAY_LEN(bad); i++)
        TAP_OK(hv_net_limit_set(&limit, &bad[i]) == -EINVAL, "limits that contradict each other (%zu)", i);
}

static void test_link(void)
{
    struct front f;
    struct virtio_net_hdr header;

    front_start(&f, DOMUS_VIF_TAP);
    atomic_store(&f.link_up, false);
    front_connect(&f);
    front_post(&f, 0, 10);
    front_tx(&f, FRONT_REF, 0, 60, 0);
    front_push(&f);
    front_host_write(&f, &plain, data, 60);
    TAP_OK(front_tx_status(&f) == NETIF_RSP_DROPPED && front_host_read(&f, &header, data, sizeof(data)) < 0,
           "nothing is sent with the link down");
    TAP_OK(!front_rx(&f), "nor received");
    TAP_OK(f.tx_counters.dropped == 1 && f.rx_counters.dropped == 1, "both are counted as dropped");
    atomic_store(&f.link_up, true);
    front_host_write(&f, &plain, data, 60);
    TAP_OK(front_rx(&f), "frames come once it is up");
    front_end(&f);
}

/* ------------------------------------------------------------------ receiving */

static void test_rx_plain(void)
{
    struct front f;
    struct netif_rx_response *r;

    front_start(&f, DOMUS_VIF_TAP);
    front_connect(&f);
    memset(front_page(&f, 3), 0xee, HV_PAGE_SIZE);
    front_post(&f, 3, 1);
    fill(data, 100, 9);
    front_host_write(&f, &plain, data, 100);
    r = front_rx(&f);
    TAP_OK(r && r->id == 0 && r->status == 100 && r->offset == 0 && r->flags == 0, "a frame is received");
    TAP_OK(!memcmp(front_page(&f, 3), data, 100), "as it was sent");
    TAP_OK(front_page(&f, 3)[100] == 0xee && front_page(&f, 3)[4095] == 0xee, "and nothing behind it");
    TAP_OK(f.rx_counters.packets == 1 && f.rx_counters.bytes == 100 && f.events == 1, "counted, told");
    front_end(&f);
}

static void test_rx_large(void)
{
    struct front f;
    struct netif_rx_response *r;
    struct netif_extra_info extra;
    struct virtio_net_hdr header = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .gso_type = VIRTIO_NET_HDR_GSO_TCPV4,
                                    .gso_size = 1448, .hdr_len = 54, .csum_start = 34, .csum_offset = 16};

    front_start(&f, DOMUS_VIF_TAP);
    front_connect(&f);
    fill(data, 10000, 3);
    put_headers(data, false, false);
    front_post(&f, 0, 3);
    front_host_write(&f, &header, data, 10000);
    TAP_OK(!front_rx(&f), "a frame waits for the slots that it needs");
    TAP_OK(f.rx->req_event == 4, "and asks to be told of more");
    front_post(&f, 3, 1);
    r = front_rx(&f);
    TAP_OK(r && r->status == 4096 &&
               r->flags == (NETRXF_csum_blank | NETRXF_data_validated | NETRXF_more_data | NETRXF_extra_info),
           "its first part says what there is to do");
    memcpy(&extra, front_rx(&f), sizeof(extra));
    TAP_OK(extra.type == XEN_NETIF_EXTRA_TYPE_GSO && extra.flags == 0 && extra.u.gso.size == 1448 &&
               extra.u.gso.type == XEN_NETIF_GSO_TYPE_TCPV4 && extra.u.gso.features == 0,
           "the extra slot tells the size of segments");
    r = front_rx(&f);
    TAP_OK(r && r->id == 2 && r->status == 4096 && r->flags == NETRXF_more_data, "the second part");
    r = front_rx(&f);
    TAP_OK(r && r->id == 3 && r->status == 10000 - 8192 && r->flags == 0, "the last part");
    TAP_OK(!memcmp(front_page(&f, 0), data, 4096) && !memcmp(front_page(&f, 2), data + 4096, 4096) &&
               !memcmp(front_page(&f, 3), data + 8192, 10000 - 8192),
           "hold the frame");
    front_end(&f);
}

static void test_rx_finishes_checksum(void)
{
    struct front f;
    struct netif_rx_response *r;
    struct virtio_net_hdr header = {.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16};
    struct hv_net_headers headers;
    size_t bytes;

    front_start(&f, DOMUS_VIF_TAP);
    f.config.offloads = (struct hv_net_offloads){false, false, false};
    front_connect(&f);
    front_post(&f, 0, 10);
    bytes = put_headers(data, false, false) + 1;
    data[bytes - 1] = 0x41;
    TAP_OK(hv_net_parse(data, bytes, &headers) && headers.payload == 54, "headers are found");
    hv_net_put_pseudo_sum(data, &headers, 21);
    front_host_write(&f, &header, data, bytes);
    r = front_rx(&f);
    TAP_OK(r && r->flags == 0 && r->status == (int)bytes, "a guest without offloads gets a finished frame");
    /* ~(1 + 2 + 6 + 21 + 0x5000 + 0x4100) */
    TAP_OK((front_page(&f, 0)[50] << 8 | front_page(&f, 0)[51]) == (~(30 + 0x5000 + 0x4100) & 0xffff),
           "with the right checksum");
    header.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
    front_host_write(&f, &header, data, bytes);
    TAP_OK(!front_rx(&f) && f.rx_counters.dropped == 1, "and no segments");
    header = (struct virtio_net_hdr){.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM, .csum_start = 60, .csum_offset = 60};
    front_host_write(&f, &header, data, bytes);
    TAP_OK(!front_rx(&f) && f.rx_counters.dropped == 2, "a checksum outside the frame is not written");
    front_end(&f);
}

static void test_rx_refused(void)
{
    struct front f;
    struct netif_rx_response *r;

    front_start(&f, DOMUS_VIF_TAP);
    f.config.scatter_gather = false;
    front_connect(&f);
    f.rx->ring[0].req.gref = FRONT_BAD_REF;
    front_grant(&f, FRONT_REF + 1)->flags |= GTF_readonly;
    front_grant(&f, FRONT_REF + 2)->frame = 0x7fffffff;
    f.rx_prod = 1;
    front_post(&f, 1, 3);
    for (unsigned i = 0; i < 3; i++) {
        front_host_write(&f, &plain, data, 100);
        r = front_rx(&f);
        TAP_OK(r && r->status == NETIF_RSP_ERROR && r->id == i, "a page that cannot be written to (%u)", i);
    }
    TAP_OK(f.rx_counters.errors == 3, "is an error");
    front_host_write(&f, &plain, data, 4097);
    TAP_OK(!front_rx(&f) && f.rx_counters.dropped == 1, "a large frame is not for a guest without scatter-gather");
    front_host_write(&f, &plain, data, 4096);
    r = front_rx(&f);
    TAP_OK(r && r->status == 4096, "one page is");
    TAP_OK(f.d->gnttab->active == 0, "no grant is held");
    front_end(&f);
}

/* ------------------------------------------------------------------ stream */

static void send_stream(struct front *f, const void *p, size_t bytes)
{
    hv_assert(write(f->host, p, bytes) == (ssize_t)bytes);
    front_pump(f);
}

/* Half a frame was read from the other; the next one starts anew. */
static void replace_stream(struct front *f)
{
    uint32_t length = htonl(100);
    struct netif_rx_response *r;
    struct hv_net_port port;
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) || hv_net_port_init(&port, ends[0], DOMUS_VIF_STREAM))
        abort();
    hv_net_queue_set_port(f->q, &port);
    close(f->host);
    f->host = ends[1];
    TAP_OK(!hv_net_queue_has_lost_port(f->q), "another stream takes its place");
    front_post(f, 1, 11);
    send_stream(f, &length, 4);
    send_stream(f, data, 100);
    r = front_rx(f);
    TAP_OK(r && r->status == 100 && !memcmp(front_page(f, 1), data, 100), "frames come by it");
    front_tx(f, FRONT_REF, 0, 60, 0);
    f->tx_rsp = f->tx_prod - 1;
    front_push(f);
    TAP_OK(front_tx_status(f) == NETIF_RSP_OKAY, "and go");
}

static void test_stream(void)
{
    struct front f;
    struct netif_rx_response *r;
    uint8_t got[200];
    uint32_t length = htonl(100);

    TAP_OK(front_start(&f, DOMUS_VIF_STREAM) && front_connect(&f), "a stream queue starts");
    put_headers(front_page(&f, 0), false, true);
    front_page(&f, 0)[41] = 17 + 26 + 3; /* the pseudo header's sum, as a kernel leaves it */
    front_tx(&f, FRONT_REF, 0, 60, NETTXF_csum_blank);
    front_push(&f);
    TAP_OK(read(f.host, got, sizeof(got)) == 64 && got[3] == 60, "a frame goes with its length");
    TAP_OK((got[4 + 40] << 8 | got[4 + 41]) == (~(17 + 26 + 3) & 0xffff), "and a finished checksum");
    front_tx(&f, FRONT_REF, 0, 60, NETTXF_csum_blank | NETTXF_extra_info);
    front_tx_extra(&f, gso(XEN_NETIF_GSO_TYPE_TCPV4, 100));
    f.tx_rsp = f.tx_prod - 2;
    front_push(&f);
    TAP_OK(front_tx_status(&f) == NETIF_RSP_ERROR, "segments are refused");
    front_post(&f, 0, 10);
    fill(data, 100, 5);
    send_stream(&f, &length, 2);
    send_stream(&f, (uint8_t *)&length + 2, 2);
    send_stream(&f, data, 60);
    TAP_OK(!front_rx(&f), "half a frame is none");
    send_stream(&f, data + 60, 40);
    r = front_rx(&f);
    TAP_OK(r && r->status == 100 && !memcmp(front_page(&f, 0), data, 100), "the whole is one");
    length = htonl(1u << 24);
    send_stream(&f, &length, 4);
    front_tx(&f, FRONT_REF, 0, 60, 0);
    f.tx_rsp = f.tx_prod - 1;
    front_push(&f);
    TAP_OK(f.port.broken && front_tx_status(&f) == NETIF_RSP_DROPPED, "a length that cannot be ends the connection");
    TAP_OK(f.lost == 1 && hv_net_queue_has_lost_port(f.q), "which is told once");
    replace_stream(&f);
    front_end(&f);
}

static void test_stream_pressure(void)
{
    struct front f;
    size_t total = 0, small = 4096;
    ssize_t got;

    front_start(&f, DOMUS_VIF_STREAM);
    setsockopt(f.port.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(int));
    front_connect(&f);
    for (unsigned i = 0; i < 100; i++)
        front_tx(&f, FRONT_REF, 0, 3996, 0);
    front_push(&f);
    TAP_OK(f.tx->rsp_prod < 100, "a slow stream holds frames back");
    for (unsigned i = 0; i < 1000 && total < 400000; i++) {
        while ((got = read(f.host, data, sizeof(data))) > 0)
            total += (size_t)got;
        front_pump(&f);
    }
    TAP_OK(total == 400000 && f.tx->rsp_prod == 100, "and loses none");
    front_end(&f);
}

int main(void)
{
    hv_log_set_level(HV_LOG_ERROR);
    test_tx_plain();
    test_tx_fragments();
    test_tx_offloads();
    test_tx_refused();
    test_broken();
    test_tx_pressure();
    test_limit_of_sending();
    test_limit_of_receiving();
    test_limits_that_contradict();
    test_link();
    test_rx_plain();
    test_rx_large();
    test_rx_finishes_checksum();
    test_rx_refused();
    test_stream();
    test_stream_pressure();
    return tap_done();
}
