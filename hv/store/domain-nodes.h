/* The nodes that a toolstack writes for a domain. Private to the store. */
#pragma once

#include "hv/store/core.h"
#include "hv/store/store.h"

/* Writes them. 0 or negative errno (nothing written). */
int hv_xs_write_domain_nodes(struct hv_xs *xs, const struct hv_store_domain *domain) HV_MUST_CHECK;
