/* Procedures about definitions: define, undefine, rename, autostart. */
#include "config.h"

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/save.h"
#include "libxldrv/driver/moments.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/state/definitions.h"

#define UNDEFINE_FLAGS                                                                             \
    (VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA |                   \
     VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)

gboolean xldrv_set_definition(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *config, GError **error)
{
    gboolean known;

    if (!xldrv_definition_save(driver->paths, config, error)) {
        if (!job->visible)
            xldrv_domains_remove(driver->domains, job);
        return FALSE;
    }
    g_mutex_lock(&job->lock);
    known = job->config != NULL;
    g_clear_pointer(&job->config, xmlconf_domain_unref);
    job->config = xmlconf_domain_ref(config);
    job->updated = job->instance != NULL;
    g_mutex_unlock(&job->lock);
    xldrv_domains_publish(driver->domains, job);
    xldrv_event_lifecycle(driver->events, job, VIR_DOMAIN_EVENT_DEFINED,
                          known ? VIR_DOMAIN_EVENT_DEFINED_UPDATED : VIR_DOMAIN_EVENT_DEFINED_ADDED);
    return TRUE;
}

static GVariant *define(XldrvCall *call, GVariant *args, guint flags, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    g_autoptr(XmlconfDomain) config =
        xldrv_parse_xml(xldrv_args_string(args, 0), flags & VIR_DOMAIN_DEFINE_VALIDATE, error);
    g_autoptr(XldrvJobGuard) job = NULL;
    const XmlconfDomainConfig *typed;

    if (!config)
        return NULL;
    typed = xmlconf_domain_config(config);
    if (!xldrv_access_check_config(call, args, typed, error))
        return NULL;
    job = xldrv_domains_claim(driver->domains, typed->uuid, typed->name, "define", error);
    if (!job || !xldrv_set_definition(driver, job, config, error))
        return NULL;
    return xldrv_reply_domain(job);
}

GVariant *xldrv_handle_domain_define_xml(XldrvCall *call, GVariant *args, GError **error)
{
    return define(call, args, 0, error);
}

GVariant *xldrv_handle_domain_define_xml_flags(XldrvCall *call, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 1);

    if (!xldrv_check_flags(flags, VIR_DOMAIN_DEFINE_VALIDATE, G_STRFUNC, error))
        return NULL;
    return define(call, args, flags, error);
}

/* ---- undefine */

gboolean xldrv_remove_definition(XldrvDriver *driver, XldrvJob *job, guint flags, GError **error)
{
    gboolean active, saved = job->config && xldrv_managed_has(driver, job->name);
    guint snapshots = job->instance ? 0 : xldrv_moments_count(XLDRV_SNAPSHOTS, job); /* what runs keeps them */
    guint checkpoints = job->instance ? 0 : xldrv_moments_count(XLDRV_CHECKPOINTS, job);

    if (!job->config)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot undefine transient domain");
    if (saved && !(flags & VIR_DOMAIN_UNDEFINE_MANAGED_SAVE))
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                               "Refusing to undefine while domain managed save image exists");
    if (snapshots && !(flags & VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA))
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot delete inactive domain with %u snapshots", snapshots);
    if (checkpoints && !(flags & VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA))
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot delete inactive domain with %u checkpoints", checkpoints);
    if (saved && !xldrv_managed_remove(driver, job->name, error))
        return FALSE;
    if (!xldrv_definition_remove(driver->paths, job->name, error))
        return FALSE;
    if (snapshots || checkpoints)
        xldrv_moments_forget(driver, job);
    g_mutex_lock(&job->lock);
    active = job->instance != NULL;
    job->autostart = FALSE;
    job->updated = FALSE;
    /* What does not run keeps its configuration for those who still look at it. */
    if (active)
        g_clear_pointer(&job->config, xmlconf_domain_unref);
    g_mutex_unlock(&job->lock);
    if (!active)
        xldrv_domains_remove(driver->domains, job);
    xldrv_event_lifecycle(driver->events, job, VIR_DOMAIN_EVENT_UNDEFINED,
                          VIR_DOMAIN_EVENT_UNDEFINED_REMOVED);
    return TRUE;
}

static GVariant *undefine(GVariant *args, guint flags, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XldrvJobGuard) job = domain ? xldrv_job_begin(domain, "undefine", error) : NULL;

    if (!job || !xldrv_remove_definition(xldrv_driver_get(), job, flags, error))
        return NULL;
    return xldrv_reply_void();
}

GVariant *xldrv_handle_domain_undefine(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return undefine(args, 0, error);
}

GVariant *xldrv_handle_domain_undefine_flags(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                             GError **error)
{
    if (!xldrv_check_flags(xldrv_args_u32(args, 1), UNDEFINE_FLAGS, G_STRFUNC, error))
        return NULL;
    return undefine(args, xldrv_args_u32(args, 1), error);
}

/* ---- rename */

static gboolean rename_inactive(XldrvDriver *driver, XldrvJob *job, const char *new_name, GError **error)
{
    g_autofree char *old_name = g_strdup(job->name);
    g_autoptr(XmlconfDomain) renamed = xmlconf_domain_copy(job->config);
    XmlconfDomainConfig *typed = xmlconf_domain_config(renamed);

    g_free(typed->name);
    typed->name = g_strdup(new_name);
    if (!xldrv_domains_rename(driver->domains, job, new_name, error))
        return FALSE;
    if (!xldrv_definition_rename(driver->paths, old_name, renamed, error)) {
        xldrv_definition_save(driver->paths, job->config, NULL);
        xldrv_domains_rename(driver->domains, job, old_name, NULL);
        return FALSE;
    }
    xldrv_managed_rename(driver, old_name, new_name);
    g_mutex_lock(&job->lock);
    xmlconf_domain_unref(job->config);
    job->config = g_steal_pointer(&renamed);
    g_mutex_unlock(&job->lock);
    return TRUE;
}

static gboolean check_rename(XldrvJob *job, const char *new_name, GError **error)
{
    if (!new_name || !*new_name)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "the new name is empty");
    if (strpbrk(new_name, "/\n"))
        return xldrv_set_error(error, VIR_ERR_XML_ERROR, "name %s cannot contain '/' or a newline",
                               new_name);
    if (job->instance)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot rename active domain");
    if (!job->config)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot rename a transient domain");
    return TRUE;
}

GVariant *xldrv_handle_domain_rename(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    const char *new_name = xldrv_args_optional_string(args, 1);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    g_autoptr(GVariant) before = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), 0, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "rename", error) : NULL;
    if (!job || !check_rename(job, new_name, error))
        return NULL;
    before = g_variant_ref_sink(xldrv_domain_to_wire(job));
    if (!rename_inactive(driver, job, new_name, error))
        return NULL;
    xldrv_event_lifecycle_as(driver->events, job, before, VIR_DOMAIN_EVENT_UNDEFINED,
                             VIR_DOMAIN_EVENT_UNDEFINED_RENAMED);
    xldrv_event_lifecycle(driver->events, job, VIR_DOMAIN_EVENT_DEFINED,
                          VIR_DOMAIN_EVENT_DEFINED_RENAMED);
    return xldrv_reply_int(0);
}

/* ---- autostart */

GVariant *xldrv_handle_domain_get_autostart(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    gboolean autostart;

    if (!domain)
        return NULL;
    g_mutex_lock(&domain->lock);
    autostart = domain->autostart;
    g_mutex_unlock(&domain->lock);
    return xldrv_reply_int(autostart);
}

GVariant *xldrv_handle_domain_set_autostart(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    gboolean on = xldrv_args_i32(args, 1) != 0;
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XldrvJobGuard) job = domain ? xldrv_job_begin(domain, "set autostart", error) : NULL;

    if (!job)
        return NULL;
    if (!job->config) {
        xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot set autostart for transient domain");
        return NULL;
    }
    if (!xldrv_autostart_set(xldrv_driver_get()->paths, job->name, on, error))
        return NULL;
    g_mutex_lock(&job->lock);
    job->autostart = on;
    g_mutex_unlock(&job->lock);
    return xldrv_reply_void();
}
