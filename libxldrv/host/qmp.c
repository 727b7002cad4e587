/* One command in QEMU's machine protocol (docs/interop/qmp-spec): lines of JSON. The process greets, is told that no
 * capabilities are wanted, and answers each command with "return" or "error"; events may come in between. */
#include "config.h"

#include "libxldrv/host/qmp.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libxldrv/host/socket.h"
#include "libxldrv/rpc/rpc.h"

#define TIMEOUT_MS     20000
#define REPLY_MAX      (1 << 20)
#define DESCRIPTION    "\"desc\": \""

void xldrv_json_append_string(GString *json, const char *text)
{
    g_string_append_c(json, '"');
    for (const char *p = text; *p; p++) {
        if (*p == '"' || *p == '\\')
            g_string_append_printf(json, "\\%c", *p);
        else if ((guchar)*p < 0x20)
            g_string_append_printf(json, "\\u%04x", *p);
        else
            g_string_append_c(json, *p);
    }
    g_string_append_c(json, '"');
}

const char *xldrv_json_string(JsonObject *object, const char *name)
{
    return json_object_get_string_member_with_default(object, name, NULL);
}

/* One line into @line, without its end. */
static gboolean read_line(int fd, GString *line, gint64 end)
{
    g_string_truncate(line, 0);
    while (line->len < REPLY_MAX) {
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        gint64 left = end - g_get_monotonic_time();
        char c;

        if (left <= 0 || poll(&wait, 1, (int)(left / 1000) + 1) <= 0 || recv(fd, &c, 1, 0) != 1)
            return FALSE;
        if (c == '\n')
            return TRUE;
        g_string_append_c(line, c);
    }
    return FALSE;
}

static gboolean send_line(int fd, const char *text)
{
    g_autofree char *line = g_strconcat(text, "\n", NULL);

    return send(fd, line, strlen(line), MSG_NOSIGNAL) == (gssize)strlen(line);
}

/* What an error reply says. */
static gboolean fail_reply(const char *line, GError **error)
{
    const char *start = strstr(line, DESCRIPTION);
    const char *end = start ? start + strlen(DESCRIPTION) : NULL;
    g_autofree char *text = NULL;

    if (end) {
        const char *from = end;

        while (*end && (*end != '"' || end[-1] == '\\'))
            end++;
        text = g_strndup(from, (gsize)(end - from));
    }
    return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "%s", text ? text : line);
}

static gboolean run(int fd, const char *command, GString *line, gint64 end, GError **error)
{
    if (!send_line(fd, command))
        return xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the storage daemon is gone");
    while (read_line(fd, line, end)) {
        if (g_str_has_prefix(line->str, "{\"return\""))
            return TRUE;
        if (g_str_has_prefix(line->str, "{\"error\""))
            return fail_reply(line->str, error);
    }
    return xldrv_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the storage daemon does not answer");
}

/* *@line is the answer. */
static gboolean ask(const char *path, const char *command, GString *line, GError **error)
{
    gint64 end = g_get_monotonic_time() + TIMEOUT_MS * G_TIME_SPAN_MILLISECOND;
    int fd = xldrv_socket_connect(path, SOCK_STREAM, TIMEOUT_MS, error);
    gboolean ok;

    if (fd < 0)
        return FALSE;
    ok = (read_line(fd, line, end) ||
          xldrv_set_error(error, VIR_ERR_OPERATION_TIMEOUT, "the storage daemon does not answer")) &&
         run(fd, "{\"execute\": \"qmp_capabilities\"}", line, end, error) && run(fd, command, line, end, error);
    close(fd);
    return ok;
}

gboolean xldrv_qmp_execute(const char *path, const char *command, GError **error)
{
    g_autoptr(GString) line = g_string_new(NULL);

    return ask(path, command, line, error);
}

JsonNode *xldrv_qmp_query(const char *path, const char *command, GError **error)
{
    g_autoptr(GString) line = g_string_new(NULL);
    g_autoptr(JsonNode) answer = NULL;
    JsonNode *value = NULL;

    if (!ask(path, command, line, error))
        return NULL;
    answer = json_from_string(line->str, NULL);
    if (answer && JSON_NODE_HOLDS_OBJECT(answer))
        value = json_object_dup_member(json_node_get_object(answer), "return");
    if (!value)
        xldrv_set_error(error, VIR_ERR_OPERATION_FAILED, "the storage daemon's answer is not understood");
    return value;
}
