/* The stream to a QEMU guest agent (docs/interop/qemu-ga of QEMU): lines of JSON, one question at a time.
 *
 * At the other end is a guest: it may say nothing, nonsense, or without end. What it says is only looked at while
 * somebody waits for it, and no more of it is kept than an answer can have.
 */
#pragma once

#include <glib.h>

typedef struct _XldrvAgentLink XldrvAgentLink; /* not for two threads at once */

/* Until when to wait, and whether it is still worth it, which is asked about once a second. */
typedef struct {
    gint64 deadline_us; /* of g_get_monotonic_time; -1: none */
    gboolean (*given_up)(gpointer data); /* NULL: never */
    gpointer data;
} XldrvAgentWait;

/* @fd (taken) is a stream socket. */
XldrvAgentLink *xldrv_agent_link_new(int fd);
void xldrv_agent_link_free(XldrvAgentLink *link);
int xldrv_agent_link_fd(const XldrvAgentLink *link);

/* Neither waits. ping: asks for a sign of life, unless a few went unanswered before: a guest whose agent does not run
 * keeps what it is sent, and its console holds a kilobyte. FALSE: it did not. listen: reads some of what came, and
 * drops it. */
typedef enum { XLDRV_AGENT_GONE, XLDRV_AGENT_SILENCE, XLDRV_AGENT_NOISE, XLDRV_AGENT_ANSWER } XldrvAgentHeard;
gboolean xldrv_agent_link_ping(XldrvAgentLink *link);
XldrvAgentHeard xldrv_agent_link_listen(XldrvAgentLink *link);

/* Finds the place in the stream where the next answer begins: sends guest-sync-delimited with a number of its own and
 * drops all that comes before its answer. Errors: VIR_ERR_AGENT_UNRESPONSIVE. */
gboolean xldrv_agent_link_sync(XldrvAgentLink *link, const XldrvAgentWait *wait, GError **error);

/* Sends @command, one line of JSON without its end, and gives the line of its answer. NULL with an error,
 * VIR_ERR_AGENT_UNRESPONSIVE: there was none in time, or more than XLDRV_AGENT_REPLY_MAX; sync before the next one. */
char *xldrv_agent_link_call(XldrvAgentLink *link, const char *command, const XldrvAgentWait *wait, gsize *length,
                            GError **error);

/* As above for a command that is answered only when it fails: TRUE with *reply the line of an error, or NULL when the
 * agent went on to the next command, or fell silent, which is what a guest does that shuts down. */
gboolean xldrv_agent_link_call_silent(XldrvAgentLink *link, const char *command, const XldrvAgentWait *wait, char **reply,
                                      gsize *length, GError **error);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvAgentLink, xldrv_agent_link_free)
