/* The guest's xenstore ring: carries xs_wire messages between the ring page and a connection to
 * domus-xenstored which speaks for this domain. Remembers the guest's watches, so that a new connection (the
 * daemon was restarted) goes on where the old one was.
 */
#pragma once

#include "hv/domain.h"

int hv_store_ring_new(struct hv_domain *d, hv_gfn ring, uint32_t port) HV_MUST_CHECK;
void hv_store_ring_free(struct hv_domain *d);
/* Attaches a connection (taken; replaces the one before). Loop thread. */
int hv_store_ring_attach(struct hv_domain *d, int fd) HV_MUST_CHECK;
/* Called once on the loop thread when the connection breaks. */
void hv_store_ring_set_lost(struct hv_domain *d, void (*fn)(struct hv_domain *d));

struct hv_decoder;
struct hv_encoder;
/* For streams: gives up the connection, so that nothing is in flight; once the domain goes on, who gave it is asked for
 * another. */
void hv_store_ring_freeze(struct hv_domain *d);
void hv_store_ring_thaw(struct hv_domain *d);
/* State, frozen; decoding makes the ring, which is in the guest's memory already. */
void hv_store_ring_encode(struct hv_domain *d, struct hv_encoder *e);
int hv_store_ring_decode(struct hv_domain *d, struct hv_decoder *dec) HV_MUST_CHECK;
