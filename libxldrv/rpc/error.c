/* error: libvirt's error numbers, domains and texts. */
#include "config.h"

#include "libxldrv/rpc/error.h"

#include <string.h>

/* An error has a libvirt domain besides its code, and SYSTEM_ERROR an errno. */
typedef struct {
    virErrorDomain from;
    int system_errno;
} XldrvErrorPrivate;

static void xldrv_error_private_init(XldrvErrorPrivate *priv)
{
    priv->from = VIR_FROM_LIBXL;
}

static void xldrv_error_private_copy(const XldrvErrorPrivate *from, XldrvErrorPrivate *to)
{
    *to = *from;
}

static void xldrv_error_private_clear(XldrvErrorPrivate *priv G_GNUC_UNUSED)
{
}

G_DEFINE_EXTENDED_ERROR(XldrvError, xldrv_error)

/* Longest message that a client gets. */
#define MESSAGE_MAX 65536

/* What libvirt 9.0 puts before and after the detail of an error; clients show and users grep the
 * result. Codes without a row show the detail alone. */
static const struct {
    const char *before, *after;
} texts[] = {
    [VIR_ERR_INTERNAL_ERROR] = {"internal error: ", ""},
    [VIR_ERR_NO_MEMORY] = {"out of memory: ", ""},
    [VIR_ERR_NO_SUPPORT] = {"this function is not supported by the connection driver: ", ""},
    [VIR_ERR_UNKNOWN_HOST] = {"unknown host ", ""},
    [VIR_ERR_NO_CONNECT] = {"no connection driver available for ", ""},
    [VIR_ERR_INVALID_CONN] = {"invalid connection pointer in ", ""},
    [VIR_ERR_INVALID_DOMAIN] = {"invalid domain pointer in ", ""},
    [VIR_ERR_INVALID_ARG] = {"invalid argument: ", ""},
    [VIR_ERR_OPERATION_FAILED] = {"operation failed: ", ""},
    [VIR_ERR_GET_FAILED] = {"GET operation failed: ", ""},
    [VIR_ERR_POST_FAILED] = {"POST operation failed: ", ""},
    [VIR_ERR_NO_XEN] = {"could not use Xen hypervisor entry ", ""},
    [VIR_ERR_XEN_CALL] = {"failed Xen syscall ", ""},
    [VIR_ERR_OS_TYPE] = {"unknown OS type ", ""},
    [VIR_ERR_NO_ROOT] = {"missing root device information in ", ""},
    [VIR_ERR_NO_SOURCE] = {"missing source information for device ", ""},
    [VIR_ERR_NO_TARGET] = {"missing target information for device ", ""},
    [VIR_ERR_NO_NAME] = {"missing name information in ", ""},
    [VIR_ERR_NO_OS] = {"missing operating system information for ", ""},
    [VIR_ERR_NO_DEVICE] = {"missing devices information for ", ""},
    [VIR_ERR_NO_XENSTORE] = {"could not connect to Xen Store ", ""},
    [VIR_ERR_DRIVER_FULL] = {"too many drivers registered in ", ""},
    [VIR_ERR_CALL_FAILED] = {"library call failed: ", ""},
    [VIR_ERR_XML_ERROR] = {"XML error: ", ""},
    [VIR_ERR_DOM_EXIST] = {"domain ", " exists already"},
    [VIR_ERR_OPERATION_DENIED] = {"operation forbidden: ", ""},
    [VIR_ERR_OPEN_FAILED] = {"failed to open configuration file ", ""},
    [VIR_ERR_READ_FAILED] = {"failed to read configuration file ", ""},
    [VIR_ERR_PARSE_FAILED] = {"failed to parse configuration file ", ""},
    [VIR_ERR_CONF_SYNTAX] = {"configuration file syntax error: ", ""},
    [VIR_ERR_WRITE_FAILED] = {"failed to write configuration file: ", ""},
    [VIR_ERR_INVALID_NETWORK] = {"invalid network pointer in ", ""},
    [VIR_ERR_NETWORK_EXIST] = {"network ", " exists already"},
    [VIR_ERR_NO_DOMAIN] = {"Domain not found: ", ""},
    [VIR_ERR_NO_NETWORK] = {"Network not found: ", ""},
    [VIR_ERR_INVALID_MAC] = {"invalid MAC address: ", ""},
    [VIR_ERR_AUTH_FAILED] = {"authentication failed: ", ""},
    [VIR_ERR_INVALID_STORAGE_POOL] = {"invalid storage pool pointer in ", ""},
    [VIR_ERR_INVALID_STORAGE_VOL] = {"invalid storage volume pointer in ", ""},
    [VIR_ERR_NO_STORAGE_POOL] = {"Storage pool not found: ", ""},
    [VIR_ERR_NO_STORAGE_VOL] = {"Storage volume not found: ", ""},
    [VIR_ERR_INVALID_NODE_DEVICE] = {"invalid node device pointer in ", ""},
    [VIR_ERR_NO_NODE_DEVICE] = {"Node device not found: ", ""},
    [VIR_ERR_NO_SECURITY_MODEL] = {"Security model not found: ", ""},
    [VIR_ERR_OPERATION_INVALID] = {"Requested operation is not valid: ", ""},
    [VIR_ERR_NO_INTERFACE] = {"Interface not found: ", ""},
    [VIR_ERR_INVALID_INTERFACE] = {"invalid interface pointer in ", ""},
    [VIR_ERR_MULTIPLE_INTERFACES] = {"multiple matching interfaces found: ", ""},
    [VIR_ERR_INVALID_NWFILTER] = {"Invalid network filter: ", ""},
    [VIR_ERR_NO_NWFILTER] = {"Network filter not found: ", ""},
    [VIR_ERR_BUILD_FIREWALL] = {"Error while building firewall: ", ""},
    [VIR_ERR_INVALID_SECRET] = {"Invalid secret: ", ""},
    [VIR_ERR_NO_SECRET] = {"Secret not found: ", ""},
    [VIR_ERR_CONFIG_UNSUPPORTED] = {"unsupported configuration: ", ""},
    [VIR_ERR_OPERATION_TIMEOUT] = {"Timed out during operation: ", ""},
    [VIR_ERR_MIGRATE_PERSIST_FAILED] = {"Failed to make domain persistent after migration: ", ""},
    [VIR_ERR_HOOK_SCRIPT_FAILED] = {"Hook script execution failed: ", ""},
    [VIR_ERR_INVALID_DOMAIN_SNAPSHOT] = {"Invalid domain snapshot: ", ""},
    [VIR_ERR_NO_DOMAIN_SNAPSHOT] = {"Domain snapshot not found: ", ""},
    [VIR_ERR_INVALID_STREAM] = {"invalid stream pointer in ", ""},
    [VIR_ERR_ARGUMENT_UNSUPPORTED] = {"argument unsupported: ", ""},
    [VIR_ERR_STORAGE_PROBE_FAILED] = {"Storage pool probe failed: ", ""},
    [VIR_ERR_STORAGE_POOL_BUILT] = {"Storage pool already built: ", ""},
    [VIR_ERR_SNAPSHOT_REVERT_RISKY] = {"revert requires force: ", ""},
    [VIR_ERR_OPERATION_ABORTED] = {"operation aborted: ", ""},
    [VIR_ERR_AUTH_CANCELLED] = {"authentication cancelled: ", ""},
    [VIR_ERR_NO_DOMAIN_METADATA] = {"metadata not found: ", ""},
    [VIR_ERR_MIGRATE_UNSAFE] = {"Unsafe migration: ", ""},
    [VIR_ERR_OVERFLOW] = {"numerical overflow: ", ""},
    [VIR_ERR_BLOCK_COPY_ACTIVE] = {"block copy still active: ", ""},
    [VIR_ERR_OPERATION_UNSUPPORTED] = {"Operation not supported: ", ""},
    [VIR_ERR_SSH] = {"SSH transport error: ", ""},
    [VIR_ERR_AGENT_UNRESPONSIVE] = {"Guest agent is not responding: ", ""},
    [VIR_ERR_RESOURCE_BUSY] = {"resource busy: ", ""},
    [VIR_ERR_ACCESS_DENIED] = {"access denied: ", ""},
    [VIR_ERR_DBUS_SERVICE] = {"error from service: ", ""},
    [VIR_ERR_STORAGE_VOL_EXIST] = {"storage volume ", " exists already"},
    [VIR_ERR_CPU_INCOMPATIBLE] = {"the CPU is incompatible with host CPU: ", ""},
    [VIR_ERR_XML_INVALID_SCHEMA] = {"XML document failed to validate against schema: ", ""},
    [VIR_ERR_MIGRATE_FINISH_OK] = {"migration successfully aborted: ", ""},
    [VIR_ERR_AUTH_UNAVAILABLE] = {"authentication unavailable: ", ""},
    [VIR_ERR_NO_SERVER] = {"Server not found: ", ""},
    [VIR_ERR_NO_CLIENT] = {"Client not found: ", ""},
    [VIR_ERR_AGENT_UNSYNCED] = {"guest agent replied with wrong id to guest-sync command: ", ""},
    [VIR_ERR_LIBSSH] = {"libssh transport error: ", ""},
    [VIR_ERR_DEVICE_MISSING] = {"device not found: ", ""},
    [VIR_ERR_INVALID_NWFILTER_BINDING] = {"Invalid network filter binding: ", ""},
    [VIR_ERR_NO_NWFILTER_BINDING] = {"Network filter binding not found: ", ""},
    [VIR_ERR_INVALID_DOMAIN_CHECKPOINT] = {"Invalid domain checkpoint: ", ""},
    [VIR_ERR_NO_DOMAIN_CHECKPOINT] = {"Domain checkpoint not found: ", ""},
    [VIR_ERR_NO_DOMAIN_BACKUP] = {"Domain backup job id not found: ", ""},
    [VIR_ERR_INVALID_NETWORK_PORT] = {"Invalid network port pointer: ", ""},
    [VIR_ERR_NETWORK_PORT_EXIST] = {"network port ", " exists already"},
    [VIR_ERR_NO_NETWORK_PORT] = {"network port not found: ", ""},
    [VIR_ERR_NO_HOSTNAME] = {"no hostname found: ", ""},
    [VIR_ERR_CHECKPOINT_INCONSISTENT] = {"checkpoint inconsistent: ", ""},
    [VIR_ERR_MULTIPLE_DOMAINS] = {"multiple matching domains found: ", ""},
};

static char *complete_text(int code, const char *detail)
{
    if (code < 0 || (gsize)code >= G_N_ELEMENTS(texts) || !texts[code].before)
        return g_strdup(detail);
    return g_strconcat(texts[code].before, detail, texts[code].after, NULL);
}

static void set_complete(GError **error, virErrorDomain from, int code, int system_errno, const char *text)
{
    if (!error)
        return;
    g_set_error_literal(error, XLDRV_ERROR, code, text);
    XldrvErrorPrivate *priv = xldrv_error_get_private(*error);
    priv->from = from;
    priv->system_errno = system_errno;
}

static void set_error(GError **error, virErrorDomain from, int code, int system_errno,
                      const char *detail)
{
    g_autofree char *text = complete_text(code, detail);
    set_complete(error, from, code, system_errno, text);
}

gboolean xldrv_set_error_complete(GError **error, virErrorDomain from, virErrorNumber code, const char *text)
{
    set_complete(error, from, code, 0, text);
    return FALSE;
}

gboolean xldrv_set_error(GError **error, virErrorNumber code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *detail = g_strdup_vprintf(format, args);
    va_end(args);
    set_error(error, VIR_FROM_LIBXL, code, 0, detail);
    return FALSE;
}

gboolean xldrv_set_error_from(GError **error, virErrorDomain from, virErrorNumber code,
                              const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *detail = g_strdup_vprintf(format, args);
    va_end(args);
    set_error(error, from, code, 0, detail);
    return FALSE;
}

gboolean xldrv_set_system_error(GError **error, int system_errno, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *detail = g_strconcat(what, ": ", g_strerror(system_errno), NULL);
    set_error(error, VIR_FROM_LIBXL, VIR_ERR_SYSTEM_ERROR, system_errno, detail);
    return FALSE;
}

static GVariant *error_variant(virErrorDomain from, int code, int system_errno, const char *message)
{
    g_autofree char *cut = g_strndup(message, MESSAGE_MAX);
    g_autofree char *text = g_utf8_make_valid(cut, -1);
    int detail = code == VIR_ERR_SYSTEM_ERROR ? system_errno : -1;
    return g_variant_ref_sink(g_variant_new("(iimsim(sayi)msmsmsiim(say))", code, (int)from, text,
                                            VIR_ERR_ERROR, FALSE, NULL, NULL, 0, NULL, NULL, NULL,
                                            detail, -1, FALSE, NULL, NULL));
}

GVariant *xldrv_error_to_variant(const GError *error, XldrvErrorCodeFn convert)
{
    if (error->domain == XLDRV_ERROR) {
        const XldrvErrorPrivate *priv = xldrv_error_get_private(error);
        return error_variant(priv->from, error->code, priv->system_errno, error->message);
    }
    int code = convert ? convert(error) : VIR_ERR_OK;
    if (code == VIR_ERR_OK)
        code = VIR_ERR_INTERNAL_ERROR;
    g_autofree char *text = complete_text(code, error->message);
    return error_variant(VIR_FROM_LIBXL, code, 0, text);
}
