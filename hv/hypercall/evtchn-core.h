/* Inside event channels: ports (evtchn.c), the two ways of telling the guest that one is pending
 * (evtchn-2l.c, evtchn-fifo.c) and the hypercalls on them (evtchn-op.c).
 */
#pragma once

#include "hv/hypercall/evtchn.h"
#include "hv/xen-abi.h"

enum hv_channel_state {
    HV_CHANNEL_FREE = 0,
    HV_CHANNEL_UNBOUND,  /* waits for remote_domid to bind it */
    HV_CHANNEL_BACKEND,  /* interdomain: the far end is a backend of this process */
    HV_CHANNEL_LOOPBACK, /* interdomain: the far end is remote_port of this domain */
    HV_CHANNEL_VIRQ,
    HV_CHANNEL_IPI,
};

/* One port; all of it under hv_evtchn.lock. */
struct hv_channel {
    uint8_t state; /* enum hv_channel_state */
    uint8_t priority;
    uint8_t virq;
    bool pending; /* raised while the guest had given no event word for it (FIFO) */
    uint16_t vcpu;
    uint16_t last_vcpu;    /* FIFO: the queue it was last put on */
    uint8_t last_priority; /* FIFO */
    uint16_t remote_domid;
    uint32_t remote_port;
    hv_evtchn_notify_fn *notify;
    void *notify_opaque;
};

/* How pending ports are told to the guest. All are called with the lock held, for a port in use. */
struct hv_evtchn_abi {
    uint32_t nr_ports;
    void (*set_pending)(struct hv_domain *d, struct hv_channel *channel, uint32_t port);
    void (*clear_pending)(struct hv_domain *d, struct hv_channel *channel, uint32_t port);
    void (*unmask)(struct hv_domain *d, struct hv_channel *channel, uint32_t port);
    bool (*is_pending)(struct hv_domain *d, uint32_t port);
};

extern const struct hv_evtchn_abi hv_evtchn_2l;
extern const struct hv_evtchn_abi hv_evtchn_fifo;

#define HV_CHANNELS_PER_CHUNK 256u
#define HV_CHANNEL_CHUNKS     (EVTCHN_FIFO_NR_CHANNELS / HV_CHANNELS_PER_CHUNK)

struct hv_evtchn {
    pthread_mutex_t lock; /* after domain->lock, before a vCPU's wait lock */
    const struct hv_evtchn_abi *abi;
    uint32_t max_port;
    struct hv_channel *chunks[HV_CHANNEL_CHUNKS];
    uint32_t virq_port[HV_MAX_VCPUS][NR_VIRQS]; /* 0: not bound */
    struct hv_fifo *fifo;                       /* NULL until the guest sets FIFO up */
    _Atomic uint64_t polling; /* set of vCPUs in SCHEDOP_poll */
};

/* The channel of a port that may be used now, or NULL. Lock held. */
struct hv_channel *hv_evtchn_find_locked(struct hv_evtchn *e, uint32_t port);
/* A new port in state @state for @vcpu. 0 or -XEN_ENOSPC, -XEN_ENOMEM. Lock held. */
int hv_evtchn_alloc_locked(struct hv_evtchn *e, enum hv_channel_state state, unsigned vcpu, uint32_t *port)
    HV_MUST_CHECK;
void hv_evtchn_close_locked(struct hv_domain *d, struct hv_channel *channel, uint32_t port);
/* Makes @port pending and wakes who polls for it. Lock held. */
void hv_evtchn_raise_locked(struct hv_domain *d, struct hv_channel *channel, uint32_t port);
/* As the guest asked with EVTCHNOP_send. 0 or -XEN_EINVAL. Lock held. */
int hv_evtchn_send_locked(struct hv_domain *d, uint32_t port);

/* FIFO set-up: domain->lock and the lock held. 0 or negative XEN_E*. */
int hv_fifo_init_control(struct hv_domain *d, unsigned vcpu, hv_gfn gfn, uint32_t offset) HV_MUST_CHECK;
int hv_fifo_expand_array(struct hv_domain *d, hv_gfn gfn) HV_MUST_CHECK;
bool hv_fifo_uses_gfn(const struct hv_fifo *fifo, hv_gfn gfn);
void hv_fifo_free(struct hv_evtchn *e);

struct hv_decoder;
struct hv_encoder;
/* FIFO's part of a stream, after the channels' one; to do with the log of writes. Lock held. */
void hv_fifo_encode(const struct hv_fifo *fifo, struct hv_encoder *e);
int hv_fifo_decode(struct hv_domain *d, struct hv_decoder *dec) HV_MUST_CHECK;
void hv_fifo_mark_own(struct hv_domain *d);
/* The slot of @port, in use or not, made where there was none; NULL for a port that cannot be, or out of memory. */
struct hv_channel *hv_evtchn_make_slot_locked(struct hv_evtchn *e, uint32_t port);
