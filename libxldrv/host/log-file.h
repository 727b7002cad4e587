/* Logs that others write, and that are not to grow for ever: when one is full it becomes PATH.0, what was that PATH.1, and
 * so on, as libvirt's virtlogd does it. */
#pragma once

#include <glib.h>

typedef struct {
    guint64 max_bytes;
    guint max_backups;
} XldrvLogLimits;

/* Opens @path for appending. Without @append it is emptied, and what is left of earlier ones goes. -1 with an error. */
int xldrv_log_file_open(const char *path, gboolean append, const XldrvLogLimits *limits, GError **error);
/* Whether it is a file, which can be rotated, and not a pipe, a device or a link to one. */
gboolean xldrv_log_file_is_regular(const char *path);
gboolean xldrv_log_file_is_full(const char *path, const XldrvLogLimits *limits);
/* Puts it aside and opens a new one in its place. -1 with an error, and it is still the log. */
int xldrv_log_file_rotate(const char *path, const XldrvLogLimits *limits, GError **error);
