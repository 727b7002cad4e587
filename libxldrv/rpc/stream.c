/* stream: data between a client and a descriptor, in packets of the opening call's serial.
 *
 * Of our data one packet at a time is queued for the client: the next is read when it has left. The
 * client's data waits in input until the descriptor takes it, and the client is not read while too
 * much waits (client-io.c). The end of the descriptor's data is an empty packet; the stream lasts
 * until the client finishes or aborts it, and a finish is confirmed when all its data has been
 * written. */
#include "config.h"

#include "libxldrv/rpc/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "libxldrv/rpc/client.h"
#include "libxldrv/rpc/dispatch.h"
#include "libxldrv/rpc/stream-io.h"

struct _XldrvStream {
    /* Immutable. */
    XldrvClient *client; /* reference */
    XldrvHeader header;  /* of the opening call */
    gboolean can_read, can_write;
    XldrvStreamClosedFn closed;
    gpointer user_data;

    gatomicrefcount refs;

    /* Main loop. */
    int fd;            /* until io has it */
    XldrvStreamIo *io; /* while started and not over */
    gboolean started, over;
    gboolean packet_queued, end_sent;
    gboolean finishing;  /* the client wants to hear that all is written */
    gboolean discarding; /* nobody takes the client's data any more */
    GByteArray *input;
    gsize input_written;
    GError *abort_error; /* said before the start */
};

XldrvStream *xldrv_stream_ref(XldrvStream *stream)
{
    g_atomic_ref_count_inc(&stream->refs);
    return stream;
}

void xldrv_stream_unref(XldrvStream *stream)
{
    if (!g_atomic_ref_count_dec(&stream->refs))
        return;
    if (stream->fd >= 0)
        close(stream->fd);
    g_byte_array_unref(stream->input);
    g_clear_error(&stream->abort_error);
    xldrv_client_unref(stream->client);
    g_free(stream);
}

XldrvStream *xldrv_stream_new_fd(XldrvCall *call, int fd, XldrvStreamClosedFn closed,
                                 gpointer user_data)
{
    XldrvStream *stream = g_new0(XldrvStream, 1);
    int mode = fcntl(fd, F_GETFL) & O_ACCMODE;

    g_atomic_ref_count_init(&stream->refs);
    stream->client = xldrv_client_ref(xldrv_call_client(call));
    stream->header = *xldrv_call_header(call);
    stream->can_read = mode != O_WRONLY;
    stream->can_write = mode != O_RDONLY;
    stream->closed = closed;
    stream->user_data = user_data;
    stream->fd = fd;
    stream->input = g_byte_array_new();
    xldrv_call_set_stream(call, xldrv_stream_ref(stream));
    return stream;
}

/* ---- its end */

void xldrv_stream_drop(XldrvStream *stream)
{
    XldrvClient *client = stream->client;

    if (stream->over)
        return;
    stream->over = TRUE;
    g_clear_pointer(&stream->io, xldrv_stream_io_close);
    if (stream->fd >= 0)
        close(stream->fd);
    stream->fd = -1;
    client->stream_bytes -= stream->input->len - stream->input_written;
    if (stream->closed)
        stream->closed(stream, stream->user_data);
    if (stream->started) {
        g_hash_table_remove(client->streams, GUINT_TO_POINTER(stream->header.serial));
        xldrv_client_update(client);
        xldrv_stream_unref(stream);
    }
}

void xldrv_stream_drop_all(XldrvClient *client)
{
    g_autoptr(GList) streams = g_hash_table_get_values(client->streams);
    for (GList *l = streams; l; l = l->next)
        xldrv_stream_drop(l->data);
}

static XldrvMessage *packet_new(XldrvStream *stream, XldrvOutKind kind, XldrvStatus status,
                                const guint8 *data, gsize n)
{
    XldrvHeader header = stream->header;
    header.type = XLDRV_TYPE_STREAM;
    header.status = status;
    XldrvMessage *message = xldrv_message_new(kind, &header);
    if (n > 0)
        g_byte_array_append(message->bytes, data, n);
    xldrv_message_seal(message);
    return message;
}

static void confirm(XldrvStream *stream)
{
    g_autoptr(XldrvStream) keep = xldrv_stream_ref(stream);
    xldrv_client_queue(stream->client,
                       packet_new(stream, XLDRV_OUT_PLAIN, XLDRV_STATUS_OK, NULL, 0));
    xldrv_stream_drop(stream);
}

static void fail(XldrvStream *stream, const GError *error)
{
    g_autoptr(XldrvStream) keep = xldrv_stream_ref(stream);
    if (stream->client->server)
        xldrv_client_queue(stream->client,
                           xldrv_error_message(stream->client->server, XLDRV_OUT_PLAIN,
                                               &stream->header, XLDRV_TYPE_STREAM, error));
    xldrv_stream_drop(stream);
}

static void fail_errno(XldrvStream *stream, const char *what, int error_number)
{
    g_autoptr(GError) error = NULL;
    xldrv_set_system_error(&error, error_number, "%s", what);
    fail(stream, error);
}

typedef struct {
    XldrvStream *stream;
    GError *error;
} Abort;

static void abort_stream(gpointer data)
{
    Abort *order = data;
    XldrvStream *stream = order->stream;

    if (stream->started && !stream->over)
        fail(stream, order->error);
    else if (!stream->over && !stream->abort_error)
        stream->abort_error = g_steal_pointer(&order->error);
    g_clear_error(&order->error);
    xldrv_stream_unref(stream);
    g_free(order);
}

void xldrv_stream_abort(XldrvStream *stream, virErrorNumber code, const char *message)
{
    Abort *order = g_new0(Abort, 1);
    order->stream = xldrv_stream_ref(stream);
    xldrv_set_error(&order->error, code, "%s", message);
    xldrv_mailbox_post(stream->client->mailbox, abort_stream, order);
}

/* ---- to the client */

static gboolean is_hang_up(gssize n)
{
    /* EIO is how the master of a terminal says that its other side is closed. */
    return n == -EIO || n == -EPIPE || n == -ECONNRESET;
}

static void on_read(gpointer data, const guint8 *bytes, gssize n)
{
    g_autoptr(XldrvStream) stream = xldrv_stream_ref(data);

    if (n < 0 && !is_hang_up(n)) {
        fail_errno(stream, "cannot read from stream", (int)-n);
        return;
    }
    stream->end_sent = n <= 0;
    stream->packet_queued = TRUE;
    XldrvMessage *message =
        packet_new(stream, XLDRV_OUT_STREAM, XLDRV_STATUS_CONTINUE, bytes, MAX(n, 0));
    message->stream = xldrv_stream_ref(stream);
    xldrv_client_queue(stream->client, message);
}

void xldrv_stream_packet_sent(XldrvStream *stream)
{
    stream->packet_queued = FALSE;
    if (!stream->over && stream->can_read && !stream->end_sent)
        xldrv_stream_io_want_read(stream->io);
}

/* ---- from the client */

/* @n more bytes of the input are done. */
static void consume(XldrvStream *stream, gsize n)
{
    stream->client->stream_bytes -= n;
    stream->input_written += n;
    if (stream->input_written < stream->input->len) {
        xldrv_stream_io_want_write(stream->io);
    } else {
        g_byte_array_set_size(stream->input, 0);
        stream->input_written = 0;
        if (stream->finishing) {
            confirm(stream);
            return;
        }
    }
    xldrv_client_update(stream->client);
}

static const guint8 *on_pending(gpointer data, gsize *n)
{
    XldrvStream *stream = data;
    *n = stream->input->len - stream->input_written;
    return stream->input->data + stream->input_written;
}

static void on_wrote(gpointer data, gssize n)
{
    g_autoptr(XldrvStream) stream = xldrv_stream_ref(data);

    if (n >= 0) {
        consume(stream, n);
    } else if (stream->can_read && is_hang_up(n)) {
        /* The client hears of it by the end of what it reads. */
        stream->discarding = TRUE;
        consume(stream, stream->input->len - stream->input_written);
    } else {
        fail_errno(stream, "cannot write to stream", (int)-n);
    }
}

static void receive_data(XldrvStream *stream, const GByteArray *payload)
{
    if (stream->finishing || stream->discarding || payload->len == 0)
        return;
    if (!stream->can_write) {
        fail_errno(stream, "cannot write to stream", EBADF);
        return;
    }
    stream->client->stream_bytes += payload->len;
    g_byte_array_append(stream->input, payload->data, payload->len);
    xldrv_stream_io_want_write(stream->io);
}

void xldrv_stream_receive(XldrvClient *client, const XldrvHeader *header, const GByteArray *payload)
{
    XldrvStream *found = g_hash_table_lookup(client->streams, GUINT_TO_POINTER(header->serial));
    if (!found || found->header.program != header->program ||
        found->header.procedure != header->procedure)
        return;

    g_autoptr(XldrvStream) stream = xldrv_stream_ref(found);
    switch (header->status) {
    case XLDRV_STATUS_CONTINUE:
        receive_data(stream, payload);
        break;
    case XLDRV_STATUS_OK:
        stream->finishing = TRUE;
        if (stream->input->len == 0)
            confirm(stream);
        break;
    default:
        confirm(stream);
        break;
    }
}

/* ---- its beginning */

static const XldrvStreamIoFns io_fns = {.read = on_read, .pending = on_pending, .wrote = on_wrote};

void xldrv_stream_start(XldrvStream *stream)
{
    XldrvClient *client = stream->client;

    if (!client->server ||
        g_hash_table_contains(client->streams, GUINT_TO_POINTER(stream->header.serial))) {
        xldrv_stream_drop(stream);
        return;
    }
    stream->started = TRUE;
    g_hash_table_insert(client->streams, GUINT_TO_POINTER(stream->header.serial),
                        xldrv_stream_ref(stream));
    if (stream->abort_error) {
        fail(stream, stream->abort_error);
        return;
    }
    stream->io = xldrv_stream_io_new(client->server, stream->fd, &io_fns, stream);
    stream->fd = -1;
    if (stream->can_read)
        xldrv_stream_io_want_read(stream->io);
}
