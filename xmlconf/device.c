/* device: one device on its own, and its way into a domain's document and out of it. */
#include "config.h"

#include <string.h>

#include "xmlconf/document.h"
#include "xmlconf/domain.h"
#include "xmlconf/fields.h"

struct _XmlconfDevice {
    XmlconfDeviceType type;
    xmlDoc *doc;
    GPtrArray *list; /* the record, alone */
};

static gboolean complete_disk(gpointer disk, GError **error)
{
    return xmlconf_disk_complete(disk, error);
}

static gboolean same_disk(gconstpointer a, gconstpointer b)
{
    guint left = 0, right = 0;

    return xmlconf_disk_vdev(((const XmlconfDisk *)a)->target, &left) &&
           xmlconf_disk_vdev(((const XmlconfDisk *)b)->target, &right) && left == right;
}

static char *name_disk(gconstpointer disk)
{
    return g_strdup_printf("disk '%s'", ((const XmlconfDisk *)disk)->target);
}

static gboolean complete_interface(gpointer interface, GError **error)
{
    return xmlconf_interface_complete(interface, FALSE, error);
}

static gboolean same_interface(gconstpointer a, gconstpointer b)
{
    return strcmp(((const XmlconfInterface *)a)->mac, ((const XmlconfInterface *)b)->mac) == 0;
}

static char *name_interface(gconstpointer interface)
{
    return g_strdup_printf("interface with MAC address '%s'", ((const XmlconfInterface *)interface)->mac);
}

static gboolean complete_console(gpointer console, GError **error)
{
    return xmlconf_console_complete(console, FALSE, error);
}

static gboolean same_console(gconstpointer a, gconstpointer b)
{
    return ((const XmlconfConsole *)a)->port == ((const XmlconfConsole *)b)->port;
}

static char *name_console(gconstpointer console)
{
    return g_strdup_printf("console at port '%u'", ((const XmlconfConsole *)console)->port);
}

static gboolean same_channel(gconstpointer a, gconstpointer b)
{
    return strcmp(((const XmlconfConsole *)a)->name, ((const XmlconfConsole *)b)->name) == 0;
}

static char *name_channel(gconstpointer channel)
{
    return g_strdup_printf("channel '%s'", ((const XmlconfConsole *)channel)->name);
}

static gboolean complete_graphics(gpointer item, GError **error)
{
    return xmlconf_graphics_complete(item, FALSE, error);
}

/* There is one. */
static gboolean same_graphics(gconstpointer a G_GNUC_UNUSED, gconstpointer b G_GNUC_UNUSED)
{
    return TRUE;
}

static char *name_graphics(gconstpointer item G_GNUC_UNUSED)
{
    return g_strdup("graphics of type 'vnc'");
}

static const struct {
    const XmlconfRecord *record;
    gsize list;  /* offset in XmlconfDomainConfig */
    gsize alias; /* offset in the record's structure; 0: it has none */
    guint max;
    gboolean (*complete)(gpointer item, GError **error);
    gboolean (*same)(gconstpointer a, gconstpointer b); /* they name one device */
    char *(*name)(gconstpointer item);
} kinds[] = {
    [XMLCONF_DEVICE_DISK] = {&xmlconf_disk_record, G_STRUCT_OFFSET(XmlconfDomainConfig, disks),
                             G_STRUCT_OFFSET(XmlconfDisk, alias), XMLCONF_MAX_DISKS, complete_disk, same_disk, name_disk},
    [XMLCONF_DEVICE_INTERFACE] = {&xmlconf_interface_record, G_STRUCT_OFFSET(XmlconfDomainConfig, interfaces),
                                  G_STRUCT_OFFSET(XmlconfInterface, alias), XMLCONF_MAX_INTERFACES, complete_interface,
                                  same_interface, name_interface},
    [XMLCONF_DEVICE_CONSOLE] = {&xmlconf_console_record, G_STRUCT_OFFSET(XmlconfDomainConfig, consoles),
                                G_STRUCT_OFFSET(XmlconfConsole, alias), XMLCONF_MAX_CONSOLES, complete_console,
                                same_console, name_console},
    [XMLCONF_DEVICE_CHANNEL] = {&xmlconf_channel_record, G_STRUCT_OFFSET(XmlconfDomainConfig, channels),
                                G_STRUCT_OFFSET(XmlconfConsole, alias), XMLCONF_MAX_CONSOLES - 1, complete_console,
                                same_channel, name_channel},
    [XMLCONF_DEVICE_GRAPHICS] = {&xmlconf_graphics_record, G_STRUCT_OFFSET(XmlconfDomainConfig, graphics), 0,
                                 XMLCONF_MAX_GRAPHICS, complete_graphics, same_graphics, name_graphics},
};

static GPtrArray **list_of(XmlconfDomain *domain, XmlconfDeviceType type)
{
    return G_STRUCT_MEMBER_P(&domain->config, kinds[type].list);
}

static gboolean find_kind(const xmlNode *root, XmlconfDeviceType *type, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        *type = (XmlconfDeviceType)i;
        if (!root->ns && strcmp((const char *)root->name, kinds[i].record->element) == 0)
            return TRUE;
    }
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED,
                "a device <%s> cannot be attached, detached or updated", (const char *)root->name);
    return FALSE;
}

static gboolean read_device(XmlconfDevice *device, GError **error)
{
    const XmlconfRecord *record = kinds[device->type].record;
    gpointer item;

    device->list = xmlconf_record_list_new();
    item = xmlconf_record_list_add(device->list, record);
    if (!xmlconf_record_read(record, xmlDocGetRootElement(device->doc), item, FALSE, error))
        return FALSE;
    return kinds[device->type].complete(item, error);
}

XmlconfDevice *xmlconf_device_parse(const char *xml, GError **error)
{
    g_autoptr(XmlconfDevice) device = g_new0(XmlconfDevice, 1);

    device->doc = xmlconf_document_parse(xml, "(device_definition)", error);
    if (!device->doc || !find_kind(xmlDocGetRootElement(device->doc), &device->type, error) ||
        !read_device(device, error))
        return NULL;
    return g_steal_pointer(&device);
}

/* A device of a copy of @item; @doc (taken) is its document. */
static XmlconfDevice *device_new(XmlconfDeviceType type, xmlDoc *doc, gconstpointer item)
{
    const XmlconfRecord *record = kinds[type].record;
    XmlconfDevice *device = g_new0(XmlconfDevice, 1);

    if (!doc)
        g_error("no memory to copy the document of a device"); /* as GLib's own allocations do */
    device->type = type;
    device->doc = doc;
    device->list = xmlconf_record_list_new();
    xmlconf_record_copy(record, xmlconf_record_list_add(device->list, record), item);
    return device;
}

XmlconfDevice *xmlconf_device_copy(const XmlconfDevice *device)
{
    return device_new(device->type, xmlCopyDoc(device->doc, 1), device->list->pdata[0]);
}

void xmlconf_device_free(XmlconfDevice *device)
{
    if (!device)
        return;
    g_clear_pointer(&device->list, g_ptr_array_unref);
    g_clear_pointer(&device->doc, xmlFreeDoc);
    g_free(device);
}

XmlconfDeviceType xmlconf_device_type(const XmlconfDevice *device)
{
    return device->type;
}

gpointer xmlconf_device_item(const XmlconfDevice *device)
{
    return device->list->pdata[0];
}

XmlconfDisk *xmlconf_device_disk(const XmlconfDevice *device)
{
    return device->type == XMLCONF_DEVICE_DISK ? device->list->pdata[0] : NULL;
}

XmlconfInterface *xmlconf_device_interface(const XmlconfDevice *device)
{
    return device->type == XMLCONF_DEVICE_INTERFACE ? device->list->pdata[0] : NULL;
}

XmlconfConsole *xmlconf_device_console(const XmlconfDevice *device)
{
    return device->type == XMLCONF_DEVICE_CONSOLE || device->type == XMLCONF_DEVICE_CHANNEL ? device->list->pdata[0] : NULL;
}

GPtrArray *xmlconf_domain_devices(XmlconfDomain *domain, XmlconfDeviceType type)
{
    return *list_of(domain, type);
}

const char *xmlconf_device_alias(XmlconfDeviceType type, gconstpointer item)
{
    return kinds[type].alias ? G_STRUCT_MEMBER(char *, item, kinds[type].alias) : NULL;
}

XmlconfGraphics *xmlconf_device_graphics(const XmlconfDevice *device)
{
    return device->type == XMLCONF_DEVICE_GRAPHICS ? device->list->pdata[0] : NULL;
}

/* ---- in a domain */

static xmlNode *find_devices(XmlconfDomain *domain, gboolean create)
{
    xmlNode *root = xmlDocGetRootElement(domain->doc);

    for (xmlNode *child = root->children; child; child = child->next) {
        if (child->type == XML_ELEMENT_NODE && !child->ns && !strcmp((const char *)child->name, "devices"))
            return child;
    }
    return create ? xmlAddChild(root, xmlNewDocNode(domain->doc, NULL, BAD_CAST "devices", NULL)) : NULL;
}

static xmlNode *find_element(XmlconfDomain *domain, XmlconfDeviceType type, guint index)
{
    xmlNode *devices = find_devices(domain, FALSE);

    for (xmlNode *child = devices ? devices->children : NULL; child; child = child->next) {
        if (child->type == XML_ELEMENT_NODE && !child->ns &&
            !strcmp((const char *)child->name, kinds[type].record->element) && index-- == 0)
            return child;
    }
    return NULL;
}

static gboolean has_room(const GPtrArray *list, XmlconfDeviceType type, GError **error)
{
    if (!list || list->len < kinds[type].max)
        return TRUE;
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED,
                "more than %u element <%s> is not supported", kinds[type].max, kinds[type].record->element);
    return FALSE;
}

static gboolean is_running(const XmlconfDomain *domain)
{
    return domain->config.id >= 0;
}

/* What of a definition depends on its other devices. */
static void settle(XmlconfDomain *domain)
{
    if (!is_running(domain))
        xmlconf_consoles_renumber(&domain->config);
}

/* Whether a device that was added last fits what is there. */
static gboolean check_added(XmlconfDomain *domain, XmlconfDeviceType type, GError **error)
{
    if (!xmlconf_boot_check(&domain->config, error))
        return FALSE;
    switch (type) {
    case XMLCONF_DEVICE_DISK:
        return xmlconf_disks_check(domain->config.disks, error);
    case XMLCONF_DEVICE_INTERFACE:
        return TRUE;
    case XMLCONF_DEVICE_GRAPHICS: /* something to be shown, and a keyboard, come with it */
        return xmlconf_video_complete(&domain->config, is_running(domain), error);
    default:
        return xmlconf_consoles_check(&domain->config, error);
    }
}

gboolean xmlconf_domain_add_device(XmlconfDomain *domain, const XmlconfDevice *device, GError **error)
{
    const XmlconfRecord *record = kinds[device->type].record;
    GPtrArray **list = list_of(domain, device->type);

    if (!has_room(*list, device->type, error))
        return FALSE;
    if (!*list)
        *list = xmlconf_record_list_new();
    xmlconf_record_copy(record, xmlconf_record_list_add(*list, record), device->list->pdata[0]);
    if (!check_added(domain, device->type, error)) {
        g_ptr_array_remove_index(*list, (*list)->len - 1);
        return FALSE;
    }
    settle(domain);
    xmlAddChild(find_devices(domain, TRUE),
                xmlDocCopyNode(xmlDocGetRootElement(device->doc), domain->doc, 1));
    return TRUE;
}

int xmlconf_domain_find_device(XmlconfDomain *domain, const XmlconfDevice *device, GError **error)
{
    const GPtrArray *list = *list_of(domain, device->type);
    g_autofree char *name = kinds[device->type].name(device->list->pdata[0]);
    int found = -1;

    for (guint i = 0; list && i < list->len; i++) {
        if (!kinds[device->type].same(list->pdata[i], device->list->pdata[0]))
            continue;
        if (found >= 0) {
            g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "domain '%s' has more than one %s", domain->config.name,
                        name);
            return -1;
        }
        found = (int)i;
    }
    if (found < 0)
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_NO_DEVICE, "domain '%s' has no %s", domain->config.name, name);
    return found;
}

static XmlconfDevice *copy_out(XmlconfDomain *domain, XmlconfDeviceType type, guint index)
{
    xmlNode *element = find_element(domain, type, index);
    xmlDoc *doc = xmlNewDoc(BAD_CAST "1.0");

    if (doc)
        xmlDocSetRootElement(doc, element ? xmlDocCopyNode(element, doc, 1)
                                          : xmlNewDocNode(doc, NULL, BAD_CAST kinds[type].record->element, NULL));
    return device_new(type, doc, (*list_of(domain, type))->pdata[index]);
}

XmlconfDevice *xmlconf_domain_copy_device(XmlconfDomain *domain, const char *alias, GError **error)
{
    for (gsize type = 0; type < G_N_ELEMENTS(kinds); type++) {
        const GPtrArray *list = *list_of(domain, (XmlconfDeviceType)type);

        for (guint i = 0; list && i < list->len; i++) {
            if (g_strcmp0(xmlconf_device_alias((XmlconfDeviceType)type, list->pdata[i]), alias) == 0)
                return copy_out(domain, (XmlconfDeviceType)type, i);
        }
    }
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_NO_DEVICE, "domain '%s' has no device with alias '%s'",
                domain->config.name, alias);
    return NULL;
}

void xmlconf_domain_replace_device(XmlconfDomain *domain, const XmlconfDevice *device, guint index)
{
    const XmlconfRecord *record = kinds[device->type].record;
    gpointer item = (*list_of(domain, device->type))->pdata[index];
    xmlNode *element = find_element(domain, device->type, index);

    xmlconf_record_clear(record, item);
    xmlconf_record_copy(record, item, device->list->pdata[0]);
    if (element) {
        xmlReplaceNode(element, xmlDocCopyNode(xmlDocGetRootElement(device->doc), domain->doc, 1));
        xmlFreeNode(element);
    }
}

void xmlconf_domain_remove_device(XmlconfDomain *domain, XmlconfDeviceType type, guint index)
{
    xmlNode *element = find_element(domain, type, index);

    if (element) {
        xmlUnlinkNode(element);
        xmlFreeNode(element);
    }
    g_ptr_array_remove_index(*list_of(domain, type), index);
    settle(domain);
}
