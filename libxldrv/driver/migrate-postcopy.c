/* Migration, post-copy: after the switch the guest goes on at the destination while the rest of its memory comes.
 *
 *      source                              destination
 *      Perform ends with the switch: the guest stands still here (paused, post-copy)
 *                                          Finish lets it run (running, post-copy), and follows until all is there
 *      Confirm follows until all was sent, and ends it
 *
 * Whoever follows has the domain's job. Clients and daemons may be lost meanwhile: a thread of the daemon, or of the next one,
 * follows then. When the hypervisors lose each other, or one of them ends, the guest is lost: it is paused at both sides (post-copy
 * failed), and runs at neither again. A hypervisor that hangs, since itself waits for memory that will not come, counts as such.
 */
#include "config.h"

#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/longjob.h"
#include "libxldrv/driver/migrate.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/wire.h"

#define POLL_US         5000
#define SILENCE_SECONDS 40 /* of a hypervisor, which waits for a page meanwhile, perhaps */

static int get_status(struct domctl *ctl, gpointer status)
{
    return domctl_stream_status(ctl, status);
}

/* FALSE: it is lost, with an error; *gone: so is its hypervisor. */
static gboolean follow(XldrvJob *job, struct domus_stream_status *status, gboolean *gone, GError **error)
{
    gint64 heard = g_get_monotonic_time();

    *gone = FALSE;
    do {
        g_autoptr(GError) why = NULL;

        if (xldrv_instance_control(job->instance, "follow", get_status, status, &why)) {
            heard = g_get_monotonic_time();
            if (status->phase != DOMUS_STREAM_POSTCOPY)
                break;
        } else if (!g_error_matches(why, XLDRV_ERROR, VIR_ERR_OPERATION_TIMEOUT)) {
            *gone = TRUE;
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        g_usleep(POLL_US);
    } while (g_get_monotonic_time() < heard + SILENCE_SECONDS * G_TIME_SPAN_SECOND);
    if (status->phase == DOMUS_STREAM_DONE)
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "post-copy migration of domain '%s' failed: %s", job->name,
                           status->phase == DOMUS_STREAM_FAILED ? status->text : "its hypervisor does not answer");
}

static void set_failed(XldrvDriver *driver, XldrvJob *job)
{
    xldrv_set_running_state(driver, job, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_POSTCOPY_FAILED);
    xldrv_event_lifecycle(driver->events, job, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED);
}

gboolean xldrv_postcopy_is_lost(const XldrvJob *job)
{
    return job->instance && job->state == VIR_DOMAIN_PAUSED && job->reason == VIR_DOMAIN_PAUSED_POSTCOPY_FAILED;
}

/* ---- the source */

void xldrv_postcopy_left(XldrvDriver *driver, XldrvJob *job)
{
    xldrv_set_running_state(driver, job, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_POSTCOPY);
    xldrv_event_lifecycle(driver->events, job, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY);
}

gboolean xldrv_postcopy_is_left(const XldrvJob *job)
{
    return job->instance && job->state == VIR_DOMAIN_PAUSED && job->reason == VIR_DOMAIN_PAUSED_POSTCOPY;
}

gboolean xldrv_postcopy_complete(XldrvDriver *driver, XldrvJob *job, GError **error)
{
    struct domus_stream_status status = {0};
    gboolean gone, done = follow(job, &status, &gone, error);

    xldrv_longjob_end(driver, job, done ? &status : NULL);
    if (!done && !gone)
        set_failed(driver, job);
    return done;
}

void xldrv_postcopy_give_up(XldrvDriver *driver, XldrvJob *job)
{
    xldrv_longjob_end(driver, job, NULL);
    set_failed(driver, job);
}

gboolean xldrv_postcopy_check_resume(XldrvJob *job, GError **error)
{
    struct domus_stream_status status = {0};

    if (xldrv_postcopy_is_left(job))
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is in post-copy migration", job->name);
    if (!xldrv_instance_control(job->instance, "ask about", get_status, &status, error))
        return FALSE;
    return status.owner == DOMUS_OWNER_GIVEN ||
           xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                           "domain '%s' went on during its migration, and a part of its memory is lost: recovery of post-copy is "
                           "not supported", job->name);
}

/* ---- the destination */

gboolean xldrv_postcopy_arrive(XldrvDriver *driver, XldrvJob *job, GError **error)
{
    struct domus_stream_status status = {0};
    gboolean gone;

    if (follow(job, &status, &gone, error)) {
        xldrv_set_running_state(driver, job, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_MIGRATED);
        xldrv_event_lifecycle(driver->events, job, VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_MIGRATED);
        return TRUE;
    }
    if (!gone)
        set_failed(driver, job);
    return FALSE;
}

gboolean xldrv_postcopy_is_arriving(const XldrvJob *job)
{
    return job->instance && job->state == VIR_DOMAIN_RUNNING && job->reason == VIR_DOMAIN_RUNNING_POSTCOPY;
}

/* ---- when nobody asks for it */

static gpointer follow_main(gpointer data)
{
    g_autoptr(XldrvDomain) domain = data;
    g_autoptr(XldrvJobGuard) job = xldrv_job_begin_waiting(domain, "migrate");
    XldrvDriver *driver = xldrv_driver_get();
    g_autoptr(GError) why = NULL;

    if (job && xldrv_postcopy_is_left(job)) {
        if (!job->long_job) /* it was an earlier daemon's */
            xldrv_longjob_begin(job, VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT);
        xldrv_migration_come_back(driver, job, &why);
    } else if (job && xldrv_postcopy_is_arriving(job))
        xldrv_postcopy_arrive(driver, job, &why);
    if (why)
        g_warning("%s", why->message);
    return NULL;
}

void xldrv_postcopy_follow_soon(XldrvDomain *domain)
{
    g_thread_unref(g_thread_new("post-copy", follow_main, xldrv_domain_ref(domain)));
}

/* ---- the switch */

static int switch_stream(struct domctl *ctl, gpointer error)
{
    *(int *)error = domctl_stream_switch(ctl);
    return *(int *)error == -ENOENT || *(int *)error == -EINVAL ? 0 : *(int *)error; /* for us to judge */
}

/* Without the domain's job, which its migration has. */
static gboolean start_postcopy(XldrvDomain *domain, GError **error)
{
    g_autoptr(XldrvInstance) instance = NULL;
    gboolean can;
    int failed = 0;

    g_mutex_lock(&domain->lock);
    if (domain->instance && domain->long_job == VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT)
        instance = xldrv_instance_ref(domain->instance);
    can = domain->migrate_flags & VIR_MIGRATE_POSTCOPY;
    g_mutex_unlock(&domain->lock);
    if (instance && !can)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                               "switching to post-copy requires migration to be started with VIR_MIGRATE_POSTCOPY flag");
    if (instance && !xldrv_instance_control(instance, "switch", switch_stream, &failed, error))
        return FALSE;
    return (instance && !failed) ||
           xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                           "post-copy can only be started while outgoing migration is in progress");
}

GVariant *xldrv_handle_domain_migrate_start_post_copy(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    return domain && start_postcopy(domain, error) ? xldrv_reply_void() : NULL;
}
