/* Time of the domain: system time (nanoseconds since it was created), wall clock, guest TSC. */
#pragma once

#include "hv/domain.h"
#include "hv/xen-abi.h"

int hv_time_init(struct hv_domain *d) HV_MUST_CHECK;
void hv_time_fini(struct hv_domain *d);

/* Xen's system time of the domain. Any thread. */
uint64_t hv_time_system_ns(struct hv_domain *d);
/* The CLOCK_MONOTONIC time that is system time @system_ns. */
uint64_t hv_time_to_monotonic(struct hv_domain *d, uint64_t system_ns);
uint64_t hv_time_tsc_khz(const struct hv_domain *d);

/* Fills @info (a guest's page: version protocol included) so that the guest's TSC gives system time. The
 * host's TSC is invariant and common to all CPUs, so this is done once and after a resume only. */
void hv_time_fill_vcpu(struct hv_vcpu *v, struct vcpu_time_info *info);
/* Fills the wall clock of shared_info. */
void hv_time_fill_wallclock(struct hv_domain *d);
