/* Dumps of the guest's memory: `virsh dump`. */
#include "config.h"

#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/longjob.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/target.h"
#include "libxldrv/driver/wire.h"

#define DUMP_FLAGS (VIR_DUMP_CRASH | VIR_DUMP_LIVE | VIR_DUMP_BYPASS_CACHE | VIR_DUMP_RESET | VIR_DUMP_MEMORY_ONLY)

static const char *const refused_formats[] = {
    [VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_ZLIB] = "kdump-zlib",
    [VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_LZO] = "kdump-lzo",
    [VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_SNAPPY] = "kdump-snappy",
    [VIR_DOMAIN_CORE_DUMP_FORMAT_WIN_DMP] = "win-dmp",
};

static gboolean check_format(guint format, GError **error)
{
    if (format == VIR_DOMAIN_CORE_DUMP_FORMAT_RAW)
        return TRUE;
    if (format < G_N_ELEMENTS(refused_formats) && refused_formats[format])
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "dump format '%s' is not supported: elf is",
                               refused_formats[format]);
    return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "invalid dump format %u", format);
}

static gboolean check_flags(guint flags, const char *function, GError **error)
{
    return xldrv_check_flags(flags, DUMP_FLAGS, function, error) &&
           xldrv_check_exclusive(flags, VIR_DUMP_CRASH | VIR_DUMP_LIVE, "VIR_DUMP_CRASH and VIR_DUMP_LIVE", error) &&
           xldrv_check_exclusive(flags, VIR_DUMP_CRASH | VIR_DUMP_RESET, "VIR_DUMP_CRASH and VIR_DUMP_RESET", error) &&
           xldrv_check_exclusive(flags, VIR_DUMP_LIVE | VIR_DUMP_RESET, "VIR_DUMP_LIVE and VIR_DUMP_RESET", error);
}

typedef struct {
    XldrvJob *job;
    int fd;
    guint flags; /* of domctl_dump */
    struct domus_stream_status status;
} Dump;

static int dump_domain(struct domctl *ctl, gpointer data)
{
    const Dump *dump = data;

    return domctl_dump(ctl, dump->fd, dump->flags);
}

static gboolean write_dump(int fd, gpointer data, GError **error)
{
    Dump *dump = data;

    dump->fd = fd;
    return xldrv_instance_control(dump->job->instance, "dump", dump_domain, dump, error) &&
           xldrv_stream_wait(dump->job, "dump", &dump->status, error);
}

static gboolean dump(XldrvDriver *driver, XldrvJob *job, const char *path, guint flags, GError **error)
{
    Dump what = {.job = job, .flags = flags & VIR_DUMP_LIVE ? DOMUS_DUMP_LIVE : 0};
    gboolean ok;

    xldrv_longjob_begin(job, VIR_DOMAIN_JOB_OPERATION_DUMP);
    ok = xldrv_target_write(path, flags & VIR_DUMP_BYPASS_CACHE, write_dump, &what, error);
    xldrv_longjob_end(driver, job, ok ? &what.status : NULL);
    return ok;
}

static gboolean finish(XldrvDriver *driver, XldrvJob *job, guint flags, GError **error)
{
    if (flags & VIR_DUMP_CRASH)
        xldrv_stop(driver, job, VIR_DOMAIN_SHUTOFF_CRASHED, VIR_DOMAIN_EVENT_STOPPED_CRASHED, FALSE);
    return !(flags & VIR_DUMP_RESET) ||
           xldrv_restart(driver, job, VIR_DOMAIN_SHUTOFF_DESTROYED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED, error);
}

/* Of a guest that has crashed and was kept for this, too. */
static GVariant *handle(GVariant *args, guint format, guint flags, const char *function, GError **error)
{
    const char *path = xldrv_args_string(args, 1);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;

    if (!check_flags(flags, function, error) || !check_format(format, error) || !xldrv_target_check(path, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "dump", error) : NULL;
    if (!job)
        return NULL;
    if (!job->instance) {
        xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
        return NULL;
    }
    return dump(xldrv_driver_get(), job, path, flags, error) && finish(xldrv_driver_get(), job, flags, error)
               ? xldrv_reply_void()
               : NULL;
}

GVariant *xldrv_handle_domain_core_dump(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return handle(args, VIR_DOMAIN_CORE_DUMP_FORMAT_RAW, xldrv_args_u32(args, 2), G_STRFUNC, error);
}

GVariant *xldrv_handle_domain_core_dump_with_format(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return handle(args, xldrv_args_u32(args, 2), xldrv_args_u32(args, 3), G_STRFUNC, error);
}
