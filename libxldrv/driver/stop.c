/* The end of a running domain. */
#include "config.h"

#include <string.h>
#include <unistd.h>

#include "libxldrv/driver/agent.h"
#include "libxldrv/driver/consoles.h"
#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/display.h"
#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/hooks.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/moments.h"
#include "libxldrv/driver/tune.h"

void xldrv_clean_up(XldrvDriver *driver, const XldrvStatus *status)
{
    const XmlconfDomainConfig *config = xmlconf_domain_config(status->domain);
    g_autofree char *control = xldrv_run_path(driver, status->control);
    g_autofree char *process = xldrv_run_path(driver, status->process);
    g_autoptr(GError) why = NULL;

    xldrv_display_close(driver, config);
    xldrv_devices_clean_up(driver, config);
    xldrv_store_remove_domain(driver->store, status->id, config->uuid);
    xldrv_consoles_clean_up(config);
    xldrv_untune(driver, config->uuid);
    unlink(control);
    unlink(process);
    /* Last: as long as it is there, a new daemon does all this again. */
    if (!xldrv_status_remove(driver->paths, config->name, &why))
        g_warning("%s", why->message);
}

void xldrv_forget_owner(XldrvDriver *driver, XldrvJob *job)
{
    g_mutex_lock(&driver->owned_lock);
    g_ptr_array_remove_fast(driver->owned, job);
    g_mutex_unlock(&driver->owned_lock);
}

/* What runs becomes what ran. Whoever uses the console sees its terminal hang up. */
static void set_inactive(XldrvDriver *driver, XldrvJob *job, int reason)
{
    XldrvInstance *instance;
    XldrvStream *consoles[XMLCONF_MAX_CONSOLES];

    g_mutex_lock(&job->lock);
    instance = g_steal_pointer(&job->instance);
    memcpy(consoles, job->consoles, sizeof(consoles));
    memset(job->consoles, 0, sizeof(job->consoles));
    job->state = VIR_DOMAIN_SHUTOFF;
    job->reason = reason;
    job->updated = FALSE;
    job->owner = 0;
    /* A transient domain keeps it for those who still look at it. */
    if (job->config)
        g_clear_pointer(&job->live, xmlconf_domain_unref);
    g_mutex_unlock(&job->lock);
    xldrv_domains_set_id(driver->domains, job, -1);
    xldrv_instance_unref(instance);
    for (guint i = 0; i < XMLCONF_MAX_CONSOLES; i++)
        g_clear_pointer(&consoles[i], xldrv_stream_unref);
}

void xldrv_stop(XldrvDriver *driver, XldrvJob *job, int reason, int detail, gboolean keep)
{
    g_auto(XldrvStatus) status = {
        .id = xldrv_instance_id(job->instance),
        .control = xldrv_control_name(job),
        .process = xldrv_process_name(job),
        .domain = xmlconf_domain_ref(job->live),
    };

    xldrv_agent_close(job);
    xldrv_instance_destroy(job->instance);
    xldrv_hooks_tell(driver, status.domain, "stopped", "end");
    xldrv_backup_clean_up(driver, job);
    xldrv_clean_up(driver, &status);
    xldrv_hooks_tell(driver, status.domain, "release", "end");
    set_inactive(driver, job, reason);
    if (!keep) {
        /* Else its owner may go while it is started again, and must find it. */
        xldrv_forget_owner(driver, job);
        job->short_lives = 0;
    }
    g_info("domain '%s' stopped, id was %d", job->name, status.id);
    xldrv_event_lifecycle(driver->events, job, VIR_DOMAIN_EVENT_STOPPED, detail);
    if (!job->config && !keep) {
        xldrv_moments_forget(driver, job);
        xldrv_domains_remove(driver->domains, job);
    }
}

void xldrv_save_running_state(XldrvDriver *driver, XldrvJob *job, int state, int reason)
{
    g_auto(XldrvStatus) status = {
        .complete = TRUE,
        .autodestroy = job->owner != 0,
        .agent_timeout = g_atomic_int_get(&job->agent_timeout),
        .id = xldrv_instance_id(job->instance),
        .state = job->leaving ? VIR_DOMAIN_PAUSED : state,
        .reason = job->leaving ? VIR_DOMAIN_PAUSED_MIGRATION : reason,
        .control = xldrv_control_name(job),
        .process = xldrv_process_name(job),
        .domain = xmlconf_domain_ref(job->live),
    };
    g_autoptr(GError) why = NULL;

    if (!xldrv_status_save(driver->paths, &status, &why))
        g_warning("domain '%s': %s", job->name, why->message);
}

void xldrv_set_running_state(XldrvDriver *driver, XldrvJob *job, int state, int reason)
{
    xldrv_save_running_state(driver, job, state, reason);
    xldrv_domain_set_state(job, state, reason);
}
