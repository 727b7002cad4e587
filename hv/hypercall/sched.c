/* sched_op: giving up the processor, shutting down, watchdogs. Source: xen/sched.h. */
#include "config.h"

#include "hv/hypercall/sched.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "hv/hypercall/evtchn-core.h"
#include "hv/hypercall/families.h"
#include "hv/hypercall/subop.h"
#include "hv/hypercall/vcpu-xen.h"
#include "hv/log.h"
#include "hv/loop.h"
#include "hv/machine/vcpu.h"
#include "hv/stream/codec.h"

#define NR_WATCHDOGS   2
#define POLL_PORTS_MAX 128u
#define NO_CODE        -1

struct hv_sched {
    pthread_mutex_t lock; /* of what follows */
    bool running[NR_WATCHDOGS];
    uint64_t due_ns[NR_WATCHDOGS];  /* of those that run; */
    uint64_t left_ns[NR_WATCHDOGS]; /* of those that stand still */
    struct hv_loop_source *timer[NR_WATCHDOGS]; /* immutable */
    _Atomic int announced_code; /* SCHEDOP_shutdown_code, or NO_CODE */
};

static void watchdog_expired(void *opaque)
{
    struct hv_domain *d = opaque;

    hv_log_guest(d, HV_LOG_WARNING, "watchdog expired");
    hv_domain_shutdown(d, SHUTDOWN_watchdog);
}

int hv_sched_init(struct hv_domain *d)
{
    struct hv_sched *s = calloc(1, sizeof(*s));

    if (!s)
        return -ENOMEM;
    pthread_mutex_init(&s->lock, NULL);
    atomic_init(&s->announced_code, NO_CODE);
    d->sched = s;
    for (unsigned i = 0; i < NR_WATCHDOGS; i++) {
        s->timer[i] = hv_loop_add_timer(d->loop, watchdog_expired, d);
        if (!s->timer[i]) {
            hv_sched_fini(d);
            return -ENOMEM;
        }
    }
    return 0;
}

void hv_sched_fini(struct hv_domain *d)
{
    struct hv_sched *s = d->sched;

    if (!s)
        return;
    for (unsigned i = 0; i < NR_WATCHDOGS; i++)
        if (s->timer[i])
            hv_loop_remove(s->timer[i]);
    pthread_mutex_destroy(&s->lock);
    free(s);
    d->sched = NULL;
}

static long yield(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)c, (void)args, (void)arg;
    sched_yield();
    return 0;
}

static long block(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args, (void)arg;
    if (!hv_vcpu_xen_event_pending(c->vcpu))
        hv_vcpu_block(c->vcpu);
    return 0;
}

static long shut_down(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct sched_shutdown *op = arg;
    int announced = atomic_load(&c->domain->sched->announced_code);

    (void)args;
    if (op->reason > SHUTDOWN_MAX)
        return -XEN_EINVAL;
    hv_domain_shutdown(c->domain, announced == NO_CODE ? op->reason : (unsigned)announced);
    return 0;
}

static long shutdown_code(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct sched_shutdown *op = arg;
    int none = NO_CODE;

    (void)args;
    if (op->reason > SHUTDOWN_MAX)
        return -XEN_EINVAL;
    if (!atomic_compare_exchange_strong(&c->domain->sched->announced_code, &none, (int)op->reason))
        return -XEN_EACCES;
    return 0;
}

static long remote_shutdown(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct sched_remote_shutdown *op = arg;

    (void)args;
    if (!hv_caller_owns(c, op->domain_id))
        return -XEN_ESRCH;
    if (op->reason > SHUTDOWN_MAX)
        return -XEN_EINVAL;
    hv_domain_shutdown(c->domain, op->reason);
    return 0;
}

/* 1 if one of the ports is pending already, 0 if none is, or -XEN_EINVAL. */
static long any_pending(struct hv_domain *d, const evtchn_port_t *ports, unsigned count)
{
    struct hv_evtchn *e = d->evtchn;
    long found = 0;

    pthread_mutex_lock(&e->lock);
    for (unsigned i = 0; i < count && !found; i++) {
        if (ports[i] > e->max_port || ports[i] >= e->abi->nr_ports)
            found = -XEN_EINVAL;
        else
            found = hv_evtchn_find_locked(e, ports[i]) && e->abi->is_pending(d, ports[i]);
    }
    pthread_mutex_unlock(&e->lock);
    return found;
}

/* The vCPU announces itself first and looks second, so an event in between wakes it. */
static long poll_ports(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct sched_poll *op = arg;
    evtchn_port_t ports[POLL_PORTS_MAX];
    long found;

    (void)args;
    if (op->nr_ports > POLL_PORTS_MAX)
        return -XEN_EINVAL;
    if (hv_caller_read(c, (uint64_t)(uintptr_t)op->ports.p, ports, op->nr_ports * sizeof(ports[0])))
        return -XEN_EFAULT;
    hv_vcpu_xen_poll(c->vcpu, op->nr_ports == 1 ? ports[0] : 0, op->timeout);
    found = any_pending(c->domain, ports, op->nr_ports);
    if (found) {
        hv_vcpu_xen_poll_end(c->vcpu);
        return found < 0 ? found : 0;
    }
    hv_vcpu_block(c->vcpu);
    return 0;
}

static void arm_locked(struct hv_sched *s, unsigned i, uint32_t seconds)
{
    s->running[i] = seconds != 0;
    s->due_ns[i] = seconds ? hv_loop_now() + seconds * 1000000000ull : 0;
    hv_loop_arm(s->timer[i], s->due_ns[i]);
}

/* A new watchdog in a free place: its id counts from 1. */
static long watchdog_start_locked(struct hv_sched *s, uint32_t seconds)
{
    for (unsigned i = 0; i < NR_WATCHDOGS; i++) {
        if (s->running[i])
            continue;
        arm_locked(s, i, seconds);
        s->running[i] = true;
        return (long)i + 1;
    }
    return -XEN_EEXIST;
}

static long watchdog_locked(struct hv_sched *s, uint32_t id, uint32_t seconds)
{
    if (id == 0)
        return watchdog_start_locked(s, seconds);
    if (id > NR_WATCHDOGS || !s->running[id - 1])
        return -XEN_EINVAL;
    arm_locked(s, id - 1, seconds);
    return 0;
}

static long watchdog(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct sched_watchdog *op = arg;
    struct hv_sched *s = c->domain->sched;
    long result;

    (void)args;
    pthread_mutex_lock(&s->lock);
    result = watchdog_locked(s, op->id, op->timeout);
    pthread_mutex_unlock(&s->lock);
    return result;
}

static long pin_override(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)c, (void)args, (void)arg;
    return -XEN_EPERM; /* for the hardware domain, which there is none of */
}

#define GUESTS HV_CALLER_ANY_GUEST

static const struct hv_subop ops[] = {
    [SCHEDOP_yield] = {"yield", yield, 0, HV_ARG_NONE, GUESTS},
    [SCHEDOP_block] = {"block", block, 0, HV_ARG_NONE, GUESTS},
    [SCHEDOP_shutdown] = {"shutdown", shut_down, sizeof(struct sched_shutdown), HV_ARG_IN, GUESTS},
    [SCHEDOP_poll] = {"poll", poll_ports, sizeof(struct sched_poll), HV_ARG_IN, HV_CALLER_GUEST},
    [SCHEDOP_remote_shutdown] = {"remote_shutdown", remote_shutdown, sizeof(struct sched_remote_shutdown),
                                 HV_ARG_IN, HV_CALLER_CONTROL},
    [SCHEDOP_shutdown_code] = {"shutdown_code", shutdown_code, sizeof(struct sched_shutdown), HV_ARG_IN,
                               GUESTS},
    [SCHEDOP_watchdog] = {"watchdog", watchdog, sizeof(struct sched_watchdog), HV_ARG_IN, GUESTS},
    [SCHEDOP_pin_override] = {"pin_override", pin_override, 0, HV_ARG_NONE, GUESTS},
};
static const struct hv_subop_family family = HV_SUBOP_FAMILY("sched_op", ops);

/* args: operation, address of its structure. */
long hv_sched_op(struct hv_caller *c, const uint64_t args[5])
{
    return hv_subop_run(&family, c, (uint32_t)args[0], args, args[1]);
}

/* ------------------------------------------------------------------ streams */

void hv_sched_freeze(struct hv_domain *d)
{
    struct hv_sched *s = d->sched;
    uint64_t now = hv_loop_now();

    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < NR_WATCHDOGS; i++) {
        s->left_ns[i] = s->running[i] && s->due_ns[i] > now ? s->due_ns[i] - now : 1;
        hv_loop_arm(s->timer[i], 0);
    }
    pthread_mutex_unlock(&s->lock);
}

void hv_sched_thaw(struct hv_domain *d)
{
    struct hv_sched *s = d->sched;

    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < NR_WATCHDOGS; i++) {
        s->due_ns[i] = s->running[i] ? hv_loop_now() + s->left_ns[i] : 0;
        hv_loop_arm(s->timer[i], s->due_ns[i]);
    }
    pthread_mutex_unlock(&s->lock);
}

#define LEFT_MAX_NS (UINT32_MAX * 1000000000ull) /* what a guest can ask for */

static const struct hv_field state_fields[] = {
    HV_FIELD(1, struct hv_sched, announced_code),
    HV_FIELD_BOOL(2, struct hv_sched, running[0]),
    HV_FIELD_MAX(3, struct hv_sched, left_ns[0], LEFT_MAX_NS),
    HV_FIELD_BOOL(4, struct hv_sched, running[1]),
    HV_FIELD_MAX(5, struct hv_sched, left_ns[1], LEFT_MAX_NS),
};

void hv_sched_encode(const struct hv_domain *d, struct hv_encoder *e)
{
    hv_encode_fields(e, state_fields, HV_ARRAY_LEN(state_fields), d->sched);
}

int hv_sched_decode(struct hv_domain *d, struct hv_decoder *dec)
{
    int error = hv_decode_fields(dec, state_fields, HV_ARRAY_LEN(state_fields), d->sched);
    int code = atomic_load(&d->sched->announced_code);

    if (!error && (code < NO_CODE || code > SHUTDOWN_MAX))
        error = hv_decode_fail(dec, "the announced shutdown code is %d", code);
    return error;
}
