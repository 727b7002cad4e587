/* TCP sockets. */
#pragma once

#include <glib.h>

/* Connects to @host and @service (a name or a number), or listens there, at any address for a NULL @host. -1 with an
 * error that names them. */
int xldrv_tcp_open(const char *host, const char *service, gboolean listens, int timeout_ms, GError **error);
