/* dispatch: from a message to its handler and back. */
#pragma once

#include "libxldrv/rpc/client.h"
#include "libxldrv/rpc/server.h"

/* Takes a whole message that came from @client; takes @payload and @fds (which may be NULL). The
 * payload of a call with descriptors still starts with their count. */
void xldrv_dispatch(XldrvClient *client, const XldrvHeader *header, GByteArray *payload,
                    GArray *fds);

/* The functions of the workers: run a call; drop one that will not run. */
void xldrv_call_run(gpointer call, gpointer server);
void xldrv_call_drop(gpointer call, gpointer server);

/* For streams: those of @call's making. */
const XldrvHeader *xldrv_call_header(XldrvCall *call);
/* Makes @stream (reference taken) the call's. */
void xldrv_call_set_stream(XldrvCall *call, XldrvStream *stream);

/* A sealed message with the error structure, as @type with the numbers of @to. Any thread. */
XldrvMessage *xldrv_error_message(XldrvServer *server, XldrvOutKind kind, const XldrvHeader *to,
                                  XldrvType type, const GError *error);
