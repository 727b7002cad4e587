/* disk: the rows of <disk>, and the numbers that Xen gives to its targets. */
#include "config.h"

#include <string.h>

#include "xmlconf/fields.h"

#define DISK(member) .offset = G_STRUCT_OFFSET(XmlconfDisk, member)

#define DISK_TYPES "disks are of type file or block"
static const XmlconfChoice types[] = {
    {"file", XMLCONF_DISK_FILE, NULL},     {"block", XMLCONF_DISK_BLOCK, NULL},
    {"network", 0, DISK_TYPES},            {"volume", 0, DISK_TYPES},
    {"dir", 0, DISK_TYPES},                {"nvme", 0, DISK_TYPES},
    {"vhostuser", 0, DISK_TYPES},          {"vhostvdpa", 0, DISK_TYPES},
    {NULL, 0, NULL},
};

#define DEVICES "a disk is a disk or a cdrom"
static const XmlconfChoice devices[] = {
    {"disk", XMLCONF_DISK_DISK, NULL},
    {"cdrom", XMLCONF_DISK_CDROM, NULL},
    {"floppy", 0, DEVICES},
    {"lun", 0, DEVICES},
    {NULL, 0, NULL},
};

#define FORMATS "images are raw"
static const XmlconfChoice formats[] = {
    {"raw", 0, NULL},      {"qcow2", 0, FORMATS}, {"qcow", 0, FORMATS},  {"vmdk", 0, FORMATS},
    {"vhd", 0, FORMATS},   {"vpc", 0, FORMATS},   {"vdi", 0, FORMATS},   {"qed", 0, FORMATS},
    {"cow", 0, FORMATS},   {"bochs", 0, FORMATS}, {"cloop", 0, FORMATS}, {"dmg", 0, FORMATS},
    {"iso", 0, FORMATS},   {"luks", 0, FORMATS},  {"ploop", 0, FORMATS}, {"fat", 0, FORMATS},
    {NULL, 0, NULL},
};

/* Which program would serve the disk on another hypervisor; here it is always our own. */
static const XmlconfChoice drivers[] = {
    {"qemu", 0, NULL}, {"phy", 0, NULL}, {"file", 0, NULL}, {"tap", 0, NULL}, {"tap2", 0, NULL},
    {NULL, 0, NULL},
};

static const XmlconfChoice caches[] = {
    {"default", XMLCONF_CACHE_DEFAULT, NULL},
    {"none", XMLCONF_CACHE_NONE, NULL},
    {"writethrough", XMLCONF_CACHE_WRITETHROUGH, NULL},
    {"writeback", XMLCONF_CACHE_WRITEBACK, NULL},
    {"directsync", XMLCONF_CACHE_DIRECTSYNC, NULL},
    {"unsafe", 0, "a guest's flush always reaches the disk"},
    {NULL, 0, NULL},
};

#define IO "images are read and written through io_uring"
static const XmlconfChoice ios[] = {
    {"io_uring", 0, NULL},
    {"native", 0, IO},
    {"threads", 0, IO},
    {NULL, 0, NULL},
};

static const XmlconfChoice discards[] = {
    {"unmap", XMLCONF_DISCARD_UNMAP, NULL},
    {"ignore", XMLCONF_DISCARD_IGNORE, NULL},
    {NULL, 0, NULL},
};

/* What is not said is not written. */
static char *write_cache(const XmlconfField *field, gconstpointer value, gboolean live)
{
    if (*(const XmlconfCache *)value == XMLCONF_CACHE_DEFAULT)
        return NULL;
    return xmlconf_value_enum.write(field, value, live);
}

static gboolean read_cache(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                           GError **error)
{
    return xmlconf_value_enum.read(field, element, text, value, error);
}

static const XmlconfValueType value_cache = {read_cache, write_cache, FALSE};

static gboolean read_target(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                            GError **error)
{
    guint vdev;

    if (!xmlconf_disk_vdev(text, &vdev))
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text,
                                   "is not a disk of Xen's: it must be xvda, sda, hda or the like", error);
    return xmlconf_value_string.read(field, element, text, value, error);
}


/* As libvirt's schema has it. */
static gboolean read_serial(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                            GError **error)
{
    for (const char *p = text; *p; p++) {
        if (!g_ascii_isalnum(*p) && !strchr("_.+- ", *p))
            return xmlconf_value_error(field, XMLCONF_ERROR_XML, text,
                                       "has other characters than letters, digits, spaces and _.+-", error);
    }
    return xmlconf_value_string.read(field, element, text, value, error);
}

static char *write_string(const XmlconfField *field, gconstpointer value, gboolean live)
{
    return xmlconf_value_string.write(field, value, live);
}

static const XmlconfValueType value_target = {read_target, write_string, TRUE};
static const XmlconfValueType value_serial = {read_serial, write_string, TRUE};

static const XmlconfField fields[] = {
    {"@type", &xmlconf_value_enum, DISK(type), .fallback = "file", .choices = types},
    {"@device", &xmlconf_value_enum, DISK(device), .fallback = "disk", .choices = devices},
    {"driver@name", &xmlconf_value_word, DISK(driver), .choices = drivers},
    {"driver@type", &xmlconf_value_word, DISK(format), .fallback = "raw", .choices = formats},
    {"driver@cache", &value_cache, DISK(cache), .choices = caches},
    {"driver@io", &xmlconf_value_word, DISK(io), .choices = ios},
    {"driver@discard", &xmlconf_value_enum, DISK(discard), .choices = discards},
    {"source@file", &xmlconf_value_path, DISK(file)},
    {"source@dev", &xmlconf_value_path, DISK(dev)},
    {.path = "backingStore"}, /* empty: a raw image has none */
    {"target@dev", &value_target, DISK(target), .flags = XMLCONF_FIELD_REQUIRED},
    {"target@bus", &xmlconf_value_fixed, .fallback = "xen"},
    XMLCONF_REFUSED("iotune", "limits of disk I/O are not supported yet"),
    {"readonly", &xmlconf_value_present, DISK(readonly)},
    {"shareable", &xmlconf_value_present, DISK(shareable)},
    XMLCONF_REFUSED("transient", "transient disks are not supported yet"),
    {"serial", &value_serial, DISK(serial)},
    XMLCONF_REFUSED("encryption", "encrypted disks are not supported yet"),
    XMLCONF_REFUSED("boot", "boot devices are not supported: a PVH guest is booted from its kernel"),
    {"alias@name", &xmlconf_value_string, DISK(alias), .flags = XMLCONF_FIELD_LIVE},
};

const XmlconfRecord xmlconf_disk_record = {
    .element = "disk",
    .size = sizeof(XmlconfDisk),
    .fields = fields,
    .n_fields = G_N_ELEMENTS(fields),
};

const char *xmlconf_disk_source(const XmlconfDisk *disk)
{
    return disk->type == XMLCONF_DISK_BLOCK ? disk->dev : disk->file;
}

/* ---- names and numbers: docs/man/xen-vbd-interface of Xen */

/* Letters count as digits do without a zero: a..z, aa, ab ... */
static gboolean parse_letters(const char **text, guint *disk)
{
    guint n = 0;

    for (; g_ascii_islower(**text); (*text)++) {
        if (n > G_MAXUINT16)
            return FALSE;
        n = n * 26 + (guint)(**text - 'a') + 1;
    }
    *disk = n - 1;
    return n > 0;
}

/* Nothing is the whole disk, 0. */
static gboolean parse_partition(const char *text, guint *partition)
{
    guint64 n = 0;

    if (*text && (*text == '0' || !g_ascii_string_to_unsigned(text, 10, 1, 255, &n, NULL)))
        return FALSE;
    *partition = (guint)n;
    return TRUE;
}

static const struct {
    const char *prefix;
    guint disks, partitions; /* most of them */
} name_classes[] = {
    {"xvd", 1u << 16, 256},
    {"sd", 16, 16},
    {"hd", 4, 64},
};

static guint xvd_number(guint disk, guint partition)
{
    if (disk < 16 && partition < 16)
        return 202u << 8 | disk << 4 | partition;
    return 1u << 28 | disk << 8 | partition;
}

static guint hd_number(guint disk, guint partition)
{
    return (disk < 2 ? 3u : 22u) << 8 | (disk & 1) << 6 | partition;
}

gboolean xmlconf_disk_vdev(const char *target, guint *vdev)
{
    for (gsize i = 0; i < G_N_ELEMENTS(name_classes); i++) {
        const char *rest = target + strlen(name_classes[i].prefix);
        guint disk, partition;

        if (!g_str_has_prefix(target, name_classes[i].prefix))
            continue;
        if (!parse_letters(&rest, &disk) || !parse_partition(rest, &partition) ||
            disk >= name_classes[i].disks || partition >= name_classes[i].partitions)
            return FALSE;
        *vdev = *target == 'x'   ? xvd_number(disk, partition)
                : *target == 's' ? 8u << 8 | disk << 4 | partition
                                 : hd_number(disk, partition);
        return TRUE;
    }
    return FALSE;
}

/* ---- what no single row can say */

static gboolean fail(const XmlconfDisk *disk, const char *problem, GError **error)
{
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "disk '%s' %s", disk->target, problem);
    return FALSE;
}

gboolean xmlconf_disk_complete(XmlconfDisk *disk, GError **error)
{
    if (disk->type == XMLCONF_DISK_FILE && disk->dev)
        return fail(disk, "is of type 'file' and has a <source dev='...'/>", error);
    if (disk->type == XMLCONF_DISK_BLOCK && disk->file)
        return fail(disk, "is of type 'block' and has a <source file='...'/>", error);
    if (!xmlconf_disk_source(disk))
        return fail(disk, "has no source: a drive without a medium is not supported", error);
    if (disk->device == XMLCONF_DISK_CDROM)
        disk->readonly = TRUE;
    return TRUE;
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
            g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML,
                        "target '%s' duplicated for disk sources '%s' and '%s'", disk->target,
                        xmlconf_disk_source(other), xmlconf_disk_source(disk));
            return FALSE;
        }
        g_hash_table_insert(seen, GUINT_TO_POINTER(vdev), disk);
    }
    return TRUE;
}
