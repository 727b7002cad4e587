/* Documents of snapshots, checkpoints and backups, both ways: what libvirt's schema allows comes back, and what Domus cannot do is
 * refused by name. */
#include "config.h"

#include "xmlconf/xmlconf.h"

#include <string.h>

#define UUID "c7a5fdbd-edaf-9455-926a-d65c16db1809"
#define DOMAIN                                                                                     \
    "  <domain type='xen'>\n"                                                                      \
    "    <name>g</name>\n"                                                                         \
    "    <uuid>" UUID "</uuid>\n"                                                                  \
    "    <memory unit='KiB'>262144</memory>\n"                                                     \
    "    <os><type arch='x86_64' machine='xenpvh'>xenpvh</type><kernel>/k</kernel></os>\n"           \
    "  </domain>\n"

static XmlconfSnapshot *parse(const char *xml)
{
    g_autoptr(GError) error = NULL;
    XmlconfSnapshot *snapshot = xmlconf_snapshot_parse(xml, 0, &error);

    g_assert_no_error(error);
    return snapshot;
}

static char *format(XmlconfSnapshot *snapshot)
{
    g_autoptr(GError) error = NULL;
    char *xml = xmlconf_snapshot_format(snapshot, XMLCONF_FORMAT_SECURE, &error);

    g_assert_no_error(error);
    return xml;
}

static void test_round_trip(void)
{
    const char *before = "<domainsnapshot>\n"
                         "  <name>s &amp; t</name>\n"
                         "  <description>two\nlines</description>\n"
                         "  <state>disk-snapshot</state>\n"
                         "  <parent>\n    <name>p</name>\n  </parent>\n"
                         "  <creationTime>1270477159</creationTime>\n"
                         "  <memory snapshot='external' file='/m'/>\n"
                         "  <disks>\n"
                         "    <disk name='xvda' snapshot='external' type='file'>\n"
                         "      <driver type='qcow2'/>\n"
                         "      <source file='/o'/>\n"
                         "    </disk>\n"
                         "    <disk name='xvdb' snapshot='no'/>\n"
                         "    <disk name='xvdc' snapshot='external' type='block'>\n"
                         "      <source dev='/dev/o'/>\n"
                         "    </disk>\n"
                         "  </disks>\n"
                         "</domainsnapshot>\n";
    g_autoptr(XmlconfSnapshot) snapshot = parse(before);
    g_autofree char *after = format(snapshot);

    g_assert_cmpstr(after, ==, before);
    g_assert_true(xmlconf_snapshot_is_external(snapshot));
    g_assert_cmpint(snapshot->state, ==, XMLCONF_SNAPSHOT_DISK_ONLY);
}

static void test_domains(void)
{
    g_autoptr(XmlconfSnapshot) snapshot = parse("<domainsnapshot><name>s</name>\n" DOMAIN "</domainsnapshot>");
    g_autofree char *once = format(snapshot);
    g_autoptr(XmlconfSnapshot) again = parse(once);
    g_autofree char *twice = format(again);

    g_assert_cmpstr(xmlconf_domain_config(snapshot->domain)->name, ==, "g");
    g_assert_cmpstr(once, ==, twice);
    g_assert_nonnull(strstr(once, "\n  <domain type='xen'>\n    <name>g</name>"));
    g_assert_false(xmlconf_snapshot_is_external(snapshot));
    g_assert_null(snapshot->inactive);
}

static void test_inactive_domain(void)
{
    g_autofree char *xml = g_strdup("<domainsnapshot><name>s</name>" DOMAIN "</domainsnapshot>");
    g_autoptr(XmlconfSnapshot) snapshot = parse(xml);
    g_autoptr(XmlconfSnapshot) copy = xmlconf_snapshot_copy(snapshot);
    g_autofree char *text = NULL;
    g_autoptr(XmlconfSnapshot) again = NULL;

    copy->inactive = xmlconf_domain_ref(copy->domain);
    text = format(copy);
    g_assert_nonnull(strstr(text, "<inactiveDomain type='xen'>"));
    again = parse(text);
    g_assert_nonnull(again->inactive);
    g_assert_null(snapshot->inactive);
}

/* libvirt 0.8 wrote no more of the domain. */
static void test_uuid_only(void)
{
    g_autoptr(XmlconfSnapshot) snapshot =
        parse("<domainsnapshot><name>s</name><domain><uuid>" UUID "</uuid></domain></domainsnapshot>");

    g_assert_null(snapshot->domain);
}

static void test_location_from_source(void)
{
    g_autoptr(XmlconfSnapshot) snapshot =
        parse("<domainsnapshot><memory file='/m'/><disks><disk name='xvda'><source file='/o'/></disk></disks></domainsnapshot>");
    const XmlconfSnapshotDisk *disk = snapshot->disks->pdata[0];

    g_assert_cmpint(snapshot->memory, ==, XMLCONF_SNAPSHOT_EXTERNAL);
    g_assert_cmpint(disk->location, ==, XMLCONF_SNAPSHOT_EXTERNAL);
    g_assert_cmpstr(disk->type, ==, "file");
}

#define DISKS(inside) "<domainsnapshot><disks>" inside "</disks></domainsnapshot>"

static const struct {
    const char *xml;
    XmlconfError code;
    const char *culprit;
} bad[] = {
    {"<domain/>", XMLCONF_ERROR_XML, "<domain>"},
    {"<domainsnapshot>", XMLCONF_ERROR_SYNTAX, "domainsnapshot"},
    {"<domainsnapshot><frob/></domainsnapshot>", XMLCONF_ERROR_UNSUPPORTED, "<frob>"},
    {"<domainsnapshot><state>dozing</state></domainsnapshot>", XMLCONF_ERROR_XML, "dozing"},
    {"<domainsnapshot><memory snapshot='internal' file='/m'/></domainsnapshot>", XMLCONF_ERROR_XML, "filename"},
    {"<domainsnapshot><memory snapshot='external'/></domainsnapshot>", XMLCONF_ERROR_XML, "filename"},
    {"<domainsnapshot><memory file='m'/></domainsnapshot>", XMLCONF_ERROR_XML, "'m'"},
    {DISKS("<disk snapshot='no'/>"), XMLCONF_ERROR_XML, "name"},
    {DISKS("<disk name='' snapshot='no'/>"), XMLCONF_ERROR_XML, "empty name"},
    {DISKS("<disk name='xvda' snapshot='manual'/>"), XMLCONF_ERROR_UNSUPPORTED, "manual"},
    {DISKS("<disk name='xvda' type='network'/>"), XMLCONF_ERROR_UNSUPPORTED, "network"},
    {DISKS("<disk name='xvda' snapshot='internal'><source file='/o'/></disk>"), XMLCONF_ERROR_XML, "'/o'"},
    {DISKS("<disk name='xvda' type='block'><source file='/o'/></disk>"), XMLCONF_ERROR_XML, "'xvda'"},
    {"<domainsnapshot><domain type='xen'><name>g</name></domain></domainsnapshot>", XMLCONF_ERROR_XML, ""},
};

static void test_bad(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        XmlconfSnapshot *snapshot = xmlconf_snapshot_parse(bad[i].xml, 0, &error);

        g_assert_null(snapshot);
        g_assert_error(error, XMLCONF_ERROR, (int)bad[i].code);
        g_assert_nonnull(strstr(error->message, bad[i].culprit));
    }
}

static void test_checkpoint(void)
{
    const char *before = "<domaincheckpoint>\n"
                         "  <name>c</name>\n"
                         "  <description>two\nlines</description>\n"
                         "  <parent>\n    <name>p</name>\n  </parent>\n"
                         "  <creationTime>1270477159</creationTime>\n"
                         "  <disks>\n"
                         "    <disk name='xvda' checkpoint='bitmap' bitmap='b' size='0'/>\n"
                         "    <disk name='xvdb' checkpoint='no'/>\n"
                         "  </disks>\n"
                         "</domaincheckpoint>\n";
    g_autoptr(XmlconfSnapshot) checkpoint = xmlconf_checkpoint_parse(before, XMLCONF_VALIDATE, NULL);
    g_autoptr(XmlconfSnapshot) copy = xmlconf_snapshot_copy(checkpoint);
    g_autofree char *after = format(copy);

    g_assert_cmpstr(after, ==, before);
}

static void test_checkpoint_domain(void)
{
    g_autoptr(XmlconfSnapshot) checkpoint = xmlconf_checkpoint_parse(
        "<domaincheckpoint><name>c</name><disks><disk name='xvda'/></disks>" DOMAIN "</domaincheckpoint>", 0, NULL);
    g_autofree char *without = xmlconf_snapshot_format(checkpoint, XMLCONF_FORMAT_NO_DOMAIN, NULL);
    g_autofree char *with = format(checkpoint);

    g_assert_nonnull(strstr(with, "<domain type='xen'>"));
    g_assert_null(strstr(without, "<domain "));
    g_assert_nonnull(strstr(without, "<disk name='xvda' checkpoint='bitmap'/>"));
}

static const struct {
    const char *xml, *culprit;
} bad_checkpoints[] = {
    {"<domainsnapshot/>", "<domainsnapshot>"},
    {"<domaincheckpoint><state>running</state></domaincheckpoint>", "<state>"},
    {"<domaincheckpoint><disks><disk name=''/></disks></domaincheckpoint>", "empty name"},
    {"<domaincheckpoint><disks><disk name='xvda' checkpoint='full'/></disks></domaincheckpoint>", "full"},
    {"<domaincheckpoint><disks><disk name='xvda' checkpoint='no' bitmap='b'/></disks></domaincheckpoint>", "'b'"},
};

static void test_bad_checkpoints(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_checkpoints); i++) {
        g_autoptr(GError) error = NULL;

        g_assert_null(xmlconf_checkpoint_parse(bad_checkpoints[i].xml, 0, &error));
        g_assert_nonnull(strstr(error->message, bad_checkpoints[i].culprit));
    }
}

static void test_destination(void)
{
    g_auto(XmlconfSnapshotDisk) disk = {0};
    g_auto(XmlconfSnapshotDisk) other = {0};
    g_autoptr(GError) error = NULL;

    g_assert_true(xmlconf_disk_destination_parse("<disk type='block'><driver type='raw'/><source dev='/dev/x'/>"
                                                 "<target dev='xvda' bus='xen'/></disk>", &disk, NULL));
    g_assert_cmpstr(disk.dev, ==, "/dev/x");
    g_assert_cmpstr(disk.format, ==, "raw");
    g_assert_false(xmlconf_disk_destination_parse("<disk type='file'/>", &other, &error));
    g_assert_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML);
}

static void test_backup(void)
{
    static const char *const documents[] = {
        "<domainbackup mode='push'>\n"
        "  <incremental>c</incremental>\n"
        "  <disks>\n"
        "    <disk name='xvda' backup='yes' type='file' backupmode='incremental' incremental='b'>\n"
        "      <driver type='qcow2'/>\n"
        "      <target file='/t'/>\n"
        "    </disk>\n"
        "    <disk name='xvdb' backup='no'/>\n"
        "    <disk name='xvdc' backup='yes' backupmode='full'/>\n"
        "  </disks>\n"
        "</domainbackup>\n",
        "<domainbackup mode='pull'>\n"
        "  <server transport='unix' socket='/s'/>\n"
        "  <disks>\n"
        "    <disk name='xvda' backup='yes' type='file' exportname='e' exportbitmap='b'>\n"
        "      <driver type='qcow2'/>\n"
        "      <scratch file='/t'/>\n"
        "    </disk>\n"
        "    <disk name='xvdb' backup='yes' type='block'>\n"
        "      <scratch dev='/dev/t'/>\n"
        "    </disk>\n"
        "  </disks>\n"
        "</domainbackup>\n",
        "<domainbackup mode='pull'>\n"
        "  <server transport='tcp' name='localhost' port='10809'/>\n"
        "</domainbackup>\n",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(documents); i++) {
        g_auto(XmlconfBackup) backup = {0};
        g_autofree char *text = NULL;

        g_assert_true(xmlconf_backup_parse(&backup, documents[i], NULL));
        text = xmlconf_backup_format(&backup);
        g_assert_cmpstr(text, ==, documents[i]);
    }
}

static const struct {
    const char *xml, *culprit;
} bad_backups[] = {
    {"<domainbackup mode='pull'/>", "<server>"},
    {"<domainbackup mode='pull'><server transport='unix' name='h'/></domainbackup>", "socket"},
    {"<domainbackup mode='pull'><server name='h' socket='/s'/></domainbackup>", "more than one address"},
    {"<domainbackup mode='pull'><server transport='unix' socket='/s' tls='yes'/></domainbackup>", "TLS"},
    {"<domainbackup mode='pull'><server name='h' tls='maybe'/></domainbackup>", "maybe"},
    {"<domainbackup><server tls='yes'/></domainbackup>", "pull mode"},
    {"<domainbackup mode='pull'><server name='h'/><disks><disk name='xvda'><target file='/t'/></disk></disks></domainbackup>",
     "<target>"},
    {"<domainbackup><server name='h'/></domainbackup>", "pull mode"},
    {"<domainbackup><disks><disk name='xvda'><scratch file='/t'/></disk></disks></domainbackup>", "<scratch>"},
    {"<domainbackup><disks><disk name='xvda' exportname='e'/></disks></domainbackup>", "export"},
    {"<domainbackup><disks><disk name='xvda' backupmode='full' incremental='c'/></disks></domainbackup>", "'c'"},
    {"<domainbackup><disks><disk/></disks></domainbackup>", "name"},
    {"<domainbackup><disks><disk name=''/></disks></domainbackup>", "empty name"},
    {"<domainbackup><disks><disk name='xvda' type='block'/></disks></domainbackup>", "'xvda'"},
    {"<domainbackup><disks><disk name='xvda' type='network'/></disks></domainbackup>", "network"},
    {"<domainbackup><disks><disk name='xvda' backupmode='incremental'/></disks></domainbackup>", "which checkpoint"},
    {"<backup/>", "<backup>"},
};

static void test_bad_backups(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(bad_backups); i++) {
        g_auto(XmlconfBackup) backup = {0};
        g_autoptr(GError) error = NULL;

        g_assert_false(xmlconf_backup_parse(&backup, bad_backups[i].xml, &error));
        g_assert_nonnull(strstr(error->message, bad_backups[i].culprit));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/snapshot/round-trip", test_round_trip);
    g_test_add_func("/snapshot/domains", test_domains);
    g_test_add_func("/snapshot/inactive-domain", test_inactive_domain);
    g_test_add_func("/snapshot/uuid-only", test_uuid_only);
    g_test_add_func("/snapshot/location-from-source", test_location_from_source);
    g_test_add_func("/snapshot/bad", test_bad);
    g_test_add_func("/snapshot/checkpoint", test_checkpoint);
    g_test_add_func("/snapshot/checkpoint-domain", test_checkpoint_domain);
    g_test_add_func("/snapshot/bad-checkpoints", test_bad_checkpoints);
    g_test_add_func("/snapshot/destination", test_destination);
    g_test_add_func("/snapshot/backup", test_backup);
    g_test_add_func("/snapshot/bad-backups", test_bad_backups);
    return g_test_run();
}
