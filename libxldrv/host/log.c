/* The daemon's log: a GLib writer. What a message's level must be is told by the first filter that its source matches. */
#include "config.h"

#include "libxldrv/host/log.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "libxldrv/host/log-output.h"
#include "libxldrv/rpc/rpc.h"

#define DEFAULT_OUTPUT "1:stderr"
#define FOLDER         "libxldrv/"

typedef struct {
    char *text;
    guint level;
    char *pattern;
} Filter;

/* The process has one log. */
static struct {
    GMutex lock;
    guint level;        /* under lock, as all that follows */
    GPtrArray *filters; /* Filter */
    GPtrArray *outputs; /* XldrvLogOutput */
} the_log;

static guint level_of(GLogLevelFlags flags)
{
    if (flags & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL))
        return XLDRV_LOG_ERROR;
    if (flags & (G_LOG_LEVEL_WARNING | G_LOG_LEVEL_MESSAGE))
        return XLDRV_LOG_WARNING;
    return flags & G_LOG_LEVEL_INFO ? XLDRV_LOG_INFO : XLDRV_LOG_DEBUG;
}

static const char *find_field(const GLogField *fields, gsize n_fields, const char *key)
{
    for (gsize i = 0; i < n_fields; i++) {
        if (strcmp(fields[i].key, key) == 0 && fields[i].length < 0)
            return fields[i].value;
    }
    return NULL;
}

/* ".../libxldrv/driver/start.c" is driver.start. */
static char *source_of(const GLogField *fields, gsize n_fields)
{
    const char *file = find_field(fields, n_fields, "CODE_FILE");
    const char *part = file ? strstr(file, FOLDER) : NULL;
    char *source = g_strdup(part ? part + strlen(FOLDER) : file ? file : "");

    if (g_str_has_suffix(source, ".c"))
        source[strlen(source) - 2] = 0;
    return g_strdelimit(source, "/", '.');
}

static guint wanted_level_locked(const GLogField *fields, gsize n_fields)
{
    g_autofree char *source = the_log.filters->len ? source_of(fields, n_fields) : NULL;

    for (guint i = 0; i < the_log.filters->len; i++) {
        const Filter *filter = the_log.filters->pdata[i];
        if (fnmatch(filter->pattern, source, 0) == 0)
            return filter->level;
    }
    return the_log.level;
}

static GLogWriterOutput write_log(GLogLevelFlags flags, const GLogField *fields, gsize n_fields,
                                  gpointer data G_GNUC_UNUSED)
{
    const char *message = find_field(fields, n_fields, "MESSAGE");
    guint level = level_of(flags);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&the_log.lock);

    if (level < wanted_level_locked(fields, n_fields))
        return G_LOG_WRITER_HANDLED;
    for (guint i = 0; i < the_log.outputs->len; i++)
        xldrv_log_output_write(the_log.outputs->pdata[i], level, flags, fields, n_fields, message ? message : "(no text)");
    return G_LOG_WRITER_HANDLED;
}

static void filter_free(gpointer data)
{
    Filter *filter = data;

    g_free(filter->text);
    g_free(filter->pattern);
    g_free(filter);
}

static void output_free(gpointer output)
{
    xldrv_log_output_free(output);
}

void xldrv_log_init(void)
{
    the_log.level = XLDRV_LOG_WARNING;
    the_log.filters = g_ptr_array_new_with_free_func(filter_free);
    the_log.outputs = g_ptr_array_new_with_free_func(output_free);
    g_ptr_array_add(the_log.outputs, xldrv_log_output_new(DEFAULT_OUTPUT, NULL));
    g_log_set_writer_func(write_log, NULL, NULL);
}

void xldrv_log_set_level(guint level)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&the_log.lock);

    the_log.level = level;
}

/* ---- filters and outputs as text, parted by spaces */

static void replace(GPtrArray **list, GPtrArray *with)
{
    GPtrArray *old;

    g_mutex_lock(&the_log.lock);
    old = *list;
    *list = with;
    g_mutex_unlock(&the_log.lock);
    g_ptr_array_unref(old);
}

static gpointer filter_new(const char *text, GError **error)
{
    Filter *filter;

    if (text[0] < '1' || text[0] > '4' || text[1] != ':' || !text[2]) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "log filter '%s' is not LEVEL:MATCH with a level from 1 to 4", text);
        return NULL;
    }
    filter = g_new0(Filter, 1);
    filter->text = g_strdup(text);
    filter->level = text[0] - '0';
    filter->pattern = strpbrk(text + 2, "*?[") ? g_strdup(text + 2) : g_strdup_printf("*%s*", text + 2);
    return filter;
}

static gpointer output_new(const char *text, GError **error)
{
    return xldrv_log_output_new(text, error);
}

static GPtrArray *parse(const char *text, gpointer (*make)(const char *text, GError **error), GDestroyNotify free_fn,
                        GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, " ", 0);
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(free_fn);

    for (char **part = parts; *part; part++) {
        gpointer one = **part ? make(*part, error) : NULL;
        if (**part && !one)
            return NULL;
        if (one)
            g_ptr_array_add(list, one);
    }
    return g_steal_pointer(&list);
}

gboolean xldrv_log_set_filters(const char *text, GError **error)
{
    GPtrArray *filters = parse(text, filter_new, filter_free, error);

    if (filters)
        replace(&the_log.filters, filters);
    return filters != NULL;
}

gboolean xldrv_log_set_outputs(const char *text, GError **error)
{
    GPtrArray *outputs = parse(text, output_new, output_free, error);

    if (outputs && outputs->len == 0)
        g_ptr_array_add(outputs, xldrv_log_output_new(DEFAULT_OUTPUT, NULL));
    if (outputs)
        replace(&the_log.outputs, outputs);
    return outputs != NULL;
}

void xldrv_log_end(void)
{
    xldrv_log_set_outputs("", NULL);
}

static char *join(GString *text)
{
    if (text->len)
        g_string_truncate(text, text->len - 1);
    return g_string_free(text, FALSE);
}

char *xldrv_log_get_filters(guint *n)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&the_log.lock);
    GString *text = g_string_new(NULL);

    *n = the_log.filters->len;
    for (guint i = 0; i < *n; i++)
        g_string_append_printf(text, "%s ", ((const Filter *)the_log.filters->pdata[i])->text);
    return join(text);
}

char *xldrv_log_get_outputs(guint *n)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&the_log.lock);
    GString *text = g_string_new(NULL);

    *n = the_log.outputs->len;
    for (guint i = 0; i < *n; i++)
        g_string_append_printf(text, "%s ", xldrv_log_output_text(the_log.outputs->pdata[i]));
    return join(text);
}

void xldrv_log_rotate(const char *path)
{
    g_autofree char *old = g_strconcat(path, ".old", NULL);
    struct stat st;

    if (lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size >= XLDRV_LOG_BYTES_MAX && rename(path, old) < 0)
        g_warning("'%s' goes on growing: cannot rename it", path);
}
