/* schema: validation against the RNG schemas that libvirt installs.
 *
 * A schema takes tens of milliseconds to read and never changes while we run, so it is kept.
 * libxml2's validator keeps state in the parsed schema; validation is therefore serialized. */
#include "config.h"

#include "xmlconf/document.h"

#include <libxml/relaxng.h>

#include "xmlconf/xmlconf.h"

#ifndef XMLCONF_SCHEMA_DIR
#define XMLCONF_SCHEMA_DIR "/usr/share/libvirt/schemas"
#endif

static GMutex schema_lock;
static GHashTable *schemas; /* name to xmlRelaxNG; under schema_lock; kept until exit */

static void collect_error(void *data, xmlErrorPtr problem)
{
    GString *text = data;

    if (problem && problem->message)
        g_string_append(text, problem->message);
}

static xmlRelaxNG *read_schema(const char *path, GError **error)
{
    g_autoptr(GString) text = g_string_new(NULL);
    xmlRelaxNGParserCtxt *ctxt = xmlRelaxNGNewParserCtxt(path);
    xmlRelaxNG *schema = NULL;

    if (ctxt) {
        xmlRelaxNGSetParserStructuredErrors(ctxt, collect_error, text);
        schema = xmlRelaxNGParse(ctxt);
        xmlRelaxNGFreeParserCtxt(ctxt);
    }
    if (!schema)
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_INTERNAL, "schema '%s' cannot be used: %s",
                    path, g_strchomp(text->str));
    return schema;
}

static xmlRelaxNG *get_schema_locked(const char *name, const char *path, GError **error)
{
    if (!schemas)
        schemas = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    xmlRelaxNG *schema = g_hash_table_lookup(schemas, name);
    if (!schema && (schema = read_schema(path, error)))
        g_hash_table_insert(schemas, g_strdup(name), schema);
    return schema;
}

/* 0 valid, positive invalid, negative failure. */
static int validate_locked(xmlRelaxNG *schema, xmlDoc *doc, GString *text)
{
    xmlRelaxNGValidCtxt *ctxt = xmlRelaxNGNewValidCtxt(schema);
    int result = -1;

    if (ctxt) {
        xmlRelaxNGSetValidStructuredErrors(ctxt, collect_error, text);
        result = xmlRelaxNGValidateDoc(ctxt, doc);
        xmlRelaxNGFreeValidCtxt(ctxt);
    }
    return result;
}

gboolean xmlconf_schema_validate(xmlDoc *doc, const char *name, GError **error)
{
    g_autofree char *path = g_strdup_printf("%s/%s.rng", XMLCONF_SCHEMA_DIR, name);
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&schema_lock);
    xmlRelaxNG *schema = get_schema_locked(name, path, error);

    if (!schema)
        return FALSE;

    int result = validate_locked(schema, doc, text);
    if (result == 0)
        return TRUE;
    g_autofree char *valid = g_utf8_make_valid(g_strchomp(text->str), -1);
    g_set_error(error, XMLCONF_ERROR, result > 0 ? XMLCONF_ERROR_SCHEMA : XMLCONF_ERROR_INTERNAL,
                "Unable to validate doc against %s\n%s", path, valid);
    return FALSE;
}
