/* libdomctl: framebuffer, keyboard and display. */
#include "config.h"

#include "hv/control/domctl-private.h"

#include <string.h>

int domctl_vfb_attach(struct domctl *ctl, const struct domus_vfb *vfb)
{
    struct domus_vfb copy = *vfb;

    return domctl_domus_op(ctl, DOMUS_OP_vfb_attach, &copy, sizeof(copy), NULL, 0);
}

int domctl_vkbd_attach(struct domctl *ctl)
{
    return domctl_domus_op(ctl, DOMUS_OP_vkbd_attach, NULL, 0, NULL, 0);
}

int domctl_vkbd_send(struct domctl *ctl, const struct domus_vkbd_keys *keys)
{
    struct domus_vkbd_keys copy = *keys;

    return domctl_domus_op(ctl, DOMUS_OP_vkbd_send, &copy, sizeof(copy), NULL, 0);
}

int domctl_display_attach(struct domctl *ctl, int fd)
{
    return domctl_domus_op(ctl, DOMUS_OP_display_attach, NULL, 0, &fd, 1);
}

int domctl_display_write(struct domctl *ctl, int fd, struct domus_picture *picture)
{
    memset(picture, 0, sizeof(*picture));
    return domctl_domus_op(ctl, DOMUS_OP_display_write, picture, sizeof(*picture), &fd, 1);
}
