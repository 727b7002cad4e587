/* What consoles are connected to: a terminal, a file, a socket. */
#include "config.h"

#include "libxldrv/driver/consoles.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/host/pty.h"
#include "libxldrv/host/socket.h"
#include "libxldrv/host/tcp.h"

#define KIND               "console"
#define CONNECT_TIMEOUT_MS 5000

typedef struct {
    guint number;
    int tty_fd, log_fd; /* -1: none */
} Ends;

static int attach(struct domctl *ctl, gpointer data)
{
    const Ends *ends = data;

    return domctl_console_attach(ctl, ends->number, ends->tty_fd, ends->log_fd);
}

/* A console of type file is its file: what the terminal would be is a pair that nobody knows. */
static gboolean open_log(const XmlconfConsole *console, int *fd, GError **error)
{
    gboolean is_file = console->type == XMLCONF_CHAR_FILE;
    const char *path = is_file ? console->path : console->log_path;
    gboolean append = is_file ? console->append : console->log_append;

    if (is_file && console->log_path)
        return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                               "a console of type 'file' cannot have a log file '%s' as well", console->log_path);
    if (!path)
        return TRUE;
    *fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | O_APPEND | (append ? 0 : O_TRUNC), 0600);
    return *fd >= 0 || xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot open '%s' for the console: %s", path,
                                       g_strerror(errno));
}

/* Whether a process listens there. To connect would be to take its place as the console's peer. */
static gboolean is_served(const char *path)
{
    g_autofree char *all = NULL;
    g_autofree char *end = g_strconcat(" ", path, NULL);
    g_auto(GStrv) lines = NULL;
    gboolean found = FALSE;

    if (!g_file_get_contents("/proc/net/unix", &all, NULL, NULL))
        return TRUE;
    lines = g_strsplit(all, "\n", -1);
    for (char **line = lines; *line && !found; line++)
        found = g_str_has_suffix(*line, end);
    return found;
}

/* What is there already must be a socket that nobody serves any more. */
static int listen_locally(const char *path, GError **error)
{
    struct stat about;
    const char *problem = NULL;

    if (lstat(path, &about) == 0)
        problem = !S_ISSOCK(about.st_mode) ? "it is there, and no socket" : is_served(path) ? "somebody else does" : NULL;
    if (!problem)
        return xldrv_socket_listen(path, SOCK_STREAM, error);
    xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot listen on '%s': %s", path, problem);
    return -1;
}

static int open_socket(const XmlconfConsole *console, GError **error)
{
    gboolean listens = xmlconf_console_listens(console);

    if (console->type == XMLCONF_CHAR_TCP)
        return xldrv_tcp_open(console->host, console->service, listens, CONNECT_TIMEOUT_MS, error);
    return listens ? listen_locally(console->path, error)
                   : xldrv_socket_connect(console->path, SOCK_STREAM, CONNECT_TIMEOUT_MS, error);
}

static gboolean open_terminal(XmlconfConsole *console, int *fd, GError **error)
{
    g_autofree char *tty = NULL;

    if (console->type == XMLCONF_CHAR_UNIX || console->type == XMLCONF_CHAR_TCP)
        return (*fd = open_socket(console, error)) >= 0;
    if (!xldrv_pty_new(fd, &tty, error))
        return FALSE;
    if (console->type == XMLCONF_CHAR_PTY) {
        g_free(console->tty);
        console->tty = g_steal_pointer(&tty);
    }
    return TRUE;
}

static gboolean add_nodes(XldrvDriver *driver, int id, const XmlconfConsole *console, GError **error)
{
    const XldrvStoreKey backend[] = {{"protocol", "vt100"}, {NULL, NULL}};
    const XldrvStoreKey frontend[] = {{"limit", "1048576"},
                                      {"type", "xenconsoled"},
                                      {"output", "pty"},
                                      {console->tty ? "tty" : NULL, console->tty},
                                      {NULL, NULL}};
    const XldrvStoreDevice device = {
        .id = id, .kind = KIND, .devid = console->port, .backend = backend, .frontend = frontend};

    return console->port == 0 || xldrv_store_add_device(driver->store, &device, error);
}

gboolean xldrv_console_attach(XldrvDriver *driver, XldrvInstance *instance, XmlconfConsole *console, GError **error)
{
    Ends ends = {console->port, -1, -1};
    gboolean ok;

    ok = open_log(console, &ends.log_fd, error) && open_terminal(console, &ends.tty_fd, error);
    if (ok) { /* what has an alias is ours to remove */
        g_free(console->alias);
        console->alias = g_strdup_printf("console%u", console->port);
    }
    ok = ok && add_nodes(driver, xldrv_instance_id(instance), console, error) &&
         xldrv_instance_control(instance, "attach a console of", attach, &ends, error);
    if (ends.tty_fd >= 0)
        close(ends.tty_fd);
    if (ends.log_fd >= 0)
        close(ends.log_fd);
    return ok;
}

void xldrv_consoles_clean_up(const XmlconfDomainConfig *config)
{
    struct stat about;

    for (guint i = 0; i < config->consoles->len; i++) {
        const XmlconfConsole *console = config->consoles->pdata[i];
        if (console->type == XMLCONF_CHAR_UNIX && xmlconf_console_listens(console) && console->alias &&
            lstat(console->path, &about) == 0 && S_ISSOCK(about.st_mode))
            unlink(console->path);
    }
}
