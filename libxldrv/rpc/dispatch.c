/* dispatch: checks a message against its row, and carries a call through a worker.
 *
 * On the main loop the columns of the row are checked, in the order in which they are listed in
 * checks[]. Decoding, the handler and encoding run on a worker; or right there, where the row says
 * that the handler only looks things up, as waking a worker and being woken by it takes longer.
 * Back on the main loop the reply is queued, then whatever may not overtake it happens: the stream
 * starts, the functions of xldrv_call_after_reply run. */
#include "config.h"

#include "libxldrv/rpc/dispatch.h"

#include "libxldrv/rpc/api-name.h"
#include "libxldrv/rpc/auth.h"
#include "libxldrv/rpc/client-io.h"
#include "libxldrv/rpc/error.h"
#include "libxldrv/rpc/raw.h"
#include "libxldrv/rpc/stream.h"

/* Streams that one client may have at a time. */
#define STREAMS_MAX 64

typedef struct {
    GDestroyNotify fn;
    gpointer user_data;
} AfterReply;

struct _XldrvCall {
    XldrvClient *client; /* reference */
    const XldrvCompiled *compiled;
    const XldrvProcedure *procedure;
    XldrvHeader header;
    GByteArray *payload;
    GArray *fds;        /* that came */
    GArray *return_fds; /* that go */
    XldrvStream *stream;
    GArray *after; /* AfterReply */
    XldrvMessage *reply;
    gboolean failed;
    gboolean on_loop, put_off;
    gsize accounted; /* memory of the payload */
};

/* ---- messages */

XldrvMessage *xldrv_error_message(XldrvServer *server, XldrvOutKind kind, const XldrvHeader *to,
                                  XldrvType type, const GError *error)
{
    XldrvHeader header = *to;
    header.type = type;
    header.status = XLDRV_STATUS_ERROR;
    XldrvMessage *message = xldrv_message_new(kind, &header);
    g_autoptr(GVariant) value = xldrv_error_to_variant(error, server->error_code);
    if (!xldrv_codec_encode(server->error_codec, value, message->bytes, NULL))
        g_assert_not_reached(); /* our own structure, its texts bounded */
    xldrv_message_seal(message);
    return message;
}

/* The successful reply, or NULL with an error. */
static XldrvMessage *reply_message(const XldrvHeader *to, const XldrvCodec *codec, GVariant *value,
                                   GArray *fds, GError **error)
{
    XldrvHeader header = *to;
    header.type = fds ? XLDRV_TYPE_REPLY_WITH_FDS : XLDRV_TYPE_REPLY;
    header.status = XLDRV_STATUS_OK;
    XldrvMessage *message = xldrv_message_new(XLDRV_OUT_REPLY, &header);
    if (fds) {
        guint32 n_fds = GUINT32_TO_BE(fds->len);
        g_byte_array_append(message->bytes, (const guint8 *)&n_fds, sizeof(n_fds));
    }
    if (!xldrv_codec_encode(codec, value, message->bytes, error)) {
        xldrv_message_free(message);
        return NULL;
    }
    xldrv_message_seal(message);
    return message;
}

/* ---- a call */

static XldrvCall *call_new(XldrvClient *client, const XldrvHeader *header, GByteArray *payload,
                           GArray *fds)
{
    XldrvCall *call = g_new0(XldrvCall, 1);
    call->client = xldrv_client_ref(client);
    call->header = *header;
    call->payload = payload;
    call->accounted = xldrv_client_io_accounted(payload->len);
    call->fds = fds;
    client->n_requests++;
    return call;
}

static void call_free(XldrvCall *call)
{
    xldrv_client_unref(call->client);
    g_clear_pointer(&call->payload, g_byte_array_unref);
    xldrv_fds_free(call->fds);
    xldrv_fds_free(call->return_fds);
    g_clear_pointer(&call->stream, xldrv_stream_unref);
    g_clear_pointer(&call->after, g_array_unref);
    g_clear_pointer(&call->reply, xldrv_message_free);
    g_free(call);
}

static void call_fail(XldrvCall *call, XldrvServer *server, const GError *error)
{
    call->failed = TRUE;
    call->reply =
        xldrv_error_message(server, XLDRV_OUT_REPLY, &call->header, XLDRV_TYPE_REPLY, error);
}

/* The last step, on the main loop. */
static void call_finish(gpointer data)
{
    XldrvCall *call = data;

    xldrv_client_return_memory(call->client, call->accounted);
    if (call->reply)
        xldrv_client_queue(call->client, g_steal_pointer(&call->reply));
    if (call->stream && call->failed)
        xldrv_stream_drop(call->stream);
    else if (call->stream)
        xldrv_stream_start(call->stream);
    for (guint i = 0; call->after && i < call->after->len; i++) {
        const AfterReply *after = &g_array_index(call->after, AfterReply, i);
        after->fn(after->user_data);
    }
    call_free(call);
}

/* ---- on a worker */

static GVariant *call_decode(XldrvCall *call, GError **error)
{
    gsize skip = call->header.type == XLDRV_TYPE_CALL_WITH_FDS ? 4 : 0;
    return xldrv_codec_decode(call->compiled->args[call->procedure->number - 1],
                              call->payload->data + skip, call->payload->len - skip, NULL, error);
}

/* What the handler says, held to what its row promises. */
static GVariant *call_handle(XldrvCall *call, GVariant *args, GError **error)
{
    const XldrvProcedure *procedure = call->procedure;
    GVariant *value = procedure->handler(call, args, error);

    if (!value) {
        if (error && !*error && !call->put_off)
            xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "%s failed without saying why",
                            procedure->name);
        return NULL;
    }
    g_autoptr(GVariant) reply = g_variant_take_ref(value);
    if ((procedure->flags & XLDRV_PROC_STREAM) && !call->stream) {
        xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "%s made no stream", procedure->name);
        return NULL;
    }
    return g_steal_pointer(&reply);
}

static XldrvMessage *call_answer(XldrvCall *call, XldrvServer *server, GError **error)
{
    g_autoptr(GVariant) args = call_decode(call, error);
    if (!args || (server->access && !server->access(call, args, error)))
        return NULL;
    if (!call->on_loop)
        g_clear_pointer(&call->payload, g_byte_array_unref);

    g_autoptr(GVariant) value = call_handle(call, args, error);
    if (!value)
        return NULL;
    XldrvMessage *message =
        reply_message(&call->header, call->compiled->ret[call->procedure->number - 1], value,
                      call->return_fds, error);
    if (message)
        message->fds = g_steal_pointer(&call->return_fds);
    return message;
}

/* FALSE: it was put off. */
static gboolean call_run(XldrvCall *call, XldrvServer *server)
{
    g_autoptr(GError) error = NULL;

    call->reply = call_answer(call, server, &error);
    if (call->put_off)
        return FALSE;
    if (!call->reply)
        call_fail(call, server, error);
    return TRUE;
}

void xldrv_call_run(gpointer data, gpointer user_data)
{
    XldrvCall *call = data;
    XldrvServer *server = user_data;

    call_run(call, server);
    xldrv_mailbox_post(server->mailbox, call_finish, call);
}

void xldrv_call_drop(gpointer data, gpointer user_data G_GNUC_UNUSED)
{
    call_free(data);
}

/* ---- checks before a call */

typedef gboolean (*CheckFn)(XldrvClient *client, const XldrvCall *call, GError **error);

static gboolean check_status(XldrvClient *client G_GNUC_UNUSED, const XldrvCall *call,
                             GError **error)
{
    if (call->header.status == XLDRV_STATUS_OK)
        return TRUE;
    return xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_RPC, "Unexpected message status %u",
                                call->header.status);
}

/* Clients turn exactly these words into "not supported" and fall back to older procedures. */
static gboolean check_known(XldrvClient *client G_GNUC_UNUSED, const XldrvCall *call,
                            GError **error)
{
    if (call->procedure)
        return TRUE;
    return xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_RPC, "unknown procedure: %d",
                                call->header.procedure);
}

static gboolean check_authenticated(XldrvClient *client, const XldrvCall *call, GError **error)
{
    if (client->authenticated || (call->procedure->flags & XLDRV_PROC_NO_AUTH))
        return TRUE;
    return xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_RPC, "authentication required");
}

static gboolean check_open(XldrvClient *client, const XldrvCall *call, GError **error)
{
    if (xldrv_client_is_open(client) || (call->procedure->flags & XLDRV_PROC_NO_OPEN))
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "connection not open");
}

static gboolean check_readonly(XldrvClient *client, const XldrvCall *call, GError **error)
{
    if (!xldrv_client_is_readonly(client) || (call->procedure->flags & XLDRV_PROC_READONLY_OK))
        return TRUE;
    g_autofree char *api = xldrv_api_name(call->procedure->name);
    return xldrv_set_error(error, VIR_ERR_OPERATION_DENIED, "read only access prevents %s", api);
}

/* Whether another server answers it. */
static gboolean is_raw(const XldrvCall *call)
{
    const XldrvServer *server = call->client->server;
    return server->raw &&
           server->raw->serves(call->header.program, call->procedure->number, server->raw_data);
}

static gboolean check_served(XldrvClient *client G_GNUC_UNUSED, const XldrvCall *call,
                             GError **error)
{
    if (call->procedure->handler || (call->procedure->flags & XLDRV_PROC_NO_AUTH) || is_raw(call))
        return TRUE;
    g_autofree char *api = xldrv_api_name(call->procedure->name);
    return xldrv_set_error(error, VIR_ERR_NO_SUPPORT, "%s", api);
}

static gboolean check_streams(XldrvClient *client, const XldrvCall *call, GError **error)
{
    if (!(call->procedure->flags & XLDRV_PROC_STREAM))
        return TRUE;
    if (g_hash_table_contains(client->streams, GUINT_TO_POINTER(call->header.serial)))
        return xldrv_set_error_from(error, VIR_FROM_RPC, VIR_ERR_RPC,
                                    "serial %u already has a stream", call->header.serial);
    if (g_hash_table_size(client->streams) >= STREAMS_MAX)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                               "a connection may not have more than %d streams", STREAMS_MAX);
    return TRUE;
}

/* Between processes of one machine alone. */
static gboolean check_fds(XldrvClient *client, const XldrvCall *call, GError **error)
{
    if (client->peer.known || !(call->procedure->flags & XLDRV_PROC_FDS_OUT))
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                           "file descriptors cannot be passed on a connection that is not to a UNIX socket");
}

static const CheckFn checks[] = {
    check_status,   check_known,  check_authenticated, check_open,
    check_readonly, check_served, check_streams, check_fds,
};

static gboolean call_check(XldrvClient *client, const XldrvCall *call, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(checks); i++)
        if (!checks[i](client, call, error))
            return FALSE;
    return TRUE;
}

/* ---- on the main loop */

static void auth_done(gpointer data, GVariant *reply, const GError *error)
{
    XldrvCall *call = data;
    XldrvServer *server = call->client->server;
    g_autoptr(GError) why = NULL;

    if (server && reply) {
        call->reply =
            reply_message(&call->header, call->compiled->ret[call->procedure->number - 1], reply, NULL, &why);
        error = why;
    }
    if (server && !call->reply)
        call_fail(call, server, error);
    if (server)
        call->reply->begins_layer = call->client->begins_layer;
    call->client->begins_layer = FALSE;
    call_finish(call);
}

static void answer_auth(XldrvServer *server, XldrvCall *call)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) args = call_decode(call, &error);

    if (args) {
        xldrv_auth_handle(call->client, call->procedure, args, auth_done, call);
        return;
    }
    call_fail(call, server, error);
    call_finish(call);
}

static void give_to_worker(XldrvServer *server, XldrvCall *call)
{
    xldrv_workers_push(server->workers, call, (call->procedure->flags & XLDRV_PROC_HIGH) != 0);
}

static void run_on_loop(XldrvServer *server, XldrvCall *call)
{
    call->on_loop = TRUE;
    if (call_run(call, server)) {
        call_finish(call);
        return;
    }
    call->on_loop = call->put_off = FALSE;
    give_to_worker(server, call);
}

static void dispatch_call(XldrvClient *client, const XldrvHeader *header, GByteArray *payload,
                          GArray *fds)
{
    XldrvServer *server = client->server;
    XldrvCall *call = call_new(client, header, payload, fds);
    g_autoptr(GError) error = NULL;

    call->compiled = xldrv_server_find_program(server, header->program, header->version);
    if (!call->compiled) {
        xldrv_set_error_from(&error, VIR_FROM_RPC, VIR_ERR_RPC, "Cannot find program %u version %u",
                             header->program, header->version);
    } else {
        call->procedure = xldrv_compiled_procedure(call->compiled, header->procedure);
        call_check(client, call, &error);
    }

    if (error) {
        call_fail(call, server, error);
        call_finish(call);
    } else if (call->procedure->flags & XLDRV_PROC_NO_AUTH) {
        answer_auth(server, call);
    } else if (call->procedure->flags & XLDRV_PROC_LOOP) {
        run_on_loop(server, call);
    } else if (is_raw(call)) {
        server->raw->call(call, server->raw_data);
    } else {
        give_to_worker(server, call);
    }
}

static void dispatch_stream(XldrvClient *client, const XldrvHeader *header,
                            const GByteArray *payload)
{
    const XldrvRaw *raw = client->server->raw;

    if (raw && raw->stream(client, header, payload, client->server->raw_data))
        return;
    if (header->type == XLDRV_TYPE_STREAM)
        xldrv_stream_receive(client, header, payload);
    else /* no stream of ours is sparse, so the client breaks what was agreed */
        xldrv_client_drop(client, "hole in a stream that is not sparse");
}

void xldrv_dispatch(XldrvClient *client, const XldrvHeader *header, GByteArray *payload,
                    GArray *fds)
{
    if (header->type == XLDRV_TYPE_CALL || header->type == XLDRV_TYPE_CALL_WITH_FDS) {
        dispatch_call(client, header, payload, fds);
        return;
    }
    xldrv_client_return_memory(client, xldrv_client_io_accounted(payload->len));
    if (header->type == XLDRV_TYPE_STREAM || header->type == XLDRV_TYPE_STREAM_HOLE)
        dispatch_stream(client, header, payload);
    else
        g_debug("client %" G_GUINT64_FORMAT ": message of type %u ignored", client->id,
                header->type);
    g_byte_array_unref(payload);
    xldrv_fds_free(fds);
}

/* ---- for handlers and streams */

XldrvClient *xldrv_call_client(XldrvCall *call)
{
    return call->client;
}

const XldrvProcedure *xldrv_call_procedure(XldrvCall *call)
{
    return call->procedure;
}

const XldrvHeader *xldrv_call_header(XldrvCall *call)
{
    return &call->header;
}

gboolean xldrv_call_put_off(XldrvCall *call)
{
    call->put_off = call->on_loop;
    return call->put_off;
}

void xldrv_call_set_stream(XldrvCall *call, XldrvStream *stream)
{
    g_return_if_fail(!call->stream);
    call->stream = stream;
}

const int *xldrv_call_fds(XldrvCall *call, guint *n)
{
    *n = call->fds ? call->fds->len : 0;
    return call->fds ? (const int *)(gpointer)call->fds->data : NULL;
}

void xldrv_call_return_fd(XldrvCall *call, int fd)
{
    if (!call->return_fds)
        call->return_fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_array_append_val(call->return_fds, fd);
}

void xldrv_call_after_reply(XldrvCall *call, GDestroyNotify fn, gpointer user_data)
{
    AfterReply after = {fn, user_data};
    if (!call->after)
        call->after = g_array_new(FALSE, FALSE, sizeof(after));
    g_array_append_val(call->after, after);
}

/* ---- for calls that are passed on */

GByteArray *xldrv_call_take_payload(XldrvCall *call)
{
    return g_steal_pointer(&call->payload);
}

void xldrv_call_reply_raw(XldrvCall *call, XldrvMessage *reply)
{
    call->reply = reply;
    call_finish(call);
}

void xldrv_call_reply_error(XldrvCall *call, XldrvServer *server, const GError *error)
{
    call_fail(call, server, error);
    call_finish(call);
}
