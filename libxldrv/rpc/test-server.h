/* test-server: a real server on a thread of its own, and a client that speaks raw bytes to it. For
 * tests. */
#pragma once

#include "libxldrv/rpc/message.h"
#include "libxldrv/rpc/rpc.h"

#define TEST_PROGRAM 0x20008086

/* Procedures of the test program. AUTH_LIST to AUTH_POLKIT have libvirt's numbers. */
enum {
    TEST_OPEN = 1,       /* u: 1 is read-only */
    TEST_CLOSE,          /* closes the connection */
    TEST_ECHO,           /* s -> s */
    TEST_BLOCK,          /* waits for test_server_release */
    TEST_QUICK,          /* high priority */
    TEST_FAIL,           /* i: fails with that code */
    TEST_CONSOLE,        /* a stream on a socket; the other end is test_server.far */
    TEST_TAKE_FD,        /* reads from the descriptor that came: -> s */
    TEST_GIVE_FD,        /* gives a pipe with "given" in it */
    TEST_SUBSCRIBE,      /* -> i; an event follows the reply */
    TEST_EVENT,          /* is */
    TEST_CHANGE,         /* not on read-only connections */
    TEST_UNSERVED,       /* has no handler */
    TEST_KEEPALIVE,      /* starts keepalive */
    TEST_FLOOD,          /* sends itself 64 MiB of events */
    TEST_WRONG_TYPE,     /* returns what its row does not say */
    TEST_DOWNLOAD,       /* a stream that reads test_server.file */
    TEST_UPLOAD,         /* a stream that writes test_server.file */
    TEST_FOREIGN_ERROR,  /* fails with a GError of another domain */
    TEST_NO_STREAM,      /* should make a stream and does not */
    TEST_FAILING_STREAM, /* makes one and then fails */
    TEST_LOOK_UP,        /* s -> s, on the main loop; of "wait", on a worker, and waits for test_server_release */
    TEST_N_PROCEDURES = 70,
};

typedef struct {
    XldrvLimits limits;
    char *dir, *path, *readonly_path, *file;
    GThread *thread;
    GMainContext *context;
    GMainLoop *loop;

    GMutex lock;
    GCond changed;
    gboolean ready, released;
    guint n_blocked, n_closed, n_streams_closed;
    int far;             /* other end of the last console, or -1 */
    GArray *fars;        /* of all */
    XldrvStream *stream; /* the last console */
} TestServer;

/* Starts one with @limits. Only one runs at a time. */
TestServer *test_server_start(const XldrvLimits *limits);
/* Frees the server while clients, streams and calls are as they are. */
void test_server_stop(TestServer *server);
/* Lets blocked calls go on. */
void test_server_release(TestServer *server);
/* Waits until a counter of it has a value; fails after ten seconds. */
void test_server_wait(TestServer *server, const guint *counter, guint value);

/* A connected socket; reads time out after ten seconds. */
int test_connect(const char *path);
/* Connects and opens. */
int test_open(TestServer *server);

/* A string, padded, for payloads. */
GByteArray *test_string(const char *text);
void test_send(int fd, gint32 procedure, guint32 type, guint32 serial, guint32 status,
               const void *payload, gsize length);
void test_send_header(int fd, const XldrvHeader *header);
/* A call without arguments. */
void test_call(int fd, gint32 procedure, guint32 serial);
/* The next message. */
GByteArray *test_receive(int fd, XldrvHeader *header);
/* The next message is this reply, successful; returns the payload. */
GByteArray *test_receive_reply(int fd, gint32 procedure, guint32 serial);
/* The next message is an error of @type with this serial, code and domain, and @text in its
 * message. */
void test_receive_error(int fd, guint32 type, guint32 serial, int code, int from, const char *text);
/* The next message of a stream. */
GByteArray *test_receive_stream(int fd, guint32 serial, guint32 status);
/* The connection is at its end. */
void test_receive_end(int fd);
