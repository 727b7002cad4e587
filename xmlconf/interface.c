/* interface: the rows of <interface>. */
#include "config.h"

#include <string.h>

#include "xmlconf/fields.h"

#define NIC(member) .offset = G_STRUCT_OFFSET(XmlconfInterface, member)

/* Names that the driver gives: a definition that was copied from a running domain loses them. */
#define GENERATED_PREFIX "vif"
#define MAX_RANGES       64
#define MAX_FORWARDS     32
#define MIN_MTU          68 /* of IPv4 */

#define NIC_TYPES "interfaces are of type network, bridge, direct, user or ethernet"
static const XmlconfChoice types[] = {
    {"bridge", XMLCONF_INTERFACE_BRIDGE, NULL},
    {"ethernet", XMLCONF_INTERFACE_ETHERNET, NULL},
    {"network", XMLCONF_INTERFACE_NETWORK, NULL},
    {"direct", XMLCONF_INTERFACE_DIRECT, NULL},
    {"user", XMLCONF_INTERFACE_USER, NULL},
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

const XmlconfChoice xmlconf_macvtap_modes[] = {
    {"vepa", 0, NULL}, {"bridge", 0, NULL}, {"private", 0, NULL}, {"passthrough", 0, NULL}, {NULL, 0, NULL},
};

static const XmlconfInterface *interface_of(const XmlconfField *field, gconstpointer value)
{
    return (const XmlconfInterface *)((const char *)value - field->offset);
}

/* As libvirt has it, a running domain tells what the network of an interface comes to. */
static char *write_type(const XmlconfField *field, gconstpointer value, gboolean live)
{
    const XmlconfInterface *interface = interface_of(field, value);

    return xmlconf_value_enum.write(field, live ? &interface->actual : &interface->type, live);
}

static gboolean read_type(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                          GError **error)
{
    return xmlconf_value_enum.read(field, element, text, value, error);
}

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

/* What is behind a network is the network's own matter. */
static char *write_behind(const XmlconfField *field, gconstpointer value, gboolean live)
{
    gboolean hidden = !live && interface_of(field, value)->type == XMLCONF_INTERFACE_NETWORK;

    return hidden ? NULL : write_text(field, value, live);
}

static gboolean read_mode(const XmlconfField *field, xmlNode *element, const char *text, gpointer value,
                          GError **error)
{
    return xmlconf_value_word.read(field, element, text, value, error);
}

static const XmlconfValueType value_behind = {read_device, write_behind, TRUE};
static const XmlconfValueType value_mode = {read_mode, write_behind, TRUE};

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

static const XmlconfChoice backends[] = {{"passt", 0, NULL}, {NULL, 0, NULL}};
static const XmlconfChoice families[] = {{"ipv4", 0, NULL}, {"ipv6", 0, NULL}, {NULL, 0, NULL}};
static const XmlconfChoice protocols[] = {{"tcp", 0, NULL}, {"udp", 0, NULL}, {NULL, 0, NULL}};

static const XmlconfField ip_fields[] = {
    {"@family", &xmlconf_value_word, .offset = G_STRUCT_OFFSET(XmlconfNicIp, family), .choices = families},
    {"@address", &xmlconf_value_ip, .offset = G_STRUCT_OFFSET(XmlconfNicIp, address), .flags = XMLCONF_FIELD_REQUIRED},
    {"@prefix", &xmlconf_value_nonzero, .offset = G_STRUCT_OFFSET(XmlconfNicIp, prefix), .min = 1, .max = 128},
};

static const XmlconfRecord ip_record = {
    .element = "ip", .size = sizeof(XmlconfNicIp), .fields = ip_fields, .n_fields = G_N_ELEMENTS(ip_fields)};

#define RANGE(member) .offset = G_STRUCT_OFFSET(XmlconfPortRange, member)
static const XmlconfField range_fields[] = {
    {"@start", &xmlconf_value_nonzero, RANGE(start), .flags = XMLCONF_FIELD_REQUIRED, .min = 1, .max = G_MAXUINT16},
    {"@end", &xmlconf_value_nonzero, RANGE(end), .min = 1, .max = G_MAXUINT16},
    {"@to", &xmlconf_value_nonzero, RANGE(to), .min = 1, .max = G_MAXUINT16},
    {"@exclude", &xmlconf_value_yes, RANGE(exclude)},
};

static const XmlconfRecord range_record = {
    .element = "range", .size = sizeof(XmlconfPortRange), .fields = range_fields, .n_fields = G_N_ELEMENTS(range_fields)};

#define FORWARD(member) .offset = G_STRUCT_OFFSET(XmlconfPortForward, member)
static const XmlconfField forward_fields[] = {
    {"@proto", &xmlconf_value_word, FORWARD(proto), .flags = XMLCONF_FIELD_REQUIRED, .choices = protocols},
    {"@address", &xmlconf_value_ip, FORWARD(address)},
    {"@dev", &xmlconf_value_netdev, FORWARD(dev)},
    {"range", .flags = XMLCONF_FIELD_LIST, FORWARD(ranges), .record = &range_record, .max = MAX_RANGES},
};

static const XmlconfRecord forward_record = {.element = "portForward", .size = sizeof(XmlconfPortForward),
                                             .fields = forward_fields, .n_fields = G_N_ELEMENTS(forward_fields)};

static const XmlconfField fields[] = {
    {"@type", &value_type, NIC(type), .flags = XMLCONF_FIELD_REQUIRED, .choices = types},
    {"mac@address", &xmlconf_value_mac, NIC(mac)},
    {"source@network", &xmlconf_value_string, NIC(network)},
    {"source@portgroup", &xmlconf_value_string, NIC(portgroup)},
    {"source@portid", &xmlconf_value_uuid, NIC(port_id), .flags = XMLCONF_FIELD_LIVE},
    {"source@bridge", &value_behind, NIC(bridge)},
    {"source@dev", &value_behind, NIC(dev)},
    {"source@mode", &value_mode, NIC(mode), .choices = xmlconf_macvtap_modes},
    XMLCONF_REFUSED("script", "scripts of network interfaces are not supported"),
    {"ip", .flags = XMLCONF_FIELD_LIST, NIC(ips), .record = &ip_record, .max = 2},
    {"portForward", .flags = XMLCONF_FIELD_LIST, NIC(forwards), .record = &forward_record, .max = MAX_FORWARDS},
    XMLCONF_REFUSED("backenddomain", "the backend of a network interface is in domain 0"),
    XMLCONF_BANDWIDTH_ROWS(G_STRUCT_OFFSET(XmlconfInterface, bandwidth)),
    XMLCONF_REFUSED("virtualport", "virtual ports are not supported yet"),
    {"target@dev", &value_target, NIC(target)},
    {"model@type", &xmlconf_value_checked, .choices = models},
    {"backend@type", &xmlconf_value_word, NIC(backend), .choices = backends},
    {"backend@logFile", &xmlconf_value_path, NIC(log_file)},
    {"driver@queues", &xmlconf_value_nonzero, NIC(queues), .min = 1, .max = XMLCONF_MAX_QUEUES},
    {"filterref@filter", &xmlconf_value_string, NIC(filter)},
    {"filterref/parameter", .flags = XMLCONF_FIELD_LIST, NIC(filter_parameters),
     .record = &xmlconf_filter_parameter_record, .max = XMLCONF_MAX_FILTER_PARAMETERS},
    {"link@state", &xmlconf_value_enum, NIC(link), .choices = links},
    {"port@isolated", &xmlconf_value_yes, NIC(isolated)},
    {"mtu@size", &xmlconf_value_nonzero, NIC(mtu), .min = MIN_MTU, .max = G_MAXUINT16},
    {"boot@order", &xmlconf_value_uint64, NIC(boot_order), .min = 1, .max = G_MAXUINT32},
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

/* What only one type can say, and whether it must. */
static const struct {
    XmlconfInterfaceType type, also;
    gboolean required;
    const char *attribute;
    gsize offset;
} sources[] = {
    {XMLCONF_INTERFACE_BRIDGE, XMLCONF_INTERFACE_BRIDGE, TRUE, "bridge", G_STRUCT_OFFSET(XmlconfInterface, bridge)},
    {XMLCONF_INTERFACE_NETWORK, XMLCONF_INTERFACE_NETWORK, TRUE, "network", G_STRUCT_OFFSET(XmlconfInterface, network)},
    {XMLCONF_INTERFACE_DIRECT, XMLCONF_INTERFACE_USER, TRUE, "dev", G_STRUCT_OFFSET(XmlconfInterface, dev)},
    {XMLCONF_INTERFACE_NETWORK, XMLCONF_INTERFACE_NETWORK, FALSE, "portgroup", G_STRUCT_OFFSET(XmlconfInterface, portgroup)},
    {XMLCONF_INTERFACE_DIRECT, XMLCONF_INTERFACE_DIRECT, FALSE, "mode", G_STRUCT_OFFSET(XmlconfInterface, mode)},
    {XMLCONF_INTERFACE_USER, XMLCONF_INTERFACE_USER, FALSE, "backend", G_STRUCT_OFFSET(XmlconfInterface, backend)},
    {XMLCONF_INTERFACE_USER, XMLCONF_INTERFACE_USER, FALSE, "logFile", G_STRUCT_OFFSET(XmlconfInterface, log_file)},
};

static const char *type_name(XmlconfInterfaceType type)
{
    guint i = 0;

    while (types[i].refusal || types[i].value != (int)type)
        i++;
    return types[i].word;
}

static gboolean check_source(const XmlconfInterface *interface, gboolean live, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(sources); i++) {
        const char *name = type_name(sources[i].type), *value = G_STRUCT_MEMBER(char *, interface, sources[i].offset);
        gboolean ours = interface->type == sources[i].type || interface->type == sources[i].also ||
                        (live && interface->type == XMLCONF_INTERFACE_NETWORK);

        if (value && !ours) {
            g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "an interface with %s '%s' must be of type '%s'",
                        sources[i].attribute, value, name);
            return FALSE;
        }
        if (!value && sources[i].required && interface->type == sources[i].type) {
            g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "an interface of type '%s' needs a <source %s='...'/>",
                        name, sources[i].attribute);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean check_range(const XmlconfPortRange *range, GError **error)
{
    if (range->end && range->end < range->start) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "port range %u to %u ends before it starts", range->start,
                    range->end);
        return FALSE;
    }
    if (range->to && range->end && range->to + (range->end - range->start) > G_MAXUINT16) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "port range %u to %u does not fit at %u", range->start,
                    range->end, range->to);
        return FALSE;
    }
    return TRUE;
}

static gboolean check_tap(const XmlconfInterface *interface, GError **error)
{
    const char *problem = NULL;

    if (interface->filter && interface->type == XMLCONF_INTERFACE_USER)
        problem = "an interface of type 'user' has no tap that could be filtered";
    else if (interface->filter_parameters && interface->filter_parameters->len && !interface->filter)
        problem = "element <filterref> needs an attribute 'filter'";
    else if (interface->isolated && interface->type != XMLCONF_INTERFACE_BRIDGE &&
             interface->type != XMLCONF_INTERFACE_NETWORK)
        problem = "only ports of bridges can be isolated";
    if (problem)
        g_set_error_literal(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED, problem);
    return !problem;
}

static gboolean check_user(const XmlconfInterface *interface, GError **error)
{
    gboolean user = interface->type == XMLCONF_INTERFACE_USER;

    if (!user && ((interface->ips && interface->ips->len) || (interface->forwards && interface->forwards->len))) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED,
                    "an interface with <ip> or <portForward> must be of type 'user'");
        return FALSE;
    }
    if (user && interface->queues > 1) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED, "an interface of type 'user' has one queue, not %u",
                    interface->queues);
        return FALSE;
    }
    for (guint i = 0; interface->forwards && i < interface->forwards->len; i++) {
        const GPtrArray *ranges = ((const XmlconfPortForward *)interface->forwards->pdata[i])->ranges;
        for (guint j = 0; ranges && j < ranges->len; j++) {
            if (!check_range(ranges->pdata[j], error))
                return FALSE;
        }
    }
    return TRUE;
}

static gboolean check_rate(const XmlconfRate *rate, const char *direction, GError **error)
{
    const char *problem = NULL;

    if (!rate->average_kib && (rate->peak_kib || rate->burst_kib))
        problem = "needs an average";
    else if (rate->peak_kib && rate->peak_kib < rate->average_kib)
        problem = "has a peak below its average";
    if (problem)
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "%s bandwidth of an interface %s", direction, problem);
    return !problem;
}

gboolean xmlconf_bandwidth_check(const XmlconfBandwidth *bandwidth, GError **error)
{
    return check_rate(&bandwidth->inbound, "inbound", error) && check_rate(&bandwidth->outbound, "outbound", error);
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
        g_clear_pointer(&interface->dev, g_free);
        g_clear_pointer(&interface->mode, g_free);
    } else if (interface->type == XMLCONF_INTERFACE_BRIDGE || interface->type == XMLCONF_INTERFACE_DIRECT) {
        g_clear_pointer(&interface->network, g_free);
        g_clear_pointer(&interface->portgroup, g_free);
    }
}

gboolean xmlconf_interface_complete(XmlconfInterface *interface, gboolean live, GError **error)
{
    find_type(interface, live);
    if (!check_source(interface, live, error) || !check_user(interface, error) || !check_tap(interface, error) ||
        !xmlconf_bandwidth_check(&interface->bandwidth, error))
        return FALSE;
    if (interface->type == XMLCONF_INTERFACE_DIRECT && !interface->mode)
        interface->mode = g_strdup(xmlconf_macvtap_modes[0].word);
    if (!interface->mac)
        interface->mac = random_mac();
    if (!live && interface->target && xmlconf_interface_is_generated(interface->target))
        g_clear_pointer(&interface->target, g_free);
    return TRUE;
}
