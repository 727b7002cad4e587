/* HVM parameters (HVMOP_set_param, HVMOP_get_param). */
#pragma once

#include "hv/domain.h"

int hv_params_init(struct hv_domain *d) HV_MUST_CHECK;
void hv_params_fini(struct hv_domain *d);
/* What the parameter is now; 0 for an index that does not exist. Any thread. */
uint64_t hv_param_get(struct hv_domain *d, unsigned index);
/* Sets it without the checks that HVMOP_set_param makes. */
void hv_param_set(struct hv_domain *d, unsigned index, uint64_t value);

/* Set of VMASST_TYPE_* bits that the guest has on. Any thread. */
uint64_t hv_vm_assist_get(struct hv_domain *d);

struct hv_decoder;
struct hv_encoder;
/* State for a stream. */
void hv_params_encode(const struct hv_domain *d, struct hv_encoder *e);
int hv_params_decode(struct hv_domain *d, struct hv_decoder *dec) HV_MUST_CHECK;
