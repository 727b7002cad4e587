/* What the handlers of system instructions share. */
#pragma once

#include "hv/engine/interp/mem.h"

static inline void interp_need_kernel(const struct hv_cpu *cpu, struct interp_op *op,
                                      struct interp *x)
{
    if (hv_cpu_cpl(cpu))
        interp_raise_code(x, op, HV_VEC_GP, 0);
}

/* Raises what a shared function reported. */
static inline void interp_must(struct interp *x, struct interp_op *op, int err,
                               const struct hv_fault *fault)
{
    if (err)
        interp_raise(x, op, fault);
}

/* UMIP keeps SGDT, SIDT, SLDT, SMSW and STR from user code. */
static inline void interp_check_umip(const struct hv_cpu *cpu, struct interp_op *op,
                                     struct interp *x)
{
    if ((cpu->cr4 & HV_CR4_UMIP) && hv_cpu_cpl(cpu))
        interp_raise_code(x, op, HV_VEC_GP, 0);
}

static inline void interp_need_protected(const struct hv_cpu *cpu, struct interp_op *op,
                                         struct interp *x)
{
    if (!(cpu->cr0 & HV_CR0_PE))
        interp_raise_vector(x, op, HV_VEC_UD);
}

/* Operand size of general registers in system instructions: 8 in 64-bit mode, else 4. */
static inline unsigned interp_system_bytes(const struct interp *x)
{
    return interp_is_64(x) ? 8 : 4;
}
