/* Disks and network interfaces: numbers of targets, what is refused, devices that come and go.
 *
 * The numbers are those of docs/man/xen-vbd-interface.7 of Xen. */
#include "config.h"

#include "xmlconf/xmlconf.h"

#include <string.h>

static const struct {
    const char *target;
    guint vdev; /* 0: refused */
} targets[] = {
    {"xvda", 202 << 8},
    {"xvdb", 202 << 8 | 16},
    {"xvda1", 202 << 8 | 1},
    {"xvdp15", 202 << 8 | 255},
    {"xvdq", 1 << 28 | 16 << 8},
    {"xvda16", 1 << 28 | 16},
    {"xvdaa", 1 << 28 | 26 << 8},
    {"xvdb255", 1 << 28 | 1 << 8 | 255},
    {"sda", 8 << 8},
    {"sdp15", 8 << 8 | 255},
    {"hda", 3 << 8},
    {"hdb", 3 << 8 | 64},
    {"hdc", 22 << 8},
    {"hdd63", 22 << 8 | 64 | 63},
    {"xvd", 0},
    {"xvdA", 0},
    {"xvda0", 0},
    {"xvda01", 0},
    {"xvda256", 0},
    {"xvda+1", 0},
    {"xvdzzzzzzzzzzzz", 0},
    {"sdq", 0},
    {"sda16", 0},
    {"hde", 0},
    {"vda", 0},
    {"", 0},
    {"../xvda", 0},
};

static void test_targets(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(targets); i++) {
        guint vdev = 0;

        g_test_message("%s", targets[i].target);
        g_assert_cmpint(xmlconf_disk_vdev(targets[i].target, &vdev), ==, targets[i].vdev != 0);
        g_assert_cmpuint(vdev, ==, targets[i].vdev);
    }
}

#define FILE_SOURCE "<source file='/i'/>"
#define XVDA "<target dev='xvda'/>"
#define DISK(rest) "<disk type='file'>" FILE_SOURCE XVDA rest "</disk>"
#define NET(host) "<disk type='network'><source protocol='nbd' name='e'>" host "</source>"
#define LUKS(secret)                                                                                                   \
    "<disk><source file='/i'><encryption format='luks'>" secret "</encryption></source>" XVDA "</disk>"
#define NIC(rest) "<interface type='ethernet'>" rest "</interface>"

static const struct {
    const char *xml;
    XmlconfError code;
    const char *message; /* part of it */
} bad_devices[] = {
    {"<disk", XMLCONF_ERROR_SYNTAX, "(device_definition):1: "},
    {"<hostdev/>", XMLCONF_ERROR_UNSUPPORTED, "<hostdev>"},
    {"<disk/>", XMLCONF_ERROR_XML, "attribute 'dev' of element <target> is missing"},
    {"<disk>" XVDA "</disk>", XMLCONF_ERROR_XML, "disk 'xvda' has no source"},
    {"<disk type='file'>" XVDA "<source dev='/d'/></disk>", XMLCONF_ERROR_XML, "is not of type 'block'"},
    {"<disk type='block'>" XVDA FILE_SOURCE "</disk>", XMLCONF_ERROR_XML, "is not of type 'file'"},
    {NET("") XVDA "</disk>", XMLCONF_ERROR_XML, "disk 'xvda' needs a <host name='...'/>"},
    {NET("<host transport='unix'/>") XVDA "</disk>", XMLCONF_ERROR_XML, "needs a <host transport='unix' socket='...'/>"},
    {NET("<host name='h' socket='/s'/>") XVDA "</disk>", XMLCONF_ERROR_XML, "of another transport"},
    {NET("<host name='h h'/>") XVDA "</disk>", XMLCONF_ERROR_XML, "value 'h h' of attribute 'name'"},
    {NET("<host name='1:2'/>") XVDA "</disk>", XMLCONF_ERROR_XML, "name or address of a host"},
    {NET("<host name='h' port='65536'/>") XVDA "</disk>", XMLCONF_ERROR_XML, "a port that is not a number"},
    {NET("<host name='h'/><host name='i'/>") XVDA "</disk>", XMLCONF_ERROR_XML, "<host> is there more than once"},
    {NET("<host name='h'/>") XVDA "<driver type='qcow2'/></disk>", XMLCONF_ERROR_UNSUPPORTED, "only raw images"},
    {NET("<host name='h'/>") XVDA "<driver cache='directsync'/></disk>", XMLCONF_ERROR_UNSUPPORTED, "its cache"},
    {"<disk type='network'><source protocol='rbd'/>" XVDA "</disk>", XMLCONF_ERROR_UNSUPPORTED, "value 'rbd'"},
    {"<disk type='network'><source protocol='nbd' tls='yes'/>" XVDA "</disk>", XMLCONF_ERROR_UNSUPPORTED, "value 'yes'"},
    {"<disk type='nvme'>" XVDA "</disk>", XMLCONF_ERROR_UNSUPPORTED, "value 'nvme' of attribute 'type'"},
    {"<disk type='volume'>" XVDA "</disk>", XMLCONF_ERROR_XML, "disk 'xvda' has no source"},
    {"<disk type='volume'><source pool='p'/>" XVDA "</disk>", XMLCONF_ERROR_XML, "needs a pool and a volume"},
    {"<disk type='volume'><source volume='v'/>" XVDA "</disk>", XMLCONF_ERROR_XML, "needs a pool and a volume"},
    {"<disk type='volume'><source pool='p' volume='v' mode='direct'/>" XVDA "</disk>", XMLCONF_ERROR_UNSUPPORTED, "value 'direct'"},
    {"<disk type='file'><source pool='p' volume='v'/>" XVDA "</disk>", XMLCONF_ERROR_XML, "is not of type 'volume'"},
    {"<disk type='volume'><source pool='p' volume='v' file='/f'/>" XVDA "</disk>", XMLCONF_ERROR_XML, "is not of type 'file'"},
    {"<disk>" XVDA "<source file='i'/></disk>", XMLCONF_ERROR_XML, "value 'i' of attribute 'file'"},
    {"<disk>" FILE_SOURCE "<target dev='vda'/></disk>", XMLCONF_ERROR_XML, "value 'vda' of attribute 'dev'"},
    {"<disk>" FILE_SOURCE "<target dev='xvda' bus='ide'/></disk>", XMLCONF_ERROR_XML, "has bus 'ide', where targets are hda"},
    {"<disk>" FILE_SOURCE "<target dev='hda' bus='virtio'/></disk>", XMLCONF_ERROR_UNSUPPORTED, "value 'virtio'"},
    {"<disk type='network'>" XVDA "</disk>", XMLCONF_ERROR_XML, "disk 'xvda' has no source"},
    {"<disk><source file='/a'><reconnect delay='3'/></source>" XVDA "</disk>", XMLCONF_ERROR_XML, "has a <reconnect> and"},
    {"<disk type='tape'>" XVDA "</disk>", XMLCONF_ERROR_XML, "value 'tape' of attribute 'type' is not known"},
    {"<disk device='floppy'>" XVDA FILE_SOURCE "</disk>", XMLCONF_ERROR_UNSUPPORTED, "value 'floppy'"},
    {DISK("<driver type='ploop'/>"), XMLCONF_ERROR_UNSUPPORTED, "value 'ploop'"},
    {DISK("<driver type='qcow3'/>"), XMLCONF_ERROR_XML, "value 'qcow3'"},
    {DISK("<driver type='qcow2'/><shareable/>"), XMLCONF_ERROR_UNSUPPORTED, "which only raw images can be"},
    {DISK("<driver type='qcow2' io='native'/>"), XMLCONF_ERROR_UNSUPPORTED, "io='native', which needs cache"},
    {DISK("<driver error_policy='panic'/>"), XMLCONF_ERROR_XML, "value 'panic'"},
    {DISK("<driver rerror_policy='enospace'/>"), XMLCONF_ERROR_XML, "value 'enospace'"},
    {LUKS("<secret type='passphrase'/>"), XMLCONF_ERROR_XML, "needs one <secret"},
    {LUKS("<secret type='passphrase' uuid='x'/>"), XMLCONF_ERROR_XML, "is not a UUID"},
    {LUKS("<secret type='word' usage='x'/>"), XMLCONF_ERROR_UNSUPPORTED, "value 'word'"},
    {DISK("<driver name='vbox'/>"), XMLCONF_ERROR_XML, "value 'vbox'"},
    {DISK("<driver cache='much'/>"), XMLCONF_ERROR_XML, "value 'much'"},
    {DISK("<driver io='threads'/>"), XMLCONF_ERROR_UNSUPPORTED, "through io_uring"},
    {DISK("<driver io='fibers'/>"), XMLCONF_ERROR_XML, "value 'fibers'"},
    {DISK("<driver discard='yes'/>"), XMLCONF_ERROR_XML, "value 'yes'"},
    {DISK("<driver iothread='1'/>"), XMLCONF_ERROR_UNSUPPORTED, "attribute 'iothread'"},
    {"<disk snapshot='manual'><source file='/i'/><target dev='xvda'/></disk>", XMLCONF_ERROR_UNSUPPORTED, "manual"},
    {DISK("<iotune><total_bytes_sec>-1</total_bytes_sec></iotune>"), XMLCONF_ERROR_XML, "value '-1'"},
    {DISK("<iotune><total_bytes_sec>1</total_bytes_sec><read_bytes_sec>1</read_bytes_sec></iotune>"), XMLCONF_ERROR_XML,
     "total and of read or write bytes_sec"},
    {DISK("<iotune><read_iops_sec>9</read_iops_sec><read_iops_sec_max>8</read_iops_sec_max></iotune>"), XMLCONF_ERROR_XML,
     "read_iops_sec_max that is less"},
    {DISK("<iotune><read_iops_sec_max>8</read_iops_sec_max></iotune>"), XMLCONF_ERROR_XML, "read_iops_sec_max and no"},
    {DISK("<iotune><size_iops_sec>8</size_iops_sec></iotune>"), XMLCONF_ERROR_UNSUPPORTED, "<size_iops_sec> in <iotune>"},
    {DISK("<iotune><group_name>g</group_name></iotune>"), XMLCONF_ERROR_UNSUPPORTED, "<group_name> in <iotune>"},
    {DISK("<boot order='0'/>"), XMLCONF_ERROR_XML, "value '0'"},
    {DISK("<transient/>"), XMLCONF_ERROR_UNSUPPORTED, "transient"},
    {DISK("<readonly>yes</readonly>"), XMLCONF_ERROR_XML, "element <readonly> must not contain text"},
    {DISK("<wwn>5000c50015ea71ad</wwn>"), XMLCONF_ERROR_UNSUPPORTED, "element <wwn>"},
    {DISK("<address type='drive'/>"), XMLCONF_ERROR_UNSUPPORTED, "element <address>"},
    {"<interface/>", XMLCONF_ERROR_XML, "attribute 'type' is missing"},
    {"<interface type='bridge'/>", XMLCONF_ERROR_XML, "needs a <source bridge"},
    {"<interface type='network'/>", XMLCONF_ERROR_XML, "needs a <source network"},
    {NIC("<source network='n'/>"), XMLCONF_ERROR_XML, "'n' must be of type 'network'"},
    {"<interface type='direct'/>", XMLCONF_ERROR_XML, "needs a <source dev"},
    {"<interface type='direct'><source dev='d' mode='hub'/></interface>", XMLCONF_ERROR_XML, "value 'hub'"},
    {NIC("<source mode='vepa'/>"), XMLCONF_ERROR_XML, "'vepa' must be of type 'direct'"},
    {NIC("<driver queues='9'/>"), XMLCONF_ERROR_XML, "'queues'"},
    {NIC("<backend type='passt'/>"), XMLCONF_ERROR_XML, "'passt' must be of type 'user'"},
    {NIC("<ip address='192.0.2.1'/>"), XMLCONF_ERROR_UNSUPPORTED, "must be of type 'user'"},
    {"<interface type='user'><ip address='192.0.2'/></interface>", XMLCONF_ERROR_XML, "is not an IP address"},
    {"<interface type='user'><portForward proto='sctp'/></interface>", XMLCONF_ERROR_XML, "value 'sctp'"},
    {"<interface type='user'><filterref filter='f'/></interface>", XMLCONF_ERROR_UNSUPPORTED, "no tap"},
    {NIC("<port isolated='yes'/>"), XMLCONF_ERROR_UNSUPPORTED, "only ports of bridges"},
    {NIC("<port isolated='maybe'/>"), XMLCONF_ERROR_XML, "'maybe'"},
    {"<interface type='wlan'/>", XMLCONF_ERROR_XML, "value 'wlan'"},
    {NIC("<source bridge='b'/>"), XMLCONF_ERROR_XML, "'b' must be of type 'bridge'"},
    {NIC("<mac address='00:16:3e:00:00'/>"), XMLCONF_ERROR_XML, "value '00:16:3e:00:00' of attribute 'address'"},
    {NIC("<mac address='00:16:3e:00:00:0g'/>"), XMLCONF_ERROR_XML, "is not a MAC address"},
    {NIC("<mac address='01:16:3e:00:00:00'/>"), XMLCONF_ERROR_XML, "is a multicast address"},
    {NIC("<mac address='00:00:00:00:00:00'/>"), XMLCONF_ERROR_XML, "is no address"},
    {NIC("<target dev='a name'/>"), XMLCONF_ERROR_XML, "value 'a name'"},
    {NIC("<target dev='sixteen-letters-'/>"), XMLCONF_ERROR_XML, "name of a network device"},
    {NIC("<target dev='../eth0'/>"), XMLCONF_ERROR_XML, "value '../eth0'"},
    {DISK("<serial>a/b</serial>"), XMLCONF_ERROR_XML, "value 'a/b' of element <serial>"},
    {NIC("<target dev='tap%d'/>"), XMLCONF_ERROR_XML, "value 'tap%d'"},
    {NIC("<model type='virtio'/>"), XMLCONF_ERROR_UNSUPPORTED, "value 'virtio'"},
    {NIC("<model type='modem'/>"), XMLCONF_ERROR_XML, "value 'modem'"},
    {NIC("<mtu size='67'/>"), XMLCONF_ERROR_XML, "value '67'"},
    {NIC("<link state='sideways'/>"), XMLCONF_ERROR_XML, "value 'sideways'"},
    {NIC("<bandwidth><inbound peak='2'/></bandwidth>"), XMLCONF_ERROR_XML, "inbound bandwidth of an interface needs an average"},
    {NIC("<bandwidth><outbound burst='2'/></bandwidth>"), XMLCONF_ERROR_XML, "outbound bandwidth of an interface needs an average"},
    {NIC("<bandwidth><outbound average='9' peak='8'/></bandwidth>"), XMLCONF_ERROR_XML, "a peak below its average"},
    {NIC("<bandwidth><inbound average='-1'/></bandwidth>"), XMLCONF_ERROR_XML, "'-1'"},
    {NIC("<bandwidth><inbound average='9' floor='8'/></bandwidth>"), XMLCONF_ERROR_UNSUPPORTED, "reserved"},
    {NIC("<script path='/s'/>"), XMLCONF_ERROR_UNSUPPORTED, "scripts"},
    {NIC("<vlan/>"), XMLCONF_ERROR_UNSUPPORTED, "element <vlan>"},
};

static void test_bad_devices(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_devices); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(XmlconfDevice) device = xmlconf_device_parse(bad_devices[i].xml, &error);

        g_assert_null(device);
        g_test_message("%s", error->message);
        g_assert_error(error, XMLCONF_ERROR, (int)bad_devices[i].code);
        g_assert_nonnull(strstr(error->message, bad_devices[i].message));
    }
}

static XmlconfDomain *parse(const char *devices, XmlconfParseFlags flags, GError **error)
{
    g_autofree char *xml =
        g_strdup_printf("<domain type='xen'><name>d</name><memory>65536</memory>"
                        "<os><type>xenpvh</type><kernel>/k</kernel></os><devices>%s</devices></domain>", devices);

    return xmlconf_domain_parse(xml, flags, error);
}

static XmlconfDevice *parse_device(const char *xml)
{
    g_autoptr(GError) error = NULL;
    XmlconfDevice *device = xmlconf_device_parse(xml, &error);

    g_assert_no_error(error);
    return device;
}

static void test_twice(void)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(parse("<disk><source file='/a'/>" XVDA "</disk><disk><source file='/b'/>" XVDA "</disk>", 0,
                        &error));
    g_assert_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML);
    g_assert_cmpstr(error->message, ==, "target 'xvda' duplicated for disk sources '/a' and '/b'");
}

/* A definition gets an address of Xen's own, once, and no name of the driver's. */
static void test_interface_defaults(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(XmlconfDomain) domain = parse(NIC("<target dev='vif7.0'/>"), 0, &error);
    g_autoptr(XmlconfDomain) live = parse(NIC("<target dev='vif7.0'/>"), XMLCONF_PARSE_LIVE, &error);
    const XmlconfInterface *interface;
    g_autofree char *tap = xmlconf_interface_tap(7, 0);

    g_assert_no_error(error);
    interface = g_ptr_array_index(xmlconf_domain_config(domain)->interfaces, 0);
    g_assert_true(g_str_has_prefix(interface->mac, "00:16:3e:"));
    g_assert_cmpuint(strlen(interface->mac), ==, 17);
    g_assert_null(interface->target);
    interface = g_ptr_array_index(xmlconf_domain_config(live)->interfaces, 0);
    g_assert_cmpstr(interface->target, ==, tap);
}

static char *format(XmlconfDomain *domain)
{
    g_autoptr(GError) error = NULL;
    char *xml = xmlconf_domain_format(domain, XMLCONF_FORMAT_INACTIVE, &error);

    g_assert_no_error(error);
    return xml;
}

static void add(XmlconfDomain *domain, const char *xml)
{
    g_autoptr(XmlconfDevice) device = parse_device(xml);
    g_autoptr(GError) error = NULL;

    g_assert_true(xmlconf_domain_add_device(domain, device, &error));
    g_assert_no_error(error);
}

static int find(XmlconfDomain *domain, const char *xml, int code)
{
    g_autoptr(XmlconfDevice) device = parse_device(xml);
    g_autoptr(GError) error = NULL;
    int index = xmlconf_domain_find_device(domain, device, &error);

    g_assert_cmpint(index < 0, ==, error != NULL);
    if (error)
        g_assert_error(error, XMLCONF_ERROR, code);
    return index;
}

#define XVDB "<disk><source file='/b'/><target dev='xvdb'/></disk>"
#define XVDC "<disk><source file='/c'/><target dev='xvdc'/><shareable/></disk>"
#define MAC1 NIC("<mac address='00:16:3e:00:00:01'/>")
#define MAC2 NIC("<mac address='00:16:3e:00:00:02'/>")

/* Adding and removing leaves what was there. */
static void test_come_and_go(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(XmlconfDomain) domain = parse(DISK("<x:note xmlns:x='urn:x'/>"), 0, &error);
    g_autofree char *before = format(domain);

    add(domain, XVDB);
    add(domain, XVDC);
    add(domain, MAC1);
    add(domain, MAC2);
    g_assert_cmpint(find(domain, XVDC, 0), ==, 2);
    g_assert_cmpint(find(domain, MAC2, 0), ==, 1);
    xmlconf_domain_remove_device(domain, XMLCONF_DEVICE_DISK, 1);
    g_assert_cmpint(find(domain, XVDB, XMLCONF_ERROR_NO_DEVICE), ==, -1);
    g_assert_cmpint(find(domain, XVDC, 0), ==, 1);

    g_autofree char *middle = format(domain);
    g_assert_nonnull(strstr(middle, "'/c'"));
    g_assert_null(strstr(middle, "'/b'"));
    g_autoptr(XmlconfDomain) again = xmlconf_domain_parse(middle, 0, &error);
    g_assert_no_error(error);
    g_autofree char *reread = format(again);
    g_assert_cmpstr(reread, ==, middle);

    xmlconf_domain_remove_device(domain, XMLCONF_DEVICE_DISK, 1);
    xmlconf_domain_remove_device(domain, XMLCONF_DEVICE_INTERFACE, 0);
    xmlconf_domain_remove_device(domain, XMLCONF_DEVICE_INTERFACE, 0);
    g_autofree char *after = format(domain);
    g_assert_cmpstr(after, ==, before);
    g_assert_nonnull(strstr(after, "x:note"));
}

/* A device that is replaced stays in its place. */
static void test_replace(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(XmlconfDomain) domain = parse(MAC1 MAC2, 0, &error);
    g_autoptr(XmlconfDevice) device = parse_device(NIC("<mac address='00:16:3e:00:00:01'/><link state='down'/>"));
    g_autoptr(XmlconfDevice) copy = xmlconf_device_copy(device);

    xmlconf_domain_replace_device(domain, copy, 0);
    g_assert_cmpint(find(domain, MAC1, 0), ==, 0);
    g_autofree char *xml = format(domain);
    g_assert_cmpuint(strstr(xml, "state='down'") - xml, <, strstr(xml, "00:02") - xml);
}

static void test_alias(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(XmlconfDomain) domain =
        parse(DISK("<alias name='xvda'/>") NIC("<alias name='net0'/>"), XMLCONF_PARSE_LIVE, &error);
    g_autoptr(XmlconfDevice) device = xmlconf_domain_copy_device(domain, "net0", &error);

    g_assert_no_error(error);
    g_assert_cmpint(xmlconf_device_type(device), ==, XMLCONF_DEVICE_INTERFACE);
    g_assert_cmpint(xmlconf_domain_find_device(domain, device, &error), ==, 0);
    g_assert_null(xmlconf_domain_copy_device(domain, "net1", &error));
    g_assert_error(error, XMLCONF_ERROR, XMLCONF_ERROR_NO_DEVICE);
}

#define CHANNEL(name) "<channel type='unix'><target type='xen' name='" name "'/></channel>"
static guint port_of(const GPtrArray *list, guint i)
{
    return ((const XmlconfConsole *)list->pdata[i])->port;
}

/* Of a definition, consoles and after them channels are numbered in order, whatever comes and goes. */
static void test_consoles(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(XmlconfDomain) domain = parse("<console/><console/>" CHANNEL("a"), 0, &error);
    const XmlconfDomainConfig *config = xmlconf_domain_config(domain);
    g_autoptr(XmlconfDevice) again = parse_device(CHANNEL("a"));

    add(domain, "<console type='null'/>");
    add(domain, CHANNEL("b"));
    g_assert_false(xmlconf_domain_add_device(domain, again, &error));
    g_assert_nonnull(strstr(error->message, "two of that name"));
    g_assert_cmpuint(port_of(config->consoles, 2), ==, 2);
    g_assert_cmpuint(port_of(config->channels, 0), ==, 3);
    g_assert_cmpuint(port_of(config->channels, 1), ==, 4);
    g_assert_cmpuint(xmlconf_console_free_port(config), ==, 5);
    g_assert_cmpint(find(domain, "<console><target type='xen' port='1'/></console>", 0), ==, 1);
    g_assert_cmpint(find(domain, "<console><target type='xen' port='3'/></console>", XMLCONF_ERROR_NO_DEVICE), ==, -1);
    xmlconf_domain_remove_device(domain, XMLCONF_DEVICE_CONSOLE, 1);
    g_assert_cmpuint(port_of(config->consoles, 1), ==, 1);
    g_assert_cmpint(find(domain, CHANNEL("b"), 0), ==, 1);
    xmlconf_domain_remove_device(domain, XMLCONF_DEVICE_CHANNEL, 0);
    g_assert_cmpuint(port_of(config->channels, 0), ==, 2);
    g_autofree char *xml = format(domain);
    g_autoptr(XmlconfDomain) reread = xmlconf_domain_parse(xml, 0, NULL);
    g_assert_nonnull(reread);
    g_assert_nonnull(strstr(xml, "<target type='xen' port='1'/>"));
}

/* What a running domain's channel has is read by the driver alone. */
static void test_live_channels(void)
{
    const char *xml = "<channel type='pty'><source path='/dev/pts/9'/><target type='xen' name='a' state='connected'/>"
                      "<alias name='channel7'/></channel>";
    g_autoptr(XmlconfDomain) live = parse(xml, XMLCONF_PARSE_LIVE, NULL);
    g_autoptr(XmlconfDomain) defined = parse(xml, 0, NULL);
    const XmlconfConsole *channel = xmlconf_domain_config(live)->channels->pdata[0];
    g_autofree char *alias = xmlconf_console_alias(channel);

    g_assert_cmpstr(xmlconf_console_tty(channel), ==, "/dev/pts/9");
    g_assert_cmpstr(channel->state, ==, "connected");
    g_assert_cmpuint(channel->port, ==, 7);
    g_assert_cmpstr(alias, ==, "channel7");
    g_autofree char *inactive = format(live);
    g_assert_null(strstr(inactive, "/dev/pts/9"));
    channel = xmlconf_domain_config(defined)->channels->pdata[0];
    g_assert_null(xmlconf_console_tty(channel));
    g_assert_null(channel->state);
    g_assert_cmpuint(channel->port, ==, 1);
}

static void test_refused_additions(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(XmlconfDomain) domain = parse(DISK("") MAC1 MAC1, 0, &error);
    g_autoptr(XmlconfDevice) twice = parse_device(DISK("<shareable/>"));
    g_autoptr(XmlconfDevice) nic = parse_device(MAC2);
    g_autofree char *before = format(domain);

    g_assert_false(xmlconf_domain_add_device(domain, twice, &error));
    g_assert_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML);
    g_clear_error(&error);
    g_autofree char *after = format(domain);
    g_assert_cmpstr(after, ==, before);

    g_assert_cmpint(find(domain, MAC1, XMLCONF_ERROR_XML), ==, -1); /* which of the two? */
    for (guint i = 2; i < XMLCONF_MAX_INTERFACES; i++)
        g_assert_true(xmlconf_domain_add_device(domain, nic, NULL));
    g_assert_false(xmlconf_domain_add_device(domain, nic, &error));
    g_assert_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/device/targets", test_targets);
    g_test_add_func("/device/bad-input", test_bad_devices);
    g_test_add_func("/device/twice", test_twice);
    g_test_add_func("/device/interface-defaults", test_interface_defaults);
    g_test_add_func("/device/come-and-go", test_come_and_go);
    g_test_add_func("/device/replace", test_replace);
    g_test_add_func("/device/alias", test_alias);
    g_test_add_func("/device/consoles", test_consoles);
    g_test_add_func("/device/live-channels", test_live_channels);
    g_test_add_func("/device/refused-additions", test_refused_additions);
    return g_test_run();
}
