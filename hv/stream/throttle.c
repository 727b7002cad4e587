/* Slowing a guest down. */
#include "config.h"

#include "hv/stream/throttle.h"

#include <stdlib.h>

#include "hv/loop.h"
#include "hv/machine/vcpu.h"

#define PERIOD_NS     20000000ull
#define FIRST_PERCENT 20u
#define STEP_PERCENT  10u
#define MOST_PERCENT  99u

struct hv_stream_throttle {
    struct hv_domain *domain;
    struct hv_loop_source *timer;
    unsigned percent;
    bool holding;
};

static void set_holding(struct hv_stream_throttle *t, bool holding)
{
    if (t->holding == holding)
        return;
    t->holding = holding;
    if (holding)
        hv_domain_pause(t->domain);
    else
        hv_domain_unpause(t->domain);
}

static void turn(void *opaque)
{
    struct hv_stream_throttle *t = opaque;
    uint64_t part;

    if (!t->percent)
        return;
    set_holding(t, !t->holding);
    part = t->holding ? t->percent : 100 - t->percent;
    hv_loop_arm(t->timer, hv_loop_now() + PERIOD_NS * part / 100);
}

struct hv_stream_throttle *hv_stream_throttle_new(struct hv_domain *d)
{
    struct hv_stream_throttle *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->domain = d;
    t->timer = hv_loop_add_timer(d->loop, turn, t);
    if (t->timer)
        return t;
    free(t);
    return NULL;
}

void hv_stream_throttle_free(struct hv_stream_throttle *t)
{
    if (!t)
        return;
    hv_stream_throttle_off(t);
    hv_loop_remove(t->timer);
    free(t);
}

void hv_stream_throttle_more(struct hv_stream_throttle *t)
{
    bool first = !t->percent;

    t->percent = first ? FIRST_PERCENT : t->percent + STEP_PERCENT < MOST_PERCENT ? t->percent + STEP_PERCENT : MOST_PERCENT;
    if (first)
        turn(t);
}

void hv_stream_throttle_off(struct hv_stream_throttle *t)
{
    t->percent = 0;
    set_holding(t, false);
    hv_loop_arm(t->timer, 0);
}

unsigned hv_stream_throttle_percent(const struct hv_stream_throttle *t)
{
    return t->percent;
}
