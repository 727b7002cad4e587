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
#define TRIES     20

/* Of one side's tree: where it is, and how its paths begin. */
typedef struct {
    struct xs_handle *handle;
    xs_transaction_t transaction;
    GVariantBuilder *nodes;
    guint n_nodes;
    gboolean ok;
} Reader;

static GVariant *read_permissions(Reader *r, const char *path)
{
    GVariantBuilder list;
    unsigned n = 0;
    struct xs_permissions *permissions = xs_get_permissions(r->handle, r->transaction, path, &n);

    g_variant_builder_init(&list, G_VARIANT_TYPE("a(uu)"));
    for (unsigned i = 0; permissions && i < n; i++)
        g_variant_builder_add(&list, "(uu)", permissions[i].id, (guint)permissions[i].perms);
    free(permissions);
    return g_variant_builder_end(&list);
}

static void read_node(Reader *r, const char *path, const char *name)
{
    unsigned bytes = 0;
    char *value = xs_read(r->handle, r->transaction, path, &bytes);

    if (value && ++r->n_nodes > NODES_MAX) {
        free(value);
        value = NULL;
        errno = E2BIG;
    }
    if (!value) {
        r->ok = FALSE;
        return;
    }
    g_variant_builder_add(r->nodes, "(s@ay@a(uu))", name,
                          g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, value, bytes, 1), read_permissions(r, path));
    free(value);
}

static void read_below(Reader *r, const char *path, const char *name, guint depth)
{
    unsigned n = 0;
    char **entries = xs_directory(r->handle, r->transaction, path, &n);

    for (unsigned i = 0; entries && r->ok && depth < DEPTH_MAX && i < n; i++) {
        g_autofree char *child = g_strconcat(path, "/", entries[i], NULL);
        g_autofree char *child_name = g_strconcat(name, "/", entries[i], NULL);

        read_node(r, child, child_name);
        if (r->ok)
            read_below(r, child, child_name, depth + 1);
    }
    free(entries);
}

static void read_back_ends(Reader *r, int id)
{
    unsigned n = 0;
    char **kinds = xs_directory(r->handle, r->transaction, "/local/domain/0/backend", &n);

    for (unsigned i = 0; kinds && i < n; i++) {
        g_autofree char *path = g_strdup_printf("/local/domain/0/backend/%s/%d", kinds[i], id);
        g_autofree char *name = g_strconcat("B/", kinds[i], NULL);

        read_below(r, path, name, 0);
    }
    free(kinds);
}

GVariant *xldrv_store_tree_read(struct xs_handle *handle, int id)
{
    g_autofree char *base = g_strdup_printf("/local/domain/%d", id);
    GVariantBuilder nodes;
    Reader r = {handle, xs_transaction_start(handle), &nodes, 0, TRUE};
    GVariant *list, *tree;

    if (!r.transaction)
        return NULL;
    g_variant_builder_init(&nodes, G_VARIANT_TYPE("a(saya(uu))"));
    read_below(&r, base, "D", 0);
    if (r.ok)
        read_back_ends(&r, id);
    xs_transaction_end(handle, r.transaction, true); /* nothing was written */
    list = g_variant_ref_sink(g_variant_builder_end(&nodes));
    if (!r.ok) {
        g_variant_unref(list);
        return NULL;
    }
    tree = g_variant_ref_sink(g_variant_new("(i@a(saya(uu)))", id, list));
    g_variant_unref(list);
    return tree;
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

static gboolean write_permissions(struct xs_handle *handle, xs_transaction_t transaction, const char *path, GVariant *list,
                                  guint old_id, int id)
{
    struct xs_permissions permissions[8];
    gsize n = MIN(g_variant_n_children(list), G_N_ELEMENTS(permissions));

    for (gsize i = 0; i < n; i++) {
        guint who, what;

        g_variant_get_child(list, i, "(uu)", &who, &what);
        permissions[i].id = who == old_id ? (unsigned)id : who;
        permissions[i].perms = what & (XS_PERM_READ | XS_PERM_WRITE);
    }
    return !n || xs_set_permissions(handle, transaction, path, permissions, (unsigned)n);
}

static gboolean write_nodes(struct xs_handle *handle, xs_transaction_t transaction, int id, guint old_id, GVariant *nodes)
{
    GVariantIter iter;
    const char *name;
    GVariant *value, *permissions;
    gboolean ok = TRUE;

    g_variant_iter_init(&iter, nodes);
    while (ok && g_variant_iter_next(&iter, "(&s@ay@a(uu))", &name, &value, &permissions)) {
        g_autofree char *path = is_of_the_host(name) ? NULL : path_of(name, id);
        gsize bytes;
        const char *text = g_variant_get_fixed_array(value, &bytes, 1);

        if (path)
            ok = xs_write(handle, transaction, path, text ? text : "", (unsigned)bytes) &&
                 write_permissions(handle, transaction, path, permissions, old_id, id);
        g_variant_unref(value);
        g_variant_unref(permissions);
    }
    return ok;
}

gboolean xldrv_store_tree_write(struct xs_handle *handle, int id, GVariant *tree)
{
    g_autoptr(GVariant) nodes = g_variant_get_child_value(tree, 1);
    int old_id;

    g_variant_get_child(tree, 0, "i", &old_id);
    for (int i = 0; i < TRIES; i++) {
        xs_transaction_t transaction = xs_transaction_start(handle);
        gboolean ok = transaction && write_nodes(handle, transaction, id, (guint)old_id, nodes);
        int why = errno;

        if (transaction && xs_transaction_end(handle, transaction, !ok) && ok)
            return TRUE;
        if (!ok) {
            errno = why;
            return FALSE;
        }
        if (errno != EAGAIN)
            return FALSE;
    }
    return FALSE;
}
