/* The logs of a running domain.
 *
 * The hypervisor tells of a file that is full once until it has another, so that a guest that floods its console causes no
 * more rotations than it writes files full; or ever more rarely, where that fails. */
#include "config.h"

#include "libxldrv/driver/logs.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "libxldrv/driver/consoles.h"
#include "libxldrv/host/log-file.h"
#include "libxldrv/host/log.h"
#include "libxldrv/state/files.h"

typedef struct {
    guint which;
    int fd;
    guint64 limit_bytes;
} Log;

static int set_log(struct domctl *ctl, gpointer data)
{
    const Log *log = data;

    return domctl_log_file(ctl, log->which, log->fd, log->limit_bytes);
}

/* Takes @fd; -1 with an error that is told is fine. */
static gboolean give(XldrvInstance *instance, guint which, int fd, guint64 limit_bytes, GError **error)
{
    Log log = {which, fd, limit_bytes};
    gboolean ok = fd >= 0 && xldrv_instance_control(instance, "give another log to", set_log, &log, error);

    if (fd >= 0)
        close(fd);
    return ok;
}

/* ---- its own: two at most are kept, as of what starts anew */

static const XldrvLogLimits own_limits = {XLDRV_LOG_BYTES_MAX, 1};

static gboolean renew_own(XldrvInstance *instance, const char *path, GError **error)
{
    int fd;

    xldrv_log_rotate(path);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot open '%s': %s", path, g_strerror(errno));
    return give(instance, DOMUS_LOG_OWN, fd, own_limits.max_bytes, error);
}

gboolean xldrv_log_watch_own(const XldrvDeviceHost *host, GError **error)
{
    g_autofree char *path = xldrv_file_path(host->driver->paths->log_dir, host->name, ".log", error);

    return path && renew_own(host->instance, path, error);
}

/* ---- of consoles and channels */

/* Not full: somebody else has taken it away, or an earlier attempt came half-way. */
static gboolean renew_console(XldrvDriver *driver, XldrvInstance *instance, const XmlconfConsole *console, gboolean named,
                              GError **error)
{
    gboolean append;
    const char *path = xldrv_console_log(console, &append);
    gboolean full = path && xldrv_log_file_is_full(path, &driver->log_limits);

    if (!path || (!full && !named) || (g_file_test(path, G_FILE_TEST_EXISTS) && !xldrv_log_file_is_regular(path)))
        return TRUE;
    return give(instance, console->port, full ? xldrv_log_file_rotate(path, &driver->log_limits, error)
                                              : xldrv_log_file_open(path, TRUE, &driver->log_limits, error),
                driver->log_limits.max_bytes, error);
}

static void renew_list(XldrvDriver *driver, XldrvJob *job, const GPtrArray *list, guint64 named)
{
    for (guint i = 0; list && i < list->len; i++) {
        const XmlconfConsole *console = list->pdata[i];
        g_autoptr(GError) why = NULL;

        if (!renew_console(driver, job->instance, console, console->port == named, &why))
            g_warning("domain '%s': the log of console %u goes on growing: %s", job->name, console->port, why->message);
    }
}

void xldrv_logs_renew(XldrvDriver *driver, XldrvJob *job, guint64 named)
{
    const XmlconfDomainConfig *config = xmlconf_domain_config(job->live);
    g_autofree char *path = xldrv_file_path(driver->paths->log_dir, config->name, ".log", NULL);
    g_autoptr(GError) why = NULL;

    if (path && (named == DOMUS_LOG_OWN || xldrv_log_file_is_full(path, &own_limits)) &&
        !renew_own(job->instance, path, &why))
        g_warning("domain '%s': the hypervisor's log goes on growing: %s", job->name, why->message);
    renew_list(driver, job, config->consoles, named);
    renew_list(driver, job, config->channels, named);
}
