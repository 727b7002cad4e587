/* Procedures about backups. */
#include "config.h"

#include "libxldrv/driver/backup.h"

#include <string.h>

#include "libxldrv/driver/checkpoint.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/longjob.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/driver/wire.h"

/* ---- which disks, and where to */

static gboolean check_target(const XldrvBackup *b, const XmlconfBackupDisk *to, GError **error)
{
    const char *path = xldrv_backup_path(to), *what = b->plan.pull ? "scratch image" : "target";
    gboolean there = g_file_test(path, G_FILE_TEST_EXISTS), device = to->dev || to->scratch_dev;

    if (strcmp(to->format, "qcow2") != 0 && (b->plan.pull || strcmp(to->format, "raw") != 0))
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "backup of disk '%s' in format '%s' is not supported: %s",
                               to->name, to->format, b->plan.pull ? "scratch images are qcow2" : "raw and qcow2 are");
    if (to->incremental && !b->plan.pull && !b->reuse && strcmp(to->format, "raw") == 0)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "incremental backup of disk '%s' in format 'raw' would not tell what it has: qcow2 does",
                               to->name);
    if ((b->reuse || device) && !there)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "missing %s '%s' of the backup of disk '%s'", what, path, to->name);
    if (!b->reuse && !device && there)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "%s '%s' of the backup of disk '%s' already exists", what, path,
                               to->name);
    return TRUE;
}

/* Beside the image, as libvirt names it. */
static gboolean choose_path(const XldrvBackup *b, const XmlconfDisk *disk, XmlconfBackupDisk *to, GError **error)
{
    char **path = b->plan.pull ? &to->scratch_file : &to->file;

    if (xmlconf_disk_actual_type(disk) == XMLCONF_DISK_BLOCK)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "cannot generate a name for the backup of disk '%s': it is not on a file", disk->target);
    *path = g_strdup_printf("%s.%s%" G_GINT64_FORMAT, xmlconf_disk_source(disk), b->plan.pull ? "scratch-" : "",
                            g_get_real_time() / G_USEC_PER_SEC);
    return TRUE;
}

static void take(XmlconfBackupDisk *to, XmlconfBackupDisk *from)
{
    char **const rows[][2] = {{&to->file, &from->file}, {&to->dev, &from->dev}, {&to->scratch_file, &from->scratch_file},
                              {&to->scratch_dev, &from->scratch_dev}, {&to->format, &from->format},
                              {&to->incremental, &from->incremental}, {&to->export_name, &from->export_name},
                              {&to->export_bitmap, &from->export_bitmap}};

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        *rows[i][0] = g_steal_pointer(rows[i][1]);
    to->mode = from->mode;
}

/* What is not said is what libvirt takes. */
static void complete(const XldrvBackup *b, XmlconfBackupDisk *to)
{
    if (!to->incremental && to->mode != XMLCONF_BACKUP_FULL)
        to->incremental = g_strdup(b->plan.incremental);
    to->mode = to->incremental ? XMLCONF_BACKUP_INCREMENTAL : XMLCONF_BACKUP_FULL;
    if (!to->format)
        to->format = g_strdup("qcow2");
    if (!b->plan.pull)
        return;
    if (!to->export_name)
        to->export_name = g_strdup(to->name);
    if (!to->export_bitmap && to->incremental)
        to->export_bitmap = g_strconcat("backup-", to->name, NULL);
}

static gboolean add(XldrvBackup *b, const XmlconfDisk *disk, XmlconfBackupDisk *asked, GError **error)
{
    XmlconfBackupDisk *to = xmlconf_backup_add_disk(&b->plan, disk->target);

    if (asked)
        take(to, asked);
    complete(b, to);
    if (!xldrv_blockjob_check_possible(disk, error) || (!xldrv_backup_path(to) && !choose_path(b, disk, to, error)))
        return FALSE;
    to->type = g_strdup(to->dev || to->scratch_dev ? "block" : "file");
    return check_target(b, to, error);
}

/* No two disks have the same place, or the same name for clients. */
static gboolean check_distinct(const XldrvBackup *b, GError **error)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    for (guint i = 0; i < b->plan.disks->len; i++) {
        const XmlconfBackupDisk *to = b->plan.disks->pdata[i];

        if (!g_hash_table_add(seen, g_strconcat("path ", xldrv_backup_path(to), NULL)) ||
            (to->export_name && !g_hash_table_add(seen, g_strconcat("name ", to->export_name, NULL))))
            return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "the backup of disk '%s' has the place or name of another's",
                                   to->name);
    }
    return TRUE;
}

/* With no disks named all that can be written. */
static gboolean plan(XldrvBackup *b, XmlconfDomain *live, XmlconfBackup *asked, GError **error)
{
    const GPtrArray *disks = xmlconf_domain_config(live)->disks;
    g_autoptr(GPtrArray) wanted = g_steal_pointer(&asked->disks);

    b->plan = *asked;
    *asked = (XmlconfBackup){0};
    for (guint i = 0; wanted && i < wanted->len; i++) {
        XmlconfBackupDisk *one = wanted->pdata[i];
        const XmlconfDisk *disk = xldrv_find_disk(live, one->name, error);

        if (!disk || (!one->excluded && !add(b, disk, one, error)))
            return FALSE;
    }
    for (guint i = 0; !wanted && disks && i < disks->len; i++) {
        const XmlconfDisk *disk = disks->pdata[i];

        if (xmlconf_disk_source(disk) && !disk->readonly && !add(b, disk, NULL, error))
            return FALSE;
    }
    if (!b->plan.disks)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "no disks selected for backup");
    return check_distinct(b, error);
}

/* ---- beginning */

static gboolean begin(XldrvBackup *b, XmlconfBackup *asked, GError **error)
{
    XldrvJob *job = b->job;
    g_autoptr(XmlconfDomain) live = NULL;

    if (!job->instance || (job->state != VIR_DOMAIN_RUNNING && job->state != VIR_DOMAIN_PAUSED))
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    b->host = (XldrvDeviceHost){b->driver, job->instance, job->uuid_text, job->name};
    live = xmlconf_domain_ref(job->live);
    if (!xldrv_blockjob_check_domain(job, error) || !plan(b, live, asked, error) ||
        (b->checkpoint && !xldrv_checkpoint_plan(job, b->checkpoint, error)) || !xldrv_backup_run(b, error))
        return FALSE;
    job->backup_us = g_get_monotonic_time();
    job->backup_bytes = 0;
    xldrv_blockjobs_watch(b->driver, job);
    return TRUE;
}

GVariant *xldrv_handle_domain_backup_begin(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 3);
    const char *checkpoint = xldrv_args_optional_string(args, 2);
    g_auto(XmlconfBackup) asked = {0};
    g_auto(XldrvBackup) b = {.driver = xldrv_driver_get(), .reuse = (flags & VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL) != 0};
    g_autoptr(GError) why = NULL;
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;

    if (!xldrv_check_flags(flags, VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL, G_STRFUNC, error))
        return NULL;
    if (!xmlconf_backup_parse(&asked, xldrv_args_string(args, 1), &why)) {
        xldrv_set_xml_error(error, g_steal_pointer(&why));
        return NULL;
    }
    if (checkpoint && !(b.checkpoint = xldrv_checkpoint_parse(checkpoint, error)))
        return NULL;
    domain = xldrv_args_domain(args, error);
    b.job = job = domain ? xldrv_job_begin(domain, "back up", error) : NULL;
    return job && begin(&b, &asked, error) ? xldrv_reply_void() : NULL;
}

/* ---- one that is under way */

gboolean xldrv_backup_has(const XmlconfDisk *disk)
{
    return xldrv_blockjob_type(disk) == VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP;
}

static gboolean has_any(XmlconfDomain *live)
{
    const GPtrArray *disks = live ? xmlconf_domain_config(live)->disks : NULL;

    for (guint i = 0; disks && i < disks->len; i++) {
        if (xldrv_backup_has(disks->pdata[i]))
            return TRUE;
    }
    return FALSE;
}

/* The running document, with a backup of any disk; or NULL. */
static XmlconfDomain *find_backup(XldrvDomain *domain)
{
    g_autoptr(XmlconfDomain) live = xldrv_domain_get_config(domain, FALSE);

    return has_any(live) ? g_steal_pointer(&live) : NULL;
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

        if (!xldrv_backup_has(disks->pdata[i]) || !xldrv_blockjob_look(&host, disks->pdata[i], &state, NULL))
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
    g_auto(XldrvBackup) b = {0};
    gboolean begun;

    if (!live || !(job = xldrv_job_begin(domain, "end the backup of", error)) || !job->instance ||
        !xldrv_backup_load(&b, &begun, xldrv_driver_get(), job))
        return FALSE;
    return xldrv_backup_end(&b, FALSE, error);
}

void xldrv_backup_disk_ended(XldrvDriver *driver, XldrvJob *job, gboolean ok, guint64 bytes)
{
    g_auto(XldrvBackup) b = {0};
    gboolean begun, loaded = xldrv_backup_load(&b, &begun, driver, job);

    if (ok)
        job->backup_bytes += bytes;
    /* Nobody can read what only some disks still have of that moment. */
    if (loaded && b.plan.pull)
        xldrv_backup_end(&b, FALSE, NULL);
    if (has_any(job->live))
        return;
    if (loaded)
        xldrv_backup_forget(&b);
    if (ok)
        xldrv_longjob_backup_ended(driver, job, job->backup_bytes);
}

void xldrv_backup_recover(XldrvDriver *driver, XldrvJob *job)
{
    g_auto(XldrvBackup) b = {0};
    gboolean begun;

    if (!xldrv_backup_load(&b, &begun, driver, job))
        return;
    if (begun)
        xldrv_backup_end(&b, TRUE, NULL);
    else if (!has_any(job->live))
        xldrv_backup_forget(&b);
}

void xldrv_backup_clean_up(XldrvDriver *driver, XldrvJob *job)
{
    g_auto(XldrvBackup) b = {0};
    gboolean begun;

    if (xldrv_backup_load(&b, &begun, driver, job))
        xldrv_backup_forget(&b);
}

/* Those of its disks that are not in it, too, as libvirt has it. */
GVariant *xldrv_handle_domain_backup_get_xml_desc(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_auto(XmlconfBackup) backup = {0};
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfDomain) live = NULL;
    g_autofree char *document = NULL, *xml = NULL;
    const GPtrArray *disks;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error) || !(domain = xldrv_args_domain(args, error)))
        return NULL;
    live = find_backup(domain);
    document = live ? xldrv_backup_document(xldrv_driver_get(), domain->uuid_text) : NULL;
    if (!document || !xmlconf_backup_parse(&backup, document, NULL)) {
        xldrv_set_error(error, VIR_ERR_NO_DOMAIN_BACKUP, "no domain backup job present");
        return NULL;
    }
    disks = xmlconf_domain_config(live)->disks;
    for (guint i = 0; i < disks->len; i++) {
        const XmlconfDisk *disk = disks->pdata[i];
        gboolean there = FALSE;

        for (guint k = 0; k < backup.disks->len && !there; k++)
            there = strcmp(((const XmlconfBackupDisk *)backup.disks->pdata[k])->name, disk->target) == 0;
        if (!there)
            xmlconf_backup_add_disk(&backup, disk->target)->excluded = TRUE;
    }
    xml = xmlconf_backup_format(&backup);
    return xldrv_reply_string(xml);
}
