/* The processor state with which VCPUOP_initialise starts a vCPU. */
#pragma once

#include "hv/domain.h"
#include "hv/xen-abi.h"

/* Checks @context and puts it into the vCPU, which must be offline. 0 or -XEN_EINVAL, nothing changed. */
long hv_vcpu_init_context(struct hv_vcpu *v, const struct vcpu_hvm_context *context) HV_MUST_CHECK;
