/* Tests for hv/stream/sparse.c. */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "hv/stream/sparse.h"
#include "hv/tap.h"

#define PAGES 5u

static uint8_t pages[PAGES][HV_PAGE_SIZE], back[PAGES][HV_PAGE_SIZE], room[HV_SPARSE_ROOM_BYTES(PAGES)];

static void unpack(void)
{
    const uint8_t *pieces = room + 8 * PAGES;
    uint64_t mask;

    memset(back, 0xaa, sizeof(back));
    for (unsigned i = 0; i < PAGES; i++) {
        memcpy(&mask, room + 8 * i, 8);
        pieces = hv_sparse_unpack(mask, pieces, back[i]);
    }
}

int main(void)
{
    size_t n;

    pages[0][0] = pages[0][HV_PAGE_SIZE - 1] = pages[1][64] = 1; /* three pieces; the third page has none */
    memset(pages[3], 1, HV_PAGE_SIZE);
    memset(pages[4] + 100, 1, 128); /* three more */
    n = hv_sparse_pack(pages, PAGES, room);
    TAP_OK(n == 8 * PAGES + (3 + 64 + 3) * 64, "what is not zero is packed, by pieces of 64 bytes: %zu", n);
    TAP_OK(hv_sparse_is_sound(room, n, PAGES), "the result is sound");
    unpack();
    TAP_OK(!memcmp(pages, back, sizeof(pages)), "the pages are the same again");
    TAP_OK(!hv_sparse_is_sound(room, n - 1, PAGES) && !hv_sparse_is_sound(room, n + 64, PAGES), "cut short or too long it is not sound");
    room[8] ^= 1;
    TAP_OK(!hv_sparse_is_sound(room, n, PAGES), "nor with a piece that is not there");
    TAP_OK(!hv_sparse_is_sound(room, 8 * PAGES - 1, PAGES) && !hv_sparse_is_sound(room, sizeof(room), UINT64_MAX / 8),
           "nor with masks that are not there");
    memset(pages, 1, sizeof(pages));
    TAP_OK(hv_sparse_pack(pages, PAGES, room) == 0, "full pages are not worth it");
    return tap_done();
}
