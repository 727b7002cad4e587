/* Status files: run/domus/NAME.status.xml.
 *
 * <domstatus phase='complete' autodestroy='0' id='3' state='1' reason='1' control='...' process='...' agent-timeout='-2'>
 *   <domain ...>...</domain>
 * </domstatus>
 */
#include "config.h"

#include "libxldrv/state/status.h"

#include <libvirt/libvirt-qemu.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <string.h>

#include "libxldrv/rpc/rpc.h"
#include "libxldrv/state/files.h"

#define SUFFIX     ".status.xml"
#define STATUS_MAX (16u << 20)

gboolean xldrv_status_save(const XldrvPaths *paths, const XldrvStatus *status, GError **error)
{
    const char *name = xmlconf_domain_config(status->domain)->name;
    g_autofree char *path = xldrv_file_path(paths->run_dir, name, SUFFIX, error);
    g_autofree char *domain = NULL;
    g_autofree char *xml = NULL;
    g_autoptr(GError) why = NULL;

    if (!path)
        return FALSE;
    domain = xmlconf_domain_format(status->domain, XMLCONF_FORMAT_SECURE | XMLCONF_FORMAT_STATUS, &why);
    if (!domain)
        return xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "cannot write domain '%s' as XML: %s",
                               name, why->message);
    xml = g_markup_printf_escaped("<domstatus phase='%s' autodestroy='%d' id='%d' state='%d' reason='%d' control='%s' "
                                  "process='%s' agent-timeout='%d'>\n",
                                  status->complete ? "complete" : "starting", status->autodestroy != 0, status->id, status->state,
                                  status->reason, status->control, status->process, status->agent_timeout);
    g_autofree char *whole = g_strconcat(xml, domain, "</domstatus>\n", NULL);
    return xldrv_file_replace_volatile(path, whole, error);
}

gboolean xldrv_status_remove(const XldrvPaths *paths, const char *name, GError **error)
{
    g_autofree char *path = xldrv_file_path(paths->run_dir, name, SUFFIX, error);

    return path && xldrv_file_remove(path, error);
}

void xldrv_status_clear(XldrvStatus *status)
{
    g_clear_pointer(&status->control, g_free);
    g_clear_pointer(&status->process, g_free);
    g_clear_pointer(&status->domain, xmlconf_domain_unref);
}

/* ---- reading */

static char *attribute(xmlNode *node, const char *name)
{
    xmlChar *value = xmlGetNoNsProp(node, BAD_CAST name);
    char *copy = g_strdup((char *)value);

    xmlFree(value);
    return copy;
}

static gboolean attribute_int(xmlNode *node, const char *name, int *value)
{
    g_autofree char *text = attribute(node, name);
    gint64 number;

    if (!text || !g_ascii_string_to_signed(text, 10, 0, G_MAXINT, &number, NULL))
        return FALSE;
    *value = number;
    return TRUE;
}

static XmlconfDomain *read_domain(xmlDoc *doc, xmlNode *root, GError **error)
{
    xmlBuffer *buffer;
    XmlconfDomain *domain = NULL;

    for (xmlNode *child = root->children; child; child = child->next) {
        if (child->type != XML_ELEMENT_NODE || strcmp((const char *)child->name, "domain") != 0)
            continue;
        buffer = xmlBufferCreate();
        if (xmlNodeDump(buffer, doc, child, 0, 0) > 0)
            domain = xmlconf_domain_parse((const char *)xmlBufferContent(buffer), XMLCONF_PARSE_LIVE,
                                          error);
        xmlBufferFree(buffer);
        return domain;
    }
    xldrv_set_error(error, VIR_ERR_XML_ERROR, "it has no <domain>");
    return NULL;
}

/* Names of files beside it, nothing else. */
static gboolean is_file_name(const char *name)
{
    return name && *name && !strchr(name, '/') && *name != '.';
}

static gboolean read_status(xmlDoc *doc, XldrvStatus *status, GError **error)
{
    xmlNode *root = xmlDocGetRootElement(doc);
    g_autofree char *phase = NULL;

    if (!root || strcmp((const char *)root->name, "domstatus") != 0)
        return xldrv_set_error(error, VIR_ERR_XML_ERROR, "it is not a <domstatus>");
    phase = attribute(root, "phase");
    status->complete = g_strcmp0(phase, "complete") == 0;
    status->control = attribute(root, "control");
    status->process = attribute(root, "process");
    if (!phase || !is_file_name(status->control) || !is_file_name(status->process) ||
        !attribute_int(root, "autodestroy", &status->autodestroy) ||
        !attribute_int(root, "id", &status->id) || !attribute_int(root, "state", &status->state) ||
        !attribute_int(root, "reason", &status->reason))
        return xldrv_set_error(error, VIR_ERR_XML_ERROR, "an attribute is missing or wrong");
    if (!attribute_int(root, "agent-timeout", &status->agent_timeout)) /* an older daemon wrote it */
        status->agent_timeout = VIR_DOMAIN_QEMU_AGENT_COMMAND_BLOCK;
    status->domain = read_domain(doc, root, error);
    return status->domain != NULL;
}

static gboolean load(const char *path, const char *stem, XldrvStatus *status, GError **error)
{
    g_autofree char *xml = xldrv_file_read(path, STATUS_MAX, error);
    xmlDoc *doc;
    gboolean ok;

    if (!xml)
        return FALSE;
    doc = xmlReadMemory(xml, strlen(xml), path, NULL,
                        XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
    if (!doc)
        return xldrv_set_error(error, VIR_ERR_XML_ERROR, "it is not well-formed XML");
    ok = read_status(doc, status, error);
    xmlFreeDoc(doc);
    if (ok && strcmp(xmlconf_domain_config(status->domain)->name, stem) != 0)
        return xldrv_set_error(error, VIR_ERR_XML_ERROR, "it is about domain '%s'",
                               xmlconf_domain_config(status->domain)->name);
    return ok;
}

typedef struct {
    XldrvStatusFn fn;
    gpointer user_data;
} Load;

static void load_one(const char *path, const char *stem, gpointer data)
{
    const Load *how = data;
    g_auto(XldrvStatus) status = {0};
    g_autoptr(GError) why = NULL;

    if (load(path, stem, &status, &why))
        how->fn(&status, how->user_data);
    else
        g_warning("ignoring status '%s': %s", path, why->message);
}

void xldrv_status_load(const XldrvPaths *paths, XldrvStatusFn fn, gpointer user_data)
{
    Load how = {fn, user_data};

    xldrv_file_each(paths->run_dir, SUFFIX, load_one, &how);
}
