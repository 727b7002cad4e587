/* Inside hv/hypercall: what struct hv_vcpu_xen holds (vcpu-xen.c, runstate.c, vcpu-op.c). */
#pragma once

#include "hv/domain.h"
#include "hv/xen-abi.h"

struct hv_vcpu_xen {
    /* Guest memory, or dummy; changed under domain->lock, read atomically by any thread. */
    struct vcpu_info *info;
    struct vcpu_info dummy; /* for vCPUs past shared_info's array until they register */
    bool registered;        /* domain->lock */
    hv_gfn info_gfn;        /* domain->lock: page of info once registered */

    pthread_mutex_t lock; /* of the runstate */
    struct vcpu_runstate_info runstate;
    uint64_t runstate_gva; /* vCPU thread; 0: none */

    _Atomic uint8_t upcall_vector; /* HVMOP_set_evtchn_upcall_vector; 0: none */

    /* Timers and poll are the vCPU thread's, but for what is atomic. Times are system time. */
    uint64_t singleshot_ns;   /* 0: off */
    uint64_t periodic_ns;     /* next tick; 0: off */
    uint64_t period_ns;
    uint64_t poll_timeout_ns; /* 0: none */
    _Atomic uint32_t poll_port; /* 0: any */
    bool initialised;           /* VCPUOP_initialise was done; domain->lock */
};
