/* xl.cfg both ways. Facts: xl.cfg(5), xl-disk-configuration(5), xl-network-configuration(5) of Xen 4.17. */
#include "config.h"

#include <string.h>

#include "xmlconf/xmlconf.h"

#define PVH "name = 'g'\ntype = 'pvh'\nkernel = '/k'\nmemory = 256\n"

#define NODES(first, second) "vcpus = 2\nvnuma = [ [" first "], [" second "] ]"

static XmlconfDomain *parse(const char *text)
{
    g_autoptr(GError) error = NULL;
    XmlconfDomain *domain = xmlconf_xlcfg_parse(text, &error);

    g_assert_no_error(error);
    g_assert_nonnull(domain);
    return domain;
}

/* What is in the XML of a file of PVH and one more line. */
static const struct {
    const char *line, *xml;
} converted[] = {
    {"", "<type arch='x86_64' machine='xenpvh'>xenpvh</type>"},
    {"", "<memory unit='KiB'>262144</memory>"},
    {"maxmem = 512", "<memory unit='KiB'>524288</memory>"},
    {"maxmem = 512", "<currentMemory unit='KiB'>262144</currentMemory>"},
    {"vcpus = 2", "<vcpu placement='static'>2</vcpu>"},
    {"vcpus = 2\nmaxvcpus = 4", "<vcpu placement='static' current='2'>4</vcpu>"},
    {"uuid = '06ed00fe-1162-4fc4-b5d8-11993ee4a8b9'", "<uuid>06ed00fe-1162-4fc4-b5d8-11993ee4a8b9</uuid>"},
    {"ramdisk = '/r'", "<initrd>/r</initrd>"},
    {"root = '/dev/xvda ro'\nextra = 'quiet'", "<cmdline>root=/dev/xvda ro quiet</cmdline>"},
    {"extra = 'quiet'", "<cmdline>quiet</cmdline>"},
    {"cmdline = 'a'\nroot = '/dev/xvda'", "<cmdline>a</cmdline>"},
    {"bootloader = 'pygrub'", "<bootloader>pygrub</bootloader>"},
    {"bootloader = 'pygrub'\nbootloader_args = [ '-q', 'a b' ]", "<bootloader_args>'-q' 'a b'</bootloader_args>"},
    {"on_crash = 'preserve'", "<on_crash>preserve</on_crash>"},
    {"cpus = '0-1'", "<vcpu placement='static' cpuset='0-1'>1</vcpu>"},
    {"vcpus = 2\ncpus = [ '0', '1' ]", "<vcpupin vcpu='1' cpuset='1'/>"},
    {NODES("'size=64','vcpus=0'", "'size=192','vcpus=1'"), "<cell id='1' cpus='1' memory='196608' unit='KiB'/>"},
    {NODES("'size=64','vcpus=0'", "'size=256','vcpus=1'"), "<memory unit='KiB'>327680</memory>"},
    {NODES("'size=64','vcpus=0','vdistances=10,25'", "'size=192','vcpus=1','vdistances=21, 10'"), "<sibling id='0' value='21'/>"},
    {NODES("'pnode=1','size=64','vcpus=0'", "'pnode=1','size=192','vcpus=1'"), "<memory mode='strict' nodeset='1'/>"},
    {"cpu_weight = 512", "<shares>2048</shares>"},
    {"cap = 50", "<global_quota>50000</global_quota>"},
    {"disk = [ '/img,raw,xvda,rw' ]", "<source file='/img'/>"},
    {"disk = [ 'phy:/dev/vg/lv,xvda,w' ]", "<source dev='/dev/vg/lv'/>"},
    {"disk = [ 'file:/img,xvda1,r' ]", "<readonly/>"},
    {"disk = [ 'format=qcow2, vdev=xvdb, access=rw, target=/a,b.img' ]", "<source file='/a,b.img'/>"},
    {"disk = [ 'format=qcow2, vdev=xvdb, access=rw, target=/a,b.img' ]", "<driver type='qcow2'/>"},
    {"disk = [ ',,hdc,cdrom' ]", "<disk type='file' device='cdrom'>"},
    {"disk = [ '/img,raw,xvda,rw,no-discard' ]", "<driver type='raw' discard='ignore'/>"},
    {"vif = [ 'mac=00:16:3e:00:00:01,bridge=br7' ]", "<source bridge='br7'/>"},
    {"vif = [ 'mac=00:16:3E:00:00:01 , vifname=v1,mtu=1400,script=vif-bridge' ]", "<mtu size='1400'/>"},
    {"vif = [ '' ]", "<source bridge='xenbr0'/>"},
    {"vif = [ 'rate=10Mb/s' ]", "<outbound average='1220'/>"},
    {"vif = [ 'rate=250KB/s@20ms' ]", "<outbound average='244'/>"},
    {"vfb = [ 'vnc=1,vnclisten=0.0.0.0,vncdisplay=2' ]", "<graphics type='vnc' port='5902' autoport='no' listen='0.0.0.0'>"},
    {"channel = [ 'name=a.b,connection=socket,path=/run/c.sock' ]", "<target type='xen' name='a.b'/>"},
    {"acpi = 1\nlocaltime = 0\npci = [ ]\nfuture_key = 1", "<name>g</name>"},
};

static void test_converted(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(converted); i++) {
        g_autofree char *text = g_strconcat(PVH, converted[i].line, "\n", NULL);
        g_autoptr(XmlconfDomain) domain = parse(text);
        g_autofree char *xml = xmlconf_domain_format(domain, XMLCONF_FORMAT_INACTIVE, NULL);

        if (!strstr(xml, converted[i].xml))
            g_error("'%s' has no %s:\n%s", converted[i].line, converted[i].xml, xml);
    }
}

static const struct {
    const char *text, *message;
} refused[] = {
    {"name = 'g'\ntype = 'pvh'\nkernel = '/k'\n", "'memory' is missing"},
    {"type = 'pvh'\nkernel = '/k'\nmemory = 256\n", "<name>"},
    {"name = 'g'\nkernel = '/k'\nmemory = 256\n", "paravirtual guests are not supported"},
    {"name = 'g'\nbuilder = 'hvm'\nmemory = 256\n", "HVM guests are not supported"},
    {PVH "type = 'x'\n", "is not \"pvh\", \"pv\" or \"hvm\""},
    {PVH "vcpus = 3\nmaxvcpus = 2\n", "current vCPUs 3 are more than vCPUs 2"},
    {PVH "firmware = 'ovmf'\n", "firmware = \"ovmf\": is not supported"},
    {PVH "pci = [ '0000:03:00.0' ]\n", "pci = \"[...]\": is not supported"},
    {PVH "localtime = 1\n", "localtime = \"1\""},
    {PVH "cap = 'much'\n", "cap = \"much\": is not a number"},
    {PVH "vnuma = 'x'\n", "vnuma = \"x\": is not a list"},
    {PVH "vnuma = [ 'size=256' ]\n", "is not a list of lists"},
    {PVH "vnuma = [ [ [ 'a' ] ] ]\n", "is not a list of lists of strings"},
    {PVH "vnuma = [ [ 'vcpus=0' ] ]\n", "a node has no size"},
    {PVH "vnuma = [ [ 'colour=red' ] ]\n", "vnuma = \"colour=red\": is not known"},
    {PVH "vnuma = [ [ 'size=1', 'size=1' ] ]\n", "vnuma = \"size=1\": is there more than once"},
    {PVH "vnuma = [ [ 'size=256', 'vcpus=0', 'vdistances=10,20' ] ]\n", "\"10,20\": is not a distance to each"},
    {PVH "maxmem = 512\nvnuma = [ [ 'size=256', 'vcpus=0' ] ]\n", "NUMA cells have memory of 262144 KiB together"},
    {PVH NODES("'pnode=0','size=64','vcpus=0'", "'pnode=1','size=192','vcpus=1'"), "pnode = \"1\": all memory of a guest"},
    {PVH "disk = '/img'\n", "disk = \"/img\": is not a list"},
    {PVH "disk = [ [ 'a' ] ]\n", "is not a list of strings"},
    {PVH "disk = [ 'img,raw,xvda,rw' ]\n", "value 'img'"},
    {PVH "disk = [ '/img,raw,xvda,rw,script=block-iscsi' ]\n", "scripts of disks"},
    {PVH "disk = [ 'colour=red' ]\n", "colour=red"},
    {PVH "disk = [ 'vdev=xvda,format=raw' ]\n", "no target specified"},
    {PVH "vif = [ 'type=ioemu' ]\n", "vif = \"type=ioemu\": a PVH guest has no emulated interfaces"},
    {PVH "vif = [ 'script=vif-nat' ]\n", "scripts of network interfaces"},
    {PVH "vif = [ 'mac=nonsense' ]\n", "nonsense"},
    {PVH "vif = [ 'rate=fast' ]\n", "vif = \"fast\": has no rate"},
    {PVH "vif = [ 'rate=99999999999999999GB/s' ]\n", "has no rate"},
    {PVH "vif = [ 'tail' ]\n", "vif = \"tail=\": is not known"},
    {PVH "memory =\n", "cannot read the configuration: xl.cfg:"},
    {PVH "extra = '\xff'\n", "is not text"},
};

static void test_refused(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(XmlconfDomain) domain = xmlconf_xlcfg_parse(refused[i].text, &error);

        g_assert_null(domain);
        g_assert_nonnull(error);
        if (!strstr(error->message, refused[i].message))
            g_error("'%s' gives: %s", refused[i].text, error->message);
    }
}

/* What is written is read as the same domain, whatever is in its strings. */
static void test_round_trip(void)
{
    static const char *const lines[] = {
        "",
        "vcpus = 2\nmaxvcpus = 4\nmaxmem = 512\ncpus = [ '0', 'all', '1' ]\ncpu_weight = 512\ncap = 150\n",
        "cpus = '0-1'\non_poweroff = 'preserve'\non_reboot = 'destroy'\non_crash = 'restart'\n",
        "ramdisk = '/it\\'s \"here\"'\ncmdline = 'a=\"b c\" d=\\\\x41'\n",
        "bootloader = 'pygrub'\nbootloader_args = [ '-q', 'a b' ]\n",
        "cmdline = 'a\\nb'\n",
        NODES("'size=64','vcpus=0','vdistances=10,25'", "'size=192','vcpus=1','vdistances=21,10'") "\n",
        NODES("'pnode=3','size=64','vcpus=0-1','vdistances=10,25'", "'pnode=3','size=192','vdistances=25,10'") "\n",
        "disk = [ 'vdev=xvda,format=raw,access=rw,target=/a,b.img', 'phy:/dev/vg/lv,xvdb,r', 'vdev=hdc,devtype=cdrom,format=empty',\n"
        "  'vdev=xvdd,format=vhd,access=rw,discard,direct-io-safe,target=/q, r.vhd' ]\n",
        "channel = [ 'name=a.b,connection=pty', 'name=c,connection=socket,path=/run/c.sock', 'name=d,connection=socket' ]\n",
        "vif = [ 'mac=00:16:3e:00:00:01,bridge=br7,vifname=v1,mtu=1400', 'mac=00:16:3e:00:00:02' ]\n",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autofree char *text = g_strconcat(PVH, "uuid = '06ed00fe-1162-4fc4-b5d8-11993ee4a8b9'\n", lines[i], NULL);
        g_autoptr(XmlconfDomain) domain = NULL, again = NULL;
        g_autofree char *xml = NULL, *cfg = NULL, *same = NULL;
        g_autoptr(GError) error = NULL;

        domain = parse(text);
        xml = xmlconf_domain_format(domain, XMLCONF_FORMAT_INACTIVE, NULL);
        cfg = xmlconf_xlcfg_format(domain, &error);
        g_assert_no_error(error);
        again = parse(cfg);
        same = xmlconf_domain_format(again, XMLCONF_FORMAT_INACTIVE, NULL);
        g_assert_cmpstr(same, ==, xml);
    }
}

static const struct {
    const char *xml, *message;
} lost[] = {
    {"<devices><disk type='network'><source protocol='nbd' name='x'><host name='h'/></source><target dev='xvda'/></disk></devices>",
     "disks that are not files or block devices"},
    {"<devices><disk><source file='/i'/><target dev='xvda'/><iotune><read_iops_sec>5</read_iops_sec></iotune></disk></devices>",
     "limits of disks"},
    {"<devices><disk><source file='/i'/><target dev='xvda'/><shareable/></disk></devices>", "disks that are shared"},
    {"<devices><interface type='ethernet'/></devices>", "not on a bridge"},
    {"<devices><console type='pty'/><console type='pty'/></devices>", "consoles but one"},
    {"<devices><channel type='null'><target type='xen' name='a'/></channel></devices>", "channels but of type pty"},
    {"<devices><graphics type='vnc'/></devices>", "graphics"},
    {"<cputune><emulatorpin cpuset='0'/></cputune>", "single threads"},
    {"<numatune><memory nodeset='0'/></numatune>", "memory on certain NUMA nodes"},
    {"<cpu><numa><cell cpus='0' memory='262140'/><cell memory='4'/></numa></cpu>", "not a number of MiB"},
    {"<cpu mode='host-model'><feature policy='disable' name='aes'/></cpu>", "CPU models and features"},
};

static void test_lost(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(lost); i++) {
        g_autofree char *xml = g_strdup_printf("<domain type='xen'><name>g</name><memory>262144</memory><os><type>xenpvh</type>"
                                               "<kernel>/k</kernel></os>%s</domain>", lost[i].xml);
        g_autoptr(GError) error = NULL;
        g_autoptr(XmlconfDomain) domain = xmlconf_domain_parse(xml, 0, &error);
        g_autofree char *cfg = NULL;

        g_assert_no_error(error);
        cfg = xmlconf_xlcfg_format(domain, &error);
        g_assert_null(cfg);
        g_assert_nonnull(strstr(error->message, lost[i].message));
    }
}

/* Any bytes are a configuration or an error, and what is a configuration can be written. */
static void test_damaged(void)
{
    static const char *const pieces[] = {
        "name",   "=",      "'g'",   "\n",        "[",        "]",       ",",          "type='pvh'\n", "kernel='/k'\n",
        "\"",     "\\",     "\\x",   "memory=9\n", "name='g'\n", "disk=",  "vif=",       "'a,raw,xvda,rw'", "'bridge=b'",
        "# c\n",  ";",      "+=",    "cpus=",     "'0'",      "\xff",    "[[[[[[[[[[[[[[[[", "{", "memory=256\n",
    };
    GRand *rand = g_rand_new_with_seed(20261130);

    for (guint round = 0; round < 20000; round++) {
        g_autoptr(GString) text = g_string_new(g_rand_boolean(rand) ? PVH : "");
        g_autoptr(XmlconfDomain) domain = NULL;
        g_autoptr(GError) error = NULL;
        g_autofree char *cfg = NULL;

        for (int n = g_rand_int_range(rand, 0, 24); n > 0; n--)
            g_string_append(text, pieces[g_rand_int_range(rand, 0, G_N_ELEMENTS(pieces))]);
        domain = xmlconf_xlcfg_parse(text->str, &error);
        g_assert_true((domain != NULL) == (error == NULL));
        if (domain)
            cfg = xmlconf_xlcfg_format(domain, NULL);
    }
    g_rand_free(rand);
}

static void test_deep(void)
{
    g_autoptr(GString) text = g_string_new(PVH "disk = ");
    g_autoptr(GError) error = NULL;
    g_autoptr(XmlconfDomain) domain = NULL;

    for (guint i = 0; i < 400000; i++)
        g_string_append_c(text, '[');
    domain = xmlconf_xlcfg_parse(text->str, &error);
    g_assert_null(domain);
    g_assert_nonnull(error);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/xlcfg/converted", test_converted);
    g_test_add_func("/xlcfg/refused", test_refused);
    g_test_add_func("/xlcfg/round-trip", test_round_trip);
    g_test_add_func("/xlcfg/lost", test_lost);
    g_test_add_func("/xlcfg/damaged", test_damaged);
    g_test_add_func("/xlcfg/deep", test_deep);
    return g_test_run();
}
