/* event_channel_op: the hypercalls on event channels. Source: xen/event_channel.h. */
#include "config.h"

#include "hv/hypercall/families.h"

#include "hv/hypercall/evtchn-core.h"
#include "hv/hypercall/subop.h"

static struct hv_evtchn *lock(struct hv_caller *c)
{
    pthread_mutex_lock(&c->domain->evtchn->lock);
    return c->domain->evtchn;
}

static long unlock(struct hv_evtchn *e, long result)
{
    pthread_mutex_unlock(&e->lock);
    return result;
}

static long alloc_unbound(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct evtchn_alloc_unbound *op = arg;
    struct hv_evtchn *e;
    long error;

    (void)args;
    if (!hv_caller_owns(c, op->dom))
        return -XEN_ESRCH;
    e = lock(c);
    error = hv_evtchn_alloc_locked(e, HV_CHANNEL_UNBOUND, 0, &op->port);
    if (!error)
        hv_evtchn_find_locked(e, op->port)->remote_domid =
            op->remote_dom == DOMID_SELF ? c->domain->domid : op->remote_dom;
    return unlock(e, error);
}

static long connect_loopback(struct hv_domain *d, struct evtchn_bind_interdomain *op)
{
    struct hv_evtchn *e = d->evtchn;
    struct hv_channel *far = hv_evtchn_find_locked(e, op->remote_port);
    struct hv_channel *near;
    int error;

    if (!far || far->state != HV_CHANNEL_UNBOUND || far->remote_domid != d->domid)
        return -XEN_EINVAL;
    error = hv_evtchn_alloc_locked(e, HV_CHANNEL_LOOPBACK, 0, &op->local_port);
    if (error)
        return error;
    near = hv_evtchn_find_locked(e, op->local_port);
    near->remote_domid = d->domid;
    near->remote_port = op->remote_port;
    far->state = HV_CHANNEL_LOOPBACK;
    far->remote_port = op->local_port;
    /* What the far end sent before is not lost: the new end looks once. */
    hv_evtchn_raise_locked(d, near, op->local_port);
    return 0;
}

/* Only the domain itself offers ports to bind: domain 0's backends bind the guest's. */
static long bind_interdomain(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct evtchn_bind_interdomain *op = arg;
    struct hv_evtchn *e;

    (void)args;
    if (op->remote_dom == 0)
        return -XEN_EINVAL;
    if (!hv_caller_owns(c, op->remote_dom))
        return -XEN_ESRCH;
    e = lock(c);
    return unlock(e, connect_loopback(c->domain, op));
}

/* VIRQs that each vCPU has; the others exist once per domain and start on vCPU 0. */
static bool virq_is_per_vcpu(uint32_t virq)
{
    return virq == VIRQ_TIMER || virq == VIRQ_DEBUG || virq == VIRQ_XENOPROF || virq == VIRQ_XENPMU;
}

static long bind_virq(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct evtchn_bind_virq *op = arg;
    struct hv_evtchn *e;
    long error;

    (void)args;
    if (op->virq >= NR_VIRQS || (op->vcpu && !virq_is_per_vcpu(op->virq)))
        return -XEN_EINVAL;
    if (op->vcpu >= c->domain->nr_vcpus)
        return -XEN_ENOENT;
    e = lock(c);
    if (e->virq_port[op->vcpu][op->virq])
        return unlock(e, -XEN_EEXIST);
    error = hv_evtchn_alloc_locked(e, HV_CHANNEL_VIRQ, op->vcpu, &op->port);
    if (!error) {
        hv_evtchn_find_locked(e, op->port)->virq = (uint8_t)op->virq;
        e->virq_port[op->vcpu][op->virq] = op->port;
    }
    return unlock(e, error);
}

static long bind_ipi(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct evtchn_bind_ipi *op = arg;
    struct hv_evtchn *e;

    (void)args;
    if (op->vcpu >= c->domain->nr_vcpus)
        return -XEN_ENOENT;
    e = lock(c);
    return unlock(e, hv_evtchn_alloc_locked(e, HV_CHANNEL_IPI, op->vcpu, &op->port));
}

static long close_port(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct evtchn_close *op = arg;
    struct hv_evtchn *e = lock(c);
    struct hv_channel *channel = hv_evtchn_find_locked(e, op->port);

    (void)args;
    if (!channel)
        return unlock(e, -XEN_EINVAL);
    hv_evtchn_close_locked(c->domain, channel, op->port);
    return unlock(e, 0);
}

static long send(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct evtchn_send *op = arg;
    struct hv_evtchn *e = lock(c);

    (void)args;
    return unlock(e, hv_evtchn_send_locked(c->domain, op->port));
}

static void describe(const struct hv_channel *channel, struct evtchn_status *op)
{
    static const uint8_t status[] = {
        [HV_CHANNEL_FREE] = EVTCHNSTAT_closed,          [HV_CHANNEL_UNBOUND] = EVTCHNSTAT_unbound,
        [HV_CHANNEL_BACKEND] = EVTCHNSTAT_interdomain,  [HV_CHANNEL_LOOPBACK] = EVTCHNSTAT_interdomain,
        [HV_CHANNEL_VIRQ] = EVTCHNSTAT_virq,            [HV_CHANNEL_IPI] = EVTCHNSTAT_ipi,
    };

    op->status = status[channel->state];
    op->vcpu = channel->vcpu;
    if (op->status == EVTCHNSTAT_unbound) {
        op->u.unbound.dom = channel->remote_domid;
    } else if (op->status == EVTCHNSTAT_interdomain) {
        op->u.interdomain.dom = channel->remote_domid;
        op->u.interdomain.port = channel->remote_port;
    } else if (op->status == EVTCHNSTAT_virq) {
        op->u.virq = channel->virq;
    }
}

static long status(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    static const struct hv_channel closed = {.state = HV_CHANNEL_FREE};
    struct evtchn_status *op = arg;
    struct hv_evtchn *e;
    const struct hv_channel *channel;

    (void)args;
    if (!hv_caller_owns(c, op->dom))
        return -XEN_ESRCH;
    e = lock(c);
    if (op->port > e->max_port)
        return unlock(e, -XEN_EINVAL);
    channel = hv_evtchn_find_locked(e, op->port);
    describe(channel ? channel : &closed, op);
    return unlock(e, 0);
}

/* Moves a global VIRQ's entry along with its port. */
static long move_virq(struct hv_evtchn *e, struct hv_channel *channel, uint32_t vcpu, uint32_t port)
{
    if (virq_is_per_vcpu(channel->virq))
        return -XEN_EINVAL;
    if (vcpu != channel->vcpu && e->virq_port[vcpu][channel->virq])
        return -XEN_EEXIST;
    e->virq_port[channel->vcpu][channel->virq] = 0;
    e->virq_port[vcpu][channel->virq] = port;
    return 0;
}

static long bind_vcpu(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct evtchn_bind_vcpu *op = arg;
    struct hv_evtchn *e;
    struct hv_channel *channel;
    long error = 0;

    (void)args;
    if (op->vcpu >= c->domain->nr_vcpus)
        return -XEN_ENOENT;
    e = lock(c);
    channel = hv_evtchn_find_locked(e, op->port);
    if (!channel || channel->state == HV_CHANNEL_IPI)
        error = -XEN_EINVAL;
    else if (channel->state == HV_CHANNEL_VIRQ)
        error = move_virq(e, channel, op->vcpu, op->port);
    if (!error)
        channel->vcpu = (uint16_t)op->vcpu;
    return unlock(e, error);
}

static long unmask(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct evtchn_unmask *op = arg;
    struct hv_evtchn *e = lock(c);
    struct hv_channel *channel = hv_evtchn_find_locked(e, op->port);

    (void)args;
    if (!channel)
        return unlock(e, -XEN_EINVAL);
    e->abi->unmask(c->domain, channel, op->port);
    return unlock(e, 0);
}

/* Every port closed, back to the 2-level ABI. */
static long reset(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct evtchn_reset *op = arg;
    struct hv_evtchn *e;

    (void)args;
    if (!hv_caller_owns(c, op->dom))
        return -XEN_ESRCH;
    e = lock(c);
    for (uint32_t port = 1; port <= e->max_port; port++) {
        struct hv_channel *channel = hv_evtchn_find_locked(e, port);

        if (channel)
            hv_evtchn_close_locked(c->domain, channel, port);
    }
    hv_fifo_free(e);
    return unlock(e, 0);
}

static long init_control(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct evtchn_init_control *op = arg;
    struct hv_domain *d = c->domain;
    struct hv_evtchn *e;
    long error;

    (void)args;
    if (op->vcpu >= d->nr_vcpus)
        return -XEN_ENOENT;
    op->link_bits = EVTCHN_FIFO_LINK_BITS;
    pthread_mutex_lock(&d->lock); /* the page must not go away before it is noted as used */
    e = lock(c);
    error = unlock(e, hv_fifo_init_control(d, op->vcpu, hv_gfn_of(op->control_gfn), op->offset));
    pthread_mutex_unlock(&d->lock);
    return error;
}

static long expand_array(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct evtchn_expand_array *op = arg;
    struct hv_domain *d = c->domain;
    struct hv_evtchn *e;
    long error;

    (void)args;
    pthread_mutex_lock(&d->lock);
    e = lock(c);
    error = unlock(e, hv_fifo_expand_array(d, hv_gfn_of(op->array_gfn)));
    pthread_mutex_unlock(&d->lock);
    return error;
}

static long set_priority(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct evtchn_set_priority *op = arg;
    struct hv_evtchn *e;
    struct hv_channel *channel;

    (void)args;
    if (op->priority > EVTCHN_FIFO_PRIORITY_MIN)
        return -XEN_EINVAL;
    e = lock(c);
    if (e->abi != &hv_evtchn_fifo)
        return unlock(e, -XEN_ENOSYS);
    channel = hv_evtchn_find_locked(e, op->port);
    if (!channel)
        return unlock(e, -XEN_EINVAL);
    channel->priority = (uint8_t)op->priority;
    return unlock(e, 0);
}

#define IN    HV_ARG_IN
#define INOUT (HV_ARG_IN | HV_ARG_OUT)
#define ALL   HV_CALLER_ALL
#define GUESTS HV_CALLER_ANY_GUEST

static const struct hv_subop ops[] = {
    [EVTCHNOP_bind_interdomain] = {"bind_interdomain", bind_interdomain,
                                   sizeof(struct evtchn_bind_interdomain), INOUT, GUESTS},
    [EVTCHNOP_bind_virq] = {"bind_virq", bind_virq, sizeof(struct evtchn_bind_virq), INOUT, GUESTS},
    [EVTCHNOP_bind_pirq] = {"bind_pirq", NULL, 0, 0, 0},
    [EVTCHNOP_close] = {"close", close_port, sizeof(struct evtchn_close), IN, GUESTS},
    [EVTCHNOP_send] = {"send", send, sizeof(struct evtchn_send), IN, GUESTS},
    [EVTCHNOP_status] = {"status", status, sizeof(struct evtchn_status), INOUT, ALL},
    [EVTCHNOP_alloc_unbound] = {"alloc_unbound", alloc_unbound, sizeof(struct evtchn_alloc_unbound), INOUT,
                                ALL},
    [EVTCHNOP_bind_ipi] = {"bind_ipi", bind_ipi, sizeof(struct evtchn_bind_ipi), INOUT, GUESTS},
    [EVTCHNOP_bind_vcpu] = {"bind_vcpu", bind_vcpu, sizeof(struct evtchn_bind_vcpu), IN, GUESTS},
    [EVTCHNOP_unmask] = {"unmask", unmask, sizeof(struct evtchn_unmask), IN, GUESTS},
    [EVTCHNOP_reset] = {"reset", reset, sizeof(struct evtchn_reset), IN, GUESTS},
    [EVTCHNOP_init_control] = {"init_control", init_control, sizeof(struct evtchn_init_control), INOUT,
                               GUESTS},
    [EVTCHNOP_expand_array] = {"expand_array", expand_array, sizeof(struct evtchn_expand_array), IN, GUESTS},
    [EVTCHNOP_set_priority] = {"set_priority", set_priority, sizeof(struct evtchn_set_priority), IN, GUESTS},
};
static const struct hv_subop_family family = HV_SUBOP_FAMILY("event_channel_op", ops);

/* args: operation, address of its structure. */
long hv_event_channel_op(struct hv_caller *c, const uint64_t args[5])
{
    return hv_subop_run(&family, c, (uint32_t)args[0], args, args[1]);
}
