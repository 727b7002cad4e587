/* metadata: title, description and the elements that applications keep in <metadata>.
 *
 * An application's element is known by the URI of its namespace. It is handed over without that
 * namespace on its outermost element, and gets it, with the prefix asked for, when it is put into
 * the document. */
#include "config.h"

#include "xmlconf/domain.h"

#include <string.h>
#include <libxml/tree.h>

/* Elements in each other in what is set: libxml2 reads 256 levels, and <domain><metadata> are
 * around it. */
#define MAX_DEPTH 200

static gboolean fail(GError **error, const char *message, const char *value)
{
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "%s '%s'", message, value);
    return FALSE;
}

static xmlNode *find_metadata(xmlDoc *doc)
{
    xmlNode *child = xmlDocGetRootElement(doc)->children;

    while (child && (child->ns || strcmp((const char *)child->name, "metadata") != 0))
        child = child->next;
    return child;
}

static xmlNode *find_element(xmlDoc *doc, const char *uri)
{
    xmlNode *metadata = find_metadata(doc);
    xmlNode *child = metadata ? metadata->children : NULL;

    while (child && !(child->type == XML_ELEMENT_NODE && child->ns &&
                      strcmp((const char *)child->ns->href, uri) == 0))
        child = child->next;
    return child;
}

/* Whether an attribute of @node, or anything below it, is of namespace @uri. */
static gboolean uses_namespace(const xmlNode *node, const char *uri)
{
    for (const xmlAttr *attr = node->properties; attr; attr = attr->next) {
        if (attr->ns && strcmp((const char *)attr->ns->href, uri) == 0)
            return TRUE;
    }
    for (const xmlNode *child = node->children; child; child = child->next) {
        if (child->type != XML_ELEMENT_NODE)
            continue;
        if ((child->ns && strcmp((const char *)child->ns->href, uri) == 0) ||
            uses_namespace(child, uri))
            return TRUE;
    }
    return FALSE;
}

static void drop_declarations(xmlNode *node, const char *uri)
{
    xmlNs **link = &node->nsDef;

    while (*link) {
        xmlNs *ns = *link;
        if (strcmp((const char *)ns->href, uri) != 0) {
            link = &ns->next;
            continue;
        }
        *link = ns->next;
        xmlFreeNs(ns);
    }
}

static char *get_element(XmlconfDomain *domain, const char *uri, GError **error)
{
    xmlNode *element = find_element(domain->doc, uri);
    if (!element)
        return NULL;

    xmlNode *copy = xmlDocCopyNode(element, domain->doc, 1);
    if (!copy) {
        g_set_error_literal(error, XMLCONF_ERROR, XMLCONF_ERROR_INTERNAL,
                            "no memory to copy an element");
        return NULL;
    }
    copy->ns = NULL;
    if (!uses_namespace(copy, uri))
        drop_declarations(copy, uri);
    g_autofree char *text = xmlconf_document_format(copy, 0, TRUE);
    xmlFreeNode(copy);
    return g_strdup(g_strchomp(text));
}

char *xmlconf_domain_get_metadata(XmlconfDomain *domain, XmlconfMetadata type, const char *uri,
                                  GError **error)
{
    switch (type) {
    case XMLCONF_METADATA_TITLE:
        return g_strdup(domain->config.title);
    case XMLCONF_METADATA_DESCRIPTION:
        return g_strdup(domain->config.description);
    case XMLCONF_METADATA_ELEMENT:
        if (!uri)
            fail(error, "metadata elements are known by", "uri");
        return uri ? get_element(domain, uri, error) : NULL;
    }
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_INTERNAL, "unknown kind %d of metadata", type);
    return NULL;
}

static gboolean set_text(char **text, XmlconfMetadata type, const char *value, GError **error)
{
    const char *what = type == XMLCONF_METADATA_TITLE ? "title" : "description";

    if (value && !xmlconf_document_can_hold(value))
        return fail(error, "characters that XML cannot hold in the", what);
    if (value && type == XMLCONF_METADATA_TITLE && strchr(value, '\n'))
        return fail(error, "a newline in the", what);
    g_free(*text);
    *text = value && *value ? g_strdup(value) : NULL;
    return TRUE;
}

static guint depth(const xmlNode *node)
{
    guint deepest = 0;

    for (const xmlNode *child = node->children; child; child = child->next) {
        guint below = child->type == XML_ELEMENT_NODE ? depth(child) : 0;
        deepest = MAX(deepest, below);
    }
    return deepest + 1;
}

/* Puts @node into namespace @uri under prefix @key. */
static gboolean set_namespace(xmlNode *node, const char *key, const char *uri, GError **error)
{
    xmlNs *ns = node->nsDef;

    if (xmlValidateNCName(BAD_CAST key, 0) != 0 || g_ascii_strncasecmp(key, "xml", 3) == 0)
        return fail(error, "not a namespace prefix:", key);
    while (ns && !xmlStrEqual(ns->prefix, BAD_CAST key))
        ns = ns->next;
    if (ns && strcmp((const char *)ns->href, uri) != 0)
        return fail(error, "the element uses for another namespace the prefix", key);
    if (!ns)
        ns = xmlNewNs(node, BAD_CAST uri, BAD_CAST key);
    if (!ns)
        return fail(error, "no namespace can be made of", uri);
    xmlSetNs(node, ns);
    return TRUE;
}

static gboolean add_element(xmlDoc *doc, const char *value, const char *key, const char *uri,
                            GError **error)
{
    g_autoptr(xmlDoc) fragment = xmlconf_document_parse(value, "(metadata_xml)", error);
    if (!fragment)
        return FALSE;

    xmlNode *element = xmlDocGetRootElement(fragment);
    if (depth(element) > MAX_DEPTH)
        return fail(error, "elements nested too deeply in", (const char *)element->name);
    if (!set_namespace(element, key, uri, error))
        return FALSE;

    xmlNode *metadata = find_metadata(doc);
    if (!metadata)
        metadata = xmlNewChild(xmlDocGetRootElement(doc), NULL, BAD_CAST "metadata", NULL);
    xmlNode *copy = xmlDocCopyNode(element, doc, 1);
    if (!metadata || !copy) {
        xmlFreeNode(copy);
        g_set_error_literal(error, XMLCONF_ERROR, XMLCONF_ERROR_INTERNAL,
                            "no memory to copy an element");
        return FALSE;
    }
    xmlAddChild(metadata, copy);
    return TRUE;
}

static void remove_elements(xmlDoc *doc, const char *uri)
{
    xmlNode *metadata = find_metadata(doc), *element;

    while ((element = find_element(doc, uri))) {
        xmlUnlinkNode(element);
        xmlFreeNode(element);
    }
    if (metadata && !metadata->children) {
        xmlUnlinkNode(metadata);
        xmlFreeNode(metadata);
    }
}

/* What has been set has to be readable when it comes back from a file. */
static gboolean check_size(XmlconfDomain *domain, GError **error)
{
    g_autofree char *text = xmlconf_domain_format(domain, XMLCONF_FORMAT_STATUS, error);

    if (!text || strlen(text) <= XMLCONF_DOCUMENT_MAX_BYTES)
        return text != NULL;
    return fail(error, "with this metadata the definition grows too large:", domain->config.name);
}

static gboolean set_element(XmlconfDomain *domain, const char *value, const char *key,
                            const char *uri, GError **error)
{
    if (!uri || !*uri || !xmlconf_document_can_hold(uri))
        return fail(error,
                    "not the URI of a namespace:", uri ? "(unprintable or empty)" : "(none)");
    if (value && !key)
        return fail(error, "no prefix is given for the namespace", uri);

    g_autoptr(xmlDoc) doc = xmlCopyDoc(domain->doc, 1);
    if (!doc) {
        g_set_error_literal(error, XMLCONF_ERROR, XMLCONF_ERROR_INTERNAL,
                            "no memory to copy a document");
        return FALSE;
    }
    remove_elements(doc, uri);
    if (value && !add_element(doc, value, key, uri, error))
        return FALSE;

    xmlDoc *before = domain->doc;
    domain->doc = doc;
    gboolean ok = check_size(domain, error);
    if (!ok)
        domain->doc = before;
    doc = ok ? before : doc;
    return ok;
}

gboolean xmlconf_domain_set_metadata(XmlconfDomain *domain, XmlconfMetadata type, const char *value,
                                     const char *key, const char *uri, GError **error)
{
    switch (type) {
    case XMLCONF_METADATA_TITLE:
        return set_text(&domain->config.title, type, value, error);
    case XMLCONF_METADATA_DESCRIPTION:
        return set_text(&domain->config.description, type, value, error);
    case XMLCONF_METADATA_ELEMENT:
        return set_element(domain, value, key, uri, error);
    }
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_INTERNAL, "unknown kind %d of metadata", type);
    return FALSE;
}
