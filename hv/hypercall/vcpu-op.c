/* vcpu_op and set_timer_op. Source: xen/vcpu.h, xen/hvm/hvm_vcpu.h, xen/xen.h. */
#include "config.h"

#include "hv/hypercall/families.h"

#include "hv/hypercall/evtchn.h"
#include "hv/hypercall/runstate.h"
#include "hv/hypercall/subop.h"
#include "hv/hypercall/vcpu-init.h"
#include "hv/hypercall/vcpu-state.h"
#include "hv/hypercall/vcpu-xen.h"
#include "hv/machine/time.h"
#include "hv/machine/vcpu.h"

#define MIN_PERIOD_NS 1000000ull
#define MAX_PERIOD_NS (1ull << 60)

/* The vCPU that args[1] names; hv_vcpu_op has checked it. */
static struct hv_vcpu *target(struct hv_caller *c, const uint64_t args[5])
{
    return c->domain->vcpus[(uint32_t)args[1]];
}

static long initialise(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct hv_vcpu *v = target(c, args);
    long result = -XEN_EEXIST;

    pthread_mutex_lock(&c->domain->lock);
    if (!v->xen->initialised && !hv_vcpu_is_online(v))
        result = hv_vcpu_init_context(v, arg);
    if (result == 0)
        v->xen->initialised = true;
    pthread_mutex_unlock(&c->domain->lock);
    return result;
}

/* A vCPU that INIT and SIPI or the builder started counts as initialised as well. */
static long up(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct hv_vcpu *v = target(c, args);
    bool ready;

    (void)arg;
    pthread_mutex_lock(&c->domain->lock);
    ready = v->xen->initialised;
    pthread_mutex_unlock(&c->domain->lock);
    if (!ready && !hv_vcpu_is_online(v))
        return -XEN_EINVAL;
    hv_vcpu_set_online(v, true);
    return 0;
}

static long down(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)arg;
    hv_vcpu_down(target(c, args));
    return 0;
}

static long is_up(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)arg;
    return hv_vcpu_is_online(target(c, args));
}

static long get_runstate_info(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)arg;
    hv_runstate_get(target(c, args), arg);
    return 0;
}

/* The area is written on the vCPU's own thread, so only the vCPU itself may name it. */
static long register_runstate(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct vcpu_register_runstate_memory_area *area = arg;

    if (target(c, args) != c->vcpu)
        return -XEN_EINVAL;
    return hv_runstate_register(c->vcpu, area->addr.p);
}

/* The guest's TSC gives system time by the same numbers for ever: the area is written once. */
static long register_time(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct vcpu_register_time_memory_area *area = arg;
    struct vcpu_time_info info = {.version = 0};

    hv_time_fill_vcpu(target(c, args), &info);
    return hv_caller_write(c, area->addr.p, &info, sizeof(info));
}

static long set_periodic(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct vcpu_set_periodic_timer *op = arg;
    struct hv_vcpu_xen *x = c->vcpu->xen;

    if (target(c, args) != c->vcpu || op->period_ns < MIN_PERIOD_NS || op->period_ns > MAX_PERIOD_NS)
        return -XEN_EINVAL;
    x->period_ns = op->period_ns;
    x->periodic_ns = hv_time_system_ns(c->domain) + op->period_ns;
    hv_vcpu_request(c->vcpu, HV_ATTN_TIMER);
    return 0;
}

static long stop_periodic(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)arg;
    if (target(c, args) != c->vcpu)
        return -XEN_EINVAL;
    c->vcpu->xen->periodic_ns = 0;
    return 0;
}

static long set_singleshot(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct vcpu_set_singleshot_timer *op = arg;

    if (target(c, args) != c->vcpu)
        return -XEN_EINVAL;
    if ((op->flags & VCPU_SSHOTTMR_future) && op->timeout_abs_ns < hv_time_system_ns(c->domain))
        return -XEN_ETIME;
    /* Time 0 is long past, not "off": that has an operation of its own. */
    c->vcpu->xen->singleshot_ns = op->timeout_abs_ns ? op->timeout_abs_ns : 1;
    hv_vcpu_request(c->vcpu, HV_ATTN_TIMER);
    return 0;
}

static long stop_singleshot(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)arg;
    if (target(c, args) != c->vcpu)
        return -XEN_EINVAL;
    c->vcpu->xen->singleshot_ns = 0;
    return 0;
}

/* Everything pends once after the move: the guest looks at all its ports, and no event is lost. */
static void move_vcpu_info(struct hv_vcpu *v, struct vcpu_info *to, hv_gfn gfn)
{
    struct hv_vcpu_xen *x = v->xen;

    *to = *hv_vcpu_info(v);
    x->registered = true;
    x->info_gfn = gfn;
    __atomic_store_n(&x->info, to, __ATOMIC_RELEASE);
    hv_time_fill_vcpu(v, &to->time);
    __atomic_store_n(&to->evtchn_upcall_pending, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&to->evtchn_pending_sel, ~0ul, __ATOMIC_SEQ_CST);
    hv_vcpu_xen_mark_pending(v);
}

static long register_info_locked(struct hv_vcpu *v, const struct vcpu_register_vcpu_info *op)
{
    struct hv_memory *mem = &v->domain->mem;
    hv_gfn gfn = hv_gfn_of(op->mfn);
    void *page;

    if (v->xen->registered || hv_memory_type(mem, gfn) != HV_PAGE_RAM)
        return -XEN_EINVAL;
    page = hv_memory_at(mem, hv_gfn_to_gpa(gfn), HV_PAGE_SIZE, true);
    if (!page)
        return -XEN_EINVAL;
    move_vcpu_info(v, (void *)((uint8_t *)page + op->offset), gfn);
    return 0;
}

static long register_info(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct vcpu_register_vcpu_info *op = arg;
    struct hv_vcpu *v = target(c, args);
    long result;

    if (op->offset > HV_PAGE_SIZE - sizeof(struct vcpu_info) || op->offset % 8)
        return -XEN_EINVAL;
    if (v != c->vcpu && hv_vcpu_is_online(v))
        return -XEN_EINVAL;
    pthread_mutex_lock(&c->domain->lock); /* the page must not go away before it is noted as used */
    result = register_info_locked(v, op);
    pthread_mutex_unlock(&c->domain->lock);
    return result;
}

static long send_nmi(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)arg;
    hv_vcpu_send_nmi(target(c, args));
    return 0;
}

#define GUEST HV_CALLER_GUEST

static const struct hv_subop ops[] = {
    [VCPUOP_initialise] = {"initialise", initialise, sizeof(struct vcpu_hvm_context), HV_ARG_IN, GUEST},
    [VCPUOP_up] = {"up", up, 0, HV_ARG_NONE, GUEST},
    [VCPUOP_down] = {"down", down, 0, HV_ARG_NONE, GUEST},
    [VCPUOP_is_up] = {"is_up", is_up, 0, HV_ARG_NONE, GUEST},
    [VCPUOP_get_runstate_info] = {"get_runstate_info", get_runstate_info, sizeof(struct vcpu_runstate_info),
                                  HV_ARG_OUT, GUEST},
    [VCPUOP_register_runstate_memory_area] = {"register_runstate_memory_area", register_runstate,
                                              sizeof(struct vcpu_register_runstate_memory_area), HV_ARG_IN,
                                              GUEST},
    [VCPUOP_set_periodic_timer] = {"set_periodic_timer", set_periodic,
                                   sizeof(struct vcpu_set_periodic_timer), HV_ARG_IN, GUEST},
    [VCPUOP_stop_periodic_timer] = {"stop_periodic_timer", stop_periodic, 0, HV_ARG_NONE, GUEST},
    [VCPUOP_set_singleshot_timer] = {"set_singleshot_timer", set_singleshot,
                                     sizeof(struct vcpu_set_singleshot_timer), HV_ARG_IN, GUEST},
    [VCPUOP_stop_singleshot_timer] = {"stop_singleshot_timer", stop_singleshot, 0, HV_ARG_NONE, GUEST},
    [VCPUOP_register_vcpu_info] = {"register_vcpu_info", register_info,
                                   sizeof(struct vcpu_register_vcpu_info), HV_ARG_IN, GUEST},
    [VCPUOP_send_nmi] = {"send_nmi", send_nmi, 0, HV_ARG_NONE, GUEST},
    [VCPUOP_get_physid] = {"get_physid", NULL, 0, 0, 0},
    [VCPUOP_register_vcpu_time_memory_area] = {"register_vcpu_time_memory_area", register_time,
                                               sizeof(struct vcpu_register_time_memory_area), HV_ARG_IN,
                                               GUEST},
};
static const struct hv_subop_family family = HV_SUBOP_FAMILY("vcpu_op", ops);

/* args: operation, vCPU number, address of the structure. */
long hv_vcpu_op(struct hv_caller *c, const uint64_t args[5])
{
    if ((uint32_t)args[1] >= c->domain->nr_vcpus)
        return -XEN_ENOENT;
    return hv_subop_run(&family, c, (uint32_t)args[0], args, args[2]);
}

/* args: absolute system time, 0 for off. */
long hv_set_timer_op(struct hv_caller *c, const uint64_t args[5])
{
    c->vcpu->xen->singleshot_ns = args[0];
    hv_vcpu_request(c->vcpu, HV_ATTN_TIMER);
    return 0;
}
