/* Snapshots being taken, reverted to and deleted: the parts. All with the domain's job.
 *
 * Internal: images (qcow2) keep snapshots of their own; a running domain's memory is a saved domain in a file of the driver's
 * (snapshots.h), because nothing here writes memory into an image. External: memory is a saved domain at the client's path,
 * and a disk goes on in a new image, the overlay, on top of the one it had, which stays as it was.
 *
 * A running domain stands still while its memory is written (of a live snapshot: while the last of it is) and until all of its
 * disks have their snapshots, so all are of one moment; without memory, all disks have their requests wait meanwhile.
 *
 *   snapshot-create.c  procedures that take and redefine
 *   snapshot-plan.c    what happens to which disk
 *   snapshot-images.c  internal snapshots of images
 *   snapshot-overlays.c  external ones of disks
 *   snapshot-pending.c   what a daemon that is killed leaves
 *   snapshot-revert.c  going back
 *   snapshot-delete.c, snapshot-merge.c  forgetting
 *   snapshot-query.c   lists and lookups
 *   snapshots.c        what is on disk
 */
#pragma once

#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/moments.h"

/* Says of each disk of @config what the snapshot does with it: snapshot->disks, by their targets, in the domain's order.
 * @fallback: with disks that nothing is said of. @reuse: the overlays are there already. Refuses what cannot be done. */
gboolean xldrv_snapshot_plan(XmlconfSnapshot *snapshot, XmlconfDomain *config, XmlconfSnapshotLocation fallback, gboolean reuse,
                             GError **error);
/* Whether it does that with any disk. */
gboolean xldrv_snapshot_has_disk(const XmlconfSnapshot *snapshot, XmlconfSnapshotLocation location);

/* A copy of a domain's configuration, running or not, whose disks all have their paths: those of volumes are looked up. */
XmlconfDomain *xldrv_snapshot_config(XldrvDriver *driver, XldrvJob *job, GError **error);

/* Says on disk that a snapshot is being taken: overlays that are there already (@reuse), and that nothing is to be known of it
 * (@hidden). Until xldrv_snapshot_forget. */
gboolean xldrv_snapshot_announce(XldrvDriver *driver, XldrvJob *job, XmlconfSnapshot *snapshot, gboolean reuse,
                                 gboolean hidden, GError **error);
void xldrv_snapshot_forget(XldrvDriver *driver, XldrvJob *job);
/* Completes, or takes back, what a daemon that ended had begun. */
void xldrv_snapshot_recover(XldrvDriver *driver, XldrvJob *job);

/* Whether none of the images has one of the name of its internal snapshot. */
gboolean xldrv_snapshot_images_check_free(XmlconfDomain *config, const XmlconfSnapshot *snapshot, GError **error);
/* Takes the internal snapshots of @snapshot of the images of @config, a running domain's (host->instance) or not. All or
 * none. */
gboolean xldrv_snapshot_images_take(const XldrvDeviceHost *host, XmlconfDomain *config, const XmlconfSnapshot *snapshot,
                                    GError **error);
/* Whether all images have them. */
gboolean xldrv_snapshot_images_check(XmlconfDomain *config, const XmlconfSnapshot *snapshot, GError **error);
/* Makes the images, which nobody uses, what they were. */
gboolean xldrv_snapshot_images_apply(XmlconfDomain *config, const XmlconfSnapshot *snapshot, GError **error);
/* Drops the snapshots of images; that one has none is fine. */
gboolean xldrv_snapshot_images_drop(const XldrvDeviceHost *host, XmlconfDomain *config, const XmlconfSnapshot *snapshot,
                                    GError **error);

/* Makes the overlays of @snapshot on top of the images of @config, but for those that are there (@reuse). All or none. */
gboolean xldrv_overlays_make(XldrvInstance *instance, XmlconfDomain *config, const XmlconfSnapshot *snapshot, gboolean reuse,
                             GError **error);
/* Whether the disks of @config are on them. */
gboolean xldrv_overlays_are_used(XmlconfDomain *config, const XmlconfSnapshot *snapshot);
/* A definition that is on them by now, of a domain that runs and is not, goes back to what that is on. */
gboolean xldrv_overlays_put_back(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *snapshot, GError **error);
/* Of those that neither what runs nor the definition has: removes them, or only what of bitmaps was put into them. */
void xldrv_overlays_remove_unused(XldrvJob *job, const XmlconfSnapshot *snapshot);
void xldrv_overlays_take_back(XldrvJob *job, XmlconfDomain *config, const XmlconfSnapshot *snapshot);
/* Removes those that make made. */
void xldrv_overlays_remove(const XmlconfSnapshot *snapshot, gboolean reuse);
/* Puts the disks of the domain, of what runs and of the definition, on the overlays; in @paths all disks have their paths. What
 * marks writes to the images that they were on (bitmaps.h) does so to the overlays, too. On failure all is as it was. */
gboolean xldrv_overlays_use(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *paths, const XmlconfSnapshot *snapshot,
                            GError **error);
/* What that does to a document. */
gboolean xldrv_overlays_put_in(XmlconfDomain *domain, const XmlconfSnapshot *snapshot);

/* Deletes an external snapshot: what the overlays have comes into the images below them, which the disks are on then.
 * snapshot-merge.c */
gboolean xldrv_snapshot_merge(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *snapshot, GError **error);
