/* keepalive: answers pings, and pings clients that asked for it.
 *
 * After an interval without any message a PING is sent and counted; any message resets the count;
 * when as many as allowed went unanswered for one more interval, the client is lost. */
#include "config.h"

#include "libxldrv/rpc/keepalive.h"

#include <string.h>

#include "libxldrv/rpc/server.h"

/* One of each is enough in the queue: a client that pings without reading gets no more of our
 * memory. */
static void queue(XldrvClient *client, gint32 procedure)
{
    if (client->keepalives_queued & (1u << procedure))
        return;
    client->keepalives_queued |= 1u << procedure;
    XldrvMessage *message =
        xldrv_message_new(XLDRV_OUT_KEEPALIVE, &(XldrvHeader){
                                                   .program = XLDRV_KEEPALIVE_PROGRAM,
                                                   .version = XLDRV_KEEPALIVE_VERSION,
                                                   .procedure = procedure,
                                                   .type = XLDRV_TYPE_MESSAGE,
                                               });
    xldrv_message_seal(message);
    xldrv_client_queue(client, message);
}

void xldrv_keepalive_receive(XldrvClient *client, const XldrvHeader *header)
{
    if (header->version == XLDRV_KEEPALIVE_VERSION && header->type == XLDRV_TYPE_MESSAGE &&
        header->procedure == XLDRV_KEEPALIVE_PING)
        queue(client, XLDRV_KEEPALIVE_PONG);
}

void xldrv_keepalive_sent(XldrvClient *client, const XldrvMessage *message)
{
    XldrvHeader header;
    xldrv_header_decode(message->bytes->data, &header);
    client->keepalives_queued &= ~(1u << header.procedure);
}

gboolean xldrv_keepalive_tick(XldrvClient *client, gint64 now_us)
{
    const XldrvLimits *limits = &client->server->limits;
    gint64 interval_us = limits->keepalive_interval * G_TIME_SPAN_SECOND;

    if (limits->keepalive_interval <= 0 || !g_atomic_int_get(&client->wants_keepalive))
        return TRUE;
    if (now_us - client->heard_us < interval_us * (client->pings + 1))
        return TRUE;
    if (client->pings >= limits->keepalive_count)
        return FALSE;
    client->pings++;
    queue(client, XLDRV_KEEPALIVE_PING);
    return TRUE;
}
