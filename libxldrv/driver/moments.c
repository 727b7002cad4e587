/* What is known of domains' snapshots and checkpoints. */
#include "config.h"

#include "libxldrv/driver/moments.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/driver/wire.h"
#include "libxldrv/state/files.h"

#define DOCUMENT     ".xml"
#define MEMORY       ".mem"
#define CURRENT      "current"
#define PENDING      "pending"
#define DOCUMENT_MAX (16u << 20)
#define NAME_MAX_BYTES 200

static const struct {
    const char *noun; /* and the folder's name */
    int not_found;
    XmlconfSnapshot *(*parse)(const char *xml, XmlconfParseFlags flags, GError **error);
} kinds[XLDRV_N_MOMENTS] = {
    [XLDRV_SNAPSHOTS] = {"snapshot", VIR_ERR_NO_DOMAIN_SNAPSHOT, xmlconf_snapshot_parse},
    [XLDRV_CHECKPOINTS] = {"checkpoint", VIR_ERR_NO_DOMAIN_CHECKPOINT, xmlconf_checkpoint_parse},
};

static char *folder_of(XldrvMomentKind kind, const XldrvDriver *driver, const XldrvDomain *domain)
{
    return g_build_filename(driver->paths->state_dir, kinds[kind].noun, domain->uuid_text, NULL);
}

static char *path_of(XldrvMomentKind kind, const XldrvDriver *driver, const XldrvDomain *domain, const char *name,
                     const char *suffix, GError **error)
{
    g_autofree char *folder = folder_of(kind, driver, domain);

    return xldrv_file_path(folder, name, suffix, error);
}

char *xldrv_snapshots_memory_path(const XldrvDriver *driver, const XldrvDomain *domain, const char *name)
{
    return path_of(XLDRV_SNAPSHOTS, driver, domain, name, MEMORY, NULL);
}

gboolean xldrv_moments_make_folder(XldrvMomentKind kind, const XldrvDriver *driver, const XldrvDomain *domain, GError **error)
{
    g_autofree char *folder = folder_of(kind, driver, domain);

    return g_mkdir_with_parents(folder, 0700) == 0 || xldrv_set_system_error(error, errno, "cannot make '%s'", folder);
}

gboolean xldrv_moments_check_name(XldrvMomentKind kind, const char *name, GError **error)
{
    if (*name && *name != '.' && !strchr(name, '/') && !strchr(name, '\n') && strlen(name) <= NAME_MAX_BYTES)
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_XML_DETAIL,
                           "invalid %s name '%.300s': it is empty, begins with '.', is longer than %d bytes, or has a '/' "
                           "or a line end",
                           kinds[kind].noun, name, NAME_MAX_BYTES);
}

/* ---- looking */

static gint compare_ages(gconstpointer a, gconstpointer b)
{
    const XmlconfSnapshot *left = *(XmlconfSnapshot *const *)a, *right = *(XmlconfSnapshot *const *)b;

    if (left->creation_time != right->creation_time)
        return left->creation_time < right->creation_time ? -1 : 1;
    return strcmp(left->name, right->name);
}

GPtrArray *xldrv_moments_list(XldrvMomentKind kind, XldrvDomain *domain)
{
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)xmlconf_snapshot_unref);
    const GPtrArray *known;

    g_mutex_lock(&domain->lock);
    known = domain->moments[kind].list;
    for (guint i = 0; i < known->len; i++)
        g_ptr_array_add(list, xmlconf_snapshot_ref(known->pdata[i]));
    g_mutex_unlock(&domain->lock);
    g_ptr_array_sort(list, compare_ages);
    return list;
}

guint xldrv_moments_count(XldrvMomentKind kind, XldrvDomain *domain)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    return domain->moments[kind].list->len;
}

static int index_of(const GPtrArray *moments, const char *name)
{
    for (guint i = 0; i < moments->len; i++) {
        const XmlconfSnapshot *moment = moments->pdata[i];

        if (strcmp(moment->name, name) == 0)
            return (int)i;
    }
    return -1;
}

XmlconfSnapshot *xldrv_moments_find(XldrvMomentKind kind, XldrvDomain *domain, const char *name, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);
    int index = index_of(domain->moments[kind].list, name);

    if (index >= 0)
        return xmlconf_snapshot_ref(domain->moments[kind].list->pdata[index]);
    xldrv_set_error(error, kinds[kind].not_found, "no domain %s with matching name '%s'", kinds[kind].noun, name);
    return NULL;
}

gboolean xldrv_moments_check_free(XldrvMomentKind kind, XldrvDomain *domain, const char *name, GError **error)
{
    g_autoptr(XmlconfSnapshot) other = xldrv_moments_find(kind, domain, name, NULL);

    return !other ||
           xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain %s %s already exists", kinds[kind].noun, name);
}

char *xldrv_moments_current(XldrvMomentKind kind, XldrvDomain *domain)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    return g_strdup(domain->moments[kind].current);
}

guint xldrv_moments_children(const GPtrArray *all, const char *name)
{
    guint n = 0;

    for (guint i = 0; i < all->len; i++)
        n += g_strcmp0(((const XmlconfSnapshot *)all->pdata[i])->parent, name) == 0;
    return n;
}

gboolean xldrv_moments_descends(const GPtrArray *all, const XmlconfSnapshot *moment, const char *ancestor)
{
    /* No more steps than there are moments: files that somebody edited may go round in circles. */
    for (guint steps = 0; moment->parent && steps < all->len; steps++) {
        int index = index_of(all, moment->parent);

        if (strcmp(moment->parent, ancestor) == 0)
            return TRUE;
        if (index < 0)
            return FALSE;
        moment = all->pdata[index];
    }
    return FALSE;
}

static guint depth_of(const GPtrArray *all, const XmlconfSnapshot *moment)
{
    guint n = 0;

    for (guint i = 0; i < all->len; i++)
        n += xldrv_moments_descends(all, moment, ((const XmlconfSnapshot *)all->pdata[i])->name);
    return n;
}

static gint compare_depths(gconstpointer a, gconstpointer b, gpointer all)
{
    guint left = depth_of(all, *(XmlconfSnapshot *const *)a), right = depth_of(all, *(XmlconfSnapshot *const *)b);

    return left < right ? -1 : left > right;
}

static gint compare_heights(gconstpointer a, gconstpointer b, gpointer all)
{
    return compare_depths(b, a, all);
}

void xldrv_moments_sort(GPtrArray *some, GPtrArray *all, gboolean reverse)
{
    g_ptr_array_sort_with_data(some, reverse ? compare_heights : compare_depths, all);
}

/* ---- redefining */

gboolean xldrv_moments_check_domain(XldrvMomentKind kind, const XldrvDomain *domain, XmlconfDomain *config, GError **error)
{
    const char *uuid = config ? xmlconf_domain_config(config)->uuid : domain->uuid_text;

    return strcmp(uuid, domain->uuid_text) == 0 ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG, "definition for %s must use uuid %s, not %s", kinds[kind].noun,
                           domain->uuid_text, uuid);
}

gboolean xldrv_moments_check_parent(XldrvMomentKind kind, XldrvDomain *domain, const XmlconfSnapshot *moment, GError **error)
{
    g_autoptr(GPtrArray) all = xldrv_moments_list(kind, domain);
    g_autoptr(XmlconfSnapshot) parent = NULL;
    const char *noun = kinds[kind].noun;

    if (!moment->parent)
        return TRUE;
    if (strcmp(moment->parent, moment->name) == 0)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "cannot set %s %s as its own parent", noun, moment->name);
    parent = xldrv_moments_find(kind, domain, moment->parent, NULL);
    if (!parent)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parent %s for %s %s not found", moment->parent, noun, moment->name);
    return !xldrv_moments_descends(all, parent, moment->name) ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG, "parent %s would create cycle to %s", moment->parent, moment->name);
}

/* ---- changing */

static gboolean save(XldrvMomentKind kind, const XldrvDriver *driver, const XldrvDomain *domain, XmlconfSnapshot *moment,
                     GError **error)
{
    g_autofree char *path = path_of(kind, driver, domain, moment->name, DOCUMENT, error);
    g_autoptr(GError) why = NULL;
    g_autofree char *xml = path ? xmlconf_snapshot_format(moment, XMLCONF_FORMAT_SECURE, &why) : NULL;

    if (why)
        return xldrv_set_xml_error(error, g_steal_pointer(&why));
    return xml && xldrv_moments_make_folder(kind, driver, domain, error) && xldrv_file_replace(path, xml, error);
}

static void put(XldrvMomentKind kind, XldrvDomain *domain, XmlconfSnapshot *moment)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);
    GPtrArray *list = domain->moments[kind].list;
    int index = index_of(list, moment->name);

    if (index >= 0)
        g_ptr_array_remove_index(list, (guint)index);
    g_ptr_array_add(list, xmlconf_snapshot_ref(moment));
}

gboolean xldrv_moments_put(XldrvMomentKind kind, XldrvDriver *driver, XldrvJob *job, XmlconfSnapshot *moment, GError **error)
{
    if (!save(kind, driver, job, moment, error))
        return FALSE;
    put(kind, job, moment);
    return TRUE;
}

static void set_current(XldrvMomentKind kind, XldrvDomain *domain, const char *name)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    g_free(domain->moments[kind].current);
    domain->moments[kind].current = g_strdup(name);
}

/* The file @which of the folder says @text, or (NULL) is not there. */
static gboolean write_text(XldrvMomentKind kind, XldrvDriver *driver, XldrvJob *job, const char *which, const char *text,
                           GError **error)
{
    g_autofree char *path = path_of(kind, driver, job, which, "", error);

    return path && (!text || xldrv_moments_make_folder(kind, driver, job, error)) &&
           (text ? xldrv_file_replace(path, text, error) : xldrv_file_remove(path, error));
}

static char *read_text(XldrvMomentKind kind, const XldrvDriver *driver, const XldrvDomain *domain, const char *which, gsize max)
{
    g_autofree char *path = path_of(kind, driver, domain, which, "", NULL);

    return path && g_file_test(path, G_FILE_TEST_EXISTS) ? xldrv_file_read(path, max, NULL) : NULL;
}

gboolean xldrv_moments_set_current(XldrvMomentKind kind, XldrvDriver *driver, XldrvJob *job, const char *name, GError **error)
{
    if (!write_text(kind, driver, job, CURRENT, name, error))
        return FALSE;
    set_current(kind, job, name);
    return TRUE;
}

gboolean xldrv_moments_set_pending(XldrvMomentKind kind, XldrvDriver *driver, XldrvJob *job, const char *text, GError **error)
{
    return write_text(kind, driver, job, PENDING, text, error);
}

char *xldrv_moments_pending(XldrvMomentKind kind, const XldrvDriver *driver, const XldrvDomain *domain)
{
    return read_text(kind, driver, domain, PENDING, DOCUMENT_MAX);
}

/* Children first: a daemon that is killed in between leaves one that can be removed again. */
static gboolean adopt_children(XldrvMomentKind kind, XldrvDriver *driver, XldrvJob *job, const XmlconfSnapshot *gone,
                               GError **error)
{
    g_autoptr(GPtrArray) all = xldrv_moments_list(kind, job);

    for (guint i = 0; i < all->len; i++) {
        XmlconfSnapshot *moment = all->pdata[i];
        g_autoptr(XmlconfSnapshot) copy = NULL;

        if (g_strcmp0(moment->parent, gone->name) != 0)
            continue;
        copy = xmlconf_snapshot_copy(moment);
        g_free(copy->parent);
        copy->parent = g_strdup(gone->parent);
        if (!xldrv_moments_put(kind, driver, job, copy, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean remove_files(XldrvMomentKind kind, XldrvDriver *driver, XldrvDomain *domain, const char *name, GError **error)
{
    static const char *const suffixes[] = {DOCUMENT, MEMORY};

    for (gsize i = 0; i < G_N_ELEMENTS(suffixes); i++) {
        g_autofree char *path = path_of(kind, driver, domain, name, suffixes[i], error);

        if (!path || !xldrv_file_remove(path, error))
            return FALSE;
    }
    return TRUE;
}

gboolean xldrv_moments_remove(XldrvMomentKind kind, XldrvDriver *driver, XldrvJob *job, const char *name, GError **error)
{
    g_autoptr(XmlconfSnapshot) gone = xldrv_moments_find(kind, job, name, error);
    g_autofree char *current = xldrv_moments_current(kind, job);
    GPtrArray *list = job->moments[kind].list;

    if (!gone || !adopt_children(kind, driver, job, gone, error) ||
        (g_strcmp0(current, gone->name) == 0 && !xldrv_moments_set_current(kind, driver, job, gone->parent, error)) ||
        !remove_files(kind, driver, job, gone->name, error))
        return FALSE;
    g_mutex_lock(&job->lock);
    g_ptr_array_remove_index(list, (guint)index_of(list, gone->name));
    g_mutex_unlock(&job->lock);
    return TRUE;
}

static void forget(XldrvMomentKind kind, XldrvDriver *driver, XldrvDomain *domain)
{
    static const char *const names[] = {CURRENT, PENDING};
    g_autoptr(GPtrArray) all = xldrv_moments_list(kind, domain);
    g_autofree char *folder = folder_of(kind, driver, domain);
    g_autoptr(GError) why = NULL;

    for (guint i = 0; i < all->len && !why; i++)
        remove_files(kind, driver, domain, ((XmlconfSnapshot *)all->pdata[i])->name, &why);
    if (why)
        g_warning("%s", why->message);
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(folder, names[i], NULL);

        unlink(path);
    }
    rmdir(folder);
    set_current(kind, domain, NULL);
    g_mutex_lock(&domain->lock);
    g_ptr_array_set_size(domain->moments[kind].list, 0);
    g_mutex_unlock(&domain->lock);
}

void xldrv_moments_forget(XldrvDriver *driver, XldrvDomain *domain)
{
    for (XldrvMomentKind kind = 0; kind < XLDRV_N_MOMENTS; kind++)
        forget(kind, driver, domain);
}

/* ---- from disk */

typedef struct {
    XldrvMomentKind kind;
    XldrvDomain *domain;
} Load;

static void load_one(const char *path, const char *stem, gpointer data)
{
    const Load *load = data;
    const char *noun = kinds[load->kind].noun;
    g_autoptr(GError) why = NULL;
    g_autofree char *xml = xldrv_file_read(path, DOCUMENT_MAX, &why);
    g_autoptr(XmlconfSnapshot) moment = xml ? kinds[load->kind].parse(xml, 0, &why) : NULL;

    if (!moment)
        g_warning("ignoring %s '%s': %s", noun, path, why->message);
    else if (g_strcmp0(moment->name, stem) != 0)
        g_warning("ignoring %s '%s': it is of another name", noun, path);
    else
        put(load->kind, load->domain, moment);
}

void xldrv_moments_load(XldrvDriver *driver, XldrvDomain *domain)
{
    for (XldrvMomentKind kind = 0; kind < XLDRV_N_MOMENTS; kind++) {
        Load load = {kind, domain};
        g_autofree char *folder = folder_of(kind, driver, domain);
        g_autofree char *name = read_text(kind, driver, domain, CURRENT, NAME_MAX_BYTES);

        xldrv_file_each(folder, DOCUMENT, load_one, &load);
        if (name && index_of(domain->moments[kind].list, name) >= 0)
            set_current(kind, domain, name);
    }
}
