/* Time of the domain: system time (nanoseconds since it was created), wall clock, guest TSC. */
#pragma once

#include "hv/domain.h"
#include "hv/xen-abi.h"

int hv_time_init(struct hv_domain *d) HV_MUST_CHECK;
void hv_time_fini(struct hv_domain *d);
/* Ends the measurement of the TSC's frequency (after which it does not change any more). Before
 * vCPUs run; blocks for up to 20 ms, less what has passed since hv_time_init. */
void hv_time_settle(struct hv_domain *d);

/* Xen's system time of the domain. Any thread. */
uint64_t hv_time_system_ns(struct hv_domain *d);
/* The CLOCK_MONOTONIC time that is system time @system_ns. */
uint64_t hv_time_to_monotonic(struct hv_domain *d, uint64_t system_ns);
uint64_t hv_time_tsc_khz(const struct hv_domain *d);
/* Nanoseconds of @ticks of the TSC are ((ticks << shift) * mul) >> 32. */
void hv_time_scale(const struct hv_domain *d, uint32_t *mul, int8_t *shift);
/* The host's TSC is invariant. */
bool hv_time_tsc_is_stable(const struct hv_domain *d);

/* hv_cpu.tsc_offset of a vCPU after power-up: its TSC is 0 at system time 0. */
uint64_t hv_time_initial_tsc_offset(const struct hv_domain *d);
/* The system time at which the TSC of @v is @guest_tsc (0 if that was before the domain). */
uint64_t hv_time_tsc_to_system_ns(struct hv_vcpu *v, uint64_t guest_tsc);

/* Fills @info (a guest's page: version protocol included) so that the guest's TSC gives system
 * time. The host's TSC is invariant and common to all CPUs, so this is done once, when the guest
 * changes its TSC, and after a resume only. */
void hv_time_fill_vcpu(struct hv_vcpu *v, struct vcpu_time_info *info);
/* Fills the wall clock of shared_info. */
void hv_time_fill_wallclock(struct hv_domain *d);

struct hv_decoder;
struct hv_encoder;
/* State for a stream. The domain is paused. Decoding: -EBADMSG also when this host's TSC runs at another frequency. After
 * it time stands still until hv_time_resume, and has not passed meanwhile, unless hv_time_let_pass was called: then it
 * goes on as if it had never stopped, going by the wall clocks of both hosts. TSC offsets of vCPUs are kept relative to
 * the domain's time in a stream: hv_time_tsc_at_zero and back. */
void hv_time_encode(const struct hv_domain *d, struct hv_encoder *e);
int hv_time_decode(struct hv_domain *d, struct hv_decoder *dec) HV_MUST_CHECK;
void hv_time_let_pass(struct hv_domain *d);
uint64_t hv_time_tsc_at_zero(const struct hv_vcpu *v);
void hv_time_set_tsc_at_zero(struct hv_vcpu *v, uint64_t tsc);
/* Instead of hv_time_settle, for a domain out of a stream, which it says whether this is. Before vCPUs run. */
bool hv_time_resume(struct hv_domain *d);
