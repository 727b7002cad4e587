/* Slowing a guest down: its vCPUs are kept from running for a part of each period. Loop thread. */
#pragma once

#include "hv/domain.h"

struct hv_stream_throttle;

struct hv_stream_throttle *hv_stream_throttle_new(struct hv_domain *d); /* NULL: out of memory */
void hv_stream_throttle_free(struct hv_stream_throttle *t); /* off; NULL is fine */
/* A step more: 20 % at first, then 10 % more each time, 99 % at most. */
void hv_stream_throttle_more(struct hv_stream_throttle *t);
void hv_stream_throttle_off(struct hv_stream_throttle *t);
unsigned hv_stream_throttle_percent(const struct hv_stream_throttle *t);
