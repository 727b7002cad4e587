/* What sched_op keeps of a domain: watchdogs and the announced shutdown code. */
#pragma once

#include "hv/domain.h"

/* hv_domain_new and hv_domain_free call these, on the loop thread. */
int hv_sched_init(struct hv_domain *d) HV_MUST_CHECK;
void hv_sched_fini(struct hv_domain *d);

struct hv_decoder;
struct hv_encoder;
/* State for a stream: watchdogs go on with the time that they had left. */
void hv_sched_encode(const struct hv_domain *d, struct hv_encoder *e);
int hv_sched_decode(struct hv_domain *d, struct hv_decoder *dec) HV_MUST_CHECK;
/* Watchdogs stand still, and go on, with the domain. Loop thread. */
void hv_sched_freeze(struct hv_domain *d);
void hv_sched_thaw(struct hv_domain *d);
