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

struct hv_control;
struct hv_control_connection;

/* GUEST32 is a guest in 32-bit protected mode: only calls whose structures have the same layout in both
 * worlds are open to it. */
enum hv_caller_kind {
    HV_CALLER_GUEST = 1u << 0,
    HV_CALLER_CONTROL = 1u << 1,
    HV_CALLER_GUEST32 = 1u << 2,
};
#define HV_CALLER_ANY_GUEST (HV_CALLER_GUEST | HV_CALLER_GUEST32)
#define HV_CALLER_ALL       (HV_CALLER_ANY_GUEST | HV_CALLER_CONTROL)

struct hv_caller {
    enum hv_caller_kind kind;
    struct hv_domain *domain; /* NULL for the control domain until createdomain */
    struct hv_vcpu *vcpu;     /* guest only */
    bool in_multicall;        /* a multicall does not nest */
    bool unfinished;          /* guest only: the call is made again, with these arguments */
    uint64_t again[5];
    uint8_t *data;        /* control only: data area, written back to the caller */
    size_t data_bytes;
    int *fds; /* control only: descriptors passed; a handler that keeps one sets it to -1 */
    size_t nr_fds;
    struct hv_control *control;               /* control only */
    struct hv_control_connection *connection; /* control only; NULL for a call from this process */
};

/* The caller is the guest itself, not the control domain. */
static inline bool hv_caller_is_guest(const struct hv_caller *c)
{
    return c->kind != HV_CALLER_CONTROL;
}

/* Asked between the elements of a long call: whether something wants the vCPU's thread so much that the rest
 * should wait. The handler then gives the arguments of the rest to hv_caller_continue, and its result
 * does not matter. Never within a multicall, which asks by itself. */
bool hv_caller_must_yield(const struct hv_caller *c);
void hv_caller_continue(struct hv_caller *c, const uint64_t args[5]);

/* Copies from and to caller memory. 0 or -XEN_EFAULT. */
int hv_caller_read(struct hv_caller *c, uint64_t address, void *buf, size_t bytes) HV_MUST_CHECK;
int hv_caller_write(struct hv_caller *c, uint64_t address, const void *buf, size_t bytes) HV_MUST_CHECK;

/* In a row's set of callers: may be called before there is a domain. */
#define HV_CALL_EARLY (1u << 7)

/* Returns what the caller finds in RAX: 0 or a result, or a negative XEN_E* of xen/errno.h. */
typedef long hv_hypercall_fn(struct hv_caller *c, const uint64_t args[5]);

struct hv_hypercall_entry {
    const char *name;
    hv_hypercall_fn *handler;
    unsigned callers; /* set of enum hv_caller_kind, HV_CALL_EARLY */
};

/* Runs hypercall @number; numbers that are absent or not for this caller give -XEN_ENOSYS/-XEN_EPERM. */
long hv_hypercall_dispatch(struct hv_caller *c, uint64_t number, const uint64_t args[5]);
