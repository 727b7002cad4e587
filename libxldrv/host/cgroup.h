/* Control groups: how much of the host's CPUs the threads of a domain may use, and how much memory and block I/O all of
 * it.
 *
 * A domain that is limited has a group domus.slice/NAME where the controller is mounted, of cgroup v1 or v2. For CPUs
 * there is in it one for each vCPU and one, "emulator", for its other threads. A domain without limits has none.
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

typedef enum { XLDRV_CGROUP_CPU, XLDRV_CGROUP_MEMORY, XLDRV_CGROUP_BLOCK_IO } XldrvCgroupController;
#define XLDRV_N_CGROUP_CONTROLLERS 3

/* Where a controller is. NULL with an error: this host has it not mounted. */
typedef struct _XldrvCgroups XldrvCgroups;
XldrvCgroups *xldrv_cgroups_find(XldrvCgroupController controller, GError **error);
/* The same told by a text in the format of /proc/self/mountinfo. */
XldrvCgroups *xldrv_cgroups_find_in(const char *mountinfo, XldrvCgroupController controller, GError **error);
/* Whether it is of cgroup v2, whose files have other names. */
gboolean xldrv_cgroups_is_unified(const XldrvCgroups *groups);
void xldrv_cgroups_free(XldrvCgroups *groups);

/* Puts all threads of process @pid where they belong and sets @limits; makes the groups if they are not there. Threads
 * that come later are put there by another call. */
gboolean xldrv_cgroups_apply(const XldrvCgroups *groups, const char *name, int pid, const XldrvCgroupLimits *limits,
                             GError **error);

/* What a file of a group is to hold. */
typedef struct {
    const char *files[2]; /* the first that the kernel has; the second may be NULL */
    char *text;
} XldrvCgroupValue;

/* Puts process @pid into the domain's group, which is made if it is not there, and writes @values in an order that the
 * kernel takes. An error names the file; those that were written stay so. For the controllers of whole domains. */
gboolean xldrv_cgroups_set(const XldrvCgroups *groups, const char *name, int pid, const XldrvCgroupValue *values, guint n,
                           GError **error);
gboolean xldrv_cgroups_exists(const XldrvCgroups *groups, const char *name);
/* Removes the groups, which have no processes any more; what is not there is fine. */
void xldrv_cgroups_remove(const XldrvCgroups *groups, const char *name);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(XldrvCgroups, xldrv_cgroups_free)
