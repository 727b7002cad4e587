/* workers: the threads that run handlers. */
#pragma once

#include <glib.h>

typedef struct _XldrvWorkers XldrvWorkers;

/* Ordinary workers are started as jobs wait, up to @max, and those beyond @min leave after a while
 * without work;
 * @prio further ones take high-priority jobs alone, so that these run when all ordinary workers are
 * blocked. */
XldrvWorkers *xldrv_workers_new(guint min, guint max, guint prio, GFunc run, gpointer user_data);
/* Waits for the jobs that run; gives those that wait to @drop. */
void xldrv_workers_free(XldrvWorkers *workers, GFunc drop);
/* More threads of a kind than anybody should ask for. */
#define XLDRV_WORKERS_MAX 1000
/* Changes the numbers of threads: those that are too many leave when they have nothing to do. */
void xldrv_workers_set(XldrvWorkers *workers, guint min, guint max, guint prio);

typedef struct {
    guint min, max, prio;
    guint running, idle; /* ordinary ones */
    guint queued;        /* jobs of either kind that wait */
} XldrvWorkersInfo;
void xldrv_workers_get_info(XldrvWorkers *workers, XldrvWorkersInfo *info);

void xldrv_workers_push(XldrvWorkers *workers, gpointer job, gboolean high);
