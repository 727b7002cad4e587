/* cpu-map: libvirt's files of CPU models and features, read. */
#include "config.h"

#include "xmlconf/cpu-map.h"

#include <string.h>

#include "xmlconf/document.h"

#define INDEX_FILE "index.xml"
#define ARCH       "x86"

static void clear_feature(gpointer data)
{
    g_free(((XmlconfCpuMapFeature *)data)->name);
}

static void clear_model(gpointer data)
{
    XmlconfCpuMapModel *model = data;

    g_free(model->name);
    g_free(model->vendor);
}

static void clear_vendor(gpointer data)
{
    XmlconfCpuMapVendor *vendor = data;

    g_free(vendor->name);
    g_free(vendor->signature);
}

static GArray *array_of(guint size, GDestroyNotify clear)
{
    GArray *array = g_array_new(FALSE, TRUE, size);

    g_array_set_clear_func(array, clear);
    return array;
}

void xmlconf_cpu_map_free(XmlconfCpuMap *map)
{
    if (!map)
        return;
    g_array_unref(map->features);
    g_array_unref(map->models);
    g_array_unref(map->vendors);
    g_free(map);
}

/* ---- looking up */

int xmlconf_cpu_map_feature(const XmlconfCpuMap *map, const char *name)
{
    for (guint i = 0; i < map->features->len; i++) {
        if (strcmp(xmlconf_cpu_map_get(map, i)->name, name) == 0)
            return (int)i;
    }
    return -1;
}

const XmlconfCpuMapModel *xmlconf_cpu_map_model(const XmlconfCpuMap *map, const char *name)
{
    for (guint i = 0; i < map->models->len; i++) {
        const XmlconfCpuMapModel *model = &g_array_index(map->models, XmlconfCpuMapModel, i);
        if (strcmp(model->name, name) == 0)
            return model;
    }
    return NULL;
}

const char *xmlconf_cpu_map_vendor(const XmlconfCpuMap *map, const char *signature)
{
    for (guint i = 0; i < map->vendors->len; i++) {
        const XmlconfCpuMapVendor *vendor = &g_array_index(map->vendors, XmlconfCpuMapVendor, i);
        if (strcmp(vendor->signature, signature) == 0)
            return vendor->name;
    }
    return NULL;
}

GPtrArray *xmlconf_cpu_map_models(const XmlconfCpuMap *map)
{
    GPtrArray *names = g_ptr_array_new();

    for (guint i = 0; i < map->models->len; i++)
        g_ptr_array_add(names, g_array_index(map->models, XmlconfCpuMapModel, i).name);
    return names;
}

/* ---- reading: what has no name, or has too much, is left out */

static char *attribute(xmlNode *element, const char *name)
{
    xmlChar *value = xmlGetNoNsProp(element, BAD_CAST name);
    char *copy = g_strdup((const char *)value);

    xmlFree(value);
    return copy;
}

static guint32 number(xmlNode *element, const char *name)
{
    g_autofree char *text = attribute(element, name);

    return text ? (guint32)g_ascii_strtoull(text, NULL, 0) : 0;
}

static gboolean is(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && strcmp((const char *)node->name, name) == 0;
}

static void read_feature(XmlconfCpuMap *map, xmlNode *element)
{
    static const char *const regs[] = {"eax", "ebx", "ecx", "edx"};
    g_autofree char *migratable = attribute(element, "migratable");
    XmlconfCpuMapFeature feature = {.name = attribute(element, "name"),
                                    .migratable = g_strcmp0(migratable, "no") != 0};

    if (!feature.name || map->features->len == XMLCONF_CPU_MAX_FEATURES) {
        g_free(feature.name);
        return;
    }
    for (xmlNode *child = element->children; child; child = child->next) {
        if (!is(child, "cpuid"))
            continue;
        feature.bits.leaf = number(child, "eax_in");
        feature.bits.subleaf = number(child, "ecx_in");
        for (guint i = 0; i < G_N_ELEMENTS(regs); i++)
            feature.bits.regs[i] = number(child, regs[i]);
    }
    g_array_append_val(map->features, feature);
}

static void read_vendor(XmlconfCpuMap *map, xmlNode *element)
{
    XmlconfCpuMapVendor vendor = {attribute(element, "name"), attribute(element, "string")};

    if (vendor.name && vendor.signature)
        g_array_append_val(map->vendors, vendor);
    else
        clear_vendor(&vendor);
}

/* Features that a model once had are not taken for its own. */
static void read_model_feature(const XmlconfCpuMap *map, XmlconfCpuMapModel *model, xmlNode *element)
{
    g_autofree char *name = attribute(element, "name");
    g_autofree char *removed = attribute(element, "removed");
    int feature = name ? xmlconf_cpu_map_feature(map, name) : -1;

    if (feature >= 0 && g_strcmp0(removed, "yes") != 0)
        xmlconf_cpu_add(&model->features, (guint)feature);
}

static void read_model_part(const XmlconfCpuMap *map, XmlconfCpuMapModel *model, xmlNode *element)
{
    g_autofree char *guest = is(element, "decode") ? attribute(element, "guest") : NULL;

    if (guest)
        model->guest = strcmp(guest, "off") != 0;
    if (is(element, "vendor") && !model->vendor)
        model->vendor = attribute(element, "name");
    if (is(element, "feature"))
        read_model_feature(map, model, element);
}

static void read_model(XmlconfCpuMap *map, xmlNode *element)
{
    XmlconfCpuMapModel model = {.name = attribute(element, "name"), .guest = TRUE};

    if (!model.name)
        return;
    for (xmlNode *child = element->children; child; child = child->next)
        read_model_part(map, &model, child);
    g_array_append_val(map->models, model);
}

static xmlDoc *read_file(const char *folder, const char *name, GError **error)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_autofree char *text = NULL;

    if (g_file_get_contents(path, &text, NULL, error))
        return xmlconf_document_parse(text, path, error);
    g_prefix_error(error, "libvirt's CPU map: ");
    return NULL;
}

static gboolean read_include(XmlconfCpuMap *map, const char *folder, const char *name, GError **error)
{
    g_autoptr(xmlDoc) doc = strchr(name, '/') ? NULL : read_file(folder, name, error);

    if (!doc)
        return FALSE;
    for (xmlNode *node = xmlDocGetRootElement(doc)->children; node; node = node->next) {
        if (is(node, "feature"))
            read_feature(map, node);
        else if (is(node, "vendor"))
            read_vendor(map, node);
        else if (is(node, "model"))
            read_model(map, node);
    }
    return TRUE;
}

/* The files come in an order in which what is named is known. */
static gboolean read_arch(XmlconfCpuMap *map, const char *folder, xmlNode *arch, GError **error)
{
    for (xmlNode *node = arch->children; node; node = node->next) {
        g_autofree char *name = is(node, "include") ? attribute(node, "filename") : NULL;
        if (name && !read_include(map, folder, name, error))
            return FALSE;
    }
    return TRUE;
}

XmlconfCpuMap *xmlconf_cpu_map_load(const char *folder, GError **error)
{
    g_autoptr(xmlDoc) index = read_file(folder, INDEX_FILE, error);
    g_autoptr(XmlconfCpuMap) map = NULL;

    if (!index)
        return NULL;
    map = g_new0(XmlconfCpuMap, 1);
    map->features = array_of(sizeof(XmlconfCpuMapFeature), clear_feature);
    map->models = array_of(sizeof(XmlconfCpuMapModel), clear_model);
    map->vendors = array_of(sizeof(XmlconfCpuMapVendor), clear_vendor);
    for (xmlNode *node = xmlDocGetRootElement(index)->children; node; node = node->next) {
        g_autofree char *arch = is(node, "arch") ? attribute(node, "name") : NULL;
        if (g_strcmp0(arch, ARCH) == 0 && !read_arch(map, folder, node, error))
            return NULL;
    }
    return g_steal_pointer(&map);
}
