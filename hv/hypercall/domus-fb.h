/* Operations of domus_op on framebuffer, keyboard and display: rows of the table in domus.c. */
#pragma once

#include "hv/hypercall/subop.h"

hv_subop_fn hv_domus_vfb_attach, hv_domus_vkbd_attach, hv_domus_vkbd_send, hv_domus_display_attach,
    hv_domus_display_write;
