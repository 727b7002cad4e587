/* Backups: copies of disks as they were at one moment, made while the guest goes on (mode push). A block job of each disk. The
 * guest's requests to all of them wait until each has begun. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/qemu-img.h"

/* ---- which disks, and where to */

typedef struct {
    XldrvDriver *driver;
    XldrvJob *job;
    XldrvDeviceHost host;
    XmlconfBackup plan; /* those that are backed up, by their targets */
    gboolean reuse;
    guint made, opened, parked, begun; /* so many of them */
} Backup;

static void backup_clear(Backup *b)
{
    xmlconf_backup_clear(&b->plan);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Backup, backup_clear)

static const char *path_of(const XmlconfBackupDisk *to)
{
    return to->file ? to->file : to->dev;
}

static gboolean check_target(const Backup *b, const XmlconfBackupDisk *to, GError **error)
{
    gboolean there = g_file_test(path_of(to), G_FILE_TEST_EXISTS);

    if (strcmp(to->format, "raw") != 0 && strcmp(to->format, "qcow2") != 0)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "backup of disk '%s' in format '%s' is not supported: raw and qcow2 are", to->name, to->format);
    if ((b->reuse || to->dev) && !there)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "missing target '%s' of the backup of disk '%s'", path_of(to),
                               to->name);
    if (!b->reuse && to->file && there)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "target '%s' of the backup of disk '%s' already exists",
                               path_of(to), to->name);
    return TRUE;
}

static gboolean add(Backup *b, const XmlconfDisk *disk, XmlconfBackupDisk *asked, GError **error)
{
    XmlconfBackupDisk *to = xmlconf_backup_add_disk(&b->plan, disk->target);

    to->file = asked ? g_steal_pointer(&asked->file) : NULL;
    to->dev = asked ? g_steal_pointer(&asked->dev) : NULL;
    to->format = asked && asked->format ? g_steal_pointer(&asked->format) : g_strdup("qcow2");
    if (!xldrv_blockjob_check_possible(disk, error))
        return FALSE;
    if (!path_of(to) && xmlconf_disk_actual_type(disk) == XMLCONF_DISK_BLOCK)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "cannot generate a name for the backup of disk '%s': it is not on a file", disk->target);
    if (!path_of(to))
        to->file = g_strdup_printf("%s.%" G_GINT64_FORMAT, xmlconf_disk_source(disk), g_get_real_time() / G_USEC_PER_SEC);
    to->type = g_strdup(to->dev ? "block" : "file");
    return check_target(b, to, error);
}

/* With no disks named all that can be written. */
static gboolean plan(Backup *b, XmlconfDomain *live, const XmlconfBackup *asked, GError **error)
{
    const GPtrArray *disks = xmlconf_domain_config(live)->disks;

    for (guint i = 0; asked->disks && i < asked->disks->len; i++) {
        XmlconfBackupDisk *one = asked->disks->pdata[i];
        const XmlconfDisk *disk = xldrv_find_disk(live, one->name, error);

        if (!disk || (!one->excluded && !add(b, disk, one, error)))
            return FALSE;
    }
    for (guint i = 0; !asked->disks && disks && i < disks->len; i++) {
        const XmlconfDisk *disk = disks->pdata[i];

        if (xmlconf_disk_source(disk) && !disk->readonly && !add(b, disk, NULL, error))
            return FALSE;
    }
    return b->plan.disks || xldrv_set_error(error, VIR_ERR_INVALID_ARG, "no disks selected for backup");
}

/* ---- doing it */

typedef gboolean (*StepFn)(Backup *b, const XmlconfBackupDisk *to, const XmlconfDisk *disk, GError **error);

/* Of each disk as it is in the running document now. *@done: how many. */
static gboolean for_each(Backup *b, guint max, guint *done, StepFn fn, GError **error)
{
    for (*done = 0; *done < MIN(max, b->plan.disks->len); (*done)++) {
        const XmlconfBackupDisk *to = b->plan.disks->pdata[*done];
        g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(b->job->live);
        const XmlconfDisk *disk = xldrv_find_disk(live, to->name, error);

        if (!disk || !fn(b, to, disk, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean make(Backup *b, const XmlconfBackupDisk *to, const XmlconfDisk *disk, GError **error)
{
    g_autofree char *size = NULL;
    g_autoptr(GError) why = NULL;
    XldrvImageInfo info;

    if (b->reuse || (to->dev && strcmp(to->format, "raw") == 0))
        return TRUE;
    if (!xldrv_disk_measure(b->host.instance, disk, &info, error))
        return FALSE;
    size = g_strdup_printf("%" G_GUINT64_FORMAT, info.capacity);
    const char *argv[] = {"create", "-q", "-f", to->format, path_of(to), size, NULL};
    return xldrv_qemu_img(argv, NULL, &why) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot create backup '%s' of disk '%s': %s", path_of(to), to->name,
                           why->message);
}

static gboolean open_target(Backup *b, const XmlconfBackupDisk *to, const XmlconfDisk *disk, GError **error)
{
    g_autofree char *command = xldrv_blockjob_target_command(disk, to->dev != NULL, path_of(to), to->format);

    return xldrv_blockjob_route(b->driver, b->job, to->name, error) &&
           xldrv_blockjob_command(&b->host, b->job, to->name, command, error);
}

static gboolean park(Backup *b, const XmlconfBackupDisk *to G_GNUC_UNUSED, const XmlconfDisk *disk, GError **error)
{
    return xldrv_disk_park(&b->host, disk, error);
}

static gboolean start_job(Backup *b, const XmlconfBackupDisk *to, const XmlconfDisk *disk, GError **error)
{
    const XldrvBlockJobMark none = {.target = to->name, .routed = disk->routed};
    g_autofree char *kind = g_strjoin(" ", XLDRV_BLOCKJOB_BACKUP, to->type, to->format, path_of(to), NULL);
    const XldrvBlockJobMark mark = {.target = to->name, .kind = kind, .routed = disk->routed};

    if (!xldrv_blockjob_mark(b->driver, b->job, &mark, error))
        return FALSE;
    if (xldrv_blockjob_command(&b->host, b->job, to->name,
                               "{\"execute\": \"blockdev-backup\", \"arguments\": {\"job-id\": \"job\", \"device\": "
                               "\"" XLDRV_STORAGE_NODE "\", \"target\": \"" XLDRV_BLOCKJOB_NODE "\", \"sync\": \"full\", "
                               "\"auto-dismiss\": false}}",
                               error))
        return TRUE;
    xldrv_blockjob_mark(b->driver, b->job, &none, NULL);
    return FALSE;
}

static gboolean go_on(Backup *b, const XmlconfBackupDisk *to G_GNUC_UNUSED, const XmlconfDisk *disk, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (xldrv_disk_reopen(&b->host, disk, &why))
        return TRUE;
    xldrv_react_to_instance(b->job->instance, HV_EVENT_IMAGE_LOST, 0, b->job);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

static gboolean cancel(Backup *b, const XmlconfBackupDisk *to, const XmlconfDisk *disk G_GNUC_UNUSED, GError **error)
{
    return xldrv_blockjob_cancel(b->driver, b->job, to->name, error);
}

static gboolean close_target(Backup *b, const XmlconfBackupDisk *to, const XmlconfDisk *disk G_GNUC_UNUSED,
                             GError **error G_GNUC_UNUSED)
{
    xldrv_blockjob_command(&b->host, b->job, to->name, XLDRV_BLOCKJOB_CLOSE_TARGET, NULL);
    xldrv_blockjob_unroute(b->driver, b->job, to->name);
    return TRUE;
}

static gboolean remove_target(Backup *b, const XmlconfBackupDisk *to, const XmlconfDisk *disk G_GNUC_UNUSED,
                              GError **error G_GNUC_UNUSED)
{
    if (!b->reuse && to->file)
        unlink(to->file);
    return TRUE;
}

static void undo(Backup *b)
{
    guint done;

    for_each(b, b->begun, &done, cancel, NULL);
    for_each(b, b->opened + 1, &done, close_target, NULL);
    for_each(b, b->made, &done, remove_target, NULL);
}

static gboolean run(Backup *b, GError **error)
{
    guint done, all = G_MAXUINT;
    gboolean ok = for_each(b, all, &b->made, make, error) && for_each(b, all, &b->opened, open_target, error) &&
                  for_each(b, all, &b->parked, park, error) && for_each(b, all, &b->begun, start_job, error);

    ok = for_each(b, ok ? all : b->parked, &done, go_on, ok ? error : NULL) && ok;
    if (!ok)
        undo(b);
    return ok;
}

static gboolean begin(XldrvJob *job, const XmlconfBackup *asked, gboolean reuse, GError **error)
{
    g_auto(Backup) b = {.driver = xldrv_driver_get(), .job = job, .reuse = reuse};
    g_autoptr(XmlconfDomain) live = NULL;

    if (!job->instance || (job->state != VIR_DOMAIN_RUNNING && job->state != VIR_DOMAIN_PAUSED))
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    b.host = (XldrvDeviceHost){b.driver, job->instance, job->uuid_text, job->name};
    live = xmlconf_domain_ref(job->live);
    if (!xldrv_blockjob_check_domain(job, error) || !plan(&b, live, asked, error) || !run(&b, error))
        return FALSE;
    job->backup_us = g_get_monotonic_time();
    job->backup_bytes = 0;
    xldrv_blockjobs_watch(b.driver, job);
    return TRUE;
}

GVariant *xldrv_handle_domain_backup_begin(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 3);
    g_auto(XmlconfBackup) asked = {0};
    g_autoptr(GError) why = NULL;
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;

    if (!xldrv_check_flags(flags, VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL, G_STRFUNC, error))
        return NULL;
    if (xldrv_args_optional_string(args, 2)) {
        xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "backups are full: there are no checkpoints");
        return NULL;
    }
    if (!xmlconf_backup_parse(&asked, xldrv_args_string(args, 1), &why)) {
        xldrv_set_xml_error(error, g_steal_pointer(&why));
        return NULL;
    }
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "back up", error) : NULL;
    return job && begin(job, &asked, flags & VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL, error) ? xldrv_reply_void() : NULL;
}

/* ---- one that is under way */

static gboolean is_backup(const XmlconfDisk *disk)
{
    return xldrv_blockjob_type(disk) == VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP;
}

/* The running document, with a backup of any disk; or NULL. */
static XmlconfDomain *find_backup(XldrvDomain *domain)
{
    g_autoptr(XmlconfDomain) live = xldrv_domain_get_config(domain, FALSE);
    const GPtrArray *disks = live ? xmlconf_domain_config(live)->disks : NULL;

    for (guint i = 0; disks && i < disks->len; i++) {
        if (is_backup(disks->pdata[i]))
            return g_steal_pointer(&live);
    }
    return NULL;
}

gboolean xldrv_backup_progress(XldrvDomain *domain, guint64 *total, guint64 *done)
{
    g_autoptr(XmlconfDomain) live = find_backup(domain);
    g_autoptr(XldrvInstance) instance = live ? xldrv_domain_get_instance(domain, NULL) : NULL;
    const GPtrArray *disks = live ? xmlconf_domain_config(live)->disks : NULL;

    *total = *done = 0;
    for (guint i = 0; instance && disks && i < disks->len; i++) {
        const XldrvDeviceHost host = {xldrv_driver_get(), instance, domain->uuid_text, xmlconf_domain_config(live)->name};
        g_auto(XldrvBlockJobState) state = {0};

        if (!is_backup(disks->pdata[i]) || !xldrv_blockjob_look(&host, disks->pdata[i], &state, NULL))
            continue;
        *total += state.total;
        *done += state.current;
    }
    return instance != NULL;
}

gboolean xldrv_backup_cancel(XldrvDomain *domain, GError **error)
{
    g_autoptr(XldrvJobGuard) job = NULL;
    g_autoptr(XmlconfDomain) live = find_backup(domain);
    const GPtrArray *disks;
    gboolean ok = TRUE;

    if (!live || !(job = xldrv_job_begin(domain, "end the backup of", error)) || !job->instance)
        return FALSE;
    xmlconf_domain_unref(live);
    live = xmlconf_domain_ref(job->live);
    disks = xmlconf_domain_config(live)->disks;
    for (guint i = 0; ok && disks && i < disks->len; i++) {
        const XmlconfDisk *disk = disks->pdata[i];

        ok = !is_backup(disk) || xldrv_blockjob_cancel(xldrv_driver_get(), job, disk->target, error);
    }
    return ok;
}

/* The reverse of what start_job makes of it. */
static void describe(XmlconfBackupDisk *to, const char *job)
{
    g_auto(GStrv) words = g_strsplit(job, " ", 4); /* backup, type, format, path */

    if (g_strv_length(words) < 4)
        return;
    to->type = g_strdup(words[1]);
    to->format = g_strdup(words[2]);
    *(strcmp(words[1], "block") == 0 ? &to->dev : &to->file) = g_strdup(words[3]);
}

GVariant *xldrv_handle_domain_backup_get_xml_desc(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_auto(XmlconfBackup) backup = {0};
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfDomain) live = NULL;
    g_autofree char *xml = NULL;
    const GPtrArray *disks;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error) || !(domain = xldrv_args_domain(args, error)))
        return NULL;
    live = find_backup(domain);
    if (!live) {
        xldrv_set_error(error, VIR_ERR_NO_DOMAIN_BACKUP, "no domain backup job present");
        return NULL;
    }
    disks = xmlconf_domain_config(live)->disks;
    for (guint i = 0; i < disks->len; i++) {
        const XmlconfDisk *disk = disks->pdata[i];
        XmlconfBackupDisk *to = xmlconf_backup_add_disk(&backup, disk->target);

        to->excluded = !is_backup(disk);
        if (to->excluded)
            continue;
        describe(to, disk->job);
    }
    xml = xmlconf_backup_format(&backup);
    return xldrv_reply_string(xml);
}
