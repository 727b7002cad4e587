/* record: the table's rows applied to a tree and a structure, both ways.
 *
 * Reading walks the tree, not the rows, so that nothing in the document goes unseen: each element
 * and attribute must find its row or is refused by name. Writing walks the rows and then sorts what
 * it touched into their order. */
#include "config.h"

#include "xmlconf/document.h"
#include "xmlconf/fields.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const XmlconfRecord *record;
    gpointer base;
    gboolean *seen; /* for each row */
    gboolean live;
} Reader;

static gboolean read_element(Reader *reader, xmlNode *element, const char *path, GError **error);

static gpointer field_value(const XmlconfField *field, gconstpointer base)
{
    return (char *)base + field->offset;
}

/* The row of @path, or the number of rows. */
static guint find_row(const XmlconfRecord *record, const char *path)
{
    guint i = 0;

    while (i < record->n_fields && strcmp(record->fields[i].path, path) != 0)
        i++;
    return i;
}

/* The first row at or below @path, or the number of rows: an element without one is unknown. */
static guint find_branch(const XmlconfRecord *record, const char *path)
{
    gsize length = strlen(path);
    guint i;

    for (i = 0; i < record->n_fields; i++) {
        const char *row = record->fields[i].path;
        if (strncmp(row, path, length) == 0 &&
            (!row[length] || row[length] == '/' || row[length] == '@'))
            break;
    }
    return i;
}

static char *child_path(const char *path, const xmlNode *child)
{
    return *path ? g_strdup_printf("%s/%s", path, (const char *)child->name)
                 : g_strdup((const char *)child->name);
}

static gboolean unknown_element(const xmlNode *element, GError **error)
{
    const xmlNode *parent = element->parent;

    if (parent->parent && parent->parent->type == XML_ELEMENT_NODE)
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED,
                    "element <%s> in <%s> is not supported", (const char *)element->name,
                    (const char *)parent->name);
    else
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED,
                    "element <%s> is not supported", (const char *)element->name);
    return FALSE;
}

static gboolean read_attribute(Reader *reader, xmlNode *element, const char *path,
                               const xmlAttr *attr, GError **error)
{
    g_autofree char *row_path = g_strdup_printf("%s@%s", path, (const char *)attr->name);
    guint row = find_row(reader->record, row_path);

    if (attr->ns || row == reader->record->n_fields) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED,
                    "attribute '%s' of element <%s> is not supported", (const char *)attr->name,
                    (const char *)element->name);
        return FALSE;
    }

    const XmlconfField *field = &reader->record->fields[row];
    if ((field->flags & XMLCONF_FIELD_LIVE) && !reader->live)
        return TRUE;
    reader->seen[row] = TRUE;
    xmlChar *text = xmlNodeListGetString(attr->doc, attr->children, 1);
    gboolean ok = field->type->read(field, element, text ? (const char *)text : "",
                                    field_value(field, reader->base), error);
    xmlFree(text);
    return ok;
}

/* The text of @element, without that of elements in it. */
static char *own_text(const xmlNode *element)
{
    GString *text = g_string_new(NULL);

    for (const xmlNode *child = element->children; child; child = child->next) {
        if (child->type == XML_TEXT_NODE && child->content)
            g_string_append(text, (const char *)child->content);
    }
    return g_string_free(text, FALSE);
}

static gboolean read_text(Reader *reader, xmlNode *element, guint row, GError **error)
{
    g_autofree char *text = own_text(element);
    const XmlconfField *field =
        row < reader->record->n_fields ? &reader->record->fields[row] : NULL;

    if (field && field->type)
        return field->type->read(field, element, text, field_value(field, reader->base), error);
    if (text[strspn(text, " \t\r\n")] == '\0')
        return TRUE;
    g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "element <%s> must not contain text",
                (const char *)element->name);
    return FALSE;
}

static gboolean read_list_item(Reader *reader, const XmlconfField *field, xmlNode *element,
                               GError **error)
{
    GPtrArray **list = field_value(field, reader->base);

    if (!*list)
        *list = xmlconf_record_list_new();
    if ((*list)->len == field->max) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_UNSUPPORTED,
                    "more than %" G_GUINT64_FORMAT " element <%s> is not supported", field->max,
                    field->record->element);
        return FALSE;
    }
    gpointer item = xmlconf_record_list_add(*list, field->record);
    return xmlconf_record_read(field->record, element, item, reader->live, error);
}

static gboolean seen_before(const xmlNode *element)
{
    for (const xmlNode *node = element->prev; node; node = node->prev) {
        if (node->type == XML_ELEMENT_NODE && !node->ns && xmlStrEqual(node->name, element->name))
            return TRUE;
    }
    return FALSE;
}

static gboolean read_child(Reader *reader, xmlNode *child, const char *parent_path, GError **error)
{
    g_autofree char *path = child_path(parent_path, child);
    guint row = find_row(reader->record, path);
    const XmlconfField *field =
        row < reader->record->n_fields ? &reader->record->fields[row] : NULL;

    if (find_branch(reader->record, path) == reader->record->n_fields)
        return unknown_element(child, error);
    if (field && (field->flags & XMLCONF_FIELD_LIST)) {
        if ((field->flags & XMLCONF_FIELD_LIVE) && !reader->live)
            return TRUE;
        return read_list_item(reader, field, child, error);
    }
    if (seen_before(child)) {
        g_set_error(error, XMLCONF_ERROR, XMLCONF_ERROR_XML, "element <%s> is there more than once",
                    (const char *)child->name);
        return FALSE;
    }
    if (field)
        reader->seen[row] = TRUE;
    if (field && (field->flags & XMLCONF_FIELD_OPAQUE))
        return TRUE;
    return read_text(reader, child, row, error) && read_element(reader, child, path, error);
}

/* Elements of a namespace are an application's own, but libvirt's own namespaces are requests. */
static gboolean check_foreign(const xmlNode *element, GError **error)
{
    if (!g_str_has_prefix((const char *)element->ns->href, "http://libvirt.org/schemas/"))
        return TRUE;
    return unknown_element(element, error);
}

static gboolean read_element(Reader *reader, xmlNode *element, const char *path, GError **error)
{
    for (const xmlAttr *attr = element->properties; attr; attr = attr->next) {
        if (!read_attribute(reader, element, path, attr, error))
            return FALSE;
    }
    for (xmlNode *child = element->children; child; child = child->next) {
        if (child->type != XML_ELEMENT_NODE)
            continue;
        if (child->ns ? !check_foreign(child, error) : !read_child(reader, child, path, error))
            return FALSE;
    }
    return TRUE;
}

/* Rows that the document did not have. */
static gboolean read_absent(Reader *reader, xmlNode *element, GError **error)
{
    for (guint i = 0; i < reader->record->n_fields; i++) {
        const XmlconfField *field = &reader->record->fields[i];
        if (reader->seen[i])
            continue;
        if (field->flags & XMLCONF_FIELD_REQUIRED)
            return xmlconf_value_error(field, field->code, NULL, "is missing", error);
        if (field->type && field->fallback && field->type->write &&
            !field->type->read(field, element, field->fallback, field_value(field, reader->base),
                               error))
            return FALSE;
    }
    return TRUE;
}

static gsize same_as_size(const XmlconfField *field)
{
    return field->type == &xmlconf_value_memory ? sizeof(guint64) : sizeof(guint);
}

static void copy_same(Reader *reader)
{
    for (guint i = 0; i < reader->record->n_fields; i++) {
        const XmlconfField *field = &reader->record->fields[i];
        if (field->same_as && !reader->seen[i])
            memcpy(field_value(field, reader->base), (char *)reader->base + field->same_as,
                   same_as_size(field));
    }
}

gboolean xmlconf_record_read(const XmlconfRecord *record, xmlNode *element, gpointer base,
                             gboolean live, GError **error)
{
    g_autofree gboolean *seen = g_new0(gboolean, record->n_fields);
    Reader reader = {record, base, seen, live};

    if (!read_text(&reader, element, record->n_fields, error) ||
        !read_element(&reader, element, "", error) || !read_absent(&reader, element, error))
        return FALSE;
    copy_same(&reader);
    return TRUE;
}

/* The child element @name of @parent of no namespace, the @index-th; made if @create. */
static xmlNode *get_child(xmlNode *parent, const char *name, guint index, gboolean create)
{
    for (xmlNode *child = parent->children; child; child = child->next) {
        if (child->type == XML_ELEMENT_NODE && !child->ns &&
            !strcmp((const char *)child->name, name) && index-- == 0)
            return child;
    }
    if (!create)
        return NULL;
    xmlNode *child = xmlNewDocNode(parent->doc, NULL, BAD_CAST name, NULL);
    /* Not the parent's default namespace: there is none, or the document was refused. */
    return xmlAddChild(parent, child);
}

/* Follows @path (attribute cut off) from @element; NULL where it ends early and is not to be made.
 */
static xmlNode *get_path(xmlNode *element, const char *path, gsize length, gboolean create)
{
    g_autofree char *part = g_strndup(path, length);
    g_auto(GStrv) names = g_strsplit(part, "/", -1);

    for (char **name = names; *name && element; name++)
        element = get_child(element, *name, 0, create);
    return element;
}

static void drop_text(xmlNode *element)
{
    xmlNode *next;

    for (xmlNode *child = element->children; child; child = next) {
        next = child->next;
        if (child->type == XML_TEXT_NODE) {
            xmlUnlinkNode(child);
            xmlFreeNode(child);
        }
    }
}

static void set_text(xmlNode *element, const char *text)
{
    drop_text(element);
    if (*text)
        xmlNodeAddContent(element, BAD_CAST text);
}

static void remove_node(xmlNode *node)
{
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

static void write_attribute(const XmlconfRecord *record, xmlNode *root, const XmlconfField *field,
                            const char *text)
{
    const char *at = strchr(field->path, '@');
    gsize length = (gsize)(at - field->path);
    xmlNode *element = length ? get_path(root, field->path, length, text != NULL) : root;

    if (!element)
        return;
    if (text) {
        xmlSetProp(element, BAD_CAST(at + 1), BAD_CAST text);
        return;
    }
    xmlUnsetProp(element, BAD_CAST(at + 1));
    g_autofree char *path = g_strndup(field->path, length);
    if (length && !element->properties && !element->children &&
        find_row(record, path) == record->n_fields)
        remove_node(element);
}

/* A container of nothing goes too. */
static void remove_with_container(const xmlNode *root, xmlNode *element)
{
    xmlNode *parent = element->parent;

    remove_node(element);
    if (parent != root && !parent->properties && !parent->children)
        remove_node(parent);
}

static void write_element(xmlNode *root, const XmlconfField *field, const char *text)
{
    xmlNode *element = get_path(root, field->path, strlen(field->path), text != NULL);

    if (text)
        set_text(element, text);
    else if (element)
        remove_with_container(root, element);
}

static void write_list(xmlNode *root, const XmlconfField *field, gconstpointer base, gboolean live)
{
    GPtrArray *list = *(GPtrArray *const *)field_value(field, base);
    const char *slash = strrchr(field->path, '/');
    guint n = list ? list->len : 0;
    xmlNode *parent = slash ? get_path(root, field->path, (gsize)(slash - field->path), n > 0) : root;
    xmlNode *surplus;
    gboolean emptied = FALSE;

    if (!parent)
        return;

    for (guint i = 0; i < n; i++)
        xmlconf_record_write(field->record, get_child(parent, field->record->element, i, TRUE),
                             g_ptr_array_index(list, i), live);
    for (; (surplus = get_child(parent, field->record->element, n, FALSE)); emptied = TRUE)
        remove_node(surplus);
    if (emptied && parent != root && !parent->properties && !parent->children)
        remove_node(parent);
}

/* What a client copied from a running domain into a definition. */
static void drop_list(xmlNode *root, const XmlconfField *field)
{
    const char *slash = strrchr(field->path, '/');
    xmlNode *parent = slash ? get_path(root, field->path, (gsize)(slash - field->path), FALSE) : root;
    xmlNode *item;
    guint kept = 0;

    while (parent && (item = get_child(parent, field->record->element, kept, FALSE))) {
        if (item->properties || item->children)
            remove_node(item);
        else
            kept++;
    }
}

static gboolean is_elided(const XmlconfField *field, gconstpointer base)
{
    return (field->flags & XMLCONF_FIELD_ELIDE) &&
           !memcmp(field_value(field, base), (const char *)base + field->same_as,
                   same_as_size(field));
}

static void write_field(const XmlconfRecord *record, xmlNode *root, const XmlconfField *field,
                        gconstpointer base, gboolean live)
{
    g_autofree char *text = NULL;

    if (field->flags & XMLCONF_FIELD_LIST) {
        if (!(field->flags & XMLCONF_FIELD_LIVE))
            write_list(root, field, base, live);
        else if (!live || !*(GPtrArray *const *)field_value(field, base))
            drop_list(root, field);
        else
            write_list(root, field, base, live);
        return;
    }
    if (!field->type || !field->type->write || (field->flags & XMLCONF_FIELD_KEEP))
        return;
    if ((live || !(field->flags & XMLCONF_FIELD_LIVE)) && !is_elided(field, base))
        text = field->type->write(field, field_value(field, base), live);
    if (strchr(field->path, '@'))
        write_attribute(record, root, field, text);
    else
        write_element(root, field, text);
}

void xmlconf_record_strip_secrets(const XmlconfRecord *record, xmlNode *element)
{
    for (guint i = 0; i < record->n_fields; i++) {
        const XmlconfField *field = &record->fields[i];
        const char *slash = strrchr(field->path, '/'); /* NULL: the list is right below */
        xmlNode *parent, *item;

        if (field->flags & XMLCONF_FIELD_SECRET)
            write_attribute(record, element, field, NULL);
        if (!(field->flags & XMLCONF_FIELD_LIST))
            continue;
        parent = get_path(element, field->path, slash ? (gsize)(slash - field->path) : 0, FALSE);
        for (guint n = 0; parent && (item = get_child(parent, field->record->element, n, FALSE)); n++)
            xmlconf_record_strip_secrets(field->record, item);
    }
}

static guint child_rank(const XmlconfRecord *record, const char *path, const xmlNode *child)
{
    g_autofree char *own = NULL;

    if (child->type != XML_ELEMENT_NODE || child->ns)
        return record->n_fields;
    own = child_path(path, child);
    return find_branch(record, own);
}

typedef struct {
    xmlNode *node;
    guint rank, index;
} RankedChild;

static int compare_ranked(const void *a, const void *b)
{
    const RankedChild *left = a, *right = b;

    if (left->rank != right->rank)
        return left->rank < right->rank ? -1 : 1;
    return left->index < right->index ? -1 : 1;
}

static void sort_children(const XmlconfRecord *record, xmlNode *element, const char *path)
{
    g_autoptr(GArray) children = g_array_new(FALSE, FALSE, sizeof(RankedChild));

    for (xmlNode *child = element->children; child; child = child->next) {
        RankedChild ranked = {child, child_rank(record, path, child), children->len};
        if (child->type == XML_ELEMENT_NODE)
            g_array_append_val(children, ranked);
    }
    if (children->len < 2)
        return;
    qsort(children->data, children->len, sizeof(RankedChild), compare_ranked);
    for (guint i = 0; i < children->len; i++) {
        xmlNode *child = g_array_index(children, RankedChild, i).node;
        xmlUnlinkNode(child);
        xmlAddChild(element, child);
    }
}

static void sort_attributes(const XmlconfRecord *record, xmlNode *element, const char *path)
{
    for (guint i = 0; i < record->n_fields; i++) {
        const char *at = strchr(record->fields[i].path, '@');
        if (!at || strncmp(record->fields[i].path, path, strlen(path)) != 0 ||
            record->fields[i].path + strlen(path) != at)
            continue;
        xmlAttr *attr = xmlHasNsProp(element, BAD_CAST(at + 1), NULL);
        if (!attr)
            continue;
        xmlUnlinkNode((xmlNode *)attr);
        xmlAddChild(element, (xmlNode *)attr);
    }
}

/* Spaces in a container would make it an element with text, which is not indented. */
static void tidy_element(const XmlconfRecord *record, xmlNode *element, const char *path)
{
    guint own_row = find_row(record, path);

    if (own_row == record->n_fields || !record->fields[own_row].type)
        drop_text(element);
    sort_attributes(record, element, path);
    sort_children(record, element, path);
    for (xmlNode *child = element->children; child; child = child->next) {
        if (child_rank(record, path, child) == record->n_fields)
            continue;
        g_autofree char *own = child_path(path, child);
        guint row = find_row(record, own);
        guint flags = row < record->n_fields ? record->fields[row].flags : 0;
        if (!(flags & (XMLCONF_FIELD_OPAQUE | XMLCONF_FIELD_LIST)))
            tidy_element(record, child, own);
    }
}

void xmlconf_record_write(const XmlconfRecord *record, xmlNode *element, gconstpointer base,
                          gboolean live)
{
    for (guint i = 0; i < record->n_fields; i++)
        write_field(record, element, &record->fields[i], base, live);
    tidy_element(record, element, "");
}

void xmlconf_record_clear(const XmlconfRecord *record, gpointer base)
{
    for (guint i = 0; i < record->n_fields; i++) {
        const XmlconfField *field = &record->fields[i];
        if (field->flags & XMLCONF_FIELD_LIST)
            g_clear_pointer((GPtrArray **)field_value(field, base), g_ptr_array_unref);
        else if (field->type && field->type->is_string)
            g_clear_pointer((char **)field_value(field, base), g_free);
    }
    memset(base, 0, record->size);
}

/* A GPtrArray has one free function for all elements and no place for the record: each element
 * carries it. */
typedef struct {
    const XmlconfRecord *record;
    gsize padding; /* what follows is aligned as malloc aligns */
} ItemHeader;

static void free_item(gpointer item)
{
    ItemHeader *header = (ItemHeader *)item - 1;

    xmlconf_record_clear(header->record, item);
    g_free(header);
}

GPtrArray *xmlconf_record_list_new(void)
{
    return g_ptr_array_new_with_free_func(free_item);
}

gpointer xmlconf_record_list_add(GPtrArray *list, const XmlconfRecord *record)
{
    ItemHeader *header = g_malloc0(sizeof(ItemHeader) + record->size);

    header->record = record;
    g_ptr_array_add(list, header + 1);
    return header + 1;
}

static GPtrArray *copy_list(const XmlconfRecord *record, const GPtrArray *list)
{
    GPtrArray *copy = list ? xmlconf_record_list_new() : NULL;

    for (guint i = 0; list && i < list->len; i++)
        xmlconf_record_copy(record, xmlconf_record_list_add(copy, record),
                            g_ptr_array_index(list, i));
    return copy;
}

void xmlconf_record_copy(const XmlconfRecord *record, gpointer to, gconstpointer from)
{
    memcpy(to, from, record->size);
    for (guint i = 0; i < record->n_fields; i++) {
        const XmlconfField *field = &record->fields[i];
        if (field->flags & XMLCONF_FIELD_LIST) {
            GPtrArray **list = field_value(field, to);
            *list = copy_list(field->record, *list);
        } else if (field->type && field->type->is_string) {
            char **text = field_value(field, to);
            *text = g_strdup(*text);
        }
    }
}

char *xmlconf_record_format(const XmlconfRecord *record, gconstpointer base)
{
    g_autoptr(xmlDoc) doc = xmlNewDoc(BAD_CAST "1.0");
    xmlNode *root = xmlNewDocNode(doc, NULL, BAD_CAST record->element, NULL);

    xmlDocSetRootElement(doc, root);
    xmlconf_record_write(record, root, base, TRUE);
    return xmlconf_document_format(root, 0, FALSE);
}
