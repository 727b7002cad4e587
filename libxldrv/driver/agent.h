/* The guest agents of running domains: QEMU's, at the other end of the channel org.qemu.guest_agent.0.
 *
 * The daemon is the peer of that channel's socket. A console does not tell whether anybody in the guest has it open, so
 * the agent is asked, and counts as connected once it answered, until it does not answer in time. While it is not, what
 * the guest says wakes the main loop, ever more rarely the more of it is no answer; while it is, nothing does.
 */
#pragma once

#include "libxldrv/driver/driver.h"
#include "libxldrv/host/agent-link.h"

typedef struct _XldrvAgent XldrvAgent;

/* Whether a channel is one that an agent is asked through. */
gboolean xldrv_channel_is_agents(const XmlconfConsole *channel);
/* That channel of a domain; NULL: it has none. */
const XmlconfConsole *xldrv_agent_channel(const XmlconfDomainConfig *config);

/* Connects to the agent's channel of a running domain, if there is one; with its job. That it cannot is logged. */
void xldrv_agent_open(XldrvDriver *driver, XldrvJob *job);
/* Ends that, and what is being asked. */
void xldrv_agent_close(XldrvDomain *domain);

/* The domain's agent, connected or not: a reference, or NULL. */
XldrvAgent *xldrv_agent_get(XldrvDomain *domain);
XldrvAgent *xldrv_agent_ref(XldrvAgent *agent);
void xldrv_agent_unref(XldrvAgent *agent);
gboolean xldrv_agent_is_connected(const XldrvAgent *agent);
gboolean xldrv_agent_is_closed(const XldrvAgent *agent);

/* The agent's stream for one thread alone. NULL with an error: others have it for too long, or it was closed. */
XldrvAgentLink *xldrv_agent_take(XldrvAgent *agent, GError **error);
/* Gives it back. @answers: it has just answered; else it did not. */
void xldrv_agent_release(XldrvAgent *agent, gboolean answers);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvAgent, xldrv_agent_unref)
