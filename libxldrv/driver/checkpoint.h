/* Checkpoints: moments since which it is known what was written to disks, for backups of that alone.
 *
 * Each disk of a checkpoint has a bitmap (bitmaps.h) in its image, called like the checkpoint unless it says otherwise, which
 * marks what was written since; each goes on marking, so that any can be deleted without regard to the others. What is known of
 * checkpoints is on disk (moments.h). It is there, and the file "pending" names the checkpoint, before the first bitmap is; a
 * daemon that finds one pending takes it all away again.
 *
 *   checkpoint-create.c  making and redefining them
 *   checkpoint-query.c   lists, documents, deleting
 *   bitmaps.c            what images have
 *   standstill.c         the moment at which they begin
 */
#pragma once

#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/moments.h"

/* Reads the document of one to be made. NULL with an error. */
XmlconfSnapshot *xldrv_checkpoint_parse(const char *xml, GError **error);
/* Completes it for the running domain: what becomes of each disk (checkpoint->disks, in the domain's order), and of when it
 * is. Refuses what cannot be done. */
gboolean xldrv_checkpoint_plan(XldrvJob *job, XmlconfSnapshot *checkpoint, GError **error);
/* The target of the @at-th disk and those after it that have a bitmap, which is moved behind it, and (or NULL) the bitmap's
 * name; NULL: no more. */
const char *xldrv_checkpoint_next(const XmlconfSnapshot *checkpoint, guint *at, const char **bitmap);

/* Makes it: the requests of its disks wait. All or nothing; then xldrv_checkpoint_keep or _drop. */
gboolean xldrv_checkpoint_take(XldrvDriver *driver, XldrvJob *job, XmlconfSnapshot *checkpoint, GError **error);
/* It is there for good, and the current one. */
gboolean xldrv_checkpoint_keep(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *checkpoint, GError **error);
/* It was not to be. */
void xldrv_checkpoint_drop(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *checkpoint);
/* Drops what a daemon that ended had begun to make. */
void xldrv_checkpoint_recover(XldrvDriver *driver, XldrvJob *job);

/* Takes its bitmaps out of the images that the disks have now, running or not. checkpoint-query.c */
gboolean xldrv_checkpoint_remove_bitmaps(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *checkpoint, GError **error);
