/* The jump cache: from linear address to translated code, for what is not linked. */
#include "config.h"

#include "hv/engine/bt/bt.h"

#include <string.h>

/* A tag that no address of the index matches. */
static void empty_jump(struct bt *bt, unsigned kind, unsigned index)
{
    bt->region->jumps[kind].rip[index] = -((uint64_t)(index ^ 1) << BT_JUMP_SHIFT);
}

/* The same; 0 does but for the index of address 0. */
static void empty_far(struct bt *bt, unsigned kind, unsigned index)
{
    bt->region->fars[kind].rip[index] = index == bt_far_index(0) ? -(1ull << BT_JUMP_SHIFT) : 0;
}

static void clear_jumps(struct bt *bt, unsigned kind)
{
    for (unsigned i = 0; i < BT_JUMPS; i++)
        empty_jump(bt, kind, i);
    bt->jumps_used[kind] = false;
}

void bt_clear_jumps(struct bt *bt)
{
    for (unsigned kind = 0; kind < BT_CODE_KINDS; kind++) {
        clear_jumps(bt, kind);
        if (bt->fars_used[kind])
            memset(bt->region->fars[kind].rip, 0, sizeof(bt->region->fars[kind].rip));
        bt->fars_used[kind] = false;
        empty_far(bt, kind, bt_far_index(0));
    }
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

/* Notes an entry of the kernel's that other address spaces do not have. */
static void note_local(struct bt *bt, unsigned kind, uint64_t rip)
{
    if (bt->nr_jumps < BT_LOGGED)
        bt->jumped[bt->nr_jumps] = (struct bt_jumped){.rip = rip, .kind = (uint8_t)kind};
    if (bt->nr_jumps <= BT_LOGGED)
        bt->nr_jumps++;
}

void bt_add_jump(struct bt *bt, unsigned kind, uint64_t rip, uint64_t code, bool global)
{
    struct bt_jumps *jumps = &bt->region->jumps[kind];
    struct bt_far *fars = &bt->region->fars[kind];

    if (bt_jump_index(rip)) { /* where a kick makes all look, there is nothing */
        jumps->code[bt_jump_index(rip)] = code;
        jumps->rip[bt_jump_index(rip)] = -rip;
    }
    fars->code[bt_far_index(rip)] = code;
    fars->rip[bt_far_index(rip)] = bt->region->salt[kind] - rip;
    bt->jumps_used[kind] = bt->fars_used[kind] = true;
    page_bit(bt, rip >> HV_PAGE_SHIFT, true);
    if (kind < BT_USER && !global)
        note_local(bt, kind, rip);
}

/* Forgets @rip, whose tag is -rip, or salt - rip for any salt. */
static void drop_rip(struct bt *bt, unsigned kind, uint64_t rip)
{
    const uint64_t mask = ~0ull >> 16;
    unsigned near = bt_jump_index(rip), far = bt_far_index(rip);

    if (bt->region->jumps[kind].rip[near] == -rip)
        empty_jump(bt, kind, near);
    if (!((bt->region->fars[kind].rip[far] + rip) & mask))
        empty_far(bt, kind, far);
}

void bt_drop_local_jumps(struct bt *bt)
{
    if (bt->nr_jumps > BT_LOGGED) {
        bt_clear_jumps(bt);
        return;
    }
    for (unsigned i = 0; i < bt->nr_jumps; i++)
        drop_rip(bt, bt->jumped[i].kind, bt->jumped[i].rip);
    bt->nr_jumps = 0;
    for (unsigned kind = BT_USER; kind < BT_CODE_KINDS; kind++)
        if (bt->jumps_used[kind])
            clear_jumps(bt, kind);
}

void bt_drop_jump(struct bt *bt, const struct bt_block *b)
{
    uint64_t here = (uint64_t)(uintptr_t)(bt->code + b->body);
    unsigned near = bt_jump_index(b->rip), far = bt_far_index(b->rip);

    if (bt->region->jumps[b->kind].code[near] == here)
        empty_jump(bt, b->kind, near);
    if (bt->region->fars[b->kind].code[far] == here)
        empty_far(bt, b->kind, far);
}

/* Whether @tag is that of an address in the page, with any salt. */
static bool is_of_page(uint64_t tag, uint64_t page)
{
    const uint64_t mask = ~0ull >> 16;

    return ((-tag ^ page << HV_PAGE_SHIFT) & mask) >> HV_PAGE_SHIFT == 0;
}

/* The entries of a page are neighbours in both levels. */
static void drop_jumps_of_kind(struct bt *bt, unsigned kind, uint64_t page)
{
    const struct bt_jumps *jumps = &bt->region->jumps[kind];
    const struct bt_far *fars = &bt->region->fars[kind];
    unsigned near = bt_jump_index(page << HV_PAGE_SHIFT), far = bt_far_index(page << HV_PAGE_SHIFT);

    for (unsigned n = 0; n <= HV_PAGE_SIZE >> BT_JUMP_SHIFT; n++) {
        unsigned i = (near + n) & (BT_JUMPS - 1), k = (far + n) & (BT_FARS - 1);

        if (is_of_page(jumps->rip[i], page))
            empty_jump(bt, kind, i);
        if (is_of_page(fars->rip[k], page))
            empty_far(bt, kind, k);
    }
}

static void drop_jumps_in(struct bt *bt, uint64_t page)
{
    if (!page_bit(bt, page, false))
        return;
    for (unsigned kind = 0; kind < BT_CODE_KINDS; kind++)
        if (bt->fars_used[kind])
            drop_jumps_of_kind(bt, kind, page);
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
    unsigned i = bt_jump_index(rip);

    if (jumps->rip[i] != -rip)
        return false;
    *code = jumps->code[i];
    return true;
}
