/* What a guest's end, a dead process or a lost connection asks for: on the reactor, with the domain's job. */
#include "config.h"

#include <errno.h>
#include <unistd.h>

#include "hv/xen-abi.h"
#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/display.h"
#include "libxldrv/driver/logs.h"
#include "libxldrv/driver/migrate.h"
#include "libxldrv/driver/run.h"

/* A process that is ending closes its connections first. */
#define END_WAIT_MS   1000
#define RETRY_SECONDS 10

/* A guest that ends soon after each restart is restarted at once only a few times, then ever later: it would
 * keep the host, the store and all who listen to events busy for nothing. */
#define SHORT_LIFE_SECONDS  10
#define PROMPT_RESTARTS     5
#define MAX_RESTART_SECONDS 60
/* Beside the events of an instance: the time to restart has come. */
#define RESTART_DUE (XLDRV_INSTANCE_LOST - 1)

/* In place of the argument of what is started again: it has waited. */
#define RETRIED G_MAXUINT64

static void react(XldrvDriver *driver, const XldrvReaction *reaction);

/* ---- the guest shut itself down */

typedef struct {
    XmlconfAction action;
    int reason, detail;           /* of the end: virDomainShutoffReason, virDomainEventStoppedDetailType */
    int kept_state, kept_reason;  /* if it is preserved */
    int kept_event, kept_detail;
    gboolean reboot;
} Ending;

static const Ending ended_by_itself = {
    .reason = VIR_DOMAIN_SHUTOFF_SHUTDOWN,
    .detail = VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN,
    .kept_state = VIR_DOMAIN_SHUTDOWN,
    .kept_reason = VIR_DOMAIN_SHUTDOWN_UNKNOWN,
    .kept_event = VIR_DOMAIN_EVENT_SHUTDOWN,
    .kept_detail = VIR_DOMAIN_EVENT_SHUTDOWN_GUEST,
};

static const Ending crashed = {
    .reason = VIR_DOMAIN_SHUTOFF_CRASHED,
    .detail = VIR_DOMAIN_EVENT_STOPPED_CRASHED,
    .kept_state = VIR_DOMAIN_CRASHED,
    .kept_reason = VIR_DOMAIN_CRASHED_PANICKED,
    .kept_event = VIR_DOMAIN_EVENT_CRASHED,
    .kept_detail = VIR_DOMAIN_EVENT_CRASHED_PANICKED,
};

static Ending classify(guint64 code, const XmlconfDomainConfig *config)
{
    Ending ending = ended_by_itself;

    switch (code) {
    case SHUTDOWN_poweroff:
        ending.action = config->on_poweroff;
        break;
    case SHUTDOWN_reboot:
    case SHUTDOWN_soft_reset:
        ending.action = config->on_reboot;
        ending.reboot = TRUE;
        break;
    default: /* crash, watchdog, and a suspend that nobody asked for */
        ending = crashed;
        ending.action = config->on_crash;
    }
    return ending;
}

static void preserve(XldrvDriver *driver, XldrvJob *job, const Ending *ending)
{
    if (job->state == ending->kept_state)
        return;
    xldrv_set_running_state(driver, job, ending->kept_state, ending->kept_reason);
    xldrv_event_lifecycle(driver->events, job, ending->kept_event, ending->kept_detail);
}

static gboolean start_again(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *config, const XldrvStartOptions *options,
                            GError **error)
{
    if (xldrv_start(driver, job, config, options, error))
        return TRUE;
    xldrv_forget_owner(driver, job);
    xldrv_domain_set_state(job, VIR_DOMAIN_SHUTOFF, VIR_DOMAIN_SHUTOFF_FAILED);
    if (!job->config)
        xldrv_domains_remove(driver->domains, job);
    return FALSE;
}

gboolean xldrv_restart(XldrvDriver *driver, XldrvJob *job, int reason, int detail, GError **error)
{
    g_autoptr(XmlconfDomain) config = xmlconf_domain_ref(job->config ? job->config : job->live);
    const XldrvStartOptions options = {.owner = job->owner};

    xldrv_stop(driver, job, reason, detail, TRUE);
    return start_again(driver, job, config, &options, error);
}

gboolean xldrv_reset(XldrvDriver *driver, XldrvJob *job, GError **error)
{
    g_autoptr(XmlconfDomain) config = xmlconf_domain_ref(job->live);
    const XldrvStartOptions options = {.owner = job->owner, .paused = job->state == VIR_DOMAIN_PAUSED};

    xldrv_event_reboot(driver->events, job);
    xldrv_stop(driver, job, VIR_DOMAIN_SHUTOFF_DESTROYED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED, TRUE);
    return start_again(driver, job, config, &options, error);
}

static void restart(XldrvDriver *driver, XldrvJob *job, const Ending *ending)
{
    g_autoptr(GError) why = NULL;

    if (ending->reboot)
        xldrv_event_reboot(driver->events, job);
    if (!xldrv_restart(driver, job, ending->reason, ending->detail, &why))
        g_warning("domain '%s' cannot be restarted: %s", job->name, why->message);
}

static gboolean try_again(gpointer data)
{
    XldrvReaction *reaction = data;

    xldrv_driver_react(xldrv_driver_get(), reaction);
    xldrv_domain_unref(reaction->domain);
    xldrv_instance_unref(reaction->instance);
    g_free(reaction);
    return G_SOURCE_REMOVE;
}

static void react_later(const XldrvReaction *reaction, guint seconds)
{
    XldrvReaction *later = g_memdup2(reaction, sizeof(*reaction));

    xldrv_domain_ref(later->domain);
    xldrv_instance_ref(later->instance);
    g_timeout_add_seconds(seconds, try_again, later);
}

/* How long this restart has to wait. */
static guint restart_delay(XldrvJob *job)
{
    gint64 life_us = g_get_monotonic_time() - job->started_us;

    if (life_us >= SHORT_LIFE_SECONDS * G_TIME_SPAN_SECOND)
        job->short_lives = 0;
    if (job->short_lives++ < PROMPT_RESTARTS)
        return 0;
    return MIN(1u << MIN(job->short_lives - PROMPT_RESTARTS, 16), MAX_RESTART_SECONDS);
}

/* Until its time has come the domain stays what it is, a guest that has ended, and destroy ends the waiting. */
static void restart_in_time(XldrvDriver *driver, XldrvJob *job, const Ending *ending, guint64 code)
{
    const XldrvReaction due = {react, job, job->instance, RESTART_DUE, code};
    guint delay = restart_delay(job);

    if (!delay) {
        restart(driver, job, ending);
        return;
    }
    g_message("domain '%s' ends again and again: restarting it in %u seconds", job->name, delay);
    xldrv_set_running_state(driver, job, ending->kept_state, ending->kept_reason);
    react_later(&due, delay);
}

static void handle_restart_due(XldrvDriver *driver, XldrvJob *job, guint64 code)
{
    const Ending ending = classify(code, xmlconf_domain_config(job->live));

    restart(driver, job, &ending);
}

/* What <on_crash> means for a guest whose watchdog fired. */
static int watchdog_action(XmlconfAction action)
{
    switch (action) {
    case XMLCONF_ACTION_RESTART:
        return VIR_DOMAIN_EVENT_WATCHDOG_RESET;
    case XMLCONF_ACTION_PRESERVE:
        return VIR_DOMAIN_EVENT_WATCHDOG_PAUSE;
    default:
        return VIR_DOMAIN_EVENT_WATCHDOG_POWEROFF;
    }
}

static void handle_shutdown(XldrvDriver *driver, XldrvJob *job, guint64 code)
{
    const Ending ending = classify(code, xmlconf_domain_config(job->live));

    g_info("domain '%s' shut down, code %" G_GUINT64_FORMAT, job->name, code);
    if (code == SHUTDOWN_watchdog)
        xldrv_event_watchdog(driver->events, job, watchdog_action(ending.action));
    switch (ending.action) {
    case XMLCONF_ACTION_RESTART:
        restart_in_time(driver, job, &ending, code);
        break;
    case XMLCONF_ACTION_PRESERVE:
        preserve(driver, job, &ending);
        break;
    default: /* the others are refused when a domain is defined */
        xldrv_stop(driver, job, ending.reason, ending.detail, FALSE);
    }
}

/* ---- something broke */

static void handle_store_lost(XldrvDriver *driver, XldrvJob *job)
{
    g_autoptr(GError) why = NULL;

    if (xldrv_reattach_store(driver, job->instance, &why))
        return;
    g_warning("domain '%s' has no store: %s", job->name, why->message);
    xldrv_event_control_error(driver->events, job);
}

static void handle_memory(XldrvDriver *driver, XldrvJob *job, guint64 pages)
{
    const struct domctl_info info = {.memory_pages = pages};

    xldrv_event_balloon_change(driver->events, job,
                               xldrv_info_memory_kib(&info, xmlconf_domain_config(job->live)->memory_kib));
}

static void handle_lost(XldrvDriver *driver, XldrvJob *job, const XldrvReaction *reaction)
{
    g_autoptr(GError) why = NULL;
    struct domctl_info info;

    if (xldrv_process_wait(xldrv_instance_process(job->instance), END_WAIT_MS))
        return; /* its end is reported by itself */
    if (xldrv_instance_rewatch(job->instance, &why)) {
        /* What happened in between was told to nobody. */
        if (xldrv_instance_get_info(job->instance, &info, NULL) && info.shutdown)
            handle_shutdown(driver, job, info.shutdown_code);
        return;
    }
    g_warning("domain '%s': %s", job->name, why->message);
    xldrv_event_control_error(driver->events, job);
    react_later(reaction, RETRY_SECONDS);
}

/* ---- what serves a domain is started again at once, but what ends over and over not more often than this */

/* Whether it is not time yet: then it comes back. @last is when it was done last, and is now if it is time. */
static gboolean waits(const XldrvReaction *reaction, gint64 *last)
{
    gint64 now = g_get_monotonic_time();

    if (now - *last < RETRY_SECONDS * G_TIME_SPAN_SECOND && reaction->arg != RETRIED) {
        XldrvReaction later = *reaction;

        later.arg = RETRIED;
        react_later(&later, RETRY_SECONDS);
        return TRUE;
    }
    *last = now;
    return FALSE;
}

static XldrvDeviceHost device_host(XldrvDriver *driver, XldrvJob *job)
{
    return (XldrvDeviceHost){driver, job->instance, job->uuid_text, job->name};
}

/* ---- disks */

/* Tells of each disk that waits. TRUE: there is one. */
static gboolean tell_of_errors(XldrvDriver *driver, XldrvJob *job)
{
    const GPtrArray *disks = xmlconf_domain_config(job->live)->disks;
    gboolean any = FALSE;

    for (guint i = 0; disks && i < disks->len; i++) {
        const XmlconfDisk *disk = disks->pdata[i];
        const char *source = xmlconf_disk_source(disk);
        XldrvDiskStats stats;

        if (!xldrv_disk_stats(job->instance, disk, &stats, NULL) || !stats.held)
            continue;
        any = TRUE;
        g_warning("domain '%s' is paused: disk '%s': %s", job->name, disk->target, g_strerror((int)stats.held_error));
        xldrv_event_io_error(driver->events, job, source ? source : "", disk->alias ? disk->alias : disk->target,
                             stats.held_error == ENOSPC ? "enospc" : "");
    }
    return any;
}

/* The hypervisor has paused the domain, unless somebody else had. */
gboolean xldrv_pause_for_io_error(XldrvDriver *driver, XldrvJob *job)
{
    if (!tell_of_errors(driver, job))
        return FALSE;
    if (job->state != VIR_DOMAIN_RUNNING)
        return TRUE;
    xldrv_set_running_state(driver, job, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_IOERROR);
    xldrv_event_lifecycle(driver->events, job, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_IOERROR);
    return TRUE;
}

static void handle_image_lost(XldrvDriver *driver, XldrvJob *job, const XldrvReaction *reaction)
{
    const XldrvDeviceHost host = device_host(driver, job);
    g_autoptr(GError) why = NULL;

    if (xldrv_migration_is_sent(job))
        return; /* they are the destination's, or are taken back with it */
    if (waits(reaction, &job->reconnected_us) ||
        xldrv_disks_reconnect(&host, xmlconf_domain_config(job->live)->disks, &why))
        return;
    g_warning("domain '%s': %s", job->name, why->message);
    job->reconnected_us = 0;
    react_later(reaction, RETRY_SECONDS);
}

/* ---- interfaces */

static void handle_port_lost(XldrvDriver *driver, XldrvJob *job, const XldrvReaction *reaction)
{
    const XldrvDeviceHost host = device_host(driver, job);
    g_autoptr(GError) why = NULL;

    if (waits(reaction, &job->connected_us) ||
        xldrv_nics_reconnect(&host, xmlconf_domain_config(job->live)->interfaces, &why))
        return;
    g_warning("domain '%s': %s", job->name, why->message);
    react_later(reaction, RETRY_SECONDS);
}

/* ---- what shows it */

/* The document may get other ports. */
static void handle_display_lost(XldrvDriver *driver, XldrvJob *job, const XldrvReaction *reaction)
{
    const XldrvDeviceHost host = device_host(driver, job);
    g_autoptr(XmlconfDomain) live = xmlconf_domain_copy(job->live);
    g_autoptr(GError) why = NULL;

    if (waits(reaction, &job->shown_us))
        return;
    if (xldrv_display_restart(&host, xmlconf_domain_config(live), &why) &&
        xldrv_display_watch(driver, job, job->instance, &why)) {
        g_message("domain '%s': its VNC server ended and was started again", job->name);
        return;
    }
    g_warning("domain '%s' cannot be shown: %s", job->name, why->message);
    react_later(reaction, RETRY_SECONDS);
}

static void handle_ended(XldrvDriver *driver, XldrvJob *job)
{
    if (xldrv_instance_was_killed(job->instance)) {
        xldrv_stop(driver, job, VIR_DOMAIN_SHUTOFF_DESTROYED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED, FALSE);
        return;
    }
    g_warning("domain '%s': its hypervisor process ended", job->name);
    xldrv_stop(driver, job, VIR_DOMAIN_SHUTOFF_CRASHED, VIR_DOMAIN_EVENT_STOPPED_FAILED, FALSE);
}

static void react(XldrvDriver *driver, const XldrvReaction *reaction)
{
    g_autoptr(XldrvJobGuard) job = xldrv_job_begin_waiting(reaction->domain, "react");

    /* Whoever had the job before may have ended, or replaced, what this is about. */
    if (!job || job->instance != reaction->instance)
        return;
    switch (reaction->event) {
    case XLDRV_INSTANCE_ENDED:
        handle_ended(driver, job);
        break;
    case HV_EVENT_SHUTDOWN:
        handle_shutdown(driver, job, reaction->arg);
        break;
    case HV_EVENT_IO_ERROR:
        xldrv_pause_for_io_error(driver, job);
        break;
    case HV_EVENT_IMAGE_LOST:
        handle_image_lost(driver, job, reaction);
        break;
    case HV_EVENT_PORT_LOST:
        handle_port_lost(driver, job, reaction);
        break;
    case HV_EVENT_STORE_LOST:
        handle_store_lost(driver, job);
        break;
    case HV_EVENT_LOG_FULL:
        xldrv_logs_renew(driver, job, reaction->arg);
        break;
    case HV_EVENT_MEMORY:
        handle_memory(driver, job, reaction->arg);
        break;
    case XLDRV_INSTANCE_LOST:
        handle_lost(driver, job, reaction);
        break;
    case XLDRV_DISPLAY_LOST:
        handle_display_lost(driver, job, reaction);
        break;
    case RESTART_DUE:
        handle_restart_due(driver, job, reaction->arg);
        break;
    }
}

void xldrv_react_to_instance(XldrvInstance *instance, guint event, guint64 arg, gpointer domain)
{
    const XldrvReaction reaction = {react, domain, instance, event, arg};

    xldrv_driver_react(xldrv_driver_get(), &reaction);
}

gboolean xldrv_watch(XldrvDomain *domain, XldrvInstance *instance, GError **error)
{
    return xldrv_instance_watch(instance, xldrv_react_to_instance, xldrv_domain_ref(domain),
                                (GDestroyNotify)xldrv_domain_unref, error);
}

static int attach_store_fds(struct domctl *ctl, gpointer data)
{
    const int *fds = data;

    return domctl_store_attach(ctl, fds[0], fds[1]);
}

gboolean xldrv_reattach_store(XldrvDriver *driver, XldrvInstance *instance, GError **error)
{
    int id = xldrv_instance_id(instance);
    gboolean ok;
    int fds[2];

    if (!xldrv_store_introduce_again(driver->store, id, error))
        return FALSE;
    if (!xldrv_store_domain_connections(driver->store, id, fds, error))
        return FALSE;
    ok = xldrv_instance_control(instance, "attach the store to", attach_store_fds, fds, error);
    close(fds[0]);
    close(fds[1]);
    return ok;
}
