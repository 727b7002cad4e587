/* Access to guest memory by linear address, for what the engines share (descriptor tables, TSS,
 * stacks of interrupts) and for hypercalls. Through the engine's TLB where it has one.
 */
#pragma once

#include "hv/x86/paging.h"

/* Copies @bytes from or to linear address @va; @flags is enum hv_access_flags (WRITE is implied for
 * a write). Addresses wrap at 4 GiB outside 64-bit mode; one that is not canonical in long mode
 * gives #GP(0). 0, or -EFAULT with *@fault. A write checks all pages before it stores anything. */
int hv_x86_read_linear(struct hv_vcpu *v, uint64_t va, void *buf, size_t bytes, unsigned flags,
                       struct hv_fault *fault) HV_MUST_CHECK;
int hv_x86_write_linear(struct hv_vcpu *v, uint64_t va, const void *buf, size_t bytes,
                        unsigned flags, struct hv_fault *fault) HV_MUST_CHECK;

static inline bool hv_x86_canonical(uint64_t va)
{
    return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

/* Makes *@fault an exception; always -EFAULT, so that callers can return it. */
static inline int hv_x86_fault(struct hv_fault *fault, uint8_t vector)
{
    *fault = (struct hv_fault){.vector = vector};
    return -14;
}

static inline int hv_x86_fault_code(struct hv_fault *fault, uint8_t vector, uint32_t error_code)
{
    *fault = (struct hv_fault){.vector = vector, .has_error_code = true, .error_code = error_code};
    return -14;
}
