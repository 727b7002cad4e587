/* The settings file, domusd.conf. */
#pragma once

#include <glib.h>

#include "libxldrv/rpc/rpc.h"

typedef struct {
    char *hypervisor, *store_daemon, *engine, *user, *secret_uri; /* NULL: not set */
    guint socket_mode, socket_ro_mode;
    int verbosity;
    XldrvLimits limits;
} XldrvSettings;

/* Fills @settings with the defaults and then with what the file says. A file that is not there is fine unless
 * it @must_exist; a group, key or value that is not known is an error that names it. */
gboolean xldrv_settings_load(XldrvSettings *settings, const char *path, gboolean must_exist, GError **error);
void xldrv_settings_clear(XldrvSettings *settings);
