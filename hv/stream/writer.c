/* Writing pages from a thread. It and the loop share a ring of chunks: the loop fills those that the thread has written.
 * The thread frees it, some time after the loop has left, which need not wait for a disk that does not answer. */
#include "config.h"

#include "hv/stream/writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define CHUNKS 4u

struct hv_writer {
    int fd;                          /* immutable, as the chunks' memory */
    pthread_mutex_t lock;            /* of what follows */
    pthread_cond_t more;             /* chunks, or it is left */
    struct hv_loop_source *wakeup;   /* NULL: the loop has left */
    unsigned put, written;           /* chunks, so far */
    int error;                       /* the first */
    struct hv_writer_chunk chunks[CHUNKS]; /* the thread's from put until written, else the loop's */
};

static void destroy(struct hv_writer *w)
{
    for (unsigned i = 0; i < CHUNKS; i++)
        free(w->chunks[i].pages);
    if (w->fd >= 0)
        close(w->fd);
    pthread_cond_destroy(&w->more);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

/* ------------------------------------------------------------------ the thread */

static int write_all(int fd, const uint8_t *from, size_t count, off_t place)
{
    while (count) {
        ssize_t done = pwrite(fd, from, count, place);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? -errno : -EIO;
        from += done;
        place += done;
        count -= (size_t)done;
    }
    return 0;
}

static int write_chunk(int fd, const struct hv_writer_chunk *chunk)
{
    int error = 0;

    if (!chunk->count)
        return fdatasync(fd) < 0 ? -errno : 0;
    for (unsigned i = 0, n; !error && i < chunk->count; i += n) {
        n = 1;
        while (i + n < chunk->count && chunk->places[i + n] == chunk->places[i] + (off_t)(n * HV_PAGE_SIZE))
            n++;
        error = write_all(fd, chunk->pages + (size_t)i * HV_PAGE_SIZE, n * HV_PAGE_SIZE, chunk->places[i]);
    }
    return error;
}

static void write_next_locked(struct hv_writer *w)
{
    const struct hv_writer_chunk *chunk = &w->chunks[w->written % CHUNKS];
    int error = w->error;

    pthread_mutex_unlock(&w->lock);
    if (!error)
        error = write_chunk(w->fd, chunk);
    pthread_mutex_lock(&w->lock);
    w->error = error;
    w->written++;
    if (w->wakeup)
        hv_loop_wake(w->wakeup);
}

static void *run(void *opaque)
{
    struct hv_writer *w = opaque;

    pthread_mutex_lock(&w->lock);
    while (w->wakeup) {
        if (w->written != w->put)
            write_next_locked(w);
        else
            pthread_cond_wait(&w->more, &w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    destroy(w);
    return NULL;
}

static int start_thread(struct hv_writer *w)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, old;
    int error = -pthread_attr_init(&attributes);

    if (error)
        return error;
    sigfillset(&all); /* signals are the main thread's, but for the sandbox's own */
    sigdelset(&all, SIGSYS);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    error = -pthread_create(&thread, &attributes, run, w);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

/* ------------------------------------------------------------------ the loop */

static int make_chunks(struct hv_writer *w)
{
    for (unsigned i = 0; i < CHUNKS; i++) {
        void *pages;

        if (posix_memalign(&pages, HV_PAGE_SIZE, (size_t)HV_WRITER_PAGES * HV_PAGE_SIZE))
            return -ENOMEM;
        w->chunks[i].pages = pages;
    }
    return 0;
}

int hv_writer_new(int fd, struct hv_loop_source *wakeup, struct hv_writer **out)
{
    struct hv_writer *w = calloc(1, sizeof(*w));
    int error;

    if (!w)
        return -ENOMEM;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->more, NULL);
    w->wakeup = wakeup;
    w->fd = dup(fd);
    error = w->fd < 0 ? -errno : make_chunks(w);
    if (!error)
        error = start_thread(w);
    if (error)
        destroy(w);
    else
        *out = w;
    return error;
}

void hv_writer_free(struct hv_writer *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->wakeup = NULL;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
}

static unsigned waiting(struct hv_writer *w)
{
    unsigned n;

    pthread_mutex_lock(&w->lock);
    n = w->put - w->written;
    pthread_mutex_unlock(&w->lock);
    return n;
}

struct hv_writer_chunk *hv_writer_get(struct hv_writer *w)
{
    return waiting(w) < CHUNKS ? &w->chunks[w->put % CHUNKS] : NULL;
}

void hv_writer_put(struct hv_writer *w)
{
    pthread_mutex_lock(&w->lock);
    w->put++;
    pthread_cond_signal(&w->more);
    pthread_mutex_unlock(&w->lock);
}

bool hv_writer_is_idle(struct hv_writer *w)
{
    return !waiting(w);
}

int hv_writer_error(struct hv_writer *w)
{
    int error;

    pthread_mutex_lock(&w->lock);
    error = w->error;
    pthread_mutex_unlock(&w->lock);
    return error;
}
