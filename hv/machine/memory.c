/* Guest physical memory: one reservation of host addresses, one type byte per page.
 *
 * Whether a guest may touch a page is decided by its type byte alone. Host protections only ever go
 * from "none" to "read and write": a page that was given back, or a shared page that was unmapped,
 * stays readable and writable for the host (as fresh anonymous memory), so that a backend or an
 * engine on another thread that looked at the type a moment ago never faults. This also keeps the
 * number of host mappings independent of how the guest scatters its balloon.
 */
#include "config.h"

#include "hv/machine/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hv/machine/dirty.h"
#include "hv/machine/hugepages.h"
#include "hv/machine/missing.h"
#include "hv/x86/codemap.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* The smallest reservation worth having: RAM below the MMIO hole, and the hole. */
#define MIN_GPA_BITS 32

/* What a limit on address space has to leave to the rest of the process: an engine's map of code,
 * its caches, stacks. */
#define REST_BYTES (8ull << 30)

/* Pieces that a balloon may leave of memory that is mapped from a file: the host limits mappings (65530), and the process
 * has others. */
#define PIECES_MAX 16384u

static size_t bytes_of(uint64_t pages)
{
    return (size_t)pages << HV_PAGE_SHIFT;
}

static void *reserve(size_t bytes, int prot)
{
    void *p = mmap(NULL, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static bool try_bits(struct hv_memory *mem, unsigned bits)
{
    mem->base = reserve((size_t)1 << bits, PROT_NONE);
    if (mem->base) /* a child process would keep a copy of what the guest overwrites */
        (void)madvise(mem->base, (size_t)1 << bits, MADV_DONTFORK);
    mem->nr_gfns = mem->base ? 1ull << (bits - HV_PAGE_SHIFT) : 0;
    return mem->base;
}

/* Takes all of the guest physical address space, or under a limit on address space the largest
 * power of two that leaves room for the rest; what lies beyond is a hole that cannot be populated.
 */
static int reserve_guest(struct hv_memory *mem)
{
    void *rest = reserve(REST_BYTES, PROT_NONE);

    for (unsigned bits = HV_GPA_BITS; rest && bits >= MIN_GPA_BITS; bits--)
        if (try_bits(mem, bits))
            break;
    if (rest)
        munmap(rest, REST_BYTES);
    return mem->base || try_bits(mem, MIN_GPA_BITS) ? 0 : -ENOMEM;
}

static int make_shared_file(struct hv_memory *mem)
{
    size_t bytes = bytes_of(HV_MEMORY_MAX_SHARED);
    void *window;

    mem->shared_fd = memfd_create("domus-shared", MFD_CLOEXEC);
    if (mem->shared_fd < 0 || ftruncate(mem->shared_fd, (off_t)bytes) < 0)
        return -errno;
    window = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, mem->shared_fd, 0);
    if (window == MAP_FAILED)
        return -errno;
    mem->shared_base = window;
    return 0;
}

int hv_memory_init(struct hv_memory *mem)
{
    int rc;

    memset(mem, 0, sizeof(*mem));
    mem->shared_fd = -1;
    rc = reserve_guest(mem);
    if (!rc)
        mem->types = reserve(mem->nr_gfns, PROT_READ | PROT_WRITE);
    if (!rc)
        rc = mem->types ? make_shared_file(mem) : -ENOMEM;
    if (rc)
        hv_memory_fini(mem);
    return rc;
}

void hv_memory_fini(struct hv_memory *mem)
{
    if (mem->shared_base)
        munmap(mem->shared_base, bytes_of(HV_MEMORY_MAX_SHARED));
    if (mem->shared_fd >= 0)
        close(mem->shared_fd);
    if (mem->base)
        munmap(mem->base, bytes_of(mem->nr_gfns));
    hv_memory_log_free(mem);
    hv_missing_free(mem);
    if (mem->types)
        munmap(mem->types, mem->nr_gfns);
    hv_hugepages_fini(mem);
    memset(mem, 0, sizeof(*mem));
    mem->shared_fd = -1;
}

static bool in_range(const struct hv_memory *mem, hv_gfn gfn, uint64_t count)
{
    return gfn.v < mem->nr_gfns && count <= mem->nr_gfns - gfn.v;
}

static void *host_of(const struct hv_memory *mem, hv_gfn gfn)
{
    return mem->base + (gfn.v << HV_PAGE_SHIFT);
}

static void set_types(struct hv_memory *mem, hv_gfn gfn, uint64_t count, enum hv_page_type type)
{
    for (uint64_t i = 0; i < count; i++)
        __atomic_store_n(&mem->types[gfn.v + i], (uint8_t)type, __ATOMIC_RELAXED);
}

static uint64_t count_type(const struct hv_memory *mem, hv_gfn gfn, uint64_t count,
                           enum hv_page_type type)
{
    uint64_t found = 0;

    for (uint64_t i = 0; i < count; i++)
        found += hv_memory_type(mem, hv_gfn_of(gfn.v + i)) == type;
    return found;
}

/* Pages that are to be there at once, or for good, are taken now. */
static int hold(const struct hv_memory *mem, hv_gfn gfn, uint64_t count)
{
    if (mem->locked)
        return mlock(host_of(mem, gfn), bytes_of(count));
    if (mem->immediate)
        return madvise(host_of(mem, gfn), bytes_of(count), MADV_POPULATE_WRITE);
    return 0;
}

/* A change of protection keeps the contents of what is RAM already. A huge page has it from the start. */
static int open_up(const struct hv_memory *mem, hv_gfn gfn, uint64_t count)
{
    while (count) {
        uint64_t n = hv_hugepages_run(mem, gfn, count);

        if (!hv_hugepages_has(mem, gfn)) {
            if (mprotect(host_of(mem, gfn), bytes_of(n), PROT_READ | PROT_WRITE) < 0)
                return -ENOMEM;
            (void)madvise(host_of(mem, gfn), bytes_of(n), MADV_HUGEPAGE); /* a wish: fewer faults */
        }
        gfn.v += n;
        count -= n;
    }
    return 0;
}

int hv_memory_populate(struct hv_memory *mem, hv_gfn gfn, uint64_t count)
{
    uint64_t ram, fresh;

    if (!count)
        return 0;
    if (!in_range(mem, gfn, count))
        return -EINVAL;
    ram = count_type(mem, gfn, count, HV_PAGE_RAM);
    fresh = count - ram;
    if (!fresh)
        return 0;
    if (count_type(mem, gfn, count, HV_PAGE_HOLE) != fresh)
        return -EINVAL;
    if (mem->ram_pages > mem->max_pages || fresh > mem->max_pages - mem->ram_pages)
        return -ENOMEM;
    if (hv_hugepages_map(mem, gfn, count) || open_up(mem, gfn, count) || hold(mem, gfn, count))
        return -ENOMEM;
    set_types(mem, gfn, count, HV_PAGE_RAM);
    for (uint64_t i = 0; mem->dirty && i < count; i++)
        hv_memory_mark_dirty(mem, hv_gfn_of(gfn.v + i));
    mem->ram_pages += fresh;
    if (gfn.v + count > mem->top_gfn)
        mem->top_gfn = gfn.v + count;
    return 0;
}

/* What the pages were is of no use any more: nothing comes back, and the host has its memory. Over a file, where the file's
 * contents would come back, they become memory of nothing; where that does not work either, they are cleared. */
static void forget_contents(struct hv_memory *mem, hv_gfn gfn, uint64_t count)
{
    void *p = host_of(mem, gfn);

    if (!mem->over_file && madvise(p, bytes_of(count), MADV_DONTNEED) == 0)
        return;
    if (mem->over_file && mem->pieces++ < PIECES_MAX &&
        mmap(p, bytes_of(count), PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED)
        return;
    memset(p, 0, bytes_of(count)); /* locked memory, or too many mappings */
}

/* What the host takes back; the guest has not got it any more. */
static void give_back(struct hv_memory *mem, hv_gfn gfn, uint64_t count)
{
    while (count) {
        uint64_t n = hv_hugepages_run(mem, gfn, count);

        if (!hv_hugepages_release(mem, gfn, count, &n)) {
            if (mem->locked)
                (void)munlock(host_of(mem, gfn), bytes_of(n)); /* else it cannot be given back */
            forget_contents(mem, gfn, n);
        }
        gfn.v += n;
        count -= n;
    }
}

int hv_memory_release(struct hv_memory *mem, hv_gfn gfn, uint64_t count)
{
    struct hv_missing *missing;

    if (!count)
        return 0;
    if (!in_range(mem, gfn, count) || count_type(mem, gfn, count, HV_PAGE_RAM) != count)
        return -EINVAL;
    set_types(mem, gfn, count, HV_PAGE_HOLE);
    mem->ram_pages -= count;
    missing = hv_missing_forget_begin(mem, gfn, count);
    give_back(mem, gfn, count);
    hv_missing_forget_end(missing);
    return 0;
}

int hv_memory_map_file(struct hv_memory *mem, hv_gfn gfn, uint64_t count, int fd, uint64_t offset)
{
    if (!count || !in_range(mem, gfn, count) || count_type(mem, gfn, count, HV_PAGE_RAM) != count)
        return -EINVAL;
    if (mmap(host_of(mem, gfn), bytes_of(count), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd,
             (off_t)offset) == MAP_FAILED)
        return -errno;
    mem->over_file = true;
    return 0;
}

int hv_memory_alloc_shared(struct hv_memory *mem, uint64_t *index, void **page)
{
    if (mem->shared_pages >= HV_MEMORY_MAX_SHARED)
        return -ENOSPC;
    *index = mem->shared_pages++;
    *page = mem->shared_base + bytes_of(*index);
    return 0;
}

int hv_memory_map_shared(struct hv_memory *mem, hv_gfn gfn, uint64_t index, bool writable)
{
    struct hv_missing *missing;
    enum hv_page_type old;
    void *p;

    if (!in_range(mem, gfn, 1) || index >= mem->shared_pages)
        return -EINVAL;
    if (hv_hugepages_has(mem, gfn)) /* a part of one is no mapping of its own */
        return -ENOMEM;
    old = hv_memory_type(mem, gfn);
    missing = hv_missing_forget_begin(mem, gfn, 1);
    p = mmap(host_of(mem, gfn), HV_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
             mem->shared_fd, (off_t)bytes_of(index));
    hv_missing_forget_end(missing);
    if (p == MAP_FAILED)
        return -ENOMEM;
    if (old == HV_PAGE_RAM)
        mem->ram_pages--;
    set_types(mem, gfn, 1, writable ? HV_PAGE_SHARED : HV_PAGE_SHARED_RO);
    return 0;
}

static bool is_shared(enum hv_page_type type)
{
    return type == HV_PAGE_SHARED || type == HV_PAGE_SHARED_RO;
}

int hv_memory_unmap_shared(struct hv_memory *mem, hv_gfn gfn)
{
    void *p;

    if (!in_range(mem, gfn, 1) || !is_shared(hv_memory_type(mem, gfn)))
        return -EINVAL;
    p = mmap(host_of(mem, gfn), HV_PAGE_SIZE, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (p == MAP_FAILED)
        return -ENOMEM;
    set_types(mem, gfn, 1, HV_PAGE_HOLE);
    return 0;
}

static bool allows(enum hv_page_type type, bool write)
{
    switch (type) {
    case HV_PAGE_RAM:
    case HV_PAGE_SHARED:
        return true;
    case HV_PAGE_SHARED_RO:
        return !write;
    case HV_PAGE_HOLE:
        break;
    }
    return false;
}

void hv_memory_written(struct hv_memory *mem, hv_gpa gpa, size_t bytes)
{
    while (bytes) {
        size_t room = HV_PAGE_SIZE - (gpa.v & HV_PAGE_MASK), n = bytes < room ? bytes : room;

        hv_memory_mark_dirty(mem, hv_gpa_to_gfn(gpa));
        hv_codemap_written(mem->code, gpa, (unsigned)n);
        gpa.v += n;
        bytes -= n;
    }
}

void *hv_memory_at(struct hv_memory *mem, hv_gpa gpa, size_t bytes, bool write)
{
    uint64_t size = mem->nr_gfns << HV_PAGE_SHIFT;
    uint64_t first, last;

    if (!bytes || gpa.v >= size || bytes > size - gpa.v)
        return NULL;
    first = gpa.v >> HV_PAGE_SHIFT;
    last = (gpa.v + (bytes - 1)) >> HV_PAGE_SHIFT;
    for (uint64_t gfn = first; gfn <= last; gfn++)
        if (!allows(hv_memory_type(mem, hv_gfn_of(gfn)), write))
            return NULL;
    /* Before the caller's store, which is right for device DMA: a guest that executes what is being
     * written is not promised either version. */
    if (write)
        hv_memory_written(mem, gpa, bytes);
    return mem->base + gpa.v;
}

int hv_memory_read(struct hv_memory *mem, hv_gpa gpa, void *buf, size_t bytes)
{
    const void *p;

    if (!bytes)
        return 0;
    p = hv_memory_at(mem, gpa, bytes, false);
    if (!p)
        return -EFAULT;
    memcpy(buf, p, bytes);
    return 0;
}

int hv_memory_write(struct hv_memory *mem, hv_gpa gpa, const void *buf, size_t bytes)
{
    void *p;

    if (!bytes)
        return 0;
    p = hv_memory_at(mem, gpa, bytes, true);
    if (!p)
        return -EFAULT;
    memcpy(p, buf, bytes);
    hv_memory_written(mem, gpa, bytes);
    return 0;
}
