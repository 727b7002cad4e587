/* Delivery of exceptions and interrupts through the guest's IDT (or the real-mode vector table). */
#pragma once

#include "hv/x86/cpu.h"

struct hv_vcpu;

enum hv_delivery {
    HV_DELIVER_EXCEPTION,
    HV_DELIVER_INTERRUPT, /* external */
    HV_DELIVER_NMI,
    HV_DELIVER_SOFTWARE,   /* INT n, INT3, INTO: the gate's DPL counts */
    HV_DELIVER_PRIVILEGED, /* INT1 */
};

/* Delivers @what: cpu is at the handler's first instruction afterwards. @return_rip is what is
 * pushed; cpu.rip is the instruction that a fault during delivery restarts. Faults on the way are
 * delivered in turn, as double fault where SDM table 6-5 says so. 0, -ESHUTDOWN for a triple fault,
 * or -ENOTSUP with vcpu->error set (task gate). Source: Intel SDM volume 3, chapter 6. */
int hv_x86_deliver(struct hv_vcpu *v, enum hv_delivery kind, const struct hv_fault *what,
                   uint64_t return_rip) HV_MUST_CHECK;
