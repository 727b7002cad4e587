/* The file that has the document of a backup: a line of what else is to be known of it, then XML. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/backup.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/state/files.h"

#define SUFFIX       ".backup"
#define BITMAP       ".bitmap"
#define DOCUMENT_MAX (16u << 20)
#define BEGUN        "begun"
#define REUSE        "reuse"

static char *path_of(const XldrvDriver *driver, const char *uuid)
{
    g_autofree char *name = g_strconcat(uuid, SUFFIX, NULL);

    return xldrv_run_path(driver, name);
}

char *xldrv_backup_bitmap_path(const XldrvDriver *driver, const char *uuid, const char *target)
{
    g_autofree char *name = g_strconcat(uuid, ".", target, BITMAP, NULL);

    return xldrv_run_path(driver, name);
}

gboolean xldrv_backup_save(const XldrvBackup *backup, gboolean begun, GError **error)
{
    g_autofree char *path = path_of(backup->driver, backup->job->uuid_text);
    g_autofree char *xml = xmlconf_backup_format(&backup->plan);
    g_autofree char *text =
        g_strdup_printf("%s %s\n%s", begun ? BEGUN : "", backup->reuse ? REUSE : "", xml);

    return xldrv_file_replace_volatile(path, text, error);
}

char *xldrv_backup_document(const XldrvDriver *driver, const char *uuid)
{
    g_autofree char *path = path_of(driver, uuid);
    g_autofree char *text = g_file_test(path, G_FILE_TEST_EXISTS) ? xldrv_file_read(path, DOCUMENT_MAX, NULL) : NULL;
    const char *end = text ? strchr(text, '\n') : NULL;

    return end ? g_strdup(end + 1) : NULL;
}

gboolean xldrv_backup_load(XldrvBackup *backup, gboolean *begun, XldrvDriver *driver, XldrvJob *job)
{
    g_autofree char *path = path_of(driver, job->uuid_text);
    g_autofree char *text = g_file_test(path, G_FILE_TEST_EXISTS) ? xldrv_file_read(path, DOCUMENT_MAX, NULL) : NULL;
    char *end = text ? strchr(text, '\n') : NULL;
    g_autoptr(GError) why = NULL;

    if (!end)
        return FALSE;
    *end = '\0';
    *begun = strstr(text, BEGUN) != NULL;
    *backup = (XldrvBackup){.driver = driver, .job = job, .reuse = strstr(text, REUSE) != NULL};
    backup->host = (XldrvDeviceHost){driver, job->instance, job->uuid_text, job->name};
    if (xmlconf_backup_parse(&backup->plan, end + 1, &why) && backup->plan.disks) {
        backup->made = backup->plan.disks->len;
        return TRUE;
    }
    g_warning("ignoring '%s': %s", path, why ? why->message : "it has no disks");
    xldrv_backup_clear(backup);
    return FALSE;
}

void xldrv_backup_forget(const XldrvBackup *backup)
{
    const XmlconfBackup *plan = &backup->plan;
    g_autofree char *path = path_of(backup->driver, backup->job->uuid_text);

    for (guint i = 0; plan->pull && plan->disks && i < plan->disks->len; i++) {
        const XmlconfBackupDisk *to = plan->disks->pdata[i];
        g_autofree char *bitmap = xldrv_backup_bitmap_path(backup->driver, backup->job->uuid_text, to->name);

        unlink(bitmap);
        if (!backup->reuse && to->scratch_file)
            unlink(to->scratch_file);
    }
    if (plan->pull && plan->server.socket)
        unlink(plan->server.socket);
    unlink(path);
}
