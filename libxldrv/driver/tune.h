/* How much of the host's CPUs a running domain may use, by control groups. */
#pragma once

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/instance.h"

/* Makes what @tune says true of what runs, and of its threads; a domain of which nothing is said has no groups. */
gboolean xldrv_tune(XldrvDriver *driver, XldrvDomain *domain, XldrvInstance *instance, const XmlconfCputune *tune,
                    GError **error);
/* The name of a domain's control groups, new. */
char *xldrv_tune_group(XldrvDriver *driver, const char *uuid);
/* Removes the groups of a domain that has ended. */
void xldrv_untune(XldrvDriver *driver, const char *uuid);
