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

#define INCREMENTAL "backups are full: there are no checkpoints"
static const XmlconfChoice disk_modes[] = {{"full", 0, NULL}, {"incremental", -1, INCREMENTAL}, {NULL, 0, NULL}};

static const XmlconfField disk_fields[] = {
    {"@name", &xmlconf_value_string, DISK(name), .flags = XMLCONF_FIELD_REQUIRED},
    {"@backup", &xmlconf_value_enum, DISK(excluded), .choices = wanted},
    {"@type", &xmlconf_value_word, DISK(type), .choices = types},
    {"@backupmode", &xmlconf_value_checked, .choices = disk_modes},
    XMLCONF_REFUSED("@incremental", INCREMENTAL),
    {"driver@type", &xmlconf_value_string, DISK(format)},
    {"target@file", &xmlconf_value_path, DISK(file)},
    {"target@dev", &xmlconf_value_path, DISK(dev)},
    XMLCONF_REFUSED("target/encryption", "backups are not encrypted"),
};

static const XmlconfRecord disk_record = {
    .element = "disk",
    .size = sizeof(XmlconfBackupDisk),
    .fields = disk_fields,
    .n_fields = G_N_ELEMENTS(disk_fields),
};

#define PULL "backups are pushed"
static const XmlconfChoice modes[] = {{"push", 0, NULL}, {"pull", -1, PULL}, {NULL, 0, NULL}};

static const XmlconfField fields[] = {
    {"@mode", &xmlconf_value_checked, .choices = modes},
    XMLCONF_REFUSED("incremental", INCREMENTAL),
    XMLCONF_REFUSED("server", PULL),
    {"disks/disk", .offset = G_STRUCT_OFFSET(XmlconfBackup, disks), .flags = XMLCONF_FIELD_LIST, .max = MAX_DISKS,
     .record = &disk_record},
};

static const XmlconfRecord backup_record = {
    .element = "domainbackup",
    .size = sizeof(XmlconfBackup),
    .fields = fields,
    .n_fields = G_N_ELEMENTS(fields),
};

static gboolean check_disk(const XmlconfBackupDisk *disk, GError **error)
{
    gboolean block = g_strcmp0(disk->type, "block") == 0;

    if (!disk->name) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "a disk of the backup has an empty name");
        return FALSE;
    }
    if (!(block ? disk->file : disk->dev) && (!block || disk->dev || disk->excluded))
        return TRUE;
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "disk '%s' of the backup needs a target of its type", disk->name);
    return FALSE;
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
    for (guint i = 0; backup->disks && i < backup->disks->len; i++) {
        if (!check_disk(backup->disks->pdata[i], error))
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
