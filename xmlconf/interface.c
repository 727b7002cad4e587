/* interface: the rows of <interface>. */
#include "config.h"

#include <net/if.h>
#include <string.h>

#include "xmlconf/fields.h"

#define NIC(member) .offset = G_STRUCT_OFFSET(XmlconfInterface, member)

/* Names that the driver gives: a definition that was copied from a running domain loses them. */
#define GENERATED_PREFIX "vif"
#define MAC_BYTES        6
#define MIN_MTU          68 /* of IPv4 */

#define NIC_TYPES "interfaces are of type bridge or ethernet"
static const XmlconfChoice types[] = {
    {"bridge", XMLCONF_INTERFACE_BRIDGE, NULL},
    {"ethernet", XMLCONF_INTERFACE_ETHERNET, NULL},
    {"network", 0, NIC_TYPES},
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

static gboolean parse_mac(const char *text, guint8 mac[static MAC_BYTES])
{
    for (int i = 0; i < MAC_BYTES; i++) {
        if (!g_ascii_isxdigit(text[0]) || !g_ascii_isxdigit(text[1]) ||
            text[2] != (i + 1 < MAC_BYTES ? ':' : '\0'))
            return FALSE;
        mac[i] = (guint8)(g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));
        text += 3;
    }
    return TRUE;
}

static gboolean read_mac(const XmlconfField *field, xmlNode *element G_GNUC_UNUSED, const char *text,
                         gpointer value, GError **error)
{
    static const guint8 zero[MAC_BYTES];
    guint8 mac[MAC_BYTES];

    if (!parse_mac(text, mac))
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is not a MAC address", error);
    if (mac[0] & 1)
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is a multicast address", error);
    if (memcmp(mac, zero, sizeof(mac)) == 0)
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is no address", error);
    *(char **)value = g_ascii_strdown(text, -1);
    return TRUE;
}

static char *write_text(const XmlconfField *field, gconstpointer value, gboolean live)
{
    return xmlconf_value_string.write(field, value, live);
}

static const XmlconfValueType value_mac = {read_mac, write_text, TRUE};

/* Names that the kernel and libvirt's schema both take. */
static gboolean read_device(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                            GError **error)
{
    gboolean ok = *text && strlen(text) < IFNAMSIZ && strcmp(text, ".") != 0 && strcmp(text, "..") != 0;

    for (const char *p = text; *p && ok; p++)
        ok = g_ascii_isalnum(*p) || strchr("_.-", *p) != NULL;
    if (!ok)
        return xmlconf_value_error(field, XMLCONF_ERROR_XML, text, "is not a name of a network device", error);
    return xmlconf_value_string.read(field, element, text, value, error);
}

static const XmlconfValueType value_device = {read_device, write_text, TRUE};

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

/* A word that is checked where it stands, and kept. */
static gboolean read_model(const XmlconfField *field, xmlNode *element, const char *text,
                           gpointer value G_GNUC_UNUSED, GError **error)
{
    int ignored = 0;

    return xmlconf_value_enum.read(field, element, text, &ignored, error);
}

static const XmlconfValueType value_model = {read_model, NULL, FALSE};

static const XmlconfField fields[] = {
    {"@type", &xmlconf_value_enum, NIC(type), .flags = XMLCONF_FIELD_REQUIRED, .choices = types},
    {"mac@address", &value_mac, NIC(mac)},
    {"source@bridge", &value_device, NIC(bridge)},
    XMLCONF_REFUSED("script", "scripts of network interfaces are not supported"),
    XMLCONF_REFUSED("backenddomain", "the backend of a network interface is in domain 0"),
    XMLCONF_REFUSED("bandwidth", "limits of an interface's bandwidth are not supported yet"),
    XMLCONF_REFUSED("virtualport", "virtual ports are not supported yet"),
    {"target@dev", &value_target, NIC(target)},
    {"model@type", &value_model, .choices = models},
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

gboolean xmlconf_interface_complete(XmlconfInterface *interface, gboolean live, GError **error)
{
    if (interface->type == XMLCONF_INTERFACE_BRIDGE && !interface->bridge) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML,
                    "an interface of type 'bridge' needs a <source bridge='...'/>");
        return FALSE;
    }
    if (interface->type != XMLCONF_INTERFACE_BRIDGE && interface->bridge) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML,
                    "an interface with bridge '%s' must be of type 'bridge'", interface->bridge);
        return FALSE;
    }
    if (!interface->mac)
        interface->mac = random_mac();
    if (!live && interface->target && xmlconf_interface_is_generated(interface->target))
        g_clear_pointer(&interface->target, g_free);
    return TRUE;
}
