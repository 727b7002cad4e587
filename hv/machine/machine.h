/* What engines call while a guest runs: the machine around the processor. All of these run on the
 * vCPU's own thread, inside engine run(). Any of them may change vcpu->cpu (an MSR write changes
 * the mode, a hypercall changes RAX): an engine reloads whatever it caches of it afterwards.
 */
#pragma once

#include "hv/x86/cpu.h"

struct hv_vcpu;

/* CPUID policy of the domain: @out is EAX, EBX, ECX, EDX. */
void hv_cpuid(struct hv_vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

/* RDMSR and WRMSR. 0, or -EPERM when the guest gets #GP(0). A write checks reserved bits and
 * canonical addresses; a write of EFER updates LMA rules as the SDM says.
 */
int hv_msr_read(struct hv_vcpu *v, uint32_t msr, uint64_t *value) HV_MUST_CHECK;
int hv_msr_write(struct hv_vcpu *v, uint32_t msr, uint64_t value) HV_MUST_CHECK;

uint64_t hv_tsc_read(struct hv_vcpu *v);

/* CR8, the task priority of the local APIC (bits 0-3). */
uint64_t hv_lapic_get_cr8(struct hv_vcpu *v);
void hv_lapic_set_cr8(struct hv_vcpu *v, uint64_t value);

/* Port I/O of 1, 2 or 4 bytes; ports that nobody owns read as ones. */
uint32_t hv_pio_read(struct hv_vcpu *v, uint16_t port, unsigned bytes);
void hv_pio_write(struct hv_vcpu *v, uint16_t port, unsigned bytes, uint32_t value);

/* Access to guest physical memory that is not RAM, 1, 2, 4 or 8 bytes, not crossing a page;
 * addresses that nobody owns read as ones.
 */
uint64_t hv_mmio_read(struct hv_vcpu *v, hv_gpa gpa, unsigned bytes);
void hv_mmio_write(struct hv_vcpu *v, hv_gpa gpa, unsigned bytes, uint64_t value);

/* VMCALL or VMMCALL was executed; RIP is past it. Sets RAX, and what else the hypercall sets; or
 * RIP back to it, when a long one is to go on after a look at vcpu->attention. */
void hv_hypercall(struct hv_vcpu *v);
