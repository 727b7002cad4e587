/* Inside streams: the parts of a domain that have no file of their own elsewhere. */
#pragma once

#include "hv/stream/stream.h"

/* vcpu.c */
void hv_stream_encode_vcpu(const struct hv_vcpu *v, struct hv_encoder *e);
int hv_stream_decode_vcpu(struct hv_vcpu *v, struct hv_decoder *d) HV_MUST_CHECK;
