/* Migration that copies disks.
 *
 *      source                                      destination
 *      Begin: which disks, how large they are  ->  Prepare: their images, made where there are none; a storage daemon
 *                                                  of each (storage.h), a port for the source, a secret word
 *      Perform: each disk's storage daemon mirrors it into the destination's; when all are in sync, memory is sent;
 *      when the guest stands still the mirrors are completed, and the cookie says so
 *                                              ->  Finish: the storage daemons end, the guest's disks are opened
 *
 * The storage daemons speak to each other by way of both domusds (host/carrier.h), over one connection of each disk, on
 * which the source says first who it is. So they need no network, it may be encrypted, and whatever ends at either side
 * ends the mirror, which is a failure of the migration and nothing else: the source's guest goes on with its own
 * images, and at the destination the images that were made are removed.
 *
 * Daemons that are killed: of the source's disks the document of the running domain says that they are being copied,
 * and the next domusd ends that (blockjobs.c). The destination's images are in the file UUID.images of the run
 * directory from before they are made until the guest is the destination's or they are removed.
 *
 *   migrate-disks.c   the source
 *   migrate-images.c  the destination
 */
#pragma once

#include "libxldrv/driver/migrate.h"

/* What the source says on each connection. The destination answers with one byte, or ends it. */
#define XLDRV_DISK_HELLO_MAGIC "DomusDK"
#define XLDRV_DISK_HELLO_READY 0x06
typedef struct {
    char magic[8];
    char word[XLDRV_COOKIE_WORD_CHARS];
    char target[24]; /* which disk; filled up with NUL bytes */
} XldrvDiskHello;

/* ---- the source; with the domain's job */

/* Which disks are copied, for the cookie (XldrvCookie.disks). NULL with an error: one of them cannot be. */
GVariant *xldrv_copies_list(XldrvJob *job, const XldrvMigration *migration, GError **error);

/* Of sockets in the run directory, for moments. */
#define XLDRV_COPIES_SUFFIX ".copy"

typedef struct _XldrvCopies XldrvCopies;
/* Of that migration, whose destination's cookie this is: both have to stay. Nothing is done yet. */
XldrvCopies *xldrv_copies_new(XldrvDriver *driver, XldrvJob *job, const XldrvMigration *migration,
                              const XldrvCookie *cookie);
/* Copies until all are in sync, and stay so. FALSE with an error, also when the job was aborted. */
gboolean xldrv_copies_start(XldrvCopies *copies, GError **error);
/* Whether they still are; for xldrv_stream_wait. */
gboolean xldrv_copies_look(gpointer copies, GError **error);
/* The guest stands still: its disks are parked, and what was written arrives. The images are the same then. */
gboolean xldrv_copies_complete(XldrvCopies *copies, GError **error);
/* What is not complete is taken back. Raw images stay with storage daemons until
 * xldrv_blockjobs_unroute_all. */
void xldrv_copies_free(XldrvCopies *copies);

/* ---- the destination */

/* Of the record: the name before it is the UUID. */
#define XLDRV_IMAGES_SUFFIX ".images"

typedef struct _XldrvImages XldrvImages;
/* Makes and serves the images that @cookie tells of, of the domain that comes as @domain says. All or nothing. */
XldrvImages *xldrv_images_open(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *domain,
                               const XldrvMigration *migration, const XldrvCookie *cookie, GError **error);
/* Where the source has to go. */
void xldrv_images_describe(const XldrvImages *images, XldrvCookie *cookie);
/* Whether there are any. */
gboolean xldrv_images_any(const XldrvImages *images);
/* Nothing comes any more, and nobody has the images open. */
void xldrv_images_close(XldrvImages *images);
/* Also closes them. Images that were made stay, if the guest is here (@keep). */
void xldrv_images_free(XldrvImages *images, gboolean keep);
/* The same for what a daemon that ended has left. */
void xldrv_images_recover(const XldrvDriver *driver, const char *uuid, gboolean keep);
