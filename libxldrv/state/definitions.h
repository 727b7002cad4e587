/* Definitions of persistent domains on disk, and which of them start with the daemon. */
#pragma once

#include "libxldrv/state/paths.h"
#include "xmlconf/xmlconf.h"

gboolean xldrv_definition_save(const XldrvPaths *paths, XmlconfDomain *domain, GError **error);
/* Makes @renamed, which has a new name, the definition of what was called @old_name, with its autostart mark. Half
 * done by a daemon that is killed, it is completed by the next one. */
gboolean xldrv_definition_rename(const XldrvPaths *paths, const char *old_name, XmlconfDomain *renamed, GError **error);
gboolean xldrv_definition_remove(const XldrvPaths *paths, const char *name, GError **error);

gboolean xldrv_autostart_set(const XldrvPaths *paths, const char *name, gboolean on, GError **error);

/* Calls @fn for each definition that can be read; takes a reference to keep it. What cannot be read is
 * warned about by its file name and left alone. */
typedef void (*XldrvDefinitionFn)(XmlconfDomain *domain, gboolean autostart, gpointer user_data);
void xldrv_definitions_load(const XldrvPaths *paths, XldrvDefinitionFn fn, gpointer user_data);
