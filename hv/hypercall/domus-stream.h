/* Inside hv/hypercall: the operations of domus_op on streams. */
#pragma once

#include "hv/hypercall/subop.h"

hv_subop_fn hv_domus_save, hv_domus_restore, hv_domus_send, hv_domus_receive, hv_domus_stream_status,
    hv_domus_stream_limits, hv_domus_stream_end, hv_domus_stream_claim, hv_domus_stream_keep,
    hv_domus_stream_recall, hv_domus_stream_switch, hv_domus_dump, hv_domus_save_live;
