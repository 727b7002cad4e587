/* Procedures that give memory to a domain and take it.
 *
 * A running guest gives and takes by its balloon driver: the store tells it how much it is to have, and the
 * hypervisor lets it have no more. Its maximum is the memory it was started with. */
#include "config.h"

#include "libxldrv/driver/change.h"
#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/wire.h"

#define IMPACT_FLAGS (VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG)

static int limit_memory(struct domctl *ctl, gpointer kib)
{
    return domctl_limit_mem(ctl, *(guint64 *)kib);
}

gboolean xldrv_limit_memory(XldrvInstance *instance, guint64 kib, GError **error)
{
    return xldrv_instance_control(instance, "limit the memory of", limit_memory, &kib, error);
}

/* ---- configurations */

static gboolean check_maximum(XmlconfDomain *domain, guint64 kib, GError **error)
{
    const XmlconfDomainConfig *config = xmlconf_domain_config(domain);

    return kib <= config->memory_kib ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                           "cannot set memory to %" G_GUINT64_FORMAT " KiB, the maximum of domain '%s' is %"
                           G_GUINT64_FORMAT " KiB", kib, config->name, config->memory_kib);
}

static gboolean change_current(XmlconfDomain *domain, gconstpointer data, GError **error G_GNUC_UNUSED)
{
    xmlconf_domain_config(domain)->current_memory_kib = *(const guint64 *)data;
    return TRUE;
}

static gboolean change_maximum(XmlconfDomain *domain, gconstpointer data, GError **error)
{
    XmlconfDomainConfig *config = xmlconf_domain_config(domain);

    if (config->cpu.cells && config->cpu.cells->len)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                               "initial memory size of a domain with NUMA nodes cannot be modified with this API");
    config->memory_kib = *(const guint64 *)data;
    config->current_memory_kib = MIN(config->current_memory_kib, config->memory_kib);
    return TRUE;
}

/* ---- the running guest */

static gboolean write_target(XldrvJob *job, guint64 kib, GError **error)
{
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, kib);

    return xldrv_store_write(xldrv_driver_get()->store, xldrv_instance_id(job->instance), "memory/target", text, error);
}

/* A guest that is to have more may take it before it is told to; one that is to have less is told first. */
static gboolean set_target(XldrvJob *job, guint64 now_kib, guint64 kib, GError **error)
{
    const gboolean more = kib > now_kib;

    if (more && !xldrv_limit_memory(job->instance, kib, error))
        return FALSE;
    if (!write_target(job, kib, error)) {
        if (more)
            xldrv_limit_memory(job->instance, now_kib, NULL);
        return FALSE;
    }
    if (more || xldrv_limit_memory(job->instance, kib, error))
        return TRUE;
    write_target(job, now_kib, NULL);
    return FALSE;
}

static gboolean check_running(XldrvJob *job, GError **error)
{
    return job->state == VIR_DOMAIN_RUNNING || job->state == VIR_DOMAIN_PAUSED ||
           xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running: its guest has ended");
}

static gboolean set_current(XldrvJob *job, const XldrvImpact *impact, guint64 kib, GError **error)
{
    guint64 before_kib = impact->live ? xmlconf_domain_config(job->live)->current_memory_kib : 0;

    if (impact->config && !check_maximum(job->config, kib, error))
        return FALSE;
    if (impact->live && (!check_running(job, error) || !check_maximum(job->live, kib, error) ||
                         !set_target(job, before_kib, kib, error)))
        return FALSE;
    if (xldrv_change(xldrv_driver_get(), job, impact, change_current, &kib, error))
        return TRUE;
    if (impact->live)
        set_target(job, kib, before_kib, NULL);
    return FALSE;
}

static gboolean set_maximum(XldrvJob *job, const XldrvImpact *impact, guint64 kib, GError **error)
{
    if (impact->live)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                               "cannot resize the maximum memory of domain '%s' while it runs", job->name);
    return xldrv_change(xldrv_driver_get(), job, impact, change_maximum, &kib, error);
}

static gboolean check_amount(guint64 kib, GError **error)
{
    return (kib >= XMLCONF_MIN_MEMORY_KIB && kib <= XMLCONF_MAX_MEMORY_KIB) ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                           "%" G_GUINT64_FORMAT " KiB is not an amount of memory from %" G_GUINT64_FORMAT
                           " KiB to %" G_GUINT64_FORMAT " KiB", kib, XMLCONF_MIN_MEMORY_KIB, XMLCONF_MAX_MEMORY_KIB);
}

static GVariant *set_memory(GVariant *args, guint flags, GError **error)
{
    guint64 kib;
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XldrvJobGuard) job = domain ? xldrv_job_begin(domain, "set memory", error) : NULL;
    XldrvImpact impact;

    g_variant_get_child(args, 1, "t", &kib);
    if (!job || !check_amount(kib, error) || !xldrv_impact(job, flags, &impact, error))
        return NULL;
    if (flags & VIR_DOMAIN_MEM_MAXIMUM ? !set_maximum(job, &impact, kib, error)
                                       : !set_current(job, &impact, kib, error))
        return NULL;
    return xldrv_reply_void();
}

GVariant *xldrv_handle_domain_set_memory(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return set_memory(args, VIR_DOMAIN_AFFECT_LIVE, error);
}

GVariant *xldrv_handle_domain_set_memory_flags(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 2);

    return xldrv_check_flags(flags, IMPACT_FLAGS | VIR_DOMAIN_MEM_MAXIMUM, G_STRFUNC, error)
               ? set_memory(args, flags, error)
               : NULL;
}

GVariant *xldrv_handle_domain_set_max_memory(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return set_memory(args, VIR_DOMAIN_MEM_MAXIMUM, error);
}

GVariant *xldrv_handle_domain_set_memory_stats_period(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 2), IMPACT_FLAGS, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    if (!domain)
        return NULL;
    if (xldrv_args_i32(args, 1) == 0) /* as it is */
        return xldrv_reply_void();
    xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                    "memory statistics have no period: Xen's balloon driver collects none in the guest, and those of "
                    "the host are always of now");
    return NULL;
}
