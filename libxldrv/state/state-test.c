/* What is on disk is the old or the new version, comes back as it was, and what is broken harms nothing else. */
#include "config.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libxldrv/rpc/rpc.h"
#include "libxldrv/state/definitions.h"
#include "libxldrv/state/files.h"
#include "libxldrv/state/paths.h"
#include "libxldrv/state/status.h"
#include "libxldrv/state/uuid.h"

#define UUID "c7a5fdbd-edaf-9455-926a-d65c16db1809"

/* The last warning; GLib's own way to expect one does not see messages with fields. */
static char *warned;

static GLogWriterOutput keep_warning(GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer data)
{
    if (!(level & G_LOG_LEVEL_WARNING))
        return g_log_writer_default(level, fields, n_fields, data);
    for (gsize i = 0; i < n_fields; i++) {
        if (strcmp(fields[i].key, "MESSAGE") == 0) {
            g_free(warned);
            warned = g_strdup(fields[i].value);
        }
    }
    return G_LOG_WRITER_HANDLED;
}

static void assert_warned(const char *pattern)
{
    g_assert_nonnull(warned);
    g_assert_true(g_pattern_match_simple(pattern, warned));
    g_clear_pointer(&warned, g_free);
}

typedef struct {
    char *root;
    XldrvPaths *paths;
} Fixture;

static void set_up(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    f->root = g_dir_make_tmp("domus-state-XXXXXX", NULL);
    f->paths = xldrv_paths_new(f->root);
    g_assert_true(xldrv_paths_create(f->paths, NULL));
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        if (g_file_test(child, G_FILE_TEST_IS_DIR) && !g_file_test(child, G_FILE_TEST_IS_SYMLINK))
            remove_tree(child);
        else
            unlink(child);
    }
    rmdir(path);
}

static void tear_down(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    remove_tree(f->root);
    xldrv_paths_free(f->paths);
    g_free(f->root);
}

static XmlconfDomain *make_domain(const char *name)
{
    g_autofree char *xml = g_markup_printf_escaped(
        "<domain type='xen'><name>%s</name><uuid>" UUID "</uuid><memory>65536</memory><os>"
        "<type arch='x86_64' machine='xenpvh'>xenpvh</type><kernel>/k</kernel></os>"
        "<devices><console type='pty'/></devices></domain>",
        name);
    g_autoptr(GError) why = NULL;
    XmlconfDomain *domain = xmlconf_domain_parse(xml, 0, &why);

    g_assert_no_error(why);
    return domain;
}

static void test_uuid(void)
{
    static const char *const bad[] = {"", "c7a5fdbd", UUID "0", "g7a5fdbd-edaf-9455-926a-d65c16db1809"};
    guint8 uuid[XLDRV_UUID_BYTES];
    char text[XLDRV_UUID_CHARS + 1];

    g_assert_true(xldrv_uuid_parse("C7A5FDBD-edaf-9455-926a-d65c16db1809", uuid));
    g_assert_cmphex(uuid[0], ==, 0xc7);
    g_assert_cmphex(uuid[15], ==, 0x09);
    xldrv_uuid_format(uuid, text);
    g_assert_cmpstr(text, ==, UUID);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++)
        g_assert_false(xldrv_uuid_parse(bad[i], uuid));
    g_assert_false(xldrv_uuid_parse(NULL, uuid));
}

static void test_paths(void)
{
    g_autoptr(XldrvPaths) private = xldrv_paths_new("/x");
    g_autoptr(XldrvPaths) system = xldrv_paths_new(NULL);

    g_assert_cmpstr(private->socket_dir, ==, "/x/run/libvirt");
    g_assert_cmpstr(private->define_dir, ==, "/x/etc/domus/xen");
    g_assert_cmpstr(system->socket_dir, ==, "/run/libvirt");
    g_assert_cmpstr(system->root, ==, "");
}

static void test_replace(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autofree char *path = g_build_filename(f->root, "file", NULL);
    g_autofree char *none = g_build_filename(f->root, "none", "file", NULL);
    g_autofree char *text = NULL;
    g_autoptr(GError) why = NULL;
    struct stat st;

    g_assert_true(xldrv_file_replace(path, "old", NULL));
    g_assert_true(xldrv_file_replace(path, "new", NULL));
    text = xldrv_file_read(path, 3, NULL);
    g_assert_cmpstr(text, ==, "new");
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    g_assert_null(xldrv_file_read(path, 2, &why));
    g_clear_error(&why);
    g_assert_false(xldrv_file_replace(none, "x", &why));
    g_assert_nonnull(strstr(why->message, none));
    g_assert_true(xldrv_file_remove(path, NULL));
    g_assert_true(xldrv_file_remove(path, NULL));
}

static void test_names(void)
{
    /* A domain's files have several suffixes: what one takes, all take. */
    g_autofree char *longest = g_strnfill(235, 'n');
    g_autofree char *longer = g_strnfill(236, 'n');
    g_autofree char *good = xldrv_file_path("/d", longest, ".xml", NULL);
    const char *const bad[] = {"", "a/b", "../x", longer};

    g_assert_nonnull(good);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) why = NULL;
        g_assert_null(xldrv_file_path("/d", bad[i], ".xml", &why));
        g_assert_error(why, XLDRV_ERROR, VIR_ERR_XML_ERROR);
    }
}

/* ---- definitions */

static void note_definition(XmlconfDomain *domain, gboolean autostart, gpointer data)
{
    g_string_append_printf(data, "%s%s ", xmlconf_domain_config(domain)->name, autostart ? "*" : "");
}

static char *loaded(Fixture *f)
{
    GString *names = g_string_new("");

    xldrv_definitions_load(f->paths, note_definition, names);
    return g_string_free(names, FALSE);
}

static void test_definitions(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(XmlconfDomain) one = make_domain("one"), two = make_domain("<two> & 'more'");
    g_autofree char *before = NULL;
    g_autofree char *after = NULL;

    g_assert_true(xldrv_definition_save(f->paths, two, NULL));
    g_assert_true(xldrv_definition_save(f->paths, one, NULL));
    g_assert_true(xldrv_autostart_set(f->paths, "one", TRUE, NULL));
    g_assert_true(xldrv_autostart_set(f->paths, "one", TRUE, NULL));
    before = loaded(f);
    g_assert_cmpstr(before, ==, "<two> & 'more' one* ");
    g_assert_true(xldrv_definition_remove(f->paths, "<two> & 'more'", NULL));
    g_assert_true(xldrv_autostart_set(f->paths, "one", FALSE, NULL));
    after = loaded(f);
    g_assert_cmpstr(after, ==, "one ");
}

/* Renamed as a whole, also if the daemon ends half-way. */
static void test_rename(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_autoptr(XmlconfDomain) old = make_domain("old"), new = make_domain("new"), newer = make_domain("newer");
    g_autofree char *from = g_build_filename(f->paths->define_dir, "new.xml", NULL);
    g_autofree char *to = g_build_filename(f->paths->define_dir, "newer.xml", NULL);
    g_autofree char *whole = NULL;
    g_autofree char *half = NULL;

    g_assert_true(xldrv_definition_save(f->paths, old, NULL));
    g_assert_true(xldrv_autostart_set(f->paths, "old", TRUE, NULL));
    g_assert_true(xldrv_definition_rename(f->paths, "old", new, NULL));
    whole = loaded(f);
    g_assert_cmpstr(whole, ==, "new* ");
    /* The first half: the new content under the old name. */
    g_assert_true(xldrv_definition_save(f->paths, newer, NULL));
    g_assert_cmpint(rename(to, from), ==, 0);
    half = loaded(f);
    g_assert_cmpstr(half, ==, "newer* ");
    g_assert_true(g_file_test(to, G_FILE_TEST_EXISTS));
    g_assert_false(g_file_test(from, G_FILE_TEST_EXISTS));
}

/* One row for each way in which a file can be broken: it is warned about by name and stays. */
static void test_broken_definitions(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const struct {
        const char *name, *text;
        gsize length;
    } rows[] = {
        {"empty", "", 0},
        {"half", "<domain type='xen'><name>half</na", 33},
        {"binary", "\0\1\2\3", 4},
        {"other", "<network><name>other</name></network>", 37},
    };
    g_autoptr(XmlconfDomain) good = make_domain("good");
    g_autofree char *wrong = g_build_filename(f->paths->define_dir, "wrong.xml", NULL);
    g_autofree char *right = g_build_filename(f->paths->define_dir, "good.xml", NULL);
    g_autofree char *names = NULL;

    g_assert_true(xldrv_definition_save(f->paths, good, NULL));
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strdup_printf("%s/%s.xml", f->paths->define_dir, rows[i].name);
        g_autofree char *warning = g_strdup_printf("*%s.xml*", rows[i].name);
        g_assert_true(g_file_set_contents(path, rows[i].text, rows[i].length, NULL));
        names = loaded(f);
        assert_warned(warning);
        g_assert_cmpstr(names, ==, "good ");
        g_clear_pointer(&names, g_free);
        g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS));
        unlink(path);
    }
    /* A file whose name is not the domain's would be another domain's after the next change. */
    g_assert_cmpint(link(right, wrong), ==, 0);
    names = loaded(f);
    assert_warned("*wrong.xml*'good'*");
    g_assert_cmpstr(names, ==, "good ");
}

/* ---- status */

static void copy_status(const XldrvStatus *status, gpointer data)
{
    XldrvStatus *copy = data;

    *copy = *status;
    copy->control = g_strdup(status->control);
    copy->process = g_strdup(status->process);
    copy->domain = xmlconf_domain_ref(status->domain);
}

static void test_status(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    g_auto(XldrvStatus) status = {.complete = TRUE,
                                  .id = 17,
                                  .state = VIR_DOMAIN_PAUSED,
                                  .reason = VIR_DOMAIN_PAUSED_USER,
                                  .control = g_strdup("a.ctl"),
                                  .process = g_strdup("a.process"),
                                  .domain = make_domain("run")};
    g_auto(XldrvStatus) read = {0};
    XmlconfConsole *console = xmlconf_domain_config(status.domain)->consoles->pdata[0];
    const XmlconfDomainConfig *config;

    xmlconf_domain_config(status.domain)->id = 17;
    console->tty = g_strdup("/dev/pts/9");
    g_assert_true(xldrv_status_save(f->paths, &status, NULL));
    xldrv_status_load(f->paths, copy_status, &read);
    g_assert_nonnull(read.domain);
    config = xmlconf_domain_config(read.domain);
    g_assert_true(read.complete);
    g_assert_false(read.autodestroy);
    g_assert_cmpint(read.id, ==, 17);
    g_assert_cmpint(read.state, ==, VIR_DOMAIN_PAUSED);
    g_assert_cmpint(read.reason, ==, VIR_DOMAIN_PAUSED_USER);
    g_assert_cmpstr(read.control, ==, "a.ctl");
    g_assert_cmpstr(read.process, ==, "a.process");
    g_assert_cmpint(config->id, ==, 17);
    g_assert_cmpstr(((XmlconfConsole *)config->consoles->pdata[0])->tty, ==, "/dev/pts/9");
    g_assert_true(xldrv_status_remove(f->paths, "run", NULL));
}

static void never(const XldrvStatus *status G_GNUC_UNUSED, gpointer data G_GNUC_UNUSED)
{
    g_assert_not_reached();
}

static void test_broken_status(Fixture *f, gconstpointer data G_GNUC_UNUSED)
{
    static const char *const rows[] = {
        "", "<domstatus/>", "<domain/>",
        "<domstatus phase='complete' autodestroy='0' id='1' state='1' reason='1' control='../x' process='p'/>",
        "<domstatus phase='complete' autodestroy='0' id='-1' state='1' reason='1' control='c' process='p'/>",
        "<domstatus phase='complete' autodestroy='0' id='1' state='1' reason='1' control='c' process='p'/>",
    };
    g_autofree char *path = g_build_filename(f->paths->run_dir, "bad.status.xml", NULL);

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_assert_true(g_file_set_contents(path, rows[i], -1, NULL));
        xldrv_status_load(f->paths, never, NULL);
        assert_warned("*bad.status.xml*");
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_log_set_writer_func(keep_warning, NULL, NULL);
    g_test_add_func("/state/uuid", test_uuid);
    g_test_add_func("/state/paths", test_paths);
    g_test_add_func("/state/names", test_names);
#define ADD(name, fn) g_test_add("/state/" name, Fixture, NULL, set_up, fn, tear_down)
    ADD("replace", test_replace);
    ADD("definitions", test_definitions);
    ADD("definitions/rename", test_rename);
    ADD("definitions/broken", test_broken_definitions);
    ADD("status", test_status);
    ADD("status/broken", test_broken_status);
    return g_test_run();
}
