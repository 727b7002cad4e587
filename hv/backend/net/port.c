/* Taps and stream sockets. Source: Linux Documentation/networking/tuntap.rst, <linux/if_tun.h>; passt(1). */
#include "config.h"

#include "hv/backend/net/port.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LENGTH_BYTES    sizeof(uint32_t)
#define STREAM_IN_BYTES (4 * (LENGTH_BYTES + HV_NET_FRAME_MAX)) /* one frame must fit; more save system calls */
#define OUT_BYTES       (LENGTH_BYTES + HV_NET_FRAME_MAX)

static int check_stream(int fd, const char **why)
{
    int type = 0;
    socklen_t bytes = sizeof(type);

    *why = "not a stream socket";
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) < 0 || type != SOCK_STREAM ? -EINVAL : 0;
}

static int check_tap(int fd, const char **why)
{
    const short needed = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    int header_bytes = sizeof(struct virtio_net_hdr);
    struct ifreq request = {0};

    *why = "not a tap";
    if (ioctl(fd, TUNGETIFF, &request) < 0)
        return -EINVAL;
    *why = "a tap without IFF_NO_PI and IFF_VNET_HDR";
    if ((request.ifr_flags & needed) != needed)
        return -EINVAL;
    *why = "a tap whose header cannot be set";
    return ioctl(fd, TUNSETVNETHDRSZ, &header_bytes) < 0 ? -errno : 0;
}

int hv_net_port_check(int fd, enum domus_vif_port kind, const char **why)
{
    return kind == DOMUS_VIF_STREAM ? check_stream(fd, why) : check_tap(fd, why);
}

static size_t in_bytes(const struct hv_net_port *port)
{
    return port->kind == DOMUS_VIF_STREAM ? STREAM_IN_BYTES : HV_NET_FRAME_MAX;
}

int hv_net_port_init(struct hv_net_port *port, int fd, enum domus_vif_port kind)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    memset(port, 0, sizeof(*port));
    port->kind = kind;
    port->fd = -1;
    port->in = malloc(in_bytes(port));
    port->out = kind == DOMUS_VIF_STREAM ? malloc(OUT_BYTES) : NULL;
    if (!port->in || (kind == DOMUS_VIF_STREAM && !port->out)) {
        hv_net_port_fini(port);
        return -ENOMEM;
    }
    port->fd = fd;
    return 0;
}

void hv_net_port_fini(struct hv_net_port *port)
{
    if (port->fd >= 0)
        close(port->fd);
    free(port->in);
    free(port->out);
    memset(port, 0, sizeof(*port));
    port->fd = -1;
}

bool hv_net_port_has_segmentation(const struct hv_net_port *port)
{
    return port->kind == DOMUS_VIF_TAP;
}

/* ------------------------------------------------------------------ tap */

static int tap_send(struct hv_net_port *port, const struct virtio_net_hdr *header, struct iovec *iov, unsigned nr)
{
    iov[0] = (struct iovec){(void *)(uintptr_t)header, sizeof(*header)};
    while (writev(port->fd, iov, (int)nr) < 0) {
        if (errno == EINTR)
            continue;
        return errno == EAGAIN ? 0 : -errno;
    }
    return 1;
}

static int tap_receive(struct hv_net_port *port, struct hv_net_frame *frame)
{
    struct iovec iov[2] = {{&frame->header, sizeof(frame->header)}, {port->in, HV_NET_FRAME_MAX}};
    ssize_t got;

    do
        got = readv(port->fd, iov, 2);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EAGAIN ? 0 : -errno;
    if (got == 0)
        return -EPIPE;
    if ((size_t)got < sizeof(frame->header))
        return -EPROTO;
    frame->data = port->in;
    frame->bytes = (size_t)got - sizeof(frame->header);
    return 1;
}

/* ------------------------------------------------------------------ stream */

bool hv_net_port_flush(struct hv_net_port *port)
{
    while (port->out_start < port->out_end && !port->broken) {
        ssize_t sent = send(port->fd, port->out + port->out_start, port->out_end - port->out_start,
                            MSG_DONTWAIT | MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN)
            return false;
        if (sent < 0)
            port->broken = true;
        else
            port->out_start += (size_t)sent;
    }
    port->out_start = port->out_end = 0;
    return true;
}

static int stream_send(struct hv_net_port *port, const struct virtio_net_hdr *header, const struct iovec *iov,
                       unsigned nr, size_t bytes)
{
    uint32_t length = htonl((uint32_t)bytes);
    uint8_t *frame = port->out + LENGTH_BYTES;
    size_t at = 0;

    if (!hv_net_port_flush(port))
        return 0;
    if (port->broken)
        return -EPIPE;
    if (bytes > HV_NET_FRAME_MAX || header->gso_type != VIRTIO_NET_HDR_GSO_NONE)
        return -EMSGSIZE;
    memcpy(port->out, &length, sizeof(length));
    for (unsigned i = 1; i < nr; i++) {
        memcpy(frame + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    if ((header->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
        !hv_net_finish_checksum(frame, bytes, header->csum_start, header->csum_offset))
        return -EINVAL;
    port->out_end = LENGTH_BYTES + bytes;
    hv_net_port_flush(port);
    return 1;
}

/* Gives the frame at the start of what was read, if it is whole. 1, 0 or negative errno. */
static int take_frame(struct hv_net_port *port, struct hv_net_frame *frame)
{
    size_t have = port->in_end - port->in_start;
    uint32_t length;

    if (have < LENGTH_BYTES)
        return 0;
    memcpy(&length, port->in + port->in_start, sizeof(length));
    length = ntohl(length);
    if (length < HV_NET_FRAME_MIN || length > HV_NET_FRAME_MAX)
        return -EPROTO;
    if (have - LENGTH_BYTES < length)
        return 0;
    memset(&frame->header, 0, sizeof(frame->header));
    frame->data = port->in + port->in_start + LENGTH_BYTES;
    frame->bytes = length;
    port->in_start += LENGTH_BYTES + length;
    return 1;
}

static int fill(struct hv_net_port *port)
{
    ssize_t got;

    memmove(port->in, port->in + port->in_start, port->in_end - port->in_start);
    port->in_end -= port->in_start;
    port->in_start = 0;
    do
        got = recv(port->fd, port->in + port->in_end, STREAM_IN_BYTES - port->in_end, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return errno == EAGAIN ? 0 : -errno;
    port->in_end += (size_t)got;
    return got ? 1 : -EPIPE;
}

static int stream_receive(struct hv_net_port *port, struct hv_net_frame *frame)
{
    int result;

    if (port->broken)
        return -EPIPE;
    result = take_frame(port, frame);
    while (!result) {
        result = fill(port);
        if (result == 0)
            return 0;
        if (result > 0)
            result = take_frame(port, frame);
    }
    port->broken = result < 0;
    return result;
}

/* ------------------------------------------------------------------ both */

int hv_net_port_send(struct hv_net_port *port, const struct virtio_net_hdr *header, struct iovec *iov,
                     unsigned nr, size_t bytes)
{
    if (port->kind == DOMUS_VIF_STREAM)
        return stream_send(port, header, iov, nr, bytes);
    return tap_send(port, header, iov, nr);
}

int hv_net_port_receive(struct hv_net_port *port, struct hv_net_frame *frame)
{
    return port->kind == DOMUS_VIF_STREAM ? stream_receive(port, frame) : tap_receive(port, frame);
}

int hv_net_port_set_offloads(struct hv_net_port *port, const struct hv_net_offloads *offloads)
{
    unsigned long flags = 0;

    if (port->kind == DOMUS_VIF_STREAM)
        return 0;
    if (offloads->checksum)
        flags |= TUN_F_CSUM;
    if (offloads->checksum && offloads->tcp4)
        flags |= TUN_F_TSO4 | TUN_F_TSO_ECN;
    if (offloads->checksum && offloads->tcp6)
        flags |= TUN_F_TSO6 | TUN_F_TSO_ECN;
    return ioctl(port->fd, TUNSETOFFLOAD, flags) < 0 ? -errno : 0;
}

void hv_net_port_set_carrier(struct hv_net_port *port, bool on)
{
    int value = on;

    if (port->kind == DOMUS_VIF_TAP && ioctl(port->fd, TUNSETCARRIER, &value) < 0)
        return; /* a kernel before 5.0: frames are queued, and dropped when the guest connects */
}

int hv_net_port_set_active(struct hv_net_port *port, bool on)
{
    struct ifreq request = {.ifr_flags = (short)(on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE)};

    return ioctl(port->fd, TUNSETQUEUE, &request) < 0 ? -errno : 0;
}
