/* domain: a document and its configuration.
 *
 * parse: text -> document.c -> (schema.c) -> record.c reads the rows of fields.c -> check.c
 * format: a copy of the document <- record.c writes the configuration into it -> format.c -> text
 *
 * So the configuration may be changed between the two, and whatever has no row (metadata, elements
 * of foreign namespaces) comes back as it was. */
#include "config.h"

#include "xmlconf/domain.h"

#include <string.h>

#include "xmlconf/fields.h"

G_DEFINE_QUARK(xmlconf - error - quark, xmlconf_error)

static gboolean check_root(xmlDoc *doc, GError **error)
{
    const xmlNode *root = xmlDocGetRootElement(doc);

    if (!root->ns && strcmp((const char *)root->name, "domain") == 0)
        return TRUE;
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML,
                "unexpected root element <%s>, expecting <domain>", (const char *)root->name);
    return FALSE;
}

static XmlconfDomain *domain_new(xmlDoc *doc)
{
    static _Atomic guint64 serials;
    XmlconfDomain *domain = g_new0(XmlconfDomain, 1);

    g_atomic_ref_count_init(&domain->refs);
    domain->serial = ++serials;
    domain->doc = doc;
    domain->config.id = -1;
    return domain;
}

XmlconfDomain *xmlconf_domain_parse(const char *xml, XmlconfParseFlags flags, GError **error)
{
    g_autoptr(xmlDoc) doc = xmlconf_document_parse(xml, "(domain_definition)", error);

    if (!doc || !check_root(doc, error))
        return NULL;
    if ((flags & XMLCONF_VALIDATE) && !xmlconf_schema_validate(doc, "domain", error))
        return NULL;

    g_autoptr(XmlconfDomain) domain = domain_new(g_steal_pointer(&doc));
    gboolean live = (flags & XMLCONF_PARSE_LIVE) != 0;
    if (!xmlconf_record_read(&xmlconf_domain_record, xmlDocGetRootElement(domain->doc),
                             &domain->config, live, error) ||
        !xmlconf_config_complete(&domain->config, live, error))
        return NULL;
    return g_steal_pointer(&domain);
}

XmlconfDomain *xmlconf_domain_copy(XmlconfDomain *domain)
{
    xmlDoc *doc = xmlCopyDoc(domain->doc, 1);
    if (!doc)
        g_error("no memory to copy the document of a domain"); /* as GLib's own allocations do */

    XmlconfDomain *copy = domain_new(doc);
    xmlconf_record_copy(&xmlconf_domain_record, &copy->config, &domain->config);
    return copy;
}

XmlconfDomain *xmlconf_domain_ref(XmlconfDomain *domain)
{
    g_atomic_ref_count_inc(&domain->refs);
    return domain;
}

void xmlconf_domain_unref(XmlconfDomain *domain)
{
    if (!domain || !g_atomic_ref_count_dec(&domain->refs))
        return;
    xmlconf_record_clear(&xmlconf_domain_record, &domain->config);
    xmlFreeDoc(domain->doc);
    g_free(domain);
}

guint64 xmlconf_domain_serial(const XmlconfDomain *domain)
{
    return domain->serial;
}

XmlconfDomainConfig *xmlconf_domain_config(XmlconfDomain *domain)
{
    return &domain->config;
}

/* Takes XMLCONF_PRIVATE out of the devices. */
static void drop_private(xmlNode *element, unsigned depth)
{
    xmlNode *next;

    for (xmlNode *child = element->children; child; child = next) {
        next = child->next;
        if (child->type != XML_ELEMENT_NODE || child->ns)
            continue;
        if (depth == 2 && strcmp((const char *)child->name, XMLCONF_PRIVATE) == 0) {
            xmlUnlinkNode(child);
            xmlFreeNode(child);
        } else if (depth == 1 || (depth == 0 && strcmp((const char *)child->name, "devices") == 0)) {
            drop_private(child, depth + 1);
        }
    }
}

char *xmlconf_domain_format(XmlconfDomain *domain, XmlconfFormatFlags flags, GError **error)
{
    gboolean live = (flags & XMLCONF_FORMAT_STATUS) || !(flags & XMLCONF_FORMAT_INACTIVE);
    g_autoptr(xmlDoc) doc = xmlCopyDoc(domain->doc, 1);

    if (!doc) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_INTERNAL,
                    "no memory to copy the document of '%s'", domain->config.name);
        return NULL;
    }

    xmlNode *root = xmlDocGetRootElement(doc);
    xmlconf_record_write(&xmlconf_domain_record, root, &domain->config, live);
    if (!(flags & XMLCONF_FORMAT_STATUS))
        drop_private(root, 0);
    if (!(flags & XMLCONF_FORMAT_SECURE))
        xmlconf_record_strip_secrets(&xmlconf_domain_record, root);
    return xmlconf_document_format(root, 0, FALSE);
}
