/* Inside streams: which pages of RAM were never touched, and so are zeroes that need not be read: the host would have to make a
 * page of its own of each, and the guest's neighbours wait meanwhile. */
#pragma once

#include "hv/domain.h"

#define HV_TOUCHED_PAGES 512u

struct hv_touched {
    const struct hv_domain *domain;
    uint64_t first, count; /* pages that are known */
    uint64_t entries[HV_TOUCHED_PAGES];
};

void hv_touched_init(struct hv_touched *t, const struct hv_domain *d);
/* False only for a page that was not touched before this was asked of it or of one near it. */
bool hv_touched_page(struct hv_touched *t, uint64_t gfn);
