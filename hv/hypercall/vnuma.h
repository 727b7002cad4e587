/* Virtual NUMA: XEN_DOMCTL_setvnumainfo, XENMEM_get_vnumainfo. */
#pragma once

#include "hv/hypercall/subop.h"

long hv_domctl_set_vnuma_info(struct hv_caller *c, const uint64_t args[5], void *arg);
/* Answers -XEN_ENOBUFS with the right numbers in @arg when there is too little room. */
long hv_memory_get_vnuma_info(struct hv_caller *c, const uint64_t args[5], void *arg);
