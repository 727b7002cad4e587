/* One hypercall number, many operations: a table of them, with the copying and checking done in one place. */
#pragma once

#include "hv/hypercall/hypercall.h"

#define HV_SUBOP_ARG_MAX 1024

/* @arg is this process's copy of the argument structure; args are those of the hypercall. */
typedef long hv_subop_fn(struct hv_caller *c, const uint64_t args[5], void *arg);

/* What happens to the argument structure. Without HV_ARG_IN it starts as zeroes. OUT: copied back when the
 * result is not negative; ALWAYS: in any case. */
enum hv_arg_direction {
    HV_ARG_NONE = 0,
    HV_ARG_IN = 1u << 0,
    HV_ARG_OUT = 1u << 1,
    HV_ARG_ALWAYS = 1u << 2,
};

/* A row: the index in the table is the operation's number. */
struct hv_subop {
    const char *name;
    hv_subop_fn *handler; /* NULL: refused with -XEN_ENOSYS, by name */
    uint16_t arg_bytes;
    uint8_t direction;
    uint8_t callers; /* set of enum hv_caller_kind */
};

struct hv_subop_family {
    const char *name;
    const struct hv_subop *ops;
    size_t nr_ops;
};

#define HV_SUBOP_FAMILY(name, table) {name, table, HV_ARRAY_LEN(table)}

/* Runs operation @op with the structure at caller address @address. -XEN_ENOSYS when there is none, -XEN_EPERM
 * when it is not for this caller, -XEN_EFAULT when the structure cannot be copied. */
long hv_subop_run(const struct hv_subop_family *family, struct hv_caller *c, uint64_t op,
                  const uint64_t args[5], uint64_t address);

/* Tells the log that the caller asked for what is not there. */
void hv_caller_refuse(struct hv_caller *c, const char *family, const char *name, uint64_t number);

/* The domain id in a request means the caller's domain: DOMID_SELF, or its number. */
bool hv_caller_owns(const struct hv_caller *c, uint16_t domid);
