/* Jobs that take long: their progress, their end, and the procedures that ask for both. */
#include "config.h"

#include "libxldrv/driver/longjob.h"

#include <errno.h>

#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/migrate.h"
#include "libxldrv/driver/wire.h"

/* Between looks; short while the guest is stopped, or may soon be. */
#define POLL_US        5000
#define POLL_FROZEN_US 200
#define SOON_BYTES     (4u << 20)
#define LOOK_US        500000 /* at what goes on beside the stream */

void xldrv_longjob_begin(XldrvJob *job, virDomainJobOperation operation)
{
    g_mutex_lock(&job->lock);
    job->long_job = operation;
    job->long_job_us = g_get_monotonic_time();
    job->abort_asked = FALSE;
    job->disk_total = job->disk_done = 0;
    job->completed_job = 0;
    g_mutex_unlock(&job->lock);
}

gboolean xldrv_longjob_is_aborted(XldrvJob *job)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&job->lock);

    return job->abort_asked;
}

/* ---- following a stream */

static int get_status(struct domctl *ctl, gpointer status)
{
    return domctl_stream_status(ctl, status);
}

static int end_stream(struct domctl *ctl, gpointer unused G_GNUC_UNUSED)
{
    return domctl_stream_end(ctl);
}

void xldrv_stream_end(XldrvInstance *instance)
{
    g_autoptr(GError) why = NULL;

    if (!xldrv_instance_control(instance, "go on with", end_stream, NULL, &why))
        g_warning("%s", why->message);
}

static gboolean is_urgent(const struct domus_stream_status *status)
{
    return status->phase == DOMUS_STREAM_FROZEN || (status->passes && status->remaining_bytes < SOON_BYTES);
}

/* A migration has begun another pass through memory. */
static void tell_iteration(XldrvJob *job, guint64 *told, const struct domus_stream_status *status)
{
    if (status->passes <= *told || job->long_job != VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT)
        return;
    *told = status->passes;
    xldrv_event_migration_iteration(xldrv_driver_get()->events, job, (int)MIN(status->passes, G_MAXINT32));
}

gboolean xldrv_stream_wait(XldrvJob *job, const char *what, struct domus_stream_status *status, GError **error)
{
    return xldrv_stream_wait_while(job, what, NULL, NULL, status, error);
}

gboolean xldrv_stream_wait_while(XldrvJob *job, const char *what, XldrvStreamLookFn look, gpointer data,
                                 struct domus_stream_status *status, GError **error)
{
    gint64 look_at = look ? g_get_monotonic_time() + LOOK_US : G_MAXINT64;
    guint64 told = 0;

    for (;;) {
        if (!xldrv_instance_control(job->instance, what, get_status, status, error))
            return FALSE;
        tell_iteration(job, &told, status);
        if (status->phase == DOMUS_STREAM_DONE || status->phase == DOMUS_STREAM_POSTCOPY)
            return TRUE;
        if (status->phase == DOMUS_STREAM_FAILED || status->phase == DOMUS_STREAM_NONE)
            return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot %s domain '%s': %s", what, job->name,
                                   status->text[0] ? status->text : "it was ended");
        if (xldrv_longjob_is_aborted(job)) {
            xldrv_stream_end(job->instance);
            return xldrv_set_error(error, VIR_ERR_OPERATION_ABORTED, "%s of domain '%s' was canceled by client", what,
                                   job->name);
        }
        if (status->phase != DOMUS_STREAM_FROZEN && g_get_monotonic_time() > look_at) {
            if (!look(data, error)) {
                xldrv_stream_end(job->instance);
                return FALSE;
            }
            look_at = g_get_monotonic_time() + LOOK_US;
        }
        g_usleep(is_urgent(status) ? POLL_FROZEN_US : POLL_US);
    }
}

/* ---- whose it is */

#define CLAIM_POLL_US 100
#define CLAIM_SECONDS 20

typedef struct {
    int error; /* a negative errno */
    struct domus_stream_status status;
} Claim;

/* Its error is for us to judge. */
static int claim_stream(struct domctl *ctl, gpointer claim)
{
    ((Claim *)claim)->error = domctl_stream_claim(ctl);
    return 0;
}

static int get_claim_status(struct domctl *ctl, gpointer claim)
{
    return domctl_stream_status(ctl, &((Claim *)claim)->status);
}

gboolean xldrv_stream_claim(XldrvInstance *instance, const char *name, GError **error)
{
    gint64 end = g_get_monotonic_time() + CLAIM_SECONDS * G_TIME_SPAN_SECOND;
    Claim claim = {.error = 0};

    if (!xldrv_instance_control(instance, "ask for", claim_stream, &claim, error))
        return FALSE;
    if (claim.error == -ENOENT)
        return TRUE;
    while (!claim.error && g_get_monotonic_time() < end &&
           xldrv_instance_control(instance, "ask for", get_claim_status, &claim, NULL)) {
        if (claim.status.owner == DOMUS_OWNER_RECEIVER)
            return TRUE;
        if (claim.status.owner == DOMUS_OWNER_SENDER)
            break;
        g_usleep(CLAIM_POLL_US);
    }
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the source of domain '%s' keeps it, or is gone", name);
}

/* ---- what clients ask */

#define NS_PER_MS 1000000u

/* What a job copies of disks, in bytes. */
typedef struct {
    guint64 total, done;
} Disks;

static gboolean snapshot(XldrvDomain *domain, int *operation, gint64 *began_us, Disks *disks, XldrvInstance **instance)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    /* What migrates it by itself is at work before there is something to send, and afterwards. */
    *operation = domain->migrator && !domain->long_job ? VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT : domain->long_job;
    *began_us = domain->long_job ? domain->long_job_us : domain->migrator_us;
    *disks = (Disks){domain->long_job ? domain->disk_total : 0, domain->long_job ? domain->disk_done : 0};
    *instance = domain->instance ? xldrv_instance_ref(domain->instance) : NULL;
    return *operation != 0;
}

/* Of the job that is under way; FALSE: there is none. */
static gboolean current(XldrvDomain *domain, int *operation, struct domus_stream_status *status, Disks *disks)
{
    XldrvInstance *instance;
    gint64 began_us;
    gboolean any = snapshot(domain, operation, &began_us, disks, &instance);

    *status = (struct domus_stream_status){0};
    if (any && instance)
        xldrv_instance_control(instance, "ask about", get_status, status, NULL);
    if (any && !status->elapsed_ns)
        status->elapsed_ns = (guint64)(g_get_monotonic_time() - began_us) * 1000;
    xldrv_instance_unref(instance);
    return any;
}

static guint64 processed(const struct domus_stream_status *s)
{
    return s->memory_bytes > s->remaining_bytes ? s->memory_bytes - s->remaining_bytes : 0;
}

static GVariant *job_info(int type, const struct domus_stream_status *s, const Disks *disks)
{
    const guint64 none = 0, left = disks->total - disks->done;

    return g_variant_new("(ittttttttttt)", type, s->elapsed_ns / NS_PER_MS, none, s->memory_bytes + disks->total,
                         processed(s) + disks->done, s->remaining_bytes + left, s->memory_bytes, processed(s),
                         s->remaining_bytes, disks->total, disks->done, left);
}

GVariant *xldrv_handle_domain_get_job_info(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    struct domus_stream_status s;
    int operation;
    Disks disks;

    if (!domain)
        return NULL;
    if (!current(domain, &operation, &s, &disks)) {
        gboolean backup = xldrv_backup_progress(domain, &disks.total, &disks.done);

        return job_info(backup ? VIR_DOMAIN_JOB_UNBOUNDED : VIR_DOMAIN_JOB_NONE, &s, &disks);
    }
    return job_info(VIR_DOMAIN_JOB_UNBOUNDED, &s, &disks);
}

static void add_disks(GVariantBuilder *params, const Disks *disks)
{
    xldrv_params_add(params, VIR_DOMAIN_JOB_DISK_TOTAL, g_variant_new_uint64(disks->total));
    xldrv_params_add(params, VIR_DOMAIN_JOB_DISK_PROCESSED, g_variant_new_uint64(disks->done));
    xldrv_params_add(params, VIR_DOMAIN_JOB_DISK_REMAINING, g_variant_new_uint64(disks->total - disks->done));
}

/* Of a backup, in bytes of its disks. */
static GVariant *disk_stats(guint64 elapsed_ms, const Disks *disks)
{
    const struct {
        const char *name;
        guint64 value;
    } rows[] = {
        {VIR_DOMAIN_JOB_TIME_ELAPSED, elapsed_ms},
        {VIR_DOMAIN_JOB_DATA_TOTAL, disks->total},
        {VIR_DOMAIN_JOB_DATA_PROCESSED, disks->done},
        {VIR_DOMAIN_JOB_DATA_REMAINING, disks->total - disks->done},
    };
    GVariantBuilder params;

    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    xldrv_params_add(&params, VIR_DOMAIN_JOB_OPERATION, g_variant_new_int32(VIR_DOMAIN_JOB_OPERATION_BACKUP));
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        xldrv_params_add(&params, rows[i].name, g_variant_new_uint64(rows[i].value));
    add_disks(&params, disks);
    return g_variant_builder_end(&params);
}

static GVariant *stats_of(int operation, const struct domus_stream_status *s, const Disks *disks)
{
    const struct {
        const char *name;
        guint64 value;
    } rows[] = {
        {VIR_DOMAIN_JOB_TIME_ELAPSED, s->elapsed_ns / NS_PER_MS},
        {VIR_DOMAIN_JOB_DOWNTIME, s->frozen_ns / NS_PER_MS},
        {VIR_DOMAIN_JOB_DATA_TOTAL, s->memory_bytes + disks->total},
        {VIR_DOMAIN_JOB_DATA_PROCESSED, s->transferred_bytes + disks->done},
        {VIR_DOMAIN_JOB_DATA_REMAINING, s->remaining_bytes + disks->total - disks->done},
        {VIR_DOMAIN_JOB_MEMORY_TOTAL, s->memory_bytes},
        {VIR_DOMAIN_JOB_MEMORY_PROCESSED, s->transferred_bytes},
        {VIR_DOMAIN_JOB_MEMORY_REMAINING, s->remaining_bytes},
        {VIR_DOMAIN_JOB_MEMORY_CONSTANT, s->zero_pages},
        {VIR_DOMAIN_JOB_MEMORY_NORMAL, s->pages},
        {VIR_DOMAIN_JOB_MEMORY_NORMAL_BYTES, s->pages * 4096},
        {VIR_DOMAIN_JOB_MEMORY_BPS, s->bytes_per_second},
        {VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE, s->dirty_pages_per_second},
        {VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE, 4096},
        {VIR_DOMAIN_JOB_MEMORY_ITERATION, s->passes},
    };
    GVariantBuilder params;

    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    xldrv_params_add(&params, VIR_DOMAIN_JOB_OPERATION, g_variant_new_int32(operation));
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        xldrv_params_add(&params, rows[i].name, g_variant_new_uint64(rows[i].value));
    if (disks->total)
        add_disks(&params, disks);
    if (s->requests)
        xldrv_params_add(&params, VIR_DOMAIN_JOB_MEMORY_POSTCOPY_REQS, g_variant_new_uint64(s->requests));
    if (s->throttle_percent)
        xldrv_params_add(&params, VIR_DOMAIN_JOB_AUTO_CONVERGE_THROTTLE, g_variant_new_int32((gint32)s->throttle_percent));
    return g_variant_builder_end(&params);
}

/* NULL: there is none. */
static GVariant *completed_stats(XldrvDomain *domain, gboolean keep)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);
    int operation = domain->completed_job;
    const Disks disks = {domain->completed_disk_bytes, domain->completed_disk_bytes};

    if (!keep)
        domain->completed_job = 0;
    if (operation == VIR_DOMAIN_JOB_OPERATION_BACKUP)
        return disk_stats(domain->completed.elapsed_ns / NS_PER_MS, &disks);
    return operation ? stats_of(operation, &domain->completed, &disks) : NULL;
}

static GVariant *current_stats(XldrvDomain *domain)
{
    struct domus_stream_status s;
    int operation;
    Disks disks;

    if (current(domain, &operation, &s, &disks))
        return stats_of(operation, &s, &disks);
    if (!xldrv_backup_progress(domain, &disks.total, &disks.done))
        return NULL;
    return disk_stats((guint64)(g_get_monotonic_time() - domain->backup_us) / 1000, &disks);
}

GVariant *xldrv_handle_domain_get_job_stats(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 1);
    gboolean completed = flags & VIR_DOMAIN_JOB_STATS_COMPLETED;
    g_autoptr(XldrvDomain) domain = NULL;
    GVariant *stats;

    if (!xldrv_check_flags(flags, VIR_DOMAIN_JOB_STATS_COMPLETED | VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED, G_STRFUNC, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    if (!domain)
        return NULL;
    stats = completed ? completed_stats(domain, flags & VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED) : current_stats(domain);
    if (!stats)
        return g_variant_new("(i@a(sv))", VIR_DOMAIN_JOB_NONE, g_variant_new_array(G_VARIANT_TYPE("(sv)"), NULL, 0));
    return g_variant_new("(i@a(sv))", completed ? VIR_DOMAIN_JOB_COMPLETED : VIR_DOMAIN_JOB_UNBOUNDED, stats);
}

void xldrv_longjob_backup_ended(XldrvDriver *driver, XldrvJob *job, guint64 disk_bytes)
{
    guint64 elapsed_ns = (guint64)(g_get_monotonic_time() - job->backup_us) * 1000;
    const Disks disks = {disk_bytes, disk_bytes};

    g_mutex_lock(&job->lock);
    job->completed_job = VIR_DOMAIN_JOB_OPERATION_BACKUP;
    job->completed = (struct domus_stream_status){.elapsed_ns = elapsed_ns};
    job->completed_disk_bytes = disk_bytes;
    g_mutex_unlock(&job->lock);
    xldrv_event_job_completed(driver->events, job, disk_stats(elapsed_ns / NS_PER_MS, &disks));
}

void xldrv_longjob_end(XldrvDriver *driver, XldrvJob *job, const struct domus_stream_status *completed)
{
    int operation;
    Disks disks;

    g_mutex_lock(&job->lock);
    operation = job->long_job;
    disks = (Disks){job->disk_total, job->disk_done};
    job->long_job = 0;
    if (completed) {
        job->completed_job = operation;
        job->completed = *completed;
        job->completed_disk_bytes = disks.total;
    }
    g_mutex_unlock(&job->lock);
    if (completed)
        xldrv_event_job_completed(driver->events, job, stats_of(operation, completed, &disks));
}

static GVariant *abort_job(GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(GError) why = NULL;
    gboolean any, too_late;

    if (!domain)
        return NULL;
    g_mutex_lock(&domain->lock);
    any = domain->long_job != 0;
    too_late = any && xldrv_postcopy_is_left(domain);
    domain->abort_asked |= any;
    g_mutex_unlock(&domain->lock);
    if (too_late) {
        xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot abort migration in post-copy mode");
        return NULL;
    }
    if (any || xldrv_backup_cancel(domain, &why))
        return xldrv_reply_void();
    if (why) {
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    return xldrv_migrate_peer_abort(domain, error) ? xldrv_reply_void() : NULL;
}

GVariant *xldrv_handle_domain_abort_job(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return abort_job(args, error);
}

GVariant *xldrv_handle_domain_abort_job_flags(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error) ? abort_job(args, error) : NULL;
}
