/* What the images of a disk have of bitmaps. */
#include "config.h"

#include "libxldrv/driver/bitmap-chain.h"

#include <string.h>

#include "libxldrv/driver/chain.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/host/qemu-img.h"

static void bitmap_free(gpointer data)
{
    XldrvBitmap *bitmap = data;

    g_free(bitmap->name);
    g_free(bitmap);
}

void xldrv_bitmap_image_free(XldrvBitmapImage *image)
{
    g_free(image->path);
    g_free(image->node);
    g_ptr_array_unref(image->bitmaps);
    g_free(image);
}

static XldrvBitmapImage *image_new(const char *path)
{
    XldrvBitmapImage *image = g_new0(XldrvBitmapImage, 1);

    image->path = g_strdup(path);
    image->bitmaps = g_ptr_array_new_with_free_func(bitmap_free);
    return image;
}

static GPtrArray *chain_new(void)
{
    return g_ptr_array_new_with_free_func((GDestroyNotify)xldrv_bitmap_image_free);
}

/* ---- JSON that may be anything */

static JsonArray *array_of(JsonObject *object, const char *name)
{
    JsonNode *member = object ? json_object_get_member(object, name) : NULL;

    return member && JSON_NODE_HOLDS_ARRAY(member) ? json_node_get_array(member) : NULL;
}

static JsonObject *object_of(JsonObject *object, const char *name)
{
    JsonNode *member = object ? json_object_get_member(object, name) : NULL;

    return member && JSON_NODE_HOLDS_OBJECT(member) ? json_node_get_object(member) : NULL;
}

static JsonObject *element_of(JsonArray *array, guint index)
{
    JsonNode *element = json_array_get_element(array, index);

    return JSON_NODE_HOLDS_OBJECT(element) ? json_node_get_object(element) : NULL;
}

static guint length_of(JsonArray *array)
{
    return array ? json_array_get_length(array) : 0;
}

static guint64 number_of(JsonObject *object, const char *name)
{
    return object ? (guint64)json_object_get_int_member_with_default(object, name, 0) : 0;
}

static gboolean truth_of(JsonObject *object, const char *name)
{
    return json_object_get_boolean_member_with_default(object, name, FALSE);
}

static XldrvBitmap *add_bitmap(XldrvBitmapImage *image, JsonObject *from)
{
    XldrvBitmap *bitmap = g_new0(XldrvBitmap, 1);

    bitmap->name = g_strdup(xldrv_json_string(from, "name"));
    bitmap->granularity = number_of(from, "granularity");
    g_ptr_array_add(image->bitmaps, bitmap);
    return bitmap;
}

/* ---- of a daemon's nodes */

static gboolean is_format(JsonObject *node)
{
    static const char *const others[] = {"file", "host_device", "commit_top", "mirror_top", "copy-before-write"};
    const char *driver = xldrv_json_string(node, "drv");

    for (gsize i = 0; i < G_N_ELEMENTS(others); i++) {
        if (g_strcmp0(driver, others[i]) == 0)
            return FALSE;
    }
    return TRUE;
}

/* By the node's name or (NULL) the path of its file. */
static JsonObject *find_node(JsonNode *nodes, const char *name, const char *path)
{
    JsonArray *list = nodes && JSON_NODE_HOLDS_ARRAY(nodes) ? json_node_get_array(nodes) : NULL;

    for (guint i = 0; i < length_of(list); i++) {
        JsonObject *node = element_of(list, i);

        if (node && (name ? g_strcmp0(xldrv_json_string(node, "node-name"), name) == 0
                          : is_format(node) && g_strcmp0(xldrv_json_string(node, "file"), path) == 0))
            return node;
    }
    return NULL;
}

static XldrvBitmapImage *image_of(JsonObject *node, const char *path)
{
    XldrvBitmapImage *image = image_new(path);
    JsonArray *list = array_of(node, "dirty-bitmaps");

    image->node = g_strdup(xldrv_json_string(node, "node-name"));
    image->qcow2 = g_strcmp0(xldrv_json_string(node, "drv"), "qcow2") == 0;
    image->size = number_of(object_of(node, "image"), "virtual-size");
    for (guint i = 0; i < length_of(list); i++) {
        JsonObject *one = element_of(list, i);
        XldrvBitmap *bitmap = one && xldrv_json_string(one, "name") ? add_bitmap(image, one) : NULL;

        if (!bitmap)
            continue;
        bitmap->bytes = number_of(one, "count");
        bitmap->persistent = truth_of(one, "persistent");
        bitmap->usable = truth_of(one, "recording") && !truth_of(one, "inconsistent");
    }
    return image;
}

static gboolean fail_missing(const XmlconfDisk *disk, const char *what, GError **error)
{
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the storage daemon of disk '%s' does not have image '%s'",
                           disk->target, what);
}

XldrvBitmapImage *xldrv_bitmap_image_read(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *node, GError **error)
{
    g_autoptr(JsonNode) nodes = xldrv_storage_nodes(host, disk, error);
    JsonObject *found = find_node(nodes, node, NULL);

    if (nodes && !found)
        fail_missing(disk, node, error);
    return found ? image_of(found, xldrv_json_string(found, "file")) : NULL;
}

static GPtrArray *read_running(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error)
{
    g_autoptr(JsonNode) nodes = xldrv_storage_nodes(host, disk, error);
    g_autoptr(GPtrArray) chain = chain_new();
    const char *path;

    /* Bitmaps of images that it does not tell of would be missed. */
    if (nodes && !disk->backing && strcmp(disk->format, "qcow2") == 0) {
        xldrv_set_error(error, VIR_ERR_CHECKPOINT_INCONSISTENT, "bitmaps of disk '%s' cannot be used: it is not known what its "
                        "images are", disk->target);
        return NULL;
    }
    for (guint i = 0; nodes && (path = xldrv_chain_path(disk, i)); i++) {
        JsonObject *node = find_node(nodes, i ? NULL : XLDRV_STORAGE_NODE, path);

        /* What is on the network may be called otherwise there. */
        if (!node && g_strcmp0(xldrv_chain_format(disk, i), "qcow2") == 0) {
            fail_missing(disk, path, error);
            return NULL;
        }
        g_ptr_array_add(chain, node ? image_of(node, path) : image_new(path));
    }
    return nodes ? g_steal_pointer(&chain) : NULL;
}

/* ---- as qemu-img tells of them */

static gboolean has_flag(JsonArray *flags, const char *name)
{
    for (guint i = 0; i < length_of(flags); i++) {
        if (g_strcmp0(json_array_get_string_element(flags, i), name) == 0)
            return TRUE;
    }
    return FALSE;
}

static XldrvBitmapImage *stored_image_of(JsonObject *info)
{
    const char *path = xldrv_json_string(info, "filename");
    XldrvBitmapImage *image = image_new(path ? path : "");
    JsonArray *list = array_of(object_of(object_of(info, "format-specific"), "data"), "bitmaps");

    image->qcow2 = g_strcmp0(xldrv_json_string(info, "format"), "qcow2") == 0;
    image->size = number_of(info, "virtual-size");
    for (guint i = 0; i < length_of(list); i++) {
        JsonObject *one = element_of(list, i);
        XldrvBitmap *bitmap = one && xldrv_json_string(one, "name") ? add_bitmap(image, one) : NULL;

        if (!bitmap)
            continue;
        bitmap->persistent = TRUE;
        bitmap->usable = has_flag(array_of(one, "flags"), "auto") && !has_flag(array_of(one, "flags"), "in-use");
    }
    return image;
}

static gboolean fail_read(const char *path, const char *why, GError **error)
{
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot read image '%s': %s", path, why);
}

XldrvBitmapImage *xldrv_bitmap_image_read_stored(const char *path, GError **error)
{
    const char *argv[] = {"info", "-U", "--output=json", "-f", "qcow2", path, NULL};
    g_autofree char *text = NULL;
    g_autoptr(JsonNode) root = NULL;
    g_autoptr(GError) why = NULL;

    if (!xldrv_qemu_img(argv, &text, &why)) {
        fail_read(path, why->message, error);
        return NULL;
    }
    root = json_from_string(text, NULL);
    if (root && JSON_NODE_HOLDS_OBJECT(root))
        return stored_image_of(json_node_get_object(root));
    fail_read(path, "not understood", error);
    return NULL;
}

static GPtrArray *read_stored(const XmlconfDisk *disk, GError **error)
{
    const char *path = xmlconf_disk_source(disk);
    const char *argv[] = {"info", "-U", "--backing-chain", "--output=json", "-f", xldrv_storage_format(disk), path, NULL};
    g_autoptr(GPtrArray) chain = chain_new();
    g_autofree char *text = NULL;
    g_autoptr(JsonNode) root = NULL;
    g_autoptr(GError) why = NULL;
    JsonArray *list;

    if (!xldrv_qemu_img(argv, &text, &why)) {
        fail_read(path, why->message, error);
        return NULL;
    }
    root = json_from_string(text, NULL);
    list = root && JSON_NODE_HOLDS_ARRAY(root) ? json_node_get_array(root) : NULL;
    for (guint i = 0; i < length_of(list); i++) {
        JsonObject *info = element_of(list, i);

        if (info)
            g_ptr_array_add(chain, stored_image_of(info));
    }
    if (chain->len)
        return g_steal_pointer(&chain);
    fail_read(path, "not understood", error);
    return NULL;
}

GPtrArray *xldrv_bitmap_chain_read(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error)
{
    return host->instance ? read_running(host, disk, error) : read_stored(disk, error);
}

/* ---- looking */

const XldrvBitmap *xldrv_bitmap_find(const XldrvBitmapImage *image, const char *name)
{
    for (guint i = 0; i < image->bitmaps->len; i++) {
        const XldrvBitmap *bitmap = image->bitmaps->pdata[i];

        if (strcmp(bitmap->name, name) == 0)
            return bitmap;
    }
    return NULL;
}

/* Why what image @i has of it is of no use; NULL: it is, or there is none and need not be. */
static const char *find_fault(const GPtrArray *chain, guint i, const XldrvBitmap *bitmap, gboolean ended)
{
    const XldrvBitmapImage *top = chain->pdata[0], *image = chain->pdata[i];

    if (!bitmap)
        return i ? NULL : "there is none in image";
    if (!bitmap->usable)
        return "it is not consistent in image";
    if (ended)
        return "it is interrupted above image";
    return image->size == top->size ? NULL : "the disk had another size while it was on image";
}

guint xldrv_bitmap_depth(const GPtrArray *chain, const XmlconfDisk *disk, const char *name, GError **error)
{
    guint depth = 0;

    for (guint i = 0; i < chain->len; i++) {
        const XldrvBitmapImage *image = chain->pdata[i];
        const XldrvBitmap *bitmap = xldrv_bitmap_find(image, name);
        const char *fault = find_fault(chain, i, bitmap, depth < i);

        if (fault) {
            xldrv_set_error(error, VIR_ERR_CHECKPOINT_INCONSISTENT, "bitmap '%s' of disk '%s' cannot be used: %s '%s'", name,
                            disk->target, fault, image->path);
            return 0;
        }
        depth += bitmap != NULL;
    }
    return depth;
}
