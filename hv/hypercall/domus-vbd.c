/* domus_op on virtual disks. ABI: hv/hv.h. */
#include "config.h"

#include "hv/hypercall/domus-vbd.h"

#include "hv/backend/blk/blk.h"

/* The caller's descriptor, or -1. */
static int passed_fd(const struct hv_caller *c)
{
    return c->nr_fds ? c->fds[0] : -1;
}

/* What was passed is the disk's now, unless @error. */
static long hand_over(struct hv_caller *c, long error)
{
    if (!error && c->nr_fds)
        c->fds[0] = -1;
    return error;
}

static long check_caller(const struct hv_caller *c)
{
    if (!c->domain)
        return -XEN_ESRCH;
    return c->nr_fds > 1 ? -XEN_EINVAL : 0;
}

long hv_domus_vbd_attach(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    long error = check_caller(c);

    (void)args;
    return error ? error : hand_over(c, hv_blk_attach(c->domain, arg, passed_fd(c)));
}

long hv_domus_vbd_set_image(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    long error = check_caller(c);

    (void)args;
    return error ? error : hand_over(c, hv_blk_set_image(c->domain, arg, passed_fd(c)));
}

long hv_domus_vbd_set_limits(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args;
    return c->domain ? hv_blk_set_limits(c->domain, arg) : -XEN_ESRCH;
}

long hv_domus_vbd_detach(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    const struct domus_vbd_detach *detach = arg;

    (void)args;
    if (!c->domain)
        return -XEN_ESRCH;
    return detach->force > 1 ? -XEN_EINVAL : hv_blk_detach(c->domain, detach->devid, detach->force);
}

long hv_domus_vbd_resize(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct domus_vbd_resize *resize = arg;

    (void)args;
    if (!c->domain)
        return -XEN_ESRCH;
    return resize->reserved ? -XEN_EINVAL : hv_blk_resize(c->domain, resize->devid, &resize->size_bytes);
}

long hv_domus_vbd_stats(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args;
    return c->domain ? hv_blk_stats(c->domain, arg) : -XEN_ESRCH;
}
