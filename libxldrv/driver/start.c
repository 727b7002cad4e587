/* Starting a domain: a row of steps, and one function that undoes what was done.
 *
 * A status file of phase "starting" is written before anything is there that could be left over, and the
 * process writes who it is before it becomes the hypervisor; so a daemon that was killed half-way leaves
 * nothing that the next one does not find and remove.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/xen-abi.h"
#include "libxldrv/driver/agent.h"
#include "libxldrv/driver/boot.h"
#include "libxldrv/driver/consoles.h"
#include "libxldrv/driver/devices.h"
#include "libxldrv/driver/display.h"
#include "libxldrv/driver/limits.h"
#include "libxldrv/driver/logs.h"
#include "libxldrv/driver/numa.h"
#include "libxldrv/driver/longjob.h"
#include "libxldrv/driver/pin.h"
#include "libxldrv/driver/hooks.h"
#include "libxldrv/driver/run.h"
#include "libxldrv/driver/tune.h"
#include "libxldrv/host/host.h"
#include "libxldrv/host/process.h"
#include "libxldrv/host/socket.h"
#include "libxldrv/state/files.h"

#define CONTROL_FD      "3" /* the first passed descriptor */
#define LOCK_SLACK_KIB  4096
#define COUNTER_FILE    "last-domid"

struct _XldrvStart {
    XldrvDriver *driver;
    XldrvJob *job;
    const XldrvStartOptions *options;
    const XldrvIncoming *incoming; /* of the options */
    GVariant *store;               /* of incoming, or what prepare was told, */
    GVariant *store_now;           /* and what finish was; NULL: the same */
    gboolean made;                 /* what its devices have here was made before it came */
    gboolean paused;
    gboolean postcopy; /* a part of its memory is still to come */
    XmlconfDomainConfig *config; /* of status.domain */
    XldrvStatus status;
    char *control_path, *process_path, *log_path;
    XldrvBoot boot;
    int listen_fd, store_fds[2];
    XldrvInstance *instance;
    struct domus_build build;
    gboolean status_saved;
    gboolean prepared, hooked; /* hook scripts were told that it is prepared, that it starts */
};
typedef XldrvStart Start;

typedef gboolean (*Step)(Start *s, GError **error);

char *xldrv_control_name(const XldrvDomain *domain)
{
    return g_strconcat(domain->uuid_text, ".ctl", NULL);
}

char *xldrv_process_name(const XldrvDomain *domain)
{
    return g_strconcat(domain->uuid_text, ".process", NULL);
}

char *xldrv_run_path(const XldrvDriver *driver, const char *name)
{
    return g_build_filename(driver->paths->run_dir, name, NULL);
}

/* ---- domain ids: never one again soon, also across restarts of the daemon */

static guint read_counter(const char *path)
{
    g_autofree char *text = xldrv_file_read(path, 64, NULL);
    guint64 last;

    if (!text || !g_ascii_string_to_unsigned(g_strchomp(text), 10, 0, DOMID_FIRST_RESERVED - 1, &last,
                                             NULL))
        return 0;
    return last;
}

/* A domain that comes from elsewhere has its number long before it is one. */
static gboolean take_id_locked(XldrvDriver *driver, guint id)
{
    return !xldrv_domains_id_in_use(driver->domains, (int)id) && g_hash_table_add(driver->starting_ids, GUINT_TO_POINTER(id));
}

static void give_id_back(XldrvDriver *driver, int id)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&driver->id_lock);

    g_hash_table_remove(driver->starting_ids, GINT_TO_POINTER(id));
}

static gboolean allocate_id(XldrvDriver *driver, int wanted, int *id, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&driver->id_lock);
    g_autofree char *path = xldrv_run_path(driver, COUNTER_FILE);
    g_autofree char *text = NULL;
    guint last = read_counter(path);

    if (wanted > 0 && (guint)wanted < DOMID_FIRST_RESERVED && take_id_locked(driver, (guint)wanted)) {
        *id = wanted;
        return TRUE;
    }
    for (guint tries = 0; tries < DOMID_FIRST_RESERVED; tries++) {
        last = last + 1 < DOMID_FIRST_RESERVED ? last + 1 : 1;
        if (!take_id_locked(driver, last))
            continue;
        *id = last;
        text = g_strdup_printf("%u\n", last);
        return xldrv_file_replace_volatile(path, text, error);
    }
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "all domain ids are in use");
}

/* ---- steps */

static gboolean open_files(Start *s, GError **error)
{
    return s->incoming || xldrv_boot_open(s->driver, s->job->uuid_text, s->config, &s->boot, error);
}

/* A daemon that could not read the status file of a running domain takes it for inactive, but two of one domain
 * would write to the same disks. */
static gboolean check_stray(Start *s, GError **error)
{
    g_autoptr(XldrvProcess) stray = xldrv_process_find_written(s->process_path);

    return !stray || xldrv_set_error(error, VIR_ERR_OPERATION_INVALID,
                                     "domain '%s' still runs as process %d, which the daemon has lost: end it first",
                                     s->config->name, (int)stray->pid);
}

/* ---- hook scripts: one that fails makes the start fail. What was begun is ended in any case. */

static gboolean hook_prepare(Start *s, GError **error)
{
    s->prepared = TRUE;
    return xldrv_hooks_run(s->driver, s->status.domain, "prepare", "begin", error);
}

static gboolean hook_start(Start *s, GError **error)
{
    s->hooked = TRUE;
    return xldrv_hooks_run(s->driver, s->status.domain, "start", "begin", error);
}

static gboolean hook_started(Start *s, GError **error)
{
    return xldrv_hooks_run(s->driver, s->status.domain, "started", "begin", error);
}

static gboolean write_status(Start *s, GError **error)
{
    if (!allocate_id(s->driver, s->incoming ? s->incoming->id : 0, &s->status.id, error))
        return FALSE;
    s->config->id = s->status.id;
    s->status_saved = TRUE;
    return xldrv_status_save(s->driver->paths, &s->status, error);
}

/* The hypervisor's command line; its strings are the driver's or the start's. */
static void fill_arguments(Start *s, const char *argv[static 10])
{
    guint n = 0;

    argv[n++] = s->driver->hypervisor;
    argv[n++] = "--control-fd";
    argv[n++] = CONTROL_FD;
    argv[n++] = "--name";
    argv[n++] = s->config->name;
    if (s->driver->engine) {
        argv[n++] = "--engine";
        argv[n++] = s->driver->engine;
    }
    if (s->driver->hypervisor_user) {
        argv[n++] = "--user";
        argv[n++] = s->driver->hypervisor_user;
    }
    argv[n] = NULL;
}

static gboolean start_process(Start *s, GError **error)
{
    const XmlconfNumatune *tune = &s->config->numatune;
    const char *argv[10];
    XldrvMemoryPolicy memory;
    const XldrvSpawn spawn = {.argv = argv,
                              .fds = &s->listen_fd,
                              .n_fds = 1,
                              .log_path = s->log_path,
                              .memory = tune->mode ? &memory : NULL,
                              .pid_path = s->process_path};
    XldrvProcess *process;

    if (tune->mode && !xldrv_memory_policy_init(&memory, tune, error))
        return FALSE;
    fill_arguments(s, argv);
    s->listen_fd = xldrv_socket_listen(s->control_path, SOCK_SEQPACKET, error);
    if (s->listen_fd < 0)
        return FALSE;
    process = xldrv_process_spawn(&spawn, error);
    if (!process)
        return FALSE;
    s->instance = xldrv_instance_new(s->config->name, s->status.id, s->control_path, process);
    close(s->listen_fd); /* so that connections end when the process does */
    s->listen_fd = -1;
    return TRUE;
}

/* Before it has a thread for a vCPU. */
static gboolean bind_process(Start *s, GError **error)
{
    return xldrv_pin_process(s->instance, s->config, error);
}

static gboolean bind_vcpus(Start *s, GError **error)
{
    return xldrv_pin_vcpus(s->instance, s->config, error);
}

static int create_domain(struct domctl *ctl, gpointer data)
{
    Start *s = data;

    return domctl_create(ctl, s->status.id, s->job->uuid, s->config->max_vcpus);
}

static int set_vcpus(struct domctl *ctl, gpointer data)
{
    Start *s = data;

    return domctl_max_vcpus(ctl, s->config->max_vcpus);
}

static int set_memory(struct domctl *ctl, gpointer data)
{
    Start *s = data;
    unsigned options = (s->config->memory_locked ? DOMUS_MEMORY_LOCKED : 0) |
                       (s->config->allocation == XMLCONF_ALLOCATION_IMMEDIATE ? DOMUS_MEMORY_IMMEDIATE : 0) |
                       (s->config->hugepages ? DOMUS_MEMORY_HUGE : 0);
    int rc = options ? domctl_memory_options(ctl, options) : 0;

    if (rc)
        return rc;
    return s->incoming ? domctl_limit_mem(ctl, s->config->memory_kib) : domctl_max_mem(ctl, s->config->memory_kib);
}

/* Beside its memory a domain has rings, tables, and what the balloon takes back. */
static gboolean allow_locking(Start *s, GError **error)
{
    return !s->config->memory_locked ||
           xldrv_process_allow_locking(xldrv_instance_process(s->instance),
                                       (s->config->memory_kib + LOCK_SLACK_KIB) * 1024, error);
}

/* The host's pool must have them all; the hypervisor says no more than that it has not. */
static gboolean check_hugepages(Start *s, GError **error)
{
    guint64 wanted = s->config->memory_kib / XMLCONF_HUGEPAGE_KIB, reserved = 0, there = 0;

    if (!s->config->hugepages)
        return TRUE;
    xldrv_host_hugepages((guint)XMLCONF_HUGEPAGE_KIB, &there, &reserved);
    there -= MIN(reserved, there);
    return wanted <= there ||
           xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                           "domain '%s' needs %" G_GUINT64_FORMAT " huge pages of %" G_GUINT64_FORMAT
                           " KiB and the host's pool has %" G_GUINT64_FORMAT " free", s->config->name, wanted,
                           XMLCONF_HUGEPAGE_KIB, there);
}

/* Before the process has the guest's memory: what it has already is not counted. */
static gboolean limit_process(Start *s, GError **error)
{
    return xldrv_limit_memory_use(s->driver, s->job, s->instance, &s->config->memtune, error) &&
           xldrv_limit_block_io(s->driver, s->job, s->instance, &s->config->blkiotune, error);
}

static int load_kernel(struct domctl *ctl, gpointer data)
{
    Start *s = data;

    return domctl_build(ctl, s->boot.kernel_fd, s->boot.ramdisk_fd, s->boot.cmdline, &s->build);
}

static int attach_store_fds(struct domctl *ctl, gpointer data)
{
    Start *s = data;

    return domctl_store_attach(ctl, s->store_fds[0], s->store_fds[1]);
}

static gboolean create(Start *s, GError **error)
{
    return xldrv_instance_control(s->instance, "create", create_domain, s, error) &&
           xldrv_instance_control(s->instance, "make the vCPUs of", set_vcpus, s, error) &&
           xldrv_numa_apply(s->instance, s->config, error) &&
           xldrv_instance_control(s->instance, "make the memory of", set_memory, s, error);
}

static XldrvDeviceHost device_host(const Start *s)
{
    return (XldrvDeviceHost){s->driver, s->instance, s->job->uuid_text, s->config->name};
}

/* Its messages went there from its first moment on. */
static gboolean watch_log(Start *s, GError **error)
{
    const XldrvDeviceHost host = device_host(s);

    return xldrv_log_watch_own(&host, error);
}

/* What a guest has seen of its processor is in its stream. */
static gboolean set_cpu(Start *s, GError **error)
{
    return s->incoming || xldrv_cpus_apply(s->driver->cpus, s->instance, &s->config->cpu, error);
}

/* ---- from a stream */

typedef struct {
    int fd;
    struct domus_restore restore;
    struct domus_stream_status status;
} Load;

static int restore_domain(struct domctl *ctl, gpointer data)
{
    Load *load = data;

    return domctl_restore(ctl, load->fd, &load->restore);
}

static int receive_domain(struct domctl *ctl, gpointer data)
{
    const Load *load = data;

    return domctl_receive(ctl, load->fd);
}

static int get_status(struct domctl *ctl, gpointer data)
{
    Load *load = data;

    return domctl_stream_status(ctl, &load->status);
}

static int get_rings(struct domctl *ctl, gpointer data)
{
    Start *s = data;

    return domctl_get_rings(ctl, &s->build);
}

static gboolean restore(Start *s, GError **error)
{
    Load load = {.fd = s->incoming->fd, .restore = {.flags = s->incoming->copy ? DOMUS_RESTORE_COPY : 0}};
    g_autoptr(GError) why = NULL;

    if (xldrv_instance_control_long(s->instance, "restore", restore_domain, &load, &why))
        return TRUE;
    if (!load.restore.error[0]) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot restore domain '%s': %s", s->config->name,
                           load.restore.error);
}

#define RECEIVE_POLL_US   500
#define RECEIVE_WAIT_SECS 60

/* The other side says that all was sent: then it is here, or on its way. */
static gboolean wait_for_stream(Start *s, GError **error)
{
    gint64 end = g_get_monotonic_time() + RECEIVE_WAIT_SECS * G_TIME_SPAN_SECOND;
    Load load = {.fd = -1};

    if (!s->incoming || s->incoming->fd >= 0)
        return TRUE;
    while (xldrv_instance_control(s->instance, "receive", get_status, &load, error)) {
        s->postcopy = load.status.phase == DOMUS_STREAM_POSTCOPY;
        if (load.status.phase == DOMUS_STREAM_DONE || s->postcopy)
            return TRUE;
        if (load.status.phase != DOMUS_STREAM_ACTIVE)
            return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot receive domain '%s': %s", s->config->name,
                                   load.status.text[0] ? load.status.text : "nothing came");
        if (g_get_monotonic_time() > end)
            return xldrv_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "domain '%s' does not come", s->config->name);
        g_usleep(RECEIVE_POLL_US);
    }
    return FALSE;
}

static gboolean find_rings(Start *s, GError **error)
{
    return !s->incoming || xldrv_instance_control(s->instance, "look at", get_rings, s, error);
}

static gboolean restore_store(Start *s, GError **error)
{
    return !s->store || s->made || xldrv_store_write_tree(s->driver->store, s->status.id, s->store, error);
}

gboolean xldrv_start_receive(XldrvStart *s, int fd, GError **error)
{
    Load load = {.fd = fd};

    return xldrv_instance_control(s->instance, "receive", receive_domain, &load, error);
}

static gboolean build(Start *s, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (s->incoming)
        return s->incoming->fd < 0 || restore(s, error);
    if (xldrv_instance_control_long(s->instance, "build", load_kernel, s, &why))
        return TRUE;
    s->build.error[sizeof(s->build.error) - 1] = '\0';
    if (!s->build.error[0]) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    /* The hypervisor knows descriptors, we know what they are. */
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot load kernel '%s'%s%s%s: %s",
                           s->boot.kernel, s->boot.ramdisk ? " with ramdisk '" : "",
                           s->boot.ramdisk ? s->boot.ramdisk : "", s->boot.ramdisk ? "'" : "",
                           s->build.error);
}

/* The first console has its ring from the build, and its terminal is told in the store. */
static gboolean attach_console(Start *s, GError **error)
{
    const XldrvDeviceHost host = device_host(s);

    return xldrv_console_attach(&host, s->config->consoles->pdata[0], error);
}

static gboolean attach_more_consoles(Start *s, GError **error)
{
    const GPtrArray *channels = s->config->channels;
    const XldrvDeviceHost host = device_host(s);

    for (guint i = 1; i < s->config->consoles->len; i++) {
        if (!xldrv_console_attach(&host, s->config->consoles->pdata[i], error))
            return FALSE;
    }
    for (guint i = 0; channels && i < channels->len; i++) {
        if (!xldrv_console_attach(&host, channels->pdata[i], error))
            return FALSE;
    }
    return TRUE;
}

static XldrvStoreDomain store_domain(const Start *s)
{
    const XmlconfConsole *console = s->config->consoles->len ? s->config->consoles->pdata[0] : NULL;

    return (XldrvStoreDomain){
        .id = s->status.id,
        .domain = s->status.domain,
        .ring_gfn = s->build.store_gfn,
        .ring_port = s->build.store_evtchn,
        .console_gfn = s->build.console_gfn,
        .console_port = s->build.console_evtchn,
        .tty = console ? console->tty : NULL,
    };
}

static gboolean connect_store(Start *s, GError **error)
{
    return s->store_fds[0] >= 0 || xldrv_store_domain_connections(s->driver->store, s->status.id, s->store_fds, error);
}

static gboolean attach_store(Start *s, GError **error)
{
    const XldrvStoreDomain what = store_domain(s);

    if (s->made ? !xldrv_store_complete_domain(s->driver->store, &what, s->store, s->store_now, error)
                : !xldrv_store_add_domain(s->driver->store, &what, error))
        return FALSE;
    return connect_store(s, error) &&
           xldrv_instance_control(s->instance, "attach the store to", attach_store_fds, s, error);
}

/* The guest starts with all of its memory, most of it never touched, and gives back by its balloon what it is not to
 * have; until then it may take nothing. */
static gboolean limit_memory(Start *s, GError **error)
{
    return s->incoming || s->config->current_memory_kib == s->config->memory_kib ||
           xldrv_limit_memory(s->instance, s->config->current_memory_kib, error);
}

/* What they will have on the host is on disk before it is there. */
static gboolean name_interfaces(Start *s, GError **error)
{
    GPtrArray *interfaces = s->config->interfaces;

    for (guint i = 0; interfaces && i < interfaces->len; i++)
        xldrv_nic_prepare(interfaces->pdata[i], s->status.id, xldrv_nic_devid(interfaces->pdata[i], i));
    return !interfaces || !interfaces->len || xldrv_status_save(s->driver->paths, &s->status, error);
}

static gboolean attach_devices(Start *s, GError **error)
{
    const XldrvDeviceHost host = device_host(s);

    return xldrv_devices_attach_all(&host, s->config, error);
}

static gboolean attach_display(Start *s, GError **error)
{
    const XldrvDeviceHost host = device_host(s);

    return xldrv_display_attach(&host, s->config, error);
}

/* ---- before it comes */

static gboolean make_nodes(Start *s, GError **error)
{
    const XldrvStoreDomain what = store_domain(s);

    return xldrv_store_write_domain(s->driver->store, &what, error);
}

static gboolean make_consoles(Start *s, GError **error)
{
    const GPtrArray *const lists[] = {s->config->consoles, s->config->channels};
    const XldrvDeviceHost host = device_host(s);

    for (gsize i = 0; i < G_N_ELEMENTS(lists); i++) {
        for (guint k = 0; lists[i] && k < lists[i]->len; k++) {
            if (!xldrv_console_make(&host, lists[i]->pdata[k], error))
                return FALSE;
        }
    }
    return TRUE;
}

static gboolean make_devices(Start *s, GError **error)
{
    const XldrvDeviceHost host = device_host(s);

    return xldrv_devices_make_all(&host, s->config, error) && xldrv_display_make(&host, s->config, error);
}

static gboolean write_tree(Start *s, GError **error)
{
    return xldrv_store_write_tree(s->driver->store, s->status.id, s->store, error);
}

static gboolean watch(Start *s, GError **error)
{
    return xldrv_watch(s->job, s->instance, error) &&
           (!s->config->graphics || !s->config->graphics->len ||
            xldrv_display_watch(s->driver, s->job, s->instance, error));
}

/* From here on a new daemon takes it for a running domain; what it says of the state, it makes true. */
static gboolean complete_status(Start *s, GError **error)
{
    s->status.complete = TRUE;
    s->status.state = s->paused ? VIR_DOMAIN_PAUSED : VIR_DOMAIN_RUNNING;
    s->status.reason = s->paused ? s->incoming ? s->incoming->paused_reason : VIR_DOMAIN_PAUSED_USER
                       : s->postcopy ? VIR_DOMAIN_RUNNING_POSTCOPY
                       : s->incoming ? s->incoming->run_reason : VIR_DOMAIN_RUNNING_BOOTED;
    return xldrv_status_save(s->driver->paths, &s->status, error);
}

/* As late as anything can fail: from here on it runs here, or nowhere. */
static gboolean claim(Start *s, GError **error)
{
    if (s->incoming && !xldrv_stream_claim(s->instance, s->config->name, error))
        return FALSE;
    if (s->incoming && s->incoming->taken)
        *s->incoming->taken = TRUE;
    return TRUE;
}

/* The vCPUs have no threads yet, but what cannot be is found out. */
static gboolean tune(Start *s, GError **error)
{
    return xldrv_tune(s->driver, s->job, s->instance, &s->config->cputune, error);
}

static gboolean let_run(Start *s, GError **error)
{
    return s->paused || xldrv_let_run(s->driver, s->job, s->instance, s->config, error);
}

static const Step first_steps[] = {check_stray, hook_prepare, open_files, write_status, hook_start, start_process,
                                   bind_process, limit_process, check_hugepages, allow_locking, create, watch_log,
                                   bind_vcpus, set_cpu, name_interfaces, build};
/* What takes its time and can be there before a guest that comes from elsewhere stands still. */
static const Step early_steps[] = {make_nodes, make_consoles, make_devices, write_tree, connect_store};
/* From here on it has things that are elsewhere until then, if it comes from there. */
static const Step last_steps[] = {wait_for_stream, find_rings, attach_console, attach_store, limit_memory, attach_devices,
                                  attach_more_consoles, attach_display, restore_store, tune, watch,
                                  complete_status, claim, let_run, hook_started};

/* ---- all or nothing */

static void undo(Start *s)
{
    if (s->instance)
        xldrv_instance_destroy(s->instance);
    if (s->hooked)
        xldrv_hooks_tell(s->driver, s->status.domain, "stopped", "end");
    if (s->status_saved)
        xldrv_clean_up(s->driver, &s->status);
    if (s->prepared)
        xldrv_hooks_tell(s->driver, s->status.domain, "release", "end");
}

static void note_owner(XldrvDriver *driver, XldrvJob *job)
{
    g_mutex_lock(&driver->owned_lock);
    if (!g_ptr_array_find(driver->owned, job, NULL))
        g_ptr_array_add(driver->owned, xldrv_domain_ref(job));
    g_mutex_unlock(&driver->owned_lock);
}

static void publish(Start *s)
{
    XldrvJob *job = s->job;

    job->started_us = g_get_monotonic_time();
    g_mutex_lock(&job->lock);
    g_clear_pointer(&job->live, xmlconf_domain_unref);
    job->live = xmlconf_domain_ref(s->status.domain);
    job->instance = xldrv_instance_ref(s->instance);
    job->state = s->status.state;
    job->reason = s->status.reason;
    job->updated = FALSE;
    job->owner = s->options->owner;
    g_mutex_unlock(&job->lock);
    if (s->options->owner)
        note_owner(s->driver, job);
    xldrv_agent_open(s->driver, job);
    xldrv_domains_publish(s->driver->domains, job);
    xldrv_domains_set_id(s->driver->domains, job, s->status.id);
    xldrv_event_lifecycle(s->driver->events, job, VIR_DOMAIN_EVENT_STARTED,
                          s->incoming ? s->incoming->event_detail : VIR_DOMAIN_EVENT_STARTED_BOOTED);
    if (s->paused)
        xldrv_event_lifecycle(s->driver->events, job, VIR_DOMAIN_EVENT_SUSPENDED,
                              s->incoming ? s->incoming->paused_detail : VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
    g_info("domain '%s' started, id %d, process %d", s->config->name, s->status.id,
           (int)xldrv_instance_process(s->instance)->pid);
}

static void fini(Start *s)
{
    const int fds[] = {s->listen_fd, s->store_fds[0], s->store_fds[1]};

    for (gsize i = 0; i < G_N_ELEMENTS(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    if (s->status.id)
        give_id_back(s->driver, s->status.id);
    xldrv_boot_clear(&s->boot);
    xldrv_instance_unref(s->instance);
    xldrv_status_clear(&s->status);
    g_free(s->control_path);
    g_free(s->process_path);
    g_free(s->log_path);
    g_clear_pointer(&s->store, g_variant_unref);
    g_clear_pointer(&s->store_now, g_variant_unref);
    g_free(s);
}

static gboolean run_steps(Start *s, const Step *steps, gsize n_steps, GError **error)
{
    for (gsize i = 0; i < n_steps; i++) {
        if (!steps[i](s, error)) {
            xldrv_start_cancel(s);
            return FALSE;
        }
    }
    return TRUE;
}

XldrvStart *xldrv_start_begin(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *config, const XldrvStartOptions *options,
                              GError **error)
{
    Start *s = g_new0(Start, 1);

    *s = (Start){
        .driver = driver,
        .job = job,
        .options = options,
        .incoming = options->incoming,
        .store = options->incoming && options->incoming->store ? g_variant_ref(options->incoming->store) : NULL,
        .paused = options->paused,
        .status = {.domain = xmlconf_domain_copy(config),
                   .autodestroy = options->owner != 0,
                   .agent_timeout = g_atomic_int_get(&job->agent_timeout),
                   .control = xldrv_control_name(job),
                   .process = xldrv_process_name(job)},
        .boot = XLDRV_BOOT_NONE,
        .listen_fd = -1,
        .store_fds = {-1, -1},
    };
    s->config = xmlconf_domain_config(s->status.domain);
    if (options->incoming)
        xldrv_display_forget_ports(s->config);
    else
        xmlconf_consoles_renumber(s->config); /* of a transient domain, some may have gone while it ran before */
    s->control_path = xldrv_run_path(driver, s->status.control);
    s->process_path = xldrv_run_path(driver, s->status.process);
    s->log_path = xldrv_file_path(driver->paths->log_dir, s->config->name, ".log", error);
    if (!s->log_path) {
        xldrv_start_cancel(s);
        return NULL;
    }
    return run_steps(s, first_steps, G_N_ELEMENTS(first_steps), error) ? s : NULL;
}

gboolean xldrv_start_prepare(XldrvStart *s, GVariant *store, GError **error)
{
    s->store = g_variant_ref(store);
    s->made = TRUE;
    return run_steps(s, early_steps, G_N_ELEMENTS(early_steps), error);
}

gboolean xldrv_start_finish(XldrvStart *s, GVariant *store, gboolean paused, GError **error)
{
    s->paused = paused;
    if (store && s->made)
        s->store_now = g_variant_ref(store);
    else if (store && !s->store)
        s->store = g_variant_ref(store);
    if (!run_steps(s, last_steps, G_N_ELEMENTS(last_steps), error))
        return FALSE;
    xldrv_instance_take_made(s->instance, NULL);
    publish(s);
    fini(s);
    return TRUE;
}

void xldrv_start_cancel(XldrvStart *s)
{
    undo(s);
    fini(s);
}

gboolean xldrv_start(XldrvDriver *driver, XldrvJob *job, XmlconfDomain *config,
                     const XldrvStartOptions *options, GError **error)
{
    XldrvStart *s = xldrv_start_begin(driver, job, config, options, error);

    return s && xldrv_start_finish(s, NULL, options->paused, error);
}
