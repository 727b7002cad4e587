/* What is known of domains' snapshots. */
#include "config.h"

#include "libxldrv/driver/snapshots.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/driver/wire.h"
#include "libxldrv/state/files.h"

#define DOCUMENT     ".xml"
#define MEMORY       ".mem"
#define CURRENT      "current"
#define DOCUMENT_MAX (16u << 20)
#define NAME_MAX_BYTES 200

static char *folder_of(const XldrvDriver *driver, const XldrvDomain *domain)
{
    return g_build_filename(driver->paths->state_dir, "snapshot", domain->uuid_text, NULL);
}

static char *path_of(const XldrvDriver *driver, const XldrvDomain *domain, const char *name, const char *suffix,
                     GError **error)
{
    g_autofree char *folder = folder_of(driver, domain);

    return xldrv_file_path(folder, name, suffix, error);
}

char *xldrv_snapshots_memory_path(const XldrvDriver *driver, const XldrvDomain *domain, const char *name)
{
    return path_of(driver, domain, name, MEMORY, NULL);
}

gboolean xldrv_snapshots_make_folder(const XldrvDriver *driver, const XldrvDomain *domain, GError **error)
{
    g_autofree char *folder = folder_of(driver, domain);

    return g_mkdir_with_parents(folder, 0700) == 0 || xldrv_set_system_error(error, errno, "cannot make '%s'", folder);
}

gboolean xldrv_snapshots_check_name(const char *name, GError **error)
{
    if (*name && *name != '.' && !strchr(name, '/') && !strchr(name, '\n') && strlen(name) <= NAME_MAX_BYTES)
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_XML_DETAIL,
                           "invalid snapshot name '%.300s': it is empty, begins with '.', is longer than %d bytes, or has a '/' "
                           "or a line end",
                           name, NAME_MAX_BYTES);
}

/* ---- looking */

static gint compare_ages(gconstpointer a, gconstpointer b)
{
    const XmlconfSnapshot *left = *(XmlconfSnapshot *const *)a, *right = *(XmlconfSnapshot *const *)b;

    if (left->creation_time != right->creation_time)
        return left->creation_time < right->creation_time ? -1 : 1;
    return strcmp(left->name, right->name);
}

GPtrArray *xldrv_snapshots_list(XldrvDomain *domain)
{
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)xmlconf_snapshot_unref);

    g_mutex_lock(&domain->lock);
    for (guint i = 0; i < domain->snapshots->len; i++)
        g_ptr_array_add(list, xmlconf_snapshot_ref(domain->snapshots->pdata[i]));
    g_mutex_unlock(&domain->lock);
    g_ptr_array_sort(list, compare_ages);
    return list;
}

guint xldrv_snapshots_count(XldrvDomain *domain)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    return domain->snapshots->len;
}

static int index_of(const GPtrArray *snapshots, const char *name)
{
    for (guint i = 0; i < snapshots->len; i++) {
        const XmlconfSnapshot *snapshot = snapshots->pdata[i];

        if (strcmp(snapshot->name, name) == 0)
            return (int)i;
    }
    return -1;
}

XmlconfSnapshot *xldrv_snapshots_find(XldrvDomain *domain, const char *name, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);
    int index = index_of(domain->snapshots, name);

    if (index >= 0)
        return xmlconf_snapshot_ref(domain->snapshots->pdata[index]);
    xldrv_set_error(error, VIR_ERR_NO_DOMAIN_SNAPSHOT, "no domain snapshot with matching name '%s'", name);
    return NULL;
}

char *xldrv_snapshots_current(XldrvDomain *domain)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    return g_strdup(domain->current_snapshot);
}

guint xldrv_snapshots_children(const GPtrArray *all, const char *name)
{
    guint n = 0;

    for (guint i = 0; i < all->len; i++)
        n += g_strcmp0(((const XmlconfSnapshot *)all->pdata[i])->parent, name) == 0;
    return n;
}

gboolean xldrv_snapshots_descends(const GPtrArray *all, const XmlconfSnapshot *snapshot, const char *ancestor)
{
    /* No more steps than there are snapshots: files that somebody edited may go round in circles. */
    for (guint steps = 0; snapshot->parent && steps < all->len; steps++) {
        int index = index_of(all, snapshot->parent);

        if (strcmp(snapshot->parent, ancestor) == 0)
            return TRUE;
        if (index < 0)
            return FALSE;
        snapshot = all->pdata[index];
    }
    return FALSE;
}

/* ---- changing */

static gboolean save(const XldrvDriver *driver, const XldrvDomain *domain, XmlconfSnapshot *snapshot, GError **error)
{
    g_autofree char *path = path_of(driver, domain, snapshot->name, DOCUMENT, error);
    g_autoptr(GError) why = NULL;
    g_autofree char *xml = path ? xmlconf_snapshot_format(snapshot, XMLCONF_FORMAT_SECURE, &why) : NULL;

    if (why)
        return xldrv_set_xml_error(error, g_steal_pointer(&why));
    return xml && xldrv_snapshots_make_folder(driver, domain, error) && xldrv_file_replace(path, xml, error);
}

static void put(XldrvDomain *domain, XmlconfSnapshot *snapshot)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);
    int index = index_of(domain->snapshots, snapshot->name);

    if (index >= 0)
        g_ptr_array_remove_index(domain->snapshots, (guint)index);
    g_ptr_array_add(domain->snapshots, xmlconf_snapshot_ref(snapshot));
}

gboolean xldrv_snapshots_put(XldrvDriver *driver, XldrvJob *job, XmlconfSnapshot *snapshot, GError **error)
{
    if (!save(driver, job, snapshot, error))
        return FALSE;
    put(job, snapshot);
    return TRUE;
}

static void set_current(XldrvDomain *domain, const char *name)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    g_free(domain->current_snapshot);
    domain->current_snapshot = g_strdup(name);
}

gboolean xldrv_snapshots_set_current(XldrvDriver *driver, XldrvJob *job, const char *name, GError **error)
{
    g_autofree char *path = path_of(driver, job, CURRENT, "", error);

    if (!path || (name ? !xldrv_file_replace(path, name, error) : !xldrv_file_remove(path, error)))
        return FALSE;
    set_current(job, name);
    return TRUE;
}

/* Children first: a daemon that is killed in between leaves a snapshot that can be removed again. */
static gboolean adopt_children(XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *gone, GError **error)
{
    g_autoptr(GPtrArray) all = xldrv_snapshots_list(job);

    for (guint i = 0; i < all->len; i++) {
        XmlconfSnapshot *snapshot = all->pdata[i];
        g_autoptr(XmlconfSnapshot) copy = NULL;

        if (g_strcmp0(snapshot->parent, gone->name) != 0)
            continue;
        copy = xmlconf_snapshot_copy(snapshot);
        g_free(copy->parent);
        copy->parent = g_strdup(gone->parent);
        if (!xldrv_snapshots_put(driver, job, copy, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean remove_files(XldrvDriver *driver, XldrvDomain *domain, const char *name, GError **error)
{
    g_autofree char *document = path_of(driver, domain, name, DOCUMENT, error);
    g_autofree char *memory = path_of(driver, domain, name, MEMORY, NULL);

    return document && xldrv_file_remove(document, error) && (!memory || xldrv_file_remove(memory, error));
}

gboolean xldrv_snapshots_remove(XldrvDriver *driver, XldrvJob *job, const char *name, GError **error)
{
    g_autoptr(XmlconfSnapshot) gone = xldrv_snapshots_find(job, name, error);
    g_autofree char *current = xldrv_snapshots_current(job);

    if (!gone || !adopt_children(driver, job, gone, error) ||
        (g_strcmp0(current, gone->name) == 0 && !xldrv_snapshots_set_current(driver, job, gone->parent, error)) ||
        !remove_files(driver, job, gone->name, error))
        return FALSE;
    g_mutex_lock(&job->lock);
    g_ptr_array_remove_index(job->snapshots, (guint)index_of(job->snapshots, gone->name));
    g_mutex_unlock(&job->lock);
    return TRUE;
}

void xldrv_snapshots_forget(XldrvDriver *driver, XldrvDomain *domain)
{
    g_autoptr(GPtrArray) all = xldrv_snapshots_list(domain);
    g_autofree char *folder = folder_of(driver, domain);
    g_autofree char *current = g_build_filename(folder, CURRENT, NULL);
    g_autoptr(GError) why = NULL;

    for (guint i = 0; i < all->len && !why; i++)
        remove_files(driver, domain, ((XmlconfSnapshot *)all->pdata[i])->name, &why);
    if (why)
        g_warning("%s", why->message);
    unlink(current);
    rmdir(folder);
    set_current(domain, NULL);
    g_mutex_lock(&domain->lock);
    g_ptr_array_set_size(domain->snapshots, 0);
    g_mutex_unlock(&domain->lock);
}

/* ---- from disk */

static void load_one(const char *path, const char *stem, gpointer domain)
{
    g_autoptr(GError) why = NULL;
    g_autofree char *xml = xldrv_file_read(path, DOCUMENT_MAX, &why);
    g_autoptr(XmlconfSnapshot) snapshot = xml ? xmlconf_snapshot_parse(xml, 0, &why) : NULL;

    if (!snapshot)
        g_warning("ignoring snapshot '%s': %s", path, why->message);
    else if (g_strcmp0(snapshot->name, stem) != 0)
        g_warning("ignoring snapshot '%s': it is of another name", path);
    else
        put(domain, snapshot);
}

void xldrv_snapshots_load(XldrvDriver *driver, XldrvDomain *domain)
{
    g_autofree char *folder = folder_of(driver, domain);
    g_autofree char *path = g_build_filename(folder, CURRENT, NULL);
    g_autofree char *name = g_file_test(path, G_FILE_TEST_EXISTS) ? xldrv_file_read(path, NAME_MAX_BYTES, NULL) : NULL;

    xldrv_file_each(folder, DOCUMENT, load_one, domain);
    if (name && index_of(domain->snapshots, name) >= 0)
        set_current(domain, name);
}
