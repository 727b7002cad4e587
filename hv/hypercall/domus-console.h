/* Operations of domus_op on consoles: rows of the table in domus.c. */
#pragma once

#include "hv/hypercall/subop.h"

hv_subop_fn hv_domus_console_detach, hv_domus_console_info;
