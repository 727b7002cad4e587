/* UNIX sockets: long paths go through a descriptor of their directory. */
#include "config.h"

#include "libxldrv/host/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"

#define LISTEN_QUEUE 16

/* Fills @address; *dir_fd must stay open while it is used, -1 if it is not needed. */
static gboolean fill_address(const char *path, struct sockaddr_un *address, int *dir_fd)
{
    g_autofree char *dir = NULL;
    g_autofree char *file = NULL;

    *dir_fd = -1;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (g_strlcpy(address->sun_path, path, sizeof(address->sun_path)) < sizeof(address->sun_path))
        return TRUE;
    dir = g_path_get_dirname(path);
    file = g_path_get_basename(path);
    *dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*dir_fd < 0)
        return FALSE;
    if (g_snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%s", *dir_fd,
                   file) < (int)sizeof(address->sun_path))
        return TRUE;
    close(*dir_fd);
    errno = ENAMETOOLONG;
    return FALSE;
}

static int fail(int fd, const char *what, const char *path, GError **error)
{
    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot %s socket '%s': %s", what, path,
                    g_strerror(errno));
    if (fd >= 0)
        close(fd);
    return -1;
}

int xldrv_socket_listen(const char *path, int type, GError **error)
{
    struct sockaddr_un address;
    int dir_fd, fd, failed;

    if (!fill_address(path, &address, &dir_fd))
        return fail(-1, "name", path, error);
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    unlink(path);
    failed = fd < 0 || fchmod(fd, 0600) < 0 ||
             bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, LISTEN_QUEUE) < 0;
    if (dir_fd >= 0)
        close(dir_fd);
    return failed ? fail(fd, "listen on", path, error) : fd;
}

/* Whether a process listens there. To connect would be to take the place of its peer. */
static gboolean is_served(const char *path)
{
    g_autofree char *all = NULL;
    g_autofree char *end = g_strconcat(" ", path, NULL);
    g_auto(GStrv) lines = NULL;
    gboolean found = FALSE;

    if (!g_file_get_contents("/proc/net/unix", &all, NULL, NULL))
        return TRUE;
    lines = g_strsplit(all, "\n", -1);
    for (char **line = lines; *line && !found; line++)
        found = g_str_has_suffix(*line, end);
    return found;
}

int xldrv_socket_listen_stream(const char *path, GError **error)
{
    struct stat about;
    const char *problem = NULL;

    if (lstat(path, &about) == 0)
        problem = !S_ISSOCK(about.st_mode) ? "it is there, and no socket" : is_served(path) ? "somebody else does" : NULL;
    if (!problem)
        return xldrv_socket_listen(path, SOCK_STREAM, error);
    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot listen on '%s': %s", path, problem);
    return -1;
}

int xldrv_socket_connect(const char *path, int type, int timeout_ms, GError **error)
{
    struct timeval limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
    struct sockaddr_un address;
    int dir_fd, fd, failed;

    if (!fill_address(path, &address, &dir_fd))
        return fail(-1, "name", path, error);
    fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    failed = fd < 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0 ||
             connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0;
    if (dir_fd >= 0)
        close(dir_fd);
    return failed ? fail(fd, "connect to", path, error) : fd;
}

char *xldrv_socket_short_path(const char *path, GError **error)
{
    struct sockaddr_un address;
    int dir_fd;

    if (!fill_address(path, &address, &dir_fd)) {
        fail(-1, "name", path, error);
        return NULL;
    }
    return g_strdup(address.sun_path);
}
