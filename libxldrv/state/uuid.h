/* UUIDs: 16 bytes as on the wire, 36 lower-case characters as in XML. */
#pragma once

#include <glib.h>

#define XLDRV_UUID_BYTES 16
#define XLDRV_UUID_CHARS 36

/* FALSE if @text is not a UUID. */
gboolean xldrv_uuid_parse(const char *text, guint8 uuid[XLDRV_UUID_BYTES]);
void xldrv_uuid_format(const guint8 uuid[XLDRV_UUID_BYTES], char text[XLDRV_UUID_CHARS + 1]);

/* For hash tables whose keys are the 16 bytes. */
guint xldrv_uuid_hash(gconstpointer uuid);
gboolean xldrv_uuid_equal(gconstpointer a, gconstpointer b);
