/* Operations of domus_op on network interfaces: rows of the table in domus.c. */
#pragma once

#include "hv/hypercall/subop.h"

hv_subop_fn hv_domus_vif_attach, hv_domus_vif_detach, hv_domus_vif_set_link, hv_domus_vif_set_port, hv_domus_vif_stats,
    hv_domus_vif_set_limits;
