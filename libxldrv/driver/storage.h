/* Storage daemons: a qemu-storage-daemon for each disk of a running domain whose image is not raw (xmlconf_disk_is_served).
 *
 * It opens the image and exports it on a UNIX socket by NBD. Like the hypervisor it outlives us: three files in the run
 * directory, UUID.TARGET.storage (who it is), .nbd and .qmp (its sockets), are all that is needed to find it again. It is
 * not told what to do with the guest's requests: the hypervisor holds one connection, and says when that broke. Then it is
 * started again, if it is gone, and the hypervisor gets a new connection. It ends with the disk or the domain.
 *
 * All of these are called with the domain's job.
 */
#pragma once

#include "libxldrv/driver/devices.h"
#include "libxldrv/host/qmp.h"

/* The name of the node that is exported: the image of the disk, as its format has it. */
#define XLDRV_STORAGE_NODE "format"
/* And of the export. */
#define XLDRV_STORAGE_EXPORT "disk"

/* Starts the daemon of @disk, in the place of one that was left over, and connects to it. A socket for the hypervisor, or
 * -1 with an error and no daemon. */
int xldrv_storage_open(const XldrvDeviceHost *host, const XmlconfDisk *disk, XldrvStorageSlot slot,
                       struct domus_vbd_source *source, GError **error);
/* For a disk of a domain that comes from elsewhere (XldrvDeviceHost): starts its daemon, which gets the image when that is opened.
 * One that runs already, for a disk that is copied, is left as it is. */
gboolean xldrv_storage_make(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error);
/* Connects to the daemon that serves @disk, or starts it again. */
int xldrv_storage_reconnect(const XldrvDeviceHost *host, const XmlconfDisk *disk, struct domus_vbd_source *source,
                            GError **error);
/* Another connection to the daemon that serves @disk, on which nothing was said yet; -1 with an error. */
int xldrv_storage_connect(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error);
/* The next takes the place of the current one, which is ended. */
void xldrv_storage_promote(const XldrvDeviceHost *host, const char *target);
/* Ends the daemon of a disk; that there is none is fine. */
void xldrv_storage_close(const XldrvDeviceHost *host, const char *target, XldrvStorageSlot slot);
/* Ends all daemons of a domain, also those that nobody remembers. */
void xldrv_storage_close_all(XldrvDriver *driver, const char *uuid);

/* What qemu-storage-daemon's option --blockdev is for a disk that is not encrypted, only to be read. */
char *xldrv_storage_blockdev(const XmlconfDisk *disk);
/* QEMU's name of the format that a disk's image has. */
const char *xldrv_storage_format(const XmlconfDisk *disk);

/* Makes the image as large as that. */
gboolean xldrv_storage_resize(const XldrvDeviceHost *host, const XmlconfDisk *disk, guint64 bytes, GError **error);
/* The size of what is in the image of a disk that no daemon serves now. By qemu-img. */
gboolean xldrv_storage_measure(const XmlconfDisk *disk, guint64 *bytes, GError **error);

/* What a storage daemon complained about in its log @path after @from bytes; NULL: nothing. */
char *xldrv_storage_complaint(const char *path, goffset from);
goffset xldrv_storage_log_size(const char *path);

/* One command, in QEMU's machine protocol, to the daemon that serves a disk; query: what it returns, NULL with an error.
 * The latter is the one that needs no job. */
gboolean xldrv_storage_command(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *command, GError **error);
JsonNode *xldrv_storage_query(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *command, GError **error);
/* Gives the images that the disk's is on other options: @backing is what they are in QEMU's option --blockdev, without changes but
 * of those. */
gboolean xldrv_storage_reopen(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *backing, GError **error);
/* All block nodes that it has. */
JsonNode *xldrv_storage_nodes(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error);
