/* The pages of a framebuffer. */
#include "config.h"

#include "hv/backend/fb/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/stream/codec.h"

static int read_entry(struct hv_domain *d, hv_gpa at, unsigned bytes, uint64_t *out)
{
    *out = 0; /* a short entry fills its low half */
    return hv_memory_read(&d->mem, at, out, bytes);
}

/* One page of the directory: the numbers of up to a page's worth of entries. */
static int read_list(struct hv_domain *d, uint64_t list, unsigned entry_bytes, uint64_t *gfns, size_t count)
{
    uint8_t raw[HV_PAGE_SIZE];

    if (list >= d->mem.nr_gfns || hv_memory_read(&d->mem, hv_gfn_to_gpa(hv_gfn_of(list)), raw, count * entry_bytes))
        return -EINVAL;
    for (size_t i = 0; i < count; i++)
        memcpy(&gfns[i], raw + i * entry_bytes, entry_bytes); /* little endian, the rest is 0 */
    return 0;
}

static size_t count_of(size_t bytes)
{
    return (bytes + HV_PAGE_MASK) / HV_PAGE_SIZE;
}

int hv_fb_pages_init(struct hv_domain *d, hv_gfn page, const struct hv_fb_directory *directory, size_t bytes,
                     struct hv_fb_pages *out)
{
    size_t count = count_of(bytes), per_list = HV_PAGE_SIZE / directory->entry_bytes;
    int error = 0;

    out->bytes = bytes;
    out->gfns = calloc(count, sizeof(*out->gfns));
    if (!out->gfns)
        return -ENOMEM;
    for (size_t i = 0; !error && i < count; i += per_list) {
        hv_gpa entry = hv_gfn_to_gpa(page);
        uint64_t list;

        entry.v += directory->offset + i / per_list * directory->entry_bytes;
        error = read_entry(d, entry, directory->entry_bytes, &list);
        if (!error)
            error = read_list(d, list, directory->entry_bytes, out->gfns + i,
                              count - i < per_list ? count - i : per_list);
    }
    if (error)
        hv_fb_pages_fini(out);
    return error ? -EINVAL : 0;
}

void hv_fb_pages_encode(const struct hv_fb_pages *pages, struct hv_encoder *e)
{
    hv_encode(e, pages->gfns, count_of(pages->bytes) * sizeof(*pages->gfns));
}

int hv_fb_pages_decode(struct hv_decoder *d, size_t bytes, struct hv_fb_pages *out)
{
    int error;

    out->bytes = bytes;
    out->gfns = calloc(count_of(bytes), sizeof(*out->gfns));
    if (!out->gfns)
        return hv_decode_fail(d, "out of memory");
    error = hv_decode(d, out->gfns, count_of(bytes) * sizeof(*out->gfns));
    if (error)
        hv_fb_pages_fini(out);
    return error;
}

void hv_fb_pages_fini(struct hv_fb_pages *pages)
{
    free(pages->gfns);
    *pages = (struct hv_fb_pages){0};
}

void hv_fb_pages_read(struct hv_domain *d, const struct hv_fb_pages *pages, size_t offset, void *out, size_t bytes)
{
    uint8_t *to = out;

    while (bytes) {
        size_t within = offset & HV_PAGE_MASK, n = HV_PAGE_SIZE - within;
        uint64_t gfn = pages->gfns[offset >> HV_PAGE_SHIFT];

        n = bytes < n ? bytes : n;
        if (gfn >= d->mem.nr_gfns ||
            hv_memory_read(&d->mem, hv_gpa_of((gfn << HV_PAGE_SHIFT) + within), to, n))
            memset(to, 0, n);
        offset += n;
        to += n;
        bytes -= n;
    }
}
