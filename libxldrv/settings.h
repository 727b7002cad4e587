/* The settings file, domusd.conf. */
#pragma once

#include <glib.h>

#include "libxldrv/rpc/rpc.h"

typedef struct {
    char *hypervisor, *store_daemon, *engine, *user, *secret_uri, *network_uri, *filter_uri, *storage_uri, *relay_sockets; /* NULL: not set */
    int verbosity;
    guint console_log_bytes, console_log_backups;
    guint log_level; /* of host/log.h, as what follows */
    char *log_filters, *log_outputs; /* NULL: not set */
    XldrvLimits limits, admin_limits;

    char *socket_group; /* NULL: our own */
    guint socket_mode, socket_ro_mode;
    gboolean listen_tls, listen_tcp;
    char *listen_address; /* NULL: all */
    guint tls_port, tcp_port;
    XldrvAuth auth_unix_rw, auth_unix_ro, auth_tls, auth_tcp;

    char **access_drivers; /* NULL: not set */
    gboolean access_polkit;

    guint tcp_min_ssf;
    char **sasl_allowed; /* NULL: not set */
    char *key_file, *cert_file, *client_key_file, *client_cert_file, *ca_file, *crl_file, *tls_priority;
    gboolean tls_no_verify, tls_no_sanity;
    char *backup_cert_dir; /* NULL: not set */
    gboolean backup_verify;
    char **tls_allowed_names; /* NULL: not set */
} XldrvSettings;

/* Fills @settings with the defaults and then with what the file says. A file that is not there is fine unless
 * it @must_exist; a group, key or value that is not known is an error that names it. */
gboolean xldrv_settings_load(XldrvSettings *settings, const char *path, gboolean must_exist, GError **error);
void xldrv_settings_clear(XldrvSettings *settings);
