/* How many different pages the guest writes to in a time: by the log of writes (dirty.h), which a migration needs for itself.
 * Loop thread.
 */
#pragma once

#include "hv/hv.h"
#include "hv/types.h"

struct hv_domain;

/* Begins a measurement. 0, -EBUSY while there is another one or a migration, -ENOMEM. */
int hv_dirty_rate_start(struct hv_domain *d, unsigned seconds) HV_MUST_CHECK;
/* Breaks one off that is under way: the log is somebody else's now. */
void hv_dirty_rate_stop(struct hv_domain *d);
/* The last one. */
void hv_dirty_rate_get(const struct hv_domain *d, struct domus_dirty_rate *rate);
/* The domain goes away. */
void hv_dirty_rate_free(struct hv_domain *d);
