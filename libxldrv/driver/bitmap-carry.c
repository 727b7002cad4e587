/* Bitmaps that go on, or what they know, in other images than those that they began in.
 *
 * What was written since a bitmap began is what the images of the disk have under its name together. So an overlay begins with
 * empty ones, and where images go out of a chain what theirs know is put into one that stays. Where that cannot be, or is not
 * known, the disk's own image loses the bitmap: what is left of it would look as if it were all. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/bitmap-chain.h"
#include "libxldrv/driver/bitmaps.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/host/qemu-img.h"

static gboolean goes_on(const XldrvBitmap *bitmap)
{
    return bitmap->persistent && bitmap->usable;
}

/* ---- overlays */

/* Whatever it is on, which somebody has locked. */
static char *alone(const char *path)
{
    g_autoptr(GString) json = g_string_new("json:{\"driver\": \"qcow2\", \"backing\": null, \"file\": {\"driver\": \"file\", "
                                           "\"filename\": ");

    xldrv_json_append_string(json, path);
    g_string_append(json, "}}");
    return g_strdup(json->str);
}

static gboolean add_stored(const char *path, const XldrvBitmap *bitmap, GError **error)
{
    g_autofree char *image = alone(path), *granularity = g_strdup_printf("%" G_GUINT64_FORMAT, bitmap->granularity);
    const char *argv[] = {"bitmap", "--add", "-g", granularity, image, bitmap->name, NULL};
    g_autoptr(GError) why = NULL;

    return xldrv_qemu_img(argv, NULL, &why) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot add bitmap '%s' to image '%s': %s", bitmap->name, path,
                           why->message);
}

static void remove_stored(const char *path, const XldrvBitmap *bitmap)
{
    g_autofree char *image = alone(path);
    const char *argv[] = {"bitmap", "--remove", image, bitmap->name, NULL};

    xldrv_qemu_img(argv, NULL, NULL);
}

/* Of XldrvBitmap, which belong to @image. */
static GPtrArray *those_that_go_on(const XldrvBitmapImage *image)
{
    GPtrArray *list = g_ptr_array_new();

    for (guint i = 0; i < image->bitmaps->len; i++) {
        if (goes_on(image->bitmaps->pdata[i]))
            g_ptr_array_add(list, image->bitmaps->pdata[i]);
    }
    return list;
}

static void remove_first(const char *path, const GPtrArray *list, guint n)
{
    for (guint i = 0; i < n; i++)
        remove_stored(path, list->pdata[i]);
}

static gboolean can_have(const XmlconfDisk *disk)
{
    return strcmp(disk->format, "qcow2") == 0;
}

gboolean xldrv_bitmaps_begin(const XmlconfDisk *disk, const char *path, GError **error)
{
    g_autoptr(XldrvBitmapImage) own =
        can_have(disk) ? xldrv_bitmap_image_read_stored(xmlconf_disk_source(disk), error) : NULL;
    g_autoptr(GPtrArray) list = own ? those_that_go_on(own) : NULL;

    if (!own)
        return !can_have(disk);
    for (guint i = 0; i < list->len; i++) {
        if (add_stored(path, list->pdata[i], error))
            continue;
        remove_first(path, list, i);
        return FALSE;
    }
    return TRUE;
}

void xldrv_bitmaps_take_back(const XmlconfDisk *disk, const char *path)
{
    g_autoptr(XldrvBitmapImage) own =
        can_have(disk) ? xldrv_bitmap_image_read_stored(xmlconf_disk_source(disk), NULL) : NULL;

    if (own)
        remove_first(path, own->bitmaps, own->bitmaps->len);
}

/* ---- images that go */

void xldrv_bitmap_append_sources(GString *json, const GPtrArray *chain, guint depth, const char *name, const char *but)
{
    const char *separator = "";

    g_string_append_c(json, '[');
    for (guint i = 0; i < depth; i++) {
        const XldrvBitmapImage *image = chain->pdata[i];

        if (g_strcmp0(image->node, but) == 0)
            continue;
        g_string_append_printf(json, "%s{\"node\": ", separator);
        xldrv_json_append_string(json, image->node);
        g_string_append(json, ", \"name\": ");
        xldrv_json_append_string(json, name);
        g_string_append_c(json, '}');
        separator = ", ";
    }
    g_string_append_c(json, ']');
}

gboolean xldrv_bitmaps_prune(const XldrvDeviceHost *host, const XmlconfDisk *disk, GError **error)
{
    g_autoptr(GPtrArray) chain = can_have(disk) ? xldrv_bitmap_chain_read(host, disk, error) : NULL;
    const XldrvBitmapImage *own = chain ? chain->pdata[0] : NULL;

    for (guint i = 0; own && i < own->bitmaps->len; i++) {
        const XldrvBitmap *bitmap = own->bitmaps->pdata[i];

        if (goes_on(bitmap) && !xldrv_bitmap_depth(chain, disk, bitmap->name, NULL) &&
            !xldrv_bitmap_remove(host, disk, bitmap->name, error))
            return FALSE;
    }
    return chain || !can_have(disk);
}

typedef struct {
    GString *json; /* actions of QMP's transaction */
    const GPtrArray *chain;
    const XldrvBitmapImage *to;
} Carry;

static void append_action(Carry *c, const char *type, const char *key, const char *name)
{
    g_string_append_printf(c->json, "%s{\"type\": \"block-dirty-bitmap-%s\", \"data\": {\"node\": ", c->json->len ? ", " : "",
                           type);
    xldrv_json_append_string(c->json, c->to->node);
    g_string_append_printf(c->json, ", \"%s\": ", key);
    xldrv_json_append_string(c->json, name);
}

static void append_carry(Carry *c, const XldrvBitmap *bitmap, guint depth)
{
    if (!xldrv_bitmap_find(c->to, bitmap->name)) {
        append_action(c, "add", "name", bitmap->name);
        g_string_append_printf(c->json, ", \"persistent\": true, \"granularity\": %" G_GUINT64_FORMAT "}}", bitmap->granularity);
    }
    append_action(c, "merge", "target", bitmap->name);
    g_string_append(c->json, ", \"bitmaps\": ");
    xldrv_bitmap_append_sources(c->json, c->chain, depth, bitmap->name, c->to->node);
    g_string_append(c->json, "}}");
}

/* All of it, or (a daemon that is killed, an error) nothing. */
static gboolean run(const XldrvDeviceHost *host, const XmlconfDisk *disk, const Carry *c, GError **error)
{
    g_autofree char *command =
        g_strdup_printf("{\"execute\": \"transaction\", \"arguments\": {\"actions\": [%s]}}", c->json->str);
    g_autoptr(GError) why = NULL;

    return !c->json->len || xldrv_storage_command(host, disk, command, &why) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "bitmaps of disk '%s' cannot be kept in image '%s': %s", disk->target,
                           c->to->path, why->message);
}

/* No image has what was in this one. */
static gboolean lose(const XldrvDeviceHost *host, const XmlconfDisk *disk, const GPtrArray *list, GError **error)
{
    for (guint i = 0; i < list->len; i++) {
        if (!xldrv_bitmap_remove(host, disk, ((const XldrvBitmap *)list->pdata[i])->name, error))
            return FALSE;
    }
    return TRUE;
}

gboolean xldrv_bitmaps_carry(const XldrvDeviceHost *host, const XmlconfDisk *disk, guint from, const char *node, GError **error)
{
    g_autoptr(GPtrArray) chain = can_have(disk) ? xldrv_bitmap_chain_read(host, disk, error) : NULL;
    g_autoptr(XldrvBitmapImage) to = chain ? xldrv_bitmap_image_read(host, disk, node, error) : NULL;
    g_autoptr(GPtrArray) list = to && from < chain->len ? those_that_go_on(chain->pdata[from]) : NULL;
    g_autoptr(GString) json = g_string_new(NULL);
    Carry c = {json, chain, to};

    if (to && !list)
        return xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "disk '%s' has no image %u", disk->target, from);
    if (!list)
        return !can_have(disk);
    if (!to->qcow2)
        return !from || lose(host, disk, list, error);
    for (guint i = 0; i < list->len; i++) {
        const XldrvBitmap *bitmap = list->pdata[i];
        guint depth = xldrv_bitmap_depth(chain, disk, bitmap->name, NULL);

        /* The first of them may be the one that it comes into. */
        if (depth > 1 || (depth && g_strcmp0(to->node, ((const XldrvBitmapImage *)chain->pdata[0])->node) != 0))
            append_carry(&c, bitmap, depth);
    }
    return run(host, disk, &c, error);
}

/* ---- of a domain that does not run */

static gboolean merge_stored(const char *from, const char *path, const char *name, GError **error)
{
    g_autofree char *image = alone(path), *source = alone(from);
    const char *argv[] = {"bitmap", "--merge", name, "-b", source, image, name, NULL};
    g_autoptr(GError) why = NULL;

    return xldrv_qemu_img(argv, NULL, &why) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "bitmap '%s' of image '%s' cannot be kept in image '%s': %s",
                           name, from, path, why->message);
}

gboolean xldrv_bitmaps_carry_stored(const XmlconfDisk *disk, guint from, GError **error)
{
    const XldrvDeviceHost nobody = {0};
    g_autoptr(GPtrArray) chain = can_have(disk) ? xldrv_bitmap_chain_read(&nobody, disk, error) : NULL;
    g_autoptr(GPtrArray) list = chain && from + 1 < chain->len ? those_that_go_on(chain->pdata[from]) : NULL;
    const XldrvBitmapImage *image = list ? chain->pdata[from] : NULL, *to = list ? chain->pdata[from + 1] : NULL;

    if (to && !to->qcow2)
        return !from || lose(&nobody, disk, list, error);
    for (guint i = 0; to && i < list->len; i++) {
        const XldrvBitmap *bitmap = list->pdata[i];

        if ((!xldrv_bitmap_find(to, bitmap->name) && !add_stored(to->path, bitmap, error)) ||
            !merge_stored(image->path, to->path, bitmap->name, error))
            return FALSE;
    }
    return chain || !can_have(disk);
}
