/* The daemon's log: a GLib writer with one line per message. */
#include "config.h"

#include "libxldrv/host/log.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One more bit for each step of verbosity. */
static const GLogLevelFlags shown[] = {
    G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING | G_LOG_LEVEL_MESSAGE,
    G_LOG_LEVEL_INFO,
    G_LOG_LEVEL_DEBUG,
};

static int current_verbosity; /* atomic */
static gboolean to_journal;   /* set before threads are */

static const char *level_name(GLogLevelFlags level)
{
    switch (level & G_LOG_LEVEL_MASK) {
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

static gboolean is_shown(GLogLevelFlags level)
{
    int verbosity = g_atomic_int_get(&current_verbosity);
    GLogLevelFlags mask = 0;

    for (int i = 0; i <= verbosity && i < (int)G_N_ELEMENTS(shown); i++)
        mask |= shown[i];
    return level & mask;
}

static const char *find_message(const GLogField *fields, gsize n_fields)
{
    for (gsize i = 0; i < n_fields; i++) {
        if (strcmp(fields[i].key, "MESSAGE") == 0 && fields[i].length < 0)
            return fields[i].value;
    }
    return "(no text)";
}

static GLogWriterOutput write_log(GLogLevelFlags level, const GLogField *fields, gsize n_fields,
                                  gpointer data G_GNUC_UNUSED)
{
    g_autoptr(GDateTime) now = NULL;
    g_autofree char *time = NULL;

    if (!is_shown(level))
        return G_LOG_WRITER_HANDLED;
    if (to_journal)
        return g_log_writer_journald(level, fields, n_fields, NULL);
    now = g_date_time_new_now_local();
    time = g_date_time_format(now, "%F %T.%f");
    fprintf(stderr, "%s domusd[%d] %s: %s\n", time, (int)getpid(), level_name(level),
            find_message(fields, n_fields));
    fflush(stderr);
    return G_LOG_WRITER_HANDLED;
}

void xldrv_log_init(void)
{
    to_journal = g_log_writer_is_journald(STDERR_FILENO);
    g_log_set_writer_func(write_log, NULL, NULL);
}

void xldrv_log_set_verbosity(int verbosity)
{
    g_atomic_int_set(&current_verbosity, verbosity);
}

void xldrv_log_rotate(const char *path)
{
    g_autofree char *old = g_strconcat(path, ".old", NULL);
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= XLDRV_LOG_BYTES_MAX && rename(path, old) < 0)
        g_warning("'%s' goes on growing: cannot rename it", path);
}
