/* Dirty bitmaps: what qcow2 images keep of which parts of them were written since a moment, by name.
 *
 * While a domain runs the storage daemon of its disk has them in memory, and writes them into the image when it ends; one that
 * is killed leaves bitmaps that say of themselves that they cannot be trusted ("inconsistent"), or none. A bitmap goes on in
 * each image that is put on top of the one that it began in, under the same name (as libvirt's qemu driver has it), so what was
 * written since is what the bitmaps of that name in the images of the disk have together, from the topmost down to the last
 * that has one.
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
