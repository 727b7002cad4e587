/* Accesses whose addresses differ by constants, found by following the values of registers through
 * the block. The first member's look into the TLB serves for all of them, and it may be moved up to
 * where flags are dead. */
#include "config.h"

#include "hv/engine/bt/translate.h"

#include <stdlib.h>

#define MAX_SPAN 1024 /* the wider a group the more often it is in two pages */

/* ---- values */

/* The values of registers before an instruction: registers with the same root differ by their
 * offsets. */
struct bt_values {
    uint32_t root[17]; /* 16 is no register */
    int64_t offset[17];
};

static void follow_write(struct bt_values *v, unsigned reg, uint32_t *next_root)
{
    v->root[reg] = (*next_root)++;
    v->offset[reg] = 0;
}

static int64_t moved_stack(const struct bt_translation *t, const struct bt_insn *in)
{
    switch (in->class) {
    case BT_PUSH:
    case BT_PUSHF:
    case BT_CALL:
        return -(int64_t)t->word;
    case BT_POP:
        return t->word;
    default:
        return 0;
    }
}

static int64_t added(const struct bt_translation *t, const struct bt_insn *in)
{
    return in->d->adds * (in->d->imm_bytes[0] ? bt_imm_of(t, in) : 1);
}

/* @v: before the instruction; becomes the values after it. */
static void follow(const struct bt_translation *t, struct bt_values *v, const struct bt_insn *in,
                   uint32_t *next_root)
{
    const struct bt_decoded *d = in->d;
    unsigned from = d->copies_from;

    if (d->adds) {
        v->offset[d->reg0] += added(t, in);
        return;
    }
    if (from < 16) {
        v->root[d->reg0] = v->root[from];
        v->offset[d->reg0] = v->offset[from] + bt_disp_of(t, in);
        return;
    }
    for (unsigned set = d->follows; set; set &= set - 1)
        follow_write(v, (unsigned)__builtin_ctz(set), next_root);
    v->offset[HV_RSP] += moved_stack(t, in);
}

/* ---- groups */

static int64_t distance(const struct bt_values *v, const struct bt_ref *ref)
{
    return ref->disp + v->offset[ref->base] + v->offset[ref->index] * (1 << ref->scale);
}

static bool aligns(const struct bt_group *g, const struct bt_ref *ref, int64_t lo)
{
    if (ref->align == 1 || g->align == 1)
        return true;
    return ref->align == g->align && (lo - g->align_offset) % g->align == 0;
}

static bool fits(const struct bt_group *g, const struct bt_values *v, const struct bt_ref *ref,
                 unsigned exits, unsigned gs_version)
{
    int64_t lo = distance(v, ref), hi = lo + ref->bytes;

    return g->base_root == v->root[ref->base] && g->index_root == v->root[ref->index] &&
           g->scale == ref->scale && g->segment == ref->segment &&
           (!ref->segment || g->gs_version == gs_version) &&
           (lo < g->lo ? lo : g->lo) + MAX_SPAN >= (hi > g->hi ? hi : g->hi) &&
           aligns(g, ref, lo) && (g->write || !ref->write || g->exits == exits);
}

static void join(struct bt_group *g, const struct bt_values *v, const struct bt_ref *ref)
{
    int64_t lo = distance(v, ref);

    if (lo < g->lo)
        g->lo = lo;
    if (lo + ref->bytes > g->hi)
        g->hi = lo + ref->bytes;
    if (ref->align > 1) {
        g->align = ref->align;
        g->align_offset = lo;
    }
    g->write |= ref->write;
    g->members++;
}

/* R10 and R11 are loaded from their slots, and there is one register for that. */
static bool can_be_member(const struct bt_translation *t, const struct bt_ref *ref)
{
    return !(t->code32 && ref->segment) && !ref->absolute && !ref->computed &&
           !(bt_in_slot(ref->base) && bt_in_slot(ref->index) && ref->base != ref->index);
}

/* @v: the values before @insn. */
static void add_ref(struct bt_translation *t, const struct bt_values *v, unsigned insn,
                    struct bt_ref *ref, unsigned exits, unsigned gs_version)
{
    struct bt_group *g;

    ref->group = BT_NO_GROUP;
    if (!can_be_member(t, ref))
        return;
    for (unsigned i = 0; i < t->nr_groups; i++)
        if (fits(&t->groups[i], v, ref, exits, gs_version)) {
            ref->group = (uint8_t)i;
            join(&t->groups[i], v, ref);
            return;
        }
    if (t->nr_groups == BT_GROUPS)
        return;
    ref->group = (uint8_t)t->nr_groups;
    g = &t->groups[t->nr_groups++];
    *g = (struct bt_group){
        .base_root = v->root[ref->base],
        .index_root = v->root[ref->index],
        .scale = ref->scale,
        .segment = ref->segment,
        .gs_version = (uint8_t)gs_version,
        .base = ref->base,
        .index = ref->index,
        .align = 1,
        .exits = exits,
        .first = insn,
        .base_offset = v->offset[ref->base],
        .index_offset = v->offset[ref->index],
        .lo = distance(v, ref),
        .hi = distance(v, ref) + ref->bytes,
    };
    join(g, v, ref);
}

/* Undoes what the instruction does to a register of the group; false if it gets another value. */
static bool goes_back(const struct bt_translation *t, const struct bt_insn *in, unsigned reg,
                      int64_t *offset)
{
    const struct bt_decoded *d = in->d;

    if (reg == 16)
        return true;
    if (d->adds && d->reg0 == reg)
        *offset -= added(t, in);
    else if ((d->copies_from < 16 && d->reg0 == reg) || (!d->adds && d->follows >> reg & 1))
        return false;
    if (reg == HV_RSP)
        *offset -= moved_stack(t, in);
    return true;
}

static bool changes_segment(const struct bt_insn *in)
{
    return in->class == BT_SWAPGS;
}

/* Whether the group's look may not be moved up above @insn: behind a conditional jump there may be
 * a pointer which that found to be good. */
static bool is_barrier(const struct bt_translation *t, const struct bt_group *g, unsigned insn)
{
    const struct bt_insn *in = &t->insns[insn];

    return in->class == BT_JCC || (g->segment && changes_segment(in));
}

bool bt_is_loop(const struct bt_translation *t)
{
    const struct bt_insn *last = t->nr_insns ? &t->insns[t->nr_insns - 1] : NULL;

    return last && !t->code32 && !t->block->ungrouped && t->block->gfn2 == BT_NO_GFN &&
           (last->class == BT_JCC || (last->class == BT_JMP && bt_is_direct(last))) &&
           bt_target_of(t, last) == t->block->rip;
}

/* By how much @reg, which had its own value at the block's start, has moved at its end. */
static bool find_stride(const struct bt_values *end, unsigned reg, uint32_t root, int64_t *stride)
{
    *stride = end->offset[reg];
    return root == reg && end->root[reg] == reg && !bt_in_slot(reg);
}

/* Whether the group can be looked up once for several times round. */
static bool can_loop(const struct bt_translation *t, const struct bt_values *end,
                     struct bt_group *g)
{
    int64_t base, index;

    if (!t->insns[0].flags_dead || !find_stride(end, g->base, g->base_root, &base) ||
        !find_stride(end, g->index, g->index_root, &index))
        return false;
    for (unsigned i = 0; i < g->first; i++)
        if (is_barrier(t, g, i))
            return false;
    g->stride = base + index * (1 << g->scale);
    if (g->stride && g->index != 16 && g->members == 1)
        return false; /* the comparison would be no shorter than the look into the TLB */
    return llabs(g->stride) < (int64_t)HV_PAGE_SIZE && g->stride % g->align == 0 &&
           !(g->segment && g->stride);
}

/* The last place before the first member where flags are dead and its registers, but for constants,
 * are what they are there. False if there is none. */
static bool find_place(const struct bt_translation *t, struct bt_group *g)
{
    int64_t base = g->base_offset, index = g->index_offset;

    for (unsigned i = g->first; i-- > 0;) {
        const struct bt_insn *in = &t->insns[i];

        if (!goes_back(t, in, g->base, &base) || !goes_back(t, in, g->index, &index) ||
            is_barrier(t, g, i))
            return false;
        if (in->flags_dead) {
            g->at = i;
            g->base_offset = base;
            g->index_offset = index;
            return true;
        }
    }
    return false;
}

/* Where the group is looked up: as late as possible, but with dead flags. */
static void place_group(struct bt_translation *t, const struct bt_values *end, struct bt_group *g)
{
    int64_t lo = g->lo - (g->lo - g->align_offset) % g->align;

    g->lo = lo > g->lo ? lo - g->align : lo;
    g->at = g->first;
    g->wanted = true;
    if (bt_is_loop(t) && can_loop(t, end, g)) {
        g->loops = true;
        g->at = 0;
        g->base_offset = g->index_offset = 0;
    } else if (t->insns[g->first].flags_dead) {
        g->wanted = g->members > 1;
    } else if (!find_place(t, g)) {
        g->neutral = true;
        g->wanted = g->members > 1;
    }
}

void bt_find_groups(struct bt_translation *t)
{
    unsigned exits = 0, gs_version = 0;
    uint32_t next_root = 17;
    struct bt_values v = {0};

    t->nr_groups = 0;
    for (unsigned i = 0; i < 17; i++)
        v.root[i] = i;
    for (unsigned i = 0; i < t->nr_insns; i++) {
        struct bt_insn *in = &t->insns[i];

        for (unsigned k = 0; k < in->nr_refs; k++) {
            if (t->block->ungrouped)
                in->refs[k].group = BT_NO_GROUP;
            else
                add_ref(t, &v, i, &in->refs[k], exits, gs_version);
        }
        exits += in->class == BT_JCC;
        gs_version += changes_segment(in);
        follow(t, &v, in, &next_root);
    }
    for (unsigned i = 0; i < t->nr_groups; i++)
        place_group(t, &v, &t->groups[i]);
    for (unsigned i = 0; i < t->nr_insns; i++)
        for (unsigned k = 0; k < t->insns[i].nr_refs; k++) {
            struct bt_ref *ref = &t->insns[i].refs[k];

            if (ref->group != BT_NO_GROUP && !t->groups[ref->group].wanted)
                ref->group = BT_NO_GROUP;
        }
}
