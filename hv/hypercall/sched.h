/* What sched_op keeps of a domain: watchdogs and the announced shutdown code. */
#pragma once

#include "hv/domain.h"

/* hv_domain_new and hv_domain_free call these, on the loop thread. */
int hv_sched_init(struct hv_domain *d) HV_MUST_CHECK;
void hv_sched_fini(struct hv_domain *d);
