/* The event loop of the main thread: file descriptors, wake-ups from other threads, timers. Control
 * channel, console, store ring and backends live on it; vCPU threads do not.
 */
#pragma once

#include <time.h>

#include "hv/types.h"

struct hv_loop;
struct hv_loop_source;

/* @events is a set of EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR. */
typedef void hv_loop_fd_fn(void *opaque, int fd, uint32_t events);
typedef void hv_loop_fn(void *opaque);

int hv_loop_new(struct hv_loop **out) HV_MUST_CHECK;
void hv_loop_free(struct hv_loop *loop);

/* Runs until hv_loop_quit. */
void hv_loop_run(struct hv_loop *loop);
void hv_loop_quit(struct hv_loop *loop); /* any thread */

/* Watches @fd (borrowed). NULL when out of memory or descriptors. Loop thread only. */
struct hv_loop_source *hv_loop_add_fd(struct hv_loop *loop, int fd, uint32_t events,
                                      hv_loop_fd_fn *fn, void *opaque);
int hv_loop_set_events(struct hv_loop_source *source, uint32_t events);

/* A source that any thread can wake with hv_loop_wake; wake-ups before the call run together. */
struct hv_loop_source *hv_loop_add_wakeup(struct hv_loop *loop, hv_loop_fn *fn, void *opaque);
void hv_loop_wake(struct hv_loop_source *source);

/* CLOCK_MONOTONIC in ns, as deadlines are. */
static inline uint64_t hv_loop_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* A one-shot timer; @deadline_ns is CLOCK_MONOTONIC, 0 disarms. Arming is for any thread. */
struct hv_loop_source *hv_loop_add_timer(struct hv_loop *loop, hv_loop_fn *fn, void *opaque);
void hv_loop_arm(struct hv_loop_source *source, uint64_t deadline_ns);

/* Removes a source; its function does not run again. Loop thread only, also from its own function. */
void hv_loop_remove(struct hv_loop_source *source);
