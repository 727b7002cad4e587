/* The life of a vCPU thread: run, wait in HLT, pause, take interrupts. */
#pragma once

#include <sched.h>

#include "hv/domain.h"

struct hv_decoder;
struct hv_encoder;

/* Adds vCPU number d->nr_vcpus in its reset state (not running). 0 or negative errno. */
int hv_vcpu_new(struct hv_domain *d, struct hv_vcpu **out) HV_MUST_CHECK;
void hv_vcpu_free(struct hv_vcpu *v); /* its thread is joined */

/* The state after power-up (or INIT, which keeps caches, x87 and vector state, and most MSRs). */
void hv_vcpu_reset_state(struct hv_vcpu *v, bool init);

/* Starts the threads of all vCPUs: each was paused once when it was made, so they wait for
 * hv_domain_unpause. vCPU 0 is online, the others wait for SIPI or hv_vcpu_set_online. 0 or
 * negative errno. */
int hv_vcpus_start(struct hv_domain *d) HV_MUST_CHECK;
/* Ends all threads. Main thread. */
void hv_vcpus_join(struct hv_domain *d);

/* Sets bits of enum hv_attention and makes the vCPU look at them, out of HLT too. Any thread. Who
 * changes a deadline (hv_lapic_deadline_ns, hv_vcpu_xen_deadline_ns) requests HV_ATTN_TIMER, so
 * that it is looked at anew. */
void hv_vcpu_request(struct hv_vcpu *v, uint32_t attention);

/* Nested pause of one vCPU; hv_vcpu_pause returns when it is outside run() (at once when called on
 * the vCPU's own thread: it stops when it leaves run()). */
void hv_vcpu_pause(struct hv_vcpu *v);
void hv_vcpu_pause_nosync(struct hv_vcpu *v); /* the same without waiting; any thread */
void hv_vcpu_unpause(struct hv_vcpu *v);
void hv_domain_pause(struct hv_domain *d);
void hv_domain_unpause(struct hv_domain *d);

/* Brings a vCPU online (VCPUOP_up, SIPI) or takes it offline. Any thread. */
void hv_vcpu_set_online(struct hv_vcpu *v, bool online);
/* The vCPU gives up for good: goes offline, and with the last one the domain powers off, as no vCPU
 * is left that could wake another. Any thread. */
void hv_vcpu_down(struct hv_vcpu *v);
bool hv_vcpu_is_online(const struct hv_vcpu *v);

/* INIT, SIPI (start at @vector << 12; only a vCPU after INIT or one that never ran heeds it) and
 * NMI. Any thread. */
void hv_vcpu_send_init(struct hv_vcpu *v);
void hv_vcpu_send_sipi(struct hv_vcpu *v, uint8_t vector);
void hv_vcpu_send_nmi(struct hv_vcpu *v);

/* For a hypercall on the vCPU's own thread (SCHEDOP_block, _poll): when the vCPU leaves run(),
 * which it does at the next instruction, it waits as in HLT, whatever IF is, until
 * hv_vcpu_xen_event_pending(), an interrupt that it can take, or a request. */
void hv_vcpu_block(struct hv_vcpu *v);

/* IF is set, no STI/MOV SS shadow. */
static inline bool hv_vcpu_can_take_interrupt(const struct hv_vcpu *v)
{
    return (v->cpu.rflags & HV_EFLAGS_IF) && !v->cpu.int_shadow;
}

/* CPU time this vCPU's thread used, in nanoseconds, and whether it is waiting in HLT. */
uint64_t hv_vcpu_cpu_time_ns(const struct hv_vcpu *v);
bool hv_vcpu_is_blocked(const struct hv_vcpu *v);
bool hv_vcpu_is_running(const struct hv_vcpu *v);
unsigned hv_vcpu_last_cpu(const struct hv_vcpu *v); /* host CPU on which it ran last */

/* The host CPUs it may run on, of which HV_HOST_CPUS can be told: those of the process before any are set. -EINVAL when
 * none of them is there. A vCPU that has no thread yet finds out in hv_vcpus_start. Main thread. */
#define HV_HOST_CPUS CPU_SETSIZE
int hv_vcpu_set_affinity(struct hv_vcpu *v, const cpu_set_t *cpus) HV_MUST_CHECK;
int hv_vcpu_get_affinity(const struct hv_vcpu *v, cpu_set_t *cpus) HV_MUST_CHECK;

/* Writes the registers to the log. The vCPU's thread, or any while it is paused. */
void hv_vcpu_dump(const struct hv_vcpu *v);

/* State for a stream: whether it is online, halts, and what is about to be delivered to it. Stopped, or never started. */
void hv_vcpu_run_encode(const struct hv_vcpu *v, struct hv_encoder *e);
int hv_vcpu_run_decode(struct hv_vcpu *v, struct hv_decoder *d) HV_MUST_CHECK;

/* As hv_domain_flush, but code that was translated stays: page rights or the log of writes changed, not memory. */
void hv_domain_flush_tlb(struct hv_domain *d);
