/* libdomctl: streams. */
#include "config.h"

#include "hv/hv.h"

#include <string.h>

#include "hv/control/domctl-private.h"
#include "hv/xen-abi.h"

int domctl_save(struct domctl *ctl, int fd)
{
    return domctl_domus_op(ctl, DOMUS_OP_save, NULL, 0, &fd, 1);
}

int domctl_save_live(struct domctl *ctl, int fd)
{
    return domctl_domus_op(ctl, DOMUS_OP_save_live, NULL, 0, &fd, 1);
}

int domctl_dump(struct domctl *ctl, int fd, uint32_t flags)
{
    struct domus_dump dump = {.flags = flags};

    return domctl_domus_op(ctl, DOMUS_OP_dump, &dump, sizeof(dump), &fd, 1);
}

int domctl_restore(struct domctl *ctl, int fd, struct domus_restore *restore)
{
    int error;

    memset(restore->error, 0, sizeof(restore->error));
    error = domctl_domus_op(ctl, DOMUS_OP_restore, restore, sizeof(*restore), &fd, 1);
    restore->error[sizeof(restore->error) - 1] = '\0';
    return error;
}

int domctl_send(struct domctl *ctl, int fd, const struct domus_stream_limits *limits)
{
    struct domus_stream_limits copy = *limits;

    return domctl_domus_op(ctl, DOMUS_OP_send, &copy, sizeof(copy), &fd, 1);
}

int domctl_receive(struct domctl *ctl, int fd)
{
    return domctl_domus_op(ctl, DOMUS_OP_receive, NULL, 0, &fd, 1);
}

int domctl_stream_status(struct domctl *ctl, struct domus_stream_status *status)
{
    int error;

    memset(status, 0, sizeof(*status));
    error = domctl_domus_op(ctl, DOMUS_OP_stream_status, status, sizeof(*status), NULL, 0);
    status->text[sizeof(status->text) - 1] = '\0';
    return error;
}

int domctl_stream_limits(struct domctl *ctl, const struct domus_stream_limits *limits)
{
    struct domus_stream_limits copy = *limits;

    return domctl_domus_op(ctl, DOMUS_OP_stream_limits, &copy, sizeof(copy), NULL, 0);
}

int domctl_stream_end(struct domctl *ctl)
{
    return domctl_domus_op(ctl, DOMUS_OP_stream_end, NULL, 0, NULL, 0);
}

int domctl_stream_claim(struct domctl *ctl)
{
    return domctl_domus_op(ctl, DOMUS_OP_stream_claim, NULL, 0, NULL, 0);
}

int domctl_stream_keep(struct domctl *ctl)
{
    return domctl_domus_op(ctl, DOMUS_OP_stream_keep, NULL, 0, NULL, 0);
}

int domctl_stream_recall(struct domctl *ctl)
{
    return domctl_domus_op(ctl, DOMUS_OP_stream_recall, NULL, 0, NULL, 0);
}

int domctl_stream_switch(struct domctl *ctl)
{
    return domctl_domus_op(ctl, DOMUS_OP_stream_switch, NULL, 0, NULL, 0);
}

static int get_param(struct domctl *ctl, uint32_t index, uint64_t *value)
{
    const uint64_t args[5] = {HVMOP_get_param, HV_CONTROL_DATA_ADDRESS};
    struct xen_hvm_param param = {.domid = DOMID_SELF, .index = index};
    long result;
    int error = domctl_hypercall(ctl, __HYPERVISOR_hvm_op, args, &param, sizeof(param), NULL, 0, &result);

    *value = param.value;
    return error ? error : result < 0 ? (int)result : 0;
}

int domctl_get_rings(struct domctl *ctl, struct domus_build *build)
{
    uint64_t store_port = 0, console_port = 0;
    int error = get_param(ctl, HVM_PARAM_STORE_PFN, &build->store_gfn);

    if (!error)
        error = get_param(ctl, HVM_PARAM_STORE_EVTCHN, &store_port);
    if (!error)
        error = get_param(ctl, HVM_PARAM_CONSOLE_PFN, &build->console_gfn);
    if (!error)
        error = get_param(ctl, HVM_PARAM_CONSOLE_EVTCHN, &console_port);
    build->store_evtchn = (uint32_t)store_port;
    build->console_evtchn = (uint32_t)console_port;
    return error;
}
