/* Commands to a domain's guest agent, one after the other, for one call. */
#pragma once

#include "libxldrv/driver/agent.h"
#include "libxldrv/host/agent-json.h"

typedef struct _XldrvAgentSession XldrvAgentSession;

/* The agent of a running domain, for this call alone: no job is held, so that an agent that does not answer stops
 * nobody else. Waits for its turn and for a sign of life. NULL with an error:
 * VIR_ERR_ARGUMENT_UNSUPPORTED without a channel for it, VIR_ERR_AGENT_UNRESPONSIVE. */
XldrvAgentSession *xldrv_agent_begin(XldrvCall *call, XldrvDomain *domain, GError **error);
/* The same for the domain that argument 0 names. */
XldrvAgentSession *xldrv_agent_begin_args(XldrvCall *call, GVariant *args, GError **error);
void xldrv_agent_end(XldrvAgentSession *session);
XldrvDomain *xldrv_agent_domain(XldrvAgentSession *session);

/* How long to wait for each answer from now on, in seconds, or VIR_DOMAIN_QEMU_AGENT_COMMAND_*. At the beginning it is
 * what virDomainAgentSetResponseTimeout said. */
void xldrv_agent_set_timeout(XldrvAgentSession *session, int seconds);

/* One command and its arguments (taken; NULL: none). What it returns, or NULL with an error: what the agent says
 * (VIR_ERR_OPERATION_UNSUPPORTED: it does not know the command), or VIR_ERR_AGENT_UNRESPONSIVE. */
JsonNode *xldrv_agent_run(XldrvAgentSession *session, const char *command, JsonObject *arguments, GError **error);
/* One that returns nothing of interest. */
gboolean xldrv_agent_do(XldrvAgentSession *session, const char *command, JsonObject *arguments, GError **error);
/* One that the agent answers only when it fails: a shutdown. */
gboolean xldrv_agent_do_silent(XldrvAgentSession *session, const char *command, JsonObject *arguments, GError **error);
/* The line of the answer to a whole command in JSON, @name for messages. Errors as above. */
char *xldrv_agent_pass(XldrvAgentSession *session, const char *command, const char *name, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvAgentSession, xldrv_agent_end)
