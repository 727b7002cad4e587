/* virDomainGetGuestInfo: what a guest's agent knows, in groups. */
#include "config.h"

#include "libxldrv/driver/guest.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

#define MAX_PARAMS 2048 /* of the protocol */
#define MAX_USERS  256

void xldrv_guest_param(GVariantBuilder *params, GVariant *value, const char *format, ...)
{
    g_autofree char *name = NULL;
    va_list args;

    va_start(args, format);
    name = g_strdup_vprintf(format, args);
    va_end(args);
    xldrv_params_add(params, name, value);
}

static gboolean add_user(GVariantBuilder *params, guint i, JsonNode *user, GError **error)
{
    const char *name, *domain = xldrv_agent_find_string(user, "domain");
    JsonNode *since = xldrv_agent_find(user, "login-time"); /* seconds */

    if (!xldrv_agent_get_string(user, "user", &name, error))
        return FALSE;
    if (!since || !JSON_NODE_HOLDS_VALUE(since) || !(json_node_get_double(since) >= 0 && json_node_get_double(since) < 1e15))
        return xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "'login-time' missing in reply of guest-get-users");
    xldrv_guest_param(params, g_variant_new_string(name), "user.%u.name", i);
    if (domain)
        xldrv_guest_param(params, g_variant_new_string(domain), "user.%u.domain", i);
    xldrv_guest_param(params, g_variant_new_uint64((guint64)(json_node_get_double(since) * 1000)), "user.%u.login-time", i);
    return TRUE;
}

static gboolean add_users(XldrvAgentSession *session, GVariantBuilder *params, GError **error)
{
    g_autoptr(JsonNode) reply = xldrv_agent_run(session, "guest-get-users", NULL, error);
    JsonArray *users = reply ? xldrv_agent_array(reply, MAX_USERS, error) : NULL;

    if (!users)
        return FALSE;
    xldrv_guest_param(params, g_variant_new_uint32(json_array_get_length(users)), "user.count");
    for (guint i = 0; i < json_array_get_length(users); i++) {
        if (!add_user(params, i, json_array_get_element(users, i), error))
            return FALSE;
    }
    return TRUE;
}

static gboolean add_os(XldrvAgentSession *session, GVariantBuilder *params, GError **error)
{
    static const char *const members[] = {"id",         "name",       "pretty-name", "version",        "version-id",
                                          "machine",    "variant",    "variant-id",  "kernel-release", "kernel-version"};
    g_autoptr(JsonNode) reply = xldrv_agent_run(session, "guest-get-osinfo", NULL, error);

    for (gsize i = 0; reply && i < G_N_ELEMENTS(members); i++) {
        const char *value = xldrv_agent_find_string(reply, members[i]);
        if (value)
            xldrv_guest_param(params, g_variant_new_string(value), "os.%s", members[i]);
    }
    return reply != NULL;
}

static gboolean add_timezone(XldrvAgentSession *session, GVariantBuilder *params, GError **error)
{
    g_autoptr(JsonNode) reply = xldrv_agent_run(session, "guest-get-timezone", NULL, error);
    const char *zone = reply ? xldrv_agent_find_string(reply, "zone") : NULL;
    gint64 offset;

    if (!reply || !xldrv_agent_get_int(reply, "offset", &offset, error))
        return FALSE;
    if (zone)
        xldrv_guest_param(params, g_variant_new_string(zone), "timezone.name");
    xldrv_guest_param(params, g_variant_new_int32((gint32)CLAMP(offset, G_MININT32, G_MAXINT32)), "timezone.offset");
    return TRUE;
}

static gboolean add_hostname(XldrvAgentSession *session, GVariantBuilder *params, GError **error)
{
    g_autofree char *name = xldrv_guest_hostname(session, error);

    if (name)
        xldrv_guest_param(params, g_variant_new_string(name), "hostname");
    return name != NULL;
}

static void add_interface(GVariantBuilder *params, guint i, GVariant *interface)
{
    g_autoptr(GVariant) addresses = g_variant_get_child_value(interface, 2);
    const char *name, *mac, *ip;
    gint32 type;
    guint32 prefix;

    g_variant_get_child(interface, 0, "&s", &name);
    g_variant_get_child(interface, 1, "m&s", &mac);
    xldrv_guest_param(params, g_variant_new_string(name), "if.%u.name", i);
    if (mac)
        xldrv_guest_param(params, g_variant_new_string(mac), "if.%u.hwaddr", i);
    if (g_variant_n_children(addresses))
        xldrv_guest_param(params, g_variant_new_uint32((guint)g_variant_n_children(addresses)), "if.%u.addr.count", i);
    for (guint j = 0; j < g_variant_n_children(addresses); j++) {
        g_variant_get_child(addresses, j, "(i&su)", &type, &ip, &prefix);
        xldrv_guest_param(params, g_variant_new_string(type == VIR_IP_ADDR_TYPE_IPV4 ? "ipv4" : "ipv6"), "if.%u.addr.%u.type",
                          i, j);
        xldrv_guest_param(params, g_variant_new_string(ip), "if.%u.addr.%u.addr", i, j);
        xldrv_guest_param(params, g_variant_new_uint32(prefix), "if.%u.addr.%u.prefix", i, j);
    }
}

static gboolean add_interfaces(XldrvAgentSession *session, GVariantBuilder *params, GError **error)
{
    g_autoptr(GVariant) interfaces = xldrv_guest_interfaces(session, error);

    if (!interfaces)
        return FALSE;
    xldrv_guest_param(params, g_variant_new_uint32((guint)g_variant_n_children(interfaces)), "if.count");
    for (guint i = 0; i < g_variant_n_children(interfaces); i++) {
        g_autoptr(GVariant) interface = g_variant_get_child_value(interfaces, i);
        add_interface(params, i, interface);
    }
    return TRUE;
}

static const struct {
    guint type;
    gboolean (*add)(XldrvAgentSession *session, GVariantBuilder *params, GError **error);
} groups[] = {
    {VIR_DOMAIN_GUEST_INFO_USERS, add_users},
    {VIR_DOMAIN_GUEST_INFO_OS, add_os},
    {VIR_DOMAIN_GUEST_INFO_TIMEZONE, add_timezone},
    {VIR_DOMAIN_GUEST_INFO_HOSTNAME, add_hostname},
    {VIR_DOMAIN_GUEST_INFO_FILESYSTEM, xldrv_guest_filesystems_add},
    {VIR_DOMAIN_GUEST_INFO_DISKS, xldrv_guest_disks_add},
    {VIR_DOMAIN_GUEST_INFO_INTERFACES, add_interfaces},
};

static gboolean check_types(guint types, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(groups); i++)
        types &= ~groups[i].type;
    return !types || xldrv_set_error(error, VIR_ERR_INVALID_ARG, "unsupported guest information types '0x%x'", types);
}

/* Who asks for everything gets what the agent can tell. */
static gboolean add_group(XldrvAgentSession *session, gsize i, gboolean all, GVariantBuilder *params, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (groups[i].add(session, params, &why) ||
        (all && g_error_matches(why, XLDRV_ERROR, VIR_ERR_OPERATION_UNSUPPORTED)))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

GVariant *xldrv_handle_domain_get_guest_info(XldrvCall *call, GVariant *args, GError **error)
{
    g_auto(GVariantBuilder) params = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(sv)"));
    g_autoptr(XldrvAgentSession) session = NULL;
    g_autoptr(GVariant) all = NULL;
    guint types = xldrv_args_u32(args, 1);

    if (!check_types(types, error) || !xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error))
        return NULL;
    session = xldrv_agent_begin_args(call, args, error);
    if (!session)
        return NULL;
    for (gsize i = 0; i < G_N_ELEMENTS(groups); i++) {
        if ((!types || types & groups[i].type) && !add_group(session, i, !types, &params, error))
            return NULL;
    }
    all = g_variant_ref_sink(g_variant_builder_end(&params));
    if (g_variant_n_children(all) <= MAX_PARAMS)
        return g_variant_new("(@a(sv))", all);
    xldrv_set_error(error, VIR_ERR_RPC, "the guest agent tells of %u things, which are more than %d: ask for fewer at once",
                    (guint)g_variant_n_children(all), MAX_PARAMS);
    return NULL;
}
