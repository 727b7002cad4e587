/* Inside streams: pages made smaller, by zstd. */
#pragma once

#include "hv/stream/stream.h"

struct hv_packer;

/* @to_send: it packs, else it unpacks. NULL: out of memory. */
struct hv_packer *hv_packer_new(bool to_send);
void hv_packer_free(struct hv_packer *p);
/* What @bytes at @from, HV_STREAM_PAGES_MAX pages at most, become: good until the next call. NULL: it is not worth it. */
const void *hv_packer_pack(struct hv_packer *p, const void *from, size_t bytes, size_t *packed_bytes);
/* The opposite, which has to make @bytes of it; NULL: it does not. */
const uint8_t *hv_packer_unpack(struct hv_packer *p, const void *packed, size_t packed_bytes, size_t bytes);
