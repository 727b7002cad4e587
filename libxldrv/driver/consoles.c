/* What consoles and channels are connected to: a terminal, a file, a socket. */
#include "config.h"

#include "libxldrv/driver/consoles.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/driver/agent.h"
#include "libxldrv/host/log-file.h"
#include "libxldrv/host/pty.h"
#include "libxldrv/host/socket.h"
#include "libxldrv/host/tcp.h"
#include "libxldrv/state/files.h"

#define KIND               "console"
#define CONNECT_TIMEOUT_MS 5000

typedef struct {
    guint number;
    int tty_fd, log_fd; /* -1: none */
    guint64 log_limit_bytes;
} Ends;

static int attach(struct domctl *ctl, gpointer data)
{
    const Ends *ends = data;
    int rc = domctl_console_attach(ctl, ends->number, ends->tty_fd, ends->log_fd);

    return rc || !ends->log_limit_bytes ? rc : domctl_log_file(ctl, ends->number, ends->log_fd, ends->log_limit_bytes);
}

/* A console of type file is its file: what the terminal would be is a pair that nobody knows. */
const char *xldrv_console_log(const XmlconfConsole *console, gboolean *append)
{
    gboolean is_file = console->type == XMLCONF_CHAR_FILE;

    *append = is_file ? console->append : console->log_append;
    return is_file ? console->path : console->log_path;
}

static gboolean open_log(const XldrvDeviceHost *host, const XmlconfConsole *console, Ends *ends, GError **error)
{
    const XldrvLogLimits *limits = &host->driver->log_limits;
    gboolean append;
    const char *path = xldrv_console_log(console, &append);

    if (console->type == XMLCONF_CHAR_FILE && console->log_path)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "a console of type 'file' cannot have a log file '%s' as well", console->log_path);
    if (!path)
        return TRUE;
    ends->log_fd = xldrv_log_file_open(path, append, limits, error);
    ends->log_limit_bytes = xldrv_log_file_is_regular(path) ? limits->max_bytes : 0;
    return ends->log_fd >= 0;
}

static int open_socket(const XmlconfConsole *console, GError **error)
{
    gboolean listens = xmlconf_console_listens(console);

    if (console->type == XMLCONF_CHAR_TCP)
        return xldrv_tcp_open(console->host, console->service, listens, CONNECT_TIMEOUT_MS, error);
    return listens ? xldrv_socket_listen_stream(console->path, error)
                   : xldrv_socket_connect(console->path, SOCK_STREAM, CONNECT_TIMEOUT_MS, error);
}

static gboolean open_terminal(XmlconfConsole *console, int *fd, GError **error)
{
    g_autofree char *tty = NULL;

    if (console->type == XMLCONF_CHAR_UNIX || console->type == XMLCONF_CHAR_TCP)
        return (*fd = open_socket(console, error)) >= 0;
    if (!xldrv_pty_new(fd, &tty, error))
        return FALSE;
    if (console->type == XMLCONF_CHAR_PTY)
        xmlconf_console_set_tty(console, tty);
    return TRUE;
}

/* ---- the store: layout of libxl (docs/misc/console.txt, channel.txt of Xen) */

static gboolean add_nodes(const XldrvDeviceHost *host, const XmlconfConsole *console, const char *tty, GError **error)
{
    const char *connection = !console->name ? NULL : console->type == XMLCONF_CHAR_PTY ? "pty" : "socket";
    const XldrvStoreKey backend[] = {{"protocol", "vt100"},
                                     {console->name ? "name" : NULL, console->name},
                                     {connection ? "connection" : NULL, connection},
                                     {NULL, NULL}};
    const XldrvStoreKey frontend[] = {{"limit", "1048576"},
                                      {"type", "xenconsoled"},
                                      {"output", connection ? connection : "pty"},
                                      {tty ? "tty" : console->name ? "name" : NULL, tty ? tty : console->name},
                                      {tty && console->name ? "name" : NULL, console->name},
                                      {NULL, NULL}};
    const XldrvStoreDevice device = {.id = xldrv_instance_id(host->instance),
                                     .kind = KIND,
                                     .devid = console->port,
                                     .backend = backend,
                                     .frontend = frontend};

    return xldrv_store_add_device(host->driver->store, &device, error);
}

static void remove_nodes(const XldrvDeviceHost *host, const XmlconfConsole *console)
{
    xldrv_store_remove_device(host->driver->store, xldrv_instance_id(host->instance), KIND, console->port);
}

/* ---- attach */

/* Where a channel's socket is if it names none: as libvirt's driver for Xen names it. A domain that comes from another
 * daemon brings what that one chose. */
static gboolean choose_path(const XldrvDeviceHost *host, XmlconfConsole *channel, GError **error)
{
    g_autofree char *name = g_strdup_printf("%s-%s", host->name, channel->name);
    g_autofree char *chosen = g_strconcat("/channel/target/", name, NULL);

    if (channel->type != XMLCONF_CHAR_UNIX || (channel->path && !(channel->name && g_str_has_suffix(channel->path, chosen))))
        return TRUE;
    g_free(channel->path);
    channel->path = xldrv_file_path(host->driver->paths->channel_dir, name, "", error);
    return channel->path != NULL;
}

/* What was made for it on the host; what has an alias is ours to remove. */
static void remove_socket(const XmlconfConsole *console)
{
    struct stat about;

    if (console->type == XMLCONF_CHAR_UNIX && xmlconf_console_listens(console) && console->alias &&
        lstat(console->path, &about) == 0 && S_ISSOCK(about.st_mode))
        unlink(console->path);
}

gboolean xldrv_console_make(const XldrvDeviceHost *host, const XmlconfConsole *console, GError **error)
{
    return console->port == 0 || add_nodes(host, console, NULL, error);
}

/* The first console's are the domain's. Of others that were made, the terminal is not known yet. */
static gboolean complete_nodes(const XldrvDeviceHost *host, const XmlconfConsole *console, GError **error)
{
    const char *tty = xmlconf_console_tty(console);
    g_autofree char *node = g_strdup_printf("device/" KIND "/%u/tty", console->port);

    if (console->port == 0)
        return TRUE;
    if (!xldrv_instance_made(host->instance))
        return add_nodes(host, console, tty, error);
    return !tty || xldrv_store_write(host->driver->store, xldrv_instance_id(host->instance), node, tty, error);
}

static gboolean connect_device(const XldrvDeviceHost *host, const XmlconfConsole *console, Ends *ends, GError **error)
{
    if (!complete_nodes(host, console, error))
        return FALSE;
    if (xldrv_instance_control(host->instance, "attach a console of", attach, ends, error))
        return TRUE;
    if (console->port != 0)
        remove_nodes(host, console);
    return FALSE;
}

gboolean xldrv_console_attach(const XldrvDeviceHost *host, XmlconfConsole *console, GError **error)
{
    Ends ends = {console->port, -1, -1, 0};
    gboolean ok;

    g_clear_pointer(&console->alias, g_free);
    ok = choose_path(host, console, error) && open_log(host, console, &ends, error) &&
         open_terminal(console, &ends.tty_fd, error);
    if (ok) {
        console->alias = xmlconf_console_alias(console);
        g_free(console->state);
        console->state = xldrv_channel_is_agents(console) ? g_strdup("disconnected") : NULL;
        ok = connect_device(host, console, &ends, error);
        if (!ok)
            remove_socket(console);
    }
    if (ends.tty_fd >= 0)
        close(ends.tty_fd);
    if (ends.log_fd >= 0)
        close(ends.log_fd);
    return ok;
}

/* ---- detach */

static int ask_console(struct domctl *ctl, gpointer data)
{
    const XldrvDetach *detach = data;

    return domctl_console_detach(ctl, detach->devid, detach->force);
}

static int look_at_console(struct domctl *ctl, gpointer data)
{
    const XldrvDetach *detach = data;
    struct domus_console_info info;

    return domctl_console_info(ctl, detach->devid, &info);
}

gboolean xldrv_console_detach(const XldrvDeviceHost *host, const XmlconfConsole *console, gboolean force, GError **error)
{
    g_autofree char *what = console->name ? g_strdup_printf("channel '%s'", console->name)
                                          : g_strdup_printf("console %u", console->port);
    XldrvDetach detach = {.instance = host->instance,
                          .what = what,
                          .devid = console->port,
                          .ask = ask_console,
                          .look = look_at_console,
                          .force = force};

    if (console->port == 0)
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "the first console of a domain cannot be detached");
    if (!xldrv_device_detach(&detach, error))
        return FALSE;
    remove_nodes(host, console);
    remove_socket(console);
    return TRUE;
}

static void clean_up_list(const GPtrArray *list)
{
    for (guint i = 0; list && i < list->len; i++)
        remove_socket(list->pdata[i]);
}

void xldrv_consoles_clean_up(const XmlconfDomainConfig *config)
{
    clean_up_list(config->consoles);
    clean_up_list(config->channels);
}
