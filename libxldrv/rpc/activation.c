/* activation: LISTEN_FDS and NOTIFY_SOCKET, as documented in sd_listen_fds(3) and sd_notify(3). */
#include "config.h"

#include "libxldrv/rpc/activation.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"

/* The first descriptor that is passed. */
#define FIRST_FD 3
/* More sockets than any unit of ours has. */
#define FDS_MAX  64

static guint passed_fds(void)
{
    const char *pid = g_getenv("LISTEN_PID"), *count = g_getenv("LISTEN_FDS");
    guint64 value;

    if (!pid || !count)
        return 0;
    if (!g_ascii_string_to_unsigned(pid, 10, 1, G_MAXINT, &value, NULL) ||
        value != (guint64)getpid())
        return 0;
    if (!g_ascii_string_to_unsigned(count, 10, 0, FDS_MAX, &value, NULL))
        return 0;
    return value;
}

GArray *xldrv_activation_take_fds(void)
{
    GArray *fds = g_array_new(FALSE, FALSE, sizeof(int));
    guint n = passed_fds();

    for (guint i = 0; i < n; i++) {
        int fd = FIRST_FD + i;
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0)
            g_array_append_val(fds, fd);
    }
    g_unsetenv("LISTEN_PID");
    g_unsetenv("LISTEN_FDS");
    g_unsetenv("LISTEN_FDNAMES");
    return fds;
}

gboolean xldrv_activation_is_readonly(int fd)
{
    struct sockaddr_un address;
    socklen_t length = sizeof(address);

    memset(&address, 0, sizeof(address));
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0 || address.sun_family != AF_UNIX)
        return FALSE;
    g_autofree char *path = g_strndup(address.sun_path, sizeof(address.sun_path));
    return g_str_has_suffix(path, "-ro");
}

gboolean xldrv_activation_notify(const char *state, GError **error)
{
    const char *path = g_getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (!path)
        return TRUE;
    gsize length = strlen(path);
    if ((path[0] != '/' && path[0] != '@') || length < 2 || length >= sizeof(address.sun_path))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                               "NOTIFY_SOCKET '%s' is no socket address", path);
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0'; /* abstract */

    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    gssize n =
        fd < 0 ? -1
               : sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
                        offsetof(struct sockaddr_un, sun_path) + length);
    if (n < 0)
        xldrv_set_system_error(error, errno, "cannot notify '%s'", path);
    if (fd >= 0)
        close(fd);
    return n >= 0;
}
