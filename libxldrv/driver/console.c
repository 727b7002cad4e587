/* Consoles: a stream between a client and the domain's terminal, one at a time. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/pty.h"

#define CONSOLE_FLAGS (VIR_DOMAIN_CONSOLE_FORCE | VIR_DOMAIN_CONSOLE_SAFE)

/* The terminal of the console that @device names by alias; NULL: the first. Borrowed from @config. */
static const char *find_tty(XmlconfDomain *config, const char *device, GError **error)
{
    GPtrArray *consoles = xmlconf_domain_config(config)->consoles;

    for (guint i = 0; i < consoles->len; i++) {
        const XmlconfConsole *console = consoles->pdata[i];
        if (device && g_strcmp0(device, console->alias) != 0)
            continue;
        if (console->tty)
            return console->tty;
        xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "character device %s is not using a PTY",
                        device ? device : console->alias ? console->alias : "console0");
        return NULL;
    }
    xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "cannot find character device %s",
                    device ? device : "<null>");
    return NULL;
}

static void console_closed(XldrvStream *stream, gpointer data)
{
    XldrvDomain *domain = data;
    gboolean ours;

    g_mutex_lock(&domain->lock);
    ours = domain->console == stream;
    if (ours)
        domain->console = NULL;
    g_mutex_unlock(&domain->lock);
    if (ours)
        xldrv_stream_unref(stream);
    xldrv_domain_unref(domain);
}

/* Ends the earlier session, or refuses because of it. */
static gboolean take_console(XldrvDomain *domain, gboolean force, GError **error)
{
    XldrvStream *earlier;

    g_mutex_lock(&domain->lock);
    earlier = force ? g_steal_pointer(&domain->console) : domain->console;
    g_mutex_unlock(&domain->lock);
    if (!earlier)
        return TRUE;
    if (!force)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                               "Active console session exists for this domain");
    xldrv_stream_abort(earlier, VIR_ERR_OPERATION_ABORTED, "console taken over by another client");
    xldrv_stream_unref(earlier);
    return TRUE;
}

static gboolean open_console(XldrvCall *call, XldrvDomain *domain, const char *device, gboolean force,
                             GError **error)
{
    g_autoptr(XldrvInstance) instance = xldrv_domain_get_instance(domain, error);
    g_autoptr(XmlconfDomain) config = instance ? xldrv_domain_get_config(domain, FALSE) : NULL;
    const char *tty = config ? find_tty(config, device, error) : NULL;
    XldrvStream *stream;
    int fd;

    if (!tty || !take_console(domain, force, error))
        return FALSE;
    fd = xldrv_pty_open(tty, error);
    if (fd < 0)
        return FALSE;
    stream = xldrv_stream_new_fd(call, fd, console_closed, xldrv_domain_ref(domain));
    g_mutex_lock(&domain->lock);
    domain->console = stream;
    g_mutex_unlock(&domain->lock);
    return TRUE;
}

GVariant *xldrv_handle_domain_open_console(XldrvCall *call, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 2);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;

    /* Safe means that nobody else may have it, which is always so here. */
    if (!xldrv_check_flags(flags, CONSOLE_FLAGS, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "open console", error) : NULL;
    if (!job || !open_console(call, job, xldrv_args_optional_string(args, 1),
                              (flags & VIR_DOMAIN_CONSOLE_FORCE) != 0, error))
        return NULL;
    return xldrv_reply_void();
}
