/* transport: how the bytes of one client travel. */
#pragma once

#include "libxldrv/rpc/rpc.h"

typedef struct _XldrvTransport XldrvTransport;

/* All are non-blocking and return -1 with errno, EAGAIN to be called again when the socket is
 * ready. */
typedef struct {
    /* What comes before the first message: 0 when it is over. NULL: nothing. */
    int (*handshake)(XldrvTransport *transport);
    gssize (*receive)(XldrvTransport *transport, void *buffer, gsize length); /* 0 at the end */
    /* After EAGAIN the next call has the same data, or more that starts with it. */
    gssize (*send)(XldrvTransport *transport, const void *data, gsize length);
    /* Whether bytes can be received that the socket no longer has. NULL: never. */
    gboolean (*pending)(XldrvTransport *transport);
    /* One descriptor with its carrier byte; NULL where descriptors cannot travel. The one received
     * is close-on-exec. */
    int (*receive_fd)(XldrvTransport *transport);
    int (*send_fd)(XldrvTransport *transport, int fd);
    void (*free)(XldrvTransport *transport);
} XldrvTransportOps;

struct _XldrvTransport {
    const XldrvTransportOps *ops;
    int fd;               /* to poll */
    gboolean wants_write; /* what the handshake waits for */
};

/* Takes a connected, non-blocking UNIX socket. */
XldrvTransport *xldrv_transport_new_unix(int fd);
/* The same for one of TCP. */
XldrvTransport *xldrv_transport_new_tcp(int fd);
/* The same with TLS: its handshake proves both ends and tells the client so. Keeps a reference to what @tls has now. */
XldrvTransport *xldrv_transport_new_tls(int fd, XldrvTls *tls);
/* After the handshake: the distinguished name in the client's certificate, or NULL. Borrowed. */
const char *xldrv_transport_tls_peer(XldrvTransport *transport);
/* Bits of the cipher's key. */
guint xldrv_transport_tls_bits(XldrvTransport *transport);
