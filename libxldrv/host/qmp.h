/* One command to a process that speaks QEMU's machine protocol. */
#pragma once

#include <glib.h>
#include <json-glib/json-glib.h>

/* Connects to the UNIX socket at @path and executes @command (JSON, without line ends). FALSE with an error: what the
 * process said. Blocks for some seconds at most. */
gboolean xldrv_qmp_execute(const char *path, const char *command, GError **error);

/* Appends @text as a JSON string, with its quotation marks. */
void xldrv_json_append_string(GString *json, const char *text);
/* The text that a member of @object is; NULL: there is none. */
const char *xldrv_json_string(JsonObject *object, const char *name);
/* What the command returns; NULL with an error. */
JsonNode *xldrv_qmp_query(const char *path, const char *command, GError **error);
