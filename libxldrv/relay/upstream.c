/* upstream: reads whole messages and writes a queue. No descriptors travel here. */
#include "config.h"

#include "libxldrv/relay/upstream.h"

#include <errno.h>

#include "libxldrv/rpc/codec.h"
#include "libxldrv/rpc/transport.h"

/* Messages read in one turn of the main loop, so that others get theirs. */
#define MESSAGES_PER_TURN 16

struct _XldrvUpstream {
    guint refs;
    XldrvTransport *transport;
    GSource *source;
    gpointer watch;
    const XldrvUpstreamFns *fns; /* NULL once closed */
    gpointer user_data;

    gboolean reading;
    GByteArray *bytes; /* of the message that is being read, at its full length once that is known */
    gsize n_read;
    XldrvHeader header;

    GQueue out; /* XldrvMessage */
};

static void upstream_unref(XldrvUpstream *upstream)
{
    if (--upstream->refs > 0)
        return;
    g_byte_array_unref(upstream->bytes);
    g_free(upstream);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvUpstream, upstream_unref)

/* FALSE: nothing more can be done now, or it is at its end. */
static gboolean lost(XldrvUpstream *upstream, const char *reason)
{
    upstream->fns->lost(upstream->user_data, reason);
    return FALSE;
}

/* ---- reading */

static void finish_message(XldrvUpstream *upstream)
{
    GByteArray *bytes = upstream->bytes;

    upstream->bytes = g_byte_array_new();
    upstream->n_read = 0;
    g_byte_array_set_size(upstream->bytes, XLDRV_HEADER_SIZE);
    upstream->fns->message(upstream->user_data, &upstream->header, bytes);
}

/* What there is of the message is whole: the header, or all of it. */
static gboolean end_part(XldrvUpstream *upstream)
{
    if (upstream->bytes->len == XLDRV_HEADER_SIZE) {
        xldrv_header_decode(upstream->bytes->data, &upstream->header);
        if (upstream->header.length < XLDRV_HEADER_SIZE || upstream->header.length > XLDRV_MESSAGE_MAX)
            return lost(upstream, "impossible message length");
        g_byte_array_set_size(upstream->bytes, upstream->header.length);
    }
    if (upstream->n_read == upstream->bytes->len)
        finish_message(upstream);
    return upstream->fns != NULL;
}

static gboolean read_some(XldrvUpstream *upstream)
{
    gssize n = upstream->transport->ops->receive(upstream->transport, upstream->bytes->data + upstream->n_read,
                                                 upstream->bytes->len - upstream->n_read);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return FALSE;
    if (n <= 0)
        return lost(upstream, n == 0 ? "end of connection" : g_strerror(errno));
    upstream->n_read += n;
    return upstream->n_read < upstream->bytes->len || end_part(upstream);
}

/* ---- writing */

static gboolean write_some(XldrvUpstream *upstream)
{
    XldrvMessage *message = g_queue_peek_head(&upstream->out);
    if (!message)
        return FALSE;
    gssize n = upstream->transport->ops->send(upstream->transport, message->bytes->data + message->sent,
                                              message->bytes->len - message->sent);
    /* A broken connection is noticed by reading, after what was said last. */
    if (n < 0)
        return FALSE;
    message->sent += n;
    if (message->sent == message->bytes->len)
        xldrv_message_free(g_queue_pop_head(&upstream->out));
    return upstream->fns != NULL;
}

static void update(XldrvUpstream *upstream)
{
    GIOCondition want = (upstream->reading ? G_IO_IN : 0) | (g_queue_is_empty(&upstream->out) ? 0 : G_IO_OUT);

    g_source_modify_unix_fd(upstream->source, upstream->watch, want);
}

void xldrv_upstream_send(XldrvUpstream *upstream, XldrvMessage *message)
{
    g_autoptr(XldrvUpstream) keep = upstream;

    upstream->refs++;
    g_queue_push_tail(&upstream->out, message);
    while (write_some(upstream))
        continue;
    if (upstream->fns)
        update(upstream);
}

/* ---- both */

void xldrv_upstream_set_reading(XldrvUpstream *upstream, gboolean reading)
{
    upstream->reading = reading;
    update(upstream);
}

static gboolean on_ready(gpointer data)
{
    g_autoptr(XldrvUpstream) upstream = data;
    GIOCondition ready = g_source_query_unix_fd(upstream->source, upstream->watch);
    gboolean broken = (ready & (G_IO_HUP | G_IO_ERR)) != 0;

    upstream->refs++;
    while ((ready & G_IO_OUT) && write_some(upstream))
        continue;
    for (int n = 0; n < 2 * MESSAGES_PER_TURN && upstream->fns && upstream->reading && read_some(upstream); n++)
        continue;
    /* What waits in the socket is given up: poll would report the end until it is read. */
    if (upstream->fns && broken && !upstream->reading)
        lost(upstream, "hung up");
    if (upstream->fns)
        update(upstream);
    return upstream->fns ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static gboolean dispatch_source(GSource *source G_GNUC_UNUSED, GSourceFunc callback, gpointer data)
{
    return callback(data);
}

static GSourceFuncs source_funcs = {.dispatch = dispatch_source};

XldrvUpstream *xldrv_upstream_new(int fd, GMainContext *context, const XldrvUpstreamFns *fns, gpointer user_data)
{
    XldrvUpstream *upstream = g_new0(XldrvUpstream, 1);

    upstream->refs = 1;
    upstream->transport = xldrv_transport_new_unix(fd);
    upstream->fns = fns;
    upstream->user_data = user_data;
    upstream->reading = TRUE;
    upstream->bytes = g_byte_array_new();
    g_byte_array_set_size(upstream->bytes, XLDRV_HEADER_SIZE);
    g_queue_init(&upstream->out);
    upstream->source = g_source_new(&source_funcs, sizeof(GSource));
    g_source_set_static_name(upstream->source, "xldrv-upstream");
    upstream->watch = g_source_add_unix_fd(upstream->source, fd, G_IO_IN);
    g_source_set_callback(upstream->source, on_ready, upstream, NULL);
    g_source_attach(upstream->source, context);
    return upstream;
}

void xldrv_upstream_close(XldrvUpstream *upstream)
{
    XldrvMessage *message;

    upstream->fns = NULL;
    g_source_destroy(upstream->source);
    g_clear_pointer(&upstream->source, g_source_unref);
    upstream->transport->ops->free(upstream->transport);
    while ((message = g_queue_pop_head(&upstream->out)))
        xldrv_message_free(message);
    upstream_unref(upstream);
}
