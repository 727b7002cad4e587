/* domus_op: framebuffer, keyboard and display. ABI: hv/hv.h. */
#include "config.h"

#include "hv/hypercall/domus-fb.h"

#include "hv/backend/fb/display.h"
#include "hv/backend/fb/fb.h"

long hv_domus_vfb_attach(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args;
    return c->domain ? hv_vfb_attach(c->domain, arg) : -XEN_ESRCH;
}

long hv_domus_vkbd_attach(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args, (void)arg;
    return c->domain ? hv_vkbd_attach(c->domain) : -XEN_ESRCH;
}

long hv_domus_vkbd_send(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    (void)args;
    return c->domain ? hv_vkbd_send(c->domain, arg) : -XEN_ESRCH;
}

long hv_domus_display_attach(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    long error;

    (void)args, (void)arg;
    if (!c->domain)
        return -XEN_ESRCH;
    if (c->nr_fds != 1)
        return -XEN_EINVAL;
    error = hv_display_attach(c->domain, c->fds[0]);
    if (!error)
        c->fds[0] = -1;
    return error;
}

long hv_domus_display_write(struct hv_caller *c, const uint64_t args[5], void *arg)
{
    struct domus_picture *picture = arg;

    (void)args;
    if (!c->domain)
        return -XEN_ESRCH;
    if (c->nr_fds != 1)
        return -XEN_EINVAL;
    hv_display_size(c->domain, &picture->width, &picture->height);
    return hv_display_write(c->domain, c->fds[0]);
}
