/* The log of writes to guest memory. */
#include "config.h"

#include "hv/machine/dirty.h"

#include <errno.h>
#include <sys/mman.h>

static size_t log_bytes(const struct hv_memory *mem)
{
    return (size_t)((mem->nr_gfns + 63) / 64 * sizeof(uint64_t));
}

int hv_memory_log_start(struct hv_memory *mem)
{
    void *log;

    if (mem->dirty)
        return -EBUSY;
    if (!mem->dirty_room) {
        log = mmap(NULL, log_bytes(mem), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (log == MAP_FAILED)
            return -ENOMEM;
        mem->dirty_room = log;
    }
    __atomic_store_n(&mem->dirty, mem->dirty_room, __ATOMIC_RELEASE);
    return 0;
}

/* Its memory stays: a vCPU may be about to mark a page. */
void hv_memory_log_stop(struct hv_memory *mem)
{
    if (!mem->dirty)
        return;
    __atomic_store_n(&mem->dirty, NULL, __ATOMIC_RELEASE);
    (void)madvise(mem->dirty_room, log_bytes(mem), MADV_DONTNEED);
}

void hv_memory_log_free(struct hv_memory *mem)
{
    if (mem->dirty_room)
        munmap(mem->dirty_room, log_bytes(mem));
    mem->dirty_room = mem->dirty = NULL;
}
