/* document: reading XML that a client sent, with errors that point at the place. */
#include "config.h"

#include "xmlconf/document.h"

#include <string.h>
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <libxml/xmlerror.h>

#include "xmlconf/xmlconf.h"

/* Longest piece of the offending line that a message quotes, in bytes. */
#define CONTEXT_MAX_BYTES 160

typedef struct {
    const char *xml;
    const char *origin;
    GError *error; /* the first one: those that follow are its consequences */
} ParseState;

/* "\nTEXT OF THE LINE\n-----^", or nothing when there is no such line. */
static char *error_context(const char *xml, int line, int column)
{
    const char *start = xml;

    for (int i = 1; start && i < line; i++) {
        start = strchr(start, '\n');
        start = start ? start + 1 : NULL;
    }
    if (!start || column < 1)
        return g_strdup("");

    gsize length = strcspn(start, "\r\n");
    gsize mark = MIN((gsize)column - 1, length);
    if (length == 0)
        return g_strdup("");
    if (length > CONTEXT_MAX_BYTES) {
        gsize skip = mark > CONTEXT_MAX_BYTES / 2 ? mark - CONTEXT_MAX_BYTES / 2 : 0;
        start += skip;
        mark -= skip;
        length = MIN(length - skip, CONTEXT_MAX_BYTES);
        mark = MIN(mark, length);
    }

    g_autofree char *raw = g_strndup(start, length);
    g_autofree char *quoted = g_utf8_make_valid(raw, -1);
    g_autofree char *dashes = g_strnfill(mark, '-');
    return g_strdup_printf("\n%s\n%s^", quoted, dashes);
}

static void on_parse_error(void *data, xmlErrorPtr problem)
{
    xmlParserCtxt *ctxt = data;
    ParseState *state = ctxt->_private;

    /* A namespace is a name, whether or not it is a URI as well: applications use both. */
    if (state->error || !problem || problem->level < XML_ERR_ERROR ||
        problem->code == XML_WAR_NS_URI)
        return;

    g_autofree char *text = g_strdup(problem->message ? problem->message : "not well-formed");
    g_autofree char *valid = g_utf8_make_valid(g_strchomp(text), -1);
    g_autofree char *context = error_context(state->xml, problem->line, problem->int2);
    state->error = g_error_new(XMLCONF_ERROR, XMLCONF_ERROR_SYNTAX, "%s:%d: %s%s", state->origin,
                               problem->line, valid, context);
}

/* A document type declaration is where entities come from; nothing that describes a domain has one.
 */
static void on_doctype(void *data, const xmlChar *name G_GNUC_UNUSED,
                       const xmlChar *id G_GNUC_UNUSED, const xmlChar *system G_GNUC_UNUSED)
{
    xmlParserCtxt *ctxt = data;
    ParseState *state = ctxt->_private;

    if (!state->error)
        state->error = g_error_new(XMLCONF_ERROR, XMLCONF_ERROR_SYNTAX,
                                   "%s:%d: a document type declaration is not accepted",
                                   state->origin, xmlSAX2GetLineNumber(ctxt));
    xmlStopParser(ctxt);
}

/* libxml2 leaves an ampersand in the name of a namespace as "&#38;", and only there: without this,
 * such a name would grow with each reading and match nothing. */
static void fix_namespaces(const xmlNode *node)
{
    for (xmlNs *ns = node->nsDef; ns; ns = ns->next) {
        if (!ns->href || !strstr((const char *)ns->href, "&#38;"))
            continue;
        g_auto(GStrv) parts = g_strsplit((const char *)ns->href, "&#38;", -1);
        g_autofree char *name = g_strjoinv("&", parts);
        xmlFree((xmlChar *)ns->href);
        ns->href = xmlStrdup(BAD_CAST name);
    }
}

/* Whether @node has elements in it and only spaces between them. */
static gboolean is_indented(const xmlNode *node)
{
    gboolean elements = FALSE;

    for (xmlNode *child = node->children; child; child = child->next) {
        if (child->type == XML_ELEMENT_NODE)
            elements = TRUE;
        else if (!xmlIsBlankNode(child))
            return FALSE;
    }
    return elements;
}

/* Drops indentation. libxml2's own rule for that depends on comments that are no longer there, so
 * that a document would change when it is read again. */
static void normalize(xmlNode *node)
{
    gboolean indented = is_indented(node);
    xmlNode *next;

    fix_namespaces(node);
    for (xmlNode *child = node->children; child; child = next) {
        next = child->next;
        if (child->type == XML_ELEMENT_NODE) {
            normalize(child);
        } else if (indented) {
            xmlUnlinkNode(child);
            xmlFreeNode(child);
        }
    }
}

static gpointer init_parser(gpointer data G_GNUC_UNUSED)
{
    xmlInitParser();
    return NULL;
}

static gboolean check_text(const char *xml, const char *origin, GError **error)
{
    gsize length = strlen(xml);

    if (length > XMLCONF_DOCUMENT_MAX_BYTES) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_SYNTAX, "%s: %zu bytes are more than %u",
                    origin, length, XMLCONF_DOCUMENT_MAX_BYTES);
        return FALSE;
    }
    if (xml[strspn(xml, " \t\r\n")] == '\0') {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_SYNTAX, "%s:1: the document is empty",
                    origin);
        return FALSE;
    }
    return TRUE;
}

xmlDoc *xmlconf_document_parse(const char *xml, const char *origin, GError **error)
{
    static GOnce once = G_ONCE_INIT;
    ParseState state = {xml, origin, NULL};
    g_autoptr(xmlDoc) doc = NULL;

    g_once(&once, init_parser, NULL);
    if (!check_text(xml, origin, error))
        return NULL;

    xmlParserCtxt *ctxt = xmlNewParserCtxt();
    if (!ctxt) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_INTERNAL, "%s: no memory to parse in",
                    origin);
        return NULL;
    }
    ctxt->_private = &state;
    ctxt->sax->serror = on_parse_error;
    ctxt->sax->internalSubset = on_doctype;
    ctxt->sax->comment = NULL;
    ctxt->sax->processingInstruction = NULL;
    /* No dictionary: trees of different threads then share nothing. */
    doc = xmlCtxtReadMemory(ctxt, xml, (int)strlen(xml), NULL, NULL,
                            XML_PARSE_NONET | XML_PARSE_NOCDATA | XML_PARSE_NODICT |
                                XML_PARSE_NOWARNING);
    xmlFreeParserCtxt(ctxt);

    if (state.error) {
        g_propagate_error(error, state.error);
        return NULL;
    }
    if (!doc || !xmlDocGetRootElement(doc)) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_SYNTAX, "%s: not an XML document", origin);
        return NULL;
    }
    normalize(xmlDocGetRootElement(doc));
    return g_steal_pointer(&doc);
}
