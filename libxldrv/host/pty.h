/* Pseudo-terminals for consoles. */
#pragma once

#include <glib.h>

/* A new pair in raw mode: *master (close-on-exec, non-blocking) and the path of the other side. */
gboolean xldrv_pty_new(int *master, char **tty, GError **error);
/* Opens the other side: non-blocking, close-on-exec, not as a controlling terminal. -1 with an error. */
int xldrv_pty_open(const char *tty, GError **error);
