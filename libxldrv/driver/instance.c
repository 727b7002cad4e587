/* What runs of a domain: control calls, events, the end. */
#include "config.h"

#include "libxldrv/driver/instance.h"

#include <errno.h>
#include <glib-unix.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/host/socket.h"
#include "libxldrv/rpc/rpc.h"

/* Without a reply for so long a hypervisor counts as stuck. */
#define CALL_TIMEOUT_MS    15000
/* Calls for a stuck one fail at once but one, which asks it again for so long: else a few clients that poll
 * it would keep all workers of the daemon waiting. */
#define PROBE_TIMEOUT_MS   500
/* Calls take milliseconds, so whoever waits longer for its turn waits behind one that is stuck. */
#define TURN_TIMEOUT_MS    3000
#define DESTROY_TIMEOUT_MS 3000
#define LONG_TIMEOUT_MS    3600000
#define XEN_PAGE_KIB       4

struct _XldrvInstance {
    gint refs;              /* atomic */
    int id;                 /* immutable */
    char *name;             /* immutable: for messages */
    char *control_path;     /* immutable */
    XldrvProcess *process;  /* immutable */
    gint killed;            /* atomic */
    GHashTable *made;       /* whoever has the domain's job */

    GMutex call_lock;
    GCond call_ended;
    gboolean calling;   /* under call_lock: somebody has the connection */
    gboolean stuck;     /* under call_lock: the last call was not answered */
    struct domctl *ctl; /* whoever is calling; NULL: not connected */

    GMutex watch_lock;
    struct domctl *events;                 /* what follows is under watch_lock */
    GSource *events_source, *process_source;
    XldrvInstanceEventFn fn;
    gpointer fn_data;
    GDestroyNotify fn_free;
};

XldrvInstance *xldrv_instance_new(const char *name, int id, const char *control_path,
                                  XldrvProcess *process)
{
    XldrvInstance *instance = g_new0(XldrvInstance, 1);

    instance->refs = 1;
    instance->id = id;
    instance->name = g_strdup(name);
    instance->control_path = g_strdup(control_path);
    instance->process = process;
    g_mutex_init(&instance->call_lock);
    g_cond_init(&instance->call_ended);
    g_mutex_init(&instance->watch_lock);
    return instance;
}

GHashTable *xldrv_instance_made(XldrvInstance *instance)
{
    return instance->made;
}

void xldrv_instance_take_made(XldrvInstance *instance, GHashTable *made)
{
    g_clear_pointer(&instance->made, g_hash_table_unref);
    instance->made = made;
}

XldrvInstance *xldrv_instance_ref(XldrvInstance *instance)
{
    g_atomic_int_inc(&instance->refs);
    return instance;
}

void xldrv_instance_unref(XldrvInstance *instance)
{
    if (!instance || !g_atomic_int_dec_and_test(&instance->refs))
        return;
    xldrv_instance_take_made(instance, NULL);
    domctl_free(instance->ctl);
    domctl_free(instance->events);
    xldrv_process_free(instance->process);
    g_mutex_clear(&instance->call_lock);
    g_cond_clear(&instance->call_ended);
    g_mutex_clear(&instance->watch_lock);
    g_free(instance->control_path);
    g_free(instance->name);
    g_free(instance);
}

int xldrv_instance_id(XldrvInstance *instance)
{
    return instance->id;
}

XldrvProcess *xldrv_instance_process(XldrvInstance *instance)
{
    return instance->process;
}

const char *xldrv_instance_control_path(XldrvInstance *instance)
{
    return instance->control_path;
}

static void log_call(void *opaque, const char *name, long result)
{
    XldrvInstance *instance = opaque;

    g_debug("domain '%s' (%d): %s = %ld", instance->name, instance->id, name, result);
}

static struct domctl *connect_to(XldrvInstance *instance, int timeout_ms, GError **error)
{
    int fd = xldrv_socket_connect(instance->control_path, SOCK_SEQPACKET, timeout_ms, error);
    struct domctl *ctl = NULL;
    int rc;

    if (fd < 0)
        return NULL;
    rc = domctl_connect_fd(fd, timeout_ms, &ctl);
    if (rc < 0) {
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot reach the hypervisor of domain '%s': %s",
                        instance->name, g_strerror(-rc));
        close(fd);
        return NULL;
    }
    domctl_set_log(ctl, log_call, instance);
    return ctl;
}

static gboolean fail(XldrvInstance *instance, const char *what, int rc, GError **error)
{
    if (rc == -EPIPE)
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED,
                               "cannot %s domain '%s': its hypervisor is gone", what, instance->name);
    if (rc == -ETIMEDOUT)
        return xldrv_set_error(error, VIR_ERR_OPERATION_TIMEOUT,
                               "cannot %s domain '%s': its hypervisor does not answer", what,
                               instance->name);
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "cannot %s domain '%s': %s", what,
                           instance->name, g_strerror(-rc));
}

/* ---- one call at a time */

/* *stuck: whether the call before went unanswered. */
static gboolean begin_call(XldrvInstance *instance, const char *what, gboolean *stuck, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + TURN_TIMEOUT_MS * G_TIME_SPAN_MILLISECOND;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&instance->call_lock);

    while (instance->calling) {
        if (instance->stuck || !g_cond_wait_until(&instance->call_ended, &instance->call_lock, deadline))
            return fail(instance, what, -ETIMEDOUT, error);
    }
    instance->calling = TRUE;
    *stuck = instance->stuck;
    return TRUE;
}

static void end_call(XldrvInstance *instance, gboolean stuck)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&instance->call_lock);

    instance->calling = FALSE;
    instance->stuck = stuck;
    g_cond_broadcast(&instance->call_ended);
}

/* Whether a hypervisor that was stuck answers again. */
static gboolean probe(XldrvInstance *instance)
{
    struct domctl *ctl = connect_to(instance, PROBE_TIMEOUT_MS, NULL);
    struct domctl_info info;
    int rc = ctl ? domctl_get_info(ctl, &info) : -EPIPE;

    domctl_free(ctl);
    return ctl && rc != -ETIMEDOUT;
}

/* 0 or a negative errno of @fn; -ENOTCONN: @error says why there is no connection. */
static int call(XldrvInstance *instance, gboolean stuck, XldrvControlFn fn, gpointer arg, GError **error)
{
    int rc;

    if (stuck && !probe(instance))
        return -ETIMEDOUT;
    if (!instance->ctl && !(instance->ctl = connect_to(instance, CALL_TIMEOUT_MS, error)))
        return -ENOTCONN;
    rc = fn(instance->ctl, arg);
    if (rc == -EPIPE || rc == -ETIMEDOUT || rc == -EPROTO)
        g_clear_pointer(&instance->ctl, domctl_free); /* useless; the next call makes another */
    return rc;
}

gboolean xldrv_instance_control(XldrvInstance *instance, const char *what, XldrvControlFn fn,
                                gpointer arg, GError **error)
{
    g_autoptr(GError) why = NULL;
    gboolean stuck = FALSE;
    int rc;

    if (!begin_call(instance, what, &stuck, error))
        return FALSE;
    rc = call(instance, stuck, fn, arg, &why);
    end_call(instance, rc == -ETIMEDOUT || rc == -ENOTCONN);
    if (why)
        g_propagate_error(error, g_steal_pointer(&why));
    else if (rc < 0)
        fail(instance, what, rc, error);
    return rc >= 0;
}

gboolean xldrv_instance_control_long(XldrvInstance *instance, const char *what, XldrvControlFn fn, gpointer arg,
                                     GError **error)
{
    struct domctl *ctl = connect_to(instance, LONG_TIMEOUT_MS, error);
    int rc = ctl ? fn(ctl, arg) : 0;

    domctl_free(ctl);
    if (rc < 0)
        fail(instance, what, rc, error);
    return ctl && rc >= 0;
}

static int get_info(struct domctl *ctl, gpointer info)
{
    return domctl_get_info(ctl, info);
}

static int pause_domain(struct domctl *ctl, gpointer unused G_GNUC_UNUSED)
{
    return domctl_pause(ctl);
}

static int unpause_domain(struct domctl *ctl, gpointer unused G_GNUC_UNUSED)
{
    return domctl_unpause(ctl);
}

gboolean xldrv_instance_get_info(XldrvInstance *instance, struct domctl_info *info, GError **error)
{
    return xldrv_instance_control(instance, "get information about", get_info, info, error);
}

guint64 xldrv_info_memory_kib(const struct domctl_info *info, guint64 max_kib)
{
    return MIN(info->memory_pages * XEN_PAGE_KIB, max_kib);
}

gboolean xldrv_instance_pause(XldrvInstance *instance, GError **error)
{
    return xldrv_instance_control(instance, "pause", pause_domain, NULL, error);
}

gboolean xldrv_instance_unpause(XldrvInstance *instance, GError **error)
{
    return xldrv_instance_control(instance, "unpause", unpause_domain, NULL, error);
}

/* ---- events, on the main loop */

static void drop_source(GSource **source)
{
    if (!*source)
        return;
    g_source_destroy(*source);
    g_clear_pointer(source, g_source_unref);
}

static void drop_events_locked(XldrvInstance *instance)
{
    drop_source(&instance->events_source);
    g_clear_pointer(&instance->events, domctl_free);
}

/* What the connection has next; XLDRV_INSTANCE_LOST when it broke. FALSE: nothing for now. */
static gboolean next_event(XldrvInstance *instance, guint *event, guint64 *arg)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&instance->watch_lock);
    enum hv_event type = 0;
    int rc;

    *arg = 0;
    if (!instance->events)
        return FALSE;
    rc = domctl_next_event(instance->events, &type, arg);
    *event = type;
    if (rc < 0) {
        drop_events_locked(instance);
        *event = XLDRV_INSTANCE_LOST;
    }
    return rc != 0;
}

static void report(XldrvInstance *instance, guint event, guint64 arg)
{
    XldrvInstanceEventFn fn;
    gpointer data;

    g_mutex_lock(&instance->watch_lock);
    fn = instance->fn;
    data = instance->fn_data;
    g_mutex_unlock(&instance->watch_lock);
    if (fn)
        fn(instance, event, arg, data);
}

static gboolean events_readable(int fd G_GNUC_UNUSED, GIOCondition condition G_GNUC_UNUSED,
                                gpointer data)
{
    g_autoptr(XldrvInstance) instance = xldrv_instance_ref(data);
    guint event;
    guint64 arg;

    while (next_event(instance, &event, &arg))
        report(instance, event, arg);
    return G_SOURCE_CONTINUE;
}

static gboolean process_ended(int fd G_GNUC_UNUSED, GIOCondition condition G_GNUC_UNUSED,
                              gpointer data)
{
    g_autoptr(XldrvInstance) instance = xldrv_instance_ref(data);

    /* What it said last comes first. */
    events_readable(-1, 0, instance);
    xldrv_process_wait(instance->process, 0);
    report(instance, XLDRV_INSTANCE_ENDED, 0);
    xldrv_instance_unwatch(instance);
    return G_SOURCE_REMOVE;
}

static GSource *watch_fd(XldrvInstance *instance, int fd, GUnixFDSourceFunc fn)
{
    GSource *source = g_unix_fd_source_new(fd, G_IO_IN | G_IO_HUP | G_IO_ERR);

    /* The reference is the source's, so that the instance is there while it is called. */
    g_source_set_callback(source, G_SOURCE_FUNC(fn), xldrv_instance_ref(instance),
                          (GDestroyNotify)xldrv_instance_unref);
    g_source_attach(source, NULL);
    return source;
}

static struct domctl *subscribe(XldrvInstance *instance, GError **error)
{
    struct domctl *events = connect_to(instance, CALL_TIMEOUT_MS, error);
    int rc = events ? domctl_subscribe(events) : 0;

    if (rc < 0) {
        fail(instance, "get events of", rc, error);
        g_clear_pointer(&events, domctl_free);
    }
    return events;
}

gboolean xldrv_instance_rewatch(XldrvInstance *instance, GError **error)
{
    struct domctl *events = subscribe(instance, error);

    if (!events)
        return FALSE;
    g_mutex_lock(&instance->watch_lock);
    drop_events_locked(instance);
    if (instance->fn) {
        instance->events = events;
        instance->events_source = watch_fd(instance, domctl_fd(events), events_readable);
    } else {
        domctl_free(events); /* no longer watched */
    }
    g_mutex_unlock(&instance->watch_lock);
    return TRUE;
}

gboolean xldrv_instance_watch(XldrvInstance *instance, XldrvInstanceEventFn fn, gpointer user_data,
                              GDestroyNotify free_fn, GError **error)
{
    g_mutex_lock(&instance->watch_lock);
    instance->fn = fn;
    instance->fn_data = user_data;
    instance->fn_free = free_fn;
    instance->process_source = watch_fd(instance, instance->process->pidfd, process_ended);
    g_mutex_unlock(&instance->watch_lock);
    return xldrv_instance_rewatch(instance, error);
}

static gboolean drop_data(gpointer data G_GNUC_UNUSED)
{
    return G_SOURCE_REMOVE;
}

void xldrv_instance_unwatch(XldrvInstance *instance)
{
    GDestroyNotify free_fn;
    gpointer data;

    g_mutex_lock(&instance->watch_lock);
    drop_events_locked(instance);
    drop_source(&instance->process_source);
    free_fn = instance->fn_free;
    data = instance->fn_data;
    instance->fn = NULL;
    instance->fn_free = NULL;
    instance->fn_data = NULL;
    g_mutex_unlock(&instance->watch_lock);
    /* On the main loop, where a callback may be using it right now. */
    if (free_fn)
        g_idle_add_full(G_PRIORITY_DEFAULT, drop_data, data, free_fn);
}

/* ---- the end */

/* On a connection of its own: the usual one may be waiting for an answer. FALSE: there is nothing to wait for,
 * because it does not listen or has no domain that it could put in order. */
static gboolean ask_to_end(XldrvInstance *instance)
{
    g_autoptr(GError) why = NULL;
    struct domctl *ctl = connect_to(instance, DESTROY_TIMEOUT_MS, &why);
    int rc;

    if (!ctl) {
        g_debug("%s", why->message);
        return FALSE;
    }
    rc = domctl_destroy(ctl);
    domctl_free(ctl);
    return rc != -ESRCH && rc != -ETIMEDOUT;
}

void xldrv_instance_kill(XldrvInstance *instance)
{
    g_atomic_int_set(&instance->killed, TRUE);
    xldrv_process_kill(instance->process, SIGKILL);
}

gboolean xldrv_instance_was_killed(XldrvInstance *instance)
{
    return g_atomic_int_get(&instance->killed);
}

void xldrv_instance_destroy(XldrvInstance *instance)
{
    xldrv_instance_unwatch(instance);
    if (!xldrv_process_is_alive(instance->process))
        return;
    if (!ask_to_end(instance))
        xldrv_process_kill(instance->process, SIGKILL);
    while (!xldrv_process_wait(instance->process, DESTROY_TIMEOUT_MS)) {
        g_warning("domain '%s': its hypervisor does not end by itself, killing it", instance->name);
        xldrv_process_kill(instance->process, SIGKILL);
    }
}
