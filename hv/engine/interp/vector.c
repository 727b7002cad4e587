/* x87, MMX, SSE and AVX instructions: conditions and memory operands here, execution by a stub on
 * the host. */
#include "config.h"

#include "hv/engine/interp/mem.h"

#include <string.h>

#include "hv/x86/xstate.h"

void interp_check_sse(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    if ((cpu->cr0 & HV_CR0_EM) || !(cpu->cr4 & HV_CR4_OSFXSR))
        interp_raise_vector(x, op, HV_VEC_UD);
    if (cpu->cr0 & HV_CR0_TS)
        interp_raise_vector(x, op, HV_VEC_NM);
}

/* SDM volume 2, 2.4 "AVX and SSE instruction exception classification". */
void interp_check_avx(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    const uint64_t state = HV_XSTATE_SSE | HV_XSTATE_AVX;

    if (!(cpu->cr0 & HV_CR0_PE) || !(cpu->cr4 & HV_CR4_OSXSAVE) || (cpu->xcr0 & state) != state)
        interp_raise_vector(x, op, HV_VEC_UD);
    if (cpu->cr0 & HV_CR0_TS)
        interp_raise_vector(x, op, HV_VEC_NM);
}

/* SDM volume 3, tables 2-1 "Action taken by x87 FPU instructions" and 13-1 for SSE. */
static void check_usable(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                         const struct hv_native_info *info)
{
    bool em = cpu->cr0 & HV_CR0_EM, ts = cpu->cr0 & HV_CR0_TS;

    if (info->avx) {
        interp_check_avx(cpu, op, x);
        return;
    }
    if ((info->sse && (em || !(cpu->cr4 & HV_CR4_OSFXSR))) || (info->mmx && em))
        interp_raise_vector(x, op, HV_VEC_UD);
    if (info->fwait ? ts && (cpu->cr0 & HV_CR0_MP) : ts || (info->x87 && em))
        if (info->fwait || info->sse || info->mmx || info->x87)
            interp_raise_vector(x, op, HV_VEC_NM);
}

static void execute(struct hv_cpu *cpu, struct interp_op *op, struct interp *x, void *memory)
{
    struct hv_fault fault;

    if (hv_native_execute(op->aux, cpu, memory, &fault))
        interp_raise(x, op, &fault);
}

/* An unmasked x87 exception keeps a store from happening, and then the store cannot fault either.
 * So it is tried on a scratch operand first. */
static bool is_store_suppressed(struct hv_cpu *cpu, struct interp_op *op, struct interp *x)
{
    uint8_t saved[HV_FX_BYTES], scratch[HV_NATIVE_MEMORY_MAX] = {0};

    if ((hv_fx_get16(cpu->xsave, HV_FX_FCW) & HV_FCW_MASKS) == HV_FCW_MASKS)
        return false;
    memcpy(saved, cpu->xsave, sizeof(saved));
    execute(cpu, op, x, scratch);
    if (!hv_native_stored(op->aux, cpu))
        return true;
    memcpy(cpu->xsave, saved, sizeof(saved));
    return false;
}

static void execute_with_memory(struct hv_cpu *cpu, struct interp_op *op, struct interp *x,
                                const struct hv_native_info *info)
{
    uint8_t bounce[HV_NATIVE_MEMORY_MAX] __attribute__((aligned(64)));
    unsigned bytes = info->memory_bytes;
    uint64_t va;
    void *host;

    if (info->x87 && info->writes_memory && is_store_suppressed(cpu, op, x))
        return;
    va = interp_address(cpu, op, x);
    if (info->aligned && (va & (bytes - 1)))
        interp_raise_code(x, op, HV_VEC_GP, 0);
    host = interp_host(x, op, va, bytes, info->writes_memory);
    if (host) {
        execute(cpu, op, x, host);
        if (info->writes_memory)
            interp_stored(x, op, host, bytes);
        return;
    }
    if (info->writes_memory)
        interp_check_write(x, op, va, bytes);
    if (info->reads_memory)
        interp_read_bytes(x, op, va, bounce, bytes);
    execute(cpu, op, x, bounce);
    if (info->writes_memory)
        interp_write_bytes(x, op, va, bounce, bytes);
}

INTERP_HANDLER(interp_op_native)
{
    const struct hv_native_info *info = hv_native_info(op->aux);

    check_usable(cpu, op, x, info);
    if (info->has_memory) {
        if (hv_native_x87_pending(op->aux, cpu))
            interp_raise_vector(x, op, HV_VEC_MF);
        execute_with_memory(cpu, op, x, info);
    } else {
        execute(cpu, op, x, NULL);
    }
    INTERP_NEXT();
}
