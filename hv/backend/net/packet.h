/* What an Ethernet frame's headers say, and the Internet checksum. Frames come from guests: any bytes are possible.
 */
#pragma once

#include "hv/types.h"

/* So many bytes of a frame are looked at: enough for Ethernet, two VLAN tags, IPv6 with extension headers, TCP. */
#define HV_NET_HEAD_MAX 256u

/* Bounds of a frame: Ethernet's header, and 64 KiB of segments to be with headers and VLAN tags. */
#define HV_NET_FRAME_MIN 14u
#define HV_NET_FRAME_MAX 69632u

/* A TCP or UDP frame over IPv4 or IPv6. Offsets are from the start of the frame. */
struct hv_net_headers {
    bool ipv6, tcp;
    uint16_t l3, l4;
    uint16_t checksum; /* of the checksum field, from l4 */
    uint16_t payload;  /* what follows the TCP or UDP header */
};

/* Reads the headers in the first @bytes of a frame. False: no TCP or UDP that is whole there, or an IP fragment. */
bool hv_net_parse(const uint8_t *head, size_t bytes, struct hv_net_headers *out) HV_MUST_CHECK;

/* Puts into the checksum field the sum of the pseudo header for @l4_bytes of TCP or UDP: what a checksum that is
 * to be completed later starts from. */
void hv_net_put_pseudo_sum(uint8_t *head, const struct hv_net_headers *headers, uint32_t l4_bytes);

/* Completes a checksum that starts at @start, its field being @offset bytes further. False when that is outside
 * the frame. */
bool hv_net_finish_checksum(uint8_t *frame, size_t bytes, size_t start, size_t offset);
