/* Procedures that start, stop, pause and wake domains. */
#include "config.h"

#include "libxldrv/driver/agent-command.h"
#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/migrate.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/save.h"
#include "libxldrv/driver/wire.h"

#define CREATE_FLAGS (VIR_DOMAIN_START_PAUSED | VIR_DOMAIN_START_AUTODESTROY)
/* Of what has a definition, and may have a managed save. */
#define START_FLAGS (CREATE_FLAGS | VIR_DOMAIN_START_BYPASS_CACHE | VIR_DOMAIN_START_FORCE_BOOT)

/* ---- start */

/* By its definition, it may go on from where it was saved. */
static gboolean start_as(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *config, guint flags,
                         const XldrvStartOptions *options, GError **error)
{
    if (config != job->config)
        return xldrv_start(driver, job, config, options, error);
    return xldrv_managed_start(driver, job, options, flags & VIR_DOMAIN_START_FORCE_BOOT,
                               flags & VIR_DOMAIN_START_BYPASS_CACHE, error);
}

static gboolean start(XldrvCall *call, XldrvJob *job, XmlconfDomain *config, guint flags, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    XldrvClient *client = xldrv_call_client(call);
    const XldrvStartOptions options = {
        .paused = (flags & VIR_DOMAIN_START_PAUSED) != 0,
        .owner = flags & VIR_DOMAIN_START_AUTODESTROY ? xldrv_client_id(client) : 0,
    };

    if (!start_as(driver, job, config, flags, &options, error))
        return FALSE;
    /* One that went while the domain was started did not find it among its own. */
    if (options.owner && xldrv_client_is_closed(client))
        xldrv_stop(driver, job, VIR_DOMAIN_SHUTOFF_DESTROYED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED, FALSE);
    return TRUE;
}

static XldrvJob *start_defined(XldrvCall *call, GVariant *args, guint flags, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XldrvJobGuard) job = domain ? xldrv_job_begin(domain, "start", error) : NULL;

    if (!job)
        return NULL;
    if (job->instance) {
        xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is already running");
        return NULL;
    }
    return start(call, job, job->config, flags, error) ? g_steal_pointer(&job) : NULL;
}

GVariant *xldrv_handle_domain_create(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(XldrvJobGuard) job = start_defined(call, args, 0, error);

    return job ? xldrv_reply_void() : NULL;
}

GVariant *xldrv_handle_domain_create_with_flags(XldrvCall *call, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 1);
    g_autoptr(XldrvJobGuard) job = NULL;

    if (!xldrv_check_flags(flags, START_FLAGS, G_STRFUNC, error))
        return NULL;
    job = start_defined(call, args, flags, error);
    return job ? xldrv_reply_domain(job) : NULL;
}

GVariant *xldrv_handle_domain_create_xml(XldrvCall *call, GVariant *args, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    guint flags = xldrv_args_u32(args, 1);
    g_autoptr(XmlconfDomain) config = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    const XmlconfDomainConfig *typed;

    if (!xldrv_check_flags(flags, CREATE_FLAGS | VIR_DOMAIN_START_VALIDATE, G_STRFUNC, error))
        return NULL;
    config = xldrv_parse_xml(xldrv_args_string(args, 0), flags & VIR_DOMAIN_START_VALIDATE, error);
    if (!config)
        return NULL;
    typed = xmlconf_domain_config(config);
    if (!xldrv_access_check_config(call, args, typed, error))
        return NULL;
    job = xldrv_domains_claim(driver->domains, typed->uuid, typed->name, "create", error);
    if (!job)
        return NULL;
    if (job->instance) {
        xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is already active", job->name);
        return NULL;
    }
    if (start(call, job, config, flags, error))
        return xldrv_reply_domain(job);
    if (!job->config)
        xldrv_domains_remove(driver->domains, job);
    return NULL;
}

/* ---- the domain of a call, running, with its job */

static XldrvJob *begin_running(GVariant *args, const char *what, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XldrvJobGuard) job = domain ? xldrv_job_begin(domain, what, error) : NULL;

    if (!job)
        return NULL;
    if (job->instance)
        return g_steal_pointer(&job);
    xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    return NULL;
}

/* As above, and the guest has not ended: a preserved domain is only good for destroy. */
static XldrvJob *begin_alive(GVariant *args, const char *what, GError **error)
{
    g_autoptr(XldrvJobGuard) job = begin_running(args, what, error);

    if (!job || job->state == VIR_DOMAIN_RUNNING || job->state == VIR_DOMAIN_PAUSED)
        return g_steal_pointer(&job);
    xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running: its guest has %s",
                    job->state == VIR_DOMAIN_CRASHED ? "crashed" : "shut down");
    return NULL;
}

/* ---- destroy */

/* Whoever has the domain's job longer than this may wait for a hypervisor that does not answer, or is saving the
 * domain: destroy is what helps then, and does not wait for it. */
#define DESTROY_WAIT_SECONDS 5

/* NULL without an error: the domain was killed, and another has cleaned up. */
static XldrvJob *begin_destroy(XldrvDomain *domain, GError **error)
{
    g_autoptr(XldrvJobGuard) job = xldrv_job_begin_within(domain, DESTROY_WAIT_SECONDS, "destroy", NULL);
    g_autoptr(XldrvInstance) killed = NULL;
    g_autoptr(GError) why = NULL;

    if (!job) {
        killed = xldrv_domain_get_instance(domain, NULL);
        if (killed)
            xldrv_instance_kill(killed);
        job = xldrv_job_begin(domain, "destroy", &why);
    }
    if (job && job->instance && (!killed || job->instance == killed))
        return g_steal_pointer(&job);
    if (killed && (job || g_error_matches(why, XLDRV_ERROR, VIR_ERR_NO_DOMAIN)))
        return NULL;
    if (why)
        g_propagate_error(error, g_steal_pointer(&why));
    else
        xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    return NULL;
}

static GVariant *destroy(GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XldrvJobGuard) job = NULL;
    g_autoptr(GError) why = NULL;

    if (!domain)
        return NULL;
    job = begin_destroy(domain, &why);
    if (why) {
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    if (!job)
        return xldrv_reply_void();
    xldrv_stop(xldrv_driver_get(), job, VIR_DOMAIN_SHUTOFF_DESTROYED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED,
               FALSE);
    return xldrv_reply_void();
}

GVariant *xldrv_handle_domain_destroy(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return destroy(args, error);
}

/* Graceful means: not by force while the hypervisor flushes what it has; destroy always asks it first. */
GVariant *xldrv_handle_domain_destroy_flags(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    if (!xldrv_check_flags(xldrv_args_u32(args, 1), VIR_DOMAIN_DESTROY_GRACEFUL, G_STRFUNC, error))
        return NULL;
    return destroy(args, error);
}

GVariant *xldrv_handle_domain_reset(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvJobGuard) job = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error))
        return NULL;
    job = begin_running(args, "reset", error);
    return job && xldrv_reset(xldrv_driver_get(), job, error) ? xldrv_reply_void() : NULL;
}

/* ---- what the guest is asked to do */

static GVariant *request(GVariant *args, const char *what, GError **error)
{
    g_autoptr(XldrvJobGuard) job = begin_alive(args, what, error);

    if (!job || !xldrv_store_request_shutdown(xldrv_driver_get()->store,
                                              xldrv_instance_id(job->instance), what, error))
        return NULL;
    return xldrv_reply_void();
}

/* The ways that a guest of this kind can hear of it: xenstore, which is what it does by itself, and its agent. */
typedef struct {
    guint all, paravirt, agent; /* virDomainShutdownFlagValues or virDomainRebootFlagValues */
    const char *store_word;     /* for control/shutdown */
    const char *agent_mode;     /* of guest-shutdown */
} Ending;

static const Ending poweroff = {
    .all = VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN | VIR_DOMAIN_SHUTDOWN_GUEST_AGENT | VIR_DOMAIN_SHUTDOWN_INITCTL |
           VIR_DOMAIN_SHUTDOWN_SIGNAL | VIR_DOMAIN_SHUTDOWN_PARAVIRT,
    .paravirt = VIR_DOMAIN_SHUTDOWN_PARAVIRT,
    .agent = VIR_DOMAIN_SHUTDOWN_GUEST_AGENT,
    .store_word = "poweroff",
    .agent_mode = "powerdown",
};

static const Ending reboot = {
    .all = VIR_DOMAIN_REBOOT_ACPI_POWER_BTN | VIR_DOMAIN_REBOOT_GUEST_AGENT | VIR_DOMAIN_REBOOT_INITCTL |
           VIR_DOMAIN_REBOOT_SIGNAL | VIR_DOMAIN_REBOOT_PARAVIRT,
    .paravirt = VIR_DOMAIN_REBOOT_PARAVIRT,
    .agent = VIR_DOMAIN_REBOOT_GUEST_AGENT,
    .store_word = "reboot",
    .agent_mode = "reboot",
};

static gboolean ask_agent(XldrvCall *call, GVariant *args, const Ending *ending, GError **error)
{
    g_autoptr(XldrvAgentSession) session = xldrv_agent_begin_args(call, args, error);
    JsonObject *arguments;

    if (!session)
        return FALSE;
    arguments = json_object_new();
    json_object_set_string_member(arguments, "mode", ending->agent_mode);
    return xldrv_agent_do_silent(session, "guest-shutdown", arguments, error);
}

/* Of several ways, the agent's is tried first. */
static GVariant *end(XldrvCall *call, GVariant *args, guint flags, const Ending *ending, const char *function,
                     GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!xldrv_check_flags(flags, ending->all, function, error))
        return NULL;
    if (flags && !(flags & (ending->paravirt | ending->agent))) {
        xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                        "the guest can be asked by modes 'paravirt' and 'agent' only: it has no ACPI power button");
        return NULL;
    }
    if (flags & ending->agent && ask_agent(call, args, ending, &why))
        return xldrv_reply_void();
    if (why && !(flags & ending->paravirt)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    return request(args, ending->store_word, error);
}

GVariant *xldrv_handle_domain_shutdown(XldrvCall *call, GVariant *args, GError **error)
{
    return end(call, args, 0, &poweroff, G_STRFUNC, error);
}

GVariant *xldrv_handle_domain_shutdown_flags(XldrvCall *call, GVariant *args, GError **error)
{
    return end(call, args, xldrv_args_u32(args, 1), &poweroff, G_STRFUNC, error);
}

GVariant *xldrv_handle_domain_reboot(XldrvCall *call, GVariant *args, GError **error)
{
    return end(call, args, xldrv_args_u32(args, 1), &reboot, G_STRFUNC, error);
}

/* ---- suspend and resume */

GVariant *xldrv_handle_domain_suspend(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    g_autoptr(XldrvJobGuard) job = begin_alive(args, "suspend", error);

    if (!job)
        return NULL;
    if (job->state == VIR_DOMAIN_PAUSED)
        return xldrv_reply_void();
    if (!xldrv_instance_pause(job->instance, error))
        return NULL;
    xldrv_set_running_state(driver, job, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER);
    xldrv_event_lifecycle(driver->events, job, VIR_DOMAIN_EVENT_SUSPENDED,
                          VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
    return xldrv_reply_void();
}

/* A domain that waits for its disks goes on when they can be had. */
static gboolean reconnect(XldrvDriver *driver, XldrvJob *job, GError **error)
{
    const XldrvDeviceHost host = {driver, job->instance, job->uuid_text, job->name};

    return job->reason != VIR_DOMAIN_PAUSED_IOERROR ||
           xldrv_disks_reconnect(&host, xmlconf_domain_config(job->live)->disks, error);
}

GVariant *xldrv_handle_domain_resume(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    g_autoptr(XldrvJobGuard) job = begin_alive(args, "resume", error);

    if (!job)
        return NULL;
    if (job->state == VIR_DOMAIN_RUNNING)
        return xldrv_reply_void();
    if ((xldrv_postcopy_is_left(job) || xldrv_postcopy_is_lost(job)) && !xldrv_postcopy_check_resume(job, error))
        return NULL;
    if (job->reason == VIR_DOMAIN_PAUSED_MIGRATION || job->reason == VIR_DOMAIN_PAUSED_POSTCOPY_FAILED) {
        /* It was sent, and what became of it nobody said: whoever resumes it knows that it does not run elsewhere. */
        if (!xldrv_migration_cancel(driver, job, TRUE, error))
            return NULL;
        xldrv_instance_unpause(job->instance, NULL); /* if it was stopped before */
    } else if (!reconnect(driver, job, error) ||
        !xldrv_let_run(driver, job, job->instance, xmlconf_domain_config(job->live), error))
        return NULL;
    xldrv_set_running_state(driver, job, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_UNPAUSED);
    xldrv_event_lifecycle(driver->events, job, VIR_DOMAIN_EVENT_RESUMED,
                          VIR_DOMAIN_EVENT_RESUMED_UNPAUSED);
    return xldrv_reply_void();
}
