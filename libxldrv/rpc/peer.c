/* peer: credentials and addresses of clients. */
#include "config.h"

#include "libxldrv/rpc/peer.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

/* Field 22 of /proc/PID/stat, from proc(5); those from the third on follow the name, which may hold anything. */
#define START_TIME_FIELD 22

static guint64 start_time(int pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);
    g_autofree char *text = NULL;
    guint64 value = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 0;
    const char *rest = strrchr(text, ')');
    g_auto(GStrv) fields = rest ? g_strsplit(rest + 1, " ", START_TIME_FIELD) : NULL;
    if (fields && g_strv_length(fields) > START_TIME_FIELD - 2)
        g_ascii_string_to_unsigned(fields[START_TIME_FIELD - 2], 10, 0, G_MAXUINT64, &value, NULL);
    return value;
}

static void find_process(XldrvPeer *peer, int fd)
{
    struct ucred credentials;
    socklen_t length = sizeof(credentials);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) < 0 ||
        length != sizeof(credentials))
        return;
    peer->known = TRUE;
    peer->uid = credentials.uid;
    peer->gid = credentials.gid;
    peer->pid = credentials.pid;
    peer->start_time = start_time(credentials.pid);
}

static char *format_address(const struct sockaddr *address, socklen_t length)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];

    if (getnameinfo(address, length, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV))
        return g_strdup("unknown");
    return g_strdup_printf(strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
}

void xldrv_peer_find(XldrvPeer *peer, int fd)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t length = sizeof(address);
    int on = 1;

    if (getpeername(fd, (struct sockaddr *)&address, &length) == 0 && address.ss_family == AF_UNIX) {
        find_process(peer, fd);
        return;
    }
    peer->address = format_address((struct sockaddr *)&address, length);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
}
