/* What procedures about snapshots and checkpoints have in common: lists, lookups, the tree, deleting. */
#include "config.h"

#include "libxldrv/driver/moments.h"
#include "libxldrv/driver/wire.h"

/* ---- on the wire */

static GVariant *to_wire(XldrvDomain *domain, const char *name)
{
    return g_variant_new("(s@*)", name, xldrv_domain_to_wire(domain));
}

GVariant *xldrv_reply_moment(XldrvDomain *domain, const char *name)
{
    return g_variant_new("(@*)", to_wire(domain, name));
}

XmlconfSnapshot *xldrv_args_moment(XldrvMomentKind kind, GVariant *args, XldrvDomain **domain, GError **error)
{
    g_autoptr(GVariant) value = g_variant_get_child_value(args, 0);
    XmlconfSnapshot *moment;
    const char *name;

    *domain = xldrv_args_domain(args, error);
    if (!*domain)
        return NULL;
    g_variant_get_child(value, 0, "&s", &name);
    moment = xldrv_moments_find(kind, *domain, name, error);
    if (!moment)
        g_clear_pointer(domain, xldrv_domain_unref);
    return moment;
}

/* ---- lists */

static gboolean is_below(const GPtrArray *all, const XmlconfSnapshot *moment, const char *parent, guint flags)
{
    if (!parent)
        return !(flags & VIR_DOMAIN_SNAPSHOT_LIST_ROOTS) || !moment->parent;
    return g_strcmp0(moment->parent, parent) == 0 ||
           (flags & VIR_DOMAIN_SNAPSHOT_LIST_DESCENDANTS && xldrv_moments_descends(all, moment, parent));
}

/* Flags of one group are alternatives. */
static gboolean is_leaf_asked(const GPtrArray *all, const XmlconfSnapshot *moment, guint flags)
{
    guint wanted = flags & (VIR_DOMAIN_SNAPSHOT_LIST_LEAVES | VIR_DOMAIN_SNAPSHOT_LIST_NO_LEAVES);

    return !wanted || wanted & (xldrv_moments_children(all, moment->name) ? VIR_DOMAIN_SNAPSHOT_LIST_NO_LEAVES
                                                                          : VIR_DOMAIN_SNAPSHOT_LIST_LEAVES);
}

GPtrArray *xldrv_moments_select(const XldrvMomentQuery *query, GVariant *args, XldrvDomain **domain, GError **error)
{
    g_autoptr(XmlconfSnapshot) parent = NULL;
    g_autoptr(GPtrArray) all = NULL;
    GPtrArray *some;

    if (query->below)
        parent = xldrv_args_moment(query->kind, args, domain, error);
    else
        *domain = xldrv_args_domain(args, error);
    if (!*domain)
        return NULL;
    all = xldrv_moments_list(query->kind, *domain);
    some = g_ptr_array_new_with_free_func((GDestroyNotify)xmlconf_snapshot_unref);
    for (guint i = 0; i < all->len; i++) {
        XmlconfSnapshot *moment = all->pdata[i];

        if (is_below(all, moment, parent ? parent->name : NULL, query->flags) && is_leaf_asked(all, moment, query->flags) &&
            (!query->matches || query->matches(all, moment, query->flags)))
            g_ptr_array_add(some, xmlconf_snapshot_ref(moment));
    }
    if (query->flags & VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL)
        xldrv_moments_sort(some, all, FALSE);
    return some;
}

GVariant *xldrv_reply_moments(const XldrvMomentQuery *query, GVariant *args, GError **error)
{
    gboolean need_results = xldrv_args_i32(args, 1) != 0;
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(GPtrArray) list = xldrv_moments_select(query, args, &domain, error);
    GVariantBuilder out;

    if (!list)
        return NULL;
    g_variant_builder_init(&out, G_VARIANT_TYPE("a(s(sayi))"));
    for (guint i = 0; need_results && i < list->len; i++)
        g_variant_builder_add_value(&out, to_wire(domain, ((const XmlconfSnapshot *)list->pdata[i])->name));
    return g_variant_new("(a(s(sayi))i)", &out, (int)list->len);
}

/* ---- one of them */

GVariant *xldrv_reply_moment_named(XldrvMomentKind kind, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XmlconfSnapshot) moment =
        domain ? xldrv_moments_find(kind, domain, xldrv_args_string(args, 1), error) : NULL;

    return moment ? xldrv_reply_moment(domain, moment->name) : NULL;
}

GVariant *xldrv_reply_moment_parent(XldrvMomentKind kind, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfSnapshot) moment = xldrv_args_moment(kind, args, &domain, error);
    g_autoptr(XmlconfSnapshot) parent = NULL;

    if (!moment)
        return NULL;
    if (!moment->parent) {
        xldrv_set_error(error, kind == XLDRV_SNAPSHOTS ? VIR_ERR_NO_DOMAIN_SNAPSHOT : VIR_ERR_NO_DOMAIN_CHECKPOINT,
                        "%s '%s' does not have a parent", kind == XLDRV_SNAPSHOTS ? "snapshot" : "checkpoint", moment->name);
        return NULL;
    }
    parent = xldrv_moments_find(kind, domain, moment->parent, error);
    return parent ? xldrv_reply_moment(domain, parent->name) : NULL;
}

/* ---- deleting */

#define CHILDREN      VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN
#define METADATA_ONLY VIR_DOMAIN_SNAPSHOT_DELETE_METADATA_ONLY
#define CHILDREN_ONLY VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN_ONLY

G_STATIC_ASSERT((guint)CHILDREN == (guint)VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN);
G_STATIC_ASSERT((guint)METADATA_ONLY == (guint)VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY);
G_STATIC_ASSERT((guint)CHILDREN_ONLY == (guint)VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN_ONLY);

typedef struct {
    XldrvMomentKind kind;
    XldrvMomentDeleteFn fn;
    XldrvDriver *driver;
    XldrvJob *job;
    guint flags;
} Deletion;

static gboolean delete_one(const Deletion *d, const XmlconfSnapshot *moment, GError **error)
{
    return d->fn(d->driver, d->job, moment, (d->flags & METADATA_ONLY) != 0, error) &&
           xldrv_moments_remove(d->kind, d->driver, d->job, moment->name, error);
}

/* Those below it, the lowest first. */
static gboolean delete_children(const Deletion *d, const XmlconfSnapshot *moment, GError **error)
{
    g_autoptr(GPtrArray) all = xldrv_moments_list(d->kind, d->job), in_order = xldrv_moments_list(d->kind, d->job);

    xldrv_moments_sort(in_order, all, TRUE);
    for (guint i = 0; i < in_order->len; i++) {
        if (xldrv_moments_descends(all, in_order->pdata[i], moment->name) && !delete_one(d, in_order->pdata[i], error))
            return FALSE;
    }
    return TRUE;
}

GVariant *xldrv_moments_delete(XldrvMomentKind kind, GVariant *args, XldrvMomentDeleteFn fn, const char *function,
                               GError **error)
{
    guint flags = xldrv_args_u32(args, 1);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfSnapshot) asked = NULL, moment = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    Deletion d = {.kind = kind, .fn = fn, .driver = xldrv_driver_get(), .flags = flags};

    if (!xldrv_check_flags(flags, CHILDREN | METADATA_ONLY | CHILDREN_ONLY, function, error) ||
        !xldrv_check_exclusive(flags, CHILDREN | CHILDREN_ONLY,
                               kind == XLDRV_SNAPSHOTS
                                   ? "VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN and VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN_ONLY"
                                   : "VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN and VIR_DOMAIN_CHECKPOINT_DELETE_CHILDREN_ONLY",
                               error))
        return NULL;
    asked = xldrv_args_moment(kind, args, &domain, error);
    d.job = job = asked ? xldrv_job_begin(domain, "delete a snapshot or checkpoint of", error) : NULL;
    moment = job ? xldrv_moments_find(kind, job, asked->name, error) : NULL; /* it may have changed while we waited */
    if (!moment || (flags & (CHILDREN | CHILDREN_ONLY) && !delete_children(&d, moment, error)) ||
        (!(flags & CHILDREN_ONLY) && !delete_one(&d, moment, error)))
        return NULL;
    return xldrv_reply_void();
}
