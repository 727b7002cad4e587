/* transport: how the bytes of one client travel. */
#pragma once

#include <glib.h>

typedef struct _XldrvTransport XldrvTransport;

/* All are non-blocking and return -1 with errno, EAGAIN to be called again when the socket is
 * ready. */
typedef struct {
    gssize (*receive)(XldrvTransport *transport, void *buffer, gsize length); /* 0 at the end */
    gssize (*send)(XldrvTransport *transport, const void *data, gsize length);
    /* One descriptor with its carrier byte; NULL where descriptors cannot travel. The one received
     * is close-on-exec. */
    int (*receive_fd)(XldrvTransport *transport);
    int (*send_fd)(XldrvTransport *transport, int fd);
    void (*free)(XldrvTransport *transport);
} XldrvTransportOps;

struct _XldrvTransport {
    const XldrvTransportOps *ops;
    int fd; /* to poll */
};

/* Takes a connected, non-blocking socket. */
XldrvTransport *xldrv_transport_new_unix(int fd);
