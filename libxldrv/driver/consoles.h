/* The consoles of a running domain: what they are connected to. */
#pragma once

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/instance.h"

/* Opens what the console's configuration names and gives it to the hypervisor; sets its alias and terminal. All but the
 * first are devices: the domain is in the store. */
gboolean xldrv_console_attach(XldrvDriver *driver, XldrvInstance *instance, XmlconfConsole *console, GError **error);
/* Removes the sockets on which consoles listened. */
void xldrv_consoles_clean_up(const XmlconfDomainConfig *config);
