/* Metadata as virDomainSetMetadata and virDomainGetMetadata document it: what is set is what is got, other
 * applications' elements stay, and a refused change changes nothing. */
#include "config.h"

#include "xmlconf/xmlconf.h"

#include <string.h>

static XmlconfDomain *domain_new(const char *metadata)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *xml = g_strdup_printf("<domain type='xen'><name>m</name><memory unit='MiB'>64</memory>%s"
                                           "<os><type>xenpvh</type><kernel>/k</kernel></os></domain>",
                                           metadata);
    XmlconfDomain *domain = xmlconf_domain_parse(xml, 0, &error);

    g_assert_no_error(error);
    return domain;
}

static char *format(XmlconfDomain *domain)
{
    return xmlconf_domain_format(domain, XMLCONF_FORMAT_INACTIVE, NULL);
}

static void set(XmlconfDomain *domain, XmlconfMetadata type, const char *value, const char *key, const char *uri)
{
    g_autoptr(GError) error = NULL;

    g_assert_true(xmlconf_domain_set_metadata(domain, type, value, key, uri, &error));
    g_assert_no_error(error);
}

static void assert_got(XmlconfDomain *domain, XmlconfMetadata type, const char *uri, const char *expected)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *value = xmlconf_domain_get_metadata(domain, type, uri, &error);

    g_assert_no_error(error);
    g_assert_cmpstr(value, ==, expected);
}

static void test_text(void)
{
    g_autoptr(XmlconfDomain) domain = domain_new("");

    assert_got(domain, XMLCONF_METADATA_TITLE, NULL, NULL);
    set(domain, XMLCONF_METADATA_TITLE, "a <title>", NULL, NULL);
    set(domain, XMLCONF_METADATA_DESCRIPTION, "two\nlines", NULL, NULL);
    assert_got(domain, XMLCONF_METADATA_TITLE, NULL, "a <title>");
    assert_got(domain, XMLCONF_METADATA_DESCRIPTION, NULL, "two\nlines");

    g_autofree char *xml = format(domain);
    g_assert_nonnull(strstr(xml, "  <title>a &lt;title&gt;</title>\n  <description>two\nlines</description>\n"));
    set(domain, XMLCONF_METADATA_TITLE, NULL, NULL, NULL);
    assert_got(domain, XMLCONF_METADATA_TITLE, NULL, NULL);
}

static void test_element(void)
{
    g_autoptr(XmlconfDomain) domain =
        domain_new("<metadata><o:other xmlns:o='urn:other'>stays</o:other></metadata>");

    assert_got(domain, XMLCONF_METADATA_ELEMENT, "urn:app", NULL);
    set(domain, XMLCONF_METADATA_ELEMENT, "<app v='1'><sub>text</sub></app>", "app", "urn:app");
    assert_got(domain, XMLCONF_METADATA_ELEMENT, "urn:app", "<app v=\"1\">\n  <sub>text</sub>\n</app>");
    set(domain, XMLCONF_METADATA_ELEMENT, "<new/>", "p", "urn:app");
    assert_got(domain, XMLCONF_METADATA_ELEMENT, "urn:app", "<new/>");

    g_autofree char *xml = format(domain);
    g_assert_nonnull(strstr(xml, "  <metadata>\n"
                                 "    <o:other xmlns:o=\"urn:other\">stays</o:other>\n"
                                 "    <p:new xmlns:p=\"urn:app\"/>\n"
                                 "  </metadata>\n"));
    g_autoptr(XmlconfDomain) read = xmlconf_domain_parse(xml, 0, NULL);
    assert_got(read, XMLCONF_METADATA_ELEMENT, "urn:app", "<new/>");

    set(domain, XMLCONF_METADATA_ELEMENT, NULL, NULL, "urn:app");
    set(domain, XMLCONF_METADATA_ELEMENT, NULL, NULL, "urn:other");
    g_autofree char *empty = format(domain);
    g_assert_null(strstr(empty, "metadata"));
}

/* The name of a namespace need not be a URI. */
static void test_odd_namespace(void)
{
    static const char *const names[] = {"my app", "urn:a&b", "a&#38;b", "<'\">", "relative"};
    g_autoptr(XmlconfDomain) domain = domain_new("");

    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        set(domain, XMLCONF_METADATA_ELEMENT, "<a/>", "k", names[i]);
    g_autofree char *xml = format(domain);
    g_autoptr(XmlconfDomain) read = xmlconf_domain_parse(xml, 0, NULL);
    g_assert_nonnull(read);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        assert_got(read, XMLCONF_METADATA_ELEMENT, names[i], "<a/>");
}

/* Elements below keep their namespace, so that what is got can be set again. */
static void test_inner_namespace(void)
{
    g_autoptr(XmlconfDomain) domain =
        domain_new("<metadata><a:app xmlns:a='urn:app'><a:sub x='1'/></a:app></metadata>");
    g_autofree char *before = format(domain);
    g_autofree char *value = xmlconf_domain_get_metadata(domain, XMLCONF_METADATA_ELEMENT, "urn:app", NULL);

    g_assert_cmpstr(value, ==, "<app xmlns:a=\"urn:app\">\n  <a:sub x=\"1\"/>\n</app>");
    set(domain, XMLCONF_METADATA_ELEMENT, value, "a", "urn:app");
    g_autofree char *after = format(domain);
    g_assert_cmpstr(before, ==, after);
}

static const struct {
    XmlconfMetadata type;
    const char *value, *key, *uri;
    XmlconfError code;
    const char *message;
} refused[] = {
    {XMLCONF_METADATA_TITLE, "a\nb", NULL, NULL, XMLCONF_ERROR_XML, "newline in the 'title'"},
    {XMLCONF_METADATA_TITLE, "\x01", NULL, NULL, XMLCONF_ERROR_XML, "cannot hold"},
    {XMLCONF_METADATA_DESCRIPTION, "\xff", NULL, NULL, XMLCONF_ERROR_XML, "cannot hold"},
    {XMLCONF_METADATA_ELEMENT, "<a/>", "k", NULL, XMLCONF_ERROR_XML, "URI"},
    {XMLCONF_METADATA_ELEMENT, "<a/>", "k", "", XMLCONF_ERROR_XML, "URI"},
    {XMLCONF_METADATA_ELEMENT, "<a/>", NULL, "urn:x", XMLCONF_ERROR_XML, "no prefix"},
    {XMLCONF_METADATA_ELEMENT, "<a/>", "a b", "urn:x", XMLCONF_ERROR_XML, "prefix: 'a b'"},
    {XMLCONF_METADATA_ELEMENT, "<a/>", "xmlns", "urn:x", XMLCONF_ERROR_XML, "prefix: 'xmlns'"},
    {XMLCONF_METADATA_ELEMENT, "<a xmlns:k='urn:y'/>", "k", "urn:x", XMLCONF_ERROR_XML, "prefix 'k'"},
    {XMLCONF_METADATA_ELEMENT, "<a>", "k", "urn:x", XMLCONF_ERROR_SYNTAX, "(metadata_xml):1: "},
    {XMLCONF_METADATA_ELEMENT, "text", "k", "urn:x", XMLCONF_ERROR_SYNTAX, "(metadata_xml):1: "},
};

static void test_refused(void)
{
    g_autoptr(XmlconfDomain) domain = domain_new("<metadata><x:a xmlns:x='urn:x'/></metadata>");
    g_autofree char *before = format(domain);

    for (guint i = 0; i < G_N_ELEMENTS(refused); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(xmlconf_domain_set_metadata(domain, refused[i].type, refused[i].value, refused[i].key,
                                                   refused[i].uri, &error));
        g_test_message("%s", error->message);
        g_assert_error(error, XMLCONF_ERROR, (int)refused[i].code);
        g_assert_nonnull(strstr(error->message, refused[i].message));
    }
    g_autofree char *after = format(domain);
    g_assert_cmpstr(before, ==, after);
}

/* What is accepted must be readable again: depth and size. */
static void test_limits(void)
{
    g_autoptr(XmlconfDomain) domain = domain_new("");
    g_autoptr(GString) deep = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    g_autofree char *filler = g_strnfill(6 * 1024 * 1024, 'x');
    g_autofree char *large = g_strdup_printf("<a>%s</a>", filler);

    for (int i = 0; i < 240; i++)
        g_string_append(deep, "<a>");
    for (int i = 0; i < 240; i++)
        g_string_append(deep, "</a>");
    g_assert_false(xmlconf_domain_set_metadata(domain, XMLCONF_METADATA_ELEMENT, deep->str, "k", "urn:1", &error));
    g_assert_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML);
    g_clear_error(&error);
    set(domain, XMLCONF_METADATA_ELEMENT, large, "k", "urn:1");
    g_assert_false(xmlconf_domain_set_metadata(domain, XMLCONF_METADATA_ELEMENT, large, "k", "urn:2", &error));
    g_assert_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML);
    assert_got(domain, XMLCONF_METADATA_ELEMENT, "urn:2", NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/metadata/text", test_text);
    g_test_add_func("/metadata/element", test_element);
    g_test_add_func("/metadata/inner-namespace", test_inner_namespace);
    g_test_add_func("/metadata/odd-namespace", test_odd_namespace);
    g_test_add_func("/metadata/refused", test_refused);
    g_test_add_func("/metadata/limits", test_limits);
    return g_test_run();
}
