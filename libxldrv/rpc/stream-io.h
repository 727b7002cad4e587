/* stream-io: the descriptor of a stream: polled on the main loop, or, for a regular file, read and
 * written by a thread, since a file is always ready and yet may take its time. Main loop only. */
#pragma once

#include "libxldrv/rpc/rpc.h"

typedef struct _XldrvStreamIo XldrvStreamIo;

/* Called on the main loop. An io may be closed inside any of them. */
typedef struct {
    /* The read that was wanted: @n bytes, 0 at the end, or a negative errno. */
    void (*read)(gpointer user_data, const guint8 *data, gssize n);
    /* What there is to write now, @n bytes of it; asked when it can be written. */
    const guint8 *(*pending)(gpointer user_data, gsize *n);
    /* The write that was wanted: that many of the pending bytes are done, or a negative errno. */
    void (*wrote)(gpointer user_data, gssize n);
} XldrvStreamIoFns;

/* Takes @fd and makes it non-blocking. */
XldrvStreamIo *xldrv_stream_io_new(XldrvServer *server, int fd, const XldrvStreamIoFns *fns,
                                   gpointer user_data);
/* No function is called after this. The descriptor is closed, at the latest when a thread is done
 * with it. */
void xldrv_stream_io_close(XldrvStreamIo *io);

/* Wants one read, one write. */
void xldrv_stream_io_want_read(XldrvStreamIo *io);
void xldrv_stream_io_want_write(XldrvStreamIo *io);
