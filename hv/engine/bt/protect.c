/* Stores of translated code to pages that hold translated code: they must not hit the TLB. */
#include "config.h"

#include "hv/engine/bt/bt.h"

#include <sched.h>

static uint64_t my_bit(const struct bt *bt)
{
    return 1ull << (bt->x->v->id & 63);
}

static uint64_t host_of(const struct bt *bt, uint64_t gfn)
{
    return (uint64_t)(uintptr_t)bt->x->mem_base + (gfn << HV_PAGE_SHIFT);
}

/* Notes an entry that is about to be writable; @first: the page has had none since they were last
 * dropped. */
static void note_writable(struct bt *bt, const struct bt_writable *now, bool first)
{
    struct bt_writable *w = &bt->writable[now->gfn & (BT_WRITABLE - 1)];
    bool same = w->gfn == now->gfn && w->alone && w->kind == now->kind && w->index == now->index;

    *w = *now;
    w->alone = first || same;
}

bool bt_take_writable(struct bt *bt, uint64_t gfn, unsigned kind, unsigned index)
{
    struct hv_codemap *map = bt->x->v->domain->mem.code;
    const struct bt_writable now = {.gfn = gfn, .kind = (uint8_t)kind, .index = (uint16_t)index};
    bool first = !(__atomic_load_n(&map->writers[gfn], __ATOMIC_RELAXED) & my_bit(bt));

    if (__atomic_load_n(&map->lines[gfn], __ATOMIC_RELAXED))
        return false;
    note_writable(bt, &now, first);
    if (first)
        __atomic_fetch_or(&map->writers[gfn], my_bit(bt), __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&map->lines[gfn], __ATOMIC_SEQ_CST))
        return false;
    /* With a log to read, the running code may be stale and what is stored now be meant to replace it. */
    return __atomic_load_n(&map->log_head, __ATOMIC_RELAXED) == bt->log_seen;
}

static void drop_entry(struct bt_tlb *tlb, unsigned i, uint64_t host)
{
    if (tlb->host[i] == host) /* any tag that its index does not match */
        tlb->write[i] = -((uint64_t)(i ^ 1) << HV_PAGE_SHIFT);
}

static void drop_everywhere(struct bt *bt, uint64_t host)
{
    for (unsigned kind = 0; kind < BT_KINDS; kind++)
        for (unsigned i = 0; i < BT_TLB_ENTRIES; i++)
            drop_entry(&bt->region->tlb[kind], i, host);
}

/* Entries that are put aside are looked at anew when they come back. */
static void drop_writable(struct bt *bt, uint64_t gfn)
{
    const struct bt_writable *w = &bt->writable[gfn & (BT_WRITABLE - 1)];

    if (w->gfn == gfn && w->alone)
        drop_entry(&bt->region->tlb[w->kind], w->index, host_of(bt, gfn));
    else
        drop_everywhere(bt, host_of(bt, gfn));
    __atomic_fetch_and(&bt->x->v->domain->mem.code->writers[gfn], ~my_bit(bt), __ATOMIC_SEQ_CST);
}

void bt_protect_own(struct bt *bt, uint64_t gfn)
{
    struct hv_codemap *map = bt->x->v->domain->mem.code;

    if (!(__atomic_load_n(&map->writers[gfn], __ATOMIC_SEQ_CST) & my_bit(bt)))
        return;
    drop_writable(bt, gfn);
    if (__atomic_load_n(&map->lines[gfn], __ATOMIC_SEQ_CST))
        hv_codemap_retire(map, gfn); /* another vCPU has its request to us still under way */
}

void bt_protect_others(struct bt *bt, uint64_t gfn)
{
    struct hv_codemap *map = bt->x->v->domain->mem.code;

    if (__atomic_load_n(&map->writers[gfn], __ATOMIC_SEQ_CST) & ~my_bit(bt)) {
        hv_codemap_add_log(map, gfn, HV_CODEMAP_PROTECT);
        bt_poke_others(bt);
    }
}

/* ---- code that is being written */

#define RUN_AT_FIRST 1u
#define RUN_AT_MOST  1024u
#define STEP_BYTES   16u /* from one store to the next */

void bt_note_store(struct bt *bt, uint64_t gpa)
{
    struct hv_codemap *map = bt->x->v->domain->mem.code;
    uint64_t gfn = gpa >> HV_PAGE_SHIFT;
    struct bt_written *w = &bt->written[gfn % BT_WRITTEN];
    uint64_t lines = __atomic_load_n(&map->lines[gfn], __ATOMIC_RELAXED);

    if (!lines)
        return;
    if (w->gfn != gfn || !w->wanted)
        *w = (struct bt_written){.gfn = gfn, .wanted = RUN_AT_FIRST};
    w->run = gpa > w->last && gpa - w->last <= STEP_BYTES ? w->run + 1 : 0;
    w->last = gpa;
    w->lines |= 1ull << hv_codemap_line(gpa);
    if (w->run < w->wanted)
        return;
    w->former = lines & ~w->lines;
    w->run = 0;
    hv_codemap_retire(map, gfn);
    bt_poke_others(bt);
}

/* What had not been written runs again: the page has code and data that both are in use. */
void bt_note_code(struct bt *bt, uint64_t gpa)
{
    struct bt_written *w = &bt->written[(gpa >> HV_PAGE_SHIFT) % BT_WRITTEN];

    if (w->gfn != gpa >> HV_PAGE_SHIFT || !w->wanted)
        return;
    if ((w->former >> hv_codemap_line(gpa) & 1) && w->wanted < RUN_AT_MOST)
        w->wanted *= 2;
    w->former = w->lines = 0;
    w->run = 0;
}

/* ---- requests of others */

static void serve(struct bt *bt, uint64_t entry)
{
    struct hv_codemap *map = bt->x->v->domain->mem.code;
    uint64_t gfn = entry & 0xfffffff;

    if (!(entry & HV_CODEMAP_PROTECT)) {
        bt_drop_stale_page(bt, gfn);
    } else if (__atomic_load_n(&map->writers[gfn], __ATOMIC_SEQ_CST) & my_bit(bt)) {
        drop_writable(bt, gfn);
        hv_codemap_retire(map, gfn); /* what has been stored meanwhile nobody saw */
        bt_poke_others(bt);
    }
}

/* Requests have been lost: nobody knows which code is current. */
static void lost_requests(struct bt *bt, struct hv_codemap *map)
{
    bt->all_flushes_seen = bt->x->all_flushes - 1; /* the TLB goes */
    bt_switch_space(bt);
    bt->log_seen = __atomic_load_n(&map->log_head, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&map->flush_epoch, 1, __ATOMIC_SEQ_CST);
    bt_poke_others(bt);
}

/* The next request; above 0 when it has been overwritten. One that is not written yet is waited for: behind it may be
 * our own, and to go on without that would run what we have just stored over. */
static int32_t age_of_request(const struct bt *bt, const struct hv_codemap *map, uint64_t *entry)
{
    int32_t age;

    for (;;) {
        *entry = __atomic_load_n(&map->log[bt->log_seen % HV_CODEMAP_LOG], __ATOMIC_ACQUIRE);
        age = (int32_t)((uint32_t)(*entry >> 32) - (uint32_t)bt->log_seen);
        if (age >= 0)
            return age;
        sched_yield(); /* whoever writes it may have lost its processor */
    }
}

void bt_read_log(struct bt *bt)
{
    struct hv_codemap *map = bt->x->v->domain->mem.code;
    uint64_t epoch;

    while (bt->log_seen != __atomic_load_n(&map->log_head, __ATOMIC_SEQ_CST)) {
        uint64_t entry = 0;
        int32_t age = age_of_request(bt, map, &entry);

        if (age > 0 ||
            __atomic_load_n(&map->log_head, __ATOMIC_SEQ_CST) - bt->log_seen > HV_CODEMAP_LOG) {
            lost_requests(bt, map);
            break;
        }
        bt->log_seen++;
        serve(bt, entry);
    }
    epoch = __atomic_load_n(&map->flush_epoch, __ATOMIC_SEQ_CST);
    if (epoch != bt->epoch_seen) {
        bt->epoch_seen = epoch;
        bt_cache_flush(bt);
    }
}
