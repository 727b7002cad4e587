/* What images are based on, and putting a disk on another image. */
#pragma once

#include "libxldrv/driver/devices.h"

/* Reads from the images of a running domain's disk what they are based on, into disk->backing; where that cannot be had, or
 * the format has no such thing, nothing is known. Blocks. */
void xldrv_chain_learn(XmlconfDisk *disk);
/* How many images the disk is on, its own included, as far as disk->backing knows. */
guint xldrv_chain_length(const XmlconfDisk *disk);
/* The path of the @index-th of them, 0 being its own; NULL: there are not so many. */
const char *xldrv_chain_path(const XmlconfDisk *disk, guint index);
/* Whether it is on a block device. */
gboolean xldrv_chain_is_block(const XmlconfDisk *disk, guint index);
/* QEMU's name of its format. */
const char *xldrv_chain_format(const XmlconfDisk *disk, guint index);
/* The index of that path, or of libvirt's "xvda[1]"; -1: none. */
int xldrv_chain_find(const XmlconfDisk *disk, const char *name);

/* Makes the document of a disk say that it is on that file (or, @block, device). */
void xldrv_disk_set_source(XmlconfDisk *disk, gboolean block, const char *path, const char *format);
/* Whether two documents of a disk have it on the same image. */
gboolean xldrv_disk_same_source(const XmlconfDisk *a, const XmlconfDisk *b);
