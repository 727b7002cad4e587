/* Event channels of the domain: 2-level and FIFO. The far end of every interdomain channel is in this
 * process (domain 0 is the toolstack and the backends), so a notification to it is a function call.
 */
#pragma once

#include "hv/domain.h"

typedef uint32_t hv_evtchn_port;
typedef void hv_evtchn_notify_fn(void *opaque); /* on the notifying thread: wake a loop source, no more */

int hv_evtchn_init(struct hv_domain *d) HV_MUST_CHECK;
void hv_evtchn_fini(struct hv_domain *d);

/* Ports above @port cannot be allocated (max_evtchn_port of createdomain). Before the guest runs. */
void hv_evtchn_set_max_port(struct hv_domain *d, uint32_t port);

/* Makes an unbound port for domain 0's side to bind, as a toolstack does (console, store). 0 or
 * negative errno. */
int hv_evtchn_alloc_unbound(struct hv_domain *d, hv_evtchn_port *port) HV_MUST_CHECK;

/* A backend takes the far end of @port (unbound for domain 0): @fn is called when the guest sends.
 * -EINVAL when the port is not free for that. */
int hv_evtchn_backend_bind(struct hv_domain *d, hv_evtchn_port port, hv_evtchn_notify_fn *fn,
                           void *opaque) HV_MUST_CHECK;
void hv_evtchn_backend_unbind(struct hv_domain *d, hv_evtchn_port port);

/* A backend notifies the guest. Any thread. */
void hv_evtchn_backend_notify(struct hv_domain *d, hv_evtchn_port port);

/* Raises @virq (VIRQ_TIMER ...) on the vCPU. Any thread. */
void hv_evtchn_virq(struct hv_vcpu *v, unsigned virq);

/* True when the guest has given page @gfn to event channels (FIFO control block, event array), so that it
 * cannot be taken away. Caller holds domain->lock. */
bool hv_evtchn_uses_gfn(struct hv_domain *d, hv_gfn gfn);

struct hv_decoder;
struct hv_encoder;
/* State for a stream (evtchn-state.c). Ports that backends had are free for them to bind again. */
void hv_evtchn_encode(struct hv_domain *d, struct hv_encoder *e);
int hv_evtchn_decode(struct hv_domain *d, struct hv_decoder *dec) HV_MUST_CHECK;
/* Notes the pages with event words and control blocks in the log of writes. */
void hv_evtchn_mark_own(struct hv_domain *d);
