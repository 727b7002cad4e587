/* Procedures that start block jobs: pull, commit, copy. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/bitmaps.h"
#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/chain.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/qemu-img.h"

/* One that is being started. */
typedef struct {
    XldrvDriver *driver;
    XldrvJob *job;
    XldrvDeviceHost host;
    XmlconfDomain *live; /* which has the disk */
    const XmlconfDisk *disk;
    guint64 speed; /* bytes a second; 0: no limit */
} Start;

static void clear(Start *s)
{
    g_clear_pointer(&s->live, xmlconf_domain_unref);
    xldrv_job_end(g_steal_pointer(&s->job));
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Start, clear)

gboolean xldrv_blockjob_speed(guint64 *speed, gboolean bytes, GError **error)
{
    if ((bytes || g_uint64_checked_mul(speed, *speed, 1 << 20)) && *speed <= G_MAXINT64)
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_OVERFLOW, "bandwidth must be less than %llu MiB/s", (G_MAXINT64 >> 20) + 1ULL);
}

gboolean xldrv_blockjob_command(const XldrvDeviceHost *host, XldrvJob *job, const char *target, const char *command,
                                GError **error)
{
    g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(job->live);
    const XmlconfDisk *disk = xldrv_find_disk(live, target, error);
    g_autoptr(GError) why = NULL;

    return disk && (xldrv_storage_command(host, disk, command, &why) ||
                    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "block job of disk '%s': %s", target, why->message));
}

/* ---- the disk */

static gboolean find_again(Start *s, const char *name, GError **error)
{
    g_clear_pointer(&s->live, xmlconf_domain_unref);
    s->live = xmlconf_domain_ref(s->job->live);
    s->disk = xldrv_find_disk(s->live, name, error);
    return s->disk != NULL;
}

gboolean xldrv_blockjob_check_possible(const XmlconfDisk *disk, GError **error)
{
    const char *why = !xmlconf_disk_source(disk)                ? "has no medium"
                      : disk->type == XMLCONF_DISK_NETWORK      ? "is on the network"
                      : disk->encryption                        ? "is encrypted"
                      : disk->readonly                          ? "is read-only"
                      : disk->shareable                         ? "is shared with other domains"
                                                                : NULL;

    if (why)
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "block jobs are not supported for disk '%s': it %s",
                               disk->target, why);
    return xldrv_blockjob_check_disk(disk, error);
}

static gboolean begin(Start *s, XldrvJob *job, const char *name, GError **error)
{
    s->driver = xldrv_driver_get();
    s->job = job;
    if (!job)
        return FALSE;
    if (!job->instance || (job->state != VIR_DOMAIN_RUNNING && job->state != VIR_DOMAIN_PAUSED))
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    s->host = (XldrvDeviceHost){s->driver, job->instance, job->uuid_text, job->name};
    return find_again(s, name, error) && xldrv_blockjob_check_possible(s->disk, error);
}

static gboolean begin_call(Start *s, GVariant *args, const char *what, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);

    return domain && begin(s, xldrv_job_begin(domain, what, error), xldrv_args_string(args, 1), error);
}

/* An image of the disk's chain by its path or "xvda[1]"; -1 with an error. */
static int find_image(const XmlconfDisk *disk, const char *name, GError **error)
{
    int index = xldrv_chain_find(disk, name);

    if (index < 0)
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "could not find image '%s' in chain for '%s'", name, disk->target);
    return index;
}

/* ---- running it */

static void append_node(GString *json, const char *key, const char *node)
{
    g_string_append_printf(json, ", \"%s\": ", key);
    xldrv_json_append_string(json, node);
}

/* @command: up to its arguments, which begin with those that all jobs have. Nobody hears of it before it is marked, and what is
 * marked and not there is taken for ended. */
static gboolean run(Start *s, const char *verb, const char *more, const XldrvBlockJobMark *mark, GError **error)
{
    const XldrvBlockJobMark none = {.target = mark->target, .routed = mark->routed};
    g_autofree char *command =
        g_strdup_printf("{\"execute\": \"%s\", \"arguments\": {\"job-id\": \"job\", \"device\": \"" XLDRV_STORAGE_NODE
                        "\", \"speed\": %" G_GUINT64_FORMAT ", \"auto-dismiss\": false%s}}",
                        verb, s->speed, more);
    g_autofree char *target = g_strdup(mark->target);

    if (!xldrv_blockjob_mark(s->driver, s->job, mark, error))
        return FALSE;
    if (!xldrv_blockjob_command(&s->host, s->job, target, command, error)) {
        xldrv_blockjob_mark(s->driver, s->job, &none, NULL);
        return FALSE;
    }
    xldrv_blockjobs_watch(s->driver, s->job);
    return TRUE;
}

/* ---- pull */

static gboolean pull(Start *s, const char *base, GError **error)
{
    const XldrvBlockJobMark mark = {.target = s->disk->target, .kind = XLDRV_BLOCKJOB_PULL, .routed = s->disk->routed};
    g_autoptr(GString) more = g_string_new(NULL);
    g_autofree char *node = NULL;
    int index = base ? find_image(s->disk, base, error) : 0;

    if (index < 0)
        return FALSE;
    if (xldrv_chain_length(s->disk) < 2)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "disk '%s' has no backing file to be pulled into '%s'",
                               s->disk->target, xmlconf_disk_source(s->disk));
    if (base && !index)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "cannot pull '%s' into itself", base);
    if (base) {
        node = xldrv_blockjob_node(&s->host, s->disk, xldrv_chain_path(s->disk, (guint)index), error);
        if (!node)
            return FALSE;
        append_node(more, "base-node", node);
    }
    return xldrv_bitmaps_prune(&s->host, s->disk, error) &&
           xldrv_bitmaps_carry(&s->host, s->disk, 0, XLDRV_STORAGE_NODE, error) &&
           run(s, "block-stream", more->str, &mark, error);
}

static GVariant *handle_pull(GVariant *args, const char *base, guint64 speed, gboolean bytes, GError **error)
{
    g_auto(Start) s = {.speed = speed};

    return xldrv_blockjob_speed(&s.speed, bytes, error) && begin_call(&s, args, "pull into a disk of", error) &&
                   pull(&s, base, error)
               ? xldrv_reply_void()
               : NULL;
}

GVariant *xldrv_handle_domain_block_pull(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 3);

    if (!xldrv_check_flags(flags, VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES, G_STRFUNC, error))
        return NULL;
    return handle_pull(args, NULL, xldrv_args_u64(args, 2), flags & VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES, error);
}

/* ---- commit */

static gboolean commit(Start *s, guint top, guint base, gboolean remove, GError **error)
{
    const char *base_path = xldrv_chain_path(s->disk, base);
    gboolean block = base_path && g_str_has_prefix(base_path, "/dev/");
    g_autofree char *top_node = xldrv_blockjob_node(&s->host, s->disk, xldrv_chain_path(s->disk, top), error);
    g_autofree char *base_node = top_node ? xldrv_blockjob_node(&s->host, s->disk, base_path, error) : NULL;
    const char *suffix = remove ? XLDRV_BLOCKJOB_DELETE : "";
    g_autofree char *kind = top ? g_strdup_printf(XLDRV_BLOCKJOB_COMMIT_FORMAT "%s", top, base, suffix)
                                : g_strconcat(XLDRV_BLOCKJOB_ACTIVE, suffix, NULL);
    XldrvBlockJobMark mark = {.target = s->disk->target, .kind = kind, .routed = s->disk->routed};
    g_autoptr(GString) more = g_string_new(NULL);

    if (!base_node || (top && !xldrv_bitmaps_prune(&s->host, s->disk, error)))
        return FALSE;
    if (top) {
        g_string_append(more, ", \"auto-finalize\": false");
    } else {
        mark.mirror.type = block ? "block" : "file";
        mark.mirror.job = XLDRV_BLOCKJOB_ACTIVE;
        mark.mirror.format = xldrv_chain_format(s->disk, base);
        mark.mirror.file = block ? NULL : base_path;
        mark.mirror.dev = block ? base_path : NULL;
    }
    append_node(more, "top-node", top_node);
    append_node(more, "base-node", base_node);
    return run(s, "block-commit", more->str, &mark, error);
}

gboolean xldrv_blockjob_commit(XldrvDriver *driver, XldrvJob *job, const char *target, guint top, guint base, gboolean remove,
                               guint64 speed, GError **error)
{
    Start s = {.speed = speed};
    gboolean ok;

    (void)driver;
    ok = begin(&s, job, target, error) && commit(&s, top, base, remove, error);
    g_clear_pointer(&s.live, xmlconf_domain_unref); /* the domain's job is the caller's */
    return ok;
}

#define COMMIT_FLAGS                                                                               \
    (VIR_DOMAIN_BLOCK_COMMIT_SHALLOW | VIR_DOMAIN_BLOCK_COMMIT_ACTIVE | VIR_DOMAIN_BLOCK_COMMIT_DELETE |                   \
     VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES)

static gboolean choose(const XmlconfDisk *disk, const char *base, const char *top, guint flags, int *from, int *to,
                       GError **error)
{
    guint length = xldrv_chain_length(disk);

    *from = top ? find_image(disk, top, error) : 0;
    if (*from < 0)
        return FALSE;
    if ((guint)*from + 1 >= length)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "top '%s' in chain for '%s' has no backing file",
                               xldrv_chain_path(disk, (guint)*from), disk->target);
    *to = base ? find_image(disk, base, error) : flags & VIR_DOMAIN_BLOCK_COMMIT_SHALLOW ? *from + 1 : (int)length - 1;
    if (*to < 0)
        return FALSE;
    if (*to <= *from)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "base '%s' is not below top '%s' in the chain of '%s'",
                               xldrv_chain_path(disk, (guint)*to), xldrv_chain_path(disk, (guint)*from), disk->target);
    if (!*from && !(flags & VIR_DOMAIN_BLOCK_COMMIT_ACTIVE))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "commit of '%s' active layer requires active flag", disk->target);
    return TRUE;
}

GVariant *xldrv_handle_domain_block_commit(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    const char *base = xldrv_args_optional_string(args, 2), *top = xldrv_args_optional_string(args, 3);
    guint flags = xldrv_args_u32(args, 5);
    g_auto(Start) s = {.speed = xldrv_args_u64(args, 4)};
    int from = 0, to = 0;

    if (flags & VIR_DOMAIN_BLOCK_COMMIT_RELATIVE) {
        xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "backing files are not kept relative");
        return NULL;
    }
    if (!xldrv_check_flags(flags, COMMIT_FLAGS, G_STRFUNC, error) ||
        !xldrv_blockjob_speed(&s.speed, flags & VIR_DOMAIN_BLOCK_COMMIT_BANDWIDTH_BYTES, error) ||
        !begin_call(&s, args, "commit a disk of", error) || !choose(s.disk, base, top, flags, &from, &to, error) ||
        !commit(&s, (guint)from, (guint)to, (flags & VIR_DOMAIN_BLOCK_COMMIT_DELETE) != 0, error))
        return NULL;
    return xldrv_reply_void();
}

/* ---- copy */

typedef struct {
    XmlconfSnapshotDisk to;
    gboolean shallow, reuse, raw, write_through;
    guint64 speed, granularity, buffer;
} Copy;

static void copy_clear(Copy *copy)
{
    xmlconf_snapshot_disk_clear(&copy->to);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Copy, copy_clear)

static const char *path_of(const Copy *copy)
{
    return copy->to.file ? copy->to.file : copy->to.dev;
}

static gboolean check_destination(const Copy *copy, GError **error)
{
    gboolean there = g_file_test(path_of(copy), G_FILE_TEST_EXISTS);

    if (strcmp(copy->to.format, "raw") != 0 && strcmp(copy->to.format, "qcow2") != 0)
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                               "copies of format '%s' are not supported: raw and qcow2 are",
                               copy->to.format);
    if (copy->shallow && strcmp(copy->to.format, "raw") == 0)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "shallow copy of disk into a raw file is not possible");
    if ((copy->reuse || copy->to.dev) && !there)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "missing destination file for copy: %s", path_of(copy));
    if (!copy->reuse && copy->to.file && there)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "external destination file for copy '%s' already exists",
                               path_of(copy));
    return TRUE;
}

static gboolean make_destination(const Start *s, const Copy *copy, GError **error)
{
    const char *base = copy->shallow ? xldrv_chain_path(s->disk, 1) : NULL;
    g_autofree char *size = NULL;
    g_autoptr(GError) why = NULL;
    XldrvImageInfo info;

    if (copy->reuse || (copy->to.dev && strcmp(copy->to.format, "raw") == 0))
        return TRUE;
    if (!xldrv_disk_measure(s->host.instance, s->disk, &info, error))
        return FALSE;
    size = g_strdup_printf("%" G_GUINT64_FORMAT, info.capacity);
    const char *plain[] = {"create", "-q", "-f", copy->to.format, path_of(copy), size, NULL};
    const char *based[] = {"create", "-q", "-u", "-f", copy->to.format, "-b", base, "-F", xldrv_chain_format(s->disk, 1),
                           path_of(copy), size, NULL};
    return xldrv_qemu_img(base ? based : plain, NULL, &why) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot create copy '%s' of disk '%s': %s", path_of(copy),
                           s->disk->target, why->message);
}

char *xldrv_blockjob_target_command(const XmlconfDisk *disk, gboolean block, const char *path, const char *format,
                                    const char *backing)
{
    gboolean direct = disk->cache == XMLCONF_CACHE_NONE || disk->cache == XMLCONF_CACHE_DIRECTSYNC;
    GString *json = g_string_new("{\"execute\": \"blockdev-add\", \"arguments\": {\"node-name\": \"" XLDRV_BLOCKJOB_NODE
                                 "\", \"driver\": ");

    xldrv_json_append_string(json, format);
    if (backing)
        g_string_append_printf(json, ", \"backing\": \"%s\"", backing);
    else if (strcmp(format, "qcow2") == 0)
        g_string_append(json, ", \"backing\": null"); /* what it is on is opened when the disk goes there */
    g_string_append_printf(json, ", \"discard\": \"unmap\", \"cache\": {\"direct\": %s}, \"file\": {\"driver\": \"%s\", "
                           "\"cache\": {\"direct\": %s}, \"discard\": \"unmap\", \"filename\": ", direct ? "true" : "false",
                           block ? "host_device" : "file", direct ? "true" : "false");
    xldrv_json_append_string(json, path);
    g_string_append(json, "}}}");
    return g_string_free(json, FALSE);
}

static gboolean mirror(Start *s, const Copy *copy, GError **error)
{
    const XldrvBlockJobMark mark = {
        .target = s->disk->target,
        .kind = XLDRV_BLOCKJOB_COPY,
        .mirror = {.type = copy->to.dev ? "block" : "file",
                   .job = XLDRV_BLOCKJOB_COPY,
                   .format = copy->to.format,
                   .file = copy->to.file,
                   .dev = copy->to.dev},
        .routed = s->disk->routed,
    };
    g_autofree char *node =
        xldrv_blockjob_target_command(s->disk, copy->to.dev != NULL, path_of(copy), copy->to.format, NULL);
    g_autoptr(GString) more = g_string_new(NULL);

    if (!xldrv_blockjob_command(&s->host, s->job, s->disk->target, node, error))
        return FALSE;
    g_string_append_printf(more, ", \"target\": \"" XLDRV_BLOCKJOB_NODE "\", \"sync\": \"%s\", \"copy-mode\": \"%s\"",
                           copy->shallow ? "top" : "full", copy->write_through ? "write-blocking" : "background");
    if (copy->granularity)
        g_string_append_printf(more, ", \"granularity\": %" G_GUINT64_FORMAT, copy->granularity);
    if (copy->buffer)
        g_string_append_printf(more, ", \"buf-size\": %" G_GUINT64_FORMAT, copy->buffer);
    if (run(s, "blockdev-mirror", more->str, &mark, error))
        return TRUE;
    xldrv_blockjob_command(&s->host, s->job, s->disk->target, XLDRV_BLOCKJOB_CLOSE_TARGET, NULL);
    return FALSE;
}

static gboolean start_copy(Start *s, Copy *copy, GError **error)
{
    g_autofree char *target = g_strdup(s->disk->target);

    if (!copy->to.format)
        copy->to.format = g_strdup(copy->raw ? "raw" : xldrv_storage_format(s->disk));
    if (copy->shallow && xldrv_chain_length(s->disk) < 2)
        copy->shallow = FALSE; /* all there is is the top */
    if (!check_destination(copy, error) || !make_destination(s, copy, error))
        return FALSE;
    s->speed = copy->speed;
    if (xldrv_blockjob_route(s->driver, s->job, target, error) && find_again(s, target, error) && mirror(s, copy, error))
        return TRUE;
    xldrv_blockjob_unroute(s->driver, s->job, target);
    if (!copy->reuse && copy->to.file)
        unlink(copy->to.file);
    return FALSE;
}

static GVariant *handle_copy(GVariant *args, Copy *copy, GError **error)
{
    g_auto(Start) s = {0};

    return begin_call(&s, args, "copy a disk of", error) && start_copy(&s, copy, error) ? xldrv_reply_void() : NULL;
}

static gboolean take_number(const char *name, GVariant *value, guint64 *number, GError **error)
{
    gint64 n = 0;

    if (g_variant_is_of_type(value, G_VARIANT_TYPE_UINT64)) {
        *number = g_variant_get_uint64(value);
    } else if (xldrv_param_number(value, &n) && n >= 0) {
        *number = (guint64)n;
    } else {
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' is not a number", name);
    }
    return *number <= G_MAXINT64 || xldrv_set_error(error, VIR_ERR_OVERFLOW, "parameter '%s' is too large", name);
}

static gboolean take_param(gpointer data, const char *name, GVariant *value, GError **error)
{
    Copy *copy = data;

    if (strcmp(name, VIR_DOMAIN_BLOCK_COPY_BANDWIDTH) == 0)
        return take_number(name, value, &copy->speed, error);
    if (strcmp(name, VIR_DOMAIN_BLOCK_COPY_BUF_SIZE) == 0)
        return take_number(name, value, &copy->buffer, error);
    if (strcmp(name, VIR_DOMAIN_BLOCK_COPY_GRANULARITY) != 0)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parameter '%s' not supported", name);
    if (!take_number(name, value, &copy->granularity, error))
        return FALSE;
    return !(copy->granularity & (copy->granularity - 1)) ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG, "granularity must be power of 2");
}

#define COPY_FLAGS                                                                                 \
    (VIR_DOMAIN_BLOCK_COPY_SHALLOW | VIR_DOMAIN_BLOCK_COPY_REUSE_EXT | VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB |              \
     VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES)

GVariant *xldrv_handle_domain_block_copy(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 4);
    g_autoptr(GVariant) params = g_variant_get_child_value(args, 3);
    g_auto(Copy) copy = {
        .shallow = (flags & VIR_DOMAIN_BLOCK_COPY_SHALLOW) != 0,
        .reuse = (flags & VIR_DOMAIN_BLOCK_COPY_REUSE_EXT) != 0,
        .write_through = (flags & VIR_DOMAIN_BLOCK_COPY_SYNCHRONOUS_WRITES) != 0,
    };
    g_autoptr(GError) why = NULL;

    if (!xldrv_check_flags(flags, COPY_FLAGS, G_STRFUNC, error) || !xldrv_params_read(params, take_param, &copy, error))
        return NULL;
    if (!xmlconf_disk_destination_parse(xldrv_args_string(args, 2), &copy.to, &why)) {
        xldrv_set_xml_error(error, g_steal_pointer(&why));
        return NULL;
    }
    return handle_copy(args, &copy, error);
}

/* ---- rebase, which is pull, or in old clients copy */

#define REBASE_FLAGS                                                                               \
    (VIR_DOMAIN_BLOCK_REBASE_SHALLOW | VIR_DOMAIN_BLOCK_REBASE_REUSE_EXT | VIR_DOMAIN_BLOCK_REBASE_COPY |                 \
     VIR_DOMAIN_BLOCK_REBASE_COPY_RAW | VIR_DOMAIN_BLOCK_REBASE_COPY_DEV | VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES)

static GVariant *rebase_copy(GVariant *args, const char *path, guint flags, GError **error)
{
    g_auto(Copy) copy = {
        .shallow = (flags & VIR_DOMAIN_BLOCK_REBASE_SHALLOW) != 0,
        .reuse = (flags & VIR_DOMAIN_BLOCK_REBASE_REUSE_EXT) != 0,
        .raw = (flags & VIR_DOMAIN_BLOCK_REBASE_COPY_RAW) != 0,
        .speed = xldrv_args_u64(args, 3),
    };

    if (!path || *path != '/') {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "destination '%s' of the copy is no absolute path", path ? path : "");
        return NULL;
    }
    *(flags & VIR_DOMAIN_BLOCK_REBASE_COPY_DEV ? &copy.to.dev : &copy.to.file) = g_strdup(path);
    return xldrv_blockjob_speed(&copy.speed, flags & VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES, error)
               ? handle_copy(args, &copy, error)
               : NULL;
}

GVariant *xldrv_handle_domain_block_rebase(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    const char *base = xldrv_args_optional_string(args, 2);
    guint flags = xldrv_args_u32(args, 4);

    if (flags & VIR_DOMAIN_BLOCK_REBASE_RELATIVE) {
        xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "backing files are not kept relative");
        return NULL;
    }
    if (!xldrv_check_flags(flags, REBASE_FLAGS, G_STRFUNC, error))
        return NULL;
    if (flags & VIR_DOMAIN_BLOCK_REBASE_COPY)
        return rebase_copy(args, base, flags, error);
    return handle_pull(args, base, xldrv_args_u64(args, 3), flags & VIR_DOMAIN_BLOCK_REBASE_BANDWIDTH_BYTES, error);
}
