/* Volumes of storage pools, by libvirt's public interface. */
#include "config.h"

#include "libxldrv/driver/volume.h"

#include "libxldrv/driver/peer.h"
#include "libxldrv/relay/daemons.h"

static virConnectPtr reach(XldrvDriver *driver, GError **error)
{
    g_autofree char *uri = driver->storage_uri ? g_strdup(driver->storage_uri)
                                               : xldrv_daemon_uri(XLDRV_DAEMON_STORAGE, driver->relay_sockets);

    return xldrv_peer_open(uri, "storage", error);
}

static virStoragePoolPtr find_pool(virConnectPtr connection, const XmlconfDisk *disk, GError **error)
{
    g_autoptr(virStoragePool) pool = virStoragePoolLookupByName(connection, disk->pool);

    if (!pool) {
        xldrv_peer_error(error, "disk '%s'", disk->target);
        return NULL;
    }
    if (virStoragePoolIsActive(pool) == 1)
        return g_steal_pointer(&pool);
    xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "storage pool '%s' containing volume '%s' of disk '%s' is not active",
                    disk->pool, disk->volume, disk->target);
    return NULL;
}

static gboolean take(XmlconfDisk *disk, int type, char *path, GError **error)
{
    char **place = type == VIR_STORAGE_VOL_FILE ? &disk->volume_file : &disk->volume_dev;

    if (type != VIR_STORAGE_VOL_FILE && type != VIR_STORAGE_VOL_BLOCK) {
        g_free(path);
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "volume '%s' of pool '%s' is neither a file nor a block device of this host", disk->volume,
                               disk->pool);
    }
    g_clear_pointer(&disk->volume_file, g_free);
    g_clear_pointer(&disk->volume_dev, g_free);
    *place = path;
    return TRUE;
}

gboolean xldrv_volume_find(XldrvDriver *driver, XmlconfDisk *disk, GError **error)
{
    g_autoptr(virConnect) connection = NULL;
    g_autoptr(virStoragePool) pool = NULL;
    g_autoptr(virStorageVol) volume = NULL;
    virStorageVolInfo info;
    char *path = NULL;

    if (disk->type != XMLCONF_DISK_VOLUME || !disk->volume)
        return TRUE;
    connection = reach(driver, error);
    pool = connection ? find_pool(connection, disk, error) : NULL;
    if (!pool)
        return FALSE;
    volume = virStorageVolLookupByName(pool, disk->volume);
    if (!volume || virStorageVolGetInfo(volume, &info) < 0 || !(path = virStorageVolGetPath(volume)))
        return xldrv_peer_error(error, "disk '%s'", disk->target);
    return take(disk, info.type, path, error);
}
