/* Outputs of the log, a row for each kind. */
#include "config.h"

#include "libxldrv/host/log-output.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "libxldrv/host/log.h"
#include "libxldrv/rpc/rpc.h"

struct _XldrvLogOutput {
    char *text;
    guint level;
    gsize kind;
    char *ident; /* of syslog, which keeps the pointer */
    int fd;      /* of a file; -1 */
};

/* ---- lines */

static const char *level_name(GLogLevelFlags flags)
{
    switch (flags & G_LOG_LEVEL_MASK) {
    case G_LOG_LEVEL_ERROR:
        return "ERROR";
    case G_LOG_LEVEL_CRITICAL:
        return "CRITICAL";
    case G_LOG_LEVEL_WARNING:
        return "warning";
    case G_LOG_LEVEL_INFO:
        return "info";
    case G_LOG_LEVEL_DEBUG:
        return "debug";
    default:
        return "notice";
    }
}

/* In one write, so that lines of several processes do not mix. */
static void write_line(int fd, GLogLevelFlags flags, const char *message)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *time = g_date_time_format(now, "%F %T.%f");
    g_autofree char *line =
        g_strdup_printf("%s domusd[%d] %s: %s\n", time, (int)getpid(), level_name(flags), message);
    gsize length = strlen(line), done = 0;

    while (done < length) {
        ssize_t n = write(fd, line + done, length - done);
        if (n < 0 && errno != EINTR)
            return; /* there is nowhere to complain */
        done += n > 0 ? n : 0;
    }
}

/* ---- kinds */

static gboolean open_file(XldrvLogOutput *output, const char *path, GError **error)
{
    if (!path || !g_path_is_absolute(path))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "log output '%s' names no file by its whole path", output->text);
    output->fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
    return output->fd >= 0 || xldrv_set_system_error(error, errno, "log output '%s'", output->text);
}

static gboolean open_syslog(XldrvLogOutput *output, const char *name, GError **error)
{
    output->ident = g_strdup(name);
    return (name && *name) ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG, "log output '%s' has no name for syslog", output->text);
}

static gboolean open_nothing(XldrvLogOutput *output, const char *what, GError **error)
{
    return !what || xldrv_set_error(error, VIR_ERR_INVALID_ARG, "log output '%s' takes no '%s'", output->text, what);
}

static void write_stderr(XldrvLogOutput *output G_GNUC_UNUSED, GLogLevelFlags flags, const GLogField *fields,
                         gsize n_fields, const char *message)
{
    if (g_log_writer_is_journald(STDERR_FILENO))
        g_log_writer_journald(flags, fields, n_fields, NULL);
    else
        write_line(STDERR_FILENO, flags, message);
}

static void write_file(XldrvLogOutput *output, GLogLevelFlags flags, const GLogField *fields G_GNUC_UNUSED,
                       gsize n_fields G_GNUC_UNUSED, const char *message)
{
    write_line(output->fd, flags, message);
}

/* The process has one name there, which the end of another output takes away. */
static void write_syslog(XldrvLogOutput *output, GLogLevelFlags flags,
                         const GLogField *fields G_GNUC_UNUSED, gsize n_fields G_GNUC_UNUSED, const char *message)
{
    int priority = flags & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL) ? LOG_ERR
                   : flags & G_LOG_LEVEL_WARNING                      ? LOG_WARNING
                   : flags & G_LOG_LEVEL_MESSAGE                      ? LOG_NOTICE
                   : flags & G_LOG_LEVEL_INFO                         ? LOG_INFO
                                                                      : LOG_DEBUG;

    openlog(output->ident, LOG_PID, LOG_DAEMON);
    syslog(priority, "%s", message);
}

static void write_journal(XldrvLogOutput *output G_GNUC_UNUSED, GLogLevelFlags flags, const GLogField *fields,
                          gsize n_fields, const char *message G_GNUC_UNUSED)
{
    g_log_writer_journald(flags, fields, n_fields, NULL);
}

static const struct {
    const char *name;
    gboolean (*open)(XldrvLogOutput *output, const char *what, GError **error);
    void (*write)(XldrvLogOutput *output, GLogLevelFlags flags, const GLogField *fields, gsize n_fields,
                  const char *message);
} kinds[] = {
    {"stderr", open_nothing, write_stderr},
    {"file", open_file, write_file},
    {"syslog", open_syslog, write_syslog},
    {"journald", open_nothing, write_journal},
};

/* ---- outputs */

static gboolean open_output(XldrvLogOutput *output, char **parts, GError **error)
{
    if (parts[0][0] >= '1' && parts[0][0] <= '4' && !parts[0][1] && parts[1]) {
        output->level = parts[0][0] - '0';
        for (output->kind = 0; output->kind < G_N_ELEMENTS(kinds); output->kind++) {
            if (strcmp(kinds[output->kind].name, parts[1]) == 0)
                return kinds[output->kind].open(output, parts[2], error);
        }
    }
    return xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                           "log output '%s' is not LEVEL:stderr, file:PATH, syslog:NAME or journald with a level from 1 to 4",
                           output->text);
}

XldrvLogOutput *xldrv_log_output_new(const char *text, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 3);
    XldrvLogOutput *output = g_new0(XldrvLogOutput, 1);

    output->fd = -1;
    output->text = g_strdup(text);
    if (open_output(output, parts, error))
        return output;
    xldrv_log_output_free(output);
    return NULL;
}

void xldrv_log_output_free(XldrvLogOutput *output)
{
    if (output->fd >= 0)
        close(output->fd);
    if (output->ident)
        closelog();
    g_free(output->ident);
    g_free(output->text);
    g_free(output);
}

const char *xldrv_log_output_text(const XldrvLogOutput *output)
{
    return output->text;
}

void xldrv_log_output_write(XldrvLogOutput *output, guint level, GLogLevelFlags flags, const GLogField *fields,
                            gsize n_fields, const char *message)
{
    if (level >= output->level)
        kinds[output->kind].write(output, flags, fields, n_fields, message);
}
