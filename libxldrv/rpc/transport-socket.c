/* transport-socket: plain bytes on a socket; on a UNIX one with descriptors on one-byte carriers. */
#include "config.h"

#include "libxldrv/rpc/transport.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static gssize socket_receive(XldrvTransport *transport, void *buffer, gsize length)
{
    gssize n;
    do
        n = recv(transport->fd, buffer, length, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n;
}

static gssize socket_send(XldrvTransport *transport, const void *data, gsize length)
{
    gssize n;
    do
        n = send(transport->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n;
}

typedef union {
    struct cmsghdr header; /* for alignment */
    char bytes[CMSG_SPACE(sizeof(int))];
} Control;

static int unix_receive_fd(XldrvTransport *transport)
{
    char byte;
    Control control;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    gssize n;

    do
        n = recvmsg(transport->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -1;

    struct cmsghdr *cmsg = n == 1 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (!cmsg || cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS ||
        cmsg->cmsg_len != CMSG_LEN(sizeof(int))) {
        errno = EPROTO;
        return -1;
    }
    int fd;
    memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
    return fd;
}

static int unix_send_fd(XldrvTransport *transport, int fd)
{
    char byte = 0;
    Control control;
    memset(&control, 0, sizeof(control));
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    gssize n;

    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    do
        n = sendmsg(transport->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n == 1 ? 0 : -1;
}

static void socket_free(XldrvTransport *transport)
{
    close(transport->fd);
    g_free(transport);
}

static const XldrvTransportOps unix_ops = {
    .receive = socket_receive,
    .send = socket_send,
    .receive_fd = unix_receive_fd,
    .send_fd = unix_send_fd,
    .free = socket_free,
};

static const XldrvTransportOps tcp_ops = {
    .receive = socket_receive,
    .send = socket_send,
    .free = socket_free,
};

static XldrvTransport *transport_new(const XldrvTransportOps *ops, int fd)
{
    XldrvTransport *transport = g_new0(XldrvTransport, 1);
    transport->ops = ops;
    transport->fd = fd;
    return transport;
}

XldrvTransport *xldrv_transport_new_unix(int fd)
{
    return transport_new(&unix_ops, fd);
}

XldrvTransport *xldrv_transport_new_tcp(int fd)
{
    return transport_new(&tcp_ops, fd);
}
