/* domus-vnc: shows one domain to VNC clients.
 *
 * domusd starts one for each running domain with graphics, and passes it all that it has to do with: a channel to the
 * domain's hypervisor (hv/hv.h), a socket for domusd to come to (protocol.h), and those that clients come to. It has
 * nothing of the guest but its picture, opens no file once it serves, and ends with the hypervisor. So what a hostile
 * client makes of it, it makes of a process that shows a picture and takes keys.
 *
 *   keys.c     keysyms to keys
 *   screen.c   picture, passwords, clients
 *   sandbox.c  what it may do
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/hv.h"
#include "libxldrv/vnc/protocol.h"
#include "libxldrv/vnc/sandbox.h"
#include "libxldrv/vnc/screen.h"

#define LISTENERS_MAX   4
#define CONNECTIONS_MAX 8

struct connection {
    int fd; /* -1: free */
    bool subscribed;
};

static struct {
    unsigned listeners;
    bool open; /* clients are let in */
    pthread_mutex_t lock; /* of the connections, which events go to from any thread */
    struct connection connections[CONNECTIONS_MAX];
} server = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- descriptors in messages */

/* Bytes of the packet, 0 at the end, -1 for none now. *@fd is -1 without a descriptor. */
static ssize_t receive(int from, void *message, size_t bytes, int *fd)
{
    struct iovec iov = {message, bytes};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr header = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    ssize_t got = recvmsg(from, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *cmsg = got > 0 ? CMSG_FIRSTHDR(&header) : NULL;

    *fd = -1;
    if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS &&
        cmsg->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(fd, CMSG_DATA(cmsg), sizeof(*fd));
    return got < 0 && errno != EAGAIN && errno != EINTR ? 0 : got;
}

/* ---- the hypervisor */

static void read_display(void)
{
    struct hv_display_message message;
    int fd;
    ssize_t got = receive(XLDRV_VNC_DISPLAY_FD, &message, sizeof(message), &fd);

    if (got == 0)
        exit(0); /* the domain is gone, or shown by another */
    if (got == sizeof(message) && message.type == HV_DISPLAY_SURFACE) {
        vnc_screen_set_surface((uint32_t)message.value[0], (uint32_t)message.value[1], fd);
        return;
    }
    if (fd >= 0)
        close(fd);
    if (got == sizeof(message) && message.type == HV_DISPLAY_DAMAGE)
        vnc_screen_damage(message.value[0], message.value[1], message.value[2], message.value[3]);
}

/* ---- domusd */

static void send_event(const struct xldrv_vnc_message *event)
{
    pthread_mutex_lock(&server.lock);
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        if (server.connections[i].fd >= 0 && server.connections[i].subscribed)
            (void)!send(server.connections[i].fd, event, sizeof(*event), MSG_NOSIGNAL | MSG_DONTWAIT);
    pthread_mutex_unlock(&server.lock);
}

static uint32_t handle(struct connection *connection, struct xldrv_vnc_message *message, int *fd)
{
    switch (message->type) {
    case XLDRV_VNC_SET_PASSWORD:
        message->password[sizeof(message->password) - 1] = '\0';
        vnc_screen_set_password(message->value ? message->password : NULL, message->valid_to);
        server.open = true;
        return 0;
    case XLDRV_VNC_ADD_CLIENT:
        if (*fd < 0)
            return EBADF;
        vnc_screen_add_client(*fd, message->value);
        *fd = -1;
        return 0;
    case XLDRV_VNC_SUBSCRIBE:
        connection->subscribed = true;
        return 0;
    default:
        return EINVAL;
    }
}

static void read_connection(struct connection *connection)
{
    struct xldrv_vnc_message message, reply = {.type = XLDRV_VNC_REPLY};
    int fd;
    ssize_t got = receive(connection->fd, &message, sizeof(message), &fd);

    if (got < 0)
        return;
    pthread_mutex_lock(&server.lock);
    if (got == sizeof(message)) {
        pthread_mutex_unlock(&server.lock);
        reply.value = handle(connection, &message, &fd);
        pthread_mutex_lock(&server.lock);
    }
    if (fd >= 0)
        close(fd);
    if (got != sizeof(message) || send(connection->fd, &reply, sizeof(reply), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        close(connection->fd);
        *connection = (struct connection){.fd = -1};
    }
    pthread_mutex_unlock(&server.lock);
}

static void accept_connection(void)
{
    int fd = accept4(XLDRV_VNC_CONTROL_FD, NULL, NULL, SOCK_CLOEXEC);

    pthread_mutex_lock(&server.lock);
    for (unsigned i = 0; fd >= 0 && i < CONNECTIONS_MAX; i++) {
        if (server.connections[i].fd >= 0)
            continue;
        server.connections[i] = (struct connection){.fd = fd};
        fd = -1;
    }
    pthread_mutex_unlock(&server.lock);
    if (fd >= 0)
        close(fd);
}

/* ---- the loop */

static void accept_client(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd >= 0)
        vnc_screen_add_client(fd, false);
}

/* Fixed places: display, control, connections, listeners; a descriptor of -1 is skipped. */
static void serve(void)
{
    struct pollfd fds[2 + CONNECTIONS_MAX + LISTENERS_MAX];
    unsigned n = 2 + CONNECTIONS_MAX + server.listeners;

    for (unsigned i = 0; i < n; i++)
        fds[i] = (struct pollfd){.events = POLLIN};
    for (;;) {
        fds[0].fd = XLDRV_VNC_DISPLAY_FD;
        fds[1].fd = XLDRV_VNC_CONTROL_FD;
        for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
            fds[2 + i].fd = server.connections[i].fd;
        for (unsigned i = 0; i < server.listeners; i++)
            fds[2 + CONNECTIONS_MAX + i].fd = server.open ? XLDRV_VNC_LISTEN_FD + (int)i : -1;
        if (poll(fds, n, -1) < 0)
            continue;
        if (fds[0].revents)
            read_display();
        if (fds[1].revents)
            accept_connection();
        for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
            if (fds[2 + i].fd >= 0 && fds[2 + i].revents)
                read_connection(&server.connections[i]);
        for (unsigned i = 2 + CONNECTIONS_MAX; i < n; i++)
            if (fds[i].fd >= 0 && fds[i].revents)
                accept_client(fds[i].fd);
    }
}

/* ---- arguments */

static const char *const shares[] = {
    [VNC_SHARE_ALLOW_EXCLUSIVE] = "allow-exclusive",
    [VNC_SHARE_FORCE_SHARED] = "force-shared",
    [VNC_SHARE_IGNORE] = "ignore",
};

_Noreturn static void usage(void)
{
    fprintf(stderr, "usage: domus-vnc --name NAME --layout LAYOUT --listeners N [--share POLICY] [--user UID:GID]\n"
                    "domusd starts it, with descriptors that are told in libxldrv/vnc/protocol.h\n");
    exit(2);
}

static enum vnc_share parse_share(const char *text)
{
    for (unsigned i = 0; i < sizeof(shares) / sizeof(shares[0]); i++)
        if (strcmp(shares[i], text) == 0)
            return (enum vnc_share)i;
    usage();
}

struct arguments {
    const char *name, *layout, *user;
    enum vnc_share share;
};

static void parse(int argc, char **argv, struct arguments *out)
{
    static const struct option options[] = {
        {"name", required_argument, NULL, 'n'},  {"layout", required_argument, NULL, 'l'},
        {"share", required_argument, NULL, 's'}, {"listeners", required_argument, NULL, 'c'},
        {"user", required_argument, NULL, 'u'},  {0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'n')
            out->name = optarg;
        else if (option == 'l')
            out->layout = optarg;
        else if (option == 's')
            out->share = parse_share(optarg);
        else if (option == 'u')
            out->user = optarg;
        else if (option == 'c')
            server.listeners = (unsigned)strtoul(optarg, NULL, 10);
        else
            usage();
    }
    if (optind != argc || !out->name || !out->layout || server.listeners > LISTENERS_MAX)
        usage();
}

int main(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct vnc_screen_config config = {.display_fd = XLDRV_VNC_DISPLAY_FD, .event = send_event};

    parse(argc, argv, &arguments);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_NAME, "domus-vnc", 0, 0, 0);
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        server.connections[i].fd = -1;
    config.name = arguments.name;
    config.share = arguments.share;
    config.keys = vnc_keys_new(arguments.layout);
    if (!config.keys || vnc_screen_init(&config) < 0 || vnc_sandbox_enter(arguments.user) < 0)
        return 1;
    serve();
}
