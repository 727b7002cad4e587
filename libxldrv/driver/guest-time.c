/* Procedures about a guest's clock and its name. */
#include "config.h"

#include "libxldrv/driver/guest.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

#define NS_PER_SECOND G_GINT64_CONSTANT(1000000000)

GVariant *xldrv_handle_domain_get_time(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(XldrvAgentSession) session = NULL;
    g_autoptr(JsonNode) reply = NULL;
    gint64 ns;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error))
        return NULL;
    session = xldrv_agent_begin_args(call, args, error);
    reply = session ? xldrv_agent_run(session, "guest-get-time", NULL, error) : NULL;
    if (!reply)
        return NULL;
    ns = JSON_NODE_HOLDS_VALUE(reply) ? json_node_get_int(reply) : -1;
    if (ns < 0) {
        xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "malformed return value of guest-get-time");
        return NULL;
    }
    return g_variant_new("(xu)", ns / NS_PER_SECOND, (guint)(ns % NS_PER_SECOND));
}

static gboolean time_argument(JsonObject *arguments, gint64 seconds, guint ns, GError **error)
{
    if (seconds < 0 || seconds > G_MAXINT64 / NS_PER_SECOND - 1)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "Time '%" G_GINT64_FORMAT "' is too big for guest agent",
                               seconds);
    json_object_set_int_member(arguments, "time", seconds * NS_PER_SECOND + ns);
    return TRUE;
}

/* With "sync" the guest takes the time of its hardware clock, which is the host's. */
GVariant *xldrv_handle_domain_set_time(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(XldrvAgentSession) session = NULL;
    g_autoptr(JsonObject) arguments = json_object_new();
    guint flags = xldrv_args_u32(args, 3);
    gint64 seconds;

    g_variant_get_child(args, 1, "x", &seconds);
    if (!xldrv_check_flags(flags, VIR_DOMAIN_TIME_SYNC, G_STRFUNC, error) ||
        (!(flags & VIR_DOMAIN_TIME_SYNC) && !time_argument(arguments, seconds, xldrv_args_u32(args, 2), error)))
        return NULL;
    session = xldrv_agent_begin_args(call, args, error);
    if (!session || !xldrv_agent_do(session, "guest-set-time",
                                    flags & VIR_DOMAIN_TIME_SYNC ? NULL : json_object_ref(arguments), error))
        return NULL;
    return xldrv_reply_void();
}

char *xldrv_guest_hostname(XldrvAgentSession *session, GError **error)
{
    g_autoptr(JsonNode) reply = xldrv_agent_run(session, "guest-get-host-name", NULL, error);
    const char *name;

    return reply && xldrv_agent_get_string(reply, "host-name", &name, error) ? g_strdup(name) : NULL;
}

GVariant *xldrv_handle_domain_get_hostname(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(XldrvAgentSession) session = NULL;
    g_autofree char *name = NULL;
    guint flags = xldrv_args_u32(args, 1);

    if (!xldrv_check_flags(flags, VIR_DOMAIN_GET_HOSTNAME_LEASE | VIR_DOMAIN_GET_HOSTNAME_AGENT, G_STRFUNC, error) ||
        !xldrv_check_exclusive(flags, VIR_DOMAIN_GET_HOSTNAME_LEASE | VIR_DOMAIN_GET_HOSTNAME_AGENT, "lease and agent",
                               error))
        return NULL;
    if (flags & VIR_DOMAIN_GET_HOSTNAME_LEASE) {
        xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                        "names are not looked for in leases: ask the guest's agent (source 'agent')");
        return NULL;
    }
    session = xldrv_agent_begin_args(call, args, error);
    name = session ? xldrv_guest_hostname(session, error) : NULL;
    return name ? xldrv_reply_string(name) : NULL;
}
