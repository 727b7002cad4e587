/* vnuma = [ [ "pnode=0", "size=512", "vcpus=0-1", "vdistances=10,20" ], ... ] both ways.
 *
 * Memory of a guest is placed as a whole here, so all nodes have to be of one physical node, or of none. */
#include "config.h"

#include <string.h>

#include "xmlconf/xlcfg/xlcfg.h"

#define KEY "vnuma"

typedef struct {
    const char *pnode, *size, *vcpus, *vdistances; /* NULL: not said */
} Node;

static const struct {
    const char *name;
    gsize offset;
} options[] = {
    {"pnode", G_STRUCT_OFFSET(Node, pnode)},
    {"size", G_STRUCT_OFFSET(Node, size)},
    {"vcpus", G_STRUCT_OFFSET(Node, vcpus)},
    {"vdistances", G_STRUCT_OFFSET(Node, vdistances)},
};

/* ---- reading */

static gboolean take_option(Node *node, const char *spec, GError **error)
{
    const char *equals = strchr(spec, '=');

    for (gsize i = 0; equals && i < G_N_ELEMENTS(options); i++) {
        const char **value = (const char **)((char *)node + options[i].offset);
        if (strlen(options[i].name) != (gsize)(equals - spec) || strncmp(spec, options[i].name, (gsize)(equals - spec)) != 0)
            continue;
        if (*value)
            return xmlconf_xlcfg_fail(KEY, spec, "is there more than once", error);
        *value = equals + 1;
        return TRUE;
    }
    return xmlconf_xlcfg_fail(KEY, spec, "is not known", error);
}

static gboolean read_node(XLU_Config *cfg, XLU_ConfigValue *item, Node *node, GError **error)
{
    XLU_ConfigList *list;
    const char *spec;

    if (!item || xlu_cfg_value_type(item) != XLU_LIST || xlu_cfg_value_get_list(cfg, item, &list, 1) != 0)
        return xmlconf_xlcfg_fail(KEY, "[...]", "is not a list of lists", error);
    for (int i = 0; xlu_cfg_get_listitem2(list, i); i++) {
        spec = xlu_cfg_get_listitem(list, i);
        if (!spec)
            return xmlconf_xlcfg_fail(KEY, "[...]", "is not a list of lists of strings", error);
        if (!take_option(node, spec, error))
            return FALSE;
    }
    return node->size || xmlconf_xlcfg_fail(KEY, "[...]", "a node has no size", error);
}

static gboolean put_distances(xmlNode *cell, const char *text, int nodes, GError **error)
{
    g_auto(GStrv) values = g_strsplit(text, ",", -1);

    if (g_strv_length(values) != (guint)nodes)
        return xmlconf_xlcfg_fail(KEY, text, "is not a distance to each of the nodes", error);
    for (int i = 0; i < nodes; i++) {
        xmlNode *sibling = xmlNewChild(i ? cell->children : xmlNewChild(cell, NULL, BAD_CAST "distances", NULL), NULL,
                                       BAD_CAST "sibling", NULL);
        g_autofree char *id = g_strdup_printf("%d", i);
        if (!xmlconf_xlcfg_put(sibling, "@id", id, KEY, error) ||
            !xmlconf_xlcfg_put(sibling, "@value", g_strstrip(values[i]), KEY, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean put_node(xmlNode *numa, const Node *node, int nodes, GError **error)
{
    xmlNode *cell = xmlNewChild(numa, NULL, BAD_CAST "cell", NULL);

    return xmlconf_xlcfg_put(cell, "@memory", node->size, KEY, error) &&
           xmlconf_xlcfg_put(cell, "@unit", "MiB", KEY, error) &&
           (!node->vcpus || xmlconf_xlcfg_put(cell, "@cpus", node->vcpus, KEY, error)) &&
           (!node->vdistances || put_distances(cell, node->vdistances, nodes, error));
}

/* Adds a node's size to the sum of all, and sees that it is on the physical node of the first. */
static gboolean add_up(const Node *node, const Node *first, guint64 *mib, GError **error)
{
    guint64 size;

    if (!g_ascii_string_to_unsigned(node->size, 10, 0, G_MAXUINT32, &size, NULL))
        return xmlconf_xlcfg_fail(KEY, node->size, "is not a number of MiB", error);
    *mib += size;
    return g_strcmp0(node->pnode, first->pnode) == 0 ||
           xmlconf_xlcfg_fail("pnode", node->pnode ? node->pnode : "", "all memory of a guest is placed alike", error);
}

static gboolean put_placement(xmlNode *root, const char *pnode, GError **error)
{
    return !pnode || (xmlconf_xlcfg_put(root, "numatune/memory@mode", "strict", KEY, error) &&
                      xmlconf_xlcfg_put(root, "numatune/memory@nodeset", pnode, KEY, error));
}

gboolean xmlconf_xlcfg_put_vnuma(XLU_Config *cfg, xmlNode *root, guint64 *mib, GError **error)
{
    XLU_ConfigList *list;
    xmlNode *numa;
    Node first = {0};
    int n = 0;

    *mib = 0;
    if (xlu_cfg_get_list(cfg, KEY, &list, &n, 1) != 0 || n == 0)
        return TRUE;
    numa = xmlNewChild(xmlNewChild(root, NULL, BAD_CAST "cpu", NULL), NULL, BAD_CAST "numa", NULL);
    for (int i = 0; i < n; i++) {
        Node node = {0};
        if (!read_node(cfg, xlu_cfg_get_listitem2(list, i), &node, error))
            return FALSE;
        if (i == 0)
            first = node;
        if (!put_node(numa, &node, n, error) || !add_up(&node, &first, mib, error))
            return FALSE;
    }
    return put_placement(root, first.pnode, error);
}

/* ---- writing */

static void append_node(GString *out, const XmlconfDomainConfig *config, guint index)
{
    const GPtrArray *cells = config->cpu.cells;
    const XmlconfNumaCell *cell = cells->pdata[index];

    g_string_append(out, index ? ",\n    [ " : "[ ");
    if (config->numatune.mode)
        g_string_append_printf(out, "\"pnode=%s\", ", config->numatune.nodeset);
    g_string_append_printf(out, "\"size=%" G_GUINT64_FORMAT "\"", cell->memory_kib / 1024);
    if (cell->cpus)
        g_string_append_printf(out, ", \"vcpus=%s\"", cell->cpus);
    g_string_append(out, ", \"vdistances=");
    for (guint to = 0; to < cells->len; to++)
        g_string_append_printf(out, "%s%u", to ? "," : "", xmlconf_numa_distance(cells, index, to));
    g_string_append(out, "\" ]");
}

static gboolean is_one_node(const char *nodeset)
{
    return strspn(nodeset, "0123456789") == strlen(nodeset);
}

const char *xmlconf_xlcfg_add_vnuma(GString *out, const XmlconfDomainConfig *config)
{
    const GPtrArray *cells = config->cpu.cells;
    guint n = cells ? cells->len : 0;

    if (config->numatune.mode && (!n || config->numatune.mode != XMLCONF_NUMA_STRICT || !is_one_node(config->numatune.nodeset)))
        return "memory on certain NUMA nodes (<numatune>) but strictly on one, of a guest with NUMA nodes of its own";
    for (guint i = 0; i < n; i++) {
        const XmlconfNumaCell *cell = cells->pdata[i];
        if (cell->memory_kib % 1024)
            return "NUMA nodes whose memory is not a number of MiB";
    }
    if (n)
        g_string_append(out, "vnuma = [ ");
    for (guint i = 0; i < n; i++)
        append_node(out, config, i);
    if (n)
        g_string_append(out, " ]\n");
    return NULL;
}
