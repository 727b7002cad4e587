/* The store on sockets. */
#include "config.h"

#include "hv/store/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "hv/log.h"
#include "hv/store/connection.h"

#define READ_BYTES       16384
#define ACCEPT_PAUSE_NS  UINT64_C(500000000) /* when there are no descriptors left */

struct client {
    struct hv_xs_server *server;
    int fd;
    struct hv_loop_source *source;
    uint32_t events; /* that source has now */
    struct hv_xs_conn *conn;
    bool last;
    bool gone; /* the peer is: nothing can be sent any more */

    bool is_ready; /* in the list of those with something to send */
    struct client *next_ready;

    uint8_t in[READ_BYTES]; /* read, but not taken yet */
    size_t in_start, in_end;
};

struct hv_xs_server {
    struct hv_loop *loop;
    struct hv_xs *xs;
    int listen_fd;
    struct hv_loop_source *listen_source, *accept_timer;
    struct client *ready;
};

static void free_client(struct client *client)
{
    struct hv_loop *quit = client->last ? client->server->loop : NULL;

    if (client->source)
        hv_loop_remove(client->source);
    hv_xs_conn_free(client->conn);
    close(client->fd);
    free(client);
    if (quit)
        hv_loop_quit(quit);
}

/* A connection has something to send or is to be closed; done when the request at hand is through. */
static void on_conn_ready(void *opaque, struct hv_xs_conn *c)
{
    struct hv_xs_server *server = opaque;
    struct client *client = hv_xs_conn_opaque(c);

    if (client->is_ready)
        return;
    client->is_ready = true;
    client->next_ready = server->ready;
    server->ready = client;
}

static void send_output(struct client *client)
{
    const uint8_t *bytes;
    size_t count;

    while (!client->gone && (bytes = hv_xs_conn_output(client->conn, &count))) {
        ssize_t n = send(client->fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n < 0)
            client->gone = true;
        else
            hv_xs_conn_sent(client->conn, (size_t)n);
    }
}

static void take_input(struct client *client)
{
    client->in_start +=
        hv_xs_conn_input(client->conn, client->in + client->in_start, client->in_end - client->in_start);
    if (client->in_start == client->in_end)
        client->in_start = client->in_end = 0;
}

/* Sends what can be sent, takes what can be taken. Frees the client and gives false if that was its end. */
static bool progress(struct client *client)
{
    uint32_t events = 0;
    size_t count, before;

    do {
        before = client->in_start;
        send_output(client);
        if (client->in_end && hv_xs_conn_wants_input(client->conn))
            take_input(client);
    } while (client->in_end && client->in_start != before && !client->gone);
    send_output(client);
    if (client->gone || hv_xs_conn_closing(client->conn)) {
        free_client(client);
        return false;
    }
    if (hv_xs_conn_wants_input(client->conn) && !client->in_end)
        events |= EPOLLIN;
    if (hv_xs_conn_output(client->conn, &count))
        events |= EPOLLOUT;
    if (events != client->events && hv_loop_set_events(client->source, events) == 0)
        client->events = events;
    return true;
}

/* Progress of one client may make others ready. */
static void progress_all(struct hv_xs_server *server)
{
    while (server->ready) {
        struct client *client = server->ready;

        server->ready = client->next_ready;
        /* Marked meanwhile: what it queues for itself is sent in the same go. */
        if (progress(client))
            client->is_ready = false;
    }
}

static void read_input(struct client *client)
{
    ssize_t n = recv(client->fd, client->in, sizeof(client->in), MSG_DONTWAIT);

    if (n > 0)
        client->in_end = (size_t)n;
    else if (n == 0 || (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK))
        client->gone = true;
}

static void on_client(void *opaque, int fd, uint32_t events)
{
    struct client *client = opaque;

    (void)fd;
    if (!client->in_end && hv_xs_conn_wants_input(client->conn) && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_input(client);
    else if (events & (EPOLLHUP | EPOLLERR))
        client->gone = true;
    on_conn_ready(client->server, client->conn);
    progress_all(client->server);
}

int hv_xs_server_add(struct hv_xs_server *server, int fd, uint16_t domid, bool last)
{
    struct client *client = calloc(1, sizeof(*client));

    if (!client) {
        close(fd);
        return -ENOMEM;
    }
    client->server = server;
    client->fd = fd;
    client->conn = hv_xs_conn_new(server->xs, client);
    client->events = EPOLLIN;
    if (client->conn)
        client->source = hv_loop_add_fd(server->loop, fd, EPOLLIN, on_client, client);
    if (!client->source) {
        free_client(client);
        return -ENOMEM;
    }
    client->last = last;
    if (domid)
        hv_xs_conn_become(client->conn, domid);
    return 0;
}

/* ---- listening */

static bool is_allowed_peer(int fd)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
        return false;
    if (peer.uid == 0 || peer.uid == geteuid())
        return true;
    hv_log(HV_LOG_WARNING, "store: a connection of user %u is refused", peer.uid);
    return false;
}

static void resume_accepting(void *opaque)
{
    struct hv_xs_server *server = opaque;

    if (hv_loop_set_events(server->listen_source, EPOLLIN) < 0)
        hv_log(HV_LOG_ERROR, "store: new connections can no longer be accepted");
}

/* Out of descriptors: the socket would stay readable and the loop would spin. */
static void pause_accepting(struct hv_xs_server *server)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    hv_log(HV_LOG_WARNING, "store: accepting a connection failed: %s", strerror(errno));
    if (hv_loop_set_events(server->listen_source, 0) == 0)
        hv_loop_arm(server->accept_timer,
                    (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec + ACCEPT_PAUSE_NS);
}

static void on_listen(void *opaque, int fd, uint32_t events)
{
    struct hv_xs_server *server = opaque;
    int client_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (client_fd < 0) {
        if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED)
            pause_accepting(server);
        return;
    }
    if (!is_allowed_peer(client_fd))
        close(client_fd);
    else if (hv_xs_server_add(server, client_fd, 0, false) < 0)
        hv_log(HV_LOG_WARNING, "store: out of memory for a connection");
}

int hv_xs_server_listen(struct hv_xs_server *server, int fd)
{
    server->listen_fd = fd;
    server->accept_timer = hv_loop_add_timer(server->loop, resume_accepting, server);
    server->listen_source = hv_loop_add_fd(server->loop, fd, EPOLLIN, on_listen, server);
    return server->accept_timer && server->listen_source ? 0 : -ENOMEM;
}

int hv_xs_server_new(struct hv_loop *loop, struct hv_xs *xs, struct hv_xs_server **out)
{
    struct hv_xs_server *server = calloc(1, sizeof(*server));

    if (!server)
        return -ENOMEM;
    server->loop = loop;
    server->xs = xs;
    server->listen_fd = -1;
    xs->conn_ready = on_conn_ready;
    xs->conn_ready_opaque = server;
    *out = server;
    return 0;
}

void hv_xs_server_free(struct hv_xs_server *server)
{
    if (!server)
        return;
    while (server->xs->conns)
        free_client(hv_xs_conn_opaque(server->xs->conns));
    if (server->listen_source)
        hv_loop_remove(server->listen_source);
    if (server->accept_timer)
        hv_loop_remove(server->accept_timer);
    if (server->listen_fd >= 0)
        close(server->listen_fd);
    server->xs->conn_ready = NULL;
    free(server);
}
