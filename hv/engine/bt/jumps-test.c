/* The jump cache against a plain list: what a flush of a page forgets, however many pages and programs there were. */
#include "config.h"

#include <stdlib.h>

#include "hv/engine/bt/bt.h"
#include "hv/tap.h"

#define ROUNDS  40000u
#define PAGES   6000u
#define KERNEL  0xffffffff81000000ull
#define PROGRAM 0x00007f1234560000ull

static uint64_t state = 88172645463325252ull;

static uint64_t any(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state % below;
}

static uint64_t any_page(unsigned kind)
{
    return ((kind < BT_USER ? KERNEL : PROGRAM) >> HV_PAGE_SHIFT) + any(PAGES);
}

/* Whether either level has an address from @first to @last. */
static bool has(const struct bt *bt, unsigned kind, uint64_t first, uint64_t last)
{
    for (uint64_t rip = first; rip <= last; rip++) {
        uint64_t tag = bt->region->salt[kind] - rip;

        if (bt->region->jumps[kind].rip[bt_jump_index(rip)] == -rip || bt->region->fars[kind].rip[bt_far_index(rip)] == tag)
            return true;
    }
    return false;
}

/* Whether @page, and what reaches into it, is forgotten in all kinds. */
static bool is_gone(const struct bt *bt, uint64_t page)
{
    uint64_t first = page << HV_PAGE_SHIFT;
    bool there = false;

    for (unsigned kind = 0; kind < BT_CODE_KINDS; kind++)
        there |= has(bt, kind, first - 14, first + HV_PAGE_SIZE - 1);
    return !there;
}

static struct bt *make(void)
{
    struct bt *bt = calloc(1, sizeof(*bt));

    hv_assert(bt);
    bt->region = calloc(1, sizeof(*bt->region));
    hv_assert(bt->region);
    bt_clear_jumps(bt);
    for (unsigned kind = BT_USER; kind < BT_CODE_KINDS; kind++)
        bt->region->salt[kind] = (uint64_t)(kind + 1) << 48;
    return bt;
}

static void test_flushes(struct bt *bt)
{
    unsigned left = 0, found = 0, drops = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned kind = (unsigned)any(BT_CODE_KINDS);
        uint64_t rip = (any_page(kind) << HV_PAGE_SHIFT) + any(HV_PAGE_SIZE);
        uint64_t page = i % 4 ? 0 : any_page((unsigned)any(BT_CODE_KINDS)), code;

        bt_add_jump(bt, kind, rip, i + 1, true);
        found += !bt_jump_index(rip) || (bt_find_jump(bt, kind, rip, &code) && code == i + 1);
        if (i % 4)
            continue;
        bt_drop_jumps_of_page(bt, page);
        left += !is_gone(bt, page);
        drops++;
    }
    TAP_OK(found == ROUNDS, "what is added is found (%u of %u)", found, ROUNDS);
    TAP_OK(left == 0, "what is flushed is forgotten (%u of %u pages are not)", left, drops);
}

/* A page that was flushed has code again, and what is beside it stays. */
static void test_one_page(struct bt *bt)
{
    const uint64_t page = KERNEL + 0x5000000;
    uint64_t code;

    bt_clear_jumps(bt);
    for (unsigned round = 0; round < 3; round++) {
        bt_add_jump(bt, 0, page + 0x804, round + 1, true);
        bt_add_jump(bt, 0, page - 0x204, 77, true);
        bt_add_jump(bt, 0, page - 4, 78, true);
        bt_add_jump(bt, 0, page + HV_PAGE_SIZE, 79, true);
        bt_drop_jumps_of_page(bt, page >> HV_PAGE_SHIFT);
        TAP_OK(!bt_find_jump(bt, 0, page + 0x804, &code) && !bt_find_jump(bt, 0, page - 4, &code),
               "the page's and what may reach into it, round %u", round);
        TAP_OK(bt_find_jump(bt, 0, page - 0x204, &code) && code == 77 &&
                   bt_find_jump(bt, 0, page + HV_PAGE_SIZE, &code) && code == 79,
               "its neighbours' stay");
    }
}

int main(void)
{
    struct bt *bt = make();

    test_flushes(bt);
    test_one_page(bt);
    free(bt->region);
    free(bt);
    return tap_done();
}
