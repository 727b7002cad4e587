/* Changing a domain's configurations. */
#include "config.h"

#include "libxldrv/driver/change.h"

#include "libxldrv/driver/run.h"
#include "libxldrv/state/definitions.h"

static XmlconfDomain *changed(XmlconfDomain *domain, XldrvChangeFn fn, gconstpointer data, GError **error)
{
    g_autoptr(XmlconfDomain) copy = xmlconf_domain_copy(domain);

    return fn(copy, data, error) ? g_steal_pointer(&copy) : NULL;
}

static void replace(XldrvJob *job, XmlconfDomain **where, XmlconfDomain *with)
{
    g_mutex_lock(&job->lock);
    xmlconf_domain_unref(*where);
    *where = xmlconf_domain_ref(with);
    g_mutex_unlock(&job->lock);
}

gboolean xldrv_change_back(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *live, XmlconfDomain *config, GError **error)
{
    if (config && !xldrv_definition_save(driver->paths, config, error))
        return FALSE;
    if (config)
        replace(job, &job->config, config);
    if (live) {
        replace(job, &job->live, live);
        xldrv_set_running_state(driver, job, job->state, job->reason); /* saves it */
    }
    return TRUE;
}

gboolean xldrv_change(XldrvDriver *driver, XldrvJob *job, const XldrvImpact *impact, XldrvChangeFn fn,
                      gconstpointer data, GError **error)
{
    g_autoptr(XmlconfDomain) live = NULL;
    g_autoptr(XmlconfDomain) config = NULL;

    if ((impact->live && !(live = changed(job->live, fn, data, error))) ||
        (impact->config && !(config = changed(job->config, fn, data, error))))
        return FALSE;
    return xldrv_change_back(driver, job, live, config, error);
}
