/* xlcfg: xl's configuration files (xl.cfg(5)) as domain XML, and back.
 *
 * parse: libxlutil reads the file -> parse.c puts each key where its table says, into a tree of domain XML
 *        (devices.c does that for the lists of device specifications) -> xmlconf_domain_parse
 * format: format.c writes what xl.cfg has words for, and refuses what would be lost
 *
 * libxlutil cannot name the keys of a file, so those that are known and have no place here are in a table, too,
 * and are refused by name; keys that xl itself does not know are ignored, as xl does.
 */
#pragma once

#include <libxlutil.h>

#include "xmlconf/document.h"
#include "xmlconf/xmlconf.h"

/* Sets the text of the element or attribute at @path below @base: "os/kernel", "vcpu@current", "@type". Elements that
 * are not there are made. Text that XML cannot hold is an error that names @key. */
gboolean xmlconf_xlcfg_put(xmlNode *base, const char *path, const char *text, const char *key, GError **error);

/* An error that quotes the value of @key. */
gboolean xmlconf_xlcfg_fail(const char *key, const char *value, const char *why, GError **error);

/* vnuma.c: adds the nodes of a guest and where they are below @root, <domain>. *@mib is the memory of all; 0: there are none. */
gboolean xmlconf_xlcfg_put_vnuma(XLU_Config *cfg, xmlNode *root, guint64 *mib, GError **error);
/* The other way: NULL, or what xl.cfg has no word for. */
const char *xmlconf_xlcfg_add_vnuma(GString *out, const XmlconfDomainConfig *config);

/* Adds the device that @spec, an item of the list of that name, describes to @devices. FALSE without an
 * error: libxlutil has said what is wrong, as its messages. */
gboolean xmlconf_xlcfg_put_disk(XLU_Config *cfg, xmlNode *devices, const char *spec, GError **error);
gboolean xmlconf_xlcfg_put_vif(XLU_Config *cfg, xmlNode *devices, const char *spec, GError **error);
gboolean xmlconf_xlcfg_put_channel(XLU_Config *cfg, xmlNode *devices, const char *spec, GError **error);
gboolean xmlconf_xlcfg_put_vfb(XLU_Config *cfg, xmlNode *devices, const char *spec, GError **error);
