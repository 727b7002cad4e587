/* domusd: the libvirt daemon for Xen domains under Domus. Arguments, configuration, signals, sockets. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/migrate.h"
#include "libxldrv/driver/procedures.h"
#include "libxldrv/host/daemon.h"
#include "libxldrv/host/log.h"
#include "libxldrv/host/socket.h"
#include "libxldrv/relay/relay.h"
#include "libxldrv/rpc/activation.h"
#include "libxldrv/rpc/admin.h"
#include "libxldrv/rpc/rpc.h"
#include "libxldrv/rpc/workers.h"
#include "libxldrv/settings.h"
#include "libxldrv/sockets.h"

typedef struct {
    char *root, *config_file, *hypervisor, *store_daemon, *engine, *user;
    gboolean daemon, version;
    int verbose;
} Arguments;

static gboolean count_verbose(const char *name G_GNUC_UNUSED, const char *value G_GNUC_UNUSED,
                              gpointer data, GError **error G_GNUC_UNUSED)
{
    ((Arguments *)data)->verbose++;
    return TRUE;
}

static gboolean parse_arguments(Arguments *arguments, int argc, char **argv, GError **error)
{
    const GOptionEntry entries[] = {
        {"root", 0, 0, G_OPTION_ARG_FILENAME, &arguments->root, "Keep everything below DIR", "DIR"},
        {"daemon", 'd', 0, G_OPTION_ARG_NONE, &arguments->daemon,
         "Run in the background; return when ready", NULL},
        {"config", 'f', 0, G_OPTION_ARG_FILENAME, &arguments->config_file,
         "Read settings from FILE (default: etc/domus/domusd.conf)", "FILE"},
        {"verbose", 'v', G_OPTION_FLAG_NO_ARG, G_OPTION_ARG_CALLBACK, count_verbose,
         "Tell more; twice: everything", NULL},
        {"hypervisor", 0, 0, G_OPTION_ARG_FILENAME, &arguments->hypervisor, "Path of domus-hv", "PATH"},
        {"xenstored", 0, 0, G_OPTION_ARG_FILENAME, &arguments->store_daemon, "Path of domus-xenstored",
         "PATH"},
        {"engine", 0, 0, G_OPTION_ARG_STRING, &arguments->engine, "Engine of new domains", "NAME"},
        {"user", 0, 0, G_OPTION_ARG_STRING, &arguments->user, "User whom hypervisors run as", "NAME"},
        {"version", 'V', 0, G_OPTION_ARG_NONE, &arguments->version, "Show the version", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    GOptionGroup *group = g_option_group_new("main", "", "", arguments, NULL);

    g_option_group_add_entries(group, entries);
    g_option_context_set_main_group(context, group);
    g_option_context_set_summary(context, "Serves xen:///system to libvirt clients.");
    if (!g_option_context_parse(context, &argc, &argv, error))
        return FALSE;
    return argc == 1 || xldrv_set_error(error, VIR_ERR_INVALID_ARG, "unexpected argument '%s'", argv[1]);
}

static void arguments_clear(Arguments *arguments)
{
    g_free(arguments->root);
    g_free(arguments->config_file);
    g_free(arguments->hypervisor);
    g_free(arguments->store_daemon);
    g_free(arguments->engine);
    g_free(arguments->user);
}

/* ---- the daemon */

typedef struct {
    const Arguments *arguments;
    XldrvPaths *paths;
    char *config_path;
    XldrvSettings settings;
    GMainLoop *loop;
    XldrvDriver *driver;
    XldrvServer *server;
    XldrvServer *migrate_server; /* for what migrates domains by itself */
    XldrvTls *tls; /* NULL: it does not listen for TLS */
    XldrvAdmin *admin;
    XldrvRelay *relay;
    GArray *passed_fds; /* sockets from the service manager */
    int pid_fd;
} Daemon;

static const char *relay_sockets(const Daemon *d)
{
    return d->settings.relay_sockets ? d->settings.relay_sockets : d->paths->socket_dir;
}

static void on_client_closed(XldrvClient *client, gpointer data)
{
    Daemon *d = data;

    xldrv_relay_client_closed(d->relay, client);
    xldrv_driver_client_closed(client, d->driver);
}

static gboolean start_server(Daemon *d, GError **error)
{
    d->server = xldrv_server_new(XLDRV_SERVER_NAME, &d->settings.limits);
    xldrv_server_add_program(d->server, &xldrv_remote_program);
    xldrv_server_add_program(d->server, &xldrv_qemu_program);
    xldrv_server_set_access(d->server, xldrv_access_check);
    xldrv_server_set_client_closed(d->server, on_client_closed, d);
    d->relay = xldrv_relay_new(d->server, &xldrv_remote_program, relay_sockets(d));
    return xldrv_sockets_open(d->server, &d->settings, d->paths, d->passed_fds, &d->tls, error);
}

#define MIGRATE_CLIENTS_FROM (1ull << 32) /* more than ever come to the other server */

/* It has workers of its own, one for each migration, so that its calls never wait for those that wait for it. */
static gboolean start_migrate_server(Daemon *d, GError **error)
{
    const XldrvListen how = {.auth = XLDRV_AUTH_NONE};
    XldrvLimits limits = d->settings.limits;
    g_autofree char *path = g_build_filename(d->paths->run_dir, XLDRV_MIGRATE_SOCKET, NULL);
    g_autofree char *short_path = xldrv_socket_short_path(path, error);

    limits.min_workers = 0;
    limits.max_workers = limits.max_clients = limits.max_anonymous_clients = XLDRV_WORKERS_MAX;
    d->migrate_server = xldrv_server_new("migrate", &limits);
    xldrv_server_number_clients(d->migrate_server, MIGRATE_CLIENTS_FROM);
    xldrv_server_add_program(d->migrate_server, &xldrv_remote_program);
    xldrv_server_set_client_closed(d->migrate_server, xldrv_driver_client_closed, d->driver);
    return short_path && xldrv_server_listen_unix(d->migrate_server, short_path, 0600, &how, error);
}

static void quit(gpointer data)
{
    Daemon *d = data;

    g_info("nobody was connected for as long as asked for");
    g_main_loop_quit(d->loop);
}

static gboolean start_admin(Daemon *d, GError **error)
{
    static const XldrvAdminLog log = {.filters = {xldrv_log_get_filters, xldrv_log_set_filters},
                                      .outputs = {xldrv_log_get_outputs, xldrv_log_set_outputs}};
    const XldrvAdminOptions options = {.server = d->server, .tls = d->tls, .log = &log, .quit = quit, .data = d};

    d->admin = xldrv_admin_new(&d->settings.admin_limits, &options);
    return xldrv_sockets_open_admin(xldrv_admin_server(d->admin), &d->settings, d->paths, error);
}

/* Each step of verbosity is one of the level, which none leaves as it is. */
static guint log_level(guint level, int verbosity)
{
    return verbosity ? MIN(level, (guint)MAX(XLDRV_LOG_WARNING - verbosity, XLDRV_LOG_DEBUG)) : level;
}

static gboolean set_log(const XldrvSettings *settings, const Arguments *arguments, GError **error)
{
    int verbosity = MAX(settings->verbosity, arguments->verbose);
    guint n;
    g_autofree char *filters = xldrv_log_get_filters(&n);

    if (!xldrv_log_set_filters(settings->log_filters ? settings->log_filters : "", error))
        return FALSE;
    if (!xldrv_log_set_outputs(settings->log_outputs ? settings->log_outputs : "", error)) {
        xldrv_log_set_filters(filters, NULL);
        return FALSE;
    }
    xldrv_log_set_level(log_level(settings->log_level, verbosity));
    return TRUE;
}

static gboolean load_settings(Daemon *d, XldrvSettings *settings, GError **error)
{
    gboolean must_exist = d->arguments->config_file != NULL;

    if (!xldrv_settings_load(settings, d->config_path, must_exist, error))
        return FALSE;
    if (set_log(settings, d->arguments, error))
        return TRUE;
    xldrv_settings_clear(settings);
    return FALSE;
}

static gboolean start_driver(Daemon *d, GError **error)
{
    const Arguments *a = d->arguments;
    const XldrvSettings *s = &d->settings;
    g_autoptr(XldrvPki) pki = xldrv_sockets_pki(s, d->paths);
    const XldrvDriverOptions options = {
        .root = a->root,
        .pki = pki,
        .hypervisor = a->hypervisor ? a->hypervisor : s->hypervisor,
        .store_daemon = a->store_daemon ? a->store_daemon : s->store_daemon,
        .engine = a->engine ? a->engine : s->engine,
        .secret_uri = s->secret_uri,
        .network_uri = s->network_uri,
        .filter_uri = s->filter_uri,
        .storage_uri = s->storage_uri,
        .relay_sockets = relay_sockets(d),
        .log_limits = {s->console_log_bytes, s->console_log_backups},
        .access = s->access_polkit,
        .user = a->user ? a->user : s->user,
    };

    d->driver = xldrv_driver_new(&options, error);
    return d->driver != NULL;
}

static gboolean on_terminate(gpointer data)
{
    Daemon *d = data;

    g_info("asked to end; domains go on");
    g_main_loop_quit(d->loop);
    return G_SOURCE_CONTINUE;
}

/* What can change while clients are there is what is told, and where. */
static gboolean on_reload(gpointer data)
{
    Daemon *d = data;
    XldrvSettings settings = {0};
    g_autoptr(GError) why = NULL;

    if (load_settings(d, &settings, &why))
        g_message("read the settings again");
    else
        g_warning("keeping the old settings: %s", why->message);
    xldrv_settings_clear(&settings);
    return G_SOURCE_CONTINUE;
}

static void watch_signals(Daemon *d)
{
    signal(SIGPIPE, SIG_IGN);
    g_unix_signal_add(SIGTERM, on_terminate, d);
    g_unix_signal_add(SIGINT, on_terminate, d);
    g_unix_signal_add(SIGHUP, on_reload, d);
}

static gboolean start(Daemon *d, GError **error)
{
    g_autofree char *pid_path = xldrv_paths_pid_file(d->paths);

    if (!xldrv_paths_create(d->paths, error))
        return FALSE;
    d->pid_fd = xldrv_daemon_lock(pid_path, error);
    if (d->pid_fd < 0 || !load_settings(d, &d->settings, error))
        return FALSE;
    watch_signals(d);
    d->passed_fds = xldrv_activation_take_fds(); /* before there are threads */
    return start_driver(d, error) && start_migrate_server(d, error) && start_server(d, error) && start_admin(d, error);
}

static void notify(const char *state)
{
    g_autoptr(GError) why = NULL;

    if (!xldrv_activation_notify(state, &why))
        g_warning("%s", why->message);
}

/* Serves until a signal ends it; @ready_fd (taken; or -1) is told when clients can come. */
static int run(Daemon *d, int ready_fd)
{
    g_autofree char *log_path = g_build_filename(d->paths->log_dir, "domusd.log", NULL);
    g_autoptr(GError) why = NULL;
    gboolean ok;

    d->loop = g_main_loop_new(NULL, FALSE);
    ok = start(d, &why);
    if (!ok) {
        g_printerr("domusd: %s\n", why->message);
        xldrv_daemon_failed(ready_fd);
    } else {
        xldrv_daemon_ready(ready_fd, log_path);
        notify("READY=1");
        xldrv_driver_autostart(d->driver);
        g_main_loop_run(d->loop);
        notify("STOPPING=1");
    }
    g_clear_pointer(&d->admin, xldrv_admin_free);
    /* First: what it serves is what the other's handlers wait for. */
    g_clear_pointer(&d->migrate_server, xldrv_server_free);
    g_clear_pointer(&d->server, xldrv_server_free);
    xldrv_relay_free(d->relay);
    g_clear_pointer(&d->tls, xldrv_tls_free);
    xldrv_driver_free(d->driver);
    g_main_loop_unref(d->loop);
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int serve(const Arguments *arguments)
{
    Daemon d = {.arguments = arguments, .pid_fd = -1};
    int ready_fd = -1, status;

    d.paths = xldrv_paths_new(arguments->root);
    d.config_path = arguments->config_file
                        ? g_canonicalize_filename(arguments->config_file, NULL)
                        : g_build_filename(d.paths->config_dir, "domusd.conf", NULL);
    if (!arguments->daemon || xldrv_daemon_fork(&ready_fd, &status))
        status = run(&d, ready_fd);
    if (d.pid_fd >= 0)
        close(d.pid_fd);
    g_clear_pointer(&d.passed_fds, g_array_unref);
    xldrv_settings_clear(&d.settings);
    xldrv_paths_free(d.paths);
    g_free(d.config_path);
    return status;
}

int main(int argc, char **argv)
{
    Arguments arguments = {0};
    g_autoptr(GError) why = NULL;
    int status = EXIT_SUCCESS;

    xldrv_log_init();
    if (!parse_arguments(&arguments, argc, argv, &why)) {
        g_printerr("domusd: %s\n", why->message);
        status = 2;
    } else if (arguments.version) {
        printf("domusd " DOMUS_VERSION "\n");
    } else {
        xldrv_log_set_level(log_level(XLDRV_LOG_WARNING, arguments.verbose));
        status = serve(&arguments);
    }
    arguments_clear(&arguments);
    xldrv_log_end();
    return status;
}
