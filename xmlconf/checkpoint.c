/* checkpoint: the rows of <domaincheckpoint>, as libvirt documents it. What it has in common with a snapshot is in
 * snapshot.c. */
#include "config.h"

#include "xmlconf/fields.h"
#include "xmlconf/snapshot.h"

#define MAX_DISKS 4096

#define DISK(member) .offset = G_STRUCT_OFFSET(XmlconfSnapshotDisk, member)

static const XmlconfChoice locations[] = {
    {"no", XMLCONF_SNAPSHOT_NO, NULL}, {"bitmap", XMLCONF_SNAPSHOT_BITMAP, NULL}, {NULL, 0, NULL},
};

static const XmlconfField disk_fields[] = {
    {"@name", &xmlconf_value_string, DISK(name), .flags = XMLCONF_FIELD_REQUIRED},
    {"@checkpoint", &xmlconf_value_enum, DISK(location), .choices = locations},
    {"@bitmap", &xmlconf_value_line, DISK(bitmap)},
    {"@size", &xmlconf_value_line, DISK(size)},
};

static const XmlconfRecord disk_record = {
    .element = "disk",
    .size = sizeof(XmlconfSnapshotDisk),
    .fields = disk_fields,
    .n_fields = G_N_ELEMENTS(disk_fields),
};

#define CHECKPOINT(member) .offset = G_STRUCT_OFFSET(XmlconfSnapshot, member)

static const XmlconfField fields[] = {
    {"name", &xmlconf_value_line, CHECKPOINT(name)},
    {"description", &xmlconf_value_string, CHECKPOINT(description)},
    {"parent/name", &xmlconf_value_line, CHECKPOINT(parent)},
    {"creationTime", &xmlconf_value_count, CHECKPOINT(creation_time), .max = G_MAXINT64},
    {"disks/disk", CHECKPOINT(disks), .flags = XMLCONF_FIELD_LIST, .max = MAX_DISKS, .record = &disk_record},
};

const XmlconfRecord xmlconf_checkpoint_record = {
    .element = "domaincheckpoint",
    .size = sizeof(XmlconfSnapshot),
    .fields = fields,
    .n_fields = G_N_ELEMENTS(fields),
};
const XmlconfRecord *const xmlconf_checkpoint_disk_record = &disk_record;

gboolean xmlconf_checkpoint_complete(XmlconfSnapshot *checkpoint, GError **error)
{
    for (guint i = 0; checkpoint->disks && i < checkpoint->disks->len; i++) {
        XmlconfSnapshotDisk *disk = checkpoint->disks->pdata[i];

        if (!disk->name)
            return xmlconf_fail(error, "a disk of the checkpoint has an empty name");
        if (disk->location == XMLCONF_SNAPSHOT_DEFAULT)
            disk->location = XMLCONF_SNAPSHOT_BITMAP;
        if (disk->bitmap && disk->location != XMLCONF_SNAPSHOT_BITMAP)
            return xmlconf_fail(error, "disk checkpoint bitmap '%s' requires type='bitmap'", disk->bitmap);
    }
    return TRUE;
}
