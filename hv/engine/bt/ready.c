/* Code of a guest that comes from elsewhere: which blocks it will want, and having them before it runs.
 *
 * What ran lately is in the jump cache, but for blocks that are jumped to from their own page only. So the places are those that
 * the jump cache has, and after them all other blocks of their pages, the newest first.
 *
 * A block is made of what is in memory at that time. If it is overwritten before the vCPU runs, the code map says so, as ever.
 */
#include "config.h"

#include "hv/engine/bt/bt.h"

#include <stdlib.h>
#include <time.h>

#define MODE_KIND      0xffu
#define MODE_TSD       (1u << 8)
#define MODE_SMAP      (1u << 9)
#define MODE_UNGROUPED (1u << 10)
#define PAGE_BITS      (1u << 14) /* of pages by the end of their number: others of the same are taken, too */

struct listing {
    const struct bt *bt;
    struct hv_code_place *list;
    size_t count, max;
    uint64_t *listed; /* a bit for each block */
    uint64_t pages[PAGE_BITS / 64];
};

static uint64_t *word_of(struct listing *l, const struct bt_block *b)
{
    return &l->pages[(b->gpa >> HV_PAGE_SHIFT) % PAGE_BITS / 64];
}

static uint64_t bit_of(const struct bt_block *b)
{
    return 1ull << (b->gpa >> HV_PAGE_SHIFT & 63);
}

static void add(struct listing *l, const struct bt_block *b)
{
    size_t index = (size_t)(b - l->bt->blocks);
    uint64_t mode = b->kind | (l->bt->tsd ? MODE_TSD : 0) | (l->bt->smap ? MODE_SMAP : 0) | (b->ungrouped ? MODE_UNGROUPED : 0);

    if (l->count == l->max || b->dead || b->gfn2 != BT_NO_GFN || (l->listed[index / 64] >> (index % 64) & 1))
        return;
    l->listed[index / 64] |= 1ull << (index % 64);
    l->list[l->count++] = (struct hv_code_place){b->gpa, b->rip, mode};
}

/* What an entry of the jump cache leads to. Entries that are empty have code that once was there, or 0. */
static void add_target(struct listing *l, uint64_t code)
{
    const struct bt *bt = l->bt;
    uint64_t offset = code - (uint64_t)(uintptr_t)bt->code;
    const struct bt_block *b;

    if (!code || !bt->nr_blocks || offset < bt->code_start || offset >= bt->code_used)
        return;
    b = bt_block_at(bt, (uint32_t)offset);
    if (b->body != offset)
        return;
    *word_of(l, b) |= bit_of(b);
    add(l, b);
}

static void add_pages(struct listing *l)
{
    const struct bt *bt = l->bt;

    for (uint32_t i = bt->nr_blocks; i-- > 0;) { /* the newest first */
        const struct bt_block *b = &bt->blocks[i];

        if (*word_of(l, b) & bit_of(b))
            add(l, b);
    }
}

size_t bt_list_code(struct hv_vcpu *v, struct hv_code_place *list, size_t max)
{
    const struct bt *bt = bt_of(v->engine_state);
    struct listing l = {.bt = bt, .list = list, .max = max};

    l.listed = calloc(bt->nr_blocks / 64 + 1, sizeof(uint64_t));
    if (!l.listed)
        return 0;
    for (unsigned kind = 0; kind < BT_CODE_KINDS; kind++) {
        for (unsigned i = 0; bt->jumps_used[kind] && i < BT_JUMPS; i++)
            add_target(&l, bt->region->jumps[kind].code[i]);
        for (unsigned i = 0; bt->fars_used[kind] && i < BT_FARS; i++)
            if (bt->region->fars[kind].rip[i])
                add_target(&l, bt->region->fars[kind].code[i]);
    }
    add_pages(&l);
    free(l.listed);
    return l.count;
}

/* ---- there */

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Whether there can be such code. */
static bool is_sound(const struct hv_memory *mem, const struct hv_code_place *place)
{
    return (place->mode & MODE_KIND) < BT_CODE_KINDS && !bt_may_cross(place->rip) &&
           !((place->gpa ^ place->rip) & HV_PAGE_MASK) && place->gpa >> HV_PAGE_SHIFT < mem->nr_gfns &&
           hv_memory_type(mem, hv_gfn_of(place->gpa >> HV_PAGE_SHIFT)) == HV_PAGE_RAM;
}

/* Code is for one setting of these; with another one, all of it would be dropped when it is to run. */
static bool fits(struct bt *bt, uint64_t mode)
{
    bool tsd = mode & MODE_TSD, smap = mode & MODE_SMAP;

    if (!bt->nr_blocks) {
        bt->tsd = tsd;
        bt->smap = smap;
    }
    return bt->tsd == tsd && bt->smap == smap;
}

void bt_prepare_code(struct hv_vcpu *v, const struct hv_code_place *list, size_t count, uint64_t deadline_ns)
{
    struct bt *bt = bt_of(v->engine_state);
    const struct hv_memory *mem = &v->domain->mem;

    for (size_t i = 0; i < count && now_ns() < deadline_ns; i++) {
        const struct hv_code_place *place = &list[i];

        if (is_sound(mem, place) && fits(bt, place->mode))
            bt_prepare_block(bt, place->gpa, mem->base + place->gpa, place->rip, place->mode & MODE_KIND,
                             place->mode & MODE_UNGROUPED);
    }
}
