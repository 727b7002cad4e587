/* How fast a guest changes its memory: measured on request, told by bulk statistics. */
#include "config.h"

#include <errno.h>

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/lookup.h"
#include "libxldrv/driver/wire.h"

typedef struct {
    guint seconds;
    gboolean busy;
} Start;

static int start(struct domctl *ctl, gpointer data)
{
    Start *s = data;
    int error = domctl_dirty_rate_start(ctl, s->seconds);

    s->busy = error == -EBUSY;
    return s->busy ? 0 : error;
}

/* All pages that were written to are known, so that no other mode could tell more; only that of single vCPUs is not had. */
static gboolean check(int seconds, guint flags, GError **error)
{
    if (flags == VIR_DOMAIN_DIRTYRATE_MODE_DIRTY_RING)
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                               "the mode dirty-ring, for each vCPU, is not supported: dirty-bitmap is");
    if (!xldrv_check_flags(flags, VIR_DOMAIN_DIRTYRATE_MODE_DIRTY_BITMAP, "virDomainStartDirtyRateCalc", error))
        return FALSE;
    return (seconds >= 1 && seconds <= (int)DOMUS_DIRTY_RATE_SECONDS_MAX) ||
           xldrv_set_error(error, VIR_ERR_INVALID_ARG, "seconds=%d is invalid, please choose value within [1, %u].", seconds,
                           DOMUS_DIRTY_RATE_SECONDS_MAX);
}

GVariant *xldrv_handle_domain_start_dirty_rate_calc(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    int seconds = xldrv_args_i32(args, 1);
    Start what = {.seconds = (guint)seconds};
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvInstance) instance = NULL;

    if (!check(seconds, xldrv_args_u32(args, 2), error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    instance = domain ? xldrv_domain_get_instance(domain, error) : NULL;
    if (!instance || !xldrv_instance_control(instance, "dirty rate", start, &what, error))
        return NULL;
    if (what.busy) {
        xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                        "the memory of domain '%s' is being watched already: by a measurement or a migration", domain->name);
        return NULL;
    }
    return xldrv_reply_void();
}
