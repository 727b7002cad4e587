/* The CPUID policy of a domain: what hv_cpuid (hv/machine/machine.h) answers from. */
#pragma once

#include "hv/domain.h"

/* Reads the host's CPUID once and makes the domain's policy. 0 or -ENOMEM. */
int hv_cpuid_init(struct hv_domain *d) HV_MUST_CHECK;
void hv_cpuid_fini(struct hv_domain *d);

enum hv_cpu_vendor { HV_VENDOR_INTEL, HV_VENDOR_AMD, HV_VENDOR_OTHER };

/* The vendor that the guest sees (the host's); Hygon counts as AMD. */
enum hv_cpu_vendor hv_cpuid_vendor(const struct hv_domain *d);

/* The local APIC id of vCPU @id, as Xen numbers them. */
static inline uint32_t hv_apic_id(unsigned id)
{
    return id * 2;
}
