/* The event loop of the main thread.
 *
 * Every source is a descriptor in one epoll set: the caller's, an eventfd for a wake-up, a timerfd
 * for a timer. So arming a timer and waking a source are one system call each, or none for a source that is woken already,
 * and need no lock.
 */
#include "config.h"

#include "hv/loop.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "hv/log.h"

#define BATCH 32

enum source_kind { SOURCE_FD, SOURCE_WAKEUP, SOURCE_TIMER };

struct hv_loop_source {
    struct hv_loop *loop;
    struct hv_loop_source *next; /* in loop->sources, then in loop->removed */
    enum source_kind kind;
    int fd; /* the caller's for SOURCE_FD, ours for the others */
    union {
        hv_loop_fd_fn *fd_fn;
        hv_loop_fn *fn;
    };
    void *opaque;
    bool removed;
    _Atomic bool woken; /* SOURCE_WAKEUP: its function is about to run */
};

/* All fields belong to the loop thread but @quit. */
struct hv_loop {
    int epoll_fd;
    _Atomic bool quit;
    struct hv_loop_source *quit_source;
    struct hv_loop_source *sources;
    struct hv_loop_source *removed; /* freed when no event of the batch can name them */
};

static void source_free(struct hv_loop_source *source)
{
    if (source->kind != SOURCE_FD && source->fd >= 0)
        close(source->fd);
    free(source);
}

static struct hv_loop_source *source_add(struct hv_loop *loop, enum source_kind kind, int fd,
                                         uint32_t events, void *opaque)
{
    struct hv_loop_source *source = calloc(1, sizeof(*source));
    struct epoll_event event = {.events = events, .data.ptr = source};

    if (!source) {
        if (kind != SOURCE_FD && fd >= 0)
            close(fd);
        return NULL;
    }
    source->loop = loop;
    source->kind = kind;
    source->fd = fd;
    source->opaque = opaque;
    if (fd < 0 || epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        source_free(source);
        return NULL;
    }
    source->next = loop->sources;
    loop->sources = source;
    return source;
}

struct hv_loop_source *hv_loop_add_fd(struct hv_loop *loop, int fd, uint32_t events,
                                      hv_loop_fd_fn *fn, void *opaque)
{
    struct hv_loop_source *source = source_add(loop, SOURCE_FD, fd, events, opaque);

    if (source)
        source->fd_fn = fn;
    return source;
}

struct hv_loop_source *hv_loop_add_wakeup(struct hv_loop *loop, hv_loop_fn *fn, void *opaque)
{
    struct hv_loop_source *source =
        source_add(loop, SOURCE_WAKEUP, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), EPOLLIN | EPOLLET, opaque);

    if (source)
        source->fn = fn;
    return source;
}

struct hv_loop_source *hv_loop_add_timer(struct hv_loop *loop, hv_loop_fn *fn, void *opaque)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct hv_loop_source *source = source_add(loop, SOURCE_TIMER, fd, EPOLLIN, opaque);

    if (source)
        source->fn = fn;
    return source;
}

int hv_loop_set_events(struct hv_loop_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};

    if (epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0)
        return -errno;
    return 0;
}

void hv_loop_wake(struct hv_loop_source *source)
{
    uint64_t one = 1;

    /* Each write is an event, whether what was written before was read or not: nobody reads it. */
    if (atomic_exchange(&source->woken, true))
        return;
    while (write(source->fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

void hv_loop_arm(struct hv_loop_source *source, uint64_t deadline_ns)
{
    struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                     .tv_nsec = (long)(deadline_ns % 1000000000u)},
    };
    int rc = timerfd_settime(source->fd, TFD_TIMER_ABSTIME, &when, NULL);

    hv_assert(rc == 0);
}

void hv_loop_remove(struct hv_loop_source *source)
{
    struct hv_loop *loop = source->loop;
    struct hv_loop_source **link = &loop->sources;

    while (*link && *link != source)
        link = &(*link)->next;
    hv_assert(*link == source);
    *link = source->next;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    source->removed = true;
    source->next = loop->removed;
    loop->removed = source;
}

static void free_list(struct hv_loop_source **list)
{
    while (*list) {
        struct hv_loop_source *source = *list;

        *list = source->next;
        source_free(source);
    }
}

static void dispatch(struct hv_loop_source *source, uint32_t events)
{
    uint64_t count;

    if (source->kind == SOURCE_FD) {
        source->fd_fn(source->opaque, source->fd, events);
        return;
    }
    if (source->kind == SOURCE_WAKEUP) {
        atomic_store(&source->woken, false); /* what comes from here on runs it again */
        source->fn(source->opaque);
        return;
    }
    /* Nothing to read: a timer that was armed anew after it fired. */
    if (read(source->fd, &count, sizeof(count)) == (ssize_t)sizeof(count))
        source->fn(source->opaque);
}

static void quit_woken(void *opaque)
{
    (void)opaque; /* hv_loop_run looks at loop->quit after each batch */
}

int hv_loop_new(struct hv_loop **out)
{
    struct hv_loop *loop = calloc(1, sizeof(*loop));

    if (!loop)
        return -ENOMEM;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        int err = errno;

        free(loop);
        return -err;
    }
    loop->quit_source = hv_loop_add_wakeup(loop, quit_woken, NULL);
    if (!loop->quit_source) {
        hv_loop_free(loop);
        return -ENOMEM;
    }
    *out = loop;
    return 0;
}

void hv_loop_free(struct hv_loop *loop)
{
    if (!loop)
        return;
    free_list(&loop->sources);
    free_list(&loop->removed);
    close(loop->epoll_fd);
    free(loop);
}

void hv_loop_run(struct hv_loop *loop)
{
    struct epoll_event events[BATCH];

    while (!atomic_load(&loop->quit)) {
        int count = epoll_wait(loop->epoll_fd, events, BATCH, -1);

        hv_assert(count >= 0 || errno == EINTR);
        for (int i = 0; i < count; i++) {
            struct hv_loop_source *source = events[i].data.ptr;

            if (!source->removed)
                dispatch(source, events[i].events);
        }
        free_list(&loop->removed);
    }
    atomic_store(&loop->quit, false);
}

void hv_loop_quit(struct hv_loop *loop)
{
    atomic_store(&loop->quit, true);
    hv_loop_wake(loop->quit_source);
}
