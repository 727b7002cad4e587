/* A domain's control groups. */
#include "config.h"

#include "libxldrv/driver/tune.h"

#include "libxldrv/driver/run.h"
#include "libxldrv/host/cgroup.h"

/* Two hosts under roots of their own may have a domain of the same UUID. */
char *xldrv_tune_group(XldrvDriver *driver, const char *uuid)
{
    return g_strdup_printf("domus-%s-%08x", uuid, g_str_hash(driver->paths->root));
}

static gboolean says_something(const XmlconfCputune *tune)
{
    return tune->shares || tune->vcpu.period || tune->vcpu.quota || tune->global.period || tune->global.quota ||
           tune->emulator.period || tune->emulator.quota;
}

gboolean xldrv_tune(XldrvDriver *driver, XldrvDomain *domain, XldrvInstance *instance, const XmlconfCputune *tune,
                    GError **error)
{
    const XldrvCgroupLimits limits = {
        .shares = tune->shares,
        .global = {tune->global.period, tune->global.quota},
        .vcpu = {tune->vcpu.period, tune->vcpu.quota},
        .emulator = {tune->emulator.period, tune->emulator.quota},
    };
    g_autoptr(XldrvCgroups) groups = NULL;
    g_autofree char *name = NULL;

    if (!says_something(tune))
        return TRUE;
    groups = xldrv_cgroups_find(XLDRV_CGROUP_CPU, error);
    name = xldrv_tune_group(driver, domain->uuid_text);
    return groups && xldrv_cgroups_apply(groups, name, xldrv_instance_process(instance)->pid, &limits, error);
}

gboolean xldrv_let_run(XldrvDriver *driver, XldrvJob *job, XldrvInstance *instance, const XmlconfDomainConfig *config,
                       GError **error)
{
    g_autoptr(GError) why = NULL;

    if (!xldrv_instance_unpause(instance, error))
        return FALSE;
    if (!xldrv_tune(driver, job, instance, &config->cputune, &why))
        g_warning("domain '%s' runs without its CPU limits: %s", job->name, why->message);
    return TRUE;
}

void xldrv_untune(XldrvDriver *driver, const char *uuid)
{
    g_autofree char *name = xldrv_tune_group(driver, uuid);

    for (int controller = 0; controller < XLDRV_N_CGROUP_CONTROLLERS; controller++) {
        g_autoptr(XldrvCgroups) groups = xldrv_cgroups_find((XldrvCgroupController)controller, NULL);
        if (groups && xldrv_cgroups_exists(groups, name))
            xldrv_cgroups_remove(groups, name);
    }
}
