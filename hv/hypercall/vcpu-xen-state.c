/* What Xen adds to a vCPU, in a stream. */
#include "config.h"

#include <errno.h>
#include <string.h>

#include "hv/hypercall/evtchn-core.h"
#include "hv/hypercall/vcpu-state.h"
#include "hv/hypercall/vcpu-xen.h"
#include "hv/machine/dirty.h"
#include "hv/stream/codec.h"

struct xen_state {
    bool registered, initialised, polling;
    uint64_t info_gfn;
    uint32_t info_offset;
    struct vcpu_info dummy;
    struct vcpu_runstate_info runstate;
    uint64_t runstate_gva;
    uint8_t upcall_vector;
    uint64_t singleshot_ns, periodic_ns, period_ns, poll_timeout_ns;
    uint32_t poll_port;
};

#define PERIOD_MAX_NS (1ull << 60)

static const struct hv_field state_fields[] = {
    HV_FIELD_BOOL(1, struct xen_state, registered),
    HV_FIELD_BOOL(2, struct xen_state, initialised),
    HV_FIELD_BOOL(3, struct xen_state, polling),
    HV_FIELD(4, struct xen_state, info_gfn),
    HV_FIELD_MAX(5, struct xen_state, info_offset, HV_PAGE_SIZE - sizeof(struct vcpu_info)),
    HV_FIELD(6, struct xen_state, dummy),
    HV_FIELD(7, struct xen_state, runstate),
    HV_FIELD(8, struct xen_state, runstate_gva),
    HV_FIELD(9, struct xen_state, upcall_vector),
    HV_FIELD(10, struct xen_state, singleshot_ns),
    HV_FIELD(11, struct xen_state, periodic_ns),
    HV_FIELD_MAX(12, struct xen_state, period_ns, PERIOD_MAX_NS),
    HV_FIELD(13, struct xen_state, poll_timeout_ns),
    HV_FIELD(14, struct xen_state, poll_port),
};

void hv_vcpu_xen_encode(const struct hv_vcpu *v, struct hv_encoder *e)
{
    const struct hv_vcpu_xen *x = v->xen;
    const struct xen_state state = {
        .registered = x->registered,
        .initialised = x->initialised,
        .polling = atomic_load(&v->domain->evtchn->polling) >> v->id & 1,
        .info_gfn = x->registered ? x->info_gfn.v : 0,
        .info_offset = x->registered ? (uint32_t)((uintptr_t)x->info & HV_PAGE_MASK) : 0,
        .dummy = x->dummy,
        .runstate = x->runstate,
        .runstate_gva = x->runstate_gva,
        .upcall_vector = atomic_load(&x->upcall_vector),
        .singleshot_ns = x->singleshot_ns,
        .periodic_ns = x->periodic_ns,
        .period_ns = x->period_ns,
        .poll_timeout_ns = x->poll_timeout_ns,
        .poll_port = atomic_load(&x->poll_port),
    };

    hv_encode_fields(e, state_fields, HV_ARRAY_LEN(state_fields), &state);
}

static int place_info(struct hv_vcpu *v, const struct xen_state *state, struct hv_decoder *d)
{
    struct hv_memory *mem = &v->domain->mem;
    hv_gfn gfn = hv_gfn_of(state->info_gfn);
    uint8_t *page = NULL;

    if (hv_memory_type(mem, gfn) == HV_PAGE_RAM)
        page = hv_memory_at(mem, hv_gfn_to_gpa(gfn), HV_PAGE_SIZE, true);
    if (!page || state->info_offset % 8)
        return hv_decode_fail(d, "vcpu_info cannot be at page 0x%llx, offset %u", (unsigned long long)gfn.v,
                              state->info_offset);
    v->xen->registered = true;
    v->xen->info_gfn = gfn;
    __atomic_store_n(&v->xen->info, (void *)(page + state->info_offset), __ATOMIC_RELEASE);
    return 0;
}

int hv_vcpu_xen_decode(struct hv_vcpu *v, struct hv_decoder *d)
{
    struct hv_vcpu_xen *x = v->xen;
    struct xen_state state;
    int error = hv_decode_fields(d, state_fields, HV_ARRAY_LEN(state_fields), &state);

    if (error)
        return error;
    if (state.runstate.state > RUNSTATE_offline || state.runstate.state < 0 || (state.periodic_ns && !state.period_ns) ||
        (state.upcall_vector && state.upcall_vector < 16))
        return hv_decode_fail(d, "its runstate, timer or upcall vector makes no sense");
    x->initialised = state.initialised;
    x->dummy = state.dummy;
    x->runstate = state.runstate;
    x->runstate_gva = state.runstate_gva;
    atomic_store(&x->upcall_vector, state.upcall_vector);
    x->singleshot_ns = state.singleshot_ns;
    x->periodic_ns = state.periodic_ns;
    x->period_ns = state.period_ns;
    x->poll_timeout_ns = state.poll_timeout_ns;
    atomic_store(&x->poll_port, state.poll_port);
    if (state.polling)
        atomic_fetch_or(&v->domain->evtchn->polling, 1ull << v->id);
    return state.registered ? place_info(v, &state, d) : 0;
}

void hv_vcpu_xen_mark_own(struct hv_domain *d)
{
    for (unsigned i = 0; i < d->nr_vcpus; i++)
        if (d->vcpus[i]->xen->registered)
            hv_memory_mark_dirty(&d->mem, d->vcpus[i]->xen->info_gfn);
}
