/* Files that are either the old or the new version, whatever happens while they are written. */
#pragma once

#include <glib.h>

/* The file of @name in @dir with @suffix, or NULL with an error if @name cannot be part of a file name. */
char *xldrv_file_path(const char *dir, const char *name, const char *suffix, GError **error);

/* Replaces @path by @text, on disk when it returns: a crash before that leaves the old or the new text, or where there was
 * none maybe a part of the new one. Mode 0600. */
gboolean xldrv_file_replace(const char *path, const char *text, GError **error);
/* The same for what is of no use after a crash of the host: it is not waited for. */
gboolean xldrv_file_replace_volatile(const char *path, const char *text, GError **error);

/* Removes @path; that there is none is fine. Not synced: after a crash it may be back. */
gboolean xldrv_file_remove(const char *path, GError **error);
/* Gives a file another name, which must be free, in the same directory. */
gboolean xldrv_file_move(const char *from, const char *to, GError **error);

/* The file as a string; at most @max bytes, without NUL bytes. */
char *xldrv_file_read(const char *path, gsize max, GError **error);

/* What a file that is being written is called until it is whole; one that is left was not. */
#define XLDRV_FILE_NEW ".new"

/* Calls @fn for each file of @dir whose name ends in @suffix; @stem is the name without it. In the order
 * of names. A directory that is not there has no files. */
typedef void (*XldrvFileFn)(const char *path, const char *stem, gpointer user_data);
void xldrv_file_each(const char *dir, const char *suffix, XldrvFileFn fn, gpointer user_data);
