/* Dirty bitmaps of disks. */
#include "config.h"

#include "libxldrv/driver/bitmaps.h"

#include <string.h>

#include "libxldrv/driver/bitmap-chain.h"
#include "libxldrv/driver/chain.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/host/qemu-img.h"

static gboolean fail_in(const char *path, const XmlconfDisk *disk, const char *name, const GError *why, GError **error)
{
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "bitmap '%s' in image '%s' of disk '%s': %s", name, path,
                           disk->target, why->message);
}

gboolean xldrv_bitmap_check(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error)
{
    g_autoptr(GPtrArray) chain = xldrv_bitmap_chain_read(host, disk, error);

    return chain && xldrv_bitmap_depth(chain, disk, name, error);
}

gboolean xldrv_bitmap_count(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, guint64 *bytes,
                            GError **error)
{
    g_autoptr(XldrvBitmapImage) image = xldrv_bitmap_image_read(host, disk, XLDRV_STORAGE_NODE, error);
    const XldrvBitmap *bitmap = image ? xldrv_bitmap_find(image, name) : NULL;

    if (bitmap)
        *bytes = bitmap->bytes;
    return bitmap || !image ||
           xldrv_set_error(error, VIR_ERR_CHECKPOINT_INCONSISTENT, "there is no bitmap '%s' in image '%s'", name,
                           xmlconf_disk_source(disk));
}

/* ---- changing what it has */

/* @more: arguments after those that name the bitmap, whose argument @key is. */
static gboolean run_at(const XldrvDeviceHost *host, const XmlconfDisk *disk, const XldrvBitmapImage *image, const char *command,
                       const char *key, const char *name, const char *more, GError **error)
{
    g_autoptr(GString) json = g_string_new(NULL);
    g_autoptr(GError) why = NULL;

    g_string_append_printf(json, "{\"execute\": \"%s\", \"arguments\": {\"node\": ", command);
    xldrv_json_append_string(json, image ? image->node : XLDRV_STORAGE_NODE);
    g_string_append_printf(json, ", \"%s\": ", key);
    xldrv_json_append_string(json, name);
    g_string_append_printf(json, "%s}}", more);
    return xldrv_storage_command(host, disk, json->str, &why) ||
           fail_in(image ? image->path : xmlconf_disk_source(disk), disk, name, why, error);
}

/* In the disk's own image. */
static gboolean run_command(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *command, const char *key,
                            const char *name, const char *more, GError **error)
{
    return run_at(host, disk, NULL, command, key, name, more, error);
}

gboolean xldrv_bitmap_add(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error)
{
    return run_command(host, disk, "block-dirty-bitmap-add", "name", name, ", \"persistent\": true", error);
}

/* Those of the images from the disk's own down, as "bitmaps" of block-dirty-bitmap-merge. NULL with an error. */
static char *find_sources(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error)
{
    g_autoptr(GPtrArray) chain = xldrv_bitmap_chain_read(host, disk, error);
    guint depth = chain ? xldrv_bitmap_depth(chain, disk, name, error) : 0;
    g_autoptr(GString) json = g_string_new(NULL);

    if (!depth)
        return NULL;
    xldrv_bitmap_append_sources(json, chain, depth, name, NULL);
    return g_strdup(json->str);
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
    g_autoptr(XldrvBitmapImage) image = xldrv_bitmap_image_read(host, disk, XLDRV_STORAGE_NODE, error);

    return image && (!xldrv_bitmap_find(image, name) ||
                     run_command(host, disk, "block-dirty-bitmap-remove", "name", name, "", error));
}

static gboolean remove_stored(const XmlconfDisk *disk, const XldrvBitmapImage *image, const char *name, GError **error)
{
    const char *argv[] = {"bitmap", "--remove", "-f", "qcow2", image->path, name, NULL};
    g_autoptr(GError) why = NULL;

    return !xldrv_bitmap_find(image, name) || xldrv_qemu_img(argv, NULL, &why) || fail_in(image->path, disk, name, why, error);
}

gboolean xldrv_bitmap_remove(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error)
{
    g_autoptr(XldrvBitmapImage) image = NULL;

    if (host->instance)
        return remove_running(host, disk, name, error);
    image = xldrv_bitmap_image_read_stored(xmlconf_disk_source(disk), error);
    return image && remove_stored(disk, image, name, error);
}

/* The daemon has images below the disk's own to read only, but for the @writable-th. */
static gboolean reopen(const XldrvDeviceHost *host, const XmlconfDisk *disk, guint writable, GError **error)
{
    g_autofree char *backing = NULL;

    for (guint i = xldrv_chain_length(disk) - 1; i > 0; i--) {
        const char *path = xldrv_chain_path(disk, i);
        g_autoptr(GString) json = g_string_new("{\"driver\": ");

        xldrv_json_append_string(json, xldrv_chain_format(disk, i));
        g_string_append_printf(json, ", \"read-only\": %s, \"file\": {\"driver\": \"%s\", \"filename\": ",
                               i == writable ? "false" : "true", xldrv_chain_is_block(disk, i) ? "host_device" : "file");
        xldrv_json_append_string(json, path);
        g_string_append_c(json, '}');
        if (backing)
            g_string_append_printf(json, ", \"backing\": %s", backing);
        g_string_append_c(json, '}');
        g_free(backing);
        backing = g_strdup(json->str);
    }
    return xldrv_storage_reopen(host, disk, backing, error);
}

static gboolean remove_below(const XldrvDeviceHost *host, const XmlconfDisk *disk, guint index, const XldrvBitmapImage *image,
                             const char *name, GError **error)
{
    g_autoptr(GError) why = NULL;
    gboolean ok;

    if (!host->instance)
        return remove_stored(disk, image, name, error);
    if (!xldrv_bitmap_find(image, name))
        return TRUE;
    if (!reopen(host, disk, index, &why))
        return fail_in(image->path, disk, name, why, error);
    ok = run_at(host, disk, image, "block-dirty-bitmap-remove", "name", name, "", error);
    return reopen(host, disk, 0, ok ? error : NULL) && ok;
}

/* Some image may be somebody else's as well, whom it is not taken away from: what is left there makes no backup wrong, but if
 * there is another of its name one day it has more than it need have. */
gboolean xldrv_bitmap_remove_all(const XldrvDeviceHost *host, const XmlconfDisk *disk, const char *name, GError **error)
{
    g_autoptr(GPtrArray) chain = NULL;
    g_autoptr(GError) why = NULL;

    if (!xldrv_bitmap_remove(host, disk, name, error))
        return FALSE;
    chain = xldrv_bitmap_chain_read(host, disk, &why);
    for (guint i = 1; chain && i < chain->len && !why; i++)
        remove_below(host, disk, i, chain->pdata[i], name, &why);
    if (why)
        g_warning("%s", why->message);
    return TRUE;
}
