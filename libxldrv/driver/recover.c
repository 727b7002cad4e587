/* What a new daemon finds: definitions, running domains, and the remains of starts that were cut short. */
#include "config.h"

#include <unistd.h>

#include "libxldrv/driver/agent.h"
#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/checkpoint.h"
#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/display.h"
#include "libxldrv/driver/logs.h"
#include "libxldrv/driver/longjob.h"
#include "libxldrv/driver/migrate-disks.h"
#include "libxldrv/driver/hooks.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/moments.h"
#include "libxldrv/driver/snapshot.h"
#include "libxldrv/state/definitions.h"
#include "libxldrv/state/files.h"

/* ---- definitions */

static void add_definition(XmlconfDomain *config, gboolean autostart, gpointer data)
{
    XldrvDriver *driver = data;
    const XmlconfDomainConfig *typed = xmlconf_domain_config(config);
    g_autoptr(GError) why = NULL;
    g_autoptr(XldrvJobGuard) job =
        xldrv_domains_claim(driver->domains, typed->uuid, typed->name, "load", &why);

    if (!job) {
        g_warning("ignoring the definition of '%s': %s", typed->name, why->message);
        return;
    }
    g_mutex_lock(&job->lock);
    job->config = xmlconf_domain_ref(config);
    job->autostart = autostart;
    g_mutex_unlock(&job->lock);
    xldrv_moments_load(driver, job);
    xldrv_domains_publish(driver->domains, job);
}

/* ---- running domains */

static void adopt(XldrvDriver *driver, XldrvJob *job, const XldrvStatus *status, XldrvInstance *instance)
{
    g_mutex_lock(&job->lock);
    job->live = xmlconf_domain_ref(status->domain);
    job->instance = xldrv_instance_ref(instance);
    job->state = status->state;
    job->reason = status->reason;
    job->agent_timeout = status->agent_timeout;
    g_mutex_unlock(&job->lock);
    xldrv_domains_publish(driver->domains, job);
    xldrv_domains_set_id(driver->domains, job, status->id);
}

/* ---- asking them what happened meanwhile: all at once, because one that hangs takes its time to be known for it */

/* Whoever answers does so long before, and of the others clients may hear what is known. */
#define RECOVER_SECONDS 3

static int get_status(struct domctl *ctl, gpointer status)
{
    return domctl_stream_status(ctl, status);
}

/* Whether it is ours by now; who does not answer waits for memory, which only what was ours does. */
static gboolean is_received(XldrvInstance *instance)
{
    struct domus_stream_status status = {.owner = DOMUS_OWNER_RECEIVER};

    xldrv_instance_control(instance, "ask about", get_status, &status, NULL);
    return status.owner == DOMUS_OWNER_RECEIVER;
}

/* Nobody waits any more for what was being saved or sent; what was sent completely may go on elsewhere, as the hypervisor
 * knows, and what was received is ours only if it can be had. FALSE: it is not here any more. */
static gboolean end_stream(XldrvDriver *driver, XldrvJob *job, XldrvInstance *instance)
{
    g_autoptr(GError) why = NULL;

    if (xldrv_postcopy_is_lost(job))
        return TRUE; /* it stays so */
    if (xldrv_migration_is_sent(job)) {
        xldrv_migration_settle(driver, job);
    } else if (!(xldrv_postcopy_is_arriving(job) && is_received(instance)) && !xldrv_stream_claim(instance, job->name, &why)) {
        g_warning("%s", why->message);
        xldrv_images_recover(driver, job->uuid_text, FALSE);
        xldrv_stop(driver, job, VIR_DOMAIN_SHUTOFF_FAILED, VIR_DOMAIN_EVENT_STOPPED_FAILED, FALSE);
    } else if (xldrv_postcopy_is_arriving(job)) {
        xldrv_postcopy_follow_soon(job);
    } else {
        xldrv_stream_end(instance);
    }
    return job->instance == instance;
}

/* For the rest what was last asked for holds: a daemon killed between telling the disk and
 * the hypervisor that a domain runs is completed here. */
static void catch_up(XldrvDriver *driver, XldrvJob *job, XldrvInstance *instance)
{
    g_autoptr(GError) why = NULL;
    struct domctl_info info;

    if (!end_stream(driver, job, instance))
        return;
    if (!xldrv_watch(job, instance, &why) || !xldrv_instance_get_info(instance, &info, &why)) {
        g_warning("domain '%s' runs but cannot be reached: %s", job->name, why->message);
        xldrv_react_to_instance(instance, XLDRV_INSTANCE_LOST, 0, job);
    } else if (info.shutdown) {
        xldrv_react_to_instance(instance, HV_EVENT_SHUTDOWN, info.shutdown_code, job);
    } else if (info.paused && job->state == VIR_DOMAIN_RUNNING) {
        if (!xldrv_pause_for_io_error(driver, job))
            xldrv_instance_unpause(instance, NULL);
    } else if (!info.paused && job->state == VIR_DOMAIN_PAUSED) {
        xldrv_set_running_state(driver, job, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_UNPAUSED);
    }
}

/* What serves the disks may have ended while there was nobody to start it again, or whoever was at it ended. */
static void look_at_disks(XldrvJob *job, XldrvInstance *instance)
{
    const GPtrArray *disks = xmlconf_domain_config(job->live)->disks;

    for (guint i = 0; disks && i < disks->len; i++) {
        XldrvDiskStats stats;

        if (xldrv_disk_stats(instance, disks->pdata[i], &stats, NULL) && (stats.lost || stats.parked || stats.parking)) {
            xldrv_react_to_instance(instance, HV_EVENT_IMAGE_LOST, 0, job);
            return;
        }
    }
}

/* So may what connects its interfaces. */
static void look_at_interfaces(XldrvJob *job, XldrvInstance *instance)
{
    const GPtrArray *interfaces = xmlconf_domain_config(job->live)->interfaces;

    for (guint i = 0; interfaces && i < interfaces->len; i++) {
        if (xldrv_nic_is_lost(instance, interfaces->pdata[i])) {
            xldrv_react_to_instance(instance, HV_EVENT_PORT_LOST, 0, job);
            return;
        }
    }
}

/* And what shows the domain. */
static void look_at_display(XldrvDriver *driver, XldrvJob *job, XldrvInstance *instance)
{
    const GPtrArray *graphics = xmlconf_domain_config(job->live)->graphics;

    if (graphics && graphics->len && !xldrv_display_watch(driver, job, instance, NULL))
        xldrv_react_to_instance(instance, XLDRV_DISPLAY_LOST, 0, job);
}

static void catch_up_reaction(XldrvDriver *driver, const XldrvReaction *reaction)
{
    g_autoptr(XldrvJobGuard) job = xldrv_job_begin_waiting(reaction->domain, "recover");

    if (job && job->instance == reaction->instance) {
        catch_up(driver, job, reaction->instance);
    }
    if (job && job->instance == reaction->instance) {
        xldrv_images_recover(driver, job->uuid_text, TRUE);
        xldrv_hooks_tell(driver, job->live, "reconnect", "begin");
        xldrv_agent_open(driver, job);
        xldrv_blockjobs_recover(driver, job);
        xldrv_backup_recover(driver, job);
        if (!xldrv_migration_is_sent(job))
            xldrv_blockjobs_unroute_all(driver, job);
        xldrv_checkpoint_recover(driver, job);
        xldrv_snapshot_recover(driver, job);
        look_at_disks(job, reaction->instance);
        look_at_interfaces(job, reaction->instance);
        look_at_display(driver, job, reaction->instance);
        xldrv_logs_renew(driver, job, XLDRV_LOGS_NONE);
    }
    g_mutex_lock(&driver->recover_lock);
    driver->recovering--;
    g_cond_signal(&driver->recovered);
    g_mutex_unlock(&driver->recover_lock);
}

static void catch_up_soon(XldrvDriver *driver, XldrvDomain *domain, XldrvInstance *instance)
{
    const XldrvReaction reaction = {.fn = catch_up_reaction, .domain = domain, .instance = instance};

    g_mutex_lock(&driver->recover_lock);
    driver->recovering++;
    g_mutex_unlock(&driver->recover_lock);
    xldrv_driver_react(driver, &reaction);
}

static void wait_until_caught_up(XldrvDriver *driver)
{
    gint64 deadline = g_get_monotonic_time() + RECOVER_SECONDS * G_TIME_SPAN_SECOND;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&driver->recover_lock);

    while (driver->recovering > 0 && g_cond_wait_until(&driver->recovered, &driver->recover_lock, deadline))
        continue;
    if (driver->recovering > 0)
        g_warning("%u running domains do not answer", driver->recovering);
}

/* Nothing of it may stay: its process, if it has one, its nodes, its files. */
static void sweep(XldrvDriver *driver, const XldrvStatus *status, XldrvInstance *instance)
{
    xldrv_instance_destroy(instance);
    xldrv_clean_up(driver, status);
}

static XldrvInstance *find_instance(XldrvDriver *driver, const XldrvStatus *status)
{
    g_autofree char *control = xldrv_run_path(driver, status->control);
    g_autofree char *written = xldrv_run_path(driver, status->process);
    XldrvProcess *process = xldrv_process_find_written(written);

    return process ? xldrv_instance_new(xmlconf_domain_config(status->domain)->name, status->id, control,
                                        process)
                   : NULL;
}

static void find_again(const XldrvStatus *status, gpointer data)
{
    XldrvDriver *driver = data;
    const XmlconfDomainConfig *config = xmlconf_domain_config(status->domain);
    g_autoptr(XldrvInstance) instance = find_instance(driver, status);
    g_autoptr(GError) why = NULL;
    g_autoptr(XldrvJobGuard) job =
        xldrv_domains_claim(driver->domains, config->uuid, config->name, "recover", &why);

    if (!job) {
        g_warning("ignoring the status of '%s': %s", config->name, why->message);
        return;
    }
    if (!job->config)
        xldrv_moments_load(driver, job);
    if (instance && status->complete && !status->autodestroy) {
        adopt(driver, job, status, instance);
        catch_up_soon(driver, job, instance);
        g_info("domain '%s' found again, id %d", config->name, status->id);
        return;
    }
    g_message("domain '%s' (id %d) %s, removing what is left of it", config->name, status->id,
              status->complete ? "ended while no daemon ran" : "was never started completely");
    xldrv_backup_clean_up(driver, job);
    /* One that ended may have run here, and then no other image has what it wrote. */
    xldrv_images_recover(driver, job->uuid_text, status->complete);
    if (instance)
        sweep(driver, status, instance);
    else
        xldrv_clean_up(driver, status);
    if (!job->config) {
        xldrv_moments_forget(driver, job);
        xldrv_domains_remove(driver->domains, job);
        return;
    }
    xldrv_checkpoint_recover(driver, job);
    if (status->complete)
        xldrv_domain_set_state(job, VIR_DOMAIN_SHUTOFF,
                               status->autodestroy ? VIR_DOMAIN_SHUTOFF_DESTROYED
                                                   : VIR_DOMAIN_SHUTOFF_CRASHED);
}

/* Of those that run it is done when they are caught up with. */
static void recover_snapshots(XldrvDriver *driver)
{
    g_autoptr(GPtrArray) all = xldrv_domains_all(driver->domains);

    for (guint i = 0; i < all->len; i++) {
        g_autofree char *pending = xldrv_moments_pending(XLDRV_SNAPSHOTS, driver, all->pdata[i]);
        g_autoptr(XldrvJobGuard) job =
            pending && !xldrv_domain_is_active(all->pdata[i]) ? xldrv_job_begin_waiting(all->pdata[i], "recover") : NULL;

        if (job && !job->instance)
            xldrv_snapshot_recover(driver, job);
    }
}

static void remove_file(const char *path, const char *stem G_GNUC_UNUSED, gpointer unused G_GNUC_UNUSED)
{
    unlink(path);
}

/* Of a domain that has no process: it was not started, and is taken back but for these. */
static void sweep_images(const char *path G_GNUC_UNUSED, const char *uuid, gpointer data)
{
    XldrvDriver *driver = data;
    g_autofree char *name = g_strconcat(uuid, ".process", NULL);
    g_autofree char *written = xldrv_run_path(driver, name);
    g_autoptr(XldrvProcess) process = xldrv_process_find_written(written);

    if (!process)
        xldrv_images_recover(driver, uuid, FALSE);
}

void xldrv_recover(XldrvDriver *driver)
{
    xldrv_definitions_load(driver->paths, add_definition, driver);
    xldrv_status_load(driver->paths, find_again, driver);
    recover_snapshots(driver);
    xldrv_file_each(driver->paths->run_dir, XLDRV_IMAGES_SUFFIX, sweep_images, driver);
    xldrv_file_each(driver->paths->run_dir, XLDRV_COPIES_SUFFIX, remove_file, NULL);
    xldrv_file_each(driver->paths->run_dir, XLDRV_FILE_NEW, remove_file, NULL);
    wait_until_caught_up(driver);
}
