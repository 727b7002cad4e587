/* Disks and network interfaces of running domains. All of these are called with the domain's job. */
#pragma once

#include "libxldrv/driver/driver.h"

/* Whom a device is attached to. */
typedef struct {
    XldrvDriver *driver;
    XldrvInstance *instance;
} XldrvDeviceHost;

/* Gives @disk to the guest and fills in what only a running domain has. When a step fails, those before it are undone,
 * and the error names what was wrong. disk.c */
gboolean xldrv_disk_attach(const XldrvDeviceHost *host, XmlconfDisk *disk, GError **error);
/* Takes it away. The guest is asked and may refuse (VIR_ERR_OPERATION_TIMEOUT, and the disk stays), unless @force. */
gboolean xldrv_disk_detach(const XldrvDeviceHost *host, const XmlconfDisk *disk, gboolean force, GError **error);
gboolean xldrv_disk_resize(XldrvInstance *instance, const XmlconfDisk *disk, GError **error);

typedef struct {
    guint64 read_requests, read_bytes, read_ns;
    guint64 write_requests, write_bytes, write_ns;
    guint64 flush_requests, flush_ns;
    guint64 errors;
} XldrvDiskStats;
gboolean xldrv_disk_stats(XldrvInstance *instance, const XmlconfDisk *disk, XldrvDiskStats *stats, GError **error);

/* The same for an interface, as the @devid-th of the domain. nic.c */
gboolean xldrv_nic_attach(const XldrvDeviceHost *host, XmlconfInterface *interface, guint devid, GError **error);
gboolean xldrv_nic_detach(const XldrvDeviceHost *host, const XmlconfInterface *interface, gboolean force,
                          GError **error);
gboolean xldrv_nic_set_link(XldrvInstance *instance, const XmlconfInterface *interface, gboolean up, GError **error);
/* The lowest number that no interface of a running domain has. */
guint xldrv_nic_free_devid(const GPtrArray *interfaces);

/* As the guest sees it: rx is what it received. */
typedef struct {
    guint64 rx_bytes, rx_packets, rx_errors, rx_dropped;
    guint64 tx_bytes, tx_packets, tx_errors, tx_dropped;
} XldrvNicStats;
gboolean xldrv_nic_stats(XldrvInstance *instance, const XmlconfInterface *interface, XldrvNicStats *stats,
                         GError **error);

/* All devices of a domain that starts. What was attached goes with the instance. devices.c */
gboolean xldrv_devices_attach_all(const XldrvDeviceHost *host, XmlconfDomainConfig *config, GError **error);

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
