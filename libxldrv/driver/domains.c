/* The list of domains: three hash tables under one lock. */
#include "config.h"

#include "libxldrv/driver/domains.h"

#include <string.h>

struct _XldrvDomains {
    GMutex lock;
    GHashTable *by_uuid; /* owns a reference each; also those not yet visible */
    GHashTable *by_name; /* as by_uuid: a claimed name is taken */
    GHashTable *by_id;
    guint visible;
};

XldrvDomains *xldrv_domains_new(void)
{
    XldrvDomains *domains = g_new0(XldrvDomains, 1);

    g_mutex_init(&domains->lock);
    domains->by_uuid = g_hash_table_new_full(xldrv_uuid_hash, xldrv_uuid_equal, NULL,
                                             (GDestroyNotify)xldrv_domain_unref);
    domains->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    domains->by_id = g_hash_table_new(NULL, NULL);
    return domains;
}

void xldrv_domains_free(XldrvDomains *domains)
{
    if (!domains)
        return;
    g_hash_table_unref(domains->by_id);
    g_hash_table_unref(domains->by_name);
    g_hash_table_unref(domains->by_uuid);
    g_mutex_clear(&domains->lock);
    g_free(domains);
}

static XldrvDomain *find(XldrvDomains *domains, GHashTable *table, gconstpointer key)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domains->lock);
    XldrvDomain *domain = g_hash_table_lookup(table, key);

    return domain && domain->visible ? xldrv_domain_ref(domain) : NULL;
}

XldrvDomain *xldrv_domains_find_uuid(XldrvDomains *domains, const guint8 uuid[XLDRV_UUID_BYTES])
{
    return find(domains, domains->by_uuid, uuid);
}

XldrvDomain *xldrv_domains_find_name(XldrvDomains *domains, const char *name)
{
    return find(domains, domains->by_name, name);
}

XldrvDomain *xldrv_domains_find_id(XldrvDomains *domains, int id)
{
    return find(domains, domains->by_id, GINT_TO_POINTER(id));
}

gboolean xldrv_domains_id_in_use(XldrvDomains *domains, int id)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domains->lock);

    return g_hash_table_contains(domains->by_id, GINT_TO_POINTER(id));
}

/* In libvirt's words: of @domain, which has the UUID, and @holder of the name. */
static void refuse_taken(const XldrvDomain *domain, const XldrvDomain *holder, GError **error)
{
    if (domain)
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "domain '%s' is already defined with uuid %s", domain->name,
                        domain->uuid_text);
    else
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "domain '%s' already exists with uuid %s", holder->name,
                        holder->uuid_text);
}

static XldrvDomain *find_or_add(XldrvDomains *domains, const guint8 *uuid, const char *name,
                                GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domains->lock);
    XldrvDomain *domain = g_hash_table_lookup(domains->by_uuid, uuid);
    XldrvDomain *holder = g_hash_table_lookup(domains->by_name, name);

    if (domain != holder) {
        refuse_taken(domain, holder, error);
        return NULL;
    }
    if (!domain) {
        domain = xldrv_domain_new(uuid, name);
        g_hash_table_insert(domains->by_uuid, domain->uuid, domain);
        g_hash_table_insert(domains->by_name, domain->name, domain);
    }
    return xldrv_domain_ref(domain);
}

XldrvJob *xldrv_domains_claim(XldrvDomains *domains, const char *uuid, const char *name,
                              const char *what, GError **error)
{
    guint8 bytes[XLDRV_UUID_BYTES];

    if (!xldrv_uuid_parse(uuid, bytes)) {
        xldrv_set_error(error, VIR_ERR_XML_ERROR, "malformed uuid '%s'", uuid);
        return NULL;
    }
    for (;;) {
        g_autoptr(XldrvDomain) domain = find_or_add(domains, bytes, name, error);
        g_autoptr(GError) why = NULL;
        XldrvJob *job;

        if (!domain)
            return NULL;
        job = xldrv_job_begin(domain, what, &why);
        if (job && strcmp(job->name, name) == 0)
            return job;
        if (job) { /* renamed while we waited: it no longer is what was asked for */
            xldrv_job_end(job);
            continue;
        }
        /* Somebody's attempt to make this domain failed while we waited: make it ourselves. */
        if (g_error_matches(why, XLDRV_ERROR, VIR_ERR_NO_DOMAIN))
            continue;
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
}

void xldrv_domains_publish(XldrvDomains *domains, XldrvDomain *domain)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domains->lock);

    if (!domain->visible)
        domains->visible++;
    domain->visible = TRUE;
}

void xldrv_domains_remove(XldrvDomains *domains, XldrvDomain *domain)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domains->lock);

    g_mutex_lock(&domain->lock);
    domain->removed = TRUE;
    g_cond_broadcast(&domain->job_ended);
    g_mutex_unlock(&domain->lock);
    if (domain->visible)
        domains->visible--;
    domain->visible = FALSE;
    g_hash_table_remove(domains->by_name, domain->name);
    g_hash_table_remove(domains->by_uuid, domain->uuid);
}

void xldrv_domains_set_id(XldrvDomains *domains, XldrvDomain *domain, int id)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domains->lock);

    g_mutex_lock(&domain->lock);
    if (domain->id >= 0)
        g_hash_table_remove(domains->by_id, GINT_TO_POINTER(domain->id));
    domain->id = id;
    g_clear_pointer(&domain->listed, g_variant_unref);
    if (id >= 0)
        g_hash_table_insert(domains->by_id, GINT_TO_POINTER(id), domain);
    g_mutex_unlock(&domain->lock);
}

gboolean xldrv_domains_rename(XldrvDomains *domains, XldrvDomain *domain, const char *name,
                              GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domains->lock);
    XldrvDomain *holder = g_hash_table_lookup(domains->by_name, name);

    if (holder == domain)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "Can't rename domain to itself");
    if (holder)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "domain with name '%s' already exists", name);
    g_mutex_lock(&domain->lock);
    g_hash_table_remove(domains->by_name, domain->name);
    g_free(domain->name);
    domain->name = g_strdup(name);
    g_clear_pointer(&domain->listed, g_variant_unref);
    g_hash_table_insert(domains->by_name, domain->name, domain);
    g_mutex_unlock(&domain->lock);
    return TRUE;
}

GPtrArray *xldrv_domains_all(XldrvDomains *domains)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domains->lock);
    GPtrArray *all = g_ptr_array_new_full(domains->visible, (GDestroyNotify)xldrv_domain_unref);
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, domains->by_uuid);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        XldrvDomain *domain = value;
        if (domain->visible)
            g_ptr_array_add(all, xldrv_domain_ref(domain));
    }
    return all;
}

guint xldrv_domains_count(XldrvDomains *domains, gboolean active)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domains->lock);
    guint n = g_hash_table_size(domains->by_id);

    return active ? n : domains->visible - n;
}
