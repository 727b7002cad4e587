/* stream: what the files of this folder know of a stream. Main loop only, but for the references of
 * rpc.h. */
#pragma once

#include "libxldrv/rpc/message.h"
#include "libxldrv/rpc/rpc.h"

/* Lets data flow: the reply to the opening call has been queued. */
void xldrv_stream_start(XldrvStream *stream);
/* Ends it without a word to the client. Does nothing if it is over. */
void xldrv_stream_drop(XldrvStream *stream);
/* All of a client that is gone. */
void xldrv_stream_drop_all(XldrvClient *client);
/* A message of the client; ignored if its stream is over. */
void xldrv_stream_receive(XldrvClient *client, const XldrvHeader *header,
                          const GByteArray *payload);
/* The packet that was queued has left. */
void xldrv_stream_packet_sent(XldrvStream *stream);
