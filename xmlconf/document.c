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

    if (state->error || !problem || problem->level < XML_ERR_ERROR)
        return;

    g_autofree char *text = g_strdup(problem->message ? problem->message : "not well-formed");
    g_autofree char *valid = g_utf8_make_valid(g_strchomp(text), -1);
    g_autofree char *context = error_context(state->xml, problem->line, problem->int2);
    state->error = g_error_new(XMLCONF_ERROR, XMLCONF_ERROR_SYNTAX, "%s:%d: %s%s", state->origin,
                               problem->line, valid, context);
}

/* A document type declaration is where entities come from; nothing that describes a domain has one. */
static void on_doctype(void *data, const xmlChar *name G_GNUC_UNUSED, const xmlChar *id G_GNUC_UNUSED,
                       const xmlChar *system G_GNUC_UNUSED)
{
    xmlParserCtxt *ctxt = data;
    ParseState *state = ctxt->_private;

    if (!state->error)
        state->error = g_error_new(XMLCONF_ERROR, XMLCONF_ERROR_SYNTAX,
                                   "%s:%d: a document type declaration is not accepted", state->origin,
                                   xmlSAX2GetLineNumber(ctxt));
    xmlStopParser(ctxt);
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
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_SYNTAX, "%s: %zu bytes are more than %u", origin,
                    length, XMLCONF_DOCUMENT_MAX_BYTES);
        return FALSE;
    }
    if (xml[strspn(xml, " \t\r\n")] == '\0') {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_SYNTAX, "%s:1: the document is empty", origin);
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
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_INTERNAL, "%s: no memory to parse in", origin);
        return NULL;
    }
    ctxt->_private = &state;
    ctxt->sax->serror = on_parse_error;
    ctxt->sax->internalSubset = on_doctype;
    ctxt->sax->comment = NULL;
    ctxt->sax->processingInstruction = NULL;
    /* No dictionary: trees of different threads then share nothing. */
    doc = xmlCtxtReadMemory(ctxt, xml, (int)strlen(xml), NULL, NULL,
                            XML_PARSE_NONET | XML_PARSE_NOBLANKS | XML_PARSE_NOCDATA | XML_PARSE_NODICT |
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
    return g_steal_pointer(&doc);
}
