/* Mutated domain XML: no input may crash the reader, and whatever it accepts must come out readable, unchanged by a
 * second reading, and valid by libvirt's schema.
 *
 * Deterministic: "domain-fuzz [ITERATIONS [SEED]]" replays. Mutations start from testdata/, half of them at
 * tokens rather than bytes, so that much of the input stays well-formed. */
#include "config.h"

#include "xmlconf/xmlconf.h"

#include <string.h>

#define SCHEMA "/usr/share/libvirt/schemas/domain.rng"
#define ITERATIONS 20000

static const char *const tokens[] = {
    "<name>",      "</name>",     "<memory unit='", "'",          "<",           "/>",         ">",
    "<devices>",   "</devices>",  "<console type='file'>", "</console>", "<source path='/x'/>", "<metadata>",
    "</metadata>", "&#10;",       "&#13;",          "&lt;",       "&amp;",       "]]>",        "<![CDATA[",
    "<!--",        "-->",         "<?p",            "?>",         " xmlns='urn:a'", " xmlns:x='urn:b'", "<x:y/>",
    "<!DOCTYPE a [<!ENTITY b 'c'>]>", "\xc3\xa4",   "\xff",       "0",           "-1",         "99999999999999999999",
    "MiB",         "E",           "xenpvh",         "hvm",        "<os>",        "</os>",      "<log file='/l'/>",
    "<vcpu>",      "</vcpu>",     " current='1'",   "<title>",    "</title>",    "<uuid/>",    "<alias name='a'/>",
    "<disk>",      "</disk>",     "<readonly/>",    "<target dev='xvda'/>", "<serial>", "</serial>", "type='block'",
    "<interface type='ethernet'>", "</interface>", "<mac address='00:16:3e:00:00:01'/>", "<link state='up'/>",
};

static gint compare_texts(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static GPtrArray *read_corpus(void)
{
    GPtrArray *corpus = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(XMLCONF_TESTDATA, 0, NULL);
    const char *name;

    g_assert_nonnull(dir);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(XMLCONF_TESTDATA, name, NULL);
        char *text = NULL;
        if (g_str_has_suffix(name, ".xml") && g_file_get_contents(path, &text, NULL, NULL))
            g_ptr_array_add(corpus, text);
    }
    g_ptr_array_sort(corpus, compare_texts); /* the directory's order is not the same everywhere */
    return corpus;
}

/* Moves a line somewhere else, or drops it: documents stay well-formed more often. */
static void mutate_lines(GString *text, GRand *rand)
{
    g_auto(GStrv) lines = g_strsplit(text->str, "\n", -1);
    guint n = g_strv_length(lines);

    g_string_truncate(text, 0);
    if (n < 2)
        return;
    guint from = (guint)g_rand_int_range(rand, 0, (int)n), to = (guint)g_rand_int_range(rand, 0, (int)n);
    gboolean drop = g_rand_boolean(rand);
    for (guint i = 0; i < n; i++) {
        if (i == to && !drop)
            g_string_append_printf(text, "%s\n", lines[from]);
        if (i != from)
            g_string_append_printf(text, "%s\n", lines[i]);
    }
}

static void mutate(GString *text, GRand *rand)
{
    gsize at = (gsize)g_rand_int_range(rand, 0, (int)text->len + 1);
    gsize rest = text->len - at;
    gsize wanted = (gsize)g_rand_int_range(rand, 1, 40);
    gsize n = MIN(rest, wanted);

    switch (g_rand_int_range(rand, 0, 10)) {
    case 0:
        if (rest)
            text->str[at] = (char)g_rand_int_range(rand, 1, 256);
        break;
    case 1:
        g_string_erase(text, (gssize)at, (gssize)n);
        break;
    case 2: {
        g_autofree char *piece = g_strndup(text->str + at, n);
        g_string_insert(text, g_rand_int_range(rand, 0, (int)text->len + 1), piece);
        break;
    }
    case 3:
        g_string_truncate(text, g_rand_int_range(rand, 0, 8) ? text->len : at);
        break;
    case 4:
    case 5:
    case 6:
        mutate_lines(text, rand);
        break;
    default:
        g_string_insert(text, (gssize)at, tokens[g_rand_int_range(rand, 0, G_N_ELEMENTS(tokens))]);
    }
}

/* Foreign elements outside <metadata> are kept, and are not in the schema. */
static gboolean may_be_foreign(const char *xml)
{
    g_autofree char *copy = g_strdup(xml);
    char *start = strstr(copy, "  <metadata>"), *end = start ? strstr(start, "\n  </metadata>") : NULL;

    if (end)
        memset(start, ' ', (gsize)(end - start));
    return strstr(copy, "xmlns") != NULL;
}

static gboolean check(const char *input, gboolean have_schema)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(XmlconfDomain) domain = xmlconf_domain_parse(input, 0, &error);

    if (!domain) {
        g_assert_true(g_utf8_validate(error->message, -1, NULL));
        g_assert_cmpint(error->code, !=, XMLCONF_ERROR_INTERNAL);
        return FALSE;
    }

    g_autofree char *once = xmlconf_domain_format(domain, XMLCONF_FORMAT_INACTIVE, &error);
    g_assert_no_error(error);
    g_autoptr(XmlconfDomain) again =
        xmlconf_domain_parse(once, have_schema && !may_be_foreign(once) ? XMLCONF_VALIDATE : 0, &error);
    if (error)
        g_printerr("INPUT\n%s\nOUTPUT\n%s\n", input, once);
    g_assert_no_error(error);
    g_autofree char *twice = xmlconf_domain_format(again, XMLCONF_FORMAT_INACTIVE, &error);
    g_assert_cmpstr(once, ==, twice);
    return TRUE;
}

int main(int argc, char **argv)
{
    guint64 iterations = argc > 1 ? g_ascii_strtoull(argv[1], NULL, 10) : ITERATIONS;
    guint32 seed = argc > 2 ? (guint32)g_ascii_strtoull(argv[2], NULL, 10) : 1;
    gboolean have_schema = g_file_test(SCHEMA, G_FILE_TEST_EXISTS);
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    g_autoptr(GPtrArray) corpus = read_corpus();
    guint64 accepted = 0;

    g_log_set_always_fatal(G_LOG_FATAL_MASK | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING);
    for (guint64 i = 0; i < iterations; i++) {
        g_autoptr(GString) text = g_string_new(corpus->pdata[g_rand_int_range(rand, 0, (int)corpus->len)]);
        for (int n = g_rand_int_range(rand, 1, 4); n > 0; n--)
            mutate(text, rand);
        accepted += check(text->str, have_schema) ? 1 : 0;
    }
    g_print("1..1\n%s 1 - %" G_GUINT64_FORMAT " mutated documents, %" G_GUINT64_FORMAT " accepted\n",
            accepted ? "ok" : "not ok", iterations, accepted);
    return accepted ? 0 : 1;
}
