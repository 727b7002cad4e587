/* listen: listening sockets. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "libxldrv/rpc/server.h"

typedef struct {
    XldrvServer *server;
    int fd;
    XldrvListen how;
    char *path;      /* that we made and remove, or NULL */
    GSource *source; /* while it accepts */
} Listener;

/* ---- accepting */

static gboolean has_room(XldrvServer *server)
{
    return g_hash_table_size(server->clients) < server->limits.max_clients &&
           server->n_anonymous < server->limits.max_anonymous_clients;
}

static gboolean on_connection(int fd, GIOCondition condition G_GNUC_UNUSED, gpointer data)
{
    Listener *listener = data;
    XldrvServer *server = listener->server;

    int client_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client_fd >= 0) {
        xldrv_server_add_client(server, client_fd, &listener->how);
        xldrv_server_update_accepting(server);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        /* The connection stays in the backlog, and polling would spin: wait until something
         * changes. */
        g_message("%s: cannot accept a connection: %s", server->name, g_strerror(errno));
        g_clear_pointer(&listener->source, g_source_unref);
        server->accepting = FALSE;
        xldrv_server_update_tick(server);
        return G_SOURCE_REMOVE;
    }
    return listener->source ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

static void listener_update(Listener *listener)
{
    gboolean accepting = listener->server->accepting;

    if (accepting && !listener->source) {
        listener->source = g_unix_fd_source_new(listener->fd, G_IO_IN);
        g_source_set_callback(listener->source, G_SOURCE_FUNC(on_connection), listener, NULL);
        g_source_attach(listener->source, listener->server->context);
    } else if (!accepting && listener->source) {
        g_source_destroy(listener->source);
        g_clear_pointer(&listener->source, g_source_unref);
    }
}

void xldrv_server_update_accepting(XldrvServer *server)
{
    server->accepting = has_room(server);
    for (guint i = 0; i < server->listeners->len; i++)
        listener_update(g_ptr_array_index(server->listeners, i));
}

void xldrv_listener_free(gpointer data)
{
    Listener *listener = data;
    if (listener->source) {
        g_source_destroy(listener->source);
        g_source_unref(listener->source);
    }
    if (listener->path)
        unlink(listener->path);
    close(listener->fd);
    g_free(listener->path);
    g_free(listener);
}

static void add_listener(XldrvServer *server, int fd, const XldrvListen *how, const char *path)
{
    Listener *listener = g_new0(Listener, 1);
    *listener = (Listener){.server = server, .fd = fd, .how = *how, .path = g_strdup(path)};
    g_ptr_array_add(server->listeners, listener);
    listener_update(listener);
}

/* ---- opening */

static gboolean fill_address(struct sockaddr_un *address, const char *path, GError **error)
{
    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof(address->sun_path))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                               "socket path '%s' is longer than %zu bytes", path,
                               sizeof(address->sun_path) - 1);
    strcpy(address->sun_path, path);
    return TRUE;
}

/* Removes a socket that nobody listens on. A file that is no socket is left and makes bind fail. */
static gboolean clear_stale(const struct sockaddr_un *address, GError **error)
{
    struct stat st;
    if (lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return TRUE;

    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return xldrv_set_system_error(error, errno, "cannot make a socket");
    int result = connect(fd, (const struct sockaddr *)address, sizeof(*address));
    int reason = errno;
    close(fd);
    if (result < 0 && reason == ECONNREFUSED) {
        unlink(address->sun_path);
        return TRUE;
    }
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                           "socket '%s' is in use by another process", address->sun_path);
}

/* The mode of the socket file is that of the descriptor at the time of bind, less the umask: so it
 * is never open to more than @mode, and chmod adds what the umask took. */
static gboolean bind_and_listen(int fd, const struct sockaddr_un *address, guint mode, guint backlog,
                                GError **error)
{
    if (fchmod(fd, mode) < 0 || bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
        return xldrv_set_system_error(error, errno, "cannot bind socket '%s'", address->sun_path);
    if (chmod(address->sun_path, mode) == 0 && listen(fd, backlog) == 0)
        return TRUE;
    xldrv_set_system_error(error, errno, "cannot listen on socket '%s'", address->sun_path);
    unlink(address->sun_path);
    return FALSE;
}

gboolean xldrv_server_listen_unix(XldrvServer *server, const char *path, guint mode,
                                  const XldrvListen *how, GError **error)
{
    struct sockaddr_un address;

    if (!fill_address(&address, path, error) || !clear_stale(&address, error))
        return FALSE;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return xldrv_set_system_error(error, errno, "cannot make a socket");
    if (!bind_and_listen(fd, &address, mode, server->limits.max_queued_clients, error)) {
        close(fd);
        return FALSE;
    }
    add_listener(server, fd, how, path);
    return TRUE;
}

static int listen_address(const struct addrinfo *address, guint backlog)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        (address->ai_family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0) &&
        bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, backlog) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

/* A machine may lack one of the families that every address stands for. */
static guint listen_addresses(XldrvServer *server, const struct addrinfo *addresses, const XldrvListen *how)
{
    guint n = 0;

    for (; addresses; addresses = addresses->ai_next) {
        int fd = listen_address(addresses, server->limits.max_queued_clients);
        if (fd < 0 && errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL)
            return 0;
        if (fd >= 0)
            add_listener(server, fd, how, NULL);
        n += fd >= 0;
    }
    return n;
}

gboolean xldrv_server_listen_tcp(XldrvServer *server, const char *host, guint port, const XldrvListen *how,
                                 GError **error)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *addresses = NULL;
    g_autofree char *service = g_strdup_printf("%u", port);
    int rc = getaddrinfo(host, service, &hints, &addresses);

    if (rc)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "cannot listen on '%s': %s", host ? host : "*",
                               gai_strerror(rc));
    guint n = listen_addresses(server, addresses, how);
    int why = errno;
    freeaddrinfo(addresses);
    return n > 0 || xldrv_set_system_error(error, why, "cannot listen on '%s' port %u", host ? host : "*", port);
}

gboolean xldrv_server_listen_fd(XldrvServer *server, int fd, const XldrvListen *how, GError **error)
{
    int listening = 0, domain = 0;
    socklen_t length = sizeof(int);

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 || !listening ||
        domain != AF_UNIX)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                               "descriptor %d is not a listening UNIX socket", fd);
    if (!g_unix_set_fd_nonblocking(fd, TRUE, error))
        return FALSE;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    add_listener(server, fd, how, NULL);
    return TRUE;
}
