/* How fast the guest changes its memory. */
#include "config.h"

#include "hv/machine/dirty-rate.h"

#include <errno.h>
#include <stdlib.h>

#include "hv/domain.h"
#include "hv/loop.h"
#include "hv/machine/dirty.h"
#include "hv/machine/vcpu.h"

#define SECOND 1000000000ull

struct hv_dirty_rate {
    struct hv_domain *domain;
    struct hv_loop_source *timer;
    struct domus_dirty_rate rate;
};

static uint64_t count_pages(struct hv_memory *mem)
{
    uint64_t pages = 0;

    for (uint64_t word = 0; word < (mem->nr_gfns + 63) / 64; word++)
        pages += (uint64_t)__builtin_popcountll(hv_memory_log_take(mem, word));
    return pages;
}

static void end(void *opaque)
{
    struct hv_dirty_rate *m = opaque;
    struct hv_memory *mem = &m->domain->mem;

    if (m->rate.state != DOMUS_DIRTY_RATE_MEASURING)
        return;
    m->rate.pages = count_pages(mem);
    m->rate.state = DOMUS_DIRTY_RATE_MEASURED;
    hv_memory_log_stop(mem);
}

static struct hv_dirty_rate *make(struct hv_domain *d)
{
    struct hv_dirty_rate *m = calloc(1, sizeof(*m));

    if (!m)
        return NULL;
    m->domain = d;
    m->timer = hv_loop_add_timer(d->loop, end, m);
    if (!m->timer) {
        free(m);
        return NULL;
    }
    return m;
}

int hv_dirty_rate_start(struct hv_domain *d, unsigned seconds)
{
    uint64_t now = hv_loop_now();
    int error;

    if (!d->dirty_rate)
        d->dirty_rate = make(d);
    if (!d->dirty_rate)
        return -ENOMEM;
    error = hv_memory_log_start(&d->mem);
    if (error)
        return error;
    hv_domain_flush_tlb(d);
    d->dirty_rate->rate = (struct domus_dirty_rate){.seconds = seconds, .state = DOMUS_DIRTY_RATE_MEASURING,
                                                    .start_s = now / SECOND};
    hv_loop_arm(d->dirty_rate->timer, now + seconds * SECOND);
    return 0;
}

void hv_dirty_rate_stop(struct hv_domain *d)
{
    struct hv_dirty_rate *m = d->dirty_rate;

    if (!m || m->rate.state != DOMUS_DIRTY_RATE_MEASURING)
        return;
    hv_loop_arm(m->timer, 0);
    m->rate.state = DOMUS_DIRTY_RATE_NONE;
    hv_memory_log_stop(&d->mem);
}

void hv_dirty_rate_get(const struct hv_domain *d, struct domus_dirty_rate *rate)
{
    *rate = d->dirty_rate ? d->dirty_rate->rate : (struct domus_dirty_rate){0};
}

void hv_dirty_rate_free(struct hv_domain *d)
{
    if (!d->dirty_rate)
        return;
    hv_loop_remove(d->dirty_rate->timer);
    free(d->dirty_rate);
    d->dirty_rate = NULL;
}
