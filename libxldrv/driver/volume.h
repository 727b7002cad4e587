/* Volumes of storage pools, which libvirt's storage daemon knows. */
#pragma once

#include "libxldrv/driver/driver.h"

/* Sets what the volume of a disk is now, by name, on the host: a file or a block device. Nothing is done with disks of
 * other types. FALSE with an error that names what is missing, inactive or on no host, or the daemon that does not
 * answer. Waits for the daemon. */
gboolean xldrv_volume_find(XldrvDriver *driver, XmlconfDisk *disk, GError **error);
