/* Inside streams: pages without what is zero in them. Much of a guest's memory is pages of which a part was never used; to leave that
 * out costs less than to send it.
 *
 * The form: for each page a mask, 8 bytes, of which bit N is set where its Nth piece of 64 bytes is not zero; then these pieces.
 */
#pragma once

#include "hv/stream/stream.h"

#define HV_SPARSE_PIECE_BYTES (HV_PAGE_SIZE / 64u)
/* What @pages pages take at most, in a room for hv_sparse_pack. */
#define HV_SPARSE_ROOM_BYTES(pages) ((pages) * (8u + HV_PAGE_SIZE) + HV_SPARSE_PIECE_BYTES)

/* Writes the @pages pages at @from, HV_STREAM_PAGES_MAX at most, to @room. How many bytes that took; 0: it is not worth it, and @room
 * is as it was or not. */
size_t hv_sparse_pack(const void *from, unsigned pages, void *room);
/* Whether @bytes at @packed are @pages pages, not more and not less. */
bool hv_sparse_is_sound(const void *packed, size_t bytes, uint64_t pages);
/* Makes a page, @to, of its mask and of the pieces at @pieces; where those of the next one are. */
const uint8_t *hv_sparse_unpack(uint64_t mask, const uint8_t *pieces, void *to);
