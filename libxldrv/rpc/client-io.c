/* client-io: reads messages and writes the queue.
 *
 * Messages are read with exactly their length, because the carriers of descriptors behind one must
 * be received by themselves. Reading pauses while as many calls as allowed are unanswered (a reply
 * that has not left counts), or while streams hold too much data: the rest waits in the socket. */
#include "config.h"

#include "libxldrv/rpc/client-io.h"

#include <errno.h>
#include <string.h>

#include "libxldrv/rpc/dispatch.h"
#include "libxldrv/rpc/keepalive.h"
#include "libxldrv/rpc/sasl.h"
#include "libxldrv/rpc/server.h"
#include "libxldrv/rpc/stream.h"

/* A client that is not authenticated says nothing longer than a SASL message (65536 characters of 4
 * bytes). */
#define ANONYMOUS_MESSAGE_MAX (65536 * 4 + 65536)
/* Stream data in memory, beyond which reading pauses. */
#define STREAM_BYTES_MAX      (1024 * 1024)
/* Memory is taken as bytes come, not as the length word promises. */
#define PAYLOAD_STEP          65536
/* Messages read in one turn of the main loop. */
#define MESSAGES_PER_TURN     16

typedef enum { PROGRESS, WAIT, DROPPED } Progress;

static Progress drop(XldrvClient *client, const char *reason)
{
    xldrv_client_drop(client, reason);
    return DROPPED;
}

/* ---- reading */

gboolean xldrv_client_io_may_read(XldrvClient *client)
{
    return !client->closing && !client->auth_busy && client->n_requests < client->server->limits.max_client_requests &&
           client->stream_bytes < STREAM_BYTES_MAX;
}

/* Up to @length bytes; what to do if there are none is the result. */
static Progress receive(XldrvClient *client, guint8 *buffer, gsize length, gsize *n)
{
    gssize got = client->transport->ops->receive(client->transport, buffer, length);
    if (got > 0) {
        *n = got;
        client->read_us = g_get_monotonic_time();
        return PROGRESS;
    }
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return WAIT;
    return drop(client, got == 0 ? "end of connection" : g_strerror(errno));
}

/* What can be said of a header at once. */
static const char *header_fault(XldrvClient *client)
{
    guint32 length = client->header.length;
    if (length < XLDRV_HEADER_SIZE || length > XLDRV_MESSAGE_MAX)
        return "impossible message length";
    if (!client->authenticated && length > ANONYMOUS_MESSAGE_MAX)
        return "message too long before authentication";
    return NULL;
}

static Progress read_header(XldrvClient *client)
{
    gsize n;
    Progress progress = receive(client, client->header_bytes + client->n_read,
                                XLDRV_HEADER_SIZE - client->n_read, &n);
    if (progress != PROGRESS)
        return progress;

    gsize before = client->n_read;
    client->n_read += n;
    if (client->n_read < 4)
        return PROGRESS;
    xldrv_header_decode(client->header_bytes, &client->header);
    const char *fault = before < 4 ? header_fault(client) : NULL;
    if (fault)
        return drop(client, fault);
    if (client->n_read == XLDRV_HEADER_SIZE) {
        client->payload = g_byte_array_new();
        client->n_read = 0;
        client->read_state = XLDRV_READ_PAYLOAD;
    }
    return PROGRESS;
}

/* The first step is free: what clients usually say is shorter. */
gsize xldrv_client_io_accounted(gsize length)
{
    return length - MIN(length, PAYLOAD_STEP);
}

/* Hands over the message that was read. */
static void finish_message(XldrvClient *client)
{
    GByteArray *payload = g_steal_pointer(&client->payload);
    GArray *fds = g_steal_pointer(&client->fds);

    client->read_state = XLDRV_READ_HEADER;
    client->n_read = 0;
    client->heard_us = client->read_us;
    client->pings = 0;
    if (client->header.program == XLDRV_KEEPALIVE_PROGRAM) {
        xldrv_client_return_memory(client, xldrv_client_io_accounted(payload->len));
        xldrv_keepalive_receive(client, &client->header);
        g_byte_array_unref(payload);
        xldrv_fds_free(fds);
        return;
    }
    xldrv_dispatch(client, &client->header, payload, fds);
}

/* The payload is whole: descriptors follow, or the message is done. */
static Progress end_payload(XldrvClient *client)
{
    client->n_fds = 0;
    if (client->header.type == XLDRV_TYPE_CALL_WITH_FDS) {
        guint32 n_fds;
        if (client->payload->len < 4)
            return drop(client, "no descriptor count");
        memcpy(&n_fds, client->payload->data, 4);
        client->n_fds = GUINT32_FROM_BE(n_fds);
        if (client->n_fds > XLDRV_FDS_MAX)
            return drop(client, "too many descriptors");
        if (client->n_fds > 0 && !client->transport->ops->receive_fd)
            return drop(client, "descriptors cannot travel on this connection");
        client->fds = g_array_new(FALSE, FALSE, sizeof(int));
    }
    client->read_state = XLDRV_READ_FDS;
    return PROGRESS;
}

static Progress read_payload(XldrvClient *client)
{
    gsize total = client->header.length - XLDRV_HEADER_SIZE;
    if (client->n_read == total)
        return end_payload(client);

    gsize n, want = MIN(total - client->n_read, MAX(PAYLOAD_STEP, client->n_read));
    gsize more = client->n_read + want - MIN(client->payload->len, client->n_read + want);
    if (client->payload->len > 0 && !xldrv_client_take_memory(client, more))
        return drop(client, "too much is being received already");
    if (more > 0)
        g_byte_array_set_size(client->payload, client->payload->len + more);
    Progress progress = receive(client, client->payload->data + client->n_read, want, &n);
    if (progress == PROGRESS)
        client->n_read += n;
    return progress;
}

static Progress read_fds(XldrvClient *client)
{
    while (client->fds && client->fds->len < client->n_fds) {
        int fd = client->transport->ops->receive_fd(client->transport);
        if (fd < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK
                       ? WAIT
                       : drop(client, "a descriptor is missing");
        g_array_append_val(client->fds, fd);
        client->read_us = g_get_monotonic_time();
    }
    finish_message(client);
    return client->server ? PROGRESS : DROPPED;
}

static Progress read_some(XldrvClient *client)
{
    switch (client->read_state) {
    case XLDRV_READ_HEADER:
        return read_header(client);
    case XLDRV_READ_PAYLOAD:
        return read_payload(client);
    default:
        return read_fds(client);
    }
}

static Progress read_messages(XldrvClient *client)
{
    Progress progress = PROGRESS;
    for (int n = 0;
         n < 3 * MESSAGES_PER_TURN && progress == PROGRESS && xldrv_client_io_may_read(client); n++)
        progress = read_some(client);
    return progress;
}

/* ---- writing */

static void message_sent(XldrvClient *client, XldrvMessage *message)
{
    switch (message->kind) {
    case XLDRV_OUT_REPLY:
        client->n_requests--;
        if (message->begins_layer)
            xldrv_transport_sasl_encode(client->transport);
        break;
    case XLDRV_OUT_EVENT:
        g_atomic_int_add(&client->queued_event_bytes, -(gint)message->event_size);
        break;
    case XLDRV_OUT_STREAM:
        xldrv_stream_packet_sent(message->stream);
        break;
    case XLDRV_OUT_KEEPALIVE:
        xldrv_keepalive_sent(client, message);
        break;
    case XLDRV_OUT_PLAIN:
        break;
    }
    xldrv_message_free(message);
}

/* The bytes of a message, then its descriptors. */
static Progress write_some(XldrvClient *client, XldrvMessage *message)
{
    const XldrvTransportOps *ops = client->transport->ops;
    gssize n;

    if (message->sent < message->bytes->len) {
        n = ops->send(client->transport, message->bytes->data + message->sent,
                      message->bytes->len - message->sent);
        if (n > 0)
            message->sent += n;
    } else {
        n = ops->send_fd(client->transport, g_array_index(message->fds, int, message->fds_sent));
        if (n >= 0)
            message->fds_sent++;
    }
    if (n >= 0) {
        client->written_us = g_get_monotonic_time();
        return PROGRESS;
    }
    return errno == EAGAIN || errno == EWOULDBLOCK ? WAIT : drop(client, g_strerror(errno));
}

static void flush(XldrvClient *client)
{
    XldrvMessage *message;
    Progress progress = PROGRESS;

    /* What is queued while a message is finished is written by the loop that runs already. */
    if (client->flushing)
        return;
    client->flushing = TRUE;
    while (progress == PROGRESS && (message = g_queue_peek_head(&client->out))) {
        if (message->sent < message->bytes->len ||
            (message->fds && message->fds_sent < message->fds->len)) {
            progress = write_some(client, message);
        } else {
            g_queue_pop_head(&client->out);
            message_sent(client, message);
        }
    }
    client->flushing = FALSE;
}

void xldrv_client_queue(XldrvClient *client, XldrvMessage *message)
{
    if (!client->server) {
        xldrv_message_free(message);
        return;
    }
    if (g_queue_is_empty(&client->out))
        client->written_us = g_get_monotonic_time();
    g_queue_push_tail(&client->out, message);
    flush(client);
    xldrv_client_update(client);
}

/* ---- both */

gboolean xldrv_client_io_stalled(XldrvClient *client, gint64 since_us)
{
    gboolean half_read = client->read_state != XLDRV_READ_HEADER || client->n_read > 0;
    gboolean unwritten = !g_queue_is_empty(&client->out);
    return (half_read && xldrv_client_io_may_read(client) && client->read_us < since_us) ||
           (unwritten && client->written_us < since_us);
}

void xldrv_client_update(XldrvClient *client)
{
    if (!client->server || client->flushing)
        return;
    if (client->closing && client->n_requests == 0 && g_queue_is_empty(&client->out)) {
        xldrv_client_drop(client, "closed");
        return;
    }
    GIOCondition want = 0;
    if (xldrv_client_io_may_read(client))
        want |= G_IO_IN;
    if (!g_queue_is_empty(&client->out))
        want |= G_IO_OUT;
    if (client->handshaking)
        want = client->transport->wants_write ? G_IO_OUT : G_IO_IN;
    g_source_modify_unix_fd(client->source, client->watch, want);
    /* The socket does not tell of bytes that have left it. */
    if ((want & G_IO_IN) && client->transport->ops->pending && client->transport->ops->pending(client->transport))
        g_source_set_ready_time(client->source, 0);
}

static void shake_hands(XldrvClient *client)
{
    if (client->transport->ops->handshake(client->transport) == 0)
        xldrv_client_shaken(client);
    else if (errno != EAGAIN && errno != EWOULDBLOCK)
        xldrv_client_drop(client, errno == EACCES ? "refused" : "its handshake failed");
}

static void read_and_write(XldrvClient *client, GIOCondition ready)
{
    if (ready & G_IO_OUT)
        flush(client);
    if (client->server && read_messages(client) == WAIT && (ready & (G_IO_HUP | G_IO_ERR)))
        xldrv_client_drop(client, "hung up");
    /* Nothing will be read any more, and the poll would report it for ever. */
    if (client->server && !xldrv_client_io_may_read(client) && (ready & (G_IO_HUP | G_IO_ERR)))
        xldrv_client_drop(client, "hung up");
}

static gboolean on_ready(gpointer data)
{
    g_autoptr(XldrvClient) client = xldrv_client_ref(data);
    GIOCondition ready = g_source_query_unix_fd(client->source, client->watch);

    g_source_set_ready_time(client->source, -1);
    if (client->handshaking)
        shake_hands(client);
    else
        read_and_write(client, ready);
    xldrv_client_update(client);
    return client->server ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static gboolean dispatch_source(GSource *source G_GNUC_UNUSED, GSourceFunc callback, gpointer data)
{
    return callback(data);
}

static GSourceFuncs source_funcs = {.dispatch = dispatch_source};

void xldrv_client_io_start(XldrvClient *client)
{
    client->source = g_source_new(&source_funcs, sizeof(GSource));
    g_source_set_static_name(client->source, "xldrv-client");
    client->watch = g_source_add_unix_fd(client->source, client->transport->fd, G_IO_IN);
    g_source_set_callback(client->source, on_ready, xldrv_client_ref(client),
                          (GDestroyNotify)xldrv_client_unref);
    g_source_attach(client->source, client->server->context);
}
