/* The sockets that the daemon listens on, as the settings want them. */
#pragma once

#include "libxldrv/host/tls-pipe.h"
#include "libxldrv/settings.h"
#include "libxldrv/state/paths.h"

/* Names of sockets begin with it; clients look for them. */
#define XLDRV_SERVER_NAME "virtxend"

/* Opens all, but for those of UNIX in @passed (int), which the service manager opened: then these are taken and no
 * others of UNIX are made. *@tls gets what TLS works with, NULL without TLS, which must stay as long as @server. */
gboolean xldrv_sockets_open(XldrvServer *server, const XldrvSettings *settings, const XldrvPaths *paths,
                            const GArray *passed, XldrvTls **tls, GError **error);
/* Where the settings have certificates. */
XldrvPki *xldrv_sockets_pki(const XldrvSettings *settings, const XldrvPaths *paths);
/* The socket of the admin server, for root and our own user alone. */
gboolean xldrv_sockets_open_admin(XldrvServer *server, const XldrvSettings *settings, const XldrvPaths *paths,
                                  GError **error);
