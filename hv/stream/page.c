/* Pages of zeroes. */
#include "config.h"

#include "hv/stream/job.h"

#include <string.h>

bool hv_stream_page_is_zero(const void *page)
{
    const uint64_t *words = page;

    /* Most pages that are not zero tell so at once; the rest is the C library's fastest comparison, with itself. */
    return !words[0] && !words[HV_PAGE_SIZE / 16] && !memcmp(page, (const uint8_t *)page + 8, HV_PAGE_SIZE - 8);
}
