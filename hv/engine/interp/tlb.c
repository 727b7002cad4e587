/* The software TLB: filled by walks of the guest's tables, emptied by renumbering address spaces.
 */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include <string.h>

#include "hv/machine/dirty.h"
#include "hv/x86/linear.h"

#define ASID_LAST  0xfff /* tags have 12 bits for it */
#define LARGE_PAGE (2ull << 20)

/* ---- flushing */

void interp_tlb_init(struct interp *x)
{
    memset(x->tables, 0, sizeof(x->tables));
    memset(x->large_pages, 0, sizeof(x->large_pages));
    memset(x->giant_pages, 0, sizeof(x->giant_pages));
    memset(x->pcids, 0, sizeof(x->pcids));
    x->next_pcid_slot = 0;
    x->next_asid = 1;
    x->asid = 0;
    x->jump_epoch++;
    x->all_flushes++;
}

static void take_new_asid(struct interp *x, unsigned slot)
{
    if (x->next_asid > ASID_LAST)
        interp_tlb_init(x);
    x->pcids[slot].asid = x->next_asid++;
    x->pcids[slot].serial = ++x->last_serial;
}

static unsigned slot_of_pcid(struct interp *x, unsigned pcid, bool *found)
{
    for (unsigned i = 0; i < INTERP_PCIDS; i++)
        if (x->pcids[i].asid && x->pcids[i].pcid == pcid) {
            *found = true;
            return i;
        }
    *found = false;
    return x->next_pcid_slot++ % INTERP_PCIDS;
}

void interp_tlb_switch(struct interp *x, bool keep)
{
    const struct hv_cpu *cpu = &x->v->cpu;
    unsigned pcid = cpu->cr4 & HV_CR4_PCIDE ? cpu->cr3 & 0xfff : 0;
    bool found;
    unsigned slot = slot_of_pcid(x, pcid, &found);

    if (!found || !keep) {
        take_new_asid(x, slot);
        x->pcids[slot].pcid = (uint16_t)pcid;
        x->tlb_flushes++;
    }
    x->pcid_slot = slot;
    x->asid = x->pcids[slot].asid;
    x->cr3 = cpu->cr3;
    x->stale = true;
}

void interp_tlb_flush_all(struct interp *x)
{
    memset(x->pcids, 0, sizeof(x->pcids));
    memset(x->large_pages, 0, sizeof(x->large_pages));
    memset(x->giant_pages, 0, sizeof(x->giant_pages));
    x->jump_epoch++;
    x->all_flushes++;
    interp_tlb_switch(x, false);
}

void interp_tlb_flush_current(struct interp *x)
{
    interp_tlb_switch(x, false);
}

void interp_tlb_flush_pcid(struct interp *x, unsigned pcid)
{
    for (unsigned i = 0; i < INTERP_PCIDS; i++)
        if (x->pcids[i].asid && x->pcids[i].pcid == pcid)
            x->pcids[i].asid = 0;
    interp_tlb_switch(x, true);
}

static bool large_page_bit(struct interp *x, uint64_t va, bool set)
{
    uint64_t region = va >> 21, *filter = x->large_pages[va >> 63];
    unsigned bit = (unsigned)(region ^ (region >> 8) ^ (region >> 16)) & 255;
    bool was = filter[bit >> 6] & (1ull << (bit & 63));

    if (set)
        filter[bit >> 6] |= 1ull << (bit & 63);
    return was;
}

static void flush_entries(struct interp *x, uint64_t va, uint64_t pages)
{
    for (unsigned kind = 0; kind < INTERP_TLB_KINDS; kind++)
        for (uint64_t i = 0; i < pages; i++) {
            struct interp_tlb_entry *e =
                &x->tables[kind][((va >> HV_PAGE_SHIFT) + i) & (INTERP_TLB_ENTRIES - 1)];

            e->read = e->write = e->exec = 0;
        }
    if (x->page_flushed)
        x->page_flushed(x, va, pages);
}

/* One entry may be of a large page whose other parts have entries too: all of its 2 MiB go, in all
 * address spaces; everything, if there are larger pages. */
void interp_tlb_flush_page(struct interp *x, uint64_t va)
{
    x->jump_epoch++;
    x->stale = true;
    if (x->giant_pages[va >> 63])
        interp_tlb_flush_all(x);
    else if (large_page_bit(x, va, false))
        flush_entries(x, va & ~(LARGE_PAGE - 1), LARGE_PAGE / HV_PAGE_SIZE);
    else
        flush_entries(x, va, 1);
}

/* ---- mode */

/* Present, data, expand-up, writable, and all of 4 GiB from 0 or, with @any_base, from elsewhere. */
static bool is_flat_data(const struct hv_segment *s, bool any_base)
{
    return (any_base || s->base == 0) && s->limit == 0xffffffff && (s->attr & 0x9e) == 0x92;
}

static uint32_t mode_of(const struct hv_cpu *cpu)
{
    uint32_t mode;

    if (hv_cpu_64bit(cpu))
        return INTERP_MODE_64 | INTERP_MODE_FLAT | INTERP_MODE_PROTECTED;
    mode = cpu->seg[HV_CS].attr & HV_SEG_DB ? INTERP_MODE_32 : INTERP_MODE_16;
    if (cpu->cr0 & HV_CR0_PE)
        mode |= INTERP_MODE_PROTECTED;
    if (mode == (INTERP_MODE_32 | INTERP_MODE_PROTECTED)) {
        static const uint8_t flat_segments[] = {HV_ES, HV_SS, HV_DS};
        const struct hv_segment *cs = &cpu->seg[HV_CS];
        bool flat = cs->base == 0 && cs->limit == 0xffffffff && (cs->attr & 0x9a) == 0x9a;

        for (unsigned i = 0; i < HV_ARRAY_LEN(flat_segments); i++) {
            const struct hv_segment *s = &cpu->seg[flat_segments[i]];

            flat = flat && is_flat_data(s, false);
        }
        if (flat && (cpu->seg[HV_SS].attr & HV_SEG_DB))
            mode |= INTERP_MODE_FLAT;
    }
    return mode;
}

static bool is_translatable(const struct interp *x, enum interp_tlb_kind kind)
{
    const uint32_t flat32 = INTERP_MODE_32 | INTERP_MODE_FLAT | INTERP_MODE_PROTECTED;

    if (kind == INTERP_TLB_NONE)
        return false;
    if (interp_is_64(x))
        return true;
    return kind == INTERP_TLB_USER && hv_cpu_long_mode(&x->v->cpu) &&
           (x->mode & ~(uint32_t)INTERP_MODE_ONE) == flat32;
}

void interp_refresh(struct interp *x)
{
    struct hv_cpu *cpu = &x->v->cpu;
    enum interp_tlb_kind kind = INTERP_TLB_KERNEL;

    if (cpu->cr0 != x->cr0 || cpu->cr4 != x->cr4 || cpu->efer != x->efer) {
        x->cr0 = cpu->cr0;
        x->cr4 = cpu->cr4;
        x->efer = cpu->efer;
        interp_tlb_flush_all(x);
    } else if (cpu->cr3 != x->cr3 || !x->asid) {
        interp_tlb_switch(x, false);
    }
    if (hv_cpu_cpl(cpu) == 3)
        kind = INTERP_TLB_USER;
    else if (!(cpu->cr4 & HV_CR4_SMAP) || (cpu->rflags & HV_EFLAGS_AC))
        kind = INTERP_TLB_KERNEL_AC;
    if (interp_watch_refresh(x))
        kind = INTERP_TLB_NONE;
    x->tlb = x->tables[kind];
    x->mode = mode_of(cpu);
    x->stepping =
        cpu->int_shadow || (cpu->rflags & (HV_EFLAGS_TF | HV_EFLAGS_RF)) || (cpu->dr7 & 0xff);
    if (x->stepping)
        x->mode |= INTERP_MODE_ONE;
    x->flat_gs = is_flat_data(&cpu->seg[HV_GS], true);
    x->translatable = is_translatable(x, kind);
    x->jump_key =
        x->jump_epoch << 20 | x->asid << 8 | (uint64_t)(hv_cpu_cpl(cpu) == 3) << 7 | x->mode;
    x->stale = false;
}

/* ---- filling */

static struct interp_tlb_entry *entry_of(struct interp_tlb_entry *table, uint64_t va)
{
    return &table[(va >> HV_PAGE_SHIFT) & (INTERP_TLB_ENTRIES - 1)];
}

/* Memory of the page that @t is in, NULL for a device. */
static uint8_t *host_of(struct interp *x, hv_gpa gpa, bool write)
{
    enum hv_page_type type = hv_memory_type(&x->v->domain->mem, hv_gpa_to_gfn(gpa));

    if (type == HV_PAGE_HOLE || (write && type == HV_PAGE_SHARED_RO))
        return NULL;
    return x->mem_base + gpa.v;
}

/* Stores through the entry are not seen: while writes are logged, only to a page that is marked. */
static bool may_store(struct interp *x, hv_gpa gpa)
{
    return host_of(x, gpa, true) && hv_memory_may_store(&x->v->domain->mem, hv_gpa_to_gfn(gpa));
}

static void fill_table(struct interp *x, struct interp_tlb_entry *table, uint64_t va,
                       const struct hv_translation *t)
{
    const struct hv_cpu *cpu = &x->v->cpu;
    struct interp_tlb_entry *e = entry_of(table, va);
    uint64_t tag = (va & ~(uint64_t)HV_PAGE_MASK) | x->asid;
    bool user = table == x->tables[INTERP_TLB_USER];
    bool writable = t->dirty && (t->writable || (!user && !(cpu->cr0 & HV_CR0_WP)));
    bool executable = t->executable && (user || !t->user || !(cpu->cr4 & HV_CR4_SMEP));
    /* A supervisor's fetch from a user page says nothing about data accesses under SMAP. */
    bool data = table != x->tables[INTERP_TLB_KERNEL] || !t->user || !(cpu->cr0 & HV_CR0_PG);

    e->read = data ? tag : 0;
    e->write = data && writable && may_store(x, t->gpa) ? tag : 0;
    e->exec = executable ? tag : 0;
    e->addend = (uint64_t)(x->mem_base + t->gpa.v) - va;
    e->global = t->global;
    if (t->page_bytes > HV_PAGE_SIZE)
        large_page_bit(x, va, true);
    if (t->page_bytes > LARGE_PAGE)
        x->giant_pages[va >> 63] = true;
}

static void fill(struct interp *x, uint64_t va, const struct hv_translation *t)
{
    fill_table(x, x->tlb, va, t);
}

uint8_t *interp_walk(struct interp *x, struct interp_op *op, uint64_t va, unsigned flags,
                     hv_gpa *gpa)
{
    struct hv_cpu *cpu = &x->v->cpu;
    struct hv_translation t;
    struct hv_fault fault;
    uint8_t *host;

    x->tlb_misses++;
    if (hv_cpu_long_mode(cpu) && !hv_x86_canonical(va))
        interp_raise_code(x, op, op && op->seg == HV_SS ? HV_VEC_SS : HV_VEC_GP, 0);
    if (hv_cpu_cpl(cpu) == 3)
        flags |= HV_ACCESS_USER;
    if (hv_x86_translate(x->v, hv_gva_of(va), flags, &t, &fault))
        interp_raise(x, op, &fault);
    *gpa = t.gpa;
    host = host_of(x, t.gpa, flags & HV_ACCESS_WRITE);
    if (host && (flags & HV_ACCESS_WRITE))
        hv_memory_mark_dirty(&x->v->domain->mem, hv_gpa_to_gfn(t.gpa));
    if (host_of(x, t.gpa, false) && x->tlb != x->tables[INTERP_TLB_NONE])
        fill(x, va, &t);
    return host;
}

bool interp_try_walk(struct interp *x, uint64_t va)
{
    struct hv_translation t;
    struct hv_fault fault;
    unsigned flags = hv_cpu_cpl(&x->v->cpu) == 3 ? HV_ACCESS_USER : 0;

    x->tlb_misses++;
    if (hv_x86_translate(x->v, hv_gva_of(va), flags, &t, &fault) || !host_of(x, t.gpa, false))
        return false;
    fill(x, va, &t);
    return true;
}

hv_gpa interp_fetch(struct interp *x, uint64_t va, const uint8_t **host)
{
    struct interp_tlb_entry *e = interp_tlb_at(x, va);
    hv_gpa gpa;

    if (e->exec == interp_tag(x, va, 1)) {
        *host = (const uint8_t *)(va + e->addend);
        return hv_gpa_of((uint64_t)(*host - x->mem_base));
    }
    *host = interp_walk(x, NULL, va, HV_ACCESS_FETCH, &gpa);
    return gpa;
}

/* ---- for accesses outside the engine */

/* The table of an access, NULL if what the TLB holds is of another mode or address space. */
static struct interp_tlb_entry *table_of(struct interp *x, unsigned flags)
{
    const struct hv_cpu *cpu = &x->v->cpu;

    if (cpu->cr3 != x->cr3 || cpu->cr0 != x->cr0 || cpu->cr4 != x->cr4 || cpu->efer != x->efer ||
        !x->asid || (flags & HV_ACCESS_FETCH))
        return NULL;
    if (flags & HV_ACCESS_USER)
        return x->tables[INTERP_TLB_USER];
    if (!(cpu->cr4 & HV_CR4_SMAP))
        return x->tables[INTERP_TLB_KERNEL_AC];
    return x->tables[!(flags & HV_ACCESS_IMPLICIT) && (cpu->rflags & HV_EFLAGS_AC)
                         ? INTERP_TLB_KERNEL_AC
                         : INTERP_TLB_KERNEL];
}

bool interp_tlb_lookup(struct hv_vcpu *v, uint64_t va, unsigned flags, hv_gpa *gpa)
{
    struct interp *x = v->engine_state;
    struct interp_tlb_entry *table = table_of(x, flags), *e;
    uint64_t tag = (va & ~(uint64_t)HV_PAGE_MASK) | x->asid;

    if (!table)
        return false;
    e = entry_of(table, va);
    if ((flags & HV_ACCESS_WRITE ? e->write : e->read) != tag)
        return false;
    *gpa = hv_gpa_of((uint64_t)((const uint8_t *)(va + e->addend) - x->mem_base));
    return true;
}

void interp_tlb_enter(struct hv_vcpu *v, uint64_t va, unsigned flags,
                      const struct hv_translation *t)
{
    struct interp *x = v->engine_state;
    struct interp_tlb_entry *table = table_of(x, flags);

    if (table && (flags & HV_ACCESS_WRITE) && host_of(x, t->gpa, true))
        hv_memory_mark_dirty(&x->v->domain->mem, hv_gpa_to_gfn(t->gpa));
    if (table && !(flags & HV_ACCESS_NO_AD) && host_of(x, t->gpa, false))
        fill_table(x, table, va, t);
}
