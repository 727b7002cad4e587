/* The stream to a guest agent. */
#include "config.h"

#include "libxldrv/host/agent-link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/host/agent-json.h"
#include "libxldrv/rpc/rpc.h"

#define SENTINEL       '\xff' /* before the answer to guest-sync-delimited */
#define RESET          "\xff" /* makes the agent drop half a command, and complain */
#define SLICE_MS       1000
#define READ_BYTES     65536
#define SYNC_LINE_MAX  4096          /* longer lines are no answers to a sync */
#define SYNC_BYTES_MAX (4u << 20)    /* that are dropped for one */
#define UNANSWERED_MAX 8             /* syncs: they must fit the kilobyte of a console's ring */

struct _XldrvAgentLink {
    int fd;
    GString *in; /* what came behind the last line that was taken */
    guint64 last_id;
    guint unanswered; /* syncs */
    gint64 asked_us;  /* when it was last asked whether it is worth it */
};

XldrvAgentLink *xldrv_agent_link_new(int fd)
{
    XldrvAgentLink *link = g_new0(XldrvAgentLink, 1);

    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    link->fd = fd;
    link->in = g_string_new(NULL);
    link->last_id = g_random_int() >> 1;
    return link;
}

void xldrv_agent_link_free(XldrvAgentLink *link)
{
    if (!link)
        return;
    close(link->fd);
    g_string_free(link->in, TRUE);
    g_free(link);
}

int xldrv_agent_link_fd(const XldrvAgentLink *link)
{
    return link->fd;
}

static gboolean gone(GError **error)
{
    return xldrv_set_error(error, VIR_ERR_AGENT_UNRESPONSIVE, "the guest agent's channel was closed");
}

/* About once a second, also when the guest never stops talking. */
static gboolean is_given_up(XldrvAgentLink *link, const XldrvAgentWait *wait)
{
    gint64 now = g_get_monotonic_time();

    if (!wait->given_up || now - link->asked_us < SLICE_MS * G_TIME_SPAN_MILLISECOND)
        return FALSE;
    link->asked_us = now;
    return wait->given_up(wait->data);
}

/* For @events, or an error that says why not. */
static gboolean wait_for(XldrvAgentLink *link, short events, const XldrvAgentWait *wait, GError **error)
{
    for (;;) {
        struct pollfd p = {.fd = link->fd, .events = events};
        gint64 left_us = wait->deadline_us < 0 ? G_MAXINT64 : wait->deadline_us - g_get_monotonic_time();
        int ready;

        if (is_given_up(link, wait))
            return xldrv_set_error(error, VIR_ERR_AGENT_UNRESPONSIVE, "nobody waits for the guest agent any more");
        ready = poll(&p, 1, left_us <= 0 ? 0 : (int)MIN(left_us / 1000 + 1, SLICE_MS));
        if (ready > 0)
            return p.revents & events ? TRUE : gone(error);
        if (left_us <= 0)
            return xldrv_set_error(error, VIR_ERR_AGENT_UNRESPONSIVE, "Guest agent not available for now");
    }
}

static gboolean send_all(XldrvAgentLink *link, const char *bytes, gsize left, const XldrvAgentWait *wait, GError **error)
{
    while (left > 0) {
        gssize sent = send(link->fd, bytes, left, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (sent < 0 && errno == EAGAIN) {
            if (!wait_for(link, POLLOUT, wait, error))
                return FALSE;
            continue;
        }
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return gone(error);
        bytes += sent;
        left -= (gsize)sent;
    }
    return TRUE;
}

static gboolean read_some(XldrvAgentLink *link, const XldrvAgentWait *wait, GError **error)
{
    char bytes[READ_BYTES];
    gssize got;

    if (!wait_for(link, POLLIN, wait, error))
        return FALSE;
    got = recv(link->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        return gone(error);
    if (got > 0)
        g_string_append_len(link->in, bytes, got);
    return TRUE;
}

/* The next line without its end, of at most @max bytes. NULL with an error; without one: it is longer, and *@length bytes
 * of it were dropped. */
static char *read_line(XldrvAgentLink *link, gsize max, const XldrvAgentWait *wait, gsize *length, GError **error)
{
    const char *end;
    char *line = NULL;
    gsize seen = 0;

    while (!(end = memchr(link->in->str + seen, '\n', link->in->len - seen)) && link->in->len <= max) {
        seen = link->in->len;
        if (!read_some(link, wait, error))
            return NULL;
    }
    *length = end ? (gsize)(end - link->in->str) : link->in->len;
    if (*length <= max) {
        line = g_malloc(*length + 1);
        memcpy(line, link->in->str, *length);
        line[*length] = '\0';
    }
    g_string_erase(link->in, 0, (gssize)MIN(*length + 1, link->in->len));
    return line;
}

/* ---- sync */

/* @before is RESET, or "" behind a whole command. */
static gboolean send_sync(XldrvAgentLink *link, const char *before, const XldrvAgentWait *wait, GError **error)
{
    g_autofree char *text = NULL;

    link->last_id++;
    link->unanswered++;
    text = g_strdup_printf("%s{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%" G_GUINT64_FORMAT "}}\n", before,
                           link->last_id);
    return send_all(link, text, strlen(text), wait, error);
}

/* Whether a line is the answer to one of the last @n syncs. What stands before the sentinel is of another time. */
static gboolean answers_sync(const XldrvAgentLink *link, guint n, const char *line, gsize length)
{
    const char *mark = memrchr(line, SENTINEL, length);
    g_autoptr(JsonNode) node = NULL;
    gint64 age;

    if (!mark)
        return FALSE;
    node = xldrv_agent_reply_parse(mark + 1, length - (gsize)(mark + 1 - line), "guest-sync-delimited", NULL);
    if (!node || !JSON_NODE_HOLDS_VALUE(node))
        return FALSE;
    age = (gint64)link->last_id - json_node_get_int(node);
    return age >= 0 && age < n;
}

static gboolean wait_for_sync(XldrvAgentLink *link, const XldrvAgentWait *wait, GError **error)
{
    gsize dropped = 0;

    while (dropped < SYNC_BYTES_MAX) {
        g_autoptr(GError) why = NULL;
        gsize length = 0;
        g_autofree char *line = read_line(link, SYNC_LINE_MAX, wait, &length, &why);

        if (why) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        if (line && answers_sync(link, 1, line, length)) {
            link->unanswered = 0;
            return TRUE;
        }
        dropped += length + 1;
    }
    return xldrv_set_error(error, VIR_ERR_AGENT_UNRESPONSIVE, "the guest sends what is no answer");
}

gboolean xldrv_agent_link_sync(XldrvAgentLink *link, const XldrvAgentWait *wait, GError **error)
{
    if (link->unanswered < UNANSWERED_MAX && !send_sync(link, RESET, wait, error))
        return FALSE;
    return wait_for_sync(link, wait, error);
}

gboolean xldrv_agent_link_ping(XldrvAgentLink *link)
{
    const XldrvAgentWait at_once = {.deadline_us = 0};

    return link->unanswered < UNANSWERED_MAX && send_sync(link, RESET, &at_once, NULL);
}

/* Whether one of the whole lines that came is an answer; they are dropped. */
static gboolean look_through(XldrvAgentLink *link)
{
    const char *end;
    gboolean answered = FALSE;

    while ((end = memchr(link->in->str, '\n', link->in->len))) {
        gsize length = (gsize)(end - link->in->str);

        if (length <= SYNC_LINE_MAX && answers_sync(link, link->unanswered, link->in->str, length))
            answered = TRUE;
        g_string_erase(link->in, 0, (gssize)length + 1);
    }
    if (link->in->len > SYNC_LINE_MAX)
        g_string_truncate(link->in, 0);
    return answered;
}

XldrvAgentHeard xldrv_agent_link_listen(XldrvAgentLink *link)
{
    const XldrvAgentWait at_once = {.deadline_us = 0};
    struct pollfd p = {.fd = link->fd, .events = POLLIN};

    if (poll(&p, 1, 0) <= 0)
        return XLDRV_AGENT_SILENCE;
    if (!read_some(link, &at_once, NULL))
        return XLDRV_AGENT_GONE;
    if (!look_through(link))
        return XLDRV_AGENT_NOISE;
    link->unanswered = 0;
    return XLDRV_AGENT_ANSWER;
}

/* ---- commands */

static gboolean send_command(XldrvAgentLink *link, const char *command, const XldrvAgentWait *wait, GError **error)
{
    return send_all(link, command, strlen(command), wait, error) && send_all(link, "\n", 1, wait, error);
}

char *xldrv_agent_link_call(XldrvAgentLink *link, const char *command, const XldrvAgentWait *wait, gsize *length,
                            GError **error)
{
    g_autoptr(GError) why = NULL;
    char *line;

    if (!send_command(link, command, wait, error))
        return NULL;
    line = read_line(link, XLDRV_AGENT_REPLY_MAX, wait, length, &why);
    if (line)
        return line;
    if (why)
        g_propagate_error(error, g_steal_pointer(&why));
    else
        xldrv_set_error(error, VIR_ERR_AGENT_UNRESPONSIVE, "the guest agent's answer is longer than %u bytes",
                        XLDRV_AGENT_REPLY_MAX);
    return NULL;
}

gboolean xldrv_agent_link_call_silent(XldrvAgentLink *link, const char *command, const XldrvAgentWait *wait, char **reply,
                                      gsize *length, GError **error)
{
    *reply = NULL;
    if (!send_command(link, command, wait, error) || !send_sync(link, "", wait, error))
        return FALSE;
    *reply = read_line(link, SYNC_LINE_MAX, wait, length, NULL);
    if (!*reply)
        return TRUE;
    if (answers_sync(link, 1, *reply, *length)) {
        link->unanswered = 0;
        g_clear_pointer(reply, g_free);
    }
    return TRUE;
}
