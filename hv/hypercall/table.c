/* The hypercall table, and the two ways into it.
 *
 * A guest's VMCALL arrives in hv_hypercall (called by engines), a control request in hv_control_call; both
 * make a struct hv_caller and go through hv_hypercall_dispatch, which checks who may call what. Most
 * numbers are families: their handler picks the operation from a second table (subop.h). To add a
 * hypercall: one row here or in a family's table, one function, one test.
 *
 * Source: xen/xen.h; calling convention: xen/arch-x86/xen-x86_64.h and xen-x86_32.h.
 */
#include "config.h"

#include "hv/hypercall/families.h"

#include "hv/hv.h"
#include "hv/hypercall/subop.h"
#include "hv/log.h"
#include "hv/machine/machine.h"

#define GUEST    HV_CALLER_GUEST
#define GUESTS   HV_CALLER_ANY_GUEST
#define CONTROL  HV_CALLER_CONTROL
#define EARLY    HV_CALL_EARLY

static const struct hv_hypercall_entry table[] = {
    [__HYPERVISOR_memory_op] = {"memory_op", hv_memory_op, GUEST | CONTROL},
    [__HYPERVISOR_multicall] = {"multicall", hv_multicall, GUEST},
    [__HYPERVISOR_set_timer_op] = {"set_timer_op", hv_set_timer_op, GUEST},
    [__HYPERVISOR_xen_version] = {"xen_version", hv_xen_version, GUESTS | CONTROL},
    [__HYPERVISOR_console_io] = {"console_io", hv_console_io, GUESTS},
    [__HYPERVISOR_grant_table_op] = {"grant_table_op", hv_grant_table_op, GUEST | CONTROL},
    [__HYPERVISOR_vm_assist] = {"vm_assist", hv_vm_assist, GUESTS},
    [__HYPERVISOR_vcpu_op] = {"vcpu_op", hv_vcpu_op, GUEST},
    [__HYPERVISOR_sched_op] = {"sched_op", hv_sched_op, GUESTS | CONTROL},
    [__HYPERVISOR_event_channel_op] = {"event_channel_op", hv_event_channel_op, GUESTS | CONTROL},
    [__HYPERVISOR_physdev_op] = {"physdev_op", hv_physdev_op, GUESTS},
    [__HYPERVISOR_hvm_op] = {"hvm_op", hv_hvm_op, GUESTS | CONTROL},
    [__HYPERVISOR_sysctl] = {"sysctl", hv_sysctl, CONTROL | EARLY},
    [__HYPERVISOR_domctl] = {"domctl", hv_domctl, CONTROL | EARLY},
    [__HYPERVISOR_domus_op] = {"domus_op", hv_domus_op, CONTROL | EARLY},
    /* For PV guests, or for what this hypervisor has not got. */
    [__HYPERVISOR_mmu_update] = {"mmu_update", NULL, 0},
    [__HYPERVISOR_platform_op] = {"platform_op", NULL, 0},
    [__HYPERVISOR_mmuext_op] = {"mmuext_op", NULL, 0},
    [__HYPERVISOR_xsm_op] = {"xsm_op", NULL, 0},
    [__HYPERVISOR_nmi_op] = {"nmi_op", NULL, 0},
    [__HYPERVISOR_callback_op] = {"callback_op", NULL, 0},
    [__HYPERVISOR_kexec_op] = {"kexec_op", NULL, 0},
    [__HYPERVISOR_argo_op] = {"argo_op", NULL, 0},
    [__HYPERVISOR_xenpmu_op] = {"xenpmu_op", NULL, 0},
    [__HYPERVISOR_dm_op] = {"dm_op", NULL, 0},
    [__HYPERVISOR_hypfs_op] = {"hypfs_op", NULL, 0},
};

long hv_hypercall_dispatch(struct hv_caller *c, uint64_t number, const uint64_t args[5])
{
    const struct hv_hypercall_entry *entry = number < HV_ARRAY_LEN(table) ? &table[number] : NULL;

    if (!entry || !entry->handler) {
        hv_caller_refuse(c, "hypercall", entry && entry->name ? entry->name : "number", number);
        return -XEN_ENOSYS;
    }
    if (!c->domain && !(entry->callers & HV_CALL_EARLY))
        return -XEN_ESRCH;
    if (entry->callers & c->kind)
        return entry->handler(c, args);
    hv_caller_refuse(c, "hypercall", entry->name, number);
    if (c->kind == HV_CALLER_GUEST32 && (entry->callers & HV_CALLER_GUEST))
        return -XEN_ENOSYS; /* it exists, but its structures differ in 32-bit mode */
    return -XEN_EPERM;
}

static const uint8_t wide_order[5] = {HV_RDI, HV_RSI, HV_RDX, HV_R10, HV_R8};
static const uint8_t narrow_order[5] = {HV_RBX, HV_RCX, HV_RDX, HV_RSI, HV_RDI};

static void read_registers(const struct hv_cpu *cpu, bool wide, uint64_t args[5])
{
    for (unsigned i = 0; i < 5; i++)
        args[i] = wide ? cpu->gpr[wide_order[i]] : (uint32_t)cpu->gpr[narrow_order[i]];
}

/* VMCALL and VMMCALL, which end in three bytes that mean the same without any prefix. */
#define CALL_BYTES 3u

/* RIP goes back to the call, for which the registers hold the rest of the work: as in Xen, the guest makes it
 * again as soon as it runs again. */
static void call_again(struct hv_cpu *cpu, bool wide, const uint64_t args[5])
{
    for (unsigned i = 0; i < 5; i++)
        cpu->gpr[wide ? wide_order[i] : narrow_order[i]] = args[i];
    cpu->rip = wide ? cpu->rip - CALL_BYTES : (uint32_t)(cpu->rip - CALL_BYTES);
}

/* Kernel mode with protection on: who else executes VMCALL is told -XEN_EPERM, as Xen does. */
static bool may_call(const struct hv_cpu *cpu)
{
    return (cpu->cr0 & HV_CR0_PE) && !(cpu->rflags & HV_EFLAGS_VM) && hv_cpu_cpl(cpu) == 0;
}

void hv_hypercall(struct hv_vcpu *v)
{
    struct hv_cpu *cpu = &v->cpu;
    bool wide = hv_cpu_64bit(cpu);
    struct hv_caller caller = {
        .kind = wide ? HV_CALLER_GUEST : HV_CALLER_GUEST32,
        .domain = v->domain,
        .vcpu = v,
    };
    uint64_t number = wide ? cpu->gpr[HV_RAX] : (uint32_t)cpu->gpr[HV_RAX];
    uint64_t args[5];
    long result = -XEN_EPERM;

    if (may_call(cpu)) {
        read_registers(cpu, wide, args);
        result = hv_hypercall_dispatch(&caller, number, args);
    }
    if (caller.unfinished) {
        call_again(cpu, wide, caller.again);
        return;
    }
    cpu->gpr[HV_RAX] = wide ? (uint64_t)result : (uint32_t)result;
}
