/* Inside streams: which code a guest will want first where it goes on, so that it is ready there when the guest arrives. */
#pragma once

#include "hv/stream/stream.h"

#define HV_STREAM_CODE_BYTES_MAX (4u << 20)

/* Appends what a record of code has: of what the guest ran lately. Its vCPUs are paused. */
void hv_stream_encode_code(struct hv_domain *d, struct hv_encoder *e);
/* Makes that ready, in a domain that does not run yet, as far as time allows. -EBADMSG: it makes no sense. */
int hv_stream_decode_code(struct hv_domain *d, struct hv_decoder *dec) HV_MUST_CHECK;
