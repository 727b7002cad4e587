/* The pages of a framebuffer, which the guest names by a directory of lists of page numbers. Source: xen/io/fbif.h. */
#pragma once

#include "hv/domain.h"

struct hv_decoder;
struct hv_encoder;

struct hv_fb_pages {
    uint64_t *gfns;
    size_t bytes; /* of the framebuffer */
};

/* How a guest lays out its unsigned long pd[256]. */
struct hv_fb_directory {
    unsigned offset;      /* of pd in the shared page */
    unsigned entry_bytes; /* 4 or 8 */
};

/* Copies the list of the pages of a framebuffer of @bytes out of the guest, from the shared page at @page. What it says
 * is looked at when a page is read. -EINVAL: a list is no memory; -ENOMEM. */
int hv_fb_pages_init(struct hv_domain *d, hv_gfn page, const struct hv_fb_directory *directory, size_t bytes,
                     struct hv_fb_pages *out) HV_MUST_CHECK;
/* What is appended here, after the number of bytes was told otherwise, is made into pages of so many there. */
void hv_fb_pages_encode(const struct hv_fb_pages *pages, struct hv_encoder *e);
int hv_fb_pages_decode(struct hv_decoder *d, size_t bytes, struct hv_fb_pages *out) HV_MUST_CHECK;
void hv_fb_pages_fini(struct hv_fb_pages *pages);

/* Reads @bytes at @offset, all of them within the framebuffer. What is no memory (any more) reads as 0. */
void hv_fb_pages_read(struct hv_domain *d, const struct hv_fb_pages *pages, size_t offset, void *out, size_t bytes);
