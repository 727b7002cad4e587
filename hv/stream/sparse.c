/* Pages without what is zero in them. */
#include "config.h"

#include "hv/stream/sparse.h"

#include <string.h>

#define PIECE HV_SPARSE_PIECE_BYTES

static bool is_zero(const uint8_t *piece)
{
    uint64_t words[PIECE / 8], any = 0;

    memcpy(words, piece, sizeof(words));
    for (unsigned i = 0; i < PIECE / 8; i++)
        any |= words[i];
    return !any;
}

static uint64_t mask_of(const uint8_t *page)
{
    uint64_t mask = 0;

    for (unsigned i = 0; i < 64; i++)
        mask |= (uint64_t)!is_zero(page + i * PIECE) << i;
    return mask;
}

/* A piece is copied before it is known whether it stays: that is faster than to ask. */
static uint8_t *put_pieces(uint64_t mask, const uint8_t *page, uint8_t *to)
{
    if (!~mask)
        return (uint8_t *)memcpy(to, page, HV_PAGE_SIZE) + HV_PAGE_SIZE;
    for (unsigned i = 0; i < 64; i++) {
        memcpy(to, page + i * PIECE, PIECE);
        to += PIECE * (mask >> i & 1);
    }
    return to;
}

size_t hv_sparse_pack(const void *from, unsigned pages, void *room)
{
    uint64_t masks[HV_STREAM_PAGES_MAX];
    size_t bytes = (size_t)pages * HV_PAGE_SIZE, n = pages * sizeof(masks[0]);
    const uint8_t *page = from;
    uint8_t *to = (uint8_t *)room + n;

    for (unsigned i = 0; i < pages; i++) {
        masks[i] = mask_of(page + (size_t)i * HV_PAGE_SIZE);
        n += PIECE * (unsigned)__builtin_popcountll(masks[i]);
    }
    if (n >= bytes - bytes / 16)
        return 0;
    memcpy(room, masks, pages * sizeof(masks[0]));
    for (unsigned i = 0; i < pages; i++)
        to = put_pieces(masks[i], page + (size_t)i * HV_PAGE_SIZE, to);
    return n;
}

bool hv_sparse_is_sound(const void *packed, size_t bytes, uint64_t pages)
{
    size_t wanted = pages * 8;

    if (pages > HV_STREAM_PAGES_MAX || bytes < wanted)
        return false;
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t mask;

        memcpy(&mask, (const uint8_t *)packed + 8 * i, sizeof(mask));
        wanted += PIECE * (unsigned)__builtin_popcountll(mask);
    }
    return bytes == wanted;
}

const uint8_t *hv_sparse_unpack(uint64_t mask, const uint8_t *pieces, void *to)
{
    memset(to, 0, HV_PAGE_SIZE);
    for (; mask; mask &= mask - 1, pieces += PIECE)
        memcpy((uint8_t *)to + PIECE * (unsigned)__builtin_ctzll(mask), pieces, PIECE);
    return pieces;
}
