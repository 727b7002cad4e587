/* For tests of what is above the engines: a domain whose engine executes no instructions but a
 * function of the test, which stands for the guest.
 */
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include "hv/domain.h"
#include "hv/engine/engine.h"
#include "hv/loop.h"
#include "hv/machine/vcpu.h"

/* One step of the guest: 0 goes on, another value is why run() returns (enum hv_run plus 1). */
typedef int fake_guest_fn(struct hv_vcpu *v);

#define FAKE_GO_ON       0
#define FAKE_RETURN(why) ((why) + 1)

struct fake_vcpu {
    fake_guest_fn *_Atomic guest;
    _Atomic unsigned steps, flushes, injected[256];
};

static inline struct fake_vcpu *fake_of(struct hv_vcpu *v)
{
    return v->engine_state;
}

static int fake_vcpu_init(struct hv_vcpu *v)
{
    v->engine_state = calloc(1, sizeof(struct fake_vcpu));
    return v->engine_state ? 0 : -1;
}

static void fake_vcpu_fini(struct hv_vcpu *v)
{
    free(v->engine_state);
}

static enum hv_run fake_run(struct hv_vcpu *v)
{
    for (;;) {
        fake_guest_fn *guest = atomic_load(&fake_of(v)->guest);
        int why;

        if (atomic_load(&v->attention))
            return HV_RUN_ATTENTION;
        if (v->irq_window && hv_vcpu_can_take_interrupt(v))
            return HV_RUN_IRQ_WINDOW;
        atomic_fetch_add(&fake_of(v)->steps, 1);
        why = guest ? guest(v) : FAKE_GO_ON;
        if (why != FAKE_GO_ON)
            return (enum hv_run)(why - 1);
    }
}

/* As through an interrupt gate: IF is clear in the handler. */
static void fake_inject(struct hv_vcpu *v, uint8_t vector)
{
    atomic_fetch_add(&fake_of(v)->injected[vector], 1);
    v->cpu.rflags &= ~(uint64_t)HV_EFLAGS_IF;
}

static void fake_flush(struct hv_vcpu *v)
{
    atomic_fetch_add(&fake_of(v)->flushes, 1);
}

static const struct hv_engine_ops fake_engine = {
    .name = "fake",
    .vcpu_init = fake_vcpu_init,
    .vcpu_fini = fake_vcpu_fini,
    .run = fake_run,
    .inject = fake_inject,
    .flush = fake_flush,
};

/* A domain with @vcpus vCPUs, not started. NULL on failure. */
static inline struct hv_domain *fake_domain_new(struct hv_loop *loop, unsigned vcpus)
{
    struct hv_domain *d;

    if (hv_domain_new(&fake_engine, loop, &d))
        return NULL;
    for (unsigned i = 0; i < vcpus; i++) {
        if (hv_vcpu_new(d, NULL)) {
            hv_domain_free(d);
            return NULL;
        }
    }
    return d;
}
