/* Access control: the terms of a row, asked one by one. */
#include "config.h"

#include "libxldrv/driver/access.h"

#include <string.h>

#include "libxldrv/driver/acl.h"
#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/rpc/polkit.h"

/* What polkit's rules know our connections by. Source: libvirt aclpolkit.html, "Connection Driver Name". */
#define DRIVER_NAME "Xen"

struct _XldrvAccess {
    XldrvPolkit *polkit; /* self-locking */
};

XldrvAccess *xldrv_access_new(void)
{
    XldrvAccess *access = g_new0(XldrvAccess, 1);

    access->polkit = xldrv_polkit_new();
    return access;
}

void xldrv_access_stop(XldrvAccess *access)
{
    if (access)
        xldrv_polkit_cancel(access->polkit);
}

void xldrv_access_free(XldrvAccess *access)
{
    if (!access)
        return;
    xldrv_polkit_free(access->polkit);
    g_free(access);
}

/* ---- one question */

static GVariant *details_of(const char *name, const char *uuid)
{
    GVariantBuilder details;

    g_variant_builder_init(&details, G_VARIANT_TYPE("a{ss}"));
    g_variant_builder_add(&details, "{ss}", "connect_driver", DRIVER_NAME);
    if (name) {
        g_variant_builder_add(&details, "{ss}", "domain_name", name);
        g_variant_builder_add(&details, "{ss}", "domain_uuid", uuid);
    }
    return g_variant_builder_end(&details);
}

/* @name of NULL: about the connection. */
static gboolean ask(XldrvAccess *access, XldrvClient *client, const char *action, const char *name, const char *uuid,
                    GError **error)
{
    g_autoptr(GError) why = NULL;
    XldrvPeer peer;

    xldrv_client_subject(client, &peer);
    if (xldrv_polkit_check(access->polkit, &peer, action, details_of(name, uuid), &why))
        return TRUE;
    if (name)
        return xldrv_set_error_from(error, VIR_FROM_ACCESS, VIR_ERR_ACCESS_DENIED, "'%s' for domain '%s' denied (%s)",
                                    action, name, why->message);
    return xldrv_set_error_from(error, VIR_FROM_ACCESS, VIR_ERR_ACCESS_DENIED, "'%s' denied (%s)", action, why->message);
}

static gboolean ask_domain(XldrvAccess *access, XldrvClient *client, const char *action, XldrvDomain *domain,
                           GError **error)
{
    g_autofree char *name = xldrv_domain_get_name(domain);

    return ask(access, client, action, name, domain->uuid_text, error);
}

/* ---- the domain of a call */

static XldrvDomain *by_id(GVariant *args)
{
    return xldrv_domains_find_id(xldrv_driver_get()->domains, xldrv_args_i32(args, 0));
}

static XldrvDomain *by_name(GVariant *args)
{
    return xldrv_domains_find_name(xldrv_driver_get()->domains, xldrv_args_string(args, 0));
}

static XldrvDomain *by_uuid(GVariant *args)
{
    g_autoptr(GVariant) bytes = g_variant_get_child_value(args, 0);
    gsize n;

    return xldrv_domains_find_uuid(xldrv_driver_get()->domains, g_variant_get_fixed_array(bytes, &n, 1));
}

/* Procedures whose first argument is no domain: how it is found, or that their handlers check it. */
static const struct {
    const char *name;
    XldrvDomain *(*find)(GVariant *args); /* NULL: the handler, by xldrv_access_check_config */
} others[] = {
    {"DOMAIN_LOOKUP_BY_ID", by_id},
    {"DOMAIN_LOOKUP_BY_NAME", by_name},
    {"DOMAIN_LOOKUP_BY_UUID", by_uuid},
    {"DOMAIN_CREATE_XML", NULL},
    {"DOMAIN_DEFINE_XML", NULL},
    {"DOMAIN_DEFINE_XML_FLAGS", NULL},
    {"DOMAIN_RESTORE", NULL},
    {"DOMAIN_RESTORE_FLAGS", NULL},
    {"DOMAIN_RESTORE_PARAMS", NULL},
    {"DOMAIN_SAVE_IMAGE_GET_XML_DESC", NULL},
    {"DOMAIN_SAVE_IMAGE_DEFINE_XML", NULL},
    {"DOMAIN_MIGRATE_PREPARE3", NULL},
    {"DOMAIN_MIGRATE_PREPARE3_PARAMS", NULL},
    {"DOMAIN_MIGRATE_PREPARE_TUNNEL3_PARAMS", NULL},
    {"DOMAIN_MIGRATE_FINISH3", NULL},
    {"DOMAIN_MIGRATE_FINISH3_PARAMS", NULL},
};

static int find_other(const XldrvProcedure *procedure)
{
    for (gsize i = 0; i < G_N_ELEMENTS(others); i++) {
        if (strcmp(others[i].name, procedure->name) == 0)
            return (int)i;
    }
    return -1;
}

static gboolean names_domain(const XldrvProcedure *procedure)
{
    return procedure->args[0] && strchr("DHK", procedure->args[0]); /* a domain, a snapshot or a checkpoint of one */
}

gboolean xldrv_access_covers(const XldrvProcedure *procedure)
{
    return names_domain(procedure) || find_other(procedure) >= 0;
}

/* A domain that is not there is no secret: the handler says so. */
static gboolean check_domain(XldrvAccess *access, XldrvCall *call, const char *action, GVariant *args, GError **error)
{
    const XldrvProcedure *procedure = xldrv_call_procedure(call);
    int other = find_other(procedure);
    g_autoptr(XldrvDomain) domain = NULL;

    if (names_domain(procedure)) {
        domain = xldrv_args_domain(args, error);
        return domain && ask_domain(access, xldrv_call_client(call), action, domain, error);
    }
    if (other < 0)
        return xldrv_set_error_from(error, VIR_FROM_ACCESS, VIR_ERR_ACCESS_DENIED, "nothing is known of %s",
                                    procedure->name);
    if (!others[other].find)
        return TRUE;
    domain = others[other].find(args);
    return !domain || ask_domain(access, xldrv_call_client(call), action, domain, error);
}

/* ---- the terms of a row */

static gboolean is_domain(const XldrvAclTerm *term)
{
    return strcmp(term->object, "domain") == 0;
}

gboolean xldrv_access_check(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvAccess *access = xldrv_driver_get()->access;
    g_autoptr(GPtrArray) terms = NULL;

    if (access && xldrv_call_put_off(call))
        return FALSE;
    terms = access ? xldrv_acl_parse(xldrv_call_procedure(call)->acl, error) : NULL;
    for (guint i = 0; terms && i < terms->len; i++) {
        const XldrvAclTerm *term = terms->pdata[i];
        g_autofree char *action = xldrv_acl_action(term);

        if (term->filter || !xldrv_acl_applies(term, args))
            continue;
        if (is_domain(term) ? !check_domain(access, call, action, args, error)
                            : !ask(access, xldrv_call_client(call), action, NULL, NULL, error))
            return FALSE;
    }
    return !access || terms;
}

gboolean xldrv_access_check_config(XldrvCall *call, GVariant *args, const XmlconfDomainConfig *config, GError **error)
{
    XldrvAccess *access = xldrv_driver_get()->access;
    g_autoptr(GPtrArray) terms = access ? xldrv_acl_parse(xldrv_call_procedure(call)->acl, error) : NULL;

    for (guint i = 0; terms && i < terms->len; i++) {
        const XldrvAclTerm *term = terms->pdata[i];
        g_autofree char *action = xldrv_acl_action(term);

        if (is_domain(term) && xldrv_acl_applies(term, args) &&
            !ask(access, xldrv_call_client(call), action, config->name, config->uuid, error))
            return FALSE;
    }
    return !access || terms;
}

/* ---- lists */

static char *filter_action(const XldrvProcedure *procedure)
{
    g_autoptr(GPtrArray) terms = xldrv_acl_parse(procedure->acl, NULL);

    for (guint i = 0; terms && i < terms->len; i++) {
        const XldrvAclTerm *term = terms->pdata[i];
        if (term->filter)
            return xldrv_acl_action(term);
    }
    return NULL;
}

void xldrv_access_filter(XldrvCall *call, GPtrArray *domains)
{
    XldrvAccess *access = xldrv_driver_get()->access;
    g_autofree char *action = access ? filter_action(xldrv_call_procedure(call)) : NULL;

    for (guint i = domains->len; action && i-- > 0;) {
        if (!ask_domain(access, xldrv_call_client(call), action, domains->pdata[i], NULL))
            g_ptr_array_remove_index_fast(domains, i);
    }
}

GPtrArray *xldrv_access_domains(XldrvCall *call)
{
    GPtrArray *domains = xldrv_domains_all(xldrv_driver_get()->domains);

    xldrv_access_filter(call, domains);
    return domains;
}

gboolean xldrv_access_hears(XldrvAccess *access, XldrvClient *client, XldrvDomain *domain)
{
    return ask_domain(access, client, "org.libvirt.api.domain.getattr", domain, NULL);
}
