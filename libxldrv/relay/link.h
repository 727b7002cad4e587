/* link: one client's connection to one daemon. Main loop only. */
#pragma once

#include "libxldrv/relay/daemons.h"
#include "libxldrv/rpc/raw.h"
#include "libxldrv/rpc/server.h"

/* What all links have in common. */
typedef struct {
    XldrvServer *server;
    const XldrvCompiled *compiled; /* program REMOTE */
    char *socket_dir;
} XldrvRelayContext;

typedef struct _XldrvLink XldrvLink;

/* Called when the daemon is gone or would not have the client; not from inside a function below, and after all calls
 * and streams were ended. The link is to be closed. */
typedef void (*XldrvLinkLostFn)(XldrvLink *link, gpointer user_data);

/* Connects. NULL with an error that says why there is no such daemon. */
XldrvLink *xldrv_link_new(const XldrvRelayContext *context, XldrvClient *client, XldrvDaemon daemon,
                          XldrvLinkLostFn lost, gpointer user_data, GError **error);
/* Ends all calls and streams with an error. */
void xldrv_link_close(XldrvLink *link);

XldrvDaemon xldrv_link_daemon(const XldrvLink *link);
/* Streams that are open. */
guint xldrv_link_count_streams(const XldrvLink *link);
/* Takes a call of the client's. */
void xldrv_link_call(XldrvLink *link, XldrvCall *call);
/* A packet or hole of the client's; ignored if it has no such stream here. */
void xldrv_link_stream(XldrvLink *link, const XldrvHeader *header, const GByteArray *payload);
