/* Far transfers: JMP, CALL, RET, IRET between segments and privilege levels. What the engines
 * share.
 *
 * 0, -EFAULT with *fault and nothing changed, or -ENOTSUP with vcpu->error set (task switches, call
 * gates, virtual-8086 mode). @bytes is the operand size. Source: Intel SDM volume 2, the
 * instructions' pages; volume 3, chapter 5.8.
 */
#pragma once

#include "hv/x86/cpu.h"

struct hv_vcpu;

int hv_x86_far_jump(struct hv_vcpu *v, uint16_t selector, uint64_t offset,
                    struct hv_fault *fault) HV_MUST_CHECK;
int hv_x86_far_call(struct hv_vcpu *v, uint16_t selector, uint64_t offset, unsigned bytes,
                    uint64_t return_rip, struct hv_fault *fault) HV_MUST_CHECK;
/* @release: bytes of parameters to drop. */
int hv_x86_far_return(struct hv_vcpu *v, unsigned bytes, unsigned release,
                      struct hv_fault *fault) HV_MUST_CHECK;
int hv_x86_iret(struct hv_vcpu *v, unsigned bytes, struct hv_fault *fault) HV_MUST_CHECK;
