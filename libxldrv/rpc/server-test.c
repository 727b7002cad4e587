/* server-test: what a server does with clients, good and bad. Every case has a real server on a
 * UNIX socket and a client that writes bytes; after each bad client a good one must be served as if
 * nothing had happened. */
#include "config.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "libxldrv/rpc/activation.h"
#include "libxldrv/rpc/keepalive.h"
#include "libxldrv/rpc/test-server.h"

/* A good client is served. */
static void assert_alive(TestServer *server)
{
    int fd = test_open(server);
    g_autoptr(GByteArray) text = test_string("alive");
    test_send(fd, TEST_ECHO, XLDRV_TYPE_CALL, 1, 0, text->data, text->len);
    g_autoptr(GByteArray) reply = test_receive_reply(fd, TEST_ECHO, 1);
    g_assert_cmpmem(reply->data, reply->len, text->data, text->len);
    close(fd);
}

static void finish(TestServer *server)
{
    assert_alive(server);
    test_server_stop(server);
}

/* The bytes of the protocol's own example: the list of authentication types of a client that needs
 * none. */
static void test_bytes(void)
{
    static const guint8 call[] = {0, 0,    0, 0x1c, 0x20, 0, 0x80, 0x86, 0, 0, 0, 1, 0, 0,
                                  0, 0x42, 0, 0,    0,    0, 0,    0,    0, 9, 0, 0, 0, 0};
    static const guint8 reply[] = {0, 0, 0, 0x24, 0x20, 0, 0x80, 0x86, 0, 0, 0, 1,
                                   0, 0, 0, 0x42, 0,    0, 0,    1,    0, 0, 0, 9,
                                   0, 0, 0, 0,    0,    0, 0,    1,    0, 0, 0, 0};
    TestServer *server = test_server_start(&xldrv_default_limits);
    guint8 got[sizeof(reply)];
    int fd = test_connect(server->path);

    /* One byte at a time is as good as all at once. */
    for (gsize i = 0; i < sizeof(call); i++) {
        g_assert_cmpint(send(fd, call + i, 1, 0), ==, 1);
        g_usleep(1000);
    }
    g_assert_cmpint(recv(fd, got, sizeof(got), MSG_WAITALL), ==, sizeof(got));
    g_assert_cmpmem(got, sizeof(got), reply, sizeof(reply));
    close(fd);
    finish(server);
}

static void test_lengths(void)
{
    static const guint32 lengths[] = {0, 4, 27, 33554437, 0x80000000, 0xffffffff};
    TestServer *server = test_server_start(&xldrv_default_limits);

    for (gsize i = 0; i < G_N_ELEMENTS(lengths); i++) {
        int fd = test_open(server);
        guint32 word = GUINT32_TO_BE(lengths[i]);
        g_assert_cmpint(send(fd, &word, 4, 0), ==, 4);
        test_receive_end(fd);
        close(fd);
    }
    test_server_wait(server, &server->n_closed, G_N_ELEMENTS(lengths));
    finish(server);
}

static void test_garbage(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);

    for (int round = 0; round < 50; round++) {
        int fd = round % 2 ? test_open(server) : test_connect(server->path);
        guint8 bytes[200];
        for (gsize i = 0; i < sizeof(bytes); i++)
            bytes[i] = g_rand_int(rand);
        /* Also with a length that is believed and a program that exists. */
        guint32 words[] = {GUINT32_TO_BE(100), GUINT32_TO_BE(TEST_PROGRAM), GUINT32_TO_BE(1)};
        if (round % 4 < 2)
            memcpy(bytes, words, sizeof(words));
        (void)!send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL);
        close(fd);
    }
    finish(server);
}

static void test_half_message(void)
{
    XldrvLimits limits = xldrv_default_limits;
    limits.stall_timeout = 1;
    TestServer *server = test_server_start(&limits);

    /* Half a length word, half a header, a header that promises 32 MiB. */
    int length = test_open(server), header = test_open(server), payload = test_open(server);
    g_assert_cmpint(send(length, "\0\0", 2, 0), ==, 2);
    g_assert_cmpint(send(header, "\0\0\0\034\040\0\200\206", 8, 0), ==, 8);
    test_send_header(payload, &(XldrvHeader){33554436, TEST_PROGRAM, 1, TEST_ECHO, 0, 1, 0});
    test_receive_end(length);
    test_receive_end(header);
    test_receive_end(payload);
    close(length);
    close(header);
    close(payload);

    /* A client that goes away in the middle. */
    payload = test_open(server);
    test_send_header(payload, &(XldrvHeader){1000, TEST_PROGRAM, 1, TEST_ECHO, 0, 1, 0});
    close(payload);
    test_server_wait(server, &server->n_closed, 4);
    finish(server);
}

static void test_refusals(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    int fd = test_connect(server->path);

    test_call(fd, TEST_QUICK, 1);
    test_receive_error(fd, XLDRV_TYPE_REPLY, 1, VIR_ERR_INTERNAL_ERROR, VIR_FROM_LIBXL,
                       "connection not open");
    close(fd);

    fd = test_open(server);
    test_send_header(fd, &(XldrvHeader){28, 0x20008087, 1, 1, 0, 2, 0});
    test_receive_error(fd, XLDRV_TYPE_REPLY, 2, VIR_ERR_RPC, VIR_FROM_RPC, "Cannot find program");
    test_send_header(fd, &(XldrvHeader){28, TEST_PROGRAM, 2, TEST_QUICK, 0, 3, 0});
    test_receive_error(fd, XLDRV_TYPE_REPLY, 3, VIR_ERR_RPC, VIR_FROM_RPC, "Cannot find program");

    static const gint32 unknown[] = {0,          -1,         TEST_N_PROCEDURES + 1,
                                     G_MAXINT32, G_MININT32, TEST_EVENT};
    for (gsize i = 0; i < G_N_ELEMENTS(unknown); i++) {
        test_call(fd, unknown[i], 4);
        test_receive_error(fd, XLDRV_TYPE_REPLY, 4, VIR_ERR_RPC, VIR_FROM_RPC, "unknown procedure");
    }
    test_send(fd, TEST_QUICK, XLDRV_TYPE_CALL, 5, 1, NULL, 0);
    test_receive_error(fd, XLDRV_TYPE_REPLY, 5, VIR_ERR_RPC, VIR_FROM_RPC,
                       "Unexpected message status 1");
    test_call(fd, TEST_UNSERVED, 6);
    test_receive_error(fd, XLDRV_TYPE_REPLY, 6, VIR_ERR_NO_SUPPORT, VIR_FROM_LIBXL,
                       "this function is not supported by the connection driver: virTestUnserved");
    test_call(fd, 67, 7);
    test_receive_error(fd, XLDRV_TYPE_REPLY, 7, VIR_ERR_AUTH_FAILED, VIR_FROM_RPC, "SASL");

    /* Types that are not for a server are ignored: the answer is that of the call behind them. */
    static const guint32 types[] = {XLDRV_TYPE_REPLY, XLDRV_TYPE_MESSAGE, XLDRV_TYPE_STREAM,
                                    XLDRV_TYPE_REPLY_WITH_FDS, 99};
    for (gsize i = 0; i < G_N_ELEMENTS(types); i++)
        test_send(fd, TEST_QUICK, types[i], 8, 0, NULL, 0);
    test_call(fd, TEST_QUICK, 9);
    g_byte_array_unref(test_receive_reply(fd, TEST_QUICK, 9));
    close(fd);
    finish(server);
}

static void test_arguments(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    int fd = test_open(server);

    test_call(fd, TEST_ECHO, 1);
    test_receive_error(fd, XLDRV_TYPE_REPLY, 1, VIR_ERR_RPC, VIR_FROM_RPC, "ends too early");
    test_send(fd, TEST_ECHO, XLDRV_TYPE_CALL, 2, 0, "\0\0\0\2\303(\0\0", 8);
    test_receive_error(fd, XLDRV_TYPE_REPLY, 2, VIR_ERR_RPC, VIR_FROM_RPC, "UTF-8");
    test_send(fd, TEST_ECHO, XLDRV_TYPE_CALL, 3, 0, "\0\0\0\1a\0\0\0more", 12);
    g_autoptr(GByteArray) reply = test_receive_reply(fd, TEST_ECHO, 3);
    g_assert_cmpmem(reply->data, reply->len, "\0\0\0\1a\0\0\0", 8);
    test_call(fd, TEST_WRONG_TYPE, 4);
    test_receive_error(fd, XLDRV_TYPE_REPLY, 4, VIR_ERR_INTERNAL_ERROR, VIR_FROM_LIBXL,
                       "internal error");

    /* The longest string there may be. */
    g_autofree char *text = g_strnfill(4194304, 'x');
    g_autoptr(GByteArray) longest = test_string(text);
    test_send(fd, TEST_ECHO, XLDRV_TYPE_CALL, 5, 0, longest->data, longest->len);
    g_autoptr(GByteArray) echo = test_receive_reply(fd, TEST_ECHO, 5);
    g_assert_cmpmem(echo->data, echo->len, longest->data, longest->len);
    close(fd);
    finish(server);
}

static void test_errors(void)
{
    static const struct {
        int code;
        const char *text;
    } errors[] = {
        {VIR_ERR_NO_DOMAIN, "Domain not found: detail"},
        {VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: detail"},
        {VIR_ERR_DOM_EXIST, "domain detail exists already"},
        {VIR_ERR_SYSTEM_ERROR, "cannot write: No space left on device"},
        {VIR_ERR_RPC, "detail"},
        {12345, "detail"},
    };
    TestServer *server = test_server_start(&xldrv_default_limits);
    int fd = test_open(server);

    for (gsize i = 0; i < G_N_ELEMENTS(errors); i++) {
        guint32 word = GUINT32_TO_BE(errors[i].code);
        test_send(fd, TEST_FAIL, XLDRV_TYPE_CALL, i, 0, &word, 4);
        test_receive_error(fd, XLDRV_TYPE_REPLY, i, errors[i].code, VIR_FROM_LIBXL, errors[i].text);
    }
    test_call(fd, TEST_FOREIGN_ERROR, 99);
    test_receive_error(fd, XLDRV_TYPE_REPLY, 99, VIR_ERR_OPERATION_FAILED, VIR_FROM_LIBXL,
                       "operation failed: no room");
    close(fd);
    finish(server);
}

static void test_readonly(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);

    for (int by_flag = 0; by_flag < 2; by_flag++) {
        int fd = test_connect(by_flag ? server->path : server->readonly_path);
        test_send(fd, TEST_OPEN, XLDRV_TYPE_CALL, 0, 0, by_flag ? "\0\0\0\1" : "\0\0\0\0", 4);
        g_byte_array_unref(test_receive_reply(fd, TEST_OPEN, 0));
        test_call(fd, TEST_CHANGE, 1);
        test_receive_error(fd, XLDRV_TYPE_REPLY, 1, VIR_ERR_OPERATION_DENIED, VIR_FROM_LIBXL,
                           "operation forbidden: read only access prevents virTestChange");
        test_call(fd, TEST_QUICK, 2);
        g_byte_array_unref(test_receive_reply(fd, TEST_QUICK, 2));
        close(fd);
    }
    finish(server);
}

/* No more calls run than a client may have unanswered, and all are answered in the end. */
static void test_pacing(void)
{
    XldrvLimits limits = xldrv_default_limits;
    limits.max_client_requests = 3;
    TestServer *server = test_server_start(&limits);
    int fd = test_open(server);
    guint32 seen = 0;

    for (guint32 serial = 0; serial < 10; serial++)
        test_call(fd, TEST_BLOCK, serial);
    test_server_wait(server, &server->n_blocked, 3);
    g_usleep(100000);
    g_mutex_lock(&server->lock);
    g_assert_cmpuint(server->n_blocked, ==, 3);
    g_mutex_unlock(&server->lock);

    test_server_release(server);
    for (int i = 0; i < 10; i++) {
        XldrvHeader header;
        g_byte_array_unref(test_receive(fd, &header));
        seen |= 1u << header.serial;
    }
    g_assert_cmphex(seen, ==, 0x3ff);
    close(fd);
    finish(server);
}

/* With all ordinary workers blocked, calls of high priority still run. */
static void test_priority(void)
{
    XldrvLimits limits = xldrv_default_limits;
    limits.min_workers = limits.max_workers = limits.prio_workers = 1;
    TestServer *server = test_server_start(&limits);
    int fd = test_open(server), other = test_open(server);

    test_call(fd, TEST_BLOCK, 1);
    test_server_wait(server, &server->n_blocked, 1);
    test_call(fd, TEST_QUICK, 2);
    g_byte_array_unref(test_receive_reply(fd, TEST_QUICK, 2));
    test_call(other, TEST_QUICK, 3);
    g_byte_array_unref(test_receive_reply(other, TEST_QUICK, 3));
    test_server_release(server);
    g_byte_array_unref(test_receive_reply(fd, TEST_BLOCK, 1));
    close(fd);
    close(other);
    finish(server);
}

/* A call that is put off holds nobody up, and is made with the arguments that it came with. */
static void test_put_off(void)
{
    XldrvLimits limits = xldrv_default_limits;
    limits.min_workers = limits.max_workers = limits.prio_workers = 1;
    TestServer *server = test_server_start(&limits);
    g_autoptr(GByteArray) wait = test_string("wait"), now = test_string("now");
    int fd = test_open(server);

    test_send(fd, TEST_LOOK_UP, XLDRV_TYPE_CALL, 1, 0, wait->data, wait->len);
    test_server_wait(server, &server->n_blocked, 1);
    test_send(fd, TEST_LOOK_UP, XLDRV_TYPE_CALL, 2, 0, now->data, now->len);
    g_autoptr(GByteArray) second = test_receive_reply(fd, TEST_LOOK_UP, 2);
    g_assert_cmpmem(second->data, second->len, now->data, now->len);
    test_server_release(server);
    g_autoptr(GByteArray) first = test_receive_reply(fd, TEST_LOOK_UP, 1);
    g_assert_cmpmem(first->data, first->len, wait->data, wait->len);
    close(fd);
    finish(server);
}

static void assert_keepalive(int fd, gint32 procedure)
{
    XldrvHeader header;
    g_autoptr(GByteArray) payload = test_receive(fd, &header);
    g_assert_cmphex(header.program, ==, XLDRV_KEEPALIVE_PROGRAM);
    g_assert_cmpuint(header.version, ==, 1);
    g_assert_cmpint(header.procedure, ==, procedure);
    g_assert_cmpuint(header.type, ==, XLDRV_TYPE_MESSAGE);
    g_assert_cmpuint(header.serial, ==, 0);
    g_assert_cmpuint(header.status, ==, 0);
    g_assert_cmpuint(payload->len, ==, 0);
}

static void test_keepalive(void)
{
    XldrvLimits limits = xldrv_default_limits;
    limits.keepalive_interval = 1;
    limits.keepalive_count = 1;
    TestServer *server = test_server_start(&limits);
    const XldrvHeader ping = {28, XLDRV_KEEPALIVE_PROGRAM, 1, 1, XLDRV_TYPE_MESSAGE, 0, 0};
    const XldrvHeader pong = {28, XLDRV_KEEPALIVE_PROGRAM, 1, 2, XLDRV_TYPE_MESSAGE, 0, 0};

    /* Answered at any time, also while a call runs. */
    int fd = test_connect(server->path);
    test_send_header(fd, &ping);
    assert_keepalive(fd, 2);
    close(fd);
    fd = test_open(server);
    test_call(fd, TEST_BLOCK, 1);
    test_server_wait(server, &server->n_blocked, 1);
    test_send_header(fd, &ping);
    assert_keepalive(fd, 2);
    test_server_release(server);
    g_byte_array_unref(test_receive_reply(fd, TEST_BLOCK, 1));

    /* Never pinged unasked: this one has been silent for as long as the next takes to be given up.
     */
    int silent = test_open(server);
    test_call(fd, TEST_KEEPALIVE, 2);
    g_byte_array_unref(test_receive_reply(fd, TEST_KEEPALIVE, 2));
    assert_keepalive(fd, 1);
    test_send_header(fd, &pong);
    assert_keepalive(fd, 1);
    test_receive_end(fd);
    close(fd);
    test_call(silent, TEST_QUICK, 1);
    g_byte_array_unref(test_receive_reply(silent, TEST_QUICK, 1));
    close(silent);
    finish(server);
}

/* A client that calls and never reads: it is not read either, and closed in the end. */
static void test_never_reads(void)
{
    XldrvLimits limits = xldrv_default_limits;
    limits.stall_timeout = 1;
    TestServer *server = test_server_start(&limits);
    g_autofree char *text = g_strnfill(1024 * 1024, 'x');
    g_autoptr(GByteArray) payload = test_string(text);
    struct timeval soon = {.tv_usec = 100000};
    int fd = test_open(server), sent = 0;

    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon));
    const XldrvHeader header = {28 + payload->len, TEST_PROGRAM, 1, TEST_ECHO, 0, 1, 0};
    for (; sent < 100; sent++) {
        guint32 words[7] = {
            header.length, header.program, header.version, header.procedure, 0, 1, 0};
        for (int i = 0; i < 7; i++)
            words[i] = GUINT32_TO_BE(words[i]);
        if (send(fd, words, sizeof(words), MSG_NOSIGNAL) != sizeof(words) ||
            send(fd, payload->data, payload->len, MSG_NOSIGNAL) != (gssize)payload->len)
            break;
    }
    g_assert_cmpint(sent, <, 10);
    assert_alive(server);
    test_server_wait(server, &server->n_closed, 2);
    close(fd);
    finish(server);
}

/* A promised megabyte of which all but the last byte comes; FALSE: the connection was closed. */
static gboolean send_most(int fd)
{
    static guint8 zeros[1024 * 1024];
    struct timeval soon = {.tv_usec = 500000};
    guint8 byte;

    test_send_header(fd, &(XldrvHeader){28 + sizeof(zeros), TEST_PROGRAM, 1, TEST_ECHO, 0, 1, 0});
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
    return send(fd, zeros, sizeof(zeros) - 1, MSG_NOSIGNAL) == sizeof(zeros) - 1 && recv(fd, &byte, 1, 0) < 0 &&
           errno == EAGAIN;
}

/* Long messages of all clients together have a limit; it is given back by those that end. */
static void test_memory(void)
{
    XldrvLimits limits = xldrv_default_limits;
    limits.message_bytes = 2 * 1024 * 1024;
    TestServer *server = test_server_start(&limits);

    for (int round = 0; round < 3; round++) {
        int first = test_open(server), second = test_open(server), third = test_open(server);
        g_assert_true(send_most(first));
        g_assert_true(send_most(second));
        g_assert_false(send_most(third));
        assert_alive(server);
        close(first);
        close(second);
        close(third);
        test_server_wait(server, &server->n_closed, 4 * (round + 1));
    }
    finish(server);
}

static void test_event_flood(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    int fd = test_open(server);

    test_call(fd, TEST_FLOOD, 1);
    test_server_wait(server, &server->n_closed, 1);
    close(fd);
    finish(server);
}

static void test_event_order(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    int fd = test_open(server);
    XldrvHeader header;

    for (guint32 serial = 0; serial < 50; serial++) {
        test_call(fd, TEST_SUBSCRIBE, serial);
        g_byte_array_unref(test_receive_reply(fd, TEST_SUBSCRIBE, serial));
        g_autoptr(GByteArray) event = test_receive(fd, &header);
        g_assert_cmpint(header.procedure, ==, TEST_EVENT);
        g_assert_cmpuint(header.type, ==, XLDRV_TYPE_MESSAGE);
        g_assert_cmpuint(header.status, ==, 0);
        g_assert_cmpmem(event->data, event->len, "\0\0\0\7\0\0\0\5first\0\0\0", 16);
    }
    close(fd);
    finish(server);
}

static void test_close(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    int fd = test_open(server);

    test_call(fd, TEST_BLOCK, 1);
    test_server_wait(server, &server->n_blocked, 1);
    test_call(fd, TEST_CLOSE, 2);
    g_byte_array_unref(test_receive_reply(fd, TEST_CLOSE, 2));
    test_server_release(server);
    g_byte_array_unref(test_receive_reply(fd, TEST_BLOCK, 1));
    test_receive_end(fd);
    close(fd);
    test_server_wait(server, &server->n_closed, 1);

    /* A client that goes while its call runs. */
    server->released = FALSE;
    fd = test_open(server);
    test_call(fd, TEST_BLOCK, 1);
    test_server_wait(server, &server->n_blocked, 2);
    close(fd);
    test_server_wait(server, &server->n_closed, 2);
    test_server_release(server);
    finish(server);
}

static void test_unopened(void)
{
    XldrvLimits limits = xldrv_default_limits;
    limits.auth_timeout = 1;
    TestServer *server = test_server_start(&limits);
    int fd = test_connect(server->path), open = test_open(server);

    test_receive_end(fd);
    close(fd);
    test_call(open, TEST_QUICK, 1);
    g_byte_array_unref(test_receive_reply(open, TEST_QUICK, 1));
    close(open);
    finish(server);
}

/* Connects as another user: the kernel notes the credentials of the thread, so only this one's are
 * changed. */
static int connect_as_nobody(const char *path)
{
    const uid_t nobody = 65534;
    g_assert_cmpint(syscall(SYS_setresuid, -1, nobody, -1), ==, 0);
    int fd = test_connect(path);
    g_assert_cmpint(syscall(SYS_setresuid, -1, 0, -1), ==, 0);
    return fd;
}

static void test_other_user(void)
{
    XldrvLimits limits = xldrv_default_limits;
    limits.auth_timeout = 2;
    limits.max_anonymous_clients = 2;
    if (geteuid() != 0) {
        g_test_skip("needs root to be somebody else");
        return;
    }
    TestServer *server = test_server_start(&limits);
    int fd = connect_as_nobody(server->path);

    test_call(fd, 66, 1);
    g_autoptr(GByteArray) list = test_receive_reply(fd, 66, 1);
    g_assert_cmpmem(list->data, list->len, "\0\0\0\1\0\0\0\2", 8);
    test_call(fd, TEST_QUICK, 2);
    test_receive_error(fd, XLDRV_TYPE_REPLY, 2, VIR_ERR_RPC, VIR_FROM_RPC,
                       "authentication required");
    test_call(fd, 70, 3);
    test_receive_error(fd, XLDRV_TYPE_REPLY, 3, VIR_ERR_AUTH_UNAVAILABLE, VIR_FROM_POLKIT,
                       "polkit cannot be asked");

    /* No more strangers than allowed are let in; nobody is until one of them is gone. */
    int second = connect_as_nobody(server->path), third = connect_as_nobody(server->path);
    test_call(third, 66, 1);
    test_receive_end(fd);
    g_byte_array_unref(test_receive_reply(third, 66, 1));
    /* A long message is not even read. */
    test_send_header(third, &(XldrvHeader){1000000, TEST_PROGRAM, 1, TEST_ECHO, 0, 1, 0});
    test_receive_end(third);
    test_receive_end(second);
    close(fd);
    close(second);
    close(third);

    /* Whoever only reads needs no permission. */
    fd = connect_as_nobody(server->readonly_path);
    test_send(fd, TEST_OPEN, XLDRV_TYPE_CALL, 0, 0, "\0\0\0\0", 4);
    g_byte_array_unref(test_receive_reply(fd, TEST_OPEN, 0));
    close(fd);
    finish(server);
}

static void test_max_clients(void)
{
    XldrvLimits limits = xldrv_default_limits;
    limits.max_clients = 2;
    TestServer *server = test_server_start(&limits);
    int one = test_open(server), two = test_open(server), three = test_connect(server->path);

    test_send(three, TEST_OPEN, XLDRV_TYPE_CALL, 0, 0, "\0\0\0\0", 4);
    struct timeval soon = {.tv_usec = 100000}, late = {.tv_sec = 10};
    guint8 byte;
    setsockopt(three, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
    g_assert_cmpint(recv(three, &byte, 1, 0), ==, -1);
    setsockopt(three, SOL_SOCKET, SO_RCVTIMEO, &late, sizeof(late));
    close(one);
    g_byte_array_unref(test_receive_reply(three, TEST_OPEN, 0));
    close(two);
    close(three);
    finish(server);
}

static void test_listening(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    g_autoptr(GError) error = NULL;
    g_autoptr(XldrvServer) second = xldrv_server_new("second", &xldrv_default_limits);

    /* A socket in use is left alone. */
    g_assert_false(xldrv_server_listen_unix(second, server->path, 0600, &(XldrvListen){0}, &error));
    g_assert_error(error, XLDRV_ERROR, VIR_ERR_OPERATION_FAILED);
    g_clear_error(&error);
    /* One that nobody listens on is replaced. */
    g_autofree char *stale = g_build_filename(server->dir, "stale", NULL);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, stale, sizeof(address.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    close(fd);
    g_assert_true(xldrv_server_listen_unix(second, stale, 0600, &(XldrvListen){0}, &error));
    g_assert_no_error(error);
    GStatBuf st;
    g_assert_cmpint(g_stat(stale, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 07777, ==, 0600);
    /* A file that is no socket is not touched. */
    g_file_set_contents(server->file, "precious", -1, NULL);
    g_assert_false(xldrv_server_listen_unix(second, server->file, 0600, &(XldrvListen){0}, &error));
    g_assert_error(error, XLDRV_ERROR, VIR_ERR_SYSTEM_ERROR);
    g_assert_true(g_file_test(server->file, G_FILE_TEST_IS_REGULAR));
    g_clear_error(&error);
    /* Neither is a path that no address can hold, nor a descriptor that does not listen. */
    g_autofree char *long_path = g_strnfill(200, 'p');
    g_assert_false(xldrv_server_listen_unix(second, long_path, 0600, &(XldrvListen){0}, &error));
    g_assert_error(error, XLDRV_ERROR, VIR_ERR_INVALID_ARG);
    g_clear_error(&error);
    g_assert_false(xldrv_server_listen_fd(second, 0, FALSE, &error));
    g_assert_error(error, XLDRV_ERROR, VIR_ERR_INVALID_ARG);
    g_clear_pointer(&second, xldrv_server_free);
    finish(server);
}

static void test_activation(void)
{
    g_autofree char *dir = g_dir_make_tmp("xldrv-XXXXXX", NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autofree char *path = g_build_filename(dir, "notify-ro", NULL);
    g_autoptr(GError) error = NULL;
    char text[16] = "";

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_true(xldrv_activation_is_readonly(fd));
    g_assert_false(xldrv_activation_is_readonly(-1));

    g_unsetenv("NOTIFY_SOCKET");
    g_assert_true(xldrv_activation_notify("READY=1", &error));
    g_setenv("NOTIFY_SOCKET", path, TRUE);
    g_assert_true(xldrv_activation_notify("READY=1", &error));
    g_assert_no_error(error);
    g_assert_cmpint(recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT), ==, 7);
    g_assert_cmpstr(text, ==, "READY=1");
    close(fd);
    g_assert_false(xldrv_activation_notify("READY=1", &error));
    g_assert_error(error, XLDRV_ERROR, VIR_ERR_SYSTEM_ERROR);
    g_unlink(path);
    g_rmdir(dir);
    g_unsetenv("NOTIFY_SOCKET");

    /* Meant for another process. */
    g_setenv("LISTEN_PID", "1", TRUE);
    g_setenv("LISTEN_FDS", "1", TRUE);
    GArray *fds = xldrv_activation_take_fds();
    g_assert_cmpuint(fds->len, ==, 0);
    g_array_unref(fds);
    g_assert_null(g_getenv("LISTEN_FDS"));

    g_autofree char *pid = g_strdup_printf("%d", getpid());
    g_setenv("LISTEN_PID", pid, TRUE);
    g_setenv("LISTEN_FDS", "100000", TRUE);
    fds = xldrv_activation_take_fds();
    g_assert_cmpuint(fds->len, ==, 0);
    g_array_unref(fds);
}

/* The server goes while everything is in use. */
static void test_stop(void)
{
    TestServer *server = test_server_start(&xldrv_default_limits);
    int idle = test_open(server), busy = test_open(server), console = test_open(server);

    test_call(console, TEST_CONSOLE, 1);
    g_byte_array_unref(test_receive_reply(console, TEST_CONSOLE, 1));
    for (guint32 serial = 1; serial < 20; serial++)
        test_call(busy, TEST_BLOCK, serial);
    test_server_wait(server, &server->n_blocked, 5);
    test_server_release(server);
    test_server_stop(server);
    test_receive_end(idle);
    close(idle);
    close(busy);
    close(console);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/server/bytes", test_bytes);
    g_test_add_func("/server/lengths", test_lengths);
    g_test_add_func("/server/garbage", test_garbage);
    g_test_add_func("/server/half-message", test_half_message);
    g_test_add_func("/server/refusals", test_refusals);
    g_test_add_func("/server/arguments", test_arguments);
    g_test_add_func("/server/errors", test_errors);
    g_test_add_func("/server/readonly", test_readonly);
    g_test_add_func("/server/pacing", test_pacing);
    g_test_add_func("/server/priority", test_priority);
    g_test_add_func("/server/put-off", test_put_off);
    g_test_add_func("/server/keepalive", test_keepalive);
    g_test_add_func("/server/never-reads", test_never_reads);
    g_test_add_func("/server/memory", test_memory);
    g_test_add_func("/server/event-flood", test_event_flood);
    g_test_add_func("/server/event-order", test_event_order);
    g_test_add_func("/server/close", test_close);
    g_test_add_func("/server/unopened", test_unopened);
    g_test_add_func("/server/other-user", test_other_user);
    g_test_add_func("/server/max-clients", test_max_clients);
    g_test_add_func("/server/listening", test_listening);
    g_test_add_func("/server/activation", test_activation);
    g_test_add_func("/server/stop", test_stop);
    return g_test_run();
}
