/* Domain XML, both ways.
 *
 * testdata/NAME.in.xml is what a user may write, NAME.out.xml what dumpxml --inactive shows for it, and
 * NAME.live.xml what it shows when the domain runs as id 42 on /dev/pts/7. All of it must satisfy libvirt's schema
 * where that is installed. */
#include "config.h"

#include "xmlconf/xmlconf.h"

#include <string.h>

#define SCHEMA "/usr/share/libvirt/schemas/domain.rng"

static char *read_testdata(const char *name, const char *suffix)
{
    g_autofree char *path = g_strdup_printf("%s/%s.%s.xml", XMLCONF_TESTDATA, name, suffix);
    g_autoptr(GError) error = NULL;
    char *text = NULL;

    g_file_get_contents(path, &text, NULL, &error);
    g_assert_no_error(error);
    return text;
}

static XmlconfDomain *parse(const char *xml, XmlconfParseFlags flags)
{
    g_autoptr(GError) error = NULL;
    XmlconfDomain *domain = xmlconf_domain_parse(xml, flags, &error);

    g_assert_no_error(error);
    g_assert_nonnull(domain);
    return domain;
}

static char *format(XmlconfDomain *domain, XmlconfFormatFlags flags)
{
    g_autoptr(GError) error = NULL;
    char *xml = xmlconf_domain_format(domain, flags, &error);

    g_assert_no_error(error);
    return xml;
}

static XmlconfParseFlags validate_if_installed(void)
{
    return g_file_test(SCHEMA, G_FILE_TEST_EXISTS) ? XMLCONF_VALIDATE : 0;
}

/* In becomes out; out is a fixed point and valid. console-null has what libvirt takes but the schema does not: a
 * UUID with dashes elsewhere, an empty title. */
static void test_golden(gconstpointer name)
{
    g_autofree char *in = read_testdata(name, "in");
    g_autofree char *expected = read_testdata(name, "out");
    g_autoptr(XmlconfDomain) first = parse(in, strcmp(name, "console-null") ? validate_if_installed() : 0);
    g_autofree char *once = format(first, XMLCONF_FORMAT_INACTIVE);
    g_autoptr(XmlconfDomain) second = parse(once, validate_if_installed());
    g_autofree char *twice = format(second, XMLCONF_FORMAT_INACTIVE);

    g_assert_cmpstr(once, ==, expected);
    g_assert_cmpstr(twice, ==, expected);
}

static void make_live(XmlconfDomain *domain)
{
    XmlconfDomainConfig *config = xmlconf_domain_config(domain);
    XmlconfConsole *console = g_ptr_array_index(config->consoles, 0);

    config->id = 42;
    console->tty = g_strdup("/dev/pts/7");
    console->alias = g_strdup("console0");
}

static void test_live(void)
{
    g_autofree char *in = read_testdata("minimal", "in");
    g_autofree char *expected = read_testdata("minimal", "live");
    g_autofree char *inactive = read_testdata("minimal", "out");
    g_autoptr(XmlconfDomain) domain = parse(in, 0);
    make_live(domain);
    g_autoptr(XmlconfDomain) copy = xmlconf_domain_copy(domain);
    g_autofree char *live = format(copy, 0);
    g_autofree char *hidden = format(copy, XMLCONF_FORMAT_INACTIVE);

    g_assert_cmpstr(live, ==, expected);
    g_assert_cmpstr(hidden, ==, inactive);

    /* A definition cannot set what belongs to a running domain; the driver's own file can. */
    g_autoptr(XmlconfDomain) defined = parse(live, validate_if_installed());
    g_autoptr(XmlconfDomain) status = parse(live, XMLCONF_PARSE_LIVE);
    g_autofree char *again = format(status, XMLCONF_FORMAT_STATUS);
    g_assert_cmpint(xmlconf_domain_config(defined)->id, ==, -1);
    g_assert_cmpint(xmlconf_domain_config(status)->id, ==, 42);
    g_assert_cmpstr(again, ==, expected);
}

static void test_values(void)
{
    g_autofree char *in = read_testdata("full", "in");
    g_autoptr(XmlconfDomain) domain = parse(in, 0);
    const XmlconfDomainConfig *config = xmlconf_domain_config(domain);
    const XmlconfConsole *console = g_ptr_array_index(config->consoles, 0);

    g_assert_cmpstr(config->name, ==, "full");
    g_assert_cmpstr(config->uuid, ==, "4dea22b3-1d52-d8f3-2516-782e98ab3fa0");
    g_assert_cmpint(config->os_type, ==, XMLCONF_OS_PVH);
    g_assert_cmpuint(config->memory_kib, ==, 1048576);
    g_assert_cmpuint(config->current_memory_kib, ==, 97657); /* 100 MB rounded up */
    g_assert_cmpuint(config->max_vcpus, ==, 4);
    g_assert_cmpuint(config->current_vcpus, ==, 2);
    g_assert_cmpint(config->on_poweroff, ==, XMLCONF_ACTION_PRESERVE);
    g_assert_cmpint(config->on_crash, ==, XMLCONF_ACTION_RESTART);
    g_assert_cmpuint(config->consoles->len, ==, 1);
    g_assert_cmpint(console->type, ==, XMLCONF_CHAR_FILE);
    g_assert_cmpstr(console->path, ==, "/var/log/full.out");
    g_assert_true(console->append && console->log_append);
    g_assert_null(console->tty);
    g_assert_null(console->alias);
}

/* A copy owns all that it has. */
static void test_copy(void)
{
    g_autofree char *in = read_testdata("full", "in");
    g_autofree char *expected = read_testdata("full", "out");
    XmlconfDomain *domain = parse(in, 0);
    g_autoptr(XmlconfDomain) copy = xmlconf_domain_copy(domain);

    xmlconf_domain_unref(domain);
    g_autofree char *xml = format(copy, XMLCONF_FORMAT_INACTIVE);
    g_assert_cmpstr(xml, ==, expected);
}

static void test_defaults(void)
{
    g_autoptr(XmlconfDomain) domain =
        parse("<domain type='xen'><name>d</name><memory unit='MiB'>64</memory>"
              "<os><type>xenpvh</type><kernel>/k</kernel></os></domain>", validate_if_installed());
    const XmlconfDomainConfig *config = xmlconf_domain_config(domain);

    g_assert_true(g_uuid_string_is_valid(config->uuid));
    g_assert_cmpuint(config->current_memory_kib, ==, 65536);
    g_assert_cmpuint(config->current_vcpus, ==, 1);
    g_assert_cmpstr(config->clock_offset, ==, "utc");
    g_assert_cmpint(config->on_reboot, ==, XMLCONF_ACTION_RESTART);
    g_assert_cmpuint(config->consoles->len, ==, 1);
}

/* Bad input: the good document with one piece replaced. */
#define MEMORY "<memory unit='MiB'>64</memory>"
#define OS "<os><type>xenpvh</type><kernel>/k</kernel></os>"
static const char good[] = "<domain type='xen'><name>bad</name>" MEMORY OS "<devices/></domain>";

#define CHANNEL(type, target, rest) \
    "<devices><channel type='" type "'><target type='" target "' " rest "/></channel></devices>"
#define CELLS(cells)     "<cpu><numa>" cells "</numa></cpu><name>"
#define CHANNEL_OF(name) "<channel type='pty'><target type='xen' name='" name "'/></channel>"
#define FOUR(what)       what what what what

static const struct {
    const char *from, *to;
    XmlconfError code;
    const char *message; /* part of it */
} bad_input[] = {
    {good, "", XMLCONF_ERROR_SYNTAX, "(domain_definition):1: the document is empty"},
    {good, "  \n", XMLCONF_ERROR_SYNTAX, "empty"},
    {good, "hello", XMLCONF_ERROR_SYNTAX, "(domain_definition):1: "},
    {good, "<domain>\n<name>x</nam>\n</domain>", XMLCONF_ERROR_SYNTAX,
     "(domain_definition):2: Opening and ending tag mismatch: name line 2 and nam\n<name>x</nam>\n-------------^"},
    {good, "<!DOCTYPE domain [<!ENTITY a 'aaaa'>]><domain/>", XMLCONF_ERROR_SYNTAX, "document type declaration"},
    {good, "<!DOCTYPE domain SYSTEM '/etc/passwd'><domain/>", XMLCONF_ERROR_SYNTAX, "document type declaration"},
    {"bad", "&undefined;", XMLCONF_ERROR_SYNTAX, "undefined"},
    {"bad", "\xff\xfe", XMLCONF_ERROR_SYNTAX, "(domain_definition):1: "},
    {good, "<network/>", XMLCONF_ERROR_XML, "unexpected root element <network>"},
    {good, "<domain xmlns='urn:x' type='xen'/>", XMLCONF_ERROR_XML, "unexpected root element"},
    {" type='xen'", "", XMLCONF_ERROR_XML, "attribute 'type' is missing"},
    {"'xen'", "'kvm'", XMLCONF_ERROR_UNSUPPORTED, "value 'kvm' of attribute 'type' is not supported"},
    {"<name>bad</name>", "", XMLCONF_ERROR_XML, "element <name> is missing"},
    {"bad", "", XMLCONF_ERROR_XML, "value '' of element <name> is empty"},
    {"bad", "a/b", XMLCONF_ERROR_XML, "contains '/'"},
    {"bad", "a\nb", XMLCONF_ERROR_XML, "control character"},
    {"<name>bad</name>", "<name>a</name><name>b</name>", XMLCONF_ERROR_XML, "<name> is there more than once"},
    {"<name>", "text<name>", XMLCONF_ERROR_XML, "<domain> must not contain text"},
    {"<name>", "<uuid>1234</uuid><name>", XMLCONF_ERROR_XML, "value '1234' of element <uuid> is not a UUID"},
    {"<name>", "<title>a\nb</title><name>", XMLCONF_ERROR_XML, "<title> must not contain a newline"},
    {"<name>", "<genid/><name>", XMLCONF_ERROR_UNSUPPORTED, "element <genid> is not supported"},
    {"<name>", "<iothreads>2</iothreads><name>", XMLCONF_ERROR_UNSUPPORTED, "I/O threads are not supported"},
    {"<name>", "<maxMemory slots='2' unit='GiB'>2</maxMemory><name>", XMLCONF_ERROR_UNSUPPORTED, "memory devices"},
    {"<name>", "<memoryBacking><hugepages><page size='1' unit='G'/></hugepages></memoryBacking><name>",
     XMLCONF_ERROR_UNSUPPORTED, "huge pages of 1048576 KiB"},
    {"<name>", "<memtune><min_guarantee>1</min_guarantee></memtune><name>", XMLCONF_ERROR_UNSUPPORTED, "no memory can be kept"},
    {"<name>", "<memtune><hard_limit>20</hard_limit><swap_hard_limit>10</swap_hard_limit></memtune><name>",
     XMLCONF_ERROR_XML, "swap_hard_limit 10 KiB is less than hard_limit 20 KiB"},
    {"<name>", "<blkiotune><device><path>/dev/a</path></device><device><path>/dev/a</path></device></blkiotune><name>",
     XMLCONF_ERROR_XML, "device '/dev/a' is in <blkiotune> more than once"},
    {"<name>", "<blkiotune><device><weight>200</weight></device></blkiotune><name>", XMLCONF_ERROR_XML, "path"},
    {"<name>", "<blkiotune><weight>99</weight></blkiotune><name>", XMLCONF_ERROR_XML, "'99'"},
    {"<name>", "<memoryBacking><source type='file'/></memoryBacking><name>", XMLCONF_ERROR_UNSUPPORTED, "'file'"},
    {"<name>", "<memoryBacking><access mode='shared'/></memoryBacking><name>", XMLCONF_ERROR_UNSUPPORTED, "'shared'"},
    {"<name>", "<memoryBacking><allocation mode='soon'/></memoryBacking><name>", XMLCONF_ERROR_XML, "'soon'"},
    {"<name>", "<numatune><memnode cellid='0' mode='strict' nodeset='0'/></numatune><name>", XMLCONF_ERROR_UNSUPPORTED,
     "all memory of a guest is placed alike"},
    {"<name>", "<numatune><memory placement='auto'/></numatune><name>", XMLCONF_ERROR_UNSUPPORTED, "numad"},
    {"<name>", "<numatune><memory mode='strict'/></numatune><name>", XMLCONF_ERROR_XML, "needs a 'nodeset'"},
    {"<name>", "<numatune><memory mode='loose' nodeset='0'/></numatune><name>", XMLCONF_ERROR_XML, "'loose'"},
    {"<name>", "<numatune><memory nodeset='0-'/></numatune><name>", XMLCONF_ERROR_XML, "'0-' of attribute 'nodeset'"},
    {"<name>", "<numatune><memory mode='preferred' nodeset='0-1'/></numatune><name>", XMLCONF_ERROR_XML, "single node"},
    {"<devices/>", "<devices><watchdog model='itco'/></devices>", XMLCONF_ERROR_UNSUPPORTED, "<on_crash>"},
    {"<devices/>", "<devices><panic model='isa'/></devices>", XMLCONF_ERROR_UNSUPPORTED, "a hypercall that it crashed"},
    {"<devices/>", "<devices><tpm model='tpm-tis'/></devices>", XMLCONF_ERROR_UNSUPPORTED, "no TPM"},
    {"<devices/>", "<devices><rng model='virtio'/></devices>", XMLCONF_ERROR_UNSUPPORTED, "no protocol for entropy"},
    {"<devices/>", "<devices><vsock model='virtio'/></devices>", XMLCONF_ERROR_UNSUPPORTED, "no protocol for vsock"},
    {"<devices/>", "<devices><memballoon model='none'/></devices>", XMLCONF_ERROR_UNSUPPORTED, "'none'"},
    {"<devices/>", "<devices><memballoon model='xen' autodeflate='on'/></devices>", XMLCONF_ERROR_UNSUPPORTED, "'autodeflate'"},
    {"<devices/>", "<devices><memballoon model='xen'><stats period='5'/></memballoon></devices>", XMLCONF_ERROR_UNSUPPORTED,
     "element <stats> in <memballoon>"},
    {"<name>", "<cpu mode='turbo'/><name>", XMLCONF_ERROR_XML, "'turbo' of attribute 'mode'"},
    {"<name>", "<cpu mode='custom'/><name>", XMLCONF_ERROR_XML, "needs a <model>"},
    {"<name>", "<cpu><topology sockets='1' cores='1' threads='1'/></cpu><name>", XMLCONF_ERROR_UNSUPPORTED, "topology"},
    {"<name>", CELLS("<cell cpus='0' memory='65536' memAccess='shared'/>"), XMLCONF_ERROR_UNSUPPORTED, "not shared"},
    {"<name>", CELLS("<cell cpus='0' memory='65536' discard='yes'/>"), XMLCONF_ERROR_UNSUPPORTED, "nothing is kept"},
    {"<name>", CELLS("<cell cpus='0' memory='65536'><cache/></cell>"), XMLCONF_ERROR_UNSUPPORTED, "memory side caches"},
    {"<name>", CELLS("<cell cpus='0' memory='65536'/><interconnects/>"), XMLCONF_ERROR_UNSUPPORTED, "HMAT"},
    {"<name>", CELLS("<cell cpus='0'/>"), XMLCONF_ERROR_XML, "attribute 'memory' is missing"},
    {"<name>", CELLS("<cell cpus='0' memory='65532'/>"), XMLCONF_ERROR_XML, "65532 KiB together, and element <memory> says 65536"},
    {"<name>", CELLS("<cell cpus='0' memory='65534'/><cell memory='2'/>"), XMLCONF_ERROR_XML, "not a multiple of a page"},
    {"<name>", CELLS("<cell memory='65536'/>"), XMLCONF_ERROR_XML, "vCPU 0 is in no NUMA cell"},
    {"<name>", CELLS("<cell cpus='0-1' memory='65536'/>"), XMLCONF_ERROR_XML, "has vCPU 1, and the domain only 1 vCPUs"},
    {"<name>", CELLS("<cell cpus='0' memory='32768'/><cell cpus='0' memory='32768'/>"), XMLCONF_ERROR_XML,
     "vCPU 0 is in more than one"},
    {"<name>", CELLS("<cell id='1' cpus='0' memory='65536'/>"), XMLCONF_ERROR_XML, "cell '1' is beyond the last"},
    {"<name>", CELLS("<cell id='0' cpus='0' memory='65536'/><cell id='0' memory='0'/>"), XMLCONF_ERROR_XML,
     "cell '0' is there more than once"},
    {"<name>", CELLS("<cell cpus='0' memory='65536'><distances><sibling id='1' value='20'/></distances></cell>"),
     XMLCONF_ERROR_XML, "a distance to cell '1', which is not there"},
    {"<name>", CELLS("<cell cpus='0' memory='65536'><distances><sibling id='0' value='11'/></distances></cell>"),
     XMLCONF_ERROR_XML, "distance 10 to itself, not 11"},
    {"<name>", CELLS("<cell cpus='0' memory='65536'><distances><sibling id='1' value='10'/></distances></cell><cell memory='0'/>"),
     XMLCONF_ERROR_XML, "at least 11 to cell '1', not 10"},
    {"<name>", CELLS("<cell cpus='0' memory='65536'><distances><sibling id='0' value='10'/><sibling id='0' value='10'/>"
                     "</distances></cell>"), XMLCONF_ERROR_XML, "more than one distance to cell '0'"},
    {"<name>", CELLS("<cell cpus='0' memory='65536'><distances><sibling id='0' value='9'/></distances></cell>"),
     XMLCONF_ERROR_XML, "'9' of attribute 'value'"},
    {"<name>", "<cpu mode='host-model'><feature name=''/></cpu><name>", XMLCONF_ERROR_XML, "has no name"},
    {"<name>", "<cpu mode='host-model'><feature name='a b'/></cpu><name>", XMLCONF_ERROR_XML, "'a b' is not the name"},
    {"<name>", "<cpu mode='host-model'><feature name='a'/><feature name='a'/></cpu><name>", XMLCONF_ERROR_XML,
     "'a' is there more than once"},
    {"<name>", "<vcpus/><name>", XMLCONF_ERROR_UNSUPPORTED, "vCPUs come and go in order"},
    {"<name>", "<cputune><vcpupin vcpu='1' cpuset='0'/></cputune><name>", XMLCONF_ERROR_XML, "<vcpupin vcpu='1'> is of a vCPU"},
    {"<name>", "<cputune><vcpupin vcpu='0' cpuset='0'/><vcpupin vcpu='0' cpuset='1'/></cputune><name>", XMLCONF_ERROR_XML,
     "<vcpupin vcpu='0'> is there more than once"},
    {"<name>", "<cputune><vcpupin vcpu='0' cpuset='1-'/></cputune><name>", XMLCONF_ERROR_XML, "'1-' of attribute 'cpuset'"},
    {"<name>", "<cputune><shares>262145</shares></cputune><name>", XMLCONF_ERROR_XML, "'262145' of element <shares>"},
    {"<name>", "<cputune><quota>999</quota></cputune><name>", XMLCONF_ERROR_XML, "'999' of element <quota>"},
    {"<name>", "<cputune><period>-1</period></cputune><name>", XMLCONF_ERROR_XML, "'-1' of element <period>"},
    {"<name>", "<cputune><cachetune/></cputune><name>", XMLCONF_ERROR_UNSUPPORTED, "element <cachetune> in <cputune>"},
    {"<name>", "<name x='1'>", XMLCONF_ERROR_UNSUPPORTED, "attribute 'x' of element <name> is not supported"},
    {"<name>", "<x:commandline xmlns:x='http://libvirt.org/schemas/domain/xen/1.0'/><name>",
     XMLCONF_ERROR_UNSUPPORTED, "element <commandline> is not supported"},
    {MEMORY, "", XMLCONF_ERROR_XML, "element <memory> is missing"},
    {"64", "3", XMLCONF_ERROR_XML, "value '3' of element <memory> is not an amount from 4 MiB"},
    {"64", "-64", XMLCONF_ERROR_XML, "value '-64' of element <memory>"},
    {"64", "18446744073709551615", XMLCONF_ERROR_XML, "is not an amount"},
    {"64", "64 MiB", XMLCONF_ERROR_XML, "is not an amount"},
    {"MiB", "furlongs", XMLCONF_ERROR_XML, "value 'furlongs' of element <memory> is not a unit of memory"},
    {OS, OS "<currentMemory>131072</currentMemory>", XMLCONF_ERROR_XML, "is more than memory 65536 KiB"},
    {OS, OS "<vcpu>0</vcpu>", XMLCONF_ERROR_XML, "value '0' of element <vcpu> is not a number from 1 to 64"},
    {OS, OS "<vcpu>65</vcpu>", XMLCONF_ERROR_XML, "from 1 to 64"},
    {OS, OS "<vcpu current='3'>2</vcpu>", XMLCONF_ERROR_XML, "current vCPUs 3 are more than vCPUs 2"},
    {OS, OS "<vcpu cpuset='0-'>2</vcpu>", XMLCONF_ERROR_XML, "is not a list of CPUs"},
    {OS, OS "<vcpu cpuset='0-2,^0-2'>2</vcpu>", XMLCONF_ERROR_XML, "is not a list of CPUs"},
    {OS, OS "<vcpu cpuset='1,^1'>2</vcpu>", XMLCONF_ERROR_XML, "is not a list of CPUs"},
    {OS, OS "<vcpu placement='auto'>2</vcpu>", XMLCONF_ERROR_UNSUPPORTED, "value 'auto' of attribute 'placement'"},
    {OS, "", XMLCONF_ERROR_OS_TYPE, "element <type> is missing"},
    {"xenpvh", "amiga", XMLCONF_ERROR_OS_TYPE, "value 'amiga' of element <type> is not known"},
    {"xenpvh", "hvm", XMLCONF_ERROR_UNSUPPORTED, "HVM guests are not supported yet"},
    {"xenpvh", "linux", XMLCONF_ERROR_UNSUPPORTED, "paravirtual guests are not supported yet"},
    {"<type>", "<type arch='sparc'>", XMLCONF_ERROR_OS_TYPE, "value 'sparc' of attribute 'arch'"},
    {"<type>", "<type machine='pc'>", XMLCONF_ERROR_OS_TYPE, "value 'pc' of attribute 'machine'"},
    {"<kernel>/k</kernel>", "", XMLCONF_ERROR_XML, "there is nothing to boot"},
    {"/k<", "k<", XMLCONF_ERROR_XML, "value 'k' of element <kernel> is not the absolute path"},
    {"<kernel>", "<loader>/l</loader><kernel>", XMLCONF_ERROR_UNSUPPORTED, "firmware is not supported"},
    {"<kernel>", "<boot dev='network'/><kernel>", XMLCONF_ERROR_UNSUPPORTED, "value 'network' of attribute 'dev'"},
    {"<kernel>", "<boot dev='tape'/><kernel>", XMLCONF_ERROR_XML, "value 'tape' of attribute 'dev'"},
    {"<kernel>", "<boot/><kernel>", XMLCONF_ERROR_XML, "attribute 'dev' is missing"},
    {"<kernel>", "<dtb>/l</dtb><kernel>", XMLCONF_ERROR_UNSUPPORTED, "element <dtb> in <os> is not supported"},
    {OS, OS "<bootloader_args>-x</bootloader_args>", XMLCONF_ERROR_XML, "<bootloader_args> needs a <bootloader>"},
    {OS, OS "<features><hap/></features>", XMLCONF_ERROR_UNSUPPORTED, "element <hap> in <features>"},
    {OS, OS "<clock offset='localtime'/>", XMLCONF_ERROR_UNSUPPORTED, "value 'localtime' of attribute 'offset'"},
    {OS, OS "<clock offset='moon'/>", XMLCONF_ERROR_XML, "value 'moon'"},
    {OS, OS "<on_crash>explode</on_crash>", XMLCONF_ERROR_XML, "value 'explode' of element <on_crash> is not known"},
    {OS, OS "<on_crash>coredump-destroy</on_crash>", XMLCONF_ERROR_UNSUPPORTED, "value 'coredump-destroy' of element <on_crash>"},
    {OS, OS "<on_poweroff>rename-restart</on_poweroff>", XMLCONF_ERROR_UNSUPPORTED, "under another name"},
    {OS, OS "<on_reboot>coredump-restart</on_reboot>", XMLCONF_ERROR_XML, "of element <on_reboot>"},
    {"<devices/>", "<devices><teapot/></devices>", XMLCONF_ERROR_UNSUPPORTED, "element <teapot> in <devices>"},
    {"<devices/>", "<devices><console type='udp'/></devices>", XMLCONF_ERROR_UNSUPPORTED, "value 'udp'"},
    {"<devices/>", "<devices><console type='tcp'/></devices>", XMLCONF_ERROR_XML, "type 'tcp' needs a <source host"},
    {"<devices/>", "<devices><console type='tcp'><source service='1'/></console></devices>", XMLCONF_ERROR_XML,
     "type 'tcp' needs a <source host"},
    {"<devices/>", "<devices><console type='unix'><source mode='bind'/></console></devices>", XMLCONF_ERROR_XML,
     "type 'unix' needs a <source path"},
    {"<devices/>", "<devices><console type='unix'><source path='x'/></console></devices>", XMLCONF_ERROR_XML,
     "'x' is not absolute"},
    {"<devices/>", "<devices><console type='unix'><source mode='x' path='/x'/></console></devices>", XMLCONF_ERROR_XML,
     "'x' of attribute 'mode'"},
    {"<devices/>", "<devices><console type='pty'><source mode='bind'/></console></devices>", XMLCONF_ERROR_XML,
     "needs type 'unix' or 'tcp'"},
    {"<devices/>", "<devices><console type='pty'><source host='h'/></console></devices>", XMLCONF_ERROR_XML,
     "need type 'tcp'"},
    {"<devices/>", "<devices><console type='tcp'><protocol type='telnet'/></console></devices>", XMLCONF_ERROR_UNSUPPORTED,
     "'telnet'"},
    {"<devices/>", "<devices><console/><console><target port='3'/></console></devices>", XMLCONF_ERROR_XML,
     "console 1 cannot be at port 3"},
    {"<devices/>", "<devices><console type='file'/></devices>", XMLCONF_ERROR_XML, "needs a <source path"},
    {"<devices/>", "<devices><console type='file'><source path='x'/></console></devices>", XMLCONF_ERROR_XML,
     "path 'x' is not absolute"},
    {"<devices/>", "<devices><console><log append='on'/></console></devices>", XMLCONF_ERROR_XML, "needs a 'file'"},
    {"<devices/>", CHANNEL("spicevmc", "xen", "name='n'"), XMLCONF_ERROR_UNSUPPORTED, "no SPICE server"},
    {"<devices/>", CHANNEL("pty", "virtio", "name='n'"), XMLCONF_ERROR_UNSUPPORTED, "targets of type xen"},
    {"<devices/>", CHANNEL("pty", "xen", ""), XMLCONF_ERROR_XML, "attribute 'name' of element <target> is missing"},
    {"<devices/>", "<devices><channel type='pty'/></devices>", XMLCONF_ERROR_XML, "is missing"},
    {"<devices/>", CHANNEL("file", "xen", "name='n'"), XMLCONF_ERROR_XML, "channel 'n': type 'file' needs a <source path"},
    {"<devices/>", "<devices><channel type='unix'><source mode='connect'/><target type='xen' name='n'/></channel></devices>",
     XMLCONF_ERROR_XML, "channel 'n': type 'unix' needs a <source path"},
    {"<devices/>", "<devices>" CHANNEL_OF("n") CHANNEL_OF("n") "</devices>", XMLCONF_ERROR_XML, "two of that name"},
    {"<devices/>",
     "<devices>" FOUR("<console/>") FOUR("<console/>") FOUR("<console/>") FOUR("<console/>") CHANNEL_OF("n") "</devices>",
     XMLCONF_ERROR_UNSUPPORTED, "17 consoles and channels"},
    {"<devices/>", "<devices><serial type='pty'/></devices>", XMLCONF_ERROR_UNSUPPORTED, "no serial ports"},
    {"<devices/>", "<devices><console><target type='serial'/></console></devices>", XMLCONF_ERROR_UNSUPPORTED,
     "value 'serial'"},
    {"<devices/>", "<devices><memballoon model='virtio'/></devices>", XMLCONF_ERROR_UNSUPPORTED, "'virtio'"},
};

/* A distance that is not said is that of the way back, or 20. */
static void test_numa(void)
{
    g_autofree char *in = read_testdata("numa", "in");
    g_autoptr(XmlconfDomain) domain = parse(in, 0);
    const XmlconfDomainConfig *config = xmlconf_domain_config(domain);
    const GPtrArray *cells = config->cpu.cells;
    const XmlconfNumaCell *second = cells->pdata[1];
    g_autoptr(GError) error = NULL;

    g_assert_cmpuint(cells->len, ==, 2);
    g_assert_cmpstr(second->cpus, ==, "1,3");
    g_assert_cmpuint(xmlconf_numa_distance(cells, 1, 0), ==, 31);
    g_assert_cmpuint(xmlconf_numa_distance(cells, 0, 1), ==, 31);
    g_assert_cmpuint(xmlconf_numa_distance(cells, 0, 0), ==, 10);
    g_ptr_array_set_size(second->distances, 0);
    g_assert_cmpuint(xmlconf_numa_distance(cells, 1, 0), ==, 20);
    g_assert_cmpint(config->numatune.mode, ==, XMLCONF_NUMA_STRICT);
    g_assert_false(xmlconf_numa_check_vcpus(cells, 5, &error));
    g_assert_nonnull(strstr(error->message, "vCPU 4 is in no NUMA cell"));
    g_assert_true(xmlconf_numa_check_vcpus(NULL, 5, NULL));
}

/* What is bound and unbound shows in the document; what is said for all vCPUs holds for one without its own. */
static void test_pins(void)
{
    g_autofree char *in = read_testdata("tuned", "in");
    g_autoptr(XmlconfDomain) domain = parse(in, 0);
    const XmlconfDomainConfig *config = xmlconf_domain_config(domain);
    g_autoptr(GByteArray) map = xmlconf_cpuset_parse(xmlconf_vcpu_cpuset(config, 0));
    g_autofree char *list = xmlconf_cpuset_format(map->data, map->len);
    g_autofree char *none = xmlconf_cpuset_format((const guint8 *)"\0", 2);
    g_autofree char *many = xmlconf_cpuset_format((const guint8 *)"\x81\x01\x80", 3);

    g_assert_cmpstr(list, ==, "0-1,3");
    g_assert_cmpstr(none, ==, "");
    g_assert_cmpstr(many, ==, "0,7-8,23");
    g_assert_cmpstr(xmlconf_vcpu_cpuset(config, 1), ==, "0-7");
    g_assert_cmpint(config->cputune.emulator.quota, ==, -1);
    xmlconf_domain_set_vcpu_pin(domain, 1, "5");
    xmlconf_domain_set_vcpu_pin(domain, 0, NULL);
    xmlconf_domain_set_vcpu_pin(domain, 3, NULL);
    xmlconf_domain_set_vcpu_pin(domain, 2, NULL);
    g_assert_cmpstr(xmlconf_vcpu_cpuset(config, 1), ==, "5");
    g_assert_cmpstr(xmlconf_vcpu_cpuset(config, 0), ==, "0-7");
    g_autofree char *xml = format(domain, XMLCONF_FORMAT_INACTIVE);
    g_assert_nonnull(strstr(xml, "<quota>20000</quota>\n    <emulator_quota>-1</emulator_quota>\n"
                                 "    <vcpupin vcpu='1' cpuset='5'/>\n    <emulatorpin"));
    xmlconf_domain_set_vcpu_pin(domain, 1, NULL);
    g_autofree char *bare = format(domain, XMLCONF_FORMAT_INACTIVE);
    g_assert_null(strstr(bare, "vcpupin"));
}

static char *replace(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);

    g_assert_nonnull(at);
    return g_strdup_printf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

static void test_bad_input(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(bad_input); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *xml = replace(good, bad_input[i].from, bad_input[i].to);
        g_autoptr(XmlconfDomain) domain = xmlconf_domain_parse(xml, 0, &error);

        g_assert_null(domain);
        g_test_message("%s", error->message);
        g_assert_error(error, XMLCONF_ERROR, (int)bad_input[i].code);
        g_assert_nonnull(strstr(error->message, bad_input[i].message));
    }
}

static void test_limits(void)
{
    g_autofree char *deep = g_strnfill(4000 * 3, ' ');
    g_autofree char *large = g_strnfill(11 * 1024 * 1024, ' ');
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < 4000; i++)
        memcpy(deep + 3 * i, "<a>", 3);
    g_assert_null(xmlconf_domain_parse(deep, 0, &error));
    g_assert_error(error, XMLCONF_ERROR, XMLCONF_ERROR_SYNTAX);
    g_clear_error(&error);
    g_assert_null(xmlconf_domain_parse(large, 0, &error));
    g_assert_error(error, XMLCONF_ERROR, XMLCONF_ERROR_SYNTAX);
}

static void test_schema(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = replace(good, "<devices/>", "<devices/><nonsense/>");

    if (!validate_if_installed()) {
        g_test_skip(SCHEMA " is not installed");
        return;
    }
    g_assert_null(xmlconf_domain_parse(xml, XMLCONF_VALIDATE, &error));
    g_assert_error(error, XMLCONF_ERROR, XMLCONF_ERROR_SCHEMA);
    g_assert_true(g_str_has_prefix(error->message, "Unable to validate doc against " SCHEMA "\n"));
}

static char *random_text(GRand *rand, const char *first)
{
    static const char *const pieces[] = {"a", "Z9", " ", "&", "<", ">", "'", "\"", "]]>", "ä", "\xf0\x9f\x90\xa7",
                                         "\t", "=", "%s", "--"};
    GString *text = g_string_new(first);

    for (int n = g_rand_int_range(rand, 1, 12); n > 0; n--)
        g_string_append(text, pieces[g_rand_int_range(rand, 0, G_N_ELEMENTS(pieces))]);
    g_string_append_c(text, '.');
    return g_string_free(text, FALSE);
}

static void set_random(char **text, GRand *rand, const char *first)
{
    g_free(*text);
    *text = g_rand_boolean(rand) ? random_text(rand, first) : NULL;
}

static void randomize_disk(XmlconfDisk *disk, GRand *rand)
{
    disk->type = g_rand_int_range(rand, 0, 2);
    g_clear_pointer(&disk->file, g_free);
    if (disk->type == XMLCONF_DISK_FILE)
        disk->file = random_text(rand, "/");
    else
        disk->dev = random_text(rand, "/");
    disk->device = g_rand_int_range(rand, 0, 2);
    disk->cache = g_rand_int_range(rand, 0, 5);
    disk->discard = g_rand_int_range(rand, 0, 3);
    disk->readonly = disk->device == XMLCONF_DISK_CDROM || g_rand_boolean(rand);
    disk->shareable = g_rand_boolean(rand);
}

static void randomize_interface(XmlconfInterface *interface, GRand *rand)
{
    interface->link = g_rand_int_range(rand, 0, 3);
    interface->mtu = g_rand_boolean(rand) ? (guint)g_rand_int_range(rand, 68, 65536) : 0;
    g_free(interface->target);
    interface->target = g_rand_boolean(rand) ? g_strdup("tap-x") : NULL;
}

static void randomize(XmlconfDomainConfig *config, GRand *rand)
{
    XmlconfConsole *console = g_ptr_array_index(config->consoles, 0);

    set_random(&config->title, rand, "t");
    set_random(&config->description, rand, "\n d");
    set_random(&config->initrd, rand, "/");
    set_random(&config->cmdline, rand, " ");
    set_random(&config->emulator, rand, "/");
    set_random(&console->log_path, rand, "/");
    config->memory_kib = (guint64)g_rand_int_range(rand, 4096, 1 << 30) << g_rand_int_range(rand, 0, 4);
    config->current_memory_kib = 4096 + g_rand_int(rand) % (config->memory_kib - 4095);
    config->max_vcpus = (guint)g_rand_int_range(rand, 1, 65);
    config->current_vcpus = 1 + g_rand_int(rand) % config->max_vcpus;
    config->on_poweroff = g_rand_int_range(rand, 0, XMLCONF_ACTION_RENAME_RESTART);
    config->on_reboot = g_rand_int_range(rand, 0, XMLCONF_ACTION_RENAME_RESTART);
    config->on_crash = g_rand_int_range(rand, 0, XMLCONF_ACTION_RENAME_RESTART);
    console->type = g_rand_int_range(rand, 0, 3);
    if (console->type == XMLCONF_CHAR_FILE)
        console->path = random_text(rand, "/");
    console->append = console->type == XMLCONF_CHAR_FILE && g_rand_boolean(rand);
    console->log_append = console->log_path && g_rand_boolean(rand);
    randomize_disk(g_ptr_array_index(config->disks, 0), rand);
    randomize_interface(g_ptr_array_index(config->interfaces, 0), rand);
}

static void assert_same_devices(const XmlconfDomainConfig *a, const XmlconfDomainConfig *b)
{
    const XmlconfDisk *da = g_ptr_array_index(a->disks, 0), *db = g_ptr_array_index(b->disks, 0);
    const XmlconfInterface *ia = g_ptr_array_index(a->interfaces, 0), *ib = g_ptr_array_index(b->interfaces, 0);

    g_assert_cmpint(da->type, ==, db->type);
    g_assert_cmpint(da->device, ==, db->device);
    g_assert_cmpint(da->cache, ==, db->cache);
    g_assert_cmpint(da->discard, ==, db->discard);
    g_assert_cmpint(da->readonly, ==, db->readonly);
    g_assert_cmpint(da->shareable, ==, db->shareable);
    g_assert_cmpstr(xmlconf_disk_source(da), ==, xmlconf_disk_source(db));
    g_assert_cmpint(ia->link, ==, ib->link);
    g_assert_cmpuint(ia->mtu, ==, ib->mtu);
    g_assert_cmpstr(ia->mac, ==, ib->mac);
    g_assert_cmpstr(ia->target, ==, ib->target);
}

static void assert_same(const XmlconfDomainConfig *a, const XmlconfDomainConfig *b)
{
    const XmlconfConsole *ca = g_ptr_array_index(a->consoles, 0), *cb = g_ptr_array_index(b->consoles, 0);

    g_assert_cmpstr(a->title, ==, b->title);
    g_assert_cmpstr(a->description, ==, b->description);
    g_assert_cmpstr(a->initrd, ==, b->initrd);
    g_assert_cmpstr(a->cmdline, ==, b->cmdline);
    g_assert_cmpstr(a->emulator, ==, b->emulator);
    g_assert_cmpuint(a->memory_kib, ==, b->memory_kib);
    g_assert_cmpuint(a->current_memory_kib, ==, b->current_memory_kib);
    g_assert_cmpuint(a->max_vcpus, ==, b->max_vcpus);
    g_assert_cmpuint(a->current_vcpus, ==, b->current_vcpus);
    g_assert_cmpint(a->on_poweroff, ==, b->on_poweroff);
    g_assert_cmpint(a->on_reboot, ==, b->on_reboot);
    g_assert_cmpint(a->on_crash, ==, b->on_crash);
    g_assert_cmpint(ca->type, ==, cb->type);
    g_assert_cmpstr(ca->path, ==, cb->path);
    g_assert_cmpstr(ca->log_path, ==, cb->log_path);
    g_assert_cmpint(ca->append, ==, cb->append);
    g_assert_cmpint(ca->log_append, ==, cb->log_append);
    assert_same_devices(a, b);
}

static void test_round_trip(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(42);

    for (int i = 0; i < 500; i++) {
        g_autofree char *start = replace(good, "<devices/>", "<devices><disk><source file='/d'/><target dev='xvda'/>"
                                                             "</disk><interface type='ethernet'/></devices>");
        g_autoptr(XmlconfDomain) first = parse(start, 0);
        randomize(xmlconf_domain_config(first), rand);
        g_autofree char *xml = format(first, XMLCONF_FORMAT_INACTIVE);
        g_autoptr(XmlconfDomain) second = parse(xml, validate_if_installed());
        g_autofree char *again = format(second, XMLCONF_FORMAT_INACTIVE);

        assert_same(xmlconf_domain_config(first), xmlconf_domain_config(second));
        g_assert_cmpstr(xml, ==, again);
    }
}

static gpointer thread_main(gpointer data)
{
    XmlconfDomain *shared = data;

    for (int i = 0; i < 50; i++) {
        g_autofree char *shared_xml = format(shared, XMLCONF_FORMAT_INACTIVE);
        g_autoptr(XmlconfDomain) own = parse(shared_xml, validate_if_installed());
        g_autoptr(XmlconfDomain) ref = xmlconf_domain_ref(shared);
        g_autoptr(GError) error = NULL;

        g_assert_cmpstr(xmlconf_domain_config(own)->name, ==, "bad");
        g_assert_null(xmlconf_domain_parse("<domain>\n<a>", 0, &error));
        g_assert_true(g_str_has_prefix(error->message, "(domain_definition):2: "));
    }
    return NULL;
}

static void test_threads(void)
{
    g_autoptr(XmlconfDomain) shared = parse(good, 0);
    GThread *threads[4];

    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("parse", thread_main, shared);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/domain/golden/minimal", "minimal", test_golden);
    g_test_add_data_func("/domain/golden/full", "full", test_golden);
    g_test_add_data_func("/domain/golden/console-null", "console-null", test_golden);
    g_test_add_data_func("/domain/golden/numa", "numa", test_golden);
    g_test_add_func("/domain/numa", test_numa);
    g_test_add_data_func("/domain/golden/tuned", "tuned", test_golden);
    g_test_add_func("/domain/pins", test_pins);
    g_test_add_data_func("/domain/golden/channels", "channels", test_golden);
    g_test_add_data_func("/domain/golden/console-pty", "console-pty", test_golden);
    g_test_add_data_func("/domain/golden/devices", "devices", test_golden);
    g_test_add_func("/domain/live", test_live);
    g_test_add_func("/domain/values", test_values);
    g_test_add_func("/domain/copy", test_copy);
    g_test_add_func("/domain/defaults", test_defaults);
    g_test_add_func("/domain/bad-input", test_bad_input);
    g_test_add_func("/domain/limits", test_limits);
    g_test_add_func("/domain/schema", test_schema);
    g_test_add_func("/domain/round-trip", test_round_trip);
    g_test_add_func("/domain/threads", test_threads);
    return g_test_run();
}
