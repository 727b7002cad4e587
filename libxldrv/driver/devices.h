/* Disks and network interfaces of running domains. All of these are called with the domain's job. */
#pragma once

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/image.h"

/* Whom a device is attached to.
 *
 * A domain that comes from elsewhere gets its devices in two steps. While its guest runs there they are made: what they have in
 * the store and on the host, as far as that is seen by nobody. When it stands still they are attached; the instance then has
 * what was made (xldrv_instance_made). For all others that is NULL, and attaching also makes. */
typedef struct {
    XldrvDriver *driver;
    XldrvInstance *instance;
    const char *uuid, *name; /* of the domain */
} XldrvDeviceHost;

/* Which of two servers of one disk: while the medium of a drive is changed there is another beside the one in use. */
typedef enum { XLDRV_STORAGE_CURRENT, XLDRV_STORAGE_NEXT } XldrvStorageSlot;

/* Gives @disk to the guest and fills in what only a running domain has. When a step fails, those before it are undone,
 * and the error names what was wrong. disk.c */
gboolean xldrv_disk_attach(const XldrvDeviceHost *host, XmlconfDisk *disk, GError **error);
gboolean xldrv_disk_make(const XldrvDeviceHost *host, XmlconfDisk *disk, GError **error);
/* Takes it away. The guest is asked and may refuse (VIR_ERR_OPERATION_TIMEOUT, and the disk stays), unless @force. */
gboolean xldrv_disk_detach(const XldrvDeviceHost *host, const XmlconfDisk *disk, gboolean force, GError **error);
gboolean xldrv_disk_resize(XldrvInstance *instance, const XmlconfDisk *disk, GError **error);
/* Its limits, as disk->iotune says. */
gboolean xldrv_disk_set_limits(XldrvInstance *instance, const XmlconfDisk *disk, GError **error);

/* Another medium in the place of @now, as the source of @wanted says; none for no source. On failure @now stays. medium.c */
gboolean xldrv_disk_change_medium(const XldrvDeviceHost *host, const XmlconfDisk *now, XmlconfDisk *wanted,
                                  GError **error);
/* Gives disks whose server is gone another connection, and starts what is to serve them again. FALSE with an error: one
 * of them cannot be had. medium.c */
gboolean xldrv_disks_reconnect(const XldrvDeviceHost *host, const GPtrArray *disks, GError **error);
/* Takes the image away, for another: nothing is going on with it then, and the guest's requests wait.
 * FALSE: what is going on does not end (VIR_ERR_OPERATION_TIMEOUT), and the disk has its image as before. medium.c */
gboolean xldrv_disk_park(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error);
/* As above for one disk, whether it is lost or not: its size may have changed. medium.c */
gboolean xldrv_disk_reopen(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error);
/* Takes the image of a disk away and has the guest's requests wait, until xldrv_disk_continue. What was written is on the
 * host's disk and nobody has the image open, so that anybody may have it. FALSE: as it was. medium.c */
gboolean xldrv_disk_suspend(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error);
/* Puts the image of @disk, the same or another of the same size, in its place. medium.c */
gboolean xldrv_disk_continue(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error);
/* Opens what the disk is on. FALSE with an error; else *fd is -1 where there is no medium. medium.c */
gboolean xldrv_disk_open_source(const XldrvDeviceHost *host, const XmlconfDisk *disk, XldrvStorageSlot slot,
                                struct domus_vbd_source *source, int *fd, GError **error);
/* Ends what serves the disk, if anything does. medium.c */
void xldrv_disk_close_source(const XldrvDeviceHost *host, const XmlconfDisk *disk, XldrvStorageSlot slot);

typedef struct {
    guint64 read_requests, read_bytes, read_ns;
    guint64 write_requests, write_bytes, write_ns;
    guint64 flush_requests, flush_ns;
    guint64 errors;
    guint64 size_bytes;     /* as the guest sees it */
    guint held, held_error; /* requests that wait for a resume, and the errno of the first */
    gboolean parked;        /* its requests wait for an image */
    gboolean parking;       /* so they will when those that are with the image have ended */
    gboolean lost;          /* what serves it is gone */
} XldrvDiskStats;
gboolean xldrv_disk_stats(XldrvInstance *instance, const XmlconfDisk *disk, XldrvDiskStats *stats, GError **error);

/* By a disk's name in libvirt's interface: its target or its source. NULL with an error. disk-info.c */
XmlconfDisk *xldrv_find_disk(XmlconfDomain *config, const char *name, GError **error);
/* Its sizes, of a running domain (@instance) or a definition (NULL). medium.c */
gboolean xldrv_disk_measure(XldrvInstance *instance, const XmlconfDisk *disk, XldrvImageInfo *info, GError **error);
/* Makes it @bytes large, the image first. medium.c */
gboolean xldrv_disk_grow(const XldrvDeviceHost *host, const XmlconfDisk *disk, guint64 bytes, GError **error);

/* The same for an interface, as the @devid-th of the domain. nic.c */
gboolean xldrv_nic_attach(const XldrvDeviceHost *host, XmlconfInterface *interface, guint devid, GError **error);
gboolean xldrv_nic_make(const XldrvDeviceHost *host, XmlconfInterface *interface, guint devid, GError **error);
gboolean xldrv_nic_detach(const XldrvDeviceHost *host, const XmlconfInterface *interface, gboolean force,
                          GError **error);
gboolean xldrv_nic_set_link(XldrvInstance *instance, const XmlconfInterface *interface, gboolean up, GError **error);
/* Puts limits in the place of those that it has. nic.c */
gboolean xldrv_nic_set_limits(XldrvInstance *instance, const XmlconfInterface *interface,
                              const XmlconfBandwidth *bandwidth, GError **error);
/* By an interface's name in libvirt's interface: its tap or its MAC address. NULL with an error. nic-info.c */
XmlconfInterface *xldrv_find_interface(XmlconfDomain *config, const char *name, GError **error);
/* Names what a running domain's interface will have on the host: to be kept before it is made. nic.c */
void xldrv_nic_prepare(XmlconfInterface *interface, int id, guint devid);
/* The number of an interface that starts: the one it had where it ran before, or that of its place @index. */
guint xldrv_nic_devid(const XmlconfInterface *interface, guint index);
/* The lowest number that no interface of a running domain has. */
guint xldrv_nic_free_devid(const GPtrArray *interfaces);

/* As the guest sees it: rx is what it received. */
typedef struct {
    guint64 rx_bytes, rx_packets, rx_errors, rx_dropped;
    guint64 tx_bytes, tx_packets, tx_errors, tx_dropped;
    gboolean lost; /* what serves it is gone */
} XldrvNicStats;
gboolean xldrv_nic_stats(XldrvInstance *instance, const XmlconfInterface *interface, XldrvNicStats *stats,
                         GError **error);
/* Whether it is one of type user whose passt is gone. nic.c */
gboolean xldrv_nic_is_lost(XldrvInstance *instance, const XmlconfInterface *interface);
/* Gives those that are lost another passt. FALSE with an error: one of them cannot be had. nic.c */
gboolean xldrv_nics_reconnect(const XldrvDeviceHost *host, const GPtrArray *interfaces, GError **error);

/* All devices of a domain that starts. What was attached goes with the instance, but for what clean_up removes.
 * devices.c */
gboolean xldrv_devices_attach_all(const XldrvDeviceHost *host, XmlconfDomainConfig *config, GError **error);
/* The first step of one that comes from elsewhere. */
gboolean xldrv_devices_make_all(const XldrvDeviceHost *host, XmlconfDomainConfig *config, GError **error);
void xldrv_devices_clean_up(XldrvDriver *driver, const XmlconfDomainConfig *config);

/* Asks by @detach for a device to go and waits until @gone says so. devices.c */
typedef struct {
    XldrvInstance *instance;
    const char *what; /* "disk 'xvdb'" */
    guint devid;
    XldrvControlFn ask;  /* with this as its argument */
    XldrvControlFn look; /* -ENODEV: it is gone */
    gboolean force;
} XldrvDetach;
gboolean xldrv_device_detach(XldrvDetach *detach, GError **error);
