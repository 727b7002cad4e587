/* Inside streams: the rest of a domain's memory, which comes after its state (post-copy). */
#pragma once

#include "hv/stream/job.h"

struct fetch;

/* Pages may be missing from now on: 0, or a negative errno with the reason in @why. Before vCPUs run. */
int hv_fetch_prepare(struct hv_domain *d, char why[HV_STREAM_ERROR_BYTES]) HV_MUST_CHECK;
/* Takes a record "missing". 0 or -EBADMSG. */
int hv_fetch_take_list(struct hv_domain *d, const uint8_t *payload, size_t bytes) HV_MUST_CHECK;

/* Starts to fetch what is missing from the socket of @s, which this thread only says words on from now on. NULL: out of memory. */
struct fetch *hv_fetch_start(struct hv_stream *s);
/* Ends that, and frees it; whoever waits for a page does so for ever. */
void hv_fetch_stop(struct fetch *f);
/* The state is there: the stream is this from now on, and takes @f. False, with the reason in @why: what it is about never came. */
bool hv_fetch_go_on(struct hv_stream *s, struct fetch *f, char why[HV_STREAM_ERROR_BYTES]) HV_MUST_CHECK;
