/* network-port: the rows of <networkport>. */
#include "config.h"

#include "xmlconf/document.h"
#include "xmlconf/fields.h"

#define PORT(member) .offset = G_STRUCT_OFFSET(XmlconfNetworkPort, member)

static const XmlconfChoice plugs[] = {
    {"network", XMLCONF_PLUG_NETWORK, NULL},
    {"bridge", XMLCONF_PLUG_BRIDGE, NULL},
    {"direct", XMLCONF_PLUG_DIRECT, NULL},
    {"hostdev-pci", -1, "host devices are not supported"},
    {NULL, 0, NULL},
};

static const XmlconfChoice managers[] = {{"kernel", 0, NULL}, {"libvirt", 0, "the kernel learns addresses"}, {NULL, 0, NULL}};
static const XmlconfChoice trust[] = {{"no", 0, NULL}, {"yes", 0, "guests have no receive filters"}, {NULL, 0, NULL}};

static const XmlconfField fields[] = {
    {"uuid", &xmlconf_value_uuid, PORT(uuid)},
    {"owner/name", &xmlconf_value_string, PORT(owner_name)},
    {"owner/uuid", &xmlconf_value_uuid, PORT(owner_uuid)},
    {"group", &xmlconf_value_string, PORT(group)},
    {"mac@address", &xmlconf_value_mac, PORT(mac)},
    {"rxfilters@trustGuest", &xmlconf_value_checked, .choices = trust},
    XMLCONF_REFUSED("virtualport", "virtual ports are not supported"),
    XMLCONF_BANDWIDTH_ROWS(G_STRUCT_OFFSET(XmlconfNetworkPort, bandwidth)),
    XMLCONF_REFUSED("vlan", "VLANs of interfaces are not supported"),
    {"port@isolated", &xmlconf_value_yes, PORT(isolated)},
    {"plug@type", &xmlconf_value_enum, PORT(plug), .choices = plugs},
    {"plug@bridge", &xmlconf_value_netdev, PORT(bridge)},
    {"plug@dev", &xmlconf_value_netdev, PORT(dev)},
    {"plug@mode", &xmlconf_value_word, PORT(mode), .choices = xmlconf_macvtap_modes},
    {"plug@macTableManager", &xmlconf_value_checked, .choices = managers},
};

static const XmlconfRecord port_record = {
    .element = "networkport",
    .size = sizeof(XmlconfNetworkPort),
    .fields = fields,
    .n_fields = G_N_ELEMENTS(fields),
};

char *xmlconf_network_port_format(const XmlconfNetworkPort *port)
{
    return xmlconf_record_format(&port_record, port);
}

gboolean xmlconf_network_port_parse(XmlconfNetworkPort *port, const char *xml, GError **error)
{
    g_autoptr(xmlDoc) doc = xmlconf_document_parse(xml, "(networkport)", error);

    return doc && xmlconf_record_read(&port_record, xmlDocGetRootElement(doc), port, TRUE, error);
}

void xmlconf_network_port_clear(XmlconfNetworkPort *port)
{
    xmlconf_record_clear(&port_record, port);
}
