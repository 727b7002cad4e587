/* A hostile frontend: rings full of mostly valid requests with something wrong in them, indices that jump, grants
 * that change, against taps and streams. Deterministic. Whatever it does, no grant stays in use, memory that is
 * not granted for writing stays as it was, and the process lives.
 */
#include "config.h"

#include <stdlib.h>

#include "hv/backend/net/front.h"
#include "hv/tap.h"

#define ROUNDS  400u
#define WATCHED 350u /* from this page on, pages are not granted to write */

static uint64_t state;

static uint32_t next_random(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static bool one_in(unsigned n)
{
    return next_random() % n == 0;
}

static uint32_t any_ref(void)
{
    if (one_in(12))
        return one_in(2) ? FRONT_BAD_REF : next_random();
    return FRONT_REF + next_random() % FRONT_NR;
}

/* A header that offloads can be asked for, or not. */
static void fill_page(struct front *f, unsigned page)
{
    static const uint8_t starts[][2] = {{0x08, 0x00}, {0x86, 0xdd}, {0x81, 0x00}, {0x88, 0xa8}, {0x08, 0x06}};
    uint8_t *p = front_page(f, page);
    unsigned kind = next_random() % HV_ARRAY_LEN(starts);

    for (unsigned i = 0; i < 128; i++)
        p[i] = one_in(2) ? 0 : (uint8_t)next_random();
    memcpy(p + 12, starts[kind], 2);
    p[14] = kind == 0 ? (uint8_t)(0x40 + next_random() % 16) : 0x60;
    p[20] = p[23] = one_in(2) ? 6 : (uint8_t)(one_in(2) ? 17 : next_random());
    p[34 + 12] = p[54 + 12] = (uint8_t)next_random();
}

static void put_extras(struct front *f)
{
    struct netif_extra_info extra = {0};

    do {
        extra.type = (uint8_t)(one_in(8) ? next_random() : XEN_NETIF_EXTRA_TYPE_GSO);
        extra.flags = one_in(6) ? XEN_NETIF_EXTRA_FLAG_MORE : 0;
        extra.u.gso.type = (uint8_t)(next_random() % 4);
        extra.u.gso.size = (uint16_t)next_random();
        front_tx_extra(f, extra);
    } while (extra.flags && !one_in(400));
}

static void put_packet(struct front *f)
{
    unsigned parts = one_in(3) ? 1 + next_random() % 20 : 1, flags = 0;
    unsigned total = one_in(10) ? next_random() : 60 + next_random() % 4000 + (parts - 1) * 1000;

    if (one_in(2))
        flags |= NETTXF_csum_blank;
    if (one_in(4))
        flags |= NETTXF_extra_info;
    for (unsigned i = 0; i < parts; i++) {
        unsigned more = i + 1 < parts || one_in(900) ? NETTXF_more_data : 0;

        front_tx(f, any_ref(), one_in(8) ? next_random() : 0, i ? next_random() % 1100 : total, flags | more);
        if (flags & NETTXF_extra_info)
            put_extras(f);
        flags = 0;
    }
}

static void change_grant(struct front *f)
{
    struct grant_entry_v1 *entry = front_grant(f, FRONT_REF + next_random() % WATCHED);

    entry->flags = one_in(2) ? GTF_permit_access : (uint16_t)next_random();
    if (one_in(4))
        entry->frame = one_in(2) ? next_random() : FRONT_PAGES / HV_PAGE_SIZE + next_random() % WATCHED;
}

static void post(struct front *f)
{
    unsigned count = next_random() % 40;

    for (unsigned i = 0; i < count; i++)
        f->rx->ring[f->rx_prod++ & (HV_NET_RING_SLOTS - 1)].req =
            (struct netif_rx_request){(uint16_t)next_random(), 0, any_ref()};
    if (f->rx_prod - f->rx->rsp_prod > HV_NET_RING_SLOTS && !one_in(400))
        f->rx_prod = f->rx->rsp_prod;
    f->rx->req_prod = f->rx_prod;
}

static void host_sends(struct front *f, enum domus_vif_port kind)
{
    static uint8_t frame[HV_NET_FRAME_MAX];
    struct virtio_net_hdr header = {0};
    struct iovec iov[2] = {{&header, sizeof(header)}, {frame, 14 + next_random() % (one_in(4) ? 60000 : 3000)}};
    uint32_t length = __builtin_bswap32((uint32_t)iov[1].iov_len);

    if (kind == DOMUS_VIF_STREAM)
        iov[0] = (struct iovec){&length, sizeof(length)};
    header.flags = (uint8_t)(next_random() & 3);
    header.gso_type = one_in(3) ? (uint8_t)next_random() : 0;
    header.gso_size = (uint16_t)next_random();
    header.csum_start = (uint16_t)(one_in(2) ? 34 : next_random());
    header.csum_offset = (uint16_t)(one_in(2) ? 16 : next_random());
    if (writev(f->host, iov, 2) < 0)
        return; /* full: the guest takes nothing */
}

static void drain_host(struct front *f)
{
    static uint8_t data[1 << 17];

    while (read(f->host, data, sizeof(data)) > 0)
        ;
}

static void play(struct front *f, enum domus_vif_port kind)
{
    for (unsigned i = 0; i < 60 && !hv_net_queue_is_broken(f->q); i++) {
        fill_page(f, next_random() % FRONT_NR);
        if (one_in(6))
            change_grant(f);
        for (unsigned n = next_random() % 6; n; n--)
            put_packet(f);
        if (f->tx_prod - f->tx->rsp_prod > HV_NET_RING_SLOTS && !one_in(400))
            f->tx_prod = f->tx->rsp_prod;
        post(f);
        host_sends(f, kind);
        if (one_in(20))
            atomic_store(&f->link_up, one_in(2));
        front_push(f);
        if (!one_in(4))
            drain_host(f);
    }
}

static void watch_pages(struct front *f, uint8_t *kept)
{
    for (unsigned i = WATCHED; i < FRONT_NR; i++)
        front_grant(f, FRONT_REF + i)->flags |= GTF_readonly;
    for (unsigned i = 0; i < 4096; i++)
        kept[i] = (uint8_t)next_random();
    memcpy(test_at(f->d, FRONT_PAGES + FRONT_NR * HV_PAGE_SIZE), kept, 4096);
}

int main(void)
{
    unsigned intact = 0, held = 0, broken = 0;
    uint64_t sent = 0, received = 0;
    uint8_t kept[4096];
    struct front f;

    hv_log_set_level(HV_LOG_ERROR);
    for (unsigned round = 0; round < ROUNDS; round++) {
        enum domus_vif_port kind = round % 4 ? DOMUS_VIF_TAP : DOMUS_VIF_STREAM;

        state = round + 1;
        if (!front_start(&f, kind) || !front_connect(&f))
            return 1;
        watch_pages(&f, kept);
        play(&f, kind);
        intact += !memcmp(test_at(f.d, FRONT_PAGES + FRONT_NR * HV_PAGE_SIZE), kept, sizeof(kept));
        held += f.d->gnttab->active;
        broken += hv_net_queue_is_broken(f.q);
        sent += f.tx_counters.packets;
        received += f.rx_counters.packets;
        front_end(&f);
    }
    TAP_OK(intact == ROUNDS, "memory that is not granted stays as it was");
    TAP_OK(held == 0, "no grant stays in use");
    TAP_OK(sent > ROUNDS && received > ROUNDS, "frames went through: %llu sent, %llu received", (unsigned long long)sent,
           (unsigned long long)received);
    TAP_OK(broken > 0 && broken < ROUNDS, "some frontends were stopped: %u", broken);
    return tap_done();
}
