/* Images and block devices of disks: opened, checked and locked for a domain. */
#pragma once

#include <glib.h>

#include "xmlconf/xmlconf.h"

/* Opens what @disk is on, as its cache mode, readonly and shareable say. -1 with an error that names it: it is not
 * there, may not be opened, is no file or no block device, or somebody else uses it.
 *
 * Who writes alone keeps others out, by a lock that belongs to the open file, so it is there as long as any process
 * holds the descriptor or a copy of it: it outlives us with the hypervisor that it is passed to. The locks are QEMU's, so
 * that its tools and these exclude each other. */
int xldrv_image_open(const XmlconfDisk *disk, GError **error);

/* Whether xldrv_image_open would succeed now. */
gboolean xldrv_image_check(const XmlconfDisk *disk, GError **error);

/* What virDomainGetBlockInfo tells of an image. */
typedef struct {
    guint64 allocation, capacity, physical; /* in bytes */
} XldrvImageInfo;
gboolean xldrv_image_info(const XmlconfDisk *disk, XldrvImageInfo *info, GError **error);

/* @bytes from @offset on of what is in a raw image. An error if it does not have them all. */
gboolean xldrv_image_read(const XmlconfDisk *disk, guint64 offset, gpointer buffer, gsize bytes, GError **error);

/* Makes a file longer, to @bytes. A block device cannot be changed here, so it must have that size already. */
gboolean xldrv_image_grow(const XmlconfDisk *disk, guint64 bytes, GError **error);
