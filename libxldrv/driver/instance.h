/* What runs of a domain: its hypervisor process and the two connections to it.
 *
 * The process is not ours for ever: after a restart of the daemon it is found again by process number and
 * start time. One control connection serves calls, one at a time, and is made anew when it broke; the other
 * carries events and is watched on the main loop together with the process.
 */
#pragma once

#include <glib.h>

#include "hv/hv.h"
#include "libxldrv/host/process.h"

typedef struct _XldrvInstance XldrvInstance;

/* @control_path is the listening socket of @process (taken). Each control hypercall is logged for debugging. */
XldrvInstance *xldrv_instance_new(const char *name, int id, const char *control_path,
                                  XldrvProcess *process);
XldrvInstance *xldrv_instance_ref(XldrvInstance *instance);
void xldrv_instance_unref(XldrvInstance *instance);

int xldrv_instance_id(XldrvInstance *instance);
/* What devices have on this host before the guest is here (devices.h), by their configuration; NULL: it is here. Whoever has the
 * domain's job. @made is taken. */
GHashTable *xldrv_instance_made(XldrvInstance *instance);
void xldrv_instance_take_made(XldrvInstance *instance, GHashTable *made);
XldrvProcess *xldrv_instance_process(XldrvInstance *instance);
const char *xldrv_instance_control_path(XldrvInstance *instance);

/* One control operation: @fn with a connection and @arg, alone. Its negative errno becomes an error that
 * says @what could not be done. */
typedef int (*XldrvControlFn)(struct domctl *ctl, gpointer arg);
gboolean xldrv_instance_control(XldrvInstance *instance, const char *what, XldrvControlFn fn,
                                gpointer arg, GError **error);

/* As above for one that may take minutes, on a connection of its own. */
gboolean xldrv_instance_control_long(XldrvInstance *instance, const char *what, XldrvControlFn fn, gpointer arg,
                                     GError **error);

/* The usual ones. */
gboolean xldrv_instance_get_info(XldrvInstance *instance, struct domctl_info *info, GError **error);
/* Memory that the guest has, of at most @max_kib: the hypervisor's number has the pages that it shares with the
 * guest, which come on top of what the guest was given. */
guint64 xldrv_info_memory_kib(const struct domctl_info *info, guint64 max_kib);
gboolean xldrv_instance_pause(XldrvInstance *instance, GError **error);
gboolean xldrv_instance_unpause(XldrvInstance *instance, GError **error);

/* Beside enum hv_event: the process has ended, after which nothing more comes; and the connection that
 * carries events broke though the process may live, so watch it anew. */
#define XLDRV_INSTANCE_ENDED 0u
#define XLDRV_INSTANCE_LOST  G_MAXUINT

/* Watches the process and events; @fn is called on the main loop. Keeps a reference until the process has
 * ended or it is unwatched; @free_fn(@user_data) is called after that. FALSE: only the process is watched. */
typedef void (*XldrvInstanceEventFn)(XldrvInstance *instance, guint event, guint64 arg,
                                     gpointer user_data);
gboolean xldrv_instance_watch(XldrvInstance *instance, XldrvInstanceEventFn fn, gpointer user_data,
                              GDestroyNotify free_fn, GError **error);
/* Makes a new connection for events, after XLDRV_INSTANCE_LOST. */
gboolean xldrv_instance_rewatch(XldrvInstance *instance, GError **error);
void xldrv_instance_unwatch(XldrvInstance *instance);

/* Kills the process because the domain is to be destroyed, by somebody who cannot have its job: whoever has it, and
 * waits for an answer, gets an error. */
void xldrv_instance_kill(XldrvInstance *instance);
gboolean xldrv_instance_was_killed(XldrvInstance *instance);

/* Ends the process: asks it to destroy the domain, then kills it. Returns when it is gone. */
void xldrv_instance_destroy(XldrvInstance *instance);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvInstance, xldrv_instance_unref)
