/* Restoring from a file: header, state, and memory, which is mapped or read. All of it is looked at before anything runs; what is
 * mapped is read aside for that, which takes a fifth of the time that the host needs to make each of its pages appear. */
#include "config.h"

#include "hv/stream/job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hv/hypercall/physmap.h"

/* Pages that lie together and are not zero are worth a mapping from so many on, and zeroes between them are taken along up to
 * so many; the host limits the number of mappings. */
#define MAP_PAGES_MIN 64u
#define GAP_PAGES_MAX 16u
#define MAPPINGS_MAX  4096u
#define LOOK_PAGES    32u /* read aside at a time: they stay in the processor's cache */

struct restoring {
    int fd;
    off_t base;
    struct hv_stream_header header;
    bool copy;
    unsigned mappings;
    const uint8_t *present; /* a bit for each page */
    const uint8_t *sums;    /* of those that are there, 4 bytes each; */
    uint64_t nr_sums, summed;
    uint8_t *aside; /* room for LOOK_PAGES */
};

static int read_all(int fd, void *bytes, size_t count, off_t offset)
{
    uint8_t *to = bytes;

    while (count) {
        ssize_t done = pread(fd, to, count, offset);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? -errno : -ENODATA;
        to += done;
        offset += done;
        count -= (size_t)done;
    }
    return 0;
}

/* ------------------------------------------------------------------ memory */

static bool is_present(const struct restoring *r, uint64_t index)
{
    return r->present[index / 8] >> (index % 8) & 1;
}

/* Pages from @index on, at most @room, that come in one go: the first is there. */
static uint64_t extent_at(const struct restoring *r, uint64_t index, uint64_t room)
{
    uint64_t end = 1, gap = 0;

    for (uint64_t i = 1; i < room && gap <= GAP_PAGES_MAX; i++) {
        gap = is_present(r, index + i) ? 0 : gap + 1;
        if (!gap)
            end = i + 1;
    }
    return end;
}

static off_t offset_of(const struct restoring *r, uint64_t index)
{
    return r->base + (off_t)(r->header.memory_offset + index * HV_PAGE_SIZE);
}

/* *@mapped: not read. */
static int bring_in(struct hv_domain *d, struct restoring *r, uint64_t gfn, uint64_t index, uint64_t count, bool *mapped)
{
    uint64_t offset = (uint64_t)offset_of(r, index);
    uint8_t *to = d->mem.base + (gfn << HV_PAGE_SHIFT);

    *mapped = false;
    if (!r->copy && count >= MAP_PAGES_MIN && r->mappings < MAPPINGS_MAX &&
        !hv_memory_map_file(&d->mem, hv_gfn_of(gfn), count, r->fd, offset)) {
        r->mappings++;
        *mapped = true;
        return 0;
    }
    return read_all(r->fd, to, count * HV_PAGE_SIZE, (off_t)offset);
}

/* @pages: what the file has of them. */
static int check_pages(struct restoring *r, const uint8_t *pages, uint64_t gfn, uint64_t index, uint64_t count,
                       struct hv_decoder *dec)
{
    for (uint64_t i = 0; i < count; i++) {
        uint32_t sum;

        if (!is_present(r, index + i))
            continue;
        if (r->summed == r->nr_sums)
            return hv_decode_fail(dec, "checksums are missing");
        memcpy(&sum, r->sums + 4 * r->summed++, sizeof(sum));
        if (sum != hv_crc32c(0, pages + i * HV_PAGE_SIZE, HV_PAGE_SIZE))
            return hv_decode_fail(dec, "page 0x%llx is damaged", (unsigned long long)(gfn + i));
    }
    return 0;
}

static int cannot_read(struct hv_decoder *dec, uint64_t gfn, int error)
{
    return hv_decode_fail(dec, "page 0x%llx cannot be read: %s", (unsigned long long)gfn, strerror(-error));
}

/* The same of what was mapped. */
static int check_file(struct restoring *r, uint64_t gfn, uint64_t index, uint64_t count, struct hv_decoder *dec)
{
    int error = 0;

    for (uint64_t n; !error && count; gfn += n, index += n, count -= n) {
        n = count < LOOK_PAGES ? count : LOOK_PAGES;
        error = read_all(r->fd, r->aside, n * HV_PAGE_SIZE, offset_of(r, index));
        error = error ? cannot_read(dec, gfn, error) : check_pages(r, r->aside, gfn, index, n, dec);
    }
    return error;
}

static int restore_extent(struct hv_domain *d, struct restoring *r, uint64_t gfn, uint64_t index, uint64_t count,
                          struct hv_decoder *dec)
{
    bool mapped;
    int error = bring_in(d, r, gfn, index, count, &mapped);

    if (error)
        return cannot_read(dec, gfn, error);
    return mapped ? check_file(r, gfn, index, count, dec)
                  : check_pages(r, d->mem.base + (gfn << HV_PAGE_SHIFT), gfn, index, count, dec);
}

static int restore_run(struct hv_domain *d, struct restoring *r, uint64_t gfn, uint64_t index, uint64_t count,
                       struct hv_decoder *dec)
{
    int error = 0;

    for (uint64_t i = 0, n; !error && i < count; i += n) {
        n = 1;
        if (!is_present(r, index + i))
            continue;
        n = extent_at(r, index + i, count - i);
        error = restore_extent(d, r, gfn + i, index + i, n, dec);
    }
    return error;
}

static int restore_memory(struct hv_domain *d, struct hv_decoder *dec, void *opaque)
{
    struct restoring *r = opaque;
    uint64_t gfn = 0, index = 0, count;
    int error = 0;

    if (r->header.memory_pages != d->mem.ram_pages)
        return hv_decode_fail(dec, "there are %llu pages, and the memory map has %llu",
                              (unsigned long long)r->header.memory_pages, (unsigned long long)d->mem.ram_pages);
    r->present = hv_decode_bytes(dec, (d->mem.ram_pages + 7) / 8);
    if (!r->present)
        return -EBADMSG;
    r->nr_sums = dec->left / 4;
    r->sums = hv_decode_bytes(dec, r->nr_sums * 4);
    for (; !error && (count = hv_physmap_next_run(d, &gfn)); gfn += count, index += count)
        error = restore_run(d, r, gfn, index, count, dec);
    if (!error && r->summed != r->nr_sums)
        error = hv_decode_fail(dec, "there are too many checksums");
    return error;
}

/* ------------------------------------------------------------------ header and state */

static int read_header(struct restoring *r, char error[HV_STREAM_ERROR_BYTES])
{
    void *page;
    int rc;

    if (posix_memalign(&page, HV_PAGE_SIZE, HV_PAGE_SIZE))
        return -ENOMEM;
    rc = read_all(r->fd, page, HV_PAGE_SIZE, r->base);
    memcpy(&r->header, page, sizeof(r->header));
    free(page);
    if (rc == -ENODATA)
        snprintf(error, HV_STREAM_ERROR_BYTES, "it is shorter than a saved domain can be");
    return rc ? rc : hv_stream_header_check(&r->header, HV_STREAM_FILE, error);
}

static int check_size(const struct restoring *r, char error[HV_STREAM_ERROR_BYTES])
{
    const struct hv_stream_header *h = &r->header;
    struct stat st;

    if (fstat(r->fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        snprintf(error, HV_STREAM_ERROR_BYTES, "it is not a file");
    else if (h->memory_offset != HV_PAGE_SIZE || h->memory_pages >> (HV_GPA_BITS - HV_PAGE_SHIFT) ||
             h->state_offset != (h->memory_pages + 1) * HV_PAGE_SIZE || h->state_bytes > HV_STREAM_STATE_MAX + 5 * h->memory_pages)
        snprintf(error, HV_STREAM_ERROR_BYTES, "its header makes no sense");
    else if ((uint64_t)(st.st_size - r->base) < h->state_offset + h->state_bytes)
        snprintf(error, HV_STREAM_ERROR_BYTES, "it is cut short: it has %lld bytes, and should have %llu",
                 (long long)st.st_size, (unsigned long long)((uint64_t)r->base + h->state_offset + h->state_bytes));
    return error[0] ? -EBADMSG : 0;
}

static int restore_state(struct hv_domain *d, struct restoring *r, char error[HV_STREAM_ERROR_BYTES])
{
    size_t bytes = (r->header.state_bytes + HV_PAGE_MASK) & ~(size_t)HV_PAGE_MASK;
    void *state;
    int rc;

    if (posix_memalign(&state, HV_PAGE_SIZE, bytes ? bytes : HV_PAGE_SIZE))
        return -ENOMEM;
    rc = read_all(r->fd, state, bytes, r->base + (off_t)r->header.state_offset);
    if (rc == -ENODATA)
        snprintf(error, HV_STREAM_ERROR_BYTES, "it is cut short");
    if (!rc)
        rc = hv_stream_decode_state(d, state, r->header.state_bytes, restore_memory, r, error);
    free(state);
    return rc;
}

int hv_stream_restore(struct hv_domain *d, int fd, unsigned flags, char error[HV_STREAM_ERROR_BYTES])
{
    struct restoring r = {.fd = fd, .copy = (flags & DOMUS_RESTORE_COPY) || d->mem.locked || d->mem.immediate};
    int rc;

    error[0] = '\0';
    r.base = lseek(fd, 0, SEEK_CUR);
    if (r.base < 0 || r.base % HV_PAGE_SIZE)
        return -EINVAL;
    if (posix_memalign((void **)&r.aside, HV_PAGE_SIZE, LOOK_PAGES * HV_PAGE_SIZE))
        return -ENOMEM;
    d->frozen = true;
    rc = read_header(&r, error);
    if (!rc)
        rc = check_size(&r, error);
    if (!rc)
        rc = restore_state(d, &r, error);
    free(r.aside);
    if (rc && !error[0])
        snprintf(error, HV_STREAM_ERROR_BYTES, "%s", strerror(-rc));
    return rc;
}
