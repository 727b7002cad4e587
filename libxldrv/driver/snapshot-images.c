/* Internal snapshots: those that images have of themselves. By QMP from whoever serves the image, or by qemu-img. */
#include "config.h"

#include <json-glib/json-glib.h>
#include <string.h>

#include "libxldrv/driver/snapshot.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/host/qemu-img.h"

typedef gboolean (*ImageFn)(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error);

static gboolean run_tool(const XmlconfDisk *disk, const char *option, const char *name, GError **error)
{
    const char *argv[] = {"snapshot", option, name, xmlconf_disk_source(disk), NULL};
    g_autoptr(GError) why = NULL;

    return xldrv_qemu_img(argv, NULL, &why) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "snapshot '%s' in image '%s' of disk '%s': %s", name,
                           xmlconf_disk_source(disk), disk->target, why->message);
}

static gboolean run_command(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *command, const char *name,
                            GError **error)
{
    g_autoptr(GString) json = g_string_new(NULL);
    g_autoptr(GError) why = NULL;

    g_string_append_printf(json, "{\"execute\": \"%s\", \"arguments\": {\"device\": \"" XLDRV_STORAGE_NODE "\", \"name\": ",
                           command);
    xldrv_json_append_string(json, name);
    g_string_append(json, "}}");
    return xldrv_storage_command(host, disk, json->str, &why) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "snapshot '%s' in image '%s' of disk '%s': %s", name,
                           xmlconf_disk_source(disk), disk->target, why->message);
}

static gboolean take(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error)
{
    return host->instance ? run_command(host, disk, "blockdev-snapshot-internal-sync", name, error)
                          : run_tool(disk, "-c", name, error);
}

static gboolean drop(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error)
{
    return host->instance ? run_command(host, disk, "blockdev-snapshot-delete-internal-sync", name, error)
                          : run_tool(disk, "-d", name, error);
}

static gboolean apply(const XldrvDeviceHost *host G_GNUC_UNUSED, const XmlconfDisk *disk, const char *name, GError **error)
{
    return run_tool(disk, "-a", name, error);
}

/* ---- which an image has */

static JsonArray *snapshots_of(JsonNode *root)
{
    JsonObject *info = root && JSON_NODE_HOLDS_OBJECT(root) ? json_node_get_object(root) : NULL;
    JsonNode *list = info ? json_object_get_member(info, "snapshots") : NULL;

    return list && JSON_NODE_HOLDS_ARRAY(list) ? json_node_get_array(list) : NULL;
}

/* -1 with an error: not known. */
static int has(const XmlconfDisk *disk, const char *name, GError **error)
{
    const char *argv[] = {"info", "-U", "--output=json", "-f", xldrv_storage_format(disk), xmlconf_disk_source(disk), NULL};
    g_autofree char *text = NULL;
    g_autoptr(JsonNode) root = NULL;
    g_autoptr(GError) why = NULL;
    JsonArray *list;

    if (!xldrv_qemu_img(argv, &text, &why)) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot read image '%s' of disk '%s': %s", xmlconf_disk_source(disk),
                        disk->target, why->message);
        return -1;
    }
    root = json_from_string(text, NULL);
    list = snapshots_of(root);
    for (guint i = 0; list && i < json_array_get_length(list); i++) {
        JsonNode *one = json_array_get_element(list, i);

        if (JSON_NODE_HOLDS_OBJECT(one) &&
            g_strcmp0(xldrv_json_string(json_node_get_object(one), "name"), name) == 0)
            return TRUE;
    }
    return FALSE;
}

static gboolean check(const XldrvDeviceHost *host G_GNUC_UNUSED, const XmlconfDisk *disk, const char *name, GError **error)
{
    int there = has(disk, name, error);

    return there > 0 || (there == 0 && xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                                                       "image '%s' of disk '%s' does not have snapshot '%s'",
                                                       xmlconf_disk_source(disk), disk->target, name));
}

/* Taking one of a name that is there would make two. */
static gboolean check_free(const XldrvDeviceHost *host G_GNUC_UNUSED, const XmlconfDisk *disk, const char *name, GError **error)
{
    int there = has(disk, name, error);

    return there == 0 || (there > 0 && xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                                                       "image '%s' of disk '%s' has a snapshot '%s' already",
                                                       xmlconf_disk_source(disk), disk->target, name));
}

static gboolean drop_if_there(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error)
{
    int there = has(disk, name, error);

    return there == 0 || (there > 0 && drop(host, disk, name, error));
}

/* ---- all of a domain's */

/* How many of the snapshot's disks @fn was called for with success, up to @max; fewer than there are: an error. */
static guint for_each(const XldrvDeviceHost *host, XmlconfDomain *config, const XmlconfSnapshot *snapshot, guint max, ImageFn fn,
                      gboolean *ok, GError **error)
{
    guint done = 0;

    *ok = TRUE;
    for (guint i = 0; *ok && snapshot->disks && i < snapshot->disks->len && done < max; i++) {
        const XmlconfSnapshotDisk *plan = snapshot->disks->pdata[i];
        const XmlconfDisk *disk;

        if (plan->location != XMLCONF_SNAPSHOT_INTERNAL)
            continue;
        disk = xldrv_find_disk(config, plan->name, error);
        *ok = disk && fn(host, disk, snapshot->name, error);
        done += *ok;
    }
    return done;
}

gboolean xldrv_snapshot_images_check_free(XmlconfDomain *config, const XmlconfSnapshot *snapshot, GError **error)
{
    gboolean ok;

    for_each(NULL, config, snapshot, G_MAXUINT, check_free, &ok, error);
    return ok;
}

gboolean xldrv_snapshot_images_take(const XldrvDeviceHost *host, XmlconfDomain *config, const XmlconfSnapshot *snapshot,
                                    GError **error)
{
    gboolean ok, ignored;
    guint done;

    done = for_each(host, config, snapshot, G_MAXUINT, take, &ok, error);
    if (!ok)
        for_each(host, config, snapshot, done, drop, &ignored, NULL);
    return ok;
}

gboolean xldrv_snapshot_images_check(XmlconfDomain *config, const XmlconfSnapshot *snapshot, GError **error)
{
    gboolean ok;

    for_each(NULL, config, snapshot, G_MAXUINT, check, &ok, error);
    return ok;
}

gboolean xldrv_snapshot_images_apply(XmlconfDomain *config, const XmlconfSnapshot *snapshot, GError **error)
{
    gboolean ok;

    for_each(NULL, config, snapshot, G_MAXUINT, apply, &ok, error);
    return ok;
}

gboolean xldrv_snapshot_images_drop(const XldrvDeviceHost *host, XmlconfDomain *config, const XmlconfSnapshot *snapshot,
                                    GError **error)
{
    gboolean ok;

    for_each(host, config, snapshot, G_MAXUINT, drop_if_there, &ok, error);
    return ok;
}
