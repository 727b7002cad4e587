/* test-server: procedures that exercise the server, and the raw client. */
#include "config.h"

#include "libxldrv/rpc/test-server.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libxldrv/rpc/codec.h"
#include "libxldrv/rpc/error.h"

/* Handlers have no other way to the test. */
static TestServer *current;

/* ---- handlers */

static GVariant *nothing(void)
{
    return g_variant_new_tuple(NULL, 0);
}

static GVariant *handle_open(XldrvCall *call, GVariant *args, GError **error G_GNUC_UNUSED)
{
    guint32 flags;
    g_variant_get(args, "(u)", &flags);
    if (flags & 1)
        xldrv_client_set_readonly(xldrv_call_client(call));
    xldrv_client_set_open(xldrv_call_client(call));
    return nothing();
}

static GVariant *handle_close(XldrvCall *call, GVariant *args G_GNUC_UNUSED,
                              GError **error G_GNUC_UNUSED)
{
    xldrv_client_close(xldrv_call_client(call));
    return nothing();
}

static GVariant *handle_echo(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                             GError **error G_GNUC_UNUSED)
{
    return g_variant_ref(args);
}

static GVariant *handle_block(XldrvCall *call G_GNUC_UNUSED, GVariant *args G_GNUC_UNUSED,
                              GError **error G_GNUC_UNUSED)
{
    g_mutex_lock(&current->lock);
    current->n_blocked++;
    g_cond_broadcast(&current->changed);
    while (!current->released)
        g_cond_wait(&current->changed, &current->lock);
    g_mutex_unlock(&current->lock);
    return nothing();
}

static GVariant *handle_look_up(XldrvCall *call, GVariant *args, GError **error)
{
    const char *text;

    g_variant_get(args, "(&s)", &text);
    if (strcmp(text, "wait") == 0) {
        if (xldrv_call_put_off(call))
            return NULL;
        g_assert_true(g_thread_self() != current->thread);
        g_variant_unref(g_variant_ref_sink(handle_block(call, args, error)));
    } else {
        g_assert_true(g_thread_self() == current->thread);
    }
    return g_variant_ref(args);
}

static GVariant *handle_quick(XldrvCall *call G_GNUC_UNUSED, GVariant *args G_GNUC_UNUSED,
                              GError **error G_GNUC_UNUSED)
{
    return nothing();
}

static GVariant *handle_fail(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    gint32 code;
    g_variant_get(args, "(i)", &code);
    if (code == VIR_ERR_SYSTEM_ERROR)
        xldrv_set_system_error(error, ENOSPC, "cannot write");
    else
        xldrv_set_error(error, code, "%s", "detail");
    return NULL;
}

static GVariant *handle_foreign_error(XldrvCall *call G_GNUC_UNUSED, GVariant *args G_GNUC_UNUSED,
                                      GError **error)
{
    g_set_error_literal(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC, "no room");
    return NULL;
}

static void on_stream_closed(XldrvStream *stream G_GNUC_UNUSED, gpointer user_data)
{
    TestServer *server = user_data;
    g_mutex_lock(&server->lock);
    server->n_streams_closed++;
    g_cond_broadcast(&server->changed);
    g_mutex_unlock(&server->lock);
}

static void keep_stream(XldrvStream *stream, int far)
{
    g_mutex_lock(&current->lock);
    g_clear_pointer(&current->stream, xldrv_stream_unref);
    current->stream = stream;
    current->far = far;
    if (far >= 0)
        g_array_append_val(current->fars, far);
    g_mutex_unlock(&current->lock);
}

static GVariant *handle_console(XldrvCall *call, GVariant *args G_GNUC_UNUSED,
                                GError **error G_GNUC_UNUSED)
{
    int fds[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
    keep_stream(xldrv_stream_new_fd(call, fds[0], on_stream_closed, current), fds[1]);
    return nothing();
}

static GVariant *handle_failing_stream(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(GVariant) reply = g_variant_ref_sink(handle_console(call, args, error));
    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "after all");
    return NULL;
}

static GVariant *stream_file(XldrvCall *call, int flags)
{
    int fd = open(current->file, flags | O_CLOEXEC, 0600);
    g_assert_cmpint(fd, >=, 0);
    keep_stream(xldrv_stream_new_fd(call, fd, on_stream_closed, current), -1);
    return nothing();
}

static GVariant *handle_download(XldrvCall *call, GVariant *args G_GNUC_UNUSED,
                                 GError **error G_GNUC_UNUSED)
{
    return stream_file(call, O_RDONLY);
}

static GVariant *handle_upload(XldrvCall *call, GVariant *args G_GNUC_UNUSED,
                               GError **error G_GNUC_UNUSED)
{
    return stream_file(call, O_WRONLY | O_CREAT | O_TRUNC);
}

static GVariant *handle_take_fd(XldrvCall *call, GVariant *args G_GNUC_UNUSED, GError **error)
{
    guint n;
    const int *fds = xldrv_call_fds(call, &n);
    char text[16] = "";
    if (n != 1) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%u descriptors", n);
        return NULL;
    }
    g_assert_cmpint(fcntl(fds[0], F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
    g_assert_cmpint(read(fds[0], text, sizeof(text) - 1), >, 0);
    return g_variant_new("(s)", text);
}

static GVariant *handle_give_fd(XldrvCall *call, GVariant *args G_GNUC_UNUSED,
                                GError **error G_GNUC_UNUSED)
{
    int fds[2];
    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    g_assert_cmpint(write(fds[1], "given", 5), ==, 5);
    close(fds[1]);
    xldrv_call_return_fd(call, fds[0]);
    return nothing();
}

static void send_first_event(gpointer client)
{
    xldrv_client_send_event(client, TEST_PROGRAM, TEST_EVENT, g_variant_new("(is)", 7, "first"));
}

static GVariant *handle_subscribe(XldrvCall *call, GVariant *args G_GNUC_UNUSED,
                                  GError **error G_GNUC_UNUSED)
{
    xldrv_call_after_reply(call, send_first_event, xldrv_call_client(call));
    return g_variant_new("(i)", 7);
}

static GVariant *handle_flood(XldrvCall *call, GVariant *args G_GNUC_UNUSED,
                              GError **error G_GNUC_UNUSED)
{
    g_autofree char *text = g_strnfill(65536, 'e');
    for (int i = 0; i < 1024; i++)
        xldrv_client_send_event(xldrv_call_client(call), TEST_PROGRAM, TEST_EVENT,
                                g_variant_new("(is)", i, text));
    return nothing();
}

static GVariant *handle_keepalive(XldrvCall *call, GVariant *args G_GNUC_UNUSED,
                                  GError **error G_GNUC_UNUSED)
{
    xldrv_client_start_keepalive(xldrv_call_client(call));
    return nothing();
}

#define RO XLDRV_PROC_READONLY_OK
#define ROW(n, args_, ret_, flags_, handler_)                                                      \
    [n - 1] = {n, #n, args_, ret_, "", "", flags_, handler_}

static XldrvProcedure procedures[TEST_N_PROCEDURES] = {
    ROW(TEST_OPEN, "u", "", RO | XLDRV_PROC_NO_OPEN, handle_open),
    ROW(TEST_CLOSE, "", "", RO | XLDRV_PROC_NO_OPEN, handle_close),
    ROW(TEST_ECHO, "s", "s", RO, handle_echo),
    ROW(TEST_BLOCK, "", "", RO, handle_block),
    ROW(TEST_QUICK, "", "", RO | XLDRV_PROC_HIGH, handle_quick),
    ROW(TEST_FAIL, "i", "", RO, handle_fail),
    ROW(TEST_CONSOLE, "", "", XLDRV_PROC_STREAM, handle_console),
    ROW(TEST_TAKE_FD, "", "s", XLDRV_PROC_FDS_IN, handle_take_fd),
    ROW(TEST_GIVE_FD, "", "", XLDRV_PROC_FDS_OUT, handle_give_fd),
    ROW(TEST_SUBSCRIBE, "", "i", RO, handle_subscribe),
    ROW(TEST_EVENT, "", "is", XLDRV_PROC_EVENT, NULL),
    ROW(TEST_CHANGE, "", "", 0, handle_quick),
    ROW(TEST_UNSERVED, "", "", RO, NULL),
    ROW(TEST_KEEPALIVE, "", "", RO, handle_keepalive),
    ROW(TEST_FLOOD, "", "", RO, handle_flood),
    ROW(TEST_WRONG_TYPE, "", "i", RO, handle_quick),
    ROW(TEST_DOWNLOAD, "", "", XLDRV_PROC_STREAM, handle_download),
    ROW(TEST_UPLOAD, "", "", XLDRV_PROC_STREAM, handle_upload),
    ROW(TEST_FOREIGN_ERROR, "", "", RO, handle_foreign_error),
    ROW(TEST_NO_STREAM, "", "", XLDRV_PROC_STREAM, handle_quick),
    ROW(TEST_FAILING_STREAM, "", "", XLDRV_PROC_STREAM, handle_failing_stream),
    ROW(TEST_LOOK_UP, "s", "s", RO | XLDRV_PROC_LOOP, handle_look_up),
    [65] = {66, "AUTH_LIST", "", "ai", "20", "", RO | XLDRV_PROC_NO_AUTH | XLDRV_PROC_NO_OPEN,
            NULL},
    [66] = {67, "AUTH_SASL_INIT", "", "s", "", "", RO | XLDRV_PROC_NO_AUTH | XLDRV_PROC_NO_OPEN,
            NULL},
    [69] = {70, "AUTH_POLKIT", "", "i", "", "", RO | XLDRV_PROC_NO_AUTH | XLDRV_PROC_NO_OPEN, NULL},
};

static const XldrvProgram program = {TEST_PROGRAM, 1, procedures, TEST_N_PROCEDURES};

static void fill_unused(void)
{
    for (guint i = 0; i < TEST_N_PROCEDURES; i++)
        if (!procedures[i].name)
            procedures[i] = (XldrvProcedure){i + 1, "UNUSED", "", "", "", "", 0, NULL};
}

/* ---- the server */

static void on_client_closed(XldrvClient *client G_GNUC_UNUSED, gpointer user_data)
{
    TestServer *server = user_data;
    g_mutex_lock(&server->lock);
    server->n_closed++;
    g_cond_broadcast(&server->changed);
    g_mutex_unlock(&server->lock);
}

static virErrorNumber code_of(const GError *error)
{
    return g_error_matches(error, G_FILE_ERROR, G_FILE_ERROR_NOSPC) ? VIR_ERR_OPERATION_FAILED
                                                                    : VIR_ERR_OK;
}

static gpointer serve(gpointer data)
{
    TestServer *test = data;
    g_autoptr(GError) error = NULL;

    g_main_context_push_thread_default(test->context);
    XldrvServer *server = xldrv_server_new("test", &test->limits);
    xldrv_server_add_program(server, &program);
    xldrv_server_set_client_closed(server, on_client_closed, test);
    xldrv_server_set_error_code(server, code_of);
    xldrv_server_listen_unix(server, test->path, 0666, &(XldrvListen){.auth = XLDRV_AUTH_POLKIT}, &error);
    g_assert_no_error(error);
    xldrv_server_listen_unix(server, test->readonly_path, 0666, &(XldrvListen){.readonly = TRUE}, &error);
    g_assert_no_error(error);

    g_mutex_lock(&test->lock);
    test->ready = TRUE;
    g_cond_broadcast(&test->changed);
    g_mutex_unlock(&test->lock);
    g_main_loop_run(test->loop);
    xldrv_server_free(server);
    g_main_context_pop_thread_default(test->context);
    return NULL;
}

TestServer *test_server_start(const XldrvLimits *limits)
{
    TestServer *server = g_new0(TestServer, 1);
    g_autoptr(GError) error = NULL;

    fill_unused();
    server->limits = *limits;
    server->far = -1;
    server->fars = g_array_new(FALSE, FALSE, sizeof(int));
    server->dir = g_dir_make_tmp("xldrv-XXXXXX", &error);
    g_assert_no_error(error);
    g_assert_cmpint(g_chmod(server->dir, 0755), ==, 0);
    server->path = g_build_filename(server->dir, "sock", NULL);
    server->readonly_path = g_build_filename(server->dir, "sock-ro", NULL);
    server->file = g_build_filename(server->dir, "file", NULL);
    server->context = g_main_context_new();
    server->loop = g_main_loop_new(server->context, FALSE);
    g_mutex_init(&server->lock);
    g_cond_init(&server->changed);
    current = server;
    server->thread = g_thread_new("server", serve, server);
    test_server_wait(server, (const guint *)&server->ready, TRUE);
    return server;
}

void test_server_stop(TestServer *server)
{
    g_main_loop_quit(server->loop);
    g_thread_join(server->thread);
    g_clear_pointer(&server->stream, xldrv_stream_unref);
    for (guint i = 0; i < server->fars->len; i++)
        close(g_array_index(server->fars, int, i));
    g_array_unref(server->fars);
    g_assert_false(g_file_test(server->path, G_FILE_TEST_EXISTS));
    g_unlink(server->file);
    g_assert_cmpint(g_rmdir(server->dir), ==, 0);
    g_main_loop_unref(server->loop);
    g_main_context_unref(server->context);
    g_mutex_clear(&server->lock);
    g_cond_clear(&server->changed);
    g_free(server->dir);
    g_free(server->path);
    g_free(server->readonly_path);
    g_free(server->file);
    g_free(server);
    current = NULL;
}

void test_server_release(TestServer *server)
{
    g_mutex_lock(&server->lock);
    server->released = TRUE;
    g_cond_broadcast(&server->changed);
    g_mutex_unlock(&server->lock);
}

void test_server_wait(TestServer *server, const guint *counter, guint value)
{
    gint64 until = g_get_monotonic_time() + 10 * G_TIME_SPAN_SECOND;
    g_mutex_lock(&server->lock);
    while (*counter != value)
        if (!g_cond_wait_until(&server->changed, &server->lock, until))
            g_error("%u instead of %u", *counter, value);
    g_mutex_unlock(&server->lock);
}

/* ---- the client */

int test_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = 10};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)), ==, 0);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return fd;
}

int test_open(TestServer *server)
{
    int fd = test_connect(server->path);
    test_send(fd, TEST_OPEN, XLDRV_TYPE_CALL, 0, 0, "\0\0\0\0", 4);
    g_byte_array_unref(test_receive_reply(fd, TEST_OPEN, 0));
    return fd;
}

GByteArray *test_string(const char *text)
{
    GByteArray *bytes = g_byte_array_new();
    gsize length = strlen(text);
    guint32 word = GUINT32_TO_BE(length);
    g_byte_array_append(bytes, (const guint8 *)&word, 4);
    g_byte_array_append(bytes, (const guint8 *)text, length);
    g_byte_array_append(bytes, (const guint8 *)"\0\0\0", (4 - length % 4) % 4);
    return bytes;
}

static void send_all(int fd, const void *data, gsize length)
{
    for (const guint8 *at = data; length > 0;) {
        gssize n = send(fd, at, length, MSG_NOSIGNAL);
        g_assert_cmpint(n, >, 0);
        at += n;
        length -= n;
    }
}

void test_send_header(int fd, const XldrvHeader *header)
{
    guint32 words[] = {header->length, header->program, header->version, (guint32)header->procedure,
                       header->type,   header->serial,  header->status};
    for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
        words[i] = GUINT32_TO_BE(words[i]);
    send_all(fd, words, sizeof(words));
}

void test_send(int fd, gint32 procedure, guint32 type, guint32 serial, guint32 status,
               const void *payload, gsize length)
{
    XldrvHeader header = {
        XLDRV_HEADER_SIZE + length, TEST_PROGRAM, 1, procedure, type, serial, status};
    test_send_header(fd, &header);
    send_all(fd, payload, length);
}

void test_call(int fd, gint32 procedure, guint32 serial)
{
    test_send(fd, procedure, XLDRV_TYPE_CALL, serial, 0, NULL, 0);
}

static void receive_all(int fd, guint8 *data, gsize length)
{
    while (length > 0) {
        gssize n = recv(fd, data, length, 0);
        if (n <= 0)
            g_error("%s with %zu bytes to come", n == 0 ? "end" : g_strerror(errno), length);
        data += n;
        length -= n;
    }
}

GByteArray *test_receive(int fd, XldrvHeader *header)
{
    guint8 bytes[XLDRV_HEADER_SIZE];
    receive_all(fd, bytes, sizeof(bytes));
    xldrv_header_decode(bytes, header);
    g_assert_cmpuint(header->length, >=, XLDRV_HEADER_SIZE);
    g_assert_cmpuint(header->length, <=, XLDRV_MESSAGE_MAX);
    GByteArray *payload = g_byte_array_new();
    g_byte_array_set_size(payload, header->length - XLDRV_HEADER_SIZE);
    receive_all(fd, payload->data, payload->len);
    return payload;
}

GByteArray *test_receive_reply(int fd, gint32 procedure, guint32 serial)
{
    XldrvHeader header;
    GByteArray *payload = test_receive(fd, &header);
    g_assert_cmphex(header.program, ==, TEST_PROGRAM);
    g_assert_cmpuint(header.version, ==, 1);
    g_assert_cmpint(header.procedure, ==, procedure);
    g_assert_true(header.type == XLDRV_TYPE_REPLY || header.type == XLDRV_TYPE_REPLY_WITH_FDS);
    g_assert_cmpuint(header.serial, ==, serial);
    g_assert_cmpuint(header.status, ==, XLDRV_STATUS_OK);
    return payload;
}

void test_receive_error(int fd, guint32 type, guint32 serial, int code, int from, const char *text)
{
    XldrvHeader header;
    const char *limits = "", *message;
    gint32 got_code, got_from, level;
    g_autoptr(GError) error = NULL;

    g_autoptr(GByteArray) payload = test_receive(fd, &header);
    g_assert_cmpuint(header.type, ==, type);
    g_assert_cmpuint(header.serial, ==, serial);
    g_assert_cmpuint(header.status, ==, XLDRV_STATUS_ERROR);

    g_autoptr(XldrvCodec) codec = xldrv_codec_new(XLDRV_ERROR_SIGNATURE, &limits, &error);
    gsize used;
    g_autoptr(GVariant) value =
        xldrv_codec_decode(codec, payload->data, payload->len, &used, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(used, ==, payload->len);
    g_variant_get_child(value, 0, "i", &got_code);
    g_variant_get_child(value, 1, "i", &got_from);
    g_variant_get_child(value, 2, "m&s", &message);
    g_variant_get_child(value, 3, "i", &level);
    g_assert_cmpint(got_code, ==, code);
    g_assert_cmpint(got_from, ==, from);
    g_assert_cmpint(level, ==, VIR_ERR_ERROR);
    g_assert_nonnull(message);
    if (!strstr(message, text))
        g_error("'%s' is not in '%s'", text, message);
}

GByteArray *test_receive_stream(int fd, guint32 serial, guint32 status)
{
    XldrvHeader header;
    GByteArray *payload = test_receive(fd, &header);
    g_assert_cmpuint(header.type, ==, XLDRV_TYPE_STREAM);
    g_assert_cmpuint(header.serial, ==, serial);
    g_assert_cmpuint(header.status, ==, status);
    return payload;
}

void test_receive_end(int fd)
{
    guint8 byte;
    gssize n = recv(fd, &byte, 1, 0);
    g_assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
}
