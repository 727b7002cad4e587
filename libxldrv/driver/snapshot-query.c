/* Procedures that look at snapshots: lists, lookups, the tree, documents. */
#include "config.h"

#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/snapshot.h"
#include "libxldrv/driver/wire.h"

/* ---- filters
 *
 * libvirt's: flags of one group are alternatives, and a snapshot has to match each group that has any. */

#define LOCATION_FLAGS (VIR_DOMAIN_SNAPSHOT_LIST_INTERNAL | VIR_DOMAIN_SNAPSHOT_LIST_EXTERNAL)
#define STATE_FLAGS                                                                                \
    (VIR_DOMAIN_SNAPSHOT_LIST_INACTIVE | VIR_DOMAIN_SNAPSHOT_LIST_ACTIVE | VIR_DOMAIN_SNAPSHOT_LIST_DISK_ONLY)
#define LEAF_FLAGS     (VIR_DOMAIN_SNAPSHOT_LIST_LEAVES | VIR_DOMAIN_SNAPSHOT_LIST_NO_LEAVES)
#define METADATA_FLAGS (VIR_DOMAIN_SNAPSHOT_LIST_METADATA | VIR_DOMAIN_SNAPSHOT_LIST_NO_METADATA)
/* Its value is that of LIST_ROOTS of a domain's snapshots. */
#define LIST_FLAGS                                                                                 \
    (VIR_DOMAIN_SNAPSHOT_LIST_DESCENDANTS | VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL | LOCATION_FLAGS | STATE_FLAGS | LEAF_FLAGS | \
     METADATA_FLAGS)

static guint state_flag(const XmlconfSnapshot *snapshot)
{
    if (snapshot->state == XMLCONF_SNAPSHOT_DISK_ONLY)
        return VIR_DOMAIN_SNAPSHOT_LIST_DISK_ONLY;
    return snapshot->state == XMLCONF_SNAPSHOT_SHUTOFF ? VIR_DOMAIN_SNAPSHOT_LIST_INACTIVE : VIR_DOMAIN_SNAPSHOT_LIST_ACTIVE;
}

/* All that could be asked for and is true of it; that it has metadata is why it is known. */
static guint flags_of(const XmlconfSnapshot *snapshot)
{
    return VIR_DOMAIN_SNAPSHOT_LIST_METADATA | state_flag(snapshot) |
           (xmlconf_snapshot_is_external(snapshot) ? VIR_DOMAIN_SNAPSHOT_LIST_EXTERNAL : VIR_DOMAIN_SNAPSHOT_LIST_INTERNAL);
}

static gboolean matches(const GPtrArray *all G_GNUC_UNUSED, const XmlconfSnapshot *snapshot, guint flags)
{
    static const guint groups[] = {LOCATION_FLAGS, STATE_FLAGS, METADATA_FLAGS};
    guint has = flags_of(snapshot);

    for (gsize i = 0; i < G_N_ELEMENTS(groups); i++) {
        if (flags & groups[i] && !(flags & groups[i] & has))
            return FALSE;
    }
    return TRUE;
}

/* ---- lists */

static XldrvMomentQuery query_of(gboolean of_snapshot, guint flags)
{
    return (XldrvMomentQuery){.kind = XLDRV_SNAPSHOTS, .below = of_snapshot, .flags = flags, .matches = matches};
}

/* Those that a call asks for: of a domain, or (@of_snapshot) below one of its snapshots. */
static GPtrArray *asked(GVariant *args, gboolean of_snapshot, guint flags, const char *function, GError **error)
{
    const XldrvMomentQuery query = query_of(of_snapshot, flags);
    g_autoptr(XldrvDomain) domain = NULL;

    return xldrv_check_flags(flags, LIST_FLAGS, function, error) ? xldrv_moments_select(&query, args, &domain, error) : NULL;
}

static GVariant *count(GVariant *args, gboolean of_snapshot, const char *function, GError **error)
{
    g_autoptr(GPtrArray) list = asked(args, of_snapshot, xldrv_args_u32(args, 1), function, error);

    return list ? xldrv_reply_int((int)list->len) : NULL;
}

static GVariant *names(GVariant *args, gboolean of_snapshot, const char *function, GError **error)
{
    int room = xldrv_args_i32(args, 1);
    g_autoptr(GPtrArray) list = asked(args, of_snapshot, xldrv_args_u32(args, 2), function, error);
    GVariantBuilder out;

    if (!list)
        return NULL;
    g_variant_builder_init(&out, G_VARIANT_TYPE("as"));
    for (guint i = 0; i < list->len && (int)i < room; i++)
        g_variant_builder_add(&out, "s", ((const XmlconfSnapshot *)list->pdata[i])->name);
    return g_variant_new("(as)", &out);
}

static GVariant *all(GVariant *args, gboolean of_snapshot, const char *function, GError **error)
{
    const XldrvMomentQuery query = query_of(of_snapshot, xldrv_args_u32(args, 2));

    return xldrv_check_flags(query.flags, LIST_FLAGS, function, error) ? xldrv_reply_moments(&query, args, error) : NULL;
}

GVariant *xldrv_handle_domain_snapshot_num(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return count(args, FALSE, G_STRFUNC, error);
}

GVariant *xldrv_handle_domain_snapshot_num_children(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return count(args, TRUE, G_STRFUNC, error);
}

GVariant *xldrv_handle_domain_snapshot_list_names(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return names(args, FALSE, G_STRFUNC, error);
}

GVariant *xldrv_handle_domain_snapshot_list_children_names(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return names(args, TRUE, G_STRFUNC, error);
}

GVariant *xldrv_handle_domain_list_all_snapshots(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return all(args, FALSE, G_STRFUNC, error);
}

GVariant *xldrv_handle_domain_snapshot_list_all_children(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return all(args, TRUE, G_STRFUNC, error);
}

/* ---- one of them */

GVariant *xldrv_handle_domain_snapshot_lookup_by_name(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error)
               ? xldrv_reply_moment_named(XLDRV_SNAPSHOTS, args, error)
               : NULL;
}

GVariant *xldrv_handle_domain_has_current_snapshot(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;
    g_autofree char *name = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error) || !(domain = xldrv_args_domain(args, error)))
        return NULL;
    name = xldrv_moments_current(XLDRV_SNAPSHOTS, domain);
    return xldrv_reply_int(name != NULL);
}

GVariant *xldrv_handle_domain_snapshot_current(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;
    g_autofree char *name = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error) || !(domain = xldrv_args_domain(args, error)))
        return NULL;
    name = xldrv_moments_current(XLDRV_SNAPSHOTS, domain);
    if (name)
        return xldrv_reply_moment(domain, name);
    xldrv_set_error(error, VIR_ERR_NO_DOMAIN_SNAPSHOT, "the domain does not have a current snapshot");
    return NULL;
}

/* What a call without flags is about. */
static XmlconfSnapshot *asked_snapshot(GVariant *args, const char *function, XldrvDomain **domain, GError **error)
{
    return xldrv_check_flags(xldrv_args_u32(args, 1), 0, function, error) ? xldrv_args_moment(XLDRV_SNAPSHOTS, args, domain, error) : NULL;
}

GVariant *xldrv_handle_domain_snapshot_get_parent(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error)
               ? xldrv_reply_moment_parent(XLDRV_SNAPSHOTS, args, error)
               : NULL;
}

GVariant *xldrv_handle_domain_snapshot_is_current(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfSnapshot) snapshot = asked_snapshot(args, G_STRFUNC, &domain, error);
    g_autofree char *current = snapshot ? xldrv_moments_current(XLDRV_SNAPSHOTS, domain) : NULL;

    return snapshot ? xldrv_reply_int(g_strcmp0(current, snapshot->name) == 0) : NULL;
}

GVariant *xldrv_handle_domain_snapshot_has_metadata(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfSnapshot) snapshot = asked_snapshot(args, G_STRFUNC, &domain, error);

    return snapshot ? xldrv_reply_int(1) : NULL;
}

GVariant *xldrv_handle_domain_snapshot_get_xml_desc(XldrvCall *call, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 1);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfSnapshot) snapshot = NULL;
    g_autoptr(GError) why = NULL;
    g_autofree char *xml = NULL;

    if (!xldrv_check_flags(flags, VIR_DOMAIN_SNAPSHOT_XML_SECURE, G_STRFUNC, error))
        return NULL;
    if (flags & VIR_DOMAIN_SNAPSHOT_XML_SECURE && xldrv_client_is_readonly(xldrv_call_client(call))) {
        xldrv_set_error(error, VIR_ERR_OPERATION_DENIED, "virDomainSnapshotGetXMLDesc with secure flag");
        return NULL;
    }
    snapshot = xldrv_args_moment(XLDRV_SNAPSHOTS, args, &domain, error);
    if (!snapshot)
        return NULL;
    xml = xmlconf_snapshot_format(snapshot, flags & VIR_DOMAIN_SNAPSHOT_XML_SECURE ? XMLCONF_FORMAT_SECURE : 0, &why);
    if (!xml)
        xldrv_set_xml_error(error, g_steal_pointer(&why));
    return xml ? xldrv_reply_string(xml) : NULL;
}
