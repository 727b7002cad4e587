/* Values of sysfs files, which hold one line each. */
#pragma once

#include <glib.h>

#define XLDRV_SYSFS_CPU  "/sys/devices/system/cpu"
#define XLDRV_SYSFS_NODE "/sys/devices/system/node"

/* The line without its end; NULL if it cannot be read. */
char *xldrv_sysfs_line(const char *path);
gboolean xldrv_sysfs_number(const char *path, guint64 *value);
/* The numbers (guint) of a list such as "0-3,8"; empty if it cannot be read. */
GArray *xldrv_sysfs_list(const char *path);
