/* Names of directories, and making them. */
#include "config.h"

#include "libxldrv/state/paths.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "libxldrv/rpc/rpc.h"

static char *under(const char *root, const char *private_path, const char *system_path)
{
    return *root ? g_build_filename(root, private_path, NULL) : g_strdup(system_path);
}

XldrvPaths *xldrv_paths_new(const char *root)
{
    XldrvPaths *paths = g_new0(XldrvPaths, 1);
    g_autofree char *absolute =
        root && *root ? g_canonicalize_filename(root, NULL) : g_strdup("");

    paths->root = g_steal_pointer(&absolute);
    paths->config_dir = under(paths->root, "etc/domus", DOMUS_SYSCONFDIR "/domus");
    paths->define_dir = g_build_filename(paths->config_dir, "xen", NULL);
    paths->autostart_dir = g_build_filename(paths->define_dir, "autostart", NULL);
    paths->state_dir = under(paths->root, "var/lib/domus", DOMUS_LOCALSTATEDIR "/lib/domus");
    paths->channel_dir = g_build_filename(paths->state_dir, "channel", "target", NULL);
    paths->log_dir = under(paths->root, "var/log/domus", DOMUS_LOCALSTATEDIR "/log/domus");
    paths->run_dir = under(paths->root, "run/domus", "/run/domus");
    paths->socket_dir = under(paths->root, "run/libvirt", "/run/libvirt");
    paths->store_dir = under(paths->root, "run/xenstored", "/run/xenstored");
    return paths;
}

void xldrv_paths_free(XldrvPaths *paths)
{
    if (!paths)
        return;
    g_free(paths->root);
    g_free(paths->config_dir);
    g_free(paths->define_dir);
    g_free(paths->autostart_dir);
    g_free(paths->state_dir);
    g_free(paths->channel_dir);
    g_free(paths->log_dir);
    g_free(paths->run_dir);
    g_free(paths->socket_dir);
    g_free(paths->store_dir);
    g_free(paths);
}

char *xldrv_paths_pid_file(const XldrvPaths *paths)
{
    return under(paths->root, "run/domusd.pid", "/run/domusd.pid");
}

gboolean xldrv_paths_create(const XldrvPaths *paths, GError **error)
{
    const struct {
        const char *path;
        int mode;
    } dirs[] = {
        {paths->config_dir, 0755}, {paths->define_dir, 0700}, {paths->autostart_dir, 0700},
        {paths->state_dir, 0711},  {paths->log_dir, 0700},    {paths->run_dir, 0711},
        {paths->socket_dir, 0755}, {paths->store_dir, 0755},  {paths->channel_dir, 0711},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(dirs); i++) {
        if (g_mkdir_with_parents(dirs[i].path, dirs[i].mode) < 0)
            return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot make directory '%s': %s",
                                   dirs[i].path, g_strerror(errno));
    }
    return TRUE;
}
