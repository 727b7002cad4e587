/* The control socket of a domus-vnc: libxldrv/vnc/protocol.h. */
#pragma once

#include <glib.h>

#include "libxldrv/vnc/protocol.h"

/* A connection, close-on-exec. -1 with an error. */
int xldrv_vnc_connect(const char *path, GError **error);
/* Sends a request, with descriptor @fd unless it is -1, and waits for its reply. FALSE with an error. */
gboolean xldrv_vnc_request(int connection, const struct xldrv_vnc_message *request, int fd, GError **error);
/* The next event, without waiting: 1; 0 when there is none; -1 at the end. */
int xldrv_vnc_next_event(int connection, struct xldrv_vnc_message *event);
