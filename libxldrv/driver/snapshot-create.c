/* Taking snapshots, and redefining what is known of them. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/longjob.h"
#include "libxldrv/driver/quiesce.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/save.h"
#include "libxldrv/driver/snapshot.h"
#include "libxldrv/driver/target.h"
#include "libxldrv/driver/wire.h"

#define REDEFINE    VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
#define NO_METADATA VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
#define HALT        VIR_DOMAIN_SNAPSHOT_CREATE_HALT
#define DISK_ONLY   VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
#define REUSE_EXT   VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
#define QUIESCE     VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE
#define LIVE        VIR_DOMAIN_SNAPSHOT_CREATE_LIVE

/* All are atomic here. */
#define CREATE_FLAGS                                                                               \
    (REDEFINE | VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT | NO_METADATA | HALT | DISK_ONLY | REUSE_EXT | QUIESCE | LIVE |         \
     VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC | VIR_DOMAIN_SNAPSHOT_CREATE_VALIDATE)

/* A number of so few digits may be taken for the number of a snapshot in an image. */
#define IMAGE_ID_DIGITS 6

typedef struct {
    XldrvDriver *driver;
    XldrvJob *job;
    XmlconfSnapshot *snapshot;
    XmlconfDomain *config; /* whose disks all have paths */
    guint flags;
} Creation;

/* ---- what is asked for */

static gboolean check_flags(guint flags, const char *function, GError **error)
{
    if (!xldrv_check_flags(flags, CREATE_FLAGS, function, error) ||
        !xldrv_check_exclusive(flags, REDEFINE | NO_METADATA,
                               "VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE and VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA", error) ||
        !xldrv_check_exclusive(flags, LIVE | DISK_ONLY,
                               "VIR_DOMAIN_SNAPSHOT_CREATE_LIVE and VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY", error))
        return FALSE;
    if (flags & QUIESCE && !(flags & DISK_ONLY))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                               "flag VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE requires VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY");
    return TRUE;
}

static XmlconfSnapshot *parse(const char *xml, guint flags, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(XmlconfSnapshot) snapshot =
        xmlconf_snapshot_parse(xml, flags & VIR_DOMAIN_SNAPSHOT_CREATE_VALIDATE ? XMLCONF_VALIDATE : 0, &why);

    if (!snapshot) {
        xldrv_set_xml_error(error, g_steal_pointer(&why));
        return NULL;
    }
    if (!snapshot->name && flags & REDEFINE) {
        xldrv_set_error(error, VIR_ERR_XML_ERROR, "a redefined snapshot must have a name");
        return NULL;
    }
    if (!snapshot->name)
        snapshot->name = g_strdup_printf("%" G_GINT64_FORMAT, g_get_real_time() / G_USEC_PER_SEC);
    return xldrv_moments_check_name(XLDRV_SNAPSHOTS, snapshot->name, error) ? g_steal_pointer(&snapshot) : NULL;
}

/* ---- redefining */

/* One that is known keeps what its document does not say. */
static gboolean complete(XldrvDomain *domain, XmlconfSnapshot *snapshot, GError **error)
{
    g_autoptr(XmlconfSnapshot) known = xldrv_moments_find(XLDRV_SNAPSHOTS, domain, snapshot->name, NULL);

    if (!snapshot->state)
        return xldrv_set_error(error, VIR_ERR_XML_ERROR, "missing state from existing snapshot");
    if (!snapshot->creation_time)
        return xldrv_set_error(error, VIR_ERR_XML_ERROR, "missing creationTime from existing snapshot");
    if (known && known->state != snapshot->state)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "cannot change between states of snapshot '%s'", snapshot->name);
    if (known && xmlconf_snapshot_is_external(known) != xmlconf_snapshot_is_external(snapshot))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "cannot change between internal and external in snapshot '%s'",
                               snapshot->name);
    if (known && known->domain && !snapshot->domain)
        snapshot->domain = xmlconf_domain_ref(known->domain);
    if (known && known->inactive && !snapshot->inactive)
        snapshot->inactive = xmlconf_domain_ref(known->inactive);
    return TRUE;
}

static GVariant *redefine(GVariant *args, guint flags, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    g_autoptr(XmlconfSnapshot) snapshot = parse(xldrv_args_string(args, 1), flags, error);
    g_autoptr(XldrvDomain) domain = snapshot ? xldrv_args_domain(args, error) : NULL;
    g_autoptr(XldrvJobGuard) job = domain ? xldrv_job_begin(domain, "redefine snapshot of", error) : NULL;

    if (!job || !xldrv_moments_check_domain(XLDRV_SNAPSHOTS, job, snapshot->domain, error) ||
        !xldrv_moments_check_domain(XLDRV_SNAPSHOTS, job, snapshot->inactive, error) ||
        !xldrv_moments_check_parent(XLDRV_SNAPSHOTS, job, snapshot, error) || !complete(job, snapshot, error) ||
        !xldrv_moments_put(XLDRV_SNAPSHOTS, driver, job, snapshot, error) ||
        (flags & VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT && !xldrv_moments_set_current(XLDRV_SNAPSHOTS, driver, job, snapshot->name, error)))
        return NULL;
    return xldrv_reply_moment(job, snapshot->name);
}

/* ---- what is to be taken */

/* What the client said of memory has to fit the domain's state. */
static gboolean plan_memory(const Creation *c, GError **error)
{
    XmlconfSnapshot *snapshot = c->snapshot;

    if (c->flags & LIVE && !c->job->instance)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "live snapshot of domain '%s', which is not running",
                               c->job->name);
    if (!c->job->instance || c->flags & DISK_ONLY) {
        if (snapshot->memory != XMLCONF_SNAPSHOT_DEFAULT && snapshot->memory != XMLCONF_SNAPSHOT_NO)
            return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                                   "memory state cannot be saved with offline or disk-only snapshot");
        snapshot->memory = XMLCONF_SNAPSHOT_NO;
        return TRUE;
    }
    if (snapshot->memory == XMLCONF_SNAPSHOT_NO)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "memory snapshot must be taken of a running domain, unless the snapshot is disk-only");
    if (snapshot->memory == XMLCONF_SNAPSHOT_DEFAULT)
        snapshot->memory = XMLCONF_SNAPSHOT_INTERNAL;
    if (snapshot->memory == XMLCONF_SNAPSHOT_EXTERNAL && g_file_test(snapshot->memory_file, G_FILE_TEST_EXISTS))
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "memory file '%s' exists already", snapshot->memory_file);
    return TRUE;
}

static XmlconfSnapshotState state_of(const Creation *c)
{
    if (!c->job->instance)
        return XMLCONF_SNAPSHOT_SHUTOFF;
    if (c->flags & DISK_ONLY)
        return XMLCONF_SNAPSHOT_DISK_ONLY;
    return c->job->state == VIR_DOMAIN_RUNNING ? XMLCONF_SNAPSHOT_RUNNING : XMLCONF_SNAPSHOT_PAUSED;
}

static gboolean check_name_in_images(const XmlconfSnapshot *snapshot, GError **error)
{
    if (!xldrv_snapshot_has_disk(snapshot, XMLCONF_SNAPSHOT_INTERNAL) || strlen(snapshot->name) > IMAGE_ID_DIGITS ||
        snapshot->name[strspn(snapshot->name, "0123456789")])
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_XML_DETAIL,
                           "invalid snapshot name '%s': images number their snapshots, and it could be such a number",
                           snapshot->name);
}

static gboolean check_domain_state(const Creation *c, GError **error)
{
    XldrvJob *job = c->job;

    if (job->instance && job->state != VIR_DOMAIN_RUNNING && job->state != VIR_DOMAIN_PAUSED)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running: its guest has ended");
    if (!job->instance && xldrv_managed_has(c->driver, job->name))
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                               "domain '%s' has a managed save image, which knows what is on its disks: start it, or remove "
                               "that",
                               job->name);
    if (c->flags & HALT && job->instance && !job->config)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot halt after transient domain snapshot");
    return TRUE;
}

static gboolean plan(Creation *c, GError **error)
{
    XmlconfSnapshot *snapshot = c->snapshot;
    gboolean external;

    if (!check_domain_state(c, error) || !plan_memory(c, error) ||
        !(c->config = xldrv_snapshot_config(c->driver, c->job, error)))
        return FALSE;
    external = c->flags & DISK_ONLY || snapshot->memory == XMLCONF_SNAPSHOT_EXTERNAL;
    if (!xldrv_snapshot_plan(snapshot, c->config, external ? XMLCONF_SNAPSHOT_EXTERNAL : XMLCONF_SNAPSHOT_INTERNAL,
                             (c->flags & REUSE_EXT) != 0, error) ||
        !check_name_in_images(snapshot, error) || !xldrv_snapshot_images_check_free(c->config, snapshot, error))
        return FALSE;
    if (c->flags & DISK_ONLY && xldrv_snapshot_has_disk(snapshot, XMLCONF_SNAPSHOT_INTERNAL) && c->job->instance)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "active internal snapshots require memory: a disk-only snapshot of a running domain is external");
    if (snapshot->memory == XMLCONF_SNAPSHOT_NO && !xldrv_snapshot_has_disk(snapshot, XMLCONF_SNAPSHOT_INTERNAL) &&
        !xldrv_snapshot_has_disk(snapshot, XMLCONF_SNAPSHOT_EXTERNAL))
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "nothing selected for snapshot");
    if (c->flags & NO_METADATA && snapshot->memory == XMLCONF_SNAPSHOT_INTERNAL)
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                               "an internal snapshot of a running domain cannot be without metadata: its memory would be lost");
    return TRUE;
}

/* What the snapshot tells of the domain, once it is planned. */
static void describe(Creation *c)
{
    XmlconfSnapshot *snapshot = c->snapshot;

    snapshot->state = state_of(c);
    snapshot->creation_time = (guint64)(g_get_real_time() / G_USEC_PER_SEC);
    g_free(snapshot->parent);
    snapshot->parent = xldrv_moments_current(XLDRV_SNAPSHOTS, c->job);
    g_clear_pointer(&snapshot->domain, xmlconf_domain_unref);
    g_clear_pointer(&snapshot->inactive, xmlconf_domain_unref);
    snapshot->domain = xmlconf_domain_ref(c->job->instance ? c->job->live : c->job->config);
    if (c->job->instance && c->job->config)
        snapshot->inactive = xmlconf_domain_ref(c->job->config);
}

/* ---- taking it */

static gboolean take_disks(const Creation *c, GError **error)
{
    const XldrvDeviceHost host = {c->driver, c->job->instance, c->job->uuid_text, c->job->name};
    gboolean reuse = (c->flags & REUSE_EXT) != 0;

    if (!xldrv_snapshot_has_disk(c->snapshot, XMLCONF_SNAPSHOT_EXTERNAL))
        return xldrv_snapshot_images_take(&host, c->config, c->snapshot, error);
    if (!xldrv_overlays_make(c->job->instance, c->config, c->snapshot, reuse, error))
        return FALSE;
    if (xldrv_overlays_use(c->driver, c->job, c->config, c->snapshot, error))
        return TRUE;
    xldrv_overlays_remove(c->snapshot, reuse);
    return FALSE;
}

static char *memory_path(const Creation *c, GError **error)
{
    if (c->snapshot->memory == XMLCONF_SNAPSHOT_EXTERNAL)
        return g_strdup(c->snapshot->memory_file);
    return xldrv_moments_make_folder(XLDRV_SNAPSHOTS, c->driver, c->job, error)
               ? xldrv_snapshots_memory_path(c->driver, c->job, c->snapshot->name)
               : NULL;
}

/* The guest stands still from its memory, of a live snapshot from the last of it, to the last of its disks. */
static gboolean take_with_memory(const Creation *c, GError **error)
{
    g_autofree char *path = memory_path(c, error);
    const XldrvSaveTo to = {
        .path = path, .running = c->job->state == VIR_DOMAIN_RUNNING, .live = (c->flags & LIVE) != 0};
    struct domus_stream_status status;
    gboolean ok;

    if (!path)
        return FALSE;
    xldrv_longjob_begin(c->job, VIR_DOMAIN_JOB_OPERATION_SNAPSHOT);
    ok = xldrv_save_memory(c->driver, c->job, &to, &status, error);
    if (ok) {
        ok = take_disks(c, error);
        if (!ok)
            unlink(path);
        xldrv_stream_end(c->job->instance);
    }
    xldrv_longjob_end(c->driver, c->job, ok ? &status : NULL);
    return ok;
}

static gboolean keep(const Creation *c, GError **error)
{
    return c->flags & NO_METADATA || (xldrv_moments_put(XLDRV_SNAPSHOTS, c->driver, c->job, c->snapshot, error) &&
                                      xldrv_moments_set_current(XLDRV_SNAPSHOTS, c->driver, c->job, c->snapshot->name, error));
}

static GVariant *create(Creation *c, GError **error)
{
    gboolean memory, ok, hidden = (c->flags & NO_METADATA) != 0, reuse = (c->flags & REUSE_EXT) != 0;

    if (!(c->flags & NO_METADATA) && !xldrv_moments_check_free(XLDRV_SNAPSHOTS, c->job, c->snapshot->name, error))
        return NULL;
    if (!plan(c, error))
        return NULL;
    describe(c);
    if (!xldrv_snapshot_announce(c->driver, c->job, c->snapshot, reuse, hidden, error))
        return NULL;
    memory = c->snapshot->memory != XMLCONF_SNAPSHOT_NO;
    ok = (memory ? take_with_memory(c, error) : take_disks(c, error)) && keep(c, error);
    xldrv_snapshot_forget(c->driver, c->job);
    if (!ok)
        return NULL;
    if (c->flags & HALT && c->job->instance)
        xldrv_stop(c->driver, c->job, VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT, VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT, FALSE);
    return xldrv_reply_moment(c->job, c->snapshot->name);
}

static GVariant *create_with_job(XldrvDomain *domain, XmlconfSnapshot *snapshot, guint flags, GError **error)
{
    g_autoptr(XldrvJobGuard) job = xldrv_job_begin(domain, "take a snapshot of", error);
    Creation c = {.driver = xldrv_driver_get(), .job = job, .snapshot = snapshot, .flags = flags};
    GVariant *reply = job ? create(&c, error) : NULL;

    g_clear_pointer(&c.config, xmlconf_domain_unref);
    return reply;
}

GVariant *xldrv_handle_domain_snapshot_create_xml(XldrvCall *call, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 2);
    g_autoptr(XmlconfSnapshot) snapshot = NULL;
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvQuiesce) quiesce = NULL;

    if (!check_flags(flags, G_STRFUNC, error))
        return NULL;
    if (flags & REDEFINE)
        return redefine(args, flags, error);
    snapshot = parse(xldrv_args_string(args, 1), flags, error);
    domain = snapshot ? xldrv_args_domain(args, error) : NULL;
    if (!domain || (flags & QUIESCE && !(quiesce = xldrv_quiesce_begin(call, domain, error))))
        return NULL;
    return create_with_job(domain, snapshot, flags, error);
}
