/* libdomctl: network interfaces. */
#include "config.h"

#include "hv/hv.h"

#include <string.h>

#include "hv/control/domctl-private.h"

int domctl_vif_attach(struct domctl *ctl, struct domus_vif *vif, const int *fds)
{
    int error;

    memset(vif->error, 0, sizeof(vif->error));
    error = domctl_domus_op(ctl, DOMUS_OP_vif_attach, vif, sizeof(*vif), fds, vif->queues);
    vif->error[sizeof(vif->error) - 1] = '\0';
    return error;
}

int domctl_vif_detach(struct domctl *ctl, uint32_t devid, bool force)
{
    struct domus_vif_detach detach = {.devid = devid, .force = force};

    return domctl_domus_op(ctl, DOMUS_OP_vif_detach, &detach, sizeof(detach), NULL, 0);
}

int domctl_vif_set_link(struct domctl *ctl, uint32_t devid, bool up)
{
    struct domus_vif_link link = {.devid = devid, .up = up};

    return domctl_domus_op(ctl, DOMUS_OP_vif_set_link, &link, sizeof(link), NULL, 0);
}

int domctl_vif_set_port(struct domctl *ctl, uint32_t devid, int fd)
{
    const uint64_t args[5] = {DOMUS_OP_vif_set_port, devid};
    long result;
    int error = domctl_hypercall(ctl, __HYPERVISOR_domus_op, args, NULL, 0, &fd, 1, &result);

    return error ? error : (int)result;
}

int domctl_vif_set_limits(struct domctl *ctl, const struct domus_vif_limits *limits)
{
    struct domus_vif_limits copy = *limits;

    return domctl_domus_op(ctl, DOMUS_OP_vif_set_limits, &copy, sizeof(copy), NULL, 0);
}

int domctl_vif_stats(struct domctl *ctl, uint32_t devid, struct domus_vif_stats *stats)
{
    memset(stats, 0, sizeof(*stats));
    stats->devid = devid;
    return domctl_domus_op(ctl, DOMUS_OP_vif_stats, stats, sizeof(*stats), NULL, 0);
}
