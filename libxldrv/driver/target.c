/* Files that a domain is written to. */
#include "config.h"

#include "libxldrv/driver/target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"

static gboolean sync_file(int fd, const char *path, GError **error)
{
    return fsync(fd) == 0 || xldrv_set_system_error(error, errno, "cannot write '%s'", path);
}

gboolean xldrv_target_write(const char *path, gboolean direct, XldrvTargetFn fn, gpointer data, GError **error)
{
    g_autofree char *part = g_strconcat(path, XLDRV_TARGET_PART, NULL);
    int fd = open(part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | (direct ? O_DIRECT : 0), 0600);
    gboolean ok;

    if (fd < 0)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot write '%s': %s", part, g_strerror(errno));
    ok = fn(fd, data, error) && sync_file(fd, part, error);
    close(fd);
    if (ok && rename(part, path) < 0)
        ok = xldrv_set_system_error(error, errno, "cannot give '%s' its name", path);
    if (!ok)
        unlink(part);
    return ok;
}

gboolean xldrv_target_check(const char *path, GError **error)
{
    return (path && *path == '/') ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG, "'%s' is no absolute path", path ? path : "");
}
