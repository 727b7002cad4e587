/* Where frames of a queue leave for the host and come from it: a tap with virtio-net headers, or a stream socket
 * with lengths (passt). Owned by the queue's thread.
 */
#pragma once

#include <linux/virtio_net.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "hv/backend/net/packet.h"
#include "hv/hv.h"

struct hv_net_port {
    int fd; /* owned */
    enum domus_vif_port kind;
    uint8_t *in; /* tap: the frame; stream: what was read */
    size_t in_start, in_end;
    uint8_t *out; /* stream: a frame under way */
    size_t out_start, out_end;
    bool broken; /* stream: the other side is gone, or does not speak the protocol */
};

/* A frame from the host; good until the next hv_net_port_receive. */
struct hv_net_frame {
    struct virtio_net_hdr header;
    uint8_t *data;
    size_t bytes;
};

/* What the guest takes unfinished: sets what the host may send through a tap. */
struct hv_net_offloads {
    bool checksum, tcp4, tcp6;
};

/* Whether @fd can be such a port. 0 or negative errno, *@why saying what it is not. */
int hv_net_port_check(int fd, enum domus_vif_port kind, const char **why) HV_MUST_CHECK;
/* Takes @fd, which is non-blocking from now on, on success. 0 or negative errno. */
int hv_net_port_init(struct hv_net_port *port, int fd, enum domus_vif_port kind) HV_MUST_CHECK;
void hv_net_port_fini(struct hv_net_port *port);

/* Whether segments and checksums can be left to the other side. A stream's are completed here, but not segmented. */
bool hv_net_port_has_segmentation(const struct hv_net_port *port);

/* Sends the frame in iov[1] to iov[@nr - 1], together @bytes; iov[0] is for the port's own header.
 * 1: taken, 0: not now (wait until the descriptor is writable), or negative errno: it is lost. */
int hv_net_port_send(struct hv_net_port *port, const struct virtio_net_hdr *header, struct iovec *iov,
                     unsigned nr, size_t bytes) HV_MUST_CHECK;
/* Goes on with a frame that was taken but not sent yet. True when none is left. */
bool hv_net_port_flush(struct hv_net_port *port);

/* 1: *@frame is the next one, 0: there is none now, or negative errno: there will not be any. */
int hv_net_port_receive(struct hv_net_port *port, struct hv_net_frame *frame) HV_MUST_CHECK;

/* 0 or negative errno; what a stream cannot take is not asked of it. */
int hv_net_port_set_offloads(struct hv_net_port *port, const struct hv_net_offloads *offloads) HV_MUST_CHECK;
/* Tells the host whether somebody listens, where it can be told: frames are not queued for nobody then. */
void hv_net_port_set_carrier(struct hv_net_port *port, bool on);
/* Whether this queue of a tap takes part. 0 or negative errno. */
int hv_net_port_set_active(struct hv_net_port *port, bool on) HV_MUST_CHECK;
