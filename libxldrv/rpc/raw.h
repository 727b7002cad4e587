/* raw: calls that another server answers, passed on as they came. What libxldrv/relay knows of this folder beside
 * messages and clients. Main loop only. */
#pragma once

#include "libxldrv/rpc/dispatch.h"

/* What passes messages on. A call that is @call's has passed all checks of its row; it is not decoded. */
struct _XldrvRaw {
    /* Whether procedure @number of @program is passed on. */
    gboolean (*serves)(guint32 program, guint number, gpointer user_data);
    /* Takes a call, to be ended by one of the functions below, now or later. */
    void (*call)(XldrvCall *call, gpointer user_data);
    /* A packet or hole of a client for a stream that such a call opened; FALSE: it opened none. */
    gboolean (*stream)(XldrvClient *client, const XldrvHeader *header, const GByteArray *payload,
                       gpointer user_data);
};

/* @raw must stay. */
void xldrv_server_set_raw(XldrvServer *server, const XldrvRaw *raw, gpointer user_data);

/* Its arguments as they came; the caller's. */
GByteArray *xldrv_call_take_payload(XldrvCall *call);
/* Ends a call with a reply (taken, sealed, XLDRV_OUT_REPLY) or an error. */
void xldrv_call_reply_raw(XldrvCall *call, XldrvMessage *reply);
void xldrv_call_reply_error(XldrvCall *call, XldrvServer *server, const GError *error);

/* Queues an event (taken, sealed, XLDRV_OUT_EVENT), with the bound of xldrv_client_send_event. */
void xldrv_client_queue_event(XldrvClient *client, XldrvMessage *message);
/* @n bytes of the client's stream data are kept, or not any more: it is not read while there are too many. */
void xldrv_client_hold_stream_bytes(XldrvClient *client, gsize n);
void xldrv_client_release_stream_bytes(XldrvClient *client, gsize n);
