/* Procedures about the connection itself and about who serves it. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/host.h"

/* major * 1000000 + minor * 1000 + micro. The hypervisor's is that of the Xen whose interface it has. */
#define XEN_VERSION     4017000
#define LIBVIRT_VERSION 9000000

#define OPEN_FLAGS (VIR_CONNECT_RO | 2 | 4) /* read-only, per-user daemon, autostarted */

/* VIR_DRV_FEATURE_*, from libvirt's drivers: those that are there. All others are answered 0. */
enum {
    FEATURE_MIGRATION_P2P = 4,
    FEATURE_MIGRATION_V3 = 6,
    FEATURE_MIGRATE_CHANGE_PROTECTION = 7,
    FEATURE_FD_PASSING = 8,
    FEATURE_TYPED_PARAM_STRING = 9,
    FEATURE_PROGRAM_KEEPALIVE = 10,
    FEATURE_MIGRATION_OFFLINE = 12,
    FEATURE_MIGRATION_PARAMS = 13,
    FEATURE_REMOTE_EVENT_CALLBACK = 14,
    FEATURE_REMOTE_CLOSE_CALLBACK = 15,
    FEATURE_NETWORK_UPDATE_HAS_CORRECT_ORDER = 16, /* of arguments, as all daemons have it that we pass it on to */
};

/* "xen" and "xen://" mean the system connection as well; a client may leave the choice to us. */
static gboolean serves_uri(const char *name)
{
    static const char *const ours[] = {"", "xen", "xen://", "xen:///", "xen:///system", NULL};
    g_autofree char *path = NULL;

    if (!name)
        return TRUE;
    path = g_strndup(name, strcspn(name, "?#"));
    return g_strv_contains(ours, path);
}

GVariant *xldrv_handle_connect_open(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvClient *client = xldrv_call_client(call);
    const char *name = xldrv_args_optional_string(args, 0);
    guint32 flags = xldrv_args_u32(args, 1);

    if (!xldrv_check_flags(flags, OPEN_FLAGS, G_STRFUNC, error))
        return NULL;
    if (xldrv_client_is_open(client)) {
        xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "connection already open");
        return NULL;
    }
    if (!serves_uri(name)) {
        xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "unexpected Xen URI '%s', try xen:///system", name);
        return NULL;
    }
    if (flags & VIR_CONNECT_RO)
        xldrv_client_set_readonly(client);
    xldrv_client_set_open(client);
    return xldrv_reply_void();
}

static void close_client(gpointer client)
{
    xldrv_client_close(client);
    xldrv_client_unref(client);
}

GVariant *xldrv_handle_connect_close(XldrvCall *call, GVariant *args G_GNUC_UNUSED,
                                     GError **error G_GNUC_UNUSED)
{
    xldrv_call_after_reply(call, close_client, xldrv_client_ref(xldrv_call_client(call)));
    return xldrv_reply_void();
}

GVariant *xldrv_handle_connect_get_type(XldrvCall *call G_GNUC_UNUSED, GVariant *args G_GNUC_UNUSED,
                                        GError **error G_GNUC_UNUSED)
{
    return xldrv_reply_string("Xen");
}

GVariant *xldrv_handle_connect_get_version(XldrvCall *call G_GNUC_UNUSED, GVariant *args G_GNUC_UNUSED,
                                           GError **error G_GNUC_UNUSED)
{
    return g_variant_new("(t)", (guint64)XEN_VERSION);
}

GVariant *xldrv_handle_connect_get_lib_version(XldrvCall *call G_GNUC_UNUSED,
                                               GVariant *args G_GNUC_UNUSED,
                                               GError **error G_GNUC_UNUSED)
{
    return g_variant_new("(t)", (guint64)LIBVIRT_VERSION);
}

GVariant *xldrv_handle_connect_get_uri(XldrvCall *call G_GNUC_UNUSED, GVariant *args G_GNUC_UNUSED,
                                       GError **error G_GNUC_UNUSED)
{
    return xldrv_reply_string("xen:///system");
}

GVariant *xldrv_handle_connect_get_hostname(XldrvCall *call G_GNUC_UNUSED, GVariant *args G_GNUC_UNUSED,
                                            GError **error G_GNUC_UNUSED)
{
    g_autofree char *name = xldrv_host_name();

    return xldrv_reply_string(name);
}

GVariant *xldrv_handle_connect_supports_feature(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvClient *client = xldrv_call_client(call);
    int feature = xldrv_args_i32(args, 0), pid;
    guint uid, gid;

    if (feature != FEATURE_PROGRAM_KEEPALIVE && !xldrv_client_is_open(client)) {
        xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "connection not open");
        return NULL;
    }
    switch (feature) {
    case FEATURE_PROGRAM_KEEPALIVE:
        xldrv_client_start_keepalive(client);
        return xldrv_reply_int(1);
    case FEATURE_FD_PASSING:
        return xldrv_reply_int(xldrv_client_peer(client, &uid, &gid, &pid)); /* UNIX sockets only */
    case FEATURE_MIGRATION_P2P:
    case FEATURE_MIGRATION_V3:
    case FEATURE_MIGRATE_CHANGE_PROTECTION:
    case FEATURE_MIGRATION_OFFLINE:
    case FEATURE_MIGRATION_PARAMS:
    case FEATURE_TYPED_PARAM_STRING:
    case FEATURE_REMOTE_EVENT_CALLBACK:
    case FEATURE_REMOTE_CLOSE_CALLBACK:
    case FEATURE_NETWORK_UPDATE_HAS_CORRECT_ORDER:
        return xldrv_reply_int(1);
    default:
        return xldrv_reply_int(0);
    }
}

/* Ours to the hypervisors; what its own connection is like a client knows. */
GVariant *xldrv_handle_connect_is_secure(XldrvCall *call G_GNUC_UNUSED, GVariant *args G_GNUC_UNUSED,
                                         GError **error G_GNUC_UNUSED)
{
    return xldrv_reply_int(1);
}

/* The connection between the daemon and its hypervisor never closes while the daemon lives. */
GVariant *xldrv_handle_connect_register_close_callback(XldrvCall *call G_GNUC_UNUSED,
                                                       GVariant *args G_GNUC_UNUSED,
                                                       GError **error G_GNUC_UNUSED)
{
    return xldrv_reply_void();
}

GVariant *xldrv_handle_connect_unregister_close_callback(XldrvCall *call G_GNUC_UNUSED,
                                                         GVariant *args G_GNUC_UNUSED,
                                                         GError **error G_GNUC_UNUSED)
{
    return xldrv_reply_void();
}

GVariant *xldrv_handle_connect_get_capabilities(XldrvCall *call G_GNUC_UNUSED,
                                                GVariant *args G_GNUC_UNUSED,
                                                GError **error G_GNUC_UNUSED)
{
    g_autofree char *xml = xmlconf_capabilities_format(&xldrv_driver_get()->host);

    return xldrv_reply_string(xml);
}

GVariant *xldrv_handle_connect_get_domain_capabilities(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                                       GError **error)
{
    g_autofree char *xml = NULL;
    g_autoptr(GError) why = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 4), 0, G_STRFUNC, error))
        return NULL;
    xml = xmlconf_domain_capabilities_format(
        &xldrv_driver_get()->host, xldrv_cpus_guest(xldrv_driver_get()->cpus, NULL), xldrv_args_optional_string(args, 0),
        xldrv_args_optional_string(args, 1), xldrv_args_optional_string(args, 2),
        xldrv_args_optional_string(args, 3), &why);
    if (!xml) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%s", why->message);
        return NULL;
    }
    return xldrv_reply_string(xml);
}

GVariant *xldrv_handle_connect_get_max_vcpus(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                             GError **error)
{
    const char *type = xldrv_args_optional_string(args, 0);

    if (type && g_ascii_strcasecmp(type, "xen") != 0) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "unknown type '%s'", type);
        return NULL;
    }
    return xldrv_reply_int(xldrv_driver_get()->host.max_vcpus);
}

GVariant *xldrv_handle_connect_get_sysinfo(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autofree char *xml = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 0), 0, G_STRFUNC, error))
        return NULL;
    xml = xldrv_host_sysinfo();
    if (!xml)
        xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "Host SMBIOS information is not available");
    return xml ? xldrv_reply_string(xml) : NULL;
}

/* Where access control does not ask whether a client may: whoever could be anybody on this host may. */
static gboolean may_speak_for_others(XldrvClient *client)
{
    guint uid, gid;
    int pid;

    return xldrv_driver_get()->access ||
           (xldrv_client_peer(client, &uid, &gid, &pid) && (uid == 0 || uid == geteuid()));
}

GVariant *xldrv_handle_connect_set_identity(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(GVariant) params = g_variant_get_child_value(args, 0);

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error))
        return NULL;
    if (!may_speak_for_others(xldrv_call_client(call))) {
        xldrv_set_error(error, VIR_ERR_ACCESS_DENIED, "only root may tell whose its calls are");
        return NULL;
    }
    if (!xldrv_client_set_identity(xldrv_call_client(call), params, error))
        return NULL;
    return xldrv_reply_void();
}

/* ---- events */

GVariant *xldrv_handle_connect_domain_event_callback_register_any(XldrvCall *call, GVariant *args,
                                                                  GError **error)
{
    g_autoptr(GVariant) which = g_variant_get_child_value(args, 1);
    g_autoptr(GVariant) wire = g_variant_get_maybe(which);
    g_autoptr(XldrvDomain) domain = NULL;
    int callback;

    if (wire && !(domain = xldrv_wire_domain(wire, error)))
        return NULL;
    callback = xldrv_events_register(xldrv_driver_get()->events, call, xldrv_args_i32(args, 0),
                                     domain ? domain->uuid : NULL, error);
    return callback < 0 ? NULL : xldrv_reply_int(callback);
}

GVariant *xldrv_handle_connect_domain_event_callback_deregister_any(XldrvCall *call, GVariant *args,
                                                                    GError **error)
{
    return xldrv_events_deregister(xldrv_driver_get()->events, xldrv_call_client(call),
                                   xldrv_args_i32(args, 0), error)
               ? xldrv_reply_void()
               : NULL;
}

GVariant *xldrv_handle_connect_domain_event_register(XldrvCall *call, GVariant *args G_GNUC_UNUSED,
                                                     GError **error)
{
    return xldrv_events_register_legacy(xldrv_driver_get()->events, call, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
                                        error)
               ? xldrv_reply_int(0)
               : NULL;
}

GVariant *xldrv_handle_connect_domain_event_deregister(XldrvCall *call, GVariant *args G_GNUC_UNUSED,
                                                       GError **error)
{
    return xldrv_events_deregister_legacy(xldrv_driver_get()->events, xldrv_call_client(call),
                                          VIR_DOMAIN_EVENT_ID_LIFECYCLE, error)
               ? xldrv_reply_int(0)
               : NULL;
}

GVariant *xldrv_handle_connect_domain_event_register_any(XldrvCall *call, GVariant *args, GError **error)
{
    return xldrv_events_register_legacy(xldrv_driver_get()->events, call, xldrv_args_i32(args, 0), error)
               ? xldrv_reply_void()
               : NULL;
}

GVariant *xldrv_handle_connect_domain_event_deregister_any(XldrvCall *call, GVariant *args,
                                                           GError **error)
{
    return xldrv_events_deregister_legacy(xldrv_driver_get()->events, xldrv_call_client(call),
                                          xldrv_args_i32(args, 0), error)
               ? xldrv_reply_void()
               : NULL;
}
