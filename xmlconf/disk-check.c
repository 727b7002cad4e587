/* disk-check: what no single row of <disk> can say. */
#include "config.h"

#include <string.h>

#include "xmlconf/fields.h"

const char *xmlconf_disk_source(const XmlconfDisk *disk)
{
    switch (disk->type) {
    case XMLCONF_DISK_BLOCK:
        return disk->dev;
    case XMLCONF_DISK_NETWORK:
        return disk->export_name ? disk->export_name : disk->protocol ? "" : NULL;
    case XMLCONF_DISK_VOLUME:
        return disk->volume_file ? disk->volume_file : disk->volume_dev ? disk->volume_dev : disk->volume;
    case XMLCONF_DISK_FILE:
        break;
    }
    return disk->file;
}

XmlconfDiskType xmlconf_disk_actual_type(const XmlconfDisk *disk)
{
    if (disk->type != XMLCONF_DISK_VOLUME)
        return disk->type;
    return disk->volume_dev ? XMLCONF_DISK_BLOCK : XMLCONF_DISK_FILE;
}

char *xmlconf_disk_describe(const XmlconfDisk *disk)
{
    const char *name = xmlconf_disk_source(disk);

    if (!name)
        return g_strdup("nothing");
    if (name == disk->volume)
        return g_strdup_printf("%s/%s", disk->pool, disk->volume);
    if (disk->type != XMLCONF_DISK_NETWORK)
        return g_strdup(name);
    if (disk->socket)
        return g_strdup_printf("nbd+unix:///%s?socket=%s", name, disk->socket);
    return g_strdup_printf("nbd://%s:%s/%s", disk->host, disk->port ? disk->port : XMLCONF_NBD_PORT, name);
}

gboolean xmlconf_disk_is_served(const XmlconfDisk *disk)
{
    return xmlconf_disk_source(disk) && (strcmp(disk->format, "raw") != 0 || disk->encryption || disk->routed);
}

static gboolean fail_code(const XmlconfDisk *disk, XmlconfError code, const char *problem, GError **error)
{
    g_set_error(error, XMLCONF_ERROR, code, "disk '%s' %s", disk->target, problem);
    return FALSE;
}

static gboolean fail(const XmlconfDisk *disk, const char *problem, GError **error)
{
    return fail_code(disk, XMLCONF_ERROR_XML, problem, error);
}

static gboolean refuse(const XmlconfDisk *disk, const char *problem, GError **error)
{
    return fail_code(disk, XMLCONF_ERROR_UNSUPPORTED, problem, error);
}

/* ---- where it is */

static gboolean check_network(const XmlconfDisk *disk, GError **error)
{
    gboolean by_unix = g_strcmp0(disk->transport, "unix") == 0;

    if (!disk->protocol)
        return fail(disk, "is of type 'network' and has no <source protocol='...'/>", error);
    if (by_unix ? !disk->socket : !disk->host)
        return fail(disk, by_unix ? "needs a <host transport='unix' socket='...'/>" : "needs a <host name='...'/>", error);
    if (by_unix ? disk->host || disk->port : disk->socket != NULL)
        return fail(disk, "has a <host> with attributes of another transport", error);
    if (disk->port && !g_ascii_string_to_unsigned(disk->port, 10, 1, G_MAXUINT16, NULL, NULL))
        return fail(disk, "has a port that is not a number from 1 to 65535", error);
    if (xmlconf_disk_is_served(disk))
        return refuse(disk, "is on the network, where only raw images are supported", error);
    if (disk->cache == XMLCONF_CACHE_WRITETHROUGH || disk->cache == XMLCONF_CACHE_DIRECTSYNC)
        return refuse(disk, "is on the network, where the server decides on its cache", error);
    return TRUE;
}

static gboolean check_source(const XmlconfDisk *disk, GError **error)
{
    const struct {
        XmlconfDiskType type;
        const char *value, *problem;
    } others[] = {
        {XMLCONF_DISK_FILE, disk->file, "has a <source file='...'/> and is not of type 'file'"},
        {XMLCONF_DISK_BLOCK, disk->dev, "has a <source dev='...'/> and is not of type 'block'"},
        {XMLCONF_DISK_NETWORK, disk->protocol, "has a <source protocol='...'/> and is not of type 'network'"},
        {XMLCONF_DISK_NETWORK, disk->export_name, "has a <source name='...'/> and is not of type 'network'"},
        {XMLCONF_DISK_NETWORK, disk->host, "has a <host> and is not of type 'network'"},
        {XMLCONF_DISK_NETWORK, disk->socket, "has a <host> and is not of type 'network'"},
        {XMLCONF_DISK_VOLUME, disk->pool, "has a <source pool='...'/> and is not of type 'volume'"},
        {XMLCONF_DISK_VOLUME, disk->volume, "has a <source volume='...'/> and is not of type 'volume'"},
        {XMLCONF_DISK_VOLUME, disk->volume_mode, "has a <source mode='...'/> and is not of type 'volume'"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(others); i++) {
        if (others[i].value && others[i].type != disk->type)
            return fail(disk, others[i].problem, error);
    }
    if (disk->reconnect_delay && disk->type != XMLCONF_DISK_NETWORK)
        return fail(disk, "has a <reconnect> and is not of type 'network'", error);
    if (!disk->pool != !disk->volume)
        return fail(disk, "needs a pool and a volume in its <source>", error);
    if (!xmlconf_disk_source(disk) && disk->device != XMLCONF_DISK_CDROM)
        return fail(disk, "has no source: only a cdrom can be without a medium", error);
    return disk->type != XMLCONF_DISK_NETWORK || !disk->protocol ? TRUE : check_network(disk, error);
}

static gboolean check_bus(const XmlconfDisk *disk, GError **error)
{
    const char *prefix = g_strcmp0(disk->bus, "ide") == 0 ? "hd" : g_strcmp0(disk->bus, "scsi") == 0 ? "sd" : "";
    g_autofree char *problem = g_strdup_printf("has bus '%s', where targets are %sa and so on", disk->bus, prefix);

    return g_str_has_prefix(disk->target, prefix) || fail(disk, problem, error);
}

static gboolean check_encryption(const XmlconfDisk *disk, GError **error)
{
    if (!disk->encryption)
        return !(disk->secret_uuid || disk->secret_usage) || fail(disk, "has a <secret> and no encryption format", error);
    if (strcmp(disk->format, "raw") != 0 && strcmp(disk->format, "qcow2") != 0)
        return refuse(disk, "is encrypted, which only raw and qcow2 images can be", error);
    return (disk->secret_uuid != NULL) != (disk->secret_usage != NULL) ||
           fail(disk, "is encrypted and needs one <secret type='passphrase' uuid='...'/>, or one with a usage", error);
}

/* ---- how it is used */

static gboolean check_driver(const XmlconfDisk *disk, GError **error)
{
    gboolean direct = disk->cache == XMLCONF_CACHE_NONE || disk->cache == XMLCONF_CACHE_DIRECTSYNC;

    if (!xmlconf_disk_is_served(disk)) {
        if (g_strcmp0(disk->io, "native") == 0 || g_strcmp0(disk->io, "threads") == 0)
            return refuse(disk, "is raw: raw images are read and written through io_uring", error);
        return TRUE;
    }
    if (g_strcmp0(disk->io, "native") == 0 && !direct)
        return refuse(disk, "has io='native', which needs cache 'none' or 'directsync'", error);
    if (disk->shareable && !disk->readonly)
        return refuse(disk, "is shareable, which only raw images can be", error);
    return TRUE;
}

static gboolean check_limit(const XmlconfDisk *disk, guint64 limit, guint64 max, const char *what, GError **error)
{
    g_autofree char *problem = NULL;

    if (!max || (limit && max >= limit))
        return TRUE;
    problem = g_strdup_printf(limit ? "has a %s_max that is less than the %s" : "has a %s_max and no %s", what, what);
    return fail(disk, problem, error);
}

gboolean xmlconf_disk_check_iotune(const XmlconfDisk *disk, GError **error)
{
    const XmlconfIotune *t = &disk->iotune;

    if (t->total_bytes_sec && (t->read_bytes_sec || t->write_bytes_sec))
        return fail(disk, "cannot have limits of total and of read or write bytes_sec at the same time", error);
    if (t->total_iops_sec && (t->read_iops_sec || t->write_iops_sec))
        return fail(disk, "cannot have limits of total and of read or write iops_sec at the same time", error);
    return check_limit(disk, t->total_bytes_sec, t->total_bytes_sec_max, "total_bytes_sec", error) &&
           check_limit(disk, t->read_bytes_sec, t->read_bytes_sec_max, "read_bytes_sec", error) &&
           check_limit(disk, t->write_bytes_sec, t->write_bytes_sec_max, "write_bytes_sec", error) &&
           check_limit(disk, t->total_iops_sec, t->total_iops_sec_max, "total_iops_sec", error) &&
           check_limit(disk, t->read_iops_sec, t->read_iops_sec_max, "read_iops_sec", error) &&
           check_limit(disk, t->write_iops_sec, t->write_iops_sec_max, "write_iops_sec", error);
}

gboolean xmlconf_disk_complete(XmlconfDisk *disk, GError **error)
{
    if (disk->device == XMLCONF_DISK_CDROM)
        disk->readonly = TRUE;
    return check_source(disk, error) && check_bus(disk, error) && check_encryption(disk, error) && check_driver(disk, error) &&
           xmlconf_disk_check_iotune(disk, error);
}

gboolean xmlconf_disks_check(const GPtrArray *disks, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(NULL, NULL);

    for (guint i = 0; disks && i < disks->len; i++) {
        XmlconfDisk *disk = disks->pdata[i];
        const XmlconfDisk *other;
        guint vdev;

        if (!xmlconf_disk_vdev(disk->target, &vdev))
            return fail(disk, "is not a disk of Xen's", error);
        other = g_hash_table_lookup(seen, GUINT_TO_POINTER(vdev));
        if (other) {
            g_autofree char *first = xmlconf_disk_describe(other);
            g_autofree char *second = xmlconf_disk_describe(disk);
            g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML,
                        "target '%s' duplicated for disk sources '%s' and '%s'", disk->target, first, second);
            return FALSE;
        }
        g_hash_table_insert(seen, GUINT_TO_POINTER(vdev), disk);
    }
    return TRUE;
}
