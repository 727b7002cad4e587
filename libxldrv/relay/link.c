/* link: passes messages between a client and a daemon, each under the other's serial.
 *
 * Calls of the client wait until the handshake is done. From then on each goes out with a serial of the link's, under
 * which its reply comes back; a stream that it opened keeps both serials. */
#include "config.h"

#include "libxldrv/relay/link.h"

#include <string.h>

#include "libxldrv/relay/handshake.h"
#include "libxldrv/relay/upstream.h"
#include "libxldrv/rpc/api-name.h"
#include "libxldrv/rpc/keepalive.h"

/* Of a download in the client's queue; beyond it the daemon is not read. */
#define CLIENT_BYTES_MAX (1024 * 1024)
/* The handshake's serials are below. */
#define FIRST_SERIAL     16

typedef struct {
    XldrvHeader opened_by;  /* the client's call */
    guint32 serial;         /* the same call's at the daemon */
} Stream;

struct _XldrvLink {
    guint refs;
    const XldrvRelayContext *context;
    XldrvClient *client; /* reference */
    XldrvDaemon daemon;
    char *uri;
    XldrvLinkLostFn lost; /* NULL once closed */
    gpointer user_data;

    XldrvUpstream *upstream;   /* NULL once it is lost */
    XldrvHandshake *handshake; /* NULL when it is done */
    GQueue waiting;            /* XldrvCall, until then */
    guint32 last_serial;
    GHashTable *calls;  /* XldrvCall by serial at the daemon */
    GPtrArray *streams; /* Stream */
    gsize client_bytes; /* stream data in the client's queue */
};

static void link_unref(XldrvLink *link)
{
    if (--link->refs > 0)
        return;
    xldrv_client_unref(link->client);
    g_hash_table_unref(link->calls);
    g_ptr_array_unref(link->streams);
    g_free(link->uri);
    g_free(link);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvLink, link_unref)

static XldrvLink *link_ref(XldrvLink *link)
{
    link->refs++;
    return link;
}

XldrvDaemon xldrv_link_daemon(const XldrvLink *link)
{
    return link->daemon;
}

guint xldrv_link_count_streams(const XldrvLink *link)
{
    return link->streams->len;
}

/* ---- streams */

static Stream *find_stream(XldrvLink *link, guint32 serial, gboolean at_daemon, guint *index)
{
    for (guint i = 0; i < link->streams->len; i++) {
        Stream *stream = link->streams->pdata[i];
        if ((at_daemon ? stream->serial : stream->opened_by.serial) == serial) {
            *index = i;
            return stream;
        }
    }
    return NULL;
}

static void add_stream(XldrvLink *link, const XldrvHeader *opened_by, guint32 serial)
{
    Stream *stream = g_new0(Stream, 1);

    stream->opened_by = *opened_by;
    stream->serial = serial;
    g_ptr_array_add(link->streams, stream);
}

/* ---- bytes that are kept for one side count against the other */

typedef struct {
    XldrvLink *link;     /* either: of a download */
    XldrvClient *client; /* or: of an upload */
    gsize n;
} Held;

static void release(gpointer data)
{
    Held *held = data;

    if (held->link) {
        held->link->client_bytes -= held->n;
        if (held->link->upstream && held->link->client_bytes < CLIENT_BYTES_MAX)
            xldrv_upstream_set_reading(held->link->upstream, TRUE);
        link_unref(held->link);
    } else {
        xldrv_client_release_stream_bytes(held->client, held->n);
        xldrv_client_unref(held->client);
    }
    g_free(held);
}

static void hold(XldrvMessage *message, XldrvLink *link, XldrvClient *client)
{
    Held *held = g_new0(Held, 1);

    held->n = message->bytes->len;
    if (link) {
        held->link = link_ref(link);
        link->client_bytes += held->n;
    } else {
        held->client = xldrv_client_ref(client);
        xldrv_client_hold_stream_bytes(client, held->n);
    }
    message->done = release;
    message->done_data = held;
}

/* ---- to the daemon */

static XldrvMessage *copy_message(const XldrvHeader *header, guint32 serial, const GByteArray *payload)
{
    XldrvHeader own = *header;

    own.serial = serial;
    XldrvMessage *message = xldrv_message_new(XLDRV_OUT_PLAIN, &own);
    g_byte_array_append(message->bytes, payload->data, payload->len);
    xldrv_message_seal(message);
    return message;
}

/* One that is free, after four thousand million calls too. */
static guint32 new_serial(XldrvLink *link)
{
    guint index;

    do
        link->last_serial = MAX(link->last_serial + 1, FIRST_SERIAL);
    while (g_hash_table_contains(link->calls, GUINT_TO_POINTER(link->last_serial)) ||
           find_stream(link, link->last_serial, TRUE, &index));
    return link->last_serial;
}

static void forward_call(XldrvLink *link, XldrvCall *call)
{
    g_autoptr(GByteArray) payload = xldrv_call_take_payload(call);
    guint32 serial = new_serial(link);

    g_hash_table_insert(link->calls, GUINT_TO_POINTER(serial), call);
    xldrv_upstream_send(link->upstream, copy_message(xldrv_call_header(call), serial, payload));
}

void xldrv_link_call(XldrvLink *link, XldrvCall *call)
{
    if (link->handshake)
        g_queue_push_tail(&link->waiting, call);
    else
        forward_call(link, call);
}

void xldrv_link_stream(XldrvLink *link, const XldrvHeader *header, const GByteArray *payload)
{
    guint index;
    Stream *stream = find_stream(link, header->serial, FALSE, &index);

    if (!stream || stream->opened_by.procedure != header->procedure)
        return;
    XldrvMessage *message = copy_message(header, stream->serial, payload);
    hold(message, NULL, link->client);
    xldrv_upstream_send(link->upstream, message);
}

/* ---- from the daemon */

static void take_reply(XldrvLink *link, const XldrvHeader *header, GByteArray *bytes)
{
    XldrvCall *call = g_hash_table_lookup(link->calls, GUINT_TO_POINTER(header->serial));

    if (!call || header->procedure != xldrv_call_header(call)->procedure) {
        g_byte_array_unref(bytes);
        return;
    }
    g_hash_table_remove(link->calls, GUINT_TO_POINTER(header->serial));
    if (header->status == XLDRV_STATUS_OK && (xldrv_call_procedure(call)->flags & XLDRV_PROC_STREAM))
        add_stream(link, xldrv_call_header(call), header->serial);
    XldrvMessage *message = xldrv_message_new_whole(XLDRV_OUT_REPLY, bytes);
    xldrv_message_set_serial(message, xldrv_call_header(call)->serial);
    xldrv_call_reply_raw(call, message);
}

/* A stream ends with what is no data: an error, or the answer to a finish or abort. */
static void take_stream(XldrvLink *link, const XldrvHeader *header, GByteArray *bytes)
{
    guint index;
    Stream *stream = find_stream(link, header->serial, TRUE, &index);

    if (!stream || header->procedure != stream->opened_by.procedure) {
        g_byte_array_unref(bytes);
        return;
    }
    XldrvMessage *message = xldrv_message_new_whole(XLDRV_OUT_PLAIN, bytes);
    xldrv_message_set_serial(message, stream->opened_by.serial);
    hold(message, link, NULL);
    if (header->status != XLDRV_STATUS_CONTINUE)
        g_ptr_array_remove_index_fast(link->streams, index);
    if (link->client_bytes >= CLIENT_BYTES_MAX)
        xldrv_upstream_set_reading(link->upstream, FALSE);
    xldrv_client_queue(link->client, message);
}

static void take_event(XldrvLink *link, const XldrvHeader *header, GByteArray *bytes)
{
    const XldrvProgram *program = link->context->compiled->program;
    guint number = header->procedure;

    if (number >= 1 && number <= program->n_procedures && (program->procedures[number - 1].flags & XLDRV_PROC_EVENT) &&
        xldrv_daemon_of_procedure(number) == link->daemon)
        xldrv_client_queue_event(link->client, xldrv_message_new_whole(XLDRV_OUT_EVENT, bytes));
    else
        g_byte_array_unref(bytes);
}

static void take_keepalive(XldrvLink *link, const XldrvHeader *header)
{
    XldrvHeader pong = *header;

    if (header->procedure != XLDRV_KEEPALIVE_PING)
        return;
    pong.procedure = XLDRV_KEEPALIVE_PONG;
    XldrvMessage *message = xldrv_message_new(XLDRV_OUT_PLAIN, &pong);
    xldrv_message_seal(message);
    xldrv_upstream_send(link->upstream, message);
}

/* ---- the end of a daemon, or of our patience with it */

static void fail_streams(XldrvLink *link, const GError *error)
{
    for (guint i = 0; i < link->streams->len; i++) {
        Stream *stream = link->streams->pdata[i];
        xldrv_client_queue(link->client, xldrv_error_message(link->context->server, XLDRV_OUT_PLAIN,
                                                             &stream->opened_by, XLDRV_TYPE_STREAM, error));
    }
    g_ptr_array_set_size(link->streams, 0);
}

static void fail_all(XldrvLink *link, const GError *error)
{
    g_autoptr(GList) calls = g_hash_table_get_values(link->calls);
    XldrvCall *call;

    g_hash_table_remove_all(link->calls);
    for (GList *l = calls; l; l = l->next)
        xldrv_call_reply_error(l->data, link->context->server, error);
    while ((call = g_queue_pop_head(&link->waiting)))
        xldrv_call_reply_error(call, link->context->server, error);
    fail_streams(link, error);
}

static void tell_lost(XldrvLink *link)
{
    if (link->lost)
        link->lost(link, link->user_data);
}

static void on_lost(gpointer data, const char *reason)
{
    g_autoptr(XldrvLink) link = link_ref(data);
    g_autoptr(GError) error = NULL;

    xldrv_set_error(&error, VIR_ERR_OPERATION_FAILED, "the daemon of %s is gone: %s", link->uri, reason);
    g_info("%s", error->message);
    g_clear_pointer(&link->upstream, xldrv_upstream_close);
    fail_all(link, error);
    tell_lost(link);
}

/* ---- its beginning */

static int error_code(const GByteArray *bytes)
{
    guint32 word = 0;

    if (bytes->len >= XLDRV_HEADER_SIZE + sizeof(word))
        memcpy(&word, bytes->data + XLDRV_HEADER_SIZE, sizeof(word));
    return (int)GUINT32_FROM_BE(word);
}

/* The daemon's own words as the answer to a call; but a libvirtd without this driver is like no daemon. */
static void refuse_call(XldrvLink *link, XldrvCall *call, const GByteArray *bytes)
{
    XldrvHeader header = *xldrv_call_header(call);

    if (error_code(bytes) == VIR_ERR_NO_CONNECT) {
        g_autofree char *api = xldrv_api_name(xldrv_call_procedure(call)->name);
        g_autoptr(GError) error = NULL;
        xldrv_set_error(&error, VIR_ERR_NO_SUPPORT, "%s", api);
        xldrv_call_reply_error(call, link->context->server, error);
        return;
    }
    header.type = XLDRV_TYPE_REPLY;
    header.status = XLDRV_STATUS_ERROR;
    XldrvMessage *message = xldrv_message_new(XLDRV_OUT_REPLY, &header);
    g_byte_array_append(message->bytes, bytes->data + XLDRV_HEADER_SIZE, bytes->len - XLDRV_HEADER_SIZE);
    xldrv_message_seal(message);
    xldrv_call_reply_raw(call, message);
}

static void refuse_all(XldrvLink *link, const GByteArray *bytes, const GError *error)
{
    XldrvCall *call;

    while (!error && (call = g_queue_pop_head(&link->waiting)))
        refuse_call(link, call, bytes);
    if (error)
        fail_all(link, error);
    tell_lost(link);
}

static void take_handshake(XldrvLink *link, const XldrvHeader *header, const GByteArray *bytes)
{
    g_autoptr(GError) error = NULL;
    XldrvCall *call;

    switch (xldrv_handshake_receive(link->handshake, header, bytes, &error)) {
    case XLDRV_HANDSHAKE_GOES_ON:
        xldrv_upstream_send(link->upstream, xldrv_handshake_next(link->handshake));
        break;
    case XLDRV_HANDSHAKE_FAILED:
        refuse_all(link, bytes, error);
        break;
    default:
        g_clear_pointer(&link->handshake, xldrv_handshake_free);
        while ((call = g_queue_pop_head(&link->waiting)))
            forward_call(link, call);
        break;
    }
}

static void on_message(gpointer data, const XldrvHeader *header, GByteArray *bytes)
{
    g_autoptr(XldrvLink) link = link_ref(data);

    if (link->handshake && xldrv_handshake_expects(link->handshake, header)) {
        take_handshake(link, header, bytes);
    } else if (header->program == XLDRV_KEEPALIVE_PROGRAM) {
        take_keepalive(link, header);
    } else if (header->program == link->context->compiled->program->program) {
        g_byte_array_ref(bytes);
        if (header->type == XLDRV_TYPE_REPLY)
            take_reply(link, header, bytes);
        else if (header->type == XLDRV_TYPE_STREAM || header->type == XLDRV_TYPE_STREAM_HOLE)
            take_stream(link, header, bytes);
        else if (header->type == XLDRV_TYPE_MESSAGE)
            take_event(link, header, bytes);
        else
            g_byte_array_unref(bytes);
    }
    g_byte_array_unref(bytes);
}

static const XldrvUpstreamFns upstream_fns = {.message = on_message, .lost = on_lost};

XldrvLink *xldrv_link_new(const XldrvRelayContext *context, XldrvClient *client, XldrvDaemon daemon,
                          XldrvLinkLostFn lost, gpointer user_data, GError **error)
{
    g_autofree char *uri = NULL;
    int fd = xldrv_daemon_connect(daemon, context->socket_dir, xldrv_client_is_readonly(client), &uri, error);
    XldrvLink *link;

    if (fd < 0)
        return NULL;
    link = g_new0(XldrvLink, 1);
    link->refs = 1;
    link->context = context;
    link->client = xldrv_client_ref(client);
    link->daemon = daemon;
    link->uri = g_steal_pointer(&uri);
    link->lost = lost;
    link->user_data = user_data;
    link->calls = g_hash_table_new(NULL, NULL);
    link->streams = g_ptr_array_new_with_free_func(g_free);
    g_queue_init(&link->waiting);
    link->upstream = xldrv_upstream_new(fd, context->server->context, &upstream_fns, link);
    link->handshake = xldrv_handshake_new(context->compiled, client, link->uri);
    xldrv_upstream_send(link->upstream, xldrv_handshake_next(link->handshake));
    return link;
}

void xldrv_link_close(XldrvLink *link)
{
    g_autoptr(GError) error = NULL;

    link->lost = NULL;
    g_clear_pointer(&link->upstream, xldrv_upstream_close);
    xldrv_set_error(&error, VIR_ERR_OPERATION_FAILED, "the connection to %s is closed", link->uri);
    fail_all(link, error);
    g_clear_pointer(&link->handshake, xldrv_handshake_free);
    link_unref(link);
}
