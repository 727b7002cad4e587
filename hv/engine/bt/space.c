/* The software TLB of translated code, and what becomes of it when the address space changes. */
#include "config.h"

#include "hv/engine/bt/bt.h"

#include <errno.h>
#include <sys/mman.h>

#include "hv/engine/interp/mem.h"
#include "hv/x86/linear.h"
#include "hv/x86/xstate.h"

/* ---- entries */

static unsigned index_of(uint64_t va)
{
    return (va >> HV_PAGE_SHIFT) & (BT_TLB_ENTRIES - 1);
}

static uint64_t no_page(unsigned index)
{
    return -((uint64_t)(index ^ 1) << HV_PAGE_SHIFT);
}

static void empty_page(struct bt *bt, unsigned kind, unsigned index)
{
    struct bt_tlb *tlb = &bt->region->tlb[kind];

    tlb->read[index] = tlb->write[index] = no_page(index);
}

static bool is_global(const struct bt *bt, unsigned kind, unsigned index)
{
    return bt->global[kind][index / 64] >> (index % 64) & 1;
}

static void note_global(struct bt *bt, unsigned kind, unsigned index, bool global)
{
    uint64_t bit = 1ull << (index % 64);

    if (global)
        bt->global[kind][index / 64] |= bit;
    else
        bt->global[kind][index / 64] &= ~bit;
}

static void note_filled(struct bt *bt, unsigned kind, unsigned index)
{
    if (bt->nr_filled < BT_LOGGED)
        bt->filled[bt->nr_filled] = index << 2 | kind;
    if (bt->nr_filled <= BT_LOGGED)
        bt->nr_filled++;
}

static void set_entry(struct bt *bt, unsigned kind, uint64_t page, uint64_t addend, bool read,
                      bool write, bool global)
{
    struct bt_tlb *tlb = &bt->region->tlb[kind];
    unsigned i = index_of(page);
    uint64_t gfn = (page + addend - (uint64_t)(uintptr_t)bt->x->mem_base) >> HV_PAGE_SHIFT;

    tlb->host[i] = page + addend;
    tlb->addend[i] = addend;
    tlb->read[i] = read ? -page : no_page(i);
    tlb->write[i] = no_page(i);
    if (write && bt_take_writable(bt, gfn, kind, i))
        tlb->write[i] = -page;
    note_global(bt, kind, i, global);
    if (!global)
        note_filled(bt, kind, i);
}

/* ---- address spaces */

static void empty_all(struct bt *bt)
{
    for (unsigned kind = 0; kind < BT_KINDS; kind++)
        for (unsigned i = 0; i < BT_TLB_ENTRIES; i++)
            empty_page(bt, kind, i);
    bt->nr_filled = 0;
}

/* Puts the entry aside in @to, if it is there, and empties it. One that was never filled has page 0,
 * whose tag is that of no page at index 1. */
static void put_aside(struct bt *bt, struct bt_space *to, unsigned kind, unsigned i)
{
    struct bt_tlb *tlb = &bt->region->tlb[kind];
    uint64_t page = tlb->host[i] - tlb->addend[i];
    bool read = tlb->read[i] == -page, write = tlb->write[i] == -page;

    if (is_global(bt, kind, i) || index_of(page) != i || (!read && !write))
        return;
    if (to && to->nr_saved < BT_SAVED) {
        to->saved[to->nr_saved].page = page;
        to->saved[to->nr_saved].addend = tlb->addend[i];
        to->saved[to->nr_saved].kind = (uint8_t)kind;
        to->saved[to->nr_saved].read = read;
        to->saved[to->nr_saved].write = write;
        to->nr_saved++;
    }
    empty_page(bt, kind, i);
}

static void put_all_aside(struct bt *bt, struct bt_space *to)
{
    if (bt->nr_filled <= BT_LOGGED) {
        for (unsigned i = bt->nr_filled;
             i-- > 0;) /* the last ones first, should there be no room */
            put_aside(bt, to, bt->filled[i] & 3, bt->filled[i] >> 2);
    } else {
        for (unsigned kind = 0; kind < BT_KINDS; kind++)
            for (unsigned i = 0; i < BT_TLB_ENTRIES; i++)
                put_aside(bt, to, kind, i);
    }
    bt->nr_filled = 0;
}

static void put_back(struct bt *bt, struct bt_space *from)
{
    for (unsigned i = 0; i < from->nr_saved; i++)
        set_entry(bt, from->saved[i].kind, from->saved[i].page, from->saved[i].addend,
                  from->saved[i].read, from->saved[i].write, false);
    from->nr_saved = 0;
}

/* The place where the contents with number @serial belong, NULL if they are of no use any more. */
static struct bt_space *space_of(struct bt *bt, uint64_t serial)
{
    for (unsigned i = 0; i < INTERP_PCIDS; i++)
        if (bt->x->pcids[i].asid && bt->x->pcids[i].serial == serial) {
            struct bt_space *s = &bt->spaces[i];

            if (s->serial != serial) {
                s->serial = serial;
                s->nr_saved = 0;
            }
            return s;
        }
    return NULL;
}

/* Tags of user code are those of one address space: two of them differ in the upper 16 bits, which
 * user addresses do not have. */
static void set_salt(struct bt *bt)
{
    if (bt->serial >> 16 != bt->salts) {
        bt->salts = bt->serial >> 16;
        bt_clear_jumps(bt);
    }
    for (unsigned kind = BT_USER; kind < BT_CODE_KINDS; kind++)
        bt->region->salt[kind] = bt->serial << 48;
}

static void forget_everything(struct bt *bt)
{
    bt->all_flushes_seen = bt->x->all_flushes;
    empty_all(bt);
    for (unsigned i = 0; i < INTERP_PCIDS; i++)
        bt->spaces[i].nr_saved = 0;
    bt_clear_jumps(bt);
    bt->space_flushes++;
}

void bt_switch_space(struct bt *bt)
{
    uint64_t serial = bt->x->pcids[bt->x->pcid_slot].serial;
    struct bt_space *from;

    if (bt->all_flushes_seen != bt->x->all_flushes) {
        forget_everything(bt);
    } else if (bt->serial != serial) {
        from = space_of(bt, bt->serial);
        put_all_aside(bt, from);
        bt_drop_local_jumps(bt);
        put_back(bt, space_of(bt, serial));
        bt->switches++;
    } else {
        return;
    }
    bt->serial = serial;
    set_salt(bt);
}

void bt_pages_flushed(struct interp *x, uint64_t va, uint64_t pages)
{
    struct bt *bt = bt_of(x);

    for (uint64_t n = 0; n < pages; n++) {
        uint64_t page = va + (n << HV_PAGE_SHIFT);

        for (unsigned kind = 0; kind < BT_KINDS; kind++)
            empty_page(bt, kind, index_of(page));
        bt_drop_jumps_of_page(bt, page >> HV_PAGE_SHIFT);
    }
    for (unsigned i = 0; i < INTERP_PCIDS; i++)
        bt->spaces[i].nr_saved = 0;
}

unsigned bt_kind_now(const struct bt *bt)
{
    unsigned kind = (unsigned)((bt->x->tlb - bt->x->tables[0]) / INTERP_TLB_ENTRIES);

    if (kind != BT_USER || interp_is_64(bt->x))
        return kind;
    return bt->x->flat_gs ? BT_USER32_GS : BT_USER32;
}

/* ---- filling */

/* Takes over what the interpreter's TLB has. */
static void copy_entry(struct bt *bt, unsigned kind, uint64_t va)
{
    struct interp *x = bt->x;
    const struct interp_tlb_entry *e = interp_tlb_at(x, va);
    uint64_t tag = interp_tag(x, va, 1);

    if (e->read != tag && e->write != tag)
        return;
    set_entry(bt, kind, va & ~(uint64_t)HV_PAGE_MASK, e->addend, e->read == tag, e->write == tag,
              e->global);
    bt->tlb_fills++;
}

static const uint64_t *tags_of(const struct bt *bt, const struct bt_site *site)
{
    const struct bt_tlb *tlb = &bt->region->tlb[site->kind];

    return site->write ? tlb->write : tlb->read;
}

static uint64_t missed_address(const struct bt *bt, const struct bt_site *site)
{
    if (site->constant)
        return site->constant;
    return bt->region->scratch10 - tags_of(bt, site)[bt->region->scratch11];
}

static bool hits(const struct bt *bt, const struct bt_site *site, uint64_t va)
{
    return tags_of(bt, site)[index_of(va)] == -(va & ~(uint64_t)HV_PAGE_MASK);
}

static bool in_one_page(const struct bt_site *site, uint64_t va)
{
    return hv_x86_canonical(va) && (va & HV_PAGE_MASK) + site->bytes <= HV_PAGE_SIZE &&
           !(va & (site->align - 1u));
}

bool bt_fill(struct bt *bt, const struct bt_site *site)
{
    uint64_t va = missed_address(bt, site);
    struct interp *x = bt->x;
    const struct interp_tlb_entry *e;
    hv_gpa gpa;

    if (!in_one_page(site, va))
        return false;
    e = interp_tlb_at(x, va);
    if ((site->write ? e->write : e->read) != interp_tag(x, va, 1) &&
        !interp_walk(x, NULL, va, site->write ? HV_ACCESS_WRITE : 0, &gpa))
        return false;
    copy_entry(bt, site->kind, va);
    if (hits(bt, site, va))
        return true;
    if (site->write && e->write == interp_tag(x, va, 1))
        bt_note_store(bt, va + e->addend - (uint64_t)(uintptr_t)x->mem_base);
    return false;
}

/* A store is not certain yet, so that no dirty bit may be set: a clean page does without. */
bool bt_fill_group(struct bt *bt, const struct bt_site *site)
{
    uint64_t va = missed_address(bt, site);
    struct interp *x = bt->x;
    const struct interp_tlb_entry *e;

    if (!in_one_page(site, va))
        return false;
    e = interp_tlb_at(x, va);
    if ((site->write ? e->write : e->read) != interp_tag(x, va, 1) && !interp_try_walk(x, va))
        return false;
    copy_entry(bt, site->kind, va);
    return hits(bt, site, va);
}

/* Both must be there at once, and they may have the same place. */
bool bt_fill_string(struct bt *bt, const struct bt_string *s)
{
    const struct hv_cpu *cpu = &bt->x->v->cpu;
    struct bt_site from = {.kind = s->kind, .bytes = s->bytes, .align = 1}, to = from;

    from.constant = cpu->gpr[HV_RSI];
    to.constant = cpu->gpr[HV_RDI];
    to.write = true;
    if ((cpu->rflags & HV_EFLAGS_DF) || (s->source && !bt_fill(bt, &from)) || !bt_fill(bt, &to))
        return false;
    return !s->source || hits(bt, &from, from.constant);
}

/* ---- life */

int bt_space_init(struct bt *bt)
{
    struct bt_region *r =
        mmap(NULL, sizeof(*r), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (r == MAP_FAILED)
        return -ENOMEM;
    bt->region = r;
    r->cpu = (uint64_t)(uintptr_t)&bt->x->v->cpu;
    r->stale = (uint64_t)(uintptr_t)&bt->x->stale;
    r->tlb_mask = BT_TLB_MASK;
    r->jump_mask = r->near_mask = BT_JUMP_MASK;
    r->far_mask = BT_FAR_MASK;
    r->page_mask = ~(uint64_t)HV_PAGE_MASK;
    for (unsigned i = 0; i < HV_ARRAY_LEN(r->align_mask); i++)
        r->align_mask[i] = r->page_mask | ((1u << i) - 1);
    for (unsigned i = 0; i < HV_ARRAY_LEN(r->bit_mask); i++)
        r->bit_mask[i] = (1ull << i) - 1;
    r->sign_mask = 1ull << 63;
    r->avx_mask = BT_FPU_AVX;
    r->arith_mask = INTERP_ARITH;
    r->host_mxcsr = HV_MXCSR_INIT;
    forget_everything(bt);
    return 0;
}

void bt_space_fini(struct bt *bt)
{
    if (bt->region)
        munmap(bt->region, sizeof(*bt->region));
}
