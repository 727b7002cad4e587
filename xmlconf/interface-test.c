/* Interfaces in networks: what a running domain's document tells, what a definition keeps, ports. */
#include "config.h"

#include <string.h>

#include "xmlconf/xmlconf.h"

#define UUID "5f48e2cd-3e0f-4762-acef-a0db407bc77f"

static XmlconfDomain *parse(const char *interface, XmlconfParseFlags flags)
{
    g_autofree char *xml =
        g_strdup_printf("<domain type='xen'><name>d</name><memory>65536</memory><os><type>xenpvh</type>"
                        "<kernel>/k</kernel></os><devices>%s</devices></domain>", interface);
    g_autoptr(GError) error = NULL;
    XmlconfDomain *domain = xmlconf_domain_parse(xml, flags, &error);

    g_assert_no_error(error);
    return domain;
}

/* The lines of the interface in the document. */
static char *format(XmlconfDomain *domain, XmlconfFormatFlags flags)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = xmlconf_domain_format(domain, flags, &error);
    const char *start = strstr(xml, "<interface"), *end = strstr(xml, "</interface>");

    g_assert_no_error(error);
    g_assert_nonnull(start);
    return g_strndup(start, (gsize)(end - start));
}

typedef struct {
    const char *given;
    XmlconfParseFlags flags;
    XmlconfInterfaceType type, actual;
    const char *live[3], *inactive[3]; /* what is in each, or with '!' is not */
} Row;

#define MAC  "<mac address='00:16:3e:00:00:01'/>"
#define LIVE XMLCONF_PARSE_LIVE

static const Row network_rows[] = {
    {"<interface type='network'>" MAC "<source network='n'/></interface>", 0, XMLCONF_INTERFACE_NETWORK,
     XMLCONF_INTERFACE_NETWORK, {"type='network'", "<source network='n'/>"}, {"<source network='n'/>"}},
    /* a network that is a bridge's name, as libvirt tells of it */
    {"<interface type='bridge'>" MAC "<source network='n' portgroup='g' portid='" UUID "' bridge='b'/></interface>", LIVE,
     XMLCONF_INTERFACE_NETWORK, XMLCONF_INTERFACE_BRIDGE,
     {"type='bridge'", "<source network='n' portgroup='g' portid='" UUID "' bridge='b'/>"},
     {"type='network'", "<source network='n' portgroup='g'/>"}},
    /* the same given to define: libvirt takes the bridge */
    {"<interface type='bridge'>" MAC "<source network='n' portgroup='g' portid='" UUID "' bridge='b'/></interface>", 0,
     XMLCONF_INTERFACE_BRIDGE, XMLCONF_INTERFACE_BRIDGE, {"<source bridge='b'/>", "!network"}, {"<source bridge='b'/>"}},
    {"<interface type='network'>" MAC "<source network='n' portid='" UUID "' bridge='b'/></interface>", 0,
     XMLCONF_INTERFACE_NETWORK, XMLCONF_INTERFACE_NETWORK, {"<source network='n'/>"}, {"<source network='n'/>"}},
    {"<interface type='direct'>" MAC "<source network='n' portid='" UUID "' dev='d' mode='private'/></interface>", LIVE,
     XMLCONF_INTERFACE_NETWORK, XMLCONF_INTERFACE_DIRECT,
     {"type='direct'", "<source network='n' portid='" UUID "' dev='d' mode='private'/>"},
     {"type='network'", "<source network='n'/>"}},
    {"<interface type='direct'>" MAC "<source dev='d'/></interface>", 0, XMLCONF_INTERFACE_DIRECT,
     XMLCONF_INTERFACE_DIRECT, {"<source dev='d' mode='vepa'/>"}, {"<source dev='d' mode='vepa'/>"}},
    {NULL, 0, 0, 0, {NULL}, {NULL}},
};

#define FORWARD "<portForward proto='tcp' address='127.0.0.1' dev='lo'>\n        <range start='2222' to='22'/>\n" \
                "        <range start='80' end='90'/>\n        <range start='85' exclude='yes'/>\n      </portForward>"

static const Row user_rows[] = {
    {"<interface type='user'>" MAC "<source dev='d'/><backend type='passt'/>" FORWARD
     "<ip address='192.0.2.3' family='ipv4' prefix='24'/></interface>", 0, XMLCONF_INTERFACE_USER, XMLCONF_INTERFACE_USER,
     {FORWARD, "<ip family='ipv4' address='192.0.2.3' prefix='24'/>", "<backend type='passt'/>"}, {FORWARD}},
    {NULL, 0, 0, 0, {NULL}, {NULL}},
};

static void check(const char *text, const char *const words[3])
{
    for (gsize i = 0; i < 3 && words[i]; i++) {
        gboolean absent = words[i][0] == '!';
        gboolean found = strstr(text, words[i] + absent) != NULL;

        if (found == absent)
            g_error("\"%s\" in:\n%s", words[i], text);
    }
}

static void check_rows(gconstpointer data)
{
    const Row *rows = data;

    for (gsize i = 0; rows[i].given; i++) {
        g_autoptr(XmlconfDomain) domain = parse(rows[i].given, rows[i].flags);
        const XmlconfInterface *interface = xmlconf_domain_config(domain)->interfaces->pdata[0];
        g_autofree char *live = format(domain, 0), *inactive = format(domain, XMLCONF_FORMAT_INACTIVE);

        g_assert_cmpint(interface->type, ==, rows[i].type);
        g_assert_cmpint(interface->actual, ==, rows[i].actual);
        check(live, rows[i].live);
        check(inactive, rows[i].inactive);
    }
}

static void test_port(void)
{
    const XmlconfNetworkPort wanted = {.uuid = (char *)UUID, .owner_name = (char *)"a<b", .owner_uuid = (char *)UUID,
                                       .group = (char *)"g", .mac = (char *)"00:16:3e:00:00:01"};
    g_autofree char *xml = xmlconf_network_port_format(&wanted);
    g_auto(XmlconfNetworkPort) port = {0};
    g_autoptr(GError) error = NULL;

    g_assert_cmpstr(xml, ==, "<networkport>\n  <uuid>" UUID "</uuid>\n  <owner>\n    <name>a&lt;b</name>\n    <uuid>" UUID
                             "</uuid>\n  </owner>\n  <group>g</group>\n  <mac address='00:16:3e:00:00:01'/>\n"
                             "</networkport>\n");
    g_assert_true(xmlconf_network_port_parse(&port, "<networkport><uuid>" UUID "</uuid><rxfilters trustGuest='no'/>"
                                             "<plug type='bridge' bridge='b' macTableManager='kernel'/></networkport>",
                                             &error));
    g_assert_cmpint(port.plug, ==, XMLCONF_PLUG_BRIDGE);
    g_assert_cmpstr(port.bridge, ==, "b");
}

static void test_refused_ports(void)
{
    static const char *const refused[][2] = {
        {"<networkport><plug type='hostdev-pci'/></networkport>", "host devices"},
        {"<networkport><vlan><tag id='3'/></vlan></networkport>", "VLANs"},
        {"<networkport><virtualport type='openvswitch'/></networkport>", "virtual ports"},
        {"<networkport><novelty/></networkport>", "<novelty>"},
        {"<networkport>", "(networkport)"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_auto(XmlconfNetworkPort) port = {0};
        g_autoptr(GError) error = NULL;

        g_assert_false(xmlconf_network_port_parse(&port, refused[i][0], &error));
        g_assert_nonnull(strstr(error->message, refused[i][1]));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/interface/networks", network_rows, check_rows);
    g_test_add_data_func("/interface/users", user_rows, check_rows);
    g_test_add_func("/interface/port", test_port);
    g_test_add_func("/interface/refused-ports", test_refused_ports);
    return g_test_run();
}
