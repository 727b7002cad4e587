/* Pages that were never touched, as the host's page tables have them: /proc/self/pagemap, see Linux's
 * Documentation/admin-guide/mm/pagemap.rst. */
#include "config.h"

#include "hv/stream/touched.h"

#include <string.h>
#include <unistd.h>

#include "hv/control/control.h"

#define PRESENT (1ull << 63)
#define SWAPPED (1ull << 62)

void hv_touched_init(struct hv_touched *t, const struct hv_domain *d)
{
    t->domain = d;
    t->first = t->count = 0;
}

/* What cannot be told counts as touched; over a file, what is not there is what the file has. */
static void look(struct hv_touched *t, uint64_t gfn)
{
    const struct hv_domain *d = t->domain;
    uint64_t page = ((uintptr_t)d->mem.base >> HV_PAGE_SHIFT) + gfn;
    int fd = d->control ? d->control->pagemap_fd : -1;
    ssize_t n = -1;

    if (fd >= 0 && !d->mem.over_file)
        n = pread(fd, t->entries, sizeof(t->entries), (off_t)(page * sizeof(uint64_t)));
    t->first = gfn;
    t->count = n > 0 ? (uint64_t)n / sizeof(uint64_t) : 0;
    if (t->count)
        return;
    memset(t->entries, 0xff, sizeof(t->entries));
    t->count = HV_TOUCHED_PAGES;
}

bool hv_touched_page(struct hv_touched *t, uint64_t gfn)
{
    if (gfn - t->first >= t->count)
        look(t, gfn);
    return t->entries[gfn - t->first] & (PRESENT | SWAPPED);
}
