/* The daemon's log: levels, filters and outputs as libvirt's daemons have them. Messages of GLib are of level 1 (debug),
 * 2 (info), 3 (warnings and notices) or 4 (errors). Any thread, but for xldrv_log_init. */
#pragma once

#include <glib.h>

#define XLDRV_LOG_DEBUG   1
#define XLDRV_LOG_INFO    2
#define XLDRV_LOG_WARNING 3
#define XLDRV_LOG_ERROR   4

/* Notices and worse go to standard error, or to the journal where that is one. */
void xldrv_log_init(void);
/* Ends all outputs but standard error. */
void xldrv_log_end(void);
/* Messages of lower levels are dropped where no filter says otherwise. */
void xldrv_log_set_level(guint level);

/* "LEVEL:MATCH ...": the level of messages from sources like driver.start or rpc.client, of which MATCH is a part, or a
 * pattern with * and ?. The first that matches counts. Errors name the filter, and all stay as they were. */
gboolean xldrv_log_set_filters(const char *text, GError **error);
/* "LEVEL:stderr", "LEVEL:file:PATH", "LEVEL:syslog:NAME", "LEVEL:journald": where messages of that level and above go.
 * Empty: all to standard error. Errors name the output, and all stay as they were. */
gboolean xldrv_log_set_outputs(const char *text, GError **error);
/* The same again, and how many there are. The caller's. */
char *xldrv_log_get_filters(guint *n);
char *xldrv_log_get_outputs(guint *n);

/* What "long" is. */
#define XLDRV_LOG_BYTES_MAX (2 << 20)

/* Before a log is opened: puts one that has grown long aside, as PATH.old, so that two at most are kept. */
void xldrv_log_rotate(const char *path);
