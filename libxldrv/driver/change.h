/* Changing a domain's configurations: a copy of the document is changed, saved, and takes its place. */
#pragma once

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/wire.h"

/* Changes a document that nobody else sees yet. */
typedef gboolean (*XldrvChangeFn)(XmlconfDomain *domain, gconstpointer data, GError **error);

/* Makes the change in the configurations of @impact, on disk and here: in all of them or in none. With the
 * domain's job. */
gboolean xldrv_change(XldrvDriver *driver, XldrvJob *job, const XldrvImpact *impact, XldrvChangeFn fn,
                      gconstpointer data, GError **error);
/* Puts configurations that the domain had before (NULL: that one stays) in the place of those it has. With the domain's job. */
gboolean xldrv_change_back(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *live, XmlconfDomain *config, GError **error);
