/* Guest physical memory.
 *
 * One contiguous range of host addresses stands for the whole guest physical address space, so a
 * gpa becomes a host pointer by one addition. What is really there is told by one type byte per
 * page. RAM is anonymous memory in that range. Pages that the hypervisor shares with the guest
 * (shared_info, grant frames) live in a small memory file and are mapped into the range where the
 * guest asks for them, and a second time at an address that the hypervisor keeps.
 *
 * What changes the map (populate, release, alloc, map, unmap) is called with domain->lock held or
 * before any vCPU runs; what only looks needs no lock.
 */
#pragma once

#include "hv/types.h"

struct hv_codemap;
struct hv_missing;

#define HV_GPA_BITS          40 /* what CPUID 0x80000008 reports, and the size of the reservation */
#define HV_MMIO_HOLE_START   0xc0000000u /* RAM below, then at 4 GiB again */
#define HV_MMIO_HOLE_END     0x100000000u
#define HV_MEMORY_MAX_SHARED 4096u /* pages of the hypervisor that a domain can have */

enum hv_page_type {
    HV_PAGE_HOLE = 0, /* nothing, or a device: accesses go to hv_mmio_read/write */
    HV_PAGE_RAM,
    HV_PAGE_SHARED, /* a page of the hypervisor, read-write for the guest */
    HV_PAGE_SHARED_RO,
};

struct hv_memory {
    uint8_t *base;    /* host address of gpa 0; immutable */
    uint8_t *types;   /* enum hv_page_type by gfn; written under domain->lock, read atomically */
    uint64_t nr_gfns; /* pages that the reservation holds, holes beyond; immutable */
    int shared_fd;    /* memory file of the shared pages */
    uint8_t *shared_base;  /* host address of shared page 0; immutable */
    uint64_t shared_pages; /* pages of it in use; domain->lock */
    uint64_t top_gfn;      /* above all that ever was RAM; domain->lock */
    uint64_t ram_pages;    /* pages of type RAM now; domain->lock */
    uint64_t extra_pages;  /* of them: rings and tables, which a domain has beside its memory; domain->lock */
    bool over_file;  /* some of it is mapped from a file; domain->lock, as the next */
    unsigned pieces; /* times that a part of that was given back */
    bool locked, immediate; /* set before there is RAM: never paged out; taken from the host when it is populated */
    uint8_t *huge; /* 1 for each 2 MiB that are one huge page of the host's pool; NULL: not wanted. As locked */
    uint64_t max_pages;    /* limit set by XEN_DOMCTL_max_mem; domain->lock */
    /* Pages with cached code (hv/x86/codemap.h), NULL for an engine without; whoever writes to
     * guest memory reports it there; set before vCPUs run. */
    struct hv_codemap *code;
    uint64_t *dirty;      /* atomic: the log of writes (hv/machine/dirty.h), NULL when there is none */
    uint64_t *dirty_room; /* loop thread: what it was last kept in */
    struct hv_missing *missing; /* pages that are still elsewhere (hv/machine/missing.h); NULL: never were any; as code */
};

static inline enum hv_page_type hv_memory_type(const struct hv_memory *mem, hv_gfn gfn)
{
    if (gfn.v >= mem->nr_gfns)
        return HV_PAGE_HOLE;
    return (enum hv_page_type)__atomic_load_n(&mem->types[gfn.v], __ATOMIC_RELAXED);
}

/* Reserves the address range; nothing is populated. 0 or negative errno. */
int hv_memory_init(struct hv_memory *mem) HV_MUST_CHECK;
void hv_memory_fini(struct hv_memory *mem);

/* Makes @count pages from @gfn RAM (zero-filled; pages that are RAM already stay as they are).
 * -ENOMEM past max_pages, or when the host cannot lock it or has not got it, -EINVAL outside the address space or over a page of the hypervisor. */
int hv_memory_populate(struct hv_memory *mem, hv_gfn gfn, uint64_t count) HV_MUST_CHECK;

/* Gives @count RAM pages from @gfn back to the host. The caller flushes TLBs (hv_domain_flush).
 * -EINVAL when one of them is not RAM, nothing changed. */
int hv_memory_release(struct hv_memory *mem, hv_gfn gfn, uint64_t count) HV_MUST_CHECK;

/* Makes @count pages of RAM from @gfn what file @fd has from @offset, a multiple of the page size, on: they come in when they
 * are touched, and the file does not change. It must not become shorter. 0 or negative errno. */
int hv_memory_map_file(struct hv_memory *mem, hv_gfn gfn, uint64_t count, int fd, uint64_t offset) HV_MUST_CHECK;

/* Allocates a zeroed page of the hypervisor that can be mapped into the guest: @index names it,
 * *@page is its lasting host address. -ENOSPC when there are HV_MEMORY_MAX_SHARED. */
int hv_memory_alloc_shared(struct hv_memory *mem, uint64_t *index, void **page) HV_MUST_CHECK;

/* Maps shared page @index at @gfn in place of what is there (RAM there is given back), or unmaps
 * the shared page at @gfn. The caller flushes TLBs. */
int hv_memory_map_shared(struct hv_memory *mem, hv_gfn gfn, uint64_t index,
                         bool writable) HV_MUST_CHECK;
int hv_memory_unmap_shared(struct hv_memory *mem, hv_gfn gfn) HV_MUST_CHECK;

/* The one place that turns guest physical addresses into host memory: @bytes (1 or more) from @gpa,
 * all of it in pages that the guest may access so (@write), or NULL. Contents may change at any
 * moment: copy, check the copy, use the copy. The pointer is good while the caller is inside one
 * operation: pages are only taken away with every vCPU stopped or flushed. */
void *hv_memory_at(struct hv_memory *mem, hv_gpa gpa, size_t bytes, bool write) HV_MUST_CHECK;

/* Says that [@gpa, @gpa + @bytes) has been stored to, for what must know of it (cached code). Any thread; after the
 * store of whoever writes through hv_memory_at later than right away. */
void hv_memory_written(struct hv_memory *mem, hv_gpa gpa, size_t bytes);

/* Copies between host memory and guest physical memory. 0 or -EFAULT (nothing copied). */
int hv_memory_read(struct hv_memory *mem, hv_gpa gpa, void *buf, size_t bytes) HV_MUST_CHECK;
int hv_memory_write(struct hv_memory *mem, hv_gpa gpa, const void *buf, size_t bytes) HV_MUST_CHECK;
