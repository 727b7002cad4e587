/* The 2-level ABI: a bitmap of pending ports in shared_info, a selector word in each vcpu_info. */
#include "config.h"

#include "hv/hypercall/evtchn-core.h"

#include "hv/hypercall/vcpu-xen.h"

#define WORD_BITS 64u

static bool test_and_set(xen_ulong_t *words, uint32_t bit)
{
    xen_ulong_t mask = 1ul << (bit % WORD_BITS);

    return __atomic_fetch_or(&words[bit / WORD_BITS], mask, __ATOMIC_SEQ_CST) & mask;
}

static bool test_and_clear(xen_ulong_t *words, uint32_t bit)
{
    xen_ulong_t mask = 1ul << (bit % WORD_BITS);

    return __atomic_fetch_and(&words[bit / WORD_BITS], ~mask, __ATOMIC_SEQ_CST) & mask;
}

static bool test(const xen_ulong_t *words, uint32_t bit)
{
    return __atomic_load_n(&words[bit / WORD_BITS], __ATOMIC_SEQ_CST) >> (bit % WORD_BITS) & 1;
}

/* Tells the vCPU that a word of the bitmap has something in it. */
static void select_word(struct hv_vcpu *v, uint32_t port)
{
    if (!test_and_set(&hv_vcpu_info(v)->evtchn_pending_sel, port / WORD_BITS))
        hv_vcpu_xen_mark_pending(v);
}

static void set_pending(struct hv_domain *d, struct hv_channel *channel, uint32_t port)
{
    if (test_and_set(d->shared_info->evtchn_pending, port))
        return;
    if (!test(d->shared_info->evtchn_mask, port))
        select_word(d->vcpus[channel->vcpu], port);
}

static void clear_pending(struct hv_domain *d, struct hv_channel *channel, uint32_t port)
{
    (void)channel;
    test_and_clear(d->shared_info->evtchn_pending, port);
}

static void unmask(struct hv_domain *d, struct hv_channel *channel, uint32_t port)
{
    if (test_and_clear(d->shared_info->evtchn_mask, port) && test(d->shared_info->evtchn_pending, port))
        select_word(d->vcpus[channel->vcpu], port);
}

static bool is_pending(struct hv_domain *d, uint32_t port)
{
    return test(d->shared_info->evtchn_pending, port);
}

const struct hv_evtchn_abi hv_evtchn_2l = {
    .nr_ports = EVTCHN_2L_NR_CHANNELS,
    .set_pending = set_pending,
    .clear_pending = clear_pending,
    .unmask = unmask,
    .is_pending = is_pending,
};
