/* libdomctl: consoles that come and go. */
#include "config.h"

#include "hv/hv.h"

#include "hv/control/domctl-private.h"

int domctl_console_detach(struct domctl *ctl, unsigned console, bool force)
{
    struct domus_console_detach detach = {.devid = console, .force = force};

    return domctl_domus_op(ctl, DOMUS_OP_console_detach, &detach, sizeof(detach), NULL, 0);
}

int domctl_log_file(struct domctl *ctl, unsigned console, int log_fd, uint64_t limit_bytes)
{
    const uint64_t args[5] = {DOMUS_OP_set_log, console, limit_bytes};
    long result;
    int error = domctl_hypercall(ctl, __HYPERVISOR_domus_op, args, NULL, 0, &log_fd, 1, &result);

    return error ? error : result < 0 ? (int)result : 0;
}

int domctl_console_info(struct domctl *ctl, unsigned console, struct domus_console_info *info)
{
    *info = (struct domus_console_info){.devid = console};
    return domctl_domus_op(ctl, DOMUS_OP_console_info, info, sizeof(*info), NULL, 0);
}
