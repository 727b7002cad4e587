/* Exports of NBD servers: connecting, and what has to be agreed before requests can be made. By libnbd.
 *
 * What comes out is a socket in the transmission phase, for another process to go on with (hv/backend/blk/nbd.c). */
#pragma once

#include <glib.h>

#include "hv/hv.h"

/* Agrees with the server at the other end of @fd (taken) on export @name ("" for its default one), without TLS and with
 * simple replies. A socket and *@source, or -1 with an error; @where names the server in it. Blocks for 10 s at most. */
int xldrv_export_open(int fd, const char *name, const char *where, struct domus_vbd_source *source, GError **error);

/* Whether there is a server at the other end of @fd (taken): of one that wants TLS no more is known without a certificate. */
gboolean xldrv_export_greets(int fd, const char *where, GError **error);

/* The same as xldrv_export_open for a server at @host, @port. */
int xldrv_export_open_tcp(const char *host, const char *port, const char *name, const char *where,
                          struct domus_vbd_source *source, GError **error);
