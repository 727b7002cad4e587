/* workers: two queues, two kinds of threads. */
#include "config.h"

#include "libxldrv/rpc/workers.h"

#define IDLE_TIME (30 * G_TIME_SPAN_SECOND)

typedef enum { ORDINARY, PRIO, N_KINDS } Kind;

typedef struct {
    guint min, max;
    guint running; /* threads, under lock */
    guint idle;    /* of these, under lock */
    GCond work;
} Crew;

struct _XldrvWorkers {
    GFunc run;
    gpointer user_data;
    GMutex lock;
    GCond gone;            /* a thread has left */
    GQueue queue[N_KINDS]; /* jobs, under lock; PRIO holds the high-priority ones */
    Crew crew[N_KINDS];
    gboolean quit; /* under lock */
};

typedef struct {
    XldrvWorkers *workers;
    Kind kind;
} Start;

/* High-priority jobs come first for everyone; a prio worker takes nothing else. */
static gpointer next_job_locked(XldrvWorkers *workers, Kind kind)
{
    gpointer job = g_queue_pop_head(&workers->queue[PRIO]);
    if (!job && kind == ORDINARY)
        job = g_queue_pop_head(&workers->queue[ORDINARY]);
    return job;
}

/* The next job, or NULL when this thread should leave. */
static gpointer wait_job_locked(XldrvWorkers *workers, Kind kind)
{
    Crew *crew = &workers->crew[kind];
    gint64 until = g_get_monotonic_time() + IDLE_TIME;
    gpointer job = NULL;

    if (crew->running > crew->max)
        return NULL;
    crew->idle++;
    while (!workers->quit && !(job = next_job_locked(workers, kind))) {
        if (g_cond_wait_until(&crew->work, &workers->lock, until))
            continue;
        if (crew->running > crew->min) {
            job = next_job_locked(workers, kind);
            break;
        }
        until = g_get_monotonic_time() + IDLE_TIME;
    }
    crew->idle--;
    return job;
}

static gpointer work(gpointer data)
{
    Start *start = data;
    XldrvWorkers *workers = start->workers;
    Kind kind = start->kind;
    gpointer job;

    g_free(start);
    g_mutex_lock(&workers->lock);
    while ((job = wait_job_locked(workers, kind))) {
        g_mutex_unlock(&workers->lock);
        workers->run(job, workers->user_data);
        g_mutex_lock(&workers->lock);
    }
    workers->crew[kind].running--;
    g_cond_signal(&workers->gone);
    g_mutex_unlock(&workers->lock);
    return NULL;
}

static void start_worker_locked(XldrvWorkers *workers, Kind kind)
{
    Start *start = g_new(Start, 1);
    *start = (Start){workers, kind};
    GThread *thread = g_thread_try_new(kind == PRIO ? "rpc-prio" : "rpc-worker", work, start, NULL);
    if (!thread) {
        /* Those that run go on; the job waits for one of them. */
        g_free(start);
        return;
    }
    g_thread_unref(thread);
    workers->crew[kind].running++;
}

/* Wakes one worker of @kind, or starts one; FALSE if all are busy and no more may be started. */
static gboolean rouse_locked(XldrvWorkers *workers, Kind kind)
{
    Crew *crew = &workers->crew[kind];
    if (crew->idle > workers->queue[ORDINARY].length + workers->queue[PRIO].length - 1) {
        g_cond_signal(&crew->work);
        return TRUE;
    }
    if (crew->running >= crew->max) {
        g_cond_signal(&crew->work);
        return FALSE;
    }
    start_worker_locked(workers, kind);
    return TRUE;
}

XldrvWorkers *xldrv_workers_new(guint min, guint max, guint prio, GFunc run, gpointer user_data)
{
    XldrvWorkers *workers = g_new0(XldrvWorkers, 1);
    workers->run = run;
    workers->user_data = user_data;
    g_mutex_init(&workers->lock);
    g_cond_init(&workers->gone);
    workers->crew[ORDINARY].min = min;
    workers->crew[ORDINARY].max = MAX(max, 1);
    workers->crew[PRIO].max = prio;
    for (int kind = 0; kind < N_KINDS; kind++) {
        g_queue_init(&workers->queue[kind]);
        g_cond_init(&workers->crew[kind].work);
    }
    return workers;
}

void xldrv_workers_set(XldrvWorkers *workers, guint min, guint max, guint prio)
{
    g_mutex_lock(&workers->lock);
    workers->crew[ORDINARY].min = min;
    workers->crew[ORDINARY].max = MAX(max, 1);
    workers->crew[PRIO].max = prio;
    g_mutex_unlock(&workers->lock);
}

void xldrv_workers_get_info(XldrvWorkers *workers, XldrvWorkersInfo *info)
{
    g_mutex_lock(&workers->lock);
    const Crew *ordinary = &workers->crew[ORDINARY];
    *info = (XldrvWorkersInfo){.min = ordinary->min,
                               .max = ordinary->max,
                               .prio = workers->crew[PRIO].max,
                               .running = ordinary->running,
                               .idle = ordinary->idle,
                               .queued = workers->queue[ORDINARY].length + workers->queue[PRIO].length};
    g_mutex_unlock(&workers->lock);
}

void xldrv_workers_push(XldrvWorkers *workers, gpointer job, gboolean high)
{
    g_mutex_lock(&workers->lock);
    g_queue_push_tail(&workers->queue[high ? PRIO : ORDINARY], job);
    if (!rouse_locked(workers, ORDINARY) && high)
        rouse_locked(workers, PRIO);
    g_mutex_unlock(&workers->lock);
}

void xldrv_workers_free(XldrvWorkers *workers, GFunc drop)
{
    gpointer job;

    g_mutex_lock(&workers->lock);
    workers->quit = TRUE;
    for (int kind = 0; kind < N_KINDS; kind++)
        g_cond_broadcast(&workers->crew[kind].work);
    while (workers->crew[ORDINARY].running + workers->crew[PRIO].running > 0)
        g_cond_wait(&workers->gone, &workers->lock);
    g_mutex_unlock(&workers->lock);

    for (int kind = 0; kind < N_KINDS; kind++) {
        while ((job = g_queue_pop_head(&workers->queue[kind])))
            drop(job, workers->user_data);
        g_cond_clear(&workers->crew[kind].work);
    }
    g_cond_clear(&workers->gone);
    g_mutex_clear(&workers->lock);
    g_free(workers);
}
