/* Exports of NBD servers. */
#include "config.h"

#include "libxldrv/host/export.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gio.h>
#include <libnbd.h>
#include <linux/nbd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"

#define TIMEOUT_MS 10000

static gboolean fail(const char *where, const char *why, GError **error)
{
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot use NBD export '%s': %s", where, why);
}

/* libnbd's messages begin with the name of its function. */
static gboolean fail_nbd(const char *where, GError **error)
{
    const char *message = nbd_get_error();
    const char *colon = message ? strstr(message, ": ") : NULL;

    return fail(where, colon ? colon + 2 : "unknown error", error);
}

static gboolean prepare(struct nbd_handle *nbd, const char *name, const char *where, GError **error)
{
    return (nbd_set_export_name(nbd, name) == 0 && nbd_set_tls(nbd, LIBNBD_TLS_DISABLE) == 0 &&
            nbd_set_request_structured_replies(nbd, false) == 0) ||
           fail_nbd(where, error);
}

/* @fd is libnbd's from here on. */
static gboolean negotiate(struct nbd_handle *nbd, int fd, const char *where, GError **error)
{
    gint64 end = g_get_monotonic_time() + TIMEOUT_MS * G_TIME_SPAN_MILLISECOND;

    if (nbd_aio_connect_socket(nbd, fd) < 0)
        return fail_nbd(where, error);
    while (!nbd_aio_is_ready(nbd)) {
        gint64 left = end - g_get_monotonic_time();

        if (nbd_aio_is_dead(nbd) || nbd_aio_is_closed(nbd))
            return fail_nbd(where, error);
        if (left <= 0)
            return fail(where, "the server does not answer", error);
        if (nbd_poll(nbd, (int)(left / 1000) + 1) < 0)
            return fail_nbd(where, error);
    }
    return TRUE;
}

static guint32 flags_of(struct nbd_handle *nbd)
{
    guint32 flags = NBD_FLAG_HAS_FLAGS;

    flags |= nbd_is_read_only(nbd) == 1 ? NBD_FLAG_READ_ONLY : 0;
    flags |= nbd_can_flush(nbd) == 1 ? NBD_FLAG_SEND_FLUSH : 0;
    flags |= nbd_can_fua(nbd) == 1 ? NBD_FLAG_SEND_FUA : 0;
    flags |= nbd_can_trim(nbd) == 1 ? NBD_FLAG_SEND_TRIM : 0;
    return flags;
}

/* The connection is ready and nothing was asked yet, so nothing of it is in libnbd's hands but the descriptor. */
static int take_socket(struct nbd_handle *nbd, const char *where, struct domus_vbd_source *source, GError **error)
{
    gint64 size = nbd_get_size(nbd);
    gint64 block = nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM);
    int fd;

    if (size < 0) {
        fail_nbd(where, error);
        return -1;
    }
    fd = fcntl(nbd_aio_get_fd(nbd), F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        fail(where, g_strerror(errno), error);
    *source = (struct domus_vbd_source){
        .kind = DOMUS_VBD_NBD,
        .nbd_flags = flags_of(nbd),
        .block_bytes = block > 0 && block <= G_MAXUINT16 ? (guint32)block : 0,
        .size_bytes = (guint64)size,
    };
    return fd;
}

int xldrv_export_open(int fd, const char *name, const char *where, struct domus_vbd_source *source, GError **error)
{
    struct nbd_handle *nbd = nbd_create();
    int out = -1;

    if (!nbd) {
        fail_nbd(where, error);
        close(fd);
        return -1;
    }
    if (!prepare(nbd, name, where, error))
        close(fd);
    else if (negotiate(nbd, fd, where, error))
        out = take_socket(nbd, where, source, error);
    nbd_close(nbd);
    return out;
}

gboolean xldrv_export_greets(int fd, const char *where, GError **error)
{
    gint64 end = g_get_monotonic_time() + TIMEOUT_MS * G_TIME_SPAN_MILLISECOND;
    char magic[8];
    gsize got = 0;

    while (got < sizeof(magic)) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        gint64 left = end - g_get_monotonic_time();
        ssize_t n = left > 0 && poll(&wait, 1, (int)(left / 1000) + 1) > 0 ? recv(fd, magic + got, sizeof(magic) - got, 0) : 0;

        if (n <= 0)
            break;
        got += (gsize)n;
    }
    close(fd);
    return (got == sizeof(magic) && memcmp(magic, "NBDMAGIC", sizeof(magic)) == 0) ||
           fail(where, "the server does not answer", error);
}

/* A host that is gone is noticed, however long nothing is asked or answered. */
static void keep_alive(int fd)
{
    const struct {
        int level, name, value;
    } rows[] = {
        {SOL_SOCKET, SO_KEEPALIVE, 1},      {IPPROTO_TCP, TCP_KEEPIDLE, 10},        {IPPROTO_TCP, TCP_KEEPINTVL, 5},
        {IPPROTO_TCP, TCP_KEEPCNT, 4},      {IPPROTO_TCP, TCP_USER_TIMEOUT, 30000}, {IPPROTO_TCP, TCP_NODELAY, 1},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        setsockopt(fd, rows[i].level, rows[i].name, &rows[i].value, sizeof(rows[i].value));
}

int xldrv_export_open_tcp(const char *host, const char *port, const char *name, const char *where,
                          struct domus_vbd_source *source, GError **error)
{
    g_autoptr(GSocketClient) client = g_socket_client_new();
    g_autoptr(GSocketConnection) connection = NULL;
    g_autoptr(GError) why = NULL;
    int fd;

    g_socket_client_set_timeout(client, TIMEOUT_MS / 1000);
    g_socket_client_set_enable_proxy(client, FALSE);
    connection = g_socket_client_connect_to_host(client, host, (guint16)g_ascii_strtoull(port, NULL, 10), NULL, &why);
    if (!connection) {
        fail(where, why->message, error);
        return -1;
    }
    fd = fcntl(g_socket_get_fd(g_socket_connection_get_socket(connection)), F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        fail(where, g_strerror(errno), error);
        return -1;
    }
    keep_alive(fd);
    return xldrv_export_open(fd, name, where, source, error);
}
