/* Procedures about a guest's sleep and interrupts from outside. */
#include "config.h"

#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

/* The instance of a domain of a call, whose guest runs. */
static XldrvInstance *running(GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);

    return domain ? xldrv_domain_get_instance(domain, error) : NULL;
}

GVariant *xldrv_handle_domain_pm_suspend_for_duration(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvInstance) instance = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 3), 0, G_STRFUNC, error))
        return NULL;
    if (xldrv_args_u32(args, 1) > VIR_NODE_SUSPEND_TARGET_HYBRID) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%u is no target of a suspend", xldrv_args_u32(args, 1));
        return NULL;
    }
    instance = running(args, error);
    if (instance)
        xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                        "a PVH guest has no ACPI sleep states: `suspend` pauses it from outside");
    return NULL;
}

GVariant *xldrv_handle_domain_pm_wakeup(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvInstance) instance = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error))
        return NULL;
    instance = running(args, error);
    if (instance)
        xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "Unable to wake up domain as it is not in pmsuspended state");
    return NULL;
}

static int inject_nmi(struct domctl *ctl, gpointer unused G_GNUC_UNUSED)
{
    return domctl_inject_nmi(ctl);
}

GVariant *xldrv_handle_domain_inject_nmi(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(XldrvInstance) instance = NULL;

    if (!xldrv_check_flags(xldrv_args_u32(args, 1), 0, G_STRFUNC, error))
        return NULL;
    instance = running(args, error);
    if (!instance || !xldrv_instance_control(instance, "send an NMI to", inject_nmi, NULL, error))
        return NULL;
    return xldrv_reply_void();
}
