/* What a guest agent says, which is what a guest says: JSON that is bounded before it is parsed. */
#pragma once

#include <json-glib/json-glib.h>

/* Most bytes of one answer, as libvirt has it. */
#define XLDRV_AGENT_REPLY_MAX (10u << 20)

/* Whether JSON nests and holds no more than what can be parsed without harm. It need not be JSON. */
gboolean xldrv_json_is_bounded(const char *text, gsize length);

/* The value of "return" in @line of @length bytes, one answer of the agent. NULL with an error of what the agent says:
 * VIR_ERR_OPERATION_UNSUPPORTED for a command that it does not have, else VIR_ERR_INTERNAL_ERROR; also for what is
 * no answer, or holds or nests more than any answer does. @command is for messages. */
JsonNode *xldrv_agent_reply_parse(const char *line, gsize length, const char *command, GError **error);

/* Members of an object of the agent's. FALSE with an error that names @member when it is missing or of another type. */
gboolean xldrv_agent_get_string(JsonNode *object, const char *member, const char **value, GError **error);
gboolean xldrv_agent_get_int(JsonNode *object, const char *member, gint64 *value, GError **error);
gboolean xldrv_agent_get_boolean(JsonNode *object, const char *member, gboolean *value, GError **error);
/* NULL with an error. Borrowed from @object. */
JsonArray *xldrv_agent_get_array(JsonNode *object, const char *member, GError **error);
/* The member, or NULL where there is none or @object is no object. Borrowed from @object. */
JsonNode *xldrv_agent_find(JsonNode *object, const char *member);
/* The same for a string. */
const char *xldrv_agent_find_string(JsonNode *object, const char *member);
/* @node as an array of at most @max elements. NULL with an error. Borrowed from @node. */
JsonArray *xldrv_agent_array(JsonNode *node, guint max, GError **error);
