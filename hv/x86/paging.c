/* The walk of the guest's page tables: 4-level, PAE and 32-bit. */
#include "config.h"

#include "hv/x86/paging.h"

#include <errno.h>

#include "hv/domain.h"
#include "hv/machine/dirty.h"

#define PTE_P    (1ull << 0)
#define PTE_W    (1ull << 1)
#define PTE_U    (1ull << 2)
#define PTE_A    (1ull << 5)
#define PTE_D    (1ull << 6)
#define PTE_PS   (1ull << 7)
#define PTE_G    (1ull << 8)
#define PTE_NX   (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull
/* Address bits that this processor does not have. */
#define PTE_RSVD (PTE_ADDR & ~((1ull << HV_GPA_BITS) - 1))

/* One kind of paging: its levels from the top, each the lowest address bit that it translates. */
struct paging_kind {
    unsigned levels, index_bits, entry_bytes;
    uint8_t shift[4];
};

static const struct paging_kind kind_4level = {4, 9, 8, {39, 30, 21, 12}};
static const struct paging_kind kind_pae = {3, 9, 8, {30, 21, 12}};
static const struct paging_kind kind_32bit = {2, 10, 4, {22, 12}};

struct walk {
    struct hv_vcpu *v;
    const struct paging_kind *kind;
    uint64_t va;
    unsigned flags;
    bool pdpte_level; /* the entry is one of the four of PAE, which have no permissions */
    uint64_t writable, user, nx;
};

static const struct paging_kind *paging_kind_of(const struct hv_cpu *cpu)
{
    if (cpu->efer & HV_EFER_LMA)
        return &kind_4level;
    return cpu->cr4 & HV_CR4_PAE ? &kind_pae : &kind_32bit;
}

static int page_fault(const struct walk *w, uint32_t code, struct hv_fault *fault)
{
    const struct hv_cpu *cpu = &w->v->cpu;

    if (w->flags & HV_ACCESS_WRITE)
        code |= HV_PF_WRITE;
    if (w->flags & HV_ACCESS_USER)
        code |= HV_PF_USER;
    /* The fetch bit is reported only where the processor can tell: SDM 4.7. */
    if ((w->flags & HV_ACCESS_FETCH) &&
        ((cpu->cr4 & HV_CR4_SMEP) || ((cpu->efer & HV_EFER_NXE) && w->kind->entry_bytes == 8)))
        code |= HV_PF_FETCH;
    *fault = (struct hv_fault){
        .vector = HV_VEC_PF, .has_error_code = true, .error_code = code, .cr2 = w->va};
    return -EFAULT;
}

static uint64_t load_entry(const struct walk *w, const void *p)
{
    if (w->kind->entry_bytes == 8)
        return __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
    return __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED);
}

static void mark_table(const struct walk *w, const void *p)
{
    struct hv_memory *mem = &w->v->domain->mem;

    hv_memory_mark_dirty(mem, hv_gpa_to_gfn(hv_gpa_of((uint64_t)((const uint8_t *)p - mem->base))));
}

/* Sets @bits in the entry unless it changed meanwhile, in which case the walk starts again. */
static bool set_bits(const struct walk *w, void *p, uint64_t entry, uint64_t bits)
{
    mark_table(w, p);
    if (w->kind->entry_bytes == 8) {
        uint64_t old = entry;

        return __atomic_compare_exchange_n((uint64_t *)p, &old, entry | bits, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    uint32_t old32 = (uint32_t)entry;

    return __atomic_compare_exchange_n((uint32_t *)p, &old32, (uint32_t)(entry | bits), false,
                                       __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static bool reserved_bits_set(const struct walk *w, uint64_t entry, bool leaf, unsigned shift)
{
    const struct hv_cpu *cpu = &w->v->cpu;

    if (w->kind->entry_bytes == 4)
        return leaf && shift == 22 && (entry & 0x003fe000);
    if (entry & PTE_RSVD)
        return true;
    if (w->pdpte_level)
        return entry & (PTE_NX | 0x1e6);
    if ((entry & PTE_NX) && !(cpu->efer & HV_EFER_NXE))
        return true;
    if (w->kind == &kind_pae && (entry & 0x7ff0000000000000ull))
        return true;
    if (shift == 39 && (entry & PTE_PS))
        return true;
    return leaf && shift > 12 && (entry & ((1ull << shift) - 1) & PTE_ADDR & ~0x1000ull);
}

/* Is the access allowed by the permissions of all levels together? SDM 4.6.1. */
static bool access_allowed(const struct walk *w)
{
    const struct hv_cpu *cpu = &w->v->cpu;
    bool user_access = w->flags & HV_ACCESS_USER;

    if ((w->flags & HV_ACCESS_FETCH) &&
        (w->nx || (!user_access && w->user && (cpu->cr4 & HV_CR4_SMEP))))
        return false;
    if (user_access)
        return w->user && (w->writable || !(w->flags & HV_ACCESS_WRITE));
    if (w->user && (cpu->cr4 & HV_CR4_SMAP) && !(w->flags & HV_ACCESS_FETCH) &&
        ((w->flags & HV_ACCESS_IMPLICIT) || !(cpu->rflags & HV_EFLAGS_AC)))
        return false;
    return w->writable || !(w->flags & HV_ACCESS_WRITE) || !(cpu->cr0 & HV_CR0_WP);
}

static bool is_leaf(const struct walk *w, uint64_t entry, unsigned shift)
{
    if (shift == 12)
        return true;
    if (!(entry & PTE_PS) || shift > 30 || w->pdpte_level)
        return false;
    return w->kind->entry_bytes == 8 || (w->v->cpu.cr4 & HV_CR4_PSE);
}

static uint64_t leaf_address(const struct walk *w, uint64_t entry, unsigned shift)
{
    uint64_t mask = (1ull << shift) - 1;
    uint64_t base = entry & PTE_ADDR;

    if (w->kind->entry_bytes == 4) {
        base &= 0xfffff000;
        if (shift == 22) /* PSE-36: bits 13-20 are address bits 32-39 */
            base = (base & 0xffc00000) | ((entry & 0x1fe000) << 19);
    }
    return (base & ~mask) | (w->va & mask);
}

static int finish_leaf(const struct walk *w, void *p, uint64_t entry, unsigned shift,
                       struct hv_translation *out, struct hv_fault *fault)
{
    uint64_t bits = PTE_A | (w->flags & HV_ACCESS_WRITE ? PTE_D : 0);

    if (!access_allowed(w))
        return page_fault(w, HV_PF_PRESENT, fault);
    if ((entry & bits) != bits && !(w->flags & HV_ACCESS_NO_AD)) {
        if (!set_bits(w, p, entry, bits))
            return -EAGAIN;
        entry |= bits;
    }
    *out = (struct hv_translation){
        .gpa = hv_gpa_of(leaf_address(w, entry, shift)),
        .page_bytes = 1ull << shift,
        .writable = w->writable,
        .user = w->user,
        .executable = !w->nx,
        .global = (entry & PTE_G) && (w->v->cpu.cr4 & HV_CR4_PGE),
        .dirty = entry & PTE_D,
    };
    return 0;
}

static uint64_t root_of(const struct walk *w)
{
    uint64_t cr3 = w->v->cpu.cr3;

    if (w->kind == &kind_4level)
        return cr3 & PTE_ADDR;
    return w->kind == &kind_pae ? cr3 & 0xffffffe0 : cr3 & 0xfffff000;
}

static int walk_once(struct walk *w, struct hv_translation *out, struct hv_fault *fault)
{
    uint64_t table = root_of(w);

    w->writable = w->user = true;
    w->nx = false;
    for (unsigned level = 0; level < w->kind->levels; level++) {
        unsigned shift = w->kind->shift[level];
        uint64_t index = (w->va >> shift) & ((1u << w->kind->index_bits) - 1);
        void *p = hv_memory_at(&w->v->domain->mem, hv_gpa_of(table + index * w->kind->entry_bytes),
                               w->kind->entry_bytes, false);
        uint64_t entry;
        bool leaf;

        /* Tables outside of RAM read as ones on hardware, which is an entry with reserved bits. */
        if (!p)
            return page_fault(w, HV_PF_PRESENT | HV_PF_RSVD, fault);
        entry = load_entry(w, p);
        if (!(entry & PTE_P))
            return page_fault(w, 0, fault);
        w->pdpte_level = w->kind == &kind_pae && level == 0;
        leaf = is_leaf(w, entry, shift);
        if (reserved_bits_set(w, entry, leaf, shift))
            return page_fault(w, HV_PF_PRESENT | HV_PF_RSVD, fault);
        if (!w->pdpte_level) {
            w->writable = w->writable && (entry & PTE_W);
            w->user = w->user && (entry & PTE_U);
            w->nx = w->nx || (w->kind->entry_bytes == 8 && (entry & PTE_NX));
        }
        if (leaf)
            return finish_leaf(w, p, entry, shift, out, fault);
        if (!w->pdpte_level && !(entry & PTE_A) && !(w->flags & HV_ACCESS_NO_AD) &&
            !set_bits(w, p, entry, PTE_A))
            return -EAGAIN;
        table = entry & (w->kind->entry_bytes == 8 ? PTE_ADDR : 0xfffff000);
    }
    return page_fault(w, HV_PF_PRESENT | HV_PF_RSVD, fault); /* the last level is always a leaf */
}

int hv_x86_translate(struct hv_vcpu *v, hv_gva va, unsigned flags, struct hv_translation *out,
                     struct hv_fault *fault)
{
    struct walk w = {.v = v, .va = va.v, .flags = flags};
    int err;

    if (!(v->cpu.cr0 & HV_CR0_PG)) {
        *out = (struct hv_translation){.gpa = hv_gpa_of(va.v & 0xffffffff),
                                       .page_bytes = HV_PAGE_SIZE,
                                       .writable = true,
                                       .user = true,
                                       .executable = true,
                                       .dirty = true};
        return 0;
    }
    w.kind = paging_kind_of(&v->cpu);
    /* A hostile guest may change an entry at each try, but each loss means that another vCPU
     * progressed. */
    do
        err = walk_once(&w, out, fault);
    while (err == -EAGAIN);
    return err;
}
