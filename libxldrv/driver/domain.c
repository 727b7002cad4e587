/* Domain objects: references, locks and jobs. */
#include "config.h"

#include "libxldrv/driver/domain.h"

#include <libvirt/libvirt-qemu.h>

/* As long as libvirt waits for a domain's job. */
#define JOB_WAIT_SECONDS 30

XldrvDomain *xldrv_domain_new(const guint8 uuid[XLDRV_UUID_BYTES], const char *name)
{
    XldrvDomain *domain = g_new0(XldrvDomain, 1);

    domain->refs = 1;
    memcpy(domain->uuid, uuid, XLDRV_UUID_BYTES);
    xldrv_uuid_format(uuid, domain->uuid_text);
    domain->name = g_strdup(name);
    domain->id = domain->tunnel_fd = -1;
    domain->state = VIR_DOMAIN_SHUTOFF;
    domain->agent_timeout = VIR_DOMAIN_QEMU_AGENT_COMMAND_BLOCK;
    for (guint kind = 0; kind < XLDRV_N_MOMENTS; kind++)
        domain->moments[kind].list = g_ptr_array_new_with_free_func((GDestroyNotify)xmlconf_snapshot_unref);
    g_mutex_init(&domain->lock);
    g_cond_init(&domain->job_ended);
    return domain;
}

XldrvDomain *xldrv_domain_ref(XldrvDomain *domain)
{
    g_atomic_int_inc(&domain->refs);
    return domain;
}

void xldrv_domain_unref(XldrvDomain *domain)
{
    if (!domain || !g_atomic_int_dec_and_test(&domain->refs))
        return;
    g_clear_pointer(&domain->instance, xldrv_instance_unref);
    for (guint i = 0; i < XMLCONF_MAX_CONSOLES; i++)
        g_clear_pointer(&domain->consoles[i], xldrv_stream_unref);
    g_clear_pointer(&domain->live, xmlconf_domain_unref);
    g_clear_pointer(&domain->config, xmlconf_domain_unref);
    g_clear_pointer(&domain->listed, g_variant_unref);
    g_clear_pointer(&domain->described, g_variant_unref);
    for (guint kind = 0; kind < XLDRV_N_MOMENTS; kind++) {
        g_ptr_array_unref(domain->moments[kind].list);
        g_free(domain->moments[kind].current);
    }
    g_cond_clear(&domain->job_ended);
    g_mutex_clear(&domain->lock);
    g_free(domain->name);
    g_free(domain);
}

XmlconfDomain *xldrv_domain_get_config(XldrvDomain *domain, gboolean inactive)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);
    XmlconfDomain *first = inactive ? domain->config : domain->live;
    XmlconfDomain *second = inactive ? domain->live : domain->config;

    if (!first)
        first = second;
    return first ? xmlconf_domain_ref(first) : NULL;
}

XldrvInstance *xldrv_domain_get_instance(XldrvDomain *domain, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    if (domain->instance)
        return xldrv_instance_ref(domain->instance);
    xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    return NULL;
}

char *xldrv_domain_get_name(XldrvDomain *domain)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    return g_strdup(domain->name);
}

gboolean xldrv_domain_is_active(XldrvDomain *domain)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    return domain->instance != NULL;
}

void xldrv_domain_set_state(XldrvDomain *domain, int state, int reason)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    domain->state = state;
    domain->reason = reason;
}

static XldrvJob *take_job_locked(XldrvDomain *domain, const char *what)
{
    domain->job = what;
    return xldrv_domain_ref(domain);
}

XldrvJob *xldrv_job_begin_within(XldrvDomain *domain, guint seconds, const char *what, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + seconds * G_TIME_SPAN_SECOND;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    while (domain->job && !domain->removed) {
        if (g_cond_wait_until(&domain->job_ended, &domain->lock, deadline))
            continue;
        xldrv_set_error(error, VIR_ERR_OPERATION_TIMEOUT,
                        "cannot acquire state change lock of domain '%s' (held by %s)", domain->name,
                        domain->job);
        return NULL;
    }
    if (!domain->removed)
        return take_job_locked(domain, what);
    xldrv_set_error(error, VIR_ERR_NO_DOMAIN, "no domain with matching uuid '%s' (%s)",
                    domain->uuid_text, domain->name);
    return NULL;
}

XldrvJob *xldrv_job_begin(XldrvDomain *domain, const char *what, GError **error)
{
    return xldrv_job_begin_within(domain, JOB_WAIT_SECONDS, what, error);
}

XldrvJob *xldrv_job_begin_waiting(XldrvDomain *domain, const char *what)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    while (domain->job && !domain->removed)
        g_cond_wait(&domain->job_ended, &domain->lock);
    return domain->removed ? NULL : take_job_locked(domain, what);
}

void xldrv_job_end(XldrvJob *job)
{
    if (!job)
        return;
    g_mutex_lock(&job->lock);
    job->job = NULL;
    g_cond_broadcast(&job->job_ended);
    g_mutex_unlock(&job->lock);
    xldrv_domain_unref(job);
}
