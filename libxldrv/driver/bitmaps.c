/* Dirty bitmaps. */
#include "config.h"

#include "libxldrv/driver/bitmaps.h"

#include <string.h>

#include "libxldrv/driver/chain.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/host/qemu-img.h"

typedef enum { ABSENT, USABLE, INCONSISTENT } State;

static gboolean fail(const XmlconfDisk *disk, const char *name, const GError *why, GError **error)
{
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "bitmap '%s' in image '%s' of disk '%s': %s", name,
                           xmlconf_disk_source(disk), disk->target, why->message);
}

/* ---- what the daemon knows */

/* The node of the image at @path, and not of the file that it is in. */
static JsonObject *find_node(JsonNode *nodes, const char *path)
{
    JsonArray *list = JSON_NODE_HOLDS_ARRAY(nodes) ? json_node_get_array(nodes) : NULL;

    for (guint i = 0; list && i < json_array_get_length(list); i++) {
        JsonObject *node = json_array_get_object_element(list, i);

        if (g_strcmp0(xldrv_json_string(node, "file"), path) == 0 && g_strcmp0(xldrv_json_string(node, "drv"), "qcow2") == 0)
            return node;
    }
    return NULL;
}

static JsonObject *find_bitmap(JsonObject *node, const char *name)
{
    JsonNode *member = node ? json_object_get_member(node, "dirty-bitmaps") : NULL;
    JsonArray *list = member && JSON_NODE_HOLDS_ARRAY(member) ? json_node_get_array(member) : NULL;

    for (guint i = 0; list && i < json_array_get_length(list); i++) {
        JsonObject *bitmap = json_array_get_object_element(list, i);

        if (g_strcmp0(xldrv_json_string(bitmap, "name"), name) == 0)
            return bitmap;
    }
    return NULL;
}

/* One that somebody stopped does not know what was written after that. */
static State state_of(JsonObject *bitmap)
{
    if (!bitmap)
        return ABSENT;
    return json_object_get_boolean_member_with_default(bitmap, "inconsistent", FALSE) ||
                   !json_object_get_boolean_member_with_default(bitmap, "recording", FALSE)
               ? INCONSISTENT
               : USABLE;
}

static gboolean fail_inconsistent(const XmlconfDisk *disk, const char *name, const char *path, const char *why, GError **error)
{
    return xldrv_set_error(error, VIR_ERR_CHECKPOINT_INCONSISTENT, "bitmap '%s' of disk '%s' cannot be used: %s '%s'", name,
                           disk->target, why, path);
}

/* The bitmaps called that of the images from the disk's own down, as "bitmaps" of block-dirty-bitmap-merge. */
static char *find_sources(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error)
{
    g_autoptr(JsonNode) nodes = xldrv_storage_nodes(host, disk, error);
    g_autoptr(GString) json = g_string_new("[");
    gboolean ended = FALSE;
    const char *path;

    if (nodes && !disk->backing) { /* bitmaps of images that it does not tell of would be missed */
        xldrv_set_error(error, VIR_ERR_CHECKPOINT_INCONSISTENT, "bitmap '%s' of disk '%s' cannot be used: it is not known what its "
                        "images are", name, disk->target);
        return NULL;
    }
    for (guint i = 0; nodes && (path = xldrv_chain_path(disk, i)); i++) {
        JsonObject *node = find_node(nodes, path);
        State state = state_of(find_bitmap(node, name));

        if (state == INCONSISTENT || (state == USABLE && ended)) {
            fail_inconsistent(disk, name, path, ended ? "it is interrupted above image" : "it is not consistent in image", error);
            return NULL;
        }
        ended = state == ABSENT;
        if (ended && !i) {
            fail_inconsistent(disk, name, path, "there is none in image", error);
            return NULL;
        }
        if (ended)
            continue;
        g_string_append(json, i ? ", {\"node\": " : "{\"node\": ");
        xldrv_json_append_string(json, xldrv_json_string(node, "node-name"));
        g_string_append(json, ", \"name\": ");
        xldrv_json_append_string(json, name);
        g_string_append_c(json, '}');
    }
    if (!nodes)
        return NULL;
    g_string_append_c(json, ']');
    return g_string_free(g_steal_pointer(&json), FALSE);
}

gboolean xldrv_bitmap_check(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error)
{
    g_autofree char *sources = find_sources(host, disk, name, error);

    return sources != NULL;
}

gboolean xldrv_bitmap_count(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, guint64 *bytes,
                            GError **error)
{
    g_autoptr(JsonNode) nodes = xldrv_storage_nodes(host, disk, error);
    JsonObject *bitmap = nodes ? find_bitmap(find_node(nodes, xmlconf_disk_source(disk)), name) : NULL;

    if (!nodes)
        return FALSE;
    if (!bitmap)
        return fail_inconsistent(disk, name, xmlconf_disk_source(disk), "there is none in image", error);
    *bytes = (guint64)json_object_get_int_member_with_default(bitmap, "count", 0);
    return TRUE;
}

/* ---- changing what it has */

/* @more: arguments after those that name the bitmap, whose argument @key is. */
static gboolean run_command(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *command, const char *key,
                            const char *name, const char *more, GError **error)
{
    g_autoptr(GString) json = g_string_new(NULL);
    g_autoptr(GError) why = NULL;

    g_string_append_printf(json, "{\"execute\": \"%s\", \"arguments\": {\"node\": \"" XLDRV_STORAGE_NODE "\", \"%s\": ", command,
                           key);
    xldrv_json_append_string(json, name);
    g_string_append_printf(json, "%s}}", more);
    return xldrv_storage_command(host, disk, json->str, &why) || fail(disk, name, why, error);
}

gboolean xldrv_bitmap_add(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error)
{
    return run_command(host, disk, "block-dirty-bitmap-add", "name", name, ", \"persistent\": true", error);
}

gboolean xldrv_bitmap_merge(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *from, const char *name,
                            GError **error)
{
    g_autofree char *sources = find_sources(host, disk, from, error);
    g_autofree char *more = sources ? g_strdup_printf(", \"bitmaps\": %s", sources) : NULL;

    if (!more)
        return FALSE;
    /* Whoever wanted it before ended without a word. */
    run_command(host, disk, "block-dirty-bitmap-remove", "name", name, "", NULL);
    if (!run_command(host, disk, "block-dirty-bitmap-add", "name", name, ", \"disabled\": true", error))
        return FALSE;
    if (run_command(host, disk, "block-dirty-bitmap-merge", "target", name, more, error))
        return TRUE;
    run_command(host, disk, "block-dirty-bitmap-remove", "name", name, "", NULL);
    return FALSE;
}

/* ---- removing */

static gboolean remove_running(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error)
{
    g_autoptr(JsonNode) nodes = xldrv_storage_nodes(host, disk, error);

    if (!nodes)
        return FALSE;
    return !find_bitmap(find_node(nodes, xmlconf_disk_source(disk)), name) ||
           run_command(host, disk, "block-dirty-bitmap-remove", "name", name, "", error);
}

/* The bitmaps of an image that nobody uses, as qemu-img tells of them, which belong to *@root; NULL: it has none. */
static gboolean read_bitmaps(const XmlconfDisk *disk, const char *path, JsonNode **root, JsonArray **list, GError **error)
{
    static const char *const names[] = {"format-specific", "data"};
    const char *argv[] = {"info", "-U", "--output=json", "-f", "qcow2", path, NULL};
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    JsonObject *object;

    *list = NULL;
    if (!xldrv_qemu_img(argv, &text, &why))
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot read image '%s' of disk '%s': %s", path, disk->target,
                               why->message);
    *root = json_from_string(text, NULL);
    object = *root && JSON_NODE_HOLDS_OBJECT(*root) ? json_node_get_object(*root) : NULL;
    for (gsize i = 0; object && i < G_N_ELEMENTS(names); i++) {
        JsonNode *member = json_object_get_member(object, names[i]);

        object = member && JSON_NODE_HOLDS_OBJECT(member) ? json_node_get_object(member) : NULL;
    }
    if (object && json_object_has_member(object, "bitmaps"))
        *list = json_object_get_array_member(object, "bitmaps");
    return TRUE;
}

static gboolean remove_stored(const XmlconfDisk *disk, const char *name, GError **error)
{
    const char *path = xmlconf_disk_source(disk);
    const char *argv[] = {"bitmap", "--remove", "-f", "qcow2", path, name, NULL};
    g_autoptr(JsonNode) root = NULL;
    g_autoptr(GError) why = NULL;
    JsonArray *list;

    if (!read_bitmaps(disk, path, &root, &list, error))
        return FALSE;
    for (guint i = 0; list && i < json_array_get_length(list); i++) {
        if (g_strcmp0(xldrv_json_string(json_array_get_object_element(list, i), "name"), name) == 0)
            return xldrv_qemu_img(argv, NULL, &why) || fail(disk, name, why, error);
    }
    return TRUE;
}

gboolean xldrv_bitmap_remove(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error)
{
    return host->instance ? remove_running(host, disk, name, error) : remove_stored(disk, name, error);
}
