/* What the images of a disk have of bitmaps, all at once: from its storage daemon while the domain runs (host->instance), else
 * from the images. */
#pragma once

#include "libxldrv/driver/devices.h"

typedef struct {
    char *name;
    guint64 granularity;
    guint64 bytes; /* that it marks; of a running domain */
    gboolean persistent;
    gboolean usable; /* it marks what is written, and knows of all since it began */
} XldrvBitmap;

typedef struct {
    char *path;
    char *node;     /* the daemon's; NULL: the domain does not run */
    guint64 size;   /* of what is in the image */
    gboolean qcow2; /* what is not has no bitmaps */
    GPtrArray *bitmaps; /* of XldrvBitmap */
} XldrvBitmapImage;

/* Of XldrvBitmapImage: the disk's own image first, then what it is on. NULL with an error. Blocks. */
GPtrArray *xldrv_bitmap_chain_read(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error);
/* Another node of the disk's daemon. NULL with an error. */
XldrvBitmapImage *xldrv_bitmap_image_read(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *node, GError **error);
/* An image that nobody writes to, by itself. NULL with an error. */
XldrvBitmapImage *xldrv_bitmap_image_read_stored(const char *path, GError **error);
void xldrv_bitmap_image_free(XldrvBitmapImage *image);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvBitmapImage, xldrv_bitmap_image_free)

/* NULL: the image has none of that name. */
const XldrvBitmap *xldrv_bitmap_find(const XldrvBitmapImage *image, const char *name);
/* How many images from the disk's own down have a part of what bitmap @name knows. 0 with an error
 * (VIR_ERR_CHECKPOINT_INCONSISTENT): it is not known, and why. */
guint xldrv_bitmap_depth(const GPtrArray *chain, const XmlconfDisk *disk, const char *name, GError **error);
