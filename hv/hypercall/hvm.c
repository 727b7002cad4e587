/* hvm_op: parameters, the upcall vector, and a few questions. Source: xen/hvm/hvm_op.h, xen/hvm/params.h. */
#include "config.h"

#include "hv/hypercall/families.h"

#include "hv/hypercall/params.h"
#include "hv/hypercall/subop.h"
#include "hv/hypercall/vcpu-state.h"
#include "hv/hypercall/vcpu-xen.h"
#include "hv/machine/time.h"

/* Vectors below are exceptions. */
#define FIRST_VECTOR 0x10

/* What a guest may do with a parameter of its own; those not named are the toolstack's. */
enum { GUEST_READS = 1, GUEST_WRITES = 2 };

static const uint8_t guest_rights[HVM_NR_PARAMS] = {
    [HVM_PARAM_CALLBACK_IRQ] = GUEST_READS | GUEST_WRITES,
    [HVM_PARAM_VM86_TSS] = GUEST_READS | GUEST_WRITES,
    [HVM_PARAM_VM86_TSS_SIZED] = GUEST_READS | GUEST_WRITES,
    [HVM_PARAM_ACPI_S_STATE] = GUEST_READS | GUEST_WRITES,
    [HVM_PARAM_VM_GENERATION_ID_ADDR] = GUEST_READS | GUEST_WRITES,
    [HVM_PARAM_STORE_PFN] = GUEST_READS,
    [HVM_PARAM_STORE_EVTCHN] = GUEST_READS,
    [HVM_PARAM_CONSOLE_PFN] = GUEST_READS,
    [HVM_PARAM_CONSOLE_EVTCHN] = GUEST_READS,
    [HVM_PARAM_ALTP2M] = GUEST_READS,
    [HVM_PARAM_X87_FIP_WIDTH] = GUEST_READS,
};

static long check_param(const struct hv_caller *c, const struct xen_hvm_param *param, uint8_t right)
{
    if (param->index >= HVM_NR_PARAMS)
        return -XEN_EINVAL;
    if (!hv_caller_owns(c, param->domid))
        return -XEN_ESRCH;
    if (hv_caller_is_guest(c) && !(guest_rights[param->index] & right))
        return -XEN_EPERM;
    return 0;
}

/* Any value is taken: Linux sets GSI 1 beside per-vCPU vectors, to look enlightened. Only the vector type
 * delivers: a PVH guest has no interrupt lines. */
static long set_callback(struct hv_domain *d, uint64_t via)
{
    hv_param_set(d, HVM_PARAM_CALLBACK_IRQ, via);
    for (unsigned i = 0; i < d->nr_vcpus; i++)
        hv_vcpu_xen_retry_upcall(d->vcpus[i]);
    return 0;
}

static long set_param(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_hvm_param *param = arg;
    long error = check_param(c, param, GUEST_WRITES);

    (void)args;
    if (error)
        return error;
    switch (param->index) {
    case HVM_PARAM_CALLBACK_IRQ:
        return set_callback(c->domain, param->value);
    case HVM_PARAM_ACPI_S_STATE: /* only S0: no sleeping here */
        return param->value == 0 ? 0 : -XEN_EINVAL;
    case HVM_PARAM_TRIPLE_FAULT_REASON:
        if (param->value > SHUTDOWN_MAX)
            return -XEN_EINVAL;
        break;
    }
    hv_param_set(c->domain, param->index, param->value);
    return 0;
}

static long get_param(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct xen_hvm_param *param = arg;
    long error = check_param(c, param, GUEST_READS);

    (void)args;
    if (!error)
        param->value = hv_param_get(c->domain, param->index);
    return error;
}

/* args[1] must be 0, says the header. */
static long flush_tlbs(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)arg;
    if (args[1])
        return -XEN_EINVAL;
    hv_domain_flush(c->domain);
    return 0;
}

static long get_time(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct xen_hvm_get_time *op = arg;

    (void)args;
    op->now = hv_time_system_ns(c->domain);
    return 0;
}

static long get_mem_type(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    static const uint16_t types[] = {
        [HV_PAGE_HOLE] = HVMMEM_mmio_dm,
        [HV_PAGE_RAM] = HVMMEM_ram_rw,
        [HV_PAGE_SHARED] = HVMMEM_ram_rw,
        [HV_PAGE_SHARED_RO] = HVMMEM_ram_ro,
    };
    struct xen_hvm_get_mem_type *op = arg;

    (void)args;
    if (!hv_caller_owns(c, op->domid))
        return -XEN_ESRCH;
    op->mem_type = types[hv_memory_type(&c->domain->mem, hv_gfn_of(op->pfn))];
    return 0;
}

static long set_upcall_vector(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct xen_hvm_evtchn_upcall_vector *op = arg;
    struct hv_vcpu *v;

    (void)args;
    if (op->vector < FIRST_VECTOR)
        return -XEN_EINVAL;
    if (op->vcpu >= c->domain->nr_vcpus)
        return -XEN_ENOENT;
    v = c->domain->vcpus[op->vcpu];
    atomic_store(&v->xen->upcall_vector, op->vector);
    hv_vcpu_xen_retry_upcall(v);
    return 0;
}

#define INOUT  (HV_ARG_IN | HV_ARG_OUT)
#define GUESTS HV_CALLER_ANY_GUEST

static const struct hv_subop ops[] = {
    [HVMOP_set_param] = {"set_param", set_param, sizeof(struct xen_hvm_param), HV_ARG_IN, HV_CALLER_ALL},
    [HVMOP_get_param] = {"get_param", get_param, sizeof(struct xen_hvm_param), INOUT, HV_CALLER_ALL},
    [HVMOP_flush_tlbs] = {"flush_tlbs", flush_tlbs, 0, HV_ARG_NONE, GUESTS},
    [HVMOP_pagetable_dying] = {"pagetable_dying", NULL, 0, 0, 0},
    [HVMOP_get_time] = {"get_time", get_time, sizeof(struct xen_hvm_get_time), HV_ARG_OUT, GUESTS},
    [HVMOP_xentrace] = {"xentrace", NULL, 0, 0, 0},
    [HVMOP_get_mem_type] = {"get_mem_type", get_mem_type, sizeof(struct xen_hvm_get_mem_type), INOUT,
                            HV_CALLER_ALL},
    [HVMOP_set_evtchn_upcall_vector] = {"set_evtchn_upcall_vector", set_upcall_vector,
                                        sizeof(struct xen_hvm_evtchn_upcall_vector), HV_ARG_IN, GUESTS},
    [HVMOP_guest_request_vm_event] = {"guest_request_vm_event", NULL, 0, 0, 0},
    [HVMOP_altp2m] = {"altp2m", NULL, 0, 0, 0},
};
static const struct hv_subop_family family = HV_SUBOP_FAMILY("hvm_op", ops);

/* args: operation, address of its structure. */
long hv_hvm_op(struct hv_caller *c, const uint64_t args[5])
{
    return hv_subop_run(&family, c, (uint32_t)args[0], args, args[1]);
}
