/* Hypercalls: one table (table.c) of number, handler and who may call, one file per family.
 *
 * A guest calls with VMCALL; the control domain calls the same table over the control channel
 * (hv/control/). A handler does not know which: it sees a struct hv_caller, whose memory it reaches
 * with hv_caller_read/hv_caller_write. For a guest that is the vCPU's virtual memory; for the control
 * domain it is the data area of the request, which starts at caller address HV_CONTROL_DATA_ADDRESS.
 */
#pragma once

#include "hv/domain.h"
#include "hv/xen-abi.h"

enum hv_caller_kind { HV_CALLER_GUEST = 1u << 0, HV_CALLER_CONTROL = 1u << 1 };

struct hv_caller {
    enum hv_caller_kind kind;
    struct hv_domain *domain;
    struct hv_vcpu *vcpu; /* guest only */
    uint8_t *data;        /* control only: data area, written back to the caller */
    size_t data_bytes;
    int *fds; /* control only: descriptors passed; a handler that keeps one sets it to -1 */
    size_t nr_fds;
};

/* Copies from and to caller memory. 0 or -XEN_EFAULT. */
int hv_caller_read(struct hv_caller *c, uint64_t address, void *buf, size_t bytes) HV_MUST_CHECK;
int hv_caller_write(struct hv_caller *c, uint64_t address, const void *buf, size_t bytes) HV_MUST_CHECK;

/* Returns what the caller finds in RAX: 0 or a result, or a negative XEN_E* of xen/errno.h. */
typedef long hv_hypercall_fn(struct hv_caller *c, const uint64_t args[5]);

struct hv_hypercall_entry {
    const char *name;
    hv_hypercall_fn *handler;
    unsigned callers; /* set of enum hv_caller_kind */
};

/* Runs hypercall @number; numbers that are absent or not for this caller give -XEN_ENOSYS/-XEN_EPERM. */
long hv_hypercall_dispatch(struct hv_caller *c, uint64_t number, const uint64_t args[5]);
