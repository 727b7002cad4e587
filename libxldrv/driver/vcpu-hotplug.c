/* Procedures that change how many vCPUs a domain has.
 *
 * A running domain has all vCPUs of its maximum; which of them its guest is to use is in the store, cpu/N/availability.
 * Linux takes a vCPU in when its user space says so, and gives one back by itself: that is waited for. */
#include "config.h"

#include "libxldrv/driver/change.h"
#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/guest.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/vcpus.h"
#include "libxldrv/driver/wire.h"

#define IMPACT_FLAGS   (VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG)
#define UNPLUG_SECONDS 10
#define POLL_MS        50

/* ---- configurations */

static gboolean check_maximum(XmlconfDomain *domain, guint n, const char *which, GError **error)
{
    guint max = xmlconf_domain_config(domain)->max_vcpus;

    return n <= max || xldrv_set_error(error, VIR_ERR_INVALID_ARG,
                                       "requested vcpus is greater than max allowable vcpus for the %s domain: %u > %u",
                                       which, n, max);
}

static gboolean change_current(XmlconfDomain *domain, gconstpointer n, GError **error G_GNUC_UNUSED)
{
    xmlconf_domain_config(domain)->current_vcpus = *(const guint *)n;
    return TRUE;
}

static gboolean change_maximum(XmlconfDomain *domain, gconstpointer data, GError **error)
{
    XmlconfDomainConfig *config = xmlconf_domain_config(domain);
    g_autoptr(GError) why = NULL;

    if (!xmlconf_numa_check_vcpus(config->cpu.cells, *(const guint *)data, &why))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%s", why->message);
    for (guint i = *(const guint *)data; i < config->max_vcpus; i++)
        xmlconf_domain_set_vcpu_pin(domain, i, NULL);
    config->max_vcpus = *(const guint *)data;
    config->current_vcpus = MIN(config->current_vcpus, config->max_vcpus);
    return TRUE;
}

/* ---- the running guest */

/* vCPUs @first to @end - 1. */
static gboolean set_availability(XldrvInstance *instance, guint first, guint end, const char *value, GError **error)
{
    for (guint i = first; i < end; i++) {
        g_autofree char *node = g_strdup_printf("cpu/%u/availability", i);
        if (!xldrv_store_write(xldrv_driver_get()->store, xldrv_instance_id(instance), node, value, error))
            return FALSE;
    }
    return TRUE;
}

/* The first of them that the guest still runs, or @end. -1: it cannot be asked. */
static int first_online(XldrvInstance *instance, guint first, guint end, GError **error)
{
    for (guint i = first; i < end; i++) {
        struct domctl_vcpu_info info;
        if (!xldrv_vcpu_info(instance, i, &info, error))
            return -1;
        if (info.online)
            return (int)i;
    }
    return (int)end;
}

static gboolean wait_offline(XldrvJob *job, guint first, guint end, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + UNPLUG_SECONDS * G_TIME_SPAN_SECOND;
    int busy;

    while ((busy = first_online(job->instance, first, end, error)) < (int)end) {
        if (busy < 0)
            return FALSE;
        if (g_get_monotonic_time() > deadline)
            return xldrv_set_error(error, VIR_ERR_OPERATION_TIMEOUT,
                                   "the guest of domain '%s' did not let go of vCPU %d within %d seconds", job->name,
                                   busy, UNPLUG_SECONDS);
        g_usleep(POLL_MS * 1000);
    }
    return TRUE;
}

static gboolean unplug(XldrvJob *job, guint now, guint n, GError **error)
{
    if (set_availability(job->instance, n, now, "offline", error) && wait_offline(job, n, now, error))
        return TRUE;
    set_availability(job->instance, n, now, "online", NULL);
    return FALSE;
}

static gboolean set_live(XldrvJob *job, guint now, guint n, GError **error)
{
    if (!check_maximum(job->live, n, "live", error))
        return FALSE;
    if (job->state != VIR_DOMAIN_RUNNING && n < now)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                               "domain '%s' does not run: its guest cannot let go of a vCPU", job->name);
    return n < now ? unplug(job, now, n, error) : set_availability(job->instance, now, n, "online", error);
}

/* ---- procedures */

static gboolean set_current(XldrvJob *job, const XldrvImpact *impact, guint n, GError **error)
{
    guint before = impact->live ? xmlconf_domain_config(job->live)->current_vcpus : 0;

    if (impact->config && !check_maximum(job->config, n, "persistent", error))
        return FALSE;
    if (impact->live && !set_live(job, before, n, error))
        return FALSE;
    if (xldrv_change(xldrv_driver_get(), job, impact, change_current, &n, error))
        return TRUE;
    if (impact->live)
        set_live(job, n, before, NULL);
    return FALSE;
}

static gboolean set_maximum(XldrvJob *job, const XldrvImpact *impact, guint n, GError **error)
{
    if (impact->live)
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "maximum vcpu count of a live domain can't be modified");
    return xldrv_change(xldrv_driver_get(), job, impact, change_maximum, &n, error);
}

static GVariant *set_vcpus(GVariant *args, guint flags, GError **error)
{
    guint n = xldrv_args_u32(args, 1);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    XldrvImpact impact;

    if (n == 0 || n > XMLCONF_MAX_VCPUS) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%u is not a number of vCPUs from 1 to %u", n, XMLCONF_MAX_VCPUS);
        return NULL;
    }
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "set vCPUs", error) : NULL;
    if (!job || !xldrv_impact(job, flags, &impact, error))
        return NULL;
    if (flags & VIR_DOMAIN_VCPU_MAXIMUM ? !set_maximum(job, &impact, n, error) : !set_current(job, &impact, n, error))
        return NULL;
    return xldrv_reply_void();
}

/* The guest uses as many of those that it has, and may change that again: no configuration tells of it. */
static GVariant *set_guest_vcpus(XldrvCall *call, GVariant *args, guint flags, GError **error)
{
    guint n = xldrv_args_u32(args, 1), have;
    g_autoptr(XldrvAgentSession) session = NULL;
    g_autoptr(XmlconfDomain) live = NULL;

    if (flags & (VIR_DOMAIN_AFFECT_CONFIG | VIR_DOMAIN_VCPU_MAXIMUM)) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "the guest's agent can change neither a definition nor a maximum");
        return NULL;
    }
    session = xldrv_agent_begin_args(call, args, error);
    if (!session)
        return NULL;
    live = xldrv_domain_get_config(xldrv_agent_domain(session), FALSE);
    have = xmlconf_domain_config(live)->current_vcpus;
    if (n == 0 || n > have) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%u vCPUs are not 1 to %u, which the guest has", n, have);
        return NULL;
    }
    return xldrv_guest_set_vcpus(session, n, error) ? xldrv_reply_void() : NULL;
}

GVariant *xldrv_handle_domain_set_vcpus(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return set_vcpus(args, VIR_DOMAIN_AFFECT_LIVE, error);
}

/* Hotpluggable vCPUs are all but the first, as ever. */
GVariant *xldrv_handle_domain_set_vcpus_flags(XldrvCall *call, GVariant *args, GError **error)
{
    const guint known = IMPACT_FLAGS | VIR_DOMAIN_VCPU_MAXIMUM | VIR_DOMAIN_VCPU_GUEST | VIR_DOMAIN_VCPU_HOTPLUGGABLE;
    guint flags = xldrv_args_u32(args, 2);

    if (!xldrv_check_flags(flags, known, G_STRFUNC, error))
        return NULL;
    if (flags & VIR_DOMAIN_VCPU_GUEST)
        return set_guest_vcpus(call, args, flags, error);
    return set_vcpus(args, flags, error);
}
