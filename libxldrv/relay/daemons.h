/* daemons: libvirt's daemons for all but domains. */
#pragma once

#include <glib.h>

typedef enum {
    XLDRV_DAEMON_NONE = -1,
    XLDRV_DAEMON_NETWORK,
    XLDRV_DAEMON_STORAGE,
    XLDRV_DAEMON_NODEDEV,
    XLDRV_DAEMON_INTERFACE,
    XLDRV_DAEMON_SECRET,
    XLDRV_DAEMON_NWFILTER,
    XLDRV_N_DAEMONS
} XldrvDaemon;

/* Whose procedure (or event) @number of program REMOTE is. */
XldrvDaemon xldrv_daemon_of_procedure(guint number);

/* Scheme of its URI, and what the names of the daemon and its sockets are made of: "network", of virtnetworkd. */
const char *xldrv_daemon_name(XldrvDaemon daemon);

/* A connected, non-blocking socket of the daemon, which is to open *uri ("network:///system"). -1 with an error. */
int xldrv_daemon_connect(XldrvDaemon daemon, const char *socket_dir, gboolean readonly, char **uri, GError **error);

/* What virConnectOpen takes for the daemon: "storage+unix:///system?socket=...". */
char *xldrv_daemon_uri(XldrvDaemon daemon, const char *socket_dir);
