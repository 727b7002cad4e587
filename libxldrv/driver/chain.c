/* What images are based on. */
#include "config.h"

#include "libxldrv/driver/chain.h"

#include <json-glib/json-glib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "libxldrv/driver/storage.h"
#include "libxldrv/host/qemu-img.h"
#include "libxldrv/host/qmp.h"

#define MAX_CHAIN 200u /* as libvirt has it */

static gboolean is_block(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISBLK(st.st_mode);
}

static void add(XmlconfDisk *disk, JsonObject *image)
{
    const char *name = xldrv_json_string(image, "filename"), *format = xldrv_json_string(image, "format");
    XmlconfBacking *backing = xmlconf_backing_add(&disk->backing);

    if (!name || !format)
        return;
    backing->format = g_strdup(format);
    if (*name != '/') {
        backing->type = g_strdup("network");
        backing->name = g_strdup(name);
        return;
    }
    backing->type = g_strdup(is_block(name) ? "block" : "file");
    *(is_block(name) ? &backing->dev : &backing->file) = g_strdup(name);
}

static gboolean may_be_based(const XmlconfDisk *disk)
{
    return xmlconf_disk_source(disk) && disk->type != XMLCONF_DISK_NETWORK && !disk->encryption &&
           (strcmp(disk->format, "qcow2") == 0 || strcmp(disk->format, "qed") == 0);
}

void xldrv_chain_learn(XmlconfDisk *disk)
{
    const char *argv[] = {"info", "-U", "--backing-chain", "--output=json", "-f", xldrv_storage_format(disk),
                          xmlconf_disk_source(disk), NULL};
    g_autofree char *text = NULL;
    g_autoptr(JsonNode) root = NULL;
    JsonArray *images;

    xmlconf_backing_clear(&disk->backing);
    if (!may_be_based(disk) || !xldrv_qemu_img(argv, &text, NULL))
        return;
    root = json_from_string(text, NULL);
    images = root && JSON_NODE_HOLDS_ARRAY(root) ? json_node_get_array(root) : NULL;
    for (guint i = 1; images && i < MIN(json_array_get_length(images), MAX_CHAIN); i++) {
        JsonNode *image = json_array_get_element(images, i);

        if (JSON_NODE_HOLDS_OBJECT(image))
            add(disk, json_node_get_object(image));
    }
    if (images)
        xmlconf_backing_add(&disk->backing); /* its end */
}

static const XmlconfBacking *element_of(const XmlconfDisk *disk, guint index)
{
    const GPtrArray *list = disk->backing;
    const XmlconfBacking *backing = NULL;

    for (; index > 0 && list; index--) {
        backing = list->pdata[0];
        list = backing->backing;
    }
    return index == 0 && backing && backing->type ? backing : NULL;
}

const char *xldrv_chain_path(const XmlconfDisk *disk, guint index)
{
    const XmlconfBacking *backing = index ? element_of(disk, index) : NULL;

    if (!index)
        return xmlconf_disk_source(disk);
    return !backing ? NULL : backing->file ? backing->file : backing->dev ? backing->dev : backing->name;
}

gboolean xldrv_chain_is_block(const XmlconfDisk *disk, guint index)
{
    const XmlconfBacking *backing = index ? element_of(disk, index) : NULL;

    return index ? backing && backing->dev : xmlconf_disk_actual_type(disk) == XMLCONF_DISK_BLOCK;
}

const char *xldrv_chain_format(const XmlconfDisk *disk, guint index)
{
    const XmlconfBacking *backing = index ? element_of(disk, index) : NULL;

    return !index ? xldrv_storage_format(disk) : backing ? backing->format : NULL;
}

guint xldrv_chain_length(const XmlconfDisk *disk)
{
    guint n = 0;

    while (xldrv_chain_path(disk, n))
        n++;
    return n;
}

int xldrv_chain_find(const XmlconfDisk *disk, const char *name)
{
    g_autofree char *prefix = g_strconcat(disk->target, "[", NULL);
    const char *path;

    for (guint i = 0; (path = xldrv_chain_path(disk, i)); i++) {
        g_autofree char *indexed = g_strdup_printf("%s%u]", prefix, i);

        if (strcmp(path, name) == 0 || strcmp(indexed, name) == 0)
            return (int)i;
    }
    return -1;
}

static void replace(char **where, const char *with)
{
    char *text = g_strdup(with);

    g_free(*where);
    *where = text;
}

void xldrv_disk_set_source(XmlconfDisk *disk, gboolean block, const char *path, const char *format)
{
    char **const others[] = {&disk->protocol, &disk->export_name, &disk->host, &disk->port, &disk->transport, &disk->socket,
                             &disk->pool, &disk->volume, &disk->volume_mode, &disk->volume_file, &disk->volume_dev};
    g_autofree char *kept = g_strdup(path);

    for (gsize i = 0; i < G_N_ELEMENTS(others); i++)
        g_clear_pointer(others[i], g_free);
    disk->type = block ? XMLCONF_DISK_BLOCK : XMLCONF_DISK_FILE;
    replace(&disk->file, block ? NULL : kept);
    replace(&disk->dev, block ? kept : NULL);
    replace(&disk->format, strcmp(format, "vpc") == 0 ? "vhd" : format);
    disk->routed = FALSE;
    disk->threshold = 0; /* of the other image */
    xmlconf_backing_clear(&disk->backing);
    /* io_uring is the only way of raw images: whoever asked for another way did so of another image. */
    if (strcmp(format, "raw") == 0)
        g_clear_pointer(&disk->io, g_free);
}

gboolean xldrv_disk_same_source(const XmlconfDisk *a, const XmlconfDisk *b)
{
    g_autofree char *left = NULL, *right = NULL;

    /* A volume's path is known only to the document of what runs. */
    if (a->type == XMLCONF_DISK_VOLUME && b->type == XMLCONF_DISK_VOLUME)
        return g_strcmp0(a->pool, b->pool) == 0 && g_strcmp0(a->volume, b->volume) == 0;
    left = xmlconf_disk_describe(a);
    right = xmlconf_disk_describe(b);
    return strcmp(left, right) == 0;
}
