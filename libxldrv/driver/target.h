/* Files that a domain is written to, at a client's path. */
#pragma once

/* What a file is called beside that until it is complete. */
#define XLDRV_TARGET_PART ".part"

#include <glib.h>

/* Writes to @fd, which is at the file's beginning. */
typedef gboolean (*XldrvTargetFn)(int fd, gpointer data, GError **error);

/* Makes the file beside its place, so that what was there stays until there is something better; when it is written and
 * synced it takes its place, else it is removed. @direct: without the cache. */
gboolean xldrv_target_write(const char *path, gboolean direct, XldrvTargetFn fn, gpointer data, GError **error);
/* An absolute path; the error says that it is none. */
gboolean xldrv_target_check(const char *path, GError **error);
