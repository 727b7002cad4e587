/* disk: the rows of <disk>. */
#include "config.h"

#include <string.h>

#include "xmlconf/fields.h"

#define DISK(member) .offset = G_STRUCT_OFFSET(XmlconfDisk, member)

#define DISK_TYPES "disks are of type file, block, network or volume"
static const XmlconfChoice types[] = {
    {"file", XMLCONF_DISK_FILE, NULL},       {"block", XMLCONF_DISK_BLOCK, NULL},
    {"network", XMLCONF_DISK_NETWORK, NULL}, {"volume", XMLCONF_DISK_VOLUME, NULL},
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

/* The first is our own, the others are qemu-storage-daemon's. */
#define FORMATS "no program here reads it"
static const XmlconfChoice formats[] = {
    {"raw", 0, NULL},     {"qcow2", 0, NULL},  {"qcow", 0, NULL},   {"vmdk", 0, NULL},
    {"vhd", 0, NULL},     {"vpc", 0, NULL},    {"vhdx", 0, NULL},   {"vdi", 0, NULL},
    {"qed", 0, NULL},     {"bochs", 0, NULL},  {"cloop", 0, NULL},  {"dmg", 0, NULL},
    {"cow", 0, FORMATS},  {"iso", 0, "an ISO image is of format raw"},
    {"luks", 0, "format raw with an <encryption format='luks'> in <source> is meant"},
    {"ploop", 0, FORMATS}, {"fat", 0, FORMATS}, {"dir", 0, FORMATS},
    {NULL, 0, NULL},
};

#define PROTOCOLS "network disks are of protocol nbd"
static const XmlconfChoice protocols[] = {
    {"nbd", 0, NULL},         {"rbd", 0, PROTOCOLS},       {"sheepdog", 0, PROTOCOLS}, {"gluster", 0, PROTOCOLS},
    {"iscsi", 0, PROTOCOLS},  {"http", 0, PROTOCOLS},      {"https", 0, PROTOCOLS},    {"ftp", 0, PROTOCOLS},
    {"ftps", 0, PROTOCOLS},   {"tftp", 0, PROTOCOLS},      {"ssh", 0, PROTOCOLS},      {"vxhs", 0, PROTOCOLS},
    {"nfs", 0, PROTOCOLS},
    {NULL, 0, NULL},
};

static const XmlconfChoice transports[] = {
    {"tcp", 0, NULL},
    {"unix", 0, NULL},
    {"rdma", 0, "servers are reached by tcp or unix"},
    {NULL, 0, NULL},
};

static const XmlconfChoice volume_modes[] = {
    {"host", 0, NULL},
    {"direct", 0, "volumes are used through the host"},
    {NULL, 0, NULL},
};

static const XmlconfChoice encryptions[] = {
    {"luks", 0, NULL},
    {"luks2", 0, "images are encrypted with luks"},
    {"luks-any", 0, "images are encrypted with luks"},
    {"qcow", 0, "images are encrypted with luks"},
    {"default", 0, "images are encrypted with luks"},
    {NULL, 0, NULL},
};

/* IDE and SCSI are what Xen's numbers of hda and sda say, and what virt-install takes hda for; the front end is the same. */
#define BUSES "a PVH guest has Xen's block front end"
static const XmlconfChoice buses[] = {
    {"xen", 0, NULL},     {"ide", 0, NULL},     {"scsi", 0, NULL},  {"virtio", 0, BUSES},
    {"sata", 0, BUSES},   {"usb", 0, BUSES},    {"fdc", 0, BUSES},  {"sd", 0, BUSES},
    {"uml", 0, BUSES},
    {NULL, 0, NULL},
};

static const XmlconfChoice error_policies[] = {
    {"stop", XMLCONF_POLICY_STOP, NULL},
    {"report", XMLCONF_POLICY_REPORT, NULL},
    {"ignore", XMLCONF_POLICY_IGNORE, NULL},
    {"enospace", XMLCONF_POLICY_ENOSPACE, NULL},
    {NULL, 0, NULL},
};

static const XmlconfChoice read_error_policies[] = {
    {"stop", XMLCONF_POLICY_STOP, NULL},
    {"report", XMLCONF_POLICY_REPORT, NULL},
    {"ignore", XMLCONF_POLICY_IGNORE, NULL},
    {NULL, 0, NULL},
};

static const XmlconfChoice trays[] = {
    {"closed", FALSE, NULL},
    {"open", TRUE, NULL},
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
    {"unsafe", XMLCONF_CACHE_UNSAFE, NULL},
    {NULL, 0, NULL},
};

static const XmlconfChoice ios[] = {
    {"io_uring", 0, NULL},
    {"native", 0, NULL},
    {"threads", 0, NULL},
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

/* A name or an address, as libvirt's schema has them. */
static gboolean read_host(const XmlconfField *field, xmlNode *element, const char *text, gpointer value, GError **error)
{
    gboolean ok = g_hostname_is_ip_address(text) || !strchr(text, ':');

    for (const char *p = text; *p && ok; p++)
        ok = g_ascii_isalnum(*p) || strchr(".-:", *p);
    if (!ok)
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is not the name or address of a host", error);
    return xmlconf_value_string.read(field, element, text, value, error);
}

static gboolean read_limit(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED, const char *text, gpointer value,
                           GError **error)
{
    g_autofree char *trimmed = g_strstrip(g_strdup(text));

    if (!g_ascii_string_to_unsigned(trimmed, 10, 0, XMLCONF_IOTUNE_MAX, value, NULL))
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text,
                                   "is not a number from 0 to " G_STRINGIFY(XMLCONF_IOTUNE_MAX), error);
    return TRUE;
}

static char *write_limit(const XmlconfField *field G_GNUC_UNUSED, gconstpointer value, gboolean live G_GNUC_UNUSED)
{
    guint64 limit = *(const guint64 *)value;

    return limit ? g_strdup_printf("%" G_GUINT64_FORMAT, limit) : NULL;
}

/* Of a drive that runs, and only where it is open. */
static gboolean read_tray(const XmlconfField *field, xmlNode *element, const char *text, gpointer value, GError **error)
{
    return xmlconf_value_enum.read(field, element, text, value, error);
}

static char *write_tray(const XmlconfField *field, gconstpointer value, gboolean live)
{
    return live && *(const gboolean *)value ? xmlconf_value_enum.write(field, value, live) : NULL;
}

static const XmlconfValueType value_host = {read_host, write_string, TRUE};
static const XmlconfValueType value_limit = {read_limit, write_limit, FALSE};
static const XmlconfValueType value_tray = {read_tray, write_tray, FALSE};
static const XmlconfValueType value_target = {read_target, write_string, TRUE};
static const XmlconfValueType value_serial = {read_serial, write_string, TRUE};

/* ---- what images are based on */

#define BACKING(member) .offset = G_STRUCT_OFFSET(XmlconfBacking, member)

static const XmlconfField backing_fields[] = {
    {"@type", &xmlconf_value_string, BACKING(type)},
    {"format@type", &xmlconf_value_string, BACKING(format)},
    {"source@file", &xmlconf_value_string, BACKING(file)},
    {"source@dev", &xmlconf_value_string, BACKING(dev)},
    {"source@name", &xmlconf_value_string, BACKING(name)},
    {"backingStore", BACKING(backing), .flags = XMLCONF_FIELD_LIST, .max = 1, .record = &xmlconf_backing_record},
};

const XmlconfRecord xmlconf_backing_record = {
    .element = "backingStore",
    .size = sizeof(XmlconfBacking),
    .fields = backing_fields,
    .n_fields = G_N_ELEMENTS(backing_fields),
};

XmlconfBacking *xmlconf_backing_add(GPtrArray **list)
{
    while (*list)
        list = &((XmlconfBacking *)(*list)->pdata[0])->backing;
    *list = xmlconf_record_list_new();
    return xmlconf_record_list_add(*list, &xmlconf_backing_record);
}

void xmlconf_backing_clear(GPtrArray **list)
{
    g_clear_pointer(list, g_ptr_array_unref);
}

/* ---- disks */

#define MIRROR(where, member) \
    {"mirror" where, &xmlconf_value_string, DISK(mirror.member), .flags = XMLCONF_FIELD_LIVE}

static const XmlconfChoice snapshots[] = {
    {"no", XMLCONF_SNAPSHOT_NO, NULL},
    {"internal", XMLCONF_SNAPSHOT_INTERNAL, NULL},
    {"external", XMLCONF_SNAPSHOT_EXTERNAL, NULL},
    {"manual", -1, "snapshots of disks are internal, external or none"},
    {NULL, 0, NULL},
};

static const XmlconfField fields[] = {
    {"@type", &xmlconf_value_enum, DISK(type), .fallback = "file", .choices = types},
    {"@device", &xmlconf_value_enum, DISK(device), .fallback = "disk", .choices = devices},
    {"@snapshot", &xmlconf_value_enum, DISK(snapshot), .choices = snapshots},
    {"driver@name", &xmlconf_value_word, DISK(driver), .choices = drivers},
    {"driver@type", &xmlconf_value_word, DISK(format), .fallback = "raw", .choices = formats},
    {"driver@cache", &value_cache, DISK(cache), .choices = caches},
    {"driver@error_policy", &xmlconf_value_enum, DISK(error_policy), .choices = error_policies},
    {"driver@rerror_policy", &xmlconf_value_enum, DISK(rerror_policy), .choices = read_error_policies},
    {"driver@io", &xmlconf_value_word, DISK(io), .choices = ios},
    {"driver@discard", &xmlconf_value_enum, DISK(discard), .choices = discards},
    {"source@file", &xmlconf_value_path, DISK(file)},
    {"source@dev", &xmlconf_value_path, DISK(dev)},
    {"source@protocol", &xmlconf_value_word, DISK(protocol), .choices = protocols},
    {"source@name", &xmlconf_value_string, DISK(export_name)},
    {"source@tls", &xmlconf_value_fixed, .flags = XMLCONF_FIELD_KEEP, .fallback = "no"},
    {"source/host@name", &value_host, DISK(host)},
    {"source/host@port", &xmlconf_value_string, DISK(port)},
    {"source/host@transport", &xmlconf_value_word, DISK(transport), .choices = transports},
    {"source/host@socket", &xmlconf_value_path, DISK(socket)},
    {"source/reconnect@delay", &xmlconf_value_count, DISK(reconnect_delay), .max = G_MAXUINT32},
    {"source@pool", &xmlconf_value_string, DISK(pool)},
    {"source@volume", &xmlconf_value_string, DISK(volume)},
    {"source@mode", &xmlconf_value_word, DISK(volume_mode), .choices = volume_modes},
    {XMLCONF_PRIVATE "@file", &xmlconf_value_path, DISK(volume_file), .flags = XMLCONF_FIELD_LIVE},
    {XMLCONF_PRIVATE "@dev", &xmlconf_value_path, DISK(volume_dev), .flags = XMLCONF_FIELD_LIVE},
    {XMLCONF_PRIVATE "@routed", &xmlconf_value_yes, DISK(routed), .flags = XMLCONF_FIELD_LIVE},
    {XMLCONF_PRIVATE "@job", &xmlconf_value_string, DISK(job), .flags = XMLCONF_FIELD_LIVE},
    {XMLCONF_PRIVATE "@threshold", &xmlconf_value_count, DISK(threshold), .flags = XMLCONF_FIELD_LIVE, .max = G_MAXUINT64},
    {"source/encryption@format", &xmlconf_value_word, DISK(encryption), .choices = encryptions},
    {"source/encryption@engine", &xmlconf_value_fixed, .flags = XMLCONF_FIELD_KEEP, .fallback = "qemu"},
    {"source/encryption/secret@type", &xmlconf_value_fixed, .flags = XMLCONF_FIELD_KEEP, .fallback = "passphrase"},
    {"source/encryption/secret@uuid", &xmlconf_value_uuid, DISK(secret_uuid)},
    {"source/encryption/secret@usage", &xmlconf_value_string, DISK(secret_usage)},
    /* In a definition it says nothing: what an image is based on, it says itself. */
    {"backingStore", .offset = G_STRUCT_OFFSET(XmlconfDisk, backing), .flags = XMLCONF_FIELD_LIST | XMLCONF_FIELD_LIVE,
     .max = 1, .record = &xmlconf_backing_record},
    MIRROR("@type", type),
    MIRROR("@job", job),
    MIRROR("@ready", ready),
    MIRROR("/format@type", format),
    MIRROR("/source@file", file),
    MIRROR("/source@dev", dev),
    {"target@dev", &value_target, DISK(target), .flags = XMLCONF_FIELD_REQUIRED},
    {"target@bus", &xmlconf_value_word, DISK(bus), .fallback = "xen", .choices = buses},
    {"target@tray", &value_tray, DISK(tray_open), .flags = XMLCONF_FIELD_LIVE, .choices = trays},
#define IOTUNE(name) {"iotune/" #name, &value_limit, DISK(iotune.name)}
    IOTUNE(total_bytes_sec),
    IOTUNE(read_bytes_sec),
    IOTUNE(write_bytes_sec),
    IOTUNE(total_iops_sec),
    IOTUNE(read_iops_sec),
    IOTUNE(write_iops_sec),
    IOTUNE(total_bytes_sec_max),
    IOTUNE(read_bytes_sec_max),
    IOTUNE(write_bytes_sec_max),
    IOTUNE(total_iops_sec_max),
    IOTUNE(read_iops_sec_max),
    IOTUNE(write_iops_sec_max),
    {"readonly", &xmlconf_value_present, DISK(readonly)},
    {"shareable", &xmlconf_value_present, DISK(shareable)},
    XMLCONF_REFUSED("transient", "transient disks are not supported yet"),
    {"serial", &value_serial, DISK(serial)},
    XMLCONF_REFUSED("encryption", "it has to be in <source>"),
    {"boot@order", &xmlconf_value_uint64, DISK(boot_order), .min = 1, .max = G_MAXUINT32},
    {"alias@name", &xmlconf_value_string, DISK(alias), .flags = XMLCONF_FIELD_LIVE},
};

const XmlconfRecord xmlconf_disk_record = {
    .element = "disk",
    .size = sizeof(XmlconfDisk),
    .fields = fields,
    .n_fields = G_N_ELEMENTS(fields),
};
