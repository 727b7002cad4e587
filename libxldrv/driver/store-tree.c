/* What a domain has in xenstore, taken along to where it goes on.
 *
 * Paths begin with D/ for /local/domain/ID, or B/ for the back ends in /local/domain/0/backend, whose number of the domain is
 * left out; so the number may be another one afterwards. Nodes that name the host, or this number, are made anew by whoever
 * starts the domain, and not overwritten.
 */
#include "config.h"

#include "libxldrv/driver/store-nodes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NODES_MAX 8192u
#define DEPTH_MAX 16u

/* A node that was seen: where it is, and what it is called here. */
typedef struct {
    char *path, *name;
    gboolean is_top; /* only what is below it counts */
    GVariant *value, *permissions; /* NULL: not yet */
} Node;

/* The tree is read level by level: all that is asked of a level is asked at once. */
typedef struct {
    GPtrArray *level, *next; /* of Node */
    GVariantBuilder *nodes;
    guint n_nodes;
    int error;
} Reader;

static void free_node(gpointer data)
{
    Node *node = data;

    g_free(node->path);
    g_free(node->name);
    g_clear_pointer(&node->value, g_variant_unref);
    g_clear_pointer(&node->permissions, g_variant_unref);
    g_free(node);
}

static GPtrArray *new_level(void)
{
    return g_ptr_array_new_with_free_func(free_node);
}

static void add_node(GPtrArray *level, char *path, char *name, gboolean is_top)
{
    Node *node = g_new0(Node, 1);

    *node = (Node){.path = path, .name = name, .is_top = is_top};
    g_ptr_array_add(level, node);
}

/* "n3", "r0": a letter and a number. */
static GVariant *parse_permissions(const char *payload, gsize bytes)
{
    GVariantBuilder list;

    g_variant_builder_init(&list, G_VARIANT_TYPE("a(uu)"));
    for (gsize at = 0; at < bytes; at += strlen(payload + at) + 1) {
        const char *letters = "nrwb", *kind = payload[at] ? strchr(letters, payload[at]) : NULL;

        if (kind)
            g_variant_builder_add(&list, "(uu)", (guint)g_ascii_strtoull(payload + at + 1, NULL, 10), (guint)(kind - letters));
    }
    return g_variant_ref_sink(g_variant_builder_end(&list));
}

static void add_children(Reader *r, const Node *node, const char *payload, gsize bytes)
{
    for (gsize at = 0; at < bytes; at += strlen(payload + at) + 1)
        add_node(r->next, g_strconcat(node->path, "/", payload + at, NULL), g_strconcat(node->name, "/", payload + at, NULL),
                 FALSE);
}

/* Each node has three questions: its value, its permissions, what is below it. */
static void take_answer(guint number, int error, const char *payload, gsize bytes, gpointer data)
{
    Reader *r = data;
    Node *node = r->level->pdata[number / 3];

    if (error) {
        r->error = r->error || (node->is_top && error == ENOENT) ? r->error : error;
        return;
    }
    switch (number % 3) {
    case 0:
        node->value = g_variant_ref_sink(g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, payload, bytes, 1));
        return;
    case 1:
        node->permissions = parse_permissions(payload, bytes);
        return;
    default:
        add_children(r, node, payload, bytes);
    }
}

static gboolean read_level(XldrvStoreBatch *batch, Reader *r)
{
    for (guint i = 0; i < r->level->len; i++) {
        const Node *node = r->level->pdata[i];

        xldrv_store_batch_read(batch, node->path);
        xldrv_store_batch_get_permissions(batch, node->path);
        xldrv_store_batch_directory(batch, node->path);
    }
    if (!xldrv_store_batch_run(batch, take_answer, r))
        return FALSE;
    for (guint i = 0; !r->error && i < r->level->len; i++) {
        Node *node = r->level->pdata[i];

        if (!node->is_top)
            g_variant_builder_add(r->nodes, "(s@ay@a(uu))", node->name, node->value, node->permissions);
    }
    r->n_nodes += r->level->len;
    errno = r->error ? r->error : E2BIG;
    return !r->error && r->n_nodes <= NODES_MAX;
}

static void take_kinds(guint number G_GNUC_UNUSED, int error, const char *payload, gsize bytes, gpointer data)
{
    GPtrArray *kinds = data;

    for (gsize at = 0; !error && at < bytes; at += strlen(payload + at) + 1)
        g_ptr_array_add(kinds, g_strdup(payload + at));
}

/* The domain, and its back ends of each kind. */
static gboolean add_tops(XldrvStoreBatch *batch, Reader *r, int id)
{
    g_autoptr(GPtrArray) kinds = g_ptr_array_new_with_free_func(g_free);

    add_node(r->level, g_strdup_printf("/local/domain/%d", id), g_strdup("D"), TRUE);
    xldrv_store_batch_directory(batch, "/local/domain/0/backend");
    if (!xldrv_store_batch_run(batch, take_kinds, kinds))
        return FALSE;
    for (guint i = 0; i < kinds->len; i++)
        add_node(r->level, g_strdup_printf("/local/domain/0/backend/%s/%d", (char *)kinds->pdata[i], id),
                 g_strconcat("B/", kinds->pdata[i], NULL), TRUE);
    return TRUE;
}

static gboolean read_levels(XldrvStoreBatch *batch, Reader *r, int id)
{
    gboolean ok = add_tops(batch, r, id);

    for (guint depth = 0; ok && depth < DEPTH_MAX && r->level->len; depth++) {
        ok = read_level(batch, r);
        g_ptr_array_unref(r->level);
        r->level = r->next;
        r->next = new_level();
    }
    return ok;
}

GVariant *xldrv_store_tree_read(XldrvStoreBatch *batch, int id)
{
    GVariantBuilder nodes;
    Reader r = {.level = new_level(), .next = new_level(), .nodes = &nodes};
    g_autoptr(GVariant) list = NULL;
    gboolean ok;
    int why;

    g_variant_builder_init(&nodes, G_VARIANT_TYPE("a(saya(uu))"));
    ok = read_levels(batch, &r, id);
    why = errno;
    list = g_variant_ref_sink(g_variant_builder_end(&nodes));
    g_ptr_array_unref(r.level);
    g_ptr_array_unref(r.next);
    errno = why;
    return ok ? g_variant_ref_sink(g_variant_new("(i@a(saya(uu)))", id, list)) : NULL;
}

/* ---- writing */

/* Made by who starts the domain: they name the host's things, or the domain's number. */
static gboolean is_of_the_host(const char *name)
{
    static const char *const nodes[] = {"D/vm", "D/name", "D/domid", "D/console/tty", "D/store/ring-ref", "D/store/port",
                                        "D/console/ring-ref", "D/console/port"};
    static const char *const keys[] = {"/backend", "/backend-id", "/frontend", "/frontend-id", "/tty", "/vifname", "/params"};

    for (gsize i = 0; i < G_N_ELEMENTS(nodes); i++) {
        if (strcmp(name, nodes[i]) == 0)
            return TRUE;
    }
    for (gsize i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (g_str_has_suffix(name, keys[i]))
            return TRUE;
    }
    return FALSE;
}

/* NULL for a name that is none. */
static char *path_of(const char *name, int id)
{
    const char *rest = name + 2, *kind_end;

    if (strstr(name, "//") || strstr(name, "..") || strlen(name) > 1024)
        return NULL;
    if (g_str_has_prefix(name, "D/"))
        return g_strdup_printf("/local/domain/%d/%s", id, rest);
    kind_end = g_str_has_prefix(name, "B/") ? strchr(rest, '/') : NULL;
    return kind_end ? g_strdup_printf("/local/domain/0/backend/%.*s/%d%s", (int)(kind_end - rest), rest, id, kind_end)
                    : NULL;
}

static void write_permissions(XldrvStoreBatch *batch, const char *path, GVariant *list, guint old_id, int id)
{
    struct xs_permissions permissions[8];
    gsize n = MIN(g_variant_n_children(list), G_N_ELEMENTS(permissions));

    for (gsize i = 0; i < n; i++) {
        guint who, what;

        g_variant_get_child(list, i, "(uu)", &who, &what);
        permissions[i].id = who == old_id ? (unsigned)id : who;
        permissions[i].perms = what & (XS_PERM_READ | XS_PERM_WRITE);
    }
    if (n)
        xldrv_store_batch_set_permissions(batch, path, permissions, (guint)n);
}

typedef struct {
    int id;
    GVariant *tree;
} Writing;

/* NULL for one that is made by others. */
static char *path_to_write(const char *name, int id)
{
    return is_of_the_host(name) ? NULL : path_of(name, id);
}

static int id_of_tree(GVariant *tree)
{
    int id;

    g_variant_get_child(tree, 0, "i", &id);
    return id;
}

static void write_node(XldrvStoreBatch *batch, GVariant *node, int old_id, int id)
{
    g_autoptr(GVariant) value = g_variant_get_child_value(node, 1), permissions = g_variant_get_child_value(node, 2);
    g_autofree char *path = NULL;
    const char *name, *text;
    gsize bytes;

    g_variant_get_child(node, 0, "&s", &name);
    path = path_to_write(name, id);
    if (!path)
        return;
    text = g_variant_get_fixed_array(value, &bytes, 1);
    xldrv_store_batch_write(batch, path, text ? text : "", bytes);
    write_permissions(batch, path, permissions, (guint)old_id, id);
}

static void write_nodes(XldrvStoreBatch *batch, gconstpointer data)
{
    const Writing *w = data;
    g_autoptr(GVariant) nodes = g_variant_get_child_value(w->tree, 1);
    gsize n = g_variant_n_children(nodes);

    for (gsize i = 0; i < n; i++) {
        g_autoptr(GVariant) node = g_variant_get_child_value(nodes, i);

        write_node(batch, node, id_of_tree(w->tree), w->id);
    }
}

gboolean xldrv_store_tree_write(XldrvStoreBatch *batch, int id, GVariant *tree)
{
    const Writing what = {id, tree};

    return xldrv_store_batch_transaction(batch, write_nodes, &what);
}

/* ---- writing what has changed since */

static GHashTable *nodes_by_name(GVariant *tree)
{
    GHashTable *table = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)g_variant_unref);
    g_autoptr(GVariant) nodes = g_variant_get_child_value(tree, 1);
    gsize n = g_variant_n_children(nodes);

    for (gsize i = 0; i < n; i++) {
        GVariant *node = g_variant_get_child_value(nodes, i);
        const char *name; /* the node keeps it */

        g_variant_get_child(node, 0, "&s", &name);
        g_hash_table_replace(table, (gpointer)name, node);
    }
    return table;
}

static void remove_nodes(XldrvStoreBatch *batch, GHashTable *nodes, int id)
{
    GHashTableIter iter;
    gpointer name;

    g_hash_table_iter_init(&iter, nodes);
    while (g_hash_table_iter_next(&iter, &name, NULL)) {
        g_autofree char *path = path_to_write(name, id);

        if (path)
            xldrv_store_batch_remove(batch, path);
    }
}

void xldrv_store_tree_add_changes(XldrvStoreBatch *batch, int id, GVariant *was, GVariant *now)
{
    g_autoptr(GHashTable) gone = nodes_by_name(was);
    g_autoptr(GVariant) nodes = g_variant_get_child_value(now, 1);
    gsize n = g_variant_n_children(nodes);

    for (gsize i = 0; i < n; i++) {
        g_autoptr(GVariant) node = g_variant_get_child_value(nodes, i);
        GVariant *before;
        const char *name;

        g_variant_get_child(node, 0, "&s", &name);
        before = g_hash_table_lookup(gone, name);
        if (!before || !g_variant_equal(before, node))
            write_node(batch, node, id_of_tree(now), id);
        g_hash_table_remove(gone, name);
    }
    remove_nodes(batch, gone, id);
}
