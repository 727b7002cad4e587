/* A stream over several connections: it comes in order whatever the connections do; what is damaged, cut short or foreign ends it,
 * or is dropped, and nothing waits for ever. */
#include "config.h"

#include "libxldrv/host/stripes.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAM_BYTES (8u << 20)
#define WORD         "0123456789abcdef0123456789abcdef"
#define PATIENCE_MS  10000

static void make_pairs(int here[], int there[], guint count)
{
    for (guint i = 0; i < count; i++) {
        int pair[2];

        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
        here[i] = pair[0];
        there[i] = pair[1];
    }
}

static guint8 byte_at(gsize at)
{
    return (guint8)(at * 2654435761u >> 13);
}

static void put(int fd, gconstpointer bytes, gsize count)
{
    g_assert_cmpint(send(fd, bytes, count, MSG_NOSIGNAL), ==, (gssize)count);
}

static gboolean has_something(int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};

    return poll(&wait, 1, PATIENCE_MS) == 1;
}

/* That comes within some time, not never. */
static gboolean is_at_end(int fd)
{
    guint8 byte;

    return has_something(fd) && recv(fd, &byte, 1, 0) <= 0;
}

/* ---- order */

static gpointer write_stream(gpointer data)
{
    int fd = GPOINTER_TO_INT(data);
    g_autofree guint8 *bytes = g_malloc(STREAM_BYTES);
    g_autoptr(GRand) dice = g_rand_new_with_seed(1);

    for (gsize i = 0; i < STREAM_BYTES; i++)
        bytes[i] = byte_at(i);
    for (gsize done = 0, n; done < STREAM_BYTES; done += n) {
        n = (gsize)g_rand_int_range(dice, 1, 200000);
        n = MIN(n, STREAM_BYTES - done);
        put(fd, bytes + done, n);
    }
    shutdown(fd, SHUT_WR);
    return NULL;
}

static void read_stream(int fd)
{
    g_autofree guint8 *bytes = g_malloc(STREAM_BYTES);
    gsize done = 0, wrong = 0;
    gssize n;

    while (done < STREAM_BYTES && has_something(fd) && (n = recv(fd, bytes + done, STREAM_BYTES - done, 0)) > 0)
        done += (gsize)n;
    g_assert_cmpuint(done, ==, STREAM_BYTES);
    for (gsize i = 0; i < STREAM_BYTES; i++)
        wrong += bytes[i] != byte_at(i);
    g_assert_cmpuint(wrong, ==, 0);
}

static void test_order(gconstpointer data)
{
    guint count = GPOINTER_TO_UINT(data);
    int here[XLDRV_STRIPES_MAX], there[XLDRV_STRIPES_MAX], source, target;
    char word[4] = "";
    GThread *writer;

    make_pairs(here, there, count);
    source = xldrv_stripes_send(here, count, NULL);
    target = xldrv_stripes_receive(there, count, NULL);
    put(target, "back", 4);
    g_assert_cmpint(recv(source, word, 4, MSG_WAITALL), ==, 4);
    g_assert_cmpmem(word, 4, "back", 4);
    writer = g_thread_new("writer", write_stream, GINT_TO_POINTER(source));
    read_stream(target);
    g_thread_join(writer);
    g_assert_true(is_at_end(target));
    g_assert_true(is_at_end(source));
    close(source);
    close(target);
}

/* ---- pieces as a peer may send them */

typedef struct {
    const char *name;
    guint stripe[3];
    guint64 number[3];
    guint32 bytes[3]; /* 0: no such piece */
    guint32 magic;
    gsize cut;        /* bytes of the last one that do not come */
    const char *text; /* that comes nevertheless */
} Case;

static const Case cases[] = {
    {"in-order", {0, 1, 0}, {0, 1, 2}, {1, 1, 1}, XLDRV_STRIPE_FRAME_MAGIC, 0, "012"},
    {"later-first", {1, 0, 1}, {1, 0, 2}, {1, 1, 1}, XLDRV_STRIPE_FRAME_MAGIC, 0, "012"},
    {"twice", {0, 1, 1}, {0, 0, 1}, {1, 1, 1}, XLDRV_STRIPE_FRAME_MAGIC, 0, "01"},
    {"gap", {0, 1, 0}, {0, 2, 3}, {1, 1, 1}, XLDRV_STRIPE_FRAME_MAGIC, 0, "0"},
    {"backwards", {0, 0, 0}, {0, 1, 0}, {1, 1, 1}, XLDRV_STRIPE_FRAME_MAGIC, 0, "01"},
    {"magic", {0, 1, 0}, {0, 1, 2}, {1, 1, 1}, 0x12345678, 0, ""},
    {"cut-short", {0, 0, 0}, {0, 1, 2}, {1, 1, 1}, XLDRV_STRIPE_FRAME_MAGIC, 1, "01"},
    {"cut-in-head", {0, 0, 0}, {0, 1, 2}, {1, 1, 1}, XLDRV_STRIPE_FRAME_MAGIC, 9, "01"},
    {"too-long", {0, 0, 0}, {0, 1, 2}, {1, 1, XLDRV_STRIPE_FRAME_BYTES + 1}, XLDRV_STRIPE_FRAME_MAGIC, 0, "01"},
    {"far-away", {0, 0, 0}, {0, G_MAXUINT64, 1}, {1, 1, 1}, XLDRV_STRIPE_FRAME_MAGIC, 0, "0"},
};

static void send_piece(const Case *c, guint i, int fd)
{
    XldrvStripeFrame head = {GUINT32_TO_LE(c->magic), GUINT32_TO_LE(c->bytes[i]), GUINT64_TO_LE(c->number[i])};
    guint8 bytes[sizeof(head) + 1];

    memcpy(bytes, &head, sizeof(head));
    bytes[sizeof(head)] = (guint8)('0' + c->number[i]);
    send(fd, bytes, sizeof(bytes) - (i == 2 ? c->cut : 0), MSG_NOSIGNAL); /* which may be refused by then */
}

/* What the connections bring before it ends is the beginning of what was sent, and it does end. */
static void test_pieces(gconstpointer data)
{
    const Case *c = data;
    int here[2], there[2], target;
    char text[8] = "";

    make_pairs(here, there, 2);
    target = xldrv_stripes_receive(there, 2, NULL);
    for (guint i = 0; i < 3; i++)
        send_piece(c, i, here[c->stripe[i]]);
    for (guint i = 0; i < 2; i++)
        shutdown(here[i], SHUT_WR);
    for (gsize n = 0; n < sizeof(text) - 1 && has_something(target) && recv(target, text + n, 1, 0) == 1; n++)
        continue;
    g_assert_true(g_str_has_prefix(c->text, text));
    if (strlen(c->text) == 3)
        g_assert_cmpstr(text, ==, c->text);
    g_assert_true(is_at_end(target));
    g_assert_true(is_at_end(here[0]));
    close(target);
    xldrv_stripes_close(here, 2);
}

/* ---- connections that break */

static void test_broken(gconstpointer data)
{
    gboolean in_use = GPOINTER_TO_INT(data);
    int here[4], there[4], source, target;

    make_pairs(here, there, 4);
    source = xldrv_stripes_send(here, 4, NULL);
    target = in_use ? xldrv_stripes_receive(there, 4, NULL) : -1;
    if (in_use)
        close(target);
    else
        xldrv_stripes_close(there, 4);
    for (guint i = 0; i < 1000 && send(source, WORD, sizeof(WORD), MSG_NOSIGNAL) > 0; i++)
        g_usleep(1000);
    g_assert_true(is_at_end(source));
    close(source);
}

/* ---- who belongs to it */

typedef struct {
    int listen_fd, fds[XLDRV_STRIPES_MAX];
    guint count;
    gint stop;
    gboolean complete;
    struct sockaddr_in address;
    GThread *thread;
} Gathering;

static gpointer gather(gpointer data)
{
    Gathering *g = data;

    g->complete = xldrv_stripes_gather(g->listen_fd, WORD, g->fds, g->count, &g->stop);
    return NULL;
}

static void begin_to_gather(Gathering *g, guint count)
{
    socklen_t bytes = sizeof(g->address);

    *g = (Gathering){.count = count, .address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}}};
    g->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(g->listen_fd, (struct sockaddr *)&g->address, bytes), ==, 0);
    g_assert_cmpint(listen(g->listen_fd, 8), ==, 0);
    g_assert_cmpint(getsockname(g->listen_fd, (struct sockaddr *)&g->address, &bytes), ==, 0);
    g->thread = g_thread_new("gather", gather, g);
}

static int visit(const Gathering *g)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(connect(fd, (const struct sockaddr *)&g->address, sizeof(g->address)), ==, 0);
    return fd;
}

static void visit_in_vain(const Gathering *g, const char *magic, const char *word, guint number, guint count)
{
    XldrvStripeHello hello = {.number = GUINT32_TO_LE(number), .count = GUINT32_TO_LE(count)};
    int fd = visit(g);

    memcpy(hello.magic, magic, sizeof(hello.magic));
    memcpy(hello.word, word, sizeof(hello.word));
    put(fd, &hello, sizeof(hello));
    g_assert_true(is_at_end(fd));
    close(fd);
}

static void test_gather(gconstpointer data)
{
    guint count = GPOINTER_TO_UINT(data);
    Gathering g;
    int fds[XLDRV_STRIPES_MAX], silent;

    begin_to_gather(&g, count);
    silent = visit(&g);
    visit_in_vain(&g, "Foreign", WORD, 0, count);
    visit_in_vain(&g, XLDRV_STRIPE_MAGIC, "0123456789abcdef0123456789abcdeF", 0, count);
    visit_in_vain(&g, XLDRV_STRIPE_MAGIC, WORD, count, count);
    visit_in_vain(&g, XLDRV_STRIPE_MAGIC, WORD, G_MAXUINT32, count);
    visit_in_vain(&g, XLDRV_STRIPE_MAGIC, WORD, 0, count + 1);
    for (guint i = 0; i < count; i++) {
        fds[i] = visit(&g);
        g_assert_true(xldrv_stripes_greet(fds[i], i, count, WORD, NULL));
    }
    g_thread_join(g.thread);
    g_assert_true(g.complete);
    for (guint i = 0; i < count; i++) { /* each is where it said */
        guint8 byte = 0;

        put(fds[i], &(guint8){(guint8)i}, 1);
        g_assert_cmpint(recv(g.fds[i], &byte, 1, 0), ==, 1);
        g_assert_cmpuint(byte, ==, i);
    }
    g_assert_true(is_at_end(silent));
    close(silent);
    xldrv_stripes_close(fds, count);
    xldrv_stripes_close(g.fds, count);
    close(g.listen_fd);
}

static void test_stopped(void)
{
    Gathering g;
    int fd;

    begin_to_gather(&g, 2);
    fd = visit(&g);
    g_atomic_int_set(&g.stop, TRUE);
    g_thread_join(g.thread);
    g_assert_false(g.complete);
    close(g.listen_fd);
    g_assert_true(is_at_end(fd));
    close(fd);
}

static void test_refused(void)
{
    g_autoptr(GError) error = NULL;
    Gathering g;
    int fd;

    begin_to_gather(&g, 1);
    fd = visit(&g);
    g_assert_false(xldrv_stripes_greet(fd, 0, 1, "another", &error));
    g_assert_nonnull(strstr(error->message, "connection 1 of 1 was not taken by the destination"));
    g_atomic_int_set(&g.stop, TRUE);
    g_thread_join(g.thread);
    close(fd);
    close(g.listen_fd);
}

int main(int argc, char **argv)
{
    static const guint counts[] = {1, 2, 7, XLDRV_STRIPES_MAX};

    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(counts); i++) {
        g_autofree char *order = g_strdup_printf("/stripes/order/%u", counts[i]);
        g_autofree char *gathered = g_strdup_printf("/stripes/gather/%u", counts[i]);

        g_test_add_data_func(order, GUINT_TO_POINTER(counts[i]), test_order);
        g_test_add_data_func(gathered, GUINT_TO_POINTER(counts[i]), test_gather);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *name = g_strconcat("/stripes/pieces/", cases[i].name, NULL);

        g_test_add_data_func(name, &cases[i], test_pieces);
    }
    g_test_add_data_func("/stripes/broken", GINT_TO_POINTER(FALSE), test_broken);
    g_test_add_data_func("/stripes/left", GINT_TO_POINTER(TRUE), test_broken);
    g_test_add_func("/stripes/stopped", test_stopped);
    g_test_add_func("/stripes/refused", test_refused);
    return g_test_run();
}
