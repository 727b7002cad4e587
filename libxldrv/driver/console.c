/* Consoles: a stream between a client and the domain's terminal, one at a time. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/pty.h"

#define CONSOLE_FLAGS (VIR_DOMAIN_CONSOLE_FORCE | VIR_DOMAIN_CONSOLE_SAFE)

/* The console that @device names by alias; NULL: the first. -1 with an error. */
static int find_console(GPtrArray *consoles, const char *device, GError **error)
{
    for (guint i = 0; i < consoles->len; i++) {
        const XmlconfConsole *console = consoles->pdata[i];
        if (device && g_strcmp0(device, console->alias) != 0)
            continue;
        if (console->tty)
            return (int)i;
        xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "character device %s is not using a PTY",
                        device ? device : console->alias ? console->alias : "console0");
        return -1;
    }
    xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "cannot find character device %s",
                    device ? device : "<null>");
    return -1;
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
static gboolean take_console(XldrvDomain *domain, int number, gboolean force, GError **error)
{
    XldrvStream *earlier;

    g_mutex_lock(&domain->lock);
    earlier = force ? g_steal_pointer(&domain->consoles[number]) : domain->consoles[number];
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
    GPtrArray *consoles = config ? xmlconf_domain_config(config)->consoles : NULL;
    int number = consoles ? find_console(consoles, device, error) : -1;
    XldrvStream *stream;
    int fd;

    if (number < 0 || !take_console(domain, number, force, error))
        return FALSE;
    fd = xldrv_pty_open(((const XmlconfConsole *)consoles->pdata[number])->tty, error);
    if (fd < 0)
        return FALSE;
    stream = xldrv_stream_new_fd(call, fd, console_closed, xldrv_domain_ref(domain));
    g_mutex_lock(&domain->lock);
    domain->consoles[number] = stream;
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
