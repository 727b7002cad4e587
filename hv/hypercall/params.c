/* HVM parameters and vm_assist: numbers that describe the domain to itself and switches that the guest sets. */
#include "config.h"

#include "hv/hypercall/params.h"

#include <errno.h>
#include <stdlib.h>

#include "hv/hypercall/families.h"
#include "hv/stream/codec.h"

struct hv_params {
    _Atomic uint64_t value[HVM_NR_PARAMS];
    _Atomic uint64_t vm_assist;
};

int hv_params_init(struct hv_domain *d)
{
    d->params = calloc(1, sizeof(*d->params));
    if (!d->params)
        return -ENOMEM;
    d->params->value[HVM_PARAM_TRIPLE_FAULT_REASON] = SHUTDOWN_reboot;
    return 0;
}

void hv_params_fini(struct hv_domain *d)
{
    free(d->params);
    d->params = NULL;
}

uint64_t hv_param_get(struct hv_domain *d, unsigned index)
{
    return index < HVM_NR_PARAMS ? atomic_load(&d->params->value[index]) : 0;
}

void hv_param_set(struct hv_domain *d, unsigned index, uint64_t value)
{
    if (index < HVM_NR_PARAMS)
        atomic_store(&d->params->value[index], value);
}

uint64_t hv_vm_assist_get(struct hv_domain *d)
{
    return atomic_load(&d->params->vm_assist);
}

/* The one assist that means something outside PV. */
#define VM_ASSIST_VALID (1ull << VMASST_TYPE_runstate_update_flag)

/* args: VMASST_CMD_*, VMASST_TYPE_*. Source: xen/xen.h. */
long hv_vm_assist(struct hv_caller *c, const uint64_t args[5])
{
    _Atomic uint64_t *assist = &c->domain->params->vm_assist;
    uint32_t type = (uint32_t)args[1];

    if (type >= 64 || !(VM_ASSIST_VALID >> type & 1))
        return -XEN_EINVAL;
    switch ((uint32_t)args[0]) {
    case VMASST_CMD_enable:
        atomic_fetch_or(assist, 1ull << type);
        return 0;
    case VMASST_CMD_disable:
        atomic_fetch_and(assist, ~(1ull << type));
        return 0;
    default:
        return -XEN_ENOSYS;
    }
}

/* ------------------------------------------------------------------ streams */

static const struct hv_field state_fields[] = {
    HV_FIELD(1, struct hv_params, value),
    HV_FIELD_MAX(2, struct hv_params, vm_assist, VM_ASSIST_VALID),
};

void hv_params_encode(const struct hv_domain *d, struct hv_encoder *e)
{
    hv_encode_fields(e, state_fields, HV_ARRAY_LEN(state_fields), d->params);
}

int hv_params_decode(struct hv_domain *d, struct hv_decoder *dec)
{
    int error = hv_decode_fields(dec, state_fields, HV_ARRAY_LEN(state_fields), d->params);

    if (!error && hv_param_get(d, HVM_PARAM_TRIPLE_FAULT_REASON) > SHUTDOWN_MAX)
        error = hv_decode_fail(dec, "a triple fault has a reason that there is not");
    return error;
}
