/* Control groups: how much of the host's CPUs the threads of a domain may use.
 *
 * A domain that is limited has a group domus.slice/NAME where the cpu controller is mounted, of cgroup v1 or v2, and in
 * it one for each vCPU and one, "emulator", for its other threads. A domain without limits has none.
 */
#pragma once

#include <glib.h>

/* @quota us in each @period us; -1: no limit. 0: as it is. */
typedef struct {
    guint64 period;
    gint64 quota;
} XldrvCgroupLimit;

typedef struct {
    guint64 shares; /* 0: as it is */
    XldrvCgroupLimit global, vcpu, emulator;
} XldrvCgroupLimits;

/* Where the cpu controller is. NULL with an error: this host has none mounted. */
typedef struct _XldrvCgroups XldrvCgroups;
XldrvCgroups *xldrv_cgroups_find(GError **error);
/* The same told by a text in the format of /proc/self/mountinfo. */
XldrvCgroups *xldrv_cgroups_find_in(const char *mountinfo, GError **error);
void xldrv_cgroups_free(XldrvCgroups *groups);

/* Puts all threads of process @pid where they belong and sets @limits; makes the groups if they are not there. Threads
 * that come later are put there by another call. */
gboolean xldrv_cgroups_apply(const XldrvCgroups *groups, const char *name, int pid, const XldrvCgroupLimits *limits,
                             GError **error);
gboolean xldrv_cgroups_exists(const XldrvCgroups *groups, const char *name);
/* Removes the groups, which have no processes any more; what is not there is fine. */
void xldrv_cgroups_remove(const XldrvCgroups *groups, const char *name);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvCgroups, xldrv_cgroups_free)
