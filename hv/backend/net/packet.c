/* Headers of frames and the Internet checksum. Source: RFC 791, 8200, 768, 9293, 1071; IEEE 802.1Q. */
#include "config.h"

#include "hv/backend/net/packet.h"

#include <linux/if_ether.h>
#include <netinet/in.h>
#include <string.h>

#define VLAN_TAGS_MAX   2
#define EXTENSIONS_MAX  8
#define IPV4_MIN        20u
#define IPV6_BYTES      40u
#define TCP_MIN         20u
#define UDP_BYTES       8u
#define TCP_CHECKSUM    16u
#define UDP_CHECKSUM    6u
#define IPV4_FRAGMENTED 0x3fffu /* more fragments, or an offset */

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

/* The offset of the network header and its type; 0 when the frame ends before. */
static size_t find_network(const uint8_t *head, size_t bytes, uint16_t *type)
{
    size_t at = 12;

    for (unsigned tags = 0; tags <= VLAN_TAGS_MAX; tags++, at += 4) {
        if (bytes < at + 2)
            return 0;
        *type = get16(head + at);
        if (*type != ETH_P_8021Q && *type != ETH_P_8021AD)
            return at + 2;
    }
    return 0;
}

/* Each gives the offset of the transport header and its protocol; 0 when there is none to be found. */
static size_t skip_ipv4(const uint8_t *head, size_t bytes, size_t at, uint8_t *protocol)
{
    size_t length;

    if (bytes < at + IPV4_MIN || head[at] >> 4 != 4)
        return 0;
    length = (head[at] & 15u) * 4u;
    if (length < IPV4_MIN || (get16(head + at + 6) & IPV4_FRAGMENTED))
        return 0;
    *protocol = head[at + 9];
    return at + length;
}

static size_t skip_ipv6(const uint8_t *head, size_t bytes, size_t at, uint8_t *protocol)
{
    if (bytes < at + IPV6_BYTES || head[at] >> 4 != 6)
        return 0;
    *protocol = head[at + 6];
    at += IPV6_BYTES;
    for (unsigned i = 0; i < EXTENSIONS_MAX; i++) {
        bool ah = *protocol == IPPROTO_AH;

        if (!ah && *protocol != IPPROTO_HOPOPTS && *protocol != IPPROTO_ROUTING && *protocol != IPPROTO_DSTOPTS)
            return at;
        if (bytes < at + 2)
            return 0;
        *protocol = head[at];
        at += ah ? (head[at + 1] + 2u) * 4u : (head[at + 1] + 1u) * 8u;
    }
    return 0;
}

static bool read_transport(const uint8_t *head, size_t bytes, uint8_t protocol, struct hv_net_headers *out)
{
    size_t length = UDP_BYTES;

    out->tcp = protocol == IPPROTO_TCP;
    if (!out->tcp && protocol != IPPROTO_UDP)
        return false;
    if (bytes < out->l4 + (out->tcp ? TCP_MIN : UDP_BYTES))
        return false;
    if (out->tcp)
        length = (head[out->l4 + 12] >> 4) * 4u;
    if (out->tcp && (length < TCP_MIN || bytes < out->l4 + length))
        return false;
    out->checksum = out->tcp ? TCP_CHECKSUM : UDP_CHECKSUM;
    out->payload = (uint16_t)(out->l4 + length);
    return true;
}

bool hv_net_parse(const uint8_t *head, size_t bytes, struct hv_net_headers *out)
{
    uint16_t type;
    uint8_t protocol;
    size_t l3, l4 = 0;

    if (bytes > HV_NET_HEAD_MAX)
        bytes = HV_NET_HEAD_MAX;
    l3 = find_network(head, bytes, &type);
    if (!l3)
        return false;
    if (type == ETH_P_IP)
        l4 = skip_ipv4(head, bytes, l3, &protocol);
    else if (type == ETH_P_IPV6)
        l4 = skip_ipv6(head, bytes, l3, &protocol);
    if (!l4 || l4 > bytes)
        return false;
    out->ipv6 = type == ETH_P_IPV6;
    out->l3 = (uint16_t)l3;
    out->l4 = (uint16_t)l4;
    return read_transport(head, bytes, protocol, out);
}

/* ------------------------------------------------------------------ checksums */

/* Of at most 64 KiB or so: 32 bits of carries are enough. */
static uint64_t add_bytes(uint64_t sum, const uint8_t *p, size_t bytes)
{
    for (; bytes >= 4; p += 4, bytes -= 4)
        sum += (uint32_t)get16(p) + get16(p + 2);
    if (bytes >= 2)
        sum += get16(p);
    if (bytes & 1)
        sum += (uint32_t)p[bytes - 1] << 8;
    return sum;
}

static uint16_t fold(uint64_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}

void hv_net_put_pseudo_sum(uint8_t *head, const struct hv_net_headers *headers, uint32_t l4_bytes)
{
    const uint8_t *l3 = head + headers->l3;
    uint64_t sum = headers->ipv6 ? add_bytes(0, l3 + 8, 32) : add_bytes(0, l3 + 12, 8);

    sum += (headers->tcp ? IPPROTO_TCP : IPPROTO_UDP) + (l4_bytes >> 16) + (l4_bytes & 0xffff);
    put16(head + headers->l4 + headers->checksum, fold(sum));
}

bool hv_net_finish_checksum(uint8_t *frame, size_t bytes, size_t start, size_t offset)
{
    uint16_t sum;

    if (start > bytes || offset > bytes - start || bytes - start - offset < 2)
        return false;
    sum = (uint16_t)~fold(add_bytes(0, frame + start, bytes - start));
    put16(frame + start + offset, sum ? sum : 0xffff); /* 0 means "none" in UDP, and is the same sum */
    return true;
}
