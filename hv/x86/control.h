/* Control and debug registers, fast system calls: what the engines share.
 *
 * The caller has checked the privilege level where it says so. 0, or -EFAULT with *fault and
 * nothing changed. An engine looks at the mode again after each of these.
 */
#pragma once

#include "hv/x86/cpu.h"

struct hv_vcpu;

/* MOV to CR0, CR2, CR3 (without bit 63), CR4, CR8. #UD for others. CPL 0.
 * Source: Intel SDM volume 3, chapter 2.5 and volume 2, MOV. */
int hv_x86_write_cr(struct hv_vcpu *v, unsigned number, uint64_t value,
                    struct hv_fault *fault) HV_MUST_CHECK;
int hv_x86_read_cr(struct hv_vcpu *v, unsigned number, uint64_t *value,
                   struct hv_fault *fault) HV_MUST_CHECK;

/* Whether a processor may be set to these values as they stand: bits that CPUID offers, and LMA
 * exactly where paging and LME make it so. */
bool hv_x86_control_valid(struct hv_vcpu *v, uint64_t cr0, uint64_t cr3, uint64_t cr4,
                          uint64_t efer);

/* MOV to and from DR0-DR7; checks CR4.DE and DR7.GD. CPL 0. */
int hv_x86_write_dr(struct hv_vcpu *v, unsigned number, uint64_t value,
                    struct hv_fault *fault) HV_MUST_CHECK;
int hv_x86_read_dr(struct hv_vcpu *v, unsigned number, uint64_t *value,
                   struct hv_fault *fault) HV_MUST_CHECK;

/* XSETBV for XCR0. CPL 0. Source: Intel SDM volume 1, chapter 13.3. */
int hv_x86_write_xcr(struct hv_vcpu *v, uint32_t number, uint64_t value,
                     struct hv_fault *fault) HV_MUST_CHECK;

/* The flags that SYSRET takes from R11. */
#define HV_SYSRET_FLAGS 0x3c7fd7u

/* What SYSCALL in 64-bit mode, and SYSRET to 64-bit code if @wide, load into CS and SS. */
void hv_x86_syscall_segments(const struct hv_cpu *cpu, struct hv_segment *cs, struct hv_segment *ss);
void hv_x86_sysret_segments(const struct hv_cpu *cpu, bool wide, struct hv_segment *cs,
                            struct hv_segment *ss);

/* SYSCALL with RIP of the next instruction; SYSRET and SYSEXIT with operand size 8 or 4. They check
 * all they need, privilege included. Where makers differ, the vendor of the CPUID policy decides.
 * Source: Intel SDM volume 2; AMD64 Architecture Programmer's Manual volume 3. */
int hv_x86_syscall(struct hv_vcpu *v, uint64_t next_rip, struct hv_fault *fault) HV_MUST_CHECK;
int hv_x86_sysret(struct hv_vcpu *v, unsigned bytes, struct hv_fault *fault) HV_MUST_CHECK;
int hv_x86_sysenter(struct hv_vcpu *v, struct hv_fault *fault) HV_MUST_CHECK;
int hv_x86_sysexit(struct hv_vcpu *v, unsigned bytes, struct hv_fault *fault) HV_MUST_CHECK;
