/* Handlers of domus_op on the guest's memory, for the table in domus.c. */
#pragma once

#include "hv/hypercall/subop.h"

hv_subop_fn hv_domus_peek, hv_domus_dirty_rate_start, hv_domus_dirty_rate;
