/* Framebuffer, keyboard and VNC server of running domains.
 *
 * The VNC server is a process of its own, domus-vnc, for each domain with <graphics>. Like the hypervisor it outlives us:
 * two files in the run directory, UUID.vnc (who it is) and UUID.vnc.ctl (its control socket), are all that is needed to
 * find it again. It is watched over that socket, and started again when it ended before the domain.
 *
 * All of these are called with the domain's job.
 */
#pragma once

#include "libxldrv/driver/devices.h"

/* Gives the guest what it is shown on and its keyboard, and starts the VNC server. Fills in what only a running domain
 * has: aliases, ports. What was attached goes with the instance; the server, by xldrv_display_close. */
gboolean xldrv_display_attach(const XldrvDeviceHost *host, XmlconfDomainConfig *config, GError **error);
/* For one that comes from elsewhere (XldrvDeviceHost): nodes and VNC server, which shows nothing yet. */
gboolean xldrv_display_make(const XldrvDeviceHost *host, XmlconfDomainConfig *config, GError **error);
/* Ports that were chosen elsewhere, or before, are chosen anew when it is attached. */
void xldrv_display_forget_ports(const XmlconfDomainConfig *config);
/* Ends the VNC server; that there is none is fine. */
void xldrv_display_close(XldrvDriver *driver, const XmlconfDomainConfig *config);
/* Starts it again, where clients expect it. */
gboolean xldrv_display_restart(const XldrvDeviceHost *host, XmlconfDomainConfig *config, GError **error);

/* From now on its end is reported as XLDRV_DISPLAY_LOST (react.c), and what clients do, by events. TRUE also where there
 * is none. */
gboolean xldrv_display_watch(XldrvDriver *driver, XldrvDomain *domain, XldrvInstance *instance, GError **error);

/* The password of @graphics, from now on. */
gboolean xldrv_display_set_password(XldrvDriver *driver, const char *uuid, const XmlconfGraphics *graphics,
                                    GError **error);
/* Whether @wanted differs from @now in nothing but the password. */
gboolean xldrv_display_check_update(const XmlconfGraphics *now, const XmlconfGraphics *wanted, GError **error);
/* Serves the VNC client at @fd, which stays the caller's. */
gboolean xldrv_display_add_client(XldrvDriver *driver, const char *uuid, int fd, gboolean without_password,
                                  GError **error);
