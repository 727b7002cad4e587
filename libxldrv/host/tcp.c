/* TCP sockets by name. */
#include "config.h"

#include "libxldrv/host/tcp.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"

#define LISTEN_QUEUE 4

static int try_address(const struct addrinfo *address, gboolean listens, int timeout_ms)
{
    struct timeval limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, why;

    if (fd < 0)
        return -1;
    if (listens && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
        bind(fd, address->ai_addr, address->ai_addrlen) == 0 && listen(fd, LISTEN_QUEUE) == 0)
        return fd;
    if (!listens && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) == 0 &&
        connect(fd, address->ai_addr, address->ai_addrlen) == 0)
        return fd;
    why = errno;
    close(fd);
    errno = why;
    return -1;
}

int xldrv_tcp_open(const char *host, const char *service, gboolean listens, int timeout_ms, GError **error)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = listens ? AI_PASSIVE : 0};
    struct addrinfo *addresses = NULL;
    int rc = getaddrinfo(host, service, &hints, &addresses), fd = -1;

    for (const struct addrinfo *address = rc ? NULL : addresses; address && fd < 0; address = address->ai_next)
        fd = try_address(address, listens, timeout_ms);
    if (fd < 0)
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot %s host '%s' service '%s': %s",
                        listens ? "listen on" : "connect to", host ? host : "*", service,
                        rc ? gai_strerror(rc) : g_strerror(errno));
    if (addresses)
        freeaddrinfo(addresses);
    return fd;
}
