/* Dirty bitmaps: what qcow2 images keep of which parts of them were written since a moment, by name.
 *
 * While a domain runs the storage daemon of its disk has them in memory, and writes them into the image when it ends; one that
 * is killed leaves bitmaps that say of themselves that they cannot be trusted ("inconsistent"), or none. A bitmap goes on in
 * each image that is put on top of the one that it began in, under the same name (as libvirt's qemu driver has it), so what was
 * written since is what the bitmaps of that name in the images of the disk have together, from the topmost down to the last
 * that has one.
 *
 *   bitmap-chain.c  what images have
 *   bitmaps.c       making, using and removing them
 *   bitmap-carry.c  other images
 *
 * All with the domain's job. */
#pragma once

#include "libxldrv/driver/devices.h"

/* Names of those that end with the daemon begin so, and no checkpoint's do. */
#define XLDRV_BITMAP_OWN  "domus-"
#define XLDRV_BITMAP_SIZE XLDRV_BITMAP_OWN "size"

/* In the daemon, of a running domain's disk, which has its requests wait if that matters. */

/* A new one of the disk's own image, which begins now. */
gboolean xldrv_bitmap_add(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error);
/* What was written since @from began, as it is now, in a bitmap called @name that ends with the daemon and does not go on.
 * VIR_ERR_CHECKPOINT_INCONSISTENT: that is not known. */
gboolean xldrv_bitmap_merge(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *from, const char *name,
                            GError **error);
/* How many bytes the disk's own image's bitmap of that name marks. */
gboolean xldrv_bitmap_count(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, guint64 *bytes,
                            GError **error);
/* Whether what was written since @name began is known. */
gboolean xldrv_bitmap_check(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error);

/* Of a running domain, or (no host->instance) of an image that nobody uses. */

/* Out of the disk's own image; that there is none is fine. */
gboolean xldrv_bitmap_remove(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error);
/* Also out of those that it is on, as far as that can be. */
gboolean xldrv_bitmap_remove_all(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error);

/* ---- other images */

/* The image at @path is to be put on top of the disk's, and nobody uses either now: bitmaps that mark what is written to that one
 * begin in this, too. All or none. */
gboolean xldrv_bitmaps_begin(const XmlconfDisk *disk, const char *path, GError **error);
/* It is not: those go that it has of the names of the disk's. */
void xldrv_bitmaps_take_back(const XmlconfDisk *disk, const char *path);
/* Images of the disk are about to go out of its chain: bitmaps of which not all is known go out of its own. */
gboolean xldrv_bitmaps_prune(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error);
/* What those of the @from-th image of the disk know comes into the daemon's node @node, which stays when they go; a disk whose
 * own image stays loses them if that cannot have bitmaps. All or nothing. */
gboolean xldrv_bitmaps_carry(const XldrvDeviceHost *host, const XmlconfDisk *disk, guint from, const char *node, GError **error);
/* The same for a domain that does not run, whose @from-th image was committed into the one below it. */
gboolean xldrv_bitmaps_carry_stored(const XmlconfDisk *disk, guint from, GError **error);

/* Inside: the first @depth images' (bitmap-chain.h) of that name, but for node @but's, as "bitmaps" of
 * block-dirty-bitmap-merge. */
void xldrv_bitmap_append_sources(GString *json, const GPtrArray *chain, guint depth, const char *name, const char *but);
