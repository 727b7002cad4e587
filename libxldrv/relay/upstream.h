/* upstream: the bytes of a connection to another daemon. Main loop only. */
#pragma once

#include "libxldrv/rpc/message.h"

typedef struct _XldrvUpstream XldrvUpstream;

/* It may be closed inside either. */
typedef struct {
    /* A whole message; @bytes (taken) has the header too. */
    void (*message)(gpointer user_data, const XldrvHeader *header, GByteArray *bytes);
    /* The connection ended; to be closed. Never called from inside a function below. */
    void (*lost)(gpointer user_data, const char *reason);
} XldrvUpstreamFns;

/* Takes @fd, a connected and non-blocking socket. */
XldrvUpstream *xldrv_upstream_new(int fd, GMainContext *context, const XldrvUpstreamFns *fns, gpointer user_data);
/* Drops what is queued. No function is called after this. */
void xldrv_upstream_close(XldrvUpstream *upstream);
/* Queues a sealed message (taken). */
void xldrv_upstream_send(XldrvUpstream *upstream, XldrvMessage *message);
/* Whether messages are read, as they are at first; else they wait in the socket. */
void xldrv_upstream_set_reading(XldrvUpstream *upstream, gboolean reading);
