/* Migration, protocol 3 of libvirt: what both sides share.
 *
 *      source                      destination
 *      Begin: XML, cookie    ->    Prepare: a process that waits for the stream, and where to send it
 *      Perform: sends, gives up the disks   (the guest stands still from its last pass on)
 *                            ->    Finish: takes the disks, attaches devices, lets it run
 *      Confirm: ends it
 *
 * The client carries cookies from step to step. Until Finish has succeeded the guest can go on at the source, by Confirm of a
 * cancelled migration or, when the client is lost, by a resume; what waits at the destination ends with its client.
 *
 * Refused by name: peer to peer and tunnelled, copying disks, post-copy, TLS, compression, several connections, offline.
 */
#pragma once

#include "libxldrv/driver/driver.h"

#define XLDRV_MIGRATE_FLAGS                                                                                         \
    (VIR_MIGRATE_LIVE | VIR_MIGRATE_PERSIST_DEST | VIR_MIGRATE_UNDEFINE_SOURCE | VIR_MIGRATE_PAUSED |              \
     VIR_MIGRATE_CHANGE_PROTECTION | VIR_MIGRATE_UNSAFE | VIR_MIGRATE_ABORT_ON_ERROR | VIR_MIGRATE_AUTO_CONVERGE)

typedef struct {
    guint flags;
    const char *uri, *dname, *xml, *persistent_xml, *listen_address; /* borrowed; NULL: not given */
    guint64 bandwidth_mib;                                           /* 0: no limit */
} XldrvMigration;

/* Reads typed parameters, which have to stay, and flags. Others than those above are refused by name. */
gboolean xldrv_migration_read(GVariant *params, guint flags, XldrvMigration *migration, GError **error);

/* What one step tells the next one, on the wire as bytes. */
typedef struct {
    int id;          /* that the guest knows itself by */
    GVariant *store; /* xldrv_store_read_tree; NULL: not yet */
} XldrvCookie;

/* An array of bytes; floating. */
GVariant *xldrv_cookie_encode(const XldrvCookie *cookie);
/* @bytes is such an array; an empty one is no cookie. @cookie->store is a reference. */
gboolean xldrv_cookie_decode(GVariant *bytes, XldrvCookie *cookie, GError **error);

/* A domain of which only this side knows any more, after its sending: goes on here. With its job. migrate-source.c */
gboolean xldrv_migration_cancel(XldrvDriver *driver, XldrvJob *job, GError **error);
/* Ends what waits for a migration that this client prepared. migrate-dest.c */
void xldrv_migration_client_closed(XldrvDriver *driver, guint64 client);
