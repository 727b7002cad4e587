/* Pages of RAM whose contents are still elsewhere. The host's side: Linux's Documentation/admin-guide/mm/userfaultfd.rst. */
#include "config.h"

#include "hv/machine/missing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int hv_userfault_open(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) == 0)
        return fd;
    close(fd);
    return -1;
}

static size_t bits_bytes(const struct hv_memory *mem)
{
    return (size_t)((mem->nr_gfns + 63) / 64 * sizeof(uint64_t));
}

static struct hv_missing *make(struct hv_memory *mem)
{
    struct hv_missing *m = calloc(1, sizeof(*m));

    if (!m)
        return NULL;
    m->bits = mmap(NULL, bits_bytes(mem), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (m->bits == MAP_FAILED) {
        free(m);
        return NULL;
    }
    m->mem = mem;
    m->fd = -1;
    pthread_mutex_init(&m->lock, NULL);
    return m;
}

static void *host_of(const struct hv_missing *m, hv_gfn gfn)
{
    return m->mem->base + (gfn.v << HV_PAGE_SHIFT);
}

static int arm_run(const struct hv_missing *m, int fd, uint64_t gfn, uint64_t count)
{
    struct uffdio_register area = {.range = {(uintptr_t)host_of(m, hv_gfn_of(gfn)), count << HV_PAGE_SHIFT},
                                   .mode = UFFDIO_REGISTER_MODE_MISSING};

    return ioctl(fd, UFFDIO_REGISTER, &area) ? -errno : 0;
}

/* All of RAM, so that the number of the host's mappings does not depend on which pages are missing. Before the first is taken
 * away: in memory that is registered the host does not make huge pages by itself, which would fill what is missing. */
static int arm(const struct hv_missing *m, int fd)
{
    const struct hv_memory *mem = m->mem;
    int error = 0;

    for (uint64_t gfn = 0, n; !error && gfn < mem->top_gfn; gfn += n) {
        bool ram = hv_memory_type(mem, hv_gfn_of(gfn)) == HV_PAGE_RAM;

        for (n = 1; gfn + n < mem->top_gfn && (hv_memory_type(mem, hv_gfn_of(gfn + n)) == HV_PAGE_RAM) == ram; n++)
            continue;
        if (ram)
            error = arm_run(m, fd, gfn, n);
    }
    return error;
}

int hv_missing_new(struct hv_memory *mem, int fd)
{
    int error;

    if (mem->missing)
        return -EBUSY;
    if (mem->locked || mem->huge) /* no page of it can be taken back by itself */
        return -EOPNOTSUPP;
    mem->missing = make(mem);
    if (!mem->missing)
        return -ENOMEM;
    error = arm(mem->missing, fd);
    if (!error)
        mem->missing->fd = fd;
    return error;
}

void hv_missing_close(struct hv_missing *m)
{
    if (m->fd >= 0)
        close(m->fd);
    m->fd = -1;
}

void hv_missing_free(struct hv_memory *mem)
{
    struct hv_missing *m = mem->missing;

    if (!m)
        return;
    hv_missing_close(m);
    munmap(m->bits, bits_bytes(mem));
    pthread_mutex_destroy(&m->lock);
    free(m);
    mem->missing = NULL;
}

/* ------------------------------------------------------------------ before there is a thread */

/* Code may have been made of what the pages held. */
static int take_away(struct hv_missing *m, hv_gfn gfn, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (hv_memory_type(m->mem, hv_gfn_of(gfn.v + i)) != HV_PAGE_RAM)
            return -EINVAL;
    hv_memory_written(m->mem, hv_gfn_to_gpa(gfn), count * HV_PAGE_SIZE);
    return madvise(host_of(m, gfn), count * HV_PAGE_SIZE, MADV_DONTNEED) ? -errno : 0;
}

/* The first of @bits that are set without a gap: from bit *@from on, as many as are returned. */
static unsigned first_run(uint64_t bits, unsigned *from)
{
    uint64_t above;

    *from = (unsigned)__builtin_ctzll(bits);
    above = ~(bits >> *from);
    return above ? (unsigned)__builtin_ctzll(above) : 64;
}

int hv_missing_add(struct hv_missing *m, uint64_t word, uint64_t bits)
{
    int error = 0;

    if (word >= bits_bytes(m->mem) / sizeof(uint64_t))
        return bits ? -EINVAL : 0;
    bits &= ~m->bits[word];
    for (uint64_t left = bits; !error && left;) {
        unsigned from, count = first_run(left, &from);

        error = take_away(m, hv_gfn_of(word * 64 + from), count);
        left &= from + count < 64 ? ~0ull << (from + count) : 0;
    }
    if (error)
        return error;
    m->bits[word] |= bits;
    m->count += (uint64_t)__builtin_popcountll(bits);
    return 0;
}

/* ------------------------------------------------------------------ while there is one */

static int zero(struct hv_missing *m, hv_gfn gfn)
{
    struct uffdio_zeropage zero = {.range = {(uintptr_t)host_of(m, gfn), HV_PAGE_SIZE}};

    while (ioctl(m->fd, UFFDIO_ZEROPAGE, &zero))
        if (errno != EAGAIN)
            return -errno;
    return 0;
}

static int copy(struct hv_missing *m, hv_gfn gfn, const void *page)
{
    struct uffdio_copy copy = {.dst = (uintptr_t)host_of(m, gfn), .src = (uintptr_t)page, .len = HV_PAGE_SIZE};

    while (ioctl(m->fd, UFFDIO_COPY, &copy))
        if (errno != EAGAIN)
            return -errno;
    return 0;
}

static bool is_marked(const struct hv_missing *m, hv_gfn gfn)
{
    return gfn.v < m->mem->nr_gfns && (m->bits[gfn.v / 64] >> (gfn.v % 64) & 1);
}

static void unmark(struct hv_missing *m, hv_gfn gfn)
{
    m->count -= is_marked(m, gfn);
    m->bits[gfn.v / 64] &= ~(1ull << (gfn.v % 64));
}

int hv_missing_place(struct hv_missing *m, hv_gfn gfn, const void *page)
{
    int error = 0;

    pthread_mutex_lock(&m->lock);
    if (is_marked(m, gfn)) {
        error = page ? copy(m, gfn, page) : zero(m, gfn);
        if (!error)
            unmark(m, gfn);
    }
    pthread_mutex_unlock(&m->lock);
    return error;
}

/* It may be there by now, or not be ours to fill any more: whoever waits looks again. */
static int wake(struct hv_missing *m, hv_gfn gfn)
{
    struct uffdio_range range = {(uintptr_t)host_of(m, gfn), HV_PAGE_SIZE};

    return ioctl(m->fd, UFFDIO_WAKE, &range) ? -errno : 0;
}

int hv_missing_wanted(struct hv_missing *m, hv_gfn gfn)
{
    int result = 1;

    pthread_mutex_lock(&m->lock);
    if (!is_marked(m, gfn)) {
        result = zero(m, gfn);
        if (result == -EEXIST || result == -ENOENT)
            result = wake(m, gfn);
    }
    pthread_mutex_unlock(&m->lock);
    return result;
}

uint64_t hv_missing_count(struct hv_missing *m)
{
    uint64_t count;

    pthread_mutex_lock(&m->lock);
    count = m->count;
    pthread_mutex_unlock(&m->lock);
    return count;
}

struct hv_missing *hv_missing_forget_begin(struct hv_memory *mem, hv_gfn gfn, uint64_t count)
{
    struct hv_missing *m = mem->missing;

    if (!m)
        return NULL;
    pthread_mutex_lock(&m->lock);
    for (uint64_t i = 0; m->count && i < count; i++)
        unmark(m, hv_gfn_of(gfn.v + i));
    return m;
}

void hv_missing_forget_end(struct hv_missing *m)
{
    if (m)
        pthread_mutex_unlock(&m->lock);
}
