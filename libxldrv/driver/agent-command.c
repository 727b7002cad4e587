/* Commands to guest agents. */
#include "config.h"

#include "libxldrv/driver/agent-command.h"

#include <libvirt/libvirt-qemu.h>

#include "libxldrv/driver/wire.h"

#define DEFAULT_SECONDS 5  /* VIR_DOMAIN_QEMU_AGENT_COMMAND_DEFAULT, and for a sign of life */
#define SILENT_SECONDS  30 /* for a shutdown that failed to say so */

struct _XldrvAgentSession {
    XldrvDomain *domain; /* a reference */
    XldrvAgent *agent;   /* a reference */
    XldrvAgentLink *link;
    XldrvClient *client; /* of the call */
    int timeout;
    gboolean lost;       /* it did not answer: nothing more can be asked */
};

static gboolean is_given_up(gpointer data)
{
    const XldrvAgentSession *session = data;

    return xldrv_agent_is_closed(session->agent) || xldrv_client_is_closed(session->client);
}

static XldrvAgentWait wait_of(XldrvAgentSession *session, int seconds)
{
    gint64 us = (gint64)(seconds == VIR_DOMAIN_QEMU_AGENT_COMMAND_DEFAULT ? DEFAULT_SECONDS : seconds) * G_USEC_PER_SEC;

    return (XldrvAgentWait){
        .deadline_us = seconds == VIR_DOMAIN_QEMU_AGENT_COMMAND_BLOCK ? -1 : g_get_monotonic_time() + us,
        .given_up = is_given_up,
        .data = session,
    };
}

/* ---- beginning and end */

static XldrvAgent *find_agent(XldrvDomain *domain, GError **error)
{
    g_autoptr(XldrvAgent) agent = NULL;
    gboolean running, has_channel;

    g_mutex_lock(&domain->lock);
    running = domain->instance && domain->state == VIR_DOMAIN_RUNNING;
    has_channel = domain->live && xldrv_agent_channel(xmlconf_domain_config(domain->live));
    agent = domain->agent ? xldrv_agent_ref(domain->agent) : NULL;
    g_mutex_unlock(&domain->lock);
    if (!running)
        xldrv_set_error(error, VIR_ERR_OPERATION_INVALID, "domain is not running");
    else if (!has_channel)
        xldrv_set_error(error, VIR_ERR_ARGUMENT_UNSUPPORTED, "QEMU guest agent is not configured");
    else if (!agent || !xldrv_agent_is_connected(agent))
        xldrv_set_error(error, VIR_ERR_AGENT_UNRESPONSIVE, "QEMU guest agent is not connected");
    else
        return g_steal_pointer(&agent);
    return NULL;
}

/* Whether it is there, and where in its stream the answers begin. */
static gboolean sync_session(XldrvAgentSession *session, GError **error)
{
    int seconds = session->timeout >= 0 ? MIN(session->timeout, DEFAULT_SECONDS) : DEFAULT_SECONDS;
    XldrvAgentWait wait = wait_of(session, seconds);

    session->lost = !xldrv_agent_link_sync(session->link, &wait, error);
    return !session->lost;
}

XldrvAgentSession *xldrv_agent_begin(XldrvCall *call, XldrvDomain *domain, GError **error)
{
    g_autoptr(XldrvAgentSession) session = g_new0(XldrvAgentSession, 1);

    session->domain = xldrv_domain_ref(domain);
    session->client = xldrv_client_ref(xldrv_call_client(call));
    session->timeout = g_atomic_int_get(&domain->agent_timeout);
    session->agent = find_agent(domain, error);
    session->link = session->agent ? xldrv_agent_take(session->agent, error) : NULL;
    return session->link && sync_session(session, error) ? g_steal_pointer(&session) : NULL;
}

XldrvAgentSession *xldrv_agent_begin_args(XldrvCall *call, GVariant *args, GError **error)
{
    g_autoptr(XldrvDomain) domain = xldrv_args_domain(args, error);

    return domain ? xldrv_agent_begin(call, domain, error) : NULL;
}

void xldrv_agent_end(XldrvAgentSession *session)
{
    if (!session)
        return;
    if (session->link)
        xldrv_agent_release(session->agent, !session->lost);
    xldrv_agent_unref(session->agent);
    xldrv_client_unref(session->client);
    xldrv_domain_unref(session->domain);
    g_free(session);
}

XldrvDomain *xldrv_agent_domain(XldrvAgentSession *session)
{
    return session->domain;
}

void xldrv_agent_set_timeout(XldrvAgentSession *session, int seconds)
{
    session->timeout = seconds;
}

/* ---- commands */

static char *command_text(const char *command, JsonObject *arguments)
{
    g_autoptr(JsonObject) object = json_object_new();
    g_autoptr(JsonNode) root = json_node_new(JSON_NODE_OBJECT);

    json_object_set_string_member(object, "execute", command);
    if (arguments)
        json_object_set_object_member(object, "arguments", arguments);
    json_node_set_object(root, object);
    return json_to_string(root, FALSE);
}

static char *ask(XldrvAgentSession *session, const char *text, gsize *length, GError **error)
{
    XldrvAgentWait wait = wait_of(session, session->timeout);
    char *line;

    if (session->lost) {
        xldrv_set_error(error, VIR_ERR_AGENT_UNRESPONSIVE, "Guest agent disappeared while executing command");
        return NULL;
    }
    line = xldrv_agent_link_call(session->link, text, &wait, length, error);
    session->lost = !line;
    return line;
}

JsonNode *xldrv_agent_run(XldrvAgentSession *session, const char *command, JsonObject *arguments, GError **error)
{
    g_autofree char *text = command_text(command, arguments);
    gsize length = 0;
    g_autofree char *line = ask(session, text, &length, error);

    return line ? xldrv_agent_reply_parse(line, length, command, error) : NULL;
}

gboolean xldrv_agent_do(XldrvAgentSession *session, const char *command, JsonObject *arguments, GError **error)
{
    g_autoptr(JsonNode) reply = xldrv_agent_run(session, command, arguments, error);

    return reply != NULL;
}

gboolean xldrv_agent_do_silent(XldrvAgentSession *session, const char *command, JsonObject *arguments, GError **error)
{
    g_autofree char *text = command_text(command, arguments);
    g_autofree char *line = NULL;
    g_autoptr(JsonNode) reply = NULL;
    XldrvAgentWait wait = wait_of(session, session->timeout == VIR_DOMAIN_QEMU_AGENT_COMMAND_BLOCK ? SILENT_SECONDS
                                                                                                  : session->timeout);
    gsize length = 0;

    if (!xldrv_agent_link_call_silent(session->link, text, &wait, &line, &length, error)) {
        session->lost = TRUE;
        return FALSE;
    }
    if (!line)
        return TRUE;
    reply = xldrv_agent_reply_parse(line, length, command, error);
    return reply != NULL;
}

char *xldrv_agent_pass(XldrvAgentSession *session, const char *command, const char *name, GError **error)
{
    gsize length = 0;
    g_autofree char *line = ask(session, command, &length, error);
    g_autoptr(JsonNode) reply = line ? xldrv_agent_reply_parse(line, length, name, error) : NULL;

    return reply ? g_steal_pointer(&line) : NULL; /* without a NUL byte, or it would be no text */
}
