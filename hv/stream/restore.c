/* Restoring from a file: header, state, and memory, which is mapped or read. All of it is looked at before anything runs (verify.c);
 * what is mapped is read aside for that, which takes a fifth of the time that the host needs to make each of its pages appear. */
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
#include "hv/stream/verify.h"

/* Pages that lie together and are not zero are worth a mapping from so many on, and zeroes between them are taken along up to
 * so many; the host limits the number of mappings. */
#define MAP_PAGES_MIN 64u
#define GAP_PAGES_MAX 16u
#define MAPPINGS_MAX  4096u

struct restoring {
    int fd;
    off_t base;
    struct hv_stream_header header;
    bool copy;
    unsigned mappings;
    const uint8_t *present; /* a bit for each page */
};

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

static int bring_in(struct hv_domain *d, struct restoring *r, uint64_t gfn, uint64_t index, uint64_t count)
{
    uint64_t offset = (uint64_t)offset_of(r, index);
    uint8_t *to = d->mem.base + (gfn << HV_PAGE_SHIFT);

    if (!r->copy && count >= MAP_PAGES_MIN && r->mappings < MAPPINGS_MAX &&
        !hv_memory_map_file(&d->mem, hv_gfn_of(gfn), count, r->fd, offset)) {
        r->mappings++;
        return 0;
    }
    return hv_stream_read(r->fd, to, count * HV_PAGE_SIZE, (off_t)offset);
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
        error = bring_in(d, r, gfn + i, index + i, n);
        if (error)
            error = hv_decode_fail(dec, "page 0x%llx cannot be read: %s", (unsigned long long)(gfn + i), strerror(-error));
    }
    return error;
}

static int restore_memory(struct hv_domain *d, struct hv_decoder *dec, void *opaque)
{
    struct restoring *r = opaque;
    uint64_t gfn = 0, index = 0, count;
    struct hv_verify check;
    int error = 0;

    if (r->header.memory_pages != d->mem.ram_pages)
        return hv_decode_fail(dec, "there are %llu pages, and the memory map has %llu",
                              (unsigned long long)r->header.memory_pages, (unsigned long long)d->mem.ram_pages);
    r->present = hv_decode_bytes(dec, (d->mem.ram_pages + 7) / 8);
    if (!r->present)
        return -EBADMSG;
    check = (struct hv_verify){.fd = r->copy ? -1 : r->fd, .offset = offset_of(r, 0), .present = r->present,
                               .nr_sums = dec->left / 4};
    check.sums = hv_decode_bytes(dec, check.nr_sums * 4);
    for (; !error && (count = hv_physmap_next_run(d, &gfn)); gfn += count, index += count)
        error = restore_run(d, r, gfn, index, count, dec);
    return error ? error : hv_stream_verify(d, &check, dec);
}

/* ------------------------------------------------------------------ header and state */

static int read_header(struct restoring *r, char error[HV_STREAM_ERROR_BYTES])
{
    void *page;
    int rc;

    if (posix_memalign(&page, HV_PAGE_SIZE, HV_PAGE_SIZE))
        return -ENOMEM;
    rc = hv_stream_read(r->fd, page, HV_PAGE_SIZE, r->base);
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
    rc = hv_stream_read(r->fd, state, bytes, r->base + (off_t)r->header.state_offset);
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
    d->frozen = true;
    rc = read_header(&r, error);
    if (!rc)
        rc = check_size(&r, error);
    if (!rc)
        rc = restore_state(d, &r, error);
    if (rc && !error[0])
        snprintf(error, HV_STREAM_ERROR_BYTES, "%s", strerror(-rc));
    return rc;
}
