/* The consoles and channels of a running domain: what they are connected to. */
#pragma once

#include "libxldrv/driver/devices.h"

/* Opens what the configuration of a console or channel names and gives it to the hypervisor as the device of its port;
 * sets its alias, and its terminal or socket. All but the first are devices: the domain is in the store. On failure
 * nothing is left of it. */
gboolean xldrv_console_attach(const XldrvDeviceHost *host, XmlconfConsole *console, GError **error);
/* For one that comes from elsewhere (XldrvDeviceHost): its nodes. */
gboolean xldrv_console_make(const XldrvDeviceHost *host, const XmlconfConsole *console, GError **error);
/* Takes it away. The guest is asked and may refuse (VIR_ERR_OPERATION_TIMEOUT, and it stays), unless @force. The first
 * console cannot go (VIR_ERR_OPERATION_UNSUPPORTED). */
gboolean xldrv_console_detach(const XldrvDeviceHost *host, const XmlconfConsole *console, gboolean force, GError **error);
/* The file that gets what the guest writes to it, and whether it is to keep what it has at the start; NULL: there is none. */
const char *xldrv_console_log(const XmlconfConsole *console, gboolean *append);
/* Removes the sockets on which consoles and channels listened. */
void xldrv_consoles_clean_up(const XmlconfDomainConfig *config);
