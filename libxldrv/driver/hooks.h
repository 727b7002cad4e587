/* Hook scripts: what an administrator has run when a domain starts and ends. Named and called as those of libvirt's Xen
 * driver. Source: libvirt hooks.html, "libxl". */
#pragma once

#include "libxldrv/driver/driver.h"

/* Runs hooks/libxl and then what is in hooks/libxl.d, in the order of the names, each with the domain's name, @operation
 * and @sub as arguments and its XML to read. FALSE with what a script that failed has complained about, and no other is
 * run then. Nothing happens where there is none. Waits for them. */
gboolean xldrv_hooks_run(XldrvDriver *driver, XmlconfDomain *domain, const char *operation, const char *sub, GError **error);
/* The same for what has happened and cannot be refused: a failure is told in the log. */
void xldrv_hooks_tell(XldrvDriver *driver, XmlconfDomain *domain, const char *operation, const char *sub);
/* The XML of a domain that comes from elsewhere is what the last script writes, if that is not empty. @domain is replaced
 * by it then. */
gboolean xldrv_hooks_change(XldrvDriver *driver, XmlconfDomain **domain, const char *operation, GError **error);
