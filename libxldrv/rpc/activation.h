/* activation: the service manager's side: sockets that it opened, and news for it. */
#pragma once

#include <glib.h>

/* The listening sockets that were passed to this process (LISTEN_FDS), as an int array, empty if
 * there are none; made close-on-exec, and the environment is cleared so that no child takes them
 * for its own. The caller owns them. */
GArray *xldrv_activation_take_fds(void);
/* Whether the path of a listening socket says that it is read-only, by ending in "-ro". */
gboolean xldrv_activation_is_readonly(int fd);
/* Sends @state ("READY=1", "STOPPING=1", ...) to the service manager if there is one. FALSE if that
 * failed. */
gboolean xldrv_activation_notify(const char *state, GError **error);
