/* What several procedures ask of a guest's agent. */
#pragma once

#include "libxldrv/driver/agent-command.h"

/* guest-interfaces.c: its network interfaces with addresses, as a(smsa(isu)) of names, MAC addresses (or nothing) and
 * (virIPAddrType, address, prefix). NULL with an error. A reference that is not floating. */
GVariant *xldrv_guest_interfaces(XldrvAgentSession *session, GError **error);

/* guest-disks.c: the target that @device of the guest, "/dev/xvda1", is of; NULL: of no disk of the domain's. */
const char *xldrv_guest_disk_target(XmlconfDomain *domain, const char *device);
/* Adds disk.* of virDomainGetGuestInfo to @params. */
gboolean xldrv_guest_disks_add(XldrvAgentSession *session, GVariantBuilder *params, GError **error);

/* guest-files.c: the same for fs.*. */
gboolean xldrv_guest_filesystems_add(XldrvAgentSession *session, GVariantBuilder *params, GError **error);

/* guest-time.c: the guest's name, or NULL with an error. */
char *xldrv_guest_hostname(XldrvAgentSession *session, GError **error);

/* guest-cpus.c: how many vCPUs the guest has online, and having it use @n of them. -1 and FALSE with an error. */
int xldrv_guest_vcpus_online(XldrvAgentSession *session, GError **error);
gboolean xldrv_guest_set_vcpus(XldrvAgentSession *session, guint n, GError **error);

/* A parameter whose name is made of @format and what follows. @value is floating. */
void xldrv_guest_param(GVariantBuilder *params, GVariant *value, const char *format, ...) G_GNUC_PRINTF(3, 4);
