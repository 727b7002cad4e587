/* Procedures that find and list domains. */
#include "config.h"

#include "libxldrv/driver/access.h"
#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/lookup.h"
#include "libxldrv/driver/save.h"
#include "libxldrv/driver/wire.h"

static GVariant *reply_found(XldrvDomain *domain)
{
    g_autoptr(XldrvDomain) held = domain;

    return xldrv_reply_domain(held);
}

GVariant *xldrv_handle_domain_lookup_by_id(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    int id = xldrv_args_i32(args, 0);
    XldrvDomain *domain = xldrv_domains_find_id(xldrv_driver_get()->domains, id);

    if (domain)
        return reply_found(domain);
    xldrv_set_error(error, VIR_ERR_NO_DOMAIN, "no domain with matching id %d", id);
    return NULL;
}

GVariant *xldrv_handle_domain_lookup_by_name(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                             GError **error)
{
    const char *name = xldrv_args_string(args, 0);
    XldrvDomain *domain = xldrv_domains_find_name(xldrv_driver_get()->domains, name);

    if (domain)
        return reply_found(domain);
    xldrv_set_error(error, VIR_ERR_NO_DOMAIN, "no domain with matching name '%s'", name);
    return NULL;
}

GVariant *xldrv_handle_domain_lookup_by_uuid(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                             GError **error)
{
    g_autoptr(GVariant) bytes = g_variant_get_child_value(args, 0);
    char text[XLDRV_UUID_CHARS + 1];
    const guint8 *uuid;
    XldrvDomain *domain;
    gsize n;

    uuid = g_variant_get_fixed_array(bytes, &n, 1);
    domain = xldrv_domains_find_uuid(xldrv_driver_get()->domains, uuid);
    if (domain)
        return reply_found(domain);
    xldrv_uuid_format(uuid, text);
    xldrv_set_error(error, VIR_ERR_NO_DOMAIN, "no domain with matching uuid '%s'", text);
    return NULL;
}

/* ---- filters of virConnectListAllDomains: or-ed in a group, and-ed between groups */

#define LIST_ACTIVE    (VIR_CONNECT_LIST_DOMAINS_ACTIVE | VIR_CONNECT_LIST_DOMAINS_INACTIVE)
#define LIST_KEPT      (VIR_CONNECT_LIST_DOMAINS_PERSISTENT | VIR_CONNECT_LIST_DOMAINS_TRANSIENT)
#define LIST_STATE                                                                                 \
    (VIR_CONNECT_LIST_DOMAINS_RUNNING | VIR_CONNECT_LIST_DOMAINS_PAUSED |                          \
     VIR_CONNECT_LIST_DOMAINS_SHUTOFF | VIR_CONNECT_LIST_DOMAINS_OTHER)
#define LIST_SAVED     (VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE | VIR_CONNECT_LIST_DOMAINS_NO_MANAGEDSAVE)
#define LIST_AUTOSTART (VIR_CONNECT_LIST_DOMAINS_AUTOSTART | VIR_CONNECT_LIST_DOMAINS_NO_AUTOSTART)
#define LIST_SNAPSHOT  (VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT | VIR_CONNECT_LIST_DOMAINS_NO_SNAPSHOT)
#define LIST_CHECKPOINT                                                                            \
    (VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT | VIR_CONNECT_LIST_DOMAINS_NO_CHECKPOINT)

const guint xldrv_list_filters = LIST_ACTIVE | LIST_KEPT | LIST_STATE | LIST_SAVED | LIST_AUTOSTART |
                                 LIST_SNAPSHOT | LIST_CHECKPOINT;

static guint state_bit(int state)
{
    switch (state) {
    case VIR_DOMAIN_RUNNING:
        return VIR_CONNECT_LIST_DOMAINS_RUNNING;
    case VIR_DOMAIN_PAUSED:
        return VIR_CONNECT_LIST_DOMAINS_PAUSED;
    case VIR_DOMAIN_SHUTOFF:
        return VIR_CONNECT_LIST_DOMAINS_SHUTOFF;
    default:
        return VIR_CONNECT_LIST_DOMAINS_OTHER;
    }
}

/* One bit in each group: what the domain is. */
static guint bits_of(XldrvDomain *domain)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    return (domain->instance ? VIR_CONNECT_LIST_DOMAINS_ACTIVE : VIR_CONNECT_LIST_DOMAINS_INACTIVE) |
           (domain->config ? VIR_CONNECT_LIST_DOMAINS_PERSISTENT : VIR_CONNECT_LIST_DOMAINS_TRANSIENT) |
           state_bit(domain->state) |
           (domain->config && xldrv_managed_has(xldrv_driver_get(), domain->name) ? VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE
                                                                   : VIR_CONNECT_LIST_DOMAINS_NO_MANAGEDSAVE) |
           (domain->autostart ? VIR_CONNECT_LIST_DOMAINS_AUTOSTART
                              : VIR_CONNECT_LIST_DOMAINS_NO_AUTOSTART) |
           (domain->moments[XLDRV_SNAPSHOTS].list->len ? VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT : VIR_CONNECT_LIST_DOMAINS_NO_SNAPSHOT) |
           (domain->moments[XLDRV_CHECKPOINTS].list->len ? VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT
                                                         : VIR_CONNECT_LIST_DOMAINS_NO_CHECKPOINT);
}

gboolean xldrv_list_filter_matches(XldrvDomain *domain, guint filter)
{
    static const guint groups[] = {LIST_ACTIVE,    LIST_KEPT,     LIST_STATE,     LIST_SAVED,
                                   LIST_AUTOSTART, LIST_SNAPSHOT, LIST_CHECKPOINT};
    guint bits;

    if (!filter)
        return TRUE;
    bits = bits_of(domain);
    for (gsize i = 0; i < G_N_ELEMENTS(groups); i++) {
        if (filter & groups[i] && !(filter & groups[i] & bits))
            return FALSE;
    }
    return TRUE;
}

GVariant *xldrv_handle_connect_list_all_domains(XldrvCall *call, GVariant *args,
                                                GError **error)
{
    gboolean need_results = xldrv_args_i32(args, 0) != 0;
    guint filter = xldrv_args_u32(args, 1);
    g_autoptr(GPtrArray) all = NULL;
    GVariantBuilder list;
    guint n = 0;

    if (!xldrv_check_flags(filter, xldrv_list_filters, G_STRFUNC, error))
        return NULL;
    all = xldrv_access_domains(call);
    g_variant_builder_init(&list, G_VARIANT_TYPE("a(sayi)"));
    for (guint i = 0; i < all->len; i++) {
        if (!xldrv_list_filter_matches(all->pdata[i], filter))
            continue;
        n++;
        if (need_results) {
            g_autoptr(GVariant) listed = xldrv_domain_listed(all->pdata[i]);

            g_variant_builder_add_value(&list, listed);
        }
    }
    return g_variant_new("(a(sayi)u)", &list, n);
}

/* ---- the older interface */

/* Without access control nobody walks through the list. */
static GVariant *count(XldrvCall *call, gboolean active)
{
    g_autoptr(GPtrArray) all = NULL;
    int n = 0;

    if (!xldrv_driver_get()->access)
        return xldrv_reply_int(xldrv_domains_count(xldrv_driver_get()->domains, active));
    all = xldrv_access_domains(call);
    for (guint i = 0; i < all->len; i++)
        n += xldrv_domain_is_active(all->pdata[i]) == active;
    return xldrv_reply_int(n);
}

GVariant *xldrv_handle_connect_num_of_domains(XldrvCall *call, GVariant *args G_GNUC_UNUSED,
                                              GError **error G_GNUC_UNUSED)
{
    return count(call, TRUE);
}

GVariant *xldrv_handle_connect_num_of_defined_domains(XldrvCall *call, GVariant *args G_GNUC_UNUSED,
                                                      GError **error G_GNUC_UNUSED)
{
    return count(call, FALSE);
}

GVariant *xldrv_handle_connect_list_domains(XldrvCall *call, GVariant *args, GError **error G_GNUC_UNUSED)
{
    g_autoptr(GPtrArray) all = xldrv_access_domains(call);
    int room = xldrv_args_i32(args, 0);
    GVariantBuilder list;

    g_variant_builder_init(&list, G_VARIANT_TYPE("ai"));
    for (guint i = 0; i < all->len && room > 0; i++) {
        XldrvDomain *domain = all->pdata[i];
        g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

        if (domain->id >= 0) {
            g_variant_builder_add(&list, "i", domain->id);
            room--;
        }
    }
    return g_variant_new("(ai)", &list);
}

GVariant *xldrv_handle_connect_list_defined_domains(XldrvCall *call, GVariant *args, GError **error G_GNUC_UNUSED)
{
    g_autoptr(GPtrArray) all = xldrv_access_domains(call);
    int room = xldrv_args_i32(args, 0);
    GVariantBuilder list;

    g_variant_builder_init(&list, G_VARIANT_TYPE("as"));
    for (guint i = 0; i < all->len && room > 0; i++) {
        XldrvDomain *domain = all->pdata[i];
        g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

        if (domain->id < 0) {
            g_variant_builder_add(&list, "s", domain->name);
            room--;
        }
    }
    return g_variant_new("(as)", &list);
}
