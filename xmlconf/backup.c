/* backup: the rows of <domainbackup>. */
#include "config.h"

#include <string.h>

#include "xmlconf/document.h"
#include "xmlconf/fields.h"

#define MAX_DISKS 4096

#define DISK(member) .offset = G_STRUCT_OFFSET(XmlconfBackupDisk, member)

static const XmlconfChoice wanted[] = {{"yes", FALSE, NULL}, {"no", TRUE, NULL}, {NULL, 0, NULL}};

#define TYPES "backups go to files or block devices"
static const XmlconfChoice types[] = {
    {"file", 0, NULL}, {"block", 0, NULL}, {"network", 0, TYPES}, {"dir", 0, TYPES}, {"volume", 0, TYPES}, {"nvme", 0, TYPES},
    {NULL, 0, NULL},
};

static const XmlconfChoice disk_modes[] = {
    {"full", XMLCONF_BACKUP_FULL, NULL}, {"incremental", XMLCONF_BACKUP_INCREMENTAL, NULL}, {NULL, 0, NULL},
};

#define ENCRYPTION "backups are not encrypted"

static const XmlconfField disk_fields[] = {
    {"@name", &xmlconf_value_string, DISK(name), .flags = XMLCONF_FIELD_REQUIRED},
    {"@backup", &xmlconf_value_enum, DISK(excluded), .choices = wanted},
    {"@type", &xmlconf_value_word, DISK(type), .choices = types},
    {"@backupmode", &xmlconf_value_enum, DISK(mode), .choices = disk_modes},
    {"@incremental", &xmlconf_value_line, DISK(incremental)},
    {"@exportname", &xmlconf_value_line, DISK(export_name)},
    {"@exportbitmap", &xmlconf_value_line, DISK(export_bitmap)},
    {"driver@type", &xmlconf_value_string, DISK(format)},
    {"target@file", &xmlconf_value_path, DISK(file)},
    {"target@dev", &xmlconf_value_path, DISK(dev)},
    XMLCONF_REFUSED("target/encryption", ENCRYPTION),
    {"scratch@file", &xmlconf_value_path, DISK(scratch_file)},
    {"scratch@dev", &xmlconf_value_path, DISK(scratch_dev)},
    XMLCONF_REFUSED("scratch/encryption", ENCRYPTION),
};

static const XmlconfRecord disk_record = {
    .element = "disk",
    .size = sizeof(XmlconfBackupDisk),
    .fields = disk_fields,
    .n_fields = G_N_ELEMENTS(disk_fields),
};

static const XmlconfChoice modes[] = {{"push", FALSE, NULL}, {"pull", TRUE, NULL}, {NULL, 0, NULL}};
static const XmlconfChoice transports[] = {
    {"tcp", 0, NULL}, {"unix", 0, NULL}, {"rdma", 0, "backups are served by TCP and UNIX sockets"}, {NULL, 0, NULL},
};
static const XmlconfChoice tls[] = {{"no", 0, NULL}, {"yes", 0, NULL}, {NULL, 0, NULL}};

#define BACKUP(member) .offset = G_STRUCT_OFFSET(XmlconfBackup, member)

static const XmlconfField fields[] = {
    {"@mode", &xmlconf_value_enum, BACKUP(pull), .choices = modes},
    {"incremental", &xmlconf_value_line, BACKUP(incremental)},
    {"server@transport", &xmlconf_value_word, BACKUP(server.transport), .choices = transports},
    {"server@tls", &xmlconf_value_word, BACKUP(server.tls), .choices = tls},
    {"server@name", &xmlconf_value_line, BACKUP(server.name)},
    {"server@port", &xmlconf_value_line, BACKUP(server.port)},
    {"server@socket", &xmlconf_value_path, BACKUP(server.socket)},
    {"disks/disk", BACKUP(disks), .flags = XMLCONF_FIELD_LIST, .max = MAX_DISKS, .record = &disk_record},
};

static const XmlconfRecord backup_record = {
    .element = "domainbackup",
    .size = sizeof(XmlconfBackup),
    .fields = fields,
    .n_fields = G_N_ELEMENTS(fields),
};

static gboolean check_place(const XmlconfBackupDisk *disk, const char *file, const char *dev, GError **error)
{
    gboolean block = g_strcmp0(disk->type, "block") == 0;

    return (!(block ? file : dev) && (!block || dev || disk->excluded)) ||
           xmlconf_fail(error, "disk '%s' of the backup needs a target of its type", disk->name);
}

static gboolean check_disk(const XmlconfBackup *backup, const XmlconfBackupDisk *disk, GError **error)
{
    if (!disk->name)
        return xmlconf_fail(error, "a disk of the backup has an empty name");
    if (backup->pull ? disk->file || disk->dev : disk->scratch_file || disk->scratch_dev)
        return xmlconf_fail(error, "disk '%s' has a <%s>, which a backup of mode %s does not have", disk->name,
                            backup->pull ? "target" : "scratch", backup->pull ? "pull" : "push");
    if (!backup->pull && (disk->export_name || disk->export_bitmap))
        return xmlconf_fail(error, "disk '%s' has an export, which a backup of mode push does not have", disk->name);
    if (disk->mode == XMLCONF_BACKUP_FULL && disk->incremental)
        return xmlconf_fail(error, "the backup of disk '%s' is full, and not since checkpoint '%s'", disk->name,
                            disk->incremental);
    if (disk->mode == XMLCONF_BACKUP_INCREMENTAL && !disk->incremental && !backup->incremental)
        return xmlconf_fail(error, "the incremental backup of disk '%s' does not say since which checkpoint", disk->name);
    return backup->pull ? check_place(disk, disk->scratch_file, disk->scratch_dev, error)
                        : check_place(disk, disk->file, disk->dev, error);
}

static gboolean complete_server(XmlconfBackup *backup, GError **error)
{
    gboolean is_unix = g_strcmp0(backup->server.transport, "unix") == 0;

    if (!backup->pull)
        return (!backup->server.transport && !backup->server.tls && !backup->server.name && !backup->server.port &&
                !backup->server.socket) ||
               xmlconf_fail(error, "use of <server> requires pull mode backup");
    if (is_unix ? !backup->server.socket : !backup->server.name)
        return xmlconf_fail(error, is_unix ? "the backup's <server> needs a socket" : "a backup of mode pull needs a <server>");
    if (is_unix ? backup->server.name || backup->server.port : backup->server.socket != NULL)
        return xmlconf_fail(error, "the backup's <server> has more than one address");
    if (is_unix && g_strcmp0(backup->server.tls, "yes") == 0)
        return xmlconf_fail(error, "TLS is for backups that are served by TCP, and not by a UNIX socket");
    if (!backup->server.transport)
        backup->server.transport = g_strdup("tcp");
    if (!is_unix && !backup->server.port)
        backup->server.port = g_strdup(XMLCONF_NBD_PORT);
    return TRUE;
}

gboolean xmlconf_backup_parse(XmlconfBackup *backup, const char *xml, GError **error)
{
    g_autoptr(xmlDoc) doc = xmlconf_document_parse(xml, "(domain_backup)", error);
    xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;

    if (!root)
        return FALSE;
    if (root->ns || strcmp((const char *)root->name, backup_record.element) != 0) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "unexpected root element <%s>, expecting <domainbackup>",
                    (const char *)root->name);
        return FALSE;
    }
    if (!xmlconf_record_read(&backup_record, root, backup, TRUE, error))
        return FALSE;
    if (!complete_server(backup, error))
        return FALSE;
    for (guint i = 0; backup->disks && i < backup->disks->len; i++) {
        if (!check_disk(backup, backup->disks->pdata[i], error))
            return FALSE;
    }
    return TRUE;
}

char *xmlconf_backup_format(const XmlconfBackup *backup)
{
    return xmlconf_record_format(&backup_record, backup);
}

XmlconfBackupDisk *xmlconf_backup_add_disk(XmlconfBackup *backup, const char *name)
{
    XmlconfBackupDisk *disk;

    if (!backup->disks)
        backup->disks = xmlconf_record_list_new();
    disk = xmlconf_record_list_add(backup->disks, &disk_record);
    disk->name = g_strdup(name);
    return disk;
}

void xmlconf_backup_clear(XmlconfBackup *backup)
{
    xmlconf_record_clear(&backup_record, backup);
}
