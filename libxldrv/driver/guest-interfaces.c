/* A guest's network interfaces, as its agent tells them. */
#include "config.h"

#include "libxldrv/driver/guest.h"

#define MAX_INTERFACES 2048 /* of the protocol, and of addresses of one */

static gboolean add_address(GVariantBuilder *answer, JsonNode *address, GError **error)
{
    const char *type, *ip;
    gint64 prefix;

    if (!xldrv_agent_get_string(address, "ip-address-type", &type, error) ||
        !xldrv_agent_get_string(address, "ip-address", &ip, error) ||
        !xldrv_agent_get_int(address, "prefix", &prefix, error))
        return FALSE;
    if ((!g_str_equal(type, "ipv4") && !g_str_equal(type, "ipv6")) || prefix < 0 || prefix > 128)
        return xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "guest agent told of address '%.100s' of type '%.100s'", ip,
                               type);
    g_variant_builder_add(answer, "(isu)", g_str_equal(type, "ipv4") ? VIR_IP_ADDR_TYPE_IPV4 : VIR_IP_ADDR_TYPE_IPV6, ip,
                          (guint)prefix);
    return TRUE;
}

static gboolean add_addresses(GVariantBuilder *answer, JsonNode *interface, GError **error)
{
    JsonNode *node = xldrv_agent_find(interface, "ip-addresses");
    JsonArray *addresses = node ? xldrv_agent_array(node, MAX_INTERFACES, error) : NULL;

    for (guint i = 0; addresses && i < json_array_get_length(addresses); i++) {
        if (!add_address(answer, json_array_get_element(addresses, i), error))
            return FALSE;
    }
    return addresses || !node; /* one without addresses need not say so */
}

static gboolean add_interface(GVariantBuilder *answer, JsonNode *interface, GError **error)
{
    const char *name;
    gboolean ok;

    if (!xldrv_agent_get_string(interface, "name", &name, error))
        return FALSE;
    g_variant_builder_open(answer, G_VARIANT_TYPE("(smsa(isu))"));
    g_variant_builder_add(answer, "s", name);
    g_variant_builder_add(answer, "ms", xldrv_agent_find_string(interface, "hardware-address"));
    g_variant_builder_open(answer, G_VARIANT_TYPE("a(isu)"));
    ok = add_addresses(answer, interface, error);
    g_variant_builder_close(answer);
    g_variant_builder_close(answer);
    return ok;
}

GVariant *xldrv_guest_interfaces(XldrvAgentSession *session, GError **error)
{
    g_auto(GVariantBuilder) answer = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(smsa(isu))"));
    g_autoptr(JsonNode) reply = xldrv_agent_run(session, "guest-network-get-interfaces", NULL, error);
    JsonArray *interfaces = reply ? xldrv_agent_array(reply, MAX_INTERFACES, error) : NULL;

    if (!interfaces)
        return NULL;
    for (guint i = 0; i < json_array_get_length(interfaces); i++) {
        if (!add_interface(&answer, json_array_get_element(interfaces, i), error))
            return NULL;
    }
    return g_variant_ref_sink(g_variant_builder_end(&answer));
}
