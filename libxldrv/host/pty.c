/* Pseudo-terminals for consoles. */
#include "config.h"

#include "libxldrv/host/pty.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"

static gboolean make_raw(int fd)
{
    struct termios attributes;

    if (tcgetattr(fd, &attributes) < 0)
        return FALSE;
    cfmakeraw(&attributes);
    return tcsetattr(fd, TCSANOW, &attributes) == 0;
}

gboolean xldrv_pty_new(int *master, char **tty, GError **error)
{
    int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    char name[64];

    if (fd >= 0 && grantpt(fd) == 0 && unlockpt(fd) == 0 && ptsname_r(fd, name, sizeof(name)) == 0 &&
        make_raw(fd)) {
        *master = fd;
        *tty = g_strdup(name);
        return TRUE;
    }
    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot make a pseudo-terminal: %s",
                    g_strerror(errno));
    if (fd >= 0)
        close(fd);
    return FALSE;
}

int xldrv_pty_open(const char *tty, GError **error)
{
    int fd = open(tty, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0)
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot open '%s': %s", tty, g_strerror(errno));
    return fd;
}
