/* Handlers of domus_op on virtual disks, for the table in domus.c. */
#pragma once

#include "hv/hypercall/subop.h"

hv_subop_fn hv_domus_vbd_attach, hv_domus_vbd_detach, hv_domus_vbd_resize, hv_domus_vbd_stats, hv_domus_vbd_set_image,
    hv_domus_vbd_set_limits;
