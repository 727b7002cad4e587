/* The control channel, server side: a listening (or connected) SOCK_SEQPACKET socket on which each
 * message is one hypercall (wire format: hv/hv.h). It also is what the process knows of its domain before
 * that exists: engine, name, loop.
 */
#pragma once

#include "hv/domain.h"
#include "hv/hv.h"

struct hv_control_connection;
typedef void hv_control_event_fn(void *opaque, enum hv_event event, uint64_t arg);

struct hv_control_options {
    struct hv_loop *loop;
    const struct hv_engine_ops *engine;
    const char *name; /* for messages; may be NULL */
    uint64_t code_cache_bytes; /* of translated code at most; 0: HV_CODE_CACHE_DEFAULT */
    bool counted; /* for the engine's print_stats, which makes it slower */
};

int hv_control_new(const struct hv_control_options *options, struct hv_control **out) HV_MUST_CHECK;
/* Closes all connections; frees the domain. Loop thread. */
void hv_control_free(struct hv_control *control);

/* Serves @fd (taken), a listening or a connected socket. Loop thread. */
int hv_control_serve(struct hv_control *control, int fd) HV_MUST_CHECK;

/* One hypercall as the control domain, from this process; what a connection does too. @fds that a
 * handler keeps become -1. Loop thread. */
long hv_control_call(struct hv_control *control, uint64_t number, const uint64_t args[5], void *data,
                     size_t data_bytes, int *fds, size_t nr_fds);

/* @fn is called on the loop thread for each event, besides the connections that subscribed. */
void hv_control_observe(struct hv_control *control, hv_control_event_fn *fn, void *opaque);

/* Tells subscribers. Any thread. Nothing happens when the domain has no control channel. */
void hv_control_notify(struct hv_domain *d, enum hv_event event, uint64_t arg);
/* Pauses the domain as the toolstack would, unless it is paused already. Loop thread. */
void hv_control_pause(struct hv_domain *d);
