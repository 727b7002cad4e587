/* The control channel, server side.
 *
 * Every connection is a SOCK_SEQPACKET socket on the event loop, so a message arrives whole or not at all. A call
 * is answered before the next one is read. Whoever sends what is not a call, or does not read its replies,
 * is disconnected: a reply either fits into the socket's buffer or was not waited for.
 */
#include "config.h"

#include "hv/control/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/engine/engine.h"
#include "hv/hypercall/hypercall.h"
#include "hv/log.h"
#include "hv/loop.h"
#include "hv/machine/missing.h"
#include "hv/machine/vcpu.h"
#include "hv/uring.h"

/* domusd has two, and people look on. */
#define CONNECTIONS_MAX 16u

struct hv_control_listener {
    struct hv_control *control;
    struct hv_control_listener *next;
    struct hv_loop_source *source;
    int fd;
};

struct hv_control_connection {
    struct hv_control *control;
    struct hv_control_connection *next;
    struct hv_loop_source *source;
    int fd;
    bool subscribed;
};

/* ------------------------------------------------------------------ connections */

static void drop(struct hv_control_connection *connection)
{
    struct hv_control_connection **link = &connection->control->connections;

    while (*link != connection)
        link = &(*link)->next;
    *link = connection->next;
    connection->control->nr_connections--;
    hv_loop_remove(connection->source);
    close(connection->fd);
    free(connection);
}

/* False when the message could not be put into the socket at once. */
static bool send_message(struct hv_control_connection *connection, const struct hv_control_message *message,
                         const void *data)
{
    struct iovec parts[2] = {
        {.iov_base = (void *)(uintptr_t)message, .iov_len = sizeof(*message)},
        {.iov_base = (void *)(uintptr_t)data, .iov_len = message->data_bytes},
    };
    struct msghdr header = {.msg_iov = parts, .msg_iovlen = message->data_bytes ? 2 : 1};
    size_t total = sizeof(*message) + message->data_bytes;

    return sendmsg(connection->fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)total;
}

static bool send_event(struct hv_control_connection *connection, enum hv_event event, uint64_t arg)
{
    struct hv_control_message message = {
        .magic = HV_CONTROL_MAGIC,
        .type = HV_CONTROL_EVENT,
        .number = event,
        .args = {arg},
    };

    return send_message(connection, &message, NULL);
}

/* ------------------------------------------------------------------ calls */

static void close_fds(const int *fds, size_t nr_fds)
{
    for (size_t i = 0; i < nr_fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static long call(struct hv_control *control, struct hv_control_connection *connection, uint64_t number,
                 const uint64_t args[5], void *data, size_t data_bytes, int *fds, size_t nr_fds)
{
    struct hv_caller caller = {
        .kind = HV_CALLER_CONTROL,
        .domain = control->domain,
        .data = data,
        .data_bytes = data_bytes,
        .fds = fds,
        .nr_fds = nr_fds,
        .control = control,
        .connection = connection,
    };

    return hv_hypercall_dispatch(&caller, number, args);
}

long hv_control_call(struct hv_control *control, uint64_t number, const uint64_t args[5], void *data,
                     size_t data_bytes, int *fds, size_t nr_fds)
{
    long result = call(control, NULL, number, args, data, data_bytes, fds, nr_fds);

    if (control->destroyed)
        hv_loop_quit(control->loop);
    return result;
}

/* Takes the descriptors out of a received message; true if all that were sent have arrived. */
static bool take_fds(struct msghdr *header, int fds[HV_CONTROL_FDS_MAX], size_t *nr_fds)
{
    *nr_fds = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        hv_assert(count <= HV_CONTROL_FDS_MAX - *nr_fds); /* the control buffer has no room for more */
        memcpy(fds + *nr_fds, CMSG_DATA(c), count * sizeof(int));
        *nr_fds += count;
    }
    return !(header->msg_flags & MSG_CTRUNC);
}

/* One message into control->buffer. Its length; 0 at the end; -1 for nothing now; -2 for a bad one. */
static ssize_t receive(struct hv_control_connection *connection, int fds[HV_CONTROL_FDS_MAX],
                       size_t *nr_fds)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * HV_CONTROL_FDS_MAX)];
    } ancillary;
    struct iovec part = {
        .iov_base = connection->control->buffer,
        .iov_len = sizeof(struct hv_control_message) + HV_CONTROL_DATA_MAX,
    };
    struct msghdr header = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = &ancillary,
        .msg_controllen = sizeof(ancillary),
    };
    ssize_t got = recvmsg(connection->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    *nr_fds = 0;
    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? -1 : 0;
    if (take_fds(&header, fds, nr_fds) && !(header.msg_flags & MSG_TRUNC))
        return got;
    close_fds(fds, *nr_fds);
    *nr_fds = 0;
    return -2;
}

static bool valid_call(const struct hv_control_message *message, size_t bytes)
{
    return bytes >= sizeof(*message) && message->magic == HV_CONTROL_MAGIC &&
           message->type == HV_CONTROL_CALL && message->data_bytes == bytes - sizeof(*message);
}

/* False when the connection has to go. */
static bool answer(struct hv_control_connection *connection, int *fds, size_t nr_fds)
{
    struct hv_control *control = connection->control;
    struct hv_control_message message;
    uint8_t *data = control->buffer + sizeof(message);

    memcpy(&message, control->buffer, sizeof(message));
    message.args[0] = (uint64_t)call(control, connection, message.number, message.args, data,
                                     message.data_bytes, fds, nr_fds);
    message.type = HV_CONTROL_REPLY;
    memset(message.args + 1, 0, sizeof(message.args) - sizeof(message.args[0]));
    return send_message(connection, &message, data);
}

static void connection_ready(void *opaque, int fd, uint32_t events)
{
    struct hv_control_connection *connection = opaque;
    struct hv_control *control = connection->control;
    int fds[HV_CONTROL_FDS_MAX];
    size_t nr_fds;
    ssize_t got = receive(connection, fds, &nr_fds);
    bool keep = false;

    (void)fd, (void)events;
    if (got == -1)
        return;
    if (got > 0 && valid_call((const struct hv_control_message *)control->buffer, (size_t)got))
        keep = answer(connection, fds, nr_fds);
    else if (got)
        hv_log(HV_LOG_WARNING, "control: a message that is not a call: disconnecting");
    close_fds(fds, nr_fds);
    if (!keep)
        drop(connection);
    if (control->destroyed)
        hv_loop_quit(control->loop);
}

/* ------------------------------------------------------------------ serving */

static int add_connection(struct hv_control *control, int fd)
{
    struct hv_control_connection *connection = calloc(1, sizeof(*connection));

    if (!connection || control->nr_connections >= CONNECTIONS_MAX) {
        free(connection);
        return connection ? -EBUSY : -ENOMEM;
    }
    connection->control = control;
    connection->fd = fd;
    connection->source = hv_loop_add_fd(control->loop, fd, EPOLLIN, connection_ready, connection);
    if (!connection->source) {
        free(connection);
        return -ENOMEM;
    }
    connection->next = control->connections;
    control->connections = connection;
    control->nr_connections++;
    return 0;
}

static void listener_ready(void *opaque, int fd, uint32_t events)
{
    struct hv_control *control = opaque;
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    (void)events;
    if (peer < 0)
        return;
    if (add_connection(control, peer)) {
        hv_log(HV_LOG_WARNING, "control: connection refused: there are %u", control->nr_connections);
        close(peer);
    }
}

static int add_listener(struct hv_control *control, int fd)
{
    struct hv_control_listener *listener = calloc(1, sizeof(*listener));

    if (!listener)
        return -ENOMEM;
    listener->control = control;
    listener->fd = fd;
    listener->source = hv_loop_add_fd(control->loop, fd, EPOLLIN, listener_ready, control);
    if (!listener->source) {
        free(listener);
        return -ENOMEM;
    }
    listener->next = control->listeners;
    control->listeners = listener;
    return 0;
}

int hv_control_serve(struct hv_control *control, int fd)
{
    int type = 0, listening = 0;
    socklen_t bytes = sizeof(int);

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &bytes) < 0 || type != SOCK_SEQPACKET)
        return -EINVAL;
    bytes = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &bytes) < 0)
        return -errno;
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    return listening ? add_listener(control, fd) : add_connection(control, fd);
}

/* ------------------------------------------------------------------ events */

static void tell_subscribers(struct hv_control *control, enum hv_event event, uint64_t arg)
{
    struct hv_control_connection *next;

    for (struct hv_control_connection *c = control->connections; c; c = next) {
        next = c->next;
        if (c->subscribed && !send_event(c, event, arg))
            drop(c);
    }
    if (control->observer)
        control->observer(control->observer_opaque, event, arg);
}

static void tell_noted(void *opaque)
{
    struct hv_control *control = opaque;
    uint32_t noted = atomic_exchange(&control->noted, 0);

    for (enum hv_event event = HV_EVENT_SHUTDOWN; event < HV_NR_EVENTS; event++)
        if (noted & 1u << event)
            tell_subscribers(control, event, atomic_load(&control->noted_arg[event]));
}

void hv_control_notify(struct hv_domain *d, enum hv_event event, uint64_t arg)
{
    struct hv_control *control = d->control;

    if (!control)
        return;
    atomic_store(&control->noted_arg[event], arg);
    atomic_fetch_or(&control->noted, 1u << event);
    hv_loop_wake(control->wakeup);
}

void hv_control_pause(struct hv_domain *d)
{
    struct hv_control *control = d->control;

    if (!control || control->pause_count)
        return;
    control->pause_count = 1;
    hv_domain_pause(d);
}

void hv_control_subscribe(struct hv_control *control, struct hv_control_connection *connection)
{
    connection->subscribed = true;
    if (control->domain && atomic_load(&control->domain->shutdown_code) >= 0)
        hv_control_notify(control->domain, HV_EVENT_SHUTDOWN,
                          (uint64_t)atomic_load(&control->domain->shutdown_code));
}

void hv_control_observe(struct hv_control *control, hv_control_event_fn *fn, void *opaque)
{
    control->observer = fn;
    control->observer_opaque = opaque;
}

/* ------------------------------------------------------------------ creation and end */

int hv_control_new(const struct hv_control_options *options, struct hv_control **out)
{
    struct hv_control *control = calloc(1, sizeof(*control));

    if (!control)
        return -ENOMEM;
    control->loop = options->loop;
    control->engine = options->engine;
    control->code_cache_bytes =
        options->code_cache_bytes ? options->code_cache_bytes : HV_CODE_CACHE_DEFAULT;
    control->counted = options->counted;
    snprintf(control->name, sizeof(control->name), "%s", options->name ? options->name : "");
    control->pause_count = 1; /* a new domain is paused */
    control->statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    control->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    control->userfault_fd = hv_userfault_open();
    control->buffer = malloc(sizeof(struct hv_control_message) + HV_CONTROL_DATA_MAX);
    control->wakeup = hv_loop_add_wakeup(options->loop, tell_noted, control);
    if (!control->buffer || !control->wakeup) {
        hv_control_free(control);
        return -ENOMEM;
    }
    if (hv_uring_new(options->loop, &control->uring)) /* who attaches a disk is told */
        control->uring = NULL;
    *out = control;
    return 0;
}

static void close_listener(struct hv_control *control)
{
    struct hv_control_listener *listener = control->listeners;

    control->listeners = listener->next;
    hv_loop_remove(listener->source);
    close(listener->fd);
    free(listener);
}

void hv_control_free(struct hv_control *control)
{
    if (!control)
        return;
    while (control->listeners)
        close_listener(control);
    while (control->connections)
        drop(control->connections);
    if (control->log_watch.opaque) /* the domain that it tells of goes */
        hv_log_set_watch(NULL);
    hv_domain_free(control->domain);
    hv_uring_free(control->uring);
    if (control->wakeup)
        hv_loop_remove(control->wakeup);
    if (control->statm_fd >= 0)
        close(control->statm_fd);
    if (control->pagemap_fd >= 0)
        close(control->pagemap_fd);
    if (control->userfault_fd >= 0)
        close(control->userfault_fd);
    free(control->buffer);
    free(control);
}
