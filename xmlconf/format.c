/* format: an XML tree as text in libvirt's layout.
 *
 * libxml2's own writer is not used because scripts in the field match on libvirt's apostrophes, and
 * because a document has to come out the same however often it is read and written. */
#include "config.h"

#include "xmlconf/document.h"

#include <string.h>

static void format_node(GString *out, const xmlNode *node, unsigned level, char quote);

/* @quote is 0 in text. Line ends and tabs would be folded into spaces on the next reading of an
 * attribute. */
static void append_escaped(GString *out, const char *text, char quote)
{
    for (const char *p = text ? text : ""; *p; p++) {
        if (*p == '&')
            g_string_append(out, "&amp;");
        else if (*p == '<')
            g_string_append(out, "&lt;");
        else if (*p == '>')
            g_string_append(out, "&gt;");
        else if (quote && *p == quote)
            g_string_append(out, quote == '\'' ? "&apos;" : "&quot;");
        else if (*p == '\r' || (quote && (*p == '\n' || *p == '\t')))
            g_string_append_printf(out, "&#%d;", *p);
        else
            g_string_append_c(out, *p);
    }
}

static void append_name(GString *out, const xmlNs *ns, const xmlChar *name)
{
    if (ns && ns->prefix)
        g_string_append_printf(out, "%s:", (const char *)ns->prefix);
    g_string_append(out, (const char *)name);
}

static void append_namespace(GString *out, const xmlNs *ns, char quote)
{
    g_string_append(out, " xmlns");
    if (ns->prefix)
        g_string_append_printf(out, ":%s", (const char *)ns->prefix);
    g_string_append_printf(out, "=%c", quote);
    append_escaped(out, (const char *)ns->href, quote);
    g_string_append_c(out, quote);
}

static void append_attribute(GString *out, const xmlAttr *attr, char quote)
{
    xmlChar *value = xmlNodeListGetString(attr->doc, attr->children, 1);

    g_string_append_c(out, ' ');
    append_name(out, attr->ns, attr->name);
    g_string_append_printf(out, "=%c", quote);
    append_escaped(out, (const char *)value, quote);
    g_string_append_c(out, quote);
    xmlFree(value);
}

static gboolean has_text(const xmlNode *element)
{
    for (const xmlNode *child = element->children; child; child = child->next) {
        if (child->type == XML_TEXT_NODE)
            return TRUE;
    }
    return FALSE;
}

/* Children of an element with text stay on its line: spaces between them are content. */
static void append_inline(GString *out, const xmlNode *element, char quote);

static void append_start_tag(GString *out, const xmlNode *element, char quote)
{
    g_string_append_c(out, '<');
    append_name(out, element->ns, element->name);
    for (const xmlAttr *attr = element->properties; attr; attr = attr->next) {
        if (!attr->ns)
            append_attribute(out, attr, quote);
    }
    for (const xmlNs *ns = element->nsDef; ns; ns = ns->next)
        append_namespace(out, ns, quote);
    for (const xmlAttr *attr = element->properties; attr; attr = attr->next) {
        if (attr->ns)
            append_attribute(out, attr, quote);
    }
}

static void append_end_tag(GString *out, const xmlNode *element)
{
    g_string_append(out, "</");
    append_name(out, element->ns, element->name);
    g_string_append_c(out, '>');
}

static void append_inline(GString *out, const xmlNode *element, char quote)
{
    append_start_tag(out, element, quote);
    if (!element->children) {
        g_string_append(out, "/>");
        return;
    }
    g_string_append_c(out, '>');
    for (const xmlNode *child = element->children; child; child = child->next) {
        if (child->type == XML_ELEMENT_NODE)
            append_inline(out, child, quote);
        else if (child->type == XML_TEXT_NODE)
            append_escaped(out, (const char *)child->content, 0);
    }
    append_end_tag(out, element);
}

static void append_indent(GString *out, unsigned level)
{
    for (unsigned i = 0; i < level; i++)
        g_string_append(out, "  ");
}

static void format_children(GString *out, const xmlNode *element, unsigned level, char quote)
{
    gboolean metadata = level == 1 && strcmp((const char *)element->name, "metadata") == 0;

    for (const xmlNode *child = element->children; child; child = child->next)
        format_node(out, child, level + 1, metadata ? '"' : quote);
}

static void format_node(GString *out, const xmlNode *node, unsigned level, char quote)
{
    if (node->type != XML_ELEMENT_NODE)
        return;

    append_indent(out, level);
    if (!node->children || has_text(node)) {
        append_inline(out, node, quote);
    } else {
        append_start_tag(out, node, quote);
        g_string_append(out, ">\n");
        format_children(out, node, level, quote);
        append_indent(out, level);
        append_end_tag(out, node);
    }
    g_string_append_c(out, '\n');
}

char *xmlconf_document_format(const xmlNode *node, unsigned level, gboolean in_metadata)
{
    GString *out = g_string_new(NULL);

    format_node(out, node, level, in_metadata ? '"' : '\'');
    return g_string_free(out, FALSE);
}

gboolean xmlconf_document_can_hold(const char *text)
{
    if (!g_utf8_validate(text, -1, NULL))
        return FALSE;
    for (const char *p = text; *p; p = g_utf8_next_char(p)) {
        gunichar c = g_utf8_get_char(p);
        if (c < 0x20 ? c != '\t' && c != '\n' && c != '\r' : c == 0xfffe || c == 0xffff)
            return FALSE;
    }
    return TRUE;
}
