/* Runstate: accounting, and the copy in the guest's memory.
 *
 * The guest registers a linear address, so the copy is written through its page tables as they are at that
 * moment; when they do not map it (user page tables of a kernel with KPTI), this update is skipped and the
 * next one tells all. Source: xen/vcpu.h.
 */
#include "config.h"

#include "hv/hypercall/runstate.h"

#include <string.h>

#include "hv/hypercall/hypercall.h"
#include "hv/hypercall/params.h"
#include "hv/hypercall/vcpu-state.h"
#include "hv/hypercall/vcpu-xen.h"
#include "hv/machine/time.h"

static void account_locked(struct hv_vcpu *v)
{
    struct vcpu_runstate_info *r = &v->xen->runstate;
    uint64_t now = hv_time_system_ns(v->domain);

    if (now > r->state_entry_time)
        r->time[r->state] += now - r->state_entry_time;
    r->state_entry_time = now;
}

void hv_runstate_get(struct hv_vcpu *v, struct vcpu_runstate_info *out)
{
    struct hv_vcpu_xen *x = v->xen;
    uint64_t now = hv_time_system_ns(v->domain);

    pthread_mutex_lock(&x->lock);
    *out = x->runstate;
    pthread_mutex_unlock(&x->lock);
    if (now > out->state_entry_time) /* the times add up to the present */
        out->time[out->state] += now - out->state_entry_time;
}

/* Writes the copy; with the update flag of vm_assist, so that the guest can see a torn read. */
static int publish(struct hv_vcpu *v, const struct vcpu_runstate_info *info)
{
    const uint64_t at_entry = offsetof(struct vcpu_runstate_info, state_entry_time);
    struct hv_caller self = {.kind = HV_CALLER_GUEST, .domain = v->domain, .vcpu = v};
    struct vcpu_runstate_info copy = *info;
    uint64_t gva = v->xen->runstate_gva;
    bool flagged = hv_vm_assist_get(v->domain) & 1ull << VMASST_TYPE_runstate_update_flag;
    int error = 0;

    if (!flagged)
        return hv_caller_write(&self, gva, &copy, sizeof(copy));
    copy.state_entry_time |= XEN_RUNSTATE_UPDATE;
    error = hv_caller_write(&self, gva + at_entry, &copy.state_entry_time, sizeof(uint64_t));
    atomic_thread_fence(memory_order_seq_cst);
    if (!error)
        error = hv_caller_write(&self, gva, &copy, sizeof(copy));
    atomic_thread_fence(memory_order_seq_cst);
    copy.state_entry_time &= ~XEN_RUNSTATE_UPDATE;
    if (!error)
        error = hv_caller_write(&self, gva + at_entry, &copy.state_entry_time, sizeof(uint64_t));
    return error;
}

int hv_runstate_register(struct hv_vcpu *v, uint64_t gva)
{
    struct vcpu_runstate_info now;

    v->xen->runstate_gva = gva;
    if (!gva)
        return 0;
    pthread_mutex_lock(&v->xen->lock);
    account_locked(v);
    now = v->xen->runstate;
    pthread_mutex_unlock(&v->xen->lock);
    if (!publish(v, &now))
        return 0;
    v->xen->runstate_gva = 0;
    return -XEN_EFAULT;
}

void hv_vcpu_xen_set_runstate(struct hv_vcpu *v, int runstate)
{
    struct hv_vcpu_xen *x = v->xen;
    struct vcpu_runstate_info now;

    pthread_mutex_lock(&x->lock);
    account_locked(v);
    x->runstate.state = runstate;
    now = x->runstate;
    pthread_mutex_unlock(&x->lock);
    if (x->runstate_gva)
        (void)!publish(v, &now);
}
