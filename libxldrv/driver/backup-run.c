/* Beginning and ending backups. */
#include "config.h"

#include "libxldrv/driver/backup.h"

#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/bitmaps.h"
#include "libxldrv/driver/checkpoint.h"
#include "libxldrv/driver/longjob.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/standstill.h"
#include "libxldrv/driver/storage.h"
#include "libxldrv/host/qemu-img.h"

void xldrv_backup_clear(XldrvBackup *backup)
{
    xmlconf_backup_clear(&backup->plan);
    g_clear_pointer(&backup->checkpoint, xmlconf_snapshot_unref);
}

const char *xldrv_backup_path(const XmlconfBackupDisk *to)
{
    return to->file ? to->file : to->dev ? to->dev : to->scratch_file ? to->scratch_file : to->scratch_dev;
}

static gboolean is_device(const XmlconfBackupDisk *to)
{
    return to->dev || to->scratch_dev;
}

/* ---- step by step */

typedef gboolean (*StepFn)(XldrvBackup *b, const XmlconfBackupDisk *to, const XmlconfDisk *disk, GError **error);

/* Of each disk, as it is in the running document now, until one fails. *@done: how many (or NULL). */
static gboolean for_each(XldrvBackup *b, guint *done, StepFn fn, GError **error)
{
    guint i = 0;
    gboolean ok = TRUE;

    for (; ok && i < b->plan.disks->len; i += ok) {
        const XmlconfBackupDisk *to = b->plan.disks->pdata[i];
        g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(b->job->live);
        const XmlconfDisk *disk = xldrv_find_disk(live, to->name, error);

        ok = disk && fn(b, to, disk, error);
    }
    if (done)
        *done = i;
    return ok;
}

static gboolean make(XldrvBackup *b, const XmlconfBackupDisk *to, const XmlconfDisk *disk, GError **error)
{
    g_autofree char *size = NULL;
    g_autoptr(GError) why = NULL;
    XldrvImageInfo info;

    if (b->reuse || (is_device(to) && strcmp(to->format, "raw") == 0))
        return TRUE;
    if (!xldrv_disk_measure(b->host.instance, disk, &info, error))
        return FALSE;
    size = g_strdup_printf("%" G_GUINT64_FORMAT, info.capacity);
    const char *argv[] = {"create", "-q", "-f", to->format, xldrv_backup_path(to), size, NULL};
    return xldrv_qemu_img(argv, NULL, &why) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot create backup '%s' of disk '%s': %s", xldrv_backup_path(to),
                           to->name, why->message);
}

static gboolean open_target(XldrvBackup *b, const XmlconfBackupDisk *to, const XmlconfDisk *disk, GError **error)
{
    g_autofree char *command = xldrv_blockjob_target_command(disk, is_device(to), xldrv_backup_path(to), to->format,
                                                             b->plan.pull ? XLDRV_STORAGE_NODE : NULL);

    return xldrv_blockjob_route(b->driver, b->job, to->name, error) &&
           xldrv_blockjob_command(&b->host, b->job, to->name, command, error);
}

/* What was written since the checkpoint that the disk's is to be since. */
static gboolean mark_written(XldrvBackup *b, const XmlconfBackupDisk *to, const XmlconfDisk *disk, GError **error)
{
    g_autoptr(XmlconfSnapshot) since = NULL;
    const char *target, *bitmap;

    if (!to->incremental)
        return TRUE;
    since = xldrv_moments_find(XLDRV_CHECKPOINTS, b->job, to->incremental, NULL);
    for (guint at = 0; since && (target = xldrv_checkpoint_next(since, &at, &bitmap));) {
        if (strcmp(target, to->name) == 0)
            return xldrv_bitmap_merge(&b->host, disk, bitmap, XLDRV_BLOCKJOB_BITMAP, error);
    }
    return xldrv_set_error(error, since ? VIR_ERR_CHECKPOINT_INCONSISTENT : VIR_ERR_INVALID_ARG,
                           since ? "disk '%s' is not in checkpoint '%s'"
                                 : "for the backup of disk '%s' there is no checkpoint '%s'",
                           to->name, to->incremental);
}

static const char *sync_of(const XldrvBackup *b, const XmlconfBackupDisk *to)
{
    if (b->plan.pull)
        return "\"none\"";
    return to->incremental ? "\"incremental\", \"bitmap\": \"" XLDRV_BLOCKJOB_BITMAP "\"" : "\"full\"";
}

static gboolean start_job(XldrvBackup *b, const XmlconfBackupDisk *to, const XmlconfDisk *disk, GError **error)
{
    const XldrvBlockJobMark none = {.target = to->name, .routed = disk->routed};
    const XldrvBlockJobMark mark = {.target = to->name, .kind = XLDRV_BLOCKJOB_BACKUP, .routed = disk->routed};
    g_autofree char *command =
        g_strdup_printf("{\"execute\": \"blockdev-backup\", \"arguments\": {\"job-id\": \"job\", \"device\": "
                        "\"" XLDRV_STORAGE_NODE "\", \"target\": \"" XLDRV_BLOCKJOB_NODE "\", \"sync\": %s, "
                        "\"auto-dismiss\": false}}",
                        sync_of(b, to));

    if (!xldrv_blockjob_mark(b->driver, b->job, &mark, error))
        return FALSE;
    if (xldrv_blockjob_command(&b->host, b->job, to->name, command, error))
        return TRUE;
    xldrv_blockjob_mark(b->driver, b->job, &none, NULL);
    return FALSE;
}

/* ---- the moment */

static void gather(const XldrvBackup *b, XldrvStandstill *standstill)
{
    const char *target;

    for (guint i = 0; i < b->plan.disks->len; i++)
        xldrv_standstill_add(standstill, ((const XmlconfBackupDisk *)b->plan.disks->pdata[i])->name);
    for (guint at = 0; b->checkpoint && (target = xldrv_checkpoint_next(b->checkpoint, &at, NULL));)
        xldrv_standstill_add(standstill, target);
}

/* While the guest's requests wait. */
static gboolean begin_all(XldrvBackup *b, gboolean *took, GError **error)
{
    if (!for_each(b, NULL, mark_written, error))
        return FALSE;
    *took = b->checkpoint && xldrv_checkpoint_take(b->driver, b->job, b->checkpoint, error);
    return (*took || !b->checkpoint) && for_each(b, NULL, start_job, error);
}

static gboolean begin_at_once(XldrvBackup *b, gboolean *took, GError **error)
{
    g_auto(XldrvStandstill) standstill = {0};
    gboolean ok;

    xldrv_standstill_init(&standstill, b->driver, b->job);
    gather(b, &standstill);
    if (!xldrv_standstill_begin(&standstill, error))
        return FALSE;
    ok = begin_all(b, took, error);
    return xldrv_standstill_end(&standstill, ok ? error : NULL) && ok;
}

/* ---- from the beginning to the end */

gboolean xldrv_backup_run(XldrvBackup *b, GError **error)
{
    gboolean took = FALSE;
    gboolean ok = xldrv_backup_save(b, TRUE, error) && for_each(b, &b->made, make, error) &&
                  for_each(b, NULL, open_target, error) && begin_at_once(b, &took, error) &&
                  (!b->plan.pull || xldrv_backup_serve(b, error)) &&
                  (!took || xldrv_checkpoint_keep(b->driver, b->job, b->checkpoint, error)) && xldrv_backup_save(b, FALSE, error);

    if (ok)
        return TRUE;
    if (took)
        xldrv_checkpoint_drop(b->driver, b->job, b->checkpoint);
    xldrv_backup_end(b, TRUE, NULL);
    return FALSE;
}

static gboolean end_disk(XldrvBackup *b, const XmlconfBackupDisk *to, const XmlconfDisk *disk, GError **error)
{
    if (!xmlconf_disk_is_served(disk))
        return TRUE;
    if (b->plan.pull)
        xldrv_backup_unexport(&b->host, disk);
    if (xldrv_backup_has(disk))
        return xldrv_blockjob_cancel(b->driver, b->job, to->name, error);
    xldrv_blockjob_command(&b->host, b->job, to->name, XLDRV_BLOCKJOB_CLOSE_TARGET, NULL);
    xldrv_bitmap_remove(&b->host, disk, XLDRV_BLOCKJOB_BITMAP, NULL);
    xldrv_blockjob_unroute(b->driver, b->job, to->name);
    return TRUE;
}

gboolean xldrv_backup_end(XldrvBackup *b, gboolean undo, GError **error)
{
    if (b->plan.pull)
        xldrv_backup_server_close(b->driver, b->job->uuid_text);
    for (guint i = 0; i < b->plan.disks->len; i++) {
        const XmlconfBackupDisk *to = b->plan.disks->pdata[i];
        g_autoptr(XmlconfDomain) live = xmlconf_domain_ref(b->job->live);
        const XmlconfDisk *disk = xldrv_find_disk(live, to->name, NULL);

        if (disk && !end_disk(b, to, disk, error))
            return FALSE;
        if (undo && i < b->made && !b->reuse && to->file)
            unlink(to->file);
    }
    xldrv_backup_forget(b);
    return TRUE;
}
