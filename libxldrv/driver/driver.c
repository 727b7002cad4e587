/* The driver as a whole: its parts, their order at start, the reactor. */
#include "config.h"

#include "libxldrv/driver/driver.h"

#include <pwd.h>
#include <unistd.h>

#include "libxldrv/driver/agent.h"
#include "libxldrv/driver/migrate.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/save.h"
#include "libxldrv/host/host.h"
#include "libxldrv/host/process.h"

/* Reactions wait for jobs, for processes to end and for hypervisors that do not answer. */
#define REACTOR_THREADS 32
#define DEFAULT_USER    "domus"

static XldrvDriver *the_driver;

XldrvDriver *xldrv_driver_get(void)
{
    return the_driver;
}

/* ---- the reactor */

static void run_reaction(gpointer data, gpointer driver)
{
    XldrvReaction *reaction = data;

    reaction->fn(driver, reaction);
    xldrv_domain_unref(reaction->domain);
    xldrv_instance_unref(reaction->instance);
    g_free(reaction);
}

void xldrv_driver_react(XldrvDriver *driver, const XldrvReaction *reaction)
{
    XldrvReaction *copy;

    if (!driver->reactor)
        return; /* the daemon ends; the next one finds out what is to be done */
    copy = g_memdup2(reaction, sizeof(*reaction));
    if (copy->domain)
        xldrv_domain_ref(copy->domain);
    if (copy->instance)
        xldrv_instance_ref(copy->instance);
    g_thread_pool_push(driver->reactor, copy, NULL);
}

/* ---- start */

static gboolean find_programs(XldrvDriver *driver, const XldrvDriverOptions *options, GError **error)
{
    driver->hypervisor = xldrv_program_find(options->hypervisor, "../hv/domus-hv",
                                            DOMUS_SBINDIR, "domus-hv", error);
    if (!driver->hypervisor)
        return FALSE;
    driver->store_daemon = xldrv_program_find(options->store_daemon, "../hv/domus-xenstored",
                                              DOMUS_SBINDIR, "domus-xenstored", error);
    return driver->store_daemon != NULL;
}

/* "UID:GID", as domus-hv takes it. *user stays NULL where it is to run as we do. */
static gboolean choose_user(const XldrvDriverOptions *options, char **user, GError **error)
{
    const char *name = options->user ? options->user : DEFAULT_USER;
    const struct passwd *entry = geteuid() == 0 ? getpwnam(name) : NULL;

    if (entry)
        *user = g_strdup_printf("%u:%u", (guint)entry->pw_uid, (guint)entry->pw_gid);
    if (entry || !options->user)
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                           geteuid() == 0 ? "there is no user '%s'"
                                          : "only root can start hypervisors as user '%s'",
                           name);
}

/* Of another daemon of libvirt's: what was set, or that of the system or the session that we are in. */
static char *peer_uri(const char *set, const char *scheme)
{
    return set ? g_strdup(set) : g_strdup_printf("%s:///%s", scheme, geteuid() == 0 ? "system" : "session");
}

static XldrvDriver *driver_new(const XldrvDriverOptions *options)
{
    XldrvDriver *driver = g_new0(XldrvDriver, 1);

    driver->paths = xldrv_paths_new(options->root);
    driver->engine = g_strdup(options->engine);
    driver->log_limits = options->log_limits;
    driver->pki = xldrv_pki_copy(options->pki);
    driver->secret_uri = peer_uri(options->secret_uri, "secret");
    driver->network_uri = peer_uri(options->network_uri, "network");
    driver->filter_uri = peer_uri(options->filter_uri, "nwfilter");
    driver->storage_uri = g_strdup(options->storage_uri);
    driver->relay_sockets = g_strdup(options->relay_sockets);
    driver->domains = xldrv_domains_new();
    driver->access = options->access ? xldrv_access_new() : NULL;
    driver->events = xldrv_events_new(driver->access);
    driver->owned = g_ptr_array_new_with_free_func((GDestroyNotify)xldrv_domain_unref);
    g_mutex_init(&driver->id_lock);
    driver->starting_ids = g_hash_table_new(NULL, NULL);
    g_mutex_init(&driver->owned_lock);
    g_mutex_init(&driver->coming_lock);
    driver->coming = g_ptr_array_new();
    g_mutex_init(&driver->recover_lock);
    g_cond_init(&driver->recovered);
    return driver;
}

/* Without libvirt's CPU map its name for this one is not known. */
static void describe_cpu(XldrvDriver *driver)
{
    g_autoptr(GError) why = NULL;
    const XmlconfCpuHave *host = xldrv_cpus_host(driver->cpus, &why);

    if (host)
        driver->host.cpu_xml = xmlconf_cpu_format(host, 6, FALSE);
    else
        g_message("%s", why->message);
}

XldrvDriver *xldrv_driver_new(const XldrvDriverOptions *options, GError **error)
{
    g_autoptr(XldrvDriver) driver = driver_new(options);

    if (!find_programs(driver, options, error) ||
        !choose_user(options, &driver->hypervisor_user, error) ||
        !xldrv_paths_create(driver->paths, error))
        return NULL;
    xldrv_host_fill(&driver->host);
    driver->host.emulator = driver->hypervisor;
    driver->host.max_vcpus = XMLCONF_MAX_VCPUS;
    driver->cpus = xldrv_cpus_new(driver->hypervisor, driver->engine);
    describe_cpu(driver);
    driver->store = xldrv_store_new(driver->paths, driver->store_daemon, error);
    if (!driver->store)
        return NULL;
    /* The first threads: what reads or sets the environment has been done. */
    driver->reactor = g_thread_pool_new(run_reaction, driver, REACTOR_THREADS, FALSE, NULL);
    the_driver = driver;
    xldrv_recover(driver);
    if (!xldrv_store_watch(driver, error))
        return NULL;
    return g_steal_pointer(&driver);
}

static void stop_watching(XldrvDriver *driver)
{
    g_autoptr(GPtrArray) all = xldrv_domains_all(driver->domains);

    for (guint i = 0; i < all->len; i++) {
        g_autoptr(XldrvInstance) instance = xldrv_domain_get_instance(all->pdata[i], NULL);
        if (instance)
            xldrv_instance_unwatch(instance);
        xldrv_agent_close(all->pdata[i]);
    }
}

void xldrv_driver_free(XldrvDriver *driver)
{
    if (!driver)
        return;
    stop_watching(driver);
    if (driver->reactor)
        g_thread_pool_free(g_steal_pointer(&driver->reactor), FALSE, TRUE);
    xldrv_store_unwatch(driver);
    /* What the watches held is let go by the main loop. */
    while (g_main_context_iteration(NULL, FALSE))
        continue;
    xldrv_access_stop(driver->access);
    xldrv_events_free(driver->events);
    xldrv_access_free(driver->access);
    the_driver = NULL;
    g_ptr_array_unref(driver->owned);
    xldrv_domains_free(driver->domains);
    xldrv_store_free(driver->store);
    g_free(driver->host.cpu_xml);
    xldrv_host_clear(&driver->host);
    xldrv_cpus_free(driver->cpus);
    xldrv_paths_free(driver->paths);
    g_hash_table_unref(driver->starting_ids);
    g_mutex_clear(&driver->id_lock);
    g_mutex_clear(&driver->owned_lock);
    g_mutex_clear(&driver->coming_lock);
    g_ptr_array_unref(driver->coming);
    g_mutex_clear(&driver->recover_lock);
    g_cond_clear(&driver->recovered);
    g_free(driver->hypervisor);
    g_free(driver->engine);
    g_free(driver->secret_uri);
    g_free(driver->network_uri);
    g_free(driver->filter_uri);
    g_free(driver->storage_uri);
    g_free(driver->relay_sockets);
    xldrv_pki_free(driver->pki);
    g_free(driver->store_daemon);
    g_free(driver->hypervisor_user);
    g_free(driver);
}

/* ---- autostart */

static void autostart(XldrvDriver *driver, const XldrvReaction *reaction)
{
    g_autoptr(XldrvJobGuard) job = xldrv_job_begin_waiting(reaction->domain, "autostart");
    const XldrvStartOptions options = {0};
    g_autoptr(GError) why = NULL;

    if (!job || job->instance || !job->config)
        return;
    if (!xldrv_managed_start(driver, job, &options, FALSE, FALSE, &why))
        g_warning("domain '%s' cannot be started automatically: %s", job->name, why->message);
}

void xldrv_driver_autostart(XldrvDriver *driver)
{
    g_autoptr(GPtrArray) all = xldrv_domains_all(driver->domains);

    for (guint i = 0; i < all->len; i++) {
        const XldrvReaction reaction = {.fn = autostart, .domain = all->pdata[i]};
        if (reaction.domain->autostart)
            xldrv_driver_react(driver, &reaction);
    }
}

/* ---- clients that go */

static void destroy_owned(XldrvDriver *driver, const XldrvReaction *reaction)
{
    g_autoptr(XldrvJobGuard) job = xldrv_job_begin_waiting(reaction->domain, "auto-destroy");

    if (job && job->instance && job->owner == reaction->arg)
        xldrv_stop(driver, job, VIR_DOMAIN_SHUTOFF_DESTROYED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED, FALSE);
}

static void cancel_coming(XldrvDriver *driver, const XldrvReaction *reaction)
{
    xldrv_migration_client_closed(driver, reaction->arg);
    xldrv_migration_sender_closed(driver, reaction->arg);
}

void xldrv_driver_client_closed(XldrvClient *client, gpointer data)
{
    const XldrvReaction cancel = {.fn = cancel_coming, .arg = xldrv_client_id(client)};
    XldrvDriver *driver = data;

    xldrv_events_forget_client(driver->events, client);
    xldrv_driver_react(driver, &cancel);
    g_mutex_lock(&driver->owned_lock);
    for (guint i = 0; i < driver->owned->len; i++) {
        const XldrvReaction reaction = {
            .fn = destroy_owned, .domain = driver->owned->pdata[i], .arg = xldrv_client_id(client)};
        xldrv_driver_react(driver, &reaction);
    }
    g_mutex_unlock(&driver->owned_lock);
}
