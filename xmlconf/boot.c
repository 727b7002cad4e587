/* What a guest is booted from: the order of devices, of classes in <os> or of each device. */
#include "config.h"

#include "xmlconf/fields.h"

#include <string.h>

#define DEFAULT_LOADER "pygrub"
#define NO_FIRMWARE    "a PVH guest has no firmware that could boot from it: from a disk or a CD-ROM a kernel is taken"

static const XmlconfChoice devices[] = {
    {"hd", XMLCONF_BOOT_HD, NULL},
    {"cdrom", XMLCONF_BOOT_CDROM, NULL},
    {"network", 0, NO_FIRMWARE},
    {"fd", 0, NO_FIRMWARE},
    {NULL, 0, NULL},
};

static const XmlconfField fields[] = {
    {"@dev", &xmlconf_value_enum, .offset = G_STRUCT_OFFSET(XmlconfBoot, device), .flags = XMLCONF_FIELD_REQUIRED,
     .choices = devices},
};

const XmlconfRecord xmlconf_boot_record = {
    .element = "boot",
    .size = sizeof(XmlconfBoot),
    .fields = fields,
    .n_fields = G_N_ELEMENTS(fields),
};

/* ---- checks */

/* @seen has the orders so far. */
static gboolean check_order(GHashTable *seen, guint64 order, GError **error)
{
    return order == 0 || g_hash_table_add(seen, g_memdup2(&order, sizeof(order))) ||
           xmlconf_fail(error, "boot order '%" G_GUINT64_FORMAT "' used for more than one device", order);
}

static gboolean check_orders(const XmlconfDomainConfig *config, GHashTable *seen, GError **error)
{
    for (guint i = 0; config->disks && i < config->disks->len; i++) {
        const XmlconfDisk *disk = config->disks->pdata[i];
        if (!check_order(seen, disk->boot_order, error))
            return FALSE;
    }
    for (guint i = 0; config->interfaces && i < config->interfaces->len; i++) {
        const XmlconfInterface *interface = config->interfaces->pdata[i];
        if (!check_order(seen, interface->boot_order, error))
            return FALSE;
    }
    return TRUE;
}

gboolean xmlconf_boot_check(const XmlconfDomainConfig *config, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);

    if (!config->kernel && !config->bootloader && !(config->disks && config->disks->len))
        return xmlconf_fail(error, "there is nothing to boot: neither <kernel> in <os>, nor a <bootloader>, nor a disk to look for a "
                           "kernel in");
    if (config->bootloader_args && !config->bootloader)
        return xmlconf_fail(error, "element <bootloader_args> needs a <bootloader>");
    if (!check_orders(config, seen, error))
        return FALSE;
    return !config->boot || g_hash_table_size(seen) == 0 ||
           xmlconf_fail(error, "per-device boot elements cannot be used together with os/boot elements");
}

/* ---- what follows from them */

const char *xmlconf_bootloader(const XmlconfDomainConfig *config)
{
    return config->bootloader || config->kernel ? config->bootloader : DEFAULT_LOADER;
}

static void add_once(GPtrArray *list, XmlconfDisk *disk)
{
    if (xmlconf_disk_source(disk) && !g_ptr_array_find(list, disk, NULL))
        g_ptr_array_add(list, disk);
}

static void add_class(const XmlconfDomainConfig *config, GPtrArray *list, XmlconfBootDevice device)
{
    for (guint i = 0; i < config->disks->len; i++) {
        XmlconfDisk *disk = config->disks->pdata[i];
        if ((disk->device == XMLCONF_DISK_CDROM) == (device == XMLCONF_BOOT_CDROM))
            add_once(list, disk);
    }
}

static void add_ordered(const XmlconfDomainConfig *config, GPtrArray *list)
{
    XmlconfDisk *next;

    for (guint64 above = 0; above != G_MAXUINT64; above = next ? next->boot_order : G_MAXUINT64) {
        next = NULL;
        for (guint i = 0; i < config->disks->len; i++) {
            XmlconfDisk *disk = config->disks->pdata[i];
            if (disk->boot_order > above && (!next || disk->boot_order < next->boot_order))
                next = disk;
        }
        if (next)
            add_once(list, next);
    }
}

GPtrArray *xmlconf_boot_disks(const XmlconfDomainConfig *config)
{
    GPtrArray *list = g_ptr_array_new();

    if (!config->disks || !config->disks->len)
        return list;
    add_ordered(config, list);
    for (guint i = 0; config->boot && i < config->boot->len; i++)
        add_class(config, list, ((const XmlconfBoot *)config->boot->pdata[i])->device);
    if (!list->len)
        add_once(list, config->disks->pdata[0]);
    return list;
}
