/* The guest ABI: Xen's own public headers, included in one place and in one way.
 *
 * Without __XEN_INTERFACE_VERSION__ the headers give the numbers of Xen 3.0 (sched_op 6 in place of
 * 29, and so on), so nothing else in the tree includes <xen/...>.
 *
 * A XEN_GUEST_HANDLE looks like a C pointer but holds an address of the caller (guest virtual memory,
 * or the data area of a control request): give it to hv_caller_read/hv_caller_write, never follow it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define __XEN_INTERFACE_VERSION__ 0x00040e00
#define __XEN_TOOLS__             1

#include <xen/xen.h>
#include <xen/xen-compat.h>
#include <xen/errno.h>
#include <xen/elfnote.h>
#include <xen/features.h>
#include <xen/version.h>
#include <xen/memory.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/physdev.h>
#include <xen/domctl.h>
#include <xen/sysctl.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/hvm/start_info.h>
#include <xen/hvm/e820.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/hvm_vcpu.h>
#include <xen/hvm/params.h>
#include <xen/io/blkif.h>
#include <xen/io/console.h>
#include <xen/io/fbif.h>
#include <xen/io/kbdif.h>
#include <xen/io/netif.h>
#include <xen/io/protocols.h>
#include <xen/io/xenbus.h>
#include <xen/io/xs_wire.h>

_Static_assert(__XEN_INTERFACE_VERSION__ <= __XEN_LATEST_INTERFACE_VERSION__, "libxen-dev too old");
_Static_assert(sizeof(struct shared_info) == 3136, "64-bit shared_info");
_Static_assert(sizeof(struct vcpu_info) == 64, "vcpu_info");
_Static_assert(sizeof(struct blkif_request) == 112, "64-bit blkif request");
_Static_assert(sizeof(struct blkif_request_indirect) <= sizeof(struct blkif_request), "blkif indirect request");
_Static_assert(sizeof(struct blkif_response) == 16, "64-bit blkif response");
_Static_assert(sizeof(struct hvm_start_info) == 56, "hvm_start_info");
_Static_assert(sizeof(struct xencons_interface) == 3088 || sizeof(struct xencons_interface) >= 3088,
               "console ring");
