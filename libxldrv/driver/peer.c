/* Connections to libvirt's other daemons. */
#include "config.h"

#include "libxldrv/driver/peer.h"

#include "libxldrv/rpc/rpc.h"

/* Errors are passed on to whoever asked; libvirt's own way would print them. */
static void ignore(void *data G_GNUC_UNUSED, virErrorPtr what G_GNUC_UNUSED)
{
}

virConnectPtr xldrv_peer_open(const char *uri, const char *what, GError **error)
{
    virConnectPtr connection;

    virSetErrorFunc(NULL, ignore);
    connection = virConnectOpen(uri);
    if (!connection)
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot reach libvirt's %s daemon by '%s': %s", what, uri,
                        virGetLastErrorMessage());
    return connection;
}

gboolean xldrv_peer_error(GError **error, const char *format, ...)
{
    const virError *last = virGetLastError();
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    if (!last)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "%s", what);
    return xldrv_set_error_from(error, (virErrorDomain)last->domain, (virErrorNumber)last->code, "%s: %s", what,
                                last->str2 && *last->str2 ? last->str2 : last->message);
}
