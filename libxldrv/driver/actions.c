/* Procedures about what happens when a guest shuts down, reboots or crashes. */
#include "config.h"

#include "libxldrv/driver/change.h"
#include "libxldrv/driver/driver.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/wire.h"

#define IMPACT_FLAGS (VIR_DOMAIN_AFFECT_LIVE | VIR_DOMAIN_AFFECT_CONFIG)

static const XmlconfAction actions[] = {
    [VIR_DOMAIN_LIFECYCLE_ACTION_DESTROY] = XMLCONF_ACTION_DESTROY,
    [VIR_DOMAIN_LIFECYCLE_ACTION_RESTART] = XMLCONF_ACTION_RESTART,
    [VIR_DOMAIN_LIFECYCLE_ACTION_RESTART_RENAME] = XMLCONF_ACTION_RENAME_RESTART,
    [VIR_DOMAIN_LIFECYCLE_ACTION_PRESERVE] = XMLCONF_ACTION_PRESERVE,
    [VIR_DOMAIN_LIFECYCLE_ACTION_COREDUMP_DESTROY] = XMLCONF_ACTION_COREDUMP_DESTROY,
    [VIR_DOMAIN_LIFECYCLE_ACTION_COREDUMP_RESTART] = XMLCONF_ACTION_COREDUMP_RESTART,
};

typedef struct {
    guint type, action; /* virDomainLifecycle, virDomainLifecycleAction */
} LifecycleChange;

static gboolean change_action(XmlconfDomain *domain, gconstpointer data, GError **error G_GNUC_UNUSED)
{
    const LifecycleChange *change = data;
    XmlconfDomainConfig *config = xmlconf_domain_config(domain);
    XmlconfAction *const of[] = {
        [VIR_DOMAIN_LIFECYCLE_POWEROFF] = &config->on_poweroff,
        [VIR_DOMAIN_LIFECYCLE_REBOOT] = &config->on_reboot,
        [VIR_DOMAIN_LIFECYCLE_CRASH] = &config->on_crash,
    };

    *of[change->type] = actions[change->action];
    return TRUE;
}

static gboolean check_action(const LifecycleChange *change, GError **error)
{
    if (change->type > VIR_DOMAIN_LIFECYCLE_CRASH || change->action >= G_N_ELEMENTS(actions))
        return xldrv_set_error(error, VIR_ERR_INVALID_ARG, "unknown lifecycle type %u or action %u",
                               change->type, change->action);
    if (actions[change->action] == XMLCONF_ACTION_DESTROY ||
        actions[change->action] == XMLCONF_ACTION_RESTART ||
        actions[change->action] == XMLCONF_ACTION_PRESERVE)
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED,
                           "of the lifecycle actions only destroy, restart and preserve are supported");
}

GVariant *xldrv_handle_domain_set_lifecycle_action(XldrvCall *call G_GNUC_UNUSED, GVariant *args,
                                                   GError **error)
{
    const LifecycleChange change = {xldrv_args_u32(args, 1), xldrv_args_u32(args, 2)};
    guint flags = xldrv_args_u32(args, 3);
    g_autoptr(XldrvDomain) domain = NULL;
    g_autoptr(XldrvJobGuard) job = NULL;
    XldrvImpact impact;

    if (!xldrv_check_flags(flags, IMPACT_FLAGS, G_STRFUNC, error) || !check_action(&change, error))
        return NULL;
    domain = xldrv_args_domain(args, error);
    job = domain ? xldrv_job_begin(domain, "set lifecycle action", error) : NULL;
    if (!job || !xldrv_impact(job, flags, &impact, error) ||
        !xldrv_change(xldrv_driver_get(), job, &impact, change_action, &change, error))
        return NULL;
    return xldrv_reply_void();
}
