/* Answers of a guest agent.
 *
 * json-glib descends as deep as its input does, and makes a node of some dozen bytes of each value, be it one byte: so
 * what a guest sends is looked through first.
 */
#include "config.h"

#include "libxldrv/host/agent-json.h"

#include <string.h>

#include "libxldrv/rpc/rpc.h"

#define MAX_DEPTH  32
#define MAX_VALUES 65536

static gboolean malformed(GError **error, const char *what)
{
    return xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "guest agent sent a malformed answer: %s", what);
}

/* Passes over a string that begins at @p; the end of the text where it does not end. */
static const char *skip_string(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++) {
        if (*p == '\\' && p + 1 < end)
            p++;
    }
    return p;
}

gboolean xldrv_json_is_bounded(const char *text, gsize length)
{
    guint depth = 0, values = 0;

    for (const char *p = text, *end = text + length; p < end; p++) {
        if (*p == '"')
            p = skip_string(p, end);
        else if (*p == '[' || *p == '{')
            depth++, values++;
        else if (*p == ']' || *p == '}')
            depth -= depth > 0;
        else if (*p == ',' || *p == ':')
            values++;
        if (depth > MAX_DEPTH || values > MAX_VALUES)
            return FALSE;
    }
    return TRUE;
}

JsonNode *xldrv_agent_find(JsonNode *object, const char *member)
{
    return object && JSON_NODE_HOLDS_OBJECT(object) ? json_object_get_member(json_node_get_object(object), member) : NULL;
}

static gboolean holds(JsonNode *node, GType type)
{
    return node && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == type;
}

const char *xldrv_agent_find_string(JsonNode *object, const char *member)
{
    JsonNode *node = xldrv_agent_find(object, member);

    return holds(node, G_TYPE_STRING) ? json_node_get_string(node) : NULL;
}

/* What the agent says went wrong. */
static void tell_failure(JsonNode *failure, const char *command, GError **error)
{
    const char *class = xldrv_agent_find_string(failure, "class");
    const char *description = xldrv_agent_find_string(failure, "desc");
    gboolean unsupported = g_strcmp0(class, "CommandNotFound") == 0 || g_strcmp0(class, "CommandDisabled") == 0 ||
                           g_strcmp0(class, "Unsupported") == 0;

    xldrv_set_error(error, unsupported ? VIR_ERR_OPERATION_UNSUPPORTED : VIR_ERR_INTERNAL_ERROR,
                    "unable to execute QEMU agent command '%s': %.1000s", command,
                    description ? description : "the agent does not say why");
}

JsonNode *xldrv_agent_reply_parse(const char *line, gsize length, const char *command, GError **error)
{
    g_autoptr(JsonParser) parser = json_parser_new_immutable();
    JsonNode *root, *found;

    if (!g_utf8_validate(line, length, NULL) || !xldrv_json_is_bounded(line, length) ||
        !json_parser_load_from_data(parser, line, length, NULL)) {
        malformed(error, "no JSON, or too much of it");
        return NULL;
    }
    root = json_parser_get_root(parser);
    found = xldrv_agent_find(root, "return");
    if (found)
        return json_node_ref(found);
    found = xldrv_agent_find(root, "error");
    if (found)
        tell_failure(found, command, error);
    else
        malformed(error, "neither a result nor an error");
    return NULL;
}

static gboolean wrong(GError **error, const char *member)
{
    return xldrv_set_error(error, VIR_ERR_INTERNAL_ERROR, "'%s' missing in reply of the guest agent", member);
}

gboolean xldrv_agent_get_string(JsonNode *object, const char *member, const char **value, GError **error)
{
    *value = xldrv_agent_find_string(object, member);
    return *value || wrong(error, member);
}

gboolean xldrv_agent_get_int(JsonNode *object, const char *member, gint64 *value, GError **error)
{
    JsonNode *node = xldrv_agent_find(object, member);

    if (!holds(node, G_TYPE_INT64))
        return wrong(error, member);
    *value = json_node_get_int(node);
    return TRUE;
}

gboolean xldrv_agent_get_boolean(JsonNode *object, const char *member, gboolean *value, GError **error)
{
    JsonNode *node = xldrv_agent_find(object, member);

    if (!holds(node, G_TYPE_BOOLEAN))
        return wrong(error, member);
    *value = json_node_get_boolean(node);
    return TRUE;
}

JsonArray *xldrv_agent_array(JsonNode *node, guint max, GError **error)
{
    JsonArray *array = node && JSON_NODE_HOLDS_ARRAY(node) ? json_node_get_array(node) : NULL;

    if (array && json_array_get_length(array) <= max)
        return array;
    malformed(error, array ? "more elements than there can be" : "no array");
    return NULL;
}

JsonArray *xldrv_agent_get_array(JsonNode *object, const char *member, GError **error)
{
    JsonNode *node = xldrv_agent_find(object, member);

    if (node && JSON_NODE_HOLDS_ARRAY(node))
        return json_node_get_array(node);
    wrong(error, member);
    return NULL;
}
