/* Names of control hypercalls, for a log: "memory_op populate_physmap". */
#include "config.h"

#include "hv/control/domctl-private.h"

#include <stdio.h>
#include <string.h>

#include "hv/xen-abi.h"

struct op_name {
    uint32_t op;
    const char *name;
};

#define NAME(prefix, op) {prefix##op, #op}

static const struct op_name domctls[] = {
    NAME(XEN_DOMCTL_, createdomain),  NAME(XEN_DOMCTL_, destroydomain), NAME(XEN_DOMCTL_, pausedomain),
    NAME(XEN_DOMCTL_, unpausedomain), NAME(XEN_DOMCTL_, getdomaininfo), NAME(XEN_DOMCTL_, max_mem),
    NAME(XEN_DOMCTL_, getvcpuinfo),   NAME(XEN_DOMCTL_, max_vcpus),     NAME(XEN_DOMCTL_, setdomainhandle),
    NAME(XEN_DOMCTL_, sendtrigger),   NAME(XEN_DOMCTL_, setvcpuaffinity), NAME(XEN_DOMCTL_, getvcpuaffinity),
    NAME(XEN_DOMCTL_, get_cpu_policy), NAME(XEN_DOMCTL_, set_cpu_policy), NAME(XEN_DOMCTL_, setvnumainfo),
    {0, NULL},
};
static const struct op_name sysctls[] = {
    NAME(XEN_SYSCTL_, getdomaininfolist),
    NAME(XEN_SYSCTL_, physinfo),
    {0, NULL},
};
static const struct op_name memory_ops[] = {
    NAME(XENMEM_, populate_physmap),    NAME(XENMEM_, decrease_reservation),
    NAME(XENMEM_, current_reservation), NAME(XENMEM_, maximum_reservation),
    NAME(XENMEM_, maximum_gpfn),        NAME(XENMEM_, set_memory_map),
    {0, NULL},
};
static const struct op_name hvm_ops[] = {
    NAME(HVMOP_, set_param),
    NAME(HVMOP_, get_param),
    NAME(HVMOP_, get_mem_type),
    {0, NULL},
};
static const struct op_name event_ops[] = {
    NAME(EVTCHNOP_, alloc_unbound),
    NAME(EVTCHNOP_, status),
    {0, NULL},
};
static const struct op_name sched_ops[] = {NAME(SCHEDOP_, remote_shutdown), {0, NULL}};
static const struct op_name grant_ops[] = {
    NAME(GNTTABOP_, query_size),
    NAME(GNTTABOP_, get_version),
    {0, NULL},
};
static const struct op_name domus_ops[] = {
    NAME(DOMUS_OP_, build),     NAME(DOMUS_OP_, console_attach), NAME(DOMUS_OP_, store_attach),
    NAME(DOMUS_OP_, subscribe), NAME(DOMUS_OP_, info),
    NAME(DOMUS_OP_, console_detach), NAME(DOMUS_OP_, console_info), NAME(DOMUS_OP_, set_log),
    NAME(DOMUS_OP_, vbd_attach), NAME(DOMUS_OP_, vbd_detach), NAME(DOMUS_OP_, vbd_resize),
    NAME(DOMUS_OP_, vbd_stats), NAME(DOMUS_OP_, vbd_set_image), NAME(DOMUS_OP_, vbd_set_limits),
    NAME(DOMUS_OP_, vif_attach), NAME(DOMUS_OP_, vif_detach), NAME(DOMUS_OP_, vif_set_link), NAME(DOMUS_OP_, vif_set_port),
    NAME(DOMUS_OP_, vif_stats), NAME(DOMUS_OP_, vif_set_limits), NAME(DOMUS_OP_, vfb_attach), NAME(DOMUS_OP_, vkbd_attach),
    NAME(DOMUS_OP_, vkbd_send), NAME(DOMUS_OP_, display_attach), NAME(DOMUS_OP_, display_write),
    NAME(DOMUS_OP_, save), NAME(DOMUS_OP_, restore), NAME(DOMUS_OP_, send),
    NAME(DOMUS_OP_, receive), NAME(DOMUS_OP_, stream_status), NAME(DOMUS_OP_, stream_limits),
    NAME(DOMUS_OP_, stream_end), NAME(DOMUS_OP_, stream_claim), NAME(DOMUS_OP_, stream_switch), NAME(DOMUS_OP_, stream_keep),
    NAME(DOMUS_OP_, stream_recall), NAME(DOMUS_OP_, dump), NAME(DOMUS_OP_, peek), NAME(DOMUS_OP_, dirty_rate_start),
    NAME(DOMUS_OP_, dirty_rate), {0, NULL},
};

/* op_in_data: the operation is the first word of the structure, not the first argument. */
static const struct {
    uint64_t number;
    const char *name;
    const struct op_name *ops;
    bool op_in_data;
} families[] = {
    {__HYPERVISOR_domctl, "domctl", domctls, true},
    {__HYPERVISOR_sysctl, "sysctl", sysctls, true},
    {__HYPERVISOR_memory_op, "memory_op", memory_ops, false},
    {__HYPERVISOR_hvm_op, "hvm_op", hvm_ops, false},
    {__HYPERVISOR_event_channel_op, "event_channel_op", event_ops, false},
    {__HYPERVISOR_sched_op, "sched_op", sched_ops, false},
    {__HYPERVISOR_grant_table_op, "grant_table_op", grant_ops, false},
    {__HYPERVISOR_xen_version, "xen_version", NULL, false},
    {__HYPERVISOR_domus_op, "domus_op", domus_ops, false},
};

static const char *find_op(const struct op_name *ops, uint32_t op)
{
    for (; ops && ops->name; ops++)
        if (ops->op == op)
            return ops->name;
    return NULL;
}

void domctl_name(uint64_t number, const uint64_t args[5], const void *data, size_t data_bytes, char *name,
                 size_t bytes)
{
    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        uint32_t op = (uint32_t)args[0];
        const char *op_name;

        if (families[i].number != number)
            continue;
        if (families[i].op_in_data && data_bytes >= sizeof(op))
            memcpy(&op, data, sizeof(op));
        op_name = find_op(families[i].ops, op);
        if (op_name)
            snprintf(name, bytes, "%s %s", families[i].name, op_name);
        else
            snprintf(name, bytes, "%s %u", families[i].name, op);
        return;
    }
    snprintf(name, bytes, "hypercall %llu", (unsigned long long)number);
}
