/* server-fuzz: whole conversations, of messages that are mostly valid in an order that nobody thought of: calls, streams and
 * their holes, descriptors that come or do not, keepalive, authentication; some of them damaged, or cut off. After all of
 * them a good client is served, and nothing of the bad ones is left. Deterministic: the seed is the round;
 * DOMUS_FUZZ_ROUNDS changes how long it takes. */
#include "config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/rpc/keepalive.h"
#include "libxldrv/rpc/test-server.h"

#define ROUNDS       300
#define MESSAGES_MAX 12
#define SERIALS      4u /* so few that streams meet their packets */
#define ALIVE_EVERY  25

typedef struct {
    GRand *rand;
    GByteArray *bytes;
    int zero; /* what is sent of descriptors: whoever reads from it gets something */
} Talk;

static guint below(Talk *talk, guint n)
{
    return g_rand_int(talk->rand) % n;
}

static void put_word(GByteArray *bytes, guint32 word)
{
    word = GUINT32_TO_BE(word);
    g_byte_array_append(bytes, (const guint8 *)&word, 4);
}

/* From 1 to @n, but not more than there is. */
static guint some_of(Talk *talk, guint n, gsize there)
{
    guint some = 1 + below(talk, n);

    return some < there ? some : (guint)there;
}

static guint32 any_word(Talk *talk)
{
    static const guint32 edges[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff};

    return below(talk, 2) ? edges[below(talk, G_N_ELEMENTS(edges))] : g_rand_int(talk->rand);
}

static void put_noise(Talk *talk, GByteArray *to, guint max)
{
    for (guint n = below(talk, max + 1); n > 0; n--) {
        guint8 byte = (guint8)below(talk, 256);

        g_byte_array_append(to, &byte, 1);
    }
}

/* ---- messages */

static void put_message(Talk *talk, guint32 program, gint32 procedure, guint32 type, guint32 status, const GByteArray *payload)
{
    const guint32 words[] = {XLDRV_HEADER_SIZE + payload->len, program, 1, (guint32)procedure, type,
                             below(talk, SERIALS), status};

    for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
        put_word(talk->bytes, words[i]);
    g_byte_array_append(talk->bytes, payload->data, payload->len);
}

/* What blocks a worker or sends more than anybody reads is for other tests. */
static gint32 any_procedure(Talk *talk)
{
    static const gint32 procedures[] = {
        TEST_OPEN, TEST_ECHO, TEST_QUICK, TEST_FAIL, TEST_CONSOLE, TEST_TAKE_FD, TEST_GIVE_FD, TEST_SUBSCRIBE, TEST_EVENT,
        TEST_CHANGE, TEST_UNSERVED, TEST_KEEPALIVE, TEST_WRONG_TYPE, TEST_DOWNLOAD, TEST_UPLOAD, TEST_FOREIGN_ERROR,
        TEST_NO_STREAM, TEST_FAILING_STREAM, TEST_LOOK_UP, TEST_CLOSE, 66, 67, 68, 69, 70, 0, -1, G_MAXINT32,
    };

    return procedures[below(talk, G_N_ELEMENTS(procedures))];
}

static void put_call(Talk *talk)
{
    gint32 procedure = any_procedure(talk);
    g_autoptr(GByteArray) payload = procedure == TEST_ECHO || procedure == TEST_LOOK_UP ? test_string("to and fro") : g_byte_array_new();

    if (procedure == TEST_OPEN || procedure == TEST_FAIL || below(talk, 8) == 0)
        put_word(payload, any_word(talk));
    put_message(talk, TEST_PROGRAM, procedure, below(talk, 12) ? XLDRV_TYPE_CALL : below(talk, 8),
                below(talk, 12) ? 0 : below(talk, 4), payload);
}

static void put_stream(Talk *talk)
{
    static const gint32 procedures[] = {TEST_CONSOLE, TEST_DOWNLOAD, TEST_UPLOAD};
    g_autoptr(GByteArray) payload = g_byte_array_new();
    gint32 procedure = procedures[below(talk, G_N_ELEMENTS(procedures))];
    guint what = below(talk, 4);

    if (what == 0) {
        put_message(talk, TEST_PROGRAM, procedure, XLDRV_TYPE_CALL, XLDRV_STATUS_OK, payload);
        return;
    }
    if (what == 1) { /* a hole: how long it is, and flags */
        put_word(payload, below(talk, 2) ? 0 : any_word(talk));
        put_word(payload, any_word(talk));
        put_word(payload, below(talk, 2));
    } else if (what == 2) {
        put_noise(talk, payload, 3000);
    }
    put_message(talk, TEST_PROGRAM, procedure, what == 1 ? XLDRV_TYPE_STREAM_HOLE : XLDRV_TYPE_STREAM,
                what == 2 ? XLDRV_STATUS_CONTINUE : below(talk, 3), payload);
}

static void put_descriptors(Talk *talk)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();

    put_word(payload, below(talk, 4) ? below(talk, 3) : any_word(talk)); /* so many come, as is said */
    put_message(talk, TEST_PROGRAM, TEST_TAKE_FD, XLDRV_TYPE_CALL_WITH_FDS, XLDRV_STATUS_OK, payload);
}

static void put_keepalive(Talk *talk)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();

    put_noise(talk, payload, below(talk, 4) ? 0 : 20);
    put_message(talk, XLDRV_KEEPALIVE_PROGRAM, (gint32)below(talk, 4), XLDRV_TYPE_MESSAGE, XLDRV_STATUS_OK, payload);
}

static void put_noise_message(Talk *talk)
{
    g_autoptr(GByteArray) payload = g_byte_array_new();

    put_noise(talk, payload, 200);
    put_message(talk, TEST_PROGRAM, any_procedure(talk), XLDRV_TYPE_CALL, XLDRV_STATUS_OK, payload);
}

static void damage(Talk *talk)
{
    for (guint n = below(talk, 3); n > 0 && talk->bytes->len; n--) {
        guint at = below(talk, talk->bytes->len);

        if (below(talk, 2))
            talk->bytes->data[at] ^= (guint8)(1u << below(talk, 8));
        else
            g_byte_array_remove_range(talk->bytes, at, some_of(talk, 40, talk->bytes->len - at));
    }
}

/* ---- a conversation */

/* Each piece with a descriptor, or without. */
static gboolean say(Talk *talk, int fd, const guint8 *bytes, gsize length)
{
    struct iovec data = {(gpointer)bytes, length};
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};

    if (below(talk, 4) == 0) {
        message.msg_control = control.space;
        message.msg_controllen = sizeof(control.space);
        *CMSG_FIRSTHDR(&message) =
            (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(CMSG_FIRSTHDR(&message)), &talk->zero, sizeof(int));
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (gssize)length;
}

static void drain(int fd)
{
    guint8 bytes[65536];

    while (recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
        continue;
}

static void converse(TestServer *server, guint round)
{
    static void (*const messages[])(Talk *) = {put_call, put_call, put_stream, put_stream, put_descriptors, put_keepalive,
                                               put_noise_message};
    Talk talk = {g_rand_new_with_seed(round), g_byte_array_new(), open("/dev/zero", O_RDONLY | O_CLOEXEC)};
    int fd = below(&talk, 8) ? test_open(server) : test_connect(server->path);

    for (guint n = 1 + below(&talk, MESSAGES_MAX); n > 0; n--)
        messages[below(&talk, G_N_ELEMENTS(messages))](&talk);
    if (below(&talk, 3) == 0)
        damage(&talk);
    for (gsize at = 0, length; at < talk.bytes->len; at += length) {
        length = some_of(&talk, 400, talk.bytes->len - at);
        if (!say(&talk, fd, talk.bytes->data + at, length))
            break; /* it was closed, or is not read any more */
        if (below(&talk, 8) == 0)
            drain(fd);
    }
    g_usleep(below(&talk, 3000));
    drain(fd);
    close(fd);
    close(talk.zero);
    g_byte_array_unref(talk.bytes);
    g_rand_free(talk.rand);
}

static void assert_alive(TestServer *server)
{
    g_autoptr(GByteArray) text = test_string("alive");
    int fd = test_open(server);

    test_send(fd, TEST_ECHO, XLDRV_TYPE_CALL, 1, 0, text->data, text->len);
    g_autoptr(GByteArray) reply = test_receive_reply(fd, TEST_ECHO, 1);
    g_assert_cmpmem(reply->data, reply->len, text->data, text->len);
    close(fd);
}

static void test_conversations(void)
{
    const char *wanted = g_getenv("DOMUS_FUZZ_ROUNDS");
    guint rounds = wanted ? (guint)atoi(wanted) : ROUNDS, alive = 0;
    TestServer *server = test_server_start(&xldrv_default_limits);

    for (guint round = 0; round < rounds; round++) {
        converse(server, round);
        if (round % ALIVE_EVERY == 0) {
            assert_alive(server);
            alive++;
        }
    }
    test_server_wait(server, &server->n_closed, rounds + alive);
    assert_alive(server);
    test_server_stop(server);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/server/conversations", test_conversations);
    return g_test_run();
}
