/* Migration: the side where the guest comes to.
 *
 * Between Prepare and Finish a domain is in a list here: nobody else sees it, but its name and UUID are taken.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/hooks.h"
#include "libxldrv/driver/migrate-disks.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/host.h"

#define ACCEPT_POLL_MS 200

typedef struct {
    XldrvDriver *driver;
    guint64 client; /* that prepared it */
    XldrvJob *job;
    XmlconfDomain *domain;
    XldrvIncoming incoming;
    XldrvStartOptions options;
    XldrvStart *start;
    gboolean offline; /* only its definition comes: none of what follows here */
    gboolean taken;   /* it is this host's */
    XldrvImages *images; /* of disks that are copied; NULL: none are */
    int listen_fd;
    int tunnel_fd; /* of a tunnelled one: what comes through the client's stream, until the acceptor has it; -1: none */
    guint connections; /* of a parallel one; 0: it is none */
    char word[XLDRV_COOKIE_WORD_CHARS + 1]; /* that is said on these */
    XldrvTlsEnd *tls; /* the acceptor's once there is one; NULL: not encrypted */
    GThread *acceptor;
    gint stop; /* atomic: the acceptor is to end */
    gint greeting_fd; /* atomic: whom the acceptor agrees on TLS with, a duplicate; -1: nobody */
} Coming;

/* ---- the list */

static void add(Coming *coming)
{
    g_mutex_lock(&coming->driver->coming_lock);
    g_ptr_array_add(coming->driver->coming, coming);
    g_mutex_unlock(&coming->driver->coming_lock);
}

/* Takes out the one of that name, or of any if that is NULL, and of that client, or of any for 0. */
static Coming *take(XldrvDriver *driver, const char *name, guint64 client)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&driver->coming_lock);

    for (guint i = 0; i < driver->coming->len; i++) {
        Coming *coming = driver->coming->pdata[i];

        if ((!name || strcmp(coming->job->name, name) == 0) && (!client || coming->client == client))
            return g_ptr_array_remove_index(driver->coming, i);
    }
    return NULL;
}

/* Nobody waits for who says nothing. */
static void end_greeting(Coming *coming, gboolean disturb)
{
    int fd = __atomic_exchange_n(&coming->greeting_fd, -1, __ATOMIC_SEQ_CST);

    if (fd < 0)
        return;
    if (disturb)
        shutdown(fd, SHUT_RDWR);
    close(fd);
}

static void stop_accepting(Coming *coming)
{
    g_atomic_int_set(&coming->stop, TRUE);
    end_greeting(coming, TRUE);
    if (coming->acceptor)
        g_thread_join(coming->acceptor);
    coming->acceptor = NULL;
    if (coming->listen_fd >= 0)
        close(coming->listen_fd);
    coming->listen_fd = -1;
    if (coming->tunnel_fd >= 0)
        close(coming->tunnel_fd);
    coming->tunnel_fd = -1;
}

static void free_coming(Coming *coming)
{
    XldrvJob *job = coming->job;

    stop_accepting(coming);
    /* While the next daemon would find that it was not started. */
    xldrv_images_free(coming->images, coming->taken);
    if (coming->start)
        xldrv_start_cancel(coming->start);
    if (!job->config && !job->instance && !job->removed)
        xldrv_domains_remove(coming->driver->domains, job);
    xldrv_job_end(job);
    xldrv_tls_end_free(coming->tls);
    xmlconf_domain_unref(coming->domain);
    g_free(coming);
}

void xldrv_migration_client_closed(XldrvDriver *driver, guint64 client)
{
    Coming *coming;

    while ((coming = take(driver, NULL, client))) {
        g_message("domain '%s' was to come from elsewhere, but its client is gone", coming->job->name);
        free_coming(coming);
    }
}

/* ---- who sends it */

/* Takes @fd; the socket inside of TLS, or -1. */
static int greet(Coming *coming, int fd, GError **error)
{
    int inside;

    g_atomic_int_set(&coming->greeting_fd, fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (g_atomic_int_get(&coming->stop))
        end_greeting(coming, TRUE);
    inside = xldrv_tls_end_start(g_steal_pointer(&coming->tls), fd, error);
    end_greeting(coming, FALSE);
    return inside;
}

/* -1: it was stopped. */
static int accept_one(const Coming *coming)
{
    struct pollfd wait = {.fd = coming->listen_fd, .events = POLLIN};
    int fd = -1;

    while (fd < 0 && !g_atomic_int_get(&coming->stop)) {
        if (poll(&wait, 1, ACCEPT_POLL_MS) > 0)
            fd = accept4(coming->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    }
    if (fd >= 0)
        xldrv_migration_tune_socket(fd);
    return fd;
}

static int accept_any(Coming *coming, GError **error)
{
    int fd = coming->tunnel_fd;

    coming->tunnel_fd = -1;
    if (fd >= 0)
        return fd;
    return coming->connections
               ? xldrv_migration_gather(coming->listen_fd, coming->connections, coming->word, &coming->stop, error)
               : accept_one(coming);
}

/* The hypervisor takes the stream; who does not speak its language, ends it. */
static gpointer accept_stream(gpointer data)
{
    Coming *coming = data;
    g_autoptr(GError) why = NULL;
    int fd = accept_any(coming, &why);

    if (fd >= 0 && coming->tls)
        fd = greet(coming, fd, &why);
    if (fd >= 0)
        xldrv_start_receive(coming->start, fd, &why);
    if (why)
        g_warning("domain '%s': %s", coming->job->name, why->message);
    if (fd >= 0)
        close(fd);
    return NULL;
}

/* Where the source is to send it: as asked for, with a port; or this host's name. A bare HOST or HOST:PORT is fine. */
static char *open_channel(Coming *coming, const XldrvMigration *migration, GError **error)
{
    g_autofree char *full = !migration->uri || strstr(migration->uri, "://") ? g_strdup(migration->uri)
                                                                             : g_strconcat("tcp://", migration->uri, NULL);
    g_autoptr(GUri) uri = full ? g_uri_parse(full, G_URI_FLAGS_NONE, NULL) : NULL;
    g_autofree char *host = uri && g_uri_get_host(uri) && *g_uri_get_host(uri) ? g_strdup(g_uri_get_host(uri))
                                                                              : xldrv_host_name();
    int port = uri && g_uri_get_port(uri) > 0 ? g_uri_get_port(uri) : 0;

    if (full && (!uri || strcmp(g_uri_get_scheme(uri), "tcp"))) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "'%s' is no migration URI: tcp://HOST[:PORT] is expected",
                        migration->uri);
        return NULL;
    }
    coming->listen_fd = xldrv_migration_listen(migration->listen_address, port, &port, error);
    if (coming->listen_fd < 0)
        return NULL;
    return g_strdup_printf(strchr(host, ':') ? "tcp://[%s]:%d" : "tcp://%s:%d", host, port);
}

/* It comes through a stream of the client's call. */
static gboolean open_tunnel(XldrvCall *call, Coming *coming, GError **error)
{
    int fds[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return xldrv_set_system_error(error, errno, "cannot make a socket");
    coming->tunnel_fd = fds[1];
    xldrv_stream_unref(xldrv_stream_new_fd(call, fds[0], NULL, NULL));
    return TRUE;
}

/* ---- prepare */

/* A certificate that cannot be used is told of before anything is done. */
static gboolean prepare_tls(Coming *coming, const XldrvMigration *migration, GError **error)
{
    if (!(migration->flags & VIR_MIGRATE_TLS) || coming->offline)
        return TRUE;
    coming->tls = xldrv_tls_end_new(coming->driver->pki, NULL, error);
    return coming->tls != NULL;
}

static XmlconfDomain *read_domain(const XldrvMigration *migration, GError **error)
{
    g_autoptr(GError) why = NULL;
    XmlconfDomain *domain = migration->xml ? xmlconf_domain_parse(migration->xml, XMLCONF_PARSE_LIVE, &why) : NULL;
    XmlconfDomainConfig *config = domain ? xmlconf_domain_config(domain) : NULL;

    if (why)
        xldrv_set_xml_error(error, g_steal_pointer(&why));
    else if (!domain)
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "the domain's XML is missing");
    if (config && migration->dname) {
        g_free(config->name);
        config->name = g_strdup(migration->dname);
    }
    return domain;
}

static Coming *new_coming(XldrvCall *call, XmlconfDomain *domain, XldrvJob *job, int id, gboolean offline)
{
    Coming *coming = g_new0(Coming, 1);

    coming->driver = xldrv_driver_get();
    coming->client = xldrv_client_id(xldrv_call_client(call));
    coming->job = job;
    coming->domain = xmlconf_domain_ref(domain);
    coming->listen_fd = coming->greeting_fd = coming->tunnel_fd = -1;
    coming->offline = offline;
    coming->incoming = (XldrvIncoming){
        .fd = -1,
        .id = id,
        .event_detail = VIR_DOMAIN_EVENT_STARTED_MIGRATED,
        .run_reason = VIR_DOMAIN_RUNNING_MIGRATED,
        .paused_reason = VIR_DOMAIN_PAUSED_USER,
        .paused_detail = VIR_DOMAIN_EVENT_SUSPENDED_PAUSED,
        .taken = &coming->taken,
    };
    coming->options.incoming = &coming->incoming;
    return coming;
}

/* As far as nothing is there that only the guest's arrival brings. What it has in the store of the source is made here, too. */
static gboolean begin_start(Coming *coming, const XldrvMigration *migration, const XldrvCookie *cookie, GError **error)
{
    coming->start = xldrv_start_begin(coming->driver, coming->job, coming->domain, &coming->options, error);
    if (!coming->start)
        return FALSE;
    if (migration->flags & XLDRV_MIGRATE_COPY_FLAGS) {
        coming->images = xldrv_images_open(coming->driver, coming->job, coming->domain, migration, cookie, error);
        if (!coming->images)
            return FALSE;
    }
    if (!cookie->store || xldrv_start_prepare(coming->start, cookie->store, error))
        return TRUE;
    coming->start = NULL;
    return FALSE;
}

/* The cookie for the source; an empty one where there is nothing to say. */
static GVariant *answer(const Coming *coming)
{
    XldrvCookie cookie = {0};

    if (!xldrv_images_any(coming->images) && !coming->connections)
        return g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, "", 0, 1);
    g_strlcpy(cookie.word, coming->word, sizeof(cookie.word));
    if (xldrv_images_any(coming->images))
        xldrv_images_describe(coming->images, &cookie);
    return xldrv_cookie_encode(&cookie);
}

/* For connections of the stream the same one as for those of disks: there is room for one. */
static gboolean agree_on_word(Coming *coming, const XldrvMigration *migration, GError **error)
{
    XldrvCookie disks = {0};

    coming->connections = (guint)migration->connections;
    if (!xldrv_images_any(coming->images))
        return !coming->connections || xldrv_cookie_make_word(coming->word, error);
    xldrv_images_describe(coming->images, &disks);
    g_strlcpy(coming->word, disks.word, sizeof(coming->word));
    return TRUE;
}

static GVariant *prepare(XldrvCall *call, GVariant *args, GVariant *cookie_in, const XldrvMigration *migration, GError **error)
{
    gboolean tunnelled = migration->flags & VIR_MIGRATE_TUNNELLED;
    XldrvDriver *driver = xldrv_driver_get();
    g_autoptr(XmlconfDomain) domain = read_domain(migration, error);
    const XmlconfDomainConfig *config;
    g_autofree char *uri = NULL;
    g_auto(XldrvCookie) cookie = {0};
    GVariant *reply;
    guint64 client;
    gboolean ok;
    Coming *coming;
    XldrvJob *job;

    if (!domain || !xldrv_access_check_config(call, args, xmlconf_domain_config(domain), error) ||
        !xldrv_hooks_change(driver, &domain, "migrate", error) || !xldrv_cookie_decode(cookie_in, &cookie, error))
        return NULL;
    config = xmlconf_domain_config(domain);
    job = xldrv_domains_claim(driver->domains, config->uuid, config->name, "migrate", error);
    if (!job)
        return NULL;
    coming = new_coming(call, domain, job, cookie.id, migration->flags & VIR_MIGRATE_OFFLINE);
    ok = !job->instance ||
         xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain '%s' is already active", job->name);
    if (ok && !coming->offline)
        ok = prepare_tls(coming, migration, error) &&
             (tunnelled ? open_tunnel(call, coming, error) : (uri = open_channel(coming, migration, error)) != NULL) &&
             begin_start(coming, migration, &cookie, error) && agree_on_word(coming, migration, error);
    if (!ok) {
        free_coming(coming);
        return NULL;
    }
    if (coming->start)
        coming->acceptor = g_thread_new("migration", accept_stream, coming);
    reply = answer(coming);
    client = coming->client;
    add(coming); /* and from here on it may be taken out */
    if (xldrv_client_is_closed(xldrv_call_client(call)))
        xldrv_migration_client_closed(driver, client);
    return tunnelled ? g_variant_new("(@ay)", g_steal_pointer(&reply))
                     : g_variant_new("(@ayms)", g_steal_pointer(&reply), uri);
}

/* ---- finish */

/* The XML that was given for it, under the name that it has here. */
static XmlconfDomain *parse_persistent(XldrvJob *job, const char *xml, GError **error)
{
    g_autoptr(XmlconfDomain) domain = xldrv_parse_xml(xml, FALSE, error);
    XmlconfDomainConfig *config = domain ? xmlconf_domain_config(domain) : NULL;

    if (!config)
        return NULL;
    if (strcmp(config->uuid, job->uuid_text)) {
        xldrv_set_error(error, VIR_ERR_CONFIG_UNSUPPORTED, "the persistent XML is of another domain than '%s'", job->name);
        return NULL;
    }
    g_free(config->name);
    config->name = g_strdup(job->name);
    return g_steal_pointer(&domain);
}

/* Defines it as @now, or as the client wants to have it. */
static gboolean make_persistent(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *now, const XldrvMigration *migration,
                                GError **error)
{
    g_autoptr(XmlconfDomain) domain = NULL;
    g_autoptr(GError) why = NULL;
    g_autofree char *xml = NULL;

    if (!(migration->flags & VIR_MIGRATE_PERSIST_DEST))
        return TRUE;
    if (!migration->persistent_xml) {
        xml = xmlconf_domain_format(now, XMLCONF_FORMAT_SECURE | XMLCONF_FORMAT_INACTIVE, &why);
        if (!xml)
            return xldrv_set_xml_error(error, g_steal_pointer(&why));
    }
    domain = parse_persistent(job, xml ? xml : migration->persistent_xml, error);
    return domain && xldrv_set_definition(driver, job, domain, error);
}

static GVariant *arrived(XldrvJob *job)
{
    GVariant *wire = xldrv_domain_to_wire(job);

    return g_variant_new("(@*@ay)", wire, g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, "", 0, 1));
}

static GVariant *arrive(XldrvDriver *driver, Coming *coming, const XldrvCookie *cookie, const XldrvMigration *migration,
                        GError **error)
{
    gboolean paused = migration->flags & VIR_MIGRATE_PAUSED, postcopy;
    XldrvStart *start;
    g_autoptr(GError) why = NULL;

    stop_accepting(coming);
    if (xldrv_images_any(coming->images) && !cookie->copied) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the disks of domain '%s' were not copied", coming->job->name);
        return NULL;
    }
    if (coming->images)
        xldrv_images_close(coming->images);
    start = g_steal_pointer(&coming->start); /* ends in any case */
    if (!xldrv_start_finish(start, cookie->store, paused, error))
        return NULL;
    postcopy = xldrv_postcopy_is_arriving(coming->job);
    if (!paused)
        xldrv_event_lifecycle(driver->events, coming->job, VIR_DOMAIN_EVENT_RESUMED,
                              postcopy ? VIR_DOMAIN_EVENT_RESUMED_POSTCOPY : VIR_DOMAIN_EVENT_RESUMED_MIGRATED);
    /* It runs here now, and nowhere else: what fails from here on does not undo that. */
    if (!make_persistent(driver, coming->job, coming->job->live, migration, &why))
        g_warning("domain '%s' is not persistent here: %s", coming->job->name, why->message);
    return postcopy && !xldrv_postcopy_arrive(driver, coming->job, error) ? NULL : arrived(coming->job);
}

static GVariant *finish(XldrvCall *call, GVariant *args, GVariant *cookie_in, const XldrvMigration *migration,
                        gboolean cancelled, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    Coming *coming = migration->dname ? take(driver, migration->dname, 0) : NULL;
    g_auto(XldrvCookie) cookie = {0};
    GVariant *reply = NULL;
    gboolean allowed;

    if (!coming) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "no domain '%s' is coming here by migration",
                        migration->dname ? migration->dname : "");
        return NULL;
    }
    allowed = xldrv_access_check_config(call, args, xmlconf_domain_config(coming->domain), error);
    if (allowed && cancelled)
        xldrv_set_error(error, VIR_ERR_MIGRATE_FINISH_OK, "migration successfully aborted");
    else if (allowed && coming->offline)
        reply = make_persistent(driver, coming->job, coming->domain, migration, error) ? arrived(coming->job) : NULL;
    else if (allowed && xldrv_cookie_decode(cookie_in, &cookie, error))
        reply = arrive(driver, coming, &cookie, migration, error);
    free_coming(coming);
    return reply;
}

/* ---- procedures */

/* The way that it comes has to fit the procedure. */
static gboolean check_way(const XldrvMigration *migration, gboolean tunnel, GError **error)
{
    return !(migration->flags & VIR_MIGRATE_TUNNELLED) == !tunnel ||
           xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "tunnelled migration %s, and another procedure was called",
                           tunnel ? "was not asked for" : "was asked for");
}

GVariant *xldrv_handle_domain_migrate_prepare3(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(GVariant) cookie = g_variant_get_child_value(args, 0);
    XldrvMigration migration;

    if (!xldrv_migration_read(NULL, (guint)xldrv_args_u64(args, 2), &migration, error) || !check_way(&migration, FALSE, error))
        return NULL;
    migration.uri = xldrv_args_optional_string(args, 1);
    migration.dname = xldrv_args_optional_string(args, 3);
    migration.xml = xldrv_args_string(args, 5);
    return prepare(call, args, cookie, &migration, error);
}

static GVariant *prepare_params(XldrvCall *call, GVariant *args, gboolean tunnel, GError **error)
{
    g_autoptr(GVariant) params = g_variant_get_child_value(args, 0);
    g_autoptr(GVariant) cookie = g_variant_get_child_value(args, 1);
    XldrvMigration migration;

    if (!xldrv_migration_read(params, xldrv_args_u32(args, 2), &migration, error) || !check_way(&migration, tunnel, error))
        return NULL;
    return prepare(call, args, cookie, &migration, error);
}

GVariant *xldrv_handle_domain_migrate_prepare3_params(XldrvCall *call, GVariant *args, GError **error)
{
    return prepare_params(call, args, FALSE, error);
}

GVariant *xldrv_handle_domain_migrate_prepare_tunnel3_params(XldrvCall *call, GVariant *args, GError **error)
{
    return prepare_params(call, args, TRUE, error);
}

GVariant *xldrv_handle_domain_migrate_finish3(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(GVariant) cookie = g_variant_get_child_value(args, 1);
    XldrvMigration migration;

    if (!xldrv_migration_read(NULL, (guint)xldrv_args_u64(args, 4), &migration, error))
        return NULL;
    migration.dname = xldrv_args_string(args, 0);
    return finish(call, args, cookie, &migration, xldrv_args_i32(args, 5) != 0, error);
}

GVariant *xldrv_handle_domain_migrate_finish3_params(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(GVariant) params = g_variant_get_child_value(args, 0);
    g_autoptr(GVariant) cookie = g_variant_get_child_value(args, 1);
    XldrvMigration migration;

    if (!xldrv_migration_read(params, xldrv_args_u32(args, 2), &migration, error))
        return NULL;
    return finish(call, args, cookie, &migration, xldrv_args_i32(args, 3) != 0, error);
}
