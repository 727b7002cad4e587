/* The event loop: order, wake-ups from other threads, timers, removal from within. */
#include "config.h"

#include "hv/loop.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "hv/tap.h"

#define MS 1000000ull

static struct hv_loop *loop;
static struct hv_loop_source *source, *other;
static unsigned calls, other_calls;
static uint64_t called_ns;

static void quit_after(void *opaque)
{
    unsigned wanted = *(unsigned *)opaque;

    called_ns = hv_loop_now();
    if (++calls == wanted)
        hv_loop_quit(loop);
}

static void *wake_thread(void *opaque)
{
    (void)opaque;
    hv_loop_wake(source);
    return NULL;
}

static void test_wakeup(void)
{
    unsigned wanted = 1;
    pthread_t thread;

    calls = 0;
    source = hv_loop_add_wakeup(loop, quit_after, &wanted);
    hv_loop_wake(source);
    hv_loop_wake(source);
    hv_loop_run(loop);
    TAP_OK(calls == 1, "wake-ups before the call run together");
    calls = 0;
    pthread_create(&thread, NULL, wake_thread, NULL);
    hv_loop_run(loop);
    pthread_join(thread, NULL);
    TAP_OK(calls == 1, "another thread wakes the loop");
    hv_loop_remove(source);
}

static void test_timer(void)
{
    unsigned wanted = 1;
    uint64_t start = hv_loop_now();

    calls = 0;
    source = hv_loop_add_timer(loop, quit_after, &wanted);
    other = hv_loop_add_timer(loop, quit_after, &wanted);
    hv_loop_arm(source, start + 5 * MS);
    hv_loop_arm(other, start + 1 * MS);
    hv_loop_arm(other, 0);
    hv_loop_run(loop);
    TAP_OK(calls == 1 && called_ns >= start + 5 * MS,
           "a timer fires at its time, a disarmed one does not");
    calls = 0;
    hv_loop_arm(source, 1);
    hv_loop_run(loop);
    TAP_OK(calls == 1, "a time in the past fires at once");
    hv_loop_remove(source);
    hv_loop_remove(other);
}

/* Both sources are ready in one batch; the first to run removes both. */
static void remove_both(void *opaque)
{
    (void)opaque;
    calls++;
    hv_loop_remove(source);
    hv_loop_remove(other);
    hv_loop_quit(loop);
}

static void test_remove(void)
{
    calls = 0;
    source = hv_loop_add_wakeup(loop, remove_both, NULL);
    other = hv_loop_add_wakeup(loop, remove_both, NULL);
    hv_loop_wake(source);
    hv_loop_wake(other);
    hv_loop_run(loop);
    TAP_OK(calls == 1, "a removed source does not run, though it was ready");
}

static void fd_ready(void *opaque, int fd, uint32_t events)
{
    char byte;

    (void)opaque;
    if (events & EPOLLIN && read(fd, &byte, 1) == 1)
        calls++;
    if (events & EPOLLHUP) {
        other_calls++;
        hv_loop_quit(loop);
    }
}

static void test_fd(void)
{
    int fds[2];

    calls = other_calls = 0;
    TAP_OK(pipe(fds) == 0 && write(fds[1], "ab", 2) == 2, "a pipe");
    source = hv_loop_add_fd(loop, fds[0], 0, fd_ready, NULL);
    TAP_OK(source && hv_loop_set_events(source, EPOLLIN) == 0, "is watched");
    TAP_OK(!hv_loop_add_fd(loop, -1, EPOLLIN, fd_ready, NULL), "a bad descriptor is refused");
    close(fds[1]);
    hv_loop_run(loop);
    TAP_OK(calls >= 1 && other_calls == 1, "input and hang-up are told");
    hv_loop_remove(source);
    TAP_OK(close(fds[0]) == 0, "the descriptor stays the caller's");
}

int main(void)
{
    TAP_OK(hv_loop_new(&loop) == 0, "a loop");
    test_wakeup();
    test_timer();
    test_remove();
    test_fd();
    hv_loop_quit(loop);
    hv_loop_run(loop);
    TAP_OK(true, "a quit before the run is not lost");
    hv_loop_add_timer(loop, quit_after, NULL);
    hv_loop_free(loop);
    return tap_done();
}
