/* interface: the rows of <interface>. */
#include "config.h"

#include <string.h>

#include "xmlconf/fields.h"

#define NIC(member) .offset = G_STRUCT_OFFSET(XmlconfInterface, member)

/* Names that the driver gives: a definition that was copied from a running domain loses them. */
#define GENERATED_PREFIX "vif"
#define MIN_MTU          68 /* of IPv4 */

#define NIC_TYPES "interfaces are of type network, bridge or ethernet"
static const XmlconfChoice types[] = {
    {"bridge", XMLCONF_INTERFACE_BRIDGE, NULL},
    {"ethernet", XMLCONF_INTERFACE_ETHERNET, NULL},
    {"network", XMLCONF_INTERFACE_NETWORK, NULL},
    {"user", 0, NIC_TYPES},
    {"direct", 0, NIC_TYPES},
    {"hostdev", 0, NIC_TYPES},
    {"vhostuser", 0, NIC_TYPES},
    {"internal", 0, NIC_TYPES},
    {"mcast", 0, NIC_TYPES},
    {"server", 0, NIC_TYPES},
    {"client", 0, NIC_TYPES},
    {"udp", 0, NIC_TYPES},
    {"vdpa", 0, NIC_TYPES},
    {NULL, 0, NULL},
};

#define MODELS "a PVH guest has Xen's network front end"
static const XmlconfChoice models[] = {
    {"netfront", 0, NULL},    {"virtio", 0, MODELS}, {"e1000", 0, MODELS},
    {"rtl8139", 0, MODELS},   {"ne2k_pci", 0, MODELS}, {"e1000e", 0, MODELS},
    {NULL, 0, NULL},
};

static const XmlconfChoice links[] = {
    {"up", XMLCONF_LINK_UP, NULL},
    {"down", XMLCONF_LINK_DOWN, NULL},
    {NULL, 0, NULL},
};

/* As libvirt has it, a running domain tells what the network of an interface comes to. */
static char *write_type(const XmlconfField *field, gconstpointer value, gboolean live)
{
    const XmlconfInterface *interface = value;

    return xmlconf_value_enum.write(field, live ? &interface->actual : &interface->type, live);
}

static gboolean read_type(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                          GError **error)
{
    return xmlconf_value_enum.read(field, element, text, value, error);
}

/* @type is the first member, so the value's address is the interface's. */
G_STATIC_ASSERT(G_STRUCT_OFFSET(XmlconfInterface, type) == 0);
static const XmlconfValueType value_type = {read_type, write_type, FALSE};

static char *write_text(const XmlconfField *field, gconstpointer value, gboolean live)
{
    return xmlconf_value_string.write(field, value, live);
}

static gboolean read_device(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                            GError **error)
{
    return xmlconf_value_netdev.read(field, element, text, value, error);
}

/* The bridge of a network is the network's own matter. */
static char *write_bridge(const XmlconfField *field, gconstpointer value, gboolean live)
{
    const XmlconfInterface *interface =
        (const XmlconfInterface *)((const char *)value - G_STRUCT_OFFSET(XmlconfInterface, bridge));

    return !live && interface->type == XMLCONF_INTERFACE_NETWORK ? NULL : write_text(field, value, live);
}

static const XmlconfValueType value_bridge = {read_device, write_bridge, TRUE};

gboolean xmlconf_interface_is_generated(const char *tap)
{
    return g_str_has_prefix(tap, GENERATED_PREFIX);
}

static char *write_target(const XmlconfField *field, gconstpointer value, gboolean live)
{
    const char *name = *(char *const *)value;

    return !live && name && xmlconf_interface_is_generated(name) ? NULL : write_text(field, value, live);
}

static const XmlconfValueType value_target = {read_device, write_target, TRUE};

static char *write_mtu(const XmlconfField *field, gconstpointer value, gboolean live)
{
    return *(const guint *)value ? xmlconf_value_uint.write(field, value, live) : NULL;
}

static gboolean read_mtu(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                         GError **error)
{
    return xmlconf_value_uint.read(field, element, text, value, error);
}

static const XmlconfValueType value_mtu = {read_mtu, write_mtu, FALSE};

static const XmlconfField fields[] = {
    {"@type", &value_type, NIC(type), .flags = XMLCONF_FIELD_REQUIRED, .choices = types},
    {"mac@address", &xmlconf_value_mac, NIC(mac)},
    {"source@network", &xmlconf_value_string, NIC(network)},
    {"source@portgroup", &xmlconf_value_string, NIC(portgroup)},
    {"source@portid", &xmlconf_value_uuid, NIC(port_id), .flags = XMLCONF_FIELD_LIVE},
    {"source@bridge", &value_bridge, NIC(bridge)},
    XMLCONF_REFUSED("script", "scripts of network interfaces are not supported"),
    XMLCONF_REFUSED("backenddomain", "the backend of a network interface is in domain 0"),
    XMLCONF_REFUSED("bandwidth", "limits of an interface's bandwidth are not supported yet"),
    XMLCONF_REFUSED("virtualport", "virtual ports are not supported yet"),
    {"target@dev", &value_target, NIC(target)},
    {"model@type", &xmlconf_value_checked, .choices = models},
    XMLCONF_REFUSED("filterref", "network filters are not supported yet"),
    {"link@state", &xmlconf_value_enum, NIC(link), .choices = links},
    {"mtu@size", &value_mtu, NIC(mtu), .min = MIN_MTU, .max = G_MAXUINT16},
    XMLCONF_REFUSED("boot", "boot devices are not supported: a PVH guest is booted from its kernel"),
    {"alias@name", &xmlconf_value_string, NIC(alias), .flags = XMLCONF_FIELD_LIVE},
};

const XmlconfRecord xmlconf_interface_record = {
    .element = "interface",
    .size = sizeof(XmlconfInterface),
    .fields = fields,
    .n_fields = G_N_ELEMENTS(fields),
};

char *xmlconf_interface_tap(int domid, guint index)
{
    return g_strdup_printf(GENERATED_PREFIX "%d.%u", domid, index);
}

/* Under Xen's own prefix. */
static char *random_mac(void)
{
    guint32 bits = g_random_int();

    return g_strdup_printf("00:16:3e:%02x:%02x:%02x", bits >> 16 & 0xff, bits >> 8 & 0xff, bits & 0xff);
}

/* What each type must say in <source>. */
static const struct {
    XmlconfInterfaceType type;
    const char *name, *attribute;
    gsize offset;
} needs[] = {
    {XMLCONF_INTERFACE_BRIDGE, "bridge", "bridge", G_STRUCT_OFFSET(XmlconfInterface, bridge)},
    {XMLCONF_INTERFACE_NETWORK, "network", "network", G_STRUCT_OFFSET(XmlconfInterface, network)},
};

static gboolean check_source(const XmlconfInterface *interface, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(needs); i++) {
        if (interface->type != needs[i].type || G_STRUCT_MEMBER(char *, interface, needs[i].offset))
            continue;
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "an interface of type '%s' needs a <source %s='...'/>",
                    needs[i].name, needs[i].attribute);
        return FALSE;
    }
    if (interface->bridge && interface->type == XMLCONF_INTERFACE_ETHERNET) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "an interface with bridge '%s' must be of type 'bridge'",
                    interface->bridge);
        return FALSE;
    }
    if (interface->network && interface->type == XMLCONF_INTERFACE_ETHERNET) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "an interface with network '%s' must be of type 'network'",
                    interface->network);
        return FALSE;
    }
    return TRUE;
}

/* A running domain's document tells of an interface in a network as what it is there; a definition that was copied
 * from it keeps what can be chosen. */
static void find_type(XmlconfInterface *interface, gboolean live)
{
    interface->actual = interface->type;
    if (live && interface->network)
        interface->type = XMLCONF_INTERFACE_NETWORK;
    if (live)
        return;
    if (interface->type == XMLCONF_INTERFACE_NETWORK) {
        g_clear_pointer(&interface->bridge, g_free);
    } else if (interface->type == XMLCONF_INTERFACE_BRIDGE) {
        g_clear_pointer(&interface->network, g_free);
        g_clear_pointer(&interface->portgroup, g_free);
    }
}

gboolean xmlconf_interface_complete(XmlconfInterface *interface, gboolean live, GError **error)
{
    find_type(interface, live);
    if (!check_source(interface, error))
        return FALSE;
    if (!interface->mac)
        interface->mac = random_mac();
    if (!live && interface->target && xmlconf_interface_is_generated(interface->target))
        g_clear_pointer(&interface->target, g_free);
    return TRUE;
}
