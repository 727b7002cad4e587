/* Procedures about block jobs that are under way: progress, speed, ends. */
#include "config.h"

#include <string.h>

#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

#define MIB (G_GUINT64_CONSTANT(1) << 20)

/* Of the running domain, if it runs, else of the definition, which has no jobs. */
static XmlconfDisk *find_disk(GVariant *args, XldrvDomain **domain, XmlconfDomain **config, GError **error)
{
    *domain = xldrv_args_domain(args, error);
    *config = *domain ? xldrv_domain_get_config(*domain, FALSE) : NULL;
    return *config ? xldrv_find_disk(*config, xldrv_args_string(args, 1), error) : NULL;
}

/* Who waits for a job must not take it for ended, or a copy for complete, before its end or readiness was seen to. */
static void keep_open(const XmlconfDisk *disk, XldrvBlockJobState *state)
{
    if (xldrv_blockjob_is_ready(disk) || state->current < state->total)
        return;
    if (state->total)
        state->current = state->total - 1;
    else
        state->total = 1;
}

/* The wire has MiB a second in 64 bits, the interface in an unsigned long. */
GVariant *xldrv_handle_domain_get_block_job_info(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 2);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XmlconfDomain) config = NULL;
    g_autoptr(XldrvInstance) instance = NULL;
    g_auto(XldrvBlockJobState) state = {0};
    const guint64 none = 0;
    XldrvDeviceHost host;
    XmlconfDisk *disk;

    if (!xldrv_check_flags(flags, VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES, G_STRFUNC, error) ||
        !(disk = find_disk(args, &domain, &config, error)))
        return NULL;
    instance = xldrv_domain_get_instance(domain, NULL);
    if (!instance || !disk->job)
        return g_variant_new("(iittt)", 0, 0, none, none, none);
    host = (XldrvDeviceHost){xldrv_driver_get(), instance, domain->uuid_text, xmlconf_domain_config(config)->name};
    xldrv_blockjob_look(&host, disk, &state, NULL);
    keep_open(disk, &state);
    if (!(flags & VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES))
        state.speed = (state.speed + MIB - 1) / MIB;
    return g_variant_new("(iittt)", 1, xldrv_blockjob_type(disk), state.speed, state.current, state.total);
}

/* The disk of a call that needs a job, with the domain's job. */
static XldrvJob *begin(GVariant *args, const char *what, char **target, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XldrvJobGuard) job = domain ? xldrv_job_begin(domain, what, error) : NULL;
    g_autoptr(XmlconfDomain) config = job ? xldrv_domain_get_config(domain, FALSE) : NULL;
    const XmlconfDisk *disk = config ? xldrv_find_disk(config, xldrv_args_string(args, 1), error) : NULL;

    if (!disk)
        return NULL;
    if (!job->instance || !disk->job) {
        xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "disk '%s' does not have an active block job",
                        xldrv_args_string(args, 1));
        return NULL;
    }
    *target = g_strdup(disk->target);
    return g_steal_pointer(&job);
}

/* The answer comes when it has ended, asynchronous or not: that takes moments. */
GVariant *xldrv_handle_domain_block_job_abort(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 2);
    g_autoptr(XldrvJobGuard) job = NULL;
    g_autofree char *target = NULL;
    gboolean ok;

    if (!xldrv_check_flags(flags, VIR_DOMAIN_BLOCK_JOB_ABORT_ASYNC | VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT, G_STRFUNC, error) ||
        !(job = begin(args, "end a block job of", &target, error)))
        return NULL;
    ok = flags & VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT ? xldrv_blockjob_pivot(xldrv_driver_get(), job, target, error)
                                                  : xldrv_blockjob_cancel(xldrv_driver_get(), job, target, error);
    return ok ? xldrv_reply_void() : NULL;
}

GVariant *xldrv_handle_domain_block_job_set_speed(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    guint flags = xldrv_args_u32(args, 3);
    guint64 speed = xldrv_args_u64(args, 2);
    g_autoptr(XldrvJobGuard) job = NULL;
    g_autofree char *target = NULL, *command = NULL;
    XldrvDeviceHost host;

    if (!xldrv_check_flags(flags, VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES, G_STRFUNC, error) ||
        !xldrv_blockjob_speed(&speed, flags & VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES, error) ||
        !(job = begin(args, "change a block job of", &target, error)))
        return NULL;
    host = (XldrvDeviceHost){xldrv_driver_get(), job->instance, job->uuid_text, job->name};
    command = g_strdup_printf("{\"execute\": \"block-job-set-speed\", \"arguments\": {\"device\": \"job\", \"speed\": "
                              "%" G_GUINT64_FORMAT "}}",
                              speed);
    return xldrv_blockjob_command(&host, job, target, command, error) ? xldrv_reply_void() : NULL;
}
