/* client-io: the bytes of a client. */
#pragma once

#include "libxldrv/rpc/client.h"

void xldrv_client_io_start(XldrvClient *client);
/* Whether another message may be read: there is room for a call and for stream data. */
gboolean xldrv_client_io_may_read(XldrvClient *client);
/* Whether half a message has been waiting, in either direction, since before @since_us. */
gboolean xldrv_client_io_stalled(XldrvClient *client, gint64 since_us);

/* What a message with a payload of @length was accounted for by xldrv_client_take_memory: whoever is done with it
 * returns that. */
gsize xldrv_client_io_accounted(gsize length);
