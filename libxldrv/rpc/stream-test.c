/* stream-test: streams and descriptors between a client of raw bytes and a real server. */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/rpc/test-server.h"

#define BULK (8 * 1024 * 1024 + 17)

static void send_data(int fd, gint32 procedure, guint32 serial, const void *data, gsize length)
{
    test_send(fd, procedure, XLDRV_TYPE_STREAM, serial, XLDRV_STATUS_CONTINUE, data, length);
}

static int open_console(TestServer *server, guint32 serial)
{
    int fd = test_open(server);
    test_call(fd, TEST_CONSOLE, serial);
    g_byte_array_unref(test_receive_reply(fd, TEST_CONSOLE, serial));
    return fd;
}

static void assert_far(TestServer *server, const char *text)
{
    char got[64] = "";
    g_assert_cmpint(recv(server->far, got, strlen(text), MSG_WAITALL), ==, strlen(text));
    g_assert_cmpstr(got, ==, text);
}

static void test_console(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    int fd = open_console(server, 3);

    g_assert_cmpint(send(server->far, "login:", 6, 0), ==, 6);
    g_autoptr(GByteArray) prompt = test_receive_stream(fd, 3, XLDRV_STATUS_CONTINUE);
    g_assert_cmpmem(prompt->data, prompt->len, "login:", 6);
    send_data(fd, TEST_CONSOLE, 3, "root\n", 5);
    assert_far(server, "root\n");

    /* Nobody's: another procedure, another serial. */
    send_data(fd, TEST_DOWNLOAD, 3, "x", 1);
    send_data(fd, TEST_CONSOLE, 4, "x", 1);
    /* Calls go on beside it. */
    test_call(fd, TEST_QUICK, 5);
    g_byte_array_unref(test_receive_reply(fd, TEST_QUICK, 5));

    /* The end of the data is an empty packet; the stream is over when the client says so. */
    shutdown(server->far, SHUT_WR);
    g_autoptr(GByteArray) end = test_receive_stream(fd, 3, XLDRV_STATUS_CONTINUE);
    g_assert_cmpuint(end->len, ==, 0);
    send_data(fd, TEST_CONSOLE, 3, "bye", 3);
    assert_far(server, "bye");
    test_send(fd, TEST_CONSOLE, XLDRV_TYPE_STREAM, 3, XLDRV_STATUS_OK, NULL, 0);
    g_byte_array_unref(test_receive_stream(fd, 3, XLDRV_STATUS_OK));
    test_server_wait(server, &server->n_streams_closed, 1);

    /* Late packets are ignored. */
    send_data(fd, TEST_CONSOLE, 3, "late", 4);
    test_call(fd, TEST_QUICK, 6);
    g_byte_array_unref(test_receive_reply(fd, TEST_QUICK, 6));
    close(fd);
    test_server_stop(server);
}

static void test_abort(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    int fd = open_console(server, 1);

    test_send(fd, TEST_CONSOLE, XLDRV_TYPE_STREAM, 1, XLDRV_STATUS_ERROR, NULL, 0);
    g_byte_array_unref(test_receive_stream(fd, 1, XLDRV_STATUS_OK));
    test_server_wait(server, &server->n_streams_closed, 1);

    /* From our side. */
    test_call(fd, TEST_CONSOLE, 2);
    g_byte_array_unref(test_receive_reply(fd, TEST_CONSOLE, 2));
    xldrv_stream_abort(server->stream, VIR_ERR_OPERATION_ABORTED, "taken over");
    test_receive_error(fd, XLDRV_TYPE_STREAM, 2, VIR_ERR_OPERATION_ABORTED, VIR_FROM_LIBXL,
                       "operation aborted: taken over");
    test_server_wait(server, &server->n_streams_closed, 2);
    xldrv_stream_abort(server->stream, VIR_ERR_OPERATION_ABORTED, "once more");

    /* By the connection. */
    test_call(fd, TEST_CONSOLE, 3);
    g_byte_array_unref(test_receive_reply(fd, TEST_CONSOLE, 3));
    close(fd);
    test_server_wait(server, &server->n_streams_closed, 3);
    test_server_stop(server);
}

/* The other end goes: end of data, and what is typed afterwards is nobody's business. */
static void test_hang_up(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    int fd = open_console(server, 1);

    shutdown(server->far, SHUT_RDWR);
    g_autoptr(GByteArray) end = test_receive_stream(fd, 1, XLDRV_STATUS_CONTINUE);
    g_assert_cmpuint(end->len, ==, 0);
    send_data(fd, TEST_CONSOLE, 1, "hello?", 6);
    send_data(fd, TEST_CONSOLE, 1, "hello?", 6);
    test_send(fd, TEST_CONSOLE, XLDRV_TYPE_STREAM, 1, XLDRV_STATUS_OK, NULL, 0);
    g_byte_array_unref(test_receive_stream(fd, 1, XLDRV_STATUS_OK));
    close(fd);
    test_server_stop(server);
}

static void test_handlers(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    int fd = test_open(server);

    test_call(fd, TEST_NO_STREAM, 1);
    test_receive_error(fd, XLDRV_TYPE_REPLY, 1, VIR_ERR_INTERNAL_ERROR, VIR_FROM_LIBXL,
                       "made no stream");
    test_call(fd, TEST_FAILING_STREAM, 2);
    test_receive_error(fd, XLDRV_TYPE_REPLY, 2, VIR_ERR_OPERATION_FAILED, VIR_FROM_LIBXL,
                       "after all");
    test_server_wait(server, &server->n_streams_closed, 1);

    /* A serial has one stream; a connection not too many. */
    for (guint32 serial = 100; serial < 164; serial++) {
        test_call(fd, TEST_CONSOLE, serial);
        g_byte_array_unref(test_receive_reply(fd, TEST_CONSOLE, serial));
        if (serial == 100) {
            test_call(fd, TEST_CONSOLE, serial);
            test_receive_error(fd, XLDRV_TYPE_REPLY, serial, VIR_ERR_RPC, VIR_FROM_RPC,
                               "already has a stream");
        }
    }
    test_call(fd, TEST_CONSOLE, 200);
    test_receive_error(fd, XLDRV_TYPE_REPLY, 200, VIR_ERR_OPERATION_FAILED, VIR_FROM_LIBXL,
                       "more than 64 streams");
    close(fd);
    test_server_wait(server, &server->n_streams_closed, 65);
    test_server_stop(server);
}

static void test_hole(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    int fd = open_console(server, 1);

    test_send(fd, TEST_CONSOLE, XLDRV_TYPE_STREAM_HOLE, 1, XLDRV_STATUS_CONTINUE,
              "\0\0\0\0\0\0\0\1\0\0\0\0", 12);
    test_receive_end(fd);
    close(fd);
    test_server_stop(server);
}

static char *bulk_data(void)
{
    char *data = g_malloc(BULK);
    for (gsize i = 0; i < BULK; i++)
        data[i] = (char)(i * 2654435761u >> 13);
    return data;
}

static void test_files(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    g_autofree char *data = bulk_data();
    g_autofree char *written = NULL;
    g_autoptr(GByteArray) got = g_byte_array_new();
    gsize length;
    int fd = test_open(server);

    test_call(fd, TEST_UPLOAD, 1);
    g_byte_array_unref(test_receive_reply(fd, TEST_UPLOAD, 1));
    for (gsize at = 0; at < BULK; at += 300000)
        send_data(fd, TEST_UPLOAD, 1, data + at, MIN(300000, BULK - at));
    /* Confirmed when everything is written. */
    test_send(fd, TEST_UPLOAD, XLDRV_TYPE_STREAM, 1, XLDRV_STATUS_OK, NULL, 0);
    g_byte_array_unref(test_receive_stream(fd, 1, XLDRV_STATUS_OK));
    g_assert_true(g_file_get_contents(server->file, &written, &length, NULL));
    g_assert_cmpmem(written, length, data, BULK);

    test_call(fd, TEST_DOWNLOAD, 2);
    g_byte_array_unref(test_receive_reply(fd, TEST_DOWNLOAD, 2));
    for (;;) {
        g_autoptr(GByteArray) packet = test_receive_stream(fd, 2, XLDRV_STATUS_CONTINUE);
        if (packet->len == 0)
            break;
        g_assert_cmpuint(packet->len, <=, 262120);
        g_byte_array_append(got, packet->data, packet->len);
    }
    g_assert_cmpmem(got->data, got->len, data, BULK);
    send_data(fd, TEST_DOWNLOAD, 2, "up", 2);
    test_receive_error(fd, XLDRV_TYPE_STREAM, 2, VIR_ERR_SYSTEM_ERROR, VIR_FROM_LIBXL,
                       "cannot write to stream");
    test_server_wait(server, &server->n_streams_closed, 2);

    /* A client that goes in the middle. */
    test_call(fd, TEST_DOWNLOAD, 3);
    g_byte_array_unref(test_receive_reply(fd, TEST_DOWNLOAD, 3));
    g_byte_array_unref(test_receive_stream(fd, 3, XLDRV_STATUS_CONTINUE));
    close(fd);
    test_server_wait(server, &server->n_streams_closed, 3);
    test_server_stop(server);
}

/* What nobody takes is not read for ever: the client's sends stop, and go on when it is taken. */
static void test_backpressure(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    g_autofree char *data = bulk_data();
    struct timeval soon = {.tv_usec = 200000};
    int fd = open_console(server, 1);
    gsize sent = 0, taken = 0;

    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon));
    const guint32 size = 65536;
    g_autofree guint8 *packet = g_malloc0(28 + size);
    guint32 words[7] = {28 + size, TEST_PROGRAM,         1, TEST_CONSOLE, XLDRV_TYPE_STREAM,
                        1,         XLDRV_STATUS_CONTINUE};
    for (int i = 0; i < 7; i++)
        words[i] = GUINT32_TO_BE(words[i]);
    memcpy(packet, words, sizeof(words));
    gssize n = 28 + size, rest = 0;
    while (sent < 100 * size && n == 28 + (gssize)size) {
        memcpy(packet + 28, data + sent % size, size);
        n = send(fd, packet, 28 + size, MSG_NOSIGNAL);
        sent += size;
    }
    g_assert_cmpuint(sent, <, 60 * size);
    rest = 28 + size - MAX(n, 0);

    while (taken < sent) {
        guint8 buffer[65536];
        gssize got = recv(server->far, buffer, sizeof(buffer), MSG_DONTWAIT);
        if (got > 0)
            taken += got;
        else if (rest > 0 &&
                 (n = send(fd, packet + 28 + size - rest, rest, MSG_NOSIGNAL | MSG_DONTWAIT)) > 0)
            rest -= n;
        else
            g_usleep(1000);
    }
    test_send(fd, TEST_CONSOLE, XLDRV_TYPE_STREAM, 1, XLDRV_STATUS_OK, NULL, 0);
    g_byte_array_unref(test_receive_stream(fd, 1, XLDRV_STATUS_OK));
    close(fd);
    test_server_stop(server);
}

/* ---- descriptors */

static void send_fd(int fd, int passed)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {(void *)"", 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    control.header = (struct cmsghdr){
        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(&control.header), &passed, sizeof(int));
    g_assert_cmpint(sendmsg(fd, &msg, 0), ==, 1);
}

static int receive_fd(int fd)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    char byte;
    int passed;
    struct iovec iov = {&byte, 1};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = sizeof(control)};
    g_assert_cmpint(recvmsg(fd, &msg, 0), ==, 1);
    g_assert_nonnull(CMSG_FIRSTHDR(&msg));
    memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
    return passed;
}

static void test_descriptors(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    int fd = test_open(server), fds[2];
    char text[8] = "";

    /* Two calls in a row, so that a carrier read too early would be missed. */
    g_assert_cmpint(pipe(fds), ==, 0);
    g_assert_cmpint(write(fds[1], "taken", 5), ==, 5);
    test_send(fd, TEST_TAKE_FD, XLDRV_TYPE_CALL_WITH_FDS, 1, 0, "\0\0\0\1", 4);
    send_fd(fd, fds[0]);
    test_call(fd, TEST_QUICK, 2);
    close(fds[0]);
    close(fds[1]);
    for (int i = 0; i < 2; i++) {
        XldrvHeader header;
        g_autoptr(GByteArray) reply = test_receive(fd, &header);
        g_assert_cmpuint(header.status, ==, XLDRV_STATUS_OK);
        if (header.serial == 1)
            g_assert_cmpmem(reply->data, reply->len, "\0\0\0\5taken\0\0\0", 12);
    }

    /* None, by either way of saying so. */
    test_send(fd, TEST_TAKE_FD, XLDRV_TYPE_CALL_WITH_FDS, 3, 0, "\0\0\0\0", 4);
    test_receive_error(fd, XLDRV_TYPE_REPLY, 3, VIR_ERR_INVALID_ARG, VIR_FROM_LIBXL,
                       "0 descriptors");
    test_call(fd, TEST_TAKE_FD, 4);
    test_receive_error(fd, XLDRV_TYPE_REPLY, 4, VIR_ERR_INVALID_ARG, VIR_FROM_LIBXL,
                       "0 descriptors");

    test_call(fd, TEST_GIVE_FD, 5);
    g_autoptr(GByteArray) reply = test_receive_reply(fd, TEST_GIVE_FD, 5);
    g_assert_cmpmem(reply->data, reply->len, "\0\0\0\1", 4);
    int given = receive_fd(fd);
    g_assert_cmpint(read(given, text, sizeof(text)), ==, 5);
    g_assert_cmpstr(text, ==, "given");
    close(given);
    test_call(fd, TEST_QUICK, 6);
    g_byte_array_unref(test_receive_reply(fd, TEST_QUICK, 6));
    close(fd);
    test_server_stop(server);
}

static void test_bad_descriptors(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);

    /* Too many; no count; a carrier that carries nothing. */
    int fd = test_open(server);
    test_send(fd, TEST_TAKE_FD, XLDRV_TYPE_CALL_WITH_FDS, 1, 0, "\0\0\0\41", 4);
    test_receive_end(fd);
    close(fd);
    fd = test_open(server);
    test_send(fd, TEST_TAKE_FD, XLDRV_TYPE_CALL_WITH_FDS, 1, 0, NULL, 0);
    test_receive_end(fd);
    close(fd);
    fd = test_open(server);
    test_send(fd, TEST_TAKE_FD, XLDRV_TYPE_CALL_WITH_FDS, 1, 0, "\0\0\0\1", 4);
    g_assert_cmpint(send(fd, "", 1, 0), ==, 1);
    test_receive_end(fd);
    close(fd);

    /* Descriptors for a call that takes none, and in the middle of other bytes: closed, not kept.
     */
    int fds[2];
    char byte;
    g_assert_cmpint(pipe(fds), ==, 0);
    fd = test_open(server);
    test_send(fd, TEST_QUICK, XLDRV_TYPE_CALL_WITH_FDS, 1, 0, "\0\0\0\1", 4);
    send_fd(fd, fds[1]);
    g_byte_array_unref(test_receive_reply(fd, TEST_QUICK, 1));
    send_fd(fd, fds[1]);
    send_fd(fd, fds[1]);
    close(fds[1]);
    close(fd);
    g_assert_cmpint(read(fds[0], &byte, 1), ==, 0);
    close(fds[0]);
    test_server_stop(server);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/stream/console", test_console);
    g_test_add_func("/stream/abort", test_abort);
    g_test_add_func("/stream/hang-up", test_hang_up);
    g_test_add_func("/stream/handlers", test_handlers);
    g_test_add_func("/stream/hole", test_hole);
    g_test_add_func("/stream/files", test_files);
    g_test_add_func("/stream/backpressure", test_backpressure);
    g_test_add_func("/stream/descriptors", test_descriptors);
    g_test_add_func("/stream/bad-descriptors", test_bad_descriptors);
    return g_test_run();
}
