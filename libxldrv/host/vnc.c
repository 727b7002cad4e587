/* The control socket of a domus-vnc. */
#include "config.h"

#include "libxldrv/host/vnc.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "libxldrv/host/socket.h"
#include "libxldrv/rpc/rpc.h"

/* It answers at once, but it reads keyboard layouts before. */
#define TIMEOUT_MS 20000

int xldrv_vnc_connect(const char *path, GError **error)
{
    return xldrv_socket_connect(path, SOCK_SEQPACKET, TIMEOUT_MS, error);
}

static gboolean fail(int why, GError **error)
{
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the VNC server does not do what it was told: %s",
                           g_strerror(why));
}

static gboolean send_request(int connection, const struct xldrv_vnc_message *request, int fd)
{
    struct iovec iov = {(void *)request, sizeof(*request)};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

    if (fd >= 0) {
        control.header = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
    }
    return sendmsg(connection, &message, MSG_NOSIGNAL) == sizeof(*request);
}

gboolean xldrv_vnc_request(int connection, const struct xldrv_vnc_message *request, int fd, GError **error)
{
    struct pollfd wait = {.fd = connection, .events = POLLIN};
    struct xldrv_vnc_message reply;
    ssize_t got;

    if (!send_request(connection, request, fd))
        return fail(errno, error);
    if (poll(&wait, 1, TIMEOUT_MS) <= 0)
        return fail(ETIMEDOUT, error);
    got = recv(connection, &reply, sizeof(reply), MSG_DONTWAIT);
    if (got != sizeof(reply) || reply.type != XLDRV_VNC_REPLY)
        return fail(got < 0 ? errno : EPIPE, error);
    return reply.value == 0 || fail((int)reply.value, error);
}

int xldrv_vnc_next_event(int connection, struct xldrv_vnc_message *event)
{
    ssize_t got = recv(connection, event, sizeof(*event), MSG_DONTWAIT);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (got != sizeof(*event))
        return -1;
    event->auth[sizeof(event->auth) - 1] = '\0';
    for (guint i = 0; i < 2; i++) {
        struct xldrv_vnc_address *address = i ? &event->remote : &event->local;
        address->node[sizeof(address->node) - 1] = address->service[sizeof(address->service) - 1] = '\0';
    }
    return 1;
}
