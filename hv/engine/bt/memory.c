/* The software TLB and the jump cache of translated code, by address space. */
#include "config.h"

#include "hv/engine/bt/bt.h"

#include <string.h>
#include <sys/mman.h>

#include "hv/engine/interp/mem.h"
#include "hv/x86/linear.h"
#include "hv/x86/xstate.h"

/* ---- regions */

static uint64_t no_page(unsigned index)
{
    return -((uint64_t)(index ^ 1) << HV_PAGE_SHIFT);
}

/* An address whose index in the jump cache is another one. */
static uint64_t no_rip(unsigned index)
{
    return -(uint64_t)(index ^ 1);
}

static void empty_page(struct bt_region *r, unsigned kind, unsigned index)
{
    r->tlb[kind].read[index] = r->tlb[kind].write[index] = no_page(index);
}

static void empty_jump(struct bt_region *r, unsigned kind, unsigned index)
{
    r->jumps[kind].rip[index] = no_rip(index);
}

static void empty_all(struct bt_region *r)
{
    for (unsigned kind = 0; kind < BT_KINDS; kind++) {
        for (unsigned i = 0; i < BT_TLB_ENTRIES; i++)
            empty_page(r, kind, i);
        for (unsigned i = 0; i < BT_JUMPS; i++)
            empty_jump(r, kind, i);
    }
}

static void empty_jumps(struct bt_region *r)
{
    if (r->nr_jumps <= BT_LOGGED) {
        for (unsigned i = 0; i < r->nr_jumps; i++)
            empty_jump(r, r->jumped[i] & 3, r->jumped[i] >> 2);
    } else {
        for (unsigned kind = 0; kind < BT_KINDS; kind++)
            for (unsigned i = 0; i < BT_JUMPS; i++)
                empty_jump(r, kind, i);
    }
    r->nr_jumps = 0;
    memset(r->jump_pages, 0, sizeof(r->jump_pages));
}

static void empty_pages(struct bt_region *r)
{
    if (r->nr_filled <= BT_LOGGED) {
        for (unsigned i = 0; i < r->nr_filled; i++)
            empty_page(r, r->filled[i] & 3, r->filled[i] >> 2);
    } else {
        for (unsigned kind = 0; kind < BT_KINDS; kind++)
            for (unsigned i = 0; i < BT_TLB_ENTRIES; i++)
                empty_page(r, kind, i);
    }
    r->nr_filled = 0;
}

static struct bt_region *new_region(struct bt *bt)
{
    struct bt_region *r =
        mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (r == MAP_FAILED)
        return NULL;
    r->cpu = (uint64_t)(uintptr_t)&bt->x->v->cpu;
    r->attention = (uint64_t)(uintptr_t)&bt->x->v->attention;
    r->tlb_mask = BT_TLB_MASK;
    r->jump_mask = BT_JUMP_MASK;
    r->page_mask = ~(uint64_t)HV_PAGE_MASK;
    r->page16_mask = r->page_mask | 15;
    r->sign_mask = 1ull << 63;
    r->arith_mask = INTERP_ARITH;
    r->host_mxcsr = HV_MXCSR_INIT;
    empty_all(r);
    return r;
}

struct bt_region *bt_region_now(struct bt *bt)
{
    struct interp *x = bt->x;
    unsigned slot = x->pcid_slot;
    struct bt_region *r = bt->regions[slot];

    if (!r) {
        r = bt->regions[slot] = new_region(bt);
        if (!r)
            return NULL;
    }
    if (r->serial != x->pcids[slot].serial) {
        empty_pages(r);
        empty_jumps(r);
        r->serial = x->pcids[slot].serial;
        bt->region_flushes++;
    }
    return r;
}

enum interp_tlb_kind bt_kind_now(const struct bt *bt)
{
    return (enum interp_tlb_kind)((bt->x->tlb - bt->x->tables[0]) / INTERP_TLB_ENTRIES);
}

/* ---- the TLB */

static unsigned index_of(uint64_t va)
{
    return (va >> HV_PAGE_SHIFT) & (BT_TLB_ENTRIES - 1);
}

static uint64_t my_bit(const struct bt *bt)
{
    return 1ull << (bt->x->v->id & 63);
}

/* Notes an entry that is about to be writable; @first: the page has had none since they were last
 * dropped. */
static void note_writable(struct bt *bt, const struct bt_writable *now, bool first)
{
    struct bt_writable *w = &bt->writable[now->gfn & (BT_WRITABLE - 1)];
    bool same = w->gfn == now->gfn && w->alone && w->region == now->region &&
                w->kind == now->kind && w->index == now->index;

    *w = *now;
    w->alone = first || same;
}

/* Whether translated code may store through this entry without a look at the code map. */
static bool take_writable(struct bt *bt, const struct bt_writable *now)
{
    struct hv_codemap *map = bt->x->v->domain->mem.code;
    bool first = !(__atomic_load_n(&map->writers[now->gfn], __ATOMIC_RELAXED) & my_bit(bt));

    if (__atomic_load_n(&map->lines[now->gfn], __ATOMIC_RELAXED))
        return false;
    note_writable(bt, now, first);
    if (first)
        __atomic_fetch_or(&map->writers[now->gfn], my_bit(bt), __ATOMIC_SEQ_CST);
    return !__atomic_load_n(&map->lines[now->gfn], __ATOMIC_SEQ_CST);
}

/* Takes over what the interpreter's TLB has. */
static void copy_entry(struct bt *bt, struct bt_region *r, unsigned kind, uint64_t va)
{
    struct interp *x = bt->x;
    const struct interp_tlb_entry *e = interp_tlb_at(x, va);
    uint64_t tag = interp_tag(x, va, 1), page = va & ~(uint64_t)HV_PAGE_MASK;
    unsigned i = index_of(va);
    struct bt_tlb *tlb = &r->tlb[kind];
    uint64_t host = page + e->addend;
    const struct bt_writable now = {
        .gfn = (host - (uint64_t)(uintptr_t)x->mem_base) >> HV_PAGE_SHIFT,
        .region = (uint8_t)x->pcid_slot,
        .kind = (uint8_t)kind,
        .index = (uint16_t)i,
    };

    if (e->read != tag && e->write != tag)
        return;
    tlb->host[i] = host;
    tlb->read[i] = e->read == tag ? -page : no_page(i);
    tlb->write[i] = e->write == tag && take_writable(bt, &now) ? -page : no_page(i);
    if (r->nr_filled < BT_LOGGED)
        r->filled[r->nr_filled] = (uint16_t)(i << 2 | kind);
    if (r->nr_filled <= BT_LOGGED)
        r->nr_filled++;
    bt->tlb_fills++;
}

bool bt_fill(struct bt *bt, struct bt_region *r, const struct bt_site *site)
{
    struct bt_tlb *tlb = &r->tlb[site->kind];
    uint64_t *tags = site->write ? tlb->write : tlb->read;
    unsigned index = (unsigned)r->scratch15;
    uint64_t va = r->scratch14 - tags[index];
    struct interp *x = bt->x;
    const struct interp_tlb_entry *e;
    hv_gpa gpa;

    if (!hv_x86_canonical(va) || (va & HV_PAGE_MASK) + site->bytes > HV_PAGE_SIZE ||
        (site->aligned && (va & (site->bytes - 1u))))
        return false;
    e = interp_tlb_at(x, va);
    if ((site->write ? e->write : e->read) != interp_tag(x, va, 1) &&
        !interp_walk(x, NULL, va, site->write ? HV_ACCESS_WRITE : 0, &gpa))
        return false;
    copy_entry(bt, r, site->kind, va);
    return tags[index] == -(va & ~(uint64_t)HV_PAGE_MASK);
}

static void drop_jumps_of_page(struct bt_region *r, uint64_t page)
{
    if (!(r->jump_pages[(page >> 6) & 63] & (1ull << (page & 63))))
        return;
    empty_jumps(r);
}

void bt_page_flushed(struct interp *x, uint64_t va)
{
    struct bt *bt = bt_of(x);

    for (unsigned i = 0; i < INTERP_PCIDS; i++) {
        struct bt_region *r = bt->regions[i];

        if (!r)
            continue;
        for (unsigned kind = 0; kind < BT_KINDS; kind++)
            empty_page(r, kind, index_of(va));
        drop_jumps_of_page(r, va >> HV_PAGE_SHIFT);
    }
}

/* ---- stores to pages with code */

static void drop_in_table(struct bt_tlb *tlb, uint64_t host)
{
    for (unsigned i = 0; i < BT_TLB_ENTRIES; i++)
        if (tlb->host[i] == host)
            tlb->write[i] = no_page(i);
}

static void drop_everywhere(struct bt *bt, uint64_t host)
{
    for (unsigned i = 0; i < INTERP_PCIDS; i++)
        for (unsigned kind = 0; bt->regions[i] && kind < BT_KINDS; kind++)
            drop_in_table(&bt->regions[i]->tlb[kind], host);
}

void bt_drop_writable(struct bt *bt, uint64_t gfn)
{
    uint64_t host = (uint64_t)(uintptr_t)bt->x->mem_base + (gfn << HV_PAGE_SHIFT);
    const struct bt_writable *w = &bt->writable[gfn & (BT_WRITABLE - 1)];
    struct bt_tlb *tlb = w->alone ? &bt->regions[w->region]->tlb[w->kind] : NULL;

    if (w->gfn != gfn || !w->alone)
        drop_everywhere(bt, host);
    else if (tlb->host[w->index] == host)
        tlb->write[w->index] = no_page(w->index);
    __atomic_fetch_and(&bt->x->v->domain->mem.code->writers[gfn], ~my_bit(bt), __ATOMIC_SEQ_CST);
}

void bt_protect_own(struct bt *bt, uint64_t gfn)
{
    struct hv_codemap *map = bt->x->v->domain->mem.code;

    if (!(__atomic_load_n(&map->writers[gfn], __ATOMIC_SEQ_CST) & my_bit(bt)))
        return;
    bt_drop_writable(bt, gfn);
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

static void serve(struct bt *bt, uint64_t entry)
{
    struct hv_codemap *map = bt->x->v->domain->mem.code;
    uint64_t gfn = entry & 0xfffffff;

    if (!(entry & HV_CODEMAP_PROTECT)) {
        bt_drop_stale_page(bt, gfn);
    } else if (__atomic_load_n(&map->writers[gfn], __ATOMIC_SEQ_CST) & my_bit(bt)) {
        bt_drop_writable(bt, gfn);
        hv_codemap_retire(map, gfn); /* what has been stored meanwhile nobody saw */
        bt_poke_others(bt);
    }
}

/* Requests have been lost: nobody knows which code is current. */
static void lost_requests(struct bt *bt, struct hv_codemap *map)
{
    for (unsigned i = 0; i < INTERP_PCIDS; i++)
        if (bt->regions[i])
            bt->regions[i]->serial = 0;
    bt->log_seen = __atomic_load_n(&map->log_head, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&map->flush_epoch, 1, __ATOMIC_SEQ_CST);
    bt_poke_others(bt);
}

void bt_read_log(struct bt *bt)
{
    struct hv_codemap *map = bt->x->v->domain->mem.code;
    uint64_t epoch;

    while (bt->log_seen != __atomic_load_n(&map->log_head, __ATOMIC_SEQ_CST)) {
        uint64_t entry =
            __atomic_load_n(&map->log[bt->log_seen % HV_CODEMAP_LOG], __ATOMIC_ACQUIRE);
        int32_t age = (int32_t)((uint32_t)(entry >> 32) - (uint32_t)bt->log_seen);

        if (age > 0 ||
            __atomic_load_n(&map->log_head, __ATOMIC_SEQ_CST) - bt->log_seen > HV_CODEMAP_LOG) {
            lost_requests(bt, map);
            break;
        }
        if (age < 0) /* not written yet */
            break;
        bt->log_seen++;
        serve(bt, entry);
    }
    epoch = __atomic_load_n(&map->flush_epoch, __ATOMIC_SEQ_CST);
    if (epoch != bt->epoch_seen) {
        bt->epoch_seen = epoch;
        bt_cache_flush(bt);
    }
}

/* ---- the jump cache */

static unsigned jump_index(uint64_t rip)
{
    return (unsigned)(rip & BT_JUMP_MASK);
}

void bt_add_jump(struct bt_region *r, unsigned kind, uint64_t rip, uint64_t code)
{
    unsigned i = jump_index(rip);
    uint64_t page = rip >> HV_PAGE_SHIFT;

    r->jumps[kind].code[i] = code;
    r->jumps[kind].rip[i] = -rip;
    r->jump_pages[(page >> 6) & 63] |= 1ull << (page & 63);
    if (r->nr_jumps < BT_LOGGED)
        r->jumped[r->nr_jumps] = (uint16_t)(i << 2 | kind);
    if (r->nr_jumps <= BT_LOGGED)
        r->nr_jumps++;
}

void bt_drop_jump(struct bt *bt, const struct bt_block *b)
{
    unsigned index = jump_index(b->rip);

    for (unsigned i = 0; i < INTERP_PCIDS; i++)
        if (bt->regions[i] && bt->regions[i]->jumps[b->kind].rip[index] == -b->rip)
            empty_jump(bt->regions[i], b->kind, index);
}

bool bt_find_jump(const struct bt_region *r, unsigned kind, uint64_t rip, uint64_t *code)
{
    unsigned i = jump_index(rip);

    if (r->jumps[kind].rip[i] != -rip)
        return false;
    *code = r->jumps[kind].code[i];
    return true;
}

void bt_clear_jumps(struct bt *bt)
{
    for (unsigned i = 0; i < INTERP_PCIDS; i++)
        if (bt->regions[i])
            empty_jumps(bt->regions[i]);
}
