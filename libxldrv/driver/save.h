/* Managed saves: the file that a domain is started from, if there is one. All with the domain's job, but for has. */
#pragma once

#include "libxldrv/driver/run.h"

char *xldrv_managed_path(const XldrvDriver *driver, const char *name);
gboolean xldrv_managed_has(const XldrvDriver *driver, const char *name);
gboolean xldrv_managed_remove(const XldrvDriver *driver, const char *name, GError **error);
/* Follows a domain that gets another name. */
void xldrv_managed_rename(const XldrvDriver *driver, const char *from, const char *to);
/* Starts the domain as its definition says, or goes on from its managed save, which is then gone; @force_boot removes that
 * instead. */
gboolean xldrv_managed_start(XldrvDriver *driver, XldrvJob *job, const XldrvStartOptions *options, gboolean force_boot,
                             gboolean direct, GError **error);
