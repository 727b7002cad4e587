/* Logs that others write. */
#include "config.h"

#include "libxldrv/host/log-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"

#define OPEN_FLAGS (O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_APPEND)

static char *backup_path(const char *path, guint i)
{
    return g_strdup_printf("%s.%u", path, i);
}

static void remove_backups(const char *path, const XldrvLogLimits *limits)
{
    for (guint i = 0; i < limits->max_backups; i++) {
        g_autofree char *backup = backup_path(path, i);
        unlink(backup);
    }
}

int xldrv_log_file_open(const char *path, gboolean append, const XldrvLogLimits *limits, GError **error)
{
    int fd;

    if (append && xldrv_log_file_is_full(path, limits))
        return xldrv_log_file_rotate(path, limits, error);
    fd = open(path, OPEN_FLAGS | (append ? 0 : O_TRUNC), 0600);
    if (fd < 0)
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot open '%s' for the console: %s", path, g_strerror(errno));
    else if (!append)
        remove_backups(path, limits);
    return fd;
}

gboolean xldrv_log_file_is_regular(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISREG(st.st_mode);
}

gboolean xldrv_log_file_is_full(const char *path, const XldrvLogLimits *limits)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (guint64)st.st_size >= limits->max_bytes;
}

static gboolean rename_log(const char *from, const char *to, GError **error)
{
    return rename(from, to) == 0 || errno == ENOENT ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot rename '%s' to '%s': %s", from, to, g_strerror(errno));
}

/* The oldest is overwritten. */
static gboolean shift(const char *path, const XldrvLogLimits *limits, GError **error)
{
    for (guint i = limits->max_backups; i > 0; i--) {
        g_autofree char *from = i > 1 ? backup_path(path, i - 2) : g_strdup(path);
        g_autofree char *to = backup_path(path, i - 1);
        if (!rename_log(from, to, error))
            return FALSE;
    }
    return TRUE;
}

/* The new one is there before the old one goes, so that a full disk leaves things as they are. */
int xldrv_log_file_rotate(const char *path, const XldrvLogLimits *limits, GError **error)
{
    g_autofree char *fresh = g_strconcat(path, ".new", NULL);
    int fd;

    unlink(fresh); /* of a daemon that was killed here */
    fd = open(fresh, OPEN_FLAGS | O_EXCL | O_NOFOLLOW, 0600);
    if (fd < 0) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot create '%s': %s", fresh, g_strerror(errno));
        return -1;
    }
    if (shift(path, limits, error) && rename_log(fresh, path, error))
        return fd;
    unlink(fresh);
    close(fd);
    return -1;
}
