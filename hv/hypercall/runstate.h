/* Where a vCPU's time goes, as the guest sees it (xen/vcpu.h, runstate). */
#pragma once

#include "hv/domain.h"
#include "hv/xen-abi.h"

/* State now and times, up to this moment. Any thread. */
void hv_runstate_get(struct hv_vcpu *v, struct vcpu_runstate_info *out);
/* From now on a copy is kept at guest linear address @gva; 0 stops that. vCPU thread. 0 or -XEN_EFAULT. */
int hv_runstate_register(struct hv_vcpu *v, uint64_t gva) HV_MUST_CHECK;
