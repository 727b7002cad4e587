/* Procedures about scheduling. vCPUs are threads of the host's own scheduler, whose one number here is their share
 * of the CPU. */
#include "config.h"

#include <errno.h>
#include <sys/resource.h>

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

#define SCHEDULER_NAME "posix"
#define N_PARAMETERS   1
/* What Linux gives to a thread of nice 0, and by how much each step changes it (sched(7)). */
#define DEFAULT_SHARES 1024
#define STEP           1.25

static guint64 shares_of_process(int pid)
{
    double shares = DEFAULT_SHARES;
    int nice;

    errno = 0;
    nice = getpriority(PRIO_PROCESS, pid);
    if (errno)
        return DEFAULT_SHARES;
    for (; nice > 0; nice--)
        shares /= STEP;
    for (; nice < 0; nice++)
        shares *= STEP;
    return MAX((guint64)(shares + 0.5), 2);
}

static GVariant *reply_parameters(XldrvDomain *domain, gboolean live, int room)
{
    g_autoptr(XldrvInstance) instance = live ? xldrv_domain_get_instance(domain, NULL) : NULL;
    GVariantBuilder params;

    g_variant_builder_init(&params, G_VARIANT_TYPE("a(sv)"));
    if (room > 0)
        xldrv_params_add(&params, VIR_DOMAIN_SCHEDULER_CPU_SHARES,
                         g_variant_new_uint64(instance ? shares_of_process(
                                                             xldrv_instance_process(instance)->pid)
                                                       : DEFAULT_SHARES));
    return g_variant_new("(a(sv))", &params);
}

GVariant *xldrv_handle_domain_get_scheduler_type(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                                 GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);

    return domain ? g_variant_new("(si)", SCHEDULER_NAME, N_PARAMETERS) : NULL;
}

GVariant *xldrv_handle_domain_get_scheduler_parameters(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                                       GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);

    return domain ? reply_parameters(domain, TRUE, xldrv_args_i32(args, 1)) : NULL;
}

GVariant *xldrv_handle_domain_get_scheduler_parameters_flags(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                                             GError **error)
{
    const guint known = VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG | VIR_TYPED_PARAM_STRING_OKAY;
    guint flags = xldrv_args_u32(args, 2);
    g_autoptr(XldrvDomain) domain = NULL;
    XldrvImpact impact;

    if (!xldrv_check_flags(flags, known, G_STRFUNC, error) ||
        !xldrv_check_exclusive(flags, VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG, "live and config",
                               error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    if (!domain || !xldrv_impact(domain, flags, &impact, error))
        return NULL;
    return reply_parameters(domain, impact.live, xldrv_args_i32(args, 1));
}
