/* domus_op: network interfaces. ABI: hv/hv.h. */
#include "config.h"

#include "hv/hypercall/domus-vif.h"

#include <stdio.h>
#include <string.h>

#include "hv/backend/net/vif.h"

long hv_domus_vif_attach(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct domus_vif *vif = arg;
    long error;

    (void)args;
    memset(vif->error, 0, sizeof(vif->error));
    if (!c->domain)
        return -XEN_ESRCH;
    if (vif->zero || c->nr_fds != vif->queues) {
        snprintf(vif->error, sizeof(vif->error), "%zu descriptors for %u queues", c->nr_fds, vif->queues);
        return -XEN_EINVAL;
    }
    error = hv_vif_attach(c->domain, vif, c->fds);
    for (size_t i = 0; !error && i < c->nr_fds; i++)
        c->fds[i] = -1;
    return error;
}

long hv_domus_vif_detach(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct domus_vif_detach *detach = arg;

    (void)args;
    return c->domain ? hv_vif_detach(c->domain, detach->devid, detach->force) : -XEN_ESRCH;
}

long hv_domus_vif_set_link(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct domus_vif_link *link = arg;

    (void)args;
    return c->domain ? hv_vif_set_link(c->domain, link->devid, link->up) : -XEN_ESRCH;
}

long hv_domus_vif_set_port(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    long error;

    (void)arg;
    if (!c->domain)
        return -XEN_ESRCH;
    if (c->nr_fds != 1 || args[1] > UINT32_MAX)
        return -XEN_EINVAL;
    error = hv_vif_set_port(c->domain, (uint32_t)args[1], c->fds[0]);
    if (!error)
        c->fds[0] = -1;
    return error;
}

long hv_domus_vif_set_limits(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args;
    return c->domain ? hv_vif_set_limits(c->domain, arg) : -XEN_ESRCH;
}

long hv_domus_vif_stats(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args;
    return c->domain ? hv_vif_stats(c->domain, arg) : -XEN_ESRCH;
}
