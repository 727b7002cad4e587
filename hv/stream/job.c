/* A stream that is under way. */
#include "config.h"

#include "hv/stream/job.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/loop.h"
#include "hv/stream/handover.h"

static bool is_over(const struct hv_stream *s)
{
    return s->status.phase == DOMUS_STREAM_DONE || s->status.phase == DOMUS_STREAM_FAILED;
}

static void step(void *opaque)
{
    struct hv_stream *s = opaque;

    if (!is_over(s) || s->fd >= 0)
        s->ops->step(s);
}

static void fd_ready(void *opaque, int fd, uint32_t events)
{
    (void)fd, (void)events;
    step(opaque);
}

void hv_stream_again(struct hv_stream *s)
{
    hv_loop_wake(s->wakeup);
}

void hv_stream_at(struct hv_stream *s, uint64_t when_ns)
{
    hv_loop_arm(s->timer, when_ns);
}

int hv_stream_wait(struct hv_stream *s, uint32_t events)
{
    if (events == s->events)
        return 0;
    if (!events) {
        hv_loop_remove(s->source);
        s->source = NULL;
    } else if (!s->source) {
        s->source = hv_loop_add_fd(s->domain->loop, s->fd, events, fd_ready, s);
        if (!s->source)
            return -ENOMEM;
    } else if (hv_loop_set_events(s->source, events)) {
        return -EIO;
    }
    s->events = events;
    return 0;
}

/* Lets go of everything but the status. */
static void release(struct hv_stream *s)
{
    (void)!hv_stream_wait(s, 0);
    hv_loop_arm(s->timer, 0);
    s->ops->fini(s);
    s->own = NULL;
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    if (!s->end_ns)
        s->end_ns = hv_loop_now();
}

void hv_stream_change(struct hv_stream *s, const struct hv_stream_ops *ops, void *own)
{
    s->ops->fini(s);
    s->ops = ops;
    s->own = own;
}

void hv_stream_go_over(struct hv_stream *s, const struct hv_stream_ops *ops, void *own)
{
    s->status.phase = DOMUS_STREAM_DONE;
    s->status.remaining_bytes = 0;
    s->end_ns = hv_loop_now();
    hv_loop_arm(s->timer, 0);
    hv_stream_change(s, ops, own);
}

void hv_stream_hang_up(struct hv_stream *s)
{
    if (s->own || s->fd >= 0)
        release(s);
}

void hv_stream_done(struct hv_stream *s)
{
    s->status.phase = DOMUS_STREAM_DONE;
    s->status.remaining_bytes = 0;
    release(s);
}

__attribute__((format(printf, 3, 0))) static void note_failure(struct hv_stream *s, int error, const char *format, va_list args)
{
    vsnprintf(s->status.text, sizeof(s->status.text), format, args);
    hv_log_guest(s->domain, HV_LOG_WARNING, "stream: %s", s->status.text);
    s->status.phase = DOMUS_STREAM_FAILED;
    s->status.error = (uint32_t)(error < 0 ? -error : error);
    release(s);
}

void hv_stream_fail(struct hv_stream *s, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    note_failure(s, error, format, args);
    va_end(args);
    hv_stream_thaw(s);
}

void hv_stream_lose(struct hv_stream *s, int error, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    note_failure(s, error, format, args);
    va_end(args);
}

void hv_stream_free(struct hv_domain *d)
{
    struct hv_stream *s = d->stream;

    if (!s)
        return;
    if (s->own || s->fd >= 0)
        release(s);
    hv_loop_remove(s->wakeup);
    hv_loop_remove(s->timer);
    free(s);
    d->stream = NULL;
}

int hv_stream_end(struct hv_domain *d)
{
    if (!d->stream)
        return 0;
    if (hv_stream_is_foreign(d) || hv_stream_is_torn(d))
        return -EBUSY;
    hv_stream_thaw(d->stream);
    hv_stream_free(d);
    return 0;
}

static struct hv_stream *make(struct hv_domain *d)
{
    struct hv_stream *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->domain = d;
    s->wakeup = hv_loop_add_wakeup(d->loop, step, s);
    s->timer = hv_loop_add_timer(d->loop, step, s);
    if (s->wakeup && s->timer)
        return s;
    if (s->wakeup)
        hv_loop_remove(s->wakeup);
    if (s->timer)
        hv_loop_remove(s->timer);
    free(s);
    return NULL;
}

int hv_stream_begin(struct hv_domain *d, const struct hv_stream_ops *ops, int fd, void *own)
{
    struct hv_stream *s;

    if (d->stream && (!is_over(d->stream) || d->stream->froze))
        return -EBUSY;
    s = make(d);
    if (!s)
        return -ENOMEM;
    hv_stream_free(d); /* one that is over */
    s->ops = ops;
    s->fd = fd;
    s->own = own;
    s->start_ns = hv_loop_now();
    s->status.phase = DOMUS_STREAM_ACTIVE;
    s->status.memory_bytes = d->mem.ram_pages * HV_PAGE_SIZE;
    s->status.remaining_bytes = s->status.memory_bytes;
    d->stream = s;
    hv_stream_again(s);
    return 0;
}

void hv_stream_get_status(struct hv_domain *d, struct domus_stream_status *status)
{
    struct hv_stream *s = d->stream;
    uint64_t now = hv_loop_now();

    memset(status, 0, sizeof(*status));
    if (!s)
        return;
    if (s->own && s->ops->look)
        s->ops->look(s);
    *status = s->status;
    now = s->end_ns ? s->end_ns : now;
    status->elapsed_ns = now - s->start_ns;
    status->frozen_ns = s->frozen_at_ns ? now - s->frozen_at_ns : 0;
}
