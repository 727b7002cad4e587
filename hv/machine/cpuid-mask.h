/* Which of the features that a guest could see are kept from it. */
#pragma once

#include "hv/domain.h"

#define HV_CPUID_FEATURE_LEAVES 8u

struct hv_cpuid_features {
    uint32_t leaf, subleaf;
    uint32_t regs[4]; /* EAX to EDX: feature bits only */
};

/* hv_domain_new and hv_domain_free call these. */
int hv_cpuid_mask_init(struct hv_domain *d) HV_MUST_CHECK;
void hv_cpuid_mask_fini(struct hv_domain *d);

/* Clears in an answer of CPUID what is kept from the guest. */
void hv_cpuid_mask(const struct hv_domain *d, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* All features that the guest sees; the domain has a vCPU. */
void hv_cpuid_get_features(struct hv_domain *d, struct hv_cpuid_features out[HV_CPUID_FEATURE_LEAVES]);
/* Keeps from the guest what is not in @features; leaves that are not among its @count stay. -EINVAL, and nothing
 * changed, for a feature that there is not, or a leaf without features, which *@bad then names. Before any vCPU runs. */
int hv_cpuid_set_features(struct hv_domain *d, const struct hv_cpuid_features *features, unsigned count,
                          unsigned *bad) HV_MUST_CHECK;
