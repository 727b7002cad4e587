/* document: XML text to libxml2 tree and back, for input nobody vouches for. */
#pragma once

#include <glib.h>
#include <libxml/tree.h>

/* Longest document taken, in bytes: a definition is a few KiB, and libvirt's own message limit is 4 MiB. */
#define XMLCONF_DOCUMENT_MAX_BYTES (10u * 1024 * 1024)

/* Parses @xml; @origin names it in messages, "(domain_definition)". No network, no document type
 * declaration (so no entities to expand), comments and indentation dropped. NULL with XMLCONF_ERROR_SYNTAX,
 * whose message is "(origin):LINE: what is wrong" with the line and a pointer to the column below it. */
xmlDoc *xmlconf_document_parse(const char *xml, const char *origin, GError **error);

/* The text of @node and all below it, indented by two spaces a level from @level on, as libvirt formats XML:
 * attributes in apostrophes, and in quotation marks inside <metadata>. @in_metadata says that @node is there. */
char *xmlconf_document_format(const xmlNode *node, unsigned level, gboolean in_metadata);

/* Whether @text can stand in a document: UTF-8, and no characters that XML has no way to write. */
gboolean xmlconf_document_can_hold(const char *text);

/* Validates against libvirt's schema @name ("domain"). Parsed once and kept. Any thread. */
gboolean xmlconf_schema_validate(xmlDoc *doc, const char *name, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(xmlDoc, xmlFreeDoc)
