/* The vCPU thread.
 *
 * A thread is always in one of three places. STOPPED: it sleeps in wait_turn and touches nothing of
 * the vCPU. RUNNING: it owns the vCPU. QUIESCENT: it waits inside hv_domain_flush for other vCPUs;
 * it still owns the vCPU, but will not execute a guest instruction before it has looked at
 * vcpu->attention. Who pauses a vCPU waits for STOPPED; who flushes is also content with QUIESCENT,
 * so that two vCPUs that flush at once do not wait for each other.
 *
 * Waking up: hv_vcpu_request sets attention, then looks at run->sleeping; the thread sets sleeping,
 * then looks at attention. Both are sequentially consistent, so one of the two sees the other.
 *
 * Timers: a thread that sleeps waits until the next deadline by itself. While it runs guest code, a
 * timer of the event loop requests HV_ATTN_TIMER.
 */
#include "config.h"

#include "hv/machine/vcpu.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#include "hv/xen-abi.h"

#include "hv/engine/engine.h"
#include "hv/hypercall/params.h"
#include "hv/hypercall/vcpu-xen.h"
#include "hv/log.h"
#include "hv/loop.h"
#include "hv/machine/lapic.h"
#include "hv/machine/msr.h"
#include "hv/machine/time.h"
#include "hv/stream/codec.h"

#define LATE_NS 2000u /* that a timer may be */

enum place { STOPPED, RUNNING, QUIESCENT };

struct hv_vcpu_run {
    pthread_t thread; /* main thread; immutable while started */
    clockid_t cpu_clock;
    _Atomic bool started;
    bool pinned;         /* main thread: */
    cpu_set_t host_cpus; /* it may run on these only */

    pthread_mutex_t lock;
    pthread_cond_t wake;    /* for the vCPU thread; CLOCK_MONOTONIC */
    pthread_cond_t changed; /* for others: place or flush_done changed */
    enum place place;       /* lock */
    unsigned pause_count;   /* lock */
    bool init, sipi;        /* lock: signals that have arrived */
    bool wait_sipi;         /* lock */
    uint8_t sipi_vector;    /* lock */
    uint64_t flush_wanted;  /* lock */
    uint64_t flush_done;    /* lock */
    bool flush_code;        /* lock: of what is wanted, code too */

    _Atomic bool online;
    _Atomic bool sleeping;
    _Atomic bool idle;         /* in HLT or blocked */
    _Atomic unsigned last_cpu; /* host CPU on which guest code ran last */

    /* The vCPU thread's. */
    bool halted, blocked, nmi_pending;
    int runstate;
    struct hv_loop_source *timer;
    uint64_t armed_ns; /* what the timer is set to, 0 for not at all */
    uint64_t poll_ns;  /* how long to look for work before sleeping */
};

/* ---------------------------------------------------------------- requests from anywhere */

void hv_vcpu_request(struct hv_vcpu *v, uint32_t attention)
{
    struct hv_vcpu_run *run = v->run;

    atomic_fetch_or(&v->attention, attention);
    if (v->domain->engine->kick)
        v->domain->engine->kick(v);
    if (!atomic_load(&run->sleeping))
        return;
    pthread_mutex_lock(&run->lock);
    pthread_cond_signal(&run->wake);
    pthread_mutex_unlock(&run->lock);
}

/* The thread of any vCPU of the domain, which must not wait for another one. */
static struct hv_vcpu *current_vcpu(struct hv_domain *d)
{
    for (unsigned i = 0; i < d->nr_vcpus; i++) {
        struct hv_vcpu_run *run = d->vcpus[i]->run;

        if (atomic_load(&run->started) && pthread_equal(run->thread, pthread_self()))
            return d->vcpus[i];
    }
    return NULL;
}

void hv_vcpu_pause_nosync(struct hv_vcpu *v)
{
    pthread_mutex_lock(&v->run->lock);
    v->run->pause_count++;
    pthread_mutex_unlock(&v->run->lock);
    hv_vcpu_request(v, HV_ATTN_PAUSE);
}

static void wait_stopped(struct hv_vcpu *v)
{
    struct hv_vcpu_run *run = v->run;

    pthread_mutex_lock(&run->lock);
    while (run->place != STOPPED)
        pthread_cond_wait(&run->changed, &run->lock);
    pthread_mutex_unlock(&run->lock);
}

void hv_vcpu_pause(struct hv_vcpu *v)
{
    hv_vcpu_pause_nosync(v);
    if (!current_vcpu(v->domain))
        wait_stopped(v);
}

void hv_vcpu_unpause(struct hv_vcpu *v)
{
    struct hv_vcpu_run *run = v->run;

    pthread_mutex_lock(&run->lock);
    hv_assert(run->pause_count > 0);
    run->pause_count--;
    pthread_cond_signal(&run->wake);
    pthread_mutex_unlock(&run->lock);
}

void hv_domain_pause(struct hv_domain *d)
{
    bool wait = !current_vcpu(d);

    for (unsigned i = 0; i < d->nr_vcpus; i++)
        hv_vcpu_pause_nosync(d->vcpus[i]);
    for (unsigned i = 0; wait && i < d->nr_vcpus; i++)
        wait_stopped(d->vcpus[i]);
}

void hv_domain_unpause(struct hv_domain *d)
{
    for (unsigned i = 0; i < d->nr_vcpus; i++)
        hv_vcpu_unpause(d->vcpus[i]);
}

void hv_vcpu_set_online(struct hv_vcpu *v, bool online)
{
    pthread_mutex_lock(&v->run->lock);
    if (online)
        v->run->wait_sipi = false;
    atomic_store(&v->run->online, online);
    pthread_mutex_unlock(&v->run->lock);
    hv_vcpu_request(v, HV_ATTN_EVENT);
}

void hv_vcpu_down(struct hv_vcpu *v)
{
    struct hv_domain *d = v->domain;

    hv_vcpu_set_online(v, false);
    for (unsigned i = 0; i < d->nr_vcpus; i++)
        if (hv_vcpu_is_online(d->vcpus[i]))
            return;
    hv_domain_shutdown(d, SHUTDOWN_poweroff);
}

bool hv_vcpu_is_online(const struct hv_vcpu *v)
{
    return atomic_load(&v->run->online);
}

void hv_vcpu_send_init(struct hv_vcpu *v)
{
    pthread_mutex_lock(&v->run->lock);
    v->run->init = true;
    v->run->sipi = false;
    pthread_mutex_unlock(&v->run->lock);
    hv_vcpu_request(v, HV_ATTN_INIT);
}

void hv_vcpu_send_sipi(struct hv_vcpu *v, uint8_t vector)
{
    pthread_mutex_lock(&v->run->lock);
    v->run->sipi = true;
    v->run->sipi_vector = vector;
    pthread_mutex_unlock(&v->run->lock);
    hv_vcpu_request(v, HV_ATTN_INIT);
}

void hv_vcpu_send_nmi(struct hv_vcpu *v)
{
    hv_vcpu_request(v, HV_ATTN_NMI);
}

void hv_vcpu_block(struct hv_vcpu *v)
{
    v->run->blocked = true;
    hv_vcpu_request(v, HV_ATTN_BLOCK);
}

/* ---------------------------------------------------------------- flushing */

static void set_place(struct hv_vcpu *v, enum place place)
{
    pthread_mutex_lock(&v->run->lock);
    v->run->place = place;
    pthread_cond_broadcast(&v->run->changed);
    pthread_mutex_unlock(&v->run->lock);
}

static void request_flush(struct hv_vcpu *v, bool code, uint64_t *ticket)
{
    pthread_mutex_lock(&v->run->lock);
    *ticket = ++v->run->flush_wanted;
    v->run->flush_code |= code;
    pthread_mutex_unlock(&v->run->lock);
    hv_vcpu_request(v, HV_ATTN_FLUSH);
}

static void wait_flush(struct hv_vcpu *v, uint64_t ticket)
{
    struct hv_vcpu_run *run = v->run;

    pthread_mutex_lock(&run->lock);
    while (run->place == RUNNING && run->flush_done < ticket)
        pthread_cond_wait(&run->changed, &run->lock);
    pthread_mutex_unlock(&run->lock);
}

static void flush_all(struct hv_domain *d, bool code)
{
    struct hv_vcpu *self = current_vcpu(d);
    uint64_t tickets[HV_MAX_VCPUS];

    for (unsigned i = 0; i < d->nr_vcpus; i++)
        request_flush(d->vcpus[i], code, &tickets[i]);
    if (self)
        set_place(self, QUIESCENT);
    for (unsigned i = 0; i < d->nr_vcpus; i++)
        wait_flush(d->vcpus[i], tickets[i]);
    if (self)
        set_place(self, RUNNING);
}

void hv_domain_flush(struct hv_domain *d)
{
    flush_all(d, true);
}

void hv_domain_flush_tlb(struct hv_domain *d)
{
    flush_all(d, false);
}

static void flush_now(struct hv_vcpu *v)
{
    struct hv_vcpu_run *run = v->run;
    uint64_t ticket;
    bool code;

    pthread_mutex_lock(&run->lock);
    ticket = run->flush_wanted;
    code = run->flush_code || !v->domain->engine->flush_tlb;
    run->flush_code = false;
    pthread_mutex_unlock(&run->lock);
    if (code)
        v->domain->engine->flush(v);
    else
        v->domain->engine->flush_tlb(v);
    pthread_mutex_lock(&run->lock);
    run->flush_done = ticket;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
}

/* ---------------------------------------------------------------- time */

static uint64_t earlier(uint64_t a, uint64_t b)
{
    if (!a || !b)
        return a ? a : b;
    return a < b ? a : b;
}

static uint64_t next_deadline_ns(struct hv_vcpu *v)
{
    return earlier(hv_lapic_deadline_ns(v), hv_vcpu_xen_deadline_ns(v));
}

/* A timer that is early will do, as it is then set again: guests put off most of their deadlines before they come, and a
 * system call for each would be many. So will one that is hardly late: a deadline in system time becomes a slightly different
 * CLOCK_MONOTONIC time at each look. */
static void arm_timer(struct hv_vcpu *v, uint64_t deadline_ns)
{
    if (!deadline_ns || (v->run->armed_ns && v->run->armed_ns < deadline_ns + LATE_NS))
        return;
    hv_loop_arm(v->run->timer, deadline_ns);
    v->run->armed_ns = deadline_ns;
}

/* Nothing is to come while it sleeps. */
static void disarm_timer(struct hv_vcpu *v)
{
    if (v->run->armed_ns)
        hv_loop_arm(v->run->timer, 0);
    v->run->armed_ns = 0;
}

static void timer_due(void *opaque)
{
    hv_vcpu_request(opaque, HV_ATTN_TIMER);
}

static void run_timers(struct hv_vcpu *v)
{
    v->run->armed_ns = 0; /* it may have fired: set it again */
    hv_lapic_run_timer(v);
    hv_vcpu_xen_run_timers(v);
}

/* ---------------------------------------------------------------- the thread */

static bool runnable(const struct hv_vcpu *v)
{
    return atomic_load(&v->run->online) && !v->run->halted && !v->run->blocked;
}

/* Whether a sleeping vCPU has something to do. run->lock held. */
static bool must_wake_locked(struct hv_vcpu *v)
{
    uint32_t attention = atomic_load(&v->attention);

    if (attention & HV_ATTN_EXIT)
        return true;
    if (v->run->pause_count)
        return false;
    return runnable(v) || (attention & ~(uint32_t)HV_ATTN_PAUSE);
}

/* Sleeps until woken or, for @deadline_ns not 0, until then: a timer is due. run->lock held. */
static void sleep_locked(struct hv_vcpu *v, uint64_t deadline_ns)
{
    struct hv_vcpu_run *run = v->run;
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                             .tv_nsec = (long)(deadline_ns % 1000000000u)};
    int rc = 0;

    if (run->place != STOPPED) {
        run->place = STOPPED;
        pthread_cond_broadcast(&run->changed);
    }
    atomic_store(&run->sleeping, true);
    if (!must_wake_locked(v))
        rc = deadline_ns ? pthread_cond_timedwait(&run->wake, &run->lock, &until)
                         : pthread_cond_wait(&run->wake, &run->lock);
    atomic_store(&run->sleeping, false);
    if (rc == ETIMEDOUT)
        atomic_fetch_or(&v->attention, HV_ATTN_TIMER);
}

/* To sleep and be woken takes tens of microseconds, so a vCPU that is woken soon after it halts first
 * looks for work for a while; one that sleeps long does not at all. */
#define POLL_NS_FIRST 10000u
#define POLL_NS_MOST  200000u
#define POLL_PAUSES   32u /* from one look at the time to the next */

/* True if there is something to attend to before it is time to sleep, or @deadline_ns unless 0. */
static bool poll_for_work(struct hv_vcpu *v, uint64_t deadline_ns)
{
    uint64_t end = v->run->poll_ns ? hv_loop_now() + v->run->poll_ns : 0, now;

    if (deadline_ns && deadline_ns < end)
        end = deadline_ns;
    do {
        if (atomic_load(&v->attention) & ~(uint32_t)HV_ATTN_PAUSE) /* of a pause that is over, nothing is left to do */
            return true;
        now = hv_loop_now();
        for (unsigned i = 0; i < POLL_PAUSES && now < end; i++)
            __builtin_ia32_pause();
        if (now < end)
            sched_yield(); /* whoever works on this CPU goes first: it may be what is waited for */
    } while (now < end);
    return false;
}

static void learn_from_sleep(struct hv_vcpu_run *run, uint64_t slept_ns)
{
    if (slept_ns > POLL_NS_MOST)
        run->poll_ns = 0;
    else if (run->poll_ns < POLL_NS_MOST)
        run->poll_ns = run->poll_ns ? 2 * run->poll_ns : POLL_NS_FIRST;
}

static int resting_runstate(const struct hv_vcpu *v)
{
    return hv_vcpu_is_online(v) && !runnable(v) ? RUNSTATE_blocked : RUNSTATE_offline;
}

static void set_runstate(struct hv_vcpu *v, int runstate)
{
    if (v->run->runstate == runstate)
        return;
    v->run->runstate = runstate;
    hv_vcpu_xen_set_runstate(v, runstate);
}

/* Waits until the vCPU may run or has something to attend to; it is then RUNNING. False at the end.
 */
static bool wait_turn(struct hv_vcpu *v)
{
    struct hv_vcpu_run *run = v->run;
    bool go_on;

    pthread_mutex_lock(&run->lock);
    while (!must_wake_locked(v)) {
        bool paused = run->pause_count != 0, found;
        uint64_t deadline_ns, since;

        /* Parts with locks of their own are asked without ours; what changes now wakes us at once.
         */
        pthread_mutex_unlock(&run->lock);
        set_runstate(v, resting_runstate(v));
        if (!run->poll_ns) /* else it will not sleep long enough */
            disarm_timer(v);
        deadline_ns = next_deadline_ns(v);
        found = !paused && poll_for_work(v, deadline_ns);
        since = hv_loop_now();
        pthread_mutex_lock(&run->lock);
        if (!found && paused == (run->pause_count != 0))
            sleep_locked(v, paused ? 0 : deadline_ns);
        if (!found)
            learn_from_sleep(run, hv_loop_now() - since);
    }
    go_on = !(atomic_load(&v->attention) & HV_ATTN_EXIT);
    run->place = go_on ? RUNNING : STOPPED;
    pthread_cond_broadcast(&run->changed);
    pthread_mutex_unlock(&run->lock);
    return go_on;
}

static void start_at(struct hv_vcpu *v, uint8_t vector)
{
    struct hv_segment *cs = &v->cpu.seg[HV_CS];

    cs->selector = (uint16_t)(vector << 8);
    cs->base = (uint64_t)vector << 12;
    v->cpu.rip = 0;
    atomic_store(&v->run->online, true);
}

static void stop_for_sipi(struct hv_vcpu *v)
{
    struct hv_vcpu_run *run = v->run;

    hv_vcpu_reset_state(v, true);
    hv_vcpu_xen_retry_upcall(v); /* the APIC has forgotten it */
    v->domain->engine->flush(v);
    run->halted = run->blocked = run->nmi_pending = false;
    atomic_store(&run->online, false);
}

static void take_init_signals(struct hv_vcpu *v)
{
    struct hv_vcpu_run *run = v->run;
    bool init, sipi;
    uint8_t vector;

    pthread_mutex_lock(&run->lock);
    init = run->init;
    sipi = run->sipi && (init || run->wait_sipi);
    vector = run->sipi_vector;
    run->init = run->sipi = false;
    run->wait_sipi = (run->wait_sipi || init) && !sipi;
    pthread_mutex_unlock(&run->lock);
    if (init)
        stop_for_sipi(v);
    if (sipi)
        start_at(v, vector);
}

static void attend(struct hv_vcpu *v, uint32_t attention)
{
    if (attention & HV_ATTN_FLUSH)
        flush_now(v);
    if (attention & HV_ATTN_INIT)
        take_init_signals(v);
    if (attention & HV_ATTN_NMI)
        v->run->nmi_pending = true;
    if (attention & HV_ATTN_TIMER)
        run_timers(v);
    if (attention & (HV_ATTN_EVENT | HV_ATTN_TIMER | HV_ATTN_NMI))
        v->run->blocked = false;
}

static void inject(struct hv_vcpu *v, uint8_t vector)
{
    v->run->halted = v->run->blocked = false;
    v->domain->engine->inject(v, vector);
}

static int pending_vector(struct hv_vcpu *v, bool *from_lapic)
{
    int vector = hv_vcpu_xen_callback_vector(v);

    *from_lapic = vector < 0;
    return vector < 0 ? hv_lapic_pending(v) : vector;
}

/* Gives the vCPU the interrupt it can take now; asks the engine to say when it can take the rest.
 */
static void deliver(struct hv_vcpu *v)
{
    bool from_lapic;
    int vector;

    if (v->run->nmi_pending && !v->cpu.nmi_blocked && !v->cpu.int_shadow) {
        v->run->nmi_pending = false;
        inject(v, HV_VEC_NMI);
    }
    vector = pending_vector(v, &from_lapic);
    if (vector >= 0 && hv_vcpu_can_take_interrupt(v)) {
        if (from_lapic)
            hv_lapic_accept(v, (uint8_t)vector);
        inject(v, (uint8_t)vector);
        vector = pending_vector(v, &from_lapic);
    }
    v->irq_window = vector >= 0;
}

static void triple_fault(struct hv_vcpu *v)
{
    struct hv_domain *d = v->domain;

    hv_log_guest(d, HV_LOG_WARNING, "v%u: triple fault", v->id);
    hv_vcpu_dump(v);
    hv_domain_shutdown(d, (unsigned)hv_param_get(d, HVM_PARAM_TRIPLE_FAULT_REASON));
}

static void halt(struct hv_vcpu *v)
{
    v->run->halted = true;
    deliver(v);
}

static void handle_run(struct hv_vcpu *v, enum hv_run why)
{
    switch (why) {
    case HV_RUN_ATTENTION:
    case HV_RUN_IRQ_WINDOW:
        break;
    case HV_RUN_HLT:
        v->cpu.int_shadow = false;
        if (v->cpu.rflags & HV_EFLAGS_IF)
            halt(v);
        else
            hv_vcpu_down(v); /* as Xen: a kernel that cannot power off stops its CPUs so */
        break;
    case HV_RUN_TRIPLE_FAULT:
        triple_fault(v);
        break;
    case HV_RUN_UNSUPPORTED:
        hv_vcpu_dump(v);
        hv_domain_crash(v->domain, "v%u: %.150s", v->id, v->error);
        break;
    }
}

static void run_guest(struct hv_vcpu *v)
{
    set_runstate(v, RUNSTATE_running);
    arm_timer(v, next_deadline_ns(v));
    atomic_store_explicit(&v->run->last_cpu, (unsigned)sched_getcpu(), memory_order_relaxed);
    handle_run(v, v->domain->engine->run(v));
    atomic_store(&v->run->idle, !runnable(v));
}

static bool is_paused(struct hv_vcpu *v)
{
    bool paused;

    pthread_mutex_lock(&v->run->lock);
    paused = v->run->pause_count != 0;
    pthread_mutex_unlock(&v->run->lock);
    return paused;
}

static void *hv_vcpu_main(void *opaque)
{
    struct hv_vcpu *v = opaque;
    char name[16];

    snprintf(name, sizeof(name), "vcpu%u", v->id);
    pthread_setname_np(pthread_self(), name); /* of another thread it would open a file in /proc */
    prctl(PR_SET_TIMERSLACK, 1ul);            /* the default adds 50 us to every HLT */
    while (wait_turn(v)) {
        uint32_t attention = atomic_fetch_and(&v->attention, HV_ATTN_EXIT);

        if ((attention & HV_ATTN_PAUSE) && is_paused(v)) {
            atomic_fetch_or(&v->attention, attention & ~(uint32_t)HV_ATTN_PAUSE); /* for later */
            continue;
        }
        attend(v, attention);
        if (!hv_vcpu_is_online(v))
            continue;
        deliver(v);
        atomic_store(&v->run->idle, !runnable(v));
        if (runnable(v))
            run_guest(v);
    }
    return NULL;
}

/* ---------------------------------------------------------------- creation and end */

static int run_new(struct hv_vcpu *v)
{
    struct hv_vcpu_run *run = calloc(1, sizeof(*run));
    pthread_condattr_t monotonic;

    if (!run)
        return -ENOMEM;
    run->timer = hv_loop_add_timer(v->domain->loop, timer_due, v);
    if (!run->timer) {
        free(run);
        return -ENOMEM;
    }
    pthread_mutex_init(&run->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&run->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_cond_init(&run->changed, NULL);
    run->pause_count = 1;
    run->runstate = -1;
    atomic_init(&run->online, v->id == 0);
    run->wait_sipi = v->id != 0;
    v->run = run;
    return 0;
}

static void run_free(struct hv_vcpu *v)
{
    struct hv_vcpu_run *run = v->run;

    if (!run)
        return;
    hv_loop_remove(run->timer);
    pthread_cond_destroy(&run->changed);
    pthread_cond_destroy(&run->wake);
    pthread_mutex_destroy(&run->lock);
    free(run);
}

static int vcpu_parts_new(struct hv_vcpu *v)
{
    int rc = run_new(v);

    if (!rc)
        rc = hv_msrs_new(v);
    if (!rc)
        rc = hv_lapic_new(v);
    if (!rc)
        rc = hv_vcpu_xen_new(v);
    if (rc)
        return rc;
    hv_vcpu_reset_state(v, false);
    return v->domain->engine->vcpu_init(v);
}

int hv_vcpu_new(struct hv_domain *d, struct hv_vcpu **out)
{
    struct hv_vcpu *v;
    int rc;

    if (d->nr_vcpus >= HV_MAX_VCPUS)
        return -ENOSPC;
    if (posix_memalign((void **)&v, _Alignof(struct hv_vcpu), sizeof(*v)))
        return -ENOMEM;
    memset(v, 0, sizeof(*v));
    v->domain = d;
    v->id = d->nr_vcpus;
    rc = vcpu_parts_new(v);
    if (rc) {
        hv_vcpu_free(v);
        return rc;
    }
    d->vcpus[d->nr_vcpus++] = v;
    if (out)
        *out = v;
    return 0;
}

void hv_vcpu_free(struct hv_vcpu *v)
{
    if (!v)
        return;
    if (v->engine_state)
        v->domain->engine->vcpu_fini(v);
    if (v->xen)
        hv_vcpu_xen_free(v);
    if (v->lapic)
        hv_lapic_free(v);
    hv_msrs_free(v);
    run_free(v);
    free(v);
}

int hv_vcpu_set_affinity(struct hv_vcpu *v, const cpu_set_t *cpus)
{
    struct hv_vcpu_run *run = v->run;
    int rc = 0;

    if (CPU_COUNT(cpus) == 0)
        return -EINVAL;
    if (atomic_load(&run->started))
        rc = pthread_setaffinity_np(run->thread, sizeof(*cpus), cpus);
    if (rc)
        return -rc;
    run->host_cpus = *cpus;
    run->pinned = true;
    return 0;
}

int hv_vcpu_get_affinity(const struct hv_vcpu *v, cpu_set_t *cpus)
{
    const struct hv_vcpu_run *run = v->run;

    CPU_ZERO(cpus);
    if (run->pinned)
        *cpus = run->host_cpus;
    else if (sched_getaffinity(0, sizeof(*cpus), cpus) < 0)
        return -errno;
    return 0;
}

static int create_thread(struct hv_vcpu *v)
{
    struct hv_vcpu_run *run = v->run;
    pthread_attr_t attributes;
    int rc = pthread_attr_init(&attributes);

    if (!rc && run->pinned)
        rc = pthread_attr_setaffinity_np(&attributes, sizeof(run->host_cpus), &run->host_cpus);
    if (!rc)
        rc = pthread_create(&run->thread, &attributes, hv_vcpu_main, v);
    pthread_attr_destroy(&attributes);
    return rc;
}

static int start_thread(struct hv_vcpu *v)
{
    struct hv_vcpu_run *run = v->run;
    int rc;

    atomic_fetch_and(&v->attention, ~(uint32_t)HV_ATTN_EXIT); /* of a start that failed */
    rc = create_thread(v);
    if (rc)
        return -rc;
    if (pthread_getcpuclockid(run->thread, &run->cpu_clock))
        run->cpu_clock = CLOCK_THREAD_CPUTIME_ID;
    atomic_store(&run->started, true);
    return 0;
}

int hv_vcpus_start(struct hv_domain *d)
{
    sigset_t all, old;
    int rc = 0;

    if (!hv_time_resume(d))
        hv_time_settle(d);
    hv_time_fill_wallclock(d);
    for (unsigned i = 0; i < d->nr_vcpus; i++)
        hv_time_fill_vcpu(d->vcpus[i], &hv_vcpu_info(d->vcpus[i])->time);
    sigfillset(&all); /* signals are the main thread's, but for the sandbox's own */
    sigdelset(&all, SIGSYS);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (unsigned i = 0; !rc && i < d->nr_vcpus; i++)
        rc = start_thread(d->vcpus[i]);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc)
        hv_vcpus_join(d);
    return rc;
}

void hv_vcpus_join(struct hv_domain *d)
{
    for (unsigned i = 0; i < d->nr_vcpus; i++)
        hv_vcpu_request(d->vcpus[i], HV_ATTN_EXIT);
    for (unsigned i = 0; i < d->nr_vcpus; i++) {
        struct hv_vcpu_run *run = d->vcpus[i]->run;

        /* Started until it has ended: it may be in a hypercall that asks whose thread it is on. */
        if (!atomic_load(&run->started))
            continue;
        pthread_join(run->thread, NULL);
        atomic_store(&run->started, false);
    }
}

uint64_t hv_vcpu_cpu_time_ns(const struct hv_vcpu *v)
{
    struct timespec used;

    if (!atomic_load(&v->run->started) || clock_gettime(v->run->cpu_clock, &used) < 0)
        return 0;
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

bool hv_vcpu_is_blocked(const struct hv_vcpu *v)
{
    return atomic_load(&v->run->idle);
}

bool hv_vcpu_is_running(const struct hv_vcpu *v)
{
    return hv_vcpu_is_online(v) && !hv_vcpu_is_blocked(v) && !atomic_load(&v->run->sleeping);
}

unsigned hv_vcpu_last_cpu(const struct hv_vcpu *v)
{
    return atomic_load(&v->run->last_cpu);
}

/* ---------------------------------------------------------------- streams */

struct run_state {
    bool online, wait_sipi, init, sipi, halted, blocked, nmi_pending;
    uint8_t sipi_vector;
    uint32_t attention;
};

static const struct hv_field state_fields[] = {
    HV_FIELD_BOOL(1, struct run_state, online),      HV_FIELD_BOOL(2, struct run_state, wait_sipi),
    HV_FIELD_BOOL(3, struct run_state, init),        HV_FIELD_BOOL(4, struct run_state, sipi),
    HV_FIELD_BOOL(5, struct run_state, halted),      HV_FIELD_BOOL(6, struct run_state, blocked),
    HV_FIELD_BOOL(7, struct run_state, nmi_pending), HV_FIELD(8, struct run_state, sipi_vector),
    HV_FIELD(9, struct run_state, attention),
};

/* Requests that are about the guest; the others are about the process. */
#define GUEST_ATTENTION (HV_ATTN_EVENT | HV_ATTN_TIMER | HV_ATTN_INIT | HV_ATTN_NMI)

void hv_vcpu_run_encode(const struct hv_vcpu *v, struct hv_encoder *e)
{
    struct hv_vcpu_run *run = v->run;
    struct run_state state;

    pthread_mutex_lock(&run->lock);
    state = (struct run_state){
        .online = atomic_load(&run->online),
        .wait_sipi = run->wait_sipi,
        .init = run->init,
        .sipi = run->sipi,
        .halted = run->halted,
        .blocked = run->blocked,
        .nmi_pending = run->nmi_pending,
        .sipi_vector = run->sipi_vector,
        .attention = atomic_load(&v->attention) & GUEST_ATTENTION,
    };
    pthread_mutex_unlock(&run->lock);
    hv_encode_fields(e, state_fields, HV_ARRAY_LEN(state_fields), &state);
}

int hv_vcpu_run_decode(struct hv_vcpu *v, struct hv_decoder *d)
{
    struct hv_vcpu_run *run = v->run;
    struct run_state state;
    int error = hv_decode_fields(d, state_fields, HV_ARRAY_LEN(state_fields), &state);

    if (error)
        return error;
    pthread_mutex_lock(&run->lock);
    run->wait_sipi = state.wait_sipi;
    run->init = state.init;
    run->sipi = state.sipi;
    run->sipi_vector = state.sipi_vector;
    run->halted = state.halted;
    run->blocked = state.blocked;
    run->nmi_pending = state.nmi_pending;
    atomic_store(&run->online, state.online);
    pthread_mutex_unlock(&run->lock);
    /* It looks once at what there is, whoever told it of that before. */
    atomic_fetch_or(&v->attention, (state.attention & GUEST_ATTENTION) | HV_ATTN_EVENT);
    return 0;
}
