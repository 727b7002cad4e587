/* Inside the control channel: what handlers of control hypercalls (hv/hypercall/domctl.c, domus.c) see of it. */
#pragma once

#include "hv/control/server.h"

struct hv_control {
    struct hv_loop *loop;
    const struct hv_engine_ops *engine;
    uint64_t code_cache_bytes; /* of the domain */
    bool counted;              /* the domain is */
    char name[64];
    struct hv_uring *uring;   /* made before the process confines itself; NULL where the host has none */
    struct hv_domain *domain; /* NULL until createdomain */
    unsigned max_vcpus;       /* of createdomain; max_vcpus must say the same */
    unsigned pause_count;     /* by the toolstack: pausedomain nests */
    bool built, started;      /* a kernel is loaded; vCPU threads run */
    bool destroyed;           /* the loop ends when the reply is out */
    struct hv_log_watch log_watch; /* of this process's messages */
    int statm_fd, pagemap_fd; /* /proc/self/..., opened before paths are out of reach; -1: none */
    int userfault_fd; /* hv/machine/missing.h; -1: none, or a stream took it */

    struct hv_loop_source *wakeup; /* an event was noted */
    _Atomic uint32_t noted;        /* set of 1 << enum hv_event */
    _Atomic uint64_t noted_arg[HV_NR_EVENTS]; /* by enum hv_event */
    hv_control_event_fn *observer;
    void *observer_opaque;

    struct hv_control_listener *listeners;
    struct hv_control_connection *connections;
    unsigned nr_connections;
    uint8_t *buffer; /* one message */
};

/* The connection gets events from now on; those that happened before are told at once. */
void hv_control_subscribe(struct hv_control *control, struct hv_control_connection *connection);
