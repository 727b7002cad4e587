/* A domain and its vCPUs: the two structures everything else in this room hangs on.
 *
 * One process is one domain. Threads: the main thread runs the event loop (hv/loop.h) with control
 * channel, store ring and backends; one thread per vCPU runs hv_vcpu_main. Each part of the machine
 * keeps its own state in a structure of its own, opaque here, so that this file stays a map.
 *
 * Locks, in the order in which they may be taken: domain->lock, then a part's own lock (event
 * channels, grant table), then a vCPU's wait lock. Nothing is locked while an engine runs.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "hv/log.h"
#include "hv/machine/memory.h"
#include "hv/x86/cpu.h"

#define HV_MAX_VCPUS 64

struct hv_console;
struct hv_control;
struct hv_cpuid_mask;
struct hv_cpuid_policy;
struct hv_display;
struct hv_domain;
struct hv_engine_ops;
struct hv_evtchn;
struct hv_gnttab;
struct hv_lapic;
struct hv_loop;
struct hv_msrs;
struct hv_params;
struct hv_physmap;
struct hv_sched;
struct hv_store_ring;
struct hv_dirty_rate;
struct hv_stream;
struct hv_time;
struct hv_uring;
struct hv_vcpu_xen;
struct hv_vnuma;
struct hv_xenbus;

/* Why a vCPU must leave engine run(); bits of vcpu->attention. Set by any thread with
 * hv_vcpu_request; cleared by the vCPU's thread. */
enum hv_attention {
    HV_ATTN_EVENT = 1u << 0, /* an interrupt may be pending: look at the local APIC */
    HV_ATTN_TIMER = 1u << 1, /* a timer of this vCPU is due, or its deadline changed */
    HV_ATTN_PAUSE = 1u << 2, /* stop until pause_count is 0 again */
    HV_ATTN_FLUSH = 1u << 3, /* forget all translations */
    HV_ATTN_INIT = 1u << 4,  /* INIT or SIPI arrived */
    HV_ATTN_NMI = 1u << 5,
    HV_ATTN_EXIT = 1u << 6, /* the domain is going away */
    HV_ATTN_BLOCK = 1u << 7, /* the vCPU asked to wait: hv_vcpu_block */
};

struct hv_vcpu {
    struct hv_cpu cpu; /* vCPU thread; others only while it is paused */
    struct hv_domain *domain; /* immutable */
    unsigned id;              /* immutable */

    _Atomic uint32_t attention;
    bool irq_window;    /* vCPU thread: see hv/engine/engine.h */
    void *engine_state; /* the engine's */
    char error[160];    /* vCPU thread: what HV_RUN_UNSUPPORTED found */

    struct hv_lapic *lapic;    /* self-locking */
    struct hv_msrs *msrs;      /* vCPU thread: what MSRs hold that is not in cpu: hv/machine/msr.c */
    struct hv_vcpu_xen *xen;   /* vcpu_info, runstate, timers: hv/hypercall/vcpu.c */
    struct hv_vcpu_run *run;   /* thread, pause and halt state: hv/machine/vcpu.c */
};

enum hv_domain_kind { HV_DOMAIN_PVH, HV_DOMAIN_PV, HV_DOMAIN_HVM };

struct hv_domain {
    uint16_t domid;       /* immutable after creation */
    uint8_t uuid[16];     /* immutable after creation */
    enum hv_domain_kind kind;
    char name[64];        /* for messages only */

    pthread_mutex_t lock;
    pthread_mutex_t split_lock; /* stores over two pages, for engines that make them in two steps */
    struct hv_memory mem;
    unsigned nr_vcpus; /* immutable once a vCPU runs */
    struct hv_vcpu *vcpus[HV_MAX_VCPUS];
    const struct hv_engine_ops *engine; /* immutable */
    uint64_t code_cache_bytes;          /* of translated code, for each vCPU; immutable once there is one */
    bool counted; /* the engine counts what is not free to count, for print_stats; as above */

    struct hv_loop *loop;
    struct hv_evtchn *evtchn;
    struct hv_gnttab *gnttab;
    struct hv_params *params; /* HVM parameters */
    struct hv_physmap *physmap; /* shared_info's place, e820: hv/hypercall/memory-op.c */
    struct hv_sched *sched;     /* watchdogs: hv/hypercall/sched.c */
    struct hv_console *console;
    struct hv_store_ring *store;
    struct hv_uring *uring;   /* the process's; NULL where the host has none */
    struct hv_display *display; /* what the framebuffer shows: hv/backend/fb/display.h; loop thread */
    struct hv_xenbus *xenbus; /* PV devices: hv/backend/xenbus.h; loop thread */
    struct hv_control *control;
    struct hv_time *time;
    struct hv_cpuid_policy *cpuid; /* immutable once a vCPU runs */
    struct hv_cpuid_mask *cpuid_mask; /* the same: what is kept from the guest */
    struct hv_vnuma *vnuma; /* NUMA nodes; NULL: one; immutable once it was built: hv/machine/vnuma.h */
    struct hv_log_rate log_rate;   /* self-locking */

    struct hv_dirty_rate *dirty_rate; /* measured once: hv/machine/dirty-rate.h; loop thread */
    struct hv_stream *stream; /* being written or read: hv/stream/; loop thread, as the next */
    bool frozen; /* backends leave the guest's memory alone: it is being written to a stream */

    struct shared_info *shared_info; /* lasting host address of the page */
    uint64_t shared_info_index;

    _Atomic int shutdown_code; /* SHUTDOWN_* of xen/sched.h, or -1 while alive */
};

/* Creates a domain without memory (a limit of 0 pages) or vCPUs. 0 or negative errno. Loop thread. */
int hv_domain_new(const struct hv_engine_ops *engine, struct hv_loop *loop,
                  struct hv_domain **out) HV_MUST_CHECK;
/* Stops all vCPUs, joins their threads, frees everything. Main thread. */
void hv_domain_free(struct hv_domain *d);

/* Stops all vCPUs for good and records why (SHUTDOWN_poweroff, _reboot, _crash ...); tells the control
 * channel. Only the first call counts. Any thread; a vCPU that calls it stops when it leaves run(). */
void hv_domain_shutdown(struct hv_domain *d, unsigned code);

/* Shuts down with SHUTDOWN_crash and logs why. */
void hv_domain_crash(struct hv_domain *d, const char *format, ...) HV_PRINTF(2, 3);

/* Every vCPU forgets its translations before it runs another instruction; returns when none can use
 * an old one. Any thread, vCPU threads included, with no lock held. */
void hv_domain_flush(struct hv_domain *d);
