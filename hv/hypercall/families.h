/* The handler of each hypercall number; table.c lists them, one file per family has them. */
#pragma once

#include "hv/hypercall/hypercall.h"

hv_hypercall_fn hv_memory_op;
hv_hypercall_fn hv_multicall;
hv_hypercall_fn hv_set_timer_op;
hv_hypercall_fn hv_xen_version;
hv_hypercall_fn hv_console_io;
hv_hypercall_fn hv_physdev_op;
hv_hypercall_fn hv_grant_table_op;
hv_hypercall_fn hv_vm_assist;
hv_hypercall_fn hv_vcpu_op;
hv_hypercall_fn hv_sched_op;
hv_hypercall_fn hv_event_channel_op;
hv_hypercall_fn hv_hvm_op;
hv_hypercall_fn hv_sysctl;
hv_hypercall_fn hv_domctl;
hv_hypercall_fn hv_domus_op;
