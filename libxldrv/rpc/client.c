/* client: one connection: its life, its limits, and the part of rpc.h that speaks of it.
 * client-io.c moves its bytes.
 *
 * A client is made by the listener, lives on the main loop and is dropped once: at the end of its
 * socket, at an error, by a time-out or on request. What other threads hold a reference to after
 * that is a closed client that takes messages and throws them away. */
#include "config.h"

#include "libxldrv/rpc/client.h"

#include "libxldrv/rpc/auth.h"
#include "libxldrv/rpc/client-io.h"
#include "libxldrv/rpc/dispatch.h"
#include "libxldrv/rpc/keepalive.h"
#include "libxldrv/rpc/peer.h"
#include "libxldrv/rpc/raw.h"
#include "libxldrv/rpc/sasl.h"
#include "libxldrv/rpc/server.h"
#include "libxldrv/rpc/stream.h"

/* Events that wait for a client that does not read: more than this and it is closed. */
#define EVENT_BYTES_MAX (16 * 1024 * 1024)
/* What an event costs beside its payload. */
#define EVENT_OVERHEAD  256

static XldrvTransport *make_transport(int fd, const XldrvListen *how, const XldrvPeer *peer)
{
    if (how->tls)
        return xldrv_transport_new_tls(fd, how->tls);
    return peer->address ? xldrv_transport_new_tcp(fd) : xldrv_transport_new_unix(fd);
}

XldrvClient *xldrv_client_new(XldrvServer *server, int fd, const XldrvListen *how)
{
    XldrvClient *client = g_new0(XldrvClient, 1);

    g_atomic_ref_count_init(&client->refs);
    g_mutex_init(&client->lock);
    client->id = ++server->last_client_id;
    client->server = server;
    client->mailbox = xldrv_mailbox_ref(server->mailbox);
    client->readonly = how->readonly;
    xldrv_peer_find(&client->peer, fd);
    client->auth = xldrv_auth_required(&client->peer, how->auth);
    client->needs_layer = !client->peer.known && !how->tls;
    client->min_ssf = how->min_ssf;
    client->uses_tls = how->tls != NULL;
    client->connected_s = g_get_real_time() / G_USEC_PER_SEC;
    client->sasl_allowed = how->sasl_allowed;
    client->streams = g_hash_table_new(NULL, NULL);
    g_queue_init(&client->out);
    client->since_us = client->heard_us = client->read_us = client->written_us =
        g_get_monotonic_time();
    client->transport = make_transport(fd, how, &client->peer);
    client->handshaking = client->transport->ops->handshake != NULL;
    client->authenticated = client->auth == XLDRV_AUTH_NONE && !client->handshaking;
    xldrv_client_io_start(client);
    return client;
}

void xldrv_client_shaken(XldrvClient *client)
{
    client->handshaking = FALSE;
    client->tls_bits = xldrv_transport_tls_bits(client->transport);
    g_mutex_lock(&client->lock);
    client->x509_name = g_strdup(xldrv_transport_tls_peer(client->transport));
    g_mutex_unlock(&client->lock);
    if (client->auth == XLDRV_AUTH_NONE)
        xldrv_client_set_authenticated(client);
}

XldrvClient *xldrv_client_ref(XldrvClient *client)
{
    g_atomic_ref_count_inc(&client->refs);
    return client;
}

void xldrv_client_unref(XldrvClient *client)
{
    if (!g_atomic_ref_count_dec(&client->refs))
        return;
    g_assert(!client->server);
    if (client->data_free)
        client->data_free(client->data);
    g_hash_table_unref(client->streams);
    g_clear_pointer(&client->payload, g_byte_array_unref);
    xldrv_fds_free(client->fds);
    xldrv_mailbox_unref(client->mailbox);
    g_free(client->peer.address);
    g_free(client->sasl_user);
    g_free(client->x509_name);
    g_clear_pointer(&client->identity, g_variant_unref);
    xldrv_sasl_free(client->sasl);
    g_mutex_clear(&client->lock);
    g_free(client);
}

gboolean xldrv_client_take_memory(XldrvClient *client, gsize n)
{
    XldrvServer *server = client->server;

    if (n > server->limits.message_bytes || server->message_bytes > server->limits.message_bytes - n)
        return FALSE;
    server->message_bytes += n;
    client->message_bytes += n;
    return TRUE;
}

void xldrv_client_return_memory(XldrvClient *client, gsize n)
{
    if (!client->server)
        return; /* all of it was returned when it was dropped */
    client->server->message_bytes -= n;
    client->message_bytes -= n;
}

void xldrv_client_drop(XldrvClient *client, const char *reason)
{
    XldrvServer *server = client->server;
    XldrvMessage *message;

    if (!server)
        return;
    g_info("%s: client %" G_GUINT64_FORMAT ": %s", server->name, client->id, reason);
    xldrv_client_return_memory(client, client->message_bytes);
    client->server = NULL;
    g_atomic_int_set(&client->closed, TRUE);
    g_source_destroy(client->source);
    g_clear_pointer(&client->source, g_source_unref);
    client->transport->ops->free(client->transport);
    client->transport = NULL;
    if (client->auth_cancellable)
        g_cancellable_cancel(client->auth_cancellable);
    xldrv_stream_drop_all(client);
    while ((message = g_queue_pop_head(&client->out)))
        xldrv_message_free(message);
    /* Gives up the server's reference; the caller has its own. */
    xldrv_server_client_gone(server, client, client->authenticated);
}

void xldrv_client_set_authenticated(XldrvClient *client)
{
    if (client->authenticated || !client->server)
        return;
    client->authenticated = TRUE;
    client->since_us = g_get_monotonic_time();
    xldrv_server_client_authenticated(client->server);
}

/* ---- time */

static const char *timed_out(XldrvClient *client, gint64 now_us)
{
    const XldrvLimits *limits = &client->server->limits;

    if (!xldrv_client_is_open(client) && client->n_requests == 0 &&
        now_us - client->since_us > limits->auth_timeout * G_TIME_SPAN_SECOND)
        return client->authenticated ? "not opened in time" : "not authenticated in time";
    if (xldrv_client_io_stalled(client, now_us - limits->stall_timeout * G_TIME_SPAN_SECOND))
        return "stalled";
    if (!xldrv_keepalive_tick(client, now_us))
        return "does not answer keepalive";
    return NULL;
}

void xldrv_client_tick(XldrvClient *client, gint64 now_us)
{
    g_autoptr(XldrvClient) keep = xldrv_client_ref(client);

    /* While we do not read, its silence is our doing. */
    if (!xldrv_client_io_may_read(client)) {
        client->heard_us = now_us;
        client->pings = 0;
    }
    const char *reason = timed_out(client, now_us);
    if (reason)
        xldrv_client_drop(client, reason);
}

/* ---- letters from other threads */

typedef struct {
    XldrvClient *client;
    guint32 program;
    guint number;
    GVariant *payload;
    gint size;
} Event;

static XldrvMessage *encode_event(Event *event, GError **error)
{
    const XldrvCompiled *compiled = NULL;
    XldrvServer *server = event->client->server;

    for (guint i = 0; i < server->programs->len && !compiled; i++) {
        const XldrvCompiled *candidate = g_ptr_array_index(server->programs, i);
        if (candidate->program->program == event->program)
            compiled = candidate;
    }
    if (!compiled || event->number == 0 || event->number > compiled->program->n_procedures ||
        !(compiled->program->procedures[event->number - 1].flags & XLDRV_PROC_EVENT)) {
        xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "procedure %u of program 0x%x is no event",
                        event->number, event->program);
        return NULL;
    }

    /* libvirt's own daemons give events serial 1. */
    XldrvMessage *message =
        xldrv_message_new(XLDRV_OUT_EVENT, &(XldrvHeader){
                                               .program = event->program,
                                               .version = compiled->program->version,
                                               .procedure = (gint32)event->number,
                                               .type = XLDRV_TYPE_MESSAGE,
                                               .serial = 1,
                                           });
    if (!xldrv_codec_encode(compiled->ret[event->number - 1], event->payload, message->bytes,
                            error)) {
        xldrv_message_free(message);
        return NULL;
    }
    xldrv_message_seal(message);
    message->event_size = event->size;
    return message;
}

static void queue_event(gpointer data)
{
    Event *event = data;
    XldrvClient *client = event->client;
    g_autoptr(GError) error = NULL;

    if (client->server) {
        XldrvMessage *message = encode_event(event, &error);
        if (message)
            xldrv_client_queue(client, message);
        else
            g_warning("%s: event %u is not sent: %s", client->server->name, event->number,
                      error->message);
    }
    g_variant_unref(event->payload);
    xldrv_client_unref(client);
    g_free(event);
}

static void drop_flooded(gpointer data)
{
    XldrvClient *client = data;
    xldrv_client_drop(client, "does not read its events");
    xldrv_client_unref(client);
}

/* What an event of @payload_bytes is counted as, or -1: the client has too many of them, and is dropped. */
static gint take_event_room(XldrvClient *client, gsize payload_bytes)
{
    gint size = (gint)MIN(payload_bytes, EVENT_BYTES_MAX) + EVENT_OVERHEAD;
    gint before = g_atomic_int_add(&client->queued_event_bytes, size);

    if (before <= EVENT_BYTES_MAX - size)
        return size;
    g_atomic_int_add(&client->queued_event_bytes, -size);
    xldrv_mailbox_post(client->mailbox, drop_flooded, xldrv_client_ref(client));
    return -1;
}

void xldrv_client_queue_event(XldrvClient *client, XldrvMessage *message)
{
    gint size = take_event_room(client, message->bytes->len);
    if (size < 0) {
        xldrv_message_free(message);
        return;
    }
    message->event_size = size;
    xldrv_client_queue(client, message);
}

void xldrv_client_hold_stream_bytes(XldrvClient *client, gsize n)
{
    client->stream_bytes += n;
}

void xldrv_client_release_stream_bytes(XldrvClient *client, gsize n)
{
    client->stream_bytes -= n;
    xldrv_client_update(client);
}

void xldrv_client_send_event(XldrvClient *client, guint32 program, guint number, GVariant *payload)
{
    g_variant_ref_sink(payload);
    gint size = take_event_room(client, g_variant_get_size(payload));
    if (size < 0) {
        g_variant_unref(payload);
        return;
    }
    Event *event = g_new(Event, 1);
    *event = (Event){xldrv_client_ref(client), program, number, payload, size};
    xldrv_mailbox_post(client->mailbox, queue_event, event);
}

static void begin_close(gpointer data)
{
    XldrvClient *client = data;
    if (client->server) {
        client->closing = TRUE;
        xldrv_client_update(client);
    }
    xldrv_client_unref(client);
}

void xldrv_client_close(XldrvClient *client)
{
    xldrv_mailbox_post(client->mailbox, begin_close, xldrv_client_ref(client));
}

/* ---- facts */

guint64 xldrv_client_id(XldrvClient *client)
{
    return client->id;
}

gboolean xldrv_client_is_readonly(XldrvClient *client)
{
    return g_atomic_int_get(&client->readonly);
}

void xldrv_client_set_readonly(XldrvClient *client)
{
    g_atomic_int_set(&client->readonly, TRUE);
}

gboolean xldrv_client_is_open(XldrvClient *client)
{
    return g_atomic_int_get(&client->open);
}

void xldrv_client_set_open(XldrvClient *client)
{
    g_atomic_int_set(&client->open, TRUE);
}

gboolean xldrv_client_is_closed(XldrvClient *client)
{
    return g_atomic_int_get(&client->closed);
}

void xldrv_client_start_keepalive(XldrvClient *client)
{
    g_atomic_int_set(&client->wants_keepalive, TRUE);
}

gboolean xldrv_client_peer(XldrvClient *client, guint *uid, guint *gid, int *pid)
{
    if (!client->peer.known)
        return FALSE;
    *uid = client->peer.uid;
    *gid = client->peer.gid;
    *pid = client->peer.pid;
    return TRUE;
}

void xldrv_client_set_data(XldrvClient *client, gpointer data, GDestroyNotify free_fn)
{
    g_mutex_lock(&client->lock);
    gpointer old = client->data;
    GDestroyNotify old_free = client->data_free;
    client->data = data;
    client->data_free = free_fn;
    g_mutex_unlock(&client->lock);
    if (old_free)
        old_free(old);
}

gpointer xldrv_client_get_data(XldrvClient *client)
{
    g_mutex_lock(&client->lock);
    gpointer data = client->data;
    g_mutex_unlock(&client->lock);
    return data;
}
