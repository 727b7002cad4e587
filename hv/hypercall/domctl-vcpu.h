/* The domctls about vCPUs and their features: rows of the table in domctl.c. */
#pragma once

#include "hv/hypercall/subop.h"

hv_subop_fn hv_domctl_get_vcpu_info, hv_domctl_set_vcpu_affinity, hv_domctl_get_vcpu_affinity, hv_domctl_get_cpu_policy,
    hv_domctl_set_cpu_policy;
