/* The software TLB: filled by walks of the guest's tables, emptied by renumbering address spaces. */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include <string.h>

#include "hv/machine/machine.h"
#include "hv/x86/linear.h"

#define ASID_LAST 0xfff /* tags have 12 bits for it */

/* ---- flushing */

void interp_tlb_init(struct interp *x)
{
    memset(x->tables, 0, sizeof(x->tables));
    memset(x->large_pages, 0, sizeof(x->large_pages));
    memset(x->pcids, 0, sizeof(x->pcids));
    x->next_pcid_slot = 0;
    x->next_asid = 1;
    x->asid = 0;
    x->jump_epoch++;
}

static void take_new_asid(struct interp *x, unsigned slot)
{
    if (x->next_asid > ASID_LAST)
        interp_tlb_init(x);
    x->pcids[slot].asid = x->next_asid++;
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
    x->asid = x->pcids[slot].asid;
    x->cr3 = cpu->cr3;
    x->stale = true;
}

void interp_tlb_flush_all(struct interp *x)
{
    memset(x->pcids, 0, sizeof(x->pcids));
    memset(x->large_pages, 0, sizeof(x->large_pages));
    x->jump_epoch++;
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
    uint64_t region = va >> 21;
    unsigned bit = (unsigned)(region ^ (region >> 8) ^ (region >> 16)) & 255;
    bool was = x->large_pages[bit >> 6] & (1ull << (bit & 63));

    if (set)
        x->large_pages[bit >> 6] |= 1ull << (bit & 63);
    return was;
}

static void flush_entry(struct interp_tlb_entry *e)
{
    e->read = e->write = e->exec = 0;
}

/* One entry may be of a large page whose other parts have entries too: all of its 2 MiB go, in all address
 * spaces (1 GiB pages are entered as 2 MiB ones, and a guest that splits one flushes everything). */
void interp_tlb_flush_page(struct interp *x, uint64_t va)
{
    x->jump_epoch++;
    x->stale = true;
    if (large_page_bit(x, va, false)) {
        interp_tlb_flush_all(x);
        return;
    }
    for (unsigned kind = 0; kind < INTERP_TLB_KINDS; kind++)
        flush_entry(&x->tables[kind][(va >> HV_PAGE_SHIFT) & (INTERP_TLB_ENTRIES - 1)]);
}

/* ---- mode */

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

            /* Present, data, expand-up, writable. */
            flat = flat && s->base == 0 && s->limit == 0xffffffff && (s->attr & 0x9e) == 0x92;
        }
        if (flat && (cpu->seg[HV_SS].attr & HV_SEG_DB))
            mode |= INTERP_MODE_FLAT;
    }
    return mode;
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
    x->tlb = x->tables[kind];
    x->mode = mode_of(cpu);
    x->stepping = cpu->int_shadow || (cpu->rflags & (HV_EFLAGS_TF | HV_EFLAGS_RF)) || (cpu->dr7 & 0xff);
    if (x->stepping)
        x->mode |= INTERP_MODE_ONE;
    x->jump_key = x->jump_epoch << 20 | x->asid << 8 | (uint64_t)(kind == INTERP_TLB_USER) << 7 | x->mode;
    x->stale = false;
}

/* ---- filling */

/* Memory of the page that @t is in, NULL for a device. */
static uint8_t *host_of(struct interp *x, hv_gpa gpa, bool write)
{
    enum hv_page_type type = hv_memory_type(&x->v->domain->mem, hv_gpa_to_gfn(gpa));

    if (type == HV_PAGE_HOLE || (write && type == HV_PAGE_SHARED_RO))
        return NULL;
    return x->mem_base + gpa.v;
}

static void fill(struct interp *x, uint64_t va, const struct hv_translation *t)
{
    const struct hv_cpu *cpu = &x->v->cpu;
    struct interp_tlb_entry *e = interp_tlb_at(x, va);
    uint64_t tag = (va & ~(uint64_t)HV_PAGE_MASK) | x->asid;
    bool user = hv_cpu_cpl(cpu) == 3;
    bool writable = t->dirty && (t->writable || (!user && !(cpu->cr0 & HV_CR0_WP)));
    bool executable = t->executable && (user || !t->user || !(cpu->cr4 & HV_CR4_SMEP));
    /* A supervisor's fetch from a user page says nothing about data accesses under SMAP. */
    bool data = x->tlb != x->tables[INTERP_TLB_KERNEL] || !t->user || !(cpu->cr0 & HV_CR0_PG);

    e->read = data ? tag : 0;
    e->write = data && writable && host_of(x, t->gpa, true) ? tag : 0;
    e->exec = executable ? tag : 0;
    e->addend = (uint64_t)(x->mem_base + t->gpa.v) - va;
    if (t->page_bytes > HV_PAGE_SIZE)
        large_page_bit(x, va, true);
}

/* One walk for an access that does not cross a page; enters the TLB if it is memory, and gives its host
 * address, NULL for a device. */
static uint8_t *walk(struct interp *x, struct interp_op *op, uint64_t va, unsigned flags, hv_gpa *gpa)
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
    if (host_of(x, t.gpa, false))
        fill(x, va, &t);
    return host;
}

hv_gpa interp_fetch(struct interp *x, uint64_t va, const uint8_t **host)
{
    struct interp_tlb_entry *e = interp_tlb_at(x, va);
    hv_gpa gpa;

    if (e->exec == interp_tag(x, va, 1)) {
        *host = (const uint8_t *)(va + e->addend);
        return hv_gpa_of((uint64_t)(*host - x->mem_base));
    }
    *host = walk(x, NULL, va, HV_ACCESS_FETCH, &gpa);
    return gpa;
}

/* ---- accesses that the TLB does not answer */

static bool crosses(uint64_t va, unsigned bytes)
{
    return (va & HV_PAGE_MASK) + bytes > HV_PAGE_SIZE;
}

static uint64_t wrap(const struct interp *x, uint64_t va)
{
    return hv_cpu_long_mode(&x->v->cpu) ? va : va & 0xffffffff;
}

static uint64_t read_page(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes)
{
    uint64_t value = 0;
    hv_gpa gpa;
    uint8_t *host = walk(x, op, va, 0, &gpa);

    if (!host)
        return hv_mmio_read(x->v, gpa, bytes);
    if (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8)
        return interp_load_host(host, bytes);
    memcpy(&value, host, bytes);
    return value;
}

uint64_t interp_read_slow(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes)
{
    uint64_t value = 0;

    if (!crosses(va, bytes))
        return read_page(x, op, va, bytes);
    interp_read_bytes(x, op, va, &value, bytes);
    return value;
}

void interp_write_slow(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes, uint64_t value)
{
    hv_gpa gpa;
    uint8_t *host;

    if (crosses(va, bytes)) {
        interp_write_bytes(x, op, va, &value, bytes);
        return;
    }
    host = walk(x, op, va, HV_ACCESS_WRITE, &gpa);
    if (!host) {
        hv_mmio_write(x->v, gpa, bytes, value);
        x->stale = true;
        return;
    }
    interp_store_host(host, bytes, value);
    interp_stored(x, op, host, bytes);
}

static unsigned piece_of(uint64_t va, unsigned bytes)
{
    unsigned room = HV_PAGE_SIZE - (unsigned)(va & HV_PAGE_MASK);

    return bytes < room ? bytes : room;
}

/* Devices see naturally aligned accesses of 1, 2, 4 or 8 bytes. */
static void device_bytes(struct interp *x, hv_gpa gpa, uint8_t *buf, unsigned bytes, bool write)
{
    while (bytes) {
        unsigned n = 8;
        uint64_t value = 0;

        while (n > bytes || (gpa.v & (n - 1)))
            n >>= 1;
        if (write) {
            memcpy(&value, buf, n);
            hv_mmio_write(x->v, gpa, n, value);
        } else {
            value = hv_mmio_read(x->v, gpa, n);
            memcpy(buf, &value, n);
        }
        gpa.v += n;
        buf += n;
        bytes -= n;
    }
}

void interp_read_bytes(struct interp *x, struct interp_op *op, uint64_t va, void *buf, unsigned bytes)
{
    uint8_t *out = buf;

    while (bytes) {
        unsigned n = piece_of(va, bytes);
        hv_gpa gpa;
        uint8_t *host = walk(x, op, va, 0, &gpa);

        if (host)
            memcpy(out, host, n);
        else
            device_bytes(x, gpa, out, n, false);
        va = wrap(x, va + n);
        out += n;
        bytes -= n;
    }
}

void interp_check_write(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes)
{
    while (bytes) {
        unsigned n = piece_of(va, bytes);
        hv_gpa gpa;

        walk(x, op, va, HV_ACCESS_WRITE, &gpa);
        va = wrap(x, va + n);
        bytes -= n;
    }
}

void interp_write_bytes(struct interp *x, struct interp_op *op, uint64_t va, const void *buf, unsigned bytes)
{
    const uint8_t *in = buf;

    if (crosses(va, bytes))
        interp_check_write(x, op, va, bytes);
    while (bytes) {
        unsigned n = piece_of(va, bytes);
        hv_gpa gpa;
        uint8_t *host = walk(x, op, va, HV_ACCESS_WRITE, &gpa);

        if (host) {
            memcpy(host, in, n);
            interp_stored(x, op, host, n);
        } else {
            device_bytes(x, gpa, (uint8_t *)in, n, true);
            x->stale = true;
        }
        va = wrap(x, va + n);
        in += n;
        bytes -= n;
    }
}

void *interp_host(struct interp *x, struct interp_op *op, uint64_t va, unsigned bytes, bool write)
{
    struct interp_tlb_entry *e = interp_tlb_at(x, va);
    hv_gpa gpa;

    if (crosses(va, bytes))
        return NULL;
    if ((write ? e->write : e->read) == interp_tag(x, va, bytes))
        return (void *)(va + e->addend);
    return walk(x, op, va, write ? HV_ACCESS_WRITE : 0, &gpa);
}

void interp_code_written(struct interp *x, struct interp_op *op, uint64_t gpa, unsigned bytes)
{
    struct interp_block *b = x->block;

    if (!hv_codemap_written_slow(x->v->domain->mem.code, hv_gpa_of(gpa), bytes))
        return;
    x->stale_blocks++;
    if (op && b && op >= b->ops && op + 1 < b->ops + b->nr_ops &&
        b->generation != __atomic_load_n(b->generation_now, __ATOMIC_RELAXED))
        op[1].fn = interp_op_stop;
}

/* ---- addresses with segments */

static uint64_t segment_fault(struct interp *x, struct interp_op *op, unsigned seg)
{
    interp_raise_code(x, op, seg == HV_SS ? HV_VEC_SS : HV_VEC_GP, 0);
}

static bool segment_allows(const struct hv_segment *s, uint64_t offset, unsigned bytes, bool write)
{
    uint64_t last = offset + bytes - 1;
    unsigned type = HV_SEG_TYPE(s->attr);

    if (!(s->attr & HV_SEG_P))
        return false;
    if (type & 8) { /* code: readable at most */
        if (write || !(type & 2))
            return false;
    } else if (write && !(type & 2)) {
        return false;
    }
    if (!(type & 8) && (type & 4)) /* expand-down */
        return offset > s->limit && last <= (s->attr & HV_SEG_DB ? 0xffffffff : 0xffff);
    return last <= s->limit;
}

uint64_t interp_linear(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, unsigned seg,
                       uint64_t offset, unsigned bytes, bool write)
{
    const struct hv_segment *s = &cpu->seg[seg];

    if ((x->mode & INTERP_MODE_SIZE) == INTERP_MODE_64)
        return offset + (seg >= HV_FS ? s->base : 0);
    if ((x->mode & INTERP_MODE_FLAT) && seg < HV_FS && !(seg == HV_CS && write))
        return offset & 0xffffffff;
    if (x->mode & INTERP_MODE_PROTECTED) {
        if (!segment_allows(s, offset, bytes ? bytes : 1, write))
            return segment_fault(x, op, seg);
    } else if (offset + bytes - 1 > s->limit) {
        return segment_fault(x, op, seg);
    }
    return (s->base + offset) & 0xffffffff;
}

/* The offset alone, as LEA wants it, wrapped to the address size. */
static uint64_t offset_of(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    uint64_t a = (uint64_t)op->disp;

    if (op->flags & INTERP_OP_RIP_BASE)
        a += x->block_rip;
    if (op->base != INTERP_NO_REG)
        a += cpu->gpr[op->base];
    if (op->index != INTERP_NO_REG)
        a += cpu->gpr[op->index] << op->scale;
    return a & interp_mask(op->address_bytes);
}

uint64_t interp_ea_slow(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    uint64_t offset = offset_of(cpu, op, x);

    if (op->seg == INTERP_NO_REG) /* LEA */
        return offset;
    return interp_linear(cpu, op, x, op->seg, offset, op->mem_bytes, op->flags & INTERP_OP_MEM_WRITE);
}
