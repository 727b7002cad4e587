/* Inside libdomctl, and for the hypervisor's own standalone mode: a connection need not be a socket. */
#pragma once

#include "hv/hv.h"

/* Carries one call: as domctl_hypercall. */
typedef int domctl_transport_fn(void *opaque, uint64_t number, const uint64_t args[5], void *data,
                                size_t data_bytes, const int *fds, size_t nr_fds, long *result);

/* A connection whose calls go to @transport. Events do not come through it. */
int domctl_connect_transport(domctl_transport_fn *transport, void *opaque, struct domctl **out);

/* An operation of domus_op on a structure, in and out. 0 or a negative errno. */
int domctl_domus_op(struct domctl *ctl, enum domus_op op, void *arg, size_t bytes, const int *fds, size_t nr_fds);

struct xen_domctl;
/* A domctl on the domain of the connection, with @bytes of @u and what it points to, which follows it. As above. */
int domctl_domctl(struct domctl *ctl, uint32_t cmd, struct xen_domctl *u, size_t bytes);

/* "domctl createdomain" for a log; @name has room for @bytes. */
void domctl_name(uint64_t number, const uint64_t args[5], const void *data, size_t data_bytes, char *name,
                 size_t bytes);
