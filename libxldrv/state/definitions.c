/* Definitions: etc/domus/xen/NAME.xml, and links to them in autostart/. */
#include "config.h"

#include "libxldrv/state/definitions.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"
#include "libxldrv/state/files.h"

#define SUFFIX         ".xml"
#define DEFINITION_MAX (16u << 20) /* far above what libvirt lets through in one message string */

/* The definition @domain in the file of @name, which is its own but for a moment when it is renamed. */
static gboolean save_as(const XldrvPaths *paths, const char *name, XmlconfDomain *domain, GError **error)
{
    g_autofree char *path = xldrv_file_path(paths->define_dir, name, SUFFIX, error);
    g_autofree char *xml = NULL;
    g_autoptr(GError) why = NULL;

    if (!path)
        return FALSE;
    xml = xmlconf_domain_format(domain, XMLCONF_FORMAT_SECURE | XMLCONF_FORMAT_INACTIVE, &why);
    if (!xml)
        return xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "cannot write domain '%s' as XML: %s",
                               name, why->message);
    return xldrv_file_replace(path, xml, error);
}

gboolean xldrv_definition_save(const XldrvPaths *paths, XmlconfDomain *domain, GError **error)
{
    return save_as(paths, xmlconf_domain_config(domain)->name, domain, error);
}

gboolean xldrv_definition_remove(const XldrvPaths *paths, const char *name, GError **error)
{
    g_autofree char *path = xldrv_file_path(paths->define_dir, name, SUFFIX, error);

    return path && xldrv_autostart_set(paths, name, FALSE, error) && xldrv_file_remove(path, error);
}

gboolean xldrv_autostart_set(const XldrvPaths *paths, const char *name, gboolean on, GError **error)
{
    g_autofree char *target = xldrv_file_path(paths->define_dir, name, SUFFIX, error);
    g_autofree char *link = xldrv_file_path(paths->autostart_dir, name, SUFFIX, error);

    if (!target || !link)
        return FALSE;
    if (!on)
        return xldrv_file_remove(link, error);
    if (symlink(target, link) == 0 || errno == EEXIST)
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot make link '%s': %s", link,
                           g_strerror(errno));
}

/* ---- rename */

static gboolean has_autostart(const XldrvPaths *paths, const char *name)
{
    g_autofree char *link = xldrv_file_path(paths->autostart_dir, name, SUFFIX, NULL);
    struct stat st;

    return link && lstat(link, &st) == 0;
}

/* The second half: the file of @old_name says already what it is called now. */
static gboolean move_file(const XldrvPaths *paths, const char *old_name, const char *name, GError **error)
{
    g_autofree char *from = xldrv_file_path(paths->define_dir, old_name, SUFFIX, error);
    g_autofree char *to = from ? xldrv_file_path(paths->define_dir, name, SUFFIX, error) : NULL;

    if (!to || (has_autostart(paths, old_name) && (!xldrv_autostart_set(paths, name, TRUE, error) ||
                                                   !xldrv_autostart_set(paths, old_name, FALSE, error))))
        return FALSE;
    return xldrv_file_move(from, to, error);
}

gboolean xldrv_definition_rename(const XldrvPaths *paths, const char *old_name, XmlconfDomain *renamed, GError **error)
{
    const char *name = xmlconf_domain_config(renamed)->name;
    g_autofree char *to = xldrv_file_path(paths->define_dir, name, SUFFIX, error);

    return to && save_as(paths, old_name, renamed, error) && move_file(paths, old_name, name, error);
}

/* ---- loading */

typedef struct {
    const XldrvPaths *paths;
    XldrvDefinitionFn fn;
    gpointer user_data;
} Load;

static XmlconfDomain *load(const XldrvPaths *paths, const char *path, const char *stem, GError **error)
{
    g_autofree char *xml = xldrv_file_read(path, DEFINITION_MAX, error);
    g_autoptr(XmlconfDomain) domain = xml ? xmlconf_domain_parse(xml, 0, error) : NULL;
    const char *name = domain ? xmlconf_domain_config(domain)->name : NULL;

    if (domain && strcmp(name, stem) != 0 && !move_file(paths, stem, name, error)) {
        g_prefix_error(error, "it defines domain '%s': ", name);
        return NULL;
    }
    return g_steal_pointer(&domain);
}

static void load_one(const char *path, const char *stem, gpointer data)
{
    const Load *how = data;
    g_autoptr(GError) why = NULL;
    g_autoptr(XmlconfDomain) domain = load(how->paths, path, stem, &why);

    if (domain)
        how->fn(domain, has_autostart(how->paths, xmlconf_domain_config(domain)->name), how->user_data);
    else
        g_warning("ignoring definition '%s': %s", path, why->message);
}

void xldrv_definitions_load(const XldrvPaths *paths, XldrvDefinitionFn fn, gpointer user_data)
{
    Load how = {paths, fn, user_data};

    xldrv_file_each(paths->define_dir, SUFFIX, load_one, &how);
}
