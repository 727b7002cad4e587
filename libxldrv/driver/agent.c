/* The guest agents of running domains: connecting to them, noticing that they come and go. */
#include "config.h"

#include "libxldrv/driver/agent.h"

#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>

#include "libxldrv/driver/change.h"
#include "libxldrv/host/socket.h"

#define AGENT_NAME         "org.qemu.guest_agent.0"
#define CONNECT_TIMEOUT_MS 1000
#define TAKE_SECONDS       30
#define WAITERS_MAX        4
#define FIRST_ANSWER_MS    5000 /* after which an agent of a domain that was found again is not there */
#define PING_MS            30000
#define NOISE_MIN_MS       500
#define NOISE_MAX_MS       8000 /* longer saves nothing, and an agent that comes after the noise is to be heard */

struct _XldrvAgent {
    gatomicrefcount refs;
    XldrvDriver *driver;     /* immutable, as the next two */
    XldrvDomain *domain;     /* a reference */
    XldrvInstance *instance; /* a reference */
    gint connected, closed;  /* atomic */

    GMutex lock;
    GCond released;
    gboolean busy;   /* under lock: somebody has the link */
    guint waiters;   /* under lock */
    GSource *watch;  /* under lock: waits for the guest while nobody is busy; the main loop's */

    /* Of whoever is busy. */
    XldrvAgentLink *link;
    guint noise_ms; /* how long not to listen to a guest that says nothing of use */
    gboolean asked; /* it had its chance to answer */
};

gboolean xldrv_channel_is_agents(const XmlconfConsole *channel)
{
    return g_strcmp0(channel->name, AGENT_NAME) == 0 && channel->type == XMLCONF_CHAR_UNIX &&
           xmlconf_console_listens(channel);
}

const XmlconfConsole *xldrv_agent_channel(const XmlconfDomainConfig *config)
{
    for (guint i = 0; config->channels && i < config->channels->len; i++) {
        if (xldrv_channel_is_agents(config->channels->pdata[i]))
            return config->channels->pdata[i];
    }
    return NULL;
}

XldrvAgent *xldrv_agent_ref(XldrvAgent *agent)
{
    g_atomic_ref_count_inc(&agent->refs);
    return agent;
}

void xldrv_agent_unref(XldrvAgent *agent)
{
    if (!agent || !g_atomic_ref_count_dec(&agent->refs))
        return;
    xldrv_agent_link_free(agent->link);
    xldrv_instance_unref(agent->instance);
    xldrv_domain_unref(agent->domain);
    g_mutex_clear(&agent->lock);
    g_cond_clear(&agent->released);
    g_free(agent);
}

XldrvAgent *xldrv_agent_get(XldrvDomain *domain)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&domain->lock);

    return domain->agent ? xldrv_agent_ref(domain->agent) : NULL;
}

gboolean xldrv_agent_is_connected(const XldrvAgent *agent)
{
    return g_atomic_int_get(&agent->connected);
}

gboolean xldrv_agent_is_closed(const XldrvAgent *agent)
{
    return g_atomic_int_get(&agent->closed);
}

/* ---- telling of it */

static gboolean set_state(XmlconfDomain *domain, gconstpointer state, GError **error G_GNUC_UNUSED)
{
    /* It is a copy that nobody else sees. */
    XmlconfConsole *channel = (XmlconfConsole *)xldrv_agent_channel(xmlconf_domain_config(domain));

    if (channel) {
        g_free(channel->state);
        channel->state = g_strdup(state);
    }
    return TRUE;
}

/* What the XML says becomes what is so by now. */
static void tell_state(XldrvDriver *driver, const XldrvReaction *reaction)
{
    g_autoptr(XldrvJobGuard) job = xldrv_job_begin_waiting(reaction->domain, "agent");
    g_autoptr(XldrvAgent) agent = job ? xldrv_agent_get(job) : NULL;
    const XmlconfConsole *channel = agent && job->live ? xldrv_agent_channel(xmlconf_domain_config(job->live)) : NULL;
    const XldrvImpact impact = {.live = TRUE};
    const char *state;

    if (!channel || job->instance != reaction->instance)
        return;
    state = xldrv_agent_is_connected(agent) ? "connected" : "disconnected";
    if (g_strcmp0(channel->state, state) == 0 || !xldrv_change(driver, job, &impact, set_state, state, NULL))
        return;
    xldrv_event_agent_lifecycle(driver->events, job,
                                xldrv_agent_is_connected(agent) ? VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED
                                                                : VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_DISCONNECTED,
                                VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_REASON_CHANNEL);
}

static void set_connected(XldrvAgent *agent, gboolean connected)
{
    const XldrvReaction reaction = {.fn = tell_state, .domain = agent->domain, .instance = agent->instance};

    if (g_atomic_int_compare_and_exchange(&agent->connected, !connected, connected) || !agent->asked)
        xldrv_driver_react(agent->driver, &reaction);
    agent->asked = TRUE;
}

/* ---- waiting for it */

static gboolean heard(int fd, GIOCondition condition, gpointer data);

/* While it is connected there is nothing to wait for but the channel's end; while it is not, for its answer, after a
 * pause if what came last was noise. */
static void watch_locked(XldrvAgent *agent)
{
    gboolean connected = xldrv_agent_is_connected(agent);
    guint wait_ms = agent->noise_ms ? agent->noise_ms : agent->asked ? PING_MS : FIRST_ANSWER_MS;

    if (agent->busy || agent->watch || xldrv_agent_is_closed(agent))
        return;
    agent->watch = g_unix_fd_source_new(xldrv_agent_link_fd(agent->link),
                                        connected || agent->noise_ms ? G_IO_HUP | G_IO_ERR : G_IO_IN | G_IO_HUP | G_IO_ERR);
    if (!connected)
        g_source_set_ready_time(agent->watch, g_get_monotonic_time() + (gint64)wait_ms * G_TIME_SPAN_MILLISECOND);
    g_source_set_callback(agent->watch, G_SOURCE_FUNC(heard), xldrv_agent_ref(agent), (GDestroyNotify)xldrv_agent_unref);
    g_source_attach(agent->watch, NULL);
}

static void unwatch_locked(XldrvAgent *agent)
{
    if (!agent->watch)
        return;
    g_source_destroy(agent->watch);
    g_clear_pointer(&agent->watch, g_source_unref);
}

/* With the link, on the main loop: waits for nothing. FALSE: the channel is gone. */
static gboolean listen_to(XldrvAgent *agent)
{
    guint paused_ms = agent->noise_ms;
    XldrvAgentHeard what = xldrv_agent_link_listen(agent->link);

    agent->noise_ms = 0;
    if (what == XLDRV_AGENT_ANSWER) {
        set_connected(agent, TRUE);
    } else if (what == XLDRV_AGENT_NOISE) { /* the echo of a ping, when the agent starts: it is lost */
        agent->noise_ms = CLAMP(paused_ms * 2, NOISE_MIN_MS, NOISE_MAX_MS);
    } else if (what == XLDRV_AGENT_SILENCE) {
        xldrv_agent_link_ping(agent->link);
        if (!paused_ms && !agent->asked)
            set_connected(agent, FALSE);
    }
    return what != XLDRV_AGENT_GONE;
}

static gboolean heard(int fd G_GNUC_UNUSED, GIOCondition condition, gpointer data)
{
    XldrvAgent *agent = data;
    gboolean mine;

    g_mutex_lock(&agent->lock);
    mine = agent->watch == g_main_current_source() && !agent->busy;
    if (mine) {
        g_clear_pointer(&agent->watch, g_source_unref);
        agent->busy = TRUE;
    }
    g_mutex_unlock(&agent->lock);
    if (!mine)
        return G_SOURCE_REMOVE;
    if (xldrv_agent_is_connected(agent) ? condition != 0 : !listen_to(agent))
        g_atomic_int_set(&agent->closed, TRUE);
    g_mutex_lock(&agent->lock);
    agent->busy = FALSE;
    g_cond_signal(&agent->released);
    watch_locked(agent);
    g_mutex_unlock(&agent->lock);
    return G_SOURCE_REMOVE;
}

/* ---- having it alone */

XldrvAgentLink *xldrv_agent_take(XldrvAgent *agent, GError **error)
{
    gint64 deadline = g_get_monotonic_time() + TAKE_SECONDS * G_TIME_SPAN_SECOND;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&agent->lock);
    gboolean in_time = agent->waiters < WAITERS_MAX;

    agent->waiters++;
    while (in_time && agent->busy && !xldrv_agent_is_closed(agent))
        in_time = g_cond_wait_until(&agent->released, &agent->lock, deadline);
    agent->waiters--;
    if (xldrv_agent_is_closed(agent)) {
        xldrv_set_error(error, VIR_ERR_AGENT_UNRESPONSIVE, "QEMU guest agent is not available due to an error");
        return NULL;
    }
    if (agent->busy || !in_time) {
        xldrv_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the guest agent is busy with another command");
        return NULL;
    }
    agent->busy = TRUE;
    unwatch_locked(agent);
    return agent->link;
}

void xldrv_agent_release(XldrvAgent *agent, gboolean answers)
{
    agent->noise_ms = 0;
    set_connected(agent, answers);
    g_mutex_lock(&agent->lock);
    agent->busy = FALSE;
    g_cond_signal(&agent->released);
    watch_locked(agent);
    g_mutex_unlock(&agent->lock);
}

/* ---- domains that come and go */

static XldrvAgent *agent_new(XldrvDriver *driver, XldrvJob *job, int fd)
{
    XldrvAgent *agent = g_new0(XldrvAgent, 1);

    g_atomic_ref_count_init(&agent->refs);
    agent->driver = driver;
    agent->domain = xldrv_domain_ref(job);
    agent->instance = xldrv_instance_ref(job->instance);
    g_mutex_init(&agent->lock);
    g_cond_init(&agent->released);
    agent->link = xldrv_agent_link_new(fd);
    return agent;
}

void xldrv_agent_open(XldrvDriver *driver, XldrvJob *job)
{
    const XmlconfConsole *channel = xldrv_agent_channel(xmlconf_domain_config(job->live));
    g_autoptr(GError) why = NULL;
    XldrvAgent *agent;
    int fd;

    if (!channel)
        return;
    fd = xldrv_socket_connect(channel->path, SOCK_STREAM, CONNECT_TIMEOUT_MS, &why);
    if (fd < 0) {
        g_warning("domain '%s': no guest agent can be reached: %s", job->name, why->message);
        return;
    }
    agent = agent_new(driver, job, fd);
    xldrv_agent_link_ping(agent->link);
    g_mutex_lock(&job->lock);
    job->agent = agent; /* takes it */
    g_mutex_unlock(&job->lock);
    g_mutex_lock(&agent->lock);
    watch_locked(agent);
    g_mutex_unlock(&agent->lock);
}

void xldrv_agent_close(XldrvDomain *domain)
{
    XldrvAgent *agent;

    g_mutex_lock(&domain->lock);
    agent = g_steal_pointer(&domain->agent);
    g_mutex_unlock(&domain->lock);
    if (!agent)
        return;
    g_atomic_int_set(&agent->closed, TRUE);
    g_mutex_lock(&agent->lock);
    unwatch_locked(agent);
    g_cond_broadcast(&agent->released);
    g_mutex_unlock(&agent->lock);
    xldrv_agent_unref(agent);
}
