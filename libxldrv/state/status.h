/* What is known of a running domain, on disk, so that a new daemon finds it again. */
#pragma once

#include "libxldrv/state/paths.h"
#include "xmlconf/xmlconf.h"

typedef struct {
    gboolean complete;     /* FALSE: the start had not come to its end; what there is of it must go */
    gboolean autodestroy;  /* it ends with the client that made it, so with the daemon too */
    int id;
    int agent_timeout;     /* seconds, or VIR_DOMAIN_QEMU_AGENT_COMMAND_* */
    int state, reason;     /* virDomainState; what was last asked for */
    char *control;         /* name of its control socket in the run directory */
    char *process;         /* name of the file in which its process told who it is */
    XmlconfDomain *domain; /* as it runs, with its ttys */
} XldrvStatus;

gboolean xldrv_status_save(const XldrvPaths *paths, const XldrvStatus *status, GError **error);
gboolean xldrv_status_remove(const XldrvPaths *paths, const char *name, GError **error);

/* Calls @fn for each status file that can be read, with a status that is borrowed. Others are warned
 * about by name and left alone. */
typedef void (*XldrvStatusFn)(const XldrvStatus *status, gpointer user_data);
void xldrv_status_load(const XldrvPaths *paths, XldrvStatusFn fn, gpointer user_data);

void xldrv_status_clear(XldrvStatus *status);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(XldrvStatus, xldrv_status_clear)
