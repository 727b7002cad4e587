/* Migration through the connection to the destination. */
#pragma once

#include <glib.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

typedef struct {
    virDomainPtr domain; /* at the source */
    virConnectPtr destination, through; /* the same: another connection, for the stream */
    virTypedParameterPtr params; /* as virDomainMigrate3 takes them; may grow */
    int n, room;
    guint flags; /* with VIR_MIGRATE_TUNNELLED */
    int fd;      /* socket: where the source's daemon sends the guest */
} MigrateTunnel;

/* Does what virDomainMigrate3 does, but for the stream, which goes through one of libvirt's.
 * Events are run on another thread. NULL, or why it failed; the process is to end then, in any case. */
const virError *migrate_tunnelled(MigrateTunnel *tunnel);
