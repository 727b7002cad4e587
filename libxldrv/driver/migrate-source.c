/* Migration: the side that has the guest. */
#include "config.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "libxldrv/driver/blockjob.h"
#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/handlers.h"
#include "libxldrv/driver/longjob.h"
#include "libxldrv/driver/migrate-disks.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/moments.h"
#include "libxldrv/driver/wire.h"
#include "libxldrv/host/tcp.h"

#define CONNECT_MS          10000
#define DOWNTIME_DEFAULT_MS 300u
#define MIB                 (1024u * 1024u)

static XldrvDeviceHost device_host(XldrvDriver *driver, XldrvJob *job)
{
    return (XldrvDeviceHost){driver, job->instance, job->uuid_text, job->name};
}

static gboolean check_running(XldrvDomain *domain, GError **error)
{
    if (domain->instance && (domain->state == VIR_DOMAIN_RUNNING || domain->state == VIR_DOMAIN_PAUSED))
        return TRUE;
    return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
}

/* ---- begin: nothing is held afterwards, so nothing has to be undone when the client goes */

/* Offline it is the definition that goes, whether it runs or not. */
static gboolean check_begin(XldrvJob *job, guint flags, GError **error)
{
    const XmlconfDomainConfig *live = job->live ? xmlconf_domain_config(job->live) : NULL;

    if (!(flags & VIR_MIGRATE_OFFLINE) && !check_running(job, error))
        return FALSE;
    if (flags & VIR_MIGRATE_POSTCOPY && (flags & VIR_MIGRATE_PAUSED || job->state == VIR_DOMAIN_PAUSED))
        return xldrv_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED,
                               "post-copy migration is not supported with non-live or paused migration");
    if (flags & VIR_MIGRATE_POSTCOPY && live && (live->memory_locked || live->hugepages))
        return xldrv_set_error(error, VIR_ERR_OPERATION_UNSUPPORTED, "post-copy migration of memory that is locked or of huge pages "
                               "is not supported");
    if (flags & VIR_MIGRATE_OFFLINE && !job->config)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot migrate the definition of transient domain");
    if (xldrv_moments_count(XLDRV_SNAPSHOTS, job))
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot migrate domain with %u snapshots",
                               xldrv_moments_count(XLDRV_SNAPSHOTS, job));
    if (xldrv_moments_count(XLDRV_CHECKPOINTS, job))
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot migrate domain with %u checkpoints",
                               xldrv_moments_count(XLDRV_CHECKPOINTS, job));
    if (!xldrv_blockjob_check_domain(job, error))
        return FALSE;
    if (flags & VIR_MIGRATE_UNDEFINE_SOURCE && !job->config)
        return xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "cannot undefine transient domain");
    return TRUE;
}

static char *format_begin(XldrvJob *job, const XldrvMigration *migration, GError **error)
{
    gboolean offline = migration->flags & VIR_MIGRATE_OFFLINE;
    g_autoptr(GError) why = NULL;
    char *xml;

    if (migration->xml)
        return g_strdup(migration->xml);
    xml = xmlconf_domain_format(offline ? job->config : job->live,
                                XMLCONF_FORMAT_SECURE | (offline ? XMLCONF_FORMAT_INACTIVE : XMLCONF_FORMAT_STATUS), &why);
    if (!xml)
        xldrv_set_xml_error(error, g_steal_pointer(&why));
    return xml;
}

static GVariant *begin(GVariant *args, const XldrvMigration *migration, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XldrvJobGuard) job = domain ? xldrv_job_begin(domain, "migrate", error) : NULL;
    g_autofree char *xml = NULL;
    g_auto(XldrvCookie) cookie = {0};

    if (!job || !check_begin(job, migration->flags, error) || !(xml = format_begin(job, migration, error)))
        return NULL;
    if (migration->flags & XLDRV_MIGRATE_COPY_FLAGS &&
        !(cookie.disks = xldrv_copies_list(job, migration, error)))
        return NULL;
    cookie.id = job->instance ? xldrv_instance_id(job->instance) : 0;
    if (cookie.id && !(migration->flags & VIR_MIGRATE_OFFLINE) &&
        !(cookie.store = xldrv_store_read_tree(xldrv_driver_get()->store, cookie.id, error)))
        return NULL;
    return g_variant_new("(@ays)", xldrv_cookie_encode(&cookie), xml);
}

/* ---- disks: only one side may have them */

static gboolean release_disks(const XldrvDeviceHost *host, const GPtrArray *disks, GError **error)
{
    for (guint i = 0; disks && i < disks->len; i++) {
        const XmlconfDisk *disk = disks->pdata[i];

        if (!xmlconf_disk_source(disk))
            continue;
        if (!xldrv_disk_park(host, disk, error))
            return FALSE;
        xldrv_disk_close_source(host, disk, XLDRV_STORAGE_CURRENT);
    }
    return TRUE;
}

static int keep_stream(struct domctl *ctl, gpointer recall)
{
    return *(gboolean *)recall ? domctl_stream_recall(ctl) : domctl_stream_keep(ctl);
}

gboolean xldrv_migration_cancel(XldrvDriver *driver, XldrvJob *job, gboolean recall, GError **error)
{
    const XldrvDeviceHost host = device_host(driver, job);

    if (!xldrv_instance_control(job->instance, "keep", keep_stream, &recall, error) ||
        !xldrv_disks_reconnect(&host, xmlconf_domain_config(job->live)->disks, error))
        return FALSE;
    xldrv_stream_end(job->instance);
    xldrv_blockjobs_unroute_all(driver, job);
    return TRUE;
}

/* ---- what may not be left to chance */

/* Where what is written here can be read there. */
static gboolean is_shared_file_system(const char *path)
{
    static const guint32 shared[] = {0x6969 /* NFS */,  0x01161970 /* GFS2 */, 0x7461636f /* OCFS2 */, 0xff534d42 /* CIFS */,
                                     0xfe534d42 /* SMB2 */, 0x00c36400 /* Ceph */, 0x65735546 /* FUSE */};
    struct statfs about;

    if (statfs(path, &about) < 0)
        return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(shared); i++) {
        if ((guint32)about.f_type == shared[i])
            return TRUE;
    }
    return FALSE;
}

/* Both ends have the same address: it is this host that it goes to. */
static gboolean is_this_host(int fd)
{
    struct sockaddr_storage here = {0}, there = {0};
    socklen_t here_bytes = sizeof(here), there_bytes = sizeof(there);
    const struct sockaddr_in *a = (const void *)&here, *b = (const void *)&there;
    const struct sockaddr_in6 *c = (const void *)&here, *d = (const void *)&there;

    if (getsockname(fd, (struct sockaddr *)&here, &here_bytes) || getpeername(fd, (struct sockaddr *)&there, &there_bytes) ||
        here.ss_family != there.ss_family)
        return FALSE;
    if (here.ss_family == AF_INET)
        return a->sin_addr.s_addr == b->sin_addr.s_addr;
    return here.ss_family == AF_INET6 && !memcmp(&c->sin6_addr, &d->sin6_addr, sizeof(c->sin6_addr));
}

static gboolean check_safe(XldrvJob *job, const XldrvMigration *migration, int fd, GError **error)
{
    const GPtrArray *disks = xmlconf_domain_config(job->live)->disks;

    for (guint i = 0; !(migration->flags & VIR_MIGRATE_UNSAFE) && !is_this_host(fd) && disks && i < disks->len; i++) {
        const XmlconfDisk *disk = disks->pdata[i];
        const char *source = xmlconf_disk_source(disk);

        if (source && !disk->readonly && disk->type == XMLCONF_DISK_FILE && !xldrv_migration_copies(migration, disk) &&
            !is_shared_file_system(source))
            return xldrv_set_error(error, VIR_ERR_MIGRATE_UNSAFE,
                                   "disk '%s' is on '%s', which is on no shared file system", disk->target, source);
    }
    return TRUE;
}

/* ---- perform */

typedef struct {
    int fd;
    struct domus_stream_limits limits;
} Send;

static int send_domain(struct domctl *ctl, gpointer data)
{
    const Send *how = data;

    return domctl_send(ctl, how->fd, &how->limits);
}

static int set_limits(struct domctl *ctl, gpointer limits)
{
    return domctl_stream_limits(ctl, limits);
}

static struct domus_stream_limits limits_of(XldrvDomain *domain)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    return (struct domus_stream_limits){
        .flags = (domain->migrate_flags & VIR_MIGRATE_AUTO_CONVERGE ? DOMUS_STREAM_CONVERGE : 0) |
                 (domain->migrate_flags & VIR_MIGRATE_COMPRESSED ? DOMUS_STREAM_COMPRESS : 0) |
                 (domain->migrate_flags & VIR_MIGRATE_POSTCOPY ? DOMUS_STREAM_SWITCHABLE : 0),
        .max_downtime_ns = (domain->max_downtime_ms ? domain->max_downtime_ms : DOWNTIME_DEFAULT_MS) * 1000000ull,
        .bytes_per_second = domain->max_speed_mib * MIB,
        .postcopy_bytes_per_second = domain->postcopy_speed_mib * MIB,
    };
}

/* The certificate of the other side is for the host's name as we know it, unless we are told another one. */
int xldrv_migration_encrypt(XldrvDriver *driver, const XldrvMigration *migration, int fd, GError **error)
{
    g_autoptr(GUri) uri = g_uri_parse(migration->uri, G_URI_FLAGS_NONE, NULL);
    const char *name = migration->tls_destination ? migration->tls_destination : g_uri_get_host(uri);
    XldrvTlsEnd *end = xldrv_tls_end_new(driver->pki, name, error);

    if (end)
        return xldrv_tls_end_start(end, fd, error);
    close(fd);
    return -1;
}

int xldrv_migration_connect(const char *uri, GError **error)
{
    g_autoptr(GUri) parsed = uri ? g_uri_parse(uri, G_URI_FLAGS_NONE, NULL) : NULL;
    g_autofree char *port = NULL;
    int fd;

    if (!parsed || g_strcmp0(g_uri_get_scheme(parsed), "tcp") || g_uri_get_port(parsed) <= 0) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "'%s' is no migration URI: tcp://HOST:PORT is expected", uri ? uri : "");
        return -1;
    }
    port = g_strdup_printf("%d", g_uri_get_port(parsed));
    fd = xldrv_tcp_open(g_uri_get_host(parsed), port, FALSE, CONNECT_MS, error);
    if (fd >= 0)
        xldrv_migration_tune_socket(fd);
    return fd;
}

static gboolean stop_if_not_live(XldrvDriver *driver, XldrvJob *job, const XldrvMigration *migration, GError **error)
{
    if (migration->flags & VIR_MIGRATE_LIVE || job->state == VIR_DOMAIN_PAUSED)
        return TRUE;
    if (!xldrv_instance_pause(job->instance, error))
        return FALSE;
    xldrv_set_running_state(driver, job, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION);
    return TRUE;
}

/* Disks that are copied stay in sync meanwhile. What a daemon has to know that finds it after it was sent is on disk before
 * the guest stops; if it was not sent, the hypervisor says so (xldrv_migration_settle). */
static gboolean send_all(XldrvDriver *driver, XldrvJob *job, int fd, XldrvCopies *copies, struct domus_stream_status *status,
                         GError **error)
{
    Send how = {.fd = fd, .limits = limits_of(job)};

    job->leaving = TRUE;
    xldrv_save_running_state(driver, job, job->state, job->reason);
    return xldrv_instance_control(job->instance, "migrate", send_domain, &how, error) &&
           xldrv_stream_wait_while(job, "migrate", xldrv_copies_look, copies, status, error);
}

/* From here on it stands still, and waits for what is decided elsewhere. */
static GVariant *hand_over(XldrvDriver *driver, XldrvJob *job, XldrvCopies *copies, XldrvStoreFollower *nodes, GError **error)
{
    const XldrvDeviceHost host = device_host(driver, job);
    g_auto(XldrvCookie) cookie = {.id = xldrv_instance_id(job->instance), .copied = TRUE};

    if (!xldrv_copies_complete(copies, error) ||
        !release_disks(&host, xmlconf_domain_config(job->live)->disks, error))
        return NULL;
    cookie.store = xldrv_store_follower_end(nodes, error);
    return cookie.store ? xldrv_cookie_encode(&cookie) : NULL;
}

/* The status file said so before the guest stopped. */
static void set_paused_state(XldrvDriver *driver, XldrvJob *job)
{
    xldrv_domain_set_state(job, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION);
    xldrv_event_lifecycle(driver->events, job, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED);
}

/* A domain that could not be sent is what it was. */
static void undo_perform(XldrvDriver *driver, XldrvJob *job, int state, int reason)
{
    g_autoptr(GError) why = NULL;

    if (!xldrv_migration_cancel(driver, job, FALSE, &why)) {
        g_warning("domain '%s' stays paused: %s", job->name, why->message);
        xldrv_set_running_state(driver, job, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_MIGRATION);
        return;
    }
    if (state == VIR_DOMAIN_RUNNING && job->state == VIR_DOMAIN_PAUSED && job->reason == VIR_DOMAIN_PAUSED_MIGRATION)
        xldrv_instance_unpause(job->instance, NULL);
    xldrv_set_running_state(driver, job, state, reason);
}

static GVariant *perform(XldrvDriver *driver, XldrvJob *job, const XldrvMigration *migration,
                         const XldrvCookie *prepared, GError **error)
{
    struct domus_stream_status status = {0};
    gboolean tunnelled = migration->flags & VIR_MIGRATE_TUNNELLED;
    int state = job->state, reason = job->reason,
        fd = tunnelled ? xldrv_migrate_peer_tunnel(job, error) : xldrv_migration_connect(migration->uri, error);
    XldrvStoreFollower *nodes = NULL;
    GVariant *cookie = NULL;
    XldrvCopies *copies;

    if (fd < 0)
        return NULL;
    if (!check_safe(job, migration, fd, error)) {
        close(fd);
        return NULL;
    }
    if (migration->flags & VIR_MIGRATE_POSTCOPY)
        xldrv_migration_keep_short(fd);
    if (migration->connections && (fd = xldrv_migration_spread(migration, prepared, fd, error)) < 0)
        return NULL;
    if (migration->flags & VIR_MIGRATE_TLS && (fd = xldrv_migration_encrypt(driver, migration, fd, error)) < 0)
        return NULL;
    xldrv_longjob_begin(job, VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT);
    copies = xldrv_copies_new(driver, job, migration, prepared);
    if (xldrv_copies_start(copies, error) && stop_if_not_live(driver, job, migration, error) &&
        (nodes = xldrv_store_follow(driver->store, xldrv_instance_id(job->instance), error)) &&
        send_all(driver, job, fd, copies, &status, error))
        cookie = hand_over(driver, job, copies, nodes, error);
    xldrv_store_follower_free(nodes);
    close(fd);
    xldrv_copies_free(copies);
    job->leaving = FALSE;
    if (!cookie || status.phase == DOMUS_STREAM_DONE) /* else it goes on until all is there */
        xldrv_longjob_end(driver, job, cookie ? &status : NULL);
    if (cookie && status.phase == DOMUS_STREAM_POSTCOPY)
        xldrv_postcopy_left(driver, job);
    else if (cookie)
        set_paused_state(driver, job);
    else
        undo_perform(driver, job, state, reason);
    return cookie;
}

static GVariant *handle_perform(XldrvCall *call, GVariant *args, const char *dconnuri, GVariant *cookie_in,
                                const XldrvMigration *migration, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_auto(XldrvCookie) prepared = {0};
    g_autoptr(XldrvJobGuard) job = NULL;
    GVariant *cookie;

    if (!domain)
        return NULL;
    if (migration->flags & VIR_MIGRATE_PEER2PEER)
        return xldrv_migrate_peer(xldrv_driver_get(), domain, dconnuri, migration, error)
                   ? g_variant_new("(@ay)", g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, "", 0, 1))
                   : NULL;
    job = xldrv_job_begin(domain, "migrate", error);
    if (!job || !check_running(job, error) || !xldrv_blockjob_check_domain(job, error) ||
        !xldrv_cookie_decode(cookie_in, &prepared, error))
        return NULL;
    g_mutex_lock(&job->lock);
    job->migrate_flags = migration->flags;
    job->sender = xldrv_client_id(xldrv_call_client(call));
    if (migration->bandwidth_mib)
        job->max_speed_mib = migration->bandwidth_mib;
    if (migration->postcopy_bandwidth_mib)
        job->postcopy_speed_mib = migration->postcopy_bandwidth_mib;
    g_mutex_unlock(&job->lock);
    cookie = perform(xldrv_driver_get(), job, migration, &prepared, error);
    if (cookie && xldrv_client_is_closed(xldrv_call_client(call)))
        xldrv_migration_settle(xldrv_driver_get(), job);
    return cookie ? g_variant_new("(@ay)", cookie) : NULL;
}

/* ---- confirm */

#define OWNER_POLL_US    1000
#define OWNER_WAIT_SECS  2
#define DISKS_POLL_US    100000
#define DISKS_WAIT_SECS  30

gboolean xldrv_migration_is_sent(const XldrvJob *job)
{
    return job->instance && job->state == VIR_DOMAIN_PAUSED &&
           (job->reason == VIR_DOMAIN_PAUSED_MIGRATION || job->reason == VIR_DOMAIN_PAUSED_POSTCOPY);
}

static int get_status(struct domctl *ctl, gpointer status)
{
    return domctl_stream_status(ctl, status);
}

/* Whether the destination took it. What was given up is taken a moment later, if ever. */
static gboolean was_taken(XldrvJob *job)
{
    gint64 end = g_get_monotonic_time() + OWNER_WAIT_SECS * G_TIME_SPAN_SECOND;
    struct domus_stream_status status = {0};

    while (xldrv_instance_control(job->instance, "ask about", get_status, &status, NULL)) {
        if (status.owner != DOMUS_OWNER_GIVEN || g_get_monotonic_time() > end)
            break;
        g_usleep(OWNER_POLL_US);
    }
    return status.owner == DOMUS_OWNER_RECEIVER;
}

/* It stood still before it was sent, or was stopped for that. */
static gboolean is_paused(XldrvJob *job)
{
    struct domctl_info info;

    return xldrv_instance_get_info(job->instance, &info, NULL) && info.paused;
}

static void go_on(XldrvDriver *driver, XldrvJob *job)
{
    if (!(job->migrate_flags & (VIR_MIGRATE_LIVE | VIR_MIGRATE_PAUSED)) && job->migrate_flags)
        xldrv_instance_unpause(job->instance, NULL);
    if (is_paused(job)) {
        xldrv_set_running_state(driver, job, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER);
        return;
    }
    xldrv_set_running_state(driver, job, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_MIGRATION_CANCELED);
    xldrv_event_lifecycle(driver->events, job, VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_MIGRATED);
}

/* It runs at the destination now; in post-copy it is needed here until all of it is there. */
static gboolean leave(XldrvDriver *driver, XldrvJob *job, GError **error)
{
    gboolean ok;

    if (xldrv_postcopy_is_left(job) && !xldrv_postcopy_complete(driver, job, error))
        return FALSE;
    ok = !(job->migrate_flags & VIR_MIGRATE_UNDEFINE_SOURCE) || !job->config ||
                  xldrv_remove_definition(driver, job, 0, error);

    xldrv_stop(driver, job, VIR_DOMAIN_SHUTOFF_MIGRATED, VIR_DOMAIN_EVENT_STOPPED_MIGRATED, FALSE);
    return ok;
}

static gboolean is_ours(XldrvJob *job)
{
    struct domus_stream_status status = {0};

    return xldrv_instance_control(job->instance, "ask about", get_status, &status, NULL) &&
           status.owner == DOMUS_OWNER_SENDER;
}

/* A destination that has taken the disks already has their images locked, until it hears that the guest is not its own. */
static gboolean take_back(XldrvDriver *driver, XldrvJob *job, GError **error)
{
    gint64 end = g_get_monotonic_time() + DISKS_WAIT_SECS * G_TIME_SPAN_SECOND;

    while (!xldrv_migration_cancel(driver, job, FALSE, error)) {
        if (!is_ours(job) || g_get_monotonic_time() > end)
            return FALSE;
        g_clear_error(error);
        g_usleep(DISKS_POLL_US);
    }
    return TRUE;
}

gboolean xldrv_migration_come_back(XldrvDriver *driver, XldrvJob *job, GError **error)
{
    g_autoptr(GError) why = NULL;

    /* Who gave it up can say nothing else, whatever the client thinks. */
    if (take_back(driver, job, &why)) {
        if (xldrv_postcopy_is_left(job))
            xldrv_longjob_end(driver, job, NULL);
        go_on(driver, job);
        return TRUE;
    }
    if (was_taken(job))
        return leave(driver, job, error);
    if (xldrv_postcopy_is_left(job))
        xldrv_postcopy_give_up(driver, job);
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                           "domain '%s' was sent and what became of it is not known (%s); it stays paused: resume it if it "
                           "does not run at the destination", job->name, why->message);
}

void xldrv_migration_settle(XldrvDriver *driver, XldrvJob *job)
{
    g_autoptr(GError) why = NULL;

    if (xldrv_postcopy_is_left(job))
        xldrv_postcopy_follow_soon(job);
    else if (xldrv_migration_is_sent(job) && !xldrv_migration_come_back(driver, job, &why))
        g_warning("%s", why->message);
}

void xldrv_migration_sender_closed(XldrvDriver *driver, guint64 client)
{
    g_autoptr(GPtrArray) all = xldrv_domains_all(driver->domains);

    for (guint i = 0; i < all->len; i++) {
        XldrvDomain *domain = all->pdata[i];
        g_autoptr(XldrvJobGuard) job = NULL;
        gboolean is_its;

        g_mutex_lock(&domain->lock);
        is_its = domain->sender == client;
        g_mutex_unlock(&domain->lock);
        job = is_its ? xldrv_job_begin_waiting(domain, "settle the migration of") : NULL;
        if (job && job->sender == client)
            xldrv_migration_settle(driver, job);
    }
}

static gboolean confirm_offline(XldrvDriver *driver, XldrvJob *job, const XldrvMigration *migration, gboolean cancelled,
                                GError **error)
{
    return cancelled || !(migration->flags & VIR_MIGRATE_UNDEFINE_SOURCE) || !job->config ||
           xldrv_remove_definition(driver, job, 0, error);
}

static GVariant *confirm(GVariant *args, const XldrvMigration *migration, gboolean cancelled, GError **error)
{
    XldrvDriver *driver = xldrv_driver_get();
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);
    g_autoptr(XldrvJobGuard) job = domain ? xldrv_job_begin(domain, "confirm the migration of", error) : NULL;

    if (!job)
        return NULL;
    if (migration->flags & VIR_MIGRATE_OFFLINE)
        return confirm_offline(driver, job, migration, cancelled, error) ? xldrv_reply_void() : NULL;
    if (!xldrv_migration_is_sent(job))
        return xldrv_reply_void(); /* nothing was sent */
    if (cancelled)
        return xldrv_migration_come_back(driver, job, error) ? xldrv_reply_void() : NULL;
    return leave(driver, job, error) ? xldrv_reply_void() : NULL;
}

/* ---- procedures */

GVariant *xldrv_handle_domain_migrate_begin3(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    XldrvMigration migration;

    if (!xldrv_migration_read(NULL, (guint)xldrv_args_u64(args, 2), &migration, error))
        return NULL;
    migration.xml = xldrv_args_optional_string(args, 1);
    return begin(args, &migration, error);
}

GVariant *xldrv_handle_domain_migrate_begin3_params(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(GVariant) params = g_variant_get_child_value(args, 1);
    XldrvMigration migration;

    return xldrv_migration_read(params, xldrv_args_u32(args, 2), &migration, error) ? begin(args, &migration, error) : NULL;
}

GVariant *xldrv_handle_domain_migrate_perform3(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(GVariant) cookie = g_variant_get_child_value(args, 2);
    XldrvMigration migration;

    if (!xldrv_migration_read(NULL, (guint)xldrv_args_u64(args, 5), &migration, error))
        return NULL;
    migration.uri = xldrv_args_optional_string(args, 4);
    migration.bandwidth_mib = xldrv_args_u64(args, 7);
    return handle_perform(call, args, xldrv_args_optional_string(args, 3), cookie, &migration, error);
}

GVariant *xldrv_handle_domain_migrate_perform3_params(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(GVariant) params = g_variant_get_child_value(args, 2);
    g_autoptr(GVariant) cookie = g_variant_get_child_value(args, 3);
    XldrvMigration migration;

    if (!xldrv_migration_read(params, xldrv_args_u32(args, 4), &migration, error))
        return NULL;
    return handle_perform(call, args, xldrv_args_optional_string(args, 1), cookie, &migration, error);
}

GVariant *xldrv_handle_domain_migrate_confirm3(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    XldrvMigration migration;

    if (!xldrv_migration_read(NULL, (guint)xldrv_args_u64(args, 2), &migration, error))
        return NULL;
    return confirm(args, &migration, xldrv_args_i32(args, 3) != 0, error);
}

GVariant *xldrv_handle_domain_migrate_confirm3_params(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    g_autoptr(GVariant) params = g_variant_get_child_value(args, 1);
    XldrvMigration migration;

    if (!xldrv_migration_read(params, xldrv_args_u32(args, 3), &migration, error))
        return NULL;
    return confirm(args, &migration, xldrv_args_i32(args, 4) != 0, error);
}

/* ---- limits, also of what is under way */

static gboolean change_limit(XldrvDomain *domain, guint64 *limit, guint64 value, GError **error)
{
    struct domus_stream_limits limits;
    XldrvInstance *instance = NULL;
    gboolean ok = TRUE;

    g_mutex_lock(&domain->lock);
    *limit = value;
    if (domain->instance && domain->long_job == VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT)
        instance = xldrv_instance_ref(domain->instance);
    g_mutex_unlock(&domain->lock);
    limits = limits_of(domain);
    if (instance)
        ok = xldrv_instance_control(instance, "set the limits of", set_limits, &limits, error);
    xldrv_instance_unref(instance);
    return ok;
}

enum limit { DOWNTIME, SPEED, POSTCOPY_SPEED };

static guint64 *limit_of(XldrvDomain *domain, enum limit which)
{
    return which == DOWNTIME ? &domain->max_downtime_ms : which == SPEED ? &domain->max_speed_mib : &domain->postcopy_speed_mib;
}

/* The flags of a call that is about speed, or not. */
static gboolean read_limit(guint flags, gboolean speed, enum limit *which, GError **error)
{
    *which = !speed ? DOWNTIME : flags & VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY ? POSTCOPY_SPEED : SPEED;
    return xldrv_check_flags(flags, speed ? VIR_DOMAIN_MIGRATE_MAX_SPEED_POSTCOPY : 0, G_STRFUNC, error);
}

static GVariant *set_limit(GVariant *args, gboolean speed, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;
    guint64 value = xldrv_args_u64(args, 1);
    enum limit which;

    if (!read_limit(xldrv_args_u32(args, 2), speed, &which, error))
        return NULL;
    if (value > G_MAXUINT32) {
        xldrv_set_error(error, VIR_ERR_INVALID_ARG, "%" G_GUINT64_FORMAT " is too much", value);
        return NULL;
    }
    domain = xldrv_args_domain(args, error);
    if (!domain || !change_limit(domain, limit_of(domain, which), value, error))
        return NULL;
    return xldrv_reply_void();
}

static GVariant *get_limit(GVariant *args, gboolean speed, GError **error)
{
    g_autoptr(XldrvDomain) domain = NULL;
    enum limit which;
    guint64 value;

    if (!read_limit(xldrv_args_u32(args, 1), speed, &which, error) || !(domain = xldrv_args_domain(args, error)))
        return NULL;
    g_mutex_lock(&domain->lock);
    value = *limit_of(domain, which);
    g_mutex_unlock(&domain->lock);
    return g_variant_new("(t)", !speed && !value ? (guint64)DOWNTIME_DEFAULT_MS : value);
}

GVariant *xldrv_handle_domain_migrate_set_max_downtime(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return set_limit(args, FALSE, error);
}

GVariant *xldrv_handle_domain_migrate_get_max_downtime(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return get_limit(args, FALSE, error);
}

GVariant *xldrv_handle_domain_migrate_set_max_speed(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return set_limit(args, TRUE, error);
}

GVariant *xldrv_handle_domain_migrate_get_max_speed(XldrvCall *call G_GNUC_UNUSED, GVariant *args, GError **error)
{
    return get_limit(args, TRUE, error);
}
