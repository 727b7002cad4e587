/* What Xen adds to a vCPU: vcpu_info and the upcall, Xen timers, polling. Runstate is in runstate.c.
 * Source: xen/vcpu.h, xen/xen.h.
 */
#include "config.h"

#include "hv/hypercall/vcpu-xen.h"

#include <errno.h>
#include <stdlib.h>

#include "hv/hypercall/evtchn-core.h"
#include "hv/hypercall/params.h"
#include "hv/hypercall/vcpu-state.h"
#include "hv/machine/lapic.h"
#include "hv/machine/time.h"
#include "hv/machine/vcpu.h"

int hv_vcpu_xen_new(struct hv_vcpu *v)
{
    struct hv_vcpu_xen *x = calloc(1, sizeof(*x));

    if (!x)
        return -ENOMEM;
    pthread_mutex_init(&x->lock, NULL);
    x->runstate.state = RUNSTATE_offline;
    x->runstate.state_entry_time = hv_time_system_ns(v->domain);
    x->info = v->id < XEN_LEGACY_MAX_VCPUS ? &v->domain->shared_info->vcpu_info[v->id] : &x->dummy;
    v->xen = x;
    hv_time_fill_vcpu(v, &x->info->time);
    return 0;
}

void hv_vcpu_xen_free(struct hv_vcpu *v)
{
    if (!v->xen)
        return;
    pthread_mutex_destroy(&v->xen->lock);
    free(v->xen);
    v->xen = NULL;
}

struct vcpu_info *hv_vcpu_info(struct hv_vcpu *v)
{
    return __atomic_load_n(&v->xen->info, __ATOMIC_ACQUIRE);
}

bool hv_vcpu_xen_uses_gfn(struct hv_domain *d, hv_gfn gfn)
{
    for (unsigned i = 0; i < d->nr_vcpus; i++)
        if (d->vcpus[i]->xen->registered && d->vcpus[i]->xen->info_gfn.v == gfn.v)
            return true;
    return false;
}

static bool upcall_pending(struct hv_vcpu *v)
{
    return __atomic_load_n(&hv_vcpu_info(v)->evtchn_upcall_pending, __ATOMIC_SEQ_CST);
}

void hv_vcpu_xen_mark_pending(struct hv_vcpu *v)
{
    uint8_t vector;

    if (__atomic_exchange_n(&hv_vcpu_info(v)->evtchn_upcall_pending, 1, __ATOMIC_SEQ_CST))
        return;
    vector = atomic_load(&v->xen->upcall_vector);
    if (vector)
        hv_lapic_set_upcall(v, vector);
    else
        hv_vcpu_request(v, HV_ATTN_EVENT);
}

void hv_vcpu_xen_retry_upcall(struct hv_vcpu *v)
{
    uint8_t vector = atomic_load(&v->xen->upcall_vector);

    if (!upcall_pending(v))
        return;
    if (vector)
        hv_lapic_set_upcall(v, vector);
    else
        hv_vcpu_request(v, HV_ATTN_EVENT);
}

/* The vector of HVM_PARAM_CALLBACK_IRQ when it is of the vector type, or -1. */
static int callback_vector(struct hv_domain *d)
{
    uint64_t via = hv_param_get(d, HVM_PARAM_CALLBACK_IRQ);

    return via >> 56 == HVM_PARAM_CALLBACK_TYPE_VECTOR ? (int)(via & 0xff) : -1;
}

int hv_vcpu_xen_callback_vector(struct hv_vcpu *v)
{
    if (atomic_load(&v->xen->upcall_vector) || !upcall_pending(v))
        return -1;
    return callback_vector(v->domain);
}

bool hv_vcpu_xen_event_pending(struct hv_vcpu *v)
{
    return upcall_pending(v);
}

void hv_vcpu_xen_poll(struct hv_vcpu *v, uint32_t port, uint64_t timeout_ns)
{
    v->xen->poll_timeout_ns = timeout_ns;
    atomic_store(&v->xen->poll_port, port);
    atomic_fetch_or(&v->domain->evtchn->polling, 1ull << v->id);
}

void hv_vcpu_xen_poll_end(struct hv_vcpu *v)
{
    v->xen->poll_timeout_ns = 0;
    atomic_fetch_and(&v->domain->evtchn->polling, ~(1ull << v->id));
}

void hv_vcpu_xen_poll_event(struct hv_vcpu *v, uint32_t port)
{
    uint32_t wanted = atomic_load(&v->xen->poll_port);

    if (wanted && wanted != port)
        return;
    atomic_fetch_and(&v->domain->evtchn->polling, ~(1ull << v->id));
    hv_vcpu_request(v, HV_ATTN_EVENT);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    if (!a || !b)
        return a ? a : b;
    return a < b ? a : b;
}

uint64_t hv_vcpu_xen_deadline_ns(struct hv_vcpu *v)
{
    const struct hv_vcpu_xen *x = v->xen;
    uint64_t first = earlier(earlier(x->singleshot_ns, x->periodic_ns), x->poll_timeout_ns);

    return first ? hv_time_to_monotonic(v->domain, first) : 0;
}

void hv_vcpu_xen_run_timers(struct hv_vcpu *v)
{
    struct hv_vcpu_xen *x = v->xen;
    uint64_t now = hv_time_system_ns(v->domain);
    bool fire = false;

    if (x->singleshot_ns && x->singleshot_ns <= now) {
        x->singleshot_ns = 0;
        fire = true;
    }
    if (x->periodic_ns && x->periodic_ns <= now) {
        x->periodic_ns += ((now - x->periodic_ns) / x->period_ns + 1) * x->period_ns;
        fire = true;
    }
    if (x->poll_timeout_ns && x->poll_timeout_ns <= now)
        hv_vcpu_xen_poll_end(v); /* that a timer was due has ended the wait */
    if (fire)
        hv_evtchn_virq(v, VIRQ_TIMER);
}
