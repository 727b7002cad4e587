/* Operations of a hypercall: look-up, permission, copying of the argument. */
#include "config.h"

#include "hv/hypercall/subop.h"

#include <string.h>

#include "hv/log.h"

void hv_caller_refuse(struct hv_caller *c, const char *family, const char *name, uint64_t number)
{
    if (c->domain && hv_caller_is_guest(c))
        hv_log_guest(c->domain, HV_LOG_DEBUG, "vcpu %u: no %s %s (%llu)%s", c->vcpu->id, family, name,
                     (unsigned long long)number, c->kind == HV_CALLER_GUEST32 ? " in 32-bit mode" : "");
    else
        hv_log(HV_LOG_WARNING, "control: no %s %s (%llu)", family, name, (unsigned long long)number);
}

bool hv_caller_owns(const struct hv_caller *c, uint16_t domid)
{
    return domid == DOMID_SELF || domid == c->domain->domid;
}

static const struct hv_subop *find(const struct hv_subop_family *family, struct hv_caller *c, uint64_t op,
                                   long *error)
{
    const struct hv_subop *row = op < family->nr_ops ? &family->ops[op] : NULL;

    *error = -XEN_ENOSYS;
    if (!row || !row->handler) {
        hv_caller_refuse(c, family->name, row && row->name ? row->name : "operation", op);
        return NULL;
    }
    if (!(row->callers & c->kind)) {
        if (c->kind != HV_CALLER_GUEST32 || !(row->callers & HV_CALLER_GUEST))
            *error = -XEN_EPERM;
        hv_caller_refuse(c, family->name, row->name, op);
        return NULL;
    }
    return row;
}

long hv_subop_run(const struct hv_subop_family *family, struct hv_caller *c, uint64_t op,
                  const uint64_t args[5], uint64_t address)
{
    _Alignas(8) uint8_t arg[HV_SUBOP_ARG_MAX];
    const struct hv_subop *row;
    long result;

    row = find(family, c, op, &result);
    if (!row)
        return result;
    hv_assert(row->arg_bytes <= sizeof(arg));
    memset(arg, 0, row->arg_bytes);
    if ((row->direction & HV_ARG_IN) && hv_caller_read(c, address, arg, row->arg_bytes))
        return -XEN_EFAULT;
    result = row->handler(c, args, arg);
    if ((row->direction & HV_ARG_ALWAYS) || ((row->direction & HV_ARG_OUT) && result >= 0))
        if (hv_caller_write(c, address, arg, row->arg_bytes))
            return -XEN_EFAULT;
    return result;
}
