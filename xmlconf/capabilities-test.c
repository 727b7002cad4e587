/* Capabilities against libvirt's own schemas: capability.rng and domaincaps.rng. The former lists the os types of
 * guests without "xenpvh", which libvirt's Xen driver itself reports: the test puts "xen" in its place. */
#include "config.h"

#include "xmlconf/xmlconf.h"

#include <string.h>

#include "xmlconf/document.h"

static XmlconfHostCpu cpus[] = {{0, 0, 0, 0, (char *)"0-1"}, {1, 0, 0, 0, (char *)"0-1"}, {4, 0, 0, 0, NULL}};
static XmlconfHostCell cells[] = {{0, 1048576, cpus, 2}, {1, 2097152, cpus + 2, 1}};
static const XmlconfHost host = {
    .host_uuid = (char *)"4dea22b3-1d52-d8f3-2516-782e98ab3fa0",
    .cpu_model = (char *)"Model <1>",
    .cpu_vendor = (char *)"Intel",
    .nodes = 2,
    .sockets = 1,
    .cores = 1,
    .threads = 2,
    .cpus = 3,
    .memory_kib = 3145728,
    .page_kib = 4,
    .emulator = "/usr/libexec/domus-hv",
    .max_vcpus = 64,
    .hugepages_kib = 2048,
    .cells = cells,
    .n_cells = 2,
};

static void assert_valid(const char *xml, const char *schema)
{
    g_autofree char *path = g_strdup_printf("/usr/share/libvirt/schemas/%s.rng", schema);
    g_autoptr(GError) error = NULL;
    g_autoptr(xmlDoc) doc = xmlconf_document_parse(xml, "(test)", &error);

    g_assert_no_error(error);
    if (!g_file_test(path, G_FILE_TEST_EXISTS)) {
        g_test_skip("libvirt's schemas are not installed");
        return;
    }
    xmlconf_schema_validate(doc, schema, &error);
    g_assert_no_error(error);
}

static void check_capabilities(const XmlconfHost *of)
{
    g_autofree char *xml = xmlconf_capabilities_format(of);
    g_auto(GStrv) parts = g_strsplit(xml, "<os_type>xenpvh<", -1);

    g_assert_cmpuint(g_strv_length(parts), ==, 2);
    g_autofree char *comparable = g_strjoinv("<os_type>xen<", parts);
    assert_valid(comparable, "capability");
}

static void test_capabilities(void)
{
    XmlconfHost bare = {.page_kib = 4, .emulator = "/x", .max_vcpus = 1};

    check_capabilities(&host);
    check_capabilities(&bare);
}

static void test_domain_capabilities(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = xmlconf_domain_capabilities_format(&host, NULL, NULL, NULL, NULL, NULL, &error);
    g_autofree char *same = xmlconf_domain_capabilities_format(&host, NULL, host.emulator, "x86_64", "xenpvh", "xen", &error);

    g_assert_no_error(error);
    g_assert_cmpstr(xml, ==, same);
    assert_valid(xml, "domaincaps");
}

static void test_unknown(void)
{
    static const struct {
        const char *emulator, *arch, *machine, *virttype;
        XmlconfError code;
    } cases[] = {
        {"/bin/sh", NULL, NULL, NULL, XMLCONF_ERROR_UNSUPPORTED},
        {NULL, "sparc", NULL, NULL, XMLCONF_ERROR_OS_TYPE},
        {NULL, NULL, "pc", NULL, XMLCONF_ERROR_OS_TYPE},
        {NULL, NULL, NULL, "kvm", XMLCONF_ERROR_OS_TYPE},
    };

    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(xmlconf_domain_capabilities_format(&host, NULL, cases[i].emulator, cases[i].arch, cases[i].machine,
                                                         cases[i].virttype, &error));
        g_assert_error(error, XMLCONF_ERROR, (int)cases[i].code);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/capabilities/host", test_capabilities);
    g_test_add_func("/capabilities/domain", test_domain_capabilities);
    g_test_add_func("/capabilities/unknown", test_unknown);
    return g_test_run();
}
