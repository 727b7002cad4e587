/* What Xen adds to a vCPU: vcpu_info, runstate, the singleshot and periodic timer, the event upcall. The
 * vCPU loop (hv/machine/vcpu.c) calls these.
 */
#pragma once

#include "hv/domain.h"

int hv_vcpu_xen_new(struct hv_vcpu *v) HV_MUST_CHECK;
void hv_vcpu_xen_free(struct hv_vcpu *v);

/* The vCPU's vcpu_info as the guest has it mapped now (shared_info at first, then where it was registered). */
struct vcpu_info *hv_vcpu_info(struct hv_vcpu *v);

/* RUNSTATE_running, _runnable, _blocked, _offline: accounts and tells the guest's runstate area. vCPU thread,
 * or any for a vCPU that does not run. */
void hv_vcpu_xen_set_runstate(struct hv_vcpu *v, int runstate);

/* CLOCK_MONOTONIC time of the next Xen timer, 0 for never. */
uint64_t hv_vcpu_xen_deadline_ns(struct hv_vcpu *v);
/* Sends VIRQ_TIMER for timers that are due. vCPU thread. */
void hv_vcpu_xen_run_timers(struct hv_vcpu *v);

/* The vector to inject now for an event upcall that bypasses the local APIC (HVM_PARAM_CALLBACK_IRQ of the
 * vector type) when an upcall is pending; or -1. The mask byte of vcpu_info is for PV guests only. Upcalls through a vector of HVMOP_set_evtchn_upcall_vector
 * go to hv_lapic_set_upcall when they become pending instead. vCPU thread. */
int hv_vcpu_xen_callback_vector(struct hv_vcpu *v);

/* An event is pending and unmasked: a vCPU that polls or blocks wakes. */
bool hv_vcpu_xen_event_pending(struct hv_vcpu *v);

/* SCHEDOP_poll: a vCPU that is about to block also wakes when @port (or any port, for 0) becomes pending, or at
 * system time @timeout_ns if that is not 0. It ends with the first such event. vCPU thread. */
void hv_vcpu_xen_poll(struct hv_vcpu *v, uint32_t port, uint64_t timeout_ns);
void hv_vcpu_xen_poll_end(struct hv_vcpu *v);

/* An event became pending on the vCPU: sets evtchn_upcall_pending and raises the upcall. Any thread. */
void hv_vcpu_xen_mark_pending(struct hv_vcpu *v);

/* Raises the upcall again if one is pending: the way it goes changed, or the APIC forgot it. Any thread. */
void hv_vcpu_xen_retry_upcall(struct hv_vcpu *v);

/* True when vcpu_info of some vCPU lives in page @gfn. Caller holds domain->lock. */
bool hv_vcpu_xen_uses_gfn(struct hv_domain *d, hv_gfn gfn);

/* @port became pending: ends the poll of a vCPU that waits for it. Event channel lock held. */
void hv_vcpu_xen_poll_event(struct hv_vcpu *v, uint32_t port);

struct hv_decoder;
struct hv_encoder;
/* State for a stream (vcpu-xen-state.c): the vCPU is paused. Memory is there before it is decoded. */
void hv_vcpu_xen_encode(const struct hv_vcpu *v, struct hv_encoder *e);
int hv_vcpu_xen_decode(struct hv_vcpu *v, struct hv_decoder *d) HV_MUST_CHECK;
/* Notes the pages of all registered vcpu_info in the log of writes. */
void hv_vcpu_xen_mark_own(struct hv_domain *d);
