/* The local APIC of a vCPU: xAPIC page and x2APIC MSRs, with its timer.
 * Source: Intel SDM volume 3, chapter 10 "APIC".
 */
#pragma once

#include "hv/domain.h"

struct hv_decoder;
struct hv_encoder;

int hv_lapic_new(struct hv_vcpu *v) HV_MUST_CHECK;
void hv_lapic_free(struct hv_vcpu *v);
void hv_lapic_reset(struct hv_vcpu *v);

/* An edge interrupt arrives: sets the IRR bit and requests attention. Any thread. */
void hv_lapic_set_irq(struct hv_vcpu *v, uint8_t vector);
/* The same for the upcall vector of event channels, which waits in IRR also while the guest has not
 * enabled the APIC yet: an upcall is raised once and must not be lost. Xen does the same. */
void hv_lapic_set_upcall(struct hv_vcpu *v, uint8_t vector);

/* The highest vector above the processor priority, or -1. vCPU thread. */
int hv_lapic_pending(struct hv_vcpu *v);
/* The processor takes @vector: IRR to ISR. vCPU thread. */
void hv_lapic_accept(struct hv_vcpu *v, uint8_t vector);

/* CLOCK_MONOTONIC time at which the timer fires, 0 for never. */
uint64_t hv_lapic_deadline_ns(struct hv_vcpu *v);
/* The guest's TSC was set: a TSC deadline is another moment now. vCPU thread. */
void hv_lapic_tsc_moved(struct hv_vcpu *v);
/* Raises the timer's interrupt if it is due. vCPU thread. */
void hv_lapic_run_timer(struct hv_vcpu *v);

/* The APIC page and the MSRs 0x1b, 0x800-0x8ff. MSR functions: 0 or -EPERM for #GP. */
uint32_t hv_lapic_mmio_read(struct hv_vcpu *v, unsigned offset);
void hv_lapic_mmio_write(struct hv_vcpu *v, unsigned offset, uint32_t value);
int hv_lapic_msr_read(struct hv_vcpu *v, uint32_t msr, uint64_t *value) HV_MUST_CHECK;
int hv_lapic_msr_write(struct hv_vcpu *v, uint32_t msr, uint64_t value) HV_MUST_CHECK;

/* State for a stream: the vCPU is paused. Decoding gives 0 or -EBADMSG. */
void hv_lapic_encode(const struct hv_vcpu *v, struct hv_encoder *e);
int hv_lapic_decode(struct hv_vcpu *v, struct hv_decoder *d) HV_MUST_CHECK;
