/* snapshot: <domainsnapshot>, as libvirt documents it. The domains in it are documents of their own; the rest is rows. */
#include "config.h"

#include <string.h>

#include "xmlconf/document.h"
#include "xmlconf/fields.h"
#include "xmlconf/snapshot.h"

#define MAX_DISKS 4096

/* ---- disks of a snapshot */

#define DISK(member) .offset = G_STRUCT_OFFSET(XmlconfSnapshotDisk, member)

static const XmlconfChoice locations[] = {
    {"no", XMLCONF_SNAPSHOT_NO, NULL},
    {"internal", XMLCONF_SNAPSHOT_INTERNAL, NULL},
    {"external", XMLCONF_SNAPSHOT_EXTERNAL, NULL},
    {"manual", -1, "snapshots of disks are internal, external or none"},
    {NULL, 0, NULL},
};

#define TYPES "overlays are of type file or block"
static const XmlconfChoice types[] = {
    {"file", 0, NULL},      {"block", 0, NULL},     {"network", 0, TYPES},   {"dir", 0, TYPES},
    {"volume", 0, TYPES},   {"nvme", 0, TYPES},     {"vhostuser", 0, TYPES}, {"vhostvdpa", 0, TYPES},
    {NULL, 0, NULL},
};

static const XmlconfField disk_fields[] = {
    {"@name", &xmlconf_value_string, DISK(name), .flags = XMLCONF_FIELD_REQUIRED},
    {"@snapshot", &xmlconf_value_enum, DISK(location), .choices = locations},
    {"@type", &xmlconf_value_word, DISK(type), .choices = types},
    {"driver@type", &xmlconf_value_string, DISK(format)},
    {"source@file", &xmlconf_value_path, DISK(file)},
    {"source@dev", &xmlconf_value_path, DISK(dev)},
};

static const XmlconfRecord disk_record = {
    .element = "disk",
    .size = sizeof(XmlconfSnapshotDisk),
    .fields = disk_fields,
    .n_fields = G_N_ELEMENTS(disk_fields),
};

/* ---- the snapshot */

#define SNAPSHOT(member) .offset = G_STRUCT_OFFSET(XmlconfSnapshot, member)

static const XmlconfChoice states[] = {
    {"running", XMLCONF_SNAPSHOT_RUNNING, NULL},   {"blocked", XMLCONF_SNAPSHOT_BLOCKED, NULL},
    {"paused", XMLCONF_SNAPSHOT_PAUSED, NULL},     {"shutdown", XMLCONF_SNAPSHOT_SHUTDOWN, NULL},
    {"shutoff", XMLCONF_SNAPSHOT_SHUTOFF, NULL},   {"crashed", XMLCONF_SNAPSHOT_CRASHED, NULL},
    {"pmsuspended", XMLCONF_SNAPSHOT_PMSUSPENDED, NULL},
    {"disk-snapshot", XMLCONF_SNAPSHOT_DISK_ONLY, NULL},
    {NULL, 0, NULL},
};

static const XmlconfChoice actives[] = {{"0", 0, NULL}, {"1", 0, NULL}, {NULL, 0, NULL}};

static const XmlconfField fields[] = {
    {"name", &xmlconf_value_line, SNAPSHOT(name)},
    {"description", &xmlconf_value_string, SNAPSHOT(description)},
    {"state", &xmlconf_value_enum, SNAPSHOT(state), .choices = states},
    {"parent/name", &xmlconf_value_line, SNAPSHOT(parent)},
    {"creationTime", &xmlconf_value_count, SNAPSHOT(creation_time), .max = G_MAXINT64},
    {"memory@snapshot", &xmlconf_value_enum, SNAPSHOT(memory), .choices = locations},
    {"memory@file", &xmlconf_value_path, SNAPSHOT(memory_file)},
    {"disks/disk", SNAPSHOT(disks), .flags = XMLCONF_FIELD_LIST, .max = MAX_DISKS, .record = &disk_record},
    {"active", &xmlconf_value_checked, .choices = actives},
};

static const XmlconfRecord snapshot_record = {
    .element = "domainsnapshot",
    .size = sizeof(XmlconfSnapshot),
    .fields = fields,
    .n_fields = G_N_ELEMENTS(fields),
};

static const XmlconfRecord *record_of(gboolean checkpoint)
{
    return checkpoint ? &xmlconf_checkpoint_record : &snapshot_record;
}

static XmlconfSnapshot *new_of(gboolean checkpoint)
{
    XmlconfSnapshot *snapshot = g_new0(XmlconfSnapshot, 1);

    g_atomic_ref_count_init(&snapshot->refs);
    snapshot->checkpoint = checkpoint;
    return snapshot;
}

XmlconfSnapshot *xmlconf_snapshot_new(void)
{
    return new_of(FALSE);
}

XmlconfSnapshot *xmlconf_snapshot_ref(XmlconfSnapshot *snapshot)
{
    g_atomic_ref_count_inc(&snapshot->refs);
    return snapshot;
}

void xmlconf_snapshot_unref(XmlconfSnapshot *snapshot)
{
    if (!snapshot || !g_atomic_ref_count_dec(&snapshot->refs))
        return;
    xmlconf_domain_unref(snapshot->domain);
    xmlconf_domain_unref(snapshot->inactive);
    xmlconf_record_clear(record_of(snapshot->checkpoint), snapshot);
    g_free(snapshot);
}

XmlconfSnapshot *xmlconf_snapshot_copy(const XmlconfSnapshot *snapshot)
{
    XmlconfSnapshot *copy = g_new0(XmlconfSnapshot, 1);

    xmlconf_record_copy(record_of(snapshot->checkpoint), copy, snapshot);
    g_atomic_ref_count_init(&copy->refs);
    if (copy->domain)
        xmlconf_domain_ref(copy->domain);
    if (copy->inactive)
        xmlconf_domain_ref(copy->inactive);
    return copy;
}

XmlconfSnapshotDisk *xmlconf_snapshot_add_disk(XmlconfSnapshot *snapshot, const char *name)
{
    XmlconfSnapshotDisk *disk;

    if (!snapshot->disks)
        snapshot->disks = xmlconf_record_list_new();
    disk = xmlconf_record_list_add(snapshot->disks, snapshot->checkpoint ? xmlconf_checkpoint_disk_record : &disk_record);
    disk->name = g_strdup(name);
    return disk;
}

gboolean xmlconf_snapshot_is_external(const XmlconfSnapshot *snapshot)
{
    for (guint i = 0; snapshot->disks && i < snapshot->disks->len; i++) {
        const XmlconfSnapshotDisk *disk = snapshot->disks->pdata[i];

        if (disk->location == XMLCONF_SNAPSHOT_EXTERNAL)
            return TRUE;
    }
    return snapshot->memory == XMLCONF_SNAPSHOT_EXTERNAL;
}

/* ---- reading */

static gboolean fail(const char *problem, GError **error)
{
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "%s", problem);
    return FALSE;
}

static xmlNode *find_child(xmlNode *root, const char *name)
{
    for (xmlNode *child = root->children; child; child = child->next) {
        if (child->type == XML_ELEMENT_NODE && !child->ns && strcmp((const char *)child->name, name) == 0)
            return child;
    }
    return NULL;
}

/* Takes the element out of the document. One that says nothing but a UUID, as old clients write it, is no domain. */
static gboolean take_domain(xmlNode *root, const char *name, XmlconfDomain **domain, GError **error)
{
    xmlNode *element = find_child(root, name);
    g_autofree char *text = NULL;

    if (!element)
        return TRUE;
    xmlUnlinkNode(element);
    if (xmlHasProp(element, BAD_CAST "type")) {
        xmlNodeSetName(element, BAD_CAST "domain");
        text = xmlconf_document_format(element, 0, FALSE);
    }
    xmlFreeNode(element);
    if (!text)
        return TRUE;
    *domain = xmlconf_domain_parse(text, 0, error);
    return *domain != NULL;
}

static gboolean check_disk(const XmlconfSnapshotDisk *disk, GError **error)
{
    gboolean block = g_strcmp0(disk->type, "block") == 0;

    if (!disk->name)
        return fail("a disk of the snapshot has an empty name", error);
    if ((disk->file || disk->dev || disk->format) && disk->location != XMLCONF_SNAPSHOT_EXTERNAL &&
        disk->location != XMLCONF_SNAPSHOT_DEFAULT) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "file '%s' for disk '%s' requires use of external snapshot mode",
                    disk->file ? disk->file : disk->dev ? disk->dev : disk->format, disk->name);
        return FALSE;
    }
    if (block ? disk->file != NULL : disk->dev != NULL) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "disk '%s' of the snapshot has a source that is not of its type",
                    disk->name);
        return FALSE;
    }
    return TRUE;
}

static gboolean complete(XmlconfSnapshot *snapshot, GError **error)
{
    if (snapshot->memory_file && snapshot->memory == XMLCONF_SNAPSHOT_DEFAULT)
        snapshot->memory = XMLCONF_SNAPSHOT_EXTERNAL;
    if (snapshot->memory_file && snapshot->memory != XMLCONF_SNAPSHOT_EXTERNAL)
        return fail("memory filename requires external snapshot", error);
    if (!snapshot->memory_file && snapshot->memory == XMLCONF_SNAPSHOT_EXTERNAL)
        return fail("external memory snapshots require a filename", error);
    for (guint i = 0; snapshot->disks && i < snapshot->disks->len; i++) {
        XmlconfSnapshotDisk *disk = snapshot->disks->pdata[i];

        if (!check_disk(disk, error))
            return FALSE;
        if (disk->location == XMLCONF_SNAPSHOT_DEFAULT && (disk->file || disk->dev || disk->format))
            disk->location = XMLCONF_SNAPSHOT_EXTERNAL;
        if (disk->location == XMLCONF_SNAPSHOT_EXTERNAL && !disk->type)
            disk->type = g_strdup("file");
    }
    return TRUE;
}

static gboolean check_root(const xmlNode *root, const char *name, GError **error)
{
    if (!root->ns && strcmp((const char *)root->name, name) == 0)
        return TRUE;
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "unexpected root element <%s>, expecting <%s>",
                (const char *)root->name, name);
    return FALSE;
}

static XmlconfSnapshot *parse(gboolean checkpoint, const char *xml, XmlconfParseFlags flags, GError **error)
{
    const XmlconfRecord *record = record_of(checkpoint);
    g_autoptr(xmlDoc) doc = xmlconf_document_parse(xml, checkpoint ? "(domain_checkpoint)" : "(domain_snapshot)", error);
    xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;
    g_autoptr(XmlconfSnapshot) snapshot = NULL;

    if (!root || !check_root(root, record->element, error))
        return NULL;
    if ((flags & XMLCONF_VALIDATE) && !xmlconf_schema_validate(doc, record->element, error))
        return NULL;
    snapshot = new_of(checkpoint);
    if (!take_domain(root, "domain", &snapshot->domain, error) ||
        (!checkpoint && !take_domain(root, "inactiveDomain", &snapshot->inactive, error)) ||
        !xmlconf_record_read(record, root, snapshot, TRUE, error) ||
        !(checkpoint ? xmlconf_checkpoint_complete(snapshot, error) : complete(snapshot, error)))
        return NULL;
    return g_steal_pointer(&snapshot);
}

XmlconfSnapshot *xmlconf_snapshot_parse(const char *xml, XmlconfParseFlags flags, GError **error)
{
    return parse(FALSE, xml, flags, error);
}

XmlconfSnapshot *xmlconf_checkpoint_parse(const char *xml, XmlconfParseFlags flags, GError **error)
{
    return parse(TRUE, xml, flags, error);
}

/* ---- writing */

static gboolean add_domain(xmlNode *root, const char *name, XmlconfDomain *domain, XmlconfFormatFlags flags, GError **error)
{
    g_autofree char *text = NULL;
    g_autoptr(xmlDoc) doc = NULL;
    xmlNode *element;

    if (!domain)
        return TRUE;
    text = xmlconf_domain_format(domain, XMLCONF_FORMAT_INACTIVE | (flags & XMLCONF_FORMAT_SECURE), error);
    doc = text ? xmlconf_document_parse(text, "(domain_definition)", error) : NULL;
    if (!doc)
        return FALSE;
    element = xmlDocCopyNode(xmlDocGetRootElement(doc), root->doc, 1);
    xmlNodeSetName(element, BAD_CAST name);
    xmlAddChild(root, element);
    return TRUE;
}

char *xmlconf_snapshot_format(XmlconfSnapshot *snapshot, XmlconfFormatFlags flags, GError **error)
{
    const XmlconfRecord *record = record_of(snapshot->checkpoint);
    g_autoptr(xmlDoc) doc = xmlNewDoc(BAD_CAST "1.0");
    xmlNode *root = xmlNewDocNode(doc, NULL, BAD_CAST record->element, NULL);

    xmlDocSetRootElement(doc, root);
    xmlconf_record_write(record, root, snapshot, TRUE);
    if ((!(flags & XMLCONF_FORMAT_NO_DOMAIN) && !add_domain(root, "domain", snapshot->domain, flags, error)) ||
        !add_domain(root, "inactiveDomain", snapshot->inactive, flags, error))
        return NULL;
    return xmlconf_document_format(root, 0, FALSE);
}

/* ---- where a block copy goes */

/* What clients write of the disk that is copied. */
static gboolean read_nothing(const XmlconfField *field G_GNUC_UNUSED, xmlNode *element G_GNUC_UNUSED,
                             const char *text G_GNUC_UNUSED, gpointer value G_GNUC_UNUSED, GError **error G_GNUC_UNUSED)
{
    return TRUE;
}

static const XmlconfValueType value_nothing = {read_nothing, NULL, FALSE};

static const XmlconfChoice destination_devices[] = {
    {"disk", 0, NULL}, {"cdrom", -1, "a copy is of a disk"}, {NULL, 0, NULL},
};

static const XmlconfField destination_fields[] = {
    {"@type", &xmlconf_value_word, DISK(type), .fallback = "file", .choices = types},
    {"@device", &xmlconf_value_checked, .choices = destination_devices},
    {"driver@name", &value_nothing, .offset = 0},
    {"driver@type", &xmlconf_value_string, DISK(format)},
    {"source@file", &xmlconf_value_path, DISK(file)},
    {"source@dev", &xmlconf_value_path, DISK(dev)},
    {"target@dev", &value_nothing, .offset = 0},
    {"target@bus", &value_nothing, .offset = 0},
};

static const XmlconfRecord destination_record = {
    .element = "disk",
    .size = sizeof(XmlconfSnapshotDisk),
    .fields = destination_fields,
    .n_fields = G_N_ELEMENTS(destination_fields),
};

gboolean xmlconf_disk_destination_parse(const char *xml, XmlconfSnapshotDisk *disk, GError **error)
{
    g_autoptr(xmlDoc) doc = xmlconf_document_parse(xml, "(disk_definition)", error);
    xmlNode *root = doc ? xmlDocGetRootElement(doc) : NULL;
    gboolean block;

    if (!root || !check_root(root, "disk", error) || !xmlconf_record_read(&destination_record, root, disk, TRUE, error))
        return FALSE;
    block = strcmp(disk->type, "block") == 0;
    if (block ? !disk->file && disk->dev : !disk->dev && disk->file)
        return TRUE;
    return fail(block ? "the destination needs a <source dev='...'/>" : "the destination needs a <source file='...'/>", error);
}

void xmlconf_snapshot_disk_clear(XmlconfSnapshotDisk *disk)
{
    xmlconf_record_clear(&disk_record, disk);
}
