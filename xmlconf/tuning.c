/* tuning: limits of memory and of block I/O, huge pages: what their rows are made of, and what a row by
 * itself cannot say. */
#include "config.h"

#include <string.h>

#include "xmlconf/fields.h"

/* ---- amounts of memory that need not be there */

static gboolean read_amount(const XmlconfField *field, xmlNode *element, const char *text, gpointer value, GError **error)
{
    return xmlconf_value_memory.read(field, element, text, value, error);
}

static char *write_amount(const XmlconfField *field, gconstpointer value, gboolean live)
{
    return *(const guint64 *)value ? xmlconf_value_memory.write(field, value, live) : NULL;
}

static gboolean read_amount_unit(const XmlconfField *field G_GNUC_UNUSED, xmlNode *element G_GNUC_UNUSED,
                                 const char *text G_GNUC_UNUSED, gpointer value G_GNUC_UNUSED,
                                 GError **error G_GNUC_UNUSED)
{
    return TRUE;
}

static char *write_amount_unit(const XmlconfField *field G_GNUC_UNUSED, gconstpointer value, gboolean live G_GNUC_UNUSED)
{
    return *(const guint64 *)value ? g_strdup("KiB") : NULL;
}

const XmlconfValueType xmlconf_value_amount = {read_amount, write_amount, FALSE};
const XmlconfValueType xmlconf_value_amount_unit = {read_amount_unit, write_amount_unit, FALSE};

/* ---- records */

#define DEVICE(name, lowest, highest)                                                                                  \
    {#name, &xmlconf_value_count, .offset = G_STRUCT_OFFSET(XmlconfBlkioDevice, name), .min = lowest, .max = highest}

static const XmlconfField blkio_device_fields[] = {
    {"path", &xmlconf_value_path, .offset = G_STRUCT_OFFSET(XmlconfBlkioDevice, path), .flags = XMLCONF_FIELD_REQUIRED},
    DEVICE(weight, XMLCONF_MIN_WEIGHT, XMLCONF_MAX_WEIGHT),
    DEVICE(read_bytes_sec, 1, G_MAXINT64),
    DEVICE(write_bytes_sec, 1, G_MAXINT64),
    DEVICE(read_iops_sec, 1, G_MAXUINT32),
    DEVICE(write_iops_sec, 1, G_MAXUINT32),
};

const XmlconfRecord xmlconf_blkio_device_record = {
    .element = "device",
    .size = sizeof(XmlconfBlkioDevice),
    .fields = blkio_device_fields,
    .n_fields = G_N_ELEMENTS(blkio_device_fields),
};

/* ---- checks */

gboolean xmlconf_memtune_check(const XmlconfMemtune *tune, GError **error)
{
    if (tune->hard_limit_kib && tune->swap_hard_limit_kib && tune->swap_hard_limit_kib < tune->hard_limit_kib)
        return xmlconf_fail(error, "swap_hard_limit %" G_GUINT64_FORMAT " KiB is less than hard_limit %" G_GUINT64_FORMAT
                    " KiB, which it includes", tune->swap_hard_limit_kib, tune->hard_limit_kib);
    return TRUE;
}

static gboolean is_before(const GPtrArray *devices, guint index)
{
    const XmlconfBlkioDevice *device = devices->pdata[index];

    for (guint i = 0; i < index; i++) {
        if (strcmp(((const XmlconfBlkioDevice *)devices->pdata[i])->path, device->path) == 0)
            return TRUE;
    }
    return FALSE;
}

gboolean xmlconf_blkiotune_check(const XmlconfBlkiotune *tune, GError **error)
{
    for (guint i = 0; tune->devices && i < tune->devices->len; i++) {
        if (is_before(tune->devices, i))
            return xmlconf_fail(error, "device '%s' is in <blkiotune> more than once",
                        ((const XmlconfBlkioDevice *)tune->devices->pdata[i])->path);
    }
    return TRUE;
}

gboolean xmlconf_memory_backing_check(const XmlconfDomainConfig *config, GError **error)
{
    const guint64 page = XMLCONF_HUGEPAGE_KIB;

    if (config->hugepage_kib && !config->hugepages)
        return xmlconf_fail(error, "a size of huge pages needs <hugepages>");
    if (config->hugepage_kib && config->hugepage_kib != page) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED,
                    "huge pages of %" G_GUINT64_FORMAT " KiB are not supported: they have %" G_GUINT64_FORMAT " KiB",
                    config->hugepage_kib, page);
        return FALSE;
    }
    return !config->hugepages || config->memory_kib % page == 0 ||
           xmlconf_fail(error, "memory of %" G_GUINT64_FORMAT " KiB is not a multiple of huge pages of %" G_GUINT64_FORMAT " KiB",
                config->memory_kib, page);
}

/* ---- changing */

XmlconfBlkioDevice *xmlconf_blkiotune_find(const XmlconfBlkiotune *tune, const char *path)
{
    for (guint i = 0; tune->devices && i < tune->devices->len; i++) {
        XmlconfBlkioDevice *device = tune->devices->pdata[i];
        if (strcmp(device->path, path) == 0)
            return device;
    }
    return NULL;
}

XmlconfBlkioDevice *xmlconf_blkiotune_get(XmlconfBlkiotune *tune, const char *path)
{
    XmlconfBlkioDevice *device = xmlconf_blkiotune_find(tune, path);

    if (device)
        return device;
    if (!tune->devices)
        tune->devices = xmlconf_record_list_new();
    device = xmlconf_record_list_add(tune->devices, &xmlconf_blkio_device_record);
    device->path = g_strdup(path);
    return device;
}

static gboolean says_nothing(const XmlconfBlkioDevice *device)
{
    return !device->weight && !device->read_bytes_sec && !device->write_bytes_sec && !device->read_iops_sec &&
           !device->write_iops_sec;
}

void xmlconf_blkiotune_prune(XmlconfBlkiotune *tune)
{
    for (guint i = tune->devices ? tune->devices->len : 0; i-- > 0;) {
        if (says_nothing(tune->devices->pdata[i]))
            g_ptr_array_remove_index(tune->devices, i);
    }
}

void xmlconf_blkiotune_copy(XmlconfBlkiotune *to, const XmlconfBlkiotune *from)
{
    *to = (XmlconfBlkiotune){.weight = from->weight};
    for (guint i = 0; from->devices && i < from->devices->len; i++) {
        const XmlconfBlkioDevice *device = from->devices->pdata[i];
        XmlconfBlkioDevice *copy = xmlconf_blkiotune_get(to, device->path);
        char *path = copy->path;
        *copy = *device;
        copy->path = path;
    }
}

void xmlconf_blkiotune_clear(XmlconfBlkiotune *tune)
{
    g_clear_pointer(&tune->devices, g_ptr_array_unref);
    tune->weight = 0;
}
