/* libdomctl: streams. */
#include "config.h"

#include "hv/hv.h"

#include <string.h>

#include "hv/control/domctl-private.h"

int domctl_save(struct domctl *ctl, int fd)
{
    return domctl_domus_op(ctl, DOMUS_OP_save, NULL, 0, &fd, 1);
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
