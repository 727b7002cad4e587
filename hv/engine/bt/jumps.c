/* The jump cache: from linear address to translated code, for what is not linked. */
#include "config.h"

#include "hv/engine/bt/bt.h"

#include <string.h>

#define ADDRESS_MASK (~0ull >> 16)
#define SHARED_MAX   (1u << (BT_PAGES_BITS - 3))
#define LINE_SHIFT   8
#define LINES_MASK   0xffffull
#define LAST_LINE    0x8000ull
#define SHARED       (~0ull & ~LINES_MASK) /* in place of a page: there were several */

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

/* ---- which pages there may be entries of */

static void clear_pages(struct bt_jump_pages *pages)
{
    memset(pages->slots, 0, sizeof(pages->slots));
    pages->shared = 0;
    pages->max_shared = SHARED_MAX;
}

/* The page of @rip, whose upper 16 bits do not matter, as slots have it. */
static uint64_t page_of(uint64_t rip)
{
    return (rip & ADDRESS_MASK) >> HV_PAGE_SHIFT << 16;
}

static uint64_t *slot_of(struct bt_jump_pages *pages, uint64_t page)
{
    /* 2^64 by the golden ratio spreads neighbours. */
    return &pages->slots[(page >> 16) * 0x9e3779b97f4a7c15 >> (64 - BT_PAGES_BITS)];
}

static void note_page(struct bt_jump_pages *pages, uint64_t rip)
{
    uint64_t page = page_of(rip), *slot = slot_of(pages, page), there = *slot & ~LINES_MASK;

    if (!(*slot & LINES_MASK)) {
        *slot = page;
    } else if (there != page && there != SHARED) {
        *slot |= SHARED;
        pages->shared++;
    }
    *slot |= 1ull << ((rip & HV_PAGE_MASK) >> LINE_SHIFT);
}

/* Those @lines of the page at @rip that there may be entries of, all of which are about to be dropped. */
static uint64_t take_lines(struct bt_jump_pages *pages, uint64_t rip, uint64_t lines)
{
    uint64_t page = page_of(rip), *slot = slot_of(pages, page), there = *slot & ~LINES_MASK;

    lines &= there == page || there == SHARED ? *slot : 0;
    if (there == page)
        *slot &= ~lines;
    return lines;
}

/* Programs come and go: what they leave behind is dropped before it makes all slots those of many pages. */
static void renew_pages(struct bt *bt, unsigned kind)
{
    struct bt_jump_pages *pages = &bt->jump_pages[kind];

    clear_pages(pages);
    for (unsigned i = 0; i < BT_JUMPS; i++)
        note_page(pages, -bt->region->jumps[kind].rip[i]);
    for (unsigned i = 0; i < BT_FARS; i++)
        if (bt->region->fars[kind].rip[i])
            note_page(pages, -bt->region->fars[kind].rip[i]);
    if (pages->max_shared < 2 * pages->shared)
        pages->max_shared = 2 * pages->shared;
}

/* ---- entries */

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
        clear_pages(&bt->jump_pages[kind]);
    }
    bt->nr_jumps = 0;
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
    note_page(&bt->jump_pages[kind], rip);
    if (bt->jump_pages[kind].shared > bt->jump_pages[kind].max_shared)
        renew_pages(bt, kind);
    if (kind < BT_USER && !global)
        note_local(bt, kind, rip);
}

/* Forgets @rip, whose tag is -rip, or salt - rip for any salt. */
static void drop_rip(struct bt *bt, unsigned kind, uint64_t rip)
{
    unsigned near = bt_jump_index(rip), far = bt_far_index(rip);

    if (bt->region->jumps[kind].rip[near] == -rip)
        empty_jump(bt, kind, near);
    if (!((bt->region->fars[kind].rip[far] + rip) & ADDRESS_MASK))
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

#define LINE_JUMPS (1u << LINE_SHIFT >> BT_JUMP_SHIFT)

/* Whether @tag, which is -address but for the upper 16 bits, is that of an address in the line whose last one is @last. */
static bool is_of_line(uint64_t tag, uint64_t last)
{
    return (tag + last) << 16 < 1ull << LINE_SHIFT << 16;
}

/* The entries of a line are neighbours in both levels; in the second, which adds a part of the address, from any place on. */
static void drop_jumps_of_line(struct bt *bt, unsigned kind, uint64_t first)
{
    uint64_t last = first + (1u << LINE_SHIFT) - 1;
    const uint64_t *jumps = bt->region->jumps[kind].rip, *fars = bt->region->fars[kind].rip;
    unsigned near = bt_jump_index(first), far = bt_far_index(first);

    for (unsigned i = near; i < near + LINE_JUMPS; i++)
        if (is_of_line(jumps[i], last))
            empty_jump(bt, kind, i);
    for (unsigned n = 0; n <= LINE_JUMPS; n++) {
        unsigned i = (far + n) & (BT_FARS - 1);

        if (is_of_line(fars[i], last))
            empty_far(bt, kind, i);
    }
}

static void drop_jumps_in(struct bt *bt, uint64_t page, uint64_t which)
{
    for (unsigned kind = 0; kind < BT_CODE_KINDS; kind++) {
        uint64_t lines = take_lines(&bt->jump_pages[kind], page << HV_PAGE_SHIFT, which);

        for (unsigned line = 0; lines; line++, lines >>= 1)
            if (lines & 1)
                drop_jumps_of_line(bt, kind, (page << HV_PAGE_SHIFT) + (line << LINE_SHIFT));
    }
}

/* The last instruction of the page before may reach into this one. */
void bt_drop_jumps_of_page(struct bt *bt, uint64_t page)
{
    drop_jumps_in(bt, page, LINES_MASK);
    drop_jumps_in(bt, page - 1, LAST_LINE);
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
