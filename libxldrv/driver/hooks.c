/* Hook scripts: found, started, waited for. */
#include "config.h"

#include "libxldrv/driver/hooks.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libxldrv/driver/wire.h"

#define NAME "libxl"

/* At the end, or at @at. */
static void add_script(GPtrArray *scripts, int at, char *path)
{
    if (g_file_test(path, G_FILE_TEST_IS_REGULAR) && g_file_test(path, G_FILE_TEST_IS_EXECUTABLE))
        g_ptr_array_insert(scripts, at, path);
    else
        g_free(path);
}

static int compare_paths(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static GPtrArray *find_scripts(const XldrvDriver *driver)
{
    g_autofree char *folder = g_build_filename(driver->paths->config_dir, "hooks", NAME ".d", NULL);
    GPtrArray *scripts = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir)))
        add_script(scripts, -1, g_build_filename(folder, name, NULL));
    g_ptr_array_sort(scripts, compare_paths);
    add_script(scripts, 0, g_build_filename(driver->paths->config_dir, "hooks", NAME, NULL));
    return scripts;
}

/* A file that a script can leave unread, which a pipe must not be. */
static int xml_file(const char *xml, GError **error)
{
    int fd = memfd_create("domain.xml", MFD_CLOEXEC);
    gsize length = strlen(xml);

    if (fd >= 0 && write(fd, xml, length) == (gssize)length && lseek(fd, 0, SEEK_SET) == 0)
        return fd;
    xldrv_set_system_error(error, errno, "cannot keep the XML for a hook script");
    if (fd >= 0)
        close(fd);
    return -1;
}

static gboolean check_end(GSubprocess *process, const char *path, const char *operation, char *complaint, GError **error)
{
    g_autofree char *end = NULL;

    if (g_subprocess_get_successful(process))
        return TRUE;
    end = g_subprocess_get_if_exited(process)
              ? g_strdup_printf("exit status %d", g_subprocess_get_exit_status(process))
              : g_strdup_printf("signal %d", g_subprocess_get_term_sig(process));
    g_strstrip(complaint);
    return xldrv_set_error_from(error, VIR_FROM_HOOK, VIR_ERR_HOOK_SCRIPT_FAILED, "'%s' for '%s': %s%s%s", path, operation,
                                end, *complaint ? ": " : "", complaint);
}

static gboolean run_script(const char *path, const char *const *what, const char *xml, char **out, GError **error)
{
    const char *argv[] = {path, what[0], what[1], what[2], "-", NULL};
    g_autoptr(GSubprocessLauncher) launcher =
        g_subprocess_launcher_new(G_SUBPROCESS_FLAGS_STDOUT_PIPE | G_SUBPROCESS_FLAGS_STDERR_PIPE);
    g_autoptr(GSubprocess) process = NULL;
    g_autofree char *complaint = NULL;
    g_autoptr(GError) why = NULL;
    int fd = xml_file(xml, error);

    if (fd < 0)
        return FALSE;
    g_subprocess_launcher_set_cwd(launcher, "/");
    g_subprocess_launcher_take_stdin_fd(launcher, fd);
    process = g_subprocess_launcher_spawnv(launcher, argv, &why);
    g_clear_pointer(out, g_free);
    if (process && g_subprocess_communicate_utf8(process, NULL, NULL, out, &complaint, &why))
        return check_end(process, path, what[1], complaint, error);
    return xldrv_set_error_from(error, VIR_FROM_HOOK, VIR_ERR_HOOK_SCRIPT_FAILED, "'%s' for '%s': %s", path, what[1],
                                why->message);
}

/* *out is what the last script has written; NULL if there is none. The caller's. */
static gboolean run_all(XldrvDriver *driver, XmlconfDomain *domain, const char *operation, const char *sub, char **out,
                        GError **error)
{
    const char *what[] = {xmlconf_domain_config(domain)->name, operation, sub};
    g_autoptr(GPtrArray) scripts = find_scripts(driver);
    g_autofree char *xml = NULL;
    g_autoptr(GError) why = NULL;

    if (!scripts->len)
        return TRUE;
    xml = xmlconf_domain_format(domain, 0, &why);
    if (!xml)
        return xldrv_set_xml_error(error, g_steal_pointer(&why));
    for (guint i = 0; i < scripts->len; i++) {
        if (!run_script(scripts->pdata[i], what, xml, out, error))
            return FALSE;
    }
    return TRUE;
}

gboolean xldrv_hooks_run(XldrvDriver *driver, XmlconfDomain *domain, const char *operation, const char *sub, GError **error)
{
    g_autofree char *out = NULL;

    return run_all(driver, domain, operation, sub, &out, error);
}

void xldrv_hooks_tell(XldrvDriver *driver, XmlconfDomain *domain, const char *operation, const char *sub)
{
    g_autoptr(GError) why = NULL;

    if (!xldrv_hooks_run(driver, domain, operation, sub, &why))
        g_warning("domain '%s': %s", xmlconf_domain_config(domain)->name, why->message);
}

gboolean xldrv_hooks_change(XldrvDriver *driver, XmlconfDomain **domain, const char *operation, GError **error)
{
    const XmlconfDomainConfig *before = xmlconf_domain_config(*domain), *after;
    g_autoptr(XmlconfDomain) changed = NULL;
    g_autoptr(GError) why = NULL;
    g_autofree char *out = NULL;

    if (!run_all(driver, *domain, operation, "begin", &out, error))
        return FALSE;
    if (!out || !*g_strchug(out))
        return TRUE;
    changed = xmlconf_domain_parse(out, XMLCONF_PARSE_LIVE, &why);
    if (!changed)
        return xldrv_set_xml_error(error, g_steal_pointer(&why));
    after = xmlconf_domain_config(changed);
    if (strcmp(before->name, after->name) != 0 || strcmp(before->uuid, after->uuid) != 0)
        return xldrv_set_error_from(error, VIR_FROM_HOOK, VIR_ERR_HOOK_SCRIPT_FAILED,
                                    "the hook script for '%s' made another domain of '%s'", operation, before->name);
    xmlconf_domain_unref(*domain);
    *domain = g_steal_pointer(&changed);
    return TRUE;
}
