/* Procedures about a guest's sleep and interrupts from outside. */
#include "config.h"

#include "libxldrv/driver/agent-command.h"
#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

/* The instance of a domain of a call, whose guest runs. */
static XldrvInstance *running(GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);

    return domain ? xldrv_domain_get_instance(domain, error) : NULL;
}

/* A PVH guest has no ACPI sleep states. Linux would stop in a sleep of its own (s2idle), for which it wants a device that
 * can wake it, and has none. */
static gboolean check_target(guint target, GError **error)
{
    switch (target) {
    case VIR_NODE_SUSPEND_TARGET_DISK:
        return TRUE;
    case VIR_NODE_SUSPEND_TARGET_MEM:
    case VIR_NODE_SUSPEND_TARGET_HYBRID:
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED,
                               "suspending to memory is not supported: a PVH guest has no ACPI sleep states, and nothing could "
                               "wake it; `suspend` pauses it from outside");
    default:
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "Unknown suspend target: %u", target);
    }
}

/* The guest writes itself to its disk, if it has room for that, and powers off. */
GVariant *xldrv_handle_domain_pm_suspend_for_duration(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(XldrvAgentSession) session = NULL;
    g_autoptr(XldrvInstance) instance = NULL;
    guint64 seconds;

    g_variant_get_child(args, 2, "t", &seconds);
    if (!xldrv_check_flags(xldrv_args_u32(args, 3), 0, G_STRFUNC, error))
        return NULL;
    if (seconds) {
        xldrv_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "Duration not supported. Use 0 for now");
        return NULL;
    }
    instance = running(args, error);
    if (!instance || !check_target(xldrv_args_u32(args, 1), error))
        return NULL;
    session = xldrv_agent_begin_args(call, args, error);
    return session && xldrv_agent_do_silent(session, "guest-suspend-disk", NULL, error) ? xldrv_reply_void() : NULL;
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
