/* A stream of bytes over several connections: finding them together. */
#include "config.h"

#include "libxldrv/host/stripes.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"

#define PROGRESS_MS   10000
#define POLL_MS       200
#define STRANGERS_MAX 128u /* at a time; more wait until these were heard */

/* As it is on the wire: filled up with NUL bytes. */
static void put_word(char out[XLDRV_STRIPES_WORD_CHARS], const char *word)
{
    memset(out, 0, XLDRV_STRIPES_WORD_CHARS);
    memcpy(out, word, strnlen(word, XLDRV_STRIPES_WORD_CHARS));
}

/* ---- the sender */

static gboolean say_hello(int fd, guint number, guint count, const char *word, GError **error)
{
    XldrvStripeHello hello = {.magic = XLDRV_STRIPE_MAGIC, .number = GUINT32_TO_LE(number), .count = GUINT32_TO_LE(count)};

    put_word(hello.word, word);
    return send(fd, &hello, sizeof(hello), MSG_NOSIGNAL) == (ssize_t)sizeof(hello) ||
           xldrv_set_system_error(error, errno, "connection %u of %u to the destination broke", number + 1, count);
}

static gboolean wait_until_taken(int fd, guint number, guint count, GError **error)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    guint8 answer = 0;
    int n;

    do
        n = poll(&wait, 1, PROGRESS_MS);
    while (n < 0 && errno == EINTR);
    if (n > 0 && recv(fd, &answer, 1, MSG_DONTWAIT) == 1 && answer == XLDRV_STRIPE_TAKEN)
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "connection %u of %u was not taken by the destination%s", number + 1,
                           count, n > 0 ? "" : " in time");
}

gboolean xldrv_stripes_greet(int fd, guint number, guint count, const char *word, GError **error)
{
    return say_hello(fd, number, count, word, error) && wait_until_taken(fd, number, count, error);
}

/* ---- the receiver */

/* Who has not said all of its hello. */
typedef struct {
    int fd;
    gint64 until;
    gsize got;
    XldrvStripeHello hello;
} Stranger;

typedef struct {
    const char *word;
    int *fds; /* -1: has not come */
    guint count, missing, nr_strangers;
    Stranger strangers[STRANGERS_MAX];
} Gathering;

/* Takes as long for any word. */
static gboolean knows_word(const Gathering *g, const XldrvStripeHello *hello)
{
    char word[XLDRV_STRIPES_WORD_CHARS];
    guint differs = 0;

    put_word(word, g->word);
    for (gsize i = 0; i < sizeof(word); i++)
        differs |= (guint)(hello->word[i] ^ word[i]);
    return !differs;
}

static gboolean belongs(const Gathering *g, const XldrvStripeHello *hello)
{
    guint number = GUINT32_FROM_LE(hello->number);

    return !memcmp(hello->magic, XLDRV_STRIPE_MAGIC, sizeof(hello->magic)) && knows_word(g, hello) &&
           GUINT32_FROM_LE(hello->count) == g->count && number < g->count && g->fds[number] < 0;
}

static gboolean take(Gathering *g, const Stranger *stranger)
{
    const guint8 answer = XLDRV_STRIPE_TAKEN;

    if (!belongs(g, &stranger->hello) || send(stranger->fd, &answer, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
        return FALSE;
    g->fds[GUINT32_FROM_LE(stranger->hello.number)] = stranger->fd;
    g->missing--;
    return TRUE;
}

/* FALSE: it is none any more. */
static gboolean hear(Gathering *g, Stranger *stranger)
{
    ssize_t n = recv(stranger->fd, (guint8 *)&stranger->hello + stranger->got, sizeof(stranger->hello) - stranger->got,
                     MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR) && g_get_monotonic_time() < stranger->until)
        return TRUE;
    stranger->got += n > 0 ? (gsize)n : 0;
    if (n > 0 && stranger->got < sizeof(stranger->hello))
        return TRUE;
    if (n <= 0 || !take(g, stranger))
        close(stranger->fd);
    return FALSE;
}

static void hear_all(Gathering *g)
{
    for (guint i = 0; i < g->nr_strangers;) {
        if (hear(g, &g->strangers[i]))
            i++;
        else
            g->strangers[i] = g->strangers[--g->nr_strangers];
    }
}

static void let_in(Gathering *g, int listen_fd)
{
    int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd >= 0)
        g->strangers[g->nr_strangers++] = (Stranger){.fd = fd, .until = g_get_monotonic_time() + PROGRESS_MS * 1000};
}

static void look(Gathering *g, int listen_fd)
{
    struct pollfd wait[1 + STRANGERS_MAX] = {{.fd = g->nr_strangers < STRANGERS_MAX ? listen_fd : -1, .events = POLLIN}};

    for (guint i = 0; i < g->nr_strangers; i++)
        wait[1 + i] = (struct pollfd){.fd = g->strangers[i].fd, .events = POLLIN};
    poll(wait, 1 + g->nr_strangers, POLL_MS);
    hear_all(g);
    if (wait[0].revents & POLLIN)
        let_in(g, listen_fd);
}

gboolean xldrv_stripes_gather(int listen_fd, const char *word, int *fds, guint count, const gint *stop)
{
    g_autofree Gathering *g = g_new0(Gathering, 1);

    *g = (Gathering){.word = word, .fds = fds, .count = count, .missing = count};
    for (guint i = 0; i < count; i++)
        fds[i] = -1;
    while (g->missing && !g_atomic_int_get(stop))
        look(g, listen_fd);
    for (guint i = 0; i < g->nr_strangers; i++)
        close(g->strangers[i].fd);
    if (!g->missing)
        return TRUE;
    xldrv_stripes_close(fds, count);
    return FALSE;
}
