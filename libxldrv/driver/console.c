/* Consoles and channels: a stream between a client and what is at their other end, one at a time. */
#include "config.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/driver/agent.h"
#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/pty.h"
#include "libxldrv/host/socket.h"

#define CONSOLE_FLAGS      (VIR_DOMAIN_CONSOLE_FORCE | VIR_DOMAIN_CONSOLE_SAFE)
#define CONNECT_TIMEOUT_MS 1000

/* The console or channel that @device names by alias or, a channel, by its name; NULL: the first. NULL with an error. */
static const XmlconfConsole *find_device(const GPtrArray *list, const char *device, GError **error)
{
    for (guint i = 0; list && i < list->len; i++) {
        const XmlconfConsole *console = list->pdata[i];
        if (!device || g_strcmp0(device, console->alias) == 0 || g_strcmp0(device, console->name) == 0)
            return console;
    }
    xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "cannot find character device %s", device ? device : "<null>");
    return NULL;
}

static gboolean is_open_to_clients(const XmlconfConsole *console)
{
    return xmlconf_console_tty(console) ||
           (console->name && console->type == XMLCONF_CHAR_UNIX && xmlconf_console_listens(console));
}

/* The other end of its terminal or socket. -1 with an error. */
static int open_device(const XmlconfConsole *console, GError **error)
{
    if (xmlconf_console_tty(console))
        return xldrv_pty_open(xmlconf_console_tty(console), error);
    return xldrv_socket_connect(console->path, SOCK_STREAM, CONNECT_TIMEOUT_MS, error);
}

static void console_closed(XldrvStream *stream, gpointer data)
{
    XldrvDomain *domain = data;
    gboolean ours = FALSE;

    g_mutex_lock(&domain->lock);
    for (guint i = 0; i < XMLCONF_MAX_CONSOLES && !ours; i++) {
        ours = domain->consoles[i] == stream;
        if (ours)
            domain->consoles[i] = NULL;
    }
    g_mutex_unlock(&domain->lock);
    if (ours)
        xldrv_stream_unref(stream);
    xldrv_domain_unref(domain);
}

/* Ends the earlier session, or refuses because of it. */
static gboolean take_device(XldrvDomain *domain, const XmlconfConsole *console, gboolean force, GError **error)
{
    XldrvStream *earlier;

    g_mutex_lock(&domain->lock);
    earlier = force ? g_steal_pointer(&domain->consoles[console->port]) : domain->consoles[console->port];
    g_mutex_unlock(&domain->lock);
    if (!earlier)
        return TRUE;
    if (!force)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "Active console session exists for this domain");
    xldrv_stream_abort(earlier, VIR_ERR_OPERATION_ABORTED, "console taken over by another client");
    xldrv_stream_unref(earlier);
    return TRUE;
}

static gboolean open_stream(XldrvCall *call, XldrvDomain *domain, const XmlconfConsole *console, gboolean force,
                            GError **error)
{
    XldrvStream *stream;
    int fd;

    if (!is_open_to_clients(console))
        return xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "character device %s is not using a %s", console->alias,
                               console->name ? "UNIX socket that it listens on, nor a PTY" : "PTY");
    if (console->name && xldrv_channel_is_agents(console))
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                               "channel '%s' is in use: the daemon asks the guest agent through it", console->name);
    if (!take_device(domain, console, force, error))
        return FALSE;
    fd = open_device(console, error);
    if (fd < 0)
        return FALSE;
    stream = xldrv_stream_new_fd(call, fd, console_closed, xldrv_domain_ref(domain));
    g_mutex_lock(&domain->lock);
    domain->consoles[console->port] = stream;
    g_mutex_unlock(&domain->lock);
    return TRUE;
}

static GVariant *open_named(XldrvCall *call, GVariant *args, XmlconfDeviceType type, gboolean force, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XldrvJobGuard) job = domain ? xldrv_job_begin(domain, "open console", error) : NULL;
    g_autoptr(XldrvInstance) instance = job ? xldrv_domain_get_instance(job, error) : NULL;
    g_autoptr(XmlconfDomain) config = instance ? xldrv_domain_get_config(job, FALSE) : NULL;
    const XmlconfConsole *console;

    if (!config)
        return NULL;
    console = find_device(xmlconf_domain_devices(config, type), xldrv_args_optional_string(args, 1), error);
    return console && open_stream(call, job, console, force, error) ? xldrv_reply_void() : NULL;
}

GVariant *xldrv_handle_domain_open_console(XldrvCall *call, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 2);

    /* Safe means that nobody else may have it, which is always so here. */
    if (!xldrv_check_flags(flags, CONSOLE_FLAGS, G_STRFUNC, error))
        return NULL;
    return open_named(call, args, XMLCONF_DEVICE_CONSOLE, (flags & VIR_DOMAIN_CONSOLE_FORCE) != 0, error);
}

GVariant *xldrv_handle_domain_open_channel(XldrvCall *call, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 2);

    if (!xldrv_check_flags(flags, VIR_DOMAIN_CHANNEL_FORCE, G_STRFUNC, error))
        return NULL;
    return open_named(call, args, XMLCONF_DEVICE_CHANNEL, (flags & VIR_DOMAIN_CHANNEL_FORCE) != 0, error);
}
