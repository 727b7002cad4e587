/* Mutated documents of snapshots, checkpoints, backups and copies' destinations: no input may crash their readers, and whatever is accepted
 * must come out readable, and unchanged by a second reading.
 *
 * Deterministic: "snapshot-fuzz [ITERATIONS [SEED]]" replays. */
#include "config.h"

#include "xmlconf/xmlconf.h"

#include <string.h>

#define ITERATIONS 20000

static const char *const seeds[] = {
    "<domainsnapshot>\n<name>s</name>\n<description>d\ne</description>\n<state>running</state>\n<parent>\n<name>p</name>\n"
    "</parent>\n<creationTime>1270477159</creationTime>\n<memory snapshot='external' file='/m'/>\n<disks>\n"
    "<disk name='xvda' snapshot='external' type='file'>\n<driver type='qcow2'/>\n<source file='/o'/>\n</disk>\n"
    "<disk name='xvdb' snapshot='no'/>\n</disks>\n<domain type='xen'>\n<name>g</name>\n"
    "<uuid>c7a5fdbd-edaf-9455-926a-d65c16db1809</uuid>\n<memory unit='KiB'>262144</memory>\n<os>\n"
    "<type arch='x86_64' machine='xenpvh'>xenpvh</type>\n<kernel>/k</kernel>\n</os>\n<devices>\n<disk type='file' snapshot='no'>\n"
    "<source file='/i'/>\n<target dev='xvda'/>\n</disk>\n</devices>\n</domain>\n</domainsnapshot>\n",
    "<domaincheckpoint>\n<name>c</name>\n<description>d</description>\n<parent>\n<name>p</name>\n</parent>\n"
    "<creationTime>1270477159</creationTime>\n<disks>\n<disk name='xvda' checkpoint='bitmap' bitmap='b'/>\n"
    "<disk name='xvdb' checkpoint='no'/>\n</disks>\n</domaincheckpoint>\n",
    "<domainbackup mode='push'>\n<disks>\n<disk name='xvda' backup='yes' type='file' backupmode='full'>\n<driver type='raw'/>\n"
    "<target file='/t'/>\n</disk>\n<disk name='xvdb' backup='no'/>\n</disks>\n</domainbackup>\n",
    "<domainbackup mode='pull'>\n<incremental>c</incremental>\n<server name='localhost' port='1'/>\n<disks>\n"
    "<disk name='xvda' type='file' exportname='e' exportbitmap='b' backupmode='incremental' incremental='c'>\n"
    "<scratch file='/t'/>\n</disk>\n</disks>\n</domainbackup>\n",
    "<disk type='block' device='disk'>\n<driver name='qemu' type='raw'/>\n<source dev='/dev/x'/>\n<target dev='xvda' bus='xen'/>\n"
    "</disk>\n",
};

static const char *const tokens[] = {
    "checkpoint='bitmap'", "mode='push'", "transport='unix'", "socket='/s'", "<scratch dev='/d'/>", "bitmap='b'", "size='1'",
    "<disk>",     "</disk>", "<disks>", "</disks>", "<domain>",         "</domain>", "<inactiveDomain type='xen'>",
    "</inactiveDomain>", "<memory snapshot='internal'/>", "snapshot='external'", "file=''", "dev='/d'", "type='block'", "'",
    "<", "/>", "&#10;", "&lt;", "&amp;", "]]>", "<!--", "-->", " xmlns='urn:a'", "\xc3\xa4", "\xff", "0", "-1",
    "99999999999999999999", "<!DOCTYPE a [<!ENTITY b 'c'>]>", "<active>1</active>", "<state>", "</state>",
};

static void move_line(GString *text, GRand *rand)
{
    g_auto(GStrv) lines = g_strsplit(text->str, "\n", -1);
    int n = (int)g_strv_length(lines), from = g_rand_int_range(rand, 0, n), to = g_rand_int_range(rand, 0, n + 1);

    g_string_truncate(text, 0);
    for (int i = 0; i < n; i++) {
        if (i == to)
            g_string_append_printf(text, "%s\n", lines[from]);
        if (i != from)
            g_string_append_printf(text, "%s\n", lines[i]);
    }
}

static void mutate(GString *text, GRand *rand)
{
    gsize at = (gsize)g_rand_int_range(rand, 0, (int)text->len + 1), rest = text->len - at;
    gsize wanted = (gsize)g_rand_int_range(rand, 1, 40);

    switch (g_rand_int_range(rand, 0, 6)) {
    case 0:
        if (at < text->len)
            text->str[at] = (char)g_rand_int_range(rand, 1, 256);
        break;
    case 1:
        g_string_erase(text, (gssize)at, (gssize)MIN(rest, wanted));
        break;
    case 2:
    case 3:
        move_line(text, rand);
        break;
    default:
        g_string_insert(text, (gssize)at, tokens[g_rand_int_range(rand, 0, G_N_ELEMENTS(tokens))]);
    }
}

static gboolean refused(const GError *error)
{
    g_assert_true(g_utf8_validate(error->message, -1, NULL));
    g_assert_cmpint(error->code, !=, XMLCONF_ERROR_INTERNAL);
    return FALSE;
}

typedef XmlconfSnapshot *(*ParseFn)(const char *xml, XmlconfParseFlags flags, GError **error);

static gboolean check_snapshot(const char *input, ParseFn parse)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(XmlconfSnapshot) snapshot = parse(input, 0, &error);
    g_autoptr(XmlconfSnapshot) again = NULL;
    g_autofree char *once = NULL, *twice = NULL;

    if (!snapshot)
        return refused(error);
    once = xmlconf_snapshot_format(snapshot, XMLCONF_FORMAT_SECURE, &error);
    g_assert_no_error(error);
    again = parse(once, 0, &error);
    if (error)
        g_printerr("INPUT\n%s\nOUTPUT\n%s\n", input, once);
    g_assert_no_error(error);
    twice = xmlconf_snapshot_format(again, XMLCONF_FORMAT_SECURE, &error);
    g_assert_cmpstr(once, ==, twice);
    return TRUE;
}

static gboolean check_backup(const char *input)
{
    g_autoptr(GError) error = NULL;
    g_auto(XmlconfBackup) backup = {0}, again = {0};
    g_autofree char *once = NULL, *twice = NULL;

    if (!xmlconf_backup_parse(&backup, input, &error))
        return refused(error);
    once = xmlconf_backup_format(&backup);
    if (!xmlconf_backup_parse(&again, once, &error))
        g_printerr("INPUT\n%s\nOUTPUT\n%s\n", input, once);
    g_assert_no_error(error);
    twice = xmlconf_backup_format(&again);
    g_assert_cmpstr(once, ==, twice);
    return TRUE;
}

static gboolean check_destination(const char *input)
{
    g_autoptr(GError) error = NULL;
    g_auto(XmlconfSnapshotDisk) disk = {0};

    if (!xmlconf_disk_destination_parse(input, &disk, &error))
        return refused(error);
    g_assert_true((disk.file != NULL) != (disk.dev != NULL));
    return TRUE;
}

int main(int argc, char **argv)
{
    guint64 iterations = argc > 1 ? g_ascii_strtoull(argv[1], NULL, 10) : ITERATIONS, accepted = 0;
    g_autoptr(GRand) rand = g_rand_new_with_seed(argc > 2 ? (guint32)g_ascii_strtoull(argv[2], NULL, 10) : 1);

    for (guint64 i = 0; i < iterations; i++) {
        g_autoptr(GString) text = g_string_new(seeds[i % G_N_ELEMENTS(seeds)]);

        for (int n = g_rand_int_range(rand, 1, 4); n > 0; n--)
            mutate(text, rand);
        accepted += check_snapshot(text->str, xmlconf_snapshot_parse) ||
                    check_snapshot(text->str, xmlconf_checkpoint_parse) || check_backup(text->str) || check_destination(text->str);
    }
    g_print("1..1\n%s 1 - %" G_GUINT64_FORMAT " mutated documents, %" G_GUINT64_FORMAT " accepted\n", accepted ? "ok" : "not ok",
            iterations, accepted);
    return accepted ? 0 : 1;
}
