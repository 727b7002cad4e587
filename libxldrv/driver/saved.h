/* Saved domains as files: what the driver has to know of a domain, then its stream (hv/stream/stream.h).
 *
 *      head | domain XML, with room to grow | nodes of the store | ... the stream, at a multiple of the page size
 *
 * The head has a SHA-256 of all that comes before the stream, which has checksums of its own.
 */
#pragma once

#include <glib.h>

#include "xmlconf/xmlconf.h"

typedef struct {
    int fd;          /* where the stream begins; -1: not open */
    char *xml;       /* of the running domain, with all that it has: XMLCONF_PARSE_LIVE */
    GVariant *store; /* xldrv_store_read_tree */
    gboolean running; /* it is to run, not to be paused, when it is restored */
    int id;          /* that it had */
} XldrvSaved;

void xldrv_saved_clear(XldrvSaved *saved);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(XldrvSaved, xldrv_saved_clear)

/* How many bytes a file has before the stream, for this XML. */
gsize xldrv_saved_head_bytes(const char *xml);
/* Writes them to @fd, at the file's beginning. @saved->fd does not matter. */
gboolean xldrv_saved_write_head(int fd, const XldrvSaved *saved, GError **error);
/* Opens @path, with O_DIRECT for @direct. The error names the file and what is wrong. */
gboolean xldrv_saved_open(const char *path, gboolean direct, XldrvSaved *saved, GError **error);
/* Replaces XML and what is to become of it; fails when the XML does not fit. */
gboolean xldrv_saved_change(const char *path, const char *xml, gboolean running, GError **error);
