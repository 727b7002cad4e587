/* The jump cache: from linear address to translated code, for what is not linked. */
#include "config.h"

#include "hv/engine/bt/bt.h"

#include <string.h>

static unsigned index_of(uint64_t rip)
{
    return (unsigned)(rip >> BT_JUMP_SHIFT) & (BT_JUMPS - 1);
}

static void empty_jump(struct bt *bt, unsigned kind, unsigned index)
{
    bt->region->jumps[kind].rip[index] = -((uint64_t)(index ^ 1) << BT_JUMP_SHIFT);
}

void bt_clear_jumps(struct bt *bt)
{
    for (unsigned kind = 0; kind < BT_KINDS; kind++)
        for (unsigned i = 0; i < BT_JUMPS; i++)
            empty_jump(bt, kind, i);
    bt->nr_jumps = 0;
    memset(bt->jump_pages, 0, sizeof(bt->jump_pages));
}

/* The filter's bit for a page. */
static bool page_bit(struct bt *bt, uint64_t page, bool set)
{
    uint64_t *word = &bt->jump_pages[(page >> 6) & 63], bit = 1ull << (page & 63);
    bool was = *word & bit;

    if (set)
        *word |= bit;
    return was;
}

static bool is_local(unsigned kind, bool global)
{
    return kind != INTERP_TLB_USER && !global; /* the user's have the salt */
}

void bt_add_jump(struct bt *bt, unsigned kind, uint64_t rip, uint64_t code, bool global)
{
    struct bt_jumps *jumps = &bt->region->jumps[kind];
    unsigned i = index_of(rip);

    jumps->code[i] = code;
    jumps->rip[i] = bt->region->salt[kind] - rip;
    page_bit(bt, rip >> HV_PAGE_SHIFT, true);
    if (!is_local(kind, global))
        return;
    if (bt->nr_jumps < BT_LOGGED)
        bt->jumped[bt->nr_jumps] = (uint16_t)(i << 2 | kind);
    if (bt->nr_jumps <= BT_LOGGED)
        bt->nr_jumps++;
}

void bt_drop_local_jumps(struct bt *bt)
{
    if (bt->nr_jumps > BT_LOGGED) {
        bt_clear_jumps(bt);
        return;
    }
    for (unsigned i = 0; i < bt->nr_jumps; i++)
        empty_jump(bt, bt->jumped[i] & 3, bt->jumped[i] >> 2);
    bt->nr_jumps = 0;
}

void bt_drop_jump(struct bt *bt, const struct bt_block *b)
{
    unsigned index = index_of(b->rip);
    uint64_t here = (uint64_t)(uintptr_t)(bt->code + b->head);

    if (bt->region->jumps[b->kind].code[index] == here)
        empty_jump(bt, b->kind, index);
}

/* The entries of a page are neighbours. */
static void drop_jumps_in(struct bt *bt, uint64_t page)
{
    unsigned first = index_of(page << HV_PAGE_SHIFT);
    uint64_t mask = ~0ull >> 16;

    if (!page_bit(bt, page, false))
        return;
    for (unsigned kind = 0; kind < BT_KINDS; kind++) {
        uint64_t *tags = bt->region->jumps[kind].rip;

        for (unsigned i = first; i < first + (HV_PAGE_SIZE >> BT_JUMP_SHIFT); i++)
            if (((-tags[i] & mask) >> HV_PAGE_SHIFT) == (page & (mask >> HV_PAGE_SHIFT)))
                empty_jump(bt, kind, i);
    }
}

/* The last instruction of the page before may reach into this one. */
void bt_drop_jumps_of_page(struct bt *bt, uint64_t page)
{
    drop_jumps_in(bt, page);
    drop_jumps_in(bt, page - 1);
}

bool bt_find_jump(const struct bt *bt, unsigned kind, uint64_t rip, uint64_t *code)
{
    const struct bt_jumps *jumps = &bt->region->jumps[kind];
    unsigned i = index_of(rip);

    if (jumps->rip[i] + rip != bt->region->salt[kind])
        return false;
    *code = jumps->code[i];
    return true;
}
